"""Bringing a record back as a commit has it, by the store's own way of writing.

A document or log is replaced under its lock. A document with all that belongs to it is put together in the trash first,
where nobody looks for it, and then changes places with the one that is there: whatever comes, both are whole, in the
one place or the other.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, cast

from fsstate import belongings
from fsstate.backends.base import JSON, LOG, MARKDOWN, TRIM_MARKER, Change, Move, Ref, Suffix, as_it_is
from fsstate.backends.files import FileBackend, continued
from fsstate.errors import FsStateError, LockTimeoutError, NotFoundError, UncommittedError
from fsstate.git.repository import Repository, read_plain
from fsstate.times import Clock
from fsstate.trash import RESTORED, TRASH, Run, Trash, TrashItem

__all__ = ["FileRestorer", "RestoreReport", "RestoredFile", "WholeRestorer"]

_log = logging.getLogger("fsstate")
# A record that was just written to tells no change that comes at once: so long is waited before it is looked at again.
_PAUSE: Final = 0.03


class RestoredFile(NamedTuple):
    """A file that a restore changes: `change` is "added", "replaced" or "removed"."""

    path: str
    change: str


class RestoreReport(NamedTuple):
    """What a restore changed, or would change.

    - `record`, `commit`: what was restored, and as of when. `files`: what is other than before; none if nothing is.
    - `in_trash`: whether what was replaced is in the trash, since no commit has it.
    """

    record: str
    commit: str
    files: list[RestoredFile]
    dry_run: bool
    in_trash: bool


class _Restorer:
    """Brings one record back: `wanted` are its files as they were, by their paths in the store."""

    def __init__(
        self, files: FileBackend, repository: Repository, clock: Clock, ref: Ref, wanted: Mapping[str, bytes]
    ) -> None:
        self._files = files
        self._at = repository
        self._clock = clock
        self._ref = ref
        self._wanted = wanted

    def plan(self) -> list[RestoredFile]:
        """Tell which files would change."""
        return list(self._changes(self._present()))

    def make_last(self, owner: Ref | None) -> None:
        """Make it last as it is: a restore that was cut off may have left it where a power cut undoes it."""
        if self._ref.suffix == LOG:
            self._files.replace_log(self._ref, lambda now: now, owner=owner)
        else:
            # What belongs to a record was flushed before it came, and its name is in the record's directory.
            self._files.change(self._ref, as_it_is, owner=owner)

    def _paths(self) -> list[str]:
        """The files of the record that are there now, or may be."""
        return [str(self._ref)]

    def _present(self) -> dict[str, bytes]:
        found = ((path, read_plain(f"{self._files.root}/{path}")) for path in self._paths())
        return {path: data for path, data in found if data is not None}

    def _changes(self, present: Mapping[str, bytes]) -> Iterator[RestoredFile]:
        for path in dict.fromkeys((*self._wanted, *present)):
            if path not in present:
                yield RestoredFile(path, "added")
            elif not _holds(present[path], self._wanted.get(path, b"")):
                yield RestoredFile(path, "replaced" if path in self._wanted else "removed")

    def _last_committed(self, path: str) -> bytes:
        """The last content that any commit has of a file; none when there is none."""
        last = self._at.git.one_line("rev-list", "-1", "HEAD", "--", self._at.path(path))
        for commit in (last, f"{last}^"):
            # The last commit that changed it may be the one that took it away.
            if last and self._at.commit(commit) and path in self._at.ids(commit, [path]):
                return self._at.content(commit, path)
        return b""


class FileRestorer(_Restorer):
    """Brings back one document or log."""

    def restore(self, owner: Ref | None, *, force: bool) -> bool:
        """Replace it, durably. Says False: what was replaced is not in the trash."""
        if owner is not None and self._files.look(owner) is None:
            reason = f"{self._ref} belongs to {owner}, which does not exist; restore that"
            raise NotFoundError(self._files.location(owner), reason)
        if self._ref.suffix == LOG:
            self._files.replace_log(self._ref, lambda now: self._log_after(now, force=force), owner=owner)
        else:
            self._files.change(
                self._ref, lambda blob: self._after(blob.data if blob else None, force=force), owner=owner
            )
        return False

    def _after(self, now: bytes | None, *, force: bool) -> bytes:
        """What the file is to hold. Asked under the record's lock."""
        path = str(self._ref)
        data = self._wanted[path]
        if now and not force and not _holds(now, data) and not self._is_committed(path, now):
            raise UncommittedError(self._files.location(self._ref), [path])
        return data

    def _log_after(self, now: bytes, *, force: bool) -> bytes:
        data = self._after(now, force=force)
        return data if now else continued(data, self._last_committed(str(self._ref)))

    def _is_committed(self, path: str, data: bytes) -> bool:
        found = self._at.ids("HEAD", [path]).get(path)
        return found is not None and found[1] == self._at.id_of(path, data)


class WholeRestorer(_Restorer):
    """Brings back a document with all that belongs to it."""

    def restore(self, owner: Ref | None, *, force: bool) -> bool:
        """Let it change places with the one that is there, durably. Returns whether what was there is in the trash."""
        del owner
        deadline = time.monotonic() + self._files.options.lock_timeout
        while True:
            mark = self._mark(deadline)
            if mark is None:
                # What a crash left of one that was deleted is not for this one.
                belongings.sweep(self._files, self._ref)
            uncommitted = [] if mark is None else self._uncommitted()
            if uncommitted and not force:
                raise UncommittedError(self._files.location(self._ref), uncommitted)
            if self._exchange(mark, keep=bool(uncommitted)):
                return bool(uncommitted)
            self._require_time(deadline)

    def _paths(self) -> list[str]:
        return [*super()._paths(), *self._belongings_in(self._files.root)]

    def _belongings_in(self, root: str) -> Iterator[str]:
        """What belongs to the record in a directory that is laid out like the store."""
        inside = Path(root, self._ref.belongings)
        found = (Path(folder, name) for folder, _, files in os.walk(inside) for name in files)
        return (str(path.relative_to(root)) for path in found)

    def _logs_in_trash(self) -> Iterator[tuple[str, bytes]]:
        """The record's logs that went to the trash and are there: a restore before this one may have been cut off."""
        trash = Trash(self._files, self._clock)
        for item in trash.list():
            if item.record == str(self._ref) and item.reason != RESTORED:
                root = f"{self._files.root}/{TRASH}/{item.id.partition('/')[0]}"
                paths = (path for path in self._belongings_in(root) if path.endswith(LOG))
                yield from ((path, read_plain(f"{root}/{path}") or b"") for path in paths)

    def _uncommitted(self) -> list[str]:
        """What is there of the record, and the last commit does not hold as it is."""
        paths = [self._at.path(each) for each in (str(self._ref), self._ref.belongings)]
        options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")
        listed = self._at.git.run("status", *options, "--", *paths).split(b"\0")
        found = [self._at.below(os.fsdecode(line[3:])) for line in listed if line]
        return [path for path in found if os.path.lexists(f"{self._files.root}/{path}")]

    def _mark(self, deadline: float) -> bytes | None:
        """How the record looks, so that any change from now on shows; None when it is not there."""
        while True:
            footprint = self._files.footprint(self._ref, self._ref.belongings)
            if footprint is None or footprint.mark is not None:
                return None if footprint is None else footprint.mark
            self._require_time(deadline)
            time.sleep(_PAUSE)

    def _require_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise LockTimeoutError(str(self._ref), self._files.options.lock_timeout, "it is written to all the time")

    # The exchange

    def _exchange(self, mark: bytes | None, *, keep: bool) -> bool:
        trash = Trash(self._files, self._clock)
        with trash.filling() as going, trash.filling() as coming:
            try:
                self._stage(coming, self._whole(self._present() if mark is not None else None))
                if mark is not None:
                    going.announce([self._item("replaced")])
                source, room = coming.place_of(self._ref), going.place_of(self._ref)
                done = self._files.exchange(source, self._ref, room, mark)
            except FsStateError:
                self._put_back(going)
                self._forget(coming)
                raise
            self._forget(coming)
            if not keep:
                self._forget(going)
            return done

    def _whole(self, present: Mapping[str, bytes] | None) -> Iterator[tuple[str, bytes]]:
        """The files that are to come. Logs go on behind the seqs that were given out, also those that had none yet."""
        before = [*present.items()] if present is not None else [*self._logs_in_trash()]
        logs = [path for path in {**self._wanted, **dict(before)} if path.endswith(LOG)]
        for path, data in self._wanted.items():
            if path not in logs:
                yield path, data
        for path in logs:
            earlier = [data for each, data in before if each == path]
            if present is None:
                earlier.append(self._last_committed(path))
            data = continued(self._wanted.get(path, b""), b"\n".join(earlier))
            if data or path in self._wanted:
                yield path, data

    def _stage(self, coming: Run, whole: Iterator[tuple[str, bytes]]) -> None:
        coming.announce([self._item(RESTORED)])
        for outcome in self._files.change_many([(coming.place_of(_ref(path)), _to(data)) for path, data in whole]):
            if isinstance(outcome, Exception):
                raise outcome

    def _item(self, reason: str) -> TrashItem:
        now = self._clock()
        return TrashItem(
            "", str(self._ref), reason, now, now, sum(map(len, self._wanted.values())), has_belongings=True
        )

    def _put_back(self, going: Run) -> None:
        """Let what had to go come back, if it went."""
        place = going.place_of(self._ref)
        if self._files.look(place) is not None and self._files.look(self._ref) is None:
            self._files.put_back(place, self._ref)

    def _forget(self, run: Run) -> None:
        """Remove what nobody needs any more. The record is where it should be, also when that fails."""
        try:
            self._discard(run)
        except FsStateError as error:
            _log.warning("%s: what a restore left there stays in the trash: %s", run.name, str(error))

    def _discard(self, run: Run) -> None:
        place = run.place_of(self._ref)
        outcome = self._files.move_many([Move(place, place.belongings, None, None)])[0]
        if isinstance(outcome, Exception):
            raise outcome


def _holds(now: bytes, wanted: bytes) -> bool:
    """Whether a file holds what is wanted, with at most the marker behind it that a restored log has."""
    if now == wanted:
        return True
    rest = now.removeprefix(wanted) if now.startswith(wanted) else b""
    return TRIM_MARKER in rest and rest.strip(b"\n").count(b"\n") == 0


def _to(data: bytes) -> Change:
    return lambda _: data


def _ref(path: str) -> Ref:
    """The address of any file of a record, also of one that is no record itself."""
    category, _, name = path.rpartition("/")
    for suffix in (LOG, JSON, MARKDOWN):
        if name.endswith(suffix) and len(name) > len(suffix):
            return Ref(category, name.removesuffix(suffix), suffix)
    return Ref(category, name, cast("Suffix", ""))
