"""What programs do with records, sessions, workflows and imports, step by step, for the trials of `trials`.

A scene begins with what is there before it. Each of its steps is one call of the public API, or a few that are one to
the caller: killed in the middle, a step may be repeated, and one that was done already may say so. What it adds to a
log, it adds where that is not there yet. All ids are given.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

import fsstate
from fsstate.integrations.codewhale import import_codewhale
from fsstate.integrations.landing import ImportReport
from fsstate.integrations.oxios import import_oxios
from fsstate.integrations.sqlite import import_sqlite
from tests.contract.plans import LIFECYCLE as PLAN_LIFECYCLE
from tests.contract.plans import Plan, derived
from tests.integrations import schemas

__all__ = ["SCENES", "TYPES", "Hand", "Scene"]

Rows: TypeAlias = dict[str, Any]


class Note(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    shelf: str | None = None
    text: str = ""
    author: str | None = None
    words: int | None = None
    created_at: datetime | None = None


def _name_author(document: Rows) -> None:
    document["author"] = document.pop("by", "nobody")


def _count_words(document: Rows) -> None:
    document["words"] = len(document.get("text", "").split())


_STEPS: Final = (
    fsstate.Migration(2, "name the author", _name_author),
    fsstate.Migration(3, "count the words", _count_words),
)

PLANS: Final = fsstate.RecordType(
    "plans",
    Plan,
    group_by="session_id",
    lifecycle=PLAN_LIFECYCLE,
    keep=2,
    recovery=fsstate.Recovery("failed", in_flight=("running",), fields={"error_code": "interrupted"}),
    derive=derived,
)
NOTES: Final = fsstate.RecordType("notes", Note, group_by="shelf", migrations=_STEPS)
CARDS: Final = fsstate.RecordType("cards", Note, parent="sessions", migrations=_STEPS)
TYPES: Final[tuple[fsstate.RecordType[Any], ...]] = (PLANS, NOTES, CARDS)


_LONG_AGO: Final = datetime(2025, 1, 1, tzinfo=UTC)
_LATELY: Final = datetime(2099, 1, 1, tzinfo=UTC)
_OLD: Final = fsstate.PrunePolicy(ttl=timedelta(days=7))


class Hand:
    """A program that uses the store below `base`; what it imports is at `source`."""

    def __init__(self, base: Path, source: Path, options: fsstate.StoreOptions) -> None:
        self.root = base / "state"
        self.source = source
        self._options = options
        self._store: fsstate.Store | None = None

    @property
    def store(self) -> fsstate.Store:
        """The store, opened at its first use."""
        return self._store or self.open()

    def open(self, *, recover: bool = False) -> fsstate.Store:
        """Open the store anew."""
        self.close()
        self._store = fsstate.Store(self.root, self._options, types=TYPES, recover=recover)
        return self._store

    def close(self) -> None:
        """Close the store, if it is open."""
        if self._store is not None:
            self._store.close()
            self._store = None


Step: TypeAlias = Callable[[Hand], object]


class Scene(NamedTuple):
    """A program, and what is there before it.

    - `steps`: what is killed, and has its power cut. `after`: what follows, undisturbed.
    - `again`: what changes nothing when it is done once more in the end.
    - `living`: what another program does before, which lives on.
    - `is_mended`: what is left of a step that was killed is mended by any later try, so none makes it last: a power
      cut may undo it until then.
    - `has_whole_renames`: it relies on a rename from one directory to another being whole after a power cut.
    - `is_uneven`: how many changes it makes differs from run to run.
    - `kept`: texts that some file below the store holds at every moment, be it in its place, the trash or the
      quarantine.
    - `wholes`: documents, by path without `.json`, that go as one with what belongs to them. Between two versions both
      may be in the trash, and in their place none; never a part of one with a part of another.
    - `is_damaged`: not all can be read before its end.
    - `answers`: what the store says of its records with an index, be it as a power cut left that or not; the same as
      without one.
    """

    steps: Sequence[Step]
    after: Sequence[Step] = ()
    again: Sequence[Step] = ()
    before: Step | None = None
    living: Step | None = None
    is_mended: bool = False
    has_whole_renames: bool = False
    is_damaged: bool = False
    is_uneven: bool = False
    kept: tuple[bytes, ...] = ()
    wholes: tuple[str, ...] = ()
    answers: Callable[[fsstate.Store], object] | None = None


def _recover(do: Hand) -> None:
    report = do.store.recover()
    assert not report.problems, report


def _migrate(do: Hand) -> None:
    report = do.store.migrate()
    assert not report.problems, report


# Records


def _plans(do: Hand) -> fsstate.Records[Plan]:
    return do.store.records(PLANS)


def _some_plans(do: Hand) -> None:
    plans = _plans(do)
    plans.create("p1", session_id="s1", status="dropped")
    plans.create("p2", session_id="s1")
    plans.create("q1", session_id="s2", status="running")


def _more_plans(group: str | None, number: int) -> Step:
    return lambda do: _plans(do).create(f"z{group}{number}", session_id=group, status="dropped")


_RECORDS: Final = Scene(
    before=_some_plans,
    steps=(
        lambda do: _plans(do).create("p3", session_id="s1", status="running"),
        lambda do: _plans(do).change("p3", title="three"),
        lambda do: _plans(do).create("p4", session_id="s1"),
        lambda do: _plans(do).change("p3", status="done"),
        lambda do: _plans(do).put(Plan(id="p4", session_id="s1", title="four of them")),
        lambda do: _plans(do).put(Plan(id="p5", session_id="s1", title="five")),
        lambda do: _plans(do).create("r1", session_id="s3", status="running"),
        lambda do: _plans(do).delete("p4"),
        lambda do: _plans(do).create("u1"),
        lambda do: _plans(do).change("q1", status="done"),
    ),
    after=(_recover, *(_more_plans(group, number) for group in ("s1", "s2", "s3", None) for number in range(2))),
    again=(_recover, _migrate),
    # A group has one too many until one more is added.
    is_mended=True,
)


def _notes(do: Hand) -> fsstate.Records[Note]:
    return do.store.records(NOTES)


# Without a limit: what is repeated lasts.
_GROUPS: Final = Scene(
    before=lambda do: [_notes(do).create(name, shelf=shelf) for name, shelf in (("n1", "a"), ("n2", None))],
    steps=(
        lambda do: _notes(do).create("n3", shelf="b"),
        lambda do: _notes(do).change("n1", text="changed"),
        lambda do: _notes(do).put(Note(id="n4", shelf="a", text="put")),
        lambda do: _notes(do).delete("n1"),
        lambda do: _notes(do).delete("n2"),
    ),
    again=(_recover, _migrate),
)


# In flight


def _in_flight(do: Hand, name: str) -> None:
    store = do.store
    store.runs.start("check", session_id="s1", id=f"{name}-run")
    store.runs.start("check", id=f"{name}-queued", status="queued")
    store.audits.start("write_text", "/w/a", session_id="s1", id=f"{name}-audit")
    store.jobs.create("index", id=f"{name}-job")
    store.jobs.start(f"{name}-job")
    _plans(do).create(f"{name}-plan", session_id="s1", status="running")
    store.sources.start_ingest("docs", id=f"{name}-ingest")
    store.workflows.start("build", "all", id=f"{name}-flow")
    store.workflow(f"{name}-flow").leaves.create("leaf", leaf_id="l", task_id="t")


def _living(do: Hand) -> None:
    do.store.runs.start("check", session_id="s1", id="living-run")
    do.store.jobs.create("index", id="living-job")
    do.store.workflows.start("build", "all", id="living-flow")
    do.store.workflow("living-flow").leaves.create("living-leaf", leaf_id="l", task_id="t")


def _dead(do: Hand) -> None:
    _in_flight(do, "dead")
    do.store.runs.finish("dead-run")
    do.store.runs.start("check", session_id="s1", id="dead-other")
    _plans(do).create("draft", session_id="s1")


_RECOVERY: Final = Scene(
    before=_dead,
    steps=(
        lambda do: do.open(recover=True),
        lambda do: do.store.jobs.start("dead-job"),
        lambda do: do.open(recover=True),
    ),
    after=(_recover,),
    again=(_recover, lambda do: do.open(recover=True)),
    is_mended=True,
)


# Older versions


def _old_notes(do: Hand) -> None:
    notes, sessions = do.store.collection, do.store.sessions
    for shelf in ("a", "b"):
        for number in range(2):
            notes(f"notes/{shelf}").create(f"n{number}", {"shelf": shelf, "text": "one two", "by": "me"})
    notes("notes").create("loose", {"text": "three", "author": "you", "schema_version": 2})
    notes("notes").create("new", {"text": "x", "author": "you", "words": 1, "schema_version": 3})
    for name in ("s1", "s2"):
        sessions.create(id=name)
        do.store.session(name).collection("cards").create("c", {"text": "four", "by": "us"})


_MIGRATION: Final = Scene(
    before=_old_notes,
    steps=(_migrate, lambda do: do.store.records(NOTES).change("n1", within="a", text="changed")),
    after=(_migrate,),
    again=(_migrate,),
    is_mended=True,
)


# Sessions


def _one(do: Hand) -> fsstate.SessionHandle:
    return do.store.session("s1")


def _tool(name: str) -> fsstate.Tool:
    return fsstate.Tool(name=name, input_schema={"type": "object"})


def _prompt(config: fsstate.SessionConfig) -> None:
    config.system_prompt = "Be brief."


def _two_sessions(do: Hand) -> None:
    for name in ("s1", "s2"):
        do.store.sessions.create(id=name)
    _one(do).checkpoints.save("a", {"n": 0})
    do.store.session("s2").checkpoints.save("a", {"n": 0})


_SESSION: Final = Scene(
    before=_two_sessions,
    steps=(
        lambda do: _one(do).checkpoints.save("b", [1]),
        lambda do: _one(do).checkpoints.save("a", {"n": 2}),
        lambda do: _one(do).goal.set("first", id="g1", token_budget=9),
        lambda do: _one(do).goal.change(status="paused"),
        lambda do: _one(do).goal.set("second", id="g2"),
        lambda do: _one(do).tools.replace([_tool("x"), _tool("y")]),
        lambda do: _one(do).tools.replace([_tool("y")]),
        lambda do: _one(do).config.put(fsstate.SessionConfig(workspace=fsstate.LocalWorkspace(path="/w"))),
        lambda do: _one(do).config.update(_prompt),
        lambda do: _one(do).records(CARDS).create("c1", text="one"),
        lambda do: _one(do).checkpoints.delete("b"),
        lambda do: _one(do).tools.clear(),
        lambda do: do.store.sessions.delete("s1"),
        lambda do: do.store.sessions.create(id="s1"),
        lambda do: _one(do).checkpoints.save("anew", 1),
    ),
    after=(lambda do: do.store.sessions.delete("s2"),),
    again=(_recover, _migrate),
)

# Deleted, and never made again.
_SESSION_END: Final = Scene(
    before=_two_sessions,
    steps=(
        lambda do: _one(do).records(CARDS).create("c1", text="one"),
        lambda do: do.store.sessions.delete("s1"),
    ),
    again=(_recover, _migrate, lambda do: do.store.sessions.delete("s1")),
)


# Retention


def _aged(do: Hand) -> None:
    """Sessions of long ago, with what belongs to them and without, and one that is pinned."""
    for name in ("old", "bare", "kept"):
        do.store.sessions.create(id=name, created_at=_LONG_AGO)
    for name in ("old", "kept"):
        do.store.session(name).checkpoints.save("c", {"of": name})
        do.store.session(name).events.append("x", at=_LONG_AGO)
    do.store.sessions.update("kept", _pinned)


def _pinned(session: fsstate.Session) -> None:
    session.pinned = True


def _restore_all(do: Hand) -> None:
    trash = do.store.trash
    trash.restore(*(item.id for item in trash.list()))


def _prune_sessions(*, trash: bool) -> Step:
    def step(do: Hand) -> None:
        report = do.store.sessions.prune(_OLD, trash=trash)
        assert all(each.reason == "pinned" for each in report.kept), report

    return step


# A folder goes from one directory to another by a rename, which the weak model of a disk may leave half done.
_TRASHED_SESSIONS: Final = Scene(
    before=_aged,
    steps=(
        _prune_sessions(trash=True),
        _restore_all,
        _prune_sessions(trash=True),
        lambda do: do.store.sessions.create(id="old", title="another", created_at=_LATELY),
        lambda do: do.store.trash.empty(),
    ),
    again=(_recover, _migrate, lambda do: do.store.trash.empty()),
    has_whole_renames=True,
    # What belongs to a session stays behind when a prune is killed between the two, until the session is restored,
    # the trash emptied, or another comes in its place.
    is_mended=True,
)
_DELETED_SESSIONS: Final = Scene(
    before=_aged,
    steps=(_prune_sessions(trash=False), lambda do: do.store.sessions.create(id="old", title="another")),
    again=(_recover, _migrate, _prune_sessions(trash=False)),
    # What is left of a session that is gone goes when another comes in its place.
    is_mended=True,
)


def _aged_documents(do: Hand) -> None:
    for name in ("n1", "n2", "n3"):
        do.store.collection("things").put(name, {"created_at": "2025-01-01T00:00:00Z", "name": name})
    for day in (1, 2, 3):
        do.store.journal("audit", "trail").append("x", at=f"2025-01-0{day}", day=day)


def _prune_trail(policy: fsstate.PrunePolicy) -> Step:
    def step(do: Hand) -> None:
        trail = do.store.journal("audit", "trail")
        trail.prune(policy)
        # A prune that finds nothing to do leaves it to the next one to do again what a power cut undoes.
        trail.trim(before=0)

    return step


_TRASHED_DOCUMENTS: Final = Scene(
    before=_aged_documents,
    steps=(
        lambda do: do.store.collection("things").prune(fsstate.PrunePolicy(keep=1)),
        _prune_trail(fsstate.PrunePolicy(keep=1)),
        _restore_all,
        _prune_trail(_OLD),
        lambda do: do.store.trash.empty(),
    ),
    again=(_recover, _migrate, lambda do: do.store.trash.empty()),
)


# Workflows, sources, settings


def _flow(do: Hand) -> fsstate.Workflow:
    return do.store.workflow("w1")


def _one_flow(do: Hand) -> None:
    do.store.workflows.start("build", "all", id="w1")
    flow = _flow(do)
    flow.branches.create("b1", branch_id="left", node_id="n")
    flow.leaves.create("l1", leaf_id="l", task_id="t", branch_run_id="b1")
    flow.nodes.create("n1", node_id="n", kind="choice")
    flow.candidates.create("c1", control_node_run_id="n1", candidate_id="x", branch_run_id="b1")
    flow.candidates.create("c2", control_node_run_id="n1", candidate_id="y")


_WORKFLOWS: Final = Scene(
    before=_one_flow,
    steps=(
        lambda do: _flow(do).leaves.create("l2", leaf_id="l", task_id="u", branch_run_id="b1"),
        lambda do: _flow(do).leaves.change("l1", status="completed", output=[1]),
        lambda do: _flow(do).branches.delete("b1"),
        lambda do: _flow(do).nodes.delete("n1"),
        lambda do: do.store.workflows.finish("w1"),
        lambda do: do.store.workflows.delete("w1"),
    ),
    after=(_recover,),
    again=(_recover, _migrate, lambda do: do.store.workflows.delete("w1")),
    # What a branch or node takes with it.
    is_mended=True,
)

_FOUND: Final = [fsstate.SourceFile(relative_path=name, fingerprint=name) for name in ("a.md", "b.md")]
_OTHERS: Final = (
    lambda do: do.store.sources.add("/docs", id="r1"),
    lambda do: do.store.sources.replace_files("r1", _FOUND),
    lambda do: do.store.sources.replace_files("r1", _FOUND[:1]),
    lambda do: do.store.settings.set("ui/theme", "dark"),
    lambda do: do.store.settings.set_once("ui/shown", value=True),
    lambda do: do.store.settings.delete("ui/theme"),
    lambda do: do.store.agents.create("a1"),
    lambda do: do.store.sources.remove("/docs"),
)  # fmt: skip
_SOURCES: Final = Scene(steps=_OTHERS, again=(_recover, _migrate))


# Imports


def _files(do: Hand, files: dict[str, Any]) -> None:
    for place, content in files.items():
        path = do.source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        many = content if path.suffix == ".jsonl" else [content]
        path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in many))


def _at(second: int) -> str:
    return f"2025-01-01T00:00:0{second}.000000Z"


def _oxios_files(do: Hand) -> None:
    said = [{"content": text, "timestamp": _at(n)} for n, text in enumerate(("Hello", "And?"))]
    step = {"tool_name": "grep", "tool_args": {}, "output_summary": "…", "duration_ms": 12, "timestamp": _at(1)}
    answer = {"content": "Hi", "session_id": "s1", "timestamp": _at(1)}
    session: Rows = {"id": "s1", "user_id": "u1", "created_at": _at(0), "updated_at": _at(4), "metadata": {"k": 1}}
    session |= {"user_messages": said, "agent_responses": [answer], "trajectory_steps": [step]}
    rest = {"agents/a1.json": {"id": "a1", "status": "Running"}, "evals/report.md": "# Report", "cron/jobs.json": []}
    _files(do, {"sessions/s1.json": session, "sessions/s1/notes.md": "hm", **rest})


def _codewhale_files(do: Hand) -> None:
    block = {"type": "text", "text": "Hello"}
    call = {"type": "tool_use", "id": "c1", "name": "grep", "input": {"q": "x"}}
    told = {"id": "a1", "title": "A talk", "created_at": _at(0), "updated_at": _at(5), "message_count": 2}
    said = [{"role": "user", "content": [block]}, {"role": "assistant", "content": [call]}]
    saved = {"schema_version": 1, "metadata": told, "messages": said, "system_prompt": "Be brief."}
    thread = {"schema_version": 2, "id": "t1", "created_at": _at(0), "updated_at": _at(9), "model": "m"}
    turn = {"schema_version": 2, "id": "u1", "thread_id": "t1", "status": "completed", "input_summary": "Hello"}
    item = {"schema_version": 2, "turn_id": "u1", "status": "completed", "kind": "user_message", "summary": "Hello"}
    event = {"schema_version": 2, "thread_id": "t1", "event": "turn.started", "payload": {}, "timestamp": _at(1)}
    _files(
        do,
        {
            "sessions/a1.json": saved,
            "sessions/checkpoints/latest.json": saved,
            "threads/t1.json": thread,
            "turns/u1.json": {**turn, "created_at": _at(1), "item_ids": ["i1"]},
            "items/i1.json": {**item, "id": "i1", "started_at": _at(1)},
            "events/t1.jsonl": [{**event, "seq": 3}, {**event, "seq": 7}],
            "state.json": {"schema_version": 2, "next_seq": 8},
            "session_index.jsonl": [{"thread_id": "t1", "thread_name": "Named", "updated_at": 2}],
        },
    )


_WHEN: Final = 1_735_689_600
_THREAD: Final[Rows] = {
    "id": "t1",
    "preview": "",
    "ephemeral": 0,
    "model_provider": "p",
    "status": "running",
    "cwd": "/",
}
_DONE: Final[Rows] = {"status": "completed", "started_at": _WHEN, "completed_at": _WHEN}
_TABLES: Final[list[tuple[str, Rows]]] = [
    ("threads", _THREAD | {"cli_version": "1", "source": "cli", "created_at": _WHEN, "updated_at": _WHEN}),
    ("messages", {"thread_id": "t1", "role": "user", "content": "Hello", "created_at": _WHEN}),
    ("messages", {"thread_id": "t1", "role": "assistant", "content": "Hi", "created_at": _WHEN, "parent_entry_id": 1}),
    ("checkpoints", {"thread_id": "t1", "checkpoint_id": "k1", "state_json": "{}", "created_at": _WHEN}),
    ("jobs", {"id": "j1", "name": "index", "status": "queued", "created_at": _WHEN, "updated_at": _WHEN}),
    ("workflow_runs", {"id": "w1", "workflow_id": "build", "goal": "all", **_DONE}),
    ("branch_runs", {"id": "b1", "workflow_run_id": "w1", "branch_id": "left", "node_id": "n", **_DONE}),
    ("leaf_runs", {"id": "l1", "workflow_run_id": "w1", "leaf_id": "l", "task_id": "t", **_DONE}),
    (
        "thread_goals",
        {"thread_id": "t1", "goal_id": "g1", "objective": "o", "status": "active", "created_at": 1, "updated_at": 1},
    ),
    ("thread_dynamic_tools", {"thread_id": "t1", "position": 0, "name": "x", "input_schema": "{}"}),
]


def _database(do: Hand) -> None:
    do.source.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(do.source / "state.db")) as connection, connection:
        connection.executescript(schemas.CODEWHALE)
        for table, row in _TABLES:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", [*row.values()])


def _import(run: Callable[[Hand], ImportReport]) -> Step:
    def step(do: Hand) -> None:
        report = run(do)
        assert not report.problems, report.problems

    return step


def _importing(before: Step, run: Callable[[Hand], ImportReport]) -> Scene:
    return Scene(before=before, steps=(_import(run),), after=(_import(run),), again=(_import(run),))


SCENES: Final[dict[str, Scene]] = {
    "records": _RECORDS,
    "groups": _GROUPS,
    "recovery": _RECOVERY,
    "recovery beside the living": _RECOVERY._replace(living=_living),
    "migration": _MIGRATION,
    "session": _SESSION,
    "end of a session": _SESSION_END,
    "sessions to the trash and back": _TRASHED_SESSIONS,
    "documents and entries to the trash and back": _TRASHED_DOCUMENTS,
    "sessions pruned at once": _DELETED_SESSIONS,
    "workflow": _WORKFLOWS,
    "sources and settings": _SOURCES,
    "import of oxios": _importing(_oxios_files, lambda do: import_oxios(do.store, do.source)),
    "import of codewhale": _importing(_codewhale_files, lambda do: import_codewhale(do.store, do.source)),
    "import of a database": _importing(
        _database, lambda do: import_sqlite(do.store, do.source / "state.db", "codewhale")
    ),
}  # fmt: skip
