"""One session with all that belongs to it, as an export needs it: what can be read, and what is wrong with the rest.

Reads only. What cannot be read is a problem with its place below the store's directory, and hides nothing else; what
the system refuses to read (`StorageError`) is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from fsstate import (
    CorruptRecordError,
    FsStateError,
    NotFoundError,
    SessionHandle,
    StorageError,
    UnsafePathError,
    ValidationError,
    codec,
)
from fsstate.backends.base import JSON, LOG, Backend, Ref, Suffix
from fsstate.conversation import Tree, message_of
from fsstate.integrations.items import is_object
from fsstate.journal import Log
from fsstate.ledger import Ledger
from fsstate.projection import Projections, Row
from fsstate.streams import Streams
from fsstate.times import now
from fsstate.tool_calls import LIFECYCLE

__all__ = ["Belonging", "WholeSession"]

T = TypeVar("T")

# What a session's handle has a name for, or what is part of a conversation.
_OWN_LOGS: Final = ("messages", "events", "tool_calls", "steps")
_STREAMS: Final = "streams"


class Belonging(NamedTuple):
    """A document or log in a session's folder. `place` is its path there, without the suffix."""

    place: str
    ref: Ref


class WholeSession:
    """One session, as it is while it is read."""

    def __init__(self, session: SessionHandle) -> None:
        if not session.exists():
            raise NotFoundError(session.path)
        self.handle = session
        self.owner = Ref("sessions", session.id, JSON)
        self.backend: Backend = session.messages.log.backend
        self._problems: dict[str, None] = {}
        self._root = session.path.removesuffix(str(self.owner))

    @property
    def problems(self) -> list[str]:
        """What could not be read so far, each once."""
        return [*self._problems]

    def note(self, problem: Exception) -> None:
        """Say that something cannot be read."""
        told = str(problem)
        self._problems[told.replace(self._root, "") if self._root else told] = None

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What `read` gives; None, and a problem more, where that cannot be read."""
        try:
            return read()
        except UnsafePathError as error:
            # A link in a record's place is no record, and no failure of the system.
            self.note(error)
        except StorageError:
            raise
        except FsStateError as error:
            self.note(error)
        return None

    def check_logs(self) -> None:
        """Note the lines of all logs that are no entries, and the entries that are not what they should be."""
        session = self.handle
        # Of the messages only the lines: what those say is looked at with the tree, lest it were in memory twice.
        for each in (session.messages.log, session.tool_calls, session.steps, session.events):
            self._note_all(each.problems)
        for belonging in self.belongings(LOG):
            self._note_all(Log(self.backend, belonging.ref).problems)

    def _note_all(self, problems: Callable[[], Iterable[Exception]]) -> None:
        for problem in self.attempt(problems) or ():
            self.note(problem)

    def document(self) -> dict[str, Any]:
        """The session's document as it stands; empty where it cannot be read."""
        found = self.attempt(lambda: self.json(self.owner))
        if is_object(found):
            return found
        if found is not None:
            self.note(ValidationError(self.handle.path, "$: expected an object"))
        return {}

    def tree(self) -> Tree:
        """The conversation, with what is under way. All of its messages are in memory then, once."""
        # Before the log is looked at: a message that is finished in between is then seen twice rather than not at all.
        unfinished = Streams(self.backend, self.owner).unfinished()
        tree = Tree()
        for row in self.rows(self.handle.messages.log):
            tree.fold(row)
        tree = tree.with_unfinished(unfinished)
        for row in tree.rows.values():
            self.attempt(partial(message_of, row, self.handle.messages.path))
        return tree

    def calls(self) -> list[Row]:
        """The tool calls as they are now, in the order of their making."""
        ledger = Ledger(Projections(self.backend), self.handle.tool_calls.log, LIFECYCLE, now)
        return self.attempt(ledger.list) or []

    def rows(self, log: Log) -> Iterator[Row]:
        """The entries of a log."""
        rows = log.rows()
        while (row := self.attempt(lambda: next(rows, None))) is not None:
            yield row

    def belongings(self, suffix: Suffix) -> Iterator[Belonging]:
        """What else of one kind is in the session's folder, sorted."""
        yield from self._below("", suffix)

    def _below(self, folder: str, suffix: Suffix) -> Iterator[Belonging]:
        category = f"{self.owner.belongings}/{folder}".rstrip("/")
        refused: list[CorruptRecordError] = []
        for name in self.backend.names(category, suffix, refused):
            if folder or suffix != LOG or name not in _OWN_LOGS:
                yield Belonging(f"{folder}/{name}".lstrip("/"), Ref(category, name, suffix))
        for error in refused:
            self.note(error)
        for name in self.backend.categories(category):
            if folder or name != _STREAMS:
                yield from self._below(f"{folder}/{name}".lstrip("/"), suffix)

    def json(self, ref: Ref) -> Any:
        """The value of a JSON document. Raises CorruptRecordError, and NotFoundError when it went away."""
        where = self.backend.location(ref)
        blob = self.backend.read(ref)
        if blob is None:
            raise NotFoundError(where)
        return codec.decode(blob, where)

    def text(self, ref: Ref) -> str | None:
        """The text of a Markdown document, with bytes that are none made visible; None when it went away."""
        blob = self.attempt(partial(self.backend.read, ref))
        if blob is None:
            return None
        try:
            return blob.data.decode()
        except UnicodeDecodeError as error:
            reason = f"byte 0x{blob.data[error.start]:02x} is not UTF-8"
            self.note(CorruptRecordError(self.backend.location(ref), reason, offset=error.start))
            return blob.data.decode(errors="backslashreplace")
