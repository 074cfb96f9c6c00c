"""The end of a log that others change: people with editors, git, and other processes.

What an editor took along unseen is put back before anybody appends behind it: see `edited_logs` for what that is.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Final

from fsstate.backends.base import LogLine
from fsstate.backends.files.edited_logs import Edit, edited_at, entries_of, find, look_at, numbered, remains_of
from fsstate.backends.files.log_access import LogHandle
from fsstate.backends.files.log_ends import (
    Tail,
    await_quiet,
    cut_at,
    ends_with,
    find_tail,
    state_behind,
    state_of,
    take_off,
    written_at,
)
from fsstate.backends.files.log_memory import LogMemory
from fsstate.backends.files.log_writing import LogWriter
from fsstate.backends.files.tree import read_at
from fsstate.errors import StorageError

__all__ = ["LogFollower", "is_where_it_was"]

_logger: Final = logging.getLogger("fsstate")
_FEW: Final = 10
# In seconds: how long we let somebody write who only adds lines without the lock, as other programs may.
_GROWTH: Final = 0.01
_SHOWN: Final = 20


class LogFollower:
    """Finds the end of one log, with everything in it that belongs there. Requires: the log is locked."""

    def __init__(self, writer: LogWriter, memory: LogMemory) -> None:
        self._path = writer.path
        self._writer = writer
        self._memory = memory

    def ready(self, file: LogHandle) -> tuple[LogHandle, Tail]:
        """The file, written anew if it needs that, and its end, fit for an append."""
        file = self._writer.rewritten(file)
        if file.tail is None or file.tail.state != state_of(file):
            file.tail = self._followed(file)
            file.tail.seq = max(file.tail.seq, self._memory.highest)
        return file, file.tail

    def must_look(self, file: LogHandle | None) -> bool:
        """Whether what was appended here may be gone. Needs no lock: somebody else may hold it for long."""
        memory = self._memory
        return bool(memory.lost) or file is None or not (file.is_current() and memory.recent.stands(file.fd))

    def _followed(self, file: LogHandle) -> Tail:
        for _ in range(_FEW):
            if self._is_edited(file):
                # Nothing of what was known of it holds.
                file.tail = None
                self._memory.take_note(self._settled_edit(file))
            seen = self._seen(file)
            tail = None if seen is None else self._put_back(file, seen)
            if tail is not None:
                return tail
            file.tail = None
        raise StorageError("append to (somebody writes to it all the time)", self._path, errno.EBUSY)

    def _seen(self, file: LogHandle) -> Tail | None:
        """The end of the file as it is at one moment; None when somebody writes to it at this one.

        Who takes half of an edit for the log gives out seqs again, and forgets what it is to put back.
        """
        recent = self._memory.recent
        end = self._writer.mend(file)
        state = state_of(file, end)
        tail = find_tail(file, end, file.tail)
        glance = recent.glance(file.fd, end)
        if not recent.stands(file.fd) or state_of(file) != state:
            self._await_writer(file, end)
            return None
        recent.follow(glance)
        tail.state = state
        return tail

    def _await_writer(self, file: LogHandle, end: int) -> None:
        """Wait for who writes to a file that ended there; not for long where lines are added only."""
        recent = self._memory.recent
        if os.fstat(file.fd).st_size > end and recent.stands(file.fd):
            time.sleep(_GROWTH)
        else:
            await_quiet(file, recent.end)

    # -- edits

    def _is_edited(self, file: LogHandle) -> bool:
        """Whether anybody but fsstate may have changed the log since we appended to it.

        Others' appends leave ours where they are.
        """
        memory = self._memory
        return memory.replaced is not None or memory.untold != b"" or not memory.recent.stands(file.fd)

    def _settled_edit(self, file: LogHandle) -> Edit:
        """What came of the edit of a log, once nobody goes on with it. Takes off what we wrote behind it untold."""
        memory = self._memory
        old = None if memory.replaced is None else memory.replaced.fd
        untold = entries_of(memory.untold)
        edited = edited_at(memory.recent, file.fd, is_new=old is not None)
        for _ in range(_FEW):
            self._await_editor(file, is_new=old is not None)
            state = state_of(file)
            end = state[0]
            # What it lacks of what we wrote earlier belongs before that.
            if old is None and ends_with(file, end, memory.untold):
                end -= len(memory.untold)
            edit = look_at(memory.recent, file.fd, end, old=old, edited=edited, untold=untold)
            if state_of(file) == state:
                if end < state[0]:
                    os.ftruncate(file.fd, end)
                return edit
        raise StorageError("append to (somebody writes to it all the time)", self._path, errno.EBUSY)

    def _await_editor(self, file: LogHandle, *, is_new: bool) -> None:
        memory = self._memory
        # Others' trims leave the last entry in the log, as a rule, and are done when they can be seen.
        if memory.untold or not memory.recent.is_in(file.fd, os.fstat(file.fd).st_size):
            # Git and vim make the file first, and fill it then.
            await_quiet(file, 1 if is_new else memory.recent.end, memory.untold)

    # -- what was lost

    def _put_back(self, file: LogHandle, tail: Tail) -> Tail | None:
        """Append again what was appended here and an editor did not see. Returns the new end; what it says lasts.

        None when the log is to be looked at anew: somebody edited it meanwhile, again, or something was cut off.
        """
        memory = self._memory
        if rest := remains_of([*memory.lost, *entries_of(memory.untold)], file.fd, tail.end):
            # The editor wrote over the beginning of it, and ended before its end did.
            cut_at(file, tail.end - rest, tail.state)
            return None
        if memory.lost:
            return self._append_lost(file, tail)
        if memory.standing:
            # An editor need not have flushed what our callers are about to be told of.
            self._writer.make_durable(file, tail.end, tail)
        return tail

    def _append_lost(self, file: LogHandle, before: Tail) -> Tail | None:
        memory = self._memory
        # Should this have been half done before.
        there = find(file.fd, before.end, memory.lost)
        memory.lost = [line for line in memory.lost if line.seq not in there]
        if not memory.lost:
            return before
        lines = _numbered_behind(memory.lost, before.seq, memory.highest)
        data = b"".join(line.data + b"\n" for line in lines)
        self._writer.write(file, data, before.end)
        tail = Tail(before.end + len(data), lines[-1].seq, lines[-1])
        tail.state = state_behind(file, tail.end)
        self._writer.make_durable(file, before.end, tail)
        if not is_where_it_was(file, tail, data):
            # Numbered for another end of the log.
            take_off(file, data, before.end)
            return None
        memory.recent.add(data, before.end, written_at(file, tail))
        memory.lost, memory.highest = [], max(memory.highest, tail.seq)
        _logger.warning(
            "%s: put back %d entries at its end, as %s: whoever edited it had read it before they were appended",
            self._path, len(lines), ", ".join(str(line.seq) for line in lines[:_SHOWN]),
        )  # fmt: skip
        return tail


def _numbered_behind(lost: list[LogLine], last: int, highest: int) -> list[LogLine]:
    """The entries with seqs behind `last`: their own, where those are higher, or such as nobody was given."""
    lines: list[LogLine] = []
    for line in lost:
        last = line.seq if line.seq > last else max(last, highest) + 1
        lines.append(LogLine(last, numbered(line, last)))
    return lines


def is_where_it_was(file: LogHandle, tail: Tail, data: bytes) -> bool:
    """Whether the path still leads to the file, and nobody wrote over the data that we wrote up to the tail."""
    try:
        status = os.fstat(file.fd)
        # Who renames or removes a file, or puts another in its place, changes its ctime, too.
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == tail.state and status.st_nlink:
            return True
        return file.is_current() and read_at(file.fd, len(data), tail.end - len(data)) == data
    except OSError:
        # It was written and flushed. Nothing says that it is not there.
        return True
