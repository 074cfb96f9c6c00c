"""oxios 31d6e98f: JSON and Markdown by category, sessions that many write to, pruning, and directories that it wrote.

It is async code, so what it does runs through the sync and the async API.
"""

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import fsstate
from fsstate import AsyncStore, PrunePolicy, Session, Step, Store, StoreOptions
from tests.contract.conftest import FakeClock, wait_for
from tests.reference.conftest import Reopen, RunExample

DAY = timedelta(days=1)


@pytest.fixture
def store(any_store: Any) -> Any:
    return any_store


def users_of(store: Any) -> list[str]:
    return [each.user_id for each in store.sessions.list(limit=None)]


def five_sessions(store: Store) -> list[str]:
    made = [store.sessions.create(user_id=f"user-{number}").id for number in range(5)]
    for number, name in enumerate(made):
        store.session(name).messages.append("user", f"Message {number}")
    return made


# Its own tests


def test_session_creation_and_persistence(store: Store, reopen: Reopen) -> None:
    session = store.sessions.create(user_id="user-123")
    store.session(session.id).messages.append("user", "Hello")
    again = reopen()
    loaded = again.sessions.get(session.id)
    assert loaded is not None
    assert loaded.user_id == "user-123"
    assert [message.text for message in again.session(session.id).messages.list()] == ["Hello"]


def test_session_list_sorts_by_updated(store: Store) -> None:
    for number in range(3):
        name = store.sessions.create(user_id=f"user-{number}").id
        store.session(name).messages.append("user", f"Message {number}")
    assert users_of(store) == ["user-2", "user-1", "user-0"]


def test_delete_session(store: Store) -> None:
    name = store.sessions.create(user_id="user-123").id
    assert store.sessions.delete(name)
    assert store.sessions.get(name) is None
    assert not store.sessions.delete(name)


def test_get_or_create_session_existing(store: Store) -> None:
    existing = store.sessions.create(user_id="user-123")
    store.session(existing.id).messages.append("user", "Original message")
    retrieved = store.sessions.get_or_create(existing.id, user_id="user-123")
    assert retrieved.id == existing.id
    assert store.session(retrieved.id).messages.count() == 1


def test_get_or_create_session_new(store: Store) -> None:
    session = store.sessions.get_or_create(fsstate.new_id(), user_id="user-456")
    assert session.user_id == "user-456"
    assert store.session(session.id).messages.list() == []


def test_prune_sessions_by_count(store: Store) -> None:
    made = five_sessions(store)
    report = store.sessions.prune(PrunePolicy(keep=3))
    assert [(each.id, each.reason) for each in report.pruned] == [(made[0], "count"), (made[1], "count")]
    assert users_of(store) == ["user-4", "user-3", "user-2"]


def test_prune_sessions_by_ttl(store: Store, clock: FakeClock) -> None:
    old = store.sessions.create(user_id="old-user")
    clock.advance(hours=48)
    recent = store.sessions.create(user_id="recent-user")
    store.session(recent.id).messages.append("user", "Hello")
    report = store.sessions.prune(PrunePolicy(ttl=DAY))
    assert [(each.id, each.reason) for each in report.pruned] == [(old.id, "ttl")]
    assert users_of(store) == ["recent-user"]


def test_load_sessions_for_promotion_filters_by_cutoff(store: Store, clock: FakeClock) -> None:
    store.sessions.create(user_id="old-user")
    clock.advance(hours=48)
    store.sessions.create(user_id="recent-user")
    for since, found in ((DAY, ["recent-user"]), (365 * DAY, ["recent-user", "old-user"])):
        listed = store.sessions.list(updated_after=clock.now - since, archived=None, limit=None)
        assert [each.user_id for each in listed] == found


# JSON and Markdown by category


def test_json_by_category(store: Store) -> None:
    seeds = store.collection("seeds")
    seeds.put("s1", {"goal": "tidy up", "acceptance_criteria": ["no dust"]})
    assert seeds.get("s1") == {"goal": "tidy up", "acceptance_criteria": ["no dust"]}
    assert seeds.get("s2") is None


@dataclass
class Seed:
    goal: str
    acceptance_criteria: list[str] = field(default_factory=list)


def test_json_into_a_type(store: Store) -> None:
    store.collection("seeds").put("s1", {"goal": "tidy up", "new in the next release": True})
    seeds = store.collection("seeds", model=Seed)
    assert seeds.get("s1") == Seed("tidy up")
    seeds.put("s1", Seed("tidy up", ["no dust"]))
    # The reference loses what its struct does not know.
    assert store.collection("seeds")["s1"]["new in the next release"] is True


def test_json_that_does_not_fit_its_type_is_named(store: Store) -> None:
    store.collection("seeds").put("s1", {"goal": ["tidy up"]})
    with pytest.raises(fsstate.ValidationError, match=r"s1.*\$\.goal: Expected `str`"):
        store.collection("seeds", model=Seed).get("s1")


def test_a_copy_that_is_no_longer_true_is_not_saved_over_what_others_wrote(store: Store) -> None:
    # What the reference's chat handlers do: load, change, save.
    seeds = store.collection("seeds")
    seeds.put("s1", {"goal": "tidy up"})
    mine = seeds.record("s1")
    assert mine is not None
    seeds.put("s1", {"goal": "tidy up", "by": "somebody else"})
    with pytest.raises(fsstate.ConflictError) as caught:
        seeds.put("s1", {**mine.value, "by": "me"}, expect=mine.revision)
    assert caught.value.theirs == seeds["s1"] == {"goal": "tidy up", "by": "somebody else"}


def test_markdown_by_category(store: Store) -> None:
    evals = store.markdown("evals")
    evals.put("e1", "# Passed\n\nAll well.\n")
    document = evals.get("e1")
    assert document is not None
    assert document.text == "# Passed\n\nAll well.\n"
    assert evals.get("e2") is None


def test_categories_may_be_nested(store: Store) -> None:
    for kind in ("facts", "episodes"):
        store.collection(f"memory/{kind}").put("m1", {"content": kind})
    assert store.categories("memory") == ["episodes", "facts"]
    assert store.collection("memory/facts")["m1"] == {"content": "facts"}
    assert store.collection("foo/bar").names() == []


@pytest.mark.parametrize("category", ["", "/foo", "foo/", "foo//bar", "foo\\bar", "../x", "x/../y", "."])
def test_categories_that_are_refused(store: Store, category: str) -> None:
    for kind in (store.collection, store.markdown):
        with pytest.raises(fsstate.InvalidNameError, match="cannot be a name"):
            kind(category)


# An empty name makes the reference write a file ".json".
@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "../x", "."])
def test_names_that_are_refused(store: Store, name: str) -> None:
    seeds, evals = store.collection("seeds"), store.markdown("evals")
    for work in (seeds.get, seeds.delete, evals.get, evals.delete):
        with pytest.raises(fsstate.InvalidNameError):
            work(name)
    with pytest.raises(fsstate.InvalidNameError):
        seeds.put(name, {})
    with pytest.raises(fsstate.InvalidNameError):
        evals.put(name, "text")


def test_two_dots_within_a_name_lead_nowhere_and_are_allowed(store: Store) -> None:
    # The reference refuses them, on purpose; here a name is refused for what it would do.
    store.collection("seeds").put("a..b", {"goal": "x"})
    assert store.collection("seeds").names() == ["a..b"]


def test_lists_are_sorted_and_tell_the_kinds_apart(store: Store) -> None:
    # The reference lists a stem that is there as .json and as .md twice.
    for name in ("b", "a"):
        store.collection("notes").put(name, {"n": name})
    store.markdown("notes").put("b", "text")
    assert store.collection("notes").names() == ["a", "b"]
    assert store.markdown("notes").names() == ["b"]


def test_delete_says_whether_there_was_something(store: Store) -> None:
    # The reference deletes the .json only, when both are there, and says that it is done.
    store.collection("notes").put("b", {})
    store.markdown("notes").put("b", "text")
    kinds = (store.collection("notes"), store.markdown("notes"))
    assert [kind.delete("b") for kind in kinds] == [True, True]
    assert [kind.delete("b") for kind in kinds] == [False, False]
    assert [kind.names() for kind in kinds] == [[], []]


def test_a_record_is_found_in_whichever_form_it_is(store: Store) -> None:
    # The reference writes seeds as JSON, and its web server looks for them as Markdown.
    store.collection("seeds").put("s1", {"goal": "x"})
    store.markdown("seeds").put("s2", "goal")
    assert store.markdown("seeds").get("s1") is None
    assert store.path_of(("seeds", "s1")).endswith("s1.json")
    assert store.path_of(("seeds", "s2")).endswith("s2.md")


def test_lists_that_many_push_to(store: Store) -> None:
    # The reference loads, pushes and saves, and loses what came in between.
    saves, jobs = store.collection("knowledge-saves"), store.collection("cron")

    def work(number: int) -> None:
        for step in range(5):
            saves.update("session-1", lambda items: [*items, [number, step]], default=[])  # noqa: B023 - called at once
            with jobs.edit("jobs", default=[]) as listed:
                listed.append({"id": f"{number}-{step}"})

    in_threads(work, 8)
    assert len(saves["session-1"]) == len({job["id"] for job in jobs["jobs"]}) == 40


def in_threads(work: Callable[[int], None], number: int) -> None:
    threads = [threading.Thread(target=work, args=(each,)) for each in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Sessions


def test_a_session_with_an_id_of_its_own(store: Store) -> None:
    session = store.sessions.create(id="s-1", user_id="ada")
    assert (session.id, session.metadata, session.project_id) == ("s-1", {}, None)
    assert session.created_at == session.updated_at


def test_ids_of_new_sessions_differ(store: Store) -> None:
    assert len({store.sessions.create(user_id="ada").id for _ in range(20)}) == 20


def test_an_answer_and_the_steps_that_led_to_it(store: Store) -> None:
    session = store.session(store.sessions.create(user_id="ada").id)
    session.messages.append("user", "How many lines?")
    steps = session.steps.extend(
        [Step(tool_name="wc", tool_args={"path": "a"}, output_summary="12", duration_ms=3, tool_call_id="c1")]
    )
    meta = {"seed_id": "s1", "phase_reached": "Execute", "evaluation_passed": True}
    session.messages.append("assistant", "Twelve.", steps=(steps.start, steps.stop), metadata=meta)
    answer = session.messages.list()[-1]
    assert (answer.steps, answer.metadata) == ((0, 1), meta)
    assert answer.steps is not None
    assert [step.tool_name for step in session.steps.slice(*answer.steps)] == ["wc"]
    assert session.steps.list()[0].timestamp is not None


def test_no_steps_change_nothing(store: Store) -> None:
    name = store.sessions.create(user_id="ada").id
    before = store.sessions.summary(name)
    assert store.session(name).steps.extend([]) == range(0)
    assert store.sessions.summary(name) == before


def test_everything_that_is_added_is_activity(store: Store) -> None:
    name = store.sessions.create(user_id="ada").id
    times = [store.sessions.summary(name)]
    store.session(name).messages.append("user", "Hello")
    times.append(store.sessions.summary(name))
    store.session(name).steps.append("wc")
    times.append(store.sessions.summary(name))
    store.sessions.update(name, lambda session: session.metadata.update(mode="chat"))
    times.append(store.sessions.summary(name))
    updated = [each.updated_at for each in times if each is not None and each.updated_at is not None]
    assert len(set(updated)) == 4
    assert updated == sorted(updated)


def test_metadata_seed_and_persona(store: Store, reopen: Reopen) -> None:
    name = store.sessions.create(user_id="ada").id
    assert store.sessions.require(name).metadata.get("mode") is None
    with store.sessions.edit(name) as session:
        session.metadata |= {"mode": "chat", "active_seed_id": "s1", "active_persona_id": "p1"}
    assert reopen().sessions.require(name).metadata == {
        "mode": "chat",
        "active_seed_id": "s1",
        "active_persona_id": "p1",
    }
    assert [each.id for each in store.sessions.list(metadata={"active_seed_id": "s1"})] == [name]


def test_exchanges_are_counted_in_whole_ones(store: Store) -> None:
    messages = store.session(store.sessions.create(user_id="ada").id).messages
    assert messages.head() is None
    for role in ("user", "assistant", "user"):
        messages.append(role, "x")
    roles = [message.role for message in messages.list()]
    assert min(roles.count("user"), roles.count("assistant")) == 1


def test_update_of_a_session_that_is_not_there(store: Store) -> None:
    # The reference gives None, which is easily overlooked.
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.update("gone", lambda session: session)
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.move("gone", "p1")
    assert store.sessions.ids() == []


def test_an_update_that_fails_writes_nothing(store: Store) -> None:
    name = store.sessions.create(user_id="ada", metadata={"n": 1}).id
    before = store.sessions.require(name)

    def fail(session: Session) -> None:
        session.metadata["n"] = 2
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.sessions.update(name, fail)
    assert store.sessions.require(name) == before


def test_updates_of_many_threads_lose_nothing(store: Store) -> None:
    name = store.sessions.create(user_id="ada", metadata={"n": 0}).id

    def add_one(session: Session) -> None:
        session.metadata["n"] += 1

    def work(number: int) -> None:
        for _ in range(10):
            store.sessions.update(name, add_one)
            store.session(name).messages.append("user", str(number))

    in_threads(work, 8)
    assert store.sessions.require(name).metadata == {"n": 80}
    assert store.session(name).messages.count() == 80


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_updates_of_many_tasks_and_another_store_lose_nothing(tmp_path: Path) -> None:
    options = StoreOptions(durability="process")

    def add_one(session: Session) -> None:
        session.metadata["n"] = session.metadata.get("n", 0) + 1

    async def work(store: AsyncStore, name: str) -> None:
        await store.sessions.update(name, add_one)
        async with store.sessions.edit(name) as session:
            before = session.metadata["n"]
            await anyio.lowlevel.checkpoint()
            session.metadata["n"] = before + 1

    async with AsyncStore(tmp_path / "state", options) as one, AsyncStore(tmp_path / "state", options) as other:
        name = (await one.sessions.create(user_id="ada")).id
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(work, (one, other)[number % 2], name)
        assert (await one.sessions.require(name)).metadata == {"n": 200}


def test_locks_do_not_pile_up(store: Store, directory: Path) -> None:
    # The reference keeps a lock for each session that it ever changed.
    for _ in range(600):
        name = store.sessions.create(user_id="ada").id
        store.sessions.move(name, "p1")
        store.sessions.delete(name)
    assert sum(path.is_file() for path in (directory / ".fsstate").rglob("*")) < 600
    store.close()
    left = [path for path in directory.rglob("*") if path.is_file() and ".fsstate" not in path.parts]
    assert left == []


@pytest.mark.parametrize("name", ["", "../outside", "a/b", "..", "a\\b"])
def test_no_session_outside_the_sessions(store: Store, name: str) -> None:
    # The reference checks no name when it deletes one.
    for work in (store.sessions.delete, store.sessions.get, store.sessions.get_or_create, store.session):
        with pytest.raises(fsstate.InvalidNameError):
            work(name)


def test_delete_waits_for_those_who_write(store: Store) -> None:
    # The reference deletes without the lock; an update under way brings the session back.
    name = store.sessions.create(user_id="ada").id
    entered, deleting = threading.Event(), threading.Event()

    def update(session: Session) -> None:
        entered.set()
        deleting.wait(0.2)
        session.title = "x"

    def delete() -> None:
        entered.wait(5)
        deleting.set()
        assert store.sessions.delete(name)

    thread = threading.Thread(target=delete)
    thread.start()
    store.sessions.update(name, update)
    thread.join()
    assert store.sessions.get(name) is None


def test_a_session_of_somebody_else_is_not_handed_out(store: Store) -> None:
    # The reference gives it to whoever asks.
    name = store.sessions.create(user_id="ada").id
    with pytest.raises(fsstate.WrongOwnerError):
        store.sessions.owned_by("bob").get_or_create(name)
    assert store.sessions.owned_by("ada").get_or_create(name).id == name


def test_move_to_a_project_and_out_of_it(store: Store) -> None:
    name = store.sessions.create(user_id="ada").id
    assert store.sessions.move(name, "p1").project_id == "p1"
    assert [each.id for each in store.sessions.list(project_id="p1")] == [name]
    assert store.sessions.move(name, None).project_id is None
    assert store.sessions.list(project_id="p1") == []


@pytest.mark.parametrize(
    ("metadata", "project"),
    [
        ({"project_id": "p2", "project_ids": "p3,p4"}, "p2"),
        ({"project_ids": "p3,p4"}, "p3"),
        ({"project_ids": ""}, None),
        ({"project_id": 7}, None),
        ({}, None),
    ],
)
def test_projects_of_older_sessions(store: Store, metadata: dict[str, Any], project: str | None) -> None:
    name = store.sessions.create(user_id="ada", metadata=metadata).id
    summary = store.sessions.summary(name)
    assert summary is not None
    assert summary.project_id == project
    assert store.sessions.move(name, "p1").project_id == "p1"
    summary = store.sessions.summary(name)
    assert summary is not None
    assert summary.project_id == "p1"


@pytest.mark.parametrize(
    ("metadata", "text", "title"),
    [
        ({"title": "Set by hand"}, "Hello", "Set by hand"),
        ({}, "Hello\nand more", "Hello"),
        ({}, "x" * 60, "x" * 60),
        ({}, "x" * 61, "x" * 59 + "…"),
        # The reference counts bytes, so that its titles in some scripts are a third as long.
        ({}, "日" * 61, "日" * 59 + "…"),
        # The reference calls this one "".
        ({}, "\n\nHello", "Hello"),
        ({}, None, None),
        ({"title": 7}, "Hello", "Hello"),
    ],
)
def test_titles(store: Store, metadata: dict[str, Any], text: str | None, title: str | None) -> None:
    name = store.sessions.create(user_id="ada", metadata=metadata).id
    if text is not None:
        store.session(name).messages.append("user", text)
    summary = store.sessions.summary(name)
    assert summary is not None
    assert (summary.title, summary.message_count) == (title, 0 if text is None else 1)


def test_the_usual_page_of_sessions(store: Store) -> None:
    made = five_sessions(store)
    pages = [store.sessions.list(limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[each.id for each in page] for page in pages] == [made[4:2:-1], made[2:0:-1], made[:1], []]
    assert store.sessions.list(limit=0) == []


def test_threads_below_a_session(store: Store) -> None:
    # Of a later release: a thread is a session with a parent, in the same project.
    parent = store.sessions.create(user_id="ada", project_id="p1")
    child = store.sessions.fork(parent.id)
    assert (child.parent_id, child.project_id, child.user_id) == (parent.id, "p1", "ada")
    assert [each.id for each in store.sessions.list(parent_id=parent.id)] == [child.id]


# Pruning


def test_prune_by_age_then_by_count(store: Store, clock: FakeClock) -> None:
    old = store.sessions.create().id
    clock.advance(days=8)
    made = [store.sessions.create().id for _ in range(4)]
    report = store.sessions.prune(PrunePolicy(ttl=timedelta(hours=168), keep=3))
    assert [(each.id, each.reason) for each in report.pruned] == [(old, "ttl"), (made[0], "count")]
    assert store.sessions.ids() == made[1:]


def test_prune_with_neither_does_nothing_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    made = five_sessions(store)
    # There, 0 turns a limit off; here None does, and a 0 is a mistake that would cost everything.
    with caplog.at_level(logging.WARNING, "fsstate"):
        report = store.sessions.prune(PrunePolicy())
    assert (report.pruned, store.sessions.ids()) == ([], made)
    assert "prunes nothing" in caplog.text
    with pytest.raises(ValueError, match="keep must be 1 or more"):
        PrunePolicy(keep=0)
    with pytest.raises(ValueError, match="ttl must be longer"):
        PrunePolicy(ttl=timedelta(0))


def test_prune_takes_all_that_belongs_to_a_session(store: Store, directory: Path, clock: FakeClock) -> None:
    made = five_sessions(store)
    clock.advance(days=2)
    assert len(store.sessions.prune(PrunePolicy(ttl=DAY)).pruned) == 5
    assert [name for name in made if (directory / "sessions" / name).exists()] == []


def test_a_message_keeps_a_session_young(store: Store, clock: FakeClock) -> None:
    name = store.sessions.create().id
    clock.advance(days=2)
    store.session(name).messages.append("user", "still here")
    assert store.sessions.prune(PrunePolicy(ttl=DAY)).pruned == []


def test_prune_counts_only_what_went(store: Store, clock: FakeClock) -> None:
    # The reference counts a session that was gone already, and deletes one that somebody is working on.
    name = store.sessions.create().id
    clock.advance(days=2)
    with store.sessions.edit(name) as session:
        report = store.sessions.prune(PrunePolicy(ttl=DAY))
        session.title = "still here"
    assert (report.pruned, [(each.id, each.reason) for each in report.kept]) == ([], [(name, "locked")])
    assert store.sessions.require(name).title == "still here"


def test_prune_on_trial(store: Store) -> None:
    made = five_sessions(store)
    report = store.sessions.prune(PrunePolicy(keep=3), dry_run=True)
    assert (len(report.pruned), store.sessions.ids()) == (2, made)


def test_prune_in_the_background_after_a_save(store: Store) -> None:
    made = five_sessions(store)
    store.sessions.auto_prune(PrunePolicy(keep=2), cooldown=timedelta(hours=1))
    store.sessions.move(made[0], "p1")
    wait_for(lambda: store.sessions.ids() == [made[0], made[4]])
    # Until the cooldown is over, no save begins another.
    added = [store.sessions.create().id for _ in range(2)]
    assert store.sessions.ids() == [made[0], made[4], *added]


def test_throttle_says_yes_once_per_cooldown() -> None:
    now = 0.0
    throttle = fsstate.Throttle(timedelta(hours=1), clock=lambda: now)
    assert [throttle.ready() for _ in range(3)] == [True, False, False]
    now = 3599.0
    assert not throttle.ready()
    now = 3600.0
    assert [throttle.ready() for _ in range(2)] == [True, False]


def test_throttle_says_yes_to_one_of_many_threads() -> None:
    throttle, answers = fsstate.Throttle(timedelta(hours=1)), list[bool]()
    in_threads(lambda _: answers.append(throttle.ready()), 16)
    assert sorted(answers) == [False] * 15 + [True]


# Agents


def agents_of(store: Any, number: int) -> list[str]:
    made = [f"agent-{each}" for each in range(number)]
    for name in made:
        store.agents.create(name, name=name, status="Completed")
    return made


def test_agents_have_a_status_of_their_own_words(store: Store, reopen: Reopen) -> None:
    store.agents.create("a1", name="planner", status="Running", model_id="m1")
    store.agents.change("a1", status="Completed", steps_completed=3)
    agent = reopen().agents.require("a1")
    assert (agent.status, agent.steps_completed, agent.model_id) == ("Completed", 3, "m1")


def test_prune_agents_by_age(store: Store, clock: FakeClock) -> None:
    agents_of(store, 3)
    clock.advance(hours=721)
    store.agents.create("young", name="young")
    # Working on an old one makes it no younger: what counts is when it was made.
    store.agents.change("agent-0", status="Failed")
    assert len(store.agents.prune(PrunePolicy(ttl=timedelta(hours=720), keep=10_000)).pruned) == 3
    assert store.agents.ids() == ["young"]


def test_prune_agents_by_count_in_batches(store: Store) -> None:
    agents_of(store, 6)
    policy = PrunePolicy(keep=2, batch=3)
    assert len(store.agents.prune(policy).pruned) == 3
    assert store.agents.ids() == ["agent-3", "agent-4", "agent-5"]
    assert len(store.agents.prune(policy).pruned) == 1
    assert store.agents.prune(policy).pruned == []


def test_a_batch_holds_for_age_too(store: Store, clock: FakeClock) -> None:
    # There it holds for the count only: one prune may delete any number of old ones.
    agents_of(store, 5)
    clock.advance(hours=721)
    policy = PrunePolicy(ttl=timedelta(hours=720), batch=2)
    assert [len(store.agents.prune(policy).pruned) for _ in range(4)] == [2, 2, 1, 0]


def test_prune_of_no_agents(store: Store) -> None:
    assert store.agents.prune(PrunePolicy(ttl=DAY)).pruned == []


# A directory that oxios wrote

TIMES = [f"2026-03-01T10:00:0{second}.123456789Z" for second in range(6)]


def session_of_oxios(**more: Any) -> dict[str, Any]:
    user = [{"content": "How many lines?\nIn a.", "timestamp": TIMES[1]}, {"content": "And b?", "timestamp": TIMES[4]}]
    agent = {
        "content": "Twelve.",
        "session_id": "s1",
        "seed_id": "seed-1",
        "phase_reached": "Execute",
        "evaluation_passed": True,
        "timestamp": TIMES[3],
        "trajectory_range": {"start": 0, "end": 1},
    }
    step = {"tool_name": "wc", "tool_args": {"path": "a"}, "output_summary": "12", "duration_ms": 3}
    step |= {"is_error": False, "tool_call_id": "c1", "timestamp": TIMES[2]}
    times = {"created_at": TIMES[0], "updated_at": TIMES[4]}
    document = {"id": "s1", "user_id": "ada", "user_messages": user, "agent_responses": [agent]}
    return {**document, "trajectory_steps": [step], "active_seed_id": "seed-1", **times, "metadata": {}, **more}


@pytest.fixture
def written(opened: Store) -> Store:
    """A store over what oxios wrote."""
    opened.collection("sessions").put("s1", session_of_oxios())
    agent = {"id": "a1", "name": "planner", "status": "Running", "created_at": TIMES[0], "steps_completed": 2}
    opened.collection("agents").put("a1", {**agent, "tool_calls": [], "cost_usd": 0.5, "model_id": "m1"})
    opened.collection("memory/facts").put("f1", {"memory_type": "fact", "content": "the sky is blue"})
    opened.collection("cron").put("jobs", [{"id": "j1", "schedule": "0 * * * *"}])
    opened.markdown("evals").put("e1", "# Passed\n")
    return opened


@pytest.mark.usefixtures("written")
def test_its_directory_opens_as_it_is(store: Store) -> None:
    session = store.session("s1")
    assert [(message.role, message.text) for message in session.messages.list()] == [
        ("user", "How many lines?\nIn a."),
        ("assistant", "Twelve."),
        ("user", "And b?"),  # without an answer, and kept
    ]
    answer = session.messages.list()[1]
    assert answer.steps == (0, 1)
    assert answer.metadata["seed_id"] == "seed-1"
    assert [step.tool_name for step in session.steps.slice(0, 1)] == ["wc"]
    summary = store.sessions.summary("s1")
    assert summary is not None
    assert (summary.title, summary.message_count, summary.user_id) == ("How many lines?", 3, "ada")
    assert store.agents.require("a1").status == "Running"
    assert store.collection("memory/facts")["f1"]["content"] == "the sky is blue"
    assert store.collection("cron")["jobs"][0]["id"] == "j1"
    assert store.markdown("evals")["e1"].text == "# Passed\n"
    assert store.categories() == ["agents", "cron", "evals", "memory", "sessions"]


@pytest.mark.usefixtures("written")
def test_its_sessions_go_on(store: Store, reopen: Reopen) -> None:
    session = store.session("s1")
    steps = session.steps.append("wc", {"path": "b"})
    session.messages.append("assistant", "Seven.", steps=(steps, steps + 1))
    store.sessions.move("s1", "p1")
    again = reopen()
    texts = [message.text for message in again.session("s1").messages.list()]
    assert texts == ["How many lines?\nIn a.", "Twelve.", "And b?", "Seven."]
    assert [step.tool_args["path"] for step in again.session("s1").steps.list()] == ["a", "b"]
    # What fsstate does not know stays where it is.
    document = again.collection("sessions")["s1"]
    assert document["user_messages"] == session_of_oxios()["user_messages"]
    assert (document["active_seed_id"], document["project_id"]) == ("seed-1", "p1")


@pytest.mark.usefixtures("written")
def test_sessions_to_restore_at_the_start(store: Store) -> None:
    # Those with an active seed, which is a field of the document that fsstate has no name for.
    store.sessions.create(id="s2", user_id="ada")
    active = store.collection("sessions").query(lambda document: "active_seed_id" in document)
    assert [item.name for item in active] == ["s1"]


def test_older_sessions_lack_fields(store: Store) -> None:
    times = {"created_at": TIMES[0], "updated_at": TIMES[1]}
    store.collection("sessions").put("s1", {"id": "s1", "user_id": "ada", **times})
    assert (store.session("s1").messages.list(), store.session("s1").steps.list()) == ([], [])
    assert store.sessions.require("s1").metadata == {}


@pytest.mark.usefixtures("written")
def test_reading_its_directory_writes_nothing(directory: Path) -> None:
    shutil.rmtree(directory / ".fsstate")
    before = contents_of(directory)
    with Store(directory) as store:
        assert len(store.session("s1").messages.list()) == 3
        assert len(store.sessions.list()) == len(store.agents.list()) == 1
        assert store.sessions.problems() == []
    assert contents_of(directory) == before


def contents_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("written")
def test_files_that_a_crash_left_are_not_there(store: Store, directory: Path) -> None:
    # The reference leaves them for good.
    for category in ("sessions", "agents"):
        (directory / category / "s1.json.4242.0b0e7a52-6a86-4ac0-9d1c-6e2f8f3f0f57.tmp").write_text("{")
    assert store.sessions.ids() == ["s1"]
    assert store.agents.ids() == ["a1"]
    assert len(store.sessions.list()) == 1
    assert store.sessions.problems() == []


@pytest.mark.usefixtures("written")
def test_one_that_cannot_be_read_is_named_and_hides_no_other(
    store: Store, directory: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    # The reference leaves it out without a word, and its pruning never comes to it.
    broken = directory / "sessions" / "broken.json"
    broken.write_text('{"id": "broken",')
    (directory / "agents" / "a2.json").write_text("[]")
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert [each.id for each in store.sessions.list()] == ["s1"]
    assert "broken.json" in caplog.text
    assert [each.id for each in store.sessions.all()] == ["s1"]
    with pytest.raises(fsstate.CorruptRecordError, match=r"broken\.json, line 1"):
        store.sessions.get("broken")
    assert [str(problem) for problem in store.sessions.problems()] != []
    assert [agent.id for agent in store.agents.list()] == ["a1"]
    assert len(store.agents.problems()) == 1
    clock.advance(days=365)
    report = store.sessions.prune(PrunePolicy(ttl=DAY))
    assert [each.id for each in report.pruned] == ["s1"]
    assert [(each.id, each.reason.startswith("error")) for each in report.kept] == [("broken", True)]
    report = store.agents.prune(PrunePolicy(ttl=DAY))
    assert [each.id for each in report.pruned] == ["agents/a1.json"]
    assert [each.id for each in report.kept] == ["agents/a2.json"]
    assert broken.exists()


def test_a_copy_of_the_directory_is_a_backup(written: Store, directory: Path, tmp_path: Path) -> None:
    written.session("s1").messages.append("assistant", "Seven.")
    shutil.copytree(directory, tmp_path / "backup")
    with Store(tmp_path / "backup") as backup:
        assert backup.session("s1").messages.count() == 4
        assert backup.sessions.ids() == ["s1"]


def test_a_document_is_what_oxios_would_print(store: Store, directory: Path) -> None:
    store.collection("seeds").put("s1", {"goal": "tidy up", "constraints": ["quiet"]})
    text = (directory / "seeds" / "s1.json").read_text()
    assert text == json.dumps({"goal": "tidy up", "constraints": ["quiet"]}, indent=2) + "\n"


@pytest.mark.usefixtures("written")
def test_times_of_oxios_are_read(store: Store) -> None:
    session = store.sessions.require("s1")
    # Nanoseconds, as chrono prints them; a datetime knows microseconds.
    assert session.created_at == datetime(2026, 3, 1, 10, 0, 0, 123456, UTC)


def test_the_example(run_example: RunExample) -> None:
    assert run_example("oxios.py")[-5:] == [
        "after the crash: user (complete): Tell me about the harbour",
        "after the crash: assistant (interrupted): The harbour opens ",
        "pruned: 2 agents, sessions ['old']",
        "pruned already in this hour",
        "left: [('Tell me about the harbour', 'sea')]",
    ]
