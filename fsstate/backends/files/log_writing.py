"""Bytes at the end of a log file: written, flushed, taken back, and the file written anew.

A flush that failed is never repeated on the same file: what was written is taken back, and the file is written anew
before the next append (fsync(2) may report an error once and then forget it).
"""

from __future__ import annotations

import logging
import os
from typing import Final

from fsstate.backends.files import log_lines
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.log_access import LogAccess, LogHandle
from fsstate.backends.files.log_ends import Tail, await_quiet, cut_at, ends_with, state_of
from fsstate.backends.files.staging import Staging
from fsstate.backends.files.tree import Tree, copy_bytes, flush_data, read_at, refusals, write_all
from fsstate.errors import OutcomeUnknownError, StorageError
from fsstate.options import StoreOptions

__all__ = ["LogWriter"]

_logger: Final = logging.getLogger("fsstate")
_MOST_DEBRIS: Final = 1024 * 1024
_QUARANTINE: Final = ".fsstate/quarantine"
# Written between two flushes at most: what is not flushed stays where the next writer looks for what a crash left.
_PIECE: Final = log_lines.UNFLUSHED_LIMIT // 2


class LogWriter:
    """Changes the file of one log. Requires: the thread has the access alone and, but for flushes, its lock."""

    def __init__(self, access: LogAccess, tree: Tree, staging: Staging, options: StoreOptions) -> None:
        self._access = access
        self.path = access.path
        self._tree = tree
        self._staging = staging
        self._flush = options.durability == "full"
        self._must_rewrite = False

    # -- the end

    def write(self, file: LogHandle, data: bytes, start: int) -> None:
        """Write at the end, which is at `start`; all of it or, as far as the disk lets us, nothing. Not flushed."""
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

    def make_durable(self, file: LogHandle, start: int, tail: Tail) -> None:
        """Flush what was written from `start` to the tail, and the log's name. Takes it back where that fails."""
        if not self._flush:
            return
        try:
            flush_data(file.fd)
        except OSError as error:
            self._must_rewrite = True
            told = StorageError if self._take_back_flushed(file, start, tail.end) else OutcomeUnknownError
            raise told.of("flush the append to", self.path, error) from error
        file.flushed = tail.state
        if not file.name_lasts:
            self.make_name_last()
            file.name_lasts = True

    def make_seen_last(self, file: LogHandle, tail: Tail) -> None:
        """Make last what others may have left unflushed. Does nothing where all was flushed here."""
        if tail.state != file.flushed or not file.name_lasts:
            self.make_durable(file, tail.end, tail)

    def make_name_last(self) -> None:
        """Flush the directory and those above it, also for a log that was there: its maker may have died before."""
        try:
            directory = self._tree.find(self._access.ref.category)
            if directory is not None and not directory.lasting:
                # Others made it, and may not have flushed it.
                directory = self._tree.make(self._access.ref.category)
            if directory is not None:
                self._tree.sync(directory)
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of", self.path, error) from error

    def _flush_data(self, file: LogHandle) -> None:
        try:
            if self._flush:
                flush_data(file.fd)
        except OSError:
            self._must_rewrite = True
            raise

    def _take_back(self, file: LogHandle, start: int) -> bool:
        """Cut off what was written behind `start`, for good. Requires: nobody wrote behind it."""
        file.tail = None
        try:
            os.ftruncate(file.fd, start)
            # A power cut must not bring back what the caller was told is not there.
            self._flush_data(file)
        except OSError:
            self._must_rewrite = True
            return False
        return True

    def _take_back_flushed(self, file: LogHandle, start: int, end: int) -> bool:
        try:
            if not self._access.lock_again(file):
                return False
            try:
                # Nobody may have copied it, or written behind it.
                unchanged = file.is_current() and os.fstat(file.fd).st_size == end
                return unchanged and self._take_back(file, start)
            finally:
                self._access.unlock()
        except OSError:
            self._access.close()
            return False

    # -- mending

    def mend(self, file: LogHandle) -> int:
        """Cut off what a crash left at the end, and give a last line its newline. Returns the end.

        The file is longer than that if somebody writes to it meanwhile.
        """
        sound, state = _sound_end(file)
        if sound < state[0]:
            # Unless it is what an editor is about to go on with.
            await_quiet(file)
            sound, state = _sound_end(file)
        if sound < state[0]:
            self._cut(file, sound, state)
            state = state_of(file, sound)
        if sound and not ends_with(file, sound, b"\n") and state_of(file) == state:
            write_all(file.fd, b"\n")
            sound += 1
        return sound

    def _cut(self, file: LogHandle, sound: int, state: tuple[int, ...]) -> None:
        end = state[0]
        debris = read_at(file.fd, min(_MOST_DEBRIS, end - sound), sound)
        if b"\n" in debris.strip(b"\0"):
            # Whole lines behind zeros: no crash leaves acknowledged ones there, but a failing disk might.
            folder = self._tree.make(_QUARANTINE)
            with self._staging.create(debris) as staged:
                staged.move(folder, f"{self._access.name}.{os.urandom(4).hex()}")
            _logger.warning("%s: its end has whole lines that are damaged; it is kept in %s", self.path, folder.path)
        if not cut_at(file, sound, state):
            return
        _logger.warning(
            "%s: removed %d bytes at its end that are no entry (a crash during an append leaves such): %r",
            self.path, end - sound, debris[:200],
        )  # fmt: skip
        # Else the next append may last without the cut: what is left of the debris then stands behind it, as a line.
        self._flush_data(file)

    # -- the file as a whole

    def rewritten(self, file: LogHandle) -> LogHandle:
        """The file to write to: a fresh one when a flush of this one failed."""
        return self.rewrite(file, 0) if self._must_rewrite else file

    def rewrite(
        self, old: LogHandle, start: int, head: bytes = b"", front: tuple[Lockable, int] | None = None
    ) -> LogHandle:
        """Put a fresh file in the place of the old one, durably. It is locked as the old one was.

        It holds the bytes of `front` up to an offset, `head`, and the old one's bytes from `start`.
        """
        directory = self._tree.make(self._access.ref.category)
        with refusals("rewrite", self.path), self._staging.create(head, like=os.fstat(old.fd)) as staged:
            if front is not None:
                copy_bytes(front[0].fd, 0, staged.fd, front[1])
            copy_bytes(old.fd, start, staged.fd)
            if self._flush:
                flush_data(staged.fd)
            fresh = staged.open_lockable(LogHandle)
            # Locked before it has its name: else somebody could append to it before we are done.
            fresh.lock(0)
            staged.move(directory, self._access.name)
        self._access.replace_by(fresh)
        self._must_rewrite = False
        self.make_name_last()
        fresh.name_lasts = True
        return fresh


def _sound_end(file: LogHandle) -> tuple[int, tuple[int, ...]]:
    """Where the sound part of the file ends, and the state in which that was so."""
    state = state_of(file)
    known = file.tail.end if file.tail is not None and file.tail.end < state[0] else 0
    return log_lines.sound_end(file.fd, state[0], known), state
