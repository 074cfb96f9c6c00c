"""Looks after a store's files: what is not as a store makes it, and how that is mended.

What mends looks again first: it takes the lock that writers take, and does nothing where what was seen is so no more.
Each is one step, or can be begun anew after a kill. What is taken out of the store is whole in its new place before it
is gone from the old one; see `carrying`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from fsstate.backends.base import BadLine, LogLine, Oddity, Ref, Torn
from fsstate.backends.files import leftovers, log_mending
from fsstate.backends.files.carrying import carry_folder, carry_oddity
from fsstate.backends.files.deletion import Belongings
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.locks import LOCKS, RecordLocks
from fsstate.backends.files.mark import MARK, Mark
from fsstate.backends.files.staging import STAGING, Staging
from fsstate.backends.files.tree import Directory, Tree, refusals
from fsstate.errors import FsStateError, NotFoundError, StorageError
from fsstate.mounts import FileSystem
from fsstate.options import StoreOptions

__all__ = ["FileUpkeep"]

_OWN: Final = ".fsstate"
_CACHE: Final = ".fsstate/cache"
# What lies in these was made by others, or is looked at by itself.
_NOT_ENTERED: Final = frozenset(f"{_OWN}/{name}" for name in ("cache", "locks", "quarantine", "staging", "trash"))
_OTHERS: Final = 0o077
# Seconds.
_INSTANT: Final = 0.02
_CRASHED: Final = (FileNotFoundError, NotADirectoryError)


class FileUpkeep:
    """The upkeep of one store's files. Any thread may call."""

    def __init__(
        self,
        tree: Tree,
        staging: Staging,
        locks: RecordLocks,
        belongings: Belongings,
        options: StoreOptions,
    ) -> None:
        self._tree = tree
        self._staging = staging
        self._locks = locks
        self._belongings = belongings
        self._options = options

    # -- looking

    def mark_flaw(self) -> FsStateError | None:
        try:
            Mark(self._tree, self._options).check()
        except FsStateError as error:
            return error
        return None

    def is_marked(self) -> bool:
        return os.path.lexists(self._tree.path(MARK))

    def is_writable(self) -> bool:
        return os.access(self._tree.root, os.W_OK)

    def oddities(self) -> Iterator[Oddity]:
        most = self._most_allowed()
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                entries = self._entries(folder)
            except _CRASHED:
                continue
            except (OSError, StorageError):
                # Its mode was told with those in the folder above; whatever else it is, listings tell of it.
                continue
            for name, status in entries:
                path = f"{folder}/{name}" if folder else name
                oddity = _oddity_of(path, status, most, self._tree.path(path))
                if oddity is not None:
                    yield oddity
            # Behind them: who was told of a folder that cannot be looked into may have mended that.
            below = [f"{folder}/{name}" if folder else name for name, status in entries if stat.S_ISDIR(status.st_mode)]
            waiting += [path for path in reversed(below) if path not in _NOT_ENTERED]

    def _entries(self, folder: str) -> list[tuple[str, os.stat_result]]:
        """What is in a folder, by name, but for what is hidden there."""
        found: list[tuple[str, os.stat_result]] = []
        with os.scandir(self._tree.path(folder)) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not (entry.name == _OWN and not folder) and folder != _OWN:
                    continue
                with contextlib.suppress(*_CRASHED):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        return sorted(found)

    def _most_allowed(self) -> int:
        """Which of others' permissions a file may have: those that the options give, or the store was made with.

        Any where nobody else may enter the store's directory: git and editors make files that all may read.
        """
        made = self._options.file_mode
        with contextlib.suppress(OSError):
            if not os.stat(self._tree.root).st_mode & (stat.S_IXGRP | stat.S_IXOTH):
                return _OTHERS
        with contextlib.suppress(OSError):
            made |= os.stat(self._tree.path(MARK), follow_symlinks=False).st_mode
        return made & _OTHERS

    def leftovers(self) -> list[str]:
        directory = self._tree.find(STAGING)
        if directory is None:
            return []
        files, folders = directory.kinds()
        dead = [name for name in folders if not self._is_used(directory, name)]
        if dead:
            # Whoever has just made one locks it in an instant.
            time.sleep(_INSTANT)
            dead = [name for name in dead if not self._is_used(directory, name)]
        return [f"{STAGING}/{name}" for name in sorted((*files, *dead))]

    def _is_used(self, directory: Directory, name: str) -> bool:
        with refusals("look at", f"{directory.path}/{name}"):
            try:
                lock = Lockable.open_directory(directory.below(name))
            except _CRASHED:
                return True
        with contextlib.closing(lock):
            return lock.is_held() or not lock.is_current()

    def stale_locks(self) -> list[str]:
        directory = self._tree.find(LOCKS)
        return (
            []
            if directory is None
            else [f"{LOCKS}/{name}" for name in sorted(directory.files()) if _is_free(directory, name)]
        )

    def useless_caches(self) -> list[str]:
        from fsstate.backends.files.cache import useless_files

        directory = self._tree.find(_CACHE)
        return [] if directory is None else [f"{_CACHE}/{name}" for name in useless_files(directory)]

    def tail_flaw(self, ref: Ref) -> BadLine | None:
        return log_mending.tail_flaw(self._tree, ref)

    def lines(self, ref: Ref) -> Iterator[tuple[int, int, LogLine | BadLine]]:
        return log_mending.numbered(self._tree, ref)

    def may_take(self, line: BadLine) -> bool:
        return log_mending.is_damage(line.data)

    def file_system(self) -> FileSystem:
        # Brings subprocess along.
        from fsstate.backends.files.probing import probe

        return probe(self._tree, may_write=self.mark_flaw() is None and self.is_writable())

    # -- mending

    def remove(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        directory = self._tree.find(folder)
        if directory is None:
            return False
        with refusals("remove", self._tree.path(path)):
            if folder == STAGING:
                return self._remove_leftover(directory, name)
            if folder == LOCKS:
                return self._remove_lock(directory, name)
            if path not in self.useless_caches():
                return False
            directory.remove(name)
            return True

    def _remove_leftover(self, directory: Directory, name: str) -> bool:
        try:
            lock = Lockable.open_directory(directory.below(name))
        except NotADirectoryError:
            directory.remove(name)
            return True
        except FileNotFoundError:
            return False
        with contextlib.closing(lock):
            if not lock.try_lock() or not lock.is_current():
                return False
            # What a person may have saved while its writer was killed is no leftover.
            leftovers.rescue(self._tree, directory.below(name))
            directory.remove(name)
            return True

    def _remove_lock(self, directory: Directory, name: str) -> bool:
        file = Lockable.open_file(directory, name, os.O_RDONLY)
        if file is None:
            return False
        with contextlib.closing(file):
            if not file.try_lock() or not file.is_current():
                return False
            # While it is locked: who opened it meanwhile finds that it is not the lock file any more.
            directory.remove(name)
            return True

    def set_mode(self, oddity: Oddity) -> str | None:
        path = self._tree.path(oddity.path)
        with refusals("change the mode of", path):
            try:
                status = os.stat(path, follow_symlinks=False)
            except _CRASHED:
                return None
            mode = _mended_mode(status, self._most_allowed())
            if mode == stat.S_IMODE(status.st_mode):
                return None
            os.chmod(path, mode)
            return f"{mode:04o}"

    def take_link(self, oddity: Oddity, to: str) -> bool:
        folder, _, name = oddity.path.rpartition("/")
        directory = self._tree.find(folder)
        if directory is None:
            return False
        with refusals("move", self._tree.path(oddity.path)):
            try:
                status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
            if _identity(status) != oddity.identity:
                return False
            carry_oddity(self._tree, directory, name, self._target(to))
        return True

    def take_folder(self, owner: Ref, to: str) -> bool:
        timeout = self._options.lock_timeout
        with self._locks.acquire(owner, timeout) as lock:
            lock.bind_to_thread()
            if self._is_there(owner):
                return False
            directory = self._tree.find(owner.category)
            with self._belongings.alone_with(owner.belongings, timeout) as folder:
                if directory is None or folder is None:
                    return False
                with refusals("move", folder.path):
                    target = self._target(to)
                    carry_folder(self._tree, directory, owner.name, target, owner.name)
                    self._tree.sync(target)
                    self._tree.sync(directory)
        return True

    def _is_there(self, owner: Ref) -> bool:
        try:
            self._belongings.require(owner)
        except NotFoundError:
            return False
        return True

    def take_lines(self, ref: Ref, to: str) -> Torn | None:
        self._staging.folder()
        return log_mending.take_lines(self._tree, self._staging, ref, to, self._options.lock_timeout)

    def _target(self, to: str) -> Directory:
        # The first write to a store marks it, and none is made to one of a newer format.
        self._staging.folder()
        return self._tree.make(to)


def _oddity_of(path: str, status: os.stat_result, most: int, whole: str) -> Oddity | None:
    mode, kind = stat.S_IMODE(status.st_mode), stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        return Oddity("symlink", path, _led_to(whole), _identity(status))
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return Oddity("special", path, _SPECIAL.get(kind, "something unknown"), _identity(status))
    if mode == _mended_mode(status, most):
        return None
    is_enough = mode & _needed(status) == _needed(status)
    told = "loose" if is_enough else "hidden" if kind == stat.S_IFDIR else "unreadable"
    return Oddity(told, path, f"{mode:04o}", _identity(status))


_SPECIAL: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _led_to(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _needed(status: os.stat_result) -> int:
    """What its owner must be allowed. A document that may not be written is replaced all the same."""
    return 0o700 if stat.S_ISDIR(status.st_mode) else 0o400


def _mended_mode(status: os.stat_result, most: int) -> int:
    """The mode without what others may do with it who may not, and with what its owner must."""
    mode = stat.S_IMODE(status.st_mode)
    is_folder = stat.S_ISDIR(status.st_mode)
    if is_folder:
        # Whoever may read the files may look into their folders.
        most |= (most & 0o044) >> 2
    kept = mode & ~_OTHERS | mode & most
    if kept & _needed(status) != _needed(status):
        kept |= 0o700 if is_folder else 0o600
    return kept


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _is_free(directory: Directory, name: str) -> bool:
    try:
        file = Lockable.open_file(directory, name, os.O_RDONLY)
    except StorageError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return False
        raise
    if file is None:
        return False
    with contextlib.closing(file):
        return not file.is_held() and file.is_current()
