"""What a list of sessions says of a session's logs."""

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.session import SessionHandle
from fsstate.store import Store


@pytest.fixture
def one(store: Store) -> SessionHandle:
    store.sessions.create(id="s")
    return store.session("s")


def last_model(store: Store) -> str | None:
    summary = store.sessions.list()[0]
    return summary.last_model


def test_the_last_model_is_the_latest_that_anything_names(store: Store, one: SessionHandle) -> None:
    assert last_model(store) is None
    one.events.append("model_changed", model="m1")
    assert last_model(store) == "m1"
    one.messages.append("assistant", "Hi", model="m2")
    assert last_model(store) == "m2"
    store.backend.append(
        Ref("sessions/s", "tool_calls", LOG), lambda _: [b'{"id":"c","name":"t","at":"2030-01-01","model":"m3"}']
    )
    assert last_model(store) == "m3"
    one.events.append("model_changed", model="m4", at="2031-01-01")
    one.events.append("other", model=5, at="2032-01-01")
    one.events.append("other", model="")
    assert last_model(store) == "m4"


def test_within_a_log_the_last_one_counts(store: Store, one: SessionHandle) -> None:
    one.events.append("a", model="m1", at="2026-06-01")
    one.events.append("a", model="m2", at="2026-03-01")
    assert last_model(store) == "m2"


def test_a_line_without_a_time_comes_last(store: Store, one: SessionHandle) -> None:
    store.backend.append(Ref("sessions/s", "events", LOG), lambda _: [b'{"kind":"a","model":"m1"}'])
    assert last_model(store) == "m1"
    one.messages.append("assistant", "Hi", model="m2")
    assert last_model(store) == "m2"


def test_only_the_end_of_the_events_is_searched(store: Store, one: SessionHandle) -> None:
    one.events.append("a", model="m1")
    one.events.append_many([("b", {})] * 199)
    assert last_model(store) == "m1"
    one.events.append("b")
    assert last_model(store) is None


def test_other_journals_name_no_model(store: Store, one: SessionHandle) -> None:
    one.journal("audit").append("a", model="m1")
    assert last_model(store) is None
