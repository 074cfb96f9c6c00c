"""The lines of a log as merges compare them: by what they say, whatever their seq.

Bytes that no side touched are never parsed: `common_start` tells how far they go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, cast

import orjson

from fsstate import codec
from fsstate.merging.versions import Versions

__all__ = ["BOM", "LARGEST_SEQ", "Line", "common_start", "last_seq", "lines_of", "numbered", "without_conflicts"]

_Row: TypeAlias = dict[str, Any]

BOM: Final = b"\xef\xbb\xbf"
# No line with a greater one is an entry.
LARGEST_SEQ: Final = 10**18 - 1
_SEQ: Final = re.compile(rb'\{"seq":[0-9]+(?=[,}])')
# Numbers of so many digits may lose some when they are parsed.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}|[0-9]\.[0-9]{16}")
_BEGIN: Final = re.compile(rb"<{7,}(?: |$)")
_END: Final = re.compile(rb">{7,}(?: |$)")


class Line(NamedTuple):
    """A line of a log. One without a seq is no entry; a marker is what a trim of everything leaves.

    - `said`: the bytes behind the seq, which nearly always tell whether two lines say the same; `key` always does.
    - `id`: the record that it makes, in a log of records.
    """

    data: bytes
    seq: int
    said: bytes
    id: str | None = None
    is_marker: bool = False

    @property
    def key(self) -> bytes:
        """What it says, without its seq; the same for every layout, unless it has numbers that may lose digits."""
        return self.said if not self.seq or _LONG_NUMBER.search(self.data) else _dumped(self._row(), self.said)

    @property
    def place(self) -> bytes:
        """Its seq with its time and kind, which stay when somebody edits it."""
        row = self._row()
        return _dumped({"seq": self.seq, "at": row.get("at"), "kind": row.get("kind")}, self.said)

    def says_the_same(self, other: Line) -> bool:
        """Whether both say the same, under whatever seq."""
        return self.said == other.said or self.key == other.key

    def _row(self) -> _Row:
        row: _Row = orjson.loads(self.data)
        del row["seq"]
        return row


def lines_of(data: bytes, *, of_records: bool) -> Iterator[Line]:
    """The lines that hold anything. In a log `of_records`, an id is a record's own; elsewhere it may mean anything."""
    lines = (_parsed(line) for line in data.split(b"\n") if line.strip())
    return lines if of_records else (line._replace(id=None) for line in lines)


def numbered(data: bytes, seq: int) -> bytes:
    """A line with this seq, and a newline; as it is where the seq is 0."""
    if not seq:
        return data + b"\n"
    match = _SEQ.match(data)
    if match is not None:
        return b'{"seq":%d%b\n' % (seq, data[match.end() :])
    return codec.encode_line({**codec.decode_line(data, ""), "seq": seq}) + b"\n"


def common_start(versions: Versions[bytes]) -> int:
    """How many bytes of whole lines all versions begin with."""
    first, *rest = versions
    low, high = 0, min(map(len, versions))
    while low < high:
        middle = (low + high + 1) // 2
        if all(other[low:middle] == first[low:middle] for other in rest):
            low = middle
        else:
            high = middle - 1
    return first.rfind(b"\n", 0, low) + 1


def last_seq(data: bytes) -> int:
    """The seq of the last of these whole lines that has one; 0 if none has."""
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if seq := _parsed(data[start : end - 1]).seq:
            return seq
        end = start
    return 0


def without_conflicts(lines: list[Line]) -> list[Line]:
    """The lines of a base that is itself the outcome of a merge: what that did not decide was in no version."""
    kept: list[Line] = []
    is_open = False
    for line in lines:
        if not line.seq and _BEGIN.match(line.data):
            is_open = True
        elif is_open:
            is_open = not _END.match(line.data)
        else:
            kept.append(line)
    return kept


def _parsed(data: bytes) -> Line:
    try:
        row: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        row = None
    if not _is_row(row):
        return Line(data, 0, b"!" + data.removesuffix(b"\r"))
    match = _SEQ.match(data)
    said = data[match.end() if match else 0 :].removesuffix(b"\r")
    name = None if "update" in row else row.get("id")
    is_marker = row.get("fsstate") == "trimmed"
    return Line(data, row["seq"], said, name if isinstance(name, str) else None, is_marker)


def _dumped(row: _Row, otherwise: bytes) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # It is nested too deeply.
        return otherwise


def _is_row(row: object) -> TypeGuard[_Row]:
    seq: object = cast("_Row", row).get("seq") if isinstance(row, dict) else None
    return isinstance(seq, int) and not isinstance(seq, bool) and 1 <= seq <= LARGEST_SEQ
