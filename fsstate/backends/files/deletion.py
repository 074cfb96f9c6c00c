"""What belongs to a document lives and dies with it.

The belongings of `sessions/a.json` lie in the folder `sessions/a/`. Whoever creates something there holds that
folder's lock (flock) shared, and makes the folder while holding the lock of `sessions/` shared. A deletion holds the
folder's lock alone, and those of all logs in it; where there is no folder, the lock of `sessions/`, so that none comes.
So a write that was acknowledged is seen by the deletion's last look, and no write comes between that look and the end
of the document, which is the commit point. What a crash leaves behind a deletion is a folder without its document: it
belongs to nobody, or to the document where that was moved to.
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
# Seconds that are waited at least for those who make folders: each is done in an instant.
_INSTANT: Final = 1.0


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
        with self._locked_folder_of(owner) as directory:
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
            self._documents.change(ref, lambda _: None, timeout)
            return False
        if not self._end_together(ref, folder, confirm, timeout):
            return False
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
                remove = self._take_away(parent, name)
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

    def _take_away(self, parent: Directory, name: str) -> Callable[[], None]:
        try:
            return self._staging.take_away(parent, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        # On another device it can only be removed where it is, one file after the other.
        parent.remove(name)
        return lambda: None

    # -- what keeps others out

    @contextlib.contextmanager
    def alone_with(self, folder: str, timeout: float) -> Generator[Directory | None]:
        """Keep everybody from writing to a folder and the logs in it; None when there is no such folder.

        Raises LockTimeoutError when somebody writes there for longer than `timeout`.
        """
        deadline = time.monotonic() + timeout
        while (directory := self._tree.glance(folder)) is not None:
            with _lock_of(directory, folder, fcntl.LOCK_EX, timeout, deadline) as is_current:
                if is_current:
                    logs: list[Lockable] = []
                    try:
                        self._lock_logs(directory, folder, (timeout, deadline), logs)
                        yield directory
                    finally:
                        for log in logs:
                            log.close()
                    return
        yield None

    @contextlib.contextmanager
    def closed_to_newcomers(self, category: str, timeout: float) -> Generator[None]:
        """Let nobody make a folder for a document of a category until the block ends."""
        timeout = max(timeout, _INSTANT)
        deadline = time.monotonic() + timeout
        while (directory := self._tree.find(category)) is not None:
            with _lock_of(directory, category, fcntl.LOCK_EX, timeout, deadline) as is_current:
                if is_current:
                    yield
                    return
        yield

    def _end_together(self, ref: Ref, folder: str, confirm: Callable[[], bool], timeout: float) -> bool:
        """End a document while nobody writes to what belongs to it, if `confirm` says so."""
        has_folder = self._tree.find(folder) is not None
        with contextlib.nullcontext() if has_folder else self.closed_to_newcomers(ref.category, timeout):
            return self._end_alone(ref, folder, confirm, timeout)

    def _end_alone(self, ref: Ref, folder: str, confirm: Callable[[], bool], timeout: float) -> bool:
        # Also where there was none a moment ago: whoever made it meanwhile is done with that.
        with self.alone_with(folder, timeout):
            if not confirm():
                return False
            self._documents.change(ref, lambda _: None, timeout)
            return True

    @contextlib.contextmanager
    def _locked_folder_of(self, owner: Ref) -> Generator[Directory]:
        """The folder of what belongs to an owner, shared with others who write there."""
        timeout = self._options.lock_timeout
        deadline = time.monotonic() + timeout
        while True:
            directory = self._folder_of(owner, timeout, deadline)
            with _lock_of(directory, owner.belongings, fcntl.LOCK_SH, timeout, deadline) as is_current:
                if is_current:
                    yield directory
                    return

    def _folder_of(self, owner: Ref, timeout: float, deadline: float) -> Directory:
        found = self._tree.find(owner.belongings)
        while found is None or not found.lasting:
            category = self._tree.find(owner.category)
            if category is None:
                raise NotFoundError(self._tree.path(str(owner)))
            with _lock_of(category, owner.category, fcntl.LOCK_SH, timeout, deadline) as is_current:
                if is_current:
                    self.require(owner)
                    found = self._tree.make(owner.belongings)
        return found

    def _lock_logs(self, directory: Directory, folder: str, wait: tuple[float, float], logs: list[Lockable]) -> None:
        """Lock all logs in a folder and below. They are put into the list, also where this fails."""
        files, folders = directory.kinds()
        for name in files:
            if name.endswith(LOG):
                self._lock_log(directory, name, wait, logs)
        for name in folders:
            below = self._tree.glance(f"{folder}/{name}")
            if below is not None:
                self._lock_logs(below, f"{folder}/{name}", wait, logs)

    def _lock_log(self, directory: Directory, name: str, wait: tuple[float, float], logs: list[Lockable]) -> None:
        timeout, deadline = wait
        while (log := Lockable.open_file(directory, name, os.O_RDWR)) is not None:
            logs.append(log)
            with refusals("lock", log.path):
                if not log.lock(max(0.0, deadline - time.monotonic())):
                    raise LockTimeoutError(log.path, timeout, "it is being written to")
            # Else a trim replaced it meanwhile, and the lock of what it was keeps nobody out.
            if log.is_current():
                return


@contextlib.contextmanager
def _lock_of(directory: Directory, name: str, operation: int, timeout: float, deadline: float) -> Generator[bool]:
    """Hold a directory's own lock; says whether it still has its place, without which the lock keeps nobody out."""
    with refusals("lock", directory.path):
        lock = Lockable.open_directory(directory)
        if not lock.lock(max(0.0, deadline - time.monotonic()), operation):
            raise LockTimeoutError(name, timeout)
    try:
        yield lock.is_current()
    finally:
        lock.close()
