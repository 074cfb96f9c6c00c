"""Logs for async code: the same names as the sync ones, awaited. Appends of many tasks share their flushes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from fsstate.aio.offload import Mirror, Offload, iterate, offloaded
from fsstate.backends.base import Appended, Backend, Compose, Ref
from fsstate.journal import Entry, Journal

__all__ = ["AsyncJournal", "append_together"]


async def append_together(
    offload: Offload, backend: Backend, ref: Ref, compose: Compose, *, owner: Ref | None = None
) -> range:
    """Append to a log in the same flush as other tasks that do so now; return the seqs given out."""

    def flush(composes: list[Compose]) -> list[Appended]:
        return backend.append_many(ref, composes, owner=owner)

    # The key holds the owner too: all in a batch are written for the same one.
    return await offload.batcher(("append", ref, owner), flush).submit(compose)


class AsyncJournal(Mirror[Journal]):
    """A log of entries; see `fsstate.Journal` for what each method promises."""

    def __init__(self, journal: Journal, backend: Backend, offload: Offload) -> None:
        super().__init__(journal, offload)
        self._backend = backend

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.sync.path

    async def append(self, /, kind: str, *, at: datetime | str | None = None, **fields: Any) -> int:
        """Append an entry, durably, and return its seq. Appends of many tasks share their flushes."""
        compose, log = self.sync.compose(kind, fields, at=at), self.sync.log
        return (await append_together(self.offload, self._backend, log.ref, compose, owner=log.owner))[0]

    def __aiter__(self) -> AsyncIterator[Entry]:
        return iterate(self.offload, self.sync.__iter__)

    append_many = offloaded(Journal.append_many)
    read = offloaded(Journal.read)
    tail = offloaded(Journal.tail)
    first = offloaded(Journal.first)
    last = offloaded(Journal.last)
    entry = offloaded(Journal.entry)
    first_after = offloaded(Journal.first_after)
    count = offloaded(Journal.count)
    trim = offloaded(Journal.trim)
    plan = offloaded(Journal.plan)
    apply = offloaded(Journal.apply)
    prune = offloaded(Journal.prune)
    problems = offloaded(Journal.problems)
