"""The lines of a log file: telling entries from damage, and finding them without reading the whole file.

A log is UTF-8 JSON lines; an entry is one JSON object with a `seq` that is greater than its predecessor's. Since seqs grow,
a seq is found by bisection over the file's bytes, and the last entries by reading backwards.

What a crash can leave at the end of a file: part of a line, or zeros where data was on its way. Neither was acknowledged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

import orjson

from fsstate.backends.base import TRIM_MARKER, BadLine, LogLine

__all__ = ["UNFLUSHED_LIMIT", "Marker", "backwards", "forwards", "parse", "seek", "sound_end"]

_SEQ: Final = re.compile(rb'\{"seq":([1-9][0-9]{0,17})[,}]')
_BLOCK: Final = 16 * 1024
_LARGE_BLOCK: Final = 256 * 1024
# Appends flush at least this often, so zeros that a crash left can only lie this close to the end.
UNFLUSHED_LIMIT: Final = 1024 * 1024


class Marker(LogLine):
    """The line that a trim of everything leaves: its seq counts, it is no entry."""


def parse(data: bytes, offset: int, line: int | None = None) -> LogLine | BadLine:
    """Tell what a line, given without its newline, is. Its place is only for the report."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _damaged(data, offset, line, error)
    seq = value.get("seq") if isinstance(value, dict) else None
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
        reason = 'expected a JSON object with a whole number "seq" of 1 or more'
        return BadLine(data, reason, offset, line, 1)
    return Marker(seq, data) if TRIM_MARKER in data and value.get("fsstate") == "trimmed" else LogLine(seq, data)


def _damaged(data: bytes, offset: int, line: int | None, error: orjson.JSONDecodeError) -> BadLine:
    if b"\0" in data:
        return BadLine(data, "zero bytes, as a crash leaves them", offset, line, data.index(b"\0") + 1)
    if data.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
        return BadLine(data, "a git conflict marker: resolve the merge, keeping both sides' lines", offset, line, 1)
    reason = f"expected one JSON object on the line: {error.msg}"
    return BadLine(data, reason, offset, line, error.colno)


def forwards(fd: int, start: int, end: int, line: int | None = None) -> Iterator[tuple[int, LogLine | BadLine]]:
    """The lines from byte `start` (where a line must begin) to `end`, each with the offset behind it."""
    for offset, data, whole in _split(fd, start, end):
        if line is not None:
            line += 1
        if not data.strip():
            continue
        parsed = parse(data.rstrip(b"\r"), offset, line)
        if isinstance(parsed, BadLine) and not whole:
            parsed = parsed._replace(reason="the line is incomplete: a crash during an append, or an append going on")
        yield offset + len(data) + whole, parsed


def _split(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """Lines with their offset, and whether a newline ends them."""
    rest, offset, position, block = b"", start, start, _BLOCK
    while position < end:
        data = os.pread(fd, min(block, end - position), position)
        if not data:
            break
        position += len(data)
        block = _LARGE_BLOCK
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield offset, line, True
            offset += len(line) + 1
    if rest:
        yield offset, rest, False


def backwards(fd: int, end: int) -> Iterator[tuple[int, LogLine | BadLine]]:
    """The lines before byte `end`, from the last to the first, each with its offset. Reads no further than asked."""
    position, block = end, _BLOCK
    pieces: list[bytes] = []
    while position > 0:
        size = min(block, position)
        position -= size
        data = os.pread(fd, size, position)
        block = min(2 * block, _LARGE_BLOCK)
        if b"\n" not in data:
            pieces.append(data)
            continue
        rest = data + b"".join(reversed(pieces))
        lines = rest.split(b"\n")
        pieces = [lines[0]]
        offset = position + len(rest)
        for line in reversed(lines[1:]):
            offset -= len(line)
            if line.strip():
                yield offset, parse(line.rstrip(b"\r"), offset)
            offset -= 1
    first = b"".join(reversed(pieces))
    if first.strip():
        yield 0, parse(first.rstrip(b"\r"), 0)


def seek(fd: int, end: int, after: int) -> int:
    """The offset of a line at or before the first entry with a seq greater than `after`, and close to it."""
    low, high = 0, end
    while after > 0 and high - low > _BLOCK:
        middle = (low + high) // 2
        found = _first_entry(fd, middle, high)
        if found is None:
            high = middle
        elif found[1] <= after:
            low = found[0]
        else:
            high = middle
    return low


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


def sound_end(fd: int, end: int, since: int) -> int:
    """Where the sound part of the file ends, looking no further back than `since` or what an append leaves unflushed.

    Behind it stand zeros, and lines that a crash left after zeros: acknowledged to nobody. An incomplete last line that
    is no zeros is not judged here.
    """
    start = max(since, end - UNFLUSHED_LIMIT)
    if start >= end:
        return end
    data = os.pread(fd, end - start, start)
    zero = data.find(b"\0")
    if zero < 0:
        return end
    newline = data.rfind(b"\n", 0, zero)
    return start + newline + 1 if newline >= 0 else start if start in (0, since) else end
