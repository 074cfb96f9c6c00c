"""What stands in a store's directory, file by file with its size: one look at each, and none inside.

Symlinks are not followed and not told. What begins with a dot is nobody's, save fsstate's own folder. A folder that
cannot be looked into is reported and hides no other; what goes away meanwhile was never there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fsstate.backends.base import Stored
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.staging import STAGING
from fsstate.backends.files.tree import Tree
from fsstate.errors import StorageError

__all__ = ["inventory"]

_OWN = ".fsstate"


def inventory(tree: Tree, refused: list[StorageError]) -> Iterator[Stored]:
    """Every folder with its files, one before those in it. Staging folders that living programs use are left out."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        files: list[tuple[str, int]] = []
        below: list[str] = []
        try:
            if _is_in_use(tree, folder):
                continue
            _look(tree.path(folder), files, below)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except StorageError as error:
            refused.append(error)
        except OSError as error:
            refused.append(StorageError.of("list", tree.path(folder), error))
        yield Stored(folder, files)
        shown = [name for name in below if not name.startswith(".") or (name == _OWN and not folder)]
        waiting += [f"{folder}/{name}" if folder else name for name in sorted(shown, reverse=True)]


def _look(path: str, files: list[tuple[str, int]], below: list[str]) -> None:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                try:
                    files.append((entry.name, entry.stat(follow_symlinks=False).st_size))
                except FileNotFoundError:
                    continue


def _is_in_use(tree: Tree, folder: str) -> bool:
    """Whether it is the staging folder of a program that lives, which keeps it locked."""
    if folder.rpartition("/")[0] != STAGING:
        return False
    directory = tree.find(folder)
    if directory is None:
        return False
    with contextlib.closing(Lockable.open_directory(directory)) as lock:
        return lock.is_held()
