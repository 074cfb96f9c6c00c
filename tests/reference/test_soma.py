"""soma-studio-server's storage: conversations of sessions, runs of tasks, audits of file changes, sources, providers.

A soma session is an owner here, and a conversation a session of that owner. It is async code, so what it does runs
through the sync and the async API.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import fsstate
from fsstate import Lifecycle, Message, Migration, RecordType, Recovery, Run, SourceFile, Store
from tests.contract.conftest import FakeClock
from tests.reference.conftest import Reopen, RunExample, is_in_memory

DEFAULT_TITLE = "New conversation"
INTERRUPTED_RUN = "workspace_task_interrupted"
INTERRUPTED_CHANGE = "workspace_file_change_interrupted"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(any_store: Any) -> Any:
    return any_store


class Lasting:
    """A backend that outlives the stores over it, as a directory does."""

    def __init__(self, backend: object) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def close(self) -> None:
        """Nothing: others use it still."""


@pytest.fixture
def earlier(opened: Store) -> Iterator[Store]:
    """The program that ran before. What it has under way when it is closed was interrupted."""
    if is_in_memory(opened):
        program = Store.over(cast("Any", Lasting(opened.backend)), opened.options)
    else:
        program = Store(opened.path, opened.options)
    with program:
        yield program


# What soma's functions are here


def create_conversation(store: Store, owner: str, title: str | None = None) -> str:
    return store.sessions.owned_by(owner).create(title=(title or "").strip() or None).id


def ensure_conversation(store: Store, owner: str, name: str, hint: str | None = None) -> str:
    """Refuses a conversation of another owner. The hint counts only while there is no title."""
    conversations = store.sessions.owned_by(owner)
    conversations.get_or_create(name, title=hint)
    summary = conversations.summary(name)
    if hint is not None and summary is not None and summary.title is None:
        conversations.update(name, lambda session: setattr(session, "title", session.title or hint))
    return title_of(store, name)


def title_of(store: Store, name: str) -> str:
    summary = store.sessions.summary(name)
    assert summary is not None
    return summary.title or DEFAULT_TITLE


def conversations_of(store: Store, owner: str) -> list[str]:
    return [each.id for each in store.sessions.list(user_id=owner, limit=None)]


def messages_of(store: Store, owner: str, name: str) -> list[Message]:
    return store.session(name).messages.list() if name in store.sessions.owned_by(owner) else []


def statuses_of_runs(store: Store) -> dict[str, str]:
    return {run.id: run.status for run in store.runs.list()}


def ids(found: Iterable[Any]) -> list[str]:
    return [each.id for each in found]


# Its own tests


def test_source_root_roundtrip(store: Store, reopen: Reopen) -> None:
    first = store.sources.add("F:/docs", read_only=True)
    assert store.sources.add("F:/docs").id == first.id
    assert [root.path for root in reopen().sources.list()] == ["F:/docs"]


def test_provider_selection_roundtrip(store: Store, reopen: Reopen) -> None:
    assert store.settings.get("provider_selection") is None
    store.settings.set("provider_selection", {"provider": "ollama", "model_id": "qwen3:8b"})
    assert reopen().settings.get("provider_selection") == {"provider": "ollama", "model_id": "qwen3:8b"}
    store.settings.set("provider_selection", {"provider": None, "model_id": None})
    assert reopen().settings.get("provider_selection") == {"provider": None, "model_id": None}


def test_session_roundtrip(store: Store, reopen: Reopen) -> None:
    key = f"soma/sessions/{fsstate.new_id()}"
    assert store.settings.setting(key) is None
    store.settings.set_once(key, {})
    assert reopen().settings.setting(key) is not None


def test_task_run_history_roundtrip(store: Store, earlier: Store) -> None:
    run = earlier.runs.start("git_status", session_id="s", path=".", command="git status --short --branch")
    earlier.runs.finish(run.id, exit_code=0, stdout_tail="## main\n", duration_ms=50)
    [listed] = earlier.runs.list(session_id="s", limit=10)
    assert (listed.id, listed.status, listed.stdout_tail, listed.duration_ms) == (run.id, "complete", "## main\n", 50)
    assert earlier.runs.list(session_id="other-session", limit=10) == []

    cut_off = earlier.runs.start("cargo_check", session_id="s", path=".", command="cargo check --workspace")
    earlier.close()
    store.recover()
    found = store.runs.require(cut_off.id)
    assert (found.status, found.error_code) == ("failed", INTERRUPTED_RUN)
    assert found.error == "workspace task interrupted before completion"
    assert found.completed_at is not None
    assert ids(store.runs.list(session_id="s", limit=10, error_code=INTERRUPTED_RUN)) == [cut_off.id]
    assert store.runs.list(session_id="s", limit=10, error_code="workspace_task_failed_exit") == []
    assert store.runs.require(run.id) == listed


def test_file_change_audit_roundtrip_without_content(store: Store, earlier: Store) -> None:
    started = earlier.audits.start("write_text", "docs/new.md", session_id="s")
    assert (started.status, started.path, started.size_before) == ("applying", "docs/new.md", None)
    # There is no place for what was written, so that it cannot end up in a file by mistake.
    with pytest.raises(TypeError, match="content"):
        cast("Any", earlier.audits).start("write_text", "docs/new.md", content="do not persist this content")
    assert earlier.audits.finish(started.id, size_after=12).size_after == 12
    [listed] = earlier.audits.list(session_id="s", limit=10)
    assert (listed.id, listed.status, listed.error, listed.error_code) == (started.id, "complete", None, None)
    assert earlier.audits.list(session_id="other-session", limit=10) == []

    cut_off = earlier.audits.start(
        "rename_path", "docs/new.md", session_id="s", target_path="docs/renamed.md", size_before=12
    )
    earlier.close()
    store.recover()
    found = store.audits.require(cut_off.id)
    assert (found.status, found.error_code) == ("failed", INTERRUPTED_CHANGE)
    assert found.error == "workspace file change interrupted before completion"
    assert found.applied_at is not None
    assert ids(store.audits.list(session_id="s", limit=10, error_code=INTERRUPTED_CHANGE)) == [cut_off.id]
    assert store.audits.list(session_id="s", limit=10, error_code="workspace_conflict") == []
    assert store.audits.require(started.id) == listed


# Those who want soma's very own fields declare them: milliseconds, and the version in which `error_code` came.

RUN_ENDS = ("complete", "failed", "cancelled", "timed_out")


class TaskRun(msgspec.Struct, kw_only=True, omit_defaults=True):
    run_id: str = ""
    session_id: str | None = None
    task_id: str
    path: str
    status: str = "queued"
    command_label: str = ""
    exit_code: int | None = None
    stdout_tail: str = ""
    stderr_tail: str = ""
    started_at_ms: int = 0
    completed_at_ms: int | None = None
    duration_ms: int | None = None
    error: str | None = None
    error_code: str | None = None
    max_output_bytes: int = 64 * 1024


@dataclass
class ChangeAudit:
    action: str
    path: str
    audit_id: str = ""
    session_id: str | None = None
    target_path: str | None = None
    status: str = "applying"
    error: str | None = None
    error_code: str | None = None
    size_bytes_before: int | None = None
    size_bytes_after: int | None = None
    created_at_ms: int = 0
    applied_at_ms: int | None = None


def milliseconds(now: str) -> int:
    return round(datetime.fromisoformat(now).timestamp() * 1000)


def time_run(_before: Mapping[str, Any] | None, after: dict[str, Any], now: str) -> None:
    if after["status"] not in RUN_ENDS:
        return
    if after.get("completed_at_ms") is None:
        after["completed_at_ms"] = milliseconds(now)
    if after.get("duration_ms") is None:
        after["duration_ms"] = max(0, after["completed_at_ms"] - after.get("started_at_ms", 0))


def time_audit(before: Mapping[str, Any] | None, after: dict[str, Any], now: str) -> None:
    if before is None and not after.get("created_at_ms"):
        after["created_at_ms"] = milliseconds(now)
    if after["status"] != "applying" and after.get("applied_at_ms") is None:
        after["applied_at_ms"] = milliseconds(now)


def add_error_code(document: dict[str, Any]) -> None:
    document.setdefault("error_code", None)


TASK_RUNS = RecordType(
    "workspace_task_runs",
    TaskRun,
    key="run_id",
    group_by="session_id",
    indexed=("error_code",),
    order_by="-started_at_ms",
    lifecycle=Lifecycle({"queued": ("running", *RUN_ENDS), "running": RUN_ENDS, **dict.fromkeys(RUN_ENDS, ())}),
    keep=200,
    recovery=Recovery("failed", ("queued", "running"), {"error_code": INTERRUPTED_RUN}),
    migrations=(Migration(2, "give task runs an error_code", add_error_code),),
    derive=time_run,
)
# Versions are those of a type, so that the number of one says nothing of another; soma has one for all its tables.
AUDITS = RecordType(
    "workspace_file_change_audits",
    ChangeAudit,
    key="audit_id",
    group_by="session_id",
    indexed=("error_code",),
    order_by="-created_at_ms",
    lifecycle=Lifecycle({"applying": ("complete", "failed"), "complete": (), "failed": ()}),
    keep=200,
    recovery=Recovery("failed", ("applying",), {"error_code": INTERRUPTED_CHANGE}),
    migrations=(
        Migration(2, "nothing: that was for task runs", lambda _: None),
        Migration(3, "give file change audits an error_code", add_error_code),
    ),
    derive=time_audit,
)
OLD_RUN = {"run_id": "old", "session_id": "s", "task_id": "git_status", "path": ".", "started_at_ms": 1_000}
OLD_AUDIT = {"audit_id": "old", "session_id": "s", "action": "delete_file", "path": "a.md", "created_at_ms": 1_000}


def put_old(store: Store, *, run: str = "complete", audit: str = "complete") -> None:
    """A run and an audit at these statuses, of the time before `error_code`."""
    store.collection("workspace_task_runs/s").put("old", {**OLD_RUN, "status": run})
    store.collection("workspace_file_change_audits/s").put("old", {**OLD_AUDIT, "status": audit})


def versions(store: Store) -> list[int | None]:
    """What the files say of the old run and the old audit."""
    folders = "workspace_task_runs/s", "workspace_file_change_audits/s"
    return [store.collection(folder).require("old").get("schema_version") for folder in folders]


def test_task_runs_without_error_codes_are_migrated(store: Store) -> None:
    put_old(store)
    runs = store.records(TASK_RUNS)
    assert runs.require("old").error_code is None
    pending = store.migrate(TASK_RUNS, dry_run=True)
    assert [(each.found, each.latest, each.steps) for each in pending.migrated] == [
        (1, 2, ("give task runs an error_code",))
    ]
    store.migrate(TASK_RUNS)
    # The schema is current when nothing would be migrated.
    assert store.migrate(TASK_RUNS, dry_run=True) == ([], 1, [], True)
    assert versions(store) == [2, None]
    failed = runs.create(
        "new",
        session_id="s",
        task_id="git_status",
        path=".",
        status="failed",
        started_at_ms=1_000,
        completed_at_ms=1_010,
        error="workspace task exited with code 1",
        error_code="workspace_task_failed_exit",
    )
    assert runs.list(session_id="s", error_code="workspace_task_failed_exit") == [failed]
    assert (failed.duration_ms, failed.completed_at_ms) == (10, 1_010)


def test_audits_without_error_codes_are_migrated(store: Store) -> None:
    put_old(store)
    audits = store.records(AUDITS)
    report = store.migrate(TASK_RUNS, AUDITS)
    assert [(each.name, each.found, each.latest) for each in report.migrated] == [("old", 1, 2), ("old", 1, 3)]
    assert store.migrate(TASK_RUNS, AUDITS, dry_run=True).migrated == []
    assert versions(store) == [2, 3]
    started = audits.create(session_id="s", action="rename_path", path="docs/new.md", target_path="docs/renamed.md")
    conflict = {"error": "workspace rename target already exists", "error_code": "workspace_conflict"}
    failed = audits.change(started.audit_id, status="failed", **conflict, size_bytes_after=10)
    assert audits.list(session_id="s", error_code="workspace_conflict") == [failed]
    assert failed.applied_at_ms is not None


def test_a_store_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    mark = tmp_path / "state" / ".fsstate" / "store.json"
    mark.parent.mkdir(parents=True)
    mark.write_text('{"format": 4}')
    with pytest.raises(fsstate.NewerFormatError, match="has format 4"):
        Store(tmp_path / "state", types=(TASK_RUNS, AUDITS), recover=True)
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == [mark]
    assert mark.read_text() == '{"format": 4}'


def test_one_newer_record_holds_up_the_migration_of_all(store: Store) -> None:
    put_old(store)
    newer = {**OLD_RUN, "run_id": "new", "status": "running", "schema_version": 4}
    store.collection("workspace_task_runs/s").put("new", newer)
    with pytest.raises(fsstate.NewerVersionError, match=r"in version 4, and this program knows versions up to 2"):
        store.migrate(AUDITS, TASK_RUNS)
    assert versions(store) == [None, None]
    # Neither is it settled: what a newer program means by "running" is not known here.
    with pytest.raises(fsstate.NewerVersionError):
        store.recover(TASK_RUNS)
    assert store.collection("workspace_task_runs/s").get("new") == newer
    with pytest.raises(fsstate.NewerVersionError):
        store.records(TASK_RUNS).change("new", status="complete")


def test_retention_limits_the_history_of_each_session(store: Store) -> None:
    for index in range(205):
        at = START + timedelta(milliseconds=index)
        store.runs.put(Run(id=f"r{index:03}", session_id="s", task="git_status", status="complete", started_at=at))
        store.audits.start("delete_file", "docs/old.md", session_id="s", size_before=index)
    store.runs.put(Run(id="r", session_id="other-session", task="git_status", status="complete", started_at=START))
    assert store.runs.count(session_id="s") == store.audits.count(session_id="s") == 200
    assert min(run.id for run in store.runs.list(session_id="s")) == "r005"
    assert min(audit.size_before or 0 for audit in store.audits.list(session_id="s")) == 5
    assert store.runs.count(session_id="other-session") == 1


def test_what_is_under_way_stays_while_there_is_something_else_to_forget(store: Store) -> None:
    # The reference forgets a change that is being applied as soon as 200 others began after it: it is never finished.
    first = store.audits.start("delete_file", "docs/old.md", session_id="s")
    others = [store.audits.start("delete_file", "docs/old.md", session_id="s") for _ in range(199)]
    for audit in others:
        store.audits.finish(audit.id)
    last = store.audits.start("delete_file", "docs/old.md", session_id="s")
    found = ids(store.audits.list(session_id="s"))
    assert (len(found), found[0], found[-1]) == (200, last.id, first.id)
    assert others[0].id not in found
    assert store.audits.finish(first.id).status == "complete"


def test_conversation_and_message_roundtrip(store: Store, reopen: Reopen) -> None:
    name = create_conversation(store, "session-a")
    assert title_of(store, name) == DEFAULT_TITLE
    messages = store.session(name).messages
    question = messages.append("user", "Discuss the ingest milestone split")
    answer = messages.append("assistant", "", status="streaming", model="qwen3:8b", metadata={"provider": "ollama"})
    partial = messages.append_text(answer.id, "Start with conversation ")
    assert (partial.content, partial.status) == ("Start with conversation ", "streaming")
    text = "Start with conversation persistence and restore APIs."
    done = messages.update(answer.id, content=text, status="complete")
    assert (done.content, done.status, done.metadata, done.model) == (
        text,
        "complete",
        {"provider": "ollama"},
        "qwen3:8b",
    )

    again = reopen()
    assert conversations_of(again, "session-a") == [name]
    assert title_of(again, name) == "Discuss the ingest milestone split"
    assert ids(messages_of(again, "session-a", name)) == [question.id, answer.id]
    assert (conversations_of(again, "session-b"), messages_of(again, "session-b", name)) == ([], [])
    assert again.sessions.owned_by("session-a").delete(name)
    assert messages_of(again, "session-a", name) == again.session(name).messages.list() == []
    assert conversations_of(again, "session-a") == []


# When it is opened


@pytest.mark.parametrize("status", ["queued", "running"])
def test_runs_that_were_queued_or_running_fail(store: Store, earlier: Store, clock: FakeClock, status: str) -> None:
    run = earlier.runs.start("npm_check", session_id="s", status=status)
    earlier.close()
    clock.advance(seconds=60)
    report = store.recover()
    assert [(each.id, each.was, each.status) for each in report.settled] == [(run.id, status, "failed")]
    found = store.runs.require(run.id)
    assert (found.error_code, found.completed_at is None) == (INTERRUPTED_RUN, False)
    # One that never began lasted no time; the reference has a start for each.
    assert (found.duration_ms is None) == (status == "queued")
    assert found.duration_ms is None or found.duration_ms >= 60_000


def test_what_is_known_of_an_interrupted_run_or_change_stays(store: Store, earlier: Store) -> None:
    at = START + timedelta(seconds=5)
    known: dict[str, Any] = {"error": "out of memory", "error_code": "workspace_task_killed", "duration_ms": 7}
    run = earlier.runs.start("cargo_check", session_id="s", completed_at=at, **known)
    audit = earlier.audits.start("write_text", "a.md", session_id="s")
    earlier.audits.update(audit.id, lambda found: setattr(found, "error", "disk full"))
    earlier.close()
    assert len(store.recover().settled) == 2
    found = store.runs.require(run.id)
    assert (found.status, found.error, found.error_code) == ("failed", "out of memory", "workspace_task_killed")
    assert (found.completed_at, found.duration_ms) == (at, 7)
    changed = store.audits.require(audit.id)
    assert (changed.status, changed.error, changed.error_code) == ("failed", "disk full", INTERRUPTED_CHANGE)


def test_what_ended_is_left_alone(store: Store, earlier: Store) -> None:
    for status in RUN_ENDS:
        earlier.runs.finish(earlier.runs.start("git_diff", session_id="s", id=status).id, status)
    earlier.audits.finish(earlier.audits.start("write_text", "a.md", session_id="s").id, "failed", error_code="x")
    before = earlier.runs.list(), earlier.audits.list()
    earlier.close()
    assert store.recover().settled == []
    assert (store.runs.list(), store.audits.list()) == before


def test_what_another_open_program_works_on_is_left_alone(store: Store, earlier: Store) -> None:
    # The reference fails it: whoever opens the database a second time ends what the first one is doing.
    run = earlier.runs.start("cargo_check", session_id="s")
    report = store.recover()
    assert (report.settled, [each.id for each in report.alive]) == ([], [run.id])
    assert earlier.runs.finish(run.id).status == "complete"


def test_a_run_that_the_clock_was_set_back_under_lasted_no_time(store: Store, earlier: Store, clock: FakeClock) -> None:
    run = earlier.runs.start("cargo_check", session_id="s")
    earlier.close()
    clock.advance(hours=-1)
    store.recover()
    assert store.runs.require(run.id).duration_ms == 0


def test_own_types_are_settled_and_migrated_with_it(store: Store) -> None:
    put_old(store, run="running", audit="applying")
    assert [each.was for each in store.recover(TASK_RUNS, AUDITS).settled] == ["running", "applying"]
    run, audit = store.records(TASK_RUNS).require("old"), store.records(AUDITS).require("old")
    assert (run.status, run.error_code) == ("failed", INTERRUPTED_RUN)
    assert (audit.status, audit.error_code) == ("failed", INTERRUPTED_CHANGE)
    assert run.completed_at_ms is not None
    assert run.duration_ms == run.completed_at_ms - 1_000
    assert audit.applied_at_ms is not None
    assert versions(store) == [2, 3]


def test_opening_settles_when_it_is_told_to(earlier: Store, directory: Path) -> None:
    run = earlier.runs.start("cargo_check", session_id="s")
    earlier.close()
    # The reference always does; here looking at a store changes nothing in it.
    with Store(directory) as looking:
        assert [(each.id, each.is_alive) for each in looking.in_flight()] == [(run.id, False)]
        assert looking.runs.require(run.id).status == "running"
    with Store(directory, recover=True) as working:
        assert working.runs.require(run.id).status == "failed"


# Runs of tasks, and audits of changes


def test_lists_have_as_many_as_are_asked_for(store: Store) -> None:
    for name in ("a", "b", "c"):
        store.runs.start("git_status", session_id="s", id=name)
        store.audits.start("write_text", "a.md", session_id="s", id=name)
    for records in (store.runs, store.audits):
        assert ids(records.list(session_id="s", limit=2)) == ["c", "b"]
        # The reference makes 1 of 0, and 200 of all that is more.
        assert records.list(session_id="s", limit=0) == []
        assert ids(records.list(session_id="s", limit=10**20)) == ids(records.list(session_id="s")) == ["c", "b", "a"]
        with pytest.raises(ValueError, match="0 or more"):
            records.list(session_id="s", limit=-1)


def test_the_newest_come_first_and_of_the_same_time_the_greatest_id(store: Store) -> None:
    for name, second in (("b", 1), ("c", 1), ("a", 2), ("d", 0)):
        at = START + timedelta(seconds=second)
        store.runs.start("git_status", session_id="s", id=name, started_at=at)
        store.audits.create(name, action="write_text", path="a.md", session_id="s", created_at=at)
    assert ids(store.runs.list(session_id="s")) == ids(store.audits.list(session_id="s")) == ["a", "c", "b", "d"]


def test_error_codes_are_filtered_within_the_session(store: Store) -> None:
    for owner in ("s", "t"):
        for code in ("workspace_conflict", None, "workspace_missing"):
            audit = store.audits.start("write_text", "a.md", session_id=owner, id=f"{owner}-{code}")
            store.audits.finish(audit.id, "failed" if code else "complete", error_code=code)
    assert ids(store.audits.list(session_id="s", error_code="workspace_conflict")) == ["s-workspace_conflict"]
    # None is a value here as well: those that have no code. Leave the filter out for all.
    assert ids(store.audits.list(session_id="s", error_code=None)) == ["s-None"]
    assert store.audits.count(session_id="s") == 3
    with pytest.raises(ValueError, match="'stdout_tail'"):
        store.runs.list(stdout_tail="")


def test_a_run_of_another_session_is_not_there(store: Store) -> None:
    run = store.runs.start("git_status", session_id="s")
    assert store.runs.get(run.id, within="s") == run
    assert store.runs.get(run.id, within="t") is None
    assert store.runs.get(fsstate.new_id(), within="s") is None
    with pytest.raises(fsstate.NotFoundError):
        store.runs.finish(run.id, within="t")


def test_two_sessions_may_have_runs_of_one_id(store: Store) -> None:
    # The reference overwrites the run of the other session, which keeps it, with what this one did.
    for owner in ("s", "t"):
        store.runs.start("git_status", session_id=owner, id="same", command=f"of {owner}")
    assert [store.runs.require("same", within=owner).command for owner in ("s", "t")] == ["of s", "of t"]
    with pytest.raises(fsstate.AmbiguousIdError, match="within"):
        store.runs.get("same")


def test_a_run_is_saved_whole_again_and_again(store: Store, reopen: Reopen) -> None:
    run = Run(id="r", session_id="s", task="cargo_check", path="crates", status="queued", max_output_bytes=65536)
    for step in ({"status": "running", "started_at": START}, {"stdout_tail": "Checking"}, {"cancel_requested": True}):
        for field, value in step.items():
            setattr(run, field, value)
        store.runs.put(run)
    run.status, run.exit_code, run.stderr_tail, run.stderr_truncated = "timed_out", -9, "error", True
    run.completed_at = START + timedelta(seconds=90)
    saved = store.runs.put(run)
    assert reopen().runs.list(session_id="s") == [saved]
    assert (saved.status, saved.timed_out, saved.duration_ms) == ("timed_out", True, 90_000)
    assert (saved.exit_code, saved.stderr_truncated, saved.cancel_requested, saved.path) == (-9, True, True, "crates")


def test_what_ended_does_not_end_again_nor_begin(store: Store) -> None:
    # The reference writes whatever status it is given.
    run, audit = store.runs.start("git_diff", session_id="s"), store.audits.start("write_text", "a.md")
    store.runs.finish(run.id)
    store.audits.finish(audit.id)
    again: list[Callable[[], object]] = [
        lambda: store.runs.finish(run.id, "failed"),
        lambda: store.runs.change(run.id, status="running"),
        lambda: store.audits.finish(audit.id, "failed", error="no"),
        lambda: store.audits.finish(audit.id),
    ]
    for step in again:
        with pytest.raises(fsstate.InvalidTransitionError):
            step()
    assert (store.runs.require(run.id).status, store.audits.require(audit.id).error) == ("complete", None)


def test_a_change_is_not_finished_as_applying(store: Store) -> None:
    audit = store.audits.start("write_text", "a.md", session_id="s")
    with pytest.raises(fsstate.InvalidTransitionError, match="'applying'"):
        store.audits.finish(audit.id, "applying")
    with pytest.raises(fsstate.NotFoundError):
        store.audits.finish(audit.id, within="t")
    with pytest.raises(fsstate.NotFoundError):
        store.audits.finish(fsstate.new_id())
    assert store.audits.require(audit.id) == audit


def test_a_change_that_failed_says_why(store: Store) -> None:
    audit = store.audits.start("rename_path", "a.md", session_id="s", target_path="b.md", size_before=10)
    why = {"error": "target exists", "error_code": "workspace_conflict"}
    failed = store.audits.finish(audit.id, "failed", **why, size_after=10)
    assert (failed.error, failed.error_code, failed.size_before, failed.size_after) == (*why.values(), 10, 10)
    assert (failed.target_path, failed.applied_at is not None) == ("b.md", True)


def test_a_status_that_nobody_knows_hides_no_other_run(store: Store) -> None:
    # The reference gives no list at all then.
    store.runs.start("git_status", session_id="s", id="good")
    with pytest.raises(fsstate.ValidationError, match="'lost' is no status"):
        store.runs.start("git_status", session_id="s", status="lost")
    store.collection("runs/s").put("bad", {"task": "git_status", "status": "lost"})
    assert ids(store.runs.list(session_id="s")) == ["good"]
    [problem] = store.runs.problems()
    assert "'lost'" in str(problem)


# Conversations


def test_a_title_that_was_given_stays(store: Store) -> None:
    name = create_conversation(store, "session-a", "  Ingest  ")
    store.session(name).messages.append("user", "Something else")
    assert title_of(store, name) == "Ingest"
    assert ensure_conversation(store, "session-a", name, "A hint") == "Ingest"


@pytest.mark.parametrize("blank", [None, "", "  \n "])
def test_a_blank_title_is_none(store: Store, blank: str | None) -> None:
    name = create_conversation(store, "session-a", blank)
    assert title_of(store, name) == DEFAULT_TITLE
    store.session(name).messages.append("user", " \n ")
    store.session(name).messages.append("assistant", "Say something.")
    assert title_of(store, name) == DEFAULT_TITLE
    store.session(name).messages.append("user", "  Hello  ")
    store.session(name).messages.append("user", "More")
    assert title_of(store, name) == "Hello"


def test_an_automatic_title_has_at_most_60_characters(store: Store) -> None:
    name = create_conversation(store, "session-a")
    first = store.session(name).messages.append("user", "é" * 60)
    assert title_of(store, name) == "é" * 60
    store.session(name).messages.update(first.id, content="é" * 61)
    # The reference puts three dots behind the 60, makes one line of many, and cuts titles that were given as well.
    assert title_of(store, name) == "é" * 59 + "…"
    store.session(name).messages.update(first.id, content="\nFirst line\nSecond line")
    assert title_of(store, name) == "First line"
    assert title_of(store, create_conversation(store, "session-a", "x" * 100)) == "x" * 100


def test_a_hint_is_a_title_only_while_there_is_none(store: Store) -> None:
    assert ensure_conversation(store, "session-a", "c1") == DEFAULT_TITLE
    assert ensure_conversation(store, "session-a", "c1", "First hint") == "First hint"
    assert ensure_conversation(store, "session-a", "c1", "Second hint") == "First hint"
    assert ensure_conversation(store, "session-a", "c2", "At once") == "At once"
    assert set(conversations_of(store, "session-a")) == {"c1", "c2"}


def test_a_conversation_of_another_session(store: Store) -> None:
    name = create_conversation(store, "session-a", "Mine")
    with pytest.raises(fsstate.WrongOwnerError, match="belongs to a different owner"):
        ensure_conversation(store, "session-b", name, "Taken")
    theirs = store.sessions.owned_by("session-b")
    assert (theirs.get(name), name in theirs, theirs.delete(name)) == (None, False, False)
    with pytest.raises(fsstate.WrongOwnerError):
        # Before anything is written: messages are found by their conversation here. The reference takes any id of a
        # message or conversation, whoever asks.
        theirs.check(name)
    assert (title_of(store, name), conversations_of(store, "session-b")) == ("Mine", [])


def test_the_latest_active_conversation_comes_first(store: Store) -> None:
    a, b, c = (create_conversation(store, "s", title) for title in "abc")
    assert conversations_of(store, "s") == [c, b, a]
    question = store.session(a).messages.append("user", "Hello")
    assert conversations_of(store, "s") == [a, c, b]
    store.session(b).messages.append("user", "Hello")
    store.session(a).messages.append_text(question.id, "!")
    assert conversations_of(store, "s") == [a, b, c]
    store.session(b).messages.update(store.session(b).messages.list()[0].id, status="seen")
    assert conversations_of(store, "s") == [b, a, c]


def test_conversations_of_one_time_are_ordered_by_id(store: Store) -> None:
    conversations = store.sessions.owned_by("s")
    for name in ("b", "c", "a"):
        conversations.create(id=name, created_at=START)
    assert conversations_of(store, "s") == ["c", "b", "a"]


def test_deleting_a_conversation_tells_whether_there_was_one(store: Store) -> None:
    name = create_conversation(store, "s")
    store.session(name).messages.append("user", "Hello")
    conversations = store.sessions.owned_by("s")
    assert [conversations.delete(name), conversations.delete(name)] == [True, False]
    ensure_conversation(store, "s", name)
    assert messages_of(store, "s", name) == []


# Messages


def test_a_delta_makes_a_message_streaming(store: Store) -> None:
    messages = store.session(create_conversation(store, "s")).messages
    message = messages.append("assistant", "Hello")
    assert message.status == "complete"
    for delta, text in ((", ", "Hello, "), ("world", "Hello, world"), ("", "Hello, world")):
        extended = messages.append_text(message.id, delta)
        assert (extended.text, extended.status) == (text, "streaming")
        assert messages.list() == [extended]


def test_messages_that_are_not_there(store: Store) -> None:
    name = create_conversation(store, "s")
    messages = store.session(name).messages
    with pytest.raises(fsstate.NotFoundError):
        messages.append_text(fsstate.new_id(), "x")
    with pytest.raises(fsstate.NotFoundError):
        messages.update(fsstate.new_id(), content="x", status="complete")
    assert store.sessions.owned_by("s").delete(name)
    # The reference keeps messages of conversations that do not exist.
    with pytest.raises(fsstate.NotFoundError):
        messages.append("user", "Hello")


def test_an_answer_that_was_cut_off_says_so(store: Store) -> None:
    # In the reference it is "streaming" for ever. The example shows the same for a program that is killed.
    name = create_conversation(store, "s")
    messages = store.session(name).messages
    messages.append("user", "Tell me")
    provider = {"provider": "ollama"}
    with suppress(ConnectionError), messages.stream("assistant", model="qwen3:8b", metadata=provider) as answer:
        for piece in ("Once upon ", "a time"):
            answer.write(piece)
        live = messages_of(store, "s", name)[-1]
        assert (live.text, live.status, live.metadata) == ("Once upon a time", "streaming", provider)
        raise ConnectionError
    found = messages_of(store, "s", name)[-1]
    assert (found.id, found.text, found.status) == (answer.id, "Once upon a time", "interrupted")


def test_many_at_once_get_places_of_their_own(store: Store) -> None:
    # The reference looks for the next number first, and takes it then.
    name = create_conversation(store, "s")

    def talk(number: int) -> None:
        for step in range(5):
            store.session(name).messages.append("user", f"{number}-{step}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = messages_of(store, "s", name)
    assert [message.seq for message in found] == list(range(1, 41))
    assert len({message.text for message in found}) == 40


# Sources


def scanned(*paths: str, status: str = "indexed", **fields: Any) -> list[SourceFile]:
    return [SourceFile(relative_path=path, absolute_path=f"/docs/{path}", status=status, **fields) for path in paths]


def test_the_first_to_add_a_source_decides(store: Store) -> None:
    first = store.sources.add("F:/docs", id="id-1", read_only=False)
    assert store.sources.add("F:/docs", id="id-2", read_only=True) == first
    assert (first.id, first.read_only) == ("id-1", False)
    for path in ("F:/b", "F:/a", "f:/docs"):
        store.sources.add(path)
    assert [root.path for root in store.sources.list()] == ["F:/a", "F:/b", "F:/docs", "f:/docs"]


def test_the_files_of_a_source_are_replaced_as_one(store: Store, reopen: Reopen) -> None:
    one, two = store.sources.add("/one", id="2"), store.sources.add("/two", id="1")
    store.sources.replace_files(one.id, scanned("b.md", "a.md", fingerprint="f", size_bytes=3, file_type="md"))
    store.sources.replace_files(two.id, [*scanned("c.md"), *scanned("x.bin", status="skipped", last_error="binary")])
    sources = reopen().sources
    # By source and path; of all statuses but "indexed" the reference asks for none.
    indexed = [(file.source_root_id, file.relative_path) for file in sources.files(status="indexed")]
    assert indexed == [("1", "c.md"), ("2", "a.md"), ("2", "b.md")]
    assert (sources.count_files(), sources.count_files(status="indexed")) == (4, 3)
    assert [file.last_error for file in sources.files("1", status="skipped")] == ["binary"]
    assert sources.files("2")[0].absolute_path == "/docs/a.md"

    store.sources.replace_files(one.id, scanned("only.md"))
    assert [file.relative_path for file in store.sources.files(one.id)] == ["only.md"]
    assert store.sources.replace_files(one.id, []) == 0
    assert store.sources.count_files() == 2


def test_files_that_cannot_be_replaced_are_as_before(store: Store) -> None:
    # The reference removes the old ones first, and the new ones go in one by one until one is refused.
    root = store.sources.add("/docs")
    store.sources.replace_files(root.id, scanned("a.md"))
    with pytest.raises(fsstate.AlreadyExistsError):
        store.sources.replace_files(root.id, scanned("b.md", "c.md", "b.md"))
    with pytest.raises(fsstate.NotFoundError):
        store.sources.replace_files(fsstate.new_id(), scanned("b.md"))
    assert [file.relative_path for file in store.sources.files()] == ["a.md"]


def test_a_pass_begins_and_ends(store: Store) -> None:
    root = store.sources.add("/docs")
    begun = store.sources.start_ingest("docs", root.id)
    assert (begun.scope, begun.source_root_id, begun.status, begun.file_count) == ("docs", root.id, "running", 0)
    assert (begun.started_at is None, begun.completed_at) == (False, None)
    ended = store.sources.finish_ingest(begun.id, file_count=12)
    assert (ended.status, ended.file_count, ended.error, ended.completed_at is None) == ("complete", 12, None, False)
    everything = store.sources.start_ingest("all sources")
    failed = store.sources.finish_ingest(everything.id, "partly failed", file_count=3, error="no access to /docs/x")
    assert (failed.source_root_id, failed.status, failed.error) == (None, "partly failed", "no access to /docs/x")
    with pytest.raises(fsstate.NotFoundError):
        store.sources.finish_ingest(fsstate.new_id())


def test_how_the_sources_are(store: Store) -> None:
    assert store.sources.status() == (False, 0, 0, [])
    root = store.sources.add("/docs")
    store.sources.replace_files(root.id, [*scanned("a.md", "b.md"), *scanned("x.bin", status="failed")])
    passes = [store.sources.start_ingest(f"pass {number}") for number in range(25)]
    status = store.sources.status()
    assert (status.is_running, status.total_files, status.indexed_files) == (True, 3, 2)
    assert ids(status.ingests) == ids(passes[:4:-1])
    for ingest in passes:
        store.sources.finish_ingest(ingest.id)
    assert not store.sources.status().is_running


def test_a_pass_whose_program_died_is_not_running(store: Store, earlier: Store) -> None:
    # In the reference it runs for ever.
    ingest = earlier.sources.start_ingest("docs")
    assert store.sources.status().is_running
    earlier.close()
    assert not store.sources.status().is_running
    store.recover()
    found = store.sources.ingests.require(ingest.id)
    assert (found.status, found.error) == ("failed", "ingest interrupted before completion")


# Providers


def test_the_last_test_of_each_provider_counts(store: Store, reopen: Reopen) -> None:
    for provider, ok, detail in (("ollama", False, "refused"), ("openai", True, "200"), ("ollama", True, "0.5.1")):
        store.settings.set(f"providers/{provider}", {"ok": ok, "detail": detail})
    settings = reopen().settings
    assert settings.items("providers") == {
        "providers/ollama": {"ok": True, "detail": "0.5.1"},
        "providers/openai": {"ok": True, "detail": "200"},
    }
    first, second = (settings.setting(f"providers/{name}") for name in ("openai", "ollama"))
    assert first is not None
    assert second is not None
    # When it was tested.
    assert (first.updated_at or START) < (second.updated_at or START)


def test_a_session_keeps_the_time_when_it_was_first_seen(store: Store, clock: FakeClock) -> None:
    store.settings.set_once("soma/sessions/s", {})
    first = store.settings.setting("soma/sessions/s")
    clock.advance(hours=1)
    store.settings.set_once("soma/sessions/s", {})
    assert store.settings.setting("soma/sessions/s") == first


# What stands on the disk


def test_people_find_what_belongs_together(store: Store, directory: Path) -> None:
    run, audit = (
        store.runs.start("git_status", session_id="s"),
        store.audits.start("write_text", "a.md", session_id="s"),
    )
    store.sources.add("F:/docs")
    document = json.loads((directory / "runs" / "s" / f"{run.id}.json").read_text())
    assert (document["task"], document["status"]) == ("git_status", "running")
    assert (directory / "audits" / "s" / f"{audit.id}.json").is_file()
    assert [path.name for path in (directory / "sources" / "roots").glob("*.json")] == ["F%3A%2Fdocs.json"]


def test_a_file_that_cannot_be_read_hides_no_other(store: Store, directory: Path) -> None:
    kept = store.runs.start("git_status", session_id="s")
    (directory / "runs" / "s" / "torn.json").write_text('{"task": "git_')
    assert ids(store.runs.list(session_id="s")) == [kept.id]
    assert [type(problem) for problem in store.recover().problems] == [fsstate.CorruptRecordError]


def test_the_example(run_example: RunExample) -> None:
    printed = run_example("soma.py")
    assert "at work: ['audits/browser-of-ada', 'runs/browser-of-ada', 'sources/ingests'] settled: []" in printed
    assert printed[-7:] == [
        "killed",
        "run: cargo_check failed: workspace task interrupted before completion",
        "change: write_text of guide.md failed: workspace file change interrupted before completion",
        "ingests: [('all sources', 'failed'), ('docs', 'complete')] running: False",
        "conversation 'Afternoon': assistant (interrupted): While the check is ",
        "selected: {'provider': 'ollama', 'model_id': 'qwen3:8b'}",
        "left to migrate: []",
    ]
