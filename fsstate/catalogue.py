"""The record types that fsstate brings: what recovering and migrating a store looks at, besides a user's own."""

from __future__ import annotations

from typing import Any, Final

from fsstate.agents import AGENTS
from fsstate.audits import AUDITS
from fsstate.checkpoints import CHECKPOINTS
from fsstate.jobs import JOBS
from fsstate.record_types import RecordType
from fsstate.runs import RUNS
from fsstate.session_documents import SESSIONS
from fsstate.sources import INGESTS, ROOTS
from fsstate.workflows import BRANCHES, CANDIDATES, LEAVES, NODES, WORKFLOWS

__all__ = ["BUILT_IN"]

BUILT_IN: Final[tuple[RecordType[Any], ...]] = (
    SESSIONS,
    CHECKPOINTS,
    RUNS,
    AUDITS,
    JOBS,
    WORKFLOWS,
    BRANCHES,
    LEAVES,
    NODES,
    CANDIDATES,
    ROOTS,
    INGESTS,
    AGENTS,
)
