"""The end of a log file, where the next append goes: finding it, and seeing whether somebody else changes it."""

from __future__ import annotations

import os
import time
from typing import Final

from fsstate.backends.base import TRIM_MARKER, LogLine
from fsstate.backends.files import log_lines
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.tree import read_at

__all__ = [
    "Tail",
    "await_quiet",
    "continued",
    "cut_at",
    "ends_with",
    "find_tail",
    "first_line",
    "going_on_after",
    "split_at",
    "state_behind",
    "state_of",
    "take_off",
    "trim_marker",
    "written_at",
]

# Looked through for the highest seq, since hands and merges may have put lower seqs behind higher ones.
_WINDOW: Final = 64 * 1024
# In seconds. Who edits a file in place does nothing for so long only when it is done, as a rule: what we write or cut
# before tears the file. One that is shorter than it was may be half written, one that ends within a line most likely
# is, and one that is empty is about to be. At most so long we wait, and so long at a time.
_QUIET: Final = 0.02
_QUIET_IF_SHORTER: Final = 0.1
_QUIET_IF_TORN: Final = 0.5
_QUIET_IF_EMPTY: Final = 1.0
_PATIENCE: Final = 2.0
_MOMENT: Final = 0.002


class Tail:
    """What is known about the end of an open log file: valid while the file's state is `state`."""

    __slots__ = ("end", "last", "seq", "state")

    def __init__(self, end: int, seq: int, last: LogLine | None, state: tuple[int, ...] = ()) -> None:
        self.end = end
        self.seq = seq
        self.last = last
        self.state = state


def state_of(file: Lockable, end: int | None = None) -> tuple[int, ...]:
    """What changes when the file does. No state at all when it does not stop at `end`: others wrote behind it."""
    status = os.fstat(file.fd)
    if end is not None and status.st_size != end:
        return (-1,)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def state_behind(file: Lockable, end: int) -> tuple[int, ...]:
    """The state of a file that we have just written up to `end`; no state at all where it cannot be looked at."""
    try:
        return state_of(file, end)
    except OSError:
        return (-1,)


def written_at(file: Lockable, tail: Tail) -> int:
    """When what ends there was written, by the file system's clock, as far as that can be looked at."""
    try:
        return tail.state[1] if len(tail.state) > 1 else os.fstat(file.fd).st_mtime_ns
    except OSError:
        return time.time_ns()


def ends_with(file: Lockable, end: int, data: bytes) -> bool:
    """Whether these bytes, if any, are the last of a file of `end` bytes."""
    return 0 < len(data) <= end and read_at(file.fd, len(data), end - len(data)) == data


def cut_at(file: Lockable, end: int, state: tuple[int, ...]) -> bool:
    """Cut off what stands behind `end`, unless somebody has written since `state`. Says whether it did.

    Requires: `await_quiet`, or that nobody edits the file. Else an editor that has emptied it may fill it this instant.
    """
    is_unchanged = state_of(file) == state
    if is_unchanged:
        os.ftruncate(file.fd, end)
    return is_unchanged


def take_off(file: Lockable, data: bytes, known: int) -> None:
    """Cut off what came to stand behind an edit, once nobody goes on with that, of a file that had `known` bytes."""
    await_quiet(file, known, data)
    state = state_of(file)
    if ends_with(file, state[0], data):
        cut_at(file, state[0] - len(data), state)


def await_quiet(file: Lockable, known: int = 0, own: bytes = b"") -> None:
    """Wait until nobody has written for a moment to a file that was `known` to have so many bytes.

    What we wrote of our `own` to its end does not count: an editor may have emptied it before that.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        status = os.fstat(file.fd)
        theirs = status.st_size - len(own) if ends_with(file, status.st_size, own) else status.st_size
        quiet = _quiet_for(file, theirs, known)
        # Another machine's clock may say that it is still to be written; then there is nothing to wait for.
        if not 0 <= time.time_ns() - status.st_mtime_ns < quiet * 1e9:
            return
        time.sleep(_MOMENT)


def _quiet_for(file: Lockable, end: int, known: int) -> float:
    """For how many seconds nobody goes on with a file that ends there, and had `known` bytes, unless it is whole."""
    if end and not ends_with(file, end, b"\n"):
        return _QUIET_IF_TORN
    return _QUIET if end >= known else _QUIET_IF_SHORTER if end else _QUIET_IF_EMPTY


def find_tail(file: Lockable, end: int, known: Tail | None) -> Tail:
    """Look back from the end of a sound file, no further than to what is `known` already."""
    if known is not None and known.end >= end:
        known = None
    start = max(known.end if known else 0, end - _WINDOW)
    window = read_at(file.fd, end - start, start)
    if start and known is None:
        # It begins in the middle of a line.
        window = window[window.find(b"\n") + 1 :]
    highest = max(known.seq if known else 0, log_lines.highest_seq(window))
    for _, parsed in log_lines.backwards(file.fd, end):
        if isinstance(parsed, LogLine):
            highest = max(parsed.seq, highest)
            if not isinstance(parsed, log_lines.Marker):
                return Tail(end, highest, parsed)
    return Tail(end, highest, None)


def continued(data: bytes, earlier: bytes) -> bytes:
    """The bytes of a log that takes the place of an earlier one, and gives out none of its seqs again.

    Where those were higher, a marker stands at the end: no entry, but seqs go on behind it.
    """
    return going_on_after(data, log_lines.highest_seq(earlier))


def going_on_after(data: bytes, last: int) -> bytes:
    """The bytes of a log behind which seqs are higher than `last`."""
    if log_lines.highest_seq(data) >= last:
        return data
    newline = b"" if data.endswith(b"\n") or not data else b"\n"
    return b"%s%s%s" % (data, newline, trim_marker(last))


def trim_marker(seq: int) -> bytes:
    """The line that stands for removed entries up to this one."""
    return b'{"seq":%d,%s}\n' % (seq, TRIM_MARKER)


def split_at(file: Lockable, before: int, end: int) -> tuple[int, int, bool]:
    """Where the entries from seq `before` on begin, how many stand before them, and whether there are any."""
    start, removed = 0, 0
    for behind, parsed in log_lines.forwards(file.fd, 0, end):
        if isinstance(parsed, LogLine):
            if parsed.seq >= before:
                return start, removed, True
            removed += not isinstance(parsed, log_lines.Marker)
            start = behind
    return start, removed, False


def first_line(file: Lockable, end: int) -> tuple[int, LogLine | None]:
    """The first line that is an entry, or stands for some, and the offset behind it."""
    for behind, parsed in log_lines.forwards(file.fd, 0, end):
        if isinstance(parsed, LogLine):
            return behind, parsed
    return 0, None
