"""Files below a directory that another program keeps. Reads only, and follows no links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fsstate import CorruptRecordError, InvalidNameError, StorageError, codec
from fsstate.names import check_category, is_name, name_for

__all__ = ["Found", "category_of", "find", "name_of", "read_json", "read_text"]


class Found(NamedTuple):
    """A file, or a hidden directory. `place` is its path below the directory, `flaw` says why it cannot be read."""

    path: Path
    place: str
    is_hidden: bool
    flaw: str | None = None

    @property
    def folder(self) -> str:
        """The directory that it is in, below the one that was searched; empty for that one."""
        return self.place.rpartition("/")[0]


def find(path: str | os.PathLike[str], *, without: str | None = None) -> list[Found]:
    """All files below a directory, sorted by place; of hidden directories and of `without` only themselves.

    Raises StorageError when the directory cannot be read.
    """
    root = Path(path)
    own = None if without is None else os.path.realpath(without)
    try:
        return sorted(_below(root, root, own), key=lambda found: found.place)
    except OSError as error:
        raise StorageError.of("read", os.fspath(path), error) from error


def _below(folder: Path, root: Path, own: str | None) -> Iterator[Found]:
    for path in folder.iterdir():
        place = path.relative_to(root).as_posix()
        if path.is_symlink():
            yield Found(path, place, is_hidden=False, flaw="a link; import what it leads to by its own path")
        elif path.name.startswith(".") or (own is not None and os.path.realpath(path) == own):
            yield Found(path, place, is_hidden=True)
        elif path.is_dir():
            yield from _below(path, root, own)
        else:
            yield Found(path, place, is_hidden=False, flaw=None if path.is_file() else "it is no plain file")


def read_json(path: Path) -> Any:
    """The JSON value in a file. Raises CorruptRecordError and OSError."""
    return codec.decode_bytes(path.read_bytes(), str(path))


def read_text(path: Path) -> str:
    """The text in a file. Raises CorruptRecordError and OSError."""
    data = path.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptRecordError(
            str(path), f"byte 0x{data[error.start]:02x} is not UTF-8", offset=error.start
        ) from None


def name_of(stem: str) -> str:
    """A file's name as that of a record: quoted if need be."""
    return stem if is_name(stem) else name_for(stem)


def category_of(folder: str) -> str:
    """A directory's path as a category, its segments quoted if need be."""
    return "/".join(map(_segment, folder.split("/"))) if folder else ""


def _segment(name: str) -> str:
    try:
        return check_category(name)
    except InvalidNameError:
        return name_for(name)
