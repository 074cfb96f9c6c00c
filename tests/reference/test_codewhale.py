"""codewhale cf910b7da: threads with trees of messages, goals, tools, checkpoints; jobs; names; traces of workflows."""

import json
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import fsstate
from fsstate import (
    BranchRun,
    Goal,
    LeafRun,
    Message,
    PrunePolicy,
    Session,
    SessionHandle,
    Store,
    TeacherCandidate,
    Tool,
)
from tests.contract.conftest import FakeClock
from tests.reference.conftest import Reopen, RunExample

STATUSES = ("running", "idle", "completed", "failed", "paused")


def thread(store: Store, name: str = "thread-1", **metadata: Any) -> SessionHandle:
    """What the reference's tests call test_thread(), saved."""
    about = {"preview": "test thread", "ephemeral": False, "model_provider": "deepseek", "source": "interactive"}
    about |= {"cwd": "/tmp/codewhale", "cli_version": "0.0.0-test", **metadata}  # noqa: S108 - no file is made there
    store.sessions.create(id=name, status="running", metadata=about)
    return store.session(name)


def seconds(number: int) -> datetime:
    return datetime.fromtimestamp(number, UTC)


def texts(messages: Iterable[Message]) -> list[str]:
    return [message.text for message in messages]


def listed(store: Store, **wanted: Any) -> list[str]:
    return [each.id for each in store.sessions.list(**wanted)]


# Its own tests


def test_thread_goal_crud_round_trips_and_replaces(store: Store) -> None:
    one = thread(store)
    goal = Goal(id="goal-1", objective="Ship v0.8.59", token_budget=123, tokens_used=7, time_used_seconds=11)
    goal.created_at, goal.updated_at = seconds(100), seconds(101)
    assert one.goal.put(goal) == goal
    assert one.goal.get() == goal
    replacement = Goal(id="goal-2", objective="Ship v0.8.59 safely", status="budget_limited", tokens_used=7)
    replacement.created_at, replacement.updated_at = seconds(100), seconds(202)
    one.goal.put(replacement)
    assert one.goal.get() == replacement
    assert one.goal.delete()
    assert one.goal.get() is None
    assert not one.goal.delete()


def test_thread_goal_requires_existing_thread(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError, match="missing-thread"):
        store.session("missing-thread").goal.put(Goal(id="goal-1", objective="nope"))
    assert store.session("missing-thread").goal.get() is None


# Threads


def test_an_upsert_makes_a_thread_or_changes_what_it_names(store: Store, reopen: Reopen) -> None:
    # The reference writes every column: a resume sets git_*, sandbox_policy and memory_mode to NULL, and nobody is
    # told.
    thread(store, git_branch="main", sandbox_policy="read-only")
    store.sessions.set_memory_mode("thread-1", "local")

    def resume(session: Session) -> None:
        session.status = "running"
        session.metadata |= {"source": "resume", "preview": "go on"}

    store.sessions.get_or_create("thread-1")
    store.sessions.update("thread-1", resume)
    found = reopen().sessions["thread-1"]
    assert (found.metadata["source"], found.metadata["preview"]) == ("resume", "go on")
    assert (found.metadata["git_branch"], found.metadata["sandbox_policy"]) == ("main", "read-only")
    assert found.memory_mode == "local"


def test_an_upsert_leaves_the_leaf_where_it_is(store: Store) -> None:
    one = thread(store)
    first = one.messages.append("user", "a")
    one.messages.append("user", "b")
    one.messages.set_head(first.id)
    store.sessions.update("thread-1", lambda session: session.metadata.update(preview="a"))
    assert texts(one.messages.list()) == ["a"]


def test_a_thread_that_is_not_there(store: Store) -> None:
    assert store.sessions.get("thread-1") is None
    # The reference changes no row, and says that it is done.
    for change in (store.sessions.archive, store.sessions.unarchive, store.sessions.end):
        with pytest.raises(fsstate.NotFoundError):
            change("thread-1")
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.set_memory_mode("thread-1", "local")
    assert not store.sessions.delete("thread-1")


def test_threads_are_listed_with_the_latest_first(store: Store) -> None:
    for number in range(3):
        thread(store, f"thread-{number}")
    store.session("thread-0").messages.append("user", "x")
    assert listed(store) == ["thread-0", "thread-2", "thread-1"]
    assert listed(store, limit=1) == ["thread-0"]
    # For the reference 0 is 0, too; a number below that means all.
    assert listed(store, limit=0) == []
    with pytest.raises(ValueError, match="limit"):
        listed(store, limit=-1)


def test_a_list_has_50_unless_told_otherwise(store: Store) -> None:
    for number in range(51):
        thread(store, f"thread-{number}")
    assert len(listed(store)) == 50
    assert len(listed(store, limit=None)) == len(listed(store, limit=10**9)) == 51


def test_any_status_is_kept(store: Store, reopen: Reopen) -> None:
    # The reference reads one that it does not know as "idle".
    for status in (*STATUSES, "waiting for a newer program"):
        thread(store, status)
        with store.sessions.edit(status) as session:
            session.status = status
    again = reopen()
    assert {name: again.sessions[name].status for name in again.sessions} == {
        status: status for status in (*STATUSES, "waiting for a newer program")
    }
    assert listed(again, status="paused") == ["paused"]


def test_archived_threads_are_hidden(store: Store) -> None:
    thread(store, "thread-1")
    thread(store, "thread-2")
    at = store.sessions.archive("thread-1").archived_at
    assert at is not None
    assert listed(store) == ["thread-2"]
    assert listed(store, archived=True) == ["thread-1"]
    assert sorted(listed(store, archived=None)) == ["thread-1", "thread-2"]
    assert store.sessions.archive("thread-1").archived_at == at


@pytest.mark.parametrize("status", STATUSES)
def test_unarchiving_brings_the_status_back(store: Store, status: str) -> None:
    # The reference overwrites it by "archived", and leaves that when the thread comes back.
    thread(store)
    with store.sessions.edit("thread-1") as session:
        session.status = status
    store.sessions.archive("thread-1")
    back = store.sessions.unarchive("thread-1")
    assert (back.status, back.archived_at) == (status, None)
    assert listed(store, status=status) == ["thread-1"]


def test_deleting_a_thread_deletes_what_belongs_to_it(store: Store) -> None:
    # In the reference this hangs on how SQLite was compiled.
    one, other = thread(store), thread(store, "thread-2")
    for each in (one, other):
        each.messages.append("user", "a")
        each.checkpoints.save("latest", {"n": 1})
        each.goal.set("Ship it")
        each.tools.replace([Tool(name="grep")])
    assert store.sessions.delete("thread-1")
    thread(store)
    assert (one.messages.count(), one.checkpoints.count(), one.goal.get(), one.tools.list()) == (0, 0, None, [])
    assert one.messages.append("user", "b").parent_id is None
    assert (other.messages.count(), other.checkpoints.count(), other.tools.count()) == (1, 1, 1)
    assert other.goal.exists()


def test_memory_mode(store: Store, reopen: Reopen) -> None:
    thread(store)
    assert store.sessions["thread-1"].memory_mode is None
    store.sessions.set_memory_mode("thread-1", "remote")
    assert reopen().sessions["thread-1"].memory_mode == "remote"
    assert store.sessions.set_memory_mode("thread-1", None).memory_mode is None


# The goal of a thread


def test_a_goal_is_spent_until_its_budget_is_used_up(store: Store) -> None:
    goal = thread(store).goal
    made = goal.set("Ship it", token_budget=100)
    assert (made.status, made.tokens_left) == ("active", 100)
    assert goal.spend(60, seconds=5).status == "active"
    spent = goal.spend(60, seconds=5)
    assert (spent.status, spent.tokens_used, spent.time_used_seconds) == ("budget_limited", 120, 10)
    assert spent.id == made.id


@pytest.mark.parametrize("status", ["paused", "blocked", "usage_limited", "budget_limited", "complete"])
def test_statuses_of_a_goal(store: Store, status: str) -> None:
    goal = thread(store).goal
    goal.set("Ship it")
    assert goal.change(status=status).status == status
    if status == "complete":
        # The reference takes up again what is complete.
        with pytest.raises(fsstate.InvalidTransitionError, match="complete"):
            goal.change(status="active")
    else:
        assert goal.change(status="active").status == "active"


def test_a_goal_of_an_unknown_status_is_refused(store: Store, directory: Path) -> None:
    goal = thread(store).goal
    goal.set("Ship it")
    with pytest.raises(fsstate.InvalidValueError, match="abandoned"):
        goal.change(status="abandoned")
    path = Path(goal.path)
    assert path.is_relative_to(directory)
    path.write_text(path.read_text().replace('"active"', '"abandoned"'))
    # The reference reads it as "active", which sets an agent to work.
    with pytest.raises(fsstate.ValidationError, match=r"goal\.json.*\$\.status.*abandoned"):
        goal.get()
    assert goal.exists()


# The tree of messages


def test_a_message_goes_under_the_leaf_and_becomes_it(store: Store, reopen: Reopen) -> None:
    messages = thread(store).messages
    first = messages.append("user", "a")
    second = messages.append("assistant", "b", metadata={"item": {"tool_calls": [1]}})
    assert (first.parent_id, second.parent_id) == (None, first.id)
    found = reopen().session("thread-1").messages.list()
    assert [(each.role, each.text, each.metadata) for each in found] == [
        ("user", "a", {}),
        ("assistant", "b", {"item": {"tool_calls": [1]}}),
    ]
    assert all(each.created_at is not None for each in found)


def test_a_message_needs_its_thread(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError, match="missing"):
        store.session("missing").messages.append("user", "a")
    assert store.session("missing").messages.list() == []


def test_the_branch_is_listed_from_the_leaf(store: Store) -> None:
    messages = thread(store).messages
    for text in "abcd":
        messages.append("user", text)
    for limit, found in ((1, "d"), (2, "cd"), (4, "abcd"), (10**9, "abcd"), (None, "abcd")):
        assert texts(messages.list(limit=limit)) == list(found)
    # The reference gives the leaf even so, and at most 500 messages unless it is told otherwise.
    assert messages.list(limit=0) == []
    with pytest.raises(ValueError, match="limit"):
        messages.list(limit=-1)


def test_leaves_and_the_leaf_that_counts(store: Store, reopen: Reopen) -> None:
    messages = thread(store).messages
    a, b = messages.append("user", "a"), messages.append("assistant", "b")
    c = messages.fork_at(a.id, "assistant", "c")
    assert texts(messages.list()) == ["a", "c"]
    assert texts(messages.leaves()) == ["b", "c"]
    messages.set_head(b.id)
    assert texts(messages.list()) == ["a", "b"]
    assert messages.append("user", "d").parent_id == b.id
    assert [each.id for each in reopen().session("thread-1").messages.leaves()] == [c.id, messages.list()[-1].id]


def test_a_leaf_is_one_of_the_threads_messages(store: Store) -> None:
    # The reference takes any number, and lists then what is in another thread, or nothing.
    one, other = thread(store), thread(store, "thread-2")
    one.messages.append("user", "a")
    elsewhere = other.messages.append("user", "b")
    for wrong in (elsewhere.id, "99"):
        with pytest.raises(fsstate.NotFoundError, match=wrong):
            one.messages.set_head(wrong)
    assert texts(one.messages.list()) == ["a"]


def test_fork_at_a_message(store: Store) -> None:
    messages = thread(store).messages
    made = [messages.append("user", text) for text in "abc"]
    forked = messages.fork_at(made[0].id, "user", "d", metadata={"item": {"k": 1}})
    assert (forked.parent_id, forked.metadata) == (made[0].id, {"item": {"k": 1}})
    assert texts(messages.list()) == ["a", "d"]
    assert texts(messages.list(made[2].id)) == ["a", "b", "c"]
    with pytest.raises(fsstate.NotFoundError, match="nowhere"):
        messages.fork_at("nowhere", "user", "e")


def test_clearing_a_thread(store: Store, reopen: Reopen) -> None:
    one = thread(store)
    for text in "abc":
        one.messages.append("user", text)
    one.checkpoints.save("latest", 1)
    assert one.messages.clear() == 3
    assert one.messages.clear() == 0
    again = reopen().session("thread-1")
    assert (again.messages.list(), again.messages.head(), again.checkpoints.count()) == ([], None, 1)
    assert again.messages.append("user", "d").parent_id is None


def test_many_append_at_once_to_one_line_of_messages(store: Store) -> None:
    messages = thread(store).messages

    def work(number: int) -> None:
        for step in range(5):
            messages.append("user", f"{number}-{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    branch = messages.list()
    assert len(branch) == 30
    assert all(below.parent_id == above.id for above, below in pairwise(branch))


def test_one_message_that_cannot_be_read_hides_no_other(store: Store, directory: Path, reopen: Reopen) -> None:
    # The reference cannot list the thread then.
    messages = thread(store).messages
    messages.append("user", "a")
    with Path(messages.path).open("a") as file:
        file.write('{"seq":2,"id":"x","role":"user","content":"b","item":nonsense}\n')
    again = reopen().session("thread-1").messages
    again.append("user", "c")
    assert texts(again.all()) == ["a", "c"]
    assert [problem.line for problem in again.problems() if isinstance(problem, fsstate.CorruptRecordError)] == [2]
    assert Path(messages.path).is_relative_to(directory)


# Tools of a thread


def test_tools_are_replaced_as_one_set_in_an_order(store: Store, reopen: Reopen) -> None:
    tools = thread(store).tools
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    assert tools.replace([Tool(name="ls", description="List", input_schema=schema), Tool(name="cat")]) == 2
    assert reopen().session("thread-1").tools.list() == [
        Tool(name="ls", description="List", input_schema=schema),
        Tool(name="cat"),
    ]
    assert tools.replace([Tool(name="cat"), Tool(name="ls"), Tool(name="wc")]) == 3
    assert [tool.name for tool in tools.list()] == ["cat", "ls", "wc"]
    found = tools.get("ls")
    assert found is not None
    assert found.description is None
    assert tools.replace([]) == 0
    assert tools.list() == []


def test_a_set_with_one_tool_twice_changes_nothing(store: Store) -> None:
    # In the reference the positions must differ; names may be the same.
    tools = thread(store).tools
    tools.replace([Tool(name="ls")])
    with pytest.raises(fsstate.AlreadyExistsError, match="cat"):
        tools.replace([Tool(name="cat"), Tool(name="cat")])
    assert [tool.name for tool in tools.list()] == ["ls"]


def test_tools_need_their_thread(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError, match="missing"):
        store.session("missing").tools.replace([Tool(name="ls")])
    assert store.session("missing").tools.list() == []


# Checkpoints


@pytest.mark.parametrize("state", [{"reason": "thread_message", "n": [1, 2]}, [1], "text", 0, None])
def test_a_checkpoint_holds_any_state(store: Store, state: Any, reopen: Reopen) -> None:
    thread(store).checkpoints.save("latest", state)
    found = reopen().session("thread-1").checkpoints.load("latest")
    assert found is not None
    assert (found.name, found.state) == ("latest", state)


def test_a_checkpoint_is_overwritten_and_becomes_the_latest(store: Store) -> None:
    checkpoints = thread(store).checkpoints
    assert checkpoints.load() is None
    assert checkpoints.load("before") is None
    first = checkpoints.save("before", 1)
    checkpoints.save("after", 2)
    assert getattr(checkpoints.load(), "name", None) == "after"
    again = checkpoints.save("before", 3)
    assert again.saved_at is not None
    assert first.saved_at is not None
    assert again.saved_at > first.saved_at
    assert checkpoints.load() == again
    assert [(each.name, each.state) for each in checkpoints.list()] == [("before", 3), ("after", 2)]


def test_the_latest_is_known_however_fast_they_come(store: Store) -> None:
    # The reference counts whole seconds, and takes any of those of one second.
    stopped = Store.over(store.backend, fsstate.StoreOptions(clock=lambda: seconds(100)), path=store.path)
    checkpoints = stopped.session(stopped.sessions.create(id="thread-1").id).checkpoints
    for name in ("c", "a", "b"):
        checkpoints.save(name, name)
    assert [each.name for each in checkpoints.list()] == ["b", "a", "c"]
    assert getattr(checkpoints.load(), "name", None) == "b"


def test_lists_and_deletes_checkpoints(store: Store) -> None:
    checkpoints = thread(store).checkpoints
    for number in range(101):
        checkpoints.save(f"c{number}", number)
    assert [each.state for each in checkpoints.list(limit=2)] == [100, 99]
    assert (len(checkpoints.list()), len(checkpoints.list(limit=None)), checkpoints.list(limit=0)) == (100, 101, [])
    # The reference does not say whether there was one.
    assert checkpoints.delete("c100")
    assert not checkpoints.delete("c100")
    assert getattr(checkpoints.load(), "name", None) == "c99"


def test_a_checkpoint_needs_its_thread(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError, match="missing"):
        store.session("missing").checkpoints.save("latest", 1)
    assert store.session("missing").checkpoints.list() == []


def test_a_checkpoint_that_cannot_be_read_is_no_empty_state(store: Store, directory: Path) -> None:
    # The reference gives null for it.
    checkpoints = thread(store).checkpoints
    checkpoints.save("good", 1)
    checkpoints.save("bad", 2)
    path = Path(checkpoints.path_of("bad"))
    assert path.is_relative_to(directory)
    path.write_text('{"name": "bad", "state": {')
    with pytest.raises(fsstate.CorruptRecordError, match=r"bad\.json"):
        checkpoints.load("bad")
    assert getattr(checkpoints.load(), "name", None) == "good"


# Jobs


def test_jobs_are_upserted_listed_and_deleted(store: Store, reopen: Reopen) -> None:
    job = store.jobs.create("index the sources", id="job-1", detail="begun")
    store.jobs.create("tidy up", id="job-2")
    assert (job.status, job.progress, job.detail) == ("queued", 0, "begun")
    job.name, job.progress = "index all sources", 40
    store.jobs.put(job)
    found = reopen().jobs.require("job-1")
    assert (found.name, found.progress, found.status) == ("index all sources", 40, "queued")
    assert [each.id for each in store.jobs.list()] == ["job-1", "job-2"]
    assert [each.id for each in store.jobs.list(limit=1)] == ["job-1"]
    assert store.jobs.list(limit=0) == []
    assert store.jobs.get("job-9") is None
    assert [store.jobs.delete("job-1") for _ in range(2)] == [True, False]


def test_all_jobs_are_listed(store: Store) -> None:
    # The reference loads 500 when it starts, and forgets the others.
    for number in range(101):
        store.jobs.create("x", id=f"job-{number}")
    assert len(store.jobs.list()) == len(store.jobs.list(limit=10**9)) == 101


def test_a_job_goes_through_its_phases(store: Store, reopen: Reopen) -> None:
    jobs = store.jobs
    jobs.create("index", id="job-1")
    jobs.start("job-1")
    jobs.progress("job-1", 30, "a third")
    jobs.pause("job-1")
    # The reference has no such status on disk, and writes it as JSON into the detail.
    assert reopen().jobs.require("job-1").status == "paused"
    jobs.resume("job-1")
    done = jobs.complete("job-1", {"files": 3})
    assert (done.status, done.progress, done.detail, done.result) == ("completed", 100, "a third", {"files": 3})
    assert [event.phase for event in done.history] == [
        "created",
        "running",
        "progress_updated",
        "paused",
        "resumed",
        "completed",
    ]
    assert [event.progress for event in done.history] == [0, 0, 30, 30, 30, 100]


def test_progress_is_at_most_100(store: Store) -> None:
    store.jobs.create("index", id="job-1")
    store.jobs.start("job-1")
    assert store.jobs.progress("job-1", 250).progress == 100
    for wrong in (-1, float("nan")):
        with pytest.raises(fsstate.InvalidValueError, match="progress"):
            store.jobs.progress("job-1", wrong)


def test_what_has_ended_stays_so(store: Store) -> None:
    # The reference lets a job that is cancelled run on.
    jobs = store.jobs
    for name in ("completed", "cancelled"):
        jobs.create("index", id=name)
        jobs.start(name)
    jobs.complete("completed")
    jobs.cancel("cancelled")
    for name in ("completed", "cancelled"):
        for step in (jobs.start, jobs.complete, jobs.fail, jobs.cancel, jobs.retry):
            with pytest.raises(fsstate.InvalidTransitionError, match=name):
                step(name)


def test_a_failure_is_tried_again_later_and_later(store: Store, clock: FakeClock) -> None:
    jobs = store.jobs
    jobs.create("index", id="job-1")
    waits = []
    for attempt in (1, 2):
        jobs.start("job-1")
        failed = jobs.fail("job-1", f"error {attempt}")
        assert (failed.attempt, failed.error, failed.is_final) == (attempt, f"error {attempt}", False)
        waits.append(failed.next_backoff_ms)
        assert failed.next_retry_at is not None
        assert [job.id for job in jobs.due(failed.next_retry_at - timedelta(microseconds=1))] == []
        clock.advance(seconds=10)
        assert [job.id for job in jobs.due()] == ["job-1"]
        jobs.retry("job-1")
    jobs.start("job-1")
    last = jobs.fail("job-1", "error 3")
    assert waits == [500, 1000]
    assert (last.attempt, last.can_retry, last.next_retry_at, jobs.due()) == (3, False, None, [])
    with pytest.raises(fsstate.InvalidTransitionError, match="failed 3 times of 3"):
        jobs.retry("job-1")


def test_the_wait_is_doubled_20_times_at_most(store: Store) -> None:
    jobs = store.jobs
    jobs.create("index", id="job-1", attempt=40, max_attempts=99, backoff_ms=1)
    jobs.start("job-1")
    assert jobs.fail("job-1").next_backoff_ms == 2**20


def test_the_history_keeps_the_newest_64(store: Store) -> None:
    jobs = store.jobs
    jobs.create("index", id="job-1")
    jobs.start("job-1")
    for percent in range(1, 71):
        jobs.progress("job-1", percent)
    history = jobs.require("job-1").history
    assert (len(history), history[0].progress, history[-1].progress) == (64, 7, 70)


def left_by_a_program_that_died(store: Store, name: str, status: str) -> None:
    document = {"id": name, "name": "index", "status": status, "progress": 40, "held_by": "somebody-who-is-gone"}
    store.collection("jobs").put(name, document)


def test_what_was_under_way_is_queued_again(store: Store, reopen: Reopen) -> None:
    for status in ("queued", "running", "paused", "completed"):
        left_by_a_program_that_died(store, f"job-{status}", status)
    again = reopen()
    assert sorted(job.id for job in again.jobs.resume_pending()) == ["job-queued", "job-running"]
    resumed = again.jobs.require("job-running")
    assert (resumed.status, resumed.progress, resumed.history[-1].phase) == ("queued", 40, "queued_after_resume")
    assert [again.jobs.require(f"job-{status}").status for status in ("paused", "completed")] == [
        "paused",
        "completed",
    ]


def test_what_another_program_works_on_is_left_to_it(store: Store, reopen: Reopen) -> None:
    # The reference queues whatever is running, whoever runs it.
    store.jobs.create("index", id="job-1")
    store.jobs.start("job-1")
    again = reopen()
    assert again.jobs.resume_pending() == []
    assert again.jobs.require("job-1").status == "running"


def test_a_status_that_nobody_knows_sets_nobody_to_work(store: Store) -> None:
    # The reference reads it as "queued".
    store.collection("jobs").put("job-1", {"id": "job-1", "name": "x", "status": "exploded"})
    store.jobs.create("y", id="job-2")
    assert [job.id for job in store.jobs.resume_pending()] == ["job-2"]
    with pytest.raises(fsstate.ValidationError, match="exploded"):
        store.jobs.start("job-1")
    assert [type(problem) for problem in store.jobs.problems()] == [fsstate.ValidationError]


# Names


def test_names_by_id(store: Store) -> None:
    thread(store, "thread-1")
    thread(store, "thread-2")
    with store.sessions.edit("thread-1") as session:
        session.title = "Harbour"
    assert store.sessions.titles(["thread-1", "thread-2", "thread-9"]) == {
        "thread-1": "Harbour",
        "thread-2": None,
        "thread-9": None,
    }
    assert store.sessions.titles(["thread-1"])["thread-1"] == "Harbour"


def rename(store: Store, name: str, title: str | None) -> None:
    with store.sessions.edit(name) as session:
        session.title = title


def test_a_thread_is_found_by_its_name_in_any_case(store: Store) -> None:
    thread(store, "thread-1")
    rename(store, "thread-1", "Ärger am Hafen")
    for name in ("Ärger am Hafen", "ÄRGER AM HAFEN", "ärger am hafen"):
        # The reference knows the case of ASCII only.
        found = store.sessions.find_title(name)
        assert found is not None
        assert found.id == "thread-1"
        assert store.sessions.path_of(found.id).endswith("thread-1.json")
    assert store.sessions.find_title("Hafen") is None


def test_of_several_with_one_name_the_newest_counts(store: Store) -> None:
    for name in ("thread-2", "thread-1", "thread-3"):
        thread(store, name)
        rename(store, name, "harbour")
    rename(store, "thread-1", "Harbour")
    assert getattr(store.sessions.find_title("HARBOUR"), "id", None) == "thread-1"
    # The last line of the reference's index counts; here there is no other.
    rename(store, "thread-1", "Lighthouse")
    assert getattr(store.sessions.find_title("harbour"), "id", None) == "thread-3"
    assert getattr(store.sessions.find_title("lighthouse"), "id", None) == "thread-1"


def test_names_go_with_their_threads(store: Store) -> None:
    # The reference's index goes on to name a thread that was deleted.
    thread(store)
    rename(store, "thread-1", "harbour")
    store.sessions.delete("thread-1")
    assert store.sessions.find_title("harbour") is None
    assert store.sessions.titles() == {}


def test_what_cannot_be_read_hides_no_name(store: Store, directory: Path) -> None:
    # In the reference one bad line makes every look-up fail.
    for name in ("thread-1", "thread-2"):
        thread(store, name)
        rename(store, name, name)
    (directory / "sessions" / "thread-1.json").write_text("{")
    assert store.sessions.titles() == {"thread-2": "thread-2"}
    assert store.sessions.titles(["thread-1", "thread-2"]) == {"thread-1": None, "thread-2": "thread-2"}
    assert getattr(store.sessions.find_title("THREAD-2"), "id", None) == "thread-2"
    assert ["thread-1.json" in str(problem) for problem in store.sessions.problems()] == [True]


# Traces of workflows


def a_run(store: Store) -> str:
    run = store.workflows.start("review", "Review the change", id="run-1", input_hash="h0", metadata={"by": "ada"})
    return run.id


def test_a_run_and_what_was_run_in_it(store: Store, reopen: Reopen) -> None:
    one = store.workflow(a_run(store))
    one.branches.create("b1", branch_id="security", node_id="n1")
    one.leaves.create("l1", leaf_id="read", task_id="t1", branch_run_id="b1", input_hash="h1")
    one.nodes.create("c1", node_id="n1", kind="select")
    one.candidates.create("k1", control_node_run_id="c1", candidate_id="x", branch_run_id="b1", score=0.9, passed=True)
    one.leaves.change("l1", status="completed", output={"found": 2}, artifacts=["report.md"])
    one.nodes.change("c1", status="completed", selected_children=["x"])
    one.branches.change("b1", status="completed", result={"ok": True})
    store.workflows.finish("run-1")
    again = reopen()
    run, found = again.workflows.require("run-1"), again.workflow("run-1")
    assert (run.status, run.goal, run.input_hash, run.metadata) == (
        "completed",
        "Review the change",
        "h0",
        {"by": "ada"},
    )
    assert None not in (run.started_at, run.completed_at)
    assert [branch.result for branch in found.branches.list()] == [{"ok": True}]
    assert [(leaf.output, leaf.artifacts) for leaf in found.leaves.list(branch_run_id="b1")] == [
        ({"found": 2}, ["report.md"])
    ]
    assert [node.selected_children for node in found.nodes.list(kind="select")] == [["x"]]
    assert [each.score for each in found.candidates.list(control_node_run_id="c1", passed=True)] == [0.9]
    assert [each.id for each in again.workflows.list(workflow_id="review", status="completed")] == ["run-1"]


def test_a_leaf_is_replayed_for_the_same_input(store: Store) -> None:
    a_run(store)
    store.workflows.start("review", "Another", id="run-2")
    leaves = store.workflow("run-1").leaves
    for name, hashed, status, output in (
        ("l1", "h1", "completed", "old"),
        ("l2", "h1", "completed", "new"),
        ("l3", "h1", "failed", None),
        ("l4", "h2", "completed", "other"),
        ("l5", None, "completed", "unknown"),
    ):
        leaves.create(name, leaf_id="read", task_id="t", input_hash=hashed)
        leaves.change(name, status=status, output=output)
    assert getattr(leaves.replay("read", "h1"), "output", None) == "new"
    assert getattr(leaves.replay("read", "h2"), "output", None) == "other"
    for leaf, hashed in (("read", "h3"), ("write", "h1"), ("read", None)):
        assert leaves.replay(leaf, hashed) is None
    assert store.workflow("run-2").leaves.replay("read", "h1") is None


def test_deleting_a_run_deletes_all_of_it(store: Store) -> None:
    one = store.workflow(a_run(store))
    one.branches.add(BranchRun(id="b1"))
    one.leaves.add(LeafRun(id="l1", branch_run_id="b1"))
    assert store.workflows.delete("run-1")
    a_run(store)
    assert (one.branches.count(), one.leaves.count()) == (0, 0)


def test_a_branch_that_goes_leaves_its_leaves(store: Store) -> None:
    one = store.workflow(a_run(store))
    one.branches.add(BranchRun(id="b1"))
    one.leaves.add(LeafRun(id="l1", branch_run_id="b1"))
    one.nodes.create("c1", kind="select")
    one.candidates.add(TeacherCandidate(id="k1", control_node_run_id="c1", branch_run_id="b1"))
    one.candidates.add(TeacherCandidate(id="k2", control_node_run_id="another"))
    one.branches.delete("b1")
    assert one.leaves.require("l1").branch_run_id is None
    assert one.candidates.require("k1").branch_run_id is None
    one.nodes.delete("c1")
    assert one.candidates.ids() == ["k2"]


def test_a_trace_needs_its_run(store: Store) -> None:
    with pytest.raises(fsstate.NotFoundError, match="run-9"):
        store.workflow("run-9").leaves.create("l1", leaf_id="read")
    assert store.workflow("run-9").leaves.list() == []


def test_runs_of_a_program_that_died_have_failed(store: Store, reopen: Reopen) -> None:
    # In the reference they run for ever.
    a_run(store)
    with_holder = {"id": "l1", "leaf_id": "read", "status": "running", "held_by": "somebody-who-is-gone"}
    store.collection("workflows/run-1/leaves").put("l1", with_holder)
    again = reopen()
    assert [(each.id, each.status) for each in again.recover().settled] == [("l1", "failed")]
    assert again.workflow("run-1").leaves.require("l1").error_code == "workflow_interrupted"
    assert again.workflows.require("run-1").status == "running"


# Versions


def test_a_store_of_a_newer_program_is_refused_and_not_touched(store: Store, directory: Path, reopen: Reopen) -> None:
    # The reference opens it all the same.
    thread(store)
    mark = directory / ".fsstate" / "store.json"
    newer = mark.read_text().replace('"format": 1', '"format": 99')
    mark.write_text(newer)
    with pytest.raises(fsstate.NewerFormatError, match="99"):
        reopen()
    assert mark.read_text() == newer


def test_a_record_of_a_newer_program_is_refused_and_hides_no_other(store: Store) -> None:
    document = {"schema_version": 99, "id": "job-1", "name": "x", "status": "queued"}
    store.collection("jobs").put("job-1", document)
    store.jobs.create("y", id="job-2")
    for work in (store.jobs.get, store.jobs.start, store.jobs.complete):
        with pytest.raises(fsstate.NewerVersionError, match="99"):
            work("job-1")
    assert [job.id for job in store.jobs.list()] == ["job-2"]
    assert store.collection("jobs")["job-1"] == document


# What its program does with the store


def touch_message(store: Store, name: str, text: str) -> Message:
    """A message from the user: the thread is shown as running, and can be gone on with from here."""
    one = store.session(name)

    def touch(session: Session) -> None:
        session.status = "running"
        session.metadata["preview"] = text[:20]

    updated = store.sessions.update(name, touch).updated_at
    message = one.messages.append("user", text)
    state: dict[str, Any] = {"reason": "thread_message", "message_id": message.id, "role": "user"}
    state |= {"preview": text[:20], "updated_at": None if updated is None else updated.isoformat()}
    one.checkpoints.save("latest", state)
    return message


def test_a_message_and_its_answer(store: Store, reopen: Reopen) -> None:
    one = thread(store, status="idle")
    asked = touch_message(store, "thread-1", "Where is the harbour, and when does it open?")
    found = one.checkpoints.load()
    assert found is not None
    assert (found.name, found.state["message_id"]) == ("latest", asked.id)
    answer = one.messages.append("assistant", "At the sea.", model="deepseek-chat")
    state = {"response_id": "r1", "model": "deepseek-chat", "assistant_message_id": answer.id}
    one.checkpoints.save("latest", {"reason": "prompt_response", "state": state})
    again = reopen().session("thread-1")
    latest = again.checkpoints.load()
    assert latest is not None
    assert latest.state["state"]["assistant_message_id"] == answer.id
    assert again.checkpoints.names() == ["latest"]
    assert again.document().metadata["preview"] == "Where is the harbour"


def test_reading_a_thread(store: Store, reopen: Reopen) -> None:
    one = thread(store)
    one.goal.set("Find the harbour")
    for number in range(3):
        touch_message(store, "thread-1", f"message {number}")
    again = reopen().session("thread-1")
    assert texts(again.messages.list(limit=500)) == ["message 0", "message 1", "message 2"]
    assert getattr(again.checkpoints.load(), "state", {})["preview"] == "message 2"
    assert again.goal.require().objective == "Find the harbour"


def test_a_fork_is_a_thread_of_its_own(store: Store) -> None:
    one = thread(store)
    last = touch_message(store, "thread-1", "Where is the harbour?")
    forked = store.sessions.fork("thread-1", new_id="thread-2", metadata={"source": "fork"})
    # As the reference does it: what was said stays in the other thread, and the first message tells which that is.
    new = store.session("thread-2")
    new.messages.append("history", json.dumps({"type": "fork", "from_thread_id": forked.parent_id}))
    assert (forked.parent_id, forked.parent_message_id) == ("thread-1", last.id)
    assert json.loads(new.messages.list()[0].text) == {"type": "fork", "from_thread_id": "thread-1"}
    assert listed(store, parent_id="thread-1") == ["thread-2"]
    new.messages.append("user", "And the lighthouse?")
    assert texts(one.messages.list()) == ["Where is the harbour?"]


def test_a_fork_may_bring_along_what_was_said(store: Store) -> None:
    thread(store)
    first = touch_message(store, "thread-1", "a")
    touch_message(store, "thread-1", "b")
    store.sessions.fork("thread-1", at=first.id, new_id="thread-2", copy_messages=True)
    assert texts(store.session("thread-2").messages.list()) == ["a"]


def test_a_beginning_that_fits_two_threads_is_refused(store: Store) -> None:
    thread(store, "thread-aaa-1")
    thread(store, "thread-aab-1")
    assert store.sessions.find("thread-aab").id == "thread-aab-1"
    with pytest.raises(fsstate.AmbiguousIdError, match="thread-aa"):
        store.sessions.find("thread-aa")


def test_the_newest_50_stay_whatever_their_files_times_say(store: Store, directory: Path) -> None:
    for number in range(52):
        thread(store, f"thread-{number:02}")
    for path in (directory / "sessions").glob("thread-0*.json"):
        os.utime(path, (4e9, 4e9))
    report = store.sessions.prune(PrunePolicy(keep=50))
    assert [each.id for each in report.pruned] == ["thread-00", "thread-01"]


def test_the_example(run_example: RunExample) -> None:
    printed = run_example("codewhale.py")
    assert "after the crash: interrupted 'The lighthouse stands '" in printed
    assert "resumed: job-1 queued 40 queued_after_resume" in printed
    assert printed[-1] == "interrupted: [('run-1', 'failed')]"
