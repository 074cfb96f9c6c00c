"""What follows from a log, computed once: a state that is folded from its entries and kept until the log changes.

- A state is never older than the log was when it was asked for. It is computed anew whenever the log changed by other
  means than an append through its own projection: an editor or `git checkout` may have touched any line.
- An append that was decided on a state saw every entry before it: nobody else's append comes in between.
- A line that cannot be read is skipped with a warning, as in every reading of a log.

All methods may be called from any thread. A store keeps a bounded number of states.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

from fsstate import codec
from fsstate.backends.base import Backend, LogLine, Ref
from fsstate.errors import ConflictError, CorruptRecordError, ValidationError
from fsstate.forks import renew_in_children
from fsstate.journal import Log

__all__ = ["Projection", "Projections", "Row", "Write", "fold_record", "readable"]

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")

# One entry of a log as a dict; its "seq" is the entry's.
Row: TypeAlias = dict[str, Any]
_Stamp: TypeAlias = tuple[int, ...]

# On disk: do not rename. What a row that changes a record says about itself rather than about the record.
_ABOUT_THE_ROW: Final = frozenset(["seq", "update", "at", "head", "delta"])
# Together about as much memory as the logs' entries take: 100,000 messages of 1 KB are 100 MB.
_MOST_ENTRIES: Final = 100_000
_MOST_STATES: Final = 256
# Each attempt fails only because somebody else's append came first.
_ATTEMPTS: Final = 10_000

_log = logging.getLogger("fsstate")


def fold_record(records: dict[str, Row], row: Row) -> Row | None:
    """Apply one row to records by id: `{"id": …}` adds one, `{"update": id, …}` lays its fields over one.

    Returns the record that was added or changed; None for any other row, for an update of an unknown record, and for
    an id that is there already: two copies of a log that were merged by hand hold each record twice.
    """
    changed = row.get("update")
    if isinstance(changed, str):
        record = records.get(changed)
        if record is not None:
            record.update((key, value) for key, value in row.items() if key not in _ABOUT_THE_ROW)
        return record
    name = row.get("id")
    if not isinstance(name, str) or name in records:
        return None
    records[name] = row
    return row


def readable(rows: Iterable[Row], load: Callable[[Row], T]) -> Iterator[T]:
    """What `load` makes of each row. A row that does not fit is skipped with a warning."""
    for row in rows:
        try:
            yield load(row)
        except ValidationError as error:
            _log.warning("skipped: %s", str(error))  # an error kept by a log handler keeps frames and files


class Projections:
    """The states of one store's logs, the latest used ones."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._lock = threading.Lock()
        self._known: OrderedDict[Ref, Projection[Any]] = OrderedDict()
        renew_in_children(self)

    def of(self, log: Log, start: Callable[[], S], fold: Callable[[S, Row], None]) -> Projection[S]:
        """The projection of a log. Requires: `start` and `fold` are the same at every call for this log."""
        with self._lock:
            projection = self._known.get(log.ref)
            if projection is None:
                self._make_room()
                projection = self._known[log.ref] = Projection(self.backend, log, start, fold)
            else:
                self._known.move_to_end(log.ref)
            return projection

    def after_fork(self) -> None:
        """In a forked child: the locks may have been copied while another thread held them."""
        self._lock = threading.Lock()
        self._known = OrderedDict()

    def _make_room(self) -> None:
        entries = sum(projection.size for projection in self._known.values())
        while self._known and (entries > _MOST_ENTRIES or len(self._known) >= _MOST_STATES):
            _, dropped = self._known.popitem(last=False)
            entries -= dropped.size


class Projection(Generic[S]):
    """One log's state."""

    def __init__(self, backend: Backend, log: Log, start: Callable[[], S], fold: Callable[[S, Row], None]) -> None:
        self.log = log
        # How many entries the state was folded from.
        self.size = 0
        self._backend = backend
        self._start = start
        self._fold = fold
        self._deciding = threading.Lock()
        # Guards all that follows. Asked for under a log's lock, so nothing may wait for a log while holding it.
        self._lock = threading.Lock()
        self._state = start()
        self._stamp: _Stamp | None = None
        self._seq = 0  # of the last entry

    def view(self, question: Callable[[S], R]) -> R:
        """Ask the present state. `question` must not keep or change what it is given, nor write to the store."""
        with self._lock:
            self._refresh()
            return question(self._state)

    def is_current(self) -> bool:
        """Whether the state is known without reading the log."""
        return self.current_stamp() is not None

    def current_stamp(self) -> tuple[int, ...] | None:
        """The log's stamp if the state belongs to it, else None."""
        with self._lock:
            known = self._stamp
            return known if known is not None and self._backend.log_stamp(self.log.ref) == known else None

    def append(self, decide: Callable[[S], Sequence[Row]]) -> list[Row]:
        """Append what `decide` says about the state, under the log's lock; return the rows with their seqs.

        `decide` may run several times. What it raises ends the operation; nothing was written then.
        """
        # One at a time: those who decide on the state could not share a flush, and would only overtake each other.
        with self._deciding:
            for _ in range(_ATTEMPTS):
                write = Write(self, lambda last: self._decide(decide, last))
                with contextlib.suppress(_OvertakenError):
                    return write.done(self._backend.append(self.log.ref, write.compose, owner=self.log.owner))
        raise ConflictError(self.log.path)

    def _decide(self, decide: Callable[[S], Sequence[Row]], last: LogLine | None) -> Sequence[Row]:
        with self._lock:
            self._refresh()
            # Others' appends that share this flush are decided already, but cannot be read yet.
            if last is not None and last.seq != self._seq and _is_sound(last):
                raise _OvertakenError
            return decide(self._state)

    def note(self, before: _Stamp, seqs: range, lines: Sequence[bytes]) -> None:
        """Fold an append of ours into the state, if it is all that happened to the log since it bore `before`."""
        added = sum(len(line) + len(f'"seq":{seq},\n') for seq, line in zip(seqs, lines, strict=True))
        with self._lock:
            after = self._backend.log_stamp(self.log.ref)
            if self._stamp != before or after is None or not _only_grew(before, after, added):
                return
            for seq, line in zip(seqs, lines, strict=True):
                self._add({"seq": seq, **codec.decode_line(line, "")})
            self._stamp = after

    def _refresh(self) -> None:
        """Requires: the lock is held."""
        # Before reading: what is appended meanwhile makes the next look read again, rather than go unseen.
        stamp = self._backend.log_stamp(self.log.ref)
        if stamp == self._stamp:
            return
        self._forget()
        try:
            for row in self.log.rows():
                self._add(row)
        except BaseException:
            self._forget()
            raise
        self._stamp = stamp

    def _forget(self) -> None:
        self._state, self._stamp, self._seq, self.size = self._start(), None, 0, 0

    def _add(self, row: Row) -> None:
        self._seq = row["seq"]
        self.size += 1
        self._fold(self._state, row)


class Write:
    """One append to a log with a projection: `compose` for the backend, then `done` with the seqs it gave out."""

    def __init__(self, projection: Projection[Any], decide: Callable[[LogLine | None], Sequence[Row]]) -> None:
        self._projection = projection
        self._decide = decide
        self._rows: Sequence[Row] = ()
        self._lines: list[bytes] = []
        self._before: _Stamp | None = None

    def compose(self, last: LogLine | None) -> list[bytes]:
        """What to append behind `last`. Called under the log's lock."""
        self._rows = self._decide(last)
        self._lines = [self._projection.log.encode(row) for row in self._rows]
        self._before = self._projection.current_stamp()
        return self._lines

    def done(self, seqs: range) -> list[Row]:
        """The rows as they were appended, with their seqs."""
        if self._before is not None:
            self._projection.note(self._before, seqs, self._lines)
        return [{"seq": seq, **row} for seq, row in zip(seqs, self._rows, strict=True)]


class _OvertakenError(Exception):
    """The decision was made on a state that lacks the latest entries. Never leaves this module."""


def _is_sound(line: LogLine) -> bool:
    """Whether the line can be read. One that cannot is nobody's append of this moment."""
    try:
        codec.decode_line(line.data, "")
    except CorruptRecordError:
        return False
    return True


def _only_grew(before: _Stamp, after: _Stamp, added: int) -> bool:
    """Whether a log is the same file, longer by `added` bytes. False where the stamps do not tell."""
    return len(before) > 1 and before[0] == after[0] and after[1] - before[1] == added
