"""Cursors: texts that say where the next page begins, whatever came and went meanwhile.

A cursor holds the place of the last item of a page in the query's order, not a number of items: what is added, changed
or deleted before the next page neither repeats nor hides any of the others. It belongs to the query that gave it, in
every process and on every backend.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import orjson

from fsstate.errors import InvalidCursorError
from fsstate.queries import Page, Position, Question

__all__ = ["page_of", "position_in"]

T = TypeVar("T")

_DIGEST_SIZE: Final = 6


def position_in(cursor: str, question: Question, about: str) -> Position:
    """The position that a cursor tells. `about` says what the question is asked of.

    Raises InvalidCursorError for what is no cursor, and for that of another query.
    """
    try:
        digest, keys, place = orjson.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        position = Position(tuple(None if key is None else bytes.fromhex(key) for key in keys), str(place))
    except (ValueError, TypeError, AttributeError):
        raise InvalidCursorError(cursor, "is none that fsstate gave") from None
    if digest != _digest(question, about) or len(position.keys) != len(question.order):
        raise InvalidCursorError(cursor, "belongs to a query with other filters or another order")
    return position


def page_of(found: Sequence[T], question: Question, about: str, position: Callable[[T], Position]) -> Page[T]:
    """A page of the items found. `found` has one item more than fits on it if there is a next page."""
    items = [*found] if question.limit is None else [*found[: question.limit]]
    if len(items) == len(found) or not items:
        return Page(items, None)
    last = position(items[-1])
    told = [_digest(question, about), [None if key is None else key.hex() for key in last.keys], last.place]
    return Page(items, base64.urlsafe_b64encode(orjson.dumps(told)).decode("ascii"))


def _digest(question: Question, about: str) -> str:
    """What tells a query from others, however far it is followed."""
    criteria = [
        (field, sorted(each.keys or ()), each.keys is None, each.low, each.high, sorted(each.elements or ()))
        for field, each in question.criteria
    ]
    told = repr((about, criteria, question.order, question.places_descend))
    return hashlib.blake2s(told.encode("utf-8", "backslashreplace"), digest_size=_DIGEST_SIZE).hexdigest()
