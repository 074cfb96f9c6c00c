"""Records, single documents and sets of items for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeAlias, TypeVar

from fsstate.aio.editing import Updater, Work, editing, update
from fsstate.aio.offload import Mirror, Offload
from fsstate.aio.prunable import AsyncPrunable
from fsstate.document_changes import Problem
from fsstate.migrator import MigrationReport, Progress
from fsstate.queries import MISSING, Missing, Page
from fsstate.record_types import RecordType
from fsstate.records import Records
from fsstate.recovery import InFlight, RecoveryReport
from fsstate.single import ItemSet, Single

__all__ = ["AsyncItemSet", "AsyncRecords", "AsyncSingle"]

T = TypeVar("T")

# The classes have a method called `list`.
Listing: TypeAlias = list[T]
Names: TypeAlias = list[str]
Flights: TypeAlias = list[InFlight]
Problems: TypeAlias = list[Problem]


class AsyncRecords(AsyncPrunable[Records[T]], Generic[T]):
    """The records of one type; see `fsstate.Records` for what each method promises."""

    def __init__(self, records: Records[T], offload: Offload, timeout: float) -> None:
        super().__init__(records, offload)
        self._timeout = timeout

    @property
    def kind(self) -> RecordType[T]:
        """The type."""
        return self.sync.kind

    # One record

    async def create(self, id: str | None = None, /, **fields: Any) -> T:  # noqa: A002 - what the attribute is called
        """Create a record and return it as it was stored. Without an `id` it gets a new UUIDv7."""
        return await self.offload.run(self.sync.create, id, **fields)

    async def add(self, value: T) -> T:
        """Create a record from a whole value, which must have its key."""
        return await self.offload.run(self.sync.add, value)

    async def put(self, value: T) -> T:
        """Save a record, whether it exists or not, and return it as it was stored."""
        return await self.offload.run(self.sync.put, value)

    async def get(self, id: str, *, within: str | Missing | None = MISSING) -> T | None:  # noqa: A002
        """Return a record, or None."""
        return await self.offload.run(self.sync.get, id, within=within)

    async def require(self, id: str, *, within: str | Missing | None = MISSING) -> T:  # noqa: A002
        """Return a record. Raises NotFoundError when there is none."""
        return await self.offload.run(self.sync.require, id, within=within)

    async def contains(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Return whether there is such a record, readable or not."""
        return await self.offload.run(self.sync.contains, id, within=within)

    async def change(self, id: str, /, *, within: str | Missing | None = MISSING, **fields: Any) -> T:  # noqa: A002
        """Lay fields over a record and return it as it is then. A `status` among them is a step."""
        return await self.offload.run(self.sync.change, id, within=within, **fields)

    async def update(
        self,
        id: str,  # noqa: A002
        fn: Updater[T],
        *,
        within: str | Missing | None = MISSING,
        timeout: float | None = None,
    ) -> T:
        """Read, change and save a record under its lock; return it as saved.

        An async `fn` runs in the event loop while the lock is held, a plain one in a worker thread.
        """

        def plain(change: Callable[[T], T | None], wait: float) -> T:
            return self.sync.update(id, change, within=within, timeout=wait)

        return await update(await self._work(id, within, timeout), fn, plain)

    @asynccontextmanager
    async def edit(
        self,
        id: str,  # noqa: A002
        *,
        within: str | Missing | None = MISSING,
        timeout: float | None = None,
    ) -> AsyncGenerator[T]:
        """Give a record to an `async with` block that changes it in place, under its lock, and save it at the end."""
        async with editing(await self._work(id, within, timeout)) as edit:
            yield edit.value

    async def delete(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Delete a record; return whether there was one."""
        return await self.offload.run(self.sync.delete, id, within=within)

    async def path_of(self, id: str, *, within: str | Missing | None = MISSING) -> str:  # noqa: A002
        """Return where a person finds a record, or where it would be."""
        return await self.offload.run(self.sync.path_of, id, within=within)

    # Many records

    async def list(
        self, *, order_by: str | None = None, limit: int | None = None, offset: int = 0, **where: Any
    ) -> Listing[T]:
        """Return the records that have what `where` says, in the type's usual order or another."""
        return await self.offload.run(self.sync.list, order_by=order_by, limit=limit, offset=offset, **where)

    async def page(
        self, *, order_by: str | None = None, limit: int | None = 50, after: str | None = None, **where: Any
    ) -> Page[T]:
        """Return a page of what `list` gives, and the cursor of the next page, to be given as `after`."""
        return await self.offload.run(self.sync.page, order_by=order_by, limit=limit, after=after, **where)

    async def first(self, *, order_by: str | None = None, **where: Any) -> T | None:
        """Return the first record that `list` would, or None."""
        return await self.offload.run(self.sync.first, order_by=order_by, **where)

    async def count(self, **where: Any) -> int:
        """Return the number of records, or of those that have what `where` says, as in `list`."""
        return await self.offload.run(self.sync.count, **where)

    async def ids(self) -> Names:
        """Return the ids of all records, sorted."""
        return await self.offload.run(self.sync.ids)

    async def __aiter__(self) -> AsyncIterator[str]:
        for name in await self.ids():
            yield name

    async def problems(self) -> Problems:
        """Return what is wrong with the records that cannot be read. Reads them all."""
        return await self.offload.run(self.sync.problems)

    async def in_flight(self) -> Flights:
        """Return the records that somebody works on, or did, and whether they live. Writes nothing."""
        return await self.offload.run(self.sync.in_flight)

    async def recover(self) -> RecoveryReport:
        """Settle the records in flight whose holders are gone, by the type's rule; tell which."""
        return await self.offload.run(self.sync.recover)

    async def migrate(self, *, dry_run: bool = False, progress: Progress | None = None) -> MigrationReport:
        """Write all records of older versions in the present one; tell which."""
        return await self.offload.run(self.sync.migrate, dry_run=dry_run, progress=progress)

    # Inside

    async def _work(self, name: str, within: str | Missing | None, timeout: float | None) -> Work:
        def open_edit(wait: float) -> Any:
            return self.sync.open_edit(name, within=within, timeout=wait)

        ref = await self.offload.run(self.sync.ref_of, name, within=within)
        return Work(self.offload, ref, self._timeout if timeout is None else timeout, open_edit)


class AsyncSingle(Mirror[Single[T]], Generic[T]):
    """One typed document at a fixed place; see `fsstate.Single` for what each method promises."""

    def __init__(self, single: Single[T], offload: Offload, timeout: float) -> None:
        super().__init__(single, offload)
        self._timeout = timeout

    @property
    def path(self) -> str:
        """Where a person finds the document, whether it exists or not."""
        return self.sync.path

    async def get(self) -> T | None:
        """Return it, or None when there is none."""
        return await self.offload.run(self.sync.get)

    async def require(self) -> T:
        """Return it. Raises NotFoundError when there is none."""
        return await self.offload.run(self.sync.require)

    async def exists(self) -> bool:
        """Return whether there is one, readable or not."""
        return await self.offload.run(self.sync.exists)

    async def put(self, value: T) -> T:
        """Save it, whether it exists or not, and return it as stored."""
        return await self.offload.run(self.sync.put, value)

    async def update(self, fn: Updater[T], *, default: T | Missing = MISSING, timeout: float | None = None) -> T:
        """Read, change and save it under its lock; return it as saved."""

        def plain(change: Callable[[T], T | None], wait: float) -> T:
            return self.sync.update(change, default=default, timeout=wait)

        return await update(self._work(default, timeout), fn, plain)

    async def change(self, **fields: Any) -> T:
        """Lay fields over it, and return it as it is then."""
        return await self.offload.run(self.sync.change, **fields)

    @asynccontextmanager
    async def edit(self, *, default: T | Missing = MISSING, timeout: float | None = None) -> AsyncGenerator[T]:
        """Give it to an `async with` block that changes it in place, under its lock, and save it at the end."""
        async with editing(self._work(default, timeout)) as edit:
            yield edit.value

    async def delete(self) -> bool:
        """Delete it; return whether there was one."""
        return await self.offload.run(self.sync.delete)

    def _work(self, default: T | Missing, timeout: float | None) -> Work:
        def open_edit(wait: float) -> Any:
            return self.sync.open_edit(default=default, timeout=wait)

        return Work(self.offload, self.sync.ref_of(), self._timeout if timeout is None else timeout, open_edit)


class AsyncItemSet(Mirror[ItemSet[T]], Generic[T]):
    """Items that are replaced as one; see `fsstate.ItemSet` for what each method promises."""

    @property
    def path(self) -> str:
        """Where a person finds the document, whether it exists or not."""
        return self.sync.path

    async def replace(self, items: Iterable[T]) -> int:
        """Make these the items, in this order, in the place of all that there were; return how many there are."""
        return await self.offload.run(self.sync.replace, items)

    async def list(self, **where: Any) -> Listing[T]:
        """Return the items in their order: all, or those that have what `where` says in their declared fields."""
        return await self.offload.run(self.sync.list, **where)

    async def get(self, key: str) -> T | None:
        """Return the item with this key, or None."""
        return await self.offload.run(self.sync.get, key)

    async def count(self, **where: Any) -> int:
        """Return the number of items, or of those that have what `where` says."""
        return await self.offload.run(self.sync.count, **where)

    async def clear(self) -> int:
        """Remove all items; return how many there were."""
        return await self.offload.run(self.sync.clear)
