"""Logs that were damaged: what is wrong in them, and taking it out without losing a byte.

Works beside the writers' own objects, by the same lock: that of the log file (flock). What is taken out is a file of
its own, flushed and named, before the log changes; the log is then cut at its end or replaced in one step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import orjson

from fsstate.backends.base import ENTRY_BEGINNING, TRIM_MARKER, BadLine, LogLine, Ref, Torn
from fsstate.backends.files import log_lines
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Directory, Tree, copy_bytes, flush_data, refusals, write_all
from fsstate.errors import LockTimeoutError

__all__ = ["is_damage", "numbered", "tail_flaw", "take_lines"]

_BLOCK: Final = 1024 * 1024


def tail_flaw(tree: Tree, ref: Ref) -> BadLine | None:
    """What stands behind the last entry; None where there is nothing, or somebody writes there at this moment."""
    directory = tree.find(ref.category)
    file = None if directory is None else Lockable.open_file(directory, ref.name + ref.suffix, os.O_RDONLY)
    if file is None:
        return None
    with refusals("look at", file.path), contextlib.closing(file):
        if not file.try_lock() or not file.is_current():
            return None
        size = os.fstat(file.fd).st_size
        lines = log_lines.entries_backwards(file.fd, size, log_lines.sound_end(file.fd, size))
        last = next(lines, None)
        if not isinstance(last, BadLine) or last.column is not None:
            return None
        return last._replace(line=_lines_before(file.fd, last.offset) + 1, column=1)


def _lines_before(fd: int, end: int) -> int:
    found, position = 0, 0
    while position < end and (data := os.pread(fd, min(_BLOCK, end - position), position)):
        found += data.count(b"\n")
        position += len(data)
    return found


def numbered(tree: Tree, ref: Ref) -> Iterator[tuple[int, int, LogLine | BadLine]]:
    """The lines up to where a crash may have left something, each with its number and its offset."""
    directory = tree.find(ref.category)
    file = None if directory is None else Lockable.open_file(directory, ref.name + ref.suffix, os.O_RDONLY)
    if file is None:
        return
    with refusals("read", file.path), contextlib.closing(file):
        yield from log_lines.numbered(file.fd, log_lines.sound_end(file.fd, os.fstat(file.fd).st_size))


def take_lines(tree: Tree, staging: Staging, ref: Ref, to: str, timeout: float) -> Torn | None:
    """Take out what is no JSON, and put it aside in the category `to` first, under the log's name."""
    directory = tree.find(ref.category)
    if directory is None:
        return None
    name = ref.name + ref.suffix
    while (file := Lockable.open_file(directory, name, os.O_RDWR)) is not None:
        with refusals("mend", file.path), contextlib.closing(file):
            if not file.lock(timeout):
                raise LockTimeoutError(file.path, timeout, "it is being written to")
            # Else it was replaced meanwhile, and this lock keeps nobody out.
            if file.is_current():
                return _Mending(tree, staging, directory, name, file).take(to)
    return None


class _Piece(NamedTuple):
    """Some bytes of the log: from `start` to before `end`."""

    start: int
    end: int


class _Mending:
    """Takes damage out of one log. Requires: its lock is held."""

    def __init__(self, tree: Tree, staging: Staging, directory: Directory, name: str, file: Lockable) -> None:
        self._tree = tree
        self._staging = staging
        self._directory = directory
        self._name = name
        self._file = file
        self._size = os.fstat(file.fd).st_size
        self._kept: list[_Piece] = []
        self._taken: list[_Piece] = []
        # The highest seqs, as far as they can be told, of what stays and of what goes.
        self._seq = 0
        self._lost_seq = 0
        self._looks_ours = False
        self._last_is_whole = True

    def take(self, to: str) -> Torn | None:
        self._sort()
        is_ours = self._seq or self._looks_ours or log_lines.sound_end(self._file.fd, self._size) == 0
        if not self._taken or not is_ours:
            return None
        self._put_aside(to)
        if self._is_tail():
            os.ftruncate(self._file.fd, self._taken[0].start)
            if self._tree.flushes:
                flush_data(self._file.fd)
        else:
            self._rewrite()
        return Torn(len(self._taken), sum(end - start for start, end in self._taken))

    def _is_tail(self) -> bool:
        """Whether all that goes stands behind all that stays, and nothing is to be remembered of it."""
        return len(self._taken) == 1 and self._taken[0].end == self._size and self._lost_seq <= self._seq

    def _sort(self) -> None:
        """Tell what stays from what goes."""
        end = 0
        for _, offset, parsed in log_lines.numbered(self._file.fd, self._size):
            if end < offset:
                # Empty lines.
                self._keep(end, offset)
            whole = self._end_of(offset, parsed)
            end = min(whole, self._size)
            if isinstance(parsed, LogLine):
                self._seq = max(self._seq, parsed.seq)
                self._last_is_whole = whole <= self._size
                self._keep(offset, end)
            elif is_damage(parsed.data):
                self._looks_ours |= parsed.data.startswith(ENTRY_BEGINNING)
                if whole <= self._size:
                    # What was cut off in the middle was acknowledged to nobody.
                    self._lost_seq = max(self._lost_seq, log_lines.highest_seq(parsed.data))
                _extend(self._taken, offset, end)
            else:
                self._last_is_whole = whole <= self._size
                self._keep(offset, end)
        if end < self._size:
            self._keep(end, self._size)

    def _keep(self, start: int, end: int) -> None:
        _extend(self._kept, start, end)

    def _end_of(self, offset: int, parsed: LogLine | BadLine) -> int:
        """Behind the line's end; behind the file's where that lacks it."""
        newline = offset + len(parsed.data)
        while (data := os.pread(self._file.fd, 64, newline)) and b"\n" not in data:
            newline += len(data)
        return newline + (data.index(b"\n") if data else 0) + 1

    def _put_aside(self, to: str) -> None:
        folder = self._tree.make(to)
        with self._staging.create(b"", like=os.fstat(self._file.fd)) as staged:
            self._copy(self._taken, staged.fd)
            if self._tree.flushes:
                flush_data(staged.fd)
            staged.move(folder, self._name)
        self._tree.sync(folder)

    def _rewrite(self) -> None:
        with self._staging.create(b"", like=os.fstat(self._file.fd)) as staged:
            self._copy(self._kept, staged.fd)
            if not self._last_is_whole:
                write_all(staged.fd, b"\n")
            if self._lost_seq > self._seq:
                # Else the seq of an entry that was lost would be given out once more.
                write_all(staged.fd, b'{"seq":%d,%s}\n' % (self._lost_seq, TRIM_MARKER))
            if self._tree.flushes:
                flush_data(staged.fd)
            with contextlib.closing(staged.open_lockable(Lockable)) as fresh:
                # Locked before it has its name: who waits for the old file looks for the new one, and finds it whole.
                fresh.lock(0)
                staged.move(self._directory, self._name)
                self._tree.sync(self._directory)

    def _copy(self, pieces: Iterable[_Piece], target: int) -> None:
        for start, end in pieces:
            copy_bytes(self._file.fd, start, target, end)


def is_damage(data: bytes) -> bool:
    """Whether a line that is no entry is none of a program's or a person's either: no JSON, and no merge under way."""
    if data.startswith(log_lines.CONFLICT):
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return True
    return False


def _extend(pieces: list[_Piece], start: int, end: int) -> None:
    if pieces and pieces[-1].end == start:
        pieces[-1] = _Piece(pieces[-1].start, end)
    elif start < end:
        pieces.append(_Piece(start, end))
