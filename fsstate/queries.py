"""Which of many values fit a question, in which order, and from where on: pure decisions about all that can be listed.

This is what a query means. An index answers the same questions faster, and never differently.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from fsstate.conditions import Criterion, criterion_of
from fsstate.keys import MISSING, NULL, Key, Missing, key_of

__all__ = [
    "MISSING",
    "Criteria",
    "Missing",
    "Order",
    "Page",
    "Position",
    "Question",
    "answer",
    "checked_page",
    "criteria_of",
    "fits",
    "is_behind",
    "orders_of",
    "plain",
    "position_of",
]

T = TypeVar("T")

Criteria: TypeAlias = tuple[tuple[str, Criterion], ...]
# The value of an item's field, or MISSING.
_FieldOf: TypeAlias = Callable[[T, str], Any]


class Page(NamedTuple, Generic[T]):
    """Some of the items that fit. `cursor` is what to give for the next page, as `after`; None on the last one."""

    items: list[T]
    cursor: str | None


class Order(NamedTuple):
    """One field to order by."""

    field: str
    descending: bool


class Position(NamedTuple):
    """Where an item stands in an order: its key in each field, and its place, which no two items share."""

    keys: tuple[Key | None, ...]
    place: str


class Question(NamedTuple):
    """What is asked of many items.

    - `criteria`: what the fields must be; all of them.
    - `order`: by which fields, the first one first. Items without a field, or with None in it, come last, whichever
      way it is ordered. What is equal is ordered by its place, backwards with `places_descend`.
    - `after`: only what stands behind this.
    - `limit`, `offset`: at most so many (None: all) of what is then left, without the first so many.
    """

    criteria: Criteria = ()
    order: tuple[Order, ...] = ()
    places_descend: bool = False
    after: Position | None = None
    limit: int | None = None
    offset: int = 0


def plain(value: Any) -> Any:
    """The value as it stands in the document: that of an enum's member, else itself."""
    from enum import Enum

    return value.value if isinstance(value, Enum) else value


def criteria_of(where: Mapping[str, object]) -> Criteria:
    """What `where` asks of each field: to equal a value, or a condition."""
    return tuple((name, criterion_of(wanted)) for name, wanted in where.items())


def orders_of(order_by: str | Sequence[str]) -> tuple[Order, ...]:
    """One field or several, each with a leading "-" to descend. Raises TypeError for what is no text."""
    names = cast("Sequence[object]", order_by) if isinstance(order_by, list | tuple) else (cast("object", order_by),)
    fields = [name for name in names if isinstance(name, str)]
    if len(fields) < len(names):
        raise TypeError(f"order_by must be a field or several, got {order_by!r}; () keeps the order of names")
    return tuple(Order(name.removeprefix("-"), name.startswith("-")) for name in fields)


def checked_page(limit: int | None, offset: int) -> None:
    """Raise ValueError for a negative number, TypeError for what is no whole one."""
    if not all(isinstance(number, int | None) for number in cast("tuple[object, ...]", (limit, offset))):
        raise TypeError(f"limit and offset must be whole numbers, got limit={limit!r}, offset={offset!r}")
    if offset < 0 or (limit is not None and limit < 0):
        raise ValueError(f"limit and offset must be 0 or more, got limit={limit!r}, offset={offset!r}")


def fits(value: T, criteria: Criteria, field: _FieldOf[T]) -> bool:
    """Whether a value fits all criteria."""
    return all(criterion.accepts(field(value, name)) for name, criterion in criteria)


def position_of(item: T, order: Iterable[Order], field: _FieldOf[T], place: Callable[[T], str]) -> Position:
    """Where an item stands."""
    return Position(tuple(key_of(field(item, each.field)) for each in order), place(item))


def answer(items: Iterable[T], question: Question, field: _FieldOf[T], place: Callable[[T], str]) -> list[T]:
    """The items that a question asks for, found by looking at each."""
    fitting = (item for item in items if fits(item, question.criteria, field))
    placed = [(position_of(item, question.order, field, place), item) for item in fitting]
    # Sorting is stable: the last field first, and each earlier one keeps what it finds where it is equal.
    placed.sort(key=lambda pair: pair[0].place, reverse=question.places_descend)
    for number in reversed(range(len(question.order))):
        placed = _sorted(placed, number, descending=question.order[number].descending)
    return [item for _, item in _page(_behind(placed, question), question)]


_Placed: TypeAlias = tuple[Position, T]


def _sorted(placed: list[_Placed[T]], number: int, *, descending: bool) -> list[_Placed[T]]:
    present = [each for each in placed if each[0].keys[number]]
    present.sort(key=lambda each: each[0].keys[number] or NULL, reverse=descending)
    return present + [each for each in placed if not each[0].keys[number]]


def _behind(placed: list[_Placed[T]], question: Question) -> Iterator[_Placed[T]]:
    after = question.after
    return (each for each in placed if after is None or is_behind(each[0], after, question))


def is_behind(position: Position, other: Position, question: Question) -> bool:
    """Whether one position comes after another one in the order that is asked for."""
    for order, key, bound in zip(question.order, position.keys, other.keys, strict=True):
        # None and missing are the same here.
        if (key or NULL) != (bound or NULL):
            return not key or (bool(bound) and (key < (bound or NULL)) is order.descending)
    if question.places_descend:
        return position.place < other.place
    return position.place > other.place


def _page(items: Iterable[T], question: Question) -> list[T]:
    # What counts no further than the machine does.
    start = min(question.offset, sys.maxsize)
    stop = sys.maxsize if question.limit is None else min(question.offset + question.limit, sys.maxsize)
    return list(islice(items, start, stop))
