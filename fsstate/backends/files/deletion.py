"""What belongs to a document lives and dies with it.

The belongings of `sessions/a.json` lie in the folder `sessions/a/`. Whoever creates something there holds that folder's lock
(flock) shared; a deletion holds it alone, and the locks of all logs in it. So a write that was acknowledged is seen by the
deletion's last look, and no write comes between that look and the end of the document, which is the commit point.
What a crash leaves behind a deletion is a folder without its document: it belongs to nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from fsstate.backends.base import LOG, Ref
from fsstate.backends.files.documents import Documents
from fsstate.backends.files.locks import flock_within, identity_of, leads_to
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Directory, Tree, open_regular
from fsstate.errors import LockTimeoutError, NotFoundError, StorageError
from fsstate.options import StoreOptions

__all__ = ["Belongings"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    def hold(self, owner: Ref) -> Iterator[None]:
        """The same, and keep it in existence until the block ends."""
        self.require(owner)
        with self._locked_folder(_folder_of(owner), fcntl.LOCK_SH, self._options.lock_timeout):
            self.require(owner)
            yield

    def delete(self, ref: Ref, folder: str, confirm: Callable[[], bool], timeout: float) -> bool:
        """Delete a document and the folder. Requires: the document's lock is held."""
        if not self._documents.exists(ref):
            return False
        deadline = time.monotonic() + timeout
        with self._locked_folder(folder, fcntl.LOCK_EX, timeout) as directory, contextlib.ExitStack() as locks:
            self._lock_logs(directory, folder, (timeout, deadline), locks)
            if not confirm():
                return False
            self._documents.change(ref, lambda _: None)
        self.discard(folder)
        return True

    def discard(self, folder: str) -> bool:
        """Remove a folder with all that is in it. Returns whether it existed."""
        above, _, name = folder.rpartition("/")
        parent = self._tree.find(above)
        if parent is None or self._tree.find(folder) is None:
            return False
        try:
            self._staging.take_away(parent, name)
            self._tree.sync(parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError.of("remove", self._tree.path(folder), error) from error
        return True

    @contextlib.contextmanager
    def _locked_folder(self, folder: str, operation: int, timeout: float) -> Iterator[Directory]:
        while True:
            directory = self._tree.make(folder)
            # A descriptor of its own: the kept one is shared, and so would be its lock.
            fd = os.open(".", _FOLDER, dir_fd=directory.fd)
            if not flock_within(fd, timeout, operation):
                raise LockTimeoutError(folder, timeout)
            try:
                if leads_to(directory.path, identity_of(fd)):
                    yield directory
                    return
            finally:
                os.close(fd)

    def _lock_logs(
        self, directory: Directory, folder: str, wait: tuple[float, float], locks: contextlib.ExitStack
    ) -> None:
        for entry in list(directory.entries()):
            if entry.is_dir(follow_symlinks=False):
                below = f"{folder}/{entry.name}"
                found = self._tree.find(below)
                if found is not None:
                    self._lock_logs(found, below, wait, locks)
            elif entry.name.endswith(LOG) and entry.is_file(follow_symlinks=False):
                self._lock_log(directory, entry.name, wait, locks)

    def _lock_log(
        self, directory: Directory, name: str, wait: tuple[float, float], locks: contextlib.ExitStack
    ) -> None:
        fd = open_regular(directory, name, os.O_RDWR)
        if fd is None:
            return
        timeout, deadline = wait
        if not flock_within(fd, max(0.0, deadline - time.monotonic())):
            raise LockTimeoutError(f"{directory.path}/{name}", timeout, "it is being written to")
        locks.callback(os.close, fd)


def _folder_of(owner: Ref) -> str:
    return f"{owner.category}/{owner.name}"
