"""Messages under way: each has a log of its own until it is finished, so that a crash loses none of its text.

`sessions/<id>/streams/<message id>.jsonl` begins with what is known of the message; every further line holds a piece of
its text. The writer keeps the log claimed. A log that nobody claims is of a message whose writer died: "interrupted".
The finished message is appended to the conversation first and its log deleted then; a log whose message is there
already is a leftover, which readers pass over and the next writer removes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from fsstate import names
from fsstate.backends.base import LOG, Backend, Ref
from fsstate.conversation import Message, copied
from fsstate.errors import InvalidValueError, StorageError
from fsstate.journal import Log
from fsstate.projection import Row

__all__ = ["Stream", "Streams", "checked_text"]

_log = logging.getLogger("fsstate")


class Streams:
    """The messages of one session that are under way."""

    def __init__(self, backend: Backend, owner: Ref) -> None:
        self._backend = backend
        self._owner = owner
        self._category = f"{owner.belongings}/streams"

    def ids(self) -> list[str]:
        """The ids of all messages that have a log here, sorted."""
        return self._backend.names(self._category, LOG)

    def log(self, name: str) -> Log:
        """The log of one message. Raises InvalidNameError for an id that cannot be a file's name."""
        return Log(self._backend, Ref(self._category, names.check_name(name), LOG), owner=self._owner)

    def unfinished(self) -> dict[str, Row]:
        """The messages as far as they are written, by id. Some may be finished by the time that this is read."""
        found = {name: self.read(name) for name in self.ids()}
        return {name: row for name, row in found.items() if row is not None}

    def is_begun(self, name: str) -> bool:
        """Whether readers see the message: its log holds what is known of it, and not only the place for that."""
        return _beginning(self.log(name).rows()) is not None

    def read(self, name: str) -> Row | None:
        """One message as far as it is written; None when nothing of it is."""
        log = self.log(name)
        # Asked before reading: the other way round, a message finished in between would seem cut off.
        alive = self._backend.is_claimed(log.ref)
        rows = log.rows()
        row = _beginning(rows)
        if row is None:
            return None
        text = "".join(str(piece.get("text", "")) for piece in rows)
        del row["seq"]
        return {"id": name, **row, "content": text, "status": "streaming" if alive else "interrupted"}

    def is_alive(self, name: str) -> bool:
        """Whether the message's writer is."""
        return self._backend.is_claimed(self.log(name).ref)

    def claim(self, name: str) -> AbstractContextManager[None]:
        """Be the only writer of a message's log for the length of a block."""
        return self._backend.claim_log(self.log(name).ref, owner=self._owner)

    def remove(self, name: str) -> None:
        """Delete the log of a message that is in the conversation. One that cannot be deleted is harmless."""
        try:
            self._backend.delete_log(self.log(name).ref)
        except StorageError as error:
            _log.warning("left for later: %s", str(error))

    @contextlib.contextmanager
    def settling(self, name: str) -> Generator[Row | None]:
        """Take over a message whose writer died: gives what there is of it, and deletes its log after the block."""
        with self.claim(name):
            row = self.read(name)
            yield None if row is None else {**row, "status": "interrupted"}
            self.remove(name)


def _beginning(rows: Iterator[Row]) -> Row | None:
    row = next(rows, None)
    return row if row is not None and isinstance(row.get("role"), str) else None


def checked_text(piece: object) -> str:
    """A piece of a message's text. Raises InvalidValueError for anything else, which readers would pass over."""
    if not isinstance(piece, str):
        raise InvalidValueError(f"expected a text to add, got {type(piece).__name__}", at="$.content")
    return piece


class Stream:
    """A message that is being written, as a context manager. Not for several threads at a time.

    Inside the block `write` adds text, durably, and readers see it. At its end the whole message is appended to the
    conversation; after an exception its status is "interrupted", and the exception goes on. `metadata`, `model` and
    `content` (which then stands in the place of the text) may be set until the end. `message` is the finished message.
    """

    def __init__(
        self, streams: Streams, row: Row, start: Callable[[Row], Row], finish: Callable[[Row], Message]
    ) -> None:
        self.id: str = row["id"]
        self.model: str | None = row.get("model")
        self.metadata: dict[str, Any] = copied(row.get("metadata") or {})
        self.content: Any = None
        self.message: Message | None = None
        self._streams = streams
        self._row = row
        self._start = start
        self._finish = finish
        self._claim: AbstractContextManager[None] | None = None
        self._text: list[str] = []
        self._log = streams.log(self.id)

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._text)

    def open(self) -> None:
        """Begin: `with` does so. Readers see the message from now on.

        Raises NotFoundError for a session or parent that does not exist, and LockTimeoutError when somebody else
        writes the same message.
        """
        claim = self._streams.claim(self.id)
        claim.__enter__()
        try:
            self._row = self._start(self._row)
            self._log.append([{key: value for key, value in self._row.items() if key != "id"}])
        except BaseException:
            self._streams.remove(self.id)
            claim.__exit__(None, None, None)
            raise
        self._claim = claim

    def write(self, text: str) -> None:
        """Add text to the message, durably. Raises ValueError outside the block, InvalidValueError for no text."""
        if self._claim is None:
            raise ValueError(f"message {self.id} is not being written: write inside its 'with' block")
        if checked_text(text):
            self._log.append([{"text": text}])
            self._text.append(text)

    def close(self, status: str = "complete") -> Message:
        """End: append the message to the conversation and return it. `with` does so, "interrupted" on an exception.

        When this fails, what was written stays, and is settled as an interrupted message later.
        """
        if self._claim is None:
            raise ValueError(f"message {self.id} is not being written")
        claim, self._claim = self._claim, None
        try:
            self.message = self._finish(self._finished(status))
            self._streams.remove(self.id)
        finally:
            claim.__exit__(None, None, None)
        return self.message

    def _finished(self, status: str) -> Row:
        row = {**self._row, "content": self.text if self.content is None else copied(self.content)}
        row |= {"model": self.model, "metadata": copied(self.metadata) or None, "status": status}
        if status == "complete":
            del row["status"]
        return {key: value for key, value in row.items() if value is not None}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close("interrupted")
        except Exception as second:  # noqa: BLE001 - the first error is the one to tell; this one is its consequence
            _log.warning("message %s could not be settled, the next writer will try again: %s", self.id, second)
