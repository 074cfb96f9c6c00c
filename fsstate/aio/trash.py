"""The trash for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import Mirror, offloaded
from fsstate.trash import Trash

__all__ = ["AsyncTrash"]


class AsyncTrash(Mirror[Trash]):
    """The trash of a store; see `fsstate.Trash`."""

    list = offloaded(Trash.list)
    restore = offloaded(Trash.restore)
    empty = offloaded(Trash.empty)
