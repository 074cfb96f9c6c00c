"""Log files: durable appends that share their flushes, trims, and claims.

An append locks the log file itself (flock), so that no other process writes between finding the next seq and writing
it; the flush comes after the unlock. Inside the process one thread leads: it writes what all waiting threads want to
append with one write and one flush, and everybody is told the outcome.

Invariants:
1. An acknowledged entry was flushed, and so was the log's name in its directory.
2. What a crash left behind the last entry is cut off before the next append; what is cut is reported.
3. A flush that failed is never repeated on the same file: see `log_writing`.
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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, NamedTuple

from fsstate.backends.base import Appended, Compose, Ref
from fsstate.backends.files import log_lines
from fsstate.backends.files.carrying import copy_beginning
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.log_access import Gatekeeper, LogAccess, LogHandle
from fsstate.backends.files.log_ends import (
    Tail,
    find_tail,
    first_line,
    going_on_after,
    split_at,
    state_behind,
    trim_marker,
    written_at,
)
from fsstate.backends.files.log_following import LogFollower, is_where_it_was
from fsstate.backends.files.log_writing import LogWriter
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tickets import Ticket, compose_all
from fsstate.backends.files.tree import Tree, read_at, refusals
from fsstate.errors import AlreadyExistsError, FsStateError, NotFoundError, OutcomeUnknownError, StorageError
from fsstate.options import StoreOptions

__all__ = ["LogFile"]

_logger: Final = logging.getLogger("fsstate")
# A log may be edited at any time; more often than this, something else is wrong.
_TRIES: Final = 100


class _Written(NamedTuple):
    """What was written to a file, between two ends of it. Not flushed."""

    file: LogHandle
    before: Tail
    tail: Tail
    data: bytes


class LogFile:
    """One log, as this process writes it. Safe to share between threads; must not be used in a forked child."""

    def __init__(self, ref: Ref, tree: Tree, staging: Staging, options: StoreOptions, gate: Gatekeeper) -> None:
        self.ref = ref
        self.path = tree.path(str(ref))
        self._tree = tree
        self._waiting: deque[Ticket] = deque()
        self._access = LogAccess(ref, tree, staging, options, gate)
        self._memory = self._access.memory
        self._writer = LogWriter(self._access, tree, staging, options)
        self._follower = LogFollower(self._writer, self._memory)

    # -- appending

    def append(self, composes: Sequence[Compose], owner: Ref | None) -> list[Appended]:
        """Append what each says, durably, together with what other threads append at this moment."""
        ticket = Ticket(composes, owner)
        self._waiting.append(ticket)
        with self._access.alone:
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
            if self._memory.untold:
                # It may stand in the copy of whoever edits the log.
                raise OutcomeUnknownError("append again, after an edit, to", self.path, errno.ESTALE) from error
            raise
        finally:
            self._memory.untold = b""

    def _append_once(self, batch: list[Ticket], owner: Ref | None) -> bool:
        """Append, and say whether it still stood there once it was flushed. What did not is left to the next time."""
        written = self._access.locked(owner, partial(self._write, batch))
        if written is None:
            return False
        file, before, tail, data = written
        if not data:
            self._writer.make_seen_last(file, before)
            return True
        self._writer.make_durable(file, before.end, tail)
        self._memory.highest = tail.seq
        if not is_where_it_was(file, tail, data):
            self._memory.untold = data
            return False
        self._memory.recent.add(data, before.end, written_at(file, tail))
        return True

    def _write(self, batch: list[Ticket], file: LogHandle) -> _Written | None:
        """Write what everybody wants to append; None when somebody edited the log at that moment."""
        memory = self._memory
        file, before = self._follower.ready(file)
        lines, tail = compose_all(self._unsettled(batch) if memory.untold else batch, before)
        if tail.seq > log_lines.LARGEST_SEQ:
            raise StorageError("number another entry of", self.path, errno.EOVERFLOW)
        data = b"\n".join((*lines, b""))
        if not lines:
            return _Written(file, before, before, data)
        self._writer.write(file, data, before.end)
        tail.state = state_behind(file, tail.end)
        file.tail = tail
        if len(tail.state) == 1 and not is_where_it_was(file, tail, data):
            memory.untold, memory.highest, file.tail = data, tail.seq, None
            # Before anybody appends behind it: it is numbered for another end of the log.
            self._follower.ready(file)
            return None
        return _Written(file, before, tail, data)

    def _unsettled(self, batch: list[Ticket]) -> list[Ticket]:
        """The tickets that are still to be composed: the editor's copy may hold what was written the last time."""
        memory = self._memory
        standing, memory.standing, memory.untold = memory.standing, {}, b""
        return [ticket for ticket in batch if not standing or not ticket.settle(standing, self.path)]

    # -- the end of this object's life

    def settle(self) -> None:
        """Put back what editors took along. Does nothing while another thread uses this."""
        try:
            if self._memory.recent or self._memory.lost:
                self._access.if_idle(self._look_again)
        except (FsStateError, OSError) as error:
            _logger.warning("%s: could not see whether an edit lost entries of it: %s", self.path, str(error))

    def _look_again(self) -> None:
        if self._follower.must_look(self._access.file):
            self._access.locked_if_there(None, lambda file: file and self._follower.ready(file))

    def forget(self) -> None:
        """Know nothing of the log any more: it was removed on purpose. Does nothing while another thread uses this."""
        self._access.if_idle(self._forget)

    def _forget(self) -> None:
        self._memory.forget()
        self._access.close()

    # -- replacing the file

    def trim(self, before: int, owner: Ref | None, to: Ref | None, confirm: Callable[[], bool] | None) -> int:
        """Remove the entries with a seq lower than `before`, and the space they take; with `to`, keep them there."""

        def confirmed(file: LogHandle | None) -> int:
            is_wanted = file is not None and (confirm is None or confirm())
            return self._trim(file, before, to) if file is not None and is_wanted else 0

        with self._access.alone, refusals("change", self.path):
            return self._access.locked_if_there(owner, confirmed)

    def _trim(self, file: LogHandle, before: int, to: Ref | None) -> int:
        file, tail = self._follower.ready(file)
        start, removed, rest = split_at(file, before, tail.end)
        if removed:
            if to is not None:
                self._keep_apart(file, start, to)
            self._rewrite(file, start, b"" if rest else trim_marker(tail.seq))
        else:
            # Who trimmed it so far may have been killed before that would last.
            self._writer.make_seen_last(file, tail)
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
        with contextlib.closing(kept), self._access.alone, refusals("restore", self.path):
            self._access.locked(owner, partial(self._put_in_front, kept))
            os.unlink(_file_name(source), dir_fd=old.fd)
            self._tree.sync(old)

    def _put_in_front(self, kept: Lockable, file: LogHandle) -> None:
        file, tail = self._follower.ready(file)
        end = os.fstat(kept.fd).st_size
        behind, first = first_line(file, tail.end)
        last = find_tail(kept, end, None).seq
        if first is None or first.seq > last:
            self._rewrite(file, 0, front=(kept, end))
        elif isinstance(first, log_lines.Marker) and first.seq == last:
            # It stood for the very entries that come back.
            self._rewrite(file, behind, front=(kept, end))
        elif first_line(kept, end)[1] != first:
            message = f"{self.path} begins with entry {first.seq}: those up to {last} do not belong in front of it"
            raise AlreadyExistsError(self.path, f"{message}; restore what was trimmed last first")
        else:
            # They never went: who trimmed it was killed before.
            self._writer.make_seen_last(file, tail)

    def replace(self, change: Callable[[bytes], bytes], owner: Ref | None) -> None:
        """Put what `change` makes of the log's bytes in their place, durably. No seq is given out a second time."""
        with self._access.alone, refusals("replace", self.path):
            self._access.locked(owner, partial(self._replace_content, change))

    def _replace_content(self, change: Callable[[bytes], bytes], file: LogHandle) -> None:
        file, tail = self._follower.ready(file)
        before = read_at(file.fd, tail.end, 0)
        data = going_on_after(change(before), tail.seq)
        if data == before:
            self._writer.make_seen_last(file, tail)
        else:
            self._rewrite(file, tail.end, data)

    def _rewrite(
        self, file: LogHandle, start: int, head: bytes = b"", front: tuple[Lockable, int] | None = None
    ) -> None:
        """Write the file anew, and look no longer for what stood where we wrote it."""
        self._writer.rewrite(file, start, head, front)
        self._memory.recent.clear()

    def delete(self) -> bool:
        """Delete the log. Returns whether it existed."""
        with self._access.alone, refusals("change", self.path):
            return self._access.locked_if_there(None, self._delete)

    def _delete(self, file: LogHandle | None) -> bool:
        if file is not None:
            directory = self._tree.make(self.ref.category)
            os.unlink(self._access.name, dir_fd=directory.fd)
        # Also when it was gone: who deleted it may have been killed before that would last.
        self._writer.make_name_last()
        self._forget()
        return file is not None

    def claim(self, owner: Ref | None) -> AbstractContextManager[None]:
        """Hold the lock for the length of a block; this object may append meanwhile, nobody else."""
        return self._access.claimed(owner, at_end=self.settle)


def _file_name(ref: Ref) -> str:
    return ref.name + ref.suffix
