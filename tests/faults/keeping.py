"""Steps that follow rules: of settings, jobs, runs, and records of a type of its own."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

import fsstate
from fsstate import Store
from fsstate.migrations import Migration
from fsstate.record_types import RecordType
from tests.faults.deed import TAKEN, Deed
from tests.faults.talking import talk

__all__ = ["RECORDS", "TYPES"]


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A record that has had two versions."""

    id: str = ""
    title: str = ""
    created_at: datetime | None = None


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "title": fields.pop("name", "")}


PLANS: Final = RecordType("plans", Plan, migrations=(Migration(2, "call it title", renamed),), keep=3)
TYPES: Final = (PLANS,)


def make_old_plans(store: Store) -> None:
    for name in "abc":
        path = Path(store.path, "plans", f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"id": name, "name": f"plan {name}"}))


def make_plans(store: Store) -> None:
    for name in "abc":
        store.records(PLANS).create(name, title=name)


def migrate(store: Store) -> None:
    for problem in store.migrate(PLANS).problems:
        raise problem


def versions(store: Store) -> Mapping[str, Any]:
    written = {path.stem: json.loads(path.read_text()) for path in Path(store.path, "plans").glob("*.json")}
    assert all(store.records(PLANS).require(name).title == f"plan {name}" for name in written)
    return {name: fields.get("schema_version", 1) for name, fields in written.items()}


def recover(store: Store) -> None:
    report = store.recover()
    for problem in report.problems:
        raise problem
    for flight in report.alive:
        # Its holder is gone. One that may not be looked at counts as alive, which the report tells.
        raise fsstate.StorageError(f"see whether {flight.held_by} lives, for", flight.path, errno.EACCES)


def statuses(store: Store) -> object:
    return [(run.id, run.status) for run in store.runs.list(order_by="id")]


def start_job(store: Store) -> None:
    store.jobs.start("j")


def job(store: Store) -> object:
    return [(one.id, one.status) for one in store.jobs.list()]


RECORDS: Final = {
    "set": Deed(lambda store: store.settings.set("ui/theme", "dark"), lambda store: store.settings.get("ui/theme")),
    "unset": Deed(
        lambda store: store.settings.delete("ui/theme"),
        lambda store: store.settings.get("ui/theme"),
        lambda store: store.settings.set("ui/theme", "light"),
    ),
    "queue a job": Deed(lambda store: store.jobs.create("copy", id="j"), job, repeated=TAKEN),
    "start a job": Deed(
        start_job,
        job,
        lambda store: store.jobs.create("copy", id="j"),
        repeated=(fsstate.InvalidTransitionError,),
    ),
    "start a run": Deed(
        lambda store: store.runs.start("think", session_id="s1", id="r"), statuses, talk, repeated=TAKEN
    ),
    # The store that prepares it is closed, so nobody holds it any more.
    "recover": Deed(recover, statuses, lambda store: store.runs.start("think", id="r"), in_parts=True),
    "add one, and let the oldest go": Deed(
        lambda store: store.records(PLANS).create("d", title="d"),
        lambda store: "d" in store.records(PLANS).ids(),
        make_plans,
        repeated=TAKEN,
    ),
    "migrate": Deed(migrate, versions, make_old_plans, in_parts=True),
}
