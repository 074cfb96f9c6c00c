"""JSON documents merged by field: objects key by key, lists of records member by member, all else as a whole.

What is merged keeps the order of ours; what is new in theirs comes last. A file of another layout than fsstate's keeps
its own where a merge by line says the same.

Where changes meet, both stand between markers; see `fsstate.merging.marked`.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias, TypeGuard

from fsstate import codec
from fsstate.errors import CorruptRecordError
from fsstate.merge import ABSENT, has_key, keep_order, merge_by, same
from fsstate.merging.lines import merge_bytes
from fsstate.merging.marked import Met, marked
from fsstate.merging.stamps import agreed
from fsstate.merging.versions import Markers, Merged, Versions

__all__ = ["merge_document"]

_Object: TypeAlias = dict[str, Any]

# A set of records, and what tells its members apart besides an `id`: tools have a name, files a path.
_SET: Final = "$.items"
_KEYS: Final = ("name", "relative_path")
_BEGIN: Final = re.compile(r"^(<{7,})(?: .*)?\n", re.MULTILINE)


class _Unlike:
    """What a base holds where that cannot be told: it is like nothing, so that each side's value is a change."""


_UNLIKE: Final = _Unlike()


def merge_document(versions: Versions[bytes], markers: Markers, path: str) -> Merged:
    """Merge three versions of a JSON document; an empty base means that both sides made it.

    `path` tells whether amounts in it add up. Raises CorruptRecordError when ours or theirs is no valid document.
    """
    ours, theirs = codec.decode_bytes(versions.ours, "ours"), codec.decode_bytes(versions.theirs, "theirs")
    start: Any = _base(versions.base, ours, theirs)
    meetings = _Meetings(path)
    merged = keep_order(merge_by(start, theirs, ours, meetings.meet), ours)
    if meetings.places:
        return Merged(marked(merged, markers).encode(), tuple(meetings.places))
    return Merged(_kept(merged, ours, versions))


class _Meetings:
    """The places where changes met."""

    def __init__(self, path: str) -> None:
        self.places: list[str] = []
        self._path = path

    def meet(self, at: str, base: Any, theirs: Any, ours: Any) -> Any:
        """Say what the merged value holds where changes meet."""
        key = next((key for key in _KEYS if _is_set(at, base, theirs, ours, key)), None)
        if key is not None:
            start: Any = [] if base is ABSENT else base
            return merge_by(start, theirs, ours, self.meet, key=key, at=at)
        settled = agreed(at, base, ours, theirs, self._path)
        if settled is not ABSENT:
            return settled
        self.places.append(at)
        return Met([ours], [theirs])


def _is_set(at: str, base: Any, theirs: Any, ours: Any, key: str) -> bool:
    versions = [theirs, ours] if base is ABSENT else [base, theirs, ours]
    return at == _SET and all(has_key(version, key) for version in versions)


# --- the base --------------------------------------------------------------------------------------------------------


def _base(data: bytes, ours: Any, theirs: Any) -> Any:
    if not data.strip():
        return ABSENT
    try:
        return codec.decode_bytes(data, "base")
    except CorruptRecordError:
        undecided = _undecided(data)
        return _blurred(ours, theirs) if undecided is ABSENT else undecided


def _undecided(data: bytes) -> Any:
    """A base that holds markers: where two branches were merged both ways, git merges their bases first.

    What the markers surround is like neither side: else the one that is like it would silently lose to the other.
    """
    text = data.decode("utf-8", "replace")
    match = _BEGIN.search(text)
    if match is None:
        return ABSENT
    sides = (_side_of(text, len(match[1]), keep) for keep in (0, 1))
    try:
        return _blurred(*(codec.decode_bytes(side.encode(), "base") for side in sides))
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


def _kept(merged: Any, ours: Any, versions: Versions[bytes]) -> bytes:
    """The merged document in the layout that ours has, if that can be."""
    data, present = codec.encode(merged), codec.encode(ours)
    if data == present:
        return versions.ours
    if present != versions.ours:
        by_line = merge_bytes(versions, Markers())
        if not by_line.conflicts and _says(by_line.data, merged):
            return by_line.data
    return data


def _says(data: bytes, value: Any) -> bool:
    try:
        return same(codec.decode_bytes(data, ""), value)
    except CorruptRecordError:
        return False


def _is_object(value: object) -> TypeGuard[_Object]:
    return isinstance(value, dict)
