"""The lines of a log file: telling entries from damage, and finding them without reading the whole file.

A log is UTF-8 JSON lines; an entry is one JSON object with a `seq` that is greater than its predecessor's. Since seqs
grow, a seq is found by bisection over the file's bytes, and the last entries by reading backwards.

What a crash can leave at the end of a file: part of a line, or zeros where data was on its way, also with whole lines
behind them. None of that was acknowledged, since a flush covers all that was written before it.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from typing import Final, cast

import orjson

from fsstate.backends.base import BadLine, LogLine
from fsstate.backends.files.tree import read_at

__all__ = [
    "CONFLICT",
    "LARGEST_SEQ",
    "UNFLUSHED_LIMIT",
    "Marker",
    "backwards",
    "checksum",
    "entries",
    "entries_backwards",
    "fields_of",
    "forwards",
    "highest_seq",
    "numbered",
    "parse",
    "seek",
    "sound_end",
]

_SEQ: Final = re.compile(rb'\{"seq":([1-9][0-9]{0,17})[,}]')
_SEQS: Final = re.compile(rb'^\{"seq":([1-9][0-9]{0,17})[,}]', re.MULTILINE)
# What these find. No line with a greater one is an entry: the numbers behind it would soon be none that JSON holds.
LARGEST_SEQ: Final = 10**18 - 1
# The shortest integer that is greater than any float.
_BEYOND_FLOAT: Final = re.compile(rb"[0-9]{309}")
_FIRST_BLOCK: Final = 4 * 1024
_BLOCK: Final = 16 * 1024
_LARGE_BLOCK: Final = 256 * 1024
_MOST_COMPARED: Final = 8 * 1024 * 1024
# Bisection ends this close to what it looks for.
_NEAR: Final = 2 * 1024
# Appends flush at least this often, so zeros that a crash left lie this close to the end of the data.
UNFLUSHED_LIMIT: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
CONFLICT: Final = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")
_INCOMPLETE: Final = "the line is incomplete: a crash during an append (the next one removes it), or an append going on"
_ZEROS: Final = "zero bytes, as a crash leaves them"


def checksum(fd: int, size: int) -> int:
    """The CRC-32 of the first `size` bytes of a file, or of as many of the last of them as are ever compared."""
    position = max(0, size - _MOST_COMPARED)
    found = 0
    while position < size and (data := os.pread(fd, min(_LARGE_BLOCK, size - position), position)):
        found = zlib.crc32(data, found)
        position += len(data)
    return found


class Marker(LogLine):
    """The line that a trim of everything leaves: its seq counts, it is no entry."""


def parse(data: bytes, offset: int, line: int | None = None) -> LogLine | BadLine:
    """Tell what a line, given without its newline, is. Its place is only for the report."""
    try:
        value: dict[str, object] | list[object] | str | float | None = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # An integer beyond a float's range is one that the codec writes, and that only the standard library reads.
        value = _loads(data) if _BEYOND_FLOAT.search(data) is not None else None
        if value is None:
            return _damaged(data, offset, line, error)
    seq = value.get("seq") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(seq, int) or isinstance(seq, bool) or not 1 <= seq <= LARGEST_SEQ:
        reason = f'expected a JSON object with a whole number "seq" from 1 to {LARGEST_SEQ}'
        return BadLine(data, reason, offset, line, 1)
    return Marker(seq, data) if value.get("fsstate") == "trimmed" else LogLine(seq, data)


def fields_of(line: LogLine) -> dict[str, object]:
    """The object that the line of an entry holds."""
    try:
        return cast("dict[str, object]", orjson.loads(line.data))
    except orjson.JSONDecodeError:
        return _loads(line.data) or {}


def _loads(data: bytes) -> dict[str, object] | None:
    """The object that a line holds; None for one that holds none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _damaged(data: bytes, offset: int, line: int | None, error: orjson.JSONDecodeError) -> BadLine:
    if b"\0" in data:
        return BadLine(data, _ZEROS, offset, line, data.index(b"\0") + 1)
    if data.startswith(CONFLICT):
        return BadLine(data, "a git conflict marker: resolve the merge, keeping both sides' lines", offset, line, 1)
    reason = f"expected one JSON object on the line: {error.msg}"
    return BadLine(data, reason, offset, line, error.colno)


def _judge(data: bytes, offset: int, line: int | None, *, whole: bool) -> LogLine | BadLine:
    if offset == 0:
        data = data.removeprefix(_BOM)
    parsed = parse(data.rstrip(b"\r"), offset, line)
    if not whole and isinstance(parsed, BadLine) and b"\0" not in data:
        return parsed._replace(reason=_INCOMPLETE)
    return parsed


def entries(fd: int, size: int, sound: int, after: int) -> Iterator[LogLine | BadLine]:
    """The entries with a seq greater than `after`. Bad lines are numbered where reading begins at the file's start."""
    start = seek(fd, sound, after)
    line = None if start else 0
    for _, parsed in forwards(fd, start, sound, line):
        if isinstance(parsed, BadLine) or (parsed.seq > after and not isinstance(parsed, Marker)):
            yield parsed
    if sound < size:
        yield _debris(fd, sound, size)


def entries_backwards(fd: int, size: int, sound: int) -> Iterator[LogLine | BadLine]:
    """All entries from the last to the first."""
    if sound < size:
        yield _debris(fd, sound, size)
    for _, parsed in backwards(fd, sound):
        if not isinstance(parsed, Marker):
            yield parsed


def _debris(fd: int, start: int, end: int) -> BadLine:
    data = read_at(fd, min(end - start, _BLOCK), start)
    return BadLine(data, f"{_ZEROS}; the next append removes them" if b"\0" in data else _INCOMPLETE, start, None, None)


def forwards(fd: int, start: int, end: int, line: int | None = None) -> Iterator[tuple[int, LogLine | BadLine]]:
    """The lines from byte `start` (where a line must begin) to `end`, each with the offset behind it."""
    for offset, data, whole in _split(fd, start, end):
        if line is not None:
            line += 1
        if data.strip():
            yield offset + len(data) + whole, _judge(data, offset, line, whole=whole)


def numbered(fd: int, end: int) -> Iterator[tuple[int, int, LogLine | BadLine]]:
    """All lines before byte `end`, but for empty ones, each with its number and its offset."""
    for number, (offset, data, whole) in enumerate(_split(fd, 0, end), 1):
        if data.strip():
            yield number, offset, _judge(data, offset, number, whole=whole)


def _split(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """Lines with their offset, and whether a newline ends them."""
    offset, position, block = start, start, _FIRST_BLOCK
    pieces: list[bytes] = []
    while position < end:
        data = os.pread(fd, min(block, end - position), position)
        if not data:
            break
        position += len(data)
        block = min(4 * block, _LARGE_BLOCK)
        lines = data.split(b"\n")
        if len(lines) > 1:
            lines[0] = b"".join((*pieces, lines[0]))
            pieces = []
        pieces.append(lines.pop())
        for line in lines:
            yield offset, line, True
            offset += len(line) + 1
    rest = b"".join(pieces)
    if rest:
        yield offset, rest, False


def backwards(fd: int, end: int) -> Iterator[tuple[int, LogLine | BadLine]]:
    """The lines before byte `end`, from the last to the first, each with its offset. Reads no further than asked."""
    for offset, data, whole in _split_backwards(fd, end):
        if data.strip():
            yield offset, _judge(data, offset, None, whole=whole)


def _split_backwards(fd: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    position, block, whole = end, _FIRST_BLOCK, False
    pieces: list[bytes] = []
    while position > 0:
        data = read_at(fd, min(block, position), max(0, position - block))
        position -= min(block, position)
        block = min(2 * block, _LARGE_BLOCK)
        pieces.append(data)
        if b"\n" not in data:
            continue
        lines = b"".join(reversed(pieces)).split(b"\n")
        offset = position + sum(map(len, pieces))
        pieces = [lines[0]]
        for line in reversed(lines[1:]):
            offset -= len(line)
            yield offset, line, whole
            whole = True
            offset -= 1
    yield 0, b"".join(reversed(pieces)), whole


def highest_seq(data: bytes) -> int:
    """The highest seq of the lines in `data`, told from how fsstate writes them; 0 when there is none."""
    return max(map(int, _SEQS.findall(data)), default=0)


def seek(fd: int, end: int, after: int) -> int:
    """The offset of a line at or before the first entry with a seq greater than `after`, and close to it."""
    low, high = 0, end
    while after > 0 and high - low > _NEAR:
        middle = (low + high) // 2
        found = _glimpse(fd, middle, high) or _first_entry(fd, middle, high)
        if found is None:
            high = middle
        elif found[1] <= after:
            low = found[0]
        else:
            high = middle
    return low


def _glimpse(fd: int, start: int, end: int) -> tuple[int, int] | None:
    """`_first_entry` where lines are short and begin as they should, which is nearly always; else None."""
    data = read_at(fd, min(_NEAR, end - start), start)
    newline = data.find(b"\n")
    match = _SEQ.match(data, newline + 1) if newline >= 0 else None
    if match is None or data.find(b"\n", match.end()) < 0:
        return None
    return start + newline + 1, int(match[1])


def _first_entry(fd: int, start: int, end: int) -> tuple[int, int] | None:
    """Offset and seq of the first entry whose line begins behind `start`."""
    lines = _split(fd, start, end)
    next(lines, None)
    for offset, data, whole in lines:
        match = _SEQ.match(data)
        if match is not None and whole:
            return offset, int(match[1])
        parsed = parse(data, offset)
        if isinstance(parsed, LogLine) and whole:
            return offset, parsed.seq
    return None


def sound_end(fd: int, end: int, since: int = 0) -> int:
    """Where the sound part of the file ends. Behind it stands only what a crash leaves, acknowledged to nobody.

    `since` is where an earlier look found it sound. A last entry that lacks only its newline, as editors leave it, is
    sound.
    """
    sound = _before_zeros(fd, _skip_zeros(fd, end), since)
    offset, data, whole = next(_split_backwards(fd, sound), (0, b"", True))
    if whole or not data or isinstance(_judge(data, offset, None, whole=False), LogLine):
        return sound
    return offset


def _before_zeros(fd: int, end: int, since: int) -> int:
    start = max(min(since, end), end - UNFLUSHED_LIMIT)
    zero = read_at(fd, end - start, start).find(b"\0")
    return end if zero < 0 else start + zero


def _skip_zeros(fd: int, end: int) -> int:
    block = _BLOCK
    while end > 0:
        start = max(0, end - block)
        data = read_at(fd, end - start, start).rstrip(b"\0")
        if data:
            return start + len(data)
        end, block = start, _LARGE_BLOCK
    return 0
