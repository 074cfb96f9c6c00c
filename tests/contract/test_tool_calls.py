"""A session's tool calls."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.errors import (
    AlreadyExistsError,
    InvalidTransitionError,
    InvalidValueError,
    NotFoundError,
    ValidationError,
)
from fsstate.store import Store
from fsstate.tool_calls import ToolCall, ToolCalls


@pytest.fixture
def calls(store: Store) -> ToolCalls:
    store.sessions.create(id="s")
    return store.session("s").tool_calls


def test_a_call_goes_its_way(store: Store, calls: ToolCalls) -> None:
    call = calls.create("grep", {"pattern": "x"}, message_id="m", metadata={"k": 1})
    assert (call.status, call.started_at, call.is_final) == ("pending", None, False)
    assert calls.pending() == [call]
    assert calls.approve(call.id).status == "approved"
    started = calls.start(call.id)
    assert started.started_at is not None
    done = calls.complete(call.id, {"found": [1, 2]})
    assert done.is_final
    assert done.started_at == started.started_at
    assert done.completed_at == done.updated_at
    assert done.created_at == call.created_at
    assert (done.result, done.parameters, done.message_id) == ({"found": [1, 2]}, {"pattern": "x"}, "m")
    for each in (calls, Store.over(store.backend).session("s").tool_calls):
        assert each.get(call.id) == each.require(call.id) == done
        assert each.list() == [done]
        assert (each.pending(), each.count(), each.count(status="completed")) == ([], 1, 1)


def test_deny_and_fail(calls: ToolCalls) -> None:
    denied, failed = calls.create("a"), calls.create("b")
    assert calls.deny(denied.id, "too dangerous").error == "too dangerous"
    gone = calls.fail(failed.id, {"code": 1})
    assert (gone.status, gone.error) == ("failed", {"code": 1})
    assert gone.completed_at is not None
    assert calls.require(denied.id).completed_at is None
    for name in (denied.id, failed.id):
        with pytest.raises(InvalidTransitionError, match="final"):
            calls.start(name)


@pytest.mark.parametrize("wanted", ["pending", "approved", "denied"])
def test_no_way_back(calls: ToolCalls, wanted: str) -> None:
    call = calls.create("a", status="executing")
    assert call.started_at is not None
    with pytest.raises(InvalidTransitionError):
        calls.update(call.id, status=wanted)
    assert calls.require(call.id).status == "executing"


def test_update_changes_what_is_given(calls: ToolCalls) -> None:
    call = calls.create("a", {"x": 1})
    changed = calls.update(call.id, metadata={"n": 2}, parameters={"x": 2})
    assert (changed.parameters, changed.metadata, changed.status) == ({"x": 2}, {"n": 2}, "pending")
    assert calls.update(call.id, status="completed", result="ok").result == "ok"
    with pytest.raises(InvalidValueError, match="no status"):
        calls.update(call.id, status="odd")


def test_ids(calls: ToolCalls) -> None:
    calls.create("a", id="one")
    with pytest.raises(AlreadyExistsError):
        calls.create("b", id="one")
    with pytest.raises(InvalidValueError, match="no status"):
        calls.create("b", status="odd")
    for act in (calls.approve, calls.require):
        with pytest.raises(NotFoundError, match="nobody"):
            act("nobody")
    assert calls.get("nobody") is None
    assert calls.count() == 1


def test_pending_ones_are_listed_as_they_came(calls: ToolCalls) -> None:
    for name in "cab":
        calls.create(name, id=name)
    calls.start("a")
    assert [call.id for call in calls.pending()] == ["c", "b"]


def test_import(calls: ToolCalls) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    given = ToolCall(
        id="x", name="a", status="completed", created_at=then, started_at=then, completed_at=then, result=1
    )
    assert calls.extend([given, ToolCall(id="y", name="b")])[0] == given
    assert calls.extend([]) == []
    assert calls.require("x") == given


def test_what_was_got_may_be_changed(calls: ToolCalls) -> None:
    call = calls.create("a", {"deep": [1]}, id="x")
    call.parameters["deep"].append(2)
    calls.require("x").parameters["deep"].append(3)
    assert calls.require("x").parameters == {"deep": [1]}


def test_lines_of_other_hands(store: Store, calls: ToolCalls) -> None:
    rows = [b'{"id":"a","name":"x"}', b'{"id":"b"}', b'{"update":"c","status":"denied"}', b'{"odd":1}']
    store.backend.append(Ref("sessions/s", "tool_calls", LOG), lambda _: rows)
    assert calls.list() == [ToolCall(id="a", name="x")]
    assert calls.approve("a").status == "approved"


def test_a_session_must_exist(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.session("nobody").tool_calls.create("a")


@pytest.mark.parametrize(
    ("field", "value"), [("name", 3), ("id", 5), ("message_id", 5), ("status", 3), ("metadata", "abc")]
)
def test_a_refused_call_writes_nothing(calls: ToolCalls, field: str, value: Any) -> None:
    with pytest.raises((ValidationError, InvalidValueError), match=rf"\$\.{field}"):
        calls.create(**{"name": "grep", field: value})
    assert (calls.log.count(), calls.problems()) == (0, [])


def test_calls_are_added_all_or_none(calls: ToolCalls) -> None:
    for bad in (ToolCall(id="q", name=3), ToolCall(id="q", name="n", started_at="2020")):  # type: ignore[arg-type]
        with pytest.raises((ValidationError, InvalidValueError), match=r"\$\.(name|started_at)"):
            calls.extend([ToolCall(id="good", name="n"), bad])
    assert calls.log.count() == 0


def test_a_refused_change_leaves_the_call_as_it_is(calls: ToolCalls) -> None:
    call = calls.create("grep")
    changes: list[dict[str, Any]] = [{"metadata": "abc"}, {"status": 3}]
    for change in changes:
        with pytest.raises((ValidationError, InvalidValueError), match=r"\$\."):
            calls.update(call.id, **change)
    assert calls.list() == [call]
    assert calls.log.count() == 1


def test_calls_that_cannot_be_read_are_named(store: Store, calls: ToolCalls) -> None:
    rows = (b'{"id":"bad","name":3}', b'{"id":"good","name":"n"}')
    store.backend.append(Ref("sessions/s", "tool_calls", LOG), lambda _: rows)
    (problem,) = calls.problems()
    assert "'bad': $.name: Expected `str`, got `int`" in str(problem)
    with pytest.raises(ValidationError):
        calls.approve("bad")
    assert [call.id for call in calls.list()] == ["good"]
    assert calls.log.count() == 2
