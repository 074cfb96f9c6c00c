"""A session's checkpoints for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from typing import Any, TypeAlias

from fsstate.aio.offload import offloaded
from fsstate.aio.records import AsyncRecords
from fsstate.checkpoints import Checkpoint, Checkpoints

__all__ = ["AsyncCheckpoints"]

# The class has a method called `list`.
Listing: TypeAlias = list[Checkpoint]


class AsyncCheckpoints(AsyncRecords[Checkpoint]):
    """The checkpoints of one session; see `fsstate.Checkpoints`."""

    async def list(
        self, *, order_by: str | None = None, limit: int | None = 100, offset: int = 0, **where: Any
    ) -> Listing:
        """Return the checkpoints, the latest first. At most 100 unless `limit` says otherwise; None means all."""
        return await super().list(order_by=order_by, limit=limit, offset=offset, **where)

    save = offloaded(Checkpoints.save)
    load = offloaded(Checkpoints.load)
    names = offloaded(Checkpoints.names)
