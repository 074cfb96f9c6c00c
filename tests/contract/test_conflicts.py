"""Saves that merge, and what is kept of those that cannot, over memory and files, sync and async."""

import copy
import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from fsstate import PrunePolicy, names
from fsstate.backends.base import JSON, MARKDOWN, Backend, Ref
from fsstate.backends.memory import MemoryBackend
from fsstate.collection import Collection
from fsstate.conflicts import Conflict
from fsstate.errors import (
    AmbiguousIdError,
    ConflictError,
    CorruptRecordError,
    InvalidNameError,
    InvalidTransitionError,
    NotFoundError,
    StorageError,
    ValidationError,
)
from fsstate.frontmatter import Document
from fsstate.lifecycle import Lifecycle
from fsstate.markdown import Markdown
from fsstate.merge import same, three_way
from fsstate.record_types import RecordType
from fsstate.store import Store
from fsstate.times import format_time
from tests.contract.conftest import Elsewhere, FakeClock, editor_of
from tests.unit.test_merge import OBJECTS

PLANNER = Ref("agents", "planner", JSON)
NOTE = Ref("notes", "standup", MARKDOWN)
COPY = re.compile(r"planner\.conflict-2026-01-01T\d{6}Z-[0-9a-f]{4}\.json")


class Agent(msgspec.Struct):
    model: str
    runs: int = 0


@pytest.fixture
def agents(store: Store) -> Collection[Any]:
    return store.collection("agents")


@pytest.fixture
def notes(store: Store) -> Markdown:
    return store.markdown("notes")


@pytest.fixture
def person(elsewhere_in: Elsewhere) -> Elsewhere:
    return elsewhere_in


def held_in(store: Store, conflict: Conflict) -> bytes:
    """What a conflict copy holds."""
    category, _, name = conflict.id.rpartition("/")
    suffix = JSON if name.endswith(JSON) else MARKDOWN
    blob = store.backend.read(Ref(category, name.removesuffix(suffix), suffix))
    assert blob is not None
    return blob.data


def file_of(store: Store, ref: Ref = PLANNER) -> bytes | None:
    blob = store.backend.read(ref)
    return None if blob is None else blob.data


@pytest.fixture
def conflict(store: Store, agents: Collection[Any], person: Elsewhere) -> Conflict:
    """One conflict: mine has mood "angry", theirs "busy"."""
    revision = agents.put("planner", {"mood": "calm", "n": 0})
    person(PLANNER, b'{"mood": "busy", "n": 0}')
    with pytest.raises(ConflictError):
        agents.put("planner", {"mood": "angry", "n": 0}, expect=revision, merge=True)
    (conflict,) = store.conflicts()
    return conflict


class TestMergingPut:
    def test_changes_that_do_not_meet_are_both_kept(self, agents: Collection[Any], person: Elsewhere) -> None:
        revision = agents.put("planner", {"model": "m1", "mood": "calm"})
        person(PLANNER, b'{"mood": "busy", "model": "m1", "note": "by hand"}')
        merged = agents.put("planner", {"model": "m2", "mood": "calm"}, expect=revision, merge=True)
        assert agents["planner"] == {"mood": "busy", "model": "m2", "note": "by hand"}
        assert list(agents["planner"]) == ["mood", "model", "note"]
        assert merged == agents.revision("planner")

    def test_a_file_that_is_as_expected_is_saved_as_ever(self, agents: Collection[Any], store: Store) -> None:
        revision = agents.put("planner", {"n": 1})
        agents.put("planner", {"n": 2}, expect=revision, merge=True)
        assert agents["planner"] == {"n": 2}
        assert store.conflicts() == []

    def test_it_needs_a_revision(self, agents: Collection[Any]) -> None:
        with pytest.raises(ValueError, match="expect"):
            agents.put("planner", {"n": 1}, merge=True)
        assert "planner" not in agents

    @pytest.mark.parametrize("way", ["record", "revision", "put", "create", "put_many", "error", "merge"])
    def test_every_revision_that_was_given_out_will_do(
        self, agents: Collection[Any], person: Elsewhere, way: str
    ) -> None:
        person(PLANNER, b'{"a": 1, "b": 1, "c": 1}')
        revision = revision_from(way, agents, person)
        person(PLANNER, b'{"a": 1, "b": 2, "c": 1}')
        agents.put("planner", {"a": 2, "b": 1, "c": 1}, expect=revision, merge=True)
        assert agents["planner"] == {"a": 2, "b": 2, "c": 1}

    def test_a_revision_will_do_for_every_collection_of_the_store(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        revision = agents.put("planner", {"model": "m1", "runs": 1, "unknown": 1})
        person(PLANNER, b'{"model": "m1", "runs": 2, "unknown": 2}')
        typed = store.collection("agents", model=Agent)
        typed.put("planner", Agent("m2", 1), expect=revision, merge=True)
        assert agents["planner"] == {"model": "m2", "runs": 2, "unknown": 2}

    def test_the_same_on_both_sides_is_no_conflict_even_when_nobody_knows_the_base(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        person(PLANNER, b'{"n": 1}')
        assert agents.put("planner", {"n": 1}, expect="0" * 40, merge=True) == agents.revision("planner")
        assert file_of(store) == b'{"n": 1}'
        assert store.conflicts() == []

    def test_a_base_that_nobody_knows_is_told(self, store: Store, agents: Collection[Any], person: Elsewhere) -> None:
        person(PLANNER, b'{"n": 1}')
        with pytest.raises(ConflictError, match=f"as {'0' * 40} is not known any more; mine is kept in") as caught:
            agents.put("planner", {"n": 2}, expect="0" * 40, merge=True)
        error = caught.value
        assert (error.base, error.mine, error.theirs) == (None, {"n": 2}, {"n": 1})
        assert error.revision == agents.revision("planner")
        (conflict,) = store.conflicts()
        assert held_in(store, conflict) == b'{\n  "n": 2\n}\n'

    def test_a_typed_value_that_met_an_unknown_base_is_kept_with_what_the_model_does_not_know(
        self, store: Store, person: Elsewhere
    ) -> None:
        person(PLANNER, b'{"model": "m1", "unknown": 1}')
        with pytest.raises(ConflictError):
            store.collection("agents", model=Agent).put("planner", Agent("m2"), expect="0" * 40, merge=True)
        store.resolve("agents/planner", "mine")
        assert store.collection("agents")["planner"] == {"model": "m2", "unknown": 1}

    def test_deleted_meanwhile(self, store: Store, agents: Collection[Any], person: Elsewhere) -> None:
        revision = agents.put("planner", {"n": 1})
        person(PLANNER, None)
        with pytest.raises(ConflictError, match="deleted") as caught:
            agents.put("planner", {"n": 1}, expect=revision, merge=True)
        assert (caught.value.base, caught.value.theirs, caught.value.revision) == ({"n": 1}, None, None)
        assert "planner" not in agents
        assert [each.path for each in store.conflicts()] == [caught.value.kept_at]

    def test_changes_that_meet_are_told_and_mine_is_kept(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        revision = agents.put("planner", {"a": {"x": 1}, "b": 1})
        person(PLANNER, b'{"a": {"x": 3}, "b": 1}')
        with pytest.raises(ConflictError) as caught:
            agents.put("planner", {"a": {"x": 2}, "b": 1}, expect=revision, merge=True)
        error = caught.value
        assert (error.base, error.mine) == ({"a": {"x": 1}, "b": 1}, {"a": {"x": 2}, "b": 1})
        assert (error.theirs, error.fields) == ({"a": {"x": 3}, "b": 1}, ("$.a.x",))
        assert file_of(store) == b'{"a": {"x": 3}, "b": 1}'
        assert error.kept_at is not None
        assert COPY.fullmatch(error.kept_at.rpartition("/")[2])
        assert str(error).endswith(
            f"; mine is kept in {error.kept_at}: `fsstate conflicts` lists it, "
            "`fsstate resolve agents/planner.json` shows both versions"
        )
        assert agents.names() == ["planner"]

    def test_without_it_put_compares_and_keeps_nothing(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        revision = agents.put("planner", {"n": 1})
        person(PLANNER, b'{"n": 2}')
        with pytest.raises(ConflictError, match="read it again and repeat") as caught:
            agents.put("planner", {"n": 3}, expect=revision)
        assert caught.value.kept_at is None
        assert store.conflicts() == []

    def test_a_file_that_cannot_be_read_stays_and_mine_is_kept(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        revision = agents.put("planner", {"n": 1})
        person(PLANNER, b'{"n": zero}')
        with pytest.raises(CorruptRecordError) as caught:
            agents.put("planner", {"n": 2}, expect=revision, merge=True)
        (conflict,) = store.conflicts()
        assert caught.value.__notes__ == [f"mine is kept in {conflict.path}: `fsstate conflicts` lists it"]
        assert held_in(store, conflict) == b'{\n  "n": 2\n}\n'
        assert file_of(store) == b'{"n": zero}'

    def test_what_belongs_to_a_document_that_is_gone_is_refused_as_ever(self, store: Store) -> None:
        belonging: Collection[Any] = Collection(
            store.backend, "sessions/gone/scratch", owner=Ref("sessions", "gone", JSON)
        )
        with pytest.raises(NotFoundError):
            belonging.put("a", {}, expect="0" * 40, merge=True)
        assert store.conflicts() == []


def revision_from(way: str, agents: Collection[Any], person: Elsewhere) -> str:
    """The revision of a planner with a, b and c of 1, had in some way."""
    value = {"a": 1, "b": 1, "c": 1}

    def created() -> str:
        agents.delete("planner")
        return agents.create("planner", value)

    def told() -> str | None:
        with pytest.raises(ConflictError) as caught:
            agents.put("planner", {}, expect="0" * 40)
        return caught.value.revision

    def merged() -> str:
        revision = agents.put("planner", {"a": 1, "b": 0, "c": 0})
        person(PLANNER, b'{"a": 1, "b": 0, "c": 1}')
        return agents.put("planner", {"a": 1, "b": 1, "c": 0}, expect=revision, merge=True)

    ways: dict[str, Callable[[], str | None]] = {
        "record": lambda: getattr(agents.record("planner"), "revision", None),
        "revision": lambda: agents.revision("planner"),
        "put": lambda: agents.put("planner", value),
        "put_many": lambda: agents.put_many({"planner": value})["planner"],
        "create": created,
        "error": told,
        "merge": merged,
    }
    revision = ways[way]()
    assert revision is not None
    return revision


class TestMergingPutOfMarkdown:
    def test_fields_and_text_are_merged(self, notes: Markdown, person: Elsewhere) -> None:
        text = "---\n# who was there\nwho: ann\nstatus: open\n---\nfirst\n"
        revision = notes.put("standup", text)
        person(NOTE, text.replace("ann", "bob").encode())
        # A document without a layout of its own: the comment is none of its changes.
        mine = Document("second\n", {"who": "ann", "status": "closed"})
        notes.put("standup", mine, expect=revision, merge=True)
        expected = text.replace("ann", "bob").replace("open", "closed").replace("first", "second")
        assert file_of_note(notes) == expected

    def test_a_text_is_merged_as_well(self, notes: Markdown, person: Elsewhere) -> None:
        revision = notes.put("standup", "---\na: 1\n---\nfirst\n")
        person(NOTE, b"---\na: 2\n---\nfirst\n")
        notes.put("standup", "---\na: 1\n---\nmine\n", expect=revision, merge=True)
        assert file_of_note(notes) == "---\na: 2\n---\nmine\n"

    def test_what_meets_is_kept_as_markdown(self, store: Store, notes: Markdown, person: Elsewhere) -> None:
        revision = notes.put("standup", "one\n")
        person(NOTE, b"theirs\n")
        with pytest.raises(ConflictError) as caught:
            notes.put("standup", "mine\n", expect=revision, merge=True)
        assert caught.value.fields == ("$.text",)
        (conflict,) = store.conflicts()
        assert conflict.record == "notes/standup.md"
        assert conflict.id.endswith(".md")
        assert held_in(store, conflict) == b"mine\n"
        assert store.resolve(conflict, Document("both\n")) == notes.revision("standup")
        assert file_of_note(notes) == "both\n"


def file_of_note(notes: Markdown) -> str:
    return notes["standup"].render().decode()


class TestEditing:
    def test_an_edit_that_cannot_be_merged_is_kept(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        person(PLANNER, b'{"mood": "calm",\n "n": 0}\n')
        with pytest.raises(ConflictError) as caught, agents.edit("planner") as doc:  # noqa: PT012
            doc["mood"] = "angry"
            person(PLANNER, b'{"mood": "busy"}')
        (conflict,) = store.conflicts()
        assert caught.value.kept_at == conflict.path
        # As the document would be.
        assert held_in(store, conflict) == b'{\n  "mood": "angry",\n  "n": 0\n}\n'
        assert file_of(store) == b'{"mood": "busy"}'
        assert not store.backend.is_locked(PLANNER)

    def test_a_deletion_meanwhile_keeps_mine(self, store: Store, agents: Collection[Any], person: Elsewhere) -> None:
        agents.put("planner", {"n": 1})
        with pytest.raises(ConflictError, match="deleted"), agents.edit("planner") as doc:  # noqa: PT012
            doc["n"] = 2
            person(PLANNER, None)
        assert [each.record for each in store.conflicts()] == ["agents/planner.json"]
        assert agents.names() == []
        store.resolve("agents/planner", "mine")
        assert agents["planner"] == {"n": 2}

    def test_an_update_runs_again_and_keeps_nothing(
        self, store: Store, agents: Collection[Any], person: Elsewhere
    ) -> None:
        agents.put("planner", {"n": 1})
        seen: list[int] = []

        def change(doc: dict[str, Any]) -> dict[str, Any]:
            seen.append(doc["n"])
            if len(seen) == 1:
                person(PLANNER, b'{"n": 10}')
            return {"n": doc["n"] + 1}

        agents.update("planner", change)
        assert (seen, agents["planner"]) == ([1, 10], {"n": 11})
        assert store.conflicts() == []

    def test_what_cannot_be_read_or_together_fits_no_model_keeps_mine_as_well(
        self, store: Store, person: Elsewhere
    ) -> None:
        typed = store.collection("agents", model=Agent)
        typed.put("planner", Agent("m1"))
        with pytest.raises(ValidationError), typed.edit("planner") as agent:  # noqa: PT012
            agent.runs = 1
            person(PLANNER, b'{"model": 5}')
        with pytest.raises(CorruptRecordError), typed.edit("coder", default=Agent("m2")):
            person(Ref("agents", "coder", JSON), b"{")
        first, second = store.conflicts()
        assert (first.record, second.record) == ("agents/planner.json", "agents/coder.json")
        assert b'"runs": 1' in held_in(store, first)

    def test_records_keep_theirs_with_the_rules_applied(self, store: Store, person: Elsewhere) -> None:
        plans = store.records(PLANS)
        plans.create("a", title="old")
        ref = Ref("plans", "a", JSON)
        before = file_of(store, ref)
        assert before is not None
        with pytest.raises(ConflictError), plans.edit("a") as plan:  # noqa: PT012
            plan.title = "mine"
            person(ref, before.replace(b"old", b"theirs"))
        store.resolve("plans/a", "mine")
        assert plans["a"].title == "mine"
        assert plans.ids() == ["a"]

    def test_a_step_that_theirs_forbids_keeps_mine(self, store: Store, person: Elsewhere) -> None:
        plans = store.records(PLANS)
        plans.create("a", title="old")
        ref = Ref("plans", "a", JSON)
        with pytest.raises((InvalidTransitionError, ConflictError)), plans.edit("a") as plan:  # noqa: PT012
            plan.status = "running"
            person(ref, b'{"id": "a", "title": "old", "status": "done"}')
        (conflict,) = store.conflicts()
        assert b'"running"' in held_in(store, conflict)

    def test_sessions_keep_what_they_lose(self, store: Store, person: Elsewhere) -> None:
        session = store.sessions.create(title="old")
        ref = Ref("sessions", session.id, JSON)
        before = file_of(store, ref)
        assert before is not None
        with pytest.raises(ConflictError), store.sessions.edit(session.id) as edited:  # noqa: PT012
            edited.title = "mine"
            person(ref, before.replace(b"old", b"theirs"))
        assert [each.record for each in store.conflicts()] == [str(ref)]
        assert store.sessions.ids() == [session.id]
        store.resolve(f"sessions/{session.id}", "mine")
        assert store.sessions[session.id].title == "mine"


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    title: str = ""
    status: str = "open"


PLANS = RecordType(
    "plans", Plan, order_by="title", lifecycle=Lifecycle({"open": ["running", "done"], "running": ["done"], "done": []})
)


class TestKeeping:
    def test_what_is_kept_already_is_not_kept_again(
        self, store: Store, agents: Collection[Any], conflict: Conflict
    ) -> None:
        for _ in range(3):
            with pytest.raises(ConflictError) as caught:
                agents.put("planner", {"mood": "angry", "n": 0}, expect="0" * 40, merge=True)
            assert caught.value.kept_at == conflict.path
        with pytest.raises(ConflictError):
            agents.put("planner", {"mood": "sad", "n": 0}, expect="0" * 40, merge=True)
        assert [held_in(store, each).count(b"angry") for each in store.conflicts()] == [1, 0]

    def test_a_disk_that_refuses_hides_no_conflict(
        self, store: Store, agents: Collection[Any], person: Elsewhere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        revision = agents.put("planner", {"n": 1})
        person(PLANNER, b'{"n": 2}')
        change = store.backend.change

        def refuse(ref: Ref, *args: Any, **kwargs: Any) -> Any:
            if names.is_copy(ref.name):
                raise StorageError("write", str(ref), 28)
            return change(ref, *args, **kwargs)

        monkeypatch.setattr(store.backend, "change", refuse)
        with pytest.raises(ConflictError, match="read it again and repeat") as caught:
            agents.put("planner", {"n": 3}, expect=revision, merge=True)
        assert caught.value.kept_at is None
        assert "mine could not be kept beside it: cannot write agents/planner.conflict" in caught.value.__notes__[0]
        assert agents["planner"] == {"n": 2}

    def test_the_longest_name_has_room(self, store: Store, agents: Collection[Any], person: Elsewhere) -> None:
        name = "é" * 100
        agents.put(name, {"n": 1})
        with pytest.raises(ConflictError), agents.edit(name) as doc:  # noqa: PT012
            doc["n"] = 2
            person(Ref("agents", name, JSON), b'{"n": 3}')
        store.resolve(f"agents/{name}", "mine")
        assert agents[name] == {"n": 2}

    def test_the_error_survives_pickling(self, agents: Collection[Any], person: Elsewhere) -> None:
        person(PLANNER, b'{"n": 1}')
        with pytest.raises(ConflictError) as caught:
            agents.put("planner", {"n": 2}, expect="0" * 40, merge=True)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
        assert (str(again), again.kept_at) == (str(caught.value), caught.value.kept_at)
        assert again.mine == {"n": 2}


class TestReservedNames:
    NAME = "planner.conflict-2026-11-28T184512Z-1f3a"

    def test_no_record_can_have_one(self, store: Store, agents: Collection[Any]) -> None:
        with pytest.raises(InvalidNameError, match=r"conflict copy of 'planner'.*fsstate resolve"):
            agents.put(self.NAME, {})
        with pytest.raises(InvalidNameError, match="conflict copy"):
            store.sessions.create(id=self.NAME)

    def test_no_listing_shows_them(
        self, store: Store, agents: Collection[Any], person: Elsewhere, conflict: Conflict, clock: FakeClock
    ) -> None:
        session = store.sessions.create(title="words")
        for category in ("agents", "sessions", f"sessions/{session.id}/checkpoints", "teams/red/agents"):
            person(Ref(category, self.NAME, JSON), b'{"id": "never", "mood": "secretword", "created_at": 1}')
        person(Ref("notes", self.NAME, MARKDOWN), b"secretword\n")
        assert agents.names() == ["planner"]
        assert [item.name for item in agents.items()] == ["planner"]
        assert [item.name for item in agents.query()] == ["planner"]
        assert (len(agents), agents.problems()) == (1, [])
        assert store.markdown("notes").names() == []
        assert store.sessions.ids() == [session.id]
        assert [each.id for each in store.sessions.list()] == [session.id]
        assert store.session(session.id).checkpoints.list() == []
        assert store.collection("agents", indexed=["mood"]).count({"mood": "busy"}) == 1
        assert store.search("secretword") == []
        stats = {each.category: each for each in store.stats(days=0).categories}
        assert (stats["agents"].documents.files, stats["agents"].others.files) == (1, 2)
        agents.put("old", {"updated_at": format_time(clock())})
        clock.advance(days=100)
        assert [each.id for each in agents.prune(PrunePolicy(ttl=timedelta(days=1))).pruned] == ["old"]
        assert [each.record for each in store.conflicts()].count("agents/planner.json") == 2

    def test_deleting_a_record_or_a_session_leaves_what_stands_beside_it(
        self, store: Store, agents: Collection[Any], person: Elsewhere, conflict: Conflict
    ) -> None:
        agents.delete("planner")
        assert store.conflicts() == [conflict]
        session = store.sessions.create()
        beside = Ref("sessions", f"{session.id}.conflict-2026-11-28T184512Z-1f3a", JSON)
        within = Ref(f"sessions/{session.id}", "goal.conflict-2026-11-28T184512Z-1f3a", JSON)
        for ref in (beside, within):
            person(ref, b'{"title": "kept"}')
        assert len(store.conflicts()) == 3
        assert store.sessions.delete(session.id)
        # What belongs to a session goes with it.
        assert [each.id for each in store.conflicts()] == [conflict.id, str(beside)]
        store.resolve(f"sessions/{session.id}", "mine")
        assert store.sessions[session.id].title == "kept"

    def test_quoting_avoids_them(self, store: Store) -> None:
        quoted = names.quote_name(self.NAME)
        assert names.is_name(quoted)
        assert names.unquote_name(quoted) == self.NAME
        store.settings.set(self.NAME, 1)
        assert store.settings.get(self.NAME) == 1
        assert store.settings.keys() == [self.NAME]

    @pytest.mark.parametrize(
        "name",
        [
            "a.conflict-2026-02-30T184512Z-1f3a",
            "a.conflict-x",
            "x.conflict-2026-11-28",
            "conflict-2026-11-28T184512Z-1f3a",
        ],
    )
    def test_what_only_looks_alike_is_a_name(self, agents: Collection[Any], name: str) -> None:
        agents.put(name, {})
        assert agents.names() == [name]


class TestResolving:
    def test_conflicts_tell_which_when_and_where(self, store: Store, conflict: Conflict) -> None:
        assert conflict.record == "agents/planner.json"
        assert conflict.at.tzinfo is UTC
        assert conflict.at.replace(hour=0, minute=0, second=0) == datetime(2026, 1, 1, tzinfo=UTC)
        assert conflict.path.endswith(conflict.id)
        assert store.conflicts("agents/planner") == store.conflicts("agents/planner.json") == [conflict]
        assert store.conflicts("agents/other") == store.conflicts("planner") == store.conflicts("no/such") == []

    def test_mine(self, store: Store, agents: Collection[Any], conflict: Conflict) -> None:
        mine = held_in(store, conflict)
        assert store.resolve(conflict, "mine") == agents.revision("planner")
        assert file_of(store) == mine
        assert store.conflicts() == []

    def test_theirs(self, store: Store, agents: Collection[Any], conflict: Conflict, person: Elsewhere) -> None:
        person(PLANNER, b'{"mood": "angry but busy"}')
        assert store.resolve(conflict, take="theirs") == agents.revision("planner")
        assert file_of(store) == b'{"mood": "angry but busy"}'
        assert store.conflicts() == []

    def test_a_value(self, store: Store, agents: Collection[Any], conflict: Conflict) -> None:
        store.resolve("agents/planner.json", {"n": 1, "mood": "both"})
        assert agents["planner"] == {"n": 1, "mood": "both"}
        assert list(agents["planner"]) == ["mood", "n"]
        assert store.conflicts() == []

    def test_a_copy_that_a_person_edited(
        self, store: Store, agents: Collection[Any], conflict: Conflict, person: Elsewhere
    ) -> None:
        copy = Ref("agents", conflict.id.partition("/")[2].removesuffix(JSON), JSON)
        person(copy, b'{"mood": "angry",}')
        with pytest.raises(CorruptRecordError, match=r"conflict-.*line 1, column 17"):
            store.resolve(conflict, "mine")
        assert store.conflicts() == [conflict]
        person(copy, b'{"mood":   "by hand"}')
        store.resolve(conflict, "mine")
        assert file_of(store) == b'{"mood":   "by hand"}'

    def test_the_oldest_first(self, store: Store, agents: Collection[Any], conflict: Conflict) -> None:
        with pytest.raises(ConflictError):
            agents.put("planner", {"mood": "later"}, expect="0" * 40, merge=True)
        first, second = store.conflicts()
        assert first == conflict
        store.resolve("agents/planner", "mine")
        assert agents["planner"]["mood"] == "angry"
        assert store.conflicts() == [second]
        store.resolve(second.id, "mine")
        assert agents["planner"] == {"mood": "later"}

    def test_what_is_not_there(self, store: Store, conflict: Conflict) -> None:
        store.resolve(conflict, "theirs")
        with pytest.raises(NotFoundError, match="resolved already"):
            store.resolve(conflict, "mine")
        with pytest.raises(NotFoundError, match="no conflict of 'agents/planner'"):
            store.resolve("agents/planner", "mine")
        with pytest.raises(NotFoundError):
            store.resolve("planner", "mine")

    def test_two_of_one_name(self, store: Store, conflict: Conflict, person: Elsewhere) -> None:
        person(Ref("agents", "planner.conflict-2026-11-28T184512Z-1f3a", MARKDOWN), b"text\n")
        with pytest.raises(AmbiguousIdError):
            store.resolve("agents/planner", "mine")
        store.resolve("agents/planner.md", "mine")
        assert store.markdown("agents")["planner"].text == "text\n"

    def test_what_belongs_to_a_session_that_is_gone_is_not_put_back(self, store: Store, person: Elsewhere) -> None:
        session = store.sessions.create()
        person(Ref(f"sessions/{session.id}", "goal.conflict-2026-11-28T184512Z-1f3a", JSON), b"{}")
        person(Ref("sessions", session.id, JSON), None)
        with pytest.raises(NotFoundError):
            store.resolve(f"sessions/{session.id}/goal", "mine")

    def test_a_value_that_cannot_be_stored_leaves_the_conflict(self, store: Store, conflict: Conflict) -> None:
        with pytest.raises(ValueError, match="JSON has no nan"):
            store.resolve(conflict, {"n": float("nan")})
        assert store.conflicts() == [conflict]

    def test_a_conflict_is_put_in_place_before_it_goes(
        self, store: Store, conflict: Conflict, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []
        change = store.backend.change

        def noted(ref: Ref, *args: Any, **kwargs: Any) -> Any:
            outcome = change(ref, *args, **kwargs)
            done.append(str(ref))
            return outcome

        monkeypatch.setattr(store.backend, "change", noted)
        store.resolve(conflict, "mine")
        assert done == [conflict.record, conflict.id]


# Any documents: what can be merged is, exactly as three_way says; all else stays on both sides.


def as_json(value: Any) -> bytes:
    return msgspec.json.encode(value)


Save = Callable[[Collection[Any], Elsewhere, dict[str, Any], dict[str, Any], dict[str, Any]], object]


def by_put(agents: Collection[Any], person: Elsewhere, base: Any, mine: Any, theirs: Any) -> object:
    revision = agents.put("planner", base)
    person(PLANNER, as_json(theirs))
    return agents.put("planner", mine, expect=revision, merge=True)


def by_edit(agents: Collection[Any], person: Elsewhere, base: Any, mine: Any, theirs: Any) -> object:
    agents.put("planner", base)
    editing = agents.open_edit("planner")
    editing.value = copy.deepcopy(mine)
    person(PLANNER, as_json(theirs))
    return editing.commit()


@pytest.mark.parametrize("save", [by_put, by_edit])
@given(base=OBJECTS, mine=OBJECTS, theirs=OBJECTS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_any_three_documents(backend: Backend, save: Save, base: Any, mine: Any, theirs: Any) -> None:
    agents: Collection[Any] = Collection(backend, "agents")
    for copied in list(backend.copies("agents", [], below=False)):
        backend.change(copied, lambda _: None)
    merged, conflicts = three_way(base, mine, theirs)
    if not conflicts or same(mine, theirs):
        save(agents, editor_of(backend), base, mine, theirs)
        assert same(agents["planner"], merged)
        assert list(backend.copies("agents", [], below=False)) == []
        return
    with pytest.raises(ConflictError) as caught:
        save(agents, editor_of(backend), base, mine, theirs)
    assert sorted(caught.value.fields) == sorted(conflicts)
    blob = backend.read(PLANNER)
    assert blob is not None
    assert blob.data == as_json(theirs)
    (kept,) = backend.copies("agents", [], below=False)
    held = backend.read(kept)
    assert held is not None
    assert same(msgspec.json.decode(held.data), mine)
    assert isinstance(backend, MemoryBackend) or Path(backend.location(kept)).read_bytes() == held.data
