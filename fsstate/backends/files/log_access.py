"""The file behind a log's name: opened, made, and locked.

The log file itself is locked (flock), so that one process writes to it at a time; in this process one thread does, the
one that has `alone`. A lock counts only while the path leads to the file that is locked: trims, checkouts and editors
put other files there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from fsstate.backends.base import Ref
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.log_ends import Tail
from fsstate.backends.files.log_memory import LogMemory
from fsstate.backends.files.mutexes import take
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, refusals
from fsstate.errors import LockTimeoutError, StorageError
from fsstate.options import StoreOptions

__all__ = ["Gatekeeper", "LogAccess", "LogHandle"]

R = TypeVar("R")

_APPEND: Final = os.O_RDWR | os.O_APPEND
# A log may be replaced or removed at any time; more often than this, something else is wrong.
_TRIES: Final = 100
# In seconds: so long who removes a log may take to make it anew, and so often we look.
_GAP: Final = 0.05
_MOMENT: Final = 0.002


class Gatekeeper(Protocol):
    """Knows whether the document that owns a log exists, and keeps it from being deleted."""

    def require(self, owner: Ref) -> None:
        """Raise NotFoundError when the owner does not exist."""
        ...

    def hold(self, owner: Ref) -> AbstractContextManager[None]:
        """The same, and keep it in existence until the block ends."""
        ...


class LogHandle(Lockable):
    """An open log file, and what is known of it: its end, the state in which it was flushed, if its name was."""

    __slots__ = ("flushed", "name_lasts", "tail")

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, path)
        self.tail: Tail | None = None
        self.flushed: tuple[int, ...] = ()
        self.name_lasts = False


class LogAccess:
    """One log's file and its lock, in this process. But for `claimed` and `if_idle`, requires `alone`."""

    def __init__(self, ref: Ref, tree: Tree, staging: Staging, options: StoreOptions, gate: Gatekeeper) -> None:
        self.ref = ref
        self.name = ref.name + ref.suffix
        self.path = tree.path(str(ref))
        self.alone = threading.Lock()
        self.file: LogHandle | None = None
        self.memory = LogMemory()
        self._tree = tree
        self._staging = staging
        self._options = options
        self._gate = gate
        self._claiming = threading.Lock()
        self._is_claimed = False
        # The file whose lock a claim holds.
        self._held: LogHandle | None = None

    # -- the lock

    def locked(self, owner: Ref | None, work: Callable[[LogHandle], R]) -> R:
        """Do work on the log, made if need be, while it is locked and its owner exists."""
        return self._unlocking(lambda: work(self._lock(owner)))

    def locked_if_there(self, owner: Ref | None, work: Callable[[LogHandle | None], R]) -> R:
        """Do work on the log while it is locked and its owner exists, or without it when there is none."""

        def on_what_is_there() -> R:
            file = self._lock_existing()
            if file is not None:
                self._require(owner)
            return work(file)

        return self._unlocking(on_what_is_there)

    def if_idle(self, work: Callable[[], object]) -> None:
        """Do work with the log `alone`; does nothing while another thread has it."""
        taken: list[bool] = []
        try:
            if take(self.alone, taken):
                work()
        finally:
            if True in taken:
                self.alone.release()

    def _unlocking(self, work: Callable[[], R]) -> R:
        try:
            try:
                return work()
            finally:
                self.unlock()
        except BaseException:
            # The handler of a signal may have raised before it was unlocked.
            self.unlock()
            raise

    def lock_again(self, file: LogHandle) -> bool:
        """Lock a file that was in use before, whatever its path leads to now. Needs `unlock` after it."""
        return file is self._held or self._get_lock(file)

    def unlock(self) -> None:
        """Let others have the lock, unless the log is claimed."""
        if self.file is not None and not self._is_claimed:
            with contextlib.suppress(OSError):
                self.file.unlock()

    def _lock(self, owner: Ref | None) -> LogHandle:
        for _ in range(_TRIES):
            was_there = self.file is not None or self.memory.replaced is not None
            locked = self._lock_existing()
            if locked is not None:
                self._require(owner)
                return locked
            if not was_there or not self._comes_back(owner):
                self.memory.forget()
                self._create(owner)
        raise StorageError("append to (it vanishes each time)", self.path, errno.ESTALE)

    def _lock_existing(self) -> LogHandle | None:
        for _ in range(_TRIES):
            file = self.file or self._open()
            if file is None:
                return None
            if file is not self._held and not self._get_lock(file):
                raise LockTimeoutError(str(self.ref), self._options.lock_timeout)
            if file.is_current():
                self._held = file if self._is_claimed else None
                return file
            # Replaced by a trim, a checkout or an editor.
            self._set_aside(file)
        raise StorageError("lock (it is replaced each time)", self.path, errno.ESTALE)

    def _get_lock(self, file: LogHandle) -> bool:
        got = False
        try:
            got = file.lock(self._options.lock_timeout)
        finally:
            if not got:
                # A thread may still wait for its lock.
                self.close()
        return got

    def _require(self, owner: Ref | None) -> None:
        if owner is not None:
            self._gate.require(owner)

    # -- the file

    def _open(self) -> LogHandle | None:
        directory = self._tree.find(self.ref.category)
        if directory is not None:
            self.file = LogHandle.open_file(directory, self.name, _APPEND)
        return self.file

    def _create(self, owner: Ref | None) -> None:
        with refusals("make", self.path):
            # The first write to a store marks it.
            self._staging.folder()
            with self._gate.hold(owner) if owner is not None else contextlib.nullcontext():
                directory = self._tree.make(self.ref.category)
                mode = self._options.file_mode
                file = LogHandle.open_file(directory, self.name, _APPEND | os.O_CREAT, mode)
                if file is not None and mode != 0o600:
                    # What open was given is cut by the umask; it leaves the usual mode alone.
                    os.fchmod(file.fd, mode)
        self.close()
        self.file = file

    def _comes_back(self, owner: Ref | None) -> bool:
        """Wait a moment for whoever removes the log in order to make it anew, as git and vim do.

        Git gives up what it does when it finds a file that we made meanwhile.
        """
        self._require(owner)
        deadline = time.monotonic() + _GAP
        while time.monotonic() < deadline:
            time.sleep(_MOMENT)
            if os.path.lexists(self.path):
                return True
        return False

    def _set_aside(self, file: LogHandle) -> None:
        """Keep a file that was replaced, as long as it may hold what the new one lacks."""
        memory = self.memory
        if memory.replaced is None and (memory.recent or memory.untold):
            file.unlock()
            self.file, memory.replaced = None, file
        self.close()

    def replace_by(self, fresh: LogHandle) -> None:
        """Go on with a file that has the log's name now. Requires: it is locked."""
        fresh.path = self.path
        self.close()
        self.file = fresh
        self._held = fresh if self._is_claimed else None

    def close(self) -> None:
        """Close the file; the next use opens the one that is there then."""
        file, self.file = self.file, None
        if file is not None:
            file.close()

    # -- claims

    @contextlib.contextmanager
    def claimed(self, owner: Ref | None, at_end: Callable[[], None]) -> Generator[None]:
        """Hold the lock for the length of a block, and `at_end`; only this object's users write to it meanwhile."""
        taken: list[bool] = []
        try:
            if not take(self._claiming, taken, self._options.lock_timeout):
                raise LockTimeoutError(str(self.ref), self._options.lock_timeout, "it is being written to")
            with self.alone, refusals("claim", self.path):
                self.locked(owner, self._claim)
            try:
                yield
            finally:
                at_end()
        finally:
            if True in taken:
                try:
                    with self.alone:
                        self._is_claimed, self._held = False, None
                        self._unlocking(lambda: None)
                finally:
                    self._claiming.release()

    def _claim(self, file: LogHandle) -> None:
        self._is_claimed, self._held = True, file
