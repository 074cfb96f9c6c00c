"""JSON documents merged by field: objects key by key, lists of records member by member, all else as a whole.

What is merged keeps the order of ours; what is new in theirs comes last. A file of another layout than fsstate's keeps
its own where a merge by line says the same.

Where changes meet, both stand between markers, with as few lines as tell the difference. Whichever side is kept of each
such place, what is left is a valid document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, cast

from fsstate import codec
from fsstate.errors import CorruptRecordError
from fsstate.merge import ABSENT, has_key, keep_order, merge_by, same
from fsstate.merging.lines import merge_bytes
from fsstate.merging.stamps import agreed
from fsstate.merging.versions import Markers, Merged, Versions

__all__ = ["merge_document"]

_Object: TypeAlias = dict[str, Any]
_Array: TypeAlias = list[Any]

# A set of records, and what tells its members apart besides an `id`: tools have a name, files a path.
_SET: Final = "$.items"
_KEYS: Final = ("name", "relative_path")
_INDENT: Final = "  "
_BEGIN: Final = re.compile(r"^(<{7,})(?: .*)?\n", re.MULTILINE)


class _Met:
    """Where changes meet: what each side has there, nothing or one value, or several members of a list."""

    __slots__ = ("ours", "theirs")

    def __init__(self, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        self.ours = [item for item in ours if item is not ABSENT]
        self.theirs = [item for item in theirs if item is not ABSENT]

    @property
    def is_certain(self) -> bool:
        """Whether something stands there whichever side is kept."""
        return bool(self.ours and self.theirs)


class _Unlike:
    """What a base holds where that cannot be told: it is like nothing, so that each side's value is a change."""


_UNLIKE: Final = _Unlike()
# Says which side of a place where changes meet is looked at.
_Pick: TypeAlias = Callable[[_Met], list[Any]]


def merge_document(versions: Versions[bytes], markers: Markers, where: str) -> Merged:
    """Merge three versions of a JSON document; an empty base means that both sides made it.

    `where` is the path that errors name. Raises CorruptRecordError when ours or theirs is no valid document.
    """
    ours, theirs = codec.decode_bytes(versions.ours, where), codec.decode_bytes(versions.theirs, where)
    start = _base(versions.base, ours, theirs, where)
    meetings = _Meetings(where)
    merged = keep_order(merge_by(start, theirs, ours, meetings.meet), ours)
    if meetings.places:
        text = "".join(_Page(markers).whole(_lifted(merged)))
        return Merged(text.encode(), tuple(meetings.places))
    return Merged(_kept(merged, ours, versions, where))


class _Meetings:
    """The places where changes met."""

    def __init__(self, where: str) -> None:
        self.places: list[str] = []
        self._where = where

    def meet(self, at: str, base: Any, theirs: Any, ours: Any) -> Any:
        """Say what the merged value holds where changes meet."""
        key = next((key for key in _KEYS if _is_set(at, base, theirs, ours, key)), None)
        if key is not None:
            start = [] if base is ABSENT else base
            return merge_by(start, theirs, ours, self.meet, key=key, at=at)
        settled = agreed(at, base, ours, theirs, self._where)
        if settled is not ABSENT:
            return settled
        self.places.append(at)
        return _Met([ours], [theirs])


def _is_set(at: str, base: Any, theirs: Any, ours: Any, key: str) -> bool:
    versions = [theirs, ours] if base is ABSENT else [base, theirs, ours]
    return at == _SET and all(has_key(version, key) for version in versions)


# --- the base --------------------------------------------------------------------------------------------------------


def _base(data: bytes, ours: Any, theirs: Any, where: str) -> Any:
    if not data.strip():
        return ABSENT
    try:
        return codec.decode_bytes(data, where)
    except CorruptRecordError:
        undecided = _undecided(data, where)
        return _blurred(ours, theirs) if undecided is ABSENT else undecided


def _undecided(data: bytes, where: str) -> Any:
    """A base that holds markers: where two branches were merged both ways, git merges their bases first.

    What the markers surround is like neither side: else the one that is like it would silently lose to the other.
    """
    text = data.decode("utf-8", "replace")
    match = _BEGIN.search(text)
    if match is None:
        return ABSENT
    sides = (_side_of(text, len(match[1]), keep) for keep in (0, 1))
    try:
        return _blurred(*(codec.decode_bytes(side.encode(), where) for side in sides))
    except CorruptRecordError:
        return ABSENT


def _side_of(text: str, size: int, keep: int) -> str:
    """The text with one side, 0 or 1, of each place between markers."""
    side: int | None = None
    kept: list[str] = []
    for line in text.split("\n"):
        if re.match(rf"<{{{size}}}(?: |$)", line) or re.match(rf"\|{{{size}}}(?: |$)", line):
            side = 0 if line[0] == "<" else -1
        elif line == "=" * size and side is not None:
            side = 1
        elif re.match(rf">{{{size}}}(?: |$)", line) and side is not None:
            side = None
        elif side in (None, keep):
            kept.append(line)
    return "\n".join(kept)


def _blurred(one: Any, other: Any) -> Any:
    """What two values share, and something unlike anything wherever they differ."""
    if same(one, other):
        return one
    if _is_object(one) and _is_object(other):
        return {key: _blurred(one.get(key, ABSENT), other.get(key, ABSENT)) for key in one | other}
    return _UNLIKE


# --- without a conflict ----------------------------------------------------------------------------------------------


def _kept(merged: Any, ours: Any, versions: Versions[bytes], where: str) -> bytes:
    """The merged document in the layout that ours has, if that can be."""
    data, present = codec.encode(merged, where=where), codec.encode(ours, where=where)
    if data == present:
        return versions.ours
    if present != versions.ours:
        by_line = merge_bytes(versions, Markers())
        if not by_line.conflicts and _says(by_line.data, merged, where):
            return by_line.data
    return data


def _says(data: bytes, value: Any, where: str) -> bool:
    try:
        return same(codec.decode_bytes(data, where), value)
    except CorruptRecordError:
        return False


# --- with conflicts --------------------------------------------------------------------------------------------------


def _ours(met: _Met) -> list[Any]:
    return met.ours


def _theirs(met: _Met) -> list[Any]:
    return met.theirs


def _picked(node: Any, pick: _Pick) -> Any:
    """A value as it is when one side is kept everywhere in it."""
    if _is_object(node):
        return {slot.key: slot.node for slot in _flat(_slots(node), pick)}
    if _is_array(node):
        return [slot.node for slot in _flat(_slots(node), pick)]
    return node


def _lifted(node: Any) -> Any:
    """The tree, where what may become empty is itself where the changes meet: empty it has another look."""
    if _is_object(node):
        return _raised({key: _lifted(item) for key, item in node.items()})
    if _is_array(node):
        return _raised([_lifted(item) for item in node])
    return _narrowed(node) if isinstance(node, _Met) else node


def _raised(node: Any) -> Any:
    slots = _slots(node)
    if not slots or any(slot.is_certain for slot in slots):
        return node
    return _Met([_picked(node, _ours)], [_picked(node, _theirs)])


def _narrowed(met: _Met) -> Any:
    """Two lists that begin or end alike differ only between."""
    if not met.is_certain or not (_is_array(ours := met.ours[0]) and _is_array(theirs := met.theirs[0])):
        return met
    limit = min(len(ours), len(theirs))
    head = next((index for index in range(limit) if not same(ours[index], theirs[index])), limit)
    limit -= head
    tail = next((index for index in range(limit) if not same(ours[-1 - index], theirs[-1 - index])), limit)
    if not head + tail:
        return met
    ends = len(ours) - tail, len(theirs) - tail
    return [*ours[:head], _Met(ours[head : ends[0]], theirs[head : ends[1]]), *ours[ends[0] :]]


class _Slot(NamedTuple):
    """A member of an object or, without a key, of a list. Several may meet in one."""

    key: str | None
    node: Any

    @property
    def is_certain(self) -> bool:
        return not isinstance(self.node, _Met) or self.node.is_certain


class _Group(NamedTuple):
    """Members that stand between the same markers."""

    ours: list[_Slot]
    theirs: list[_Slot]


def _slots(node: Any) -> list[_Slot]:
    if _is_object(node):
        return [_Slot(key, item) for key, item in node.items()]
    return [_Slot(None, item) for item in cast("_Array", node)]


def _flat(slots: Sequence[_Slot], pick: _Pick) -> list[_Slot]:
    """Members without a conflict: those of one side."""
    found: list[_Slot] = []
    for slot in slots:
        nodes = pick(slot.node) if isinstance(slot.node, _Met) else [_picked(slot.node, pick)]
        found += [_Slot(slot.key, node) for node in nodes]
    return found


def _groups(slots: list[_Slot]) -> Iterator[_Slot | _Group]:
    """The members, those in one group that must be kept or not together.

    The last member has no comma behind it. So from the last one that is certain on, all are in one group, unless it is
    the last of all.
    """
    last = max(index for index, slot in enumerate(slots) if slot.is_certain)
    behind = slots[last:]
    for slot in slots[:last] if len(behind) > 1 else slots:
        yield _group([slot]) if isinstance(slot.node, _Met) else slot
    if len(behind) > 1:
        yield _group(behind)


def _group(slots: list[_Slot]) -> _Group:
    return _Group(_flat(slots, _ours), _flat(slots, _theirs))


class _Page:
    """Writes a merged document down as lines."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers

    def whole(self, node: Any) -> list[str]:
        """The document's lines."""
        if isinstance(node, _Met):
            return self._markers.around(self.lines(node.ours[0], ""), self.lines(node.theirs[0], ""))
        return self.lines(node, "")

    def lines(self, node: Any, indent: str) -> list[str]:
        """The lines of a value; the first one follows what stands before it."""
        if not _holds_meeting(node):
            text = codec.encode(node).decode().removesuffix("\n")
            return [f"{line}\n" for line in text.replace("\n", f"\n{indent}").split("\n")]
        opening, closing = "{}" if _is_object(node) else "[]"
        members: list[str] = []
        groups = list(_groups(_slots(node)))
        for group in groups:
            members += self._group(group, indent + _INDENT, "" if group is groups[-1] else ",")
        return [f"{opening}\n", *members, f"{indent}{closing}\n"]

    def _group(self, group: _Slot | _Group, indent: str, comma: str) -> list[str]:
        if isinstance(group, _Slot):
            return self._members([group], indent, comma)
        ours, theirs = (self._members(side, indent, comma) for side in group)
        return self._markers.around(ours, theirs)

    def _members(self, slots: list[_Slot], indent: str, comma: str) -> list[str]:
        found: list[str] = []
        for number, slot in enumerate(slots, 1):
            lines = self.lines(slot.node, indent)
            key = "" if slot.key is None else f"{codec.encode_line(slot.key).decode()}: "
            lines[0] = f"{indent}{key}{lines[0]}"
            lines[-1] = lines[-1].removesuffix("\n") + (comma if number == len(slots) else ",") + "\n"
            found += lines
        return found


def _holds_meeting(node: Any) -> bool:
    if _is_object(node):
        return any(map(_holds_meeting, node.values()))
    if _is_array(node):
        return any(map(_holds_meeting, node))
    return isinstance(node, _Met)


def _is_object(value: object) -> TypeGuard[_Object]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[_Array]:
    return isinstance(value, list)
