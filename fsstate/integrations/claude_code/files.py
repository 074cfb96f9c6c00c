"""Transcripts as files: which there are below a path, and their lines. Reads only."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import orjson

from fsstate import NotFoundError
from fsstate.integrations.claude_code.rows import Row, UnreadableError, dump, is_list, is_object, parse, text_in

__all__ = ["Line", "Source", "digest", "find", "first_row", "identity", "lines", "lines_after"]

_BOM: Final = b"\xef\xbb\xbf"
_CHUNK: Final = 1024 * 1024
# What tells a row from those of other transcripts, whatever else of it changes.
_OWN_MARKS: Final = ("uuid", "leafUuid", "messageId", "timestamp")


class Line(NamedTuple):
    """One line with its newline. `end` is the offset behind it; `row` is None for a blank or unreadable one."""

    number: int
    data: bytes
    end: int
    row: Row | None
    error: UnreadableError | None

    @property
    def is_under_way(self) -> bool:
        """Whether the line lacks its end: somebody is writing it, or was cut off."""
        return self.error is not None and not self.data.endswith(b"\n")


class Source:
    """One transcript. `name` is the file's without its suffix; `size` was its length in bytes when it was found."""

    def __init__(self, path: Path) -> None:
        self.path = str(path.resolve())
        self.name = path.stem
        self.size = path.stat().st_size
        self._path = path

    def open(self) -> BinaryIO:
        """The rows as JSON lines. Raises OSError, and UnreadableError for a `.json` file without a list `loglines`."""
        if self._path.suffix != ".json":
            return self._path.open("rb")
        return io.BytesIO(_log_lines(self._path.read_bytes()))

    @property
    def starter(self) -> str | None:
        """The session that started this side chain, as the folder `<session>/subagents` tells."""
        folder = Path(self.path).parent
        return folder.parent.name if folder.name == "subagents" else None


def find(path: str | os.PathLike[str]) -> tuple[list[Source], dict[str, str]]:
    """The file itself, or all `*.jsonl` files below a directory, sorted by path; and why others of that name are none.

    Raises NotFoundError when there is nothing at `path`.
    """
    start = Path(path)
    if not start.exists():
        raise NotFoundError(str(start))
    if not start.is_dir():
        return [Source(start)], {}
    found = {each: _unfit(each, start.resolve()) for each in sorted(start.rglob("*.jsonl"))}
    sources = [Source(each) for each, reason in found.items() if reason is None]
    return sources, {str(each): reason for each, reason in found.items() if reason is not None}


def _unfit(path: Path, root: Path) -> str | None:
    if not path.is_file():
        return "passed over: it is no plain file"
    if not path.resolve().is_relative_to(root):
        return "passed over: a link that leads elsewhere; import its target by its own path"
    return None


def lines(file: BinaryIO, start: int = 0, number: int = 1) -> Iterator[Line]:
    """The lines from byte `start`, where line `number` begins."""
    file.seek(start)
    end = start
    for data in file:
        end += len(data)
        row, error = None, None
        text = data.removeprefix(_BOM) if end == len(data) else data
        if text.strip():
            try:
                row = parse(text.strip(), number)
            except UnreadableError as found:
                error = found
        yield Line(number, data, end, row, error)
        number += 1


def lines_after(file: BinaryIO, size: int, number: int) -> Iterator[Line]:
    """The lines behind the first `size` bytes, which hold `number` lines, perhaps without the last newline."""
    file.seek(max(size - 1, 0))
    begun = size > 0 and file.read(1) != b"\n"
    return lines(file, size, number if begun else number + 1)


def first_row(file: BinaryIO) -> Row | None:
    """The first line that is a row."""
    return next((line.row for line in lines(file) if line.row is not None), None)


def identity(row: Row) -> str:
    """What tells a transcript, by its first row, from others in files of the same name: 16 hex digits."""
    value = row.value if is_object(row.value) else {}
    marks = [text_in(value, key) for key in _OWN_MARKS]
    told = json.dumps([text_in(value, "sessionId"), *marks]).encode() if any(marks) else dump(row)
    return hashlib.sha256(told).hexdigest()[:16]


def digest(file: BinaryIO, size: int) -> str | None:
    """The SHA-256 of the first `size` bytes, as `sha256sum` prints it; None when there are fewer."""
    file.seek(0)
    found = hashlib.sha256()
    while size > 0:
        data = file.read(min(size, _CHUNK))
        if not data:
            return None
        found.update(data)
        size -= len(data)
    return found.hexdigest()


def _log_lines(data: bytes) -> bytes:
    try:
        value = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"expected a JSON document: {error.msg}") from None
    rows = value.get("loglines") if is_object(value) else None
    if not is_list(rows):
        raise UnreadableError('expected a JSON object with a list "loglines", or a file of JSON lines')
    # By the standard library, which writes every value, half characters included.
    try:
        return b"".join(json.dumps(row).encode() + b"\n" for row in json.loads(data.removeprefix(_BOM))["loglines"])
    except RecursionError:
        raise UnreadableError("it is nested too deeply to be read") from None
