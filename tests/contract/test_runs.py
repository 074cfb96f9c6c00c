"""Runs of tasks."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import (
    AlreadyExistsError,
    AmbiguousIdError,
    InvalidTransitionError,
    InvalidValueError,
    NotFoundError,
    ValidationError,
)
from fsstate.record_types import RecordType, Recovery
from fsstate.runs import RUNS, Run, Runs
from fsstate.store import Store
from tests.contract.conftest import Elsewhere, FakeClock

ENDS = ("complete", "failed", "cancelled", "timed_out")
START = datetime(2026, 1, 1, tzinfo=UTC)
CODE, REASON = "workspace_task_interrupted", "workspace task interrupted before completion"


@pytest.fixture
def runs(store: Store) -> Runs:
    return store.runs


@pytest.fixture
def file_of(store: Store) -> Callable[[str], dict[str, Any]]:
    """What is on disk of a run of session "s"."""

    def read(name: str) -> dict[str, Any]:
        blob = store.backend.read(Ref("runs/s", name, JSON))
        assert blob is not None
        found: dict[str, Any] = json.loads(blob.data)
        return found

    return read


@pytest.fixture
def write(elsewhere_in: Elsewhere) -> Callable[..., None]:
    """Write the file of a run of session "s", as another program does."""

    def put(name: str, **fields: object) -> None:
        elsewhere_in(Ref("runs/s", name, JSON), json.dumps({"id": name, **fields}).encode())

    return put


def test_a_run_goes_its_way(store: Store, runs: Runs, clock: FakeClock) -> None:
    run = runs.start("git_status", session_id="s", path=".", command="git status --short", max_output_bytes=65536)
    assert (run.status, run.is_final, run.completed_at, run.duration_ms) == ("running", False, None, None)
    assert run.started_at == run.created_at
    clock.advance(milliseconds=250)
    done = runs.finish(run.id, exit_code=0, stdout_tail="## main\n")
    assert (done.status, done.is_final, done.exit_code, done.stdout_tail) == ("complete", True, 0, "## main\n")
    assert (done.session_id, done.path, done.max_output_bytes) == ("s", ".", 65536)
    assert done.started_at is not None
    assert done.completed_at is not None
    assert done.duration_ms == (done.completed_at - done.started_at) / timedelta(milliseconds=1)
    for each in (runs, Store.over(store.backend).runs):
        assert each.get(run.id) == each.require(run.id) == done
        assert each.list(session_id="s") == each.list() == [done]
        assert each.list(session_id="other") == []


def test_what_is_told_is_kept(runs: Runs) -> None:
    at = START - timedelta(days=1)
    run = runs.start("t", id="mine", started_at=at, metadata={"k": [1]})
    assert (run.id, run.started_at, run.session_id, run.metadata) == ("mine", at, None, {"k": [1]})
    done = runs.finish("mine", completed_at=at + timedelta(seconds=2), duration_ms=7)
    assert (done.completed_at, done.duration_ms) == (at + timedelta(seconds=2), 7)


def test_a_clock_that_was_set_back_makes_no_negative_duration(runs: Runs) -> None:
    runs.start("t", id="r", started_at=START + timedelta(days=9))
    assert runs.finish("r").duration_ms == 0


@pytest.mark.parametrize("status", ENDS)
def test_nothing_ends_twice(runs: Runs, status: str) -> None:
    run = runs.start("t")
    ended = runs.finish(run.id, status)
    assert (ended.status, ended.timed_out) == (status, status == "timed_out")
    for again in ENDS:
        with pytest.raises(InvalidTransitionError, match="final"):
            runs.finish(run.id, again)
    assert runs.require(run.id) == ended


@pytest.mark.parametrize("status", ["queued", "running"])
def test_what_is_no_end_finishes_nothing(runs: Runs, status: str) -> None:
    run = runs.start("t", status="queued")
    with pytest.raises(InvalidTransitionError, match="timed_out"):
        runs.finish(run.id, status)
    with pytest.raises(InvalidValueError, match="no status"):
        runs.finish(run.id, "odd")
    assert runs.require(run.id) == run


def test_a_queued_run(runs: Runs) -> None:
    run = runs.start("t", status="queued")
    assert run.started_at is None
    started = runs.change(run.id, status="running")
    assert started.started_at == started.updated_at
    with pytest.raises(InvalidTransitionError):
        runs.change(run.id, status="queued")
    other = runs.start("t", status="queued")
    cancelled = runs.cancel(other.id)
    assert (cancelled.status, cancelled.cancel_requested) == ("cancelled", True)
    assert (cancelled.started_at, cancelled.duration_ms) == (None, None)
    assert cancelled.completed_at is not None


def test_fail_and_cancel(runs: Runs) -> None:
    failed, stopped = runs.start("a"), runs.start("b")
    gone = runs.fail(failed.id, "exit code 1", error_code="workspace_task_failed_exit")
    assert (gone.status, gone.error, gone.error_code) == ("failed", "exit code 1", "workspace_task_failed_exit")
    asked = runs.request_cancel(stopped.id)
    assert (asked.status, asked.cancel_requested) == ("running", True)
    assert runs.cancel(stopped.id).status == "cancelled"
    assert runs.request_cancel(failed.id) == gone
    for act in (runs.cancel, runs.fail, runs.finish, runs.request_cancel, runs.require):
        with pytest.raises(NotFoundError, match="nobody"):
            act("nobody")


def test_put_is_for_those_who_keep_the_whole(runs: Runs) -> None:
    run = Run(id="r", session_id="s", task="git_status", status="running", started_at=START, command="git status")
    assert runs.put(run).started_at == START
    run.status, run.completed_at, run.duration_ms = "complete", START + timedelta(milliseconds=50), 50
    assert runs.put(run).status == "complete"
    assert runs.put(run).duration_ms == 50
    assert runs.count() == 1
    run.status = "running"
    with pytest.raises(InvalidTransitionError):
        runs.put(run)


def test_ids(runs: Runs) -> None:
    runs.start("a", id="one", session_id="s")
    with pytest.raises(AlreadyExistsError):
        runs.start("b", id="one", session_id="s")
    runs.start("b", id="one", session_id="t")
    with pytest.raises(AmbiguousIdError):
        runs.finish("one")
    assert runs.finish("one", within="t").task == "b"
    assert runs.require("one", within="s").status == "running"
    with pytest.raises(ValidationError, match="no status"):
        runs.start("b", status="odd")
    with pytest.raises(TypeError, match="no_field"):
        runs.start("b", no_field=1)
    with pytest.raises(ValidationError, match="exit_code"):
        runs.start("b", exit_code="zero")


def test_lists(runs: Runs) -> None:
    first, second, third = (runs.start(task, session_id="s") for task in "aba")
    waits = runs.start("a", status="queued", session_id="s")
    assert runs.list(session_id="s") == [third, second, first, waits]
    assert runs.list(task="a", status="running") == [third, first]
    runs.fail(second.id, error_code="x")
    assert [run.id for run in runs.list(error_code="x")] == [second.id]
    assert (runs.list(error_code="y"), runs.list(limit=0)) == ([], [])
    assert len(runs.list(limit=10**9)) == len(runs.list(limit=10**30)) == 4
    with pytest.raises(ValueError, match="limit"):
        runs.list(limit=-1)
    with pytest.raises(ValueError, match="error_code, task"):
        runs.list(path=".")


def test_runs_of_the_same_moment_are_ordered_by_id(runs: Runs) -> None:
    for name in "bca":
        runs.start("t", id=name, started_at=START)
    assert [run.id for run in runs.list()] == ["c", "b", "a"]


def test_the_newest_200_of_each_session_stay(runs: Runs) -> None:
    other = runs.start("t", session_id="other", status="complete", started_at=START - timedelta(days=9))
    old = runs.start("t", session_id="s", id="old", started_at=START - timedelta(days=9))
    for index in range(205):
        fields: dict[str, Any] = {"status": "complete", "started_at": START + timedelta(milliseconds=index)}
        runs.put(Run(id=f"r{index}", session_id="s", task="t", **fields))
    kept = runs.list(session_id="s")
    # One under way is as old as it may be.
    assert [run.id for run in kept] == [*(f"r{index}" for index in range(204, 5, -1)), "old"]
    assert runs.finish(old.id).status == "complete"
    runs.start("t", session_id="s")
    assert runs.get("old") is None
    assert (runs.count(session_id="s"), runs.list(session_id="other")) == (200, [other])


def test_recovery(store: Store, runs: Runs, write: Callable[..., None], file_of: Callable[..., Any]) -> None:
    mine = runs.start("t", id="mine", session_id="s")
    write("dead", task="t", status="running", started_at="2025-12-31T23:59:59Z", held_by="nobody", extra=[1])
    write("told", status="running", error="it said", error_code="its", completed_at="2025-12-31T23:59:59Z")
    write("waiting", status="queued")
    write("bare")
    write("done", status="complete", held_by="nobody")
    write("odd", status="running", started_at="some day", held_by="nobody")
    assert {flight.id: flight.is_alive for flight in store.in_flight()} == {
        **dict.fromkeys(("bare", "dead", "odd", "told", "waiting"), False),
        "mine": True,
    }
    report = store.recover()
    assert sorted((one.id, one.was, one.status) for one in report.settled) == [
        ("bare", "queued", "failed"),
        ("dead", "running", "failed"),
        ("told", "running", "failed"),
        ("waiting", "queued", "failed"),
    ]
    assert [flight.id for flight in report.alive] == ["mine"]
    assert ["odd" in str(problem) for problem in report.problems] == [True]
    dead = runs.require("dead")
    assert (dead.error, dead.error_code) == (REASON, CODE)
    assert dead.completed_at is not None
    assert dead.started_at is not None
    assert dead.duration_ms == (dead.completed_at - dead.started_at) / timedelta(milliseconds=1)
    told = runs.require("told")
    assert (told.error, told.error_code, told.completed_at) == ("it said", "its", START - timedelta(seconds=1))
    assert (runs.require("bare").duration_ms, runs.require("mine")) == (None, mine)
    assert file_of("dead")["extra"] == [1]
    assert "held_by" not in file_of("dead")
    assert file_of("odd")["status"] == "running"
    assert {run.id for run in runs.list(error_code=CODE)} == {"dead", "waiting", "bare"}
    assert store.recover().settled == []


def test_somebody_elses_run(neighbour: Store, runs: Runs) -> None:
    theirs = neighbour.runs.start("t", session_id="s")
    assert [flight.id for flight in runs.recover().alive] == [theirs.id]
    # Whoever asks, and whoever finishes, need not be who holds it.
    assert runs.request_cancel(theirs.id).cancel_requested
    assert [flight.is_alive for flight in runs.in_flight()] == [True]
    assert runs.cancel(theirs.id).status == "cancelled"
    assert runs.in_flight() == []


def test_a_status_that_was_written_by_hand(
    runs: Runs, write: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    runs.start("t", id="fine", session_id="s")
    write("odd", status="runing")
    with pytest.raises(ValidationError, match=r"'runing' is no status; it is one of queued, running"):
        runs.get("odd")
    with pytest.raises(ValidationError, match="runing"):
        runs.finish("odd")
    assert [run.id for run in runs.list()] == ["fine"]
    assert "runing" in caplog.text
    assert ["runing" in str(problem) for problem in runs.problems()] == [True]


def test_what_the_model_does_not_know_stays(
    runs: Runs, write: Callable[..., None], file_of: Callable[[str], dict[str, Any]]
) -> None:
    write("r", task="t", status="running", x={"deep": [1]})
    done = runs.finish("r", exit_code=1)
    assert (done.session_id, done.exit_code) == ("s", 1)
    assert file_of("r")["x"] == {"deep": [1]}


def test_a_new_file_tells_its_status(runs: Runs, file_of: Callable[[str], dict[str, Any]]) -> None:
    runs.start("t", id="r", session_id="s", status="queued")
    assert file_of("r")["status"] == "queued"


def test_runs_outlive_their_session(store: Store, runs: Runs) -> None:
    store.sessions.create(id="s")
    run = runs.start("t", session_id="s")
    store.sessions.delete("s")
    assert runs.finish(run.id).status == "complete"
    assert runs.count(session_id="s") == 1


def test_codes_of_your_own(store: Store, elsewhere_in: Elsewhere) -> None:
    mine: RecordType[Run] = RecordType(
        "checks",
        Run,
        lifecycle=RUNS.lifecycle,
        derive=RUNS.derive,
        recovery=Recovery("failed", RUNS.in_flight, {"error_code": "check_interrupted"}),
    )
    checks = store.records(mine)
    elsewhere_in(Ref("checks", "c", JSON), b'{"status": "running", "started_at": "2025-12-31T00:00:00Z"}')
    assert [one.id for one in checks.recover().settled] == ["c"]
    check = checks.require("c")
    assert (check.status, check.error_code, check.error) == ("failed", "check_interrupted", None)
    assert check.duration_ms is not None
