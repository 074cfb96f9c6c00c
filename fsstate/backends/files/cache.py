"""A SQLite database for what can be computed again: it may vanish, break or be written to by anybody, at any moment.

- Nothing in it is waited for: it is written without a flush. What a power cut leaves of it is not believed.
- A seal beside the file says how the file looked when a store wrote to it last, and in which run of the machine. A file
  that looks otherwise was written to by somebody else, or by a writer that was killed: it is thrown away. It must look
  so before it is read and after, too, and before a commit. So what is read here was not damaged, cut off or forged,
  whatever SQLite itself would have noticed of it. What cannot be told: that somebody wrote to it in the very moment of
  a commit, or while more was written than has its room in memory.
- Writers take turns by a file lock, across processes; readers wait for nobody but a commit.
- Where there can be no such file (a read-only directory, a full disk, a file system without locks), and in a store that
  has no `.fsstate` folder yet, which readers must not make, the database is in memory and this process's own.

Whoever uses it hands over work, which is done again, from the beginning, when the database had to be thrown away.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, TypeVar, cast
from urllib.parse import quote

import msgspec
import orjson

from fsstate.backends.base import State, Visit
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.tree import Directory, Tree, open_regular, refusals, write_all
from fsstate.errors import FsStateError, LockTimeoutError, StoreClosedError
from fsstate.forks import renew_in_children
from fsstate.options import StoreOptions

__all__ = ["CacheFile", "useless_files"]

R = TypeVar("R")

_HOME: Final = ".fsstate"
_FOLDER: Final = ".fsstate/cache"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
# To be changed whenever surveys remember something else, or otherwise.
_LAYOUT: Final = 1
_LONGEST_SEAL: Final = 4096
# Who found it broken this often within one piece of work does it in memory.
_ATTEMPTS: Final = 3
# How many seconds a fork waits for what other threads do with the database.
_PAUSE: Final = 1.0
# What SQLite holds in memory before it writes.
_MEMORY_KB: Final = 32_000
# https://www.sqlite.org/rescode.html: what says that the file is not what was written. All others say that it cannot be
# used here: locked, full, read-only, not to be opened.
_BROKEN: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA)

# What comes of reading what was damaged just when a store wrote it. SQLite's words about a damaged schema quote it.
_GARBAGE: Final = (UnicodeDecodeError, msgspec.DecodeError)

_log: Final = logging.getLogger("fsstate")
# In a forked child the parent's connections: closing one would do the parent's business a second time.
_abandoned: Final[list[sqlite3.Connection]] = []


class CacheFile:
    """One database, `.fsstate/cache/<name>.sqlite`, with the tables of `schema`. Threads use it one after the other."""

    def __init__(self, tree: Tree, options: StoreOptions, name: str, schema: str) -> None:
        self.path = tree.path(f"{_FOLDER}/{name}.sqlite")
        self._tree = tree
        self._options = options
        self._name = name
        self._schema = schema
        self._version = hashlib.sha256(f"{_LAYOUT} {schema} {sqlite3.sqlite_version}".encode()).hexdigest()
        self._mutex = threading.RLock()
        # At most one, and the inode that it reads: 0 is the memory.
        self._open: list[tuple[sqlite3.Connection, int]] = []
        self._is_private = False
        self._is_closed = False
        # There was no folder for it, and may be one later.
        self._is_homeless = False
        # Somebody was at it when this process was forked.
        self._is_disturbed = False
        self._finalizer = weakref.finalize(self, _close, self._open)
        renew_in_children(self)
        with _forking:
            _forkable.add(self)

    @property
    def is_private(self) -> bool:
        """Whether the database is in memory, because there can be no file."""
        return self._is_private

    def exists(self) -> bool:
        """Whether anything was kept. Makes nothing."""
        with self._mutex:
            self._require_open()
            if self._is_private:
                return True
            # What stands in the way is met, and told, where the file is used.
            with contextlib.suppress(OSError, FsStateError):
                return self._sealed() is not None
            return False

    def read(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes nothing, on one state of the database."""
        return self._do(self._read, work)

    def write(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes, all or nothing, while nobody else does. What it raises leaves everything as it was."""
        return self._do(self._write, work)

    def close(self) -> None:
        """Give back the file, or the memory. Later calls raise StoreClosedError."""
        with self._mutex:
            self._is_closed = True
            _close(self._open)
            self._is_private = False

    def pause(self) -> bool:
        """Keep threads from the database until `resume`; False when one does not end what it does there."""
        return self._mutex.acquire(timeout=_PAUSE)

    def resume(self) -> None:
        """Requires: `pause` in this thread."""
        self._mutex.release()

    def after_fork(self) -> None:
        """In a forked child: the connection is the parent's."""
        self._is_disturbed = self not in _paused
        self._mutex = threading.RLock()
        _abandoned.extend(connection for connection, _ in self._open)
        self._open.clear()
        self._is_private = False

    # Inside

    def _do(self, attempt: Callable[[Callable[[Visit], R]], R], work: Callable[[Visit], R]) -> R:
        with self._mutex:
            self._require_open()
            self._settle()
            for _ in range(_ATTEMPTS):
                try:
                    return attempt(_passing_on(work))
                except _WorkError as failed:
                    raise failed.error from None
                except _BrokenError:
                    self._throw_away()
                except (sqlite3.Error, *_GARBAGE, OSError, FsStateError) as error:
                    if self._is_private:
                        raise
                    if _is_broken(error):
                        self._throw_away()
                    else:
                        self._go_private(error)
            self._go_private(RuntimeError("it breaks again and again"))
            return attempt(work)

    def _require_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError(f"the store at {self._tree.root} was closed")

    def _settle(self) -> None:
        """Decide whether there is a place for the file. A store that nobody wrote to has none, and gets none here."""
        if self._is_disturbed:
            # SQLite takes the locks that a thread of the parent had on the file for those of this process, for ever.
            self._is_disturbed = False
            self._go_private(RuntimeError("another thread was at it when this process was forked"))
        has_home = self._has_home()
        if self._is_homeless and has_home:
            self._is_homeless = False
            self._move_in()
        elif not self._is_private and not has_home:
            self._go_private(None)
            self._is_homeless = True

    def _has_home(self) -> bool:
        try:
            return self._tree.find(_HOME) is not None
        except (OSError, FsStateError):
            # Something is there. Whether it is of use shows where it is used.
            return True

    def _move_in(self) -> None:
        """Put what is in memory into a file, now that there is a place for it, unless somebody else came first."""
        memory = self._open.pop()[0] if self._open else None
        self._is_private = False
        if memory is None:
            return
        with contextlib.closing(memory), contextlib.suppress(sqlite3.Error, OSError, FsStateError, _BrokenError):
            folder = self._tree.make(_FOLDER)
            with self._alone(folder):
                if self._sealed() is None:
                    self._begin(folder, memory)

    def _read(self, work: Callable[[Visit], R]) -> R:
        with contextlib.suppress(_UnsealedError):
            return self._read_once(work)
        # Somebody writes all the while.
        with self._alone(self._tree.make(_FOLDER)):
            return self._read_once(work, locked=True)

    def _read_once(self, work: Callable[[Visit], R], *, locked: bool = False) -> R:
        connection = self._valid(locked=locked)
        with _transaction(connection, "BEGIN"):
            state = _state(connection)
            with self._undamaged(connection):
                return work(Visit(connection, state, state))

    def _write(self, work: Callable[[Visit], R]) -> R:
        if self._is_private:
            return self._commit(self._valid(), work)
        folder = self._tree.make(_FOLDER)
        with self._alone(folder):
            result = self._commit(self._valid(locked=True), work)
            self._seal(folder)
            return result

    def _commit(self, connection: sqlite3.Connection, work: Callable[[Visit], R]) -> R:
        with _transaction(connection, "BEGIN IMMEDIATE"):
            state = _state(connection)
            with self._undamaged(connection):
                result = work(Visit(connection, state, State(state.born, state.writes + 1)))
            connection.execute("UPDATE fsstate_state SET writes = writes + 1")
            return result

    @contextlib.contextmanager
    def _undamaged(self, connection: sqlite3.Connection) -> Generator[None]:
        """Make sure that nobody touches the file while a block looks at it. Requires: a transaction is open.

        Until it ends no store writes to the file, but for what this one has too much to hold in memory.
        """
        if self._is_private:
            yield
            return
        seal, changes = self._sealed(), connection.total_changes
        if seal is None or seal.inode != self._open[0][1]:
            raise _UnsealedError
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is: garbage that was read may be why
            failed = error
        if self._sealed() != seal and not _may_have_spilled(connection, changes):
            raise _BrokenError from failed
        if failed is not None:
            raise failed

    def _valid(self, *, locked: bool = False) -> sqlite3.Connection:
        """A connection to a file that is as a store left it, made if need be. `locked`: we are alone already."""
        if self._is_private:
            return self._open[0][0]
        seal = self._sealed()
        if seal is None:
            folder = self._tree.make(_FOLDER)
            with contextlib.nullcontext() if locked else self._alone(folder):
                # A writer may have been between its commit and its seal.
                seal = self._sealed() or self._begin(folder)
        if not self._open or self._open[0][1] != seal.inode:
            self._connect(seal.inode)
        return self._open[0][0]

    def _sealed(self) -> Signature | None:
        """How the file looks, if that is how the last writer left it; else None."""
        folder = self._tree.find(_FOLDER)
        fd = None if folder is None else open_regular(folder, f"{self._name}.seal", os.O_RDONLY)
        if folder is None or fd is None:
            return None
        try:
            told = os.read(fd, _LONGEST_SEAL)
        finally:
            os.close(fd)
        try:
            looks = self._looks(folder)
        except FileNotFoundError:
            return None
        return looks if told == self._told(looks) and not self._has_journal(folder) else None

    def _has_journal(self, folder: Directory) -> bool:
        # Journals are in memory here. SQLite would roll back what this one says, or wait at a pipe.
        try:
            os.stat(f"{self._name}.sqlite-journal", dir_fd=folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _looks(self, folder: Directory) -> Signature:
        status = os.stat(f"{self._name}.sqlite", dir_fd=folder.fd, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            # SQLite would wait for the other end of a pipe.
            raise FileNotFoundError(errno.ENOENT, "no plain file", self.path)
        return Signature.of(status)

    def _told(self, looks: Signature) -> bytes:
        return orjson.dumps({"boot": _boot(), "version": self._version, "file": list(looks)}) + b"\n"

    def _seal(self, folder: Directory) -> None:
        """Say that the file is as it is meant to be. Requires: the lock is held."""
        looks = self._looks(folder)
        if looks.inode != self._open[0][1]:
            # Another file was put in the place of the one that was written to.
            raise _BrokenError
        # Replaced as a whole, lest anybody reads half of it.
        self._create(folder, "seal.new", self._told(looks))
        os.replace(f"{self._name}.seal.new", f"{self._name}.seal", src_dir_fd=folder.fd, dst_dir_fd=folder.fd)

    def _create(self, folder: Directory, suffix: str, data: bytes = b"") -> None:
        folder.remove(f"{self._name}.{suffix}")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(f"{self._name}.{suffix}", flags, self._options.file_mode, dir_fd=folder.fd)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def _begin(self, folder: Directory, content: sqlite3.Connection | None = None) -> Signature:
        """Begin the database anew, or with this content. Requires: the lock is held."""
        _close(self._open)
        for suffix in ("seal", "sqlite-journal", "sqlite-wal", "sqlite-shm"):
            folder.remove(f"{self._name}.{suffix}")
        self._create(folder, "sqlite")
        connection = self._connect(self._looks(folder).inode)
        if content is None:
            self._lay_out(connection)
        else:
            content.backup(connection)
        self._seal(folder)
        return self._looks(folder)

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        connection.executescript(self._schema)
        connection.execute("CREATE TABLE fsstate_state (born TEXT, writes INTEGER)")
        connection.execute("INSERT INTO fsstate_state VALUES (?, 0)", (os.urandom(8).hex(),))

    def _connect(self, inode: int) -> sqlite3.Connection:
        _close(self._open)
        connection = sqlite3.connect(
            _uri(self.path, "rw"),
            timeout=self._options.lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        self._open.append((connection, inode))
        # A flush would double what a save costs. Only where one run of the machine looks like the other it is needed.
        connection.execute(f"PRAGMA synchronous = {'OFF' if _boot() else 'FULL'}")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_MEMORY_KB}")
        # Put there between the look and the opening, it is not what was sealed.
        if os.stat(self.path, follow_symlinks=False).st_ino != inode:
            raise _BrokenError
        return connection

    @contextlib.contextmanager
    def _alone(self, folder: Directory) -> Generator[None]:
        """Keep other writers out for the length of a block."""
        lock = self._lock(folder)
        try:
            yield
        finally:
            lock.close()

    def _lock(self, folder: Directory) -> Lockable:
        seconds = self._options.lock_timeout
        flags = os.O_RDWR | os.O_CREAT
        while (lock := Lockable.open_file(folder, f"{self._name}.lock", flags, self._options.file_mode)) is not None:
            with refusals("lock", lock.path):
                if not lock.lock(seconds):
                    raise LockTimeoutError(lock.path, seconds)
            if lock.is_current():
                return lock
            lock.close()
        raise _BrokenError

    def _throw_away(self) -> None:
        """Have the next user begin anew: a file without a seal is nobody's."""
        _close(self._open)
        with contextlib.suppress(OSError, FsStateError):
            folder = self._tree.find(_FOLDER)
            if folder is not None:
                folder.remove(f"{self._name}.seal")

    def _go_private(self, reason: Exception | None) -> None:
        """Keep the database in memory from now on, beginning with what the file holds if that can be read."""
        _close(self._open)
        if reason is not None:
            # As text: an error kept by a log handler keeps frames and files.
            _log.warning("%s cannot be used, so what it is for takes longer here: %s", self.path, str(reason))
        memory = self._copied()
        if memory is None:
            memory = _in_memory()
            self._lay_out(memory)
        self._open.append((memory, 0))
        self._is_private = True

    def _copied(self) -> sqlite3.Connection | None:
        """What the file holds, in memory; None if it cannot be read or is not as a store left it."""
        memory = _in_memory()
        with contextlib.suppress(sqlite3.Error, OSError, FsStateError):
            seal = self._sealed()
            if seal is not None:
                with contextlib.closing(sqlite3.connect(_uri(self.path, "ro"), timeout=0, uri=True)) as file:
                    file.backup(memory, progress=_not_locked)
                if self._sealed() == seal and _state(memory):
                    return memory
        memory.close()
        return None


def _not_locked(status: int, _remaining: int, _total: int) -> None:
    # Else a copy waits without end for whoever keeps the file locked.
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("the file is locked")


def useless_files(folder: Directory) -> list[str]:
    """The names of the files in the caches' folder that the next use throws away, since no store left them so."""
    found = sorted(folder.files())
    names = dict.fromkeys(name.partition(".")[0] for name in found if name.endswith((".sqlite", ".seal")))
    useless = tuple(f"{name}." for name in names if not _is_as_left(folder, name))
    return [name for name in found if name.startswith(useless) and not name.endswith(".lock")] if useless else []


def _is_as_left(folder: Directory, name: str) -> bool:
    """Whether the seal says that a store left the file as it is, in this run of the machine or an earlier one."""
    try:
        with open(os.open(f"{name}.seal", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd), "rb") as seal:
            told: object = orjson.loads(seal.read(_LONGEST_SEAL))
        looks = os.stat(f"{name}.sqlite", dir_fd=folder.fd, follow_symlinks=False)
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(told, dict) and cast("dict[str, object]", told).get("file") == list(Signature.of(looks))


class _BrokenError(Exception):
    """The file is not what a store left there."""


class _UnsealedError(_BrokenError):
    """A store may be writing to the file."""


class _WorkError(Exception):
    """The work itself failed, whatever the state of the database."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _passing_on(work: Callable[[Visit], R]) -> Callable[[Visit], R]:
    def passing(visit: Visit) -> R:
        try:
            return work(visit)
        except (sqlite3.Error, *_GARBAGE):
            raise
        except Exception as error:
            raise _WorkError(error) from error

    return passing


def _is_broken(error: Exception) -> bool:
    if isinstance(error, _GARBAGE):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        # Somebody removed it under our hands.
        return True
    # Extended codes have the primary one in their last byte.
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BROKEN


def _uri(path: str, mode: str) -> str:
    # Names may have bytes that are no text. An empty authority: a path may begin with two slashes.
    return f"file://{quote(os.fsencode(path))}?mode={mode}"


def _may_have_spilled(connection: sqlite3.Connection, changes: int) -> bool:
    """Whether a transaction may have written before its commit: it changed something, and not all has its room."""
    pages, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return connection.total_changes != changes and pages * size > _MEMORY_KB * 1000 // 2


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _close(connections: list[tuple[sqlite3.Connection, int]]) -> None:
    while connections:
        with contextlib.suppress(sqlite3.Error):
            connections.pop()[0].close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Generator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _state(connection: sqlite3.Connection) -> State:
    found = connection.execute("SELECT born, writes FROM fsstate_state").fetchone()
    if found is None:
        raise _BrokenError
    return State(*found)


# SQLite can be used on both sides of a fork if no thread is inside it meanwhile. Registered behind the lock of
# `flocks`, so taken before it: who uses a database may be about to lock its file.
_forking = threading.RLock()
_forkable: Final[weakref.WeakSet[CacheFile]] = weakref.WeakSet()
_paused: Final[list[CacheFile]] = []


def _before_fork() -> None:
    _forking.acquire()
    _paused.extend(cache for cache in list(_forkable) if cache.pause())


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().resume()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 - other threads may have waited for it
    _forking = threading.RLock()
    _paused.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


@functools.cache
def _boot() -> str:
    """What tells this run of the machine from every other; empty where the system does not say."""
    try:
        return _BOOT.read_bytes().decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
