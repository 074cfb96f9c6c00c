"""Databases of other programs: every row accounted for, nothing written twice, the database left as it is."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import pytest

from fsstate import (
    CorruptRecordError,
    InvalidValueError,
    LockTimeoutError,
    NewerFormatError,
    NotFoundError,
    Store,
    StoreOptions,
)
from fsstate.integrations.sqlite import ImportReport, import_sqlite
from fsstate.integrations.sqlite.soma import TABLES
from fsstate.session_config import BearerAuth, LocalWorkspace, Mixed, PreApproved, RemoteWorkspace, Whitelist
from tests.integrations import schemas

Make: TypeAlias = Callable[..., Path]

T0 = "2025-01-01T00:00:00+00:00"
T1 = "2025-01-01T00:00:01.500000+00:00"
AT0 = datetime(2025, 1, 1, tzinfo=UTC)
S0 = int(AT0.timestamp())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a database of a schema with rows: table=[{column: value}]."""

    def make(schema: str, **tables: list[dict[str, Any]]) -> Path:
        path = tmp_path / "source" / "state.db"
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(schema)
            for table, rows in tables.items():
                for row in rows:
                    add(connection, table, row)
        return path

    return make


def add(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    cells = [json.dumps(value) if isinstance(value, dict | list) else value for value in row.values()]
    marks = ", ".join("?" * len(cells))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", cells)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "locks" not in path.parts
    }


def numbers(report: ImportReport) -> dict[str, tuple[int, int, int, int]]:
    """Found, imported, unchanged and failed, of the kinds that there are."""
    told = {kind: (each.found, each.imported, each.unchanged, each.failed) for kind, each in report.tallies.items()}
    return {kind: each for kind, each in told.items() if any(each)}


def imported(store: Store, path: Path, system: str, **wanted: int) -> ImportReport:
    """Import twice, without a problem, and see that the second time and the database are as they should be."""
    before = files_of(path.parent)
    report = import_sqlite(store, path, system)
    assert report.problems == []
    assert numbers(report) == {kind: (number, number, 0, 0) for kind, number in wanted.items() if number}
    written = files_of(Path(store.path))
    again = import_sqlite(store, path, system)
    assert again.problems == []
    assert numbers(again) == {kind: (number, 0, number, 0) for kind, number in wanted.items() if number}
    assert files_of(Path(store.path)) == written
    assert files_of(path.parent) == before
    return report


# steer


def steer_session(name: str = "s1", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "created_at": T0,
        "updated_at": T1,
        "status": "inactive",
        "metadata": {"index": "1"},
        "tool_policy_type": "mixed",
        "pre_approved_tools": ["grep"],
        "tool_config": {"visibility": "all", "approval_policy": {"type": "mixed", "ask_for_others": False}},
        "workspace_config": {"type": "local", "path": "/w"},
        "system_prompt": "Be brief.",
        **more,
    }


def steer_message(name: str, number: int, role: str, content: Any, parent: str | None = None) -> dict[str, Any]:
    row = {"id": name, "session_id": "s1", "sequence_num": number, "role": role, "content": content}
    return {**row, "created_at": T1, "parent_message_id": parent}


@pytest.fixture
def steer(make: Make) -> Path:
    text = [{"type": "text", "text": "Hello"}]
    call = {"id": "c1", "session_id": "s1", "tool_name": "grep", "parameters": {"q": "x"}, "status": "completed"}
    event = {"session_id": "s1", "created_at": T1}
    return make(
        schemas.STEER,
        sessions=[steer_session(active_message_id="m2")],
        messages=[
            steer_message("m1", 0, "user", text),
            steer_message("m2", 1, "assistant", [{"type": "tool_call", "tool_call": {"id": "c1"}}], "m1"),
            steer_message("m3", 2, "tool", {"tool_use_id": "c1", "result": {"search": []}}, "m2"),
            steer_message("m4", 3, "user", text, "m1"),
        ],
        tool_calls=[
            {**call, "result": "two", "kind": "search", "payload_json": {"n": 2}, "started_at": T0, "completed_at": T1},
            {**call, "id": "c2", "status": "failed", "error": "no", "error_json": {"message": "no"}, "kind": "error"},
            {**call, "id": "c3", "status": "pending", "kind": "external"},
        ],
        events=[
            {**event, "sequence_num": 0, "event_type": "session_saved", "event_data": {"type": "session_saved"}},
            {
                **event,
                "sequence_num": 3,
                "event_type": "message_complete",
                "event_data": {"type": "message_complete", "model": "m-9", "message": {"id": "m1"}},
            },
            {**event, "sequence_num": 4, "event_type": "odd", "event_data": {"type": "odd", "kind": "x", "seq": 1}},
        ],
    )


def test_steer(store: Store, steer: Path) -> None:
    report = imported(store, steer, "steer", sessions=1, messages=4, tool_calls=3, events=3, documents=1)
    assert report.ids == ["s1"]
    session = store.sessions["s1"]
    assert (session.status, session.created_at, session.updated_at) == (
        "inactive",
        AT0,
        AT0.replace(second=1, microsecond=500000),
    )
    assert session.metadata == {"index": "1", "imported": {"from": "steer", "id": "s1"}}
    one = store.session("s1")
    assert [message.id for message in one.messages.list()] == ["m1", "m2"]
    assert [message.id for message in one.messages.leaves()] == ["m3", "m4"]
    tool = one.messages.get("m3")
    assert tool is not None
    assert (tool.tool_call_id, tool.metadata) == ("c1", {"sequence_num": 2})
    assert tool.content == {"tool_use_id": "c1", "result": {"search": []}}
    config = one.config.require()
    assert (config.system_prompt, config.workspace) == ("Be brief.", LocalWorkspace("/w"))
    assert config.tools.approval == Mixed({"grep"}, ask_for_others=False)


def test_steer_configs_of_other_kinds(store: Store, make: Make) -> None:
    remote = {"type": "remote", "agent_address": "a:1", "auth": {"Bearer": {"token": "t"}}}
    tools = {"visibility": {"whitelist": ["ls"]}, "tools": {"bash": {"approved_patterns": ["git *"]}}}
    more: dict[str, Any] = {"tool_policy_type": "pre_approved", "workspace_config": remote, "tool_config": tools}
    path = make(schemas.STEER, sessions=[steer_session(**more), steer_session("s2", workspace_config={"type": "x"})])
    report = import_sqlite(store, path, "steer")
    assert [problem.reason for problem in report.problems] == [
        "workspace was kept as workspace_as_found, as it does not fit"
    ]
    config = store.session("s1").config.require()
    assert config.workspace == RemoteWorkspace("a:1", BearerAuth("t"))
    assert (config.tools.visibility, config.tools.approval) == (Whitelist({"ls"}), PreApproved({"grep"}))
    assert config.tools.tools["bash"].approved_patterns == ["git *"]
    assert store.session("s2").config.require().workspace is None


def test_steer_tool_calls_keep_all_that_is_told_of_a_result(store: Store, steer: Path) -> None:
    import_sqlite(store, steer, "steer")
    done, failed, pending = store.session("s1").tool_calls.list()
    assert (done.result, done.started_at, done.metadata) == ({"n": 2}, AT0, {"result": "two", "kind": "search"})
    assert (failed.error, failed.metadata) == ("no", {"error_json": {"message": "no"}, "kind": "error"})
    assert store.session("s1").tool_calls.approve(pending.id).status == "approved"


def test_steer_events_keep_their_numbers(store: Store, steer: Path) -> None:
    import_sqlite(store, steer, "steer")
    first, second, third = store.session("s1").events
    assert [each["sequence_num"] for each in (first, second, third)] == [0, 3, 4]
    assert (second.kind, second["model"]) == ("message_complete", "m-9")
    assert third["data"] == {"type": "odd", "kind": "x", "seq": 1}


def test_a_head_that_is_none_of_the_messages_is_told(store: Store, steer: Path) -> None:
    change(steer, "UPDATE sessions SET active_message_id = 'gone'")
    (problem,) = import_sqlite(store, steer, "steer").problems
    assert str(problem).startswith(f"{steer}, table sessions, row 1: active_message_id 'gone'")
    head = store.session("s1").messages.head()
    assert head is not None
    assert head.id == "m4"
    assert store.sessions["s1"].metadata["steer"] == {"active_message_id": "gone"}


# zero


@pytest.fixture
def zero(make: Make) -> Path:
    event = {"session_id": 1, "at": T0, "kind": "prompt"}
    return make(
        schemas.ZERO,
        sessions=[
            {"ulid": "01HA", "started_at": T0, "ended_at": T1, "engine_base_url": "http://x", "cli_version": "0.3"},
            {"ulid": "01HB", "started_at": T1, "cli_version": "0.3", "parent_ulid": "01HA"},
        ],
        events=[{**event, "seq": 1, "text": "> hi"}, {**event, "seq": 2, "kind": "system", "text": "welcome"}],
        milestones=[
            {"key": "welcome_shown", "value": "true", "at": T0},
            {"key": "session.label.night", "value": "01HB", "at": T1},
            {"key": "odd//../x", "value": "1", "at": T1},
        ],
    )


def test_zero(store: Store, zero: Path) -> None:
    imported(store, zero, "zero", sessions=2, events=2, settings=3)
    first, second = store.sessions["01HA"], store.sessions["01HB"]
    assert (first.status, first.created_at, first.ended_at) == ("ended", AT0, AT0.replace(second=1, microsecond=500000))
    assert (second.status, second.parent_id, second.label, second.ended_at) == ("active", "01HA", "night", None)
    assert first.metadata["zero"] == {"id": 1, "engine_base_url": "http://x", "cli_version": "0.3"}
    assert store.sessions.find("night").id == "01HB"
    assert store.settings.items() == {
        "milestones/odd/%/%2E%2E/x": "1",
        "milestones/session.label.night": "01HB",
        "milestones/welcome_shown": "true",
    }
    assert store.settings.get("milestones/odd/%/%2E%2E/x") == "1"
    assert [(each.seq, each.kind, each["text"]) for each in store.session("01HA").events] == [
        (1, "prompt", "> hi"),
        (2, "system", "welcome"),
    ]


# codewhale


def thread(name: str, **more: Any) -> dict[str, Any]:
    row = {"id": name, "preview": "p", "ephemeral": 0, "model_provider": "m", "created_at": S0, "updated_at": S0 + 9}
    return {**row, "status": "idle", "cwd": "/w", "cli_version": "1", "source": "interactive", **more}


@pytest.fixture
def codewhale(make: Make) -> Path:
    message = {"thread_id": "thread-1", "role": "user", "created_at": S0 + 1}
    traced = {"workflow_run_id": "w1", "status": "completed", "started_at": S0}
    return make(
        schemas.CODEWHALE,
        threads=[
            thread("thread-1", title="One", current_leaf_id=2, memory_mode="local", git_sha="abc"),
            thread("thread-2", status="archived", archived=1, archived_at=S0 + 5, current_leaf_id=4),
        ],
        messages=[
            {**message, "content": "a"},
            {**message, "content": "b", "role": "assistant", "parent_entry_id": 1, "item_json": {"usage": 3}},
            {**message, "content": "c", "parent_entry_id": 1},
            {
                **message,
                "thread_id": "thread-2",
                "role": "history",
                "content": "forked",
                "item_json": {"type": "fork", "from_thread_id": "thread-1"},
            },
        ],
        thread_dynamic_tools=[
            {"thread_id": "thread-1", "position": 1, "name": "z", "input_schema": {"type": "object"}},
            {"thread_id": "thread-1", "position": 0, "name": "y", "description": "d", "input_schema": {}},
        ],
        checkpoints=[
            {"thread_id": "thread-1", "checkpoint_id": "latest", "state_json": {"n": 1}, "created_at": S0 + 2},
            {"thread_id": "thread-1", "checkpoint_id": "a/b", "state_json": [1], "created_at": S0 + 3},
        ],
        thread_goals=[
            {
                "thread_id": "thread-1",
                "goal_id": "goal-1",
                "objective": "win",
                "status": "active",
                "token_budget": 100,
                "tokens_used": 7,
                "created_at": S0,
                "updated_at": S0,
            }
        ],
        jobs=[
            {"id": "job-1", "name": "j", "status": "queued", "created_at": S0, "updated_at": S0, "detail": "soon"},
            {"id": "job-2", "name": "k", "status": "completed", "progress": 100, "created_at": S0, "updated_at": S0},
        ],
        workflow_runs=[
            {"id": "w1", "workflow_id": "f", "goal": "g", "status": "completed", "started_at": S0, "completed_at": S0}
        ],
        branch_runs=[{**traced, "id": "b1", "branch_id": "b", "node_id": "n"}],
        leaf_runs=[{**traced, "id": "l1", "leaf_id": "l", "task_id": "t", "input_hash": "h", "output_json": {"x": 1}}],
        control_node_runs=[{**traced, "id": "n1", "node_id": "n", "kind": "loop", "selected_children_json": ["b"]}],
        teacher_candidates=[
            {
                "id": "t1",
                "workflow_run_id": "w1",
                "control_node_run_id": "n1",
                "candidate_id": "c",
                "score": 0.5,
                "passed": 1,
                "created_at": S0,
            }
        ],
    )


CODEWHALE = {
    "sessions": 2,
    "messages": 4,
    "tools": 2,
    "checkpoints": 2,
    "goals": 1,
    "jobs": 2,
    "workflows": 5,
}


def test_codewhale_threads(store: Store, codewhale: Path) -> None:
    imported(store, codewhale, "codewhale", **CODEWHALE)
    first, second = store.sessions["thread-1"], store.sessions["thread-2"]
    assert (first.title, first.status, first.memory_mode, first.archived_at) == ("One", "idle", "local", None)
    assert first.metadata["codewhale"]["git_sha"] == "abc"
    assert (second.parent_id, second.archived_at) == ("thread-1", AT0.replace(second=5))
    one = store.session("thread-1")
    assert [message.content for message in one.messages.list()] == ["a", "b"]
    assert [message.id for message in one.messages.leaves()] == ["2", "3"]
    told = one.messages.get("2")
    assert told is not None
    assert told.metadata == {"item": {"usage": 3}}


def test_codewhale_goals_tools_and_checkpoints(store: Store, codewhale: Path) -> None:
    import_sqlite(store, codewhale, "codewhale")
    one = store.session("thread-1")
    goal = one.goal.require()
    assert (goal.id, goal.objective, goal.status, goal.token_budget) == ("goal-1", "win", "active", 100)
    assert one.goal.spend(tokens=100).status == "budget_limited"
    assert [(tool.name, tool.description, tool.input_schema) for tool in one.tools.list()] == [
        ("y", "d", {}),
        ("z", None, {"type": "object"}),
    ]
    latest, other = one.checkpoints.load("latest"), one.checkpoints.load()
    assert latest is not None
    assert other is not None
    assert (latest.state, latest.saved_at) == ({"n": 1}, AT0.replace(second=2))
    assert (other.name, other.state) == ("a/b", [1])


def test_codewhale_jobs(store: Store, codewhale: Path) -> None:
    told = {
        "schema_version": 1,
        "status": "paused",
        "detail": "half way",
        "retry": {
            "attempt": 1,
            "max_attempts": 3,
            "backoff_base_ms": 250,
            "next_backoff_ms": 500,
            "next_retry_at": S0 + 7,
        },
        "history": [{"at": S0, "phase": "created", "status": "queued", "progress": 0, "detail": None}],
    }
    with closing(sqlite3.connect(codewhale)) as connection, connection:
        row = {"id": "job-3", "name": "l", "status": "running", "progress": 50, "detail": told}
        add(connection, "jobs", {**row, "created_at": S0, "updated_at": S0 + 1})
    imported(store, codewhale, "codewhale", **{**CODEWHALE, "jobs": 3})
    job = store.jobs.require("job-3")
    assert (job.status, job.progress, job.detail, job.attempt, job.backoff_ms) == ("paused", 50, "half way", 1, 250)
    assert (job.next_retry_at, job.history[0].at, job.history[0].phase) == (AT0.replace(second=7), AT0, "created")
    assert (store.jobs.require("job-1").detail, store.jobs.require("job-2").progress) == ("soon", 100)
    assert store.jobs.problems() == []


def test_codewhale_workflows(store: Store, codewhale: Path) -> None:
    import_sqlite(store, codewhale, "codewhale")
    run = store.workflows.require("w1")
    assert (run.workflow_id, run.goal, run.started_at) == ("f", "g", AT0)
    workflow = store.workflow("w1")
    assert workflow.branches.require("b1").branch_id == "b"
    leaf = workflow.leaves.replay("l", "h")
    assert leaf is not None
    assert leaf.output == {"x": 1}
    assert workflow.nodes.require("n1").selected_children == ["b"]
    candidate = workflow.candidates.require("t1")
    assert (candidate.score, candidate.passed, candidate.created_at) == (0.5, True, AT0)
    assert store.workflows.problems() == []


def test_records_that_do_not_fit_are_told(store: Store, codewhale: Path) -> None:
    change(
        codewhale,
        "UPDATE jobs SET status = 'odd' WHERE id = 'job-1'",
        "UPDATE jobs SET progress = 'most' WHERE id = 'job-2'",
        "UPDATE workflow_runs SET started_at = 'then'",
        "UPDATE leaf_runs SET artifacts_json = '{}'",
    )
    report = import_sqlite(store, codewhale, "codewhale")
    assert [(problem.place, problem.reason) for problem in report.problems] == [
        (
            "table jobs, row 1",
            "it was imported as queued, as 'odd' is no status of jobs; that is kept as status_as_found",
        ),
        ("table jobs, row 2", "progress was kept as progress_as_found, as it does not fit"),
        ("table workflow_runs, row 1", "column started_at was kept as started_at_as_found, as 'then' is no time"),
        ("table leaf_runs, row 1", "artifacts was kept as artifacts_as_found, as it does not fit"),
    ]
    assert numbers(report)["jobs"] == (2, 2, 0, 0)
    assert store.jobs.ids() == ["job-1", "job-2"]
    assert store.collection("jobs")["job-2"]["progress_as_found"] == "most"
    assert store.workflow("w1").leaves.require("l1").artifacts == []


# soma


@pytest.fixture
def soma(make: Make) -> Path:
    message = {"conversation_id": "k1", "role": "user", "status": "complete", "created_at": "2025-01-01 00:00:01"}
    run: dict[str, Any] = {"session_id": "u1", "task_id": "git_status", "path": "/w", "command_label": "git status"}
    run |= {"stdout_tail": "clean", "stderr_tail": "", "stdout_truncated": 1, "stderr_truncated": 0, "timed_out": 0}
    run |= {"cancel_requested": 0, "max_output_bytes": 4096}
    audit = {"session_id": "u1", "action": "rename_path", "path": "/w/a", "target_path": "/w/b"}
    file = {"source_root_id": "r1", "fingerprint": "f", "size_bytes": 3, "file_type": "md", "status": "indexed"}
    return make(
        schemas.SOMA,
        sessions=[{"id": "u1", "created_at": "2025-01-01 00:00:00"}, {"id": "u/2"}],
        conversations=[
            {"id": "k1", "session_id": "u1", "title": "A talk", "created_at": "2025-01-01 00:00:00"},
            {"id": "k2", "session_id": "u2", "title": "New conversation", "created_at": "2025-01-01 00:00:00"},
        ],
        messages=[
            {**message, "id": "m1", "sequence": 1, "content": "Hello"},
            {
                **message,
                "id": "m2",
                "sequence": 2,
                "role": "assistant",
                "content": "Hi",
                "status": "failed",
                "provider": "ollama",
                "model_id": "m",
            },
        ],
        workspace_task_runs=[
            {
                **run,
                "run_id": "t1",
                "status": "complete",
                "exit_code": 0,
                "started_at_ms": 1000,
                "completed_at_ms": 3500,
                "duration_ms": 2500,
            },
            {**run, "run_id": "t2", "status": "running", "started_at_ms": S0 * 1000},
        ],
        workspace_file_change_audits=[
            {
                **audit,
                "audit_id": "d1",
                "status": "failed",
                "error": "no",
                "error_code": "denied",
                "size_bytes_before": 7,
                "created_at_ms": S0 * 1000,
                "applied_at_ms": S0 * 1000 + 5,
            }
        ],
        source_roots=[{"path": "/docs", "id": "r1", "read_only": 0, "created_at": "2025-01-01 00:00:00"}],
        source_files=[
            {**file, "relative_path": "b.md", "absolute_path": "/docs/b.md", "modified_at": T0},
            {**file, "relative_path": "a.md", "absolute_path": "/docs/a.md", "modified_at": "1735689600"},
        ],
        ingest_jobs=[
            {"id": "g1", "source_root_id": "r1", "scope_label": "docs", "status": "partial", "file_count": 2},
        ],
        provider_status=[{"provider": "ollama", "last_test_ok": 1, "last_test_detail": "fine", "last_tested_at": T0}],
        provider_selection=[{"singleton": 1, "provider": "ollama", "model_id": "m", "updated_at": T0}],
    )


SOMA = {"sessions": 2, "messages": 2, "runs": 2, "audits": 1, "sources": 4, "settings": 4}


def test_soma_conversations(store: Store, soma: Path) -> None:
    imported(store, soma, "soma", **SOMA)
    session = store.sessions["k1"]
    assert (session.user_id, session.title, session.created_at) == ("u1", "A talk", AT0)
    assert [each.id for each in store.sessions.owned_by("u1").list()] == ["k1"]
    assert store.sessions["k2"].title is None, "nobody gave it one"
    first, second = store.session("k1").messages.list()
    assert (first.parent_id, first.created_at) == (None, AT0.replace(second=1))
    assert (second.parent_id, second.status, second.model) == ("m1", "failed", "m")
    assert second.metadata == {"sequence": 2, "provider": "ollama"}


def test_soma_runs_and_audits(store: Store, soma: Path) -> None:
    import_sqlite(store, soma, "soma")
    done, running = store.runs.require("t1"), store.runs.require("t2")
    assert (done.task, done.command, done.stdout_truncated, done.timed_out) == ("git_status", "git status", True, False)
    assert (done.started_at, done.duration_ms) == (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 2500)
    assert running.status == "running"
    assert [run.id for run in store.runs.list(session_id="u1")] == ["t2", "t1"]
    audit = store.audits.require("d1")
    assert (audit.action, audit.target_path, audit.size_before, audit.error_code) == (
        "rename_path",
        "/w/b",
        7,
        "denied",
    )
    assert audit.applied_at == AT0.replace(microsecond=5000)
    assert [flight.id for flight in store.runs.in_flight()] == ["t2"]
    store.runs.recover()
    assert store.runs.require("t2").error_code == "workspace_task_interrupted"
    # The program that goes on here is no difference that a second import could mend.
    report = import_sqlite(store, soma, "soma")
    (changed,) = report.changed
    assert changed.reason.endswith("u1/t2.json differs in status, updated_at: changed since, and left as it is")
    assert (report.problems, report["runs"].changed, report.total.accounted) == ([], 1, report.total.found)


def test_soma_sources_and_settings(store: Store, soma: Path) -> None:
    import_sqlite(store, soma, "soma")
    (root,) = store.sources.list()
    assert (root.path, root.id, root.read_only, root.created_at) == ("/docs", "r1", False, AT0)
    files = store.sources.files("r1")
    assert [(each.relative_path, each.size_bytes, each.modified_at) for each in files] == [
        ("a.md", 3, AT0),
        ("b.md", 3, AT0),
    ]
    ingest = store.sources.ingests.require("g1")
    assert (ingest.scope, ingest.status, ingest.file_count) == ("docs", "partial", 2)
    assert store.settings.get("providers/ollama") == {"ok": True, "detail": "fine"}
    assert store.settings.get("provider_selection") == {"provider": "ollama", "model_id": "m"}
    tested = store.settings.setting("providers/ollama")
    assert tested is not None
    assert tested.updated_at == AT0
    assert store.settings.keys("soma") == ["soma/sessions/u/2", "soma/sessions/u1"]
    assert store.sources.problems() == store.settings.problems() == []


def test_an_older_soma_lacks_tables_and_columns(store: Store, soma: Path) -> None:
    change(
        soma,
        "DROP TABLE workspace_file_change_audits",
        "DROP TABLE provider_selection",
        "ALTER TABLE workspace_task_runs DROP COLUMN error_code",
        "PRAGMA user_version = 0",
    )
    imported(store, soma, "soma", **{**SOMA, "settings": 3} | {"audits": 0})


# What cannot be imported


def test_rows_of_nothing_are_told(store: Store, steer: Path) -> None:
    change(steer, "DELETE FROM sessions")
    report = import_sqlite(store, steer, "steer")
    assert [str(problem) for problem in report.problems] == [
        f"{steer}, table messages: 4 with session_id 's1', which is not in sessions, were not imported",
        f"{steer}, table tool_calls: 3 with session_id 's1', which is not in sessions, were not imported",
        f"{steer}, table events: 3 with session_id 's1', which is not in sessions, were not imported",
    ]
    assert numbers(report)["messages"] == (4, 0, 0, 4)


def test_tables_and_columns_that_are_not_known(store: Store, zero: Path) -> None:
    change(
        zero,
        "CREATE TABLE extras (a)",
        "INSERT INTO extras VALUES (1)",
        "CREATE TABLE unused (a)",
        "ALTER TABLE sessions ADD COLUMN mood TEXT",
        "UPDATE sessions SET mood = 'good'",
        "ALTER TABLE events ADD COLUMN weight INTEGER DEFAULT 3",
    )
    (problem,) = import_sqlite(store, zero, "zero").problems
    assert str(problem) == f"{zero}, table extras: not imported: nothing is known of its 1 rows"
    assert store.sessions["01HA"].metadata["zero"]["mood"] == "good"
    assert [each["weight"] for each in store.session("01HA").events] == [3, 3]


def test_cells_that_are_not_what_they_should_be_are_told_and_kept(store: Store, steer: Path) -> None:
    change(
        steer,
        "UPDATE messages SET content = '{half' WHERE id = 'm1'",
        "UPDATE sessions SET created_at = 'never'",
        "UPDATE tool_calls SET status = 'odd' WHERE id = 'c3'",
        "UPDATE messages SET content = x'ff00' WHERE id = 'm4'",
    )
    report = import_sqlite(store, steer, "steer")
    told = sorted(f"{problem.place}: {problem.reason}" for problem in report.problems)
    assert [each.partition(":")[0] for each in told] == [
        "table messages, row 1",
        "table messages, row 4",
        "table sessions, row 1",
        "table tool_calls, row 3",
    ]
    assert "content was kept as text" in told[0]
    assert numbers(report)["messages"] == (4, 3, 0, 1)
    assert numbers(report)["tool_calls"] == (3, 2, 0, 1)
    first = store.session("s1").messages.get("m1")
    assert first is not None
    assert first.content == "{half"
    assert store.sessions["s1"].metadata["steer"] == {"created_at_as_found": "never"}


def say(*names: str) -> list[dict[str, Any]]:
    """Messages of one conversation of soma."""
    row = {"conversation_id": "k1", "role": "user", "status": "complete", "content": "a"}
    return [{**row, "id": name, "sequence": number} for number, name in enumerate(names, 1)]


def test_a_message_that_cannot_be_read_hides_no_other(store: Store, make: Make) -> None:
    path = make(schemas.SOMA, conversations=[{"id": "k1", "session_id": "u1", "title": "A"}], messages=say(*"abcdef"))
    change(
        path,
        "UPDATE messages SET content = x'00ff' WHERE id = 'b'",
        "UPDATE messages SET content = CAST(x'61ff' AS TEXT) WHERE id = 'c'",
        "UPDATE messages SET id = NULL WHERE id = 'e'",
    )
    report = import_sqlite(store, path, "soma")
    assert numbers(report)["messages"] == (6, 3, 0, 3)
    assert [(each.id, each.parent_id) for each in store.session("k1").messages.list()] == [
        ("a", None),
        ("d", "a"),
        ("f", "d"),
    ]
    second, third, fifth = report.problems
    assert (second.place, third.place, fifth.place) == tuple(f"table messages, row {row}" for row in (2, 3, 5))
    assert not second.reason.endswith("'a'"), "only what is left out was under it"
    assert third.reason.endswith("; what is under it goes under 'a'")
    assert store.session("k1").messages.problems() == []
    again = import_sqlite(store, path, "soma")
    assert (again.problems, numbers(again)["messages"]) == (report.problems, (6, 0, 3, 3))


def test_branches_and_the_head_go_round_what_cannot_be_read(store: Store, make: Make) -> None:
    messages = [
        steer_message("m1", 0, "user", '"a"'),
        steer_message("m2", 1, "assistant", '"b"', "m1"),
        steer_message("m3", 2, "user", '"c"', "m2"),
        steer_message("m4", 3, "user", '"d"', "m2"),
    ]
    path = make(schemas.STEER, sessions=[steer_session(active_message_id="m2")], messages=messages)
    change(path, "UPDATE messages SET content = x'ff' WHERE id = 'm2'")
    (problem,) = import_sqlite(store, path, "steer").problems
    assert problem.reason.endswith("; what is under it goes under 'm1'")
    talk = store.session("s1").messages
    assert [each.id for each in talk.list()] == ["m1"], "it went on from m2"
    assert [each.id for each in talk.children("m1")] == ["m3", "m4"]


def test_ids_that_are_no_file_names(store: Store, make: Make) -> None:
    long = "x" * 300
    path = make(schemas.STEER, sessions=[steer_session("a/b:c"), steer_session(long), steer_session("CON")])
    report = import_sqlite(store, path, "steer")
    assert report.ids == ["a%2Fb%3Ac", hashlib.sha256(long.encode()).hexdigest(), "%43ON"]
    assert store.sessions[report.ids[1]].metadata["imported"] == {"from": "steer", "id": long}
    assert import_sqlite(store, path, "steer")["sessions"].unchanged == 3


def test_a_schema_that_is_newer_is_refused_before_anything_is_touched(store: Store, codewhale: Path) -> None:
    change(codewhale, "PRAGMA user_version = 4")
    with pytest.raises(NewerFormatError, match="has version 4, and codewhale databases up to version 3 are known"):
        import_sqlite(store, codewhale, "codewhale")
    assert not Path(store.path).exists()


def test_a_newer_migration_of_zero_is_refused(store: Store, zero: Path) -> None:
    change(zero, "INSERT INTO refinery_schema_history VALUES (2, 'more', '', '')")
    with pytest.raises(NewerFormatError, match="version 2"):
        import_sqlite(store, zero, "zero")
    assert not Path(store.path).exists()


def test_an_older_schema_lacks_tables(store: Store, codewhale: Path) -> None:
    gone = ("thread_goals", "workflow_runs", "branch_runs", "leaf_runs", "control_node_runs", "teacher_candidates")
    change(codewhale, *(f"DROP TABLE {table}" for table in gone), "PRAGMA user_version = 1")
    report = import_sqlite(store, codewhale, "codewhale")
    assert report.problems == []
    assert report["workflows"].found == 0
    assert [each.place for each in report.passed_over] == [f"table {table}" for table in gone]


@pytest.mark.parametrize("table", ["workspace_task_runs", "workspace_file_change_audits", "messages", "source_files"])
def test_a_file_with_some_of_the_tables(store: Store, soma: Path, table: str) -> None:
    others = [name for name in TABLES if name != table]
    change(soma, *(f"DROP TABLE {name}" for name in others), "PRAGMA user_version = 0")
    report = import_sqlite(store, soma, "soma")
    assert [str(each) for each in report.passed_over] == [f"{soma}, table {name}: it is not there" for name in others]
    assert report.total.found == report.total.accounted > 0
    # What belongs to rows of a table that is not there.
    assert len(report.problems) == (table in ("messages", "source_files"))


def test_what_belongs_to_workflows_that_are_not_there(store: Store, codewhale: Path) -> None:
    change(codewhale, "DROP TABLE workflow_runs")
    report = import_sqlite(store, codewhale, "codewhale")
    assert report.total.found == report.total.accounted
    assert {each.reason.split(", which ")[1] for each in report.problems} == {
        "is not in workflow_runs, were not imported"
    }


def test_a_file_with_none_of_the_tables_is_refused(store: Store, make: Make) -> None:
    with pytest.raises(CorruptRecordError, match="no soma database: it has no table sessions or conversations or"):
        import_sqlite(store, make("CREATE TABLE other (a)"), "soma")


def test_two_roots_with_one_id(store: Store, soma: Path) -> None:
    change(soma, "INSERT INTO source_roots (path, id) VALUES ('/more', 'r1')")
    report = import_sqlite(store, soma, "soma")
    (problem,) = report.problems
    assert str(problem) == f"{soma}, table source_roots, row 2: not imported: the id 'r1' is that of the source /docs"
    assert numbers(report)["sources"] == (5, 4, 0, 1)
    assert [(root.path, root.id) for root in store.sources.list()] == [("/docs", "r1")]
    assert numbers(import_sqlite(store, soma, "soma"))["sources"] == (5, 0, 4, 1)


def test_a_root_with_the_id_of_another_that_the_store_has(store: Store, soma: Path) -> None:
    store.sources.add("/mine", id="r1")
    report = import_sqlite(store, soma, "soma")
    assert [each.place for each in report.problems] == ["table source_roots, row 1", "table source_files"]
    assert numbers(report)["sources"] == (4, 1, 0, 3)
    assert [root.path for root in store.sources.list()] == ["/mine"]


def test_what_is_no_such_database(store: Store, tmp_path: Path, zero: Path) -> None:
    with pytest.raises(CorruptRecordError, match="no steer database: its table sessions has no column created_at"):
        import_sqlite(store, zero, "steer")
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(CorruptRecordError, match="no SQLite database"):
        import_sqlite(store, tmp_path / "text.db", "steer")
    (tmp_path / "empty.db").touch()
    with pytest.raises(CorruptRecordError, match="no SQLite database"):
        import_sqlite(store, tmp_path / "empty.db", "steer")
    with pytest.raises(NotFoundError):
        import_sqlite(store, tmp_path / "nowhere.db", "steer")
    with pytest.raises(ValueError, match="one of steer, codewhale, zero, soma"):
        import_sqlite(store, zero, "other")
    torn = zero.with_name("torn.db")
    torn.write_bytes(zero.read_bytes()[:5000])
    with pytest.raises(CorruptRecordError, match="SQLite cannot read"):
        import_sqlite(store, torn, "zero")
    assert not Path(store.path).exists()


def test_a_database_in_the_store_is_refused(store: Store, zero: Path) -> None:
    target = Path(store.path) / "state.db"
    target.parent.mkdir()
    zero.rename(target)
    with pytest.raises(InvalidValueError, match="is the store itself"):
        import_sqlite(store, target, "zero")


def test_a_locked_database(store: Store, zero: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsstate.integrations.sqlite.database._PATIENCE", 0.1)
    with closing(sqlite3.connect(zero, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LockTimeoutError, match="another program keeps the database locked"):
            import_sqlite(store, zero, "zero")


def test_a_write_ahead_log_is_read_and_left_alone(store: Store, zero: Path) -> None:
    connection = sqlite3.connect(zero, isolation_level=None)
    with closing(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO sessions (ulid, started_at, cli_version) VALUES ('01HC', ?, '0.4')", (T0,))
        before = files_of(zero.parent)
        assert "state.db-wal" in before
        report = import_sqlite(store, zero, "zero")
        assert report.ids == ["01HA", "01HB", "01HC"]
        assert files_of(zero.parent) == before


def test_a_write_ahead_log_that_was_closed_leaves_nothing_beside_it(store: Store, zero: Path) -> None:
    change(zero, "PRAGMA journal_mode = WAL")
    assert sorted(files_of(zero.parent)) == ["state.db"]
    imported(store, zero, "zero", sessions=2, events=2, settings=3)
    assert sorted(files_of(zero.parent)) == ["state.db"]


# Again, and after a crash


def test_what_grew_is_completed(store: Store, zero: Path) -> None:
    import_sqlite(store, zero, "zero")
    change(zero, "INSERT INTO events (session_id, seq, at, kind, text) VALUES (1, 3, '2025-02-01', 'warn', 'low')")
    report = import_sqlite(store, zero, "zero")
    assert report.problems == []
    assert numbers(report)["events"] == (3, 1, 2, 0)
    assert store.session("01HA").events.count() == 3


def test_what_differs_is_told_and_left(store: Store, steer: Path) -> None:
    import_sqlite(store, steer, "steer")
    change(
        steer,
        """UPDATE messages SET content = '"other"' WHERE id = 'm2'""",
        "UPDATE sessions SET system_prompt = 'Be long.', status = 'active', updated_at = '2025-01-02'",
    )
    before = files_of(Path(store.path))
    report = import_sqlite(store, steer, "steer")
    assert files_of(Path(store.path)) == before
    assert [problem.place for problem in report.problems] == ["table messages, row 2", "table sessions, row 1"]
    assert "messages.jsonl holds something else from here on, and was left as it is (3 messages)" in str(
        report.problems[0]
    )
    assert "s1.json differs in status: it is older or another one, and was left as it is" in str(report.problems[1])
    assert numbers(report)["messages"] == (4, 0, 1, 3)
    (changed,) = report.changed
    assert "config.json differs in system_prompt: changed since" in str(changed), "no time tells where"


def test_what_the_users_of_the_store_change_is_no_failure(store: Store, soma: Path) -> None:
    import_sqlite(store, soma, "soma")
    store.settings.set("provider_selection", {"provider": "other"})
    store.sessions.update("k1", lambda session: setattr(session, "title", "Renamed"))
    report = import_sqlite(store, soma, "soma")
    assert report.problems == []
    assert [each.place for each in report.changed] == ["table provider_selection, row 1", "table conversations, row 1"]
    assert (report["settings"].changed, report["sessions"].changed) == (1, 1)
    assert report.total.accounted == report.total.found


def test_another_record_of_the_same_id_is_a_problem(store: Store, soma: Path) -> None:
    store.collection("runs/u1").create("t1", {"id": "t1", "session_id": "u1", "created_at": T0})
    (problem,) = import_sqlite(store, soma, "soma").problems
    assert "it is older or another one" in problem.reason


def test_what_users_of_the_store_add_is_no_difference(store: Store, steer: Path) -> None:
    import_sqlite(store, steer, "steer")
    store.session("s1").messages.append("user", "and on")
    store.session("s1").messages.set_head("m1")
    store.session("s1").tool_calls.approve("c3")
    store.sessions.set_label("s1", "mine")
    assert import_sqlite(store, steer, "steer").problems == []


def test_another_session_in_its_place_is_left_alone(store: Store, steer: Path) -> None:
    store.sessions.create(id="s1", title="mine")
    before = files_of(Path(store.path))
    report = import_sqlite(store, steer, "steer")
    assert "which was not imported from here" in str(report.problems[0])
    assert numbers(report) == {
        "sessions": (1, 0, 0, 1),
        "messages": (4, 0, 0, 4),
        "tool_calls": (3, 0, 0, 3),
        "events": (3, 0, 0, 3),
        "documents": (1, 0, 0, 1),
    }
    assert files_of(Path(store.path)) == before


def test_a_session_that_could_not_be_completed_is_completed_later(store: Store, codewhale: Path) -> None:
    change(codewhale, "UPDATE threads SET git_sha = x'ff' WHERE id = 'thread-1'")
    report = import_sqlite(store, codewhale, "codewhale")
    (problem,) = report.problems
    assert (problem.place, numbers(report)["sessions"]) == ("table threads, row 1", (2, 1, 0, 1))
    assert store.sessions["thread-1"].title is None
    change(codewhale, "UPDATE threads SET git_sha = 'abc' WHERE id = 'thread-1'")
    report = import_sqlite(store, codewhale, "codewhale")
    assert report.problems == []
    assert numbers(report)["sessions"] == (2, 1, 1, 0)
    assert store.sessions["thread-1"].title == "One"


def test_imports_at_once_write_everything_once(store: Store, codewhale: Path, tmp_path: Path) -> None:
    reports: list[ImportReport] = []
    threads = [Thread(target=lambda: reports.append(import_sqlite(store, codewhale, "codewhale"))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [report.problems for report in reports] == [[]] * 4
    assert sum(report["messages"].imported for report in reports) == 4
    with Store(tmp_path / "alone", StoreOptions(durability="process")) as alone:
        import_sqlite(alone, codewhale, "codewhale")
    assert comparable(Path(store.path)) == comparable(tmp_path / "alone")


def test_a_store_in_memory_takes_imports_too(zero: Path) -> None:
    with Store.in_memory() as store:
        assert import_sqlite(store, zero, "zero").problems == []
        assert import_sqlite(store, zero, "zero").total.imported == 0
        assert store.sessions.ids() == ["01HA", "01HB"]


# For each write of an import in turn a process that dies before it, as far as one that comes to the end.
KILLED = """
import itertools, os, signal, sys
from fsstate import Store, StoreOptions
from fsstate.backends.files import FileBackend
from fsstate.integrations.sqlite import import_sqlite

def dying(method, writes, last):
    def called(*given, **more):
        if next(writes) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*given, **more)
    return called

state, source, system = sys.argv[1:]
for last in itertools.count():
    child = os.fork()
    if child == 0:
        writes = itertools.count()
        for name in ("change", "append"):
            setattr(FileBackend, name, dying(getattr(FileBackend, name), writes, last))
        with Store(f"{state}{last}", StoreOptions(durability="process")) as store:
            import_sqlite(store, source, system)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code)
    if code != -signal.SIGKILL:
        break
"""


@pytest.mark.parametrize("system", ["steer", "codewhale", "soma"])
def test_killed_at_every_write(system: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path: Path = request.getfixturevalue(system)
    with Store(tmp_path / "whole", StoreOptions(durability="process")) as store:
        whole = import_sqlite(store, path, system)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "state"), str(path), system]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, check=True)
    codes = [int(code) for code in ended.stdout.split()]
    assert len(codes) > 6
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    for writes in range(len(codes)):
        state = tmp_path / f"state{writes}"
        with Store(state, StoreOptions(durability="process")) as store:
            report = import_sqlite(store, path, system)
        assert report.problems == []
        assert report.total.accounted == whole.total.found
        assert comparable(state) == comparable(tmp_path / "whole")


def comparable(state: Path) -> dict[str, Any]:
    """What a store holds, but for times of now and the order of keys."""
    return {
        str(path.relative_to(state)): [json.loads(text) for text in texts(path)]
        for path in sorted(state.rglob("*.json*"))
        if ".fsstate" not in path.parts
    }


def texts(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]


def test_schemas_that_are_damaged(store: Store, steer: Path, make: Make) -> None:
    steer.write_bytes(steer.read_bytes().replace(b"events", b"ev\xff\xfets"))
    try:
        assert import_sqlite(store, steer, "steer").ids == ["s1"]
    except CorruptRecordError:
        assert store.sessions.ids() == []
    steer.unlink()
    zero = make(schemas.ZERO)
    change(zero, "DROP TABLE refinery_schema_history", "CREATE TABLE refinery_schema_history (version TEXT)")
    change(zero, "INSERT INTO refinery_schema_history VALUES ('first')")
    with pytest.raises(CorruptRecordError, match="whole numbers were expected"):
        import_sqlite(store, zero, "zero")
