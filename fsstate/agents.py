"""Agents: a document each, `agents/<id>.json`, with what an agent was made for, how far it came, and what it cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from fsstate.record_types import RecordType

__all__ = ["AGENTS", "Agent"]


class Agent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One agent. All but the id may be missing, and a file may hold more than this; it stays there.

    - `status`: in words of your own, such as "idle" or "Running".
    - `seed_id`, `project_id`, `session_id`: what it works for.
    - `tool_calls`: any JSON each.
    - `created_at`: what pruning goes by; an agent without it is never too old.
    """

    id: str = ""
    name: str | None = None
    status: str | None = None
    seed_id: str | None = None
    project_id: str | None = None
    session_id: str | None = None
    model_id: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = None
    steps_completed: int = 0
    steps_total: int | None = None
    tool_calls: list[Any] = []
    tokens_input: int = 0
    tokens_output: int = 0
    cost_usd: float = 0.0


# On disk: do not rename.
AGENTS: Final = RecordType(
    "agents", Agent, indexed=("name", "status", "seed_id", "project_id", "session_id"), order_by="-created_at"
)
