"""Runs of workflows, and what was run in each: branches, leaves, control nodes, and candidates for a choice.

A run is `workflows/<id>.json`; what belongs to it is in `workflows/<id>/branches/`, `leaves/`, `nodes/` and
`candidates/`, a file each, and goes with it. All but candidates go through statuses:

    running -> completed | failed | cancelled | any other text

What was running when its program died becomes "failed", with the `error_code` "workflow_interrupted", once the store is
recovered. Every write is durable when it returns. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from fsstate.backends.base import Ref
from fsstate.errors import NotFoundError
from fsstate.lazy import lazy_property
from fsstate.lifecycle import Lifecycle
from fsstate.owning_records import OwningRecords
from fsstate.queries import MISSING, Missing
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.shared import Shared

__all__ = [
    "BRANCHES",
    "CANDIDATES",
    "LEAVES",
    "NODES",
    "WORKFLOWS",
    "BranchRun",
    "Branches",
    "ControlNodeRun",
    "LeafRun",
    "Leaves",
    "Nodes",
    "TeacherCandidate",
    "Workflow",
    "WorkflowRun",
    "Workflows",
]

T = TypeVar("T")

# On disk: do not rename.
_ENDS: Final = ("completed", "failed", "cancelled", "*")
_LIFECYCLE: Final = Lifecycle(
    steps={"running": _ENDS, **dict.fromkeys(_ENDS, ())},
    stamps={"running": "started_at", **dict.fromkeys(_ENDS, "completed_at")},
)
_RECOVERY: Final = Recovery("failed", in_flight=("running",), fields={"error_code": "workflow_interrupted"})


class WorkflowRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run of a workflow. `input_hash` tells what it was given, `metadata` is any JSON."""

    id: str = ""
    workflow_id: str = ""
    goal: str = ""
    status: str = "running"
    input_hash: str | None = None
    error: str | None = None
    error_code: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metadata: dict[str, Any] = {}


class BranchRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One branch that was run, from the node `node_id` on. `result` is any JSON."""

    id: str = ""
    branch_id: str = ""
    node_id: str = ""
    status: str = "running"
    result: Any = None
    error: str | None = None
    error_code: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class LeafRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One task that was run, in a branch or in none. `output` and the `artifacts` are any JSON.

    `input_hash` tells what the task was given: `Leaves.replay` finds what it made of the same before.
    """

    id: str = ""
    leaf_id: str = ""
    task_id: str = ""
    branch_run_id: str | None = None
    input_hash: str | None = None
    status: str = "running"
    output: Any = None
    artifacts: list[Any] = []
    error: str | None = None
    error_code: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class ControlNodeRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One decision that was made, of a `kind` in a word of your own. `result` is any JSON."""

    id: str = ""
    node_id: str = ""
    kind: str = ""
    status: str = "running"
    selected_children: list[Any] = []
    result: Any = None
    error: str | None = None
    error_code: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class TeacherCandidate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a control node had to choose from, and how it was judged. `rationale` is any JSON."""

    id: str = ""
    control_node_run_id: str = ""
    candidate_id: str = ""
    branch_run_id: str | None = None
    score: float | None = None
    passed: bool | None = None
    rationale: Any = None
    created_at: datetime | None = None


WORKFLOWS: Final = RecordType(
    "workflows",
    WorkflowRun,
    indexed=("workflow_id", "input_hash"),
    order_by="-started_at",
    lifecycle=_LIFECYCLE,
    recovery=_RECOVERY,
)


def _of_run(category: str, model: type[T], *indexed: str) -> RecordType[T]:
    """The type of what is run in a workflow, and goes through the same statuses."""
    return RecordType(
        category,
        model,
        parent="workflows",
        indexed=indexed,
        order_by="started_at",
        lifecycle=_LIFECYCLE,
        recovery=_RECOVERY,
    )


BRANCHES: Final = _of_run("branches", BranchRun, "branch_id", "node_id")
LEAVES: Final = _of_run("leaves", LeafRun, "leaf_id", "task_id", "branch_run_id", "input_hash")
NODES: Final = _of_run("nodes", ControlNodeRun, "node_id", "kind")
CANDIDATES: Final = RecordType(
    "candidates",
    TeacherCandidate,
    parent="workflows",
    indexed=("control_node_run_id", "candidate_id", "branch_run_id", "passed"),
    order_by="created_at",
)


class Workflows(OwningRecords[WorkflowRun]):
    """The runs of workflows. Deleting one deletes all that belongs to it."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, WORKFLOWS)

    def start(
        self,
        workflow_id: str,
        goal: str,
        *,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        input_hash: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> WorkflowRun:
        """Add a run that is under way, and return it. Without an `id` it gets a new UUIDv7.

        Raises AlreadyExistsError for an id that is taken.
        """
        given = {"workflow_id": workflow_id, "goal": goal, "input_hash": input_hash}
        return self.create(id, **given, metadata=dict(metadata or {}))

    def finish(self, id: str, /, status: str = "completed", **fields: Any) -> WorkflowRun:  # noqa: A002
        """Say how a run ended, in a word of your own if you like, and lay fields over it, such as `error`.

        Raises InvalidTransitionError when it has ended already, NotFoundError for an unknown id.
        """
        return self.change(id, status=status, **fields)


class Branches(Records[BranchRun]):
    """The branches of one run."""

    def __init__(self, shared: Shared, owner: Ref) -> None:
        super().__init__(shared, BRANCHES, owner)

    def delete(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Delete a branch; return whether there was one. Its leaves and candidates stay, as those of no branch."""
        _detach(Records(self._shared, LEAVES, self._owner), id)
        _detach(Records(self._shared, CANDIDATES, self._owner), id)
        return super().delete(id, within=within)


class Leaves(Records[LeafRun]):
    """The leaves of one run."""

    def __init__(self, shared: Shared, owner: Ref) -> None:
        super().__init__(shared, LEAVES, owner)

    def replay(self, leaf_id: str, input_hash: str | None) -> LeafRun | None:
        """Return what was last completed of this leaf with this input, or None. An input without a hash is new."""
        if input_hash is None:
            return None
        return self.first(leaf_id=leaf_id, input_hash=input_hash, status="completed", order_by="-completed_at")


class Nodes(Records[ControlNodeRun]):
    """The control nodes of one run."""

    def __init__(self, shared: Shared, owner: Ref) -> None:
        super().__init__(shared, NODES, owner)

    def delete(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Delete a control node with its candidates; return whether there was one."""
        candidates = Records(self._shared, CANDIDATES, self._owner)
        for candidate in candidates.list(control_node_run_id=id):
            candidates.delete(candidate.id)
        return super().delete(id, within=within)


class Workflow:
    """What belongs to one run of a workflow. Cheap to make: nothing is read, and the run need not exist yet.

    Reading gives nothing while it does not exist; writing raises NotFoundError. Any thread may use it.
    """

    def __init__(self, workflows: Workflows, shared: Shared, run_id: str) -> None:
        self.id = run_id
        self._workflows = workflows
        self._shared = shared
        self._owner = workflows.owner_ref(run_id)

    def __repr__(self) -> str:
        return f"Workflow({self.id!r})"

    def document(self) -> WorkflowRun:
        """Return the run's document. Raises NotFoundError when there is none."""
        return self._workflows.require(self.id)

    def exists(self) -> bool:
        """Return whether there is such a run."""
        return self._workflows.contains(self.id)

    @property
    def path(self) -> str:
        """Where a person finds the run's document; what belongs to it is in the folder of the same name."""
        return self._workflows.path_of(self.id)

    @lazy_property
    def branches(self) -> Branches:
        """The branches that were run, in the order of their start."""
        return Branches(self._shared, self._owner)

    @lazy_property
    def leaves(self) -> Leaves:
        """The tasks that were run, in the order of their start."""
        return Leaves(self._shared, self._owner)

    @lazy_property
    def nodes(self) -> Nodes:
        """The control nodes that were run, in the order of their start."""
        return Nodes(self._shared, self._owner)

    @lazy_property
    def candidates(self) -> Records[TeacherCandidate]:
        """What control nodes had to choose from, in the order of their making."""
        return Records(self._shared, CANDIDATES, self._owner)


def _detach(records: Records[Any], branch_run_id: str) -> None:
    """Take away what records tell of a branch, before it goes: what is cut off here is done by the next deletion."""
    for record in records.list(branch_run_id=branch_run_id):
        # Else it went meanwhile.
        with suppress(NotFoundError):
            records.change(record.id, branch_run_id=None)
