"""Log files: durable appends that share their flushes, reads from either end, trims.

An append locks the log file itself (flock), so that no other process writes between finding the next seq and writing it; the
flush comes after the unlock. Inside the process one thread leads: it writes what all waiting threads want to append with
one write and one flush, and everybody is told the outcome.

Invariants:
1. An acknowledged entry was flushed, and so was the log's name in its directory.
2. What a crash left behind the last entry is cut off before the next append; what is cut is reported.
3. A flush that failed is never repeated on the same file: the entries are taken back, or else the file is written anew
   before the next append (fsync(2) may report an error once and then forget it).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from fsstate.backends.base import TRIM_MARKER, Appended, BadLine, Compose, LogLine, Ref
from fsstate.backends.files import log_lines
from fsstate.backends.files.locks import flock_within, identity_of, leads_to
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, open_regular, write_all
from fsstate.errors import LockTimeoutError, OutcomeUnknownError, StorageError
from fsstate.options import StoreOptions

__all__ = ["Gatekeeper", "LogFile", "read_lines"]

_logger: Final = logging.getLogger("fsstate")
_SEQS: Final = re.compile(rb'^\{"seq":([1-9][0-9]{0,17})[,}]', re.MULTILINE)
_COPY: Final = 1024 * 1024


class Gatekeeper(Protocol):
    """Knows whether the document that owns a log exists, and keeps it from being deleted."""

    def require(self, owner: Ref) -> None:
        """Raise NotFoundError when the owner does not exist."""
        ...

    def hold(self, owner: Ref) -> AbstractContextManager[None]:
        """The same, and keep it in existence until the block ends."""
        ...


class _Ticket:
    """What one caller wants to append, and what became of it."""

    __slots__ = ("composes", "outcomes")

    def __init__(self, composes: Sequence[Compose]) -> None:
        self.composes = composes
        self.outcomes: list[Appended] | None = None

    def fail(self, error: Exception) -> None:
        self.outcomes = [error for _ in self.composes]


class _Tail:
    """What is known about the end of an open log file: valid while the file is `end` bytes long."""

    __slots__ = ("end", "last", "seq")

    def __init__(self, end: int, seq: int, last: LogLine | None) -> None:
        self.end = end
        self.seq = seq
        self.last = last


class LogFile:
    """One log, as this process writes it. Safe to share between threads; must not be used in a forked child."""

    def __init__(self, ref: Ref, tree: Tree, staging: Staging, options: StoreOptions, gate: Gatekeeper) -> None:
        self.ref = ref
        self.path = tree.path(str(ref))
        self._tree = tree
        self._staging = staging
        self._options = options
        self._flush = options.durability == "full"
        self._gate = gate
        self._waiting: deque[_Ticket] = deque()
        self._leader = threading.Lock()
        self._fd = -1
        self._identity = (0, 0)
        self._tail: _Tail | None = None
        self._name_lasts = False
        self._must_rewrite = False
        self._claimed = False

    def __del__(self) -> None:
        self._close()

    # -- appending

    def append(self, composes: Sequence[Compose], owner: Ref | None) -> list[Appended]:
        """Append what each says, durably, together with what other threads append at this moment."""
        ticket = _Ticket(composes)
        self._waiting.append(ticket)
        with self._leader:
            if ticket.outcomes is None:
                self._lead(owner)
        assert ticket.outcomes is not None
        return ticket.outcomes

    def _lead(self, owner: Ref | None) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._commit(batch, owner)
        except Exception as error:  # noqa: BLE001 - every waiting thread is told, in its own thread
            for ticket in batch:
                ticket.fail(error)
        except BaseException:
            for ticket in batch:
                ticket.fail(StorageError("finish writing", self.path, 4))
            raise

    def _commit(self, batch: list[_Ticket], owner: Ref | None) -> None:
        with self._locked(owner):
            tail = self._ready_tail()
            start = tail.end
            lines, tail = self._compose(batch, tail)
            if lines:
                self._write(lines, start)
                self._tail = tail
        if lines:
            self._make_durable(start, tail.end)

    def _compose(self, batch: list[_Ticket], tail: _Tail) -> tuple[list[bytes], _Tail]:
        lines: list[bytes] = []
        seq, last, size = tail.seq, tail.last, 0
        for ticket in batch:
            ticket.outcomes = []
            for compose in ticket.composes:
                try:
                    payloads = compose(last)
                except Exception as error:  # noqa: BLE001 - belongs to this caller alone
                    ticket.outcomes.append(error)
                    continue
                first = seq + 1
                for payload in payloads:
                    seq += 1
                    line = b'{"seq":%d%s%s' % (seq, b"," if len(payload) > 2 else b"", payload[1:])
                    last = LogLine(seq, line)
                    lines.append(line)
                    size += len(line) + 1
                ticket.outcomes.append(range(first, seq + 1))
        return lines, _Tail(tail.end + size, seq, last)

    def _write(self, lines: list[bytes], start: int) -> None:
        lines.append(b"")
        data = b"\n".join(lines)
        try:
            self._write_pieces(data)
        except BaseException as error:
            self._take_back(start)
            if isinstance(error, OSError):
                raise StorageError.of("append to", self.path, error) from error
            raise

    def _write_pieces(self, data: bytes) -> None:
        if len(data) <= log_lines.UNFLUSHED_LIMIT // 2:
            write_all(self._fd, data)
            return
        # What is not flushed stays close to the end, where the next writer looks for what a crash left.
        for start in range(0, len(data), log_lines.UNFLUSHED_LIMIT // 2):
            write_all(self._fd, data[start : start + log_lines.UNFLUSHED_LIMIT // 2])
            if self._flush:
                os.fdatasync(self._fd)

    def _take_back(self, start: int) -> None:
        """Cut off what was written behind `start`. Requires: the lock is held and nobody wrote behind it."""
        self._tail = None
        try:
            os.ftruncate(self._fd, start)
        except OSError:
            self._must_rewrite = True

    def _make_durable(self, start: int, end: int) -> None:
        if not self._flush:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed_flush(start, end, error) from error
        if not self._name_lasts:
            self._make_name_last()

    def _make_name_last(self) -> None:
        # Also for a log that was there: its maker may have died before it flushed the directory.
        try:
            self._tree.sync(self._tree.make(self.ref.category))
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of", self.path, error) from error
        self._name_lasts = True

    def _failed_flush(self, start: int, end: int, error: OSError) -> StorageError:
        self._must_rewrite = True
        with contextlib.suppress(OSError, StorageError), self._flocked():
            if os.lseek(self._fd, 0, os.SEEK_END) == end:
                self._take_back(start)
                self._must_rewrite = True
                return StorageError.of("flush the append to", self.path, error)
        return OutcomeUnknownError.of("flush the append to", self.path, error)

    # -- the lock, and the file behind it

    @contextlib.contextmanager
    def _locked(self, owner: Ref | None) -> Iterator[None]:
        """Hold the lock of the log file, made if need be, while its owner exists."""
        if self._claimed:
            self._require(owner)
            yield
            return
        self._lock(owner)
        try:
            self._require(owner)
            yield
        finally:
            self._unlock()

    def _require(self, owner: Ref | None) -> None:
        if owner is not None:
            self._gate.require(owner)

    def _lock(self, owner: Ref | None) -> None:
        while True:
            if self._fd < 0:
                self._open(owner)
            if not flock_within(self._fd, self._options.lock_timeout):
                self._fd = -1
                raise LockTimeoutError(str(self.ref), self._options.lock_timeout)
            if leads_to(self.path, self._identity):
                return
            # Replaced by a trim, a checkout or an editor.
            self._close()

    def _unlock(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _flocked(self) -> Iterator[None]:
        if self._claimed:
            yield
            return
        if not flock_within(self._fd, self._options.lock_timeout):
            self._fd = -1
            raise LockTimeoutError(str(self.ref), self._options.lock_timeout)
        try:
            yield
        finally:
            self._unlock()

    def _open(self, owner: Ref | None) -> None:
        flags = os.O_RDWR | os.O_APPEND
        self._tail = None
        self._name_lasts = False
        if self._open_existing(flags):
            return
        self._staging.folder()
        with self._gate.hold(owner) if owner is not None else contextlib.nullcontext():
            directory = self._tree.make(self.ref.category)
            fd = open_regular(directory, _file_name(self.ref), flags | os.O_CREAT, self._options.file_mode)
        assert fd is not None
        self._adopt(fd)
        if self._options.file_mode != 0o600:
            os.fchmod(fd, self._options.file_mode)

    def _open_existing(self, flags: int) -> bool:
        directory = self._tree.find(self.ref.category)
        if directory is None:
            return False
        fd = open_regular(directory, _file_name(self.ref), flags)
        if fd is None:
            return False
        self._adopt(fd)
        return True

    def _adopt(self, fd: int) -> None:
        self._fd = fd
        self._identity = identity_of(fd)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def abandon(self) -> None:
        """Close the descriptor without unlocking: it is shared with the parent of this forked process."""
        with contextlib.suppress(OSError):
            self._close()

    # -- the end of the file

    def _ready_tail(self) -> _Tail:
        """The end of the file, fit for an append. Requires: the lock is held."""
        if self._must_rewrite:
            self._rewrite(0)
        end = os.lseek(self._fd, 0, os.SEEK_END)
        if self._tail is None or self._tail.end != end:
            self._tail = self._mend(end)
        return self._tail

    def _mend(self, end: int) -> _Tail:
        known = self._tail.end if self._tail is not None and self._tail.end < end else 0
        sound = log_lines.sound_end(self._fd, end, known)
        sound = self._end_whole(sound)
        if sound < os.lseek(self._fd, 0, os.SEEK_END):
            self._cut(sound)
        return self._find_last(os.lseek(self._fd, 0, os.SEEK_END))

    def _end_whole(self, end: int) -> int:
        """Where the last whole line ends; gives a last entry that lacks only its newline, as editors leave it, one."""
        if end == 0 or os.pread(self._fd, 1, end - 1) == b"\n":
            return end
        offset, parsed = next(log_lines.backwards(self._fd, end), (0, None))
        if isinstance(parsed, LogLine) and end == os.lseek(self._fd, 0, os.SEEK_END):
            write_all(self._fd, b"\n")
            return end + 1
        return offset

    def _cut(self, end: int) -> None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        dropped = os.pread(self._fd, min(200, size - end), end)
        _logger.warning(
            "%s: removed %d bytes at its end that are no entry (a crash during an append leaves such): %r",
            self.path, size - end, dropped,
        )  # fmt: skip
        os.ftruncate(self._fd, end)

    def _find_last(self, end: int) -> _Tail:
        window = os.pread(self._fd, min(end, 16 * 1024), max(0, end - 16 * 1024))
        # Not the last line's alone: hands and merges may have put lower seqs behind higher ones.
        highest = max((int(seq) for seq in _SEQS.findall(window)), default=0)
        for _, parsed in log_lines.backwards(self._fd, end):
            if isinstance(parsed, LogLine):
                last = None if isinstance(parsed, log_lines.Marker) else parsed
                return _Tail(end, max(parsed.seq, highest), last)
        return _Tail(end, highest, None)

    # -- replacing the file

    def trim(self, before: int, owner: Ref | None) -> int:
        """Remove the entries with a seq lower than `before`, and the space they take."""
        with self._leader, self._locked(owner):
            tail = self._ready_tail()
            if tail.last is None:
                return 0
            start, removed = self._count_before(before, tail.end)
            if removed == 0:
                return 0
            self._rewrite(start)
            return removed

    def _count_before(self, before: int, end: int) -> tuple[int, int]:
        start, removed = 0, 0
        for behind, parsed in log_lines.forwards(self._fd, 0, end):
            if isinstance(parsed, LogLine):
                if parsed.seq >= before:
                    break
                removed += not isinstance(parsed, log_lines.Marker)
                start = behind
        return start, removed

    def _rewrite(self, start: int) -> None:
        """Put a fresh file with the bytes from `start` in the place of this one. Requires: the lock is held."""
        end = os.lseek(self._fd, 0, os.SEEK_END)
        seq = self._tail.seq if self._tail is not None else 0
        marker = b'{"seq":%d,%s}\n' % (seq, TRIM_MARKER) if start >= end and seq else b""
        directory = self._tree.make(self.ref.category)
        with self._staging.create(marker, like=os.fstat(self._fd)) as staged:
            try:
                self._copy(start, end, staged.fd)
                if self._flush:
                    os.fsync(staged.fd)
                # Locked before it has its name: else somebody could append to it before we are done.
                fcntl.flock(staged.fd, fcntl.LOCK_EX)
                staged.move(directory, _file_name(self.ref))
            except OSError as error:
                raise StorageError.of("rewrite", self.path, error) from error
            self._close()
            self._adopt(staged.detach())
        fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_APPEND)
        self._tail = None
        self._must_rewrite = False
        self._make_name_last()

    def _copy(self, start: int, end: int, target: int) -> None:
        for position in range(start, end, _COPY):
            write_all(target, os.pread(self._fd, min(_COPY, end - position), position))

    # -- claims

    @contextlib.contextmanager
    def claim(self, owner: Ref | None) -> Iterator[None]:
        """Hold the lock for the length of a block; this object may append meanwhile, nobody else."""
        with self._leader:
            self._lock(owner)
            try:
                self._require(owner)
            except BaseException:
                self._unlock()
                raise
            self._claimed = True
        try:
            yield
        finally:
            with self._leader:
                self._claimed = False
                self._unlock()


def _file_name(ref: Ref) -> str:
    return ref.name + ref.suffix


def read_lines(fd: int, end: int, after: int) -> Iterator[LogLine | BadLine]:
    """The entries with a seq greater than `after` before byte `end`. Without `after`, lines are numbered."""
    start = log_lines.seek(fd, end, after)
    for _, parsed in log_lines.forwards(fd, start, end, line=None if start else 0):
        if isinstance(parsed, BadLine) or (parsed.seq > after and not isinstance(parsed, log_lines.Marker)):
            yield parsed
