"""Document files: read whole, replaced in one step, checked against changes made behind the lock.

A person with an editor, `git checkout` and rsync take no lock. So a write looks at the file once more before it takes
its place, and at what it got in exchange after (see `exchanging`); when that is no longer what was read, the change is
computed again from the fresh content.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from fsstate.backends.base import Blob, Change, Outcome, Ref, Unknown
from fsstate.backends.files import leftovers
from fsstate.backends.files.exchanging import ChangedMeanwhileError, Content, Exchanges, read_whole
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.staging import Staged, Staging
from fsstate.backends.files.tree import Directory, Tree, flush_data, open_regular
from fsstate.backends.files.unfinished import await_the_rest, is_begun
from fsstate.errors import FsStateError, OutcomeUnknownError, StorageError, UnsafePathError
from fsstate.options import StoreOptions

__all__ = ["Documents"]

# Documents that reads remember, and their bytes in all.
_KEPT: Final = 1024
_KEPT_EACH: Final = 64 * 1024
_KEPT_BYTES: Final = 16 * 1024 * 1024
# In seconds, for those who write a document in place again and again.
_WAIT_FOR_EDITORS: Final = 2.0
# Fewer saves than this are done before the threads for them have started.
_MANY: Final = 8
_HANDS: Final = 4


class _Found(NamedTuple):
    """What was read: the content, where from, and the file's state just before `read_ns`."""

    blob: Blob
    directory: Directory
    status: os.stat_result
    read_ns: int


class _Kept(NamedTuple):
    """A document that was read: where, in which state the file was, and what it held."""

    path: str
    signature: Signature
    blob: Blob


class _Pending(NamedTuple):
    """A new content on its way: staged (None: the file is to go), and what it will replace."""

    ref: Ref
    found: _Found | None
    directory: Directory
    staged: Staged | None
    data: bytes


class Documents:
    """The document files below a root. Safe to share between threads; the caller holds the locks."""

    def __init__(self, tree: Tree, staging: Staging, options: StoreOptions) -> None:
        self._tree = tree
        self._staging = staging
        self._exchanges = Exchanges(tree, staging)
        self._timeout = options.lock_timeout
        self._flush = options.durability == "full"
        self._mutex = threading.Lock()
        self._kept: OrderedDict[Ref, _Kept] = OrderedDict()
        self._kept_bytes = 0
        # Records whose last write the disk did not confirm: to write the same again is no change, but must be done.
        self._unsure: set[Ref] = set()
        # The state in which a document is known to survive a power cut.
        self._lasting: dict[Ref, Signature] = {}

    def after_fork(self) -> None:
        """Replace what another thread may have held at the fork."""
        self._mutex = threading.Lock()

    # -- reading

    def peek(self, ref: Ref) -> Blob | Unknown | None:
        """The document when the file is the one that was read last, told by one stat; None when absent."""
        kept = self._kept.get(ref)
        if kept is None:
            return Unknown()
        try:
            status = os.stat(kept.path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return Unknown()
        return kept.blob if kept.signature.fits(status) else Unknown()

    def read(self, ref: Ref) -> Blob | None:
        """The document, or None when absent."""
        known = self.peek(ref)
        if not isinstance(known, Unknown):
            return known
        found = self._load(ref, self._tree.find(ref.category))
        if found is None:
            return None
        self._keep(ref, found)
        return found.blob

    def exists(self, ref: Ref) -> bool:
        """Whether there is a file in the document's place. Raises StorageError when that cannot be told."""
        path = self._tree.path(str(ref))
        try:
            os.stat(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StorageError.of("look for", path, error) from error
        return True

    def _load(self, ref: Ref, directory: Directory | None) -> _Found | None:
        deadline = time.monotonic() + _WAIT_FOR_EDITORS
        while directory is not None:
            fd = open_regular(directory, ref.name + ref.suffix, os.O_RDONLY)
            if fd is None:
                return None
            try:
                # Both before the read: a change in between must make the two differ, not hide.
                now_ns, status = time.time_ns(), os.fstat(fd)
                data = read_whole(fd, status.st_size)
                is_done = not is_begun(data, ref.suffix) or time.monotonic() > deadline
                if is_done or not await_the_rest(fd, status, self._tree.path(str(ref))):
                    return _Found(Blob(data), directory, status, now_ns)
            except OSError as error:
                raise StorageError.of("read", self._tree.path(str(ref)), error) from error
            finally:
                os.close(fd)
        return None

    def _keep(self, ref: Ref, found: _Found) -> None:
        signature = Signature.of(found.status)
        if not signature.is_settled(found.read_ns) or signature.size > _KEPT_EACH:
            return
        with self._mutex:
            replaced = self._kept.pop(ref, None)
            self._kept[ref] = _Kept(self._tree.path(str(ref)), signature, found.blob)
            self._kept_bytes += len(found.blob.data) - (len(replaced.blob.data) if replaced else 0)
            while len(self._kept) > _KEPT or self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1].blob.data)

    # -- writing

    def change(self, ref: Ref, change: Change, timeout: float | None = None) -> Blob | None:
        """Read, change and replace one document. Requires: its lock is held.

        Raises LockTimeoutError when another program has it open for writing for longer than `timeout` seconds (None:
        the options' default).
        """
        blob, touched = self._replace(ref, change, timeout)
        if touched is not None:
            self.make_names_last(touched, [ref])
        return blob

    def change_many(
        self, changes: list[tuple[int, Ref, Change]], outcomes: list[Outcome], timeout: float | None = None
    ) -> None:
        """The same for several, some at a time, with one flush for each directory; tells `outcomes` of each.

        Requires: their locks are held, and no document is among them twice.
        """
        waiting = iter(changes)
        touched: dict[Directory, list[tuple[int, Ref]]] = {}

        def work() -> None:
            for index, ref, change in waiting:
                try:
                    outcomes[index], directory = self._replace(ref, change, timeout)
                except Exception as error:  # noqa: BLE001 - belongs to this document alone
                    outcomes[index] = error
                else:
                    if directory is not None:
                        touched.setdefault(directory, []).append((index, ref))

        _work_together(work, _HANDS if self._flush and len(changes) >= _MANY else 1)
        for directory, places in touched.items():
            try:
                self.make_names_last(directory, [ref for _, ref in places])
            except OutcomeUnknownError as unknown:
                for index, ref in places:
                    path = self._tree.path(str(ref))
                    outcomes[index] = OutcomeUnknownError(unknown.action, path, unknown.errno or 0)

    def _replace(self, ref: Ref, change: Change, timeout: float | None) -> tuple[Blob | None, Directory | None]:
        """All of a change but to make the name last: gives the directory that is still to be flushed for it, if any."""
        timeout = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while True:
            found = self._load(ref, self._tree.find(ref.category))
            data = change(found.blob if found else None)
            if self._is_done(ref, data, found):
                return found.blob if found else None, None
            pending = self._stage(ref, data, found)
            try:
                with pending.staged or contextlib.nullcontext():
                    self._flush_staged(pending)
                    self._put_in_place(pending)
            except ChangedMeanwhileError as changed:
                if changed.is_busy:
                    self._exchanges.wait_for_writers(pending.directory, ref, timeout, deadline)
                continue
            return Blob(data) if data is not None else None, pending.directory

    def _is_done(self, ref: Ref, data: bytes | None, found: _Found | None) -> bool:
        """Whether nothing is to be written. What stands there was made to last then, whoever put it there."""
        if (found.blob.data if found else None) != data or ref in self._unsure:
            return False
        if self._flush and (found is None or self._lasting.get(ref) != Signature.of(found.status)):
            self._make_last(ref, found)
        return True

    def _make_last(self, ref: Ref, found: _Found | None) -> None:
        # A writer that was killed, or an editor, may have left it in memory only; so too the end of a document.
        directory = self._tree.make(ref.category) if found else self._tree.find(ref.category)
        if directory is None:
            return
        try:
            fd = open_regular(directory, ref.name + ref.suffix, os.O_RDONLY) if found else None
            if fd is not None:
                try:
                    flush_data(fd)
                finally:
                    os.close(fd)
        except OSError as error:
            self._unsure.add(ref)
            raise OutcomeUnknownError.of("make sure of", self._tree.path(str(ref)), error) from error
        self.make_names_last(directory, [ref])

    def _remember_lasting(self, ref: Ref, signature: Signature) -> None:
        if len(self._lasting) >= _KEPT:
            self._lasting.clear()
        self._lasting[ref] = signature

    def _stage(self, ref: Ref, data: bytes | None, found: _Found | None) -> _Pending:
        path = self._tree.path(str(ref))
        try:
            directory = found.directory if found and found.directory.lasting else self._tree.make(ref.category)
            status, label = (found.status, leftovers.label_of(ref, data, found.blob.data)) if found else (None, "")
            staged = None if data is None else self._staging.create(data, status, label)
        except FsStateError:
            raise
        except OSError as error:
            raise StorageError.of("write", path, error) from error
        return _Pending(ref, found, directory, staged, data or b"")

    def _flush_staged(self, pending: _Pending) -> None:
        if pending.staged is None:
            return
        try:
            if self._flush:
                flush_data(pending.staged.fd)
            pending.staged.close()
        except OSError as error:
            raise StorageError.of("flush", self._tree.path(str(pending.ref)), error) from error

    def _put_in_place(self, pending: _Pending) -> None:
        path = self._tree.path(str(pending.ref))
        try:
            self._require_unchanged(pending.found, path)
            self._exchange(pending)
        except FileNotFoundError as error:
            # The directory, the staged file, or the file that is to go, was removed behind our back.
            raise ChangedMeanwhileError from error
        except IsADirectoryError as error:
            raise UnsafePathError.of("replace", path, error) from error
        except FsStateError:
            raise
        except OSError as error:
            raise StorageError.of("write", path, error) from error

    def _exchange(self, pending: _Pending) -> None:
        ref, found, directory, staged, data = pending
        read = Content.of(found.blob.data, found.status) if found else None
        if staged is not None and read is not None:
            self._exchanges.replace(staged, data, ref, directory, read)
        elif staged is not None:
            self._exchanges.make(staged, directory, ref.name + ref.suffix)
        elif read is not None:
            self._exchanges.remove(ref, directory, read)

    def _require_unchanged(self, found: _Found | None, path: str) -> None:
        """See that it looks as it did. What a look cannot show is seen by the exchange."""
        try:
            # By its path: the directory may have been replaced as well.
            status = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            if found is None:
                return
            raise
        if found is None or not Signature.of(found.status).fits(status):
            raise ChangedMeanwhileError

    def make_names_last(self, directory: Directory, refs: list[Ref], *, went: bool = False) -> None:
        """Make it last that documents in a directory came, or went. Raises OutcomeUnknownError."""
        try:
            self._tree.sync(directory)
        except OSError as error:
            self._unsure.update(refs)
            path = self._tree.path(str(refs[0]))
            raise OutcomeUnknownError.of("make sure of", path, error) from error
        if self._unsure:
            self._unsure.difference_update(refs)
        for ref in refs if self._flush and not went else ():
            with contextlib.suppress(OSError):
                self._remember_lasting(ref, Signature.of(os.stat(self._tree.path(str(ref)), follow_symlinks=False)))


def _work_together(work: Callable[[], None], hands: int) -> None:
    """Do `work` in several threads, this one among them: what is mostly waiting for a disk overlaps."""
    threads = [threading.Thread(target=work, name="fsstate-save") for _ in range(hands - 1)]
    try:
        for thread in threads:
            # Where there can be no more threads, those that there are do it all.
            with contextlib.suppress(RuntimeError):
                thread.start()
        work()
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
