"""Collections and Markdown for async code: the same names as the sync ones, awaited.

- A document that was read before and has not changed since is served without leaving the event loop.
- Puts of many tasks at one moment share their flushes.
- Tasks that want the same record queue in the event loop, before any thread is taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

from fsstate.aio.editing import Updater, Work, editing, update
from fsstate.aio.offload import Offload, iterate
from fsstate.aio.prunable import AsyncPrunable
from fsstate.backends.base import Backend, Blob, Change, Outcome, Ref, Unknown
from fsstate.document_changes import Editing, Problem
from fsstate.documents import Documents, Item, Record, Where
from fsstate.errors import LockTimeoutError
from fsstate.frontmatter import Document
from fsstate.queries import MISSING, Missing, Page

__all__ = ["AsyncCollection", "AsyncDocuments", "AsyncMarkdown"]

T = TypeVar("T")
P = TypeVar("P")


class AsyncDocuments(AsyncPrunable[Documents[T, P]], Generic[T, P]):
    """A category of documents; see `fsstate.documents.Documents` for what each method promises."""

    def __init__(self, documents: Documents[T, P], backend: Backend, offload: Offload, timeout: float) -> None:
        super().__init__(documents, offload)
        self._backend = backend
        self._timeout = timeout

    @property
    def category(self) -> str:
        """The category's name."""
        return self.sync.category

    # Reading

    async def get(self, name: str) -> T | None:
        """Return the document, or None when there is none."""
        known = self.sync.peek(name)
        if not isinstance(known, Unknown):
            return known
        return await self.offload.run(self.sync.get, name)

    async def require(self, name: str) -> T:
        """Return the document. Raises NotFoundError when there is none."""
        return await self.offload.run(self.sync.require, name)

    async def record(self, name: str) -> Record[T] | None:
        """Return the document with its revision, or None when there is none."""
        return await self.offload.run(self.sync.record, name)

    async def revision(self, name: str) -> str | None:
        """Return what `expect=` compares."""
        return await self.offload.run(self.sync.revision, name)

    def peek(self, name: str) -> T | Unknown | None:
        """Return what `get` would, if that is known without waiting for a disk; else an `Unknown`."""
        return self.sync.peek(name)

    async def contains(self, name: str) -> bool:
        """Return whether there is such a document, readable or not."""
        return await self.offload.run(self.sync.contains, name)

    async def names(self) -> list[str]:
        """Return the names of all documents, sorted."""
        return await self.offload.run(self.sync.names)

    async def __aiter__(self) -> AsyncIterator[str]:
        for name in await self.names():
            yield name

    async def count(self, where: Where[T] = None) -> int:
        """Return the number of documents, readable or not; or of those that fit `where`, as in `query`."""
        return await self.offload.run(self.sync.count, where)

    def items(self) -> AsyncIterator[Item[T]]:
        """Iterate over all documents by name. What cannot be read is logged as a warning and skipped."""
        return iterate(self.offload, self.sync.items)

    async def problems(self) -> list[Problem]:
        """Return what is wrong with the documents that cannot be read. Reads them all."""
        return await self.offload.run(self.sync.problems)

    async def query(
        self,
        where: Where[T] = None,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Item[T]]:
        """Return the documents that fit `where`, ordered and cut to a page."""
        return await self.offload.run(self.sync.query, where, order_by=order_by, limit=limit, offset=offset)

    async def page(
        self,
        where: Where[T] = None,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = 50,
        after: str | None = None,
    ) -> Page[Item[T]]:
        """Return a page of what `query` gives, and the cursor of the next page, to be given as `after`."""
        return await self.offload.run(self.sync.page, where, order_by=order_by, limit=limit, after=after)

    def path_of(self, name: str) -> str:
        """Return where a person finds the document, whether it exists or not."""
        return self.sync.path_of(name)

    # Writing: durable when it returns

    async def put(self, name: str, value: T | P, *, expect: str | None = None, merge: bool = False) -> str:
        """Save the document, whether it exists or not, and return its new revision."""
        return self._revision(await self._change(*self.sync.put_change(name, value, expect=expect, merge=merge)))

    async def create(self, name: str, value: T | P) -> str:
        """Save a new document and return its revision. Raises AlreadyExistsError when there is one."""
        return self._revision(await self._change(*self.sync.create_change(name, value)))

    async def update(
        self, name: str, fn: Updater[T], *, default: T | P | Missing = MISSING, timeout: float | None = None
    ) -> T:
        """Read, change and save the document under its lock; return it as saved.

        An async `fn` runs in the event loop while the lock is held; a plain one runs in a worker thread. Either runs
        again when somebody without the lock changed the file meanwhile.
        """

        def plain(change: Callable[[T], T | None], wait: float) -> T:
            return self.sync.update(name, change, default=default, timeout=wait)

        return await update(self._work(name, default, timeout), fn, plain)

    @asynccontextmanager
    async def edit(
        self, name: str, *, default: T | P | Missing = MISSING, timeout: float | None = None
    ) -> AsyncGenerator[T]:
        """Give the value to an `async with` block that changes it in place, under the record's lock, and save it."""
        async with editing(self._work(name, default, timeout)) as edit:
            yield edit.value

    async def delete(self, name: str, *, expect: str | None = None) -> bool:
        """Delete the document; return whether there was one. `expect` is as in `put`."""
        async with self.offload.turn(self._ref(name), self._timeout):
            return await self.offload.run(self.sync.delete, name, expect=expect)

    async def put_many(self, values: Mapping[str, T | P]) -> dict[str, str]:
        """Save many documents, sharing the flushes; return their revisions."""
        return await self.offload.run(self.sync.put_many, values)

    async def delete_many(self, names: Iterable[str]) -> int:
        """Delete many documents, sharing the flushes; return how many there were."""
        return await self.offload.run(self.sync.delete_many, names)

    # Inside

    def _work(self, name: str, default: T | P | Missing, timeout: float | None) -> Work:
        def open_edit(wait: float) -> Editing[T]:
            return self.sync.open_edit(name, default=default, timeout=wait)

        return Work(self.offload, self._ref(name), self._timeout if timeout is None else timeout, open_edit)

    def _revision(self, blob: Blob | None) -> str:
        assert blob is not None, "a put leaves a document"
        return self.sync.handed_out(blob)

    def _ref(self, name: str) -> Ref:
        return self.sync.ref_of(name)

    async def _change(self, ref: Ref, change: Change) -> Blob | None:
        owner = self.sync.owner
        async with self.offload.turn(ref, self._timeout):
            if owner is None:
                batcher = self.offload.batcher("changes", self._flush)
                with suppress(LockTimeoutError):
                    return await batcher.submit((ref, change))

            # Another process has the record: wait for it alone, not with everybody in the batch.
            def alone(wait: float) -> Blob | None:
                return self._backend.change(ref, change, owner=owner, timeout=wait)

            return await self.offload.acquire_locking(alone, ref, self._timeout)

    def _flush(self, changes: list[tuple[Ref, Change]]) -> list[Outcome]:
        return self._backend.change_many(changes, timeout=0)


class AsyncCollection(AsyncDocuments[T, T], Generic[T]):
    """JSON documents in a category: as dicts, or typed. See `fsstate.Collection`."""


class AsyncMarkdown(AsyncDocuments[Document, str]):
    """Markdown documents in a category. See `fsstate.Markdown`."""
