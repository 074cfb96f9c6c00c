"""From what an index found to the records themselves, which may have changed since it looked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from fsstate.document_changes import PROBLEMS
from fsstate.index.index import Index
from fsstate.index.tables import Found
from fsstate.index.views import View
from fsstate.queries import Position, Question, answer, is_behind, position_of

__all__ = ["fetch"]

T = TypeVar("T")


def fetch(
    index: Index,
    view: View,
    question: Question,
    *,
    read: Callable[[str], T | None],
    field: Callable[[T, str], Any],
    place: Callable[[T], str],
) -> list[T]:
    """The records that a question asks for. `read` gives the one at a place, None when it is gone.

    What was read fits and is in order as it is now: a record that no longer fits, is gone or cannot be read, or moved
    to where this page does not reach, is left out. Others come in its place, lest a page that is cut short look like
    the last one.
    """
    found: list[T] = []
    rest = question
    while True:
        positions = index.select(view, rest, _position_of)
        end = positions[-1] if positions and len(positions) == rest.limit else None
        there = [item for each in positions if (item := _read(read, each.place)) is not None]
        now = answer(there, rest._replace(limit=None, offset=0), field, place)
        if end is None:
            return found + now
        found += [each for each in now if not is_behind(position_of(each, rest.order, field, place), end, rest)]
        wanted = (question.limit or 0) - len(found)
        if wanted <= 0:
            return found
        rest = rest._replace(after=end, offset=0, limit=wanted)


def _read(read: Callable[[str], T | None], place: str) -> T | None:
    with suppress(*PROBLEMS):
        return read(place)
    return None


def _position_of(found: Found) -> Position:
    return found.position
