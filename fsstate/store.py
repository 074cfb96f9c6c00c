"""A store: one directory, opened. What is in it is the business of the floors below."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref
from fsstate.options import StoreOptions

# What a store that is only opened, or only reads documents, does not need is imported at its first use.
if TYPE_CHECKING:
    from fsstate.agents import Agent
    from fsstate.audits import Audits
    from fsstate.collection import Collection
    from fsstate.conflicts import Conflict
    from fsstate.doctor import DoctorReport
    from fsstate.git import History
    from fsstate.index import Index
    from fsstate.jobs import Jobs
    from fsstate.journal import Journal
    from fsstate.markdown import Markdown
    from fsstate.migrator import MigrationReport, Progress
    from fsstate.record_documents import RecordDocuments
    from fsstate.record_types import RecordType
    from fsstate.records import Records
    from fsstate.recovery import InFlight, RecoveryReport
    from fsstate.runs import Runs
    from fsstate.search import SearchHit
    from fsstate.session import SessionHandle
    from fsstate.sessions import Session, Sessions, SessionSummary
    from fsstate.settings import Settings
    from fsstate.shared import Shared
    from fsstate.sources import Sources
    from fsstate.stats import StoreStats
    from fsstate.trash import Trash
    from fsstate.workflows import Workflow, Workflows

__all__ = ["Store"]

T = TypeVar("T")
P = TypeVar("P")


class Store:
    """An application's or an agent's state as plain files below one directory.

    Opening reads `.fsstate/store.json` and writes nothing; the directory comes with the first write. Safe to share
    between threads, between processes that open it each for itself, and with people who edit the files. A context
    manager.

    Raises NewerFormatError for a store that a newer fsstate wrote, StorageError when `path` is no directory.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: StoreOptions | None = None,
        *,
        types: Iterable[RecordType[Any]] = (),
        recover: bool = False,
    ) -> None:
        """Open a store. `types` are record types of your own, for `recover` and `migrate` to know.

        With `recover`, records in flight whose holders are gone are settled first, as `Store.recover` does; what could
        not be settled is logged.
        """
        from fsstate.backends.files import FileBackend

        options = options or StoreOptions()
        place = os.path.abspath(path)  # noqa: PTH100 - a str, links kept
        self._open(FileBackend(path, options), options, place, types)
        if recover:
            self._recover_first()

    @classmethod
    def in_memory(cls, options: StoreOptions | None = None, *, types: Iterable[RecordType[Any]] = ()) -> Self:
        """Return a store without files, for tests: the same API, and gone when it is no longer used."""
        from fsstate.backends.memory import MemoryBackend

        options = options or StoreOptions()
        return cls.over(MemoryBackend(options), options, path=":memory:", types=types)

    @classmethod
    def unchecked(
        cls, path: str | os.PathLike[str], options: StoreOptions | None = None, *, types: Iterable[RecordType[Any]] = ()
    ) -> Self:
        """Open a store whatever its mark says, for `doctor`. Where it cannot be read, or is newer, nothing is written.

        Writes raise then what opening would.
        """
        from fsstate.backends.files import FileBackend

        options = options or StoreOptions()
        backend = FileBackend(path, options, unchecked=True)
        return cls.over(backend, options, path=backend.root, types=types)

    @classmethod
    def over(
        cls,
        backend: Backend,
        options: StoreOptions | None = None,
        *,
        path: str = "",
        types: Iterable[RecordType[Any]] = (),
    ) -> Self:
        """Return a store over a backend of your own, which closing the store closes. `path` is what it is called."""
        store = cls.__new__(cls)
        store._open(backend, options or StoreOptions(), path, types)
        return store

    def _open(self, backend: Backend, options: StoreOptions, path: str, types: Iterable[RecordType[Any]]) -> None:
        self.path = path
        self.options = options
        self.backend = backend
        self._types: dict[tuple[str | None, str], RecordType[Any]] = {}
        self._made: dict[object, Any] = {}
        for kind in types:
            self._declare(kind)

    def __repr__(self) -> str:
        return f"Store({self.path!r})"

    @overload
    def collection(
        self, category: str, *, model: None = None, indexed: Iterable[str] | None = None
    ) -> Collection[Any]: ...

    @overload
    def collection(self, category: str, *, model: type[T], indexed: Iterable[str] | None = None) -> Collection[T]: ...

    def collection(
        self, category: str, *, model: type[T] | None = None, indexed: Iterable[str] | None = None
    ) -> Collection[Any]:
        """Return the JSON documents of a category, which may be nested: `teams/red/agents`.

        With a `model` (dataclass, TypedDict, msgspec.Struct or pydantic model) they are read as that. With `indexed`,
        names of fields, `query`, `page` and `count` may be asked for these fields only, and read only the documents
        that they find; what is kept for that is checked against the files at each question. Raises InvalidNameError
        for a category that cannot be a directory's name.
        """
        if indexed is not None:
            from fsstate.index import IndexedCollection

            return IndexedCollection(self.backend, category, model, self._index, indexed)
        from fsstate.collection import Collection

        return Collection(self.backend, category) if model is None else Collection(self.backend, category, model)

    def markdown(self, category: str) -> Markdown:
        """Return the Markdown documents of a category."""
        from fsstate.markdown import Markdown

        return Markdown(self.backend, category)

    def journal(self, category: str, name: str, *, kinds: Iterable[str] | None = None) -> Journal:
        """Return one log, `<category>/<name>.jsonl`. With `kinds` entries of no other kind are appended."""
        from fsstate.journal import Journal

        return Journal(self.backend, Ref(category, name, LOG), self.options.clock, kinds=kinds)

    @property
    def sessions(self) -> Sessions:
        """The sessions."""
        from fsstate.sessions import Sessions

        return self._part("sessions", lambda: Sessions(self._shared))

    def session(self, id: str) -> SessionHandle:  # noqa: A002 - what the attribute is called
        """Return what belongs to one session: messages, events, tool calls and so on. Reads nothing."""
        from fsstate.session import SessionHandle

        return SessionHandle(self.sessions, self._shared, id)

    @property
    def runs(self) -> Runs:
        """The runs of tasks."""
        from fsstate.runs import Runs

        return self._part("runs", lambda: Runs(self._shared))

    @property
    def audits(self) -> Audits:
        """The audits of changes to files."""
        from fsstate.audits import Audits

        return self._part("audits", lambda: Audits(self._shared))

    @property
    def jobs(self) -> Jobs:
        """The jobs in the background."""
        from fsstate.jobs import Jobs

        return self._part("jobs", lambda: Jobs(self._shared))

    @property
    def workflows(self) -> Workflows:
        """The runs of workflows; `workflow` gives what belongs to one."""
        from fsstate.workflows import Workflows

        return self._part("workflows", lambda: Workflows(self._shared))

    def workflow(self, run_id: str) -> Workflow:
        """Return what belongs to one run of a workflow: branches, leaves, nodes and candidates. Reads nothing."""
        from fsstate.workflows import Workflow

        return Workflow(self.workflows, self._shared, run_id)

    @property
    def sources(self) -> Sources:
        """The directories that are read from, the files that were found there, and the passes over them."""
        from fsstate.sources import Sources

        return self._part("sources", lambda: Sources(self._shared))

    @property
    def settings(self) -> Settings:
        """The settings: values under keys."""
        from fsstate.settings import Settings

        return self._part("settings", lambda: Settings(self._shared))

    @property
    def trash(self) -> Trash:
        """What was pruned, until it is restored or the trash is emptied."""
        from fsstate.trash import Trash

        return self._part("trash", lambda: Trash(self.backend, self.options.clock))

    @property
    def history(self) -> History:
        """What git knows of the records: the commits that changed each, how it was, and the way back."""
        from fsstate.git import History

        return self._part("history", lambda: History(self.backend, self.options.clock, self._parents))

    @property
    def agents(self) -> Records[Agent]:
        """The agents."""
        from fsstate.agents import AGENTS
        from fsstate.records import Records

        return self._part("agents", lambda: Records(self._shared, AGENTS))

    def records(self, kind: RecordType[T]) -> Records[T]:
        """Return the records of a type that you declared. `recover` and `migrate` know the type from then on.

        Raises ValueError for a type whose records belong to sessions: `store.session(id).records(kind)` has those; and
        for one in the category of fsstate's own records.
        """
        from fsstate.records import Records

        self._declare(kind)
        if kind.parent is not None:
            raise ValueError(f"{kind.category} belong to {kind.parent}; use store.session(id).records(…)")
        return self._part(kind, lambda: Records(self._shared, kind))

    def in_flight(self, *types: RecordType[Any]) -> list[InFlight]:
        """Return the records in flight, and whether the stores that hold them are open somewhere. Writes nothing.

        Of these types, or of all: those of fsstate, those that the store was opened with, and those that `records` was
        asked for since.
        """
        from fsstate.recovery import look

        return look(self._folders(_recoverable(self._kinds(types))), self._shared.ownership)

    def recover(self, *types: RecordType[Any]) -> RecoveryReport:
        """Settle the records in flight whose holders are gone, by the rule of their type; tell which.

        A record whose holder is open in any process is left alone. Any number of processes may do so at once: each
        record is judged again under its lock. Of these types, or of all as in `in_flight`.
        """
        from fsstate.recovery import recover

        return recover(self._folders(_recoverable(self._kinds(types))), self._shared.ownership)

    def migrate(
        self, *types: RecordType[Any], dry_run: bool = False, progress: Progress | None = None
    ) -> MigrationReport:
        """Write all records of older versions in the version that their type declares; tell which.

        Each is durable before its old file goes; a run that was cut off is finished by the next. Raises
        NewerVersionError, before anything is written, when there is a record of a newer version. Of these types, or of
        all as in `in_flight`.
        """
        from fsstate.migrator import migrate

        return migrate(self._folders(self._kinds(types)), dry_run=dry_run, progress=progress)

    def search(
        self, query: str, *, in_: str | Iterable[str] | None = None, limit: int | None = 10, offset: int = 0
    ) -> list[SearchHit]:
        """Search messages, notes and documents for words; return the best hits first, each with a snippet.

        `query` is words that must all occur: `red car`, `"a phrase"`, `begin*`, `this OR that`, `-without`. Case and
        diacritics do not matter, and no sign in it is an error. A message, a note or a document is one answer: all
        words must be in it. `in_` is a category, a record, a session (its id will do), or several of these; a log
        other than messages, such as "audit/trail", is searched only if it is named here. A `limit` of None means all.

        What is found is what the files hold now, whoever changed them. The first search reads them all; later ones
        read what changed, with the help of an index below `.fsstate/cache` that may be deleted at any time. Takes no
        lock of a record and writes nothing but that index. What cannot be read is logged as a warning and left out.

        Raises InvalidQueryError when there is no word to search for, InvalidNameError for what `in_` cannot be;
        SearchUnavailableError where this Python's SQLite has no FTS5.
        """
        from fsstate.searcher import Searcher

        return self._part("searcher", lambda: Searcher(self._shared)).search(query, in_, limit, offset)

    def stats(self, *, days: int = 30, largest: int = 10, progress: Progress | None = None) -> StoreStats:
        """Return what the store holds: counts and bytes by category, largest sessions, growth, what is left over.

        `growth` has the last so many `days`, today included, in UTC; 0 spares reading the documents, which tell when
        they were created. `progress` is called with how many of them are read, and how many there are. Writes nothing,
        and waits for nobody; what cannot be looked at is among the `problems`. Raises ValueError for a negative number,
        and for more days than there were.
        """
        from fsstate.digests import Digests
        from fsstate.session_documents import SessionDocuments
        from fsstate.session_view import SessionView
        from fsstate.stats import take_stock

        today = self.options.clock().astimezone(UTC).date()
        found = take_stock(self.backend, self._parents(), today, days=days, largest=largest, progress=progress)
        view = SessionView(self.backend, SessionDocuments(self._shared), Digests(self.backend))
        return found._replace(freshness=self._index.freshness(view))

    def conflicts(self, record: str | None = None) -> list[Conflict]:
        """Return what could not be saved and waits for somebody to decide, the oldest first: all, or of one document.

        `record` is as `agents/planner`, also with its extension. Lists the folders and reads none of the files; a
        folder that cannot be listed is logged as a warning.
        """
        from fsstate.conflicts import conflicts_in, conflicts_of

        return conflicts_in(self.backend) if record is None else conflicts_of(self.backend, record)

    def resolve(self, conflict: Conflict | str, take: object) -> str | None:
        """End a conflict, or the oldest one of a document, and return the document's revision (None: there is none).

        `take` says what the document is to be: "mine", the version that was kept, byte for byte; "theirs", what stands
        in its place, also if a person has merged both there by hand; or any other value, as `put` takes it. (A text of
        Markdown that is one of these words is given as a `Document`.)

        The kept version goes only once the document is durable, under the document's lock. Raises NotFoundError when
        there is no such conflict or the session that the document belongs to is gone, CorruptRecordError for a kept
        version that somebody made unreadable.
        """
        from fsstate.conflicts import oldest_of, resolve

        chosen = oldest_of(self.backend, conflict) if isinstance(conflict, str) else conflict
        return resolve(self.backend, chosen, take, self._parents())

    def snapshot(self, message: str) -> str | None:
        """Commit the store's directory to git as it is now; return the commit's id, or None when nothing changed.

        Only this directory is committed, in the repository that it lies in, on the branch that is checked out. What
        you have staged elsewhere stays staged and out of the commit; what you have staged of the store is replaced by
        what the files hold. Each record is in it whole, as it was at one moment while the snapshot was taken; records
        that others write meanwhile may be of different moments. Takes no lock of a record, and one turn after the other
        where several take snapshots. Runs no hook of `git commit`; signs if `commit.gpgSign` says so.

        Durable at return, with git 2.36 or newer, as far as the store's options say so: objects, branch, and their
        names are flushed. Raises GitError without git, outside of a repository (`fsstate git init` makes one), during a
        merge or a rebase, where git does not know who commits, and for a store in memory; InvalidValueError for an
        empty message; LockTimeoutError when others take snapshots for too long.
        """
        from fsstate.git import take_snapshot

        return take_snapshot(self.backend, message)

    def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> DoctorReport:
        """Look at every file; return what is wrong with it, why that matters, and what can be done.

        Safe while programs write: what they are just doing is no finding. Without `fix` nothing is written but a trial
        of the file system in `.fsstate/staging`, where that is there. With it, what can be mended without loss is: each
        thing durably, in one step or one that the next run finishes, under the lock that writers take. What cannot be
        read by anybody moves to `.fsstate/quarantine`, with a note that says from where and why. Nothing is mended in
        a directory that is not marked as a store, or is of a format that cannot be read. `progress` is called with how
        many files are looked at, and how many there are. Record types that the store knows are checked as such.

        `Store.unchecked` opens a store for this whose mark cannot be read, or is of a newer format.
        """
        from fsstate.doctor import examine

        return examine(self._shared, self._kinds(()), fix=fix, progress=progress)

    def categories(self, below: str = "") -> list[str]:
        """Return the names of the categories directly below one (the top level when empty), sorted."""
        return self.backend.categories(names.check_category(below) if below else "")

    def path_of(self, record: Session | SessionSummary | tuple[str, str]) -> str:
        """Return which file a person finds a record in: a session, or (category, name).

        For a pair it is the JSON document, the Markdown document or the log, the first of these that exists; when none
        does, where the JSON document would be.
        """
        if not isinstance(record, tuple):
            return self.backend.location(Ref("sessions", names.check_segment(record.id), JSON))
        category, name = names.check_category(record[0]), names.check_name(record[1])
        refs = [Ref(category, name, JSON), Ref(category, name, MARKDOWN), Ref(category, name, LOG)]
        there = (ref for ref in refs if name in self.backend.names(category, ref.suffix))
        return self.backend.location(next(there, refs[0]))

    def close(self) -> None:
        """Give back all resources, and let go of the records in flight that this store holds.

        Waits a little for pruning in the background; later calls raise StoreClosedError.
        """
        if "sessions" in self._made:
            self.sessions.close()
        try:
            self.backend.close()
        finally:
            # Behind it: a write of another thread's must find no way to become a holder again.
            if "shared" in self._made:
                self._shared.ownership.close()
                self._close_searches()

    def _close_searches(self) -> None:
        if self._shared.parts:
            from fsstate.searcher import close_searches

            close_searches(self._shared)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _shared(self) -> Shared:
        from fsstate.ownership import Ownership
        from fsstate.projection import Projections
        from fsstate.shared import Shared
        from fsstate.times import RisingTimes

        def make() -> Shared:
            backend, clock, exclude = self.backend, self.options.clock, tuple(self.options.search_exclude)
            projections, ownership, rising = Projections(backend), Ownership(backend), RisingTimes(clock)
            return Shared(backend, clock, projections, ownership, rising, self._index, {}, {}, exclude)

        return self._part("shared", make)

    @property
    def _index(self) -> Index:
        from fsstate.index import Index

        return self._part("index", lambda: Index(self.backend, self.options.indexing))

    def _part(self, name: object, make: Callable[[], P]) -> P:
        """The store's one part of this name. Of two threads that are the first at once, both get the same."""
        found: P | None = self._made.get(name)
        return self._made.setdefault(name, make()) if found is None else found

    def _recover_first(self) -> None:
        try:
            self.recover().log_problems()
        except BaseException:
            self.close()
            raise

    def _declare(self, kind: RecordType[Any]) -> None:
        from fsstate.catalogue import check_declared

        check_declared(kind)
        self._types[kind.parent, kind.category] = kind

    def _kinds(self, types: Sequence[RecordType[Any]]) -> Iterable[RecordType[Any]]:
        from fsstate.catalogue import BUILT_IN

        known = {(kind.parent, kind.category): kind for kind in BUILT_IN} | self._types
        return dict.fromkeys(types or known.values())

    def _parents(self) -> set[str]:
        """The categories whose documents others belong to."""
        return {kind.parent for kind in self._kinds(()) if kind.parent is not None}

    def _folders(self, kinds: Iterable[RecordType[Any]]) -> Iterator[RecordDocuments[Any]]:
        from fsstate.record_places import Places

        for kind in kinds:
            yield from Places(self._shared, kind).all()


def _recoverable(kinds: Iterable[RecordType[Any]]) -> Iterator[RecordType[Any]]:
    return (kind for kind in kinds if kind.recovery is not None)
