"""Records in flight: who holds them, and what becomes of those whose holder is gone."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import CorruptRecordError, NewerVersionError, NotFoundError
from fsstate.lifecycle import Lifecycle
from fsstate.migrations import Migration
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.store import Store
from tests.contract.conftest import Elsewhere
from tests.contract.plans import LIFECYCLE, PLANS, TASKS, Plan, Task, raw, renamed, written

A = Ref("plans/s", "a", JSON)
DEAD = "0199aaaa-0000-7000-8000-000000000000"


@pytest.fixture
def plans(store: Store) -> Records[Plan]:
    return store.records(PLANS)


def running(**more: Any) -> bytes:
    return json.dumps({"id": "a", "status": "running", **more}).encode()


def test_ones_own_records_are_alive(store: Store, plans: Records[Plan]) -> None:
    plans.create("a", session_id="s", status="running")
    plans.create("b", session_id="s")
    [flight] = plans.in_flight()
    assert (flight.id, flight.status, flight.is_alive, flight.path) == ("a", "running", True, plans.path_of("a"))
    assert flight.held_by == written(store, "plans/s", "a")["held_by"]
    report = store.recover(PLANS)
    assert (report.settled, report.alive, report.problems) == ([], [flight], [])
    plans.change("a", status="done")
    assert (plans.in_flight(), plans.recover().alive) == ([], [])
    assert "held_by" not in written(store, "plans/s", "a")


def test_whoever_goes_on_with_an_orphan_takes_it_up(
    store: Store, plans: Records[Plan], neighbour: Store, elsewhere_in: Elsewhere
) -> None:
    elsewhere_in(A, running(held_by=DEAD))
    plans.update("a", lambda plan: plan)
    assert written(store, "plans/s", "a")["held_by"] == DEAD, "nothing was changed"
    plans.change("a", title="x")
    mine = written(store, "plans/s", "a")["held_by"]
    assert mine != DEAD
    assert plans.recover().settled == []
    # Not from somebody who lives.
    neighbour.records(PLANS).change("a", title="y")
    plans.put(Plan(id="a", session_id="s", status="running"))
    assert written(store, "plans/s", "a")["held_by"] == mine


@pytest.mark.parametrize(
    "holder",
    [5, None, "", [], {}, "../../x", "x" * 10_000, "a\x00b\n", "nobody", DEAD, "con", "a/b", "\ud800"],
    ids=lambda holder: repr(holder)[:20],
)
def test_orphans_are_settled(store: Store, plans: Records[Plan], elsewhere_in: Elsewhere, holder: object) -> None:
    elsewhere_in(A, running(held_by=holder, title="x", extra=1) if holder != "" else running(extra=1, title="x"))
    if holder == "\ud800":
        # No text at all: the file is named, and left as it is.
        assert isinstance(plans.recover().problems[0], CorruptRecordError)
        return
    [flight] = plans.in_flight()
    assert (flight.is_alive, flight.held_by) == (False, holder if isinstance(holder, str) and holder else None)
    [settled] = store.recover().settled
    assert (settled.id, settled.was, settled.status, settled.path) == ("a", "running", "failed", flight.path)
    on_disk = written(store, "plans/s", "a")
    assert (on_disk["status"], on_disk["error_code"], on_disk["extra"]) == ("failed", "interrupted", 1)
    assert "held_by" not in on_disk
    assert on_disk["ended_at"] == on_disk["updated_at"]
    assert on_disk["words"] == 1
    data = raw(store, "plans/s", "a")
    assert store.recover().settled == []
    assert plans.in_flight() == []
    assert raw(store, "plans/s", "a") == data


def test_what_is_told_already_is_kept(store: Store, plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(A, running(error_code="own", ended_at="2025-01-01T00:00:00Z"))
    plans.recover()
    on_disk = written(store, "plans/s", "a")
    assert (on_disk["error_code"], on_disk["ended_at"]) == ("own", "2025-01-01T00:00:00Z")


def test_whoever_is_open_is_alive(store: Store, plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(A, running(held_by="somebody"))
    held = store.backend.lock(Ref("holders", "somebody", JSON))
    assert [flight.id for flight in plans.recover().alive] == ["a"]
    held.release()
    assert [settled.id for settled in plans.recover().settled] == ["a"]


def test_looking_writes_nothing(store: Store, plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(A, running())
    plans.in_flight()
    store.in_flight()
    assert raw(store, "plans/s", "a") == running()


# -- back to the queue


def test_the_queue_is_not_written_anew_by_each_recovery(store: Store, elsewhere_in: Elsewhere) -> None:
    tasks = store.records(TASKS)
    for name, document in {
        "dead": {"status": "running", "held_by": DEAD},
        "left": {"status": "queued", "held_by": DEAD},
        "hand": {"status": "queued"},
        "bare": {"name": "x"},
        "nested": {"more": {"status": "done"}, "held_by": DEAD},
    }.items():
        elsewhere_in(Ref("tasks", name, JSON), json.dumps(document, indent=2).encode())
    assert {flight.id for flight in tasks.in_flight()} == {"dead", "left", "nested"}
    settled = tasks.recover().settled
    assert {(one.id, one.was, one.status) for one in settled} == {
        ("dead", "running", "queued"),
        ("left", "queued", "queued"),
        ("nested", "queued", "queued"),
    }
    data = {name: raw(store, "tasks", name) for name in tasks}
    assert not any(b"held_by" in each for each in data.values())
    for _ in range(3):
        assert tasks.recover() == ([], [], [])
    assert {name: raw(store, "tasks", name) for name in tasks} == data
    assert tasks.change("dead", status="running").status == "running"
    assert [flight.is_alive for flight in tasks.in_flight()] == [True]


def test_one_that_waits_may_be_changed_without_being_held(store: Store, elsewhere_in: Elsewhere) -> None:
    tasks = store.records(TASKS)
    elsewhere_in(Ref("tasks", "a", JSON), b'{"status": "queued"}')
    tasks.change("a", tries=1)
    tasks.put(Task(id="a", tries=2))
    assert "held_by" not in written(store, "tasks", "a")
    assert tasks.in_flight() == []


# -- what the quick look at the bytes must not miss


@pytest.mark.parametrize(
    "data",
    [
        b'{"status":"l\\u00e4uft"}',
        '{"status":"läuft"}'.encode(),
        '{ "more": {"status": "ruht"},\n  "status" :\t"läuft" }'.encode(),
    ],
)
def test_every_way_to_write_a_status(store: Store, elsewhere_in: Elsewhere, data: bytes) -> None:
    cycle = Lifecycle(steps={"ruht": ("läuft",), "läuft": ("ruht",)})
    kind = RecordType("plans", dict[str, Any], lifecycle=cycle, recovery=Recovery("ruht", in_flight=("läuft",)))
    elsewhere_in(Ref("plans", "a", JSON), data)
    assert [settled.was for settled in store.records(kind).recover().settled] == ["läuft"]


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{\n  "more": {\n    "status": "done"\n  }\n}\n',
        b'{"more":{"status":"done"}}',
        b'{"status":"running"}',
    ],
)
def test_records_that_begin_in_flight(store: Store, elsewhere_in: Elsewhere, data: bytes) -> None:
    cycle = Lifecycle(steps={"running": ("done", "failed"), "done": (), "failed": ()})
    kind: RecordType[dict[str, Any]] = RecordType(
        "tasks", dict, lifecycle=cycle, recovery=Recovery("failed", in_flight=("running",))
    )
    elsewhere_in(Ref("tasks", "a", JSON), data)
    elsewhere_in(Ref("tasks", "b", JSON), b'{\n  "status": "done"\n}\n')
    assert [settled.id for settled in store.records(kind).recover().settled] == ["a"]


def test_older_versions(store: Store, elsewhere_in: Elsewhere) -> None:
    steps = (Migration(2, "call it status", renamed("state", "status")), Migration(3, "say running", said))
    kind: RecordType[Plan] = RecordType("plans", Plan, lifecycle=LIFECYCLE, recovery=PLANS.recovery, migrations=steps)
    elsewhere_in(Ref("plans", "a", JSON), b'{"state": "doing", "extra": 1}')
    plans = store.records(kind)
    assert [flight.status for flight in plans.in_flight()] == ["running"]
    assert [settled.status for settled in store.recover().settled] == ["failed"]
    on_disk = written(store, "plans", "a")
    assert (on_disk["status"], on_disk["schema_version"], on_disk["extra"]) == ("failed", 3, 1)
    elsewhere_in(Ref("plans", "a", JSON), b'{"status": "running", "schema_version": 4}')
    orphan = b'{"status": "running", "schema_version": 3}'
    elsewhere_in(Ref("plans", "b", JSON), orphan)
    with pytest.raises(NewerVersionError):
        plans.recover()
    assert on_disk_of(store, "b") == orphan, "nothing is touched where a newer program wrote"


def on_disk_of(store: Store, name: str) -> bytes:
    blob = store.backend.read(Ref("plans", name, JSON))
    assert blob is not None
    return blob.data


def said(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "status": {"doing": "running"}.get(document["status"], document["status"])}


# -- several at once


def test_one_that_is_deleted_meanwhile_is_no_problem(
    store: Store, plans: Records[Plan], elsewhere_in: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere_in(A, running())
    backend = store.backend
    change_many = backend.change_many

    def deleting(*args: Any, **kwargs: Any) -> Any:
        elsewhere_in(A, None)
        return change_many(*args, **kwargs)

    monkeypatch.setattr(backend, "change_many", deleting)
    assert plans.recover() == ([], [], [])


def test_many_recover_at_once(store: Store, plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    for number in range(40):
        elsewhere_in(Ref(f"plans/{number % 3}", str(number), JSON), running(id=str(number), held_by=DEAD))
    others = [Store.over(store.backend, types=(PLANS,)) for _ in range(4)]
    settled: list[str] = []
    problems: list[Exception] = []

    def recover(other: Store) -> None:
        report = other.recover()
        settled.extend(one.id for one in report.settled)
        problems.extend(report.problems)

    threads = [threading.Thread(target=recover, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(settled) == sorted(map(str, range(40)))
    assert plans.count(status="failed") == 40


def test_two_stores_on_one_place(store: Store, plans: Records[Plan]) -> None:
    other = Store.over(store.backend, types=(PLANS,))
    plans.create("a", session_id="s")
    other.records(PLANS).change("a", status="running")
    assert [flight.is_alive for flight in plans.in_flight()] == [True]
    assert plans.recover().settled == []
    with pytest.raises(NotFoundError):
        other.records(PLANS).change("b", size=1)
    other.close()


def test_records_of_sessions_are_recovered_in_all_of_them(store: Store, elsewhere_in: Elsewhere) -> None:
    kind: RecordType[Plan] = RecordType("notes", Plan, parent="sessions", lifecycle=LIFECYCLE, recovery=PLANS.recovery)
    for name in ("s", "t"):
        store.sessions.create(id=name)
        elsewhere_in(Ref(f"sessions/{name}/notes", "a", JSON), running())
    # What a deleted session left behind belongs to nobody.
    elsewhere_in(Ref("sessions/gone/notes", "a", JSON), running())
    report = store.recover(kind)
    assert sorted(one.category for one in report.settled) == ["sessions/s/notes", "sessions/t/notes"]
    assert report.problems == []
    assert store.session("s").records(kind)["a"].status == "failed"


@pytest.mark.parametrize("recovery", [Recovery("failed", ("draft",)), Recovery("draft", ("running",))])
def test_a_recovery_must_be_a_step(recovery: Recovery) -> None:
    with pytest.raises(ValueError, match="allows no step"):
        RecordType("plans", Plan, lifecycle=LIFECYCLE, recovery=recovery)


def test_a_recovery_may_lead_to_a_status_of_ones_own(store: Store, elsewhere_in: Elsewhere) -> None:
    cycle = Lifecycle({"running": ("done", "*"), "done": (), "*": ()})
    kind = RecordType("plans", dict[str, Any], lifecycle=cycle, recovery=Recovery("abandoned", ("running",)))
    elsewhere_in(Ref("plans", "a", JSON), b'{"status": "running"}')
    assert [settled.status for settled in store.records(kind).recover().settled] == ["abandoned"]
