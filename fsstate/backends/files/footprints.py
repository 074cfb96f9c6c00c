"""What documents and their folders take on the disk, and whether anything of them was touched: told from stats alone.

A file that changed within the clock's last tick may change again without showing it; see `Signature.is_settled`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import Final, NamedTuple

from fsstate.backends.base import Footprint
from fsstate.backends.files.descriptors import open_at, with_enough
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.tree import OPEN_DIRECTORY, Directory

__all__ = ["MARK_SIZE", "Contents", "contents_of", "footprint_of", "mark_of"]

# Of each of the two parts of a mark: the document's own, and that of what belongs to it.
MARK_SIZE: Final = 12


class Contents(NamedTuple):
    """What is in a folder, however deep: nothing of it is in no folder, and in one that is empty."""

    size: int = 0
    mark: bytes = bytes(MARK_SIZE)
    is_settled: bool = True


def mark_of(status: os.stat_result) -> bytes:
    """What changes when a file does."""
    return _hash(repr(tuple(Signature.of(status))).encode())


def contents_of(folder: Directory, now_ns: int) -> Contents:
    """What is in a folder at this moment, which is `now_ns`. What vanishes meanwhile is as good as touched."""
    found: list[tuple[str, Signature]] = []
    _walk(folder.fd, "", found)
    if not found:
        return Contents()
    found.sort()
    size = sum(signature.size for _, signature in found)
    return Contents(size, _hash(repr(found).encode()), all(each.is_settled(now_ns) for _, each in found))


def footprint_of(status: os.stat_result, folder: Directory | None, now_ns: int | None = None) -> Footprint:
    """The footprint of a document whose file is so, with its folder, if it has one that goes with it."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    below = Contents() if folder is None else contents_of(folder, now_ns)
    is_settled = below.is_settled and Signature.of(status).is_settled(now_ns)
    mark = mark_of(status) + below.mark if is_settled else None
    return Footprint(status.st_size + below.size, mark, folder is not None)


def _walk(fd: int, above: str, found: list[tuple[str, Signature]]) -> None:
    below = open_at(".", OPEN_DIRECTORY, dir_fd=fd)
    try:
        with with_enough(lambda: os.scandir(below)) as entries:
            for entry in entries:
                # What vanishes at this moment leaves another mark than it had.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    if entry.is_dir(follow_symlinks=False):
                        _walk_into(below, above, entry.name, found)
                    else:
                        found.append((f"{above}{entry.name}", Signature.of(entry.stat(follow_symlinks=False))))
    finally:
        os.close(below)


def _walk_into(parent: int, above: str, name: str, found: list[tuple[str, Signature]]) -> None:
    fd = open_at(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        _walk(fd, f"{above}{name}/", found)
    finally:
        os.close(fd)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=MARK_SIZE, usedforsecurity=False).digest()
