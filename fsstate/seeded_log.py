"""A session's log whose first entries may still stand in the session's document; see `fsstate.embedded`.

- Until something was entered in the log, it is read as if it held what the document holds. Reading writes nothing.
- Before anything else is entered, `begin` puts all of that into the log, durably, once, under the log's lock. From then
  on the log is the truth, also when it was emptied: what the document holds does not come back.
- A crash may leave only the first of these entries in the log. Readers see the rest all the same, and the next `begin`
  adds it.

- Who adds to the document after that adds what nobody sees: `problems` names it, and the first full read in a process
  warns of it. Two programs must not both write one session, fsstate into the log and oxios into the document.

The document is never changed. A session whose document holds no such thing pays one look at it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fsstate import codec
from fsstate.backends.base import LOG, Backend, BadLine, Blob, LogLine, Ref
from fsstate.embedded import (
    BEGINNING_OF_MESSAGE,
    BEGINNING_OF_STEP,
    Embedded,
    embedded_messages,
    embedded_steps,
    may_embed,
    place_of_message,
    place_of_step,
)
from fsstate.errors import CorruptRecordError, FsStateError
from fsstate.journal import Log
from fsstate.projection import Row

__all__ = ["SeededLog", "is_blank", "may_be_seeded", "message_log", "step_log"]

_log = logging.getLogger("fsstate")

# So many documents are remembered as compared with their logs.
_MOST_LOOKED_AT: Final = 1024


class _Kind(NamedTuple):
    """Where a log's first entries come from, how their lines begin, and where in the document each stands."""

    find: Callable[[object], Embedded]
    beginning: re.Pattern[bytes]
    place: Callable[[str], str]

    def mark(self, line: LogLine) -> str | None:
        """What tells an entry from the document's others; None for one that is not the document's."""
        match = self.beginning.match(line.data)
        return None if match is None else match[1].decode()


class _Seeds(NamedTuple):
    """What one version of the document holds: the lines as they are to stand in the log."""

    blob: Blob | None
    lines: list[LogLine]
    flaws: list[CorruptRecordError]


_MESSAGES: Final = _Kind(embedded_messages, BEGINNING_OF_MESSAGE, place_of_message)
_STEPS: Final = _Kind(embedded_steps, BEGINNING_OF_STEP, place_of_step)
_NOTHING: Final = _Seeds(None, [], [])


def message_log(backend: Backend, owner: Ref) -> SeededLog:
    """The log of a session's messages."""
    return SeededLog(backend, owner, "messages", _MESSAGES)


def step_log(backend: Backend, owner: Ref) -> SeededLog:
    """The log of a session's steps."""
    return SeededLog(backend, owner, "steps", _STEPS)


def is_blank(stamp: tuple[int, ...] | None) -> bool:
    """Whether a log with this stamp never had an entry."""
    # Who makes the file may be killed before a line is in it.
    return stamp is None or (len(stamp) > 1 and stamp[1] == 0)


def may_be_seeded(backend: Backend, owner: Ref) -> bool:
    """Whether a session's document may hold entries for its logs. Costs one look at the document."""
    return _holder(backend, owner) is not None


def _holder(backend: Backend, owner: Ref) -> Blob | None:
    blob = backend.read(owner)
    return blob if blob is not None and may_embed(blob.data) else None


class SeededLog(Log):
    """A log that begins with what its owner's document holds. Raises CorruptRecordError if that cannot be told."""

    def __init__(self, backend: Backend, owner: Ref, name: str, kind: _Kind) -> None:
        super().__init__(backend, Ref(owner.belongings, name, LOG), owner=owner)
        self._document = owner
        self._kind = kind
        self._seeds = _NOTHING

    def begin(self) -> None:
        """Put into the log what it lacks of the document's entries. Costs one look at the document, as a rule."""
        if self._holder() is None or (self.is_blank() and not self._read_holder().lines):
            return
        self._backend.append(self.ref, lambda last: [_payload(line) for line in self._lacking(last)], owner=self.owner)

    def append_lines(self, lines: Sequence[bytes]) -> range:
        """Append what `encode` gave."""
        self.begin()
        return super().append_lines(lines)

    def append_next(self, make: Callable[[dict[str, Any] | None], Iterable[Mapping[str, Any]]]) -> range:
        """Append what `make` makes of the last entry (None: there is none), under the log's lock."""
        self.begin()
        return super().append_next(make)

    def trim(self, *, before: int) -> int:
        """Remove the entries with a seq lower than `before`, durably, and return how many went."""
        self.begin()
        return super().trim(before=before)

    def is_blank(self) -> bool:
        """Whether nothing at all is in the log, not even what a trim leaves. Costs one look at the file's state."""
        return is_blank(super().stamp())

    def stamp(self) -> tuple[int, ...] | None:
        """Return a value that changes whenever what is read does; None when there is nothing. Reads no entry."""
        stamp = super().stamp()
        holder = self._holder() if is_blank(stamp) else None
        return stamp if holder is None else (int(holder.revision[:15], 16),)

    def seeds(self) -> list[Row]:
        """Return the entries that the document holds, whatever is in the log."""
        return [self._decode(line) for line in self._read_holder().lines]

    def problems(self) -> list[CorruptRecordError]:
        """Return what is wrong with the log, and with the document's entries that are not in it."""
        try:
            return super().problems() + (self._read_holder().flaws if self.is_blank() else self._unseen())
        except CorruptRecordError as error:
            return [error]

    def _unseen(self) -> list[CorruptRecordError]:
        """The document's entries that were added when the log was the truth already, as far as can be told."""
        holder = self._holder()
        if holder is None:
            return []
        lines = [line for line in self._all_entries(0) if isinstance(line, LogLine)]
        known = {self._kind.mark(line) for line in lines}
        marks = [self._kind.mark(line) for line in self._read_holder().lines if lines and line.seq >= lines[0].seq]
        return [self._unseen_at(self._kind.place(mark)) for mark in marks if mark is not None and mark not in known]

    def _unseen_at(self, place: str) -> CorruptRecordError:
        reason = f"{place}: not seen, for it was added to the document after {self.path} was begun, which counts"
        advice = "append it with fsstate, and let no other program write this session"
        return CorruptRecordError(self._backend.location(self._document), f"{reason}; {advice}")

    def _entries(self, after: int = 0) -> Iterator[LogLine | BadLine]:
        yield from self._all_entries(after)
        if not after:
            self._warn_of_unseen()

    def _warn_of_unseen(self) -> None:
        # The log is read all the same if the document cannot be.
        with contextlib.suppress(FsStateError):
            holder = self._holder()
            if holder is not None and not self.is_blank() and _is_news(self.path, holder.revision):
                for flaw in self._unseen():
                    _log.warning("%s", str(flaw))

    def _all_entries(self, after: int) -> Iterator[LogLine | BadLine]:
        last: LogLine | None = None
        for line in super()._entries(after):
            yield line
            last = line if isinstance(line, LogLine) else last
        if last is None and after:
            last = next((line for line in super()._entries_backwards() if isinstance(line, LogLine)), None)
        yield from (line for line in self._lacking(last) if line.seq > after)

    def _entries_backwards(self) -> Iterator[LogLine | BadLine]:
        lines = super()._entries_backwards()
        last: LogLine | BadLine | None = next(lines, None)
        while isinstance(last, BadLine):
            yield last
            last = next(lines, None)
        yield from reversed(self._lacking(last))
        if last is not None:
            yield last
            yield from lines

    def _lacking(self, last: LogLine | None) -> list[LogLine]:
        """What is to come behind the log's last entry, before any other."""
        if last is None:
            return [] if self._was_begun() else self._read_holder().lines
        if self._kind.beginning.match(last.data) is None:
            return []
        lines = self._read_holder().lines
        return lines[last.seq :] if last in lines[last.seq - 1 : last.seq] else []

    def _was_begun(self) -> bool:
        """Whether a log without entries had any: then a marker stands there. Requires: it has none."""
        if self.is_blank():
            return False
        # A line that a crash cut off at once was nobody's entry; behind a marker it stands farther in.
        first = next(super()._entries(), None)
        return not isinstance(first, BadLine) or first.offset > 0

    def _holder(self) -> Blob | None:
        """The document, if it may hold entries."""
        return _holder(self._backend, self._document)

    def _read_holder(self) -> _Seeds:
        holder = self._holder()
        if holder is None:
            return _NOTHING
        known = self._seeds
        if known.blob is None or known.blob.data != holder.data:
            known = self._seeds = self._read(holder)
        return known

    def _read(self, holder: Blob) -> _Seeds:
        where = self._backend.location(self._document)
        rows, reasons = self._kind.find(codec.decode(holder, where))
        flaws = [CorruptRecordError(where, reason) for reason in reasons]
        for flaw in flaws:
            _log.warning("not as expected: %s", str(flaw))
        lines = [_numbered(seq, self.encode(row)) for seq, row in enumerate(rows, 1)]
        return _Seeds(holder, lines, flaws)


@lru_cache(maxsize=_MOST_LOOKED_AT)
def _looked_at(_path: str, _revision: str) -> list[bool]:
    return []


def _is_news(path: str, revision: str) -> bool:
    """Whether nobody in this process asked this before, of one log and one version of its document."""
    asked = _looked_at(path, revision)
    asked.append(True)
    return len(asked) == 1


def _numbered(seq: int, payload: bytes) -> LogLine:
    return LogLine(seq, b'{"seq":%d,%b' % (seq, payload[1:]))


def _payload(line: LogLine) -> bytes:
    return b"{" + line.data.partition(b",")[2]
