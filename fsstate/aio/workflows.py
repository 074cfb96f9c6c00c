"""Runs of workflows for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import Mirror, Offload, offloaded
from fsstate.aio.records import AsyncRecords
from fsstate.lazy import lazy_property
from fsstate.workflows import (
    BranchRun,
    ControlNodeRun,
    LeafRun,
    Leaves,
    TeacherCandidate,
    Workflow,
    WorkflowRun,
    Workflows,
)

__all__ = ["AsyncLeaves", "AsyncWorkflow", "AsyncWorkflows"]


class AsyncWorkflows(AsyncRecords[WorkflowRun]):
    """The runs of workflows; see `fsstate.Workflows`."""

    start = offloaded(Workflows.start)
    finish = offloaded(Workflows.finish)


class AsyncLeaves(AsyncRecords[LeafRun]):
    """The leaves of one run; see `fsstate.Leaves`."""

    replay = offloaded(Leaves.replay)


class AsyncWorkflow(Mirror[Workflow]):
    """What belongs to one run of a workflow; see `fsstate.Workflow`."""

    def __init__(self, workflow: Workflow, offload: Offload, timeout: float) -> None:
        super().__init__(workflow, offload)
        self._timeout = timeout

    @property
    def id(self) -> str:
        """The run's id."""
        return self.sync.id

    @property
    def path(self) -> str:
        """Where a person finds the run's document."""
        return self.sync.path

    document = offloaded(Workflow.document)
    exists = offloaded(Workflow.exists)

    @lazy_property
    def branches(self) -> AsyncRecords[BranchRun]:
        """The branches that were run, in the order of their start."""
        return AsyncRecords(self.sync.branches, self.offload, self._timeout)

    @lazy_property
    def leaves(self) -> AsyncLeaves:
        """The tasks that were run, in the order of their start."""
        return AsyncLeaves(self.sync.leaves, self.offload, self._timeout)

    @lazy_property
    def nodes(self) -> AsyncRecords[ControlNodeRun]:
        """The control nodes that were run, in the order of their start."""
        return AsyncRecords(self.sync.nodes, self.offload, self._timeout)

    @lazy_property
    def candidates(self) -> AsyncRecords[TeacherCandidate]:
        """What control nodes had to choose from, in the order of their making."""
        return AsyncRecords(self.sync.candidates, self.offload, self._timeout)
