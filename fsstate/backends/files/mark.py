"""The mark of a store: which format its files have, and what git shall not see.

A store without a mark is one too: a directory of files that anybody made.
"""

from __future__ import annotations

import errno
import os
from typing import Final

import orjson

from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, flush_data, open_regular, read_at, refusals
from fsstate.errors import CorruptRecordError, NewerFormatError, StorageError
from fsstate.options import StoreOptions

__all__ = ["FORMAT", "MARK", "Mark"]

# On disk: the format that this code reads and writes, and the names of what says so.
FORMAT: Final = 1
_FOLDER: Final = ".fsstate"
_NAME: Final = "store.json"
_FILES: Final = {
    ".gitignore": b"*\n!.gitignore\n!store.json\n",
    _NAME: b'{\n  "format": %d\n}\n' % FORMAT,
}
_LONGEST: Final = 64 * 1024
# What says that a directory is a store.
MARK: Final = f"{_FOLDER}/{_NAME}"


class Mark:
    """Reads the mark before anything else, and makes it with the first write."""

    def __init__(self, tree: Tree, options: StoreOptions) -> None:
        self._tree = tree
        self._flush = options.durability == "full"

    def check(self) -> None:
        """Raise NewerFormatError when a newer fsstate wrote here, StorageError when this is no directory."""
        if os.path.lexists(self._tree.root) and not os.path.isdir(self._tree.root):
            raise StorageError("open as a store", self._tree.root, errno.ENOTDIR)
        data = self._read()
        if data is None:
            return
        path = self._tree.path(MARK)
        try:
            found = orjson.loads(data)["format"]
            if type(found) is not int:
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            reason = f'expected {{"format": {FORMAT}}}; restore the file, or delete it when no newer fsstate wrote here'
            raise CorruptRecordError(path, reason) from error
        if found > FORMAT:
            raise NewerFormatError(path, found, FORMAT)

    def make(self, staging: Staging) -> None:
        """Check once more, and make what of the mark is missing."""
        self.check()
        directory = self._tree.make(_FOLDER)
        for name, data in _FILES.items():
            path = f"{directory.path}/{name}"
            if os.path.lexists(path):
                continue
            with refusals("write", path), staging.create(data) as staged:
                if self._flush:
                    flush_data(staged.fd)
                staged.move(directory, name)
                self._tree.sync(directory)

    def _read(self) -> bytes | None:
        directory = self._tree.find(_FOLDER)
        fd = None if directory is None else open_regular(directory, _NAME, os.O_RDONLY)
        if fd is None:
            return None
        try:
            with refusals("read", self._tree.path(MARK)):
                return read_at(fd, _LONGEST, 0)
        finally:
            os.close(fd)
