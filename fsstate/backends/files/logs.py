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
5. People edit logs without a lock. Nobody is told of an entry before it was seen, once flushed, where its path leads;
   else it is composed anew for what stands there now. What an editor took along after that is appended again at the
   next append, or when this object is done with: see `edited_logs`.
6. No seq that was given out here is given out again, as long as there is a log.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from fsstate.backends.base import Appended, Compose, LogLine, Ref
from fsstate.backends.files import log_lines
from fsstate.backends.files.carrying import copy_beginning
from fsstate.backends.files.edited_logs import Edit, Recent, edited_at, entries_of, find, look_at, numbered, remains_of
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.log_ends import (
    Tail,
    await_quiet,
    content,
    cut_at,
    ends_with,
    find_tail,
    first_line,
    going_on_after,
    split_at,
    state_of,
    take_off,
    trim_marker,
    written_at,
)
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tickets import Ticket, compose_all
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

__all__ = ["Gatekeeper", "LogFile"]

_logger: Final = logging.getLogger("fsstate")
_MOST_DEBRIS: Final = 1024 * 1024
_QUARANTINE: Final = ".fsstate/quarantine"
# Written between two flushes at most: what is not flushed stays where the next writer looks for what a crash left.
_PIECE: Final = log_lines.UNFLUSHED_LIMIT // 2
# A log may be replaced or removed at any time; more often than this, something else is wrong.
_TRIES: Final = 100
_FEW: Final = 10
# In seconds: so long who removes a log may take to make it anew, and so often we look.
_GAP: Final = 0.05
_MOMENT: Final = 0.002
# The same, of who appends without the lock, as other programs may.
_GROWTH: Final = 0.01


class Gatekeeper(Protocol):
    """Knows whether the document that owns a log exists, and keeps it from being deleted."""

    def require(self, owner: Ref) -> None:
        """Raise NotFoundError when the owner does not exist."""
        ...

    def hold(self, owner: Ref) -> AbstractContextManager[None]:
        """The same, and keep it in existence until the block ends."""
        ...


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
        self._waiting: deque[Ticket] = deque()
        self._leader = threading.Lock()
        self._claiming = threading.Lock()
        self._claimed = False
        # The file whose lock a claim holds.
        self._held: Lockable | None = None
        self._file: Lockable | None = None
        self._tail: Tail | None = None
        self._name_lasts = False
        # The state up to which this object has flushed the file.
        self._flushed: tuple[int, ...] = ()
        self._must_rewrite = False
        # What editors may not have seen, and the file that they replaced.
        self._recent = Recent()
        self._replaced: Lockable | None = None
        # Flushed, but not where it should be when we looked again; nobody was told.
        self._untold = b""
        self._standing: dict[int, int] = {}
        # What is to be put back; kept while that fails.
        self._lost: list[LogLine] = []
        # The highest seq that was given out here: the log may have lost it.
        self._highest = 0

    # -- appending

    def append(self, composes: Sequence[Compose], owner: Ref | None) -> list[Appended]:
        """Append what each says, durably, together with what other threads append at this moment."""
        ticket = Ticket(composes, owner)
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

    def _commit(self, batch: list[Ticket], owner: Ref | None) -> None:
        try:
            for _ in range(_TRIES):
                if self._append_once(batch, owner):
                    return
            raise StorageError("append to (it is edited each time)", self.path, errno.ESTALE)
        except NotFoundError:
            raise
        except (FsStateError, OSError) as error:
            if self._untold:
                # It may stand in the copy of whoever edits the log.
                raise OutcomeUnknownError("append again, after an edit, to", self.path, errno.ESTALE) from error
            raise
        finally:
            self._untold = b""

    def _append_once(self, batch: list[Ticket], owner: Ref | None) -> bool:
        """Append, and say whether it still stood there once it was flushed. What did not is left to the next time."""
        file = self._lock(owner)
        try:
            if owner is not None:
                self._gate.require(owner)
            before = self._ready_tail()
            # A file that needs mending may have been written anew.
            file = self._file or file
            lines, tail = compose_all(self._unsettled(batch) if self._untold else batch, before)
            if tail.seq > log_lines.LARGEST_SEQ:
                raise StorageError("number another entry of", self.path, errno.EOVERFLOW)
            data = b"\n".join((*lines, b""))
            if lines:
                self._write(file, data, before.end)
                tail.state = state_of(file, tail.end)
                self._tail = tail
                if len(tail.state) == 1 and not self._is_where_it_was(file, tail, data):
                    self._untold, self._highest, self._tail = data, tail.seq, None
                    # Before anybody appends behind it: it is numbered for another end of the log.
                    self._ready_tail()
                    return False
        finally:
            self._unlock()
        if not lines:
            self._make_seen_last(file, before)
            return True
        self._make_durable(file, before.end, tail)
        self._highest = tail.seq
        if not self._is_where_it_was(file, tail, data):
            self._untold = data
            return False
        self._recent.add(data, before.end, written_at(file, tail))
        return True

    def _unsettled(self, batch: list[Ticket]) -> list[Ticket]:
        """The tickets that are still to be composed: the editor's copy may hold what was written the last time."""
        standing, self._standing, self._untold = self._standing, {}, b""
        return [ticket for ticket in batch if not standing or not ticket.settle(standing, self.path)]

    def _is_where_it_was(self, file: Lockable, tail: Tail, data: bytes) -> bool:
        """Whether the path still leads to the file, and nobody wrote over what we wrote."""
        try:
            status = os.fstat(file.fd)
            # Who renames or removes a file, or puts another in its place, changes its ctime, too.
            if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == tail.state and status.st_nlink:
                return True
            return file.is_current() and os.pread(file.fd, len(data), tail.end - len(data)) == data
        except OSError:
            # It was written and flushed. Nothing says that it is not there.
            return True

    def _write(self, file: Lockable, data: bytes, start: int) -> None:
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

    def _make_seen_last(self, file: Lockable, tail: Tail) -> None:
        """Make last what others may have left unflushed. Does nothing where all was flushed here."""
        if tail.state != self._flushed or not self._name_lasts:
            self._make_durable(file, tail.end, tail)

    def _make_durable(self, file: Lockable, start: int, tail: Tail) -> None:
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
            was_there = self._file is not None or self._replaced is not None
            locked = self._lock_existing()
            if locked is not None:
                return locked
            if not was_there or not self._comes_back(owner):
                self._forget()
                self._create(owner)
        raise StorageError("append to (it vanishes each time)", self.path, errno.ESTALE)

    def _comes_back(self, owner: Ref | None) -> bool:
        """Wait a moment for whoever removes the log in order to make it anew, as git and vim do.

        Git gives up what it does when it finds a file that we made meanwhile.
        """
        if owner is not None:
            self._gate.require(owner)
        deadline = time.monotonic() + _GAP
        while time.monotonic() < deadline:
            time.sleep(_MOMENT)
            if os.path.lexists(self.path):
                return True
        return False

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
            self._set_aside(file)
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

    def _set_aside(self, file: Lockable) -> None:
        """Keep a file that was replaced, as long as it may hold what the new one lacks."""
        if self._replaced is None and (self._recent or self._untold):
            file.unlock()
            self._file, self._replaced = None, file
        self._close()

    def forget(self) -> None:
        """Know nothing of the log any more: it was removed on purpose. Does nothing while another uses it."""
        if self._leader.acquire(blocking=False):
            try:
                self._forget()
                self._close()
            finally:
                self._leader.release()

    def _forget(self) -> None:
        """Begin anew: there is no log any more."""
        self._recent.clear()
        self._lost = []
        self._replaced, self._highest = None, 0

    def _close(self) -> None:
        file, self._file = self._file, None
        self._tail = None
        self._name_lasts, self._flushed = False, ()
        if file is not None:
            file.close()

    # -- the end of the file

    def _ready_tail(self) -> Tail:
        """The end of the file, fit for an append. Requires: the lock is held."""
        if self._must_rewrite:
            self._rewrite(0)
        file = self._file
        assert file is not None
        if self._tail is None or self._tail.state != state_of(file):
            self._tail = self._followed(file)
            self._tail.seq = max(self._tail.seq, self._highest)
        return self._tail

    def _followed(self, file: Lockable) -> Tail:
        """The end of a file that has changed, with everything in it that belongs there."""
        for _ in range(_FEW):
            if self._is_edited(file):
                # Nothing of what was known of it holds.
                self._tail = None
                self._take_note(self._settled_edit(file))
            seen = self._seen(file)
            tail = None if seen is None else self._put_back(file, seen)
            if tail is not None:
                return tail
            self._tail = None
        raise StorageError("append to (somebody writes to it all the time)", self.path, errno.EBUSY)

    def _seen(self, file: Lockable) -> Tail | None:
        """The end of the file as it is at one moment; None when somebody writes to it at this one.

        Who takes half of an edit for the log gives out seqs again, and forgets what it is to put back.
        """
        end = self._mend(file)
        state = state_of(file, end)
        tail = find_tail(file, end, self._tail)
        glance = self._recent.glance(file.fd, end)
        if not self._recent.stands(file.fd) or state_of(file) != state:
            self._await_writer(file, end)
            return None
        self._recent.follow(glance)
        tail.state = state
        return tail

    def _await_writer(self, file: Lockable, end: int) -> None:
        """Wait for who writes to a file that ended there; not for long where lines are added only."""
        if os.fstat(file.fd).st_size > end and self._recent.stands(file.fd):
            time.sleep(_GROWTH)
        else:
            await_quiet(file, self._recent.end)

    def _is_edited(self, file: Lockable) -> bool:
        """Whether anybody but fsstate may have changed the log since we appended to it.

        Others' appends leave ours where they are.
        """
        return self._replaced is not None or self._untold != b"" or not self._recent.stands(file.fd)

    def _settled_edit(self, file: Lockable) -> Edit:
        """What came of the edit of a log, once nobody goes on with it. Takes off what we wrote behind it untold."""
        old = None if self._replaced is None else self._replaced.fd
        data, untold = self._untold, entries_of(self._untold)
        edited = edited_at(self._recent, file.fd, is_new=old is not None)
        for _ in range(_FEW):
            # Others' trims leave the last entry in the log, as a rule, and are done when they can be seen.
            if self._untold or not self._recent.is_in(file.fd, os.fstat(file.fd).st_size):
                # Git and vim make the file first, and fill it then.
                await_quiet(file, self._recent.end if old is None else 1, data)
            state = state_of(file)
            end = state[0]
            # What it lacks of what we wrote earlier belongs before that.
            if old is None and ends_with(file, end, data):
                end -= len(data)
            edit = look_at(self._recent, file.fd, end, old=old, edited=edited, untold=untold)
            if state_of(file) == state:
                if end < state[0]:
                    os.ftruncate(file.fd, end)
                return edit
        raise StorageError("append to (somebody writes to it all the time)", self.path, errno.EBUSY)

    def _take_note(self, edit: Edit) -> None:
        replaced, self._replaced = self._replaced, None
        if replaced is not None:
            replaced.close()
        self._recent = edit.recent
        self._lost += edit.lost
        self._standing = edit.standing

    def _put_back(self, file: Lockable, tail: Tail) -> Tail | None:
        """Append again what was appended here and an editor did not see. Returns the new end; what it says lasts.

        None when the log is to be looked at anew: somebody edited it meanwhile, again, or something was cut off.
        """
        if rest := remains_of([*self._lost, *entries_of(self._untold)], file.fd, tail.end):
            # The editor wrote over the beginning of it, and ended before its end did.
            cut_at(file, tail.end - rest, tail.state)
            return None
        if self._lost:
            return self._append_lost(file, tail)
        if self._standing:
            # An editor need not have flushed what our callers are about to be told of.
            self._make_durable(file, tail.end, tail)
        return tail

    def _append_lost(self, file: Lockable, before: Tail) -> Tail | None:
        # Should this have been half done before.
        there = find(file.fd, before.end, self._lost)
        self._lost = [line for line in self._lost if line.seq not in there]
        if not self._lost:
            return before
        lines: list[LogLine] = []
        last = before.seq
        for line in self._lost:
            last = line.seq if line.seq > last else max(last, self._highest) + 1
            lines.append(LogLine(last, numbered(line, last)))
        data = b"".join(line.data + b"\n" for line in lines)
        self._write(file, data, before.end)
        tail = Tail(before.end + len(data), last, lines[-1])
        tail.state = state_of(file, tail.end)
        self._make_durable(file, before.end, tail)
        if not self._is_where_it_was(file, tail, data):
            # Numbered for another end of the log.
            take_off(file, data, before.end)
            return None
        self._recent.add(data, before.end, written_at(file, tail))
        self._lost, self._highest = [], max(self._highest, last)
        _logger.warning(
            "%s: put back %d entries at its end, as %s: whoever edited it had read it before they were appended",
            self.path, len(lines), ", ".join(str(line.seq) for line in lines[:20]),
        )  # fmt: skip
        return tail

    def settle(self) -> None:
        """Put back what editors took along, at the end of this object's life. Does nothing while another uses it."""
        if not (self._recent or self._lost) or not self._leader.acquire(blocking=False):
            return
        try:
            if self._must_look() and self._lock_existing() is not None:
                try:
                    self._ready_tail()
                finally:
                    self._unlock()
        except (FsStateError, OSError) as error:
            _logger.warning("%s: could not see whether an edit lost entries of it: %s", self.path, str(error))
        finally:
            self._leader.release()

    def _must_look(self) -> bool:
        """Whether what was appended here may be gone. Takes no lock: somebody else may hold it for long."""
        file = self._file
        return bool(self._lost) or file is None or not (file.is_current() and self._recent.stands(file.fd))

    def _mend(self, file: Lockable) -> int:
        """Cut off what a crash left at the end, and give a last line its newline. Returns the end.

        The file is longer than that if somebody writes to it meanwhile.
        """
        sound, state = self._sound_end(file)
        if sound < state[0]:
            # Unless it is what an editor is about to go on with.
            await_quiet(file)
            sound, state = self._sound_end(file)
        if sound < state[0]:
            self._cut(file, sound, state)
            state = state_of(file, sound)
        if sound and not ends_with(file, sound, b"\n") and state_of(file) == state:
            write_all(file.fd, b"\n")
            sound += 1
        return sound

    def _sound_end(self, file: Lockable) -> tuple[int, tuple[int, ...]]:
        """Where the sound part of the file ends, and the state in which that was so."""
        state = state_of(file)
        known = self._tail.end if self._tail is not None and self._tail.end < state[0] else 0
        return log_lines.sound_end(file.fd, state[0], known), state

    def _cut(self, file: Lockable, sound: int, state: tuple[int, ...]) -> None:
        end = state[0]
        debris = os.pread(file.fd, min(_MOST_DEBRIS, end - sound), sound)
        if b"\n" in debris.strip(b"\0"):
            # Whole lines behind zeros: no crash leaves acknowledged ones there, but a failing disk might.
            folder = self._tree.make(_QUARANTINE)
            with self._staging.create(debris) as staged:
                staged.move(folder, f"{_file_name(self.ref)}.{os.urandom(4).hex()}")
            _logger.warning("%s: its end has whole lines that are damaged; it is kept in %s", self.path, folder.path)
        if not cut_at(file, sound, state):
            return
        _logger.warning(
            "%s: removed %d bytes at its end that are no entry (a crash during an append leaves such): %r",
            self.path, end - sound, debris[:200],
        )  # fmt: skip
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
            start, removed, rest = split_at(file, before, tail.end)
            if removed:
                if to is not None:
                    self._keep_apart(file, start, to)
                self._rewrite(start, b"" if rest else trim_marker(tail.seq))
                self._recent.clear()
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
        behind, first = first_line(file, tail.end)
        last = find_tail(kept, end, None).seq
        if first is None or first.seq > last:
            self._rewrite(0, front=(kept, end))
            self._recent.clear()
        elif isinstance(first, log_lines.Marker) and first.seq == last:
            # It stood for the very entries that come back.
            self._rewrite(behind, front=(kept, end))
            self._recent.clear()
        elif first_line(kept, end)[1] != first:
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
        before = content(file, tail.end)
        data = going_on_after(change(before), tail.seq)
        if data == before:
            self._make_seen_last(file, tail)
        else:
            self._rewrite(tail.end, data)
            self._recent.clear()

    def delete(self) -> bool:
        """Delete the log. Returns whether it existed."""
        with self._locked(None) as exists:
            if exists:
                directory = self._tree.make(self.ref.category)
                os.unlink(_file_name(self.ref), dir_fd=directory.fd)
            # Also when it was gone: who deleted it may have been killed before that would last.
            self._make_name_last()
            self._forget()
            self._close()
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
                self.settle()
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
