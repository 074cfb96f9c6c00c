"""A store for async code, on asyncio and trio."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from fsstate.aio.documents import AsyncCollection, AsyncMarkdown
from fsstate.aio.history import AsyncHistory
from fsstate.aio.journal import AsyncJournal
from fsstate.aio.offload import Offload
from fsstate.aio.records import AsyncRecords
from fsstate.aio.sessions import AsyncSessionHandle, AsyncSessions
from fsstate.aio.settings import AsyncSettings
from fsstate.aio.sources import AsyncSources
from fsstate.aio.tasks import AsyncAudits, AsyncJobs, AsyncRuns
from fsstate.aio.trash import AsyncTrash
from fsstate.aio.workflows import AsyncWorkflow, AsyncWorkflows
from fsstate.lazy import lazy_property
from fsstate.options import StoreOptions
from fsstate.store import Store

if TYPE_CHECKING:
    from fsstate.agents import Agent
    from fsstate.collection import Collection
    from fsstate.conflicts import Conflict
    from fsstate.doctor import DoctorReport
    from fsstate.migrator import MigrationReport, Progress
    from fsstate.record_types import RecordType
    from fsstate.recovery import InFlight, RecoveryReport
    from fsstate.search import SearchHit
    from fsstate.sessions import Session, SessionSummary
    from fsstate.stats import StoreStats

__all__ = ["AsyncStore"]

T = TypeVar("T")


class AsyncStore:
    """The same as `fsstate.Store`, awaited: an async context manager, for any number of tasks and event loops.

    Blocking work runs in worker threads, at most 16 at once for each event loop. Tasks that want the same record queue
    in the event loop; writes of many tasks at one moment share their flushes. Cancelling a task never leaves a lock
    held or a write half done: a write that began is finished before the cancellation goes on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: StoreOptions | None = None,
        *,
        types: Iterable[RecordType[Any]] = (),
        recover: bool = False,
    ) -> None:
        """Open a store. With `recover`, entering its `async with` block settles what was in flight first."""
        self._mirror(Store(path, options, types=types))
        self._recovers = recover

    @classmethod
    def in_memory(cls, options: StoreOptions | None = None, *, types: Iterable[RecordType[Any]] = ()) -> Self:
        """Return a store without files, for tests: the same API, and gone when it is no longer used."""
        return cls.of(Store.in_memory(options, types=types))

    @classmethod
    def unchecked(
        cls, path: str | os.PathLike[str], options: StoreOptions | None = None, *, types: Iterable[RecordType[Any]] = ()
    ) -> Self:
        """Open a store whatever its mark says, for `doctor`. Where that cannot be read, nothing is written."""
        return cls.of(Store.unchecked(path, options, types=types))

    @classmethod
    def of(cls, sync: Store) -> Self:
        """Return the async side of an open store. Closing either closes both."""
        store = cls.__new__(cls)
        store._mirror(sync)
        return store

    def _mirror(self, sync: Store) -> None:
        self.sync = sync
        self.offload = Offload()
        self._timeout = sync.options.lock_timeout
        self._recovers = False

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"

    @property
    def path(self) -> str:
        """The store's directory."""
        return self.sync.path

    @property
    def options(self) -> StoreOptions:
        """The options that it was opened with."""
        return self.sync.options

    @overload
    def collection(
        self, category: str, *, model: None = None, indexed: Iterable[str] | None = None
    ) -> AsyncCollection[Any]: ...

    @overload
    def collection(
        self, category: str, *, model: type[T], indexed: Iterable[str] | None = None
    ) -> AsyncCollection[T]: ...

    def collection(
        self, category: str, *, model: type[T] | None = None, indexed: Iterable[str] | None = None
    ) -> AsyncCollection[Any]:
        """Return the JSON documents of a category, read as `model` if one is given. `indexed` is as in `Store`."""
        given = {} if model is None else {"model": model}
        documents: Collection[Any] = self.sync.collection(category, indexed=indexed, **given)
        return AsyncCollection(documents, self.sync.backend, self.offload, self._timeout)

    def markdown(self, category: str) -> AsyncMarkdown:
        """Return the Markdown documents of a category."""
        return AsyncMarkdown(self.sync.markdown(category), self.sync.backend, self.offload, self._timeout)

    def journal(self, category: str, name: str, *, kinds: Iterable[str] | None = None) -> AsyncJournal:
        """Return one log, `<category>/<name>.jsonl`. With `kinds` entries of no other kind are appended."""
        return AsyncJournal(self.sync.journal(category, name, kinds=kinds), self.sync.backend, self.offload)

    @lazy_property
    def sessions(self) -> AsyncSessions:
        """The sessions."""
        return AsyncSessions(self.sync.sessions, self.offload, self._timeout)

    def session(self, id: str) -> AsyncSessionHandle:  # noqa: A002 - what the attribute is called
        """Return what belongs to one session: messages, events, tool calls and so on. Reads nothing."""
        return AsyncSessionHandle(self.sync.session(id), self.sync.backend, self.offload, self._timeout)

    @lazy_property
    def runs(self) -> AsyncRuns:
        """The runs of tasks."""
        return AsyncRuns(self.sync.runs, self.offload, self._timeout)

    @lazy_property
    def audits(self) -> AsyncAudits:
        """The audits of changes to files."""
        return AsyncAudits(self.sync.audits, self.offload, self._timeout)

    @lazy_property
    def jobs(self) -> AsyncJobs:
        """The jobs in the background."""
        return AsyncJobs(self.sync.jobs, self.offload, self._timeout)

    @lazy_property
    def workflows(self) -> AsyncWorkflows:
        """The runs of workflows; `workflow` gives what belongs to one."""
        return AsyncWorkflows(self.sync.workflows, self.offload, self._timeout)

    def workflow(self, run_id: str) -> AsyncWorkflow:
        """Return what belongs to one run of a workflow: branches, leaves, nodes and candidates. Reads nothing."""
        return AsyncWorkflow(self.sync.workflow(run_id), self.offload, self._timeout)

    @lazy_property
    def sources(self) -> AsyncSources:
        """The directories that are read from, the files that were found there, and the passes over them."""
        return AsyncSources(self.sync.sources, self.offload, self._timeout)

    @lazy_property
    def settings(self) -> AsyncSettings:
        """The settings: values under keys."""
        return AsyncSettings(self.sync.settings, self.offload)

    @lazy_property
    def trash(self) -> AsyncTrash:
        """What was pruned, until it is restored or the trash is emptied."""
        return AsyncTrash(self.sync.trash, self.offload)

    @lazy_property
    def history(self) -> AsyncHistory:
        """What git knows of the records: the commits that changed each, how it was, and the way back."""
        return AsyncHistory(self.sync.history, self.offload)

    @lazy_property
    def agents(self) -> AsyncRecords[Agent]:
        """The agents."""
        return AsyncRecords(self.sync.agents, self.offload, self._timeout)

    def records(self, kind: RecordType[T]) -> AsyncRecords[T]:
        """Return the records of a type that you declared. `recover` and `migrate` know the type from then on."""
        return AsyncRecords(self.sync.records(kind), self.offload, self._timeout)

    async def in_flight(self, *types: RecordType[Any]) -> list[InFlight]:
        """Return the records in flight, and whether the stores that hold them are open somewhere. Writes nothing."""
        return await self.offload.run(self.sync.in_flight, *types)

    async def recover(self, *types: RecordType[Any]) -> RecoveryReport:
        """Settle the records in flight whose holders are gone, by the rule of their type; tell which."""
        return await self.offload.run(self.sync.recover, *types)

    async def migrate(
        self, *types: RecordType[Any], dry_run: bool = False, progress: Progress | None = None
    ) -> MigrationReport:
        """Write all records of older versions in the version that their type declares; tell which."""
        return await self.offload.run(self.sync.migrate, *types, dry_run=dry_run, progress=progress)

    async def search(
        self, query: str, *, in_: str | Iterable[str] | None = None, limit: int | None = 10, offset: int = 0
    ) -> list[SearchHit]:
        """Search messages, notes and documents for words; return the best hits first, each with a snippet."""
        return await self.offload.run(self.sync.search, query, in_=in_, limit=limit, offset=offset)

    async def stats(self, *, days: int = 30, largest: int = 10, progress: Progress | None = None) -> StoreStats:
        """Return what the store holds: counts and bytes by category, largest sessions, growth, what is left over."""
        return await self.offload.run(self.sync.stats, days=days, largest=largest, progress=progress)

    async def conflicts(self, record: str | None = None) -> list[Conflict]:
        """Return what could not be saved and waits for somebody to decide, the oldest first."""
        return await self.offload.run(self.sync.conflicts, record)

    async def resolve(self, conflict: Conflict | str, take: object) -> str | None:
        """End a conflict, or the oldest one of a document, and return the document's revision (None: there is none)."""
        return await self.offload.run(self.sync.resolve, conflict, take)

    async def snapshot(self, message: str) -> str | None:
        """Commit the store's directory to git as it is now; return the commit's id, or None when nothing changed."""
        return await self.offload.run(self.sync.snapshot, message)

    async def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> DoctorReport:
        """Look at every file; return what is wrong with it, why that matters, and what can be done."""
        return await self.offload.run(self.sync.doctor, fix=fix, progress=progress)

    async def categories(self, below: str = "") -> list[str]:
        """Return the names of the categories directly below one (the top level when empty), sorted."""
        return await self.offload.run(self.sync.categories, below)

    async def path_of(self, record: Session | SessionSummary | tuple[str, str]) -> str:
        """Return which file a person finds a record in: a session, or (category, name)."""
        return await self.offload.run(self.sync.path_of, record)

    async def close(self) -> None:
        """Give back all resources. Waits a little for pruning in the background; later calls raise StoreClosedError."""
        await self.offload.finish(self.sync.close)

    async def __aenter__(self) -> Self:
        if self._recovers:
            await self._recover_first()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _recover_first(self) -> None:
        try:
            (await self.recover()).log_problems()
        except BaseException:
            # Nobody leaves a block that was not entered.
            await self.close()
            raise
