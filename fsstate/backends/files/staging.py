"""New content before it gets its name: written and flushed aside, then moved into place in one step.

A document's new content is staged in `.fsstate/staging/<owner>/`, where no listing looks, flushed, and exchanged for
the old (in one step: readers find the one or the other), which then is here until it has been looked at. Each process
owns one such folder and keeps it locked while it lives; a folder whose lock is free belongs to a dead process, and the
next writer sweeps it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable
from typing import Final, Self, TypeVar

from fsstate.backends.files import leftovers, renames
from fsstate.backends.files.descriptors import open_at
from fsstate.backends.files.flocks import Lockable, opening
from fsstate.backends.files.tree import Directory, Tree, write_all
from fsstate.errors import StorageError
from fsstate.options import StoreOptions

__all__ = ["STAGING", "Staged", "Staging"]

L = TypeVar("L", bound=Lockable)

STAGING: Final = ".fsstate/staging"
# The folder may be swept before it is locked; more often than this, something else is wrong.
_TRIES: Final = 10
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Staged:
    """A file that has content but no name yet. Discarded at the end of its `with` block unless it was moved.

    `may_go` is False while what has the staged name may be somebody else's: then it is not discarded.
    """

    __slots__ = ("_directory", "_name", "_writing", "fd", "may_go")

    def __init__(self, directory: Directory, name: str, fd: int = -1, writing: set[int] | None = None) -> None:
        self._directory: Directory | None = directory
        self._name = name
        # Where the descriptor is noted while it is open, for children to close.
        self._writing: set[int] = set() if writing is None else writing
        self.fd = fd
        self.may_go = fd >= 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What is left behind is swept one day; it must not hide why the block ended.
        with contextlib.suppress(OSError):
            self.close()
        if self._directory is not None and self.may_go:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory.fd)

    def close(self) -> None:
        """Close the descriptor; the file stays. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with opening():
                self._writing.discard(fd)
                os.close(fd)

    def place(self) -> tuple[Directory, str]:
        """Where it is, as long as it was not moved."""
        assert self._directory is not None
        return self._directory, self._name

    def open_lockable(self, kind: type[L]) -> L:
        """Open the file once more, to lock it before it has its name and to append to it after."""
        assert self._directory is not None
        file = kind.open_file(self._directory, self._name, os.O_RDWR | os.O_APPEND)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "the staged file was removed", self._name)
        return file

    def move(self, target: Directory, name: str) -> None:
        """Give it its name, replacing what has the name now."""
        folder, own = self.place()
        os.rename(own, name, src_dir_fd=folder.fd, dst_dir_fd=target.fd)
        self._directory = None

    def move_to_free(self, target: Directory, name: str) -> None:
        """Give it its name. Raises FileExistsError when something has the name now."""
        folder, own = self.place()
        renames.renameat2(folder.fd, own, target.fd, name, renames.NOREPLACE)
        self._directory = None

    def exchange(self, target: Directory, name: str) -> None:
        """Give it its name, and give the staged name to what had the name until now; that `may_go` only if you say so.

        Raises FileNotFoundError when nothing has the name.
        """
        folder, own = self.place()
        # Before the call: an interrupt behind it must not find what came out unguarded.
        before, self.may_go = self.may_go, False
        try:
            renames.renameat2(folder.fd, own, target.fd, name, renames.EXCHANGE)
        except OSError:
            self.may_go = before
            raise


class Staging:
    """The staging folder of this process. Safe to share between threads."""

    def __init__(self, tree: Tree, options: StoreOptions, on_first_use: Callable[[Staging], None]) -> None:
        self._tree = tree
        self._options = options
        self._on_first_use = on_first_use
        self._writing: set[int] = set()
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew: the folder and its lock stay with the parent."""
        # Reentrant: what happens on first use stages files of its own.
        self._mutex = threading.RLock()
        self._numbers = itertools.count()
        self._folder: Directory | None = None
        self._lock: Lockable | None = None
        self._close_inherited()

    def _close_inherited(self) -> None:
        # A child that kept them would have its parent's documents open for writing, which keeps everybody waiting.
        inherited, self._writing = self._writing, set()
        for fd in inherited:
            with contextlib.suppress(OSError):
                os.close(fd)

    def create(self, data: bytes, like: os.stat_result | None = None, label: str = "") -> Staged:
        """Stage `data`, not flushed yet, with the options' mode or the mode and owner of the file it will replace.

        With the `label` of a document (see `leftovers`), what it gives out in exchange outlives this process.
        """
        staged = self._create_file(label)
        try:
            self._set_mode(staged.fd, like)
            write_all(staged.fd, data)
        except BaseException:
            staged.__exit__()
            raise
        return staged

    def take_away(self, directory: Directory, name: str) -> Callable[[], None]:
        """Move an entry, whatever it is, out of sight at once. Returns what removes it for good."""
        number = f"{next(self._numbers)}.gone"
        folder = self.folder()
        if not folder.is_current():
            folder = self._new_folder()
        os.rename(name, number, src_dir_fd=directory.fd, dst_dir_fd=folder.fd)
        return lambda: folder.remove(number)

    def take_out(self, directory: Directory, name: str, label: str) -> Staged:
        """Move a document out of sight. Raises FileNotFoundError when it is gone. What came `may_go` if you say so."""
        number = f"{next(self._numbers)}{label}"
        folder = self.folder()
        try:
            os.rename(name, number, src_dir_fd=directory.fd, dst_dir_fd=folder.fd)
        except FileNotFoundError:
            if folder.is_current():
                raise
            folder = self._new_folder()
            os.rename(name, number, src_dir_fd=directory.fd, dst_dir_fd=folder.fd)
        return Staged(folder, number)

    def close(self) -> None:
        """Remove the folder of this process. What a write going on holds there is swept by another process."""
        with self._mutex:
            folder, self._folder = self._folder, None
            lock, self._lock = self._lock, None
        if folder is not None:
            with contextlib.suppress(OSError):
                os.rmdir(folder.path)
        if lock is not None:
            lock.close()

    def folder(self) -> Directory:
        """The folder, made on first use."""
        return self._folder or self._new_folder()

    def _create_file(self, label: str) -> Staged:
        folder = self.folder()
        name = f"{next(self._numbers)}{label}"
        try:
            fd = self._open(folder, name)
        except FileNotFoundError:
            # Somebody deleted .fsstate while we ran: they may.
            folder = self._new_folder()
            fd = self._open(folder, name)
        return Staged(folder, name, fd, self._writing)

    def _open(self, folder: Directory, name: str) -> int:
        with opening():
            fd = open_at(name, _CREATE, self._options.file_mode, dir_fd=folder.fd)
            self._writing.add(fd)
            return fd

    def _set_mode(self, fd: int, like: os.stat_result | None) -> None:
        mode = self._options.file_mode if like is None else stat.S_IMODE(like.st_mode)
        # The umask cuts what open was given; it leaves the usual 0600 alone.
        if mode != 0o600 or self._options.file_mode != 0o600:
            os.fchmod(fd, mode)
        if like is not None and (like.st_uid != os.geteuid() or like.st_gid != os.getegid()):
            # The owner where that is allowed; the mode again, since a change of owner may take bits away.
            with contextlib.suppress(OSError):
                os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, mode)

    def _new_folder(self) -> Directory:
        with self._mutex:
            if self._folder is not None and self._folder.is_current():
                return self._folder
            parent = self._tree.make(STAGING)
            self._folder, self._lock = self._make_own(parent)
            try:
                self._on_first_use(self)
            except BaseException:
                # Not used at all, then: the next write must ask again.
                self.close()
                raise
            folder = self._folder
        self._sweep(parent)
        return folder

    def _make_own(self, parent: Directory) -> tuple[Directory, Lockable]:
        for _ in range(_TRIES):
            name = os.urandom(8).hex()
            os.mkdir(name, 0o700, dir_fd=parent.fd)
            with contextlib.suppress(FileNotFoundError):
                folder = parent.below(name)
                lock = Lockable.open_directory(folder)
                # A sweeper may have taken it for a dead one's between mkdir and here.
                if lock.try_lock() and lock.is_current():
                    return folder, lock
        raise StorageError("lock a folder of its own in", parent.path, errno.ENOLCK)

    def _sweep(self, parent: Directory) -> None:
        for name in parent.folders():
            # What cannot be removed now does no harm.
            with contextlib.suppress(OSError):
                folder = parent.below(name)
                lock = Lockable.open_directory(folder)
                try:
                    if lock.try_lock():
                        leftovers.rescue(self._tree, folder)
                        parent.remove(name)
                finally:
                    lock.close()
