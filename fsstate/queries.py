"""Which of many values fit a question, and in which order: pure decisions, shared by all that can be listed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Final, TypeVar

__all__ = ["MISSING", "Missing", "fits", "ordered", "page", "plain", "sort_key"]

T = TypeVar("T")


class Missing(Enum):
    """The type of `MISSING`: no value was given, and None is a value."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def fits(value: T, where: Mapping[str, object] | Callable[[T], bool] | None, field: Callable[[T, str], object]) -> bool:
    """Whether a value has what `where` asks for: None asks for nothing, a mapping for equal fields."""
    if where is None:
        return True
    if callable(where):
        return bool(where(value))
    return all(field(value, name) == wanted for name, wanted in where.items())


def plain(value: Any) -> Any:
    """The value as it stands in the document: that of an enum's member, else itself."""
    return value.value if isinstance(value, Enum) else value


def ordered(items: Iterable[T], order_by: str | Sequence[str], field: Callable[[T, str], Any]) -> Iterable[T]:
    """The items by one field or several, each with a leading "-" to descend; equal ones stay as they come.

    Those without a field, or with None in it, come last, whichever way it is ordered.
    """
    # Sorting is stable: the last field first, and each earlier one keeps what it finds where it is equal.
    for name in reversed((order_by,) if isinstance(order_by, str) else order_by):
        items = _sorted(items, name, field)
    return items


def _sorted(items: Iterable[T], order: str, field: Callable[[T, str], Any]) -> list[T]:
    keyed = [(field(item, order.removeprefix("-")), item) for item in items]
    present = [(sort_key(value), item) for value, item in keyed if value is not None and value is not MISSING]
    present.sort(key=lambda pair: pair[0], reverse=order.startswith("-"))
    return [item for _, item in present] + [item for value, item in keyed if value is None or value is MISSING]


def sort_key(value: Any) -> tuple[str, Any]:
    """A key that never fails: numbers, texts and times among themselves, and everything else by its text."""
    if isinstance(value, int | float):
        return "number", value
    kind = type(value).__name__
    return (kind, value) if kind in ("str", "date", "datetime") else (kind, repr(value))


def page(items: Iterable[T], limit: int | None, offset: int) -> list[T]:
    """At most `limit` items (None: all) behind the first `offset`. Raises ValueError for a negative number."""
    if offset < 0 or (limit is not None and limit < 0):
        raise ValueError(f"limit and offset must be 0 or more, got limit={limit!r}, offset={offset!r}")
    # What counts no further than the machine does.
    start, stop = min(offset, sys.maxsize), sys.maxsize if limit is None else min(offset + limit, sys.maxsize)
    return list(islice(items, start, stop))
