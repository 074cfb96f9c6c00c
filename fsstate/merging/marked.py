"""A merged document in which changes met, written down with markers around them.

There are as few lines between markers as tell the difference, and whichever side is kept of each such place, in any
combination, what is left is a valid document: commas and brackets that a choice needs are part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard, cast

from fsstate import codec
from fsstate.merge import ABSENT, same
from fsstate.merging.versions import Markers

__all__ = ["Met", "marked"]

_INDENT: Final = "  "


class Met:
    """Where changes meet: what each side has there, nothing or one value, or several members of a list."""

    __slots__ = ("ours", "theirs")

    def __init__(self, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        self.ours = [item for item in ours if item is not ABSENT]
        self.theirs = [item for item in theirs if item is not ABSENT]

    @property
    def is_certain(self) -> bool:
        """Whether something stands there whichever side is kept."""
        return bool(self.ours and self.theirs)


# Says which side of a place where changes meet is looked at.
_Pick: TypeAlias = Callable[[Met], list[Any]]


def marked(document: Any, markers: Markers) -> str:
    """The text of a document that holds places where changes meet."""
    return "".join(_Page(markers).whole(_lifted(document)))


# --- the tree --------------------------------------------------------------------------------------------------------


def _ours(met: Met) -> list[Any]:
    return met.ours


def _theirs(met: Met) -> list[Any]:
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
    return _narrowed(node) if isinstance(node, Met) else node


def _raised(node: Any) -> Any:
    slots = _slots(node)
    if not slots or any(slot.is_certain for slot in slots):
        return node
    return Met([_picked(node, _ours)], [_picked(node, _theirs)])


def _narrowed(met: Met) -> Any:
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
    return [*ours[:head], Met(ours[head : ends[0]], theirs[head : ends[1]]), *ours[ends[0] :]]


# --- members ---------------------------------------------------------------------------------------------------------


class _Slot(NamedTuple):
    """A member of an object or, without a key, of a list. Several may meet in one."""

    key: str | None
    node: Any

    @property
    def is_certain(self) -> bool:
        return not isinstance(self.node, Met) or self.node.is_certain


class _Group(NamedTuple):
    """Members that stand between the same markers."""

    ours: list[_Slot]
    theirs: list[_Slot]


def _slots(node: Any) -> list[_Slot]:
    if _is_object(node):
        return [_Slot(key, item) for key, item in node.items()]
    return [_Slot(None, item) for item in cast("list[Any]", node)]


def _flat(slots: Sequence[_Slot], pick: _Pick) -> list[_Slot]:
    """Members without a conflict: those of one side."""
    found: list[_Slot] = []
    for slot in slots:
        nodes = pick(slot.node) if isinstance(slot.node, Met) else [_picked(slot.node, pick)]
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
        yield _group([slot]) if isinstance(slot.node, Met) else slot
    if len(behind) > 1:
        yield _group(behind)


def _group(slots: list[_Slot]) -> _Group:
    return _Group(_flat(slots, _ours), _flat(slots, _theirs))


# --- the text --------------------------------------------------------------------------------------------------------


class _Page:
    """Writes a merged document down as lines."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers

    def whole(self, node: Any) -> list[str]:
        """The document's lines."""
        if isinstance(node, Met):
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
    return isinstance(node, Met)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
