"""Many documents that go as one: moved elsewhere or deleted, with what belongs to them, sharing the flushes.

In this order, so that whatever comes leaves each as it was or where it was to go, and nothing is ever in neither:

1. Those that have a place to go to get their name there, and these names are flushed. Nothing is lost by that yet.
2. Each that is still as it was ends, while nobody writes to it or to what belongs to it: its commit point. The names
   are flushed. Who was touched, or is in use, loses what it got in the first step.
3. What belonged to those that ended follows, in a place where nobody looks for it any more, and is flushed.

The way back is the same the other way round: what belongs to a document comes first, and the document last.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from fsstate.backends.base import Move, Moved, Ref
from fsstate.backends.files.carrying import carry_folder, name_anew
from fsstate.backends.files.deletion import Belongings
from fsstate.backends.files.documents import Documents
from fsstate.backends.files.footprints import MARK_SIZE, contents_of, mark_of
from fsstate.backends.files.tree import Directory, Tree, refusals
from fsstate.errors import AlreadyExistsError, FsStateError, NotFoundError, OutcomeUnknownError, StorageError

__all__ = ["Moves"]

_logger: Final = logging.getLogger("fsstate")
_NOTHING: Final = bytes(MARK_SIZE)
_TAKEN: Final = (errno.EEXIST, errno.ENOTEMPTY)


class _Going(NamedTuple):
    """A document on its way out: its number among the moves, where it is, and how its file was."""

    number: int
    move: Move
    directory: Directory
    status: os.stat_result

    @property
    def name(self) -> str:
        return self.move.ref.name + self.move.ref.suffix

    @property
    def is_bare(self) -> bool:
        """Whether nothing belonged to it, as far as is known."""
        return self.move.mark is not None and self.move.mark[MARK_SIZE:] == _NOTHING


class Moves:
    """Moves documents with what belongs to them. The caller holds the documents' locks."""

    def __init__(self, tree: Tree, documents: Documents, belongings: Belongings) -> None:
        self._tree = tree
        self._documents = documents
        self._belongings = belongings

    def move_many(self, moves: Sequence[tuple[int, Move]], outcomes: list[Moved], timeout: float) -> None:
        """Make the moves, and tell `outcomes` of each. Requires: no document is among them twice."""
        found = list(self._found(moves, outcomes))
        named = self._each(found, outcomes, self._name)
        named = self._flush_targets(named, outcomes)
        ended = self._end_all(named, outcomes, timeout)
        # Also where all was gone: who deleted it may have been killed before that would last.
        absent = [(index, move) for index, move in moves if outcomes[index] is False]
        lasting = self._flush_sources([*((each.number, each.move) for each in ended), *absent], outcomes)
        self._follow([*(each for each in ended if each.number in lasting), *self._begun(absent)], outcomes)

    def put_back(self, source: Ref, target: Ref) -> None:
        """Put a document back, with what belongs to it. Requires: the lock of `target` is held."""
        old, new = self._tree.find(source.category), self._tree.path(str(target))
        status = None if old is None else _status_of(old, source.name + source.suffix)
        if old is None or status is None:
            raise NotFoundError(self._tree.path(str(source)))
        with refusals("restore", new):
            directory = self._tree.make(target.category)
            there = _status_of(directory, target.name + target.suffix)
            if there is None:
                self._put_belongings_back(source, target, old, directory)
                self._name_back(source, target, old, directory)
            elif self._tree.find(source.belongings) is not None or not self._is_same_content(source, target):
                raise AlreadyExistsError(new)
            # Else it stands in both: who moved it, or put it back, was killed in between.
            self._documents.make_names_last(directory, [target])
        try:
            os.unlink(source.name + source.suffix, dir_fd=old.fd)
            self._tree.sync(old)
        except OSError as error:
            # It is back for good, and perhaps still in its old place as well.
            raise OutcomeUnknownError.of("take away, once it was back,", self._tree.path(str(source)), error) from error

    # -- step 1

    def _found(self, moves: Iterable[tuple[int, Move]], outcomes: list[Moved]) -> Iterator[_Going]:
        """Those that are there and were not touched."""
        directories: dict[str, Directory | None] = {}
        for index, move in moves:
            category = move.ref.category
            try:
                if category not in directories:
                    directories[category] = self._tree.find(category)
                directory = directories[category]
                status = None if directory is None else _status_of(directory, move.ref.name + move.ref.suffix)
            except FsStateError as error:
                outcomes[index] = error
                continue
            outcomes[index] = False if status is None else None
            if directory is None or status is None:
                continue
            if move.mark is None or mark_of(status) == move.mark[:MARK_SIZE]:
                yield _Going(index, move, directory, status)

    def _name(self, going: _Going) -> None:
        to = going.move.to
        if to is not None:
            with refusals("move", self._tree.path(str(going.move.ref))):
                target = self._tree.make(to.category)
                name_anew(self._tree, going.directory, going.name, target, to.name + to.suffix)

    def _unname(self, going: _Going) -> None:
        to = going.move.to
        target = None if to is None else self._tree.find(to.category)
        if to is not None and target is not None:
            with contextlib.suppress(OSError):
                os.unlink(to.name + to.suffix, dir_fd=target.fd)

    def _flush_targets(self, named: list[_Going], outcomes: list[Moved]) -> list[_Going]:
        failed: set[str] = set()
        for category in dict.fromkeys(each.move.to.category for each in named if each.move.to is not None):
            path = self._tree.path(category)
            try:
                with refusals("flush", path):
                    self._tree.sync(self._tree.make(category))
            except StorageError as error:
                failed.add(category)
                for each in named:
                    if each.move.to is not None and each.move.to.category == category:
                        outcomes[each.number] = error
                        self._unname(each)
        return [each for each in named if each.move.to is None or each.move.to.category not in failed]

    # -- step 2

    def _end_all(self, named: Iterable[_Going], outcomes: list[Moved], timeout: float) -> list[_Going]:
        ended: list[_Going] = []
        with_folder: list[_Going] = []
        for (category, is_bare), group in groupby(named, lambda each: (each.move.ref.category, each.is_bare)):
            together = list(group)
            if is_bare:
                with self._kept_bare(category, together, timeout):
                    bare = [each for each in together if not self._has_folder(each)]
                    ended += self._each(bare, outcomes, self._end)
                # What is in it, if anything, has come since.
                known = {each.number for each in bare}
                together = [each for each in together if each.number not in known]
            with_folder += together
        return ended + self._each(with_folder, outcomes, lambda each: self._end_with_folder(each, timeout))

    def _kept_bare(
        self, category: str, together: Iterable[_Going], timeout: float
    ) -> contextlib.AbstractContextManager[None]:
        if all(each.move.belongings is None for each in together):
            return contextlib.nullcontext()
        return self._belongings.closed_to_newcomers(category, timeout)

    def _has_folder(self, going: _Going) -> bool:
        if going.move.belongings is None:
            return False
        status = _status_of(going.directory, going.move.ref.name)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def _end_with_folder(self, going: _Going, timeout: float) -> bool:
        folder = going.move.ref.belongings
        with self._belongings.alone_with(folder, timeout) as directory:
            if going.move.mark is not None:
                with refusals("look into", self._tree.path(folder)):
                    mark = _NOTHING if directory is None else contents_of(directory, 0).mark
                if mark != going.move.mark[MARK_SIZE:]:
                    return False
            return self._end(going)

    def _end(self, going: _Going) -> bool:
        with refusals("remove", self._tree.path(str(going.move.ref))):
            # What goes in any case, and nowhere, needs no look.
            if going.move.to is not None or going.move.mark is not None:
                now = _status_of(going.directory, going.name)
                if now is None or not _is_same(now, going.status):
                    return False
            try:
                os.unlink(going.name, dir_fd=going.directory.fd)
            except FileNotFoundError:
                return False
            return True

    def _each(
        self, all_of_them: Iterable[_Going], outcomes: list[Moved], act: Callable[[_Going], bool | None]
    ) -> list[_Going]:
        """Act on each; return those where that went well, and take the names away that the others got."""
        done: list[_Going] = []
        for each in all_of_them:
            try:
                went = act(each)
            except FsStateError as error:
                outcomes[each.number] = error
                went = False
            if went is False:
                self._unname(each)
            else:
                done.append(each)
        return done

    def _flush_sources(self, gone: Iterable[tuple[int, Move]], outcomes: list[Moved]) -> set[int]:
        """Make it last that documents went; return the numbers of those that were there, and now surely are not."""
        of: dict[str, list[tuple[int, Ref]]] = {}
        for index, move in gone:
            of.setdefault(move.ref.category, []).append((index, move.ref))
        lasting: set[int] = set()
        for category, places in of.items():
            directory = self._tree.find(category)
            try:
                if directory is not None:
                    self._documents.make_names_last(directory, [ref for _, ref in places], went=True)
            except OutcomeUnknownError as unknown:
                for index, ref in places:
                    path = self._tree.path(str(ref))
                    outcomes[index] = OutcomeUnknownError(unknown.action, path, unknown.errno or 0)
            else:
                for index, _ in places:
                    if outcomes[index] is None:
                        outcomes[index] = True
                        lasting.add(index)
        return lasting

    # -- step 3

    def _begun(self, absent: Iterable[tuple[int, Move]]) -> Iterator[_Going]:
        """Those that went before, by somebody who was killed before what belonged to them could follow."""
        for index, move in absent:
            source = self._tree.find(move.ref.category)
            target = None if move.to is None else self._tree.find(move.to.category)
            if move.to is None or move.belongings is None or source is None or target is None:
                continue
            status = _status_of(target, move.to.name + move.to.suffix)
            if status is not None and _status_of(target, move.to.name) is None:
                yield _Going(index, move, source, status)

    def _follow(self, ended: Iterable[_Going], outcomes: list[Moved]) -> None:
        touched: dict[str, Directory] = {}
        targets: dict[str, Directory] = {}
        for each in ended:
            if self._has_folder(each):
                touched[each.move.ref.category] = each.directory
                self._follow_one(each, targets, outcomes)
        # Where it went to first: else it might stand in neither.
        for directory in (*targets.values(), *touched.values()):
            try:
                self._tree.sync(directory)
            except OSError as error:
                _logger.warning("%s: what belongs to documents that went may come back: %s", directory.path, str(error))

    def _follow_one(self, going: _Going, targets: dict[str, Directory], outcomes: list[Moved]) -> None:
        ref, to = going.move.ref, going.move.to
        try:
            if to is None:
                going.directory.remove_folder(ref.name)
            else:
                target = targets[to.category] = self._tree.make(to.category)
                carry_folder(self._tree, going.directory, ref.name, target, to.name)
        except (OSError, FsStateError) as error:
            # The document's end was the commit point: what is left is what a crash would leave.
            _logger.warning("%s went, but what belongs to it stays in %s: %s", ref, ref.belongings, str(error))
            if outcomes[going.number] is False:
                # It went before; whoever asked for the rest must know that it is still there.
                outcomes[going.number] = _told(error, self._tree.path(ref.belongings))

    # -- the way back

    def _put_belongings_back(self, source: Ref, target: Ref, old: Directory, directory: Directory) -> None:
        if self._tree.find(source.belongings) is None:
            # It has none, or they never left.
            return
        # A folder without a document is what a crash left of another deletion.
        self._belongings.discard(target.belongings)
        try:
            # Else half of it in the trash would count for the whole, and replace what was carried already.
            carry_folder(self._tree, old, source.name, directory, target.name, never_half=True)
        except OSError as error:
            if error.errno in _TAKEN:
                raise AlreadyExistsError(self._tree.path(target.belongings)) from error
            raise
        self._tree.sync(directory)

    def _is_same_content(self, source: Ref, target: Ref) -> bool:
        kept, there = self._documents.read(source), self._documents.read(target)
        return kept is not None and there is not None and kept.data == there.data

    def _name_back(self, source: Ref, target: Ref, old: Directory, directory: Directory) -> None:
        try:
            name_anew(self._tree, old, source.name + source.suffix, directory, target.name + target.suffix)
        except FileExistsError as error:
            raise AlreadyExistsError(self._tree.path(str(target))) from error


def _status_of(directory: Directory, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError.of("look at", f"{directory.path}/{name}", error) from error


def _told(error: OSError | FsStateError, path: str) -> FsStateError:
    return error if isinstance(error, FsStateError) else StorageError.of("move", path, error)


def _is_same(now: os.stat_result, then: os.stat_result) -> bool:
    """Whether it is the same file with the same content. Its ctime is another since it got one more name."""
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (then.st_ino, then.st_size, then.st_mtime_ns)
