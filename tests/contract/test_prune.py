"""Pruning sessions: what goes, and what stays although it is due."""

import logging
import threading
from datetime import timedelta

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.options import Indexing
from fsstate.retention import Kept, PrunePolicy
from fsstate.sessions import Sessions
from fsstate.store import Store
from tests.contract.conftest import Elsewhere, FakeClock, wait_for
from tests.contract.plans import PLANS

WEEK = PrunePolicy(ttl=timedelta(days=7))


@pytest.fixture
def indexing(indexed_or_not: Indexing) -> Indexing:
    return indexed_or_not


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return store.sessions


def test_ttl_then_count(sessions: Sessions, clock: FakeClock) -> None:
    for name in "abcdef":
        sessions.create(id=name)
        clock.advance(days=2)
    policy = PrunePolicy(ttl=timedelta(days=7), keep=2)
    planned = sessions.prune(policy, dry_run=True)
    assert planned.dry_run
    assert len(sessions) == 6
    report = sessions.prune(policy)
    expected = [("a", "ttl"), ("b", "ttl"), ("c", "ttl"), ("d", "count")]
    assert [(each.id, each.reason) for each in report.pruned] == expected
    assert report.pruned == planned.pruned
    assert report.kept == []
    assert sessions.ids() == ["e", "f"]
    assert sessions.prune(policy).pruned == []


def test_all_that_belongs_to_it_goes(store: Store, sessions: Sessions, clock: FakeClock) -> None:
    sessions.create(id="old")
    store.session("old").messages.append("user", "x")
    clock.advance(days=8)
    assert len(sessions.prune(WEEK).pruned) == 1
    assert store.categories("sessions") == []


@pytest.mark.parametrize("log", ["messages", "events", "tool_calls", "steps", "own", "streams"])
def test_activity_in_any_log_counts(store: Store, sessions: Sessions, clock: FakeClock, log: str) -> None:
    sessions.create(id="busy")
    clock.advance(days=8)
    one = store.session("busy")
    if log == "messages":
        one.messages.append("user", "x")
    elif log == "tool_calls":
        one.tool_calls.create("x")
    elif log == "steps":
        one.steps.append("x")
    elif log == "streams":
        one.messages.stream("assistant").__enter__().close()
    else:
        one.journal(log).append("x")
    assert sessions.prune(WEEK).pruned == []


def test_a_time_in_the_future_prunes_nothing(sessions: Sessions, clock: FakeClock) -> None:
    sessions.create(id="a")
    clock.advance(days=-1000)
    assert sessions.prune(WEEK).pruned == []


def test_what_was_touched_since_the_look_stays(store: Store, sessions: Sessions, clock: FakeClock) -> None:
    for name in ("doc", "log", "goal", "idle"):
        sessions.create(id=name)
        store.session(name).goal.set("x", id="g")
    clock.advance(days=8)
    plan = sessions.plan(WEEK)
    assert len(plan.pruned) == 4
    sessions.move("doc", "p")
    # Backdated, as an import is: no time tells that it came.
    store.session("log").events.append("x", at="2020-01-01")
    store.session("goal").goal.change(status="paused")
    report = sessions.apply(plan)
    assert [each.id for each in report.pruned] == ["idle"]
    assert sorted(report.kept) == [Kept("doc", "touched"), Kept("goal", "touched"), Kept("log", "touched")]
    assert sessions.ids() == ["doc", "goal", "log"]


def test_what_is_locked_or_written_to_stays(store: Store, sessions: Sessions, clock: FakeClock) -> None:
    for name in ("edited", "streaming", "idle"):
        sessions.create(id=name)
    clock.advance(days=8)
    stream = store.session("streaming").messages.stream("assistant")
    clock.advance(days=8)
    with sessions.edit("edited"), stream:
        clock.advance(days=8)
        report = sessions.prune(WEEK)
    assert [each.id for each in report.pruned] == ["idle"]
    assert sorted(report.kept) == [Kept("edited", "locked"), Kept("streaming", "locked")]


def test_what_cannot_be_read_stays(sessions: Sessions, clock: FakeClock, elsewhere_in: Elsewhere) -> None:
    sessions.create(id="old")
    elsewhere_in(Ref("sessions", "broken", JSON), b"{")
    elsewhere_in(Ref("sessions", "timeless", JSON), b"{}")
    clock.advance(days=8)
    report = sessions.prune(WEEK)
    assert [each.id for each in report.pruned] == ["old"]
    assert [each.id for each in report.kept] == ["broken", "timeless"]
    assert report.kept[0].reason.startswith("error: ")
    assert report.kept[1].reason == "undated"
    assert sessions.ids() == ["broken", "timeless"]


def test_records_that_tell_no_time_stay_and_are_named(store: Store, clock: FakeClock, elsewhere_in: Elsewhere) -> None:
    plans = store.records(PLANS)
    plans.create("old")
    plans.create("busy", status="running")
    elsewhere_in(Ref("plans", "timeless", JSON), b"{}")
    elsewhere_in(Ref("plans", "at_work", JSON), b'{"status": "running"}')
    clock.advance(days=8)
    planned = plans.prune(WEEK, dry_run=True)
    report = plans.prune(WEEK)
    assert [each.id for each in report.pruned] == ["plans/old.json"]
    stay = [("at_work", "in flight"), ("busy", "in flight"), ("timeless", "undated")]
    assert report.kept == planned.kept == [Kept(f"plans/{name}.json", reason) for name, reason in stay]
    assert plans.ids() == ["at_work", "busy", "timeless"]


def test_who_was_deleted_meanwhile_is_not_told_as_pruned(sessions: Sessions, clock: FakeClock) -> None:
    sessions.create(id="old")
    clock.advance(days=8)
    plan = sessions.plan(WEEK)
    sessions.delete("old")
    report = sessions.apply(plan)
    assert (report.pruned, report.kept) == ([], [])


def test_pruning_after_a_save(sessions: Sessions, clock: FakeClock) -> None:
    sessions.create(id="old")
    clock.advance(days=8)
    sessions.auto_prune(WEEK, cooldown=timedelta(days=1))
    sessions.create(id="new")
    wait_for(lambda: sessions.ids() == ["new"])
    clock.advance(days=8)
    sessions.create(id="newer")
    sessions.close()
    assert sessions.ids() == ["new", "newer"]


def test_a_cooldown_is_a_time_to_wait(sessions: Sessions) -> None:
    with pytest.raises(TypeError, match="cooldown must be a timedelta"):
        sessions.auto_prune(WEEK, cooldown=3600)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not be negative"):
        sessions.auto_prune(WEEK, cooldown=timedelta(seconds=-1))


def test_a_sweep_that_fails_is_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()

    def fail(*_: object, **__: object) -> None:
        failed.set()
        raise OSError("boom")

    sessions = store.sessions
    sessions.auto_prune(WEEK)
    monkeypatch.setattr("fsstate.sweeper.Sweeper._settled", fail)
    with caplog.at_level(logging.WARNING, "fsstate"):
        sessions.create(id="a")
        assert failed.wait(10)
        sessions.close()
    assert "boom" in caplog.text
    sessions.auto_prune(None)
    sessions.create(id="b")
