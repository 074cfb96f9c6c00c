"""Names that go from one directory to another: what has a name keeps one, whenever a kill or a power cut comes.

A file gets its new name before it loses the old one, and between the two the new one is flushed; so it may stand in
both for a while, but never in neither. A folder cannot have two names: it is renamed in one step, which is whole on
every file system that has a journal.

Where the two directories lie on different devices, or the file system knows no links, what goes is copied and flushed
under a hidden name first, and named once it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator
from typing import Final

from fsstate.backends.files.tree import OPEN_DIRECTORY, Directory, Tree, copy_bytes, flush_data

__all__ = ["carry_folder", "carry_oddity", "copy_beginning", "name_anew"]

_NO_LINKS: Final = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def name_anew(tree: Tree, source: Directory, name: str, target: Directory, new: str) -> None:
    """Give a file one more name, or put a copy there. Not flushed. Raises FileExistsError when the name is taken."""
    try:
        os.link(name, new, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(tree, source, name, target, new)


def carry_oddity(tree: Tree, source: Directory, name: str, target: Directory) -> None:
    """Move a link, or another thing that is neither a plain file nor a folder, and flush both directories."""
    try:
        os.link(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # In one step, which is whole wherever there is a journal.
        os.rename(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
        tree.sync(target)
    else:
        tree.sync(target)
        os.unlink(name, dir_fd=source.fd)
    tree.sync(source)


def carry_folder(
    tree: Tree, source: Directory, name: str, target: Directory, new: str, *, never_half: bool = False
) -> None:
    """Move a folder. Not flushed. Raises OSError with ENOTEMPTY or EEXIST when the new place is taken.

    A kill may leave half of what was copied to another device under its old name, beside the whole under the new one;
    with `never_half`, under a hidden name.
    """
    try:
        os.rename(name, new, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(tree, source, name, target, new)
        tree.sync(target)
        if never_half:
            name = _hide(tree, source, name)
        source.remove(name)


def copy_beginning(tree: Tree, source: int, end: int, target: Directory, new: str) -> None:
    """Put a flushed copy of what stands before `end` in an open file under a name, which is not flushed."""
    with _unseen(target, new) as hidden:
        _write_copy(tree, source, target.fd, hidden, end)


def _hide(tree: Tree, source: Directory, name: str) -> str:
    """Give a folder a hidden name, which lasts before anything in it goes."""
    hidden = _hidden(name)
    source.remove(hidden)
    os.rename(name, hidden, src_dir_fd=source.fd, dst_dir_fd=source.fd)
    tree.sync(source)
    return hidden


def _hidden(name: str) -> str:
    return f".{name}.part"


def _copy(tree: Tree, source: Directory, name: str, target: Directory, new: str) -> None:
    """Copy a file or folder under a hidden name, and give it its own when it is whole."""
    with _unseen(target, new) as hidden:
        _copy_below(tree, source.fd, name, target.fd, hidden)
        _require_free(target, new)


@contextlib.contextmanager
def _unseen(target: Directory, new: str) -> Generator[str]:
    """Give a hidden name to a block that makes something, and the new one to what it made when it is whole."""
    hidden = _hidden(new)
    target.remove(hidden)
    try:
        yield hidden
        os.rename(hidden, new, src_dir_fd=target.fd, dst_dir_fd=target.fd)
    except BaseException:
        with contextlib.suppress(OSError):
            target.remove(hidden)
        raise


def _require_free(target: Directory, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.stat(name, dir_fd=target.fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), f"{target.path}/{name}")


def _copy_below(tree: Tree, source: int, name: str, target: int, new: str) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        _copy_folder(tree, source, name, target, new)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(tree, source, name, target, new)
    else:
        # Nothing of fsstate's; where it leads to, or what it is, is not known to be the same over there.
        raise OSError(errno.EXDEV, "no plain file, which cannot be copied to another device", name)


def _copy_folder(tree: Tree, source: int, name: str, target: int, new: str) -> None:
    old = os.open(name, OPEN_DIRECTORY, dir_fd=source)
    try:
        os.mkdir(new, stat.S_IMODE(os.fstat(old).st_mode), dir_fd=target)
        copy = Directory(os.open(new, OPEN_DIRECTORY, dir_fd=target), new)
        with os.scandir(old) as entries:
            names = [entry.name for entry in entries]
        for each in names:
            _copy_below(tree, old, each, copy.fd, each)
        tree.sync(copy)
    finally:
        os.close(old)


def _copy_file(tree: Tree, source: int, name: str, target: int, new: str) -> None:
    old = os.open(name, _READ, dir_fd=source)
    try:
        _write_copy(tree, old, target, new)
    finally:
        os.close(old)


def _write_copy(tree: Tree, old: int, target: int, new: str, end: int | None = None) -> None:
    status = os.fstat(old)
    copy = os.open(new, _WRITE, stat.S_IMODE(status.st_mode), dir_fd=target)
    try:
        copy_bytes(old, 0, copy, end)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        if tree.flushes:
            flush_data(copy)
    finally:
        os.close(copy)
