"""Logs merged by entry: what either side appended is kept, what either side removed or changed is so.

- An entry is known by what it says without its `seq`, so that it is the same one after it was numbered anew, and one
  that came to both sides in different ways stands there once. A message or tool call is also known by its `id`, a line
  that somebody edited by its `seq` if its kind and time stayed.
- The order is that of ours; what is new in theirs comes last. An entry keeps its seq where that is greater than the one
  before it; else it is numbered anew. No entry of fsstate's tells the seq of another entry in its own log; ranges of
  steps, which messages tell, are in another file, and are not followed.
- What both sides changed differently, or one changed and the other removed, is a conflict: both stand between markers,
  and until somebody decides, fsstate reads the entries of both and reports the markers.
- Lines that are no entries stay where they are.
- The head of a conversation is where its last row says: theirs, if theirs has anything new. A head that the other side
  has removed is set to the last message.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from fsstate import codec
from fsstate.backends.base import TRIM_MARKER
from fsstate.errors import CorruptRecordError
from fsstate.merge import ABSENT, merge_by
from fsstate.merging.entries import (
    BOM,
    LARGEST_SEQ,
    Line,
    common_start,
    last_seq,
    lines_of,
    numbered,
    without_conflicts,
)
from fsstate.merging.stamps import agreed
from fsstate.merging.versions import Markers, Merged, Versions
from fsstate.queries import MISSING, Missing

__all__ = ["merge_log"]

_CONVERSATION: Final = "messages.jsonl"
_RECORDS: Final = (_CONVERSATION, "tool_calls.jsonl")


class _Place:
    """What stands in one place of the merged log: a line of either side; of both, what theirs says with our seq.

    In a conflict each side's line, or nothing, stands between markers.
    """

    __slots__ = ("is_conflict", "ours", "theirs")

    def __init__(self, ours: Line | None, theirs: Line | None = None, *, is_conflict: bool = False) -> None:
        self.ours = ours
        self.theirs = theirs
        self.is_conflict = is_conflict


def merge_log(versions: Versions[bytes], markers: Markers, path: str) -> Merged:
    """Merge three versions of a log; an empty base means that both sides made it.

    `path` tells whether it is a session's messages or tool calls. Raises CorruptRecordError for a side that is no log.
    """
    name = path.rpartition("/")[2]
    bom = BOM if versions.ours.startswith(BOM) else b""
    versions = versions.map(lambda data: data.removeprefix(BOM))
    front = versions.ours[: common_start(versions)]
    lines = versions.map(lambda data: list(lines_of(data[len(front) :], of_records=name in _RECORDS)))
    for side, each in zip(Versions._fields[1:], lines[1:], strict=True):
        if not front and each and not any(line.seq for line in each):
            raise CorruptRecordError(side, "no line of it is an entry of a log")
    merging = _Merging(lines._replace(base=without_conflicts(lines.base)))
    places = merging.places()
    writer = _Writer(markers, last_seq(front))
    writer.put_marker(merging.marker(is_empty=not front and not places))
    for place in places:
        writer.put(place)
    if name == _CONVERSATION and not writer.conflicts:
        writer.mend_head(front, lines)
    return Merged(bom + front + b"".join(writer.lines), tuple(writer.conflicts))


# --- deciding --------------------------------------------------------------------------------------------------------


class _Merging:
    """Three versions, and which lines of them are the same."""

    def __init__(self, versions: Versions[list[Line]]) -> None:
        self._marks = versions.map(_marker_in)
        self._highest = max((line.seq for lines in versions for line in lines), default=0)
        self._base, self._ours, self._theirs = versions.map(_without_marker)
        self._in_ours = _matched(self._base, self._ours)
        self._in_theirs = _matched(self._base, self._theirs)

    def marker(self, *, is_empty: bool) -> int:
        """The seq of the marker that a trim left; 0 if the merged log has none. `is_empty`: it has no line."""
        base, ours, theirs = self._marks
        mark = theirs if ours == base else ours if theirs == base else max(ours, theirs)
        # A log of which nothing is left still knows what its seqs were.
        return self._highest if is_empty else mark

    def places(self) -> list[_Place]:
        """What the merged log holds, in order."""
        places: list[_Place | None] = [_Place(line) for line in self._ours]
        restored: defaultdict[int, list[_Place]] = defaultdict(list)
        behind = -1
        for number, line in enumerate(self._base):
            mine, other = self._in_ours.get(number), self._in_theirs.get(number)
            if mine is not None:
                behind = mine
                places[mine] = _decided(line, self._ours[mine], None if other is None else self._theirs[other])
            elif other is not None and not self._theirs[other].says_the_same(line):
                restored[behind].append(_Place(None, self._theirs[other], is_conflict=True))
        new = self._new(places)
        ordered = [*restored[-1]]
        for index, place in enumerate(places):
            ordered += [*([] if place is None else [place]), *restored[index]]
        return ordered + new

    def _new(self, places: list[_Place | None]) -> list[_Place]:
        """What theirs has that is new; what ours has, too, in another form, is put in conflict at its place."""
        known = set(self._in_theirs.values())
        lines = [line for number, line in enumerate(self._theirs) if number not in known]
        old = set(self._in_ours.values())
        mine = [number for number in range(len(self._ours)) if number not in old]
        same = _matched([self._ours[number] for number in mine], lines, edits=False)
        there = set(same.values())
        by_id = {line.id: number for number, line in enumerate(self._ours) if line.id is not None}
        new: list[_Place] = []
        for number, line in enumerate(lines):
            if number in there:
                continue
            index = by_id.get(line.id) if line.id is not None else None
            place = None if index is None else places[index]
            if index is None or place is None or place.is_conflict:
                new.append(_Place(None, line))
            else:
                places[index] = _Place(self._ours[index], line, is_conflict=True)
        return new


def _marker_in(lines: Iterable[Line]) -> int:
    return max((line.seq for line in lines if line.is_marker), default=0)


def _without_marker(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if not line.is_marker]


def _decided(base: Line, ours: Line, theirs: Line | None) -> _Place | None:
    """What becomes of a line of the base that ours still has."""
    if theirs is None:
        return None if ours.says_the_same(base) else _Place(ours, None, is_conflict=True)
    if theirs.says_the_same(base) or theirs.says_the_same(ours):
        return _Place(ours)
    if ours.says_the_same(base):
        return _Place(ours, theirs)
    return _both_changed(base, ours, theirs)


def _both_changed(base: Line, ours: Line, theirs: Line) -> _Place:
    try:
        rows = [codec.decode_line(line.data, "") for line in (base, ours, theirs)]
    except CorruptRecordError:
        return _Place(ours, theirs, is_conflict=True)
    met: list[str] = []

    def meet(at: str, base: Any, theirs: Any, ours: Any) -> Any:
        settled = ours if at == "$.seq" else agreed(at, base, ours, theirs)
        met.extend([at] if settled is ABSENT else [])
        return ours if settled is ABSENT else settled

    merged = merge_by(rows[0], rows[2], rows[1], meet)
    if met:
        return _Place(ours, theirs, is_conflict=True)
    return _Place(ours, ours._replace(data=codec.encode_line({**merged, "seq": ours.seq})))


def _matched(base: Sequence[Line], side: Sequence[Line], *, edits: bool = True) -> dict[int, int]:
    """Where the lines of the base stand in a side: those that say the same, and those that were edited there."""
    found: dict[int, int] = {}
    _match_by(lambda line: line.said, base, side, found)
    # Few are left, as a rule, and only these need a closer look.
    _match_by(lambda line: line.key, base, side, found)
    if edits:
        _match_by(lambda line: line.id, base, side, found)
        _match_by(lambda line: line.place if line.seq and line.id is None else None, base, side, found)
    return found


def _match_by(
    sign: Callable[[Line], bytes | str | None], base: Sequence[Line], side: Sequence[Line], found: dict[int, int]
) -> None:
    """Add to what was found the lines that have the same sign, in order. None is no sign."""
    if len(found) == len(base):
        return
    taken = set(found.values())
    waiting: defaultdict[bytes | str, deque[int]] = defaultdict(deque)
    for number, line in enumerate(side):
        if number not in taken and (mark := sign(line)) is not None:
            waiting[mark].append(number)
    for number, line in enumerate(base):
        if number not in found and (queue := waiting.get(sign(line) or b"")):
            found[number] = queue.popleft()


# --- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes lines down with seqs that grow."""

    def __init__(self, markers: Markers, last: int) -> None:
        self.lines: list[bytes] = []
        self.conflicts: list[str] = []
        self._markers = markers
        self._last = last
        self._ids: set[str | None] = set()

    def put_marker(self, seq: int) -> None:
        """Say that entries up to this seq were trimmed."""
        if seq > self._last:
            self._last = seq
            self.lines.append(b'{"seq":%d,%s}\n' % (seq, TRIM_MARKER))

    def put(self, place: _Place) -> None:
        """Write what stands in one place."""
        sides = [line for line in (place.ours, place.theirs) if line is not None]
        seq = self._next(sides[0].seq) if sides[0].seq else 0
        if not place.is_conflict:
            self.lines.append(numbered(sides[-1].data, seq))
            self._ids.add(sides[-1].id)
            return
        self.conflicts.append(f"entry {seq}")
        ours, theirs = (
            [] if line is None else [numbered(line.data, seq).decode("utf-8", "surrogateescape")]
            for line in (place.ours, place.theirs)
        )
        marked = self._markers.around(ours, theirs)
        self.lines += [line.encode("utf-8", "surrogateescape") for line in marked]

    def mend_head(self, front: bytes, versions: Versions[list[Line]]) -> None:
        """Set the head of a conversation to the last message, if the merge has removed what was the head."""
        # Of all logs, only this one needs it.
        from fsstate.conversation import Tree

        head = next((head for head in map(_head_in, reversed(self.lines)) if not isinstance(head, Missing)), None)
        was_there = any(line.id == head for lines in versions for line in lines)
        if head is None or head in self._ids or not was_there:
            return
        tree = Tree()
        for line in (*front.split(b"\n"), *self.lines):
            with contextlib.suppress(CorruptRecordError):
                tree.fold(codec.decode_line(line, ""))
        if head not in tree.rows:
            self.lines.append(
                numbered(codec.encode_line({"seq": 0, "head": tree.end, **_time_of(self.lines)}), self._next(0))
            )

    def _next(self, seq: int) -> int:
        self._last = seq if seq > self._last else self._last + 1
        if self._last > LARGEST_SEQ:
            raise CorruptRecordError("the merged log", "there is no number left for another entry")
        return self._last


def _head_in(line: bytes) -> str | Missing | None:
    from fsstate.conversation import head_of

    try:
        return head_of(codec.decode_line(line, ""))
    except CorruptRecordError:
        return MISSING


def _time_of(lines: Sequence[bytes]) -> dict[str, Any]:
    """The time of the last entry, if it tells one."""
    try:
        row = codec.decode_line(lines[-1], "")
    except CorruptRecordError:
        return {}
    return {"at": row["at"]} if "at" in row else {}
