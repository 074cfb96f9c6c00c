"""What a store tells of a transcript that was imported, and whether the file still is that transcript. Reads only.

What makes an import repeatable: the session's document tells how many lines and bytes of the file it holds, and their
SHA-256. It is saved last. Rows in the logs beyond what it tells come from an import that was cut off; they are compared
with the file and taken as done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Self

import msgspec

from fsstate import Session, SessionHandle
from fsstate.integrations.claude_code.files import Line, Source
from fsstate.integrations.claude_code.mapping import row_of_event, row_of_message
from fsstate.integrations.claude_code.rows import Object, Row, is_object
from fsstate.tool_calls import LIFECYCLE

__all__ = ["KEY", "ChangedError", "Recorded", "calls_in", "compare", "last_row", "stored_rows"]

# On disk, in the metadata of sessions: do not rename.
KEY: Final = "claude_code"


class ChangedError(Exception):
    """The file is not the transcript that was imported: `line` differs."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason


class Recorded(msgspec.Struct, frozen=True):
    """What a session's document tells of its transcript: so many lines and bytes are in the logs for sure."""

    source: str
    first: str
    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    unreadable: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, session: Session | None) -> Self | None:
        """What a session tells; None when it was not imported."""
        found = None if session is None else session.metadata.get(KEY)
        if not is_object(found):
            return None
        try:
            return msgspec.convert(found, cls)
        except msgspec.ValidationError:
            # Changed by hand: the rows themselves are compared then.
            return cls(str(found.get("source")), str(found.get("first")))

    def is_of(self, source: Source, first: str) -> bool:
        """Whether it is that of a transcript, by its path or its first row."""
        return self.source == source.path or self.first == first


def stored_rows(handle: SessionHandle) -> Iterator[Row]:
    """The rows that a session was made from, in the order of the file. Reads the logs as far as it is iterated."""
    messages = map(row_of_message, handle.messages.log.rows())
    events = map(row_of_event, handle.events.log.rows())
    told = ((row for row in rows if row is not None) for rows in (messages, events))
    return heapq.merge(*told, key=lambda row: row.number)


def last_row(backwards: Iterable[Object], row_of: Callable[[Object], Row | None]) -> int:
    """The number of the last row that a log was given, 0 when none was."""
    return next((row.number for row in map(row_of, backwards) if row is not None), 0)


def compare(stored: Iterable[Row], found: Iterable[Line], mended: frozenset[int]) -> None:
    """Raise ChangedError at the first row that is stored and not found again, or mended since it was not read."""
    rows = (line.row for line in found if line.row is not None)
    for row in stored:
        other = next((each for each in rows if each.number >= row.number or each.number in mended), None)
        if other is None or other.number != row.number or not row.is_same(other):
            raise _changed(row, other)
    for row in rows:
        if row.number in mended:
            raise _changed(None, row)


def _changed(row: Row | None, other: Row | None) -> ChangedError:
    if other is None:
        return ChangedError(row.number if row else 0, "this row was imported and is not in the file")
    if row is None or other.number < row.number:
        return ChangedError(other.number, "this line was not imported, as it could not be read, and now it can be")
    return ChangedError(row.number, "this row is not the one that was imported")


def calls_in(changes: Iterable[Object]) -> dict[str, bool]:
    """Whether each call is final."""
    told = ((each.get("update", each.get("id")), each.get("status")) for each in changes)
    return {name: LIFECYCLE.is_final(status) for name, status in told if name is not None and status is not None}
