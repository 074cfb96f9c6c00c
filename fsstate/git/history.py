"""The history of a store's records: what became of each, how it was, and the way back.

A session, or another document that owns what lies in its folder, is one record here: it is told, shown and restored
with all that belongs to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import AmbiguousIdError, GitError, NotFoundError
from fsstate.git.changes import RecordCommit
from fsstate.git.commits import commits_of
from fsstate.git.repository import Repository, files_of
from fsstate.git.restoring import FileRestorer, RestoreReport, WholeRestorer
from fsstate.git.setup import SetupReport, set_up
from fsstate.times import Clock
from fsstate.trash import ref_of

__all__ = ["History", "RecordVersion"]

_log: Final = logging.getLogger("fsstate")
_SESSIONS: Final = "sessions"
_SHORTEST_PREFIX: Final = 6
_DIFF: Final = ("diff", "--no-color", "--no-ext-diff", "--no-renames")

# History has a method called `log`, and others may come.
Commits: TypeAlias = list[RecordCommit]


class RecordVersion(NamedTuple):
    """A record as a commit has it: its files by their paths in the store, the record's own first."""

    record: str
    commit: str
    files: dict[str, bytes]


class History:
    """What git knows of a store's records. Any thread may call; each call asks git anew.

    A record is given as `agents/planner`, with its extension where several have the name, or by the id of a session, or
    6 or more characters of it; also one that is deleted by now. A revision is what git takes for one: an id, `HEAD~3`,
    a tag, `main@{yesterday}`. Raises GitError for stores in memory, outside of any repository, and without git.
    """

    def __init__(self, backend: Backend, clock: Clock, owners: Callable[[], set[str]]) -> None:
        self._backend = backend
        self._clock = clock
        self._owners = owners

    def __repr__(self) -> str:
        return f"History({self._backend!r})"

    def init(self, *, dry_run: bool = False) -> SetupReport:
        """Make the repository that the store lies in know about records, and make one where there is none.

        Adds lines to `.gitattributes` and `.gitignore` in the store's directory, which you commit, and sets which
        program merges and shows records, which each clone sets for itself. What is as it should be stays untouched;
        with `dry_run` all does. Raises GitError, before anything is written, where git ignores the store.
        """
        return set_up(self._files, dry_run=dry_run)

    def log(self, record: str, *, limit: int | None = None) -> Commits:
        """Return the commits that changed a record, the latest first, with what each changed.

        Goes on where the record stood before, if a commit moved it to another category under its name.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, got {limit!r}")
        repository, ref = self._at(record)
        return list(islice(self._commits(repository, ref, limit), limit))

    def show(self, record: str, revision: str) -> RecordVersion:
        """Return a record as it was. Raises NotFoundError when it did not exist then, or there is no such revision."""
        repository, ref = self._at(record)
        return self._version(repository, ref, revision)

    def diff(self, record: str, old: str = "HEAD", new: str | None = None) -> str:
        """Return what is different between two revisions of a record, as `git diff` prints it.

        `new` is what the files hold now by default. Where `fsstate git init` has told the repository how, records are
        compared in their readable form.
        """
        repository, ref = self._at(record)
        revisions = [self._commit(repository, each) for each in (old, new) if each is not None]
        paths = [repository.path(path) for path in self._paths(ref)]
        try:
            printed = repository.git.run(*_DIFF, "--textconv", *revisions, "--", *paths)
        except GitError as error:
            _log.warning("compared as they stand, since the readable form is not to be had: %s", error.reason)
            printed = repository.git.run(*_DIFF, "--no-textconv", *revisions, "--", *paths)
        return printed.decode(errors="replace")

    def restore(self, record: str, revision: str, *, force: bool = False, dry_run: bool = False) -> RestoreReport:
        """Bring a record back as it was then, durably and under its locks; return what that changed.

        A document or a log is replaced in one step, by the very bytes that were committed. A session is replaced with
        all that belongs to it, and comes back whole if it was deleted: readers find the one or the other or, for an
        instant between the two, none. Seqs of logs go on where they were: none that was given out since is given out
        again. Cut off in the middle, what was there and what was to come are both in the trash.

        Raises UncommittedError when what would be replaced is in no commit, unless it is forced: then a session goes to
        the trash first, and a document or log is overwritten. Raises NotFoundError when the record did not exist then,
        or the session is gone to which it belongs; LockTimeoutError when it is in use. With `dry_run` nothing is done.
        """
        repository, ref = self._at(record)
        version = self._version(repository, ref, revision)
        kind = WholeRestorer if self._is_owner(ref) else FileRestorer
        restorer = kind(self._files, repository, self._clock, ref, version.files)
        changes = restorer.plan()
        in_trash = False
        if changes and not dry_run:
            in_trash = restorer.restore(self._owner(ref), force=force)
        elif not dry_run:
            restorer.make_last(self._owner(ref))
        return RestoreReport(version.record, version.commit, changes, dry_run, in_trash)

    # Inside

    @property
    def _files(self) -> FileBackend:
        return files_of(self._backend)

    def _at(self, record: str) -> tuple[Repository, Ref]:
        repository = Repository.of(self._files.root)
        if repository.head() is None:
            raise GitError(repository.top, "there is no commit yet; `fsstate git snapshot` makes the first")
        return repository, self._find(repository, record)

    def _commits(self, repository: Repository, ref: Ref, most: int | None) -> Iterator[RecordCommit]:
        since: str | None = "HEAD"
        while since is not None:
            last: RecordCommit | None = None
            for last in commits_of(repository, str(ref), self._paths(ref), since, most):
                yield last
            since = None if last is None or not last.made_it else repository.commit(f"{last.id}^")
            if last is not None and since is not None:
                before = _place_before(repository, ref, since, last.id)
                ref, since = (ref, None) if before is None else (before, since)

    def _version(self, repository: Repository, ref: Ref, revision: str) -> RecordVersion:
        commit = self._commit(repository, revision)
        files = repository.ids(commit, self._paths(ref))
        if str(ref) not in files:
            raise NotFoundError(
                str(ref), f"{ref} did not exist in {revision}; `fsstate git log {ref}` tells where it did"
            )
        # Links, and other repositories, are no files of a record.
        plain = sorted(
            (path for path, (mode, _) in files.items() if mode.startswith("100")), key=lambda each: each != str(ref)
        )
        return RecordVersion(str(ref), commit, {path: repository.content(commit, path) for path in plain})

    def _commit(self, repository: Repository, revision: str) -> str:
        found = repository.commit(revision)
        if found is None:
            raise NotFoundError(revision, f"git knows no commit {revision!r} in {repository.top}")
        return found

    def _paths(self, ref: Ref) -> list[str]:
        return [str(ref), f"{ref.belongings}/"] if self._is_owner(ref) else [str(ref)]

    def _is_owner(self, ref: Ref) -> bool:
        return ref.suffix == JSON and ref.category in self._owners()

    def _owner(self, ref: Ref) -> Ref | None:
        for category in self._owners():
            if ref.category.startswith(f"{category}/"):
                return Ref(category, ref.category.removeprefix(f"{category}/").partition("/")[0], JSON)
        return None

    # What is meant

    def _find(self, repository: Repository, record: str) -> Ref:
        if "/" not in record:
            return self._find_session(repository, names.check_segment(record))
        candidates = list(_candidates(record))
        there = [ref for ref in candidates if os.path.lexists(self._backend.location(ref))]
        found = there or [ref for ref in candidates if _was_committed(repository, ref)]
        if not found:
            raise NotFoundError(record, f"{record} neither exists nor is in a commit of {repository.top}")
        if len(found) > 1:
            raise AmbiguousIdError(record, [str(ref) for ref in found], hint="give its extension, too")
        return found[0]

    def _find_session(self, repository: Repository, id_: str) -> Ref:
        exact = Ref(_SESSIONS, id_, JSON)
        if os.path.lexists(self._backend.location(exact)) or _was_committed(repository, exact):
            return exact
        found = sorted(self._sessions(repository, id_)) if len(id_) >= _SHORTEST_PREFIX else []
        if not found:
            raise NotFoundError(id_, f"there is no session {id_!r}, and none in a commit of {repository.top}")
        if len(found) > 1:
            raise AmbiguousIdError(id_, found)
        return exact._replace(name=found[0])

    def _sessions(self, repository: Repository, prefix: str) -> set[str]:
        there = {name for name in self._backend.names(_SESSIONS, JSON) if name.startswith(prefix)}
        return there or {name for name in _committed_names(repository, _SESSIONS) if name.startswith(prefix)}


def _candidates(record: str) -> Iterator[Ref]:
    """The records that a text may name, the file of that very name alone if it has an extension."""
    try:
        exact = ref_of(record)
    except ValueError:
        category, _, name = record.rpartition("/")
        for suffix in (JSON, MARKDOWN, LOG):
            yield Ref(names.check_category(category), names.check_name(name), suffix)
    else:
        yield Ref(names.check_category(exact.category), names.check_name(exact.name), exact.suffix)


def _was_committed(repository: Repository, ref: Ref) -> bool:
    return bool(repository.git.run("rev-list", "-1", "HEAD", "--", repository.path(str(ref))))


def _committed_names(repository: Repository, category: str) -> Iterator[str]:
    """The names of all JSON documents that ever were in a category."""
    path = repository.path(f"{category}/")
    arguments = ("diff-tree", "--stdin", "-r", "--root", "-z", "--name-only", "--diff-filter=A", "--no-renames")
    feeding = ("rev-list", "HEAD", "--", path)
    with repository.git.reading(*arguments, "--no-commit-id", "--", path, fed_by=feeding) as printed:
        for token in printed.read().split(b"\0"):
            above, _, name = repository.below(os.fsdecode(token)).rpartition("/")
            if above == category and name.endswith(JSON):
                yield name.removesuffix(JSON)


def _place_before(repository: Repository, ref: Ref, before: str, commit: str) -> Ref | None:
    """Where a record stood that came to its place with a commit, if that took one of its name away elsewhere."""
    arguments = ("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=D", before, commit)
    listed = repository.git.run(*arguments, "--", repository.whole_store).split(b"\0")
    gone = (repository.below(os.fsdecode(path)) for path in listed if path)
    found = [path for path in gone if path.rpartition("/")[2] == ref.name + ref.suffix and "/" in path]
    return ref._replace(category=found[0].rpartition("/")[0]) if len(found) == 1 else None
