"""Logs that people edit while they are appended to: which of our entries an editor never saw.

An editor takes no lock. It reads a log, and after a while puts its copy in the log's place: by renaming it over the
log (sed, vim, git, rsync), or by writing into the log itself (ed, nano, cp). What was appended in between is not in
the copy, although whoever appended it was told that it lasts. So each writer remembers what it appended of late, looks
whether that still stands when the log is not as it left it, and appends again what an editor took along unseen.

What an editor saw and removed must stay removed. These tell the one from the other:
1. Who left a later entry of ours in the log saw the earlier ones. Only what is missing behind the last one that is
   there can be unseen.
2. What was appended after the copy was made was unseen. The file that was renamed has a birth; one that was written in
   place was written when it was last changed.
3. What was appended in the two seconds before that was unseen if the copy differs in anything else: programs read a
   moment before they write, and no person reads, changes and saves in that time. If all that the copy does is to end
   earlier, somebody took off the end, or took out an older version from git: that stays.
4. What was appended before that was seen. Editors of people warn when the file has changed since they read it.
5. What is gone together with all that stood before it was trimmed. fsstate trims with the lock held, so nothing is
   appended between its copy and its rename.

All times are the file system's own, of the same file system: its clock ticks coarsely, and need not be ours.

What this cannot know: an editor that read more than two seconds before it saved over a log in place, and did not mind
that it had changed; what another process appended, and died before it looked again; whether somebody who takes out an
older version from git has kept what was appended in the instant before; and whether one who takes out, within two
seconds of an append, a version that differs in more than its end means to undo that, too: it is put back. Of a log that
is edited in place the change may stand further from the end than is remembered: then what is missing of the last two
seconds is put back, also if somebody took off just that.

Nor can it know whether an editor in place is through: it takes no lock, and writes at offsets of its own. Nothing is
written, numbered or cut while the file changes, but one that does nothing for longer than `log_ends` waits (a second
once it has emptied the file, half a second within a line, a tenth of one between lines) is taken to be done. Should it
go on after that, it writes over what was appended meanwhile, and what is put back is what is missing by the rules
above: others of the last entries may be lost, its own text may be torn where it went on, and two writers may have given
out the same seq. And one that reads while an entry is being written may save the half of it, as a line that is none;
the entry is put back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from fsstate.backends.base import LogLine
from fsstate.backends.files import log_lines
from fsstate.backends.files.births import birth_of
from fsstate.backends.files.tree import read_at

__all__ = ["Edit", "Recent", "edited_at", "entries_of", "find", "look_at", "numbered", "remains_of"]

# Of each log that is kept open, at most so much of its end is remembered, and so many appends.
_MOST: Final = 1024 * 1024
_MOST_PIECES: Final = 4096
# So much of a log that was there already: edits in place show by it. Also what others append at once at most.
_WINDOW: Final = 64 * 1024
# In nanoseconds. What is older was seen by every editor that is still to come: see 4. above; slow copies take a while.
_OLDEST: Final = 60 * 1_000_000_000
_GRACE: Final = 2 * 1_000_000_000
# Looked through at the end of a log for the rest of a line.
_GLANCE: Final = 4 * 1024
_COMPARED: Final = 1024 * 1024
# What tells one entry from another although somebody edited it.
_NAMES: Final = ("id", "at")


class Edit(NamedTuple):
    """What came of an edit: the entries to append again, the seqs of those untold that need not be with those that they
    have now, and what is to be remembered from now on.
    """

    lost: list[LogLine]
    standing: dict[int, int]
    recent: Recent


class Found(NamedTuple):
    """An entry, and where its line begins."""

    start: int
    line: LogLine


class Glance(NamedTuple):
    """What was read to follow a log: where knowledge begins anew, if it does, and what was appended when and where."""

    begin: int | None
    pieces: list[tuple[int, int, bytes]]


class _Old(Protocol):
    """A log as it was before somebody edited it. What stands before `begin` is not known."""

    begin: int

    def read(self, start: int, size: int) -> bytes:
        """Its bytes from an offset in the file on, or as many of them as there are."""
        ...

    def holds(self, line: LogLine) -> bool:
        """Whether it has this very line."""
        ...


class _OldFile:
    """The file that was replaced, which stays as it was while it is open."""

    def __init__(self, fd: int) -> None:
        self.begin = 0
        self._fd = fd

    def read(self, start: int, size: int) -> bytes:
        return read_at(self._fd, size, start)

    def holds(self, line: LogLine) -> bool:
        end = os.fstat(self._fd).st_size
        return any(other.line.data == line.data for other in islice(_entries(self._fd, end, line.seq), 1))


class _OldBytes:
    """What is remembered of a file that was written to in place."""

    def __init__(self, known: bytes, begin: int) -> None:
        self.begin = begin
        self._known = known

    def read(self, start: int, size: int) -> bytes:
        start -= self.begin
        return self._known[start : start + size]

    def holds(self, line: LogLine) -> bool:
        return line.data + b"\n" in self._known


class Recent:
    """What this process knows of a log's end, and which part of that it appended itself. Requires: one thread."""

    def __init__(self, begin: int = 0) -> None:
        self._start_at(begin)

    def _start_at(self, begin: int) -> None:
        self._begin = self._end = begin
        # What follows each other in the log: when we appended it (in nanoseconds; 0: it is not of us), start, bytes.
        self._pieces: deque[tuple[int, int, bytes]] = deque()
        self._newest: tuple[int, int, bytes] | None = None

    def __bool__(self) -> bool:
        """Whether anything that was appended here is remembered."""
        return self._newest is not None

    def clear(self) -> None:
        """Forget everything: what was appended is gone on purpose."""
        self._start_at(0)

    @property
    def end(self) -> int:
        """Where what is known ends."""
        return self._end

    @property
    def looked_at(self) -> int:
        """When we last appended, in nanoseconds; 0 when nothing is remembered."""
        return self._newest[0] if self._newest else 0

    def add(self, data: bytes, start: int, at: int) -> None:
        """Remember what we wrote at `start`. Requires: what stands before it was followed."""
        if start == self._end:
            self._newest = (at, start, data)
            self._append(self._newest)

    def glance(self, fd: int, end: int) -> Glance:
        """Read what others appended, up to `end`."""
        more = end - self._end
        if more < 0 or more > _WINDOW or self._newest is None:
            begin = max(0, end - _WINDOW)
            return Glance(begin, [(0, begin, read_at(fd, end - begin, begin))])
        if more:
            return Glance(None, [(0, self._end, read_at(fd, more, self._end))])
        # It is as long as it was, and another.
        pieces = [(at, start, read_at(fd, len(data), start)) for at, start, data in self._pieces]
        return Glance(self._begin, pieces)

    def follow(self, glance: Glance) -> None:
        """Take note of it. Requires: nobody wrote to the log meanwhile, and what we appended stands."""
        newest = self._newest
        if glance.begin is not None:
            self._start_at(glance.begin)
        for piece in glance.pieces:
            self._append(piece)
            if piece == newest:
                self._newest = piece

    def _append(self, piece: tuple[int, int, bytes]) -> None:
        self._pieces.append(piece)
        self._end += len(piece[2])
        while self._end - self._begin > _MOST or len(self._pieces) > _MOST_PIECES:
            gone = self._pieces.popleft()
            self._begin += len(gone[2])
            if gone is self._newest:
                self._newest = None

    def renewed(self, fd: int, end: int, kept: Sequence[tuple[int, Found]]) -> Recent:
        """The same of a log that was edited: of our entries what is still there, and when it was written.

        Theirs are the bytes that stand there now, should they have been edited.
        """
        recent = Recent(max(0, end - max(_WINDOW, self._end - self._begin)))
        for at, (start, line) in sorted(kept, key=lambda each: each[1].start):
            if start >= recent.end and not isinstance(line, log_lines.Marker):
                recent._append((0, recent.end, read_at(fd, start - recent.end, recent.end)))
                recent.add(read_at(fd, len(line.data), start), start, at)
        recent._append((0, recent.end, read_at(fd, end - recent.end, recent.end)))
        return recent

    def stands(self, fd: int) -> bool:
        """Whether the last thing that we appended is where we wrote it. True when nothing is remembered."""
        if self._newest is None:
            return True
        _, start, data = self._newest
        return read_at(fd, len(data), start) == data

    def entries(self) -> list[tuple[int, LogLine]]:
        """What we appended, each with its time, in order."""
        since = max(1, self.looked_at - _OLDEST)
        return [(at, line) for at, _, data in self._pieces if at >= since for line in entries_of(data)]

    def knows(self, line: LogLine) -> bool:
        """Whether an entry was there at our last look, perhaps otherwise."""
        return any(other.seq == line.seq and _is_same(other, line) for other in entries_of(self._bytes()))

    def is_in(self, fd: int, end: int) -> bool:
        """Whether the last entry that we appended is anywhere in a log."""
        newest = [line for _, line in self.entries()[-1:]]
        return bool(find(fd, end, newest)) or not newest

    def as_it_was(self) -> _Old:
        """The log's end before somebody wrote into it."""
        return _OldBytes(self._bytes(), self._begin)

    def _bytes(self) -> bytes:
        return b"".join(data for _, _, data in self._pieces)


def edited_at(recent: Recent, fd: int, *, is_new: bool) -> int:
    """When a log that is another file now, or was written to in place, was edited, in nanoseconds."""
    if is_new:
        return birth_of(fd)
    status = os.fstat(fd)
    behind = log_lines.backwards(fd, status.st_size)
    last = next((line for _, line in behind if isinstance(line, LogLine)), None)
    # Others have appended since: it was edited soon after our last look at it, for all we know.
    return status.st_mtime_ns if last is None or recent.knows(last) else recent.looked_at


def look_at(recent: Recent, fd: int, end: int, *, old: int | None, edited: int, untold: Sequence[LogLine]) -> Edit:
    """Tell what an editor of a log did not see of what we appended. Changes nothing: the editor may not be through.

    `old` is the file that was replaced by this one; None when this one was written to in place. `edited` is the time
    of that, or of the first that was seen of it. `untold` is what we wrote behind all that is remembered, without
    telling anybody yet.
    """
    was = recent.as_it_was() if old is None else _OldFile(old)
    entries = recent.entries()
    there = find(fd, end, [*(line for _, line in entries), *untold])
    trimmed = _trimmed(was, fd, end)
    standing = {line.seq: there[line.seq].line.seq for line in untold if line.seq in there}
    standing |= {line.seq: line.seq for line in untold if line.seq <= trimmed}
    missing: list[tuple[int, LogLine]] = []
    # What we wrote to the file that was replaced came here by the editor, who saw all before it, too.
    saw_all = bool(standing) and old is not None
    while entries and not saw_all and entries[-1][1].seq not in there:
        at, line = entries.pop()
        if line.seq > trimmed:
            missing.append((at, line))
    lost = _unseen(missing[::-1], was, fd, end, edited)
    now = os.fstat(fd).st_mtime_ns
    kept = [*entries, *((now, line) for line in untold if line.seq in standing)]
    renewed = recent.renewed(fd, end, [(at, there[line.seq]) for at, line in kept if line.seq in there])
    return Edit(lost, standing, renewed)


def _trimmed(was: _Old, fd: int, end: int) -> int:
    """Up to which seq the entries are gone with all that stood before them; 0 when none are."""
    first = next((line for _, line in log_lines.forwards(fd, 0, end) if isinstance(line, LogLine)), None)
    if isinstance(first, log_lines.Marker):
        return first.seq
    return first.seq - 1 if first is not None and was.holds(first) else 0


def _unseen(missing: Sequence[tuple[int, LogLine]], was: _Old, fd: int, end: int, edited: int) -> list[LogLine]:
    lost = [line for at, line in missing if at > edited]
    doubtful = [line for at, line in missing if edited - _GRACE <= at <= edited]
    return [*doubtful, *lost] if doubtful and not _is_cut(was, fd, end) else lost


def _is_cut(was: _Old, fd: int, end: int) -> bool:
    """Whether all that was done to a log is that its end was taken off; others may have appended to it after that.

    Also when nothing of it is the same: then it is another log. Not when the change may stand before all that is known.
    """
    if was.begin:
        return False
    common = _common(was, fd, end)
    before = {line.seq: line for line in entries_of(was.read(common, _COMPARED))}
    behind = log_lines.forwards(fd, common, min(end, common + _COMPARED))
    return not any(
        isinstance(line, LogLine) and line.seq in before and _is_same(line, before[line.seq]) for _, line in behind
    )


def _common(was: _Old, fd: int, end: int) -> int:
    """Up to where a log is what it was, as far as whole lines go."""
    position = was.begin
    while one := was.read(position, _COMPARED):
        other = read_at(fd, min(_COMPARED, max(0, end - position)), position)
        if one != other:
            return position + one[: _common_length(one, other)].rfind(b"\n") + 1
        position += len(one)
    return position


def _common_length(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def entries_of(data: bytes) -> list[LogLine]:
    """The entries in a piece of a log."""
    parsed = (log_lines.parse(line, 0) for line in data.split(b"\n") if line)
    return [line for line in parsed if isinstance(line, LogLine)]


def find(fd: int, end: int, lines: Sequence[LogLine]) -> dict[int, Found]:
    """Where these entries stand by now, by the seqs that they had: also those that were edited or numbered anew."""
    if not lines:
        return {}
    there = list(_entries(fd, end, min(line.seq for line in lines)))
    by_seq = {entry.line.seq: entry for entry in there}
    same = (line for line in lines if line.seq in by_seq and _is_same(by_seq[line.seq].line, line))
    found = {line.seq: by_seq[line.seq] for line in same}
    others = {_payload(entry.line): entry for entry in there if entry.line.seq not in found}
    for line in lines:
        if line.seq not in found and (renumbered := others.pop(_payload(line), None)) is not None:
            found[line.seq] = renumbered
    return found


def _entries(fd: int, end: int, first: int) -> Iterator[Found]:
    for behind, line in log_lines.forwards(fd, log_lines.seek(fd, end, first - 1), end):
        if isinstance(line, LogLine) and line.seq >= first:
            yield Found(behind - len(line.data) - 1, line)


def _is_same(line: LogLine, other: LogLine) -> bool:
    """Whether a line is the other one, perhaps edited. Requires: their seqs are equal.

    Another process may give out a seq again when the entry that had it is not there.
    """
    if line.data == other.data:
        return True
    one, two = log_lines.fields_of(line), log_lines.fields_of(other)
    return all(one[name] == two[name] for name in _NAMES if name in one and name in two)


def numbered(line: LogLine, seq: int) -> bytes:
    """The line of an entry with this seq."""
    return line.data if line.seq == seq else b'{"seq":%d%s' % (seq, _payload(line))


def _payload(line: LogLine) -> bytes:
    return line.data.removeprefix(b'{"seq":%d' % line.seq)


def remains_of(lines: Sequence[LogLine], fd: int, end: int) -> int:
    """How many bytes at the end of a log are the rest of one of these, over whose beginning somebody wrote."""
    last = read_at(fd, min(_GLANCE, end), max(0, end - _GLANCE)).rstrip(b"\n").rpartition(b"\n")[2]
    is_rest = bool(last) and not isinstance(log_lines.parse(last, 0), LogLine)
    return len(last) + 1 if is_rest and any(line.data.endswith(last) for line in lines) else 0
