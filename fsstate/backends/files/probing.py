"""What a file system does, tried out: locks, renames, links, flushes, names and times.

Works in a folder of its own in `.fsstate/staging`, which is kept locked and removed. Where there is none yet, or
nothing may be written, what the mount tells is all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from fsstate import mounts
from fsstate.backends.files import renames
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.guarding import lock_at_once, nearest
from fsstate.backends.files.staging import STAGING
from fsstate.backends.files.tree import Directory, Tree, flush_data, read_at, write_all
from fsstate.errors import FsStateError
from fsstate.mounts import FileSystem, Trait

__all__ = ["probe"]

_CHILD: Final = "import fcntl, sys\nwith open(sys.argv[1]) as f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
_CHILD_PATIENCE: Final = 10.0
# By device: to start other processes takes longer than all the rest, and tells the same again.
_kept_apart: Final[dict[int, bool | None]] = {}
# Nanoseconds; the coarsest first.
_STEPS: Final = ((1_000_000_000, "1 s"), (1_000_000, "1 ms"), (1_000, "1 µs"), (1, "1 ns"))


def probe(tree: Tree, *, may_write: bool) -> FileSystem:
    """Tell what the file system of a store does; with `may_write`, also what needs a file to find out."""
    place = nearest(tree.root)
    mount = mounts.mount_of(place) or mounts.Mount("", "", "unknown")
    traits: list[Trait] = []
    if may_write and not mount.is_read_only:
        # Where nothing can be written, or is refused, what the mount tells is all.
        with contextlib.suppress(OSError, FsStateError), _scratch(tree) as folder:
            traits = [trial(folder) for trial in _TRIALS]
    return FileSystem(
        mount.kind,
        mount.point,
        mount.source,
        network=mount.is_network,
        in_memory=mount.is_in_memory,
        read_only=mount.is_read_only,
        journaled=mounts.journal_of(place, mount.kind),
        traits=traits,
    )


@contextlib.contextmanager
def _scratch(tree: Tree) -> Generator[Directory]:
    """A folder to try things in. Locked while it is used: one that stays behind a kill is swept by the next writer."""
    if tree.find(STAGING.rpartition("/")[0]) is None:
        # Not made here: who only looks at a directory must not make it a store.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), tree.path(STAGING))
    with contextlib.suppress(FileExistsError):
        # A clone has none. It is harmless where it stays behind.
        os.mkdir(tree.path(STAGING), 0o700)
    staging = tree.find(STAGING)
    assert staging is not None
    name = os.urandom(8).hex()
    os.mkdir(name, 0o700, dir_fd=staging.fd)
    folder = staging.below(name)
    lock = Lockable.open_directory(folder)
    try:
        lock.try_lock()
        yield folder
    finally:
        with contextlib.suppress(OSError):
            staging.remove(name)
        lock.close()


class _Answer(NamedTuple):
    holds: bool | None
    more: str = ""


def _trial(name: str, yes: str, no: str) -> Callable[[Callable[[Directory], _Answer]], Callable[[Directory], Trait]]:
    """Make a trait of what a function finds out; what the system refuses does not hold."""

    def named(function: Callable[[Directory], _Answer]) -> Callable[[Directory], Trait]:
        def tried(folder: Directory) -> Trait:
            try:
                holds, more = function(folder)
            except OSError as error:
                holds, more = False, f" ({os.strerror(error.errno or 0)})"
            told = f"{yes}: this could not be tried" if holds is None else yes if holds else no
            return Trait(name, holds, told + more)

        return tried

    return named


@contextlib.contextmanager
def _opened(folder: Directory, name: str, flags: int) -> Generator[int]:
    fd = os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _make(folder: Directory, name: str, data: bytes = b"") -> None:
    with _opened(folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        write_all(fd, data)


def _read(folder: Directory, name: str) -> bytes:
    with _opened(folder, name, os.O_RDONLY) as fd:
        return read_at(fd, 64, 0)


def _exists(folder: Directory, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@_trial("locks", "locks keep threads and open files apart", "locks do not keep open files apart: writes may be lost")
def _locks(folder: Directory) -> _Answer:
    _make(folder, "lock")
    with _opened(folder, "lock", os.O_RDWR) as one, _opened(folder, "lock", os.O_RDWR) as other:
        return _Answer(lock_at_once(one) and not lock_at_once(other))


@_trial("process_locks", "locks keep processes apart", "locks do not keep processes apart: writes may be lost")
def _process_locks(folder: Directory) -> _Answer:
    if not sys.executable:
        return _Answer(None)
    device = os.fstat(folder.fd).st_dev
    if device not in _kept_apart:
        _kept_apart[device] = _keeps_processes_apart(folder)
    return _Answer(_kept_apart[device])


def _keeps_processes_apart(folder: Directory) -> bool | None:
    _make(folder, "shared")
    with _opened(folder, "shared", os.O_RDWR) as fd:
        held = lock_at_once(fd)
        taken_too = _can_lock_elsewhere(f"{folder.path}/shared")
        fcntl.flock(fd, fcntl.LOCK_UN)
        # Also once it is free: a process that fails in any case tells nothing.
        free = _can_lock_elsewhere(f"{folder.path}/shared")
    return held and not taken_too if free else None


def _can_lock_elsewhere(path: str) -> bool:
    command = [sys.executable, "-I", "-S", "-c", _CHILD, path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_CHILD_PATIENCE, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@_trial("atomic_rename", "a rename replaces a file in one step", "a rename does not replace a file")
def _rename(folder: Directory) -> _Answer:
    _make(folder, "old", b"old")
    _make(folder, "new", b"new")
    os.rename("new", "old", src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    return _Answer(_read(folder, "old") == b"new" and not _exists(folder, "new"))


@_trial("no_replace", "a rename can spare what is there", "a rename cannot be told to spare what is there")
def _no_replace(folder: Directory) -> _Answer:
    _make(folder, "taken", b"taken")
    _make(folder, "mover", b"mover")
    code = _rename_as(folder, "mover", "taken", renames.NOREPLACE)
    if code is None:
        return _Answer(None)
    return _Answer(code == errno.EEXIST and _read(folder, "taken") == b"taken")


@_trial("exchange", "two files can trade names in one step", "two files cannot trade names in one step")
def _exchange(folder: Directory) -> _Answer:
    _make(folder, "one", b"one")
    _make(folder, "two", b"two")
    code = _rename_as(folder, "one", "two", renames.EXCHANGE)
    return _Answer(None) if code is None else _Answer(code == 0 and _read(folder, "one") == b"two")


def _rename_as(folder: Directory, old: str, new: str, flags: int) -> int | None:
    """The error's number, 0 when it went well, None where the system has no such call."""
    try:
        renames.renameat2(folder.fd, old, folder.fd, new, flags)
    except OSError as error:
        return None if error.errno == errno.ENOSYS else error.errno
    return 0


@_trial("hard_links", "a file can have two names", "a file cannot have two names: what moves to the trash is copied")
def _hard_links(folder: Directory) -> _Answer:
    _make(folder, "linked", b"x")
    os.link("linked", "second", src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    return _Answer(os.stat("linked", dir_fd=folder.fd).st_nlink == 2)


@_trial("file_flush", "files can be flushed", "files cannot be flushed: a power cut may take what was acknowledged")
def _file_flush(folder: Directory) -> _Answer:
    with _opened(folder, "flushed", os.O_RDWR | os.O_CREAT) as fd:
        write_all(fd, b"x")
        flush_data(fd)
    return _Answer(holds=True)


@_trial(
    "directory_flush",
    "directories can be flushed",
    "directories cannot be flushed: a new name lasts when the file system likes",
)
def _directory_flush(folder: Directory) -> _Answer:
    os.fsync(folder.fd)
    return _Answer(holds=True)


@_trial(
    "case_sensitive", "`a` and `A` are two names", "`a` and `A` are one name: the later record overwrites the other"
)
def _case(folder: Directory) -> _Answer:
    _make(folder, "case")
    return _Answer(not _exists(folder, "CASE"))


@_trial(
    "exact_names",
    "names are kept as they are, also those that only look alike (Unicode NFC and NFD)",
    "names that look alike (Unicode NFC and NFD) are one name, or are kept in another form",
)
def _exact_names(folder: Directory) -> _Answer:
    composed = "caf\u00e9"
    _make(folder, composed)
    return _Answer(
        composed in folder.files() and not _exists(folder, unicodedata.normalize("NFD", composed)),
    )


@_trial(
    "fine_times", "times of change are fine", "times of change are coarse: files are compared by their content for 2 s"
)
def _fine_times(folder: Directory) -> _Answer:
    _make(folder, "timed")
    wanted = time.time_ns() // 1_000_000_000 * 1_000_000_000 + 123_456_789
    os.utime("timed", ns=(wanted, wanted), dir_fd=folder.fd)
    kept = os.stat("timed", dir_fd=folder.fd).st_mtime_ns
    lost = abs(wanted - kept)
    step = next((told for size, told in _STEPS if lost >= size), "1 ns")
    return _Answer(lost < 1_000_000, f" (kept to {'within ' if lost else ''}{step})")


@_trial("long_names", "names of 255 bytes fit", "names of 255 bytes do not fit")
def _long_names(folder: Directory) -> _Answer:
    try:
        _make(folder, "n" * 255)
    except OSError:
        longest = os.pathconf(folder.path, "PC_NAME_MAX")
        return _Answer(holds=False, more=f" (the system tells of {longest})")
    return _Answer(holds=True)


_TRIALS: Final = (
    _locks,
    _process_locks,
    _rename,
    _no_replace,
    _exchange,
    _hard_links,
    _file_flush,
    _directory_flush,
    _case,
    _exact_names,
    _fine_times,
    _long_names,
)
