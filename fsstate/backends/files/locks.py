"""One writer at a time: locks on records, across threads and processes.

Inside the process turns, across processes a file lock on `.fsstate/locks/<record>.lock`.

Invariants:
1. A lock file counts only while its path leads to the inode that was locked: whoever locks one looks again, so that
   files may be unlinked by a holder, or by a person, at any time.
2. A descriptor that was locked is never shared by two holders, and never survives into a forked child.
3. Who takes a lock again and again lets those who wait go first after a while: they stand in line at
   `<record>.queue`, which exists only while somebody waits. The first in line waits for the lock, the others for the
   line.

Lock files are hints for people about what is being written. They go when the process ends, or when many have come.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Self

from fsstate.backends.base import Ref
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.tree import Directory, Tree
from fsstate.errors import FsStateError, LockTimeoutError, StorageError

__all__ = ["LOCKS", "HeldLocks", "RecordLock", "RecordLocks"]

LOCKS: Final = ".fsstate/locks"
_KEPT: Final = 32
# More lock files than this are leftovers of dead processes: sweep them.
_MANY: Final = 64
# Seconds for which a lock may be taken again before those who wait get their turn. Handing it over costs a few
# small saves, so without this many processes would get less done than one; with more the longest wait would grow.
_TURN: Final = 2e-3
# A lock file may be unlinked or its folder removed at any time; more often than this, something else is wrong.
_TRIES: Final = 100


class _LockFile:
    """The lock file of a record, kept open for the next time."""

    __slots__ = ("file", "turn_began")

    def __init__(self, file: Lockable) -> None:
        self.file = file
        self.turn_began = 0.0


class _Turn:
    """Whose turn it is with one record among the threads, kept while anybody has or wants it."""

    __slots__ = ("freed", "taken", "users")

    def __init__(self) -> None:
        self.users = 0
        # Whoever has it, as long as they live: a lock that is lost on its way, as a signal's handler that raises can
        # lose it between any two steps, is free.
        self.taken: weakref.ref[RecordLock] | None = None
        # Tells those who wait.
        self.freed: threading.Condition | None = None


class RecordLock:
    """A record's lock in somebody's hands. It is given back at the latest when it is dropped."""

    __slots__ = ("__weakref__", "_locks", "file", "is_for_once", "pid", "ref", "thread", "turn")

    def __init__(self, locks: RecordLocks, ref: Ref) -> None:
        self._locks: RecordLocks | None = locks
        self.ref = ref
        self.turn: _Turn | None = None
        self.file: _LockFile | None = None
        self.is_for_once = False
        self.pid = os.getpid()
        self.thread: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether it still excludes others. Never so in a forked child: the lock stayed with the parent."""
        return self._locks is not None and self.pid == os.getpid()

    def bind_to_thread(self) -> None:
        """Let this thread fail at once, instead of waiting for itself, when it asks for the same lock again."""
        self.thread = threading.get_ident()

    def release(self) -> None:
        """Give the lock back. A second call does nothing."""
        locks = self._locks
        if locks is not None and self.pid == os.getpid():
            locks.give_back(self)
        self._locks = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class HeldLocks(list[RecordLock]):
    """Locks that are given back together at the end of a block, or of this list.

    An ExitStack would do, but what is raised in one refers to itself, so that locks which a signal's handler kept it
    from giving back would stay until the garbage collector comes.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self:
            self.pop().release()


class RecordLocks:
    """All record locks of one store in one process."""

    def __init__(self, tree: Tree, mode: int = 0o600) -> None:
        self._tree = tree
        # Whoever may change the records must be able to lock them; our own locks we open again in any case.
        self._mode = mode | 0o600
        self._start()

    def _start(self) -> None:
        # Reentrant: a lock may be given back by the garbage collector, in the middle of anything.
        self._mutex = threading.RLock()
        self._turns: dict[Ref, _Turn] = {}
        self._kept: OrderedDict[Ref, _LockFile] = OrderedDict()
        self._swept = False
        self._closed = False

    def acquire(self, ref: Ref, timeout: float) -> RecordLock:
        """Take the lock of `ref`, or raise LockTimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        held = RecordLock(self, ref)
        self._take_turn(held, timeout)
        try:
            held.file = self._lock_file(ref, timeout, deadline)
        except BaseException as error:
            self._end_turn(held)
            if isinstance(error, OSError) and not isinstance(error, FsStateError):
                raise StorageError.of("lock", str(ref), error) from error
            raise
        return held

    def acquire_for_once(self, refs: Iterable[Ref], timeout: float) -> Iterator[RecordLock | FsStateError]:
        """Take the locks of many records that nobody is likely to lock soon again, or tell why one is not to be had.

        They are taken in this order; their files go when they are given back.
        """
        directory = self._tree.make(LOCKS)
        self._sweep_once(directory)
        for ref in refs:
            try:
                held = self._acquire_at_once(ref, directory) or self.acquire(ref, timeout)
            except FsStateError as error:
                yield error
            else:
                held.is_for_once = True
                yield held

    def _acquire_at_once(self, ref: Ref, directory: Directory) -> RecordLock | None:
        """Take a lock that nobody has, or has had here lately."""
        held = RecordLock(self, ref)
        with self._mutex:
            if ref in self._turns or ref in self._kept:
                return None
            self._join(held)
            self._take(held)
        try:
            file = Lockable.open_file(directory, _file_name(ref), os.O_RDWR | os.O_CREAT, self._mode)
            if file is not None:
                self._set_mode(file)
                if file.try_lock() and file.is_current():
                    held.file = _LockFile(file)
                    return held
                file.close()
        except OSError:
            # The usual way finds out what is to be said of it.
            pass
        finally:
            if held.file is None:
                self._end_turn(held)
        return None

    def give_back(self, held: RecordLock) -> None:
        """Requires: `held` was acquired here. What was given back already is not given back again."""
        # Of one that is dropped in the middle of this the file is closed, which unlocks it.
        one, held.file = held.file, None
        try:
            if one is not None:
                self._give_back_file(held, one)
        finally:
            self._end_turn(held)

    def _give_back_file(self, held: RecordLock, one: _LockFile) -> None:
        if held.is_for_once:
            # While it is locked: who opened it meanwhile finds that it is not the lock file any more.
            with contextlib.suppress(OSError):
                os.unlink(one.file.path)
            one.file.close()
            return
        try:
            one.file.unlock()
        except OSError:
            one.file.close()
        else:
            self._keep(held.ref, one)

    def is_locked(self, ref: Ref) -> bool:
        """Whether anybody, here or in another process, holds the lock."""
        turn = self._turns.get(ref)
        holder = None if turn is None else _holder_of(turn)
        if holder is not None and holder.file is not None:
            return True
        directory = self._tree.find(LOCKS)
        file = None if directory is None else Lockable.open_file(directory, _file_name(ref), os.O_RDONLY)
        if file is None:
            return False
        with contextlib.closing(file):
            return file.is_held()

    def let_go(self) -> None:
        """Close the lock files that nobody holds. Opens none."""
        with self._mutex:
            kept, self._kept = self._kept, OrderedDict()
        for one in kept.values():
            _retire(one.file)

    def close(self) -> None:
        """Unlink the lock files that nobody holds; the others when they are given back."""
        with self._mutex:
            self._closed = True
            kept, self._kept = self._kept, OrderedDict()
        for ref, one in kept.items():
            self._put_away(ref, one)

    def after_fork(self) -> None:
        """Forget everything, without unlocking: the locks are the parent's."""
        self._start()

    # -- turns. Only `with` takes the mutex: nothing can come between taking it and being sure to give it back.

    def _take_turn(self, held: RecordLock, timeout: float) -> None:
        with self._mutex:
            turn = self._join(held)
            if _holder_of(turn) is None:
                self._take(held)
                return
        if _thread_of(turn) == threading.get_ident():
            self._end_turn(held)
            hint = "this thread holds the lock itself; change the record inside its edit block, or after it"
            raise LockTimeoutError(str(held.ref), 0, hint)
        try:
            is_ours = self._wait_for_turn(held, turn, time.monotonic() + timeout)
        except BaseException:
            self._end_turn(held)
            raise
        if not is_ours:
            self._end_turn(held)
            raise LockTimeoutError(str(held.ref), timeout)

    def _wait_for_turn(self, held: RecordLock, turn: _Turn, deadline: float) -> bool:
        with self._mutex:
            turn.freed = turn.freed or threading.Condition(self._mutex)
            while _holder_of(turn) is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                turn.freed.wait(left)
            self._take(held)
            return True

    def _join(self, held: RecordLock) -> _Turn:
        """Be among those who have or want a turn. Requires: the mutex is held."""
        turn = self._turns.get(held.ref)
        if turn is None:
            turn = self._turns[held.ref] = _Turn()
        turn.users += 1
        held.turn = turn
        return turn

    def _take(self, held: RecordLock) -> None:
        """Requires: the mutex is held, and nobody has the turn."""
        turn, ref = held.turn, held.ref
        assert turn is not None
        turn.taken = weakref.ref(held, lambda gone: self._leave(ref, turn, gone))

    def _end_turn(self, held: RecordLock) -> None:
        turn, held.turn = held.turn, None
        if turn is not None:
            self._leave(held.ref, turn, turn.taken if _holder_of(turn) is held else None)

    def _leave(self, ref: Ref, turn: _Turn, taken: weakref.ref[RecordLock] | None) -> None:
        with self._mutex:
            if taken is not None and turn.taken is taken:
                turn.taken = None
                if turn.freed is not None:
                    turn.freed.notify()
            turn.users -= 1
            if turn.users == 0 and self._turns.get(ref) is turn:
                del self._turns[ref]

    # -- the lock file

    def _lock_file(self, ref: Ref, timeout: float, deadline: float) -> _LockFile:
        for _ in range(_TRIES):
            one = self._open(ref)
            try:
                if _must_queue(one) or not one.file.try_lock():
                    self._stand_in_line(ref, one, timeout, deadline)
                    one.turn_began = time.monotonic()
                if one.file.is_current():
                    return one
            except BaseException:
                # Whoever keeps the error would keep the lock.
                one.file.close()
                raise
            one.file.close()
        raise StorageError("lock (its lock file vanishes each time)", str(ref), errno.ESTALE)

    def _stand_in_line(self, ref: Ref, one: _LockFile, timeout: float, deadline: float) -> None:
        queue, is_alone = self._join_queue(ref, timeout, deadline)
        try:
            if not one.file.try_lock():
                if not one.file.lock(max(0.0, deadline - time.monotonic())):
                    raise LockTimeoutError(str(ref), timeout)
            elif is_alone:
                # Nobody waits: the next one need not look. Whoever came to the line meanwhile looks for it again.
                with contextlib.suppress(OSError):
                    os.unlink(queue.path)
        finally:
            queue.close()

    def _join_queue(self, ref: Ref, timeout: float, deadline: float) -> tuple[Lockable, bool]:
        for _ in range(_TRIES):
            queue = self._open_file(_queue_of(_file_name(ref)))
            is_alone = queue.try_lock()
            if not is_alone and not queue.lock(max(0.0, deadline - time.monotonic()), queueing=True):
                raise LockTimeoutError(str(ref), timeout)
            if queue.is_current():
                return queue, is_alone
            queue.close()
        raise StorageError("lock (its queue vanishes each time)", str(ref), errno.ESTALE)

    def _open(self, ref: Ref) -> _LockFile:
        with self._mutex:
            kept = self._kept.pop(ref, None)
        return kept or _LockFile(self._open_file(_file_name(ref)))

    def _open_file(self, name: str) -> Lockable:
        refusal = StorageError("make the lock file", f"{self._tree.path(LOCKS)}/{name}", errno.ENOENT)
        for _ in range(_TRIES):
            directory = self._tree.make(LOCKS)
            self._sweep_once(directory)
            try:
                file = Lockable.open_file(directory, name, os.O_RDWR | os.O_CREAT, self._mode)
            except StorageError as error:
                if error.errno != errno.EACCES:
                    raise
                # Another user's: to lock it, reading is enough. When it vanished meanwhile, the next try may make it.
                refusal = error
                file = Lockable.open_file(directory, name, os.O_RDONLY)
            if file is not None:
                self._set_mode(file)
                return file
        raise refusal

    def _set_mode(self, file: Lockable) -> None:
        """Undo what the umask took from our own file. It leaves the usual 0600 alone."""
        if self._mode == 0o600:
            return
        status = os.fstat(file.fd)
        if stat.S_IMODE(status.st_mode) != self._mode and status.st_uid == os.geteuid():
            os.fchmod(file.fd, self._mode)

    def _keep(self, ref: Ref, one: _LockFile) -> None:
        surplus: tuple[Ref, _LockFile] | None = None
        with self._mutex:
            is_kept = not self._closed
            if is_kept:
                self._kept[ref] = one
                surplus = self._kept.popitem(last=False) if len(self._kept) > _KEPT else None
        if surplus is not None:
            self._put_away(*surplus)
        if not is_kept:
            # Without a look for its queue: nothing is opened any more behind the end.
            _retire(one.file)

    def _put_away(self, ref: Ref, one: _LockFile) -> None:
        _retire(one.file)
        # Whoever was the last in line left the queue, in case that another came.
        with contextlib.suppress(OSError):
            directory = self._tree.find(LOCKS)
            if directory is not None:
                _sweep(directory, _queue_of(_file_name(ref)))

    def _sweep_once(self, directory: Directory) -> None:
        if self._swept:
            return
        self._swept = True
        names = directory.files()
        for name in names if len(names) > _MANY else ():
            _sweep(directory, name)


def _holder_of(turn: _Turn) -> RecordLock | None:
    return None if turn.taken is None else turn.taken()


def _thread_of(turn: _Turn) -> int | None:
    # No more than the number: who waits must not keep the lock of somebody who lost it.
    holder = _holder_of(turn)
    return None if holder is None else holder.thread


def _sweep(directory: Directory, name: str) -> None:
    """Remove a lock file or a queue that nobody uses."""
    with contextlib.suppress(OSError):
        file = Lockable.open_file(directory, name, os.O_RDWR)
        if file is not None:
            _retire(file)


def _retire(file: Lockable) -> None:
    """Close a lock file, and unlink it unless somebody uses it. One that stays behind costs nothing but its name."""
    with contextlib.suppress(OSError):
        if file.try_lock() and file.is_current():
            os.unlink(file.path)
    file.close()


def _must_queue(one: _LockFile) -> bool:
    now = time.monotonic()
    if now - one.turn_began < _TURN:
        return False
    try:
        os.stat(_queue_of(one.file.path))
    except OSError:
        one.turn_began = now
        return False
    return True


def _queue_of(lock_file: str) -> str:
    return lock_file.removesuffix(".lock") + ".queue"


def _file_name(ref: Ref) -> str:
    readable = str(ref).replace("%", "%25").replace("+", "%2B").replace("/", "+") + ".lock"
    name = readable.encode()
    if len(name) <= 200:
        return readable
    return hashlib.sha1(name, usedforsecurity=False).hexdigest() + ".lock"
