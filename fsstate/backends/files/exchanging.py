"""Documents replaced, made and removed without destroying what somebody saves in the same moment.

An editor takes no lock, so between the last look at a file and a rename over it lies a moment in which a save would be
destroyed unseen. Therefore nothing is renamed over: new content and what has the name *exchange* their places
(RENAME_EXCHANGE, renameat2(2)), what came out is looked at, and only what was read may go. A new document takes its
name only where that is free (RENAME_NOREPLACE). A document that is to go is moved aside, looked at, and removed.

What came out is what was read if it holds the same bytes with the same permissions, and nobody has it open for
writing: a program that writes in place keeps its descriptor, wherever the file goes. A read lease tells that: it is to
be had on a descriptor that is open for reading only (fcntl(2), F_SETLEASE), and is refused with EAGAIN while the file
is open for writing anywhere (check_conflicting_open in the kernel's fs/locks.c). It ends with the descriptor, at once.
Were the file opened for writing in between, the kernel would send SIGIO, which ends a program that expects none:
F_SETSIG (fcntl(2)) asks for SIGURG instead, which is ignored where nobody asked for it (signal(7)).

If it is something else, it is put back, and the change is made again on what stands there then:

1. The new content was in place for an instant, and was not acknowledged. A reader may have seen it.
2. It is put back by exchange again. What comes out should be our own content. If not, somebody saved over that
   meanwhile: theirs is the newest, and goes back in place. So it goes on until what comes out is what was put there.
3. Whatever is left then is ours, or was read, or is kept in `.fsstate/quarantine/`: it was somebody's, and is no longer
   the newest. The same goes for what cannot be put back, since somebody deleted the document or made it anew.
4. Who saved over our content may have begun with it. Whether the change is part of the document is then not known, and
   making it again might make it twice: this is told (OutcomeUnknownError).
5. A kill in between leaves what came out under its staged name: see `leftovers`.

Not covered: a program that is inside open(2), with the old file found and not yet opened, for as long as the exchange
and the look take; one that reads ours in that moment, before another's save is put back, and saves over that later;
and a power cut in that moment on a file system that may lose both names of a rename.

Where the kernel or the file system has no such renames, the content is compared and renamed over, as ever, without
leases: those of network file systems, which are among them, are refused for other reasons. Where there are no leases,
or the file is another user's, only the content counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import signal
import stat
import sys
import time
from typing import Final, NamedTuple

from fsstate.backends.base import Ref
from fsstate.backends.files import leftovers
from fsstate.backends.files.descriptors import open_at
from fsstate.backends.files.renames import is_lacking
from fsstate.backends.files.staging import Staged, Staging
from fsstate.backends.files.tree import Directory, Tree
from fsstate.errors import LockTimeoutError, OutcomeUnknownError

__all__ = ["ChangedMeanwhileError", "Content", "Exchanges", "read_whole"]

_logger: Final = logging.getLogger("fsstate")
_LOOK: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK: Final = 64 * 1024
# Saves that come between two exchanges are put back so often; more often than this, something else is wrong.
_TRIES: Final = 8
# Seconds between two looks whether a file is still open for writing: more with each, but never more than the last.
_PAUSES: Final = (0.001, 0.05)


class ChangedMeanwhileError(Exception):
    """The file is no longer the one that was read, or (`is_busy`) is being written to. Never leaves this floor."""

    def __init__(self, *, is_busy: bool = False) -> None:
        super().__init__()
        self.is_busy = is_busy


def read_whole(fd: int, size: int) -> bytes:
    """All that an open file holds, which is `size` bytes unless somebody is writing to it."""
    data = os.read(fd, size + 1)
    # A short read, or a file that grew.
    while len(data) != size and (more := os.read(fd, max(_CHUNK, len(data)))):
        data += more
    return data


class Content(NamedTuple):
    """What a file holds (None: no plain file), its permissions if they count, and whether it is open for writing."""

    data: bytes | None
    permissions: tuple[int, ...] = ()
    is_busy: bool = False

    @classmethod
    def of(cls, data: bytes, status: os.stat_result, *, is_busy: bool = False) -> Content:
        return cls(data, (status.st_mode, status.st_uid, status.st_gid), is_busy)

    def is_still(self, other: Content) -> bool:
        """Whether nobody has touched it, or can, since it was `other`."""
        same = not other.permissions or self.permissions == other.permissions
        return same and self.data is not None and self.data == other.data and not self.is_busy


class Exchanges:
    """Puts documents in their places. Safe to share between threads; the caller holds the locks.

    All raise ChangedMeanwhileError when nothing was done since the file is another one.
    """

    def __init__(self, tree: Tree, staging: Staging) -> None:
        self._tree = tree
        self._staging = staging
        # Until the file system turns out not to have them.
        self._has_renames: bool = sys.platform == "linux"
        self._has_leases = True

    def make(self, staged: Staged, directory: Directory, name: str) -> None:
        """Give staged content a name that nothing has."""
        if not self._has_renames:
            staged.move(directory, name)
            return
        try:
            staged.move_to_free(directory, name)
        except FileExistsError as error:
            raise ChangedMeanwhileError from error
        except OSError as error:
            if not is_lacking(error):
                raise
            staged.move(directory, name)
            self._has_renames = False

    def replace(self, staged: Staged, ours: bytes, ref: Ref, directory: Directory, read: Content) -> None:
        """Put staged content in the place of what was read."""
        if not self._exchange(staged, directory, ref, read):
            return
        try:
            out = self._look(*staged.place())
        except FileNotFoundError:
            # Who removed the staging folder in this very moment removed what was to go in any case.
            return
        except BaseException:
            self._exchange_back(staged, directory, ref)
            raise
        staged.may_go = out.is_still(read)
        if not staged.may_go:
            self._put_back(staged, Content(ours), out, ref, directory)
            raise ChangedMeanwhileError(is_busy=out.is_busy)

    def remove(self, ref: Ref, directory: Directory, read: Content) -> None:
        """Remove what was read."""
        assert read.data is not None
        name = ref.name + ref.suffix
        if not self._has_renames:
            self._require_still(directory, name, read)
            os.unlink(name, dir_fd=directory.fd)
            return
        with self._staging.take_out(directory, name, leftovers.label_of(ref, None, read.data)) as taken:
            try:
                out = self._look(*taken.place())
            except FileNotFoundError:
                # As above.
                return
            except BaseException:
                self._give_back(taken, ref, directory)
                raise
            taken.may_go = out.is_still(read)
            if not taken.may_go:
                self._give_back(taken, ref, directory)
                raise ChangedMeanwhileError(is_busy=out.is_busy)

    def wait_for_writers(self, directory: Directory, ref: Ref, timeout: float, deadline: float) -> None:
        """Wait until nobody has a document open for writing. Raises LockTimeoutError at `deadline`."""
        pause, longest = _PAUSES
        while self._is_busy(directory, ref.name + ref.suffix):
            left = deadline - time.monotonic()
            if left <= 0:
                hint = "another program has the file open for writing; let it finish, or end it"
                raise LockTimeoutError(self._tree.path(str(ref)), timeout, hint)
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    # -- looking

    def _look(self, directory: Directory, name: str, *, leasing: bool = True) -> Content:
        try:
            fd = open_at(name, _LOOK, dir_fd=directory.fd)
        except BlockingIOError:
            # Another program's lease, which it must first give back.
            return Content(None, is_busy=True)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return Content(None)
            raise
        is_leased: bool | None = None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return Content(None)
            # Before the read: else a program might write behind it, and close the file before it is asked.
            is_leased = self._lease(fd) if leasing else None
            return Content.of(read_whole(fd, status.st_size), status, is_busy=is_leased is False)
        finally:
            if is_leased:
                # A child that was forked meanwhile would keep it by its copy of the descriptor.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(fd)

    def _is_busy(self, directory: Directory, name: str) -> bool:
        try:
            return self._look(directory, name).is_busy
        except OSError:
            # Whoever reads it next tells why it cannot be read.
            return False

    def _lease(self, fd: int) -> bool | None:
        """Take a lease on a file, which nobody gets who has it open for writing; None when that cannot be told."""
        if not self._has_leases:
            return None
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return False
        except (OSError, AttributeError) as error:
            # That a file is another user's says nothing of the others.
            self._has_leases = isinstance(error, PermissionError)
            return None
        return True

    def _require_still(self, directory: Directory, name: str, read: Content) -> None:
        if not self._look(directory, name, leasing=False).is_still(read):
            raise ChangedMeanwhileError

    # -- exchanging

    def _exchange(self, staged: Staged, directory: Directory, ref: Ref, read: Content) -> bool:
        """Put staged content in place. Returns whether it was exchanged for something that is to be looked at."""
        name = ref.name + ref.suffix
        if self._has_renames:
            try:
                staged.exchange(directory, name)
            except OSError as error:
                if not is_lacking(error):
                    raise
            else:
                return True
        self._require_still(directory, name, read)
        staged.move(directory, name)
        self._has_renames = False
        return False

    def _exchange_back(self, staged: Staged, directory: Directory, ref: Ref) -> bool:
        """Exchange once more. Returns whether there was something to exchange with."""
        try:
            staged.exchange(directory, ref.name + ref.suffix)
        except FileNotFoundError:
            return False
        except OSError as error:
            path = self._tree.path(str(ref))
            raise OutcomeUnknownError.of("put back what was saved meanwhile to", path, error) from error
        return True

    def _put_back(self, staged: Staged, ours: Content, out: Content, ref: Ref, directory: Directory) -> None:
        """Put back what came `out`, and after it whatever was saved in its place meanwhile."""
        placed, was_saved_over = ours, False
        for _ in range(_TRIES):
            if not self._exchange_back(staged, directory, ref):
                # Deleted: that is the newest. What came out was somebody's.
                placed = out
                break
            back = self._look(*staged.place())
            if back.is_still(placed):
                break
            placed, out, was_saved_over = out, back, True
        staged.may_go = placed is ours
        if not staged.may_go:
            self._keep(staged, ref)
        self._make_last(directory, ref)
        if was_saved_over:
            action = "be sure of the change, which somebody saved over in the same moment, in"
            raise OutcomeUnknownError(action, self._tree.path(str(ref)), errno.EBUSY)

    def _give_back(self, taken: Staged, ref: Ref, directory: Directory) -> None:
        try:
            taken.move_to_free(directory, ref.name + ref.suffix)
        except OSError:
            # Made anew meanwhile, which is the newest, or there is no place for it any more.
            self._keep(taken, ref)
        self._make_last(directory, ref)

    def _make_last(self, directory: Directory, ref: Ref) -> None:
        """Make it last that something was put back: a power cut must not show what was in its place for an instant."""
        try:
            self._tree.sync(directory)
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of", self._tree.path(str(ref)), error) from error

    def _keep(self, staged: Staged, ref: Ref) -> None:
        place = self._tree.path(str(ref))
        try:
            kept = leftovers.put_aside(self._tree, *staged.place(), str(ref))
        except OSError as error:
            # It stays where it is, and the next sweep tries again.
            folder, name = staged.place()
            kept = f"{folder.path}/{name} ({error})"
        _logger.warning("%s: several saves came in the same moment; one that is not the newest is in %s", place, kept)
