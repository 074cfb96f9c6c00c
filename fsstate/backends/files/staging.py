"""New content before it gets its name: written and flushed aside, then moved into place in one step.

A document's new content is staged in `.fsstate/staging/<owner>/`, where no listing looks, flushed, and renamed over the old
(rename(2) is atomic: readers find the one or the other). Each process owns one such folder and keeps it locked
while it lives; a folder whose lock is free belongs to a dead process, and the next writer sweeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import stat
import threading
from collections.abc import Callable
from typing import Final

from fsstate.backends.files.locks import identity_of, leads_to, try_flock
from fsstate.backends.files.tree import Directory, Tree, write_all
from fsstate.options import StoreOptions

__all__ = ["Staged", "Staging"]

_STAGING: Final = ".fsstate/staging"
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Staged:
    """A file that has content but no name yet. Discarded at the end of its `with` block unless it was moved."""

    __slots__ = ("_directory", "_name", "fd")

    def __init__(self, directory: Directory, name: str, fd: int) -> None:
        self._directory: Directory | None = directory
        self._name = name
        self.fd = fd

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._directory is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._directory.fd)

    def close(self) -> None:
        """Close the descriptor; the file stays. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def detach(self) -> int:
        """Hand the descriptor over to the caller."""
        fd, self.fd = self.fd, -1
        return fd

    def move(self, target: Directory, name: str) -> None:
        """Give it its name, replacing what has the name now."""
        assert self._directory is not None
        os.rename(self._name, name, src_dir_fd=self._directory.fd, dst_dir_fd=target.fd)
        self._directory = None


class Staging:
    """The staging folder of this process. Safe to share between threads."""

    def __init__(self, tree: Tree, options: StoreOptions, on_first_use: Callable[[], None]) -> None:
        self._tree = tree
        self._options = options
        self._on_first_use = on_first_use
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew: the folder and its lock stay with the parent."""
        # Reentrant: what happens on first use stages files of its own.
        self._mutex = threading.RLock()
        self._numbers = itertools.count()
        self._folder: Directory | None = None

    def create(self, data: bytes, like: os.stat_result | None = None) -> Staged:
        """Stage `data` with the options' mode, or with the mode and owner of the file it will replace. Not flushed yet."""
        staged = self._create_file()
        try:
            self._set_mode(staged.fd, like)
            write_all(staged.fd, data)
        except BaseException:
            staged.__exit__()
            raise
        return staged

    def take_away(self, directory: Directory, name: str) -> None:
        """Move an entry, whatever it is, out of sight and then remove it. Nobody sees it half removed."""
        folder = self.folder()
        number = f"{next(self._numbers)}.gone"
        os.rename(name, number, src_dir_fd=directory.fd, dst_dir_fd=folder.fd)
        folder.remove(number)

    def close(self) -> None:
        """Remove the folder of this process."""
        with self._mutex:
            folder, self._folder = self._folder, None
        if folder is not None:
            with contextlib.suppress(OSError):
                os.rmdir(folder.path)

    def _create_file(self) -> Staged:
        folder = self.folder()
        name = str(next(self._numbers))
        try:
            fd = os.open(name, _CREATE, self._options.file_mode, dir_fd=folder.fd)
        except FileNotFoundError:
            # Somebody deleted .fsstate while we ran: they may.
            folder = self._new_folder()
            fd = os.open(name, _CREATE, self._options.file_mode, dir_fd=folder.fd)
        return Staged(folder, name, fd)

    def _set_mode(self, fd: int, like: os.stat_result | None) -> None:
        if like is None:
            # The umask cuts what open was given.
            if self._options.file_mode != 0o600:
                os.fchmod(fd, self._options.file_mode)
            return
        mode = stat.S_IMODE(like.st_mode)
        if mode != 0o600 or self._options.file_mode != 0o600:
            os.fchmod(fd, mode)
        if like.st_uid != os.geteuid() or like.st_gid != os.getegid():
            with contextlib.suppress(PermissionError):
                os.fchown(fd, like.st_uid, like.st_gid)

    def folder(self) -> Directory:
        """The folder, made on first use."""
        return self._folder or self._new_folder()

    def _new_folder(self) -> Directory:
        with self._mutex:
            if self._folder is None or not self._folder.is_current():
                parent = self._tree.make(_STAGING)
                self._folder = self._lock_new_folder(parent)
                self._sweep(parent)
                self._on_first_use()
            return self._folder

    def _lock_new_folder(self, parent: Directory) -> Directory:
        while True:
            name = os.urandom(8).hex()
            os.mkdir(name, 0o700, dir_fd=parent.fd)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(FileNotFoundError):
                folder = Directory(os.open(name, flags, dir_fd=parent.fd), f"{parent.path}/{name}")
                # A sweeper may have taken it for a dead one's between mkdir and here.
                if try_flock(folder.fd) and leads_to(folder.path, identity_of(folder.fd)):
                    return folder

    def _sweep(self, parent: Directory) -> None:
        for entry in list(parent.entries()):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    self._sweep_folder(parent, entry.name)

    def _sweep_folder(self, parent: Directory, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.fd)
        try:
            if try_flock(fd, fcntl.LOCK_EX):
                parent.remove(name)
        finally:
            os.close(fd)
