"""One writer at a time: locks on records, across threads and processes.

Inside the process a thread lock, across processes a file lock on `.fsstate/locks/<record>.lock`. The operating system frees
the file lock when its holder dies, however it dies.

Invariants:
1. A lock file counts only while its path leads to the inode that was locked: whoever locks one looks again, so that files
   may be unlinked by a holder, or by a person, at any time.
2. A descriptor that was locked is never shared by two holders, and never survives into a forked child.
3. Nobody polls for long: after a millisecond of quick tries the kernel wakes us.

Lock files are hints for people about what is being written. They go when the process ends, or when many have come.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from fsstate.backends.base import Ref
from fsstate.backends.files.tree import Directory, Tree
from fsstate.errors import LockTimeoutError, StorageError

__all__ = ["RecordLock", "RecordLocks", "flock_within", "identity_of", "leads_to", "try_flock"]

_LOCKS: Final = ".fsstate/locks"
_KEPT: Final = 64
# More lock files than this are leftovers of dead processes: sweep them.
_MANY: Final = 512
# Pauses of the quick tries, in seconds; together about a millisecond.
_QUICK: Final = (0.0, 20e-6, 50e-6, 100e-6, 200e-6, 400e-6)


def try_flock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take a file lock if it is free."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def flock_within(fd: int, timeout: float, operation: int = fcntl.LOCK_EX) -> bool:
    """Take a file lock within `timeout` seconds. When it could not, `fd` was taken over and must not be used again."""
    deadline = time.monotonic() + timeout
    for pause in _QUICK:
        if try_flock(fd, operation):
            return True
        if timeout <= 0:
            os.close(fd)
            return False
        time.sleep(pause)
    return _Waiter(fd, operation).wait(deadline)


class _Waiter:
    """Waits for a file lock inside the kernel, in a thread of its own, since flock knows no timeout."""

    def __init__(self, fd: int, operation: int) -> None:
        self._fd = fd
        self._operation = operation
        self._mutex = threading.Lock()
        self._done = threading.Event()
        self._given_up = False
        self._error: OSError | None = None

    def wait(self, deadline: float) -> bool:
        threading.Thread(target=self._run, name="fsstate-lock-wait", daemon=True).start()
        try:
            self._done.wait(max(0.0, deadline - time.monotonic()))
        finally:
            with self._mutex:
                self._given_up = not self._done.is_set()
        if self._error is not None:
            raise self._error
        return not self._given_up

    def _run(self) -> None:
        try:
            fcntl.flock(self._fd, self._operation)
        except OSError as error:
            self._error = error
        with self._mutex:
            if self._given_up:
                # Closing is also unlocking: nobody else has this descriptor.
                os.close(self._fd)
            else:
                self._done.set()


def identity_of(fd: int) -> tuple[int, int]:
    """What tells an open file from every other that exists now."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def leads_to(path: str, identity: tuple[int, int]) -> bool:
    """Whether a path still leads to the file with this identity."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (status.st_dev, status.st_ino) == identity


class _LockFile(NamedTuple):
    fd: int
    path: str
    identity: tuple[int, int]


class _Turn:
    """The thread lock of one record, kept while anybody holds or wants it."""

    __slots__ = ("holder", "lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.holder: RecordLock | None = None


class RecordLock:
    """A record's lock in somebody's hands."""

    __slots__ = ("_locks", "file", "pid", "ref", "thread", "turn")

    def __init__(self, locks: RecordLocks, ref: Ref, turn: _Turn, file: _LockFile) -> None:
        self._locks: RecordLocks | None = locks
        self.ref = ref
        self.turn = turn
        self.file = file
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
        locks, self._locks = self._locks, None
        if locks is not None and self.pid == os.getpid():
            locks.give_back(self)

    def __enter__(self) -> RecordLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class RecordLocks:
    """All record locks of one store in one process."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._start()

    def _start(self) -> None:
        self._mutex = threading.Lock()
        self._turns: dict[Ref, _Turn] = {}
        self._kept: OrderedDict[Ref, _LockFile] = OrderedDict()
        self._swept = False

    def acquire(self, ref: Ref, timeout: float) -> RecordLock:
        """Take the lock of `ref`, or raise LockTimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        turn = self._take_turn(ref, timeout)
        try:
            held = RecordLock(self, ref, turn, self._lock_file(ref, timeout, deadline))
        except BaseException:
            self._end_turn(ref, turn)
            raise
        turn.holder = held
        return held

    def give_back(self, held: RecordLock) -> None:
        """Requires: `held` was acquired here and not given back yet."""
        held.turn.holder = None
        try:
            fcntl.flock(held.file.fd, fcntl.LOCK_UN)
        except OSError:
            os.close(held.file.fd)
        else:
            self._keep(held.ref, held.file)
        self._end_turn(held.ref, held.turn)

    def is_locked(self, ref: Ref) -> bool:
        """Whether anybody, here or in another process, holds the lock."""
        turn = self._turns.get(ref)
        if turn is not None and turn.holder is not None:
            return True
        try:
            fd = os.open(self._path(ref), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return not try_flock(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Unlink the lock files that this process keeps and nobody else holds."""
        with self._mutex:
            kept, self._kept = self._kept, OrderedDict()
        for file in kept.values():
            _retire(file)

    def after_fork(self) -> None:
        """Forget everything, without unlocking: the descriptors share their locks with the parent."""
        held = [turn.holder.file for turn in self._turns.values() if turn.holder is not None]
        for file in [*self._kept.values(), *held]:
            with contextlib.suppress(OSError):
                os.close(file.fd)
        self._start()

    def _take_turn(self, ref: Ref, timeout: float) -> _Turn:
        with self._mutex:
            turn = self._turns.get(ref)
            if turn is None:
                turn = self._turns[ref] = _Turn()
            turn.users += 1
        if turn.lock.acquire(blocking=False):
            return turn
        holder = turn.holder
        if holder is not None and holder.thread == threading.get_ident():
            self._leave_turn(ref, turn)
            hint = "this thread holds the lock itself; change the record inside its edit block, or after it"
            raise LockTimeoutError(str(ref), 0, hint)
        if not turn.lock.acquire(timeout=max(0.0, timeout)):
            self._leave_turn(ref, turn)
            raise LockTimeoutError(str(ref), timeout)
        return turn

    def _leave_turn(self, ref: Ref, turn: _Turn) -> None:
        with self._mutex:
            turn.users -= 1
            if turn.users == 0:
                del self._turns[ref]

    def _end_turn(self, ref: Ref, turn: _Turn) -> None:
        turn.lock.release()
        self._leave_turn(ref, turn)

    def _lock_file(self, ref: Ref, timeout: float, deadline: float) -> _LockFile:
        while True:
            file = self._open(ref)
            if not flock_within(file.fd, max(0.0, deadline - time.monotonic())):
                raise LockTimeoutError(str(ref), timeout)
            if leads_to(file.path, file.identity):
                return file
            os.close(file.fd)

    def _open(self, ref: Ref) -> _LockFile:
        with self._mutex:
            kept = self._kept.pop(ref, None)
        if kept is not None:
            return kept
        directory = self._tree.make(_LOCKS)
        self._sweep_once(directory)
        path = self._path(ref)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError.of("lock", path, error) from error
        return _LockFile(fd, path, identity_of(fd))

    def _path(self, ref: Ref) -> str:
        return f"{self._tree.root}/{_LOCKS}/{_file_name(ref)}"

    def _keep(self, ref: Ref, file: _LockFile) -> None:
        with self._mutex:
            self._kept[ref] = file
            oldest = self._kept.popitem(last=False)[1] if len(self._kept) > _KEPT else None
        if oldest is not None:
            _retire(oldest)

    def _sweep_once(self, directory: Directory) -> None:
        if self._swept:
            return
        self._swept = True
        names = [entry.name for entry in directory.entries()]
        for name in names if len(names) > _MANY else ():
            with contextlib.suppress(OSError):
                path = f"{directory.path}/{name}"
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                _retire(_LockFile(fd, path, identity_of(fd)))


def _retire(file: _LockFile) -> None:
    """Close a lock file, and unlink it unless somebody uses it. One that stays behind costs nothing but its name."""
    with contextlib.suppress(OSError):
        if try_flock(file.fd) and leads_to(file.path, file.identity):
            os.unlink(file.path)
    os.close(file.fd)


def _file_name(ref: Ref) -> str:
    readable = str(ref).replace("%", "%25").replace("+", "%2B").replace("/", "+") + ".lock"
    name = readable.encode()
    if len(name) <= 200:
        return readable
    return hashlib.sha1(name, usedforsecurity=False).hexdigest() + ".lock"
