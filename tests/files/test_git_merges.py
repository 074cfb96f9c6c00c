"""Branches of a store, merged by a real git with fsstate as its merge driver, and without it."""

import itertools
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fsstate import Document, Store, StoreOptions
from fsstate.times import Clock

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ROOT = Path(__file__).parents[2]
SESSION = "talk"
ATTRIBUTES = "".join(f"*.{suffix} merge=fsstate diff=fsstate\n" for suffix in ("json", "jsonl", "md"))
PROGRAM = f"{sys.executable} -m fsstate git"


def ticking() -> Clock:
    ticks = itertools.count()
    return lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(ticks))


CLOCK = ticking()


class Repo:
    """A repository that holds a store."""

    def __init__(self, directory: Path, *, driver: bool = True) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.git("init", "-q", "-b", "main")
        for name, value in (("user.name", "a"), ("user.email", "a@b"), ("core.autocrlf", "false"), ("gc.auto", "0")):
            self.git("config", name, value)
        if driver:
            self.git("config", "merge.fsstate.driver", f"{PROGRAM} merge-driver %O %A %B %L %P")
            self.git("config", "diff.fsstate.textconv", f"{PROGRAM} textconv")
            (directory / ".gitattributes").write_text(ATTRIBUTES)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_EDITOR": "true", "LC_ALL": "C.UTF-8"}
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.directory, capture_output=True, text=True, env=environment, check=False)

    def git(self, *arguments: str, fails: bool = False) -> str:
        done = self.run(*arguments)
        assert (done.returncode != 0) == fails, f"git {arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def commit(self, message: str = "x") -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message, "--allow-empty")

    def branch(self, name: str, start: str = "main") -> None:
        self.git("checkout", "-q", "-B", name, start)

    def checkout(self, name: str) -> None:
        self.git("checkout", "-q", name)

    def change(self, change: Callable[[Store], object], message: str = "x") -> None:
        """Change the store, as a program does, and commit that."""
        with Store(self.state, StoreOptions(clock=CLOCK, durability="process")) as store:
            change(store)
        self.commit(message)

    def merge(self, name: str, *, fails: bool = False) -> str:
        return self.git("merge", "-q", "--no-edit", name, fails=fails)

    def read(self, question: Callable[[Store], Any]) -> Any:
        with Store(self.state) as store:
            return question(store)

    def rows(self, path: str) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in (self.state / path).read_bytes().splitlines()]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


@pytest.fixture
def talk(repo: Repo) -> Repo:
    """A session with two messages, an event, a tool call and a goal, on `main`."""

    def make(store: Store) -> None:
        session = store.session(store.sessions.create(id=SESSION, title="Talk").id)
        session.messages.append("user", "Hello", id="m1")
        session.messages.append("assistant", "Hi", id="m2")
        session.events.append("began")
        session.tool_calls.create("grep", id="call")
        session.goal.set("done", token_budget=1000)

    repo.change(make)
    return repo


def seqs(rows: list[dict[str, Any]]) -> list[int]:
    return [row["seq"] for row in rows]


def said(rows: list[dict[str, Any]]) -> Counter[bytes]:
    """What entries say, whatever their numbers."""
    plain = ({key: value for key, value in row.items() if key != "seq"} for row in rows if "fsstate" not in row)
    return Counter(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in plain)


def check_log(rows: list[dict[str, Any]]) -> None:
    assert seqs(rows) == sorted(set(seqs(rows)))
    assert max(said(rows).values(), default=1) == 1


def check_session(store: Store) -> None:
    session = store.session(SESSION)
    assert store.sessions.problems() == []
    for part in (session.messages, session.events, session.tool_calls, session.steps):
        assert part.problems() == []
    everything, head = session.messages.all(), session.messages.head()
    names = {message.id for message in everything}
    assert len(names) == len(everything)
    assert head is None or head.id in names
    assert {leaf.id for leaf in session.messages.leaves()} <= names
    assert session.messages.list()[-1:] == ([] if head is None else [head])


def say(name: str) -> Callable[[Store], object]:
    return lambda store: store.session(SESSION).messages.append("user", f"from {name}", id=name)


# -- logs


def test_both_branches_go_on_with_a_conversation(talk: Repo) -> None:
    talk.branch("side")
    talk.change(say("theirs"))
    talk.change(lambda store: store.session(SESSION).messages.append("assistant", "yes", id="theirs2"))
    talk.checkout("main")
    talk.change(say("ours"))
    talk.merge("side")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    assert [row["id"] for row in rows] == ["m1", "m2", "ours", "theirs", "theirs2"]
    assert seqs(rows) == [1, 2, 3, 4, 5]
    talk.read(check_session)

    def tree(store: Store) -> None:
        messages = store.session(SESSION).messages
        assert [leaf.id for leaf in messages.leaves()] == ["ours", "theirs2"]
        assert [message.id for message in messages.list()] == ["m1", "m2", "theirs", "theirs2"]
        assert messages.append("user", "on", id="on").parent_id == "theirs2"

    talk.read(tree)


def test_merging_again_and_both_ways_doubles_nothing(talk: Repo) -> None:
    """Merge, go on on both sides, merge again; then criss-cross."""
    talk.branch("side")
    for turn in range(3):
        talk.checkout("side")
        talk.change(say(f"theirs{turn}"))
        talk.checkout("main")
        talk.change(say(f"ours{turn}"))
        talk.merge("side")
    talk.checkout("side")
    talk.change(say("before"))
    talk.branch("cross", "side")
    talk.checkout("main")
    talk.change(say("after"))
    talk.branch("old", "main")
    talk.checkout("main")
    talk.merge("cross")
    talk.checkout("side")
    talk.merge("old")
    # Each branch now holds the other; their bases are two.
    talk.change(say("last"))
    talk.checkout("main")
    talk.change(say("first"))
    assert len(talk.git("merge-base", "--all", "main", "side").split()) == 2
    talk.merge("side")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    check_log(rows)
    wanted = {"m1", "m2", "before", "after", "first", "last"}
    assert {row["id"] for row in rows} == wanted | {f"{side}{n}" for side in ("ours", "theirs") for n in range(3)}
    talk.read(check_session)


def test_an_entry_that_was_picked_stands_there_once(talk: Repo) -> None:
    talk.branch("side")
    talk.change(say("one"), "one")
    talk.change(say("two"), "two")
    talk.checkout("main")
    talk.change(say("ours"))
    talk.git("cherry-pick", "side")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    assert [(row["seq"], row["id"]) for row in rows] == [(1, "m1"), (2, "m2"), (3, "ours"), (4, "two")]
    # Its parent was not picked; it is read all the same.
    assert talk.read(lambda store: [each.id for each in store.session(SESSION).messages.list()]) == ["two"]
    talk.merge("side")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    assert [row["id"] for row in rows] == ["m1", "m2", "ours", "two", "one"]
    talk.read(check_session)


def test_a_rebase_puts_entries_behind_the_others(talk: Repo) -> None:
    talk.branch("side")
    for name in ("one", "two", "three"):
        talk.change(say(name))
    talk.checkout("main")
    talk.change(say("ours"))
    talk.checkout("side")
    talk.git("rebase", "-q", "main")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    assert [(row["seq"], row["id"]) for row in rows][2:] == [(3, "ours"), (4, "one"), (5, "two"), (6, "three")]
    talk.read(check_session)


def test_a_stash_is_popped_on_entries_that_came_meanwhile(talk: Repo) -> None:
    talk.read(say("stashed"))
    talk.git("stash", "-q")
    talk.change(say("ours"))
    talk.git("stash", "pop", "-q")
    rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
    assert [(row["seq"], row["id"]) for row in rows][2:] == [(3, "ours"), (4, "stashed")]
    talk.read(check_session)


def test_a_log_that_one_side_cleared_gives_out_no_seq_again(talk: Repo) -> None:
    talk.branch("side")
    for name in ("one", "two", "three"):
        talk.change(say(name))
    talk.change(lambda store: store.session(SESSION).messages.clear())
    talk.checkout("main")
    talk.change(say("ours"))
    for name, other in (("main", "side"), ("side", "main")):
        talk.branch(f"merged-{name}", name)
        talk.merge(other)
        rows = talk.rows(f"sessions/{SESSION}/messages.jsonl")
        assert [(row["seq"], row.get("id")) for row in rows] == [(5, None), (6, "ours")]
        talk.read(check_session)
        assert talk.read(say("more")).seq == 7
        talk.git("checkout", "-q", "--", ".")


def test_a_head_that_the_other_side_removed_is_set_to_the_last_message(talk: Repo) -> None:
    talk.change(say("m3"))
    talk.branch("side")
    talk.change(lambda store: store.session(SESSION).messages.set_head("m1"))
    talk.checkout("main")
    talk.change(lambda store: store.session(SESSION).messages.clear())
    talk.change(lambda store: store.session(SESSION).messages.append("user", "again", parent=None, id="again"))
    talk.merge("side")
    talk.read(check_session)
    assert talk.read(lambda store: store.session(SESSION).messages.head()).id == "again"


def test_an_edit_by_hand_and_an_append_are_both_kept(talk: Repo) -> None:
    talk.branch("side")
    path = talk.state / "sessions" / SESSION / "messages.jsonl"
    path.write_text(path.read_text().replace("Hello", "Good day"))
    talk.commit()
    talk.checkout("main")
    talk.change(say("ours"))
    talk.merge("side")
    assert talk.read(lambda store: [m.text for m in store.session(SESSION).messages.list()]) == [
        "Good day", "Hi", "from ours",
    ]  # fmt: skip


def test_one_message_changed_in_two_ways_is_a_conflict_that_hides_nothing(talk: Repo) -> None:
    path = talk.state / "sessions" / SESSION / "messages.jsonl"
    talk.branch("side")
    path.write_text(path.read_text().replace("Hello", "theirs"))
    talk.commit()
    talk.checkout("main")
    path.write_text(path.read_text().replace("Hello", "ours"))
    talk.change(say("on"))
    told = talk.merge("side", fails=True)
    assert f"state/sessions/{SESSION}/messages.jsonl: both sides changed entry 1" in told
    assert talk.git("diff", "--name-only", "--diff-filter=U").split() == [f"state/sessions/{SESSION}/messages.jsonl"]
    lines = path.read_text().splitlines()
    assert [lines[0], lines[2], lines[4]] == ["<<<<<<< ours", "=======", ">>>>>>> theirs"]

    def look(store: Store) -> None:
        messages = store.session(SESSION).messages
        assert [message.text for message in messages.list()] == ["ours", "Hi", "from on"]
        assert sum("conflict marker" in str(problem) for problem in messages.problems()) == 3

    talk.read(look)
    for kept in (1, 3):
        path.write_text("\n".join([lines[kept], *lines[5:], ""]))
        talk.read(check_session)


def test_a_tool_call_goes_on_on_both_sides(talk: Repo) -> None:
    talk.branch("side")
    talk.change(lambda store: store.session(SESSION).tool_calls.approve("call"))
    talk.checkout("main")
    talk.change(lambda store: store.session(SESSION).tool_calls.create("sed", id="other"))
    talk.merge("side")
    calls = talk.read(lambda store: store.session(SESSION).tool_calls.list())
    assert [(call.id, call.status) for call in calls] == [("call", "approved"), ("other", "pending")]
    talk.read(check_session)


def test_steps_are_numbered_on_and_only_those_that_must(talk: Repo) -> None:
    talk.branch("side")
    talk.change(lambda store: store.session(SESSION).steps.append("theirs"))
    talk.checkout("main")
    talk.change(lambda store: store.session(SESSION).steps.append("ours"))
    talk.merge("side")
    steps = talk.read(lambda store: store.session(SESSION).steps.list())
    assert [(step.number, step.tool_name) for step in steps] == [(0, "ours"), (1, "theirs")]


# -- documents


def test_changes_of_different_fields_of_one_session_do_not_meet(talk: Repo) -> None:
    talk.branch("side")
    talk.change(lambda store: store.sessions.set_label(SESSION, "mine"))
    talk.change(lambda store: store.session(SESSION).goal.spend(100))
    talk.checkout("main")
    talk.change(lambda store: store.sessions.update(SESSION, lambda s: s.metadata.update(k=1)))
    talk.change(lambda store: store.session(SESSION).goal.spend(20, seconds=5))
    talk.merge("side")

    def look(store: Store) -> None:
        session, goal = store.sessions.require(SESSION), store.session(SESSION).goal.get()
        assert (session.label, session.metadata, session.title) == ("mine", {"k": 1}, "Talk")
        assert goal is not None
        assert (goal.tokens_used, goal.time_used_seconds) == (120, 5)

    talk.read(look)


def test_a_conflict_in_one_field_is_marked_there_and_either_side_is_valid(talk: Repo) -> None:
    path = talk.state / "sessions" / f"{SESSION}.json"
    talk.branch("side")
    talk.change(lambda store: store.sessions.update(SESSION, lambda s: setattr(s, "title", "Theirs")))
    talk.change(lambda store: store.sessions.set_label(SESSION, "mine"))
    talk.checkout("main")
    talk.change(lambda store: store.sessions.update(SESSION, lambda s: setattr(s, "title", "Ours")))
    told = talk.merge("side", fails=True)
    assert f"state/sessions/{SESSION}.json: both sides changed $.title" in told
    text = path.read_text()
    assert '<<<<<<< ours\n  "title": "Ours",\n=======\n  "title": "Theirs",\n>>>>>>> theirs\n' in text
    assert '"label": "mine"' in text
    (problem,) = talk.read(lambda store: store.sessions.problems())
    assert "git conflict markers" in str(problem)
    for side in ("ours", "theirs"):
        talk.git("checkout", "-q", f"--{side}", f"state/sessions/{SESSION}.json")
        assert talk.read(lambda store: store.sessions.require(SESSION).title) == side.title()


def test_both_branches_make_the_same_record(repo: Repo) -> None:
    repo.change(lambda store: store.collection("agents").put("other", {}))
    repo.branch("side")
    repo.change(lambda store: store.agents.create("planner", name="p", seed_id="theirs"))
    repo.checkout("main")
    repo.change(lambda store: store.agents.create("planner", name="p", project_id="ours"))
    repo.merge("side")
    agent = repo.read(lambda store: store.agents.require("planner"))
    assert (agent.name, agent.project_id, agent.seed_id) == ("p", "ours", "theirs")


def test_tools_that_both_branches_added_are_united(talk: Repo) -> None:
    from fsstate import Tool

    talk.change(lambda store: store.session(SESSION).tools.replace([Tool(name="a"), Tool(name="b")]))
    talk.branch("side")
    talk.change(lambda store: store.session(SESSION).tools.replace([Tool(name="a"), Tool(name="b"), Tool(name="t")]))
    talk.checkout("main")
    talk.change(lambda store: store.session(SESSION).tools.replace([Tool(name="b"), Tool(name="o")]))
    talk.merge("side")
    assert talk.read(lambda store: [tool.name for tool in store.session(SESSION).tools.list()]) == ["b", "o", "t"]


def test_a_criss_cross_with_a_conflict_in_the_bases_asks_again(repo: Repo) -> None:
    """Two branches decided one conflict differently: neither wins without a word."""
    path = repo.state / "agents" / "planner.json"

    def put(**fields: Any) -> None:
        repo.change(lambda store: store.collection("agents").put("planner", fields))

    put(model="m0", keep=1)
    repo.branch("side")
    put(model="theirs", keep=1)
    repo.branch("old-side", "side")
    repo.checkout("main")
    put(model="ours", keep=1)
    repo.branch("old-main")
    for name, other in (("main", "old-side"), ("side", "old-main")):
        repo.checkout(name)
        repo.merge(other, fails=True)
        repo.git("checkout", "-q", "--ours", str(path))
        repo.commit()
    repo.checkout("main")
    repo.merge("side", fails=True)
    assert '<<<<<<< ours\n  "model": "ours",\n=======\n  "model": "theirs",\n>>>>>>> theirs\n' in path.read_text()


# -- Markdown


def test_a_note_is_merged_by_line_and_its_front_matter_by_field(repo: Repo) -> None:
    path = repo.state / "notes" / "standup.md"
    head = "---\n# who\nowner: 'ann'  # asks\nstatus: open\n---\n"
    repo.change(lambda store: store.markdown("notes").put("standup", f"{head}One\n\nTwo\n\nThree\n"))
    repo.branch("side")
    repo.change(
        lambda store: store.markdown("notes").update(
            "standup", lambda d: Document(d.text.replace("Three", "3"), {**(d.front_matter or {}), "status": "done"})
        )
    )
    repo.checkout("main")
    path.write_text(path.read_text().replace("One", "1").replace("'ann'", "'eve'"))
    repo.commit()
    repo.merge("side")
    assert path.read_text() == "---\n# who\nowner: 'eve'  # asks\nstatus: done\n---\n1\n\nTwo\n\n3\n"


# -- what cannot be merged


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.md"])
def test_a_binary_file_stays_as_ours_and_is_unmerged(repo: Repo, name: str) -> None:
    path = repo.directory / name
    path.write_bytes(b"{}\n")
    repo.commit()
    repo.branch("side")
    path.write_bytes(b"\0theirs")
    repo.commit()
    repo.checkout("main")
    path.write_bytes(b"\0ours")
    repo.commit()
    told = repo.merge("side", fails=True)
    assert f"fsstate: {name}: it holds zero bytes" in told
    assert "Traceback" not in told
    assert path.read_bytes() == b"\0ours"
    assert {line.split()[2] for line in repo.git("ls-files", "-u").splitlines()} == {"1", "2", "3"}


def test_a_session_that_one_side_deleted_is_a_conflict_that_git_keeps(talk: Repo) -> None:
    """Git asks no driver where one side has no file: what the other side has of it stays, unmerged."""
    talk.branch("side")
    talk.change(lambda store: store.sessions.delete(SESSION))
    talk.checkout("main")
    talk.change(say("on"))
    path = f"state/sessions/{SESSION}/messages.jsonl"
    assert "deleted in side and modified in HEAD" in talk.merge("side", fails=True)
    assert talk.git("diff", "--name-only", "--diff-filter=U").split() == [path]
    assert [row["id"] for row in talk.rows(f"sessions/{SESSION}/messages.jsonl")] == ["m1", "m2", "on"]
    # The document was deleted without a conflict; with it, the session is there again.
    assert talk.read(lambda store: store.sessions.list()) == []
    talk.git("checkout", "-q", "HEAD", "--", f"state/sessions/{SESSION}.json")
    talk.read(check_session)


# -- git diff


def test_git_diff_shows_entries_and_fields(talk: Repo) -> None:
    talk.read(lambda store: store.session(SESSION).messages.append("user", "one\ntwo", id="m3"))
    shown = talk.git("diff")
    assert "+#3  2026-" in shown
    assert "  user  m3\n+    content:\n+        one\n+        two\n+    parent: m2\n" in shown


# -- without the driver


@pytest.fixture
def plain(tmp_path: Path) -> Repo:
    """A repository where git knows nothing of fsstate, as on a forge."""
    return Repo(tmp_path, driver=False)


def test_different_sessions_and_records_never_touch_the_same_file(plain: Repo) -> None:
    """What needs no driver: branches that make, change and append to different things."""

    def work(name: str) -> Callable[[Store], None]:
        def change(store: Store) -> None:
            session = store.session(store.sessions.create(title=name).id)
            session.messages.append("user", name)
            session.events.append("began")
            session.tool_calls.create("grep")
            session.goal.set(name)
            store.session(f"old-{name}").messages.append("user", name)
            store.jobs.create(name=name)
            store.collection("agents").put(name, {})
            store.markdown("notes").put(name, "text")

        return change

    def begin(store: Store) -> None:
        for name in ("ours", "theirs"):
            store.sessions.create(id=f"old-{name}")

    plain.change(begin)
    files: list[set[str]] = []
    for name in ("ours", "theirs"):
        plain.branch(name)
        plain.change(work(name))
        files.append(set(plain.git("diff", "--name-only", "main", name).split()))
    assert files[0] & files[1] == set()
    plain.checkout("ours")
    plain.merge("theirs")
    plain.read(lambda store: [store.session(each.id).messages.list() for each in store.sessions.list()])
    assert plain.read(lambda store: len(store.sessions.list())) == 4


def test_appends_to_one_log_are_a_conflict_that_hides_nothing(plain: Repo) -> None:
    plain.change(lambda store: store.journal("audit", "trail").append("made"))
    plain.branch("side")
    plain.change(lambda store: store.journal("audit", "trail").append("theirs"))
    plain.checkout("main")
    plain.change(lambda store: store.journal("audit", "trail").append("ours"))
    plain.merge("side", fails=True)

    def look(store: Store) -> None:
        trail = store.journal("audit", "trail")
        assert [entry.kind for entry in trail.read()] == ["made", "ours", "theirs"]
        reasons = [str(problem) for problem in trail.problems()]
        assert sum("conflict marker" in reason for reason in reasons) == 3
        assert sum("was the file merged?" in reason for reason in reasons) == 1
        # What is appended before anybody decided goes on behind both.
        assert trail.append("more") == 3
        assert [entry.kind for entry in trail.tail(1)] == ["more"]

    plain.read(look)


def test_a_document_that_both_changed_is_a_conflict_that_is_named(plain: Repo) -> None:
    plain.change(lambda store: store.collection("agents").put("planner", {"a": 1, "b": 1}))
    plain.change(lambda store: store.collection("agents").put("other", {}))
    plain.branch("side")
    plain.change(lambda store: store.collection("agents").put("planner", {"a": 2, "b": 1}))
    plain.checkout("main")
    plain.change(lambda store: store.collection("agents").put("planner", {"a": 1, "b": 2}))
    plain.merge("side", fails=True)
    (problem,) = plain.read(lambda store: store.collection("agents").problems())
    assert "planner.json" in str(problem)
    assert "git conflict markers" in str(problem)
    assert plain.read(lambda store: store.collection("agents").get("other")) == {}


# -- random histories


class Step(NamedTuple):
    """One thing that a program or person does to the store."""

    what: str
    number: int


STEPS = st.builds(
    Step,
    st.sampled_from(["say", "say", "reply", "rate", "head", "event", "call", "field", "note", "trim", "commit"]),
    st.integers(0, 3),
)
HISTORIES = st.lists(STEPS, min_size=1, max_size=6)
FIELDS = ("a", "b", "c", "d")
NOTE = "".join(f"line {number}\n\n" for number in range(8))


def do(store: Store, step: Step, name: str) -> None:
    session = store.session(SESSION)
    messages = [message.id for message in session.messages.all()]
    if step.what == "say":
        session.messages.append("user", name, id=name)
    elif step.what == "reply" and messages:
        session.messages.append("assistant", name, id=name, parent=messages[step.number % len(messages)])
    elif step.what == "rate" and messages:
        session.messages.update(messages[step.number % len(messages)], metadata={name: 1})
    elif step.what == "head" and messages:
        session.messages.set_head(messages[step.number % len(messages)])
    elif step.what == "event":
        session.events.append("event", name=name)
    elif step.what == "call":
        session.tool_calls.create(name, id=name)
    elif step.what == "field":
        with store.collection("agents").edit("planner") as document:
            document[FIELDS[step.number]] = name
    elif step.what == "note":
        with store.markdown("notes").edit("standup") as note:
            note.text = note.text.replace(f"line {2 * step.number}\n", f"line {2 * step.number} {name}\n")
    elif step.what == "trim":
        session.events.trim(before=step.number)


def live(repo: Repo, history: list[Step], name: str) -> None:
    with Store(repo.state, StoreOptions(clock=CLOCK, durability="process")) as store:
        for number, step in enumerate(history):
            if step.what == "commit":
                repo.commit()
            else:
                do(store, step, f"{name}{number}")
    repo.commit()


def begin(store: Store) -> None:
    session = store.session(store.sessions.create(id=SESSION).id)
    session.messages.append("user", "Hello", id="m1")
    session.events.append("began")
    store.collection("agents").put("planner", dict.fromkeys(FIELDS, 0))
    store.markdown("notes").put("standup", NOTE)


LOGS = [f"sessions/{SESSION}/{name}.jsonl" for name in ("messages", "events", "tool_calls")]


def contents(repo: Repo) -> dict[str, Counter[bytes]]:
    found: dict[str, Counter[bytes]] = {}
    for path in LOGS:
        rows = repo.rows(path) if (repo.state / path).exists() else []
        check_log(rows)
        found[path] = said(rows)
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Repo]:
    numbers = itertools.count()
    folder = tmp_path_factory.mktemp("histories")
    template = folder / "template"
    template.mkdir()
    Repo(template).change(begin)

    def make() -> Repo:
        directory = folder / str(next(numbers))
        shutil.copytree(template, directory)
        repo = Repo.__new__(Repo)
        repo.directory, repo.state = directory, directory / "state"
        return repo

    return make


def resolve(repo: Repo, other: str) -> None:
    """Merge; where documents or notes are in conflict, take ours. Logs never are."""
    done = repo.run("merge", "-q", "--no-edit", other)
    if done.returncode:
        unmerged = repo.git("diff", "--name-only", "--diff-filter=U").split()
        assert unmerged, done.stdout + done.stderr
        assert not any(path.endswith(".jsonl") for path in unmerged)
        repo.git("checkout", "--ours", "--", *unmerged)
        repo.commit()


# Each example takes a second or more: one that fails is shown as it was found.
GIT = settings(max_examples=3, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@GIT
@given(mine=HISTORIES, other=HISTORIES, more=HISTORIES)
def test_random_histories(scratch: Callable[[], Repo], mine: list[Step], other: list[Step], more: list[Step]) -> None:
    """Both orders of a merge say the same; merged again, nothing is lost and nothing stands there twice."""
    repo = scratch()
    start = contents(repo)
    sides: list[dict[str, Counter[bytes]]] = []
    for name, history in (("ours", mine), ("theirs", other)):
        repo.branch(name)
        live(repo, history, name)
        sides.append(contents(repo))
    merged: list[dict[str, Counter[bytes]]] = []
    for name, into in (("ours", "theirs"), ("theirs", "ours")):
        repo.branch(f"merged-{name}", name)
        resolve(repo, into)
        repo.read(check_session)
        merged.append(contents(repo))
    for path, base in start.items():
        one, two = (side[path] for side in sides)
        # What neither removed, and what either has new.
        assert merged[0][path] == merged[1][path] == (one & two) | ((one | two) - base)
    live(repo, more, "more")
    repo.checkout("merged-ours")
    before = contents(repo)
    resolve(repo, "merged-theirs")
    repo.read(check_session)
    for path in (LOGS[0], LOGS[2]):
        assert contents(repo)[path] >= before[path]
    check_fields(repo, mine, other)


def check_fields(repo: Repo, mine: list[Step], other: list[Step]) -> None:
    """A field that only one side changed has that side's value."""
    repo.branch("fields", "ours")
    resolve(repo, "theirs")
    document: dict[str, Any] = repo.read(lambda store: store.collection("agents").get("planner"))
    text: str = repo.read(lambda store: store.markdown("notes")["standup"].text)
    changed = [
        {step.number: f"{name}{number}" for number, step in enumerate(history) if step.what == "field"}
        for name, history in (("ours", mine), ("theirs", other))
    ]
    for number, field in enumerate(FIELDS):
        values = [side[number] for side in changed if number in side]
        if len(values) < 2:
            assert document[field] == (values[0] if values else 0)
        else:
            assert document[field] == changed[0][number]
    noted = [{step.number for step in history if step.what == "note"} for history in (mine, other)]
    for number in noted[0] ^ noted[1]:
        assert f"line {2 * number} " in text


@pytest.mark.soak
@settings(GIT, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_long_random_histories(scratch: Callable[[], Repo], seed: int) -> None:
    """Three branches that live long, merged into each other in any order."""
    chance = random.Random(seed)
    repo = scratch()
    names = ("one", "two", "three")
    for name in names:
        repo.branch(name)
    for turn in range(8):
        name = chance.choice(names)
        repo.checkout(name)
        kinds = ("say", "reply", "rate", "head", "event", "call", "field", "note")
        live(repo, [Step(chance.choice(kinds), chance.randrange(4)) for _ in range(3)], f"{name}{turn}-")
        resolve(repo, chance.choice([other for other in names if other != name]))
        repo.read(check_session)
        contents(repo)
    for name in names[1:]:
        repo.checkout(names[0])
        resolve(repo, name)
    mine = contents(repo)
    repo.checkout(names[2])
    resolve(repo, names[0])
    assert contents(repo) == mine
