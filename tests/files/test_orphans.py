"""Runs, audits and jobs of programs that were killed, while others live."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from fsstate.store import Store
from tests.files.processes import start

BUSY = """
from fsstate.store import Store
store = Store(root)
name = sys.argv[2]
store.runs.start("check", session_id="s", id=name)
store.runs.start("check", session_id="s", id=name + "-queued", status="queued")
store.audits.start("write_text", "a.md", session_id="s", id=name)
store.jobs.create("index", id=name + "-queued")
store.jobs.create("index", id=name)
store.jobs.start(name)
print("busy", flush=True)
sys.stdin.read()
store.close()
"""
RECOVER = """
import json
from fsstate.store import Store
store = Store(root)
print("ready", flush=True)
sys.stdin.readline()
report = store.recover()
settled = [(one.category, one.id) for one in report.settled]
print(json.dumps([settled, [str(error) for error in report.problems]]), flush=True)
store.close()
"""


def expect(process: Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


@contextlib.contextmanager
def busy(root: Path, name: str) -> Iterator[Popen[str]]:
    """A program that is at work on two runs, an audit and two jobs."""
    with start(BUSY, root, name) as process:
        expect(process, "busy")
        yield process
        process.kill()


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root) as store:
        yield store


def statuses(store: Store, name: str) -> dict[str, str]:
    queued = f"{name}-queued"
    return {
        "run": store.runs.require(name).status,
        "queued run": store.runs.require(queued).status,
        "audit": store.audits.require(name).status,
        "job": store.jobs.require(name).status,
        "queued job": store.jobs.require(queued).status,
    }


AT_WORK = {"run": "running", "queued run": "queued", "audit": "applying", "job": "running", "queued job": "queued"}
SETTLED = {"run": "failed", "queued run": "failed", "audit": "failed", "job": "queued", "queued job": "queued"}


def test_what_a_killed_program_left_is_settled_and_what_others_do_is_not(root: Path, store: Store) -> None:
    with busy(root, "dies") as dies, busy(root, "lives"):
        assert {flight.is_alive for flight in store.in_flight()} == {True}
        assert store.recover().settled == []
        dies.kill()
        dies.wait()
        orphans = [flight.id for flight in store.in_flight() if not flight.is_alive]
        assert sorted(orphans) == ["dies"] * 3 + ["dies-queued"] * 2
        assert statuses(store, "dies") == AT_WORK
        report = store.recover()
        assert (len(report.settled), len(report.alive), report.problems) == (5, 5, [])
        assert statuses(store, "dies") == SETTLED
        assert statuses(store, "lives") == AT_WORK
        assert store.runs.require("dies").error_code == "workspace_task_interrupted"
        assert store.audits.require("dies").error_code == "workspace_file_change_interrupted"
        assert store.jobs.require("dies").history[-1].phase == "queued_after_resume"
        assert store.recover().settled == []


def test_a_program_that_ends_leaves_its_work_behind(root: Path) -> None:
    with busy(root, "ends") as ends:
        ends.communicate("", timeout=60)
    with Store(root, recover=True) as store:
        assert statuses(store, "ends") == SETTLED
        assert [job.id for job in store.jobs.resume_pending()] == ["ends-queued", "ends"]


def test_programs_that_recover_at_once_settle_each_record_once(root: Path, store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        with busy(root, name):
            pass
    with contextlib.ExitStack() as stack:
        programs = [stack.enter_context(start(RECOVER, root)) for _ in range(4)]
        for program in programs:
            expect(program, "ready")
        for program in programs:
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()
        reports = [json.loads(program.communicate(timeout=60)[0]) for program in programs]
    settled = [tuple(one) for report in reports for one in report[0]]
    assert [report[1] for report in reports] == [[]] * 4
    assert len(settled) == len(set(settled)) == 20
    assert all(statuses(store, name) == SETTLED for name in ("a", "b", "c", "d"))
    assert [len(job.history) for job in store.jobs.list(status="queued") if job.id.endswith("-queued")] == [2] * 4
