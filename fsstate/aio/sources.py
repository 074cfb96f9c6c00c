"""Sources for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import Mirror, Offload, offloaded
from fsstate.aio.records import AsyncRecords
from fsstate.lazy import lazy_property
from fsstate.sources import Ingest, Sources

__all__ = ["AsyncSources"]


class AsyncSources(Mirror[Sources]):
    """The sources of a store; see `fsstate.Sources`."""

    def __init__(self, sources: Sources, offload: Offload, timeout: float) -> None:
        super().__init__(sources, offload)
        self._timeout = timeout

    @lazy_property
    def ingests(self) -> AsyncRecords[Ingest]:
        """The passes, the newest first."""
        return AsyncRecords(self.sync.ingests, self.offload, self._timeout)

    add = offloaded(Sources.add)
    list = offloaded(Sources.list)
    get = offloaded(Sources.get)
    remove = offloaded(Sources.remove)
    replace_files = offloaded(Sources.replace_files)
    files = offloaded(Sources.files)
    count_files = offloaded(Sources.count_files)
    start_ingest = offloaded(Sources.start_ingest)
    finish_ingest = offloaded(Sources.finish_ingest)
    status = offloaded(Sources.status)
    problems = offloaded(Sources.problems)
