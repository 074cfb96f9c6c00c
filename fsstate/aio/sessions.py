"""Sessions for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar, overload

from fsstate.aio.checkpoints import AsyncCheckpoints
from fsstate.aio.documents import AsyncCollection, AsyncMarkdown
from fsstate.aio.editing import Updater, Work, editing, update
from fsstate.aio.goals import AsyncSessionGoal
from fsstate.aio.journal import AsyncJournal
from fsstate.aio.messages import AsyncMessages
from fsstate.aio.offload import Mirror, Offload, offloaded
from fsstate.aio.prunable import AsyncPrunable
from fsstate.aio.records import AsyncItemSet, AsyncRecords, AsyncSingle
from fsstate.backends.base import Backend
from fsstate.document_changes import Editing
from fsstate.dynamic_tools import Tool
from fsstate.lazy import lazy_property
from fsstate.record_types import RecordType
from fsstate.retention import PrunePolicy
from fsstate.session import SessionHandle
from fsstate.session_config import SessionConfig
from fsstate.session_scope import SessionScope
from fsstate.sessions import OwnedSessions, Session, Sessions
from fsstate.steps import Steps
from fsstate.tool_calls import ToolCalls

__all__ = ["AsyncOwnedSessions", "AsyncSessionHandle", "AsyncSessions", "AsyncSteps", "AsyncToolCalls"]

T = TypeVar("T")
Scope_co = TypeVar("Scope_co", bound=SessionScope, covariant=True)


class AsyncSessionScope(AsyncPrunable[Scope_co]):
    """What can be done with sessions: all of a store, or those of one owner."""

    def __init__(self, sessions: Scope_co, offload: Offload, timeout: float) -> None:
        super().__init__(sessions, offload)
        self._timeout = timeout

    async def update(self, id: str, fn: Updater[Session], *, timeout: float | None = None) -> Session:  # noqa: A002
        """Read, change and save a session under its lock; return it as saved.

        An async `fn` runs in the event loop while the lock is held, a plain one in a worker thread.
        """

        def plain(change: Callable[[Session], Session | None], wait: float) -> Session:
            return self.sync.update(id, change, timeout=wait)

        session = await update(self._work(id, timeout), fn, plain)
        self.sync.saved()
        return session

    @asynccontextmanager
    async def edit(self, id: str, *, timeout: float | None = None) -> AsyncGenerator[Session]:  # noqa: A002
        """Give a session to an `async with` block that changes it in place, under its lock, and save it at the end."""
        async with editing(self._work(id, timeout)) as edit:
            yield edit.value
        self.sync.saved()

    async def __aiter__(self) -> AsyncIterator[str]:
        for name in await self.ids():
            yield name

    def path_of(self, id: str) -> str:  # noqa: A002
        """Return where a person finds the session's document, whether it exists or not."""
        return self.sync.path_of(id)

    def _work(self, name: str, timeout: float | None) -> Work:
        def open_edit(wait: float) -> Editing[Session]:
            return self.sync.open_edit(name, timeout=wait)

        return Work(self.offload, self.sync.ref_of(name), self._timeout if timeout is None else timeout, open_edit)

    create = offloaded(SessionScope.create)
    get = offloaded(SessionScope.get)
    require = offloaded(SessionScope.require)
    get_or_create = offloaded(SessionScope.get_or_create)
    delete = offloaded(SessionScope.delete)
    contains = offloaded(SessionScope.contains)
    archive = offloaded(SessionScope.archive)
    unarchive = offloaded(SessionScope.unarchive)
    end = offloaded(SessionScope.end)
    move = offloaded(SessionScope.move)
    set_memory_mode = offloaded(SessionScope.set_memory_mode)
    set_label = offloaded(SessionScope.set_label)
    fork = offloaded(SessionScope.fork)
    ids = offloaded(SessionScope.ids)
    count = offloaded(SessionScope.count)
    all = offloaded(SessionScope.all)
    list = offloaded(SessionScope.list)
    page = offloaded(SessionScope.page)
    summary = offloaded(SessionScope.summary)
    find = offloaded(SessionScope.find)
    titles = offloaded(SessionScope.titles)
    find_title = offloaded(SessionScope.find_title)
    pin = offloaded(SessionScope.pin)
    unpin = offloaded(SessionScope.unpin)


class AsyncOwnedSessions(AsyncSessionScope[OwnedSessions]):
    """The sessions of one user; see `fsstate.OwnedSessions`."""

    @property
    def user_id(self) -> str:
        """Whose sessions they are."""
        return self.sync.user_id

    check = offloaded(OwnedSessions.check)
    search = offloaded(OwnedSessions.search)


class AsyncSessions(AsyncSessionScope[Sessions]):
    """The sessions of a store; see `fsstate.Sessions` for what each method promises."""

    def owned_by(self, user_id: str) -> AsyncOwnedSessions:
        """Return the sessions of one user, with which those of all others do not exist. Reads nothing."""
        return AsyncOwnedSessions(self.sync.owned_by(user_id), self.offload, self._timeout)

    def auto_prune(self, policy: PrunePolicy | None, *, cooldown: timedelta = timedelta(hours=1)) -> None:
        """From now on, after a session was saved, prune in the background: at most once per `cooldown`."""
        self.sync.auto_prune(policy, cooldown=cooldown)

    problems = offloaded(Sessions.problems)


class AsyncToolCalls(Mirror[ToolCalls]):
    """The tool calls of one session; see `fsstate.ToolCalls`."""

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.sync.path

    create = offloaded(ToolCalls.create)
    extend = offloaded(ToolCalls.extend)
    approve = offloaded(ToolCalls.approve)
    deny = offloaded(ToolCalls.deny)
    start = offloaded(ToolCalls.start)
    complete = offloaded(ToolCalls.complete)
    fail = offloaded(ToolCalls.fail)
    update = offloaded(ToolCalls.update)
    get = offloaded(ToolCalls.get)
    require = offloaded(ToolCalls.require)
    list = offloaded(ToolCalls.list)
    pending = offloaded(ToolCalls.pending)
    count = offloaded(ToolCalls.count)
    problems = offloaded(ToolCalls.problems)


class AsyncSteps(Mirror[Steps]):
    """The steps of one session; see `fsstate.Steps`."""

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.sync.path

    append = offloaded(Steps.append)
    extend = offloaded(Steps.extend)
    list = offloaded(Steps.list)
    slice = offloaded(Steps.slice)
    tail = offloaded(Steps.tail)
    count = offloaded(Steps.count)
    problems = offloaded(Steps.problems)


class AsyncSessionHandle(Mirror[SessionHandle]):
    """What belongs to one session; see `fsstate.SessionHandle`."""

    def __init__(self, handle: SessionHandle, backend: Backend, offload: Offload, timeout: float) -> None:
        super().__init__(handle, offload)
        self._backend = backend
        self._timeout = timeout

    @property
    def id(self) -> str:
        """The session's id."""
        return self.sync.id

    @property
    def path(self) -> str:
        """Where a person finds the session's document."""
        return self.sync.path

    document = offloaded(SessionHandle.document)
    exists = offloaded(SessionHandle.exists)

    @lazy_property
    def messages(self) -> AsyncMessages:
        """The conversation."""
        return AsyncMessages(self.sync.messages, self._backend, self.offload)

    @lazy_property
    def tool_calls(self) -> AsyncToolCalls:
        """The tool calls and what came of them."""
        return AsyncToolCalls(self.sync.tool_calls, self.offload)

    @lazy_property
    def steps(self) -> AsyncSteps:
        """The steps that were taken."""
        return AsyncSteps(self.sync.steps, self.offload)

    @lazy_property
    def events(self) -> AsyncJournal:
        """The session's own journal of events."""
        return AsyncJournal(self.sync.events, self._backend, self.offload)

    @lazy_property
    def checkpoints(self) -> AsyncCheckpoints:
        """Named states to go on from."""
        return AsyncCheckpoints(self.sync.checkpoints, self.offload, self._timeout)

    @lazy_property
    def goal(self) -> AsyncSessionGoal:
        """What the session is to achieve."""
        return AsyncSessionGoal(self.sync.goal, self.offload, self._timeout)

    @lazy_property
    def tools(self) -> AsyncItemSet[Tool]:
        """The tools that it has besides those of its program, replaced as one ordered set."""
        return AsyncItemSet(self.sync.tools, self.offload)

    @lazy_property
    def config(self) -> AsyncSingle[SessionConfig]:
        """What it was set up with: where it works, its tools, and which of them need approval."""
        return AsyncSingle(self.sync.config, self.offload, self._timeout)

    @overload
    def collection(self, name: str | None = None, *, model: None = None) -> AsyncCollection[Any]: ...

    @overload
    def collection(self, name: str | None = None, *, model: type[T]) -> AsyncCollection[T]: ...

    def collection(self, name: str | None = None, *, model: type[T] | None = None) -> AsyncCollection[Any]:
        """Return JSON documents that belong to the session."""
        documents = self.sync.collection(name) if model is None else self.sync.collection(name, model=model)
        return AsyncCollection(documents, self._backend, self.offload, self._timeout)

    def markdown(self, name: str | None = None) -> AsyncMarkdown:
        """Return Markdown documents that belong to the session."""
        return AsyncMarkdown(self.sync.markdown(name), self._backend, self.offload, self._timeout)

    def records(self, kind: RecordType[T]) -> AsyncRecords[T]:
        """Return the session's records of a type that you declared with `parent="sessions"`."""
        return AsyncRecords(self.sync.records(kind), self.offload, self._timeout)

    def journal(self, name: str, *, kinds: Iterable[str] | None = None) -> AsyncJournal:
        """Return a journal that belongs to the session. With `kinds` entries of no other kind are appended."""
        return AsyncJournal(self.sync.journal(name, kinds=kinds), self._backend, self.offload)
