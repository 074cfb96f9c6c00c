"""A record type as a user would declare it, for the tests of records; and raw access to the documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from fsstate.backends.base import JSON, Blob, Ref
from fsstate.lifecycle import Lifecycle
from fsstate.record_types import RecordType, Recovery

__all__ = ["LIFECYCLE", "PLANS", "TASKS", "Plan", "Task", "derived", "raw", "renamed", "written"]


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    session_id: str | None = None
    status: str = "draft"
    title: str | None = None
    size: int = 0
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_code: str | None = None


def derived(_before: dict[str, Any] | None, after: dict[str, Any], _now: str) -> None:
    after["words"] = len((after.get("title") or "").split())


LIFECYCLE = Lifecycle(
    steps={"draft": ("running", "dropped"), "running": ("done", "failed"), "done": (), "failed": (), "dropped": ()},
    stamps={"running": "started_at", "done": "ended_at", "failed": "ended_at"},
)

PLANS = RecordType(
    "plans",
    Plan,
    indexed=("title", "size"),
    group_by="session_id",
    lifecycle=LIFECYCLE,
    keep=5,
    recovery=Recovery("failed", in_flight=("running",), fields={"error_code": "interrupted"}),
    derive=derived,
)


class Task(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One that waits in a queue: it is in flight from the start, and goes back there when its worker dies."""

    id: str = ""
    name: str = ""
    status: str = "queued"
    tries: int = 0
    updated_at: datetime | None = None


TASKS = RecordType(
    "tasks",
    Task,
    order_by="name",
    lifecycle=Lifecycle(steps={"queued": ("running",), "running": ("queued", "done"), "done": ()}),
    recovery=Recovery("queued", in_flight=("queued", "running")),
)


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """A step of a migration: a field gets another name."""

    def change(document: dict[str, Any]) -> None:
        if old in document:
            document[new] = document.pop(old)

    return change


def written(store: Any, category: str, name: str) -> dict[str, Any]:
    """What a file holds."""
    document: dict[str, Any] = json.loads(raw(store, category, name))
    return document


def raw(store: Any, category: str, name: str) -> bytes:
    """A file's bytes."""
    blob: Blob | None = store.backend.read(Ref(category, name, JSON))
    assert blob is not None, f"there is no {category}/{name}.json"
    return blob.data
