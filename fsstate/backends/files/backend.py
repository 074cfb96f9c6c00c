"""The files backend, put together. See the package's own words for its rooms, and `Backend` for what it promises."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from fsstate.backends.base import (
    LOG,
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
from fsstate.backends.files import log_lines, misnamed
from fsstate.backends.files.copies import copies
from fsstate.backends.files.deletion import Belongings
from fsstate.backends.files.descriptors import on_shortage
from fsstate.backends.files.documents import Documents
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.footprints import footprint_of
from fsstate.backends.files.inventory import inventory
from fsstate.backends.files.locks import HeldLocks, RecordLock, RecordLocks
from fsstate.backends.files.logs import LogFile
from fsstate.backends.files.mark import FORMAT, Mark
from fsstate.backends.files.moving import Moves
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, open_regular, refusals
from fsstate.errors import CorruptRecordError, FsStateError, StorageError, StoreClosedError
from fsstate.forks import renew_in_children
from fsstate.options import StoreOptions

if TYPE_CHECKING:
    from fsstate.backends.files.cache import CacheFile
    from fsstate.backends.files.upkeep import FileUpkeep

__all__ = ["FORMAT", "FileBackend"]

_KEPT_LOGS: Final = 32
# Documents that are changed at once by change_many: each takes two descriptors.
_TOGETHER: Final = 64
# Documents that are moved at once: each takes one descriptor, and each round a few flushes.
_MOVED_TOGETHER: Final = 128


class FileBackend:
    """Records as files below `root`. Cheap to make: reads `.fsstate/store.json` and writes nothing.

    Raises NewerFormatError when a newer fsstate wrote there, StorageError when `root` is no directory.
    """

    def __init__(
        self, root: str | os.PathLike[str], options: StoreOptions | None = None, *, unchecked: bool = False
    ) -> None:
        """With `unchecked` it opens whatever the mark says; every write is refused then as opening would be."""
        self.root: str = os.path.abspath(root)
        self.options = (options or StoreOptions()).checked()
        self.contents = RecentContents()
        self._closed = False
        guard = _require_safe if self.options.file_system == "safe" else None
        self._tree = Tree(self.root, self.options, guard)
        self._locks = RecordLocks(self._tree, self.options.file_mode)
        mark = Mark(self._tree, self.options)
        self._staging = Staging(self._tree, self.options, mark.make)
        self._documents = Documents(self._tree, self._staging, self.options)
        self._belongings = Belongings(self._tree, self._staging, self._documents, self.options)
        self._moves = Moves(self._tree, self._documents, self._belongings)
        self._mutex = threading.Lock()
        self._logs: OrderedDict[Ref, LogFile] = OrderedDict()
        # Inode, and how far a log was found sound: the next read looks no further back.
        self._sound: dict[Ref, tuple[int, int]] = {}
        self._caches: dict[str, CacheFile] = {}
        # Not in the store's keeping: a claim must be found however many other logs are written meanwhile.
        self._claims: dict[Ref, LogFile] = {}
        if not unchecked:
            mark.check()
        renew_in_children(self)
        self._shortage = on_shortage(self._let_go)
        # At the latest when the interpreter ends, so that short programs leave no lock files behind.
        self._finalizer = weakref.finalize(self, _release, self._logs, self._locks, self._staging)

    def __repr__(self) -> str:
        return f"FileBackend({self.root!r})"

    # -- documents

    def read(self, ref: Ref) -> Blob | None:
        self._require_open()
        return self._documents.read(ref)

    def peek(self, ref: Ref) -> Blob | Unknown | None:
        self._require_open()
        return self._documents.peek(ref)

    def change(
        self,
        ref: Ref,
        change: Change,
        *,
        held: Held | None = None,
        owner: Ref | None = None,
        timeout: float | None = None,
    ) -> Blob | None:
        self._require_open()
        if owner is not None:
            with self._owned(ref, held, timeout), self._belongings.hold(owner):
                return self._documents.change(ref, change, timeout)
        with self._owned(ref, held, timeout):
            return self._documents.change(ref, change, timeout)

    def _owned(self, ref: Ref, held: Held | None, timeout: float | None) -> AbstractContextManager[object]:
        """The record's lock for the length of a block, or nothing when it is held already."""
        if held is None:
            lock = self._locks.acquire(ref, self._wait(timeout))
            lock.bind_to_thread()
            return lock
        if not isinstance(held, RecordLock) or held.ref != ref or not held.is_held:
            raise StorageError("write without its lock (released, or taken before a fork)", str(ref), errno.ENOLCK)
        return contextlib.nullcontext()

    def change_many(self, changes: Sequence[tuple[Ref, Change]], *, timeout: float | None = None) -> list[Outcome]:
        self._require_open()
        wait = self._wait(timeout)
        outcomes: list[Outcome] = [None] * len(changes)
        waiting = [(index, ref, change) for index, (ref, change) in enumerate(changes)]
        while waiting:
            # One record never twice in a round.
            together: dict[Ref, tuple[int, Ref, Change]] = {}
            later: list[tuple[int, Ref, Change]] = []
            for each in waiting:
                if each[1] in together or len(together) >= _TOGETHER:
                    later.append(each)
                else:
                    together[each[1]] = each
            self._change_together(together, outcomes, wait)
            waiting = later
        return outcomes

    def _change_together(
        self, changes: dict[Ref, tuple[int, Ref, Change]], outcomes: list[Outcome], wait: float
    ) -> None:
        with HeldLocks() as locks:
            locked: list[tuple[int, Ref, Change]] = []
            # In one order everywhere, so that two callers never wait for each other.
            for ref in sorted(changes):
                try:
                    locks.append(self._locks.acquire(ref, wait))
                except FsStateError as error:
                    outcomes[changes[ref][0]] = error
                else:
                    locked.append(changes[ref])
            self._documents.change_many(sorted(locked), outcomes, wait)

    def names(self, category: str, suffix: Suffix, refused: list[CorruptRecordError] | None = None) -> list[str]:
        self._require_open()
        directory = self._tree.find(category)
        if directory is None:
            return []
        found = [name.removesuffix(suffix) for name in directory.files() if name.endswith(suffix)]
        return misnamed.sift(found, directory.path, suffix, refused)

    def copies(self, category: str, refused: list[StorageError], *, below: bool) -> Iterator[Ref]:
        self._require_open()
        return copies(self._tree, category, refused, below=below)

    def categories(self, below: str = "") -> list[str]:
        self._require_open()
        directory = self._tree.find(below)
        if directory is None:
            return []
        return misnamed.sift(directory.folders(), directory.path)

    def has_any(self, category: str) -> bool:
        self._require_open()
        directory = self._tree.find(category)
        if directory is None:
            return False
        with directory.entries() as entries:
            return next(entries, None) is not None

    def survey(
        self,
        category: str,
        suffix: Suffix,
        known: Mapping[int, bytes],
        *,
        belongings: bool,
        documents: bool = False,
    ) -> Survey:
        self._require_open()
        # Imported at its first use: a program that lists nothing does without.
        from fsstate.backends.files.survey import survey

        return survey(self._tree.find(category), suffix, known, belongings=belongings, documents=documents)

    def look(self, ref: Ref) -> tuple[int, ...] | None:
        now_ns = time.time_ns()
        signature = self.log_stamp(ref)
        if signature is None or Signature(*signature).is_settled(now_ns):
            return signature
        # It may change again without showing it: not the same as any other look.
        return *signature, now_ns

    def lock(self, ref: Ref, *, timeout: float | None = None) -> RecordLock:
        self._require_open()
        return self._locks.acquire(ref, self._wait(timeout))

    def is_locked(self, ref: Ref) -> bool:
        self._require_open()
        return self._locks.is_locked(ref)

    # -- logs

    def append(self, ref: Ref, compose: Compose, *, owner: Ref | None = None) -> range:
        outcome = self.append_many(ref, [compose], owner=owner)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def append_many(self, ref: Ref, composes: Sequence[Compose], *, owner: Ref | None = None) -> list[Appended]:
        self._require_open()
        return self._log(ref).append(composes, owner)

    def entries(self, ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        with self._opened(ref) as (fd, size, sound):
            yield from log_lines.entries(fd, size, sound, after)

    def entries_backwards(self, ref: Ref) -> Iterator[LogLine | BadLine]:
        with self._opened(ref) as (fd, size, sound):
            yield from log_lines.entries_backwards(fd, size, sound)

    def log_stamp(self, ref: Ref) -> tuple[int, ...] | None:
        self._require_open()
        path = self._tree.path(str(ref))
        try:
            return Signature.of(os.stat(path, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError.of("look at", path, error) from error

    def checksum(self, ref: Ref, size: int) -> int:
        with self._opened(ref) as (fd, _, _):
            # Deleted meanwhile, it is read as one that is empty.
            return log_lines.checksum(fd, size) if fd >= 0 else 0

    def trim(
        self,
        ref: Ref,
        before: int,
        *,
        owner: Ref | None = None,
        to: Ref | None = None,
        confirm: Callable[[], bool] | None = None,
    ) -> int:
        self._require_open()
        return self._log(ref).trim(before, owner, to, confirm)

    def delete_log(self, ref: Ref) -> bool:
        self._require_open()
        return self._log(ref).delete()

    def replace_log(self, ref: Ref, change: Callable[[bytes], bytes], *, owner: Ref | None = None) -> None:
        """Replace a log by what `change` makes of its bytes (none: it may be absent), under its lock; durable.

        Appends go on behind the highest seq that either had: where the old one's is higher, a marker is put at the end
        of the new one. What `change` raises ends the operation. Not part of `Backend`: this is for bytes that a file
        held once.
        """
        self._require_open()
        self._log(ref).replace(change, owner)

    @contextlib.contextmanager
    def _claiming(self, ref: Ref, owner: Ref | None) -> Generator[None]:
        log = self._log(ref)
        with log.claim(owner):
            self._claims[ref] = log
            try:
                yield
            finally:
                del self._claims[ref]

    def claim_log(self, ref: Ref, *, owner: Ref | None = None) -> AbstractContextManager[None]:
        self._require_open()
        return self._claiming(ref, owner)

    def is_claimed(self, ref: Ref) -> bool:
        self._require_open()
        if ref in self._claims:
            return True
        directory = self._tree.find(ref.category)
        file = None if directory is None else Lockable.open_file(directory, ref.name + ref.suffix, os.O_RDONLY)
        if file is None:
            return False
        with contextlib.closing(file):
            return file.is_held()

    def _log(self, ref: Ref) -> LogFile:
        # A log that is there is written to without making anything.
        self._tree.require_safe()
        surplus: LogFile | None = None
        with self._mutex:
            log = self._claims.get(ref) or self._logs.get(ref)
            if log is None:
                log = LogFile(ref, self._tree, self._staging, self.options, self._belongings)
            self._logs[ref] = log
            self._logs.move_to_end(ref)
            if len(self._logs) > _KEPT_LOGS:
                surplus = self._logs.popitem(last=False)[1]
        if surplus is not None:
            # Nobody will look after it again.
            surplus.settle()
        return log

    @contextlib.contextmanager
    def _opened(self, ref: Ref) -> Generator[tuple[int, int, int]]:
        """A log to read: descriptor, size, and where its sound part ends. An absent one reads as empty."""
        self._require_open()
        directory = self._tree.find(ref.category)
        fd = None if directory is None else open_regular(directory, ref.name + ref.suffix, os.O_RDONLY)
        if fd is None:
            yield -1, 0, 0
            return
        try:
            with refusals("read", self._tree.path(str(ref))):
                status = os.fstat(fd)
                yield fd, status.st_size, self._sound_end(ref, fd, status)
        finally:
            os.close(fd)

    def _sound_end(self, ref: Ref, fd: int, status: os.stat_result) -> int:
        inode, known = self._sound.get(ref, (0, 0))
        since = known if inode == status.st_ino and known <= status.st_size else 0
        sound = log_lines.sound_end(fd, status.st_size, since)
        if len(self._sound) > _KEPT_LOGS:
            self._sound.clear()
        self._sound[ref] = (status.st_ino, sound)
        return sound

    # -- both

    def delete_with(
        self, ref: Ref, belongings: str, confirm: Callable[[], bool], *, timeout: float | None = None
    ) -> bool:
        self._require_open()
        wait = self._wait(timeout)
        with self._locks.acquire(ref, wait) as lock:
            lock.bind_to_thread()
            deleted = self._belongings.delete(ref, belongings, confirm, wait)
        if deleted:
            self._forget_logs([belongings])
        return deleted

    def _forget_logs(self, categories: Collection[str]) -> None:
        """Let go of logs that are gone on purpose: who makes them anew need not wait for them to come back."""
        with self._mutex:
            gone = [log for ref, log in self._logs.items() if ref not in self._claims and ref.category in categories]
        for log in gone:
            log.forget()

    def footprint(self, ref: Ref, belongings: str | None) -> Footprint | None:
        self._require_open()
        path = self._tree.path(str(ref))
        now_ns = time.time_ns()
        with refusals("look at", path):
            try:
                status = os.stat(path, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return footprint_of(status, None if belongings is None else self._tree.glance(belongings), now_ns)

    def move_many(self, moves: Sequence[Move], *, timeout: float | None = None) -> list[Moved]:
        self._require_open()
        wait = self._wait(timeout)
        outcomes: list[Moved] = [None] * len(moves)
        for start in range(0, len(moves), _MOVED_TOGETHER):
            together = list(enumerate(moves[start : start + _MOVED_TOGETHER], start))
            with HeldLocks() as locks:
                locked: list[tuple[int, Move]] = []
                # In one order everywhere, so that two callers never wait for each other.
                together.sort(key=lambda each: each[1].ref)
                taken = self._locks.acquire_for_once((move.ref for _, move in together), wait)
                for (index, move), lock in zip(together, taken, strict=True):
                    if isinstance(lock, FsStateError):
                        outcomes[index] = lock
                    else:
                        lock.bind_to_thread()
                        locks.append(lock)
                        locked.append((index, move))
                self._moves.move_many(locked, outcomes, wait)
        self._forget_logs({move.belongings for move in moves if move.belongings is not None})
        return outcomes

    def put_back(self, source: Ref, target: Ref, *, owner: Ref | None = None) -> None:
        self._require_open()
        if source.suffix == LOG:
            self._log(target).prepend(source, owner)
            return
        with self._locks.acquire(target, self.options.lock_timeout) as lock:
            lock.bind_to_thread()
            with contextlib.nullcontext() if owner is None else self._belongings.hold(owner):
                self._moves.put_back(source, target)

    def exchange(self, source: Ref, target: Ref, to: Ref, mark: bytes | None) -> bool:
        """Put a document in the place of another, which goes to `to`; each with what belongs to it, durably.

        Says False, and nothing happens, when what is at `target` was touched since it had the `mark` (see `Footprint`;
        None: when it is there at all). Readers find the one or the other or, for an instant between the two, neither;
        who writes meanwhile waits, or is told that there is no such document. Cut off, nothing is lost: what has not
        arrived is still at `source` and `to`. Not part of `Backend`: this is for files that were there once.
        """
        self._require_open()
        with self._locks.acquire(target, self.options.lock_timeout) as lock:
            lock.bind_to_thread()
            if not self._make_room(target, to, mark):
                return False
            self._moves.put_back(source, target)
            return True

    def _make_room(self, target: Ref, to: Ref, mark: bytes | None) -> bool:
        if mark is None:
            return not self._documents.exists(target)
        outcomes: list[Moved] = [None]
        move = Move(target, target.belongings, to, mark)
        self._moves.move_many([(0, move)], outcomes, self.options.lock_timeout)
        outcome = outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        if outcome and self._tree.find(target.belongings) is not None:
            # The document went, and its folder could not follow: nothing may be put in its place.
            raise StorageError("move away", self._tree.path(target.belongings), errno.EEXIST)
        return bool(outcome)

    def discard(self, category: str) -> bool:
        self._require_open()
        existed = self._belongings.discard(category)
        self._forget_logs([category])
        return existed

    def prepare(self) -> None:
        self._require_open()
        self._staging.folder()

    def cache(self, name: str, schema: str) -> CacheFile | None:
        self._require_open()
        try:
            # Imported at its first use, which brings SQLite along.
            from fsstate.backends.files.cache import CacheFile
        except ImportError:  # a Python that was built without it
            return None

        with self._mutex:
            known = self._caches.get(name)
            if known is None:
                known = self._caches[name] = CacheFile(self._tree, self.options, name, schema)
            return known

    def inventory(self, refused: list[StorageError]) -> Iterator[Stored]:
        self._require_open()
        return inventory(self._tree, refused)

    def upkeep(self) -> FileUpkeep:
        self._require_open()
        # Imported at its first use: most programs never look after their files.
        from fsstate.backends.files.upkeep import FileUpkeep

        return FileUpkeep(self._tree, self._staging, self._locks, self._belongings, self.options)

    def location(self, ref: Ref) -> str:
        return self._tree.path(str(ref))

    def close(self) -> None:
        self._closed = True
        self._finalizer()
        with self._mutex:
            self._logs.clear()
            caches, self._caches = self._caches, {}
        for cache in caches.values():
            cache.close()
        self._tree.forget()

    def _wait(self, timeout: float | None) -> float:
        return self.options.lock_timeout if timeout is None else timeout

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"the store at {self.root} was closed")

    def _let_go(self) -> None:
        """Close what is only kept for the next time. Takes no lock that a thread may have while it opens a file."""
        self._tree.forget()
        self._locks.let_go()
        with self._mutex:
            idle = [ref for ref in self._logs if ref not in self._claims]
            logs = [self._logs.pop(ref) for ref in idle]
        for log in logs:
            log.settle()

    def after_fork(self) -> None:
        """In a forked child: give up what is shared with the parent."""
        self._mutex = threading.Lock()
        # What is released at the end is this very one.
        self._logs.clear()
        self._claims = {}
        self._locks.after_fork()
        self._staging.after_fork()
        self._documents.after_fork()
        self._tree.after_fork()


def _require_safe(root: str) -> None:
    # Imported at the first write: a program that only reads does without.
    from fsstate.backends.files.guarding import require_safe

    require_safe(root)


def _release(logs: OrderedDict[Ref, LogFile], locks: RecordLocks, staging: Staging) -> None:
    for log in list(logs.values()):
        log.settle()
    locks.close()
    staging.close()
