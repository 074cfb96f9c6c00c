"""What belongs to a document lives and dies with it.

The belongings of `sessions/a.json` lie in the folder `sessions/a/`. Whoever creates something there holds that
folder's lock (flock) shared; a deletion holds it alone, and the locks of all logs in it. So a write that was
acknowledged is seen by the deletion's last look, and no write comes between that look and the end of the document,
which is the commit point. What a crash leaves behind a deletion is a folder without its document: it belongs to
nobody.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Generator
from typing import Final

from fsstate.backends.base import LOG, Ref
from fsstate.backends.files.documents import Documents
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Directory, Tree, refusals
from fsstate.errors import LockTimeoutError, NotFoundError, OutcomeUnknownError, StorageError
from fsstate.options import StoreOptions

__all__ = ["Belongings"]

_logger: Final = logging.getLogger("fsstate")


class Belongings:
    """Keeps owners in existence while something is written for them, and deletes them with what they own."""

    def __init__(self, tree: Tree, staging: Staging, documents: Documents, options: StoreOptions) -> None:
        self._tree = tree
        self._staging = staging
        self._documents = documents
        self._options = options

    def require(self, owner: Ref) -> None:
        """Raise NotFoundError when the owner does not exist."""
        if not self._documents.exists(owner):
            raise NotFoundError(self._tree.path(str(owner)))

    @contextlib.contextmanager
    def hold(self, owner: Ref) -> Generator[None]:
        """The same, and keep it in existence until the block ends."""
        self.require(owner)
        with self._locked_folder(owner.belongings, fcntl.LOCK_SH, self._options.lock_timeout) as directory:
            try:
                self.require(owner)
            except NotFoundError:
                # Deleted while we waited: leave no folder of nobody behind. One that is not empty stays.
                with contextlib.suppress(OSError):
                    os.rmdir(directory.path)
                raise
            yield

    def delete(self, ref: Ref, folder: str, confirm: Callable[[], bool], timeout: float) -> bool:
        """Delete a document and the folder. Requires: the document's lock is held."""
        if not self._documents.exists(ref):
            # No change, but one that lasts: who deleted it may have been killed before it did.
            self._documents.change(ref, lambda _: None)
            return False
        deadline = time.monotonic() + timeout
        with self._locked_folder(folder, fcntl.LOCK_EX, timeout) as directory, contextlib.ExitStack() as locks:
            self._lock_logs(directory, folder, (timeout, deadline), locks)
            if not confirm():
                # It may have been made for its lock's sake only; one that is in use is not empty and stays.
                with contextlib.suppress(OSError):
                    os.rmdir(directory.path)
                return False
            self._documents.change(ref, lambda _: None)
        try:
            self._remove(folder)
        except StorageError as error:
            # The document's end was the commit point: what is left is what a crash would leave, and no failed deletion.
            _logger.warning("%s was deleted, but what belonged to it was not removed: %s", ref, error)
        return True

    def discard(self, folder: str) -> bool:
        """Remove a folder that belongs to nobody, with all that is in it. Returns whether it existed."""
        parent = self._tree.find(folder.rpartition("/")[0])
        if parent is not None:
            # Who deleted its owner, or moved it away, may have been killed before that would last. A power cut might
            # then leave the owner without what belongs to it, or give the next owner what belonged to the last one.
            with refusals("make sure of the names in", parent.path):
                self._tree.sync(parent)
        return self._remove(folder)

    def _remove(self, folder: str) -> bool:
        above, _, name = folder.rpartition("/")
        parent = self._tree.find(above)
        if parent is None or self._tree.find(folder) is None:
            return False
        path = self._tree.path(folder)
        try:
            with refusals("remove", path):
                remove = self._staging.take_away(parent, name)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        try:
            self._tree.sync(parent)
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of the removal of", path, error) from error
        try:
            remove()
        except OSError as error:
            # It is out of sight and belongs to nobody: the next sweep tries again.
            _logger.warning("%s was removed, but not all of its space was given back: %s", path, error)
        return True

    @contextlib.contextmanager
    def _locked_folder(self, folder: str, operation: int, timeout: float) -> Generator[Directory]:
        deadline = time.monotonic() + timeout
        while True:
            directory = self._tree.make(folder)
            with refusals("lock", directory.path):
                lock = Lockable.open_directory(directory)
                if not lock.lock(max(0.0, deadline - time.monotonic()), operation):
                    raise LockTimeoutError(folder, timeout)
            try:
                if lock.is_current():
                    yield directory
                    return
            finally:
                lock.close()

    def _lock_logs(
        self, directory: Directory, folder: str, wait: tuple[float, float], locks: contextlib.ExitStack
    ) -> None:
        for name in directory.files():
            if name.endswith(LOG):
                self._lock_log(directory, name, wait, locks)
        for name in directory.folders():
            below = self._tree.find(f"{folder}/{name}")
            if below is not None:
                self._lock_logs(below, f"{folder}/{name}", wait, locks)

    def _lock_log(
        self, directory: Directory, name: str, wait: tuple[float, float], locks: contextlib.ExitStack
    ) -> None:
        timeout, deadline = wait
        while (log := Lockable.open_file(directory, name, os.O_RDWR)) is not None:
            locks.callback(log.close)
            with refusals("lock", log.path):
                if not log.lock(max(0.0, deadline - time.monotonic())):
                    raise LockTimeoutError(log.path, timeout, "it is being written to")
            # Else a trim replaced it meanwhile, and the lock of what it was keeps nobody out.
            if log.is_current():
                return
