"""The directories of a store, reached from its root without following a symlink.

Guarantees: no descriptor handed out lies outside the root; a directory that `make` returns will still be there after
a power cut, and so will every directory above it up to the root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from typing import Final

from fsstate.backends.files.descriptors import open_at, with_enough
from fsstate.errors import FsStateError, StorageError, UnsafePathError
from fsstate.options import StoreOptions

__all__ = [
    "OPEN_DIRECTORY",
    "Directory",
    "Tree",
    "copy_bytes",
    "flush_data",
    "identity_of",
    "open_regular",
    "refusals",
    "write_all",
]

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Descriptors are few on some systems (256 a process on macOS): all that this package keeps stays below that.
_KEPT: Final = 32
# A directory may be removed between making and opening it; more often than this, something else is wrong.
_TRIES: Final = 8
_COPY: Final = 1024 * 1024
# A file system that cannot flush a directory says so with these; its names last as well as it makes them.
_NO_DIRECTORY_FLUSH: Final = (errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def refusals(action: str, path: str) -> Generator[None]:
    """Tell as StorageError what the operating system refuses in this block."""
    try:
        yield
    except FsStateError:
        raise
    except OSError as error:
        raise StorageError.of(action, path, error) from error


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however many short writes that takes."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def read_at(fd: int, size: int, start: int) -> bytes:
    """Read `size` bytes from an offset on, however many short reads that takes; fewer only where the file ends."""
    data = os.pread(fd, size, start)
    while len(data) < size and (more := os.pread(fd, size - len(data), start + len(data))):
        data += more
    return data


def copy_bytes(source: int, start: int, target: int, end: int | None = None) -> None:
    """Write what stands in a file from `start` on, and before `end`, behind what was written to another."""
    while data := os.pread(source, _COPY if end is None else min(_COPY, end - start), start):
        write_all(target, data)
        start += len(data)


def flush_data(fd: int) -> None:
    """Make a file's content survive a power cut. Never to be repeated on the same file when it failed."""
    if sys.platform == "darwin":
        # fsync leaves the data in the drive's cache there.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def identity_of(fd: int) -> tuple[int, int]:
    """What tells an open file from every other that exists now."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def open_regular(directory: Directory, name: str, flags: int, mode: int = 0o600) -> int | None:
    """Open a plain file in a directory, or return None when it (or, for a new one, the directory) does not exist.

    Raises UnsafePathError for a symlink, a directory, or anything else that is no plain file; nothing waits for a pipe.
    """
    try:
        fd = open_at(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        path = f"{directory.path}/{name}"
        if error.errno == errno.ELOOP:
            raise UnsafePathError.of("follow the symlink", path, error) from error
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise UnsafePathError.of("use as a plain file", path, error) from error
        raise StorageError.of("open", path, error) from error
    try:
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
    except OSError as error:
        os.close(fd)
        raise StorageError.of("look at", f"{directory.path}/{name}", error) from error
    if kind == stat.S_IFREG:
        return fd
    os.close(fd)
    code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise UnsafePathError("use as a plain file", f"{directory.path}/{name}", code)


class Directory:
    """An open directory. Its descriptor lives as long as somebody refers to the object."""

    __slots__ = ("_identity", "_name", "_parent", "fd", "lasting", "path")

    def __init__(self, fd: int, path: str, parent: Directory | None = None) -> None:
        self.fd = fd
        self.path = path
        self._parent = parent
        self._name = path.rpartition("/")[2]
        with refusals("look at", path):
            self._identity = identity_of(fd)
        # Whether this process has made sure that the name survives a power cut.
        self.lasting = False

    def __del__(self) -> None:
        os.close(self.fd)

    def is_current(self) -> bool:
        """Whether its path still leads to it, without a symlink: a checkout or a person may have put another there."""
        try:
            if self._parent is None:
                status = os.stat(self.path)
            elif self._parent.is_current():
                status = os.stat(self._name, dir_fd=self._parent.fd, follow_symlinks=False)
            else:
                return False
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def below(self, name: str) -> Directory:
        """Open a directory in it. Raises OSError, also for a symlink."""
        return Directory(open_at(name, OPEN_DIRECTORY, dir_fd=self.fd), f"{self.path}/{name}", self)

    def files(self) -> list[str]:
        """The names of the plain files in it, in no order."""
        with self.entries() as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]

    def folders(self) -> list[str]:
        """The names of the directories in it, in no order."""
        with self.entries() as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def kinds(self) -> tuple[list[str], list[str]]:
        """The names of the plain files and of the directories in it, in no order."""
        files: list[str] = []
        folders: list[str] = []
        with self.entries() as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
        return files, folders

    @contextlib.contextmanager
    def entries(self) -> Generator[Iterator[os.DirEntry[str]]]:
        """All that is in it, in no order, for the length of a block."""
        with refusals("list", self.path):
            # A descriptor of its own: two listings on one share its position, and each misses what the other took.
            fd = open_at(".", OPEN_DIRECTORY, dir_fd=self.fd)
            try:
                with with_enough(lambda: os.scandir(fd)) as entries:
                    yield entries
            finally:
                os.close(fd)

    def remove(self, name: str) -> None:
        """Remove an entry with all that is below it. Symlinks are removed, never followed."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            self.remove_folder(name)

    def remove_folder(self, name: str) -> None:
        """Remove a directory with all that is below it."""
        below = self.below(name)
        with below.entries() as entries:
            names = [entry.name for entry in entries]
        for each in names:
            below.remove(each)
        os.rmdir(name, dir_fd=self.fd)


class Tree:
    """Opens, keeps and makes the directories below a root. Safe to share between threads."""

    def __init__(self, root: str, options: StoreOptions, guard: Callable[[str], None] | None = None) -> None:
        """`guard` is asked before the first directory is made or made to last, and raises where that must not be."""
        self.root = root
        self._guard = guard
        self._mode = options.directory_mode
        # Whether what is acknowledged is to survive a power cut.
        self.flushes = options.durability == "full"
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

    def glance(self, below: str) -> Directory | None:
        """As `find`, for one of many that are looked at once: it takes no place among those that are kept."""
        if not below or below in self._kept:
            return self.find(below)
        above, _, name = below.rpartition("/")
        parent = self.glance(above)
        return None if parent is None else self._step(parent, name, below, make=False, keep=False)

    def make(self, below: str) -> Directory:
        """The same, making it and what is missing above it. Raises UnsafePathError where a file stands in the way."""
        kept = self._kept.get(below)
        if kept is not None and kept.lasting and kept.is_current():
            return kept
        self.require_safe()
        for _ in range(_TRIES):
            made = self._reach(below, make=True)
            if made is not None:
                return made
        raise StorageError("make the directory", self.path(below), errno.ENOENT)

    def require_safe(self) -> None:
        """Ask whether anything may be written here: the guard, until it has allowed it."""
        guard = self._guard
        if guard is not None:
            guard(self.root)
            self._guard = None

    def sync(self, directory: Directory) -> None:
        """Make the names in a directory survive a power cut."""
        if self.flushes:
            _sync(directory.fd)

    def _reach(self, below: str, *, make: bool) -> Directory | None:
        directory = self._open_root(make=make)
        reached = ""
        for segment in below.split("/") if below else ():
            if directory is None:
                return None
            reached = f"{reached}/{segment}" if reached else segment
            directory = self._step(directory, segment, reached, make=make)
        return directory

    def _known(self, below: str, *, make: bool) -> Directory | None:
        kept = self._kept.get(below)
        return kept if kept is not None and (kept.lasting or not make) and kept.is_current() else None

    def _keep(self, below: str, directory: Directory) -> Directory:
        with self._mutex:
            self._kept[below] = directory
            self._kept.move_to_end(below)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return directory

    def _step(self, parent: Directory, segment: str, below: str, *, make: bool, keep: bool = True) -> Directory | None:
        known = self._known(below, make=make)
        if known is not None:
            return known
        made = make and self._make_entry(parent, segment)
        try:
            fd = open_at(segment, OPEN_DIRECTORY, dir_fd=parent.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._explain(parent, segment, below, error, make=make)
        directory = Directory(fd, self.path(below), parent)
        if make:
            self._make_lasting(parent, directory, made=made)
        return self._keep(below, directory) if keep else directory

    def _make_entry(self, parent: Directory, segment: str) -> bool:
        try:
            os.mkdir(segment, self._mode, dir_fd=parent.fd)
        except (FileExistsError, FileNotFoundError):
            # When the parent is gone, opening the entry will tell.
            return False
        except OSError as error:
            raise StorageError.of("make the directory", f"{parent.path}/{segment}", error) from error
        return True

    def _make_lasting(self, parent: Directory, directory: Directory, *, made: bool) -> None:
        with refusals("make sure of the directory", directory.path):
            # mkdir's mode is cut by the umask.
            if made and stat.S_IMODE(os.fstat(directory.fd).st_mode) != self._mode:
                os.fchmod(directory.fd, self._mode)
            # Also for a directory that was there: its maker may have died between mkdir and fsync.
            self.sync(parent)
        directory.lasting = True

    def _explain(self, parent: Directory, segment: str, below: str, error: OSError, *, make: bool) -> Directory | None:
        path = self.path(below)
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise StorageError.of("open the directory", path, error) from error
        with refusals("look at", path):
            status = os.stat(segment, dir_fd=parent.fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            raise UnsafePathError("follow the symlink", path, errno.ELOOP) from error
        if make:
            raise UnsafePathError("use as a directory", path, errno.ENOTDIR) from error
        return None

    # -- the root

    def _open_root(self, *, make: bool) -> Directory | None:
        known = self._known("", make=make)
        if known is not None:
            return known
        if make:
            self._make_root(self.root)
        try:
            # The root itself may be a symlink: whoever opened the store named it.
            fd = open_at(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError.of("open the directory", self.root, error) from error
        directory = Directory(fd, self.root)
        directory.lasting = make
        return self._keep("", directory)

    def _make_root(self, path: str) -> None:
        above = os.path.dirname(path)
        with refusals("make the directory", path):
            try:
                made = self._make_plain(path)
            except FileNotFoundError:
                self._make_root(above)
                made = self._make_plain(path)
        try:
            self._sync_path(above)
        except OSError as error:
            # A root that was there before us may stand in a directory that we may not read.
            if made:
                raise StorageError.of("make sure of the directory", path, error) from error

    def _make_plain(self, path: str) -> bool:
        try:
            os.mkdir(path, self._mode)
        except FileExistsError:
            return False
        if stat.S_IMODE(os.stat(path).st_mode) != self._mode:
            os.chmod(path, self._mode)
        return True

    def _sync_path(self, path: str) -> None:
        if not self.flushes:
            return
        fd = open_at(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(fd)
        finally:
            os.close(fd)


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FLUSH:
            raise
