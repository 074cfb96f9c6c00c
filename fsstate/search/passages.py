"""What is searched: passages, each an answer by itself. A message is one, a note, a JSON document, an entry of a log.

A passage has parts: the values of a document, the front matter and the body of a note. Its words may stand in different
parts; a phrase stands in one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from fsstate.search.words import BOUNDARY, tokens_of

__all__ = ["Part", "Passage", "SearchHit", "from_microseconds", "to_microseconds", "tokens_in"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Part(NamedTuple):
    """A text and where it stands: the path of its field, and the line of the file where it begins.

    With `counts`, its own lines are lines of the file as well; those of a value in a JSON document are not.
    """

    text: str
    field: str | None = None
    line: int = 1
    counts: bool = True


class Passage(NamedTuple):
    """One thing to find. `key` tells it from the others of its file: a message's id, an entry's seq.

    `seq` is its entry in a log, 0 where there is none. `state` is the business of who hands it over.
    """

    key: str
    parts: tuple[Part, ...]
    seq: int = 0
    at: datetime | None = None
    role: str | None = None
    state: int = 0


class SearchHit(msgspec.Struct, kw_only=True, frozen=True):
    """An answer of a search: where it is, and what it looks like there.

    - `place`: the record: `sessions/<id>/messages.jsonl`, `notes/standup.md`, `agents/planner.json` …
    - `session`: the id of the session that it belongs to; `message_id`, `role`: of a message.
    - `seq`: of a message or another log's entry, its entry in the log; None while a message is still being written.
    - `field`: of a JSON document or a log's entry, the path of the value, such as `$.goal.text`; "front_matter" where
      the words stand in a note's.
    - `line`: where the snippet's first match is, from 1: in a note's or document's file, in a message's text.
    - `snippet`: the text around the matches, spaces and line ends as one space each; "…" where it was cut. It may hold
      control characters. `spans` are the matches in it: where each begins, and behind its end.
    - `score`: how well it fits, the higher the better. Comparable within one search.
    - `at`: when it was written or last changed, if it tells.
    """

    place: str
    session: str | None
    message_id: str | None
    role: str | None
    seq: int | None
    field: str | None
    line: int | None
    snippet: str
    spans: tuple[tuple[int, int], ...]
    score: float
    at: datetime | None


def tokens_in(parts: Iterable[Part]) -> list[str]:
    """The tokens of all parts, with a boundary between one and the next."""
    tokens: list[str] = []
    for part in parts:
        tokens += tokens_of(part.text)
        tokens.append(BOUNDARY)
    return tokens[:-1]


def to_microseconds(at: datetime | None) -> int | None:
    """A time as a number that sorts as it does."""
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def from_microseconds(number: int | None) -> datetime | None:
    """The time that `to_microseconds` was given."""
    return None if number is None else _EPOCH + number * _MICROSECOND
