"""Log files: durable appends that share their flushes, trims, and claims.

An append locks the log file itself (flock), so that no other process writes between finding the next seq and writing
it; the flush comes after the unlock. Inside the process one thread leads: it writes what all waiting threads want to
append with one write and one flush, and everybody is told the outcome.

Invariants:
1. An acknowledged entry was flushed, and so was the log's name in its directory.
2. What a crash left behind the last entry is cut off before the next append; what is cut is reported.
3. A flush that failed is never repeated on the same file: the entries are taken back, and the file is written anew
   before the next append (fsync(2) may report an error once and then forget it).
4. Who appends nothing because of what the log holds already is told so only once that lasts: another may have written
   it and been killed before it was flushed.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from fsstate.backends.base import TRIM_MARKER, Appended, Compose, LogLine, Ref
from fsstate.backends.files import log_lines
from fsstate.backends.files.carrying import copy_beginning
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, copy_bytes, flush_data, refusals, write_all
from fsstate.errors import (
    AlreadyExistsError,
    FsStateError,
    LockTimeoutError,
    NotFoundError,
    OutcomeUnknownError,
    StorageError,
)
from fsstate.options import StoreOptions

__all__ = ["Gatekeeper", "LogFile", "continued"]

_logger: Final = logging.getLogger("fsstate")
_MOST_DEBRIS: Final = 1024 * 1024
_QUARANTINE: Final = ".fsstate/quarantine"
# Written between two flushes at most: what is not flushed stays where the next writer looks for what a crash left.
_PIECE: Final = log_lines.UNFLUSHED_LIMIT // 2
# Looked through for the highest seq, since hands and merges may have put lower seqs behind higher ones.
_WINDOW: Final = 64 * 1024
# A log may be replaced or removed at any time; more often than this, something else is wrong.
_TRIES: Final = 100


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

    __slots__ = ("composes", "outcomes", "owner")

    def __init__(self, composes: Sequence[Compose], owner: Ref | None) -> None:
        self.composes = composes
        self.owner = owner
        self.outcomes: list[Appended] | None = None

    def fail(self, error: Exception) -> None:
        # A copy for each: they are raised in several threads, and each adds its own traceback.
        own = copy.copy(error) if isinstance(error, FsStateError) else error
        own.__cause__ = error.__cause__
        self.outcomes = [own] * len(self.composes)


class _Tail:
    """What is known about the end of an open log file: valid while the file's state is `state`."""

    __slots__ = ("end", "last", "seq", "state")

    def __init__(self, end: int, seq: int, last: LogLine | None, state: tuple[int, ...] = ()) -> None:
        self.end = end
        self.seq = seq
        self.last = last
        self.state = state


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
        self._claiming = threading.Lock()
        self._claimed = False
        # The file whose lock a claim holds.
        self._held: Lockable | None = None
        self._file: Lockable | None = None
        self._tail: _Tail | None = None
        self._name_lasts = False
        # The state up to which this object has flushed the file.
        self._flushed: tuple[int, ...] = ()
        self._must_rewrite = False

    # -- appending

    def append(self, composes: Sequence[Compose], owner: Ref | None) -> list[Appended]:
        """Append what each says, durably, together with what other threads append at this moment."""
        ticket = _Ticket(composes, owner)
        self._waiting.append(ticket)
        with self._leader:
            while ticket.outcomes is None:
                self._lead()
        return ticket.outcomes

    def _lead(self) -> None:
        owner, batch = self._waiting[0].owner, [self._waiting.popleft()]
        while self._waiting and self._waiting[0].owner == owner:
            batch.append(self._waiting.popleft())
        try:
            self._commit(batch, owner)
        except FsStateError as error:
            for ticket in batch:
                ticket.fail(error)
        except OSError as error:
            for ticket in batch:
                ticket.fail(StorageError.of("append to", self.path, error))
        except BaseException:
            for ticket in batch:
                ticket.fail(OutcomeUnknownError("finish an interrupted append to", self.path, errno.EINTR))
            raise

    def _commit(self, batch: list[_Ticket], owner: Ref | None) -> None:
        file = self._lock(owner)
        try:
            if owner is not None:
                self._gate.require(owner)
            before = self._ready_tail()
            # A file that needs mending may have been written anew.
            file = self._file or file
            lines, tail = _compose(batch, before)
            if tail.seq > log_lines.LARGEST_SEQ:
                raise StorageError("number another entry of", self.path, errno.EOVERFLOW)
            if lines:
                self._write(file, lines, before.end)
                tail.state = _state_of(file, tail.end)
                self._tail = tail
        finally:
            self._unlock()
        if lines:
            self._make_durable(file, before.end, tail)
        else:
            self._make_seen_last(file, before)

    def _write(self, file: Lockable, lines: list[bytes], start: int) -> None:
        data = b"\n".join((*lines, b""))
        try:
            for position in range(0, len(data), _PIECE):
                if position:
                    self._flush_data(file)
                write_all(file.fd, data[position : position + _PIECE] if len(data) > _PIECE else data)
        except BaseException as error:
            told = StorageError if self._take_back(file, start) else OutcomeUnknownError
            if isinstance(error, OSError):
                raise told.of("append to", self.path, error) from error
            raise

    def _flush_data(self, file: Lockable) -> None:
        try:
            if self._flush:
                flush_data(file.fd)
        except OSError:
            self._must_rewrite = True
            raise

    def _take_back(self, file: Lockable, start: int) -> bool:
        """Cut off what was written behind `start`, for good. Requires: the lock is held and nobody wrote behind it."""
        self._tail = None
        try:
            os.ftruncate(file.fd, start)
            # A power cut must not bring back what the caller was told is not there.
            self._flush_data(file)
        except OSError:
            self._must_rewrite = True
            return False
        return True

    def _make_seen_last(self, file: Lockable, tail: _Tail) -> None:
        """Make last what others may have left unflushed. Does nothing where all was flushed here."""
        if tail.state != self._flushed or not self._name_lasts:
            self._make_durable(file, tail.end, tail)

    def _make_durable(self, file: Lockable, start: int, tail: _Tail) -> None:
        if not self._flush:
            return
        try:
            flush_data(file.fd)
        except OSError as error:
            self._must_rewrite = True
            told = StorageError if self._take_back_flushed(file, start, tail.end) else OutcomeUnknownError
            raise told.of("flush the append to", self.path, error) from error
        self._flushed = tail.state
        if not self._name_lasts:
            self._make_name_last()

    def _take_back_flushed(self, file: Lockable, start: int, end: int) -> bool:
        try:
            if file is not self._held and not file.lock(self._options.lock_timeout):
                self._close()
                return False
            try:
                # Nobody may have copied it, or written behind it.
                unchanged = file.is_current() and os.fstat(file.fd).st_size == end
                return unchanged and self._take_back(file, start)
            finally:
                self._unlock()
        except OSError:
            self._close()
            return False

    def _make_name_last(self) -> None:
        # Also for a log that was there: its maker may have died before it flushed the directory.
        try:
            directory = self._tree.find(self.ref.category)
            if directory is not None:
                self._tree.sync(directory)
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of", self.path, error) from error
        self._name_lasts = True

    # -- the lock, and the file behind it

    @contextlib.contextmanager
    def _locked(self, owner: Ref | None) -> Generator[bool]:
        """Hold the lock of the log file, if there is one, while its owner exists. Says whether there is."""
        with self._leader, refusals("change", self.path):
            if self._lock_existing() is None:
                yield False
                return
            try:
                if owner is not None:
                    self._gate.require(owner)
                yield True
            finally:
                self._unlock()

    def _lock(self, owner: Ref | None) -> Lockable:
        for _ in range(_TRIES):
            locked = self._lock_existing()
            if locked is not None:
                return locked
            self._create(owner)
        raise StorageError("append to (it vanishes each time)", self.path, errno.ESTALE)

    def _lock_existing(self) -> Lockable | None:
        for _ in range(_TRIES):
            file = self._file or self._open()
            if file is None:
                return None
            if file is not self._held and not file.lock(self._options.lock_timeout):
                self._close()
                raise LockTimeoutError(str(self.ref), self._options.lock_timeout)
            if file.is_current():
                self._held = file if self._claimed else None
                return file
            # Replaced by a trim, a checkout or an editor.
            self._close()
        raise StorageError("lock (it is replaced each time)", self.path, errno.ESTALE)

    def _unlock(self) -> None:
        if self._file is not None and not self._claimed:
            with contextlib.suppress(OSError):
                self._file.unlock()

    def _open(self) -> Lockable | None:
        self._tail = None
        self._name_lasts = False
        directory = self._tree.find(self.ref.category)
        if directory is not None:
            self._file = Lockable.open_file(directory, _file_name(self.ref), os.O_RDWR | os.O_APPEND)
        return self._file

    def _create(self, owner: Ref | None) -> None:
        with refusals("make", self.path):
            # The first write to a store marks it.
            self._staging.folder()
            with self._gate.hold(owner) if owner is not None else contextlib.nullcontext():
                directory = self._tree.make(self.ref.category)
                flags, mode = os.O_RDWR | os.O_APPEND | os.O_CREAT, self._options.file_mode
                file = Lockable.open_file(directory, _file_name(self.ref), flags, mode)
                if file is not None and mode != 0o600:
                    # What open was given is cut by the umask; it leaves the usual mode alone.
                    os.fchmod(file.fd, mode)
        self._close()
        self._file = file

    def _close(self) -> None:
        file, self._file = self._file, None
        self._tail = None
        self._name_lasts, self._flushed = False, ()
        if file is not None:
            file.close()

    # -- the end of the file

    def _ready_tail(self) -> _Tail:
        """The end of the file, fit for an append. Requires: the lock is held."""
        if self._must_rewrite:
            self._rewrite(0)
        file = self._file
        assert file is not None
        state = _state_of(file)
        if self._tail is None or self._tail.state != state:
            end = self._mend(file, state[0])
            self._tail = _find_tail(file, end, self._tail)
            self._tail.state = _state_of(file, end)
        return self._tail

    def _mend(self, file: Lockable, end: int) -> int:
        """Cut off what a crash left at the end, and give a last line its newline. Returns the end."""
        known = self._tail.end if self._tail is not None and self._tail.end < end else 0
        sound = log_lines.sound_end(file.fd, end, known)
        if sound < end:
            self._cut(file, sound, end)
        if sound and os.pread(file.fd, 1, sound - 1) != b"\n":
            write_all(file.fd, b"\n")
            sound += 1
        return sound

    def _cut(self, file: Lockable, sound: int, end: int) -> None:
        debris = os.pread(file.fd, min(_MOST_DEBRIS, end - sound), sound)
        _logger.warning(
            "%s: removed %d bytes at its end that are no entry (a crash during an append leaves such): %r",
            self.path, end - sound, debris[:200],
        )  # fmt: skip
        if b"\n" in debris.strip(b"\0"):
            # Whole lines behind zeros: no crash leaves acknowledged ones there, but a failing disk might.
            folder = self._tree.make(_QUARANTINE)
            with self._staging.create(debris) as staged:
                staged.move(folder, f"{_file_name(self.ref)}.{os.urandom(4).hex()}")
            _logger.warning("%s: what was removed has whole lines; it is kept in %s", self.path, folder.path)
        os.ftruncate(file.fd, sound)
        # Else the next append may last without the cut: what is left of the debris then stands behind it, as a line.
        self._flush_data(file)

    # -- replacing the file

    def trim(self, before: int, owner: Ref | None, to: Ref | None, confirm: Callable[[], bool] | None) -> int:
        """Remove the entries with a seq lower than `before`, and the space they take; with `to`, keep them there."""
        with self._locked(owner) as exists:
            if not exists or (confirm is not None and not confirm()):
                return 0
            tail = self._ready_tail()
            # Only now: a file that needs mending was written anew.
            file = self._file
            assert file is not None
            start, removed, rest = _split_at(file, before, tail.end)
            if removed:
                if to is not None:
                    self._keep_apart(file, start, to)
                self._rewrite(start, b"" if rest else _marker(tail.seq))
            else:
                # Who trimmed it so far may have been killed before that would last.
                self._make_seen_last(file, tail)
            return removed

    def _keep_apart(self, file: Lockable, end: int, to: Ref) -> None:
        """Copy what stands before `end` to a log of its own. It lasts before anything is removed."""
        directory = self._tree.make(to.category)
        copy_beginning(self._tree, file.fd, end, directory, _file_name(to))
        self._tree.sync(directory)

    def prepend(self, source: Ref, owner: Ref | None) -> None:
        """Put what was kept apart in front of the entries, and take it away there."""
        old = self._tree.find(source.category)
        kept = None if old is None else Lockable.open_file(old, _file_name(source), os.O_RDWR)
        if old is None or kept is None:
            raise NotFoundError(self._tree.path(str(source)))
        with contextlib.closing(kept), self._leader, refusals("restore", self.path):
            self._lock(owner)
            try:
                if owner is not None:
                    self._gate.require(owner)
                self._put_in_front(kept)
            finally:
                self._unlock()
            os.unlink(_file_name(source), dir_fd=old.fd)
            self._tree.sync(old)

    def _put_in_front(self, kept: Lockable) -> None:
        tail = self._ready_tail()
        file = self._file
        assert file is not None
        end = os.fstat(kept.fd).st_size
        behind, first = _first_line(file, tail.end)
        last = _find_tail(kept, end, None).seq
        if first is None or first.seq > last:
            self._rewrite(0, front=(kept, end))
        elif isinstance(first, log_lines.Marker) and first.seq == last:
            # It stood for the very entries that come back.
            self._rewrite(behind, front=(kept, end))
        elif _first_line(kept, end)[1] != first:
            message = f"{self.path} begins with entry {first.seq}: those up to {last} do not belong in front of it"
            raise AlreadyExistsError(self.path, f"{message}; restore what was trimmed last first")
        else:
            # They never went: who trimmed it was killed before.
            self._make_seen_last(file, tail)

    def replace(self, change: Callable[[bytes], bytes], owner: Ref | None) -> None:
        """Put what `change` makes of the log's bytes in their place, durably. No seq is given out a second time."""
        with self._leader, refusals("replace", self.path):
            self._lock(owner)
            try:
                if owner is not None:
                    self._gate.require(owner)
                self._replace_content(change)
            finally:
                self._unlock()

    def _replace_content(self, change: Callable[[bytes], bytes]) -> None:
        tail = self._ready_tail()
        # Only now: a file that needs mending was written anew.
        file = self._file
        assert file is not None
        before = _content(file, tail.end)
        data = _going_on_after(change(before), tail.seq)
        if data == before:
            self._make_seen_last(file, tail)
        else:
            self._rewrite(tail.end, data)

    def delete(self) -> bool:
        """Delete the log. Returns whether it existed."""
        with self._locked(None) as exists:
            if exists:
                directory = self._tree.make(self.ref.category)
                os.unlink(_file_name(self.ref), dir_fd=directory.fd)
            # Also when it was gone: who deleted it may have been killed before that would last.
            self._make_name_last()
            return exists

    def _rewrite(self, start: int, head: bytes = b"", front: tuple[Lockable, int] | None = None) -> None:
        """Put a fresh file in the place of this one. Requires: the lock is held.

        It holds the bytes of `front` up to an offset, `head`, and this one's bytes from `start`.
        """
        old = self._file
        assert old is not None
        directory = self._tree.make(self.ref.category)
        with refusals("rewrite", self.path), self._staging.create(head, like=os.fstat(old.fd)) as staged:
            if front is not None:
                copy_bytes(front[0].fd, 0, staged.fd, front[1])
            copy_bytes(old.fd, start, staged.fd)
            if self._flush:
                flush_data(staged.fd)
            fresh = staged.open_lockable()
            # Locked before it has its name: else somebody could append to it before we are done.
            fresh.lock(0)
            staged.move(directory, _file_name(self.ref))
        fresh.path = self.path
        self._close()
        self._file = fresh
        self._held = fresh if self._claimed else None
        self._must_rewrite = False
        self._make_name_last()

    # -- claims

    @contextlib.contextmanager
    def claim(self, owner: Ref | None) -> Generator[None]:
        """Hold the lock for the length of a block; this object may append meanwhile, nobody else."""
        if not self._claiming.acquire(timeout=self._options.lock_timeout):
            raise LockTimeoutError(str(self.ref), self._options.lock_timeout, "it is being written to")
        try:
            self._begin_claim(owner)
            try:
                yield
            finally:
                with self._leader:
                    self._claimed, self._held = False, None
                    self._unlock()
        finally:
            self._claiming.release()

    def _begin_claim(self, owner: Ref | None) -> None:
        with self._leader, refusals("claim", self.path):
            locked = self._lock(owner)
            try:
                if owner is not None:
                    self._gate.require(owner)
                self._claimed, self._held = True, locked
            finally:
                self._unlock()


def _file_name(ref: Ref) -> str:
    return ref.name + ref.suffix


def _state_of(file: Lockable, end: int | None = None) -> tuple[int, ...]:
    """What changes when the file does. No state at all when it does not stop at `end`: others wrote behind it."""
    status = os.fstat(file.fd)
    if end is not None and status.st_size != end:
        return (-1,)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _compose(batch: list[_Ticket], tail: _Tail) -> tuple[list[bytes], _Tail]:
    """Ask everybody what to append. Returns the lines, and the tail that there will be behind them."""
    lines: list[bytes] = []
    seq, last, size = tail.seq, tail.last, 0
    for ticket in batch:
        outcomes: list[Appended] = []
        for compose in ticket.composes:
            try:
                payloads = compose(last)
            except Exception as error:  # noqa: BLE001 - belongs to this caller alone
                outcomes.append(error)
                continue
            first = seq + 1
            for payload in payloads:
                seq += 1
                line = b'{"seq":%d%s%s' % (seq, b"," if len(payload) > 2 else b"", payload[1:])
                last = LogLine(seq, line)
                lines.append(line)
                size += len(line) + 1
            outcomes.append(range(first, seq + 1))
        ticket.outcomes = outcomes
    return lines, _Tail(tail.end + size, seq, last)


def _find_tail(file: Lockable, end: int, known: _Tail | None) -> _Tail:
    """Look back from the end of a sound file, no further than to what is `known` already."""
    if known is not None and known.end >= end:
        known = None
    start = max(known.end if known else 0, end - _WINDOW)
    window = os.pread(file.fd, end - start, start)
    if start and known is None:
        # It begins in the middle of a line.
        window = window[window.find(b"\n") + 1 :]
    highest = max(known.seq if known else 0, log_lines.highest_seq(window))
    for _, parsed in log_lines.backwards(file.fd, end):
        if isinstance(parsed, LogLine):
            highest = max(parsed.seq, highest)
            if not isinstance(parsed, log_lines.Marker):
                return _Tail(end, highest, parsed)
    return _Tail(end, highest, None)


def _content(file: Lockable, end: int) -> bytes:
    pieces: list[bytes] = []
    position = 0
    while position < end and (piece := os.pread(file.fd, end - position, position)):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


def continued(data: bytes, earlier: bytes) -> bytes:
    """The bytes of a log that takes the place of an earlier one, and gives out none of its seqs again.

    Where those were higher, a marker stands at the end: no entry, but seqs go on behind it.
    """
    return _going_on_after(data, log_lines.highest_seq(earlier))


def _going_on_after(data: bytes, last: int) -> bytes:
    if log_lines.highest_seq(data) >= last:
        return data
    newline = b"" if data.endswith(b"\n") or not data else b"\n"
    return b"%s%s%s" % (data, newline, _marker(last))


def _marker(seq: int) -> bytes:
    return b'{"seq":%d,%s}\n' % (seq, TRIM_MARKER)


def _split_at(file: Lockable, before: int, end: int) -> tuple[int, int, bool]:
    """Where the entries from seq `before` on begin, how many stand before them, and whether there are any."""
    start, removed = 0, 0
    for behind, parsed in log_lines.forwards(file.fd, 0, end):
        if isinstance(parsed, LogLine):
            if parsed.seq >= before:
                return start, removed, True
            removed += not isinstance(parsed, log_lines.Marker)
            start = behind
    return start, removed, False


def _first_line(file: Lockable, end: int) -> tuple[int, LogLine | None]:
    """The first line that is an entry, or stands for some, and the offset behind it."""
    for behind, parsed in log_lines.forwards(file.fd, 0, end):
        if isinstance(parsed, LogLine):
            return behind, parsed
    return 0, None
