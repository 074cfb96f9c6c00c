"""The files backend, put together. See the package's own words for its rooms, and `Backend` for what it promises."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

import orjson

from fsstate import names
from fsstate.backends.base import (
    JSON,
    Appended,
    BadLine,
    Blob,
    Change,
    Compose,
    Held,
    LogLine,
    Outcome,
    Ref,
    Suffix,
    Unknown,
)
from fsstate.backends.files import log_lines
from fsstate.backends.files.deletion import Belongings
from fsstate.backends.files.documents import Documents, Signature
from fsstate.backends.files.locks import RecordLock, RecordLocks, try_flock
from fsstate.backends.files.logs import LogFile, read_lines
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, open_regular
from fsstate.errors import CorruptRecordError, FsStateError, NewerFormatError, StorageError, StoreClosedError
from fsstate.options import StoreOptions

__all__ = ["FORMAT", "FileBackend"]

# On disk: the format that this code reads and writes.
FORMAT: Final = 1
_MARKER: Final = Ref(".fsstate", "store", JSON)
_IGNORE: Final = b"*\n!.gitignore\n!store.json\n"
_KEPT_LOGS: Final = 128
# Documents that are locked at once by change_many: each lock takes a descriptor.
_TOGETHER: Final = 128

_backends: weakref.WeakSet[FileBackend] = weakref.WeakSet()


class FileBackend:
    """Records as files below `root`. Cheap to make: reads `.fsstate/store.json` and writes nothing.

    Raises NewerFormatError when a newer fsstate wrote there, StorageError when `root` is no directory.
    """

    def __init__(self, root: str | os.PathLike[str], options: StoreOptions | None = None) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.options = options or StoreOptions()
        self._closed = False
        self._tree = Tree(self.root, self.options)
        self._locks = RecordLocks(self._tree)
        self._staging = Staging(self._tree, self.options, self._mark)
        self._documents = Documents(self._tree, self._staging, self.options)
        self._belongings = Belongings(self._tree, self._staging, self._documents, self.options)
        self._mutex = threading.Lock()
        self._logs: OrderedDict[Ref, LogFile] = OrderedDict()
        self._claims: dict[Ref, LogFile] = {}
        self._sound: dict[Ref, tuple[int, int]] = {}
        self._check_format()
        _backends.add(self)
        # At the latest when the interpreter ends, so that short programs leave no lock files behind.
        self._finalizer = weakref.finalize(self, _release, self._locks, self._staging)

    def __repr__(self) -> str:
        return f"FileBackend({self.root!r})"

    # -- documents

    def read(self, ref: Ref) -> Blob | None:
        self._require_open()
        return self._documents.read(ref)

    def peek(self, ref: Ref) -> Blob | Unknown | None:
        self._require_open()
        return self._documents.peek(ref)

    def change(self, ref: Ref, change: Change, *, held: Held | None = None, owner: Ref | None = None) -> Blob | None:
        self._require_open()
        if held is not None:
            return self._change_held(ref, change, held)
        with self._locks.acquire(ref, self.options.lock_timeout):
            if owner is None:
                return self._documents.change(ref, change)
            with self._belongings.hold(owner):
                return self._documents.change(ref, change)

    def _change_held(self, ref: Ref, change: Change, held: Held) -> Blob | None:
        if not isinstance(held, RecordLock) or held.ref != ref or not held.is_held:
            raise StorageError("write without its lock (released, or taken before a fork)", str(ref), errno.ENOLCK)
        return self._documents.change(ref, change)

    def change_many(self, changes: Sequence[tuple[Ref, Change]]) -> list[Outcome]:
        self._require_open()
        outcomes: list[Outcome] = [None] * len(changes)
        # In one order everywhere, so that two callers never wait for each other; one record never twice in a round.
        waiting = sorted((ref, index, change) for index, (ref, change) in enumerate(changes))
        while waiting:
            together: dict[Ref, tuple[int, Ref, Change]] = {}
            later: list[tuple[Ref, int, Change]] = []
            for ref, index, change in waiting:
                if ref in together or len(together) >= _TOGETHER:
                    later.append((ref, index, change))
                else:
                    together[ref] = (index, ref, change)
            self._change_together(list(together.values()), outcomes)
            waiting = later
        return outcomes

    def _change_together(self, changes: list[tuple[int, Ref, Change]], outcomes: list[Outcome]) -> None:
        with contextlib.ExitStack() as stack:
            locked: list[tuple[int, Ref, Change]] = []
            for index, ref, change in changes:
                try:
                    stack.enter_context(self._locks.acquire(ref, self.options.lock_timeout))
                except FsStateError as error:
                    outcomes[index] = error
                else:
                    locked.append((index, ref, change))
            self._documents.change_many(locked, outcomes)

    def names(self, category: str, suffix: Suffix) -> list[str]:
        self._require_open()
        directory = self._tree.find(category)
        if directory is None:
            return []
        return sorted(
            entry.name[: -len(suffix)]
            for entry in directory.entries()
            if entry.name.endswith(suffix)
            and names.is_name(entry.name[: -len(suffix)])
            and entry.is_file(follow_symlinks=False)
        )

    def categories(self, below: str = "") -> list[str]:
        self._require_open()
        directory = self._tree.find(below)
        if directory is None:
            return []
        return sorted(
            entry.name
            for entry in directory.entries()
            if names.is_name(entry.name) and entry.is_dir(follow_symlinks=False)
        )

    def lock(self, ref: Ref, *, timeout: float | None = None) -> RecordLock:
        self._require_open()
        return self._locks.acquire(ref, self.options.lock_timeout if timeout is None else timeout)

    def is_locked(self, ref: Ref) -> bool:
        self._require_open()
        return self._locks.is_locked(ref)

    # -- logs

    def append(self, ref: Ref, compose: Compose, *, owner: Ref | None = None) -> range:
        outcome = self.append_many(ref, [compose], owner=owner)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def append_many(self, ref: Ref, composes: Sequence[Compose], *, owner: Ref | None = None) -> list[Appended]:
        self._require_open()
        return self._log(ref).append(composes, owner)

    def entries(self, ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        with self._opened(ref) as (fd, size, sound):
            yield from read_lines(fd, sound, after)
            if sound < size:
                reason = "zeros or less than a line, as a crash leaves them; the next append removes them"
                yield BadLine(b"", reason, sound, None, None)

    def entries_backwards(self, ref: Ref) -> Iterator[LogLine | BadLine]:
        with self._opened(ref) as (fd, _, sound):
            for _, parsed in log_lines.backwards(fd, sound):
                if not isinstance(parsed, log_lines.Marker):
                    yield parsed

    def log_stamp(self, ref: Ref) -> tuple[int, ...] | None:
        self._require_open()
        path = self._tree.path(str(ref))
        try:
            return Signature.of(os.stat(path, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError.of("look at", path, error) from error

    def trim(self, ref: Ref, before: int, *, owner: Ref | None = None) -> int:
        if self.log_stamp(ref) is None:
            return 0
        return self._log(ref).trim(before, owner)

    def delete_log(self, ref: Ref) -> bool:
        self._require_open()
        directory = self._tree.find(ref.category)
        if directory is None:
            return False
        try:
            os.unlink(ref.name + ref.suffix, dir_fd=directory.fd)
            self._tree.sync(directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError.of("delete", self._tree.path(str(ref)), error) from error
        return True

    @contextlib.contextmanager
    def _claiming(self, ref: Ref, owner: Ref | None) -> Iterator[None]:
        log = self._log(ref)
        with log.claim(owner):
            self._claims[ref] = log
            try:
                yield
            finally:
                del self._claims[ref]

    def claim_log(self, ref: Ref, *, owner: Ref | None = None) -> AbstractContextManager[None]:
        self._require_open()
        return self._claiming(ref, owner)

    def is_claimed(self, ref: Ref) -> bool:
        self._require_open()
        if ref in self._claims:
            return True
        directory = self._tree.find(ref.category)
        fd = None if directory is None else open_regular(directory, ref.name + ref.suffix, os.O_RDONLY)
        if fd is None:
            return False
        try:
            return not try_flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def _log(self, ref: Ref) -> LogFile:
        with self._mutex:
            log = self._claims.get(ref) or self._logs.get(ref)
            if log is None:
                log = LogFile(ref, self._tree, self._staging, self.options, self._belongings)
            self._logs[ref] = log
            self._logs.move_to_end(ref)
            if len(self._logs) > _KEPT_LOGS:
                self._logs.popitem(last=False)
            return log

    @contextlib.contextmanager
    def _opened(self, ref: Ref) -> Iterator[tuple[int, int, int]]:
        """A log to read: descriptor, size, and where its sound part ends. An absent one reads as empty."""
        self._require_open()
        directory = self._tree.find(ref.category)
        fd = None if directory is None else open_regular(directory, ref.name + ref.suffix, os.O_RDONLY)
        if fd is None:
            yield -1, 0, 0
            return
        try:
            status = os.fstat(fd)
            yield fd, status.st_size, self._sound_end(ref, fd, status)
        finally:
            os.close(fd)

    def _sound_end(self, ref: Ref, fd: int, status: os.stat_result) -> int:
        inode, checked = self._sound.get(ref, (0, 0))
        known = checked if inode == status.st_ino and checked <= status.st_size else 0
        sound = log_lines.sound_end(fd, status.st_size, known)
        if len(self._sound) > _KEPT_LOGS:
            self._sound.clear()
        self._sound[ref] = (status.st_ino, sound)
        return sound

    # -- both

    def delete_with(
        self, ref: Ref, belongings: str, confirm: Callable[[], bool], *, timeout: float | None = None
    ) -> bool:
        self._require_open()
        wait = self.options.lock_timeout if timeout is None else timeout
        with self._locks.acquire(ref, wait):
            return self._belongings.delete(ref, belongings, confirm, wait)

    def discard(self, category: str) -> bool:
        self._require_open()
        return self._belongings.discard(category)

    def location(self, ref: Ref) -> str:
        return self._tree.path(str(ref))

    def close(self) -> None:
        self._closed = True
        self._finalizer()
        with self._mutex:
            self._logs.clear()
        self._tree.forget()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"the store at {self.root} was closed")

    def after_fork(self) -> None:
        """In a forked child: give up what is shared with the parent."""
        self._mutex = threading.Lock()
        for log in (*self._logs.values(), *self._claims.values()):
            log.abandon()
        self._logs, self._claims = OrderedDict(), {}
        self._locks.after_fork()
        self._staging.after_fork()
        self._documents.after_fork()
        self._tree.after_fork()

    # -- the store's mark

    def _check_format(self) -> None:
        if os.path.lexists(self.root) and not os.path.isdir(self.root):
            raise StorageError("open as a store", self.root, errno.ENOTDIR)
        blob = self._documents.read(_MARKER)
        if blob is None:
            return
        path = self._tree.path(str(_MARKER))
        try:
            marker = orjson.loads(blob.data)
            found = marker["format"]
        except (ValueError, KeyError, TypeError) as error:
            reason = f'expected {{"format": {FORMAT}}}; restore the file, or delete it when no newer fsstate wrote here'
            raise CorruptRecordError(path, reason) from error
        if not isinstance(found, int) or found > FORMAT:
            raise NewerFormatError(path, found, FORMAT)

    def _mark(self) -> None:
        """Write the store's mark, unless it stands there already."""
        self._check_format()
        for name, data in ((".gitignore", _IGNORE), ("store.json", b'{\n  "format": %d\n}\n' % FORMAT)):
            directory = self._tree.make(".fsstate")
            if os.path.lexists(f"{directory.path}/{name}"):
                continue
            with self._staging.create(data) as staged:
                if self.options.durability == "full":
                    os.fsync(staged.fd)
                staged.move(directory, name)
            self._tree.sync(directory)


def _release(locks: RecordLocks, staging: Staging) -> None:
    locks.close()
    staging.close()


def _after_fork_in_child() -> None:
    for backend in list(_backends):
        backend.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
