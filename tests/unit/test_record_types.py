"""What a declaration of records may say, and how files of records in flight look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import pytest

from fsstate.errors import InvalidNameError
from fsstate.lifecycle import Lifecycle
from fsstate.migrations import Migration
from fsstate.record_types import RecordType, Recovery, Signs


class Plan(msgspec.Struct):
    id: str
    status: str = "draft"
    team: str | None = None
    size: int = 0
    updated_at: datetime | None = None


CYCLE = Lifecycle(steps={"draft": ("running",), "running": ("done", "failed"), "done": (), "failed": ()})
SAFE = Recovery("failed", in_flight=("running",))


def test_what_a_declaration_means() -> None:
    kind = RecordType("teams/plans", Plan, group_by="team", indexed=("team", "size"), lifecycle=CYCLE, recovery=SAFE)
    assert repr(kind) == "RecordType('teams/plans', Plan)"
    assert kind.filters == ("id", "team", "status", "size")
    assert tuple(kind.in_flight) == ("running",)
    assert kind.status_of({}) == "draft"
    assert kind.status_of({"status": None}) == "draft"
    assert kind.view.times == {"updated_at"}
    bare = RecordType("plans", Plan)
    assert (bare.filters, bare.in_flight, bare.status_of({"status": "x"})) == (("id",), (), None)
    with pytest.raises(ValueError, match="id, team, status, size, not by 'age'"):
        kind.check_filters({"size": 1, "age": 1})


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"group_by": "team", "parent": "sessions"}, "leave out group_by"),
        ({"keep": 0}, "None means all"),
        ({"keep": -1}, "None means all"),
        ({"recovery": SAFE}, "needs a lifecycle"),
        ({"recovery": Recovery("done", ("draft",)), "lifecycle": CYCLE}, "no step from 'draft' to 'done'"),
        ({"recovery": Recovery("failed", ("odd",)), "lifecycle": CYCLE}, "no step from 'odd'"),
        ({"migrations": [Migration(3, "x", dict), Migration(2, "y", dict)]}, "consecutive"),
    ],
)
def test_what_contradicts_itself(rules: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RecordType("plans", Plan, **rules)


@pytest.mark.parametrize("category", ["", ".fsstate", "a/../b", "a//b", "plans.json"])
def test_a_category_is_a_folder(category: str) -> None:
    with pytest.raises(InvalidNameError):
        RecordType(category, Plan)


def test_what_is_surely_at_rest_is_not_parsed() -> None:
    signs = Signs(RecordType("plans", Plan, lifecycle=CYCLE, recovery=SAFE))
    assert not signs.may_be_in_flight(b'{\n  "status": "done"\n}\n')
    assert not signs.may_be_in_flight(b"{}")
    assert signs.may_be_in_flight(b'{"status":"running"}')
    assert signs.may_be_in_flight(b'{"status":"run\\u006eing"}')


@dataclass
class Held:
    id: str
    held_by: str = ""


@dataclass
class Versioned:
    id: str
    schema_version: int = 1


class Camel(msgspec.Struct, rename="camel"):
    id: str
    created_at: datetime | None = None


@pytest.mark.parametrize(
    ("model", "given", "reason"),
    [
        (Held, {}, "'held_by' is fsstate's own"),
        (Versioned, {}, "'schema_version' is fsstate's own"),
        (Camel, {}, "'created_at' has another name in the document"),
        (Plan, {"indexed": ("sise",)}, "Plan has no field 'sise'"),
        (Plan, {"group_by": "nog"}, "Plan has no field 'nog'"),
        (Plan, {"keep": 2}, "Plan has no field 'created_at'"),
        (Plan, {"order_by": "-updatd_at"}, "Plan has no field 'updatd_at'"),
        (Plan, {"lifecycle": Lifecycle({"draft": ("doen",), "done": ()})}, "no steps for doen"),
        (Plan, {"lifecycle": Lifecycle({"draft": ()}, {"done": "updated_at"})}, "no steps for done"),
        (Plan, {"lifecycle": Lifecycle({})}, "no steps for any status"),
        (Plan, {"lifecycle": Lifecycle({"new": ("draft",), "draft": ()})}, "a Plan begins as 'draft'"),
        (Camel, {"lifecycle": CYCLE}, "'created_at'|no field 'status'"),
        (Plan, {"lifecycle": CYCLE, "recovery": Recovery("failed", ())}, "statuses that are in flight"),
        (Plan, {"lifecycle": CYCLE, "recovery": Recovery("failed", ("running",), {"id": "x"})}, "cannot set 'id'"),
    ],
)
def test_declarations_that_contradict_the_model(model: Any, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RecordType("plans", model, **given)


def test_arguments_of_another_kind() -> None:
    with pytest.raises(TypeError, match="a sequence of names"):
        RecordType("plans", Plan, indexed="size")
    with pytest.raises(TypeError, match=r"must be a fsstate\.Lifecycle"):
        RecordType("plans", Plan, lifecycle={"draft": ()})  # type: ignore[arg-type]


def test_a_type_that_begins_in_flight() -> None:
    cycle = Lifecycle(steps={"running": ("done",), "done": ()})
    signs = Signs(RecordType("plans", dict, lifecycle=cycle, recovery=Recovery("done", ("running",))))
    assert not signs.may_be_in_flight(b'{\n  "id": "a",\n  "status": "done"\n}\n')
    # Nested, or not as fsstate writes it: who knows.
    for data in (
        b"{}",
        b'{"status": "done"}',
        b'{\n  "x": {\n    "status": "done"\n  }\n}\n',
        b'{\n  "status": null\n}',
    ):
        assert signs.may_be_in_flight(data)


def test_older_versions_are_parsed() -> None:
    kind = RecordType("plans", Plan, lifecycle=CYCLE, recovery=SAFE, migrations=[Migration(2, "x", dict)])
    signs = Signs(kind)
    assert signs.may_be_in_flight(b'{\n  "status": "done"\n}\n')
    assert not signs.may_be_in_flight(b'{\n  "status": "done",\n  "schema_version": 2\n}\n')


def test_a_type_without_recovery_has_nothing_in_flight() -> None:
    assert not Signs(RecordType("plans", Plan, lifecycle=CYCLE)).may_be_in_flight(b'{"status": "running"}')
