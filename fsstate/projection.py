"""What follows from a log, computed once: a state that is folded from its entries and kept until the log changes.

- A state is never older than the log was when it was asked for. Where others appended to the log, what is new is
  folded. Where anything else happened to it, all is read anew: an editor or `git checkout` may have touched any line.
- Others only appended if it is the same file, longer by just the lines behind the last entries that are known, and
  these (4 KB of them) stand there unchanged. What cannot be told from that: an edit farther up that keeps the file (or
  hits upon its inode number) and its length, and an append after it before the log is looked at again. So a state is
  never extended for longer than ten seconds, or a hundred times what reading all takes: then all is read anew, and
  what such an edit changed shows.
- An append that was decided on a state saw every entry before it: nobody else's append comes in between.
- A line that cannot be read is skipped with a warning, as in every reading of a log.

All methods may be called from any thread. A store keeps a bounded number of states.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeAlias, TypeVar

from fsstate import codec
from fsstate.backends.base import Backend, BadLine, LogLine, Ref
from fsstate.errors import ConflictError, CorruptRecordError, StorageError, ValidationError
from fsstate.forks import renew_in_children
from fsstate.journal import Log

__all__ = ["Projection", "Projections", "Row", "Write", "exactly", "fold_record", "is_longer", "readable"]

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")

# One entry of a log as a dict; its "seq" is the entry's.
Row: TypeAlias = dict[str, Any]
_Stamp: TypeAlias = tuple[int, ...]
_Entries: TypeAlias = tuple[LogLine, ...]

# On disk: do not rename. What a row that changes a record says about itself rather than about the record.
_ABOUT_THE_ROW: Final = frozenset(["seq", "update", "at", "head", "delta"])
# Together about as much memory as the logs' entries take: 100,000 messages of 1 KB are 100 MB.
_MOST_ENTRIES: Final = 100_000
_MOST_STATES: Final = 256
# Each attempt fails only because somebody else's append came first.
_ATTEMPTS: Final = 10_000
# As many bytes of entries as the backend reads anyway to find where the new ones begin.
_WINDOW: Final = 4 * 1024
_PATIENCE: Final = 10.0
# At most this share of the time goes into reading anew what was extended.
_SHARE: Final = 0.01

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

    def __init__(self, backend: Backend, *, patience: float = _PATIENCE) -> None:
        self.backend = backend
        self._patience = patience
        self._lock = threading.Lock()
        self._known: OrderedDict[Ref, Projection[Any]] = OrderedDict()
        renew_in_children(self)

    def of(self, log: Log, start: Callable[[], S], fold: Callable[[S, Row], None]) -> Projection[S]:
        """The projection of a log. Requires: `start` and `fold` are the same at every call for this log."""
        with self._lock:
            projection = self._known.get(log.ref)
            if projection is None:
                self._make_room()
                projection = self._known[log.ref] = Projection(self.backend, log, start, fold, patience=self._patience)
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

    def __init__(
        self,
        backend: Backend,
        log: Log,
        start: Callable[[], S],
        fold: Callable[[S, Row], None],
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self.log = log
        # How many entries the state was folded from.
        self.size = 0
        self._backend = backend
        self._start = start
        self._fold = fold
        self._patience = patience
        self._deciding = threading.Lock()
        # Guards all that follows. Asked for under a log's lock, so nothing may wait for a log while holding it.
        self._lock = threading.Lock()
        self._state = start()
        self._stamp: _Stamp | None = None
        self._seq = 0  # of the last entry
        # The last entries as they stand in the log. Empty: what comes behind them cannot be told.
        self._end: _Entries = ()
        # For how many seconds a state may be extended, and when one that was must be read anew.
        self._trust_for = patience
        self._due = math.inf

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
            if known is None or self._is_due():
                return None
            return known if self._backend.log_stamp(self.log.ref) == known else None

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
            try:
                after = self._backend.log_stamp(self.log.ref)
            except StorageError:
                # What was appended is there all the same; the next look reads it.
                return
            if self._stamp != before or after is None or not _only_grew(before, after, added):
                return
            new = [LogLine(seq, b'{"seq":%d,%b' % (seq, line[1:])) for seq, line in zip(seqs, lines, strict=True)]
            self._extend(new, after)

    def _refresh(self) -> None:
        """Requires: the lock is held."""
        # Before reading: what is appended meanwhile makes the next look read again, rather than go unseen.
        stamp = self._backend.log_stamp(self.log.ref)
        if self._is_due() or not (stamp == self._stamp or self._catch_up(stamp)):
            self._read_anew(stamp)

    def _is_due(self) -> bool:
        return time.monotonic() >= self._due

    def _catch_up(self, stamp: _Stamp | None) -> bool:
        """Fold what was appended since, if that is all that happened to the log."""
        new = [] if stamp is None else self._new_entries(stamp)
        if stamp is None or not new:
            return False
        with contextlib.suppress(CorruptRecordError):
            self._extend(new, stamp)
            self._due = min(self._due, time.monotonic() + self._trust_for)
            return True
        return False

    def _new_entries(self, stamp: _Stamp) -> list[LogLine]:
        """The entries behind those that are known; none where more than an append may have happened."""
        before, end = self._stamp, self._end
        if before is None or not is_longer(before, stamp) or not end or end[-1].seq != self._seq:
            return []
        lines = self._backend.entries(self.log.ref, after=end[0].seq - 1)
        if tuple(islice(lines, len(end))) != end:
            return []
        new = exactly(stamp[1] - before[1], lines)
        # It may have been replaced before it was opened.
        now = self._backend.log_stamp(self.log.ref)
        return new if now is not None and now[0] == stamp[0] else []

    def _extend(self, new: Sequence[LogLine], stamp: _Stamp) -> None:
        """Raises CorruptRecordError, and changes nothing, if one of the entries cannot be read."""
        rows = [codec.decode_line(line.data, "") for line in new]
        end = _last(reversed((*self._end, *new))) if self._end else ()
        self._fold_all(rows, stamp, end)

    def _read_anew(self, stamp: _Stamp | None) -> None:
        began = time.monotonic()
        self._forget()
        # Read first: if an edit comes in between, what is compared next time is what the state lacks.
        end = self._read_end(stamp)
        self._fold_all(self.log.rows(), stamp, end)
        self._trust_for = max(self._patience, (time.monotonic() - began) / _SHARE)

    def _read_end(self, stamp: _Stamp | None) -> _Entries:
        """The log's last entries; none if they are not those that it had when it bore the stamp."""
        end = _last(self._backend.entries_backwards(self.log.ref))
        return end if self._backend.log_stamp(self.log.ref) == stamp else ()

    def _fold_all(self, rows: Iterable[Row], stamp: _Stamp | None, end: _Entries) -> None:
        try:
            for row in rows:
                self._seq = row["seq"]
                self.size += 1
                self._fold(self._state, row)
        except BaseException:
            self._forget()
            raise
        self._stamp, self._end = stamp, end

    def _forget(self) -> None:
        self._state, self._stamp, self._seq, self.size = self._start(), None, 0, 0
        self._end, self._due = (), math.inf


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
    return is_longer(before, after) and after[1] - before[1] == added


def is_longer(before: _Stamp, after: _Stamp) -> bool:
    """Whether a log's stamps are of the same file, which is longer now. False where they do not tell."""
    return len(before) > 1 and before[0] == after[0] and after[1] > before[1]


def exactly(size: int, lines: Iterable[LogLine | BadLine]) -> list[LogLine]:
    """The first entries of `lines`, which take `size` bytes with their newlines; none if none do."""
    found: list[LogLine] = []
    for line in lines:
        if isinstance(line, BadLine):
            return []
        found.append(line)
        size -= len(line.data) + 1
        if size <= 0:
            break
    return [] if size else found


def _last(backwards: Iterable[LogLine | BadLine]) -> _Entries:
    """Of lines from the last to the first, the sound ones that fit into the window, and at least one; in file order."""
    found: list[LogLine] = []
    left = _WINDOW
    for line in backwards:
        left -= len(line.data)
        if isinstance(line, BadLine) or (found and left < 0):
            break
        found.append(line)
    return tuple(found[::-1])
