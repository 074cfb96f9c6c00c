"""Merging JSON values: pure functions that decide what a document becomes when several hands changed it.

Nothing here changes its arguments. Results may share parts with them.
Two values are the same when JSON would be: `1`, `1.0` and `true` differ, the order of keys does not matter.
A list whose members are all objects with a distinct `id` is taken member by member; other lists are taken as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, TypeGuard

from fsstate.codec import path_to

__all__ = [
    "ABSENT",
    "Absent",
    "Meet",
    "differences",
    "has_key",
    "keep_order",
    "merge_by",
    "overlay",
    "same",
    "three_way",
]

_Object: TypeAlias = dict[str, Any]
_Array: TypeAlias = list[Any]
# The members of a list by their id; the id's type is part of it, for 1 == True.
_ById: TypeAlias = dict[tuple[type, Any], _Object]


class Absent:
    """What stands for a member that an object or list does not have: null is a value."""


ABSENT: Final = Absent()
# Given a place where changes meet, and the value there in base, mine and theirs: says what the merged value holds.
Meet: TypeAlias = Callable[[str, Any, Any, Any], Any]
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def _is_object(value: object) -> TypeGuard[_Object]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[_Array]:
    return isinstance(value, list)


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal, numbers of different types and booleans being different."""
    if one is other:
        return True
    if _is_object(one) and _is_object(other):
        return one.keys() == other.keys() and _are_same(one, other)
    if _is_array(one) and _is_array(other):
        return len(one) == len(other) and all(map(same, one, other))
    # NaN, which YAML knows, differs from itself.
    return type(one) is type(other) and (one == other or (one != one and other != other))  # noqa: PLR0124


def _are_same(one: _Object, other: _Object) -> bool:
    for key, item in one.items():
        there = other[key]
        # Nearly all are scalars: those are told without a call.
        is_equal = type(item) in _SCALARS and type(there) is type(item) and item == there
        if not is_equal and not same(item, there):
            return False
    return True


# --- three_way -------------------------------------------------------------------------------------------------------


def three_way(base: Any, mine: Any, theirs: Any) -> tuple[Any, tuple[str, ...]]:
    """Merge two changes of one value. Returns the merged value and the places where the changes meet.

    `base` is what both began with. A change that only one side made is taken, as is one that both made alike. Objects
    are merged key by key and lists of objects with an `id` member by member; the order is that of `theirs`, and what
    is new in `mine` comes last. Everything else is changed as a whole. Removing what the other side changed is a
    conflict. At a conflict the merged value holds `mine`; places look like `$.steps[id=3].status`.
    """
    conflicts: list[str] = []

    def note(at: str, _base: Any, mine: Any, _theirs: Any) -> Any:
        conflicts.append(at)
        return mine

    return merge_by(base, mine, theirs, note), tuple(conflicts)


def merge_by(base: Any, mine: Any, theirs: Any, meet: Meet, *, key: str = "id", at: str = "$") -> Any:
    """`three_way`, with `meet` to say what becomes of each place where the changes meet.

    What a side lacks is ABSENT, for `meet` and in what it returns. `key` is what tells the members of lists apart; `at`
    is where the values stand in their document.
    """
    return _Merger(meet, key).merge(base, mine, theirs, at)


def has_key(value: object, key: str) -> bool:
    """Whether a value is a list of objects, each of which has a `key` of its own, so that it is merged by them."""
    return _by_id(value, key) is not None


class _Merger:
    def __init__(self, meet: Meet, key: str) -> None:
        self._meet = meet
        self._key = key

    def merge(self, base: Any, mine: Any, theirs: Any, at: str) -> Any:
        if same(mine, base) or same(mine, theirs):
            return theirs
        if same(theirs, base):
            return mine
        if _is_object(mine) and _is_object(theirs) and (_is_object(base) or base is ABSENT):
            return self._merge_objects(base if _is_object(base) else {}, mine, theirs, at)
        bases = _by_id([] if base is ABSENT else base, self._key)
        lefts, rights = _by_id(mine, self._key), _by_id(theirs, self._key)
        if bases is not None and lefts is not None and rights is not None:
            return self._merge_lists(bases, lefts, rights, at)
        return self._meet(at, base, mine, theirs)

    def _merge_objects(self, base: _Object, mine: _Object, theirs: _Object, at: str) -> _Object:
        merged: _Object = {}
        for key in theirs | mine:
            place = path_to(at, key)
            item = self.merge(base.get(key, ABSENT), mine.get(key, ABSENT), theirs.get(key, ABSENT), place)
            if item is not ABSENT:
                merged[key] = item
        return merged

    def _merge_lists(self, base: _ById, mine: _ById, theirs: _ById, at: str) -> _Array:
        merged: _Array = []
        for key in theirs | mine:
            place = f"{at}[{self._key}={key[1]}]"
            item = self.merge(base.get(key, ABSENT), mine.get(key, ABSENT), theirs.get(key, ABSENT), place)
            if item is not ABSENT:
                merged.append(item)
        return merged


def _by_id(value: object, name: str = "id") -> _ById | None:
    """A list's members by id; None when it is no list, or not every member has an id of its own."""
    if not _is_array(value):
        return None
    members: _ById = {}
    for member in value:
        key = _id_of(member, name)
        if key is None or key in members:
            return None
        members[key] = member
    return members


def _id_of(member: object, name: str) -> tuple[type, Any] | None:
    if not _is_object(member):
        return None
    key = member.get(name)
    return (type(key), key) if isinstance(key, str | int) else None


# --- differences -----------------------------------------------------------------------------------------------------


def differences(one: Any, other: Any, at: str = "$") -> Iterator[str]:
    """The places in which two values differ, as `three_way` tells places: the smallest that are changed as a whole."""
    if same(one, other):
        return
    lefts, rights = _members(one), _members(other)
    if lefts is None or rights is None or isinstance(one, dict) != isinstance(other, dict):
        yield at
        return
    for key in lefts | rights:
        place = path_to(at, key) if isinstance(key, str) else f"{at}[id={key[1]}]"
        yield from differences(lefts.get(key, ABSENT), rights.get(key, ABSENT), place)


def _members(value: object) -> dict[Any, Any] | None:
    return value if _is_object(value) else _by_id(value)


# --- overlay ---------------------------------------------------------------------------------------------------------


def overlay(base: Any, before: Any, after: Any) -> Any:
    """Apply the difference between `before` and `after` to `base`.

    `before` and `after` are two views of a document that may know less than `base`, the document itself: keys that
    the views do not know stay, keys keep their order, and new ones come last. What did not change between the views
    stays as `base` has it, also where it lacks it (a default). A list's members are matched by id; else those of an
    equal beginning and an equal end are, and between them by position, unless the list became shorter.
    What is new is taken from `after` as it is.
    """
    if same(before, after):
        return base
    if _is_object(base) and _is_object(before) and _is_object(after):
        return _overlay_objects(base, before, after)
    if _is_array(base) and _is_array(before) and _is_array(after):
        return _overlay_lists(base, before, after)
    return after


def _overlay_objects(base: _Object, before: _Object, after: _Object) -> _Object:
    result: _Object = {}
    for key, item in base.items():
        if key in after:
            result[key] = overlay(item, before.get(key, ABSENT), after[key])
        elif key not in before:
            result[key] = item
    for key, item in after.items():
        if key not in base and not (key in before and same(before[key], item)):
            result[key] = item
    return result


def _overlay_lists(base: _Array, before: _Array, after: _Array) -> _Array:
    if len(base) != len(before):
        return after
    origins = _origins(before, after)
    return [
        item if origin is None else overlay(base[origin], before[origin], item)
        for item, origin in zip(after, origins, strict=True)
    ]


def _origins(before: _Array, after: _Array) -> list[int | None]:
    """For each member of `after`, the index in `before` of the member that it was made from."""
    old, new = _by_id(before), _by_id(after)
    if old is not None and new is not None:
        places = {key: index for index, key in enumerate(old)}
        return [places.get(key) for key in new]
    limit = min(len(before), len(after))
    head = next((index for index in range(limit) if not same(before[index], after[index])), limit)
    limit -= head
    tail = next((index for index in range(limit) if not same(before[-1 - index], after[-1 - index])), limit)
    return _aligned(len(before), len(after), head, tail)


def _aligned(old: int, new: int, head: int, tail: int) -> list[int | None]:
    middle: list[int | None] = [None] * (new - head - tail)
    if old <= new:
        # What was added most likely stands behind what was there.
        middle[: old - head - tail] = range(head, old - tail)
    return [*range(head), *middle, *range(old - tail, old)]


# --- keep_order ------------------------------------------------------------------------------------------------------


def keep_order(value: Any, like: Any) -> Any:
    """`value` with its keys in the order in which `like` has them; keys that `like` lacks come last, in their order.

    Works down through objects and lists, whose members are matched by id, else by position. The values are unchanged.
    """
    if _is_object(value) and _is_object(like):
        return _keep_order_of_keys(value, like)
    if _is_array(value) and _is_array(like):
        origins = _origins(like, value)
        return [
            item if origin is None else keep_order(item, like[origin])
            for item, origin in zip(value, origins, strict=True)
        ]
    return value


def _keep_order_of_keys(value: _Object, like: _Object) -> _Object:
    ordered = {key: keep_order(value[key], item) for key, item in like.items() if key in value}
    for key, item in value.items():
        if key not in ordered:
            ordered[key] = item
    return ordered
