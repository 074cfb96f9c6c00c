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

__all__ = ["BUILT_IN", "check_declared"]

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


def check_declared(kind: object) -> None:
    """Raise TypeError for what is no record type, ValueError for one whose files are those of fsstate's own records."""
    if not isinstance(kind, RecordType):
        raise TypeError(f"expected a fsstate.RecordType, got {kind!r}")
    for own in BUILT_IN:
        if own is not kind and (own.parent, own.category) == (kind.parent, kind.category):
            raise ValueError(f"{kind.category!r} are records of fsstate's own; choose another category")
