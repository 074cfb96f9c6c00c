"""The history of records for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import Mirror, offloaded
from fsstate.git import History

__all__ = ["AsyncHistory"]


class AsyncHistory(Mirror[History]):
    """What git knows of a store's records; see `fsstate.History`."""

    init = offloaded(History.init)
    log = offloaded(History.log)
    show = offloaded(History.show)
    diff = offloaded(History.diff)
    restore = offloaded(History.restore)
