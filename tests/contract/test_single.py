"""Single documents, and sets of items that are replaced as one."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
import pytest
from anyio.from_thread import start_blocking_portal

from fsstate.aio.offload import Offload
from fsstate.aio.records import AsyncItemSet, AsyncSingle
from fsstate.backends.base import JSON, Backend, Ref
from fsstate.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptRecordError,
    InvalidTransitionError,
    NewerVersionError,
    NotFoundError,
    ValidationError,
)
from fsstate.lifecycle import Lifecycle
from fsstate.migrations import Migration
from fsstate.options import StoreOptions
from fsstate.record_types import RecordType
from fsstate.shared import Shared
from fsstate.single import ItemSet, Single
from fsstate.store import Store
from tests.contract.blocking import blocking
from tests.contract.conftest import PATIENCE, Elsewhere, FakeClock
from tests.contract.plans import renamed


class Goal(msgspec.Struct, kw_only=True, omit_defaults=True):
    objective: str = ""
    status: str = "active"
    spent: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    done_at: datetime | None = None


class Tool(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    description: str = ""
    schema: dict[str, Any] = {}


GOALS = RecordType(
    "sessions",
    Goal,
    lifecycle=Lifecycle(steps={"active": ("done",), "done": ()}, stamps={"done": "done_at"}),
    migrations=(Migration(2, "call it objective", renamed("text", "objective")),),
)
TOOLS = RecordType("sessions", Tool, key="name", indexed=("description",))
OWNER = Ref("sessions", "s", JSON)
GOAL = Ref("sessions/s", "goal", JSON)
SET = Ref("sessions/s", "tools", JSON)

View = Callable[[Any], Any]


@pytest.fixture(params=["sync", "async"])
def seen(request: pytest.FixtureRequest) -> Iterator[View]:
    """See a single document or a set as it is, or through its async mirror as if that were sync."""
    if request.param == "sync":
        yield lambda thing: thing
        return
    with suppress(_EndedError), start_blocking_portal("asyncio") as portal:
        yield lambda thing: blocking(mirrored(thing), portal)
        raise _EndedError


class _EndedError(Exception):
    pass


def mirrored(thing: Any) -> Any:
    offload = Offload()
    return AsyncSingle(thing, offload, PATIENCE) if isinstance(thing, Single) else AsyncItemSet(thing, offload)


@pytest.fixture
def shared(backend: Backend, clock: FakeClock) -> Shared:
    backend.change(OWNER, lambda _: b"{}")
    return Store.over(backend, StoreOptions(clock=clock))._shared


@pytest.fixture
def goal(shared: Shared, seen: View) -> Single[Goal]:
    single: Single[Goal] = seen(Single(shared, GOALS, "sessions/s", "goal", owner=OWNER))
    return single


@pytest.fixture
def tools(shared: Shared, seen: View) -> ItemSet[Tool]:
    found: ItemSet[Tool] = seen(ItemSet(shared, TOOLS, "sessions/s", "tools", owner=OWNER))
    return found


def document(backend: Backend, ref: Ref) -> dict[str, Any]:
    blob = backend.read(ref)
    assert blob is not None
    found: dict[str, Any] = json.loads(blob.data)
    return found


# -- one document


def test_its_way(backend: Backend, goal: Single[Goal]) -> None:
    assert (goal.get(), goal.exists(), goal.delete()) == (None, False, False)
    with pytest.raises(NotFoundError):
        goal.require()
    with pytest.raises(NotFoundError):
        goal.update(lambda value: value)
    made = goal.put(Goal(objective="x"))
    assert made == goal.get() == goal.require()
    assert made.created_at == made.updated_at
    assert goal.exists()
    assert goal.path == backend.location(GOAL)
    changed = goal.change(spent=3)
    assert (changed.objective, changed.spent, changed.created_at) == ("x", 3, made.created_at)
    with goal.edit() as value:
        value.spent += 1
    assert goal.update(lambda value: msgspec.structs.replace(value, spent=value.spent + 1)).spent == 5
    assert document(backend, GOAL)["schema_version"] == 2
    assert "id" not in document(backend, GOAL)
    assert goal.delete()
    assert not goal.exists()


def test_a_default(goal: Single[Goal]) -> None:
    default = Goal(objective="x")
    assert goal.update(lambda value: msgspec.structs.replace(value, spent=value.spent + 1), default=default).spent == 1
    assert goal.update(lambda value: msgspec.structs.replace(value, spent=value.spent + 1), default=default).spent == 2
    goal.delete()
    with goal.edit(default=default) as value:
        value.spent = 7
    assert goal.require().spent == 7
    assert default.spent == 0


def test_its_rules(backend: Backend, goal: Single[Goal], elsewhere: Elsewhere) -> None:
    goal.put(Goal(objective="x"))
    done = goal.put(Goal(objective="x", status="done"))
    assert done.done_at == done.updated_at
    with pytest.raises(InvalidTransitionError):
        goal.change(status="active")
    elsewhere(GOAL, b'{"text": "y", "extra": 1,\n "status": "active"}')
    assert goal.require().objective == "y"
    goal.update(lambda value: msgspec.structs.replace(value, spent=1))
    assert list(document(backend, GOAL))[:2] == ["extra", "status"]
    elsewhere(GOAL, b'{"schema_version": 3}')
    for act in (goal.get, goal.require, lambda: goal.put(Goal()), lambda: goal.change(spent=1)):
        with pytest.raises(NewerVersionError):
            act()


def test_an_unchanged_save_writes_nothing(backend: Backend, goal: Single[Goal], elsewhere: Elsewhere) -> None:
    foreign = b'{ "objective":"x", "schema_version": 2 }'
    elsewhere(GOAL, foreign)
    goal.put(goal.require())
    goal.update(lambda value: value)
    with goal.edit():
        pass
    blob = backend.read(GOAL)
    assert blob is not None
    assert blob.data == foreign


def test_what_cannot_be_read(goal: Single[Goal], elsewhere: Elsewhere) -> None:
    for data in (b"{", b"[]", b'{"objective": 5}', b'{"status": "odd"}', b'{"schema_version": 0}'):
        elsewhere(GOAL, data)
        assert goal.exists()
        for act in (goal.get, goal.require, lambda: goal.change(spent=1)):
            with pytest.raises((CorruptRecordError, ValidationError)):
                act()
    assert goal.delete()


def test_it_goes_with_its_owner(backend: Backend, goal: Single[Goal]) -> None:
    backend.change(OWNER, lambda _: None)
    acts: list[Callable[[], object]] = [
        lambda: goal.put(Goal()),
        lambda: goal.update(lambda value: value, default=Goal()),
    ]
    for act in acts:
        with pytest.raises(NotFoundError):
            act()
    assert goal.get() is None


def test_edits_are_merged(goal: Single[Goal], elsewhere: Elsewhere) -> None:
    goal.put(Goal(objective="x"))
    with goal.edit() as value:
        value.spent = 2
        elsewhere(GOAL, b'{"objective": "new", "schema_version": 2}')
    assert (goal.require().spent, goal.require().objective) == (2, "new")
    with pytest.raises(ConflictError), goal.edit() as value:  # noqa: PT012
        value.objective = "mine"
        elsewhere(GOAL, b'{"objective": "theirs", "schema_version": 2}')


# -- a set


class Letter(enum.Enum):
    C = "c"


def test_a_set_is_replaced_as_one(backend: Backend, tools: ItemSet[Tool]) -> None:
    assert (tools.list(), tools.get("a"), tools.count(), tools.clear()) == ([], None, 0, 0)
    first = [Tool(name="b", description="x"), Tool(name="a", schema={"deep": [1]}), Tool(name="c", description="x")]
    assert tools.replace(first) == 3
    assert tools.list() == first
    assert tools.get("a") == first[1]
    assert tools.get("z") is None
    assert (tools.count(description="x"), tools.list(name="c")) == (2, first[2:])
    assert tools.list(name=Letter.C) == first[2:]
    assert tools.path == backend.location(SET)
    assert [item["name"] for item in document(backend, SET)["items"]] == ["b", "a", "c"]
    assert tools.replace(iter(first[:1])) == 1
    assert tools.list() == first[:1]
    assert tools.replace([]) == 0
    assert tools.list() == []
    tools.replace(first)
    assert tools.clear() == 3
    assert (tools.count(), backend.read(SET)) == (0, None)


def test_a_set_that_is_refused(backend: Backend, tools: ItemSet[Tool]) -> None:
    tools.replace([Tool(name="a")])
    before = document(backend, SET)
    with pytest.raises(AlreadyExistsError, match="'b'"):
        tools.replace([Tool(name="b"), Tool(name="c"), Tool(name="b")])
    with pytest.raises(ValidationError):
        tools.replace([Tool(name=5)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name, description"):
        tools.list(schema={})
    assert document(backend, SET) == before


def test_a_set_keeps_what_its_model_does_not_know(backend: Backend, tools: ItemSet[Tool], elsewhere: Elsewhere) -> None:
    elsewhere(SET, b'{"by": "hand", "items": [{"name": "a", "extra": 1}, {"name": "b"}]}')
    tools.replace(tools.list())
    assert document(backend, SET)["items"][0] == {"name": "a", "extra": 1}
    tools.replace([*tools.list(), Tool(name="c")])
    assert document(backend, SET)["by"] == "hand"
    assert [item["name"] for item in document(backend, SET)["items"]] == ["a", "b", "c"]


def test_a_set_goes_with_its_owner(backend: Backend, tools: ItemSet[Tool]) -> None:
    backend.change(OWNER, lambda _: None)
    with pytest.raises(NotFoundError):
        tools.replace([Tool(name="a")])
    assert tools.list() == []
