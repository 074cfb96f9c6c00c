"""Jobs in the background."""

import json
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import AlreadyExistsError, InvalidTransitionError, InvalidValueError, NotFoundError, ValidationError
from fsstate.jobs import Job, JobEvent, Jobs
from fsstate.store import Store
from tests.contract.conftest import Background, Elsewhere, FakeClock


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return store.jobs


@pytest.fixture
def file_of(store: Store) -> Callable[[str], dict[str, Any]]:
    """What is on disk of a job."""

    def read(name: str) -> dict[str, Any]:
        blob = store.backend.read(Ref("jobs", name, JSON))
        assert blob is not None
        found: dict[str, Any] = json.loads(blob.data)
        return found

    return read


@pytest.fixture
def write(elsewhere_in: Elsewhere) -> Callable[..., None]:
    """Write the file of a job, as another program does."""

    def put(key: str, **fields: object) -> None:
        elsewhere_in(Ref("jobs", key, JSON), json.dumps({"id": key, **fields}).encode())

    return put


def phases(job: Job) -> list[str]:
    return [event.phase for event in job.history]


def test_a_job_goes_its_way(store: Store, jobs: Jobs) -> None:
    job = jobs.create("index", detail={"files": 3}, metadata={"k": 1})
    assert (job.status, job.progress, job.attempt, job.max_attempts, job.backoff_ms) == ("queued", 0, 0, 3, 500)
    started = jobs.start(job.id)
    assert started.started_at == started.updated_at
    assert jobs.progress(job.id, 40).detail == {"files": 3}
    assert jobs.progress(job.id, 62.5, "two of three").progress == 62.5
    done = jobs.complete(job.id, {"found": 7})
    assert (done.status, done.progress, done.result, done.detail) == ("completed", 100, {"found": 7}, "two of three")
    assert done.completed_at == done.updated_at
    assert done.is_final
    assert phases(done) == ["created", "running", "progress_updated", "progress_updated", "completed"]
    assert done.history[0] == JobEvent(
        at=job.created_at, phase="created", status="queued", progress=0, detail={"files": 3}
    )
    assert done.history[3].progress == 62.5
    for each in (jobs, Store.over(store.backend).jobs):
        assert each.get(job.id) == each.require(job.id) == done
        assert each.list() == each.list(name="index") == [done]
        assert each.list(status="queued") == []


@pytest.mark.parametrize("end", ["complete", "cancel"])
def test_a_job_that_ended_stays_so(jobs: Jobs, end: str) -> None:
    job = jobs.create("a")
    ended = getattr(jobs, end)(job.id)
    assert ended.is_final
    for act in (jobs.start, jobs.pause, jobs.resume, jobs.complete, jobs.fail, jobs.cancel):
        with pytest.raises(InvalidTransitionError, match="final"):
            act(job.id)
    with pytest.raises(InvalidTransitionError):
        jobs.progress(job.id, 50)
    with pytest.raises(InvalidTransitionError):
        jobs.retry(job.id)
    assert jobs.require(job.id) == ended


def test_a_job_is_started_once(jobs: Jobs) -> None:
    job = jobs.create("a")
    jobs.start(job.id)
    with pytest.raises(InvalidTransitionError, match="running"):
        jobs.start(job.id)
    with pytest.raises(InvalidTransitionError):
        jobs.retry(job.id)
    assert phases(jobs.require(job.id)) == ["created", "running"]


def test_of_many_that_start_a_job_one_does(jobs: Jobs) -> None:
    job = jobs.create("a")

    def start() -> bool:
        try:
            jobs.start(job.id)
        except InvalidTransitionError:
            return False
        return True

    assert sorted(bool(each.result()) for each in [Background(start) for _ in range(6)]) == [False] * 5 + [True]


@pytest.mark.parametrize(("given", "kept"), [(100.5, 100), (255, 100), (10**400, 100), (0, 0), (99.5, 99.5)])
def test_progress_ends_at_100(jobs: Jobs, given: float, kept: float) -> None:
    job = jobs.create("a", progress=1)
    assert jobs.progress(job.id, given).progress == kept
    jobs.change(job.id, progress=1)
    assert jobs.change(job.id, progress=given).progress == kept
    assert jobs.create("b", progress=given).progress == kept


@pytest.mark.parametrize("given", [-1, -0.5, math.nan, math.inf, True, "50", None, [50]])
def test_what_is_no_progress(jobs: Jobs, given: Any) -> None:
    job = jobs.create("a")
    with pytest.raises(InvalidValueError, match=r"progress is a number from 0 to 100"):
        jobs.progress(job.id, given)
    assert jobs.require(job.id) == job


def test_no_door_lets_negative_progress_in(jobs: Jobs) -> None:
    job = jobs.create("a")
    with pytest.raises(InvalidValueError, match="progress"):
        jobs.change(job.id, progress=-1)
    with pytest.raises(InvalidValueError, match="progress"):
        jobs.create("b", progress=-1)
    assert jobs.list() == [job]
    assert jobs.create("b", progress=None).progress is None


def test_pause_and_resume(store: Store, jobs: Jobs, file_of: Callable[[str], dict[str, Any]]) -> None:
    job = jobs.start(jobs.create("a").id)
    jobs.progress(job.id, 30)
    paused = jobs.pause(job.id, "lunch")
    assert (paused.status, paused.detail, paused.progress) == ("paused", "lunch", 30)
    assert jobs.progress(job.id, 35).status == "paused"
    assert "held_by" not in file_of(job.id)
    assert store.in_flight() == []
    resumed = jobs.resume(job.id)
    assert (resumed.status, resumed.detail, resumed.started_at) == ("running", "lunch", job.started_at)
    assert phases(resumed)[-4:] == ["progress_updated", "paused", "progress_updated", "resumed"]
    assert [flight.is_alive for flight in jobs.in_flight()] == [True]


def test_failing_and_trying_again(jobs: Jobs, clock: FakeClock) -> None:
    job = jobs.create("a")
    for attempt, backoff in ((1, 500), (2, 1000)):
        jobs.start(job.id)
        jobs.progress(job.id, 10)
        failed = jobs.fail(job.id, {"code": attempt}, detail="no network")
        assert (failed.status, failed.attempt, failed.error) == ("failed", attempt, {"code": attempt})
        assert (failed.next_backoff_ms, failed.can_retry, failed.is_final) == (backoff, True, False)
        assert failed.updated_at is not None
        assert failed.next_retry_at is not None
        assert failed.next_retry_at == failed.updated_at + timedelta(milliseconds=backoff)
        assert failed.history[-1].next_retry_at == failed.next_retry_at
        assert jobs.due(failed.next_retry_at - timedelta(milliseconds=1)) == []
        assert jobs.due(failed.next_retry_at) == [failed]
        clock.advance(seconds=2)
        assert jobs.due() == [failed]
        again = jobs.retry(job.id)
        assert (again.status, again.attempt, again.error, again.progress) == ("queued", attempt, None, 0)
        assert (again.next_backoff_ms, again.next_retry_at, again.completed_at, again.started_at) == (
            0,
            None,
            None,
            None,
        )
    jobs.start(job.id)
    last = jobs.fail(job.id, "no")
    assert (last.attempt, last.next_backoff_ms, last.next_retry_at) == (3, 0, None)
    assert (last.is_final, last.can_retry, jobs.due()) == (True, False, [])
    for act in (jobs.retry, lambda name: jobs.change(name, status="queued")):
        with pytest.raises(InvalidTransitionError, match="failed 3 times of 3"):
            act(job.id)
    assert phases(last)[:5] == ["created", "running", "progress_updated", "failed", "retried"]
    assert jobs.require(job.id) == last
    assert jobs.cancel(job.id).status == "cancelled"


def test_more_attempts_may_be_allowed_later(jobs: Jobs) -> None:
    job = jobs.create("a", max_attempts=1)
    assert jobs.fail(job.id).next_retry_at is None
    jobs.change(job.id, max_attempts=2)
    assert jobs.retry(job.id).status == "queued"


@pytest.mark.parametrize(
    ("attempt", "base", "backoff"),
    [(3, 500, 4000), (20, 1, 2**20), (21, 1, 2**20), (400, 1, 2**20), (0, 0, 0), (50, 10**15, 365 * 86_400_000)],
)
def test_the_wait_doubles_up_to_a_limit(jobs: Jobs, attempt: int, base: int, backoff: int) -> None:
    job = jobs.create("a", attempt=attempt, max_attempts=1000, backoff_ms=base)
    failed = jobs.fail(job.id)
    assert (failed.attempt, failed.next_backoff_ms) == (attempt + 1, backoff)
    assert failed.updated_at is not None
    assert failed.next_retry_at == failed.updated_at + timedelta(milliseconds=backoff)


def test_due_jobs_come_in_the_order_of_their_times(jobs: Jobs, clock: FakeClock) -> None:
    for name, wait in (("slow", 9000), ("fast", 10), ("never", 10**9)):
        jobs.create(name, id=name, backoff_ms=wait)
        jobs.fail(name)
    clock.advance(minutes=1)
    assert [job.id for job in jobs.due()] == ["fast", "slow"]


def test_the_history_keeps_the_newest_64(jobs: Jobs) -> None:
    job = jobs.create("a")
    for percent in range(1, 81):
        jobs.progress(job.id, percent)
    history = jobs.require(job.id).history
    assert [event.progress for event in history] == list(range(17, 81))
    jobs.progress(job.id, 80)
    assert jobs.require(job.id).history == history
    assert jobs.change(job.id, metadata={"k": 1}).history == history


def test_a_job_brought_from_elsewhere_keeps_its_history(jobs: Jobs) -> None:
    history = [JobEvent(phase="created", status="queued"), JobEvent(phase="failed", status="failed")]
    job = jobs.put(Job(id="j", name="a", status="failed", attempt=1, history=history))
    assert (job.history, job.attempt, job.next_retry_at) == (history, 1, None)
    assert phases(jobs.retry("j")) == ["created", "failed", "retried"]


def test_put_is_for_those_who_keep_the_whole(jobs: Jobs) -> None:
    jobs.put(Job(id="j", name="a", progress=5))
    put = jobs.put(Job(id="j", name="b", status="running", progress=150))
    assert (put.name, put.progress, phases(put)) == ("b", 100, ["created", "running"])
    assert put.started_at is not None
    assert [flight.is_alive for flight in jobs.in_flight()] == [True]
    jobs.complete("j")
    with pytest.raises(InvalidTransitionError):
        jobs.put(Job(id="j", name="a", status="running"))


def test_ids_and_bad_fields(jobs: Jobs) -> None:
    jobs.create("a", id="one")
    with pytest.raises(AlreadyExistsError):
        jobs.create("b", id="one")
    with pytest.raises(TypeError, match="no_field"):
        jobs.create("b", no_field=1)
    unfit: list[dict[str, Any]] = [{"status": "odd"}, {"max_attempts": -1}, {"backoff_ms": -1}, {"attempt": "x"}]
    for bad in unfit:
        with pytest.raises(ValidationError):
            jobs.create("b", **bad)
    for act in (jobs.start, jobs.retry, jobs.require, lambda name: jobs.progress(name, 1)):
        with pytest.raises(NotFoundError, match="nobody"):
            act("nobody")
    assert jobs.count() == 1


def test_lists(jobs: Jobs) -> None:
    first, second = jobs.create("a"), jobs.create("b")
    first = jobs.start(first.id)
    assert jobs.list() == [first, second]
    assert (jobs.list(limit=0), jobs.list(limit=1), len(jobs.list(limit=10**9))) == ([], [first], 2)
    assert jobs.list(status="queued", name="b") == [second]
    with pytest.raises(ValueError, match="limit"):
        jobs.list(limit=-1)
    with pytest.raises(ValueError, match="id, status, name"):
        jobs.list(progress=0)


def test_recovery(
    store: Store, jobs: Jobs, write: Callable[..., None], file_of: Callable[[str], dict[str, Any]]
) -> None:
    write("dead", name="a", status="running", progress=40, started_at="2025-12-31T00:00:00Z", held_by="nobody", x=1)
    write("queued", name="b", status="queued", held_by="nobody", progress=0, attempt=1)
    write("paused", name="c", status="paused")
    write("bare", name="d")
    write("odd", name="e", status="running", history="spoilt by hand")
    before = file_of("bare")
    report = store.recover()
    assert sorted((one.id, one.was, one.status) for one in report.settled) == [
        ("dead", "running", "queued"),
        ("queued", "queued", "queued"),
    ]
    assert ["history" in str(problem) for problem in report.problems] == [True]
    dead = jobs.require("dead")
    assert (dead.status, dead.progress, dead.started_at, dead.attempt) == ("queued", 40, None, 0)
    assert phases(dead) == phases(jobs.require("queued")) == ["queued_after_resume"]
    assert file_of("dead")["x"] == 1
    assert "held_by" not in file_of("dead")
    assert file_of("odd")["history"] == "spoilt by hand"
    # Nobody works on those that wait now: there is nothing more to settle.
    files = [file_of(name) for name in ("dead", "queued")]
    assert store.recover().settled == []
    assert [file_of(name) for name in ("dead", "queued")] == files
    assert file_of("bare") == before
    restarted = jobs.start("dead")
    assert restarted.started_at == restarted.updated_at


def test_resume_pending(neighbour: Store, jobs: Jobs, write: Callable[..., None]) -> None:
    theirs, running = neighbour.jobs.create("theirs"), neighbour.jobs.create("running")
    neighbour.jobs.start(running.id)
    write("dead", name="a", status="running", created_at="2025-12-30T00:00:00Z", held_by="nobody")
    write("queued", name="b", status="queued", created_at="2025-12-31T00:00:00Z", held_by="nobody")
    write("paused", name="c", status="paused")
    mine = jobs.create("mine")
    assert [job.id for job in jobs.resume_pending()] == ["dead", "queued", mine.id]
    assert [job.id for job in jobs.resume_pending()] == ["dead", "queued", mine.id]
    assert [job.id for job in neighbour.jobs.resume_pending()] == ["dead", "queued", theirs.id]
    assert jobs.start("dead").status == "running"
    assert jobs.require(running.id).status == "running"
    with pytest.raises(InvalidTransitionError):
        neighbour.jobs.start("dead")


def test_a_status_that_was_written_by_hand(jobs: Jobs, write: Callable[..., None]) -> None:
    write("odd", name="a", status="runing")
    write("far", name="b", status="running", progress=250)
    with pytest.raises(ValidationError, match=r"'runing' is no status; it is one of queued, running"):
        jobs.start("odd")
    assert [job.id for job in jobs.list()] == ["far"]
    assert len(jobs.problems()) == 1
    assert jobs.fail("far").progress == 250
    assert jobs.retry("far").progress == 0


def test_what_the_model_does_not_know_stays(
    jobs: Jobs, write: Callable[..., None], file_of: Callable[[str], dict[str, Any]]
) -> None:
    write("j", name="a", status="running", x={"deep": [1]}, history=[{"phase": "created", "y": 2}])
    jobs.progress("j", 7)
    found = file_of("j")
    assert found["x"] == {"deep": [1]}
    assert found["history"][0] == {"phase": "created", "y": 2}
    assert found["history"][1]["progress"] == 7


def test_due_needs_a_zone(jobs: Jobs) -> None:
    with pytest.raises(ValueError, match="now needs a zone"):
        jobs.due(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
