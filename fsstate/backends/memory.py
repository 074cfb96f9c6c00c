"""Records in memory: the `Backend` protocol without files, and the model that the files backend is tested against.

Everything that `fsstate.backends.base` promises holds, save that nothing outlives the process: locks, claims, owners,
seqs and the second run of a change all behave as they do on disk. Changes and confirmations run outside the inner
mutex, so that they may use the backend themselves; only taking again a lock that the caller holds ends in a timeout.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count, filterfalse
from typing import Generic, TypeVar

from fsstate import names
from fsstate.backends.base import (
    LOG,
    TRIM_MARKER,
    Appended,
    BadLine,
    Blob,
    Change,
    Compose,
    Footprint,
    Held,
    LogLine,
    Move,
    Moved,
    Outcome,
    Ref,
    Stored,
    Suffix,
    Survey,
    Unknown,
)
from fsstate.backends.contents import RecentContents
from fsstate.errors import (
    AlreadyExistsError,
    CorruptRecordError,
    FsStateError,
    LockTimeoutError,
    NotFoundError,
    StorageError,
    StoreClosedError,
)
from fsstate.options import StoreOptions

__all__ = ["MemoryBackend"]

V = TypeVar("V")


class _Shelves(Generic[V]):
    """Records by category, so that listing one category does not look at all others. Requires a lock around writes."""

    def __init__(self) -> None:
        self._shelves: dict[str, dict[Ref, V]] = {}

    def get(self, ref: Ref) -> V | None:
        return self._shelves.get(ref.category, {}).get(ref)

    def put(self, ref: Ref, value: V) -> None:
        self._shelves.setdefault(ref.category, {})[ref] = value

    def remove(self, ref: Ref) -> bool:
        shelf = self._shelves.get(ref.category, {})
        existed = shelf.pop(ref, None) is not None
        if existed and not shelf:
            del self._shelves[ref.category]
        return existed

    def discard(self, category: str) -> bool:
        gone = [name for name in self._shelves if _is_within(name, category)]
        for name in gone:
            del self._shelves[name]
        return bool(gone)

    def names(self, category: str, suffix: Suffix) -> list[str]:
        return [ref.name for ref in self._shelves.get(category, ()) if ref.suffix == suffix]

    def categories(self) -> list[str]:
        return list(self._shelves)

    def within(self, category: str) -> list[tuple[Ref, V]]:
        """The records of a category and of all below it."""
        shelves = [shelf for name, shelf in self._shelves.items() if _is_within(name, category)]
        return sorted((item for shelf in shelves for item in shelf.items()), key=lambda item: item[0])

    def move(self, category: str, to: str) -> None:
        """Give a category with all below it another place."""
        for name in [name for name in self._shelves if _is_within(name, category)]:
            moved = to + name[len(category) :]
            self._shelves[moved] = {
                Ref(moved, ref.name, ref.suffix): value for ref, value in self._shelves.pop(name).items()
            }

    def all(self) -> list[tuple[Ref, V]]:
        return [item for shelf in self._shelves.values() for item in shelf.items()]


class _Log:
    """A log's entries. They are only ever added to, so that a reader of the first n needs no lock."""

    __slots__ = ("born", "last_seq", "lines", "size")

    def __init__(self, lines: list[LogLine], last_seq: int, born: int) -> None:
        self.lines = lines
        # Kept apart from the lines: a trim of everything must not make the seqs begin anew.
        self.last_seq = last_seq
        # No two logs have the same, and a log's bytes are never less than they were: together they are its stamp.
        self.born = born
        # What stands for trimmed entries counts, too: only a log that never had any has no bytes.
        self.size = _size_of(lines) or (len(TRIM_MARKER) if last_seq else 0)


class _Lock:
    """A record lock in somebody's hands."""

    __slots__ = ("_release", "_released", "ref", "thread")

    def __init__(self, ref: Ref, release: Callable[[Ref], None]) -> None:
        self.ref = ref
        self.thread: int | None = None
        self._release = release
        self._released = False

    def bind_to_thread(self) -> None:
        self.thread = threading.get_ident()

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._release(self.ref)


class MemoryBackend:
    """A `Backend` that keeps its records in memory."""

    def __init__(self, options: StoreOptions | None = None) -> None:
        self.options = (options or StoreOptions()).checked()
        self.contents = RecentContents()
        # Guards all that follows and tells the waiting that something was given back. Never held while a callback runs.
        self._state = threading.Condition()
        self._documents: _Shelves[Blob] = _Shelves()
        self._logs: _Shelves[_Log] = _Shelves()
        self._locked: dict[Ref, _Lock] = {}
        self._claimed: set[Ref] = set()
        self._deleting: set[Ref] = set()
        self._owned_writes: Counter[Ref] = Counter()
        self._stamps = count(1)
        self._closed = False

    # Documents

    def read(self, ref: Ref) -> Blob | None:
        """The document, or None when absent."""
        self._check_open()
        return self._documents.get(ref)

    def peek(self, ref: Ref) -> Blob | Unknown | None:
        """The document, always known here."""
        return self.read(ref)

    def change(
        self,
        ref: Ref,
        change: Change,
        *,
        held: Held | None = None,
        owner: Ref | None = None,
        timeout: float | None = None,
    ) -> Blob | None:
        """Read, change and write one document under its lock (or under `held`). Returns what it holds afterwards."""
        with self._owned(owner), self._exclusive(ref, timeout) if held is None else nullcontext():
            if held is not None and self._locked.get(ref) is not held:
                raise StorageError("write without its lock", self.location(ref), errno.ENOLCK)
            while True:
                before = self.read(ref)
                data = change(before)
                with self._state:
                    if self._documents.get(ref) is before:
                        return self._store(ref, before, data)

    def write_unlocked(self, ref: Ref, data: bytes | None) -> None:
        """Write or delete (None) a document without its lock, as a person with an editor does. For tests."""
        self._check_open()
        with self._state:
            self._store(ref, None, data)

    def change_many(self, changes: Sequence[tuple[Ref, Change]], *, timeout: float | None = None) -> list[Outcome]:
        """`change` for each."""
        self._check_open()
        return [self._outcome(ref, change, timeout) for ref, change in changes]

    def names(self, category: str, suffix: Suffix, refused: list[CorruptRecordError] | None = None) -> list[str]:
        """The names of a category's records of one kind, sorted. Nothing that would be refused can be here."""
        self._check_open()
        with self._state:
            found = self._documents.names(category, suffix) + self._logs.names(category, suffix)
        return sorted(filterfalse(names.is_copy, found))

    def copies(self, category: str, refused: list[StorageError], *, below: bool) -> Iterator[Ref]:
        """The conflict copies in a category, and in all `below` it if asked for."""
        self._check_open()
        with self._state:
            found = [ref for ref, _ in (self._documents.within(category) if category else self._documents.all())]
        # What begins with a dot is fsstate's own.
        shown = (ref for ref in found if names.is_copy(ref.name) and not ref.category.startswith("."))
        return (ref for ref in shown if below or ref.category == category)

    def categories(self, below: str = "") -> list[str]:
        """The names of the categories directly below `below` (the top level when empty), sorted."""
        self._check_open()
        with self._state:
            known = self._documents.categories() + self._logs.categories()
        prefix = f"{below}/" if below else ""
        found = {name[len(prefix) :].partition("/")[0] for name in known if name.startswith(prefix)}
        # What begins with a dot is fsstate's own.
        return sorted(name for name in found if not name.startswith("."))

    def has_any(self, category: str) -> bool:
        """Whether anything stands in a category or below."""
        self._check_open()
        with self._state:
            return bool(self._documents.within(category) or self._logs.within(category))

    def survey(
        self,
        category: str,
        suffix: Suffix,
        known: Mapping[int, bytes],
        *,
        belongings: bool,
        documents: bool = False,
    ) -> Survey:
        """Everything counts as changed: asking each costs nothing here."""
        return Survey(dict.fromkeys(self.names(category, suffix)), set(), set(), {})

    def look(self, ref: Ref) -> tuple[int, ...] | None:
        """A log's stamp, or a number for what a document holds; None when there is no such record."""
        blob = self.read(ref)
        return self.log_stamp(ref) if blob is None else (int(blob.revision, 16),)

    def lock(self, ref: Ref, *, timeout: float | None = None) -> Held:
        """Take a document's lock. Raises LockTimeoutError after `timeout` seconds (None: the options' default)."""
        with self._state:
            self._refuse_own(ref)
            self._wait_until(lambda: ref not in self._locked, ref, timeout)
            return self._take(ref)

    def is_locked(self, ref: Ref) -> bool:
        """Whether anybody holds the record's lock."""
        self._check_open()
        return ref in self._locked

    # Logs

    def append(self, ref: Ref, compose: Compose, *, owner: Ref | None = None) -> range:
        """Append what `compose` says. Returns the seqs given out."""
        with self._owned(owner), self._exclusive(ref):
            return self._append(ref, compose)

    def append_many(self, ref: Ref, composes: Sequence[Compose], *, owner: Ref | None = None) -> list[Appended]:
        """`append` for each in order. One that raises does not stop the others."""
        self._check_open()
        return [self._append_outcome(ref, compose, owner) for compose in composes]

    def entries(self, ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        """The entries with a seq greater than `after`, as they stand now."""
        lines, end = self._lines(ref)
        start = bisect_right(lines, after, hi=end, key=_seq_of)
        return (lines[position] for position in range(start, end))

    def entries_backwards(self, ref: Ref) -> Iterator[LogLine | BadLine]:
        """The entries as they stand now, from the last to the first."""
        lines, end = self._lines(ref)
        return (lines[position] for position in range(end - 1, -1, -1))

    def log_stamp(self, ref: Ref) -> tuple[int, ...] | None:
        """A value that changes whenever the log does; None when it does not exist."""
        self._check_open()
        log = self._logs.get(ref)
        return None if log is None else (log.born, log.size)

    def checksum(self, ref: Ref, size: int) -> int:
        """Always the same: what an entry was here, it stays, as long as the log's stamp begins so."""
        return 0

    def trim(
        self,
        ref: Ref,
        before: int,
        *,
        owner: Ref | None = None,
        to: Ref | None = None,
        confirm: Callable[[], bool] | None = None,
    ) -> int:
        """Remove the entries with a seq lower than `before`. Returns how many went: 0 of a log that does not exist."""
        self._check_open()
        if self._logs.get(ref) is None:
            return 0
        with self._owned(owner), self._exclusive(ref):
            if confirm is not None and not confirm():
                return 0
            with self._state:
                lines, end = self._lines(ref)
                gone = bisect_right(lines, before - 1, hi=end, key=_seq_of)
                if gone and to is not None:
                    self._logs.put(to, self._log_of(lines[:gone], lines[gone - 1].seq))
                if gone:
                    # A new list: readers go on with the one they began.
                    self._logs.put(ref, self._log_of(lines[gone:], lines[-1].seq))
                return gone

    def delete_log(self, ref: Ref) -> bool:
        """Delete a log. Returns whether it existed."""
        with self._exclusive(ref), self._state:
            return self._logs.remove(ref)

    @contextmanager
    def claim_log(self, ref: Ref, *, owner: Ref | None = None) -> Generator[None]:
        """Mark a log as being written by the caller until the block ends. Waits while somebody else has claimed it."""
        with self._owned(owner), self._state:
            self._wait_until(lambda: ref not in self._claimed, ref)
            self._claimed.add(ref)
        try:
            yield
        finally:
            with self._state:
                self._claimed.discard(ref)
                self._state.notify_all()

    def is_claimed(self, ref: Ref) -> bool:
        """Whether a living writer has claimed the log."""
        self._check_open()
        return ref in self._claimed

    # Whole categories

    def delete_with(
        self, ref: Ref, belongings: str, confirm: Callable[[], bool], *, timeout: float | None = None
    ) -> bool:
        """Delete a document and the category of what belongs to it, as one, if `confirm` says True."""
        return self._end(ref, belongings, confirm, timeout, None)

    def _end(
        self, ref: Ref, belongings: str | None, confirm: Callable[[], bool], timeout: float | None, to: Ref | None
    ) -> bool:
        with self._state:
            # Everything is waited for at once and then taken at once: a writer that has claimed one of the logs must
            # not find the record closed to it while we wait for that very claim to end.
            self._refuse_own(ref)
            self._wait_until(lambda: not self._in_use(ref, belongings), ref, timeout)
            held = self._take(ref)
            self._deleting.add(ref)
        try:
            blob = self._documents.get(ref)
            if blob is None or not confirm():
                return False
            with self._state:
                self._move(ref, belongings, to, blob)
            return True
        finally:
            with self._state:
                self._deleting.discard(ref)
            held.release()

    def _move(self, ref: Ref, belongings: str | None, to: Ref | None, blob: Blob) -> None:
        """Requires: `_state` is held."""
        self._documents.remove(ref)
        if to is not None:
            self._documents.put(to, blob)
        if belongings is None:
            return
        if to is None:
            self._discard(belongings)
        else:
            self._documents.move(belongings, to.belongings)
            self._logs.move(belongings, to.belongings)

    def footprint(self, ref: Ref, belongings: str | None) -> Footprint | None:
        """What a document takes with a category of what belongs to it; None when it is absent."""
        self._check_open()
        with self._state:
            blob = self._documents.get(ref)
            documents = [] if belongings is None else self._documents.within(belongings)
            logs = [] if belongings is None else self._logs.within(belongings)
        if blob is None:
            return None
        size = len(blob.data) + sum(len(each.data) for _, each in documents) + sum(log.size for _, log in logs)
        stamps = [(ref, each.revision) for ref, each in documents], [(ref, log.born, log.size) for ref, log in logs]
        mark = hashlib.blake2b(repr((blob.revision, stamps)).encode(), digest_size=12, usedforsecurity=False).digest()
        return Footprint(size, mark, bool(documents or logs))

    def move_many(self, moves: Sequence[Move], *, timeout: float | None = None) -> list[Moved]:
        """`delete_with` for each, or as much of it as the move says."""
        self._check_open()
        return [self._moved(move, timeout) for move in moves]

    def _moved(self, move: Move, timeout: float | None) -> Moved:
        touched = False

        def confirm() -> bool:
            nonlocal touched
            footprint = self.footprint(move.ref, move.belongings)
            touched = footprint is None or move.mark not in (None, footprint.mark)
            return not touched

        try:
            gone = self._end(move.ref, move.belongings, confirm, timeout, move.to)
        except FsStateError as error:
            return error
        return None if touched else gone

    def put_back(self, source: Ref, target: Ref, *, owner: Ref | None = None) -> None:
        """Put a document, with what belongs to it, or the entries of a log, where they were taken from."""
        with self._owned(owner), self._exclusive(target), self._state:
            if source.suffix == LOG:
                self._prepend(source, target)
                return
            blob = self._documents.get(source)
            if blob is None:
                raise NotFoundError(self.location(source))
            if self._documents.get(target) is not None:
                raise AlreadyExistsError(self.location(target))
            self._discard(target.belongings)
            self._move(source, source.belongings, target, blob)

    def _prepend(self, source: Ref, target: Ref) -> None:
        kept, log = self._logs.get(source), self._logs.get(target)
        if kept is None:
            raise NotFoundError(self.location(source))
        lines, last_seq = ([], 0) if log is None else (log.lines, log.last_seq)
        if lines and lines[0].seq <= kept.last_seq:
            message = f"{self.location(target)} begins with entry {lines[0].seq}"
            raise AlreadyExistsError(self.location(target), f"{message}; restore what was trimmed last first")
        self._logs.put(target, self._log_of([*kept.lines, *lines], max(kept.last_seq, last_seq)))
        self._logs.remove(source)

    def discard(self, category: str) -> bool:
        """Remove a category with all that is in it. Returns whether it existed."""
        self._check_open()
        with self._state:
            return self._discard(category)

    def prepare(self) -> None:
        """Nothing is missing here."""
        self._check_open()

    def cache(self, name: str, schema: str) -> None:
        """None: there is nothing here that would be slower to ask than a cache."""
        self._check_open()

    def inventory(self, refused: list[StorageError]) -> Iterator[Stored]:
        """All documents and logs by category. Nothing else is kept here."""
        self._check_open()
        found: dict[str, list[tuple[str, int]]] = {}
        with self._state:
            sizes = [(ref, len(blob.data)) for ref, blob in self._documents.all()]
            sizes += [(ref, log.size) for ref, log in self._logs.all()]
        for ref, size in sizes:
            found.setdefault(ref.category, []).append((ref.name + ref.suffix, size))
        return iter([Stored(category, found[category]) for category in sorted(found)])

    def upkeep(self) -> None:
        """None: there are no files that could be damaged."""
        self._check_open()

    def location(self, ref: Ref) -> str:
        """The record's address: there is no file."""
        return f"memory:{ref}"

    def close(self) -> None:
        """Forget nothing, but refuse all later calls. Who waits for a lock is told so."""
        with self._state:
            self._closed = True
            self._state.notify_all()

    # Inside

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the store was closed")

    def _wait_until(self, free: Callable[[], bool], ref: Ref, timeout: float | None = None) -> None:
        """Requires: `_state` is held."""
        seconds = self.options.lock_timeout if timeout is None else timeout
        if not self._state.wait_for(lambda: self._closed or free(), seconds):
            raise LockTimeoutError(self.location(ref), seconds)
        self._check_open()

    def _refuse_own(self, ref: Ref) -> None:
        """Requires: `_state` is held."""
        held = self._locked.get(ref)
        if held is not None and held.thread == threading.get_ident():
            hint = "this thread holds the lock itself; change the record inside its edit block, or after it"
            raise LockTimeoutError(self.location(ref), 0, hint)

    def _take(self, ref: Ref) -> _Lock:
        """Requires: `_state` is held, and the lock is free."""
        held = self._locked[ref] = _Lock(ref, self._unlock)
        return held

    def _unlock(self, ref: Ref) -> None:
        with self._state:
            self._locked.pop(ref, None)
            self._state.notify_all()

    @contextmanager
    def _exclusive(self, ref: Ref, timeout: float | None = None) -> Generator[None]:
        held = self.lock(ref, timeout=timeout)
        try:
            yield
        finally:
            held.release()

    def _owned(self, owner: Ref | None) -> AbstractContextManager[None]:
        self._check_open()
        return nullcontext() if owner is None else self._owned_write(owner)

    @contextmanager
    def _owned_write(self, owner: Ref) -> Generator[None]:
        with self._state:
            self._wait_until(lambda: owner not in self._deleting, owner)
            if self._documents.get(owner) is None:
                raise NotFoundError(self.location(owner))
            self._owned_writes[owner] += 1
        try:
            yield
        finally:
            with self._state:
                self._owned_writes[owner] -= 1
                if not self._owned_writes[owner]:
                    del self._owned_writes[owner]
                self._state.notify_all()

    def _store(self, ref: Ref, before: Blob | None, data: bytes | None) -> Blob | None:
        if data is None:
            self._documents.remove(ref)
            return None
        if before is not None and before.data == data:
            return before
        after = Blob(data)
        self._documents.put(ref, after)
        return after

    def _outcome(self, ref: Ref, change: Change, timeout: float | None) -> Outcome:
        try:
            return self.change(ref, change, timeout=timeout)
        except Exception as error:  # noqa: BLE001 - belongs to this document alone
            return error

    def _append(self, ref: Ref, compose: Compose) -> range:
        while True:
            log = self._logs.get(ref)
            objects = compose(log.lines[-1] if log is not None and log.lines else None)
            with self._state:
                # A category is discarded without its records' locks.
                if self._logs.get(ref) is log:
                    return self._extend(ref, log or self._log_of([], 0), objects)

    def _extend(self, ref: Ref, log: _Log, objects: Sequence[bytes]) -> range:
        seqs = range(log.last_seq + 1, log.last_seq + 1 + len(objects))
        added = [LogLine(seq, _with_seq(seq, data)) for seq, data in zip(seqs, objects, strict=True)]
        if added:
            log.lines.extend(added)
            log.last_seq, log.size = added[-1].seq, log.size + _size_of(added)
            self._logs.put(ref, log)
        return seqs

    def _append_outcome(self, ref: Ref, compose: Compose, owner: Ref | None) -> Appended:
        try:
            return self.append(ref, compose, owner=owner)
        except Exception as error:  # noqa: BLE001 - belongs to this caller alone
            return error

    def _log_of(self, lines: list[LogLine], last_seq: int) -> _Log:
        return _Log(lines, last_seq, next(self._stamps))

    def _lines(self, ref: Ref) -> tuple[list[LogLine], int]:
        self._check_open()
        log = self._logs.get(ref)
        return ([], 0) if log is None else (log.lines, len(log.lines))

    def _in_use(self, ref: Ref, belongings: str | None) -> bool:
        claimed = belongings is not None and any(_is_within(log.category, belongings) for log in self._claimed)
        return claimed or ref in self._locked or self._owned_writes[ref] > 0

    def _discard(self, category: str) -> bool:
        documents, logs = self._documents.discard(category), self._logs.discard(category)
        return documents or logs


def _size_of(lines: Iterable[LogLine]) -> int:
    """The bytes that the lines would take in a file."""
    return sum(len(line.data) + 1 for line in lines)


def _seq_of(line: LogLine) -> int:
    return line.seq


def _is_within(category: str, above: str) -> bool:
    return category == above or category.startswith(f"{above}/")


def _with_seq(seq: int, data: bytes) -> bytes:
    """`{"kind":…}` becomes `{"seq":1,"kind":…}`."""
    rest = data[1:]
    return b'{"seq":%d' % seq + (rest if rest == b"}" else b"," + rest)
