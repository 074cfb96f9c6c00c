"""The directories of a store, reached from its root without following a symlink.

Guarantees: no descriptor handed out lies outside the root at the moment it is opened; a directory that `make` returns will
still be there after a power cut, and so will every directory above it up to the root.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from fsstate.errors import StorageError, UnsafePathError
from fsstate.options import StoreOptions

__all__ = ["Directory", "Tree", "open_regular", "write_all"]

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT: Final = 128


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however many short writes that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def open_regular(directory: Directory, name: str, flags: int, mode: int = 0o600) -> int | None:
    """Open a plain file in a directory, or return None when it does not exist.

    Raises UnsafePathError for a symlink, a directory, or anything else that is no plain file; nothing waits for a pipe.
    """
    try:
        fd = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        path = f"{directory.path}/{name}"
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UnsafePathError.of("use as a plain file", path, error) from error
        raise StorageError.of("open", path, error) from error
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind == stat.S_IFREG:
        return fd
    os.close(fd)
    code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise UnsafePathError("use as a plain file", f"{directory.path}/{name}", code)


class Directory:
    """An open directory. Its descriptor lives as long as somebody refers to the object."""

    __slots__ = ("_identity", "fd", "lasting", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        status = os.fstat(fd)
        self._identity = (status.st_dev, status.st_ino)
        # Whether this process has made sure that the name survives a power cut.
        self.lasting = False

    def __del__(self) -> None:
        os.close(self.fd)

    def is_current(self) -> bool:
        """Whether its path still leads to it: a checkout or a person may have put another one there."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """What lies in it, in no order."""
        with os.scandir(self.fd) as entries:
            yield from entries

    def remove(self, name: str) -> None:
        """Remove an entry with all that is below it. Symlinks are removed, never followed."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            self._remove_directory(name)

    def _remove_directory(self, name: str) -> None:
        below = Directory(os.open(name, _OPEN_DIRECTORY, dir_fd=self.fd), f"{self.path}/{name}")
        for entry in list(below.entries()):
            below.remove(entry.name)
        os.rmdir(name, dir_fd=self.fd)


class Tree:
    """Opens, keeps and makes the directories below a root. Safe to share between threads."""

    def __init__(self, root: str, options: StoreOptions) -> None:
        self.root = root
        self._options = options
        self._flush = options.durability == "full"
        self._kept: OrderedDict[str, Directory] = OrderedDict()
        self._mutex = threading.Lock()

    def forget(self) -> None:
        """Let go of all descriptors that nobody uses."""
        with self._mutex:
            self._kept.clear()

    def after_fork(self) -> None:
        """Replace what another thread may have held at the fork."""
        self._mutex = threading.Lock()

    def path(self, below: str) -> str:
        """The path of what lies at `below` the root."""
        return f"{self.root}/{below}" if below else self.root

    def find(self, below: str) -> Directory | None:
        """The directory at `below` the root (the root itself when empty), or None when it does not exist.

        Raises UnsafePathError where a symlink stands in the way.
        """
        kept = self._kept.get(below)
        if kept is not None and kept.is_current():
            return kept
        return self._reach(below, make=False)

    def make(self, below: str) -> Directory:
        """The same, making it and what is missing above it. Raises UnsafePathError where a file stands in the way."""
        kept = self._kept.get(below)
        if kept is not None and kept.lasting and kept.is_current():
            return kept
        made = self._reach(below, make=True)
        assert made is not None
        return made

    def sync(self, directory: Directory) -> None:
        """Make the names in a directory survive a power cut."""
        if self._flush:
            os.fsync(directory.fd)

    def _reach(self, below: str, *, make: bool) -> Directory | None:
        directory = self._open_root(make=make)
        reached = ""
        for segment in below.split("/") if below else ():
            if directory is None:
                return None
            reached = f"{reached}/{segment}" if reached else segment
            directory = self._step(directory, segment, reached, make=make)
        return directory

    def _keep(self, below: str, directory: Directory) -> Directory:
        with self._mutex:
            self._kept[below] = directory
            self._kept.move_to_end(below)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return directory

    def _step(self, parent: Directory, segment: str, below: str, *, make: bool) -> Directory | None:
        kept = self._kept.get(below)
        if kept is not None and (kept.lasting or not make) and kept.is_current():
            return kept
        made = make and self._make_entry(parent, segment)
        try:
            fd = os.open(segment, _OPEN_DIRECTORY, dir_fd=parent.fd)
        except FileNotFoundError:
            return None
        except (NotADirectoryError, OSError) as error:
            return self._explain(parent, segment, below, error, make=make)
        directory = Directory(fd, self.path(below))
        if make:
            self._make_lasting(parent, directory, made=made)
        return self._keep(below, directory)

    def _make_entry(self, parent: Directory, segment: str) -> bool:
        try:
            os.mkdir(segment, self._options.directory_mode, dir_fd=parent.fd)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError.of("make the directory", f"{parent.path}/{segment}", error) from error
        return True

    def _make_lasting(self, parent: Directory, directory: Directory, *, made: bool) -> None:
        # Also for a directory that was there: its maker may have died between mkdir and fsync.
        if made:
            self._set_mode(directory)
        try:
            self.sync(parent)
        except OSError as error:
            raise StorageError.of("make sure of the directory", directory.path, error) from error
        directory.lasting = True

    def _set_mode(self, directory: Directory) -> None:
        # mkdir's mode is cut by the umask.
        if stat.S_IMODE(os.fstat(directory.fd).st_mode) != self._options.directory_mode:
            os.fchmod(directory.fd, self._options.directory_mode)

    def _explain(self, parent: Directory, segment: str, below: str, error: OSError, *, make: bool) -> Directory | None:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise StorageError.of("open the directory", self.path(below), error) from error
        status = os.stat(segment, dir_fd=parent.fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise UnsafePathError("follow the symlink", self.path(below), errno.ELOOP) from error
        if make:
            raise UnsafePathError("use as a directory", self.path(below), errno.ENOTDIR) from error
        return None

    def _open_root(self, *, make: bool) -> Directory | None:
        kept = self._kept.get("")
        if kept is not None and (kept.lasting or not make) and kept.is_current():
            return kept
        if make:
            self._make_root(self.root)
        try:
            # The root itself may be a symlink: whoever opened the store named it.
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            if make or isinstance(error, NotADirectoryError):
                raise StorageError.of("open the directory", self.root, error) from error
            return None
        except OSError as error:
            raise StorageError.of("open the directory", self.root, error) from error
        directory = Directory(fd, self.root)
        directory.lasting = make
        return self._keep("", directory)

    def _make_root(self, path: str) -> None:
        above = os.path.dirname(path) or "."
        try:
            os.mkdir(path, self._options.directory_mode)
        except FileNotFoundError:
            self._make_root(above)
            os.mkdir(path, self._options.directory_mode)
        except FileExistsError:
            self._sync_path(above, optional=True)
            return
        except OSError as error:
            raise StorageError.of("make the directory", path, error) from error
        self._sync_path(above, optional=False)

    def _sync_path(self, path: str, *, optional: bool) -> None:
        if not self._flush:
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            # A root that was there before us may stand in a directory that we may not read.
            if not optional:
                raise StorageError.of("make sure of the directory", path, error) from error
