"""Mistakes that stores really make, each put under the library by changing what a function of `os` does.

They stand between the library and the recorder, so the trace shows what a library with that mistake would do. The
checker has to find every one of them: that is how it is known to look.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Any, Final

from fsstate.backends.files import log_lines, renames

__all__ = ["PLANTS"]


def no_data_flush() -> None:
    """Files are renamed and logs acknowledged without a flush of their data."""
    for name in ("fsync", "fdatasync"):
        _skip(name, lambda fd: stat.S_ISREG(os.fstat(fd).st_mode))


def no_directory_flush() -> None:
    """New, replaced and removed names are acknowledged without a flush of their directory."""
    for name in ("fsync", "fdatasync"):
        _skip(name, lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))


def in_place() -> None:
    """A document is overwritten where it stands, flushed, and only then acknowledged."""
    _only_plain_renames()
    real = os.rename

    def rename(src: str, dst: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        if stat.S_ISDIR(os.stat(src, dir_fd=src_dir_fd).st_mode):
            real(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return
        old = os.open(src, os.O_RDONLY, dir_fd=src_dir_fd)
        new = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=dst_dir_fd)
        os.write(new, os.pread(old, 1 << 20, 0))
        os.fsync(new)
        os.close(new)
        os.close(old)
        os.unlink(src, dir_fd=src_dir_fd)

    os.rename = rename  # type: ignore[assignment]


def unlink_then_rename() -> None:
    """A document is removed before the new one takes its name."""
    _only_plain_renames()
    real = os.rename

    def rename(src: str, dst: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with contextlib.suppress(OSError):
            os.unlink(dst, dir_fd=dst_dir_fd)
        real(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    os.rename = rename  # type: ignore[assignment]


def exchange_in_steps() -> None:
    """What is to change places does so one after the other."""
    real = renames.renameat2

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if not flags & renames.EXCHANGE:
            real(source, name, target, new, flags)
            return
        os.rename(new, f"{name}.old", src_dir_fd=target, dst_dir_fd=source)
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        os.rename(f"{name}.old", name, src_dir_fd=source, dst_dir_fd=source)

    renames.renameat2 = renameat2


def exchange_not_flushed() -> None:
    """A new name is flushed, and an exchange of what has the name is not."""
    exchanged: set[tuple[int, int]] = set()
    real = renames.renameat2

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        real(source, name, target, new, flags)
        if flags & renames.EXCHANGE:
            exchanged.add(_identity(os.fstat(target)))

    def skip(fd: int) -> bool:
        identity = _identity(os.fstat(fd))
        found = identity in exchanged
        exchanged.discard(identity)
        return found

    renames.renameat2 = renameat2
    _skip("fsync", skip)


def acknowledged_too_early() -> None:
    """Data is flushed, but only when the next write comes: after the caller was told."""
    waiting: list[tuple[Callable[[int], None], int]] = []
    real_write = os.write

    def write(fd: int, data: Any) -> int:
        while waiting:
            flush, earlier = waiting.pop(0)
            flush(earlier)
            os.close(earlier)
        return real_write(fd, data)

    os.write = write
    for name in ("fsync", "fdatasync"):
        _delay(name, waiting)


def parent_not_flushed() -> None:
    """A new directory is made and used, and the directory that it stands in is not flushed for it."""
    made: set[tuple[int, int]] = set()
    real_mkdir = os.mkdir

    def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real_mkdir(path, mode, dir_fd=dir_fd)
        made.add(_identity(os.stat(os.path.dirname(path) if dir_fd is None else dir_fd)))

    def skip(fd: int) -> bool:
        identity = _identity(os.fstat(fd))
        found = identity in made
        made.discard(identity)
        return found

    os.mkdir = mkdir
    _skip("fsync", skip)


def tail_taken_for_sound() -> None:
    """What a crash left at the end of a log stays there, and entries are appended behind it."""

    def sound_end(fd: int, end: int, since: int = 0) -> int:  # noqa: ARG001
        return end

    log_lines.sound_end = sound_end


def _only_plain_renames() -> None:
    def refuse(source: int, name: str, target: int, new: str, flags: int) -> None:  # noqa: ARG001
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    renames.renameat2 = refuse


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _skip(name: str, unwanted: Callable[[int], bool]) -> None:
    real = getattr(os, name)
    setattr(os, name, lambda fd: None if unwanted(fd) else real(fd))


def _delay(name: str, waiting: list[tuple[Callable[[int], None], int]]) -> None:
    real = getattr(os, name)

    def delayed(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            waiting.append((real, os.dup(fd)))
        else:
            real(fd)

    setattr(os, name, delayed)


PLANTS: Final[dict[str, Callable[[], None]]] = {
    plant.__name__: plant
    for plant in (
        no_data_flush, no_directory_flush, in_place, unlink_then_rename, exchange_in_steps, exchange_not_flushed,
        acknowledged_too_early, parent_not_flushed, tail_taken_for_sound,
    )
}  # fmt: skip
