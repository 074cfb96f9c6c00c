"""Conflict copies, found where they stand: one listing of each folder, and no look at any file.

A folder that cannot be listed is reported and hides no other. Symlinks are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsstate import names
from fsstate.backends.base import JSON, MARKDOWN, Ref, Suffix
from fsstate.backends.files.tree import Tree
from fsstate.errors import StorageError

__all__ = ["copies"]

_KINDS: tuple[Suffix, ...] = (JSON, MARKDOWN)


def copies(tree: Tree, category: str, refused: list[StorageError], *, below: bool) -> Iterator[Ref]:
    """The conflict copies in a category, and in all below it if asked for."""
    waiting = [category]
    while waiting:
        folder = waiting.pop()
        try:
            directory = tree.glance(folder)
            files, folders = ([], []) if directory is None else directory.kinds()
        except StorageError as error:
            refused.append(error)
            continue
        yield from (ref for name in files if folder and (ref := _copy(folder, name)) is not None)
        if below:
            # What begins with a dot is fsstate's own, or nobody's.
            shown = sorted((name for name in folders if not name.startswith(".")), reverse=True)
            waiting += [f"{folder}/{name}" if folder else name for name in shown]


def _copy(folder: str, file: str) -> Ref | None:
    for suffix in _KINDS:
        if file.endswith(suffix) and names.is_copy(name := file.removesuffix(suffix)):
            return Ref(folder, name, suffix)
    return None
