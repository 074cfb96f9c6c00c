"""Records what a process does to the files below one directory, call by call, as it really happens.

Nothing is mocked: the functions of `os` that change files, and the renames that Python has no function for, are
wrapped, call the real one, and then write down what was done. The workload writes its own marks (an operation starts,
is acknowledged) into the same sequence. The trace is a file that every record reaches with one write of its own, so it
is whole even when the process is killed, and in order across threads and forks.

What the wrappers cannot see is not passed over: an audit hook notices files that are opened for writing, renamed,
removed or mapped by other means, and notes them as "unseen". Besides, the replayed trace must end with exactly the tree
that is on the disk, or it is refused: see `model.Disk.require_same_as`.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from fsstate.backends.files import renames

__all__ = ["Call", "Recorder", "is_change", "read_trace"]

_CHANGES: Final = frozenset({
    "open", "write", "truncate", "rename", "exchange", "unlink", "mkdir", "rmdir", "link", "flushed",
})  # fmt: skip
_WRITABLE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CANNOT_RECORD: Final = (
    "symlink", "mkfifo", "mknod", "copy_file_range", "posix_fallocate", "splice", "writev", "pwritev",
    "dup2",
)  # fmt: skip
_SEEN_BY_AUDIT: Final = frozenset({
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "mmap.__new__",
})  # fmt: skip


class Call(NamedTuple):
    """One call that succeeded, or one mark. Which fields count depends on `kind`; a path may go with a descriptor."""

    kind: str
    pid: int
    fd: int = -1
    path: str = ""
    dir_fd: int | None = None
    new_path: str = ""
    new_dir_fd: int | None = None
    flags: int = 0
    offset: int = 0
    data: bytes = b""
    mark: Any = None


class Recorder:
    """Writes the trace of this process, and of the processes that it forks, once `install` was called."""

    def __init__(self, trace: Path, base: Path) -> None:
        self._base = str(base)
        self._fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._write = os.write
        self._inside = threading.local()
        self._changes_left: int | None = None

    def install(self) -> None:
        """Wrap the functions of `os` from now on."""
        for name in _CANNOT_RECORD:
            if hasattr(os, name):
                setattr(os, name, self._refuse(name))
        wrapped = (
            self._open(), self._close(), self._dup(), self._plain_write(), self._pwrite(), self._ftruncate(),
            self._truncate(), self._mkdir(), self._rename("rename"), self._rename("replace"), self._link(),
            self._remove("unlink"), self._remove("remove"), self._remove("rmdir"), self._flush("fsync"),
            self._flush("fdatasync"), self._sync(), self._fork(),
        )  # fmt: skip
        for function in wrapped:
            setattr(os, function.__name__, function)
        os.sendfile = _not_between_files
        renames.renameat2 = self._renameat2()  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def mark(self, kind: str, mark: Any = None) -> None:
        """Put a mark of the workload's own into the sequence."""
        self._note(Call(kind, os.getpid(), mark=mark))

    def kill_after(self, changes: int) -> None:
        """End this process with SIGKILL when it made so many more changes."""
        self._changes_left = changes

    def _note(self, call: Call) -> None:
        data = pickle.dumps(tuple(call))
        self._write(self._fd, len(data).to_bytes(4, "big") + data)
        if self._changes_left is not None and is_change(call):
            self._changes_left -= 1
            if self._changes_left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _concerns(self, path: str, dir_fd: int | None) -> bool:
        return dir_fd is not None or not os.path.isabs(path) or path.startswith(self._base)

    def _do(self, real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._inside.now = True
        try:
            return real(*args, **options)
        finally:
            self._inside.now = False

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _SEEN_BY_AUDIT or getattr(self._inside, "now", False):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITABLE):
            return
        if event == "mmap.__new__" and args[2] == mmap.ACCESS_READ:
            return
        if isinstance(args[0], str) and not args[0].startswith(self._base):
            return
        if isinstance(args[0], int) and not stat.S_ISREG(os.fstat(args[0]).st_mode):
            # The end of a pipe to another program.
            return
        self._note(Call("unseen", os.getpid(), path=f"{event} {args!r}"))

    def _refuse(self, name: str) -> Callable[..., Any]:
        def refused(*_: Any, **__: Any) -> Any:
            self._note(Call("unseen", os.getpid(), path=name))
            raise NotImplementedError(f"the recorder does not know os.{name}: teach it")

        return refused

    # -- one wrapper for each function

    def _open(self) -> Callable[..., int]:
        real = os.open

        def open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: A001
            fd: int = self._do(real, path, flags, mode, dir_fd=dir_fd)
            if self._concerns(os.fspath(path), dir_fd):
                self._note(Call("open", os.getpid(), fd, os.fspath(path), dir_fd, flags=flags))
            return fd

        return open

    def _close(self) -> Callable[[int], None]:
        real = os.close

        def close(fd: int) -> None:
            # Before the call: another thread may be given the same number at once.
            self._note(Call("close", os.getpid(), fd))
            real(fd)

        return close

    def _dup(self) -> Callable[[int], int]:
        real = os.dup

        def dup(fd: int) -> int:
            new = real(fd)
            self._note(Call("dup", os.getpid(), fd, offset=new))
            return new

        return dup

    def _plain_write(self) -> Callable[[int, Any], int]:
        real = os.write

        def write(fd: int, data: Any) -> int:
            count = real(fd, data)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                # Also true with O_APPEND, which moves the position to the end of what it wrote.
                offset = os.lseek(fd, 0, os.SEEK_CUR) - count
                self._note(Call("write", os.getpid(), fd, offset=offset, data=bytes(data)[:count]))
            return count

        return write

    def _pwrite(self) -> Callable[[int, Any, int], int]:
        real = os.pwrite

        def pwrite(fd: int, data: Any, offset: int) -> int:
            count = real(fd, data, offset)
            self._note(Call("write", os.getpid(), fd, offset=offset, data=bytes(data)[:count]))
            return count

        return pwrite

    def _ftruncate(self) -> Callable[[int, int], None]:
        real = os.ftruncate

        def ftruncate(fd: int, length: int) -> None:
            self._do(real, fd, length)
            self._note(Call("truncate", os.getpid(), fd, offset=length))

        return ftruncate

    def _truncate(self) -> Callable[[Any, int], None]:
        def truncate(path: Any, length: int) -> None:
            fd = os.open(path, os.O_WRONLY) if not isinstance(path, int) else os.dup(path)
            try:
                os.ftruncate(fd, length)
            finally:
                os.close(fd)

        return truncate

    def _mkdir(self) -> Callable[..., None]:
        real = os.mkdir

        def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            self._do(real, path, mode, dir_fd=dir_fd)
            if self._concerns(os.fspath(path), dir_fd):
                self._note(Call("mkdir", os.getpid(), path=os.fspath(path), dir_fd=dir_fd))

        return mkdir

    def _rename(self, name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def rename(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            self._do(real, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            if self._concerns(os.fspath(src), src_dir_fd) or self._concerns(os.fspath(dst), dst_dir_fd):
                old, new = os.fspath(src), os.fspath(dst)
                self._note(Call("rename", os.getpid(), -1, old, src_dir_fd, new, dst_dir_fd))

        rename.__name__ = name
        return rename

    def _renameat2(self) -> Callable[[int, str, int, str, int], None]:
        real = renames.renameat2

        def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
            self._do(real, source, name, target, new, flags)
            # Where it had to be free, it is a rename like any other.
            kind = "exchange" if flags & renames.EXCHANGE else "rename"
            self._note(Call(kind, os.getpid(), -1, name, source, new, target))

        return renameat2

    def _link(self) -> Callable[..., None]:
        real = os.link

        def link(
            src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None,
            follow_symlinks: bool = True,
        ) -> None:  # fmt: skip
            self._do(real, src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
            self._note(Call("link", os.getpid(), -1, os.fspath(src), src_dir_fd, os.fspath(dst), dst_dir_fd))

        return link

    def _remove(self, name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            self._do(real, path, dir_fd=dir_fd)
            if self._concerns(os.fspath(path), dir_fd):
                kind = "rmdir" if name == "rmdir" else "unlink"
                self._note(Call(kind, os.getpid(), path=os.fspath(path), dir_fd=dir_fd))

        remove.__name__ = name
        return remove

    def _flush(self, name: str) -> Callable[[int], None]:
        real = getattr(os, name)

        def flush(fd: int) -> None:
            # Only what was written before it began is sure to last, and only once it has ended.
            thread = threading.get_ident()
            self._note(Call("flush", os.getpid(), fd, offset=thread))
            real(fd)
            self._note(Call("flushed", os.getpid(), fd, path=name, offset=thread))

        flush.__name__ = name
        return flush

    def _sync(self) -> Callable[[], None]:
        real = os.sync

        def sync() -> None:
            real()
            self._note(Call("settle", os.getpid()))

        return sync

    def _fork(self) -> Callable[[], int]:
        real = os.fork

        def fork() -> int:
            parent = os.getpid()
            pid = real()
            if pid == 0:
                self._note(Call("fork", os.getpid(), offset=parent))
            return pid

        return fork


def _not_between_files(*_: Any, **__: Any) -> int:
    """As on systems that only send to sockets: who copies a file goes on with reads and writes, which are seen."""
    raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))


def is_change(call: Call) -> bool:
    """Whether a call leaves something to be lost, or keeps it from being lost."""
    return call.kind in _CHANGES and (call.kind != "open" or bool(call.flags & (os.O_CREAT | os.O_TRUNC)))


def read_trace(path: Path) -> Iterator[Call]:
    """What was recorded, in order."""
    data = path.read_bytes()
    position = 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        yield Call(*pickle.loads(data[position + 4 : end]))  # noqa: S301 - our own file
        position = end
