"""Locks on open files (flock), taken within a time limit, and never left to a forked child.

A file lock belongs to the open file, which a fork shares: a child that kept the descriptor would keep the lock after
its parent was killed. So every descriptor that may be locked is opened here, and closed in each child before it runs.

The operating system frees a file lock when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Self

from fsstate.backends.files.descriptors import open_at
from fsstate.backends.files.tree import OPEN_DIRECTORY, Directory, identity_of, open_regular, refusals
from fsstate.errors import StorageError

__all__ = ["Lockable", "opening"]

# Pauses of the first tries, in seconds (the system adds some 50 us to each). For a lock that is next to be ours: most
# are free within 10 ms, and a thread would wake up later than a try. For a place further back: a thread, soon.
_NEXT: Final = (0.0, *(50e-6,) * 100)
_LATER: Final = (0.0, 20e-6, 50e-6)
# The tries of somebody who will not wait: others may hold the lock for an instant, only to look whether it is free.
_GLANCES: Final = (0.0, 20e-6, 100e-6, 300e-6)
# A wait shorter than this is made of tries; a longer one is left to a thread, which may outlive it.
_SHORT: Final = 0.25
_TRY_EVERY: Final = 1e-3


@functools.cache
def _lock_descriptor() -> Callable[..., bool]:
    """Filelock's lock of a descriptor: the same that its FileLock takes, so that other programs can keep us out."""
    # Imported at the first lock: a program that only reads takes none.
    from filelock import lock_descriptor

    return lock_descriptor


class Lockable:
    """An open file that can be locked. Closing it, also by dropping it, unlocks it."""

    __slots__ = ("__weakref__", "_descriptor", "identity", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._descriptor = [fd]
        reference: weakref.ref[Lockable] = weakref.ref(self, _dropped)
        _open[reference] = self._descriptor
        self.path = path
        with refusals("look at", path):
            self.identity = identity_of(fd)

    @classmethod
    def open(cls, opener: Callable[[], int | None], path: str) -> Self | None:
        """Open a file with `opener`; None when that says None."""
        with opening():
            fd = opener()
            if fd is None:
                return None
            return cls(fd, path)

    @classmethod
    def open_file(cls, directory: Directory, name: str, flags: int, mode: int = 0o600) -> Self | None:
        """Open a plain file as `open_regular` does."""
        return cls.open(lambda: open_regular(directory, name, flags, mode), f"{directory.path}/{name}")

    @classmethod
    def open_directory(cls, directory: Directory) -> Self:
        """Open a directory anew: the lock of a descriptor that others use would be theirs as well. Raises OSError."""
        opened = cls.open(lambda: open_at(".", OPEN_DIRECTORY, dir_fd=directory.fd), directory.path)
        assert opened is not None
        return opened

    def __del__(self) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        try:
            return self._descriptor[0]
        except IndexError:
            return -1

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        _close(self._descriptor)

    def is_current(self) -> bool:
        """Whether its path still leads to it. A lock counts only while it does. Raises StorageError."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError.of("look at", self.path, error) from error
        return (status.st_dev, status.st_ino) == self.identity

    def try_lock(self, operation: int = fcntl.LOCK_EX) -> bool:
        """Lock it if it is free."""
        if operation == fcntl.LOCK_EX:
            return _lock_descriptor()(self.fd, blocking=False)
        try:
            fcntl.flock(self.fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(self, timeout: float, operation: int = fcntl.LOCK_EX, *, queueing: bool = False) -> bool:
        """Lock it within `timeout` seconds. When it returns False or raises, the file is not to be used any more.

        With `queueing`, many are expected to wait before us.
        """
        deadline = time.monotonic() + timeout
        if self._try_for((_LATER if queueing else _NEXT) if timeout > 0 else _GLANCES, operation):
            return True
        if timeout >= _SHORT:
            wait = _Wait(self, operation)
            if wait.begin():
                return wait.end(deadline)
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_TRY_EVERY, left))
            if self.try_lock(operation):
                return True
        return False

    def is_held(self) -> bool:
        """Whether another holds the lock. If not, this has it, shared, until it is closed. Raises StorageError."""
        with refusals("look at the lock of", self.path):
            # Shared, and more than once: others may be looking as well, or writing for an instant.
            return not self.lock(0, fcntl.LOCK_SH)

    def _try_for(self, pauses: tuple[float, ...], operation: int) -> bool:
        for pause in pauses:
            if self.try_lock(operation):
                return True
            time.sleep(pause)
        return False

    def unlock(self) -> None:
        """Unlock it."""
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


class _Wait:
    """A wait for a file lock inside the kernel, in a thread of its own, since flock knows no time limit."""

    def __init__(self, file: Lockable, operation: int) -> None:
        self._file = file
        self._operation = operation
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._error: OSError | None = None

    def begin(self) -> bool:
        """Start waiting, if there can be another thread."""
        try:
            threading.Thread(target=self._run, name="fsstate-lock-wait", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def end(self, deadline: float) -> bool:
        """Wait until the lock is ours or the time has come."""
        try:
            ended = self._ended.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            self._give_up()
            raise
        if not ended:
            self._give_up()
        elif self._error is not None:
            raise self._error
        return ended

    def _give_up(self) -> None:
        with self._mutex:
            self._given_up = True
            if self._ended.is_set():
                self._file.close()

    def _run(self) -> None:
        try:
            fcntl.flock(self._file.fd, self._operation)
        except OSError as error:
            self._error = error
        with self._mutex:
            self._ended.set()
            if self._given_up:
                # Closing is also unlocking: the other one lets go of this file.
                self._file.close()


def opening() -> AbstractContextManager[object]:
    """Let no fork come between opening or closing a descriptor and noting it: the child would keep it, unknown."""
    return _opening


_opening = threading.RLock()
# The descriptors that are open, each in a list of its own, which is emptied as it is closed.
_open: dict[weakref.ref[Lockable], list[int]] = {}


def _close(descriptor: list[int]) -> None:
    # A child that is forked in between would not know of the descriptor, and keep the lock.
    with opening():
        if descriptor:
            # No handler of a signal runs between emptying the list and closing.
            fd = descriptor[0]
            del descriptor[0]
            try:  # noqa: SIM105 - but one may in `suppress`
                os.close(fd)
            except OSError:
                pass


def _dropped(file: weakref.ref[Lockable]) -> None:
    """The second to close what is dropped: the handler of a signal that raises can keep a finalizer from it."""
    descriptor = _open.get(file)
    if descriptor is not None:
        _close(descriptor)
        del _open[file]


def _before_fork() -> None:
    _opening.acquire()


def _after_fork_in_parent() -> None:
    _opening.release()


def _after_fork_in_child() -> None:
    global _opening  # noqa: PLW0603 - other threads may have waited for it
    _opening = threading.RLock()
    # Without unlocking: the lock is the parent's as well.
    for descriptor in list(_open.values()):
        _close(descriptor)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
