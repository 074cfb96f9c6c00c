"""Records of a type that a user declares: models, places, rules, lists, limits."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import (
    AlreadyExistsError,
    AmbiguousIdError,
    ConflictError,
    CorruptRecordError,
    InvalidTransitionError,
    InvalidValueError,
    NotFoundError,
    ValidationError,
)
from fsstate.lifecycle import Lifecycle
from fsstate.migrations import Migration
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.retention import PrunePolicy
from fsstate.store import Store
from tests.contract.conftest import Elsewhere
from tests.contract.plans import LIFECYCLE, PLANS, TASKS, Plan, derived, raw, renamed, written

THEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2025, 2, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def plans(store: Store) -> Records[Plan]:
    return store.records(PLANS)


def ref(name: str, group: str | None = None) -> Ref:
    return Ref("plans" if group is None else f"plans/{group}", name, JSON)


# -- one declaration, each kind of model


@dataclasses.dataclass
class Data:
    id: str
    group: str | None = None
    status: str = "draft"
    title: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None


@dataclasses.dataclass(frozen=True)
class FrozenData:
    id: str
    group: str | None = None
    status: str = "draft"
    title: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None


class Struct(msgspec.Struct, kw_only=True):
    id: str
    group: str | None = None
    status: str = "draft"
    title: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None


class FrozenStruct(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    id: str
    group: str | None = None
    status: str = "draft"
    title: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None


class Pydantic(pydantic.BaseModel):
    id: str
    group: str | None = None
    status: str = "draft"
    title: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None


class Typed(TypedDict):
    id: str
    group: NotRequired[str | None]
    status: NotRequired[str]
    title: NotRequired[str | None]
    words: NotRequired[int]
    created_at: NotRequired[datetime | None]
    updated_at: NotRequired[datetime | None]
    started_at: NotRequired[datetime | None]


class Kind(NamedTuple):
    """A way to write a model."""

    model: Any
    is_mutable: bool = True
    has_times: bool = True

    def get(self, value: Any, field: str) -> Any:
        return value.get(field) if isinstance(value, dict) else getattr(value, field)

    def set(self, value: Any, field: str, wanted: Any) -> None:
        if isinstance(value, dict):
            value[field] = wanted
        else:
            setattr(value, field, wanted)


KINDS = [
    Kind(Data),
    Kind(FrozenData, is_mutable=False),
    Kind(Struct),
    Kind(FrozenStruct, is_mutable=False),
    Kind(Pydantic),
    Kind(Typed),
    Kind(dict, has_times=False),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.model.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


def declared(model: Any, **more: Any) -> RecordType[Any]:
    rules = {
        "group_by": "group",
        "indexed": ("title",),
        "lifecycle": LIFECYCLE,
        "recovery": Recovery("failed", in_flight=("running",), fields={"error_code": "interrupted"}),
        "derive": derived,
    }
    return RecordType("notes", model, **{**rules, **more})


def test_a_type_of_ones_own(store: Store, kind: Kind) -> None:
    notes = store.records(declared(kind.model))
    made = notes.create("a", title="two words", group="g")
    assert (kind.get(made, "id"), kind.get(made, "words")) == ("a", 2)
    assert notes.get("a") == notes["a"] == made
    assert (kind.get(made, "created_at") is not None) == kind.has_times
    changed = notes.change("a", status="running", title="three words now")
    assert (kind.get(changed, "status"), kind.get(changed, "words")) == ("running", 3)
    on_disk = written(store, "notes/g", "a")
    assert on_disk["started_at"]
    assert on_disk["held_by"]
    assert notes.update("a", lambda note: notes.kind.view.replaced(note, {"title": "one"})) == notes["a"]
    assert kind.get(notes["a"], "words") == 1
    if kind.is_mutable:
        with notes.edit("a") as note:
            kind.set(note, "title", "by hand now")
        assert kind.get(notes["a"], "words") == 3
    assert [kind.get(note, "id") for note in notes.list(group="g", status="running")] == ["a"]
    assert notes.list(group="h") == notes.list(title="odd") == []
    assert (notes.count(), notes.ids(), "a" in notes, "b" in notes) == (1, ["a"], True, False)
    done = notes.change("a", status="done")
    assert "held_by" not in written(store, "notes/g", "a")
    with pytest.raises(InvalidTransitionError):
        notes.put(notes.kind.view.replaced(done, {"status": "running"}))
    assert notes.delete("a")
    assert not notes.delete("a")


def test_an_unknown_field_is_refused_unless_the_model_is_a_dict(store: Store, kind: Kind) -> None:
    notes = store.records(declared(kind.model))
    if issubclass(kind.model, dict) or kind.model is Typed:
        return
    with pytest.raises(TypeError):
        notes.create("a", titel="x")
    notes.create("a")
    with pytest.raises(TypeError):
        notes.change("a", titel="x")


FOREIGN = (
    b'{"group": "g", "extra": {"deep": [1, 2.50]},\n "status":   "running", "title": "x y",\n\n"words": 2, "id": "a"}'
)


def test_what_the_model_does_not_know_survives_every_path(store: Store, kind: Kind, elsewhere_in: Elsewhere) -> None:
    """And the keys stay in the order of the file."""
    record_type = declared(kind.model)
    notes = store.records(record_type)
    extra = {"deep": [1, 2.5]}
    paths: list[Callable[[], object]] = [
        lambda: notes.change("a", title="changed"),
        lambda: notes.update("a", lambda note: record_type.view.replaced(note, {"title": "changed"})),
        lambda: notes.put(record_type.view.replaced(notes["a"], {"title": "changed"})),
        notes.recover,
    ]
    for path in paths:
        elsewhere_in(Ref("notes/g", "a", JSON), FOREIGN)
        path()
        on_disk = written(store, "notes/g", "a")
        assert on_disk["extra"] == extra
        assert [key for key in on_disk if key in json.loads(FOREIGN)] == list(json.loads(FOREIGN))
        assert on_disk["title"] == "changed" or on_disk["error_code"] == "interrupted"


def test_an_unchanged_save_writes_nothing(store: Store, kind: Kind, elsewhere_in: Elsewhere) -> None:
    notes = store.records(declared(kind.model))
    foreign = b'{"words": 2,"title"  : "two words",\n"extra":[ 1 ]}\n\n'
    elsewhere_in(Ref("notes/g", "a", JSON), foreign)
    notes.update("a", lambda note: note)
    notes.put(notes["a"])
    with notes.edit("a"):
        pass
    notes.change("a", title="two words")
    assert raw(store, "notes/g", "a") == foreign
    assert (kind.get(notes["a"], "id"), kind.get(notes["a"], "group")) == ("a", "g")


def test_a_file_without_an_id_is_not_made_to_tell_one(store: Store, kind: Kind, elsewhere_in: Elsewhere) -> None:
    notes = store.records(declared(kind.model, derive=None))
    elsewhere_in(Ref("notes/g", "a", JSON), b'{"title":"x"}')
    notes.change("a", title="y")
    assert {"id", "group"}.isdisjoint(written(store, "notes/g", "a"))


def test_one_field_changes_its_line_and_the_time(store: Store, plans: Records[Plan]) -> None:
    plans.create("a", session_id="s", title="x", size=3)
    before = raw(store, "plans/s", "a").splitlines()
    plans.change("a", size=4)
    after = raw(store, "plans/s", "a").splitlines()
    assert len(after) == len(before)
    changed = [line for line, other in zip(after, before, strict=True) if line != other]
    assert [line.split(b":")[0].strip() for line in changed] == [b'"size"', b'"updated_at"']


def test_what_was_got_may_be_changed(plans: Records[Plan]) -> None:
    plans.create("a", title="x")
    plans["a"].title = "y"
    assert plans["a"].title == "x"


def test_an_edit_is_merged_with_what_an_editor_wrote(
    store: Store, plans: Records[Plan], elsewhere_in: Elsewhere
) -> None:
    plans.create("a", session_id="s", title="x")
    document = written(store, "plans/s", "a")
    with plans.edit("a") as plan:
        plan.size = 7
        elsewhere_in(ref("a", "s"), json.dumps({**document, "extra": 1, "title": "by hand now"}).encode())
    on_disk = written(store, "plans/s", "a")
    assert (on_disk["size"], on_disk["extra"], on_disk["title"], on_disk["words"]) == (7, 1, "by hand now", 3)
    with pytest.raises(ConflictError), plans.edit("a") as plan:  # noqa: PT012
        plan.size = 8
        elsewhere_in(ref("a", "s"), json.dumps({**document, "size": 9}).encode())


def test_an_edit_that_fails_writes_nothing(store: Store, plans: Records[Plan]) -> None:
    plans.create("a", session_id="s")
    before = raw(store, "plans/s", "a")
    with pytest.raises(InvalidTransitionError), plans.edit("a") as plan:
        plan.status = "done"
    with pytest.raises(ZeroDivisionError), plans.edit("a") as plan:  # noqa: PT012
        plan.status = "running"
        raise ZeroDivisionError
    assert raw(store, "plans/s", "a") == before


def test_make_and_take(plans: Records[Plan]) -> None:
    made = plans.create()
    assert made.id
    assert made.status == "draft"
    with pytest.raises(AlreadyExistsError):
        plans.create(made.id)
    with pytest.raises(TypeError, match="place"):
        plans.create(id="x")
    with pytest.raises(ValueError, match="needs a text"):
        plans.add(Plan())
    assert plans.add(Plan(id="a", created_at=THEN)).created_at == THEN
    for act in (plans.require, plans.__getitem__, lambda name: plans.change(name, size=1)):
        with pytest.raises(NotFoundError, match="nobody"):
            act("nobody")
    assert plans.get("nobody") is None
    with pytest.raises(ValueError, match="status"):
        plans.create("b", status="odd")
    with pytest.raises(ValidationError):
        plans.create("b", size="big")
    assert "b" not in plans


# -- names and groups

IDS = [
    "a/b",
    "two words",
    " ends ",
    "ünï→",
    ".",
    "..",
    "CON",
    "nul.txt",
    "a.json",
    "%",
    "%41",
    "100%",
    "x" * 300,
    "a\n",
]


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("group", [None, "s"])
def test_any_text_is_an_id(plans: Records[Plan], id: str, group: str | None) -> None:  # noqa: A002
    made = plans.create(id, session_id=group, title="x")
    assert (made.id, made.session_id) == (id, group)
    assert plans[id] == plans.require(id, within=group) == made
    assert plans.list() == [made]
    assert plans.change(id, title="y").id == id
    with pytest.raises(AlreadyExistsError):
        plans.create(id, session_id=group)
    # An id that is too long for a file's name is told by the file alone.
    assert plans.ids() == [id] or len(id) > 200
    assert plans.delete(id)
    assert plans.count() == 0


@pytest.mark.parametrize("group", [*IDS, ""])
def test_any_text_is_a_group(plans: Records[Plan], group: str) -> None:
    made = plans.create("a", session_id=group)
    other = plans.create("b", session_id="other")
    assert made.session_id == group
    assert plans.list(session_id=group) == [made]
    assert {plan.session_id for plan in plans.list()} == {group, "other"}
    assert plans.change("a", title="x").session_id == group
    assert plans["a"].session_id == group
    assert plans.list(session_id="nobody") == plans.list(session_id=5) == []
    assert plans.list(session_id=None) == []
    assert other.session_id == "other"


@pytest.mark.parametrize("id", ["", 5, None])
def test_what_is_no_id(plans: Records[Plan], id: Any) -> None:  # noqa: A002
    with pytest.raises((ValueError, TypeError)):
        plans.add(Plan(id=id))
    with pytest.raises(InvalidValueError, match="group"):
        plans.add(Plan(id="a", session_id=5))  # type: ignore[arg-type]


def test_the_same_id_in_two_groups(plans: Records[Plan]) -> None:
    plans.create("a", session_id="s", title="in s")
    assert plans["a"].title == "in s"
    plans.create("a", session_id="t", title="in t")
    plans.create("a", title="in none")
    for act in (plans.get, plans.delete, plans.path_of, lambda name: plans.change(name, size=1)):
        with pytest.raises(AmbiguousIdError, match="within"):
            act("a")
    assert [plans.require("a", within=group).title for group in ("s", "t", None)] == ["in s", "in t", "in none"]
    assert plans.change("a", within="t", size=1).session_id == "t"
    assert plans.delete("a", within=None)
    assert plans.delete("a", within="s")
    assert plans["a"].title == "in t"
    assert plans.get("a", within="s") is None
    assert plans.path_of("a", within="s") != plans.path_of("a", within=None)


def test_a_place_is_not_changed_by_a_change(store: Store, plans: Records[Plan]) -> None:
    plans.create("a", session_id="s")
    plans.create("b")
    before = raw(store, "plans/s", "a")
    for name, fields in (("a", {"id": "b"}), ("a", {"session_id": "t"}), ("b", {"session_id": "t"})):
        with pytest.raises(InvalidValueError, match="place"):
            plans.change(name, **fields)
    assert raw(store, "plans/s", "a") == before
    assert plans.ids() == ["a", "b"]


def test_a_file_that_was_copied_is_a_record_of_its_own(
    store: Store, plans: Records[Plan], elsewhere_in: Elsewhere
) -> None:
    plans.create("a", session_id="s", title="x")
    for place in (ref("b", "s"), ref("c", "t"), ref("d")):
        elsewhere_in(place, raw(store, "plans/s", "a"))
    found = {plan.id: plan.session_id for plan in plans.list()}
    assert found == {"a": "s", "b": "s", "c": "t", "d": None}
    assert {name: plans.change(name, size=1).session_id for name in found} == found
    assert plans["a"].title == plans["d"].title == "x"
    assert plans.count(session_id="s") == 2
    assert written(store, "plans", "d")["session_id"] == "s"
    assert plans.put(plans["d"]).session_id is None


@pytest.mark.parametrize("name", ["100%", "%41b", "%2f", "x%zz", "a.json", "%ff"])
def test_names_that_fsstate_would_not_give(plans: Records[Plan], elsewhere_in: Elsewhere, name: str) -> None:
    elsewhere_in(ref(name), b'{"title":"flat"}')
    assert [(plan.id, plan.title) for plan in plans.list()] == [(name, "flat")]
    assert plans[name].title == "flat"
    assert plans.change(name, title="changed").id == name
    assert plans.ids() == [name]
    with pytest.raises(AlreadyExistsError):
        plans.create(name)
    assert plans.delete(name)
    assert plans.count() == 0


@pytest.mark.parametrize("folder", ["100%", "%41b", "%2f"])
def test_folders_that_fsstate_would_not_make(plans: Records[Plan], elsewhere_in: Elsewhere, folder: str) -> None:
    elsewhere_in(ref("a", folder), b'{"title":"x"}')
    assert [(plan.id, plan.session_id) for plan in plans.list()] == [("a", folder)]
    assert plans.list(session_id=folder) == plans.list()
    assert plans.change("a", title="y").session_id == folder
    assert plans.create("b", session_id=folder).session_id == folder
    assert plans.count(session_id=folder) == 2


def test_a_folder_that_cannot_be_a_group_is_none(plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    plans.create("a", session_id="s")
    elsewhere_in(ref("a", "x.json"), b"{}")
    assert plans.ids() == ["a"]
    assert plans["a"].session_id == "s"


def test_records_of_a_session(store: Store) -> None:
    notes: RecordType[Plan] = RecordType("notes", Plan, parent="sessions", keep=2)
    store.sessions.create(id="s")
    mine = store.session("s").records(notes)
    made = mine.create("a", title="x")
    assert mine.list() == [made]
    assert written(store, "sessions/s/notes", "a")["title"] == "x"
    for name in "bc":
        mine.create(name)
    assert mine.ids() == ["b", "c"]
    with pytest.raises(ValueError, match="session"):
        store.records(notes)
    with pytest.raises(NotFoundError):
        store.session("nobody").records(notes).create("a")
    store.sessions.delete("s")
    assert mine.list() == []
    with pytest.raises(NotFoundError):
        mine.create("d")


# -- lifecycle

STATUSES = tuple(LIFECYCLE.steps)


@pytest.mark.parametrize("was", STATUSES)
@pytest.mark.parametrize("wanted", [*STATUSES, "odd"])
def test_every_step(store: Store, plans: Records[Plan], was: str, wanted: str) -> None:
    plans.create("a", session_id="s", status=was)
    before = raw(store, "plans/s", "a")
    acts: list[Callable[[], Plan]] = [
        lambda: plans.put(Plan(id="a", session_id="s", status=wanted)),
        lambda: plans.update("a", lambda plan: msgspec.structs.replace(plan, status=wanted)),
    ]
    for act in acts:
        if wanted in LIFECYCLE.steps[was] or wanted == was:
            assert act().status == wanted
            plans.delete("a")
            plans.create("a", session_id="s", status=was)
        else:
            with pytest.raises((InvalidTransitionError, ValidationError, InvalidValueError)):
                act()
            assert raw(store, "plans/s", "a") == before


@pytest.mark.parametrize("status", STATUSES)
def test_to_change_to_the_same_is_no_step(plans: Records[Plan], status: str) -> None:
    plans.create("a", status=status)
    with pytest.raises(InvalidTransitionError):
        plans.change("a", status=status)


class Mood(enum.StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    DONE = "done"


@dataclasses.dataclass
class Moody:
    id: str
    status: Mood = Mood.DRAFT


def test_a_status_may_be_an_enum(store: Store) -> None:
    moods = store.records(RecordType("moods", Moody, lifecycle=LIFECYCLE))
    assert moods.create("a", status=Mood.DRAFT).status is Mood.DRAFT
    assert moods.change("a", status=Mood.RUNNING).status is Mood.RUNNING
    with pytest.raises(InvalidTransitionError):
        moods.change("a", status=Mood.DRAFT)
    assert moods.count(status=Mood.RUNNING) == moods.count(status="running") == 1


@pytest.mark.parametrize("status", ['"odd"', "5", "[]", "{}", "true", '""'])
def test_a_status_that_nobody_knows(
    store: Store, plans: Records[Plan], elsewhere_in: Elsewhere, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = f'{{"id": "a", "status": {status}}}'.encode()
    elsewhere_in(ref("a", "s"), foreign)
    plans.create("b", session_id="s")
    for act in (plans.get, plans.require, lambda name: plans.change(name, size=1), lambda n: plans.update(n, print)):
        with pytest.raises(ValidationError, match="status"):
            act("a")
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert [plan.id for plan in plans.list()] == ["b"]
    assert "status" in caplog.text
    [problem] = plans.problems()
    assert problem.where == plans.path_of("a")  # type: ignore[union-attr]
    plans.recover()
    plans.in_flight()
    for number in range(6):
        plans.create(str(number), session_id="s")
    assert raw(store, "plans/s", "a") == foreign
    with pytest.raises(ValidationError):
        plans.put(Plan(id="a", session_id="s"))
    assert plans.delete("a")


@pytest.mark.parametrize("data", [b"[]", b'"running"', b"5", b"null", b"", b"{", b'["running"]', b"\xff"])
def test_a_file_that_is_no_record_hides_no_other(
    store: Store, plans: Records[Plan], elsewhere_in: Elsewhere, data: bytes
) -> None:
    elsewhere_in(ref("a", "s"), data)
    for number in range(7):
        plans.create(str(number), session_id="s")
    # It takes nobody's place.
    assert plans.count(session_id="s", status="draft") == 5
    assert len(plans.problems()) == 1
    assert plans.in_flight() == []
    plans.recover()
    assert [str(error) for error in plans.migrate().problems] == [str(error) for error in plans.problems()]
    for act in (plans.get, lambda name: plans.update(name, print), lambda name: plans.change(name, size=1)):
        with pytest.raises((ValidationError, CorruptRecordError)):
            act("a")
    plans.prune(PrunePolicy(keep=1))
    assert raw(store, "plans/s", "a") == data


@pytest.mark.parametrize("status", ["", '"status": null,'])
def test_a_status_that_is_missing_is_the_first(plans: Records[Plan], elsewhere_in: Elsewhere, status: str) -> None:
    elsewhere_in(ref("a"), f'{{{status} "title": "x"}}'.encode())
    if status:
        with pytest.raises(ValidationError):
            plans.require("a")
        return
    assert plans["a"].status == "draft"
    assert plans.count(status="draft") == 1
    assert plans.change("a", status="running").status == "running"


def test_stamps_are_set_once_and_kept_when_given(plans: Records[Plan]) -> None:
    plans.create("a", session_id="s")
    started = plans.change("a", status="running").started_at
    assert started is not None
    assert plans.put(Plan(id="a", session_id="s", status="running", title="x")).started_at == started
    done = plans.change("a", status="done")
    assert (done.started_at, done.ended_at) == (started, done.updated_at)
    again = plans.put(Plan(id="a", session_id="s", status="done", size=3))
    assert (again.started_at, again.ended_at, again.created_at) == (started, done.ended_at, done.created_at)
    assert again.updated_at is not None
    assert done.updated_at is not None
    assert again.updated_at > done.updated_at
    assert plans.create("b", status="running", started_at=THEN).started_at == THEN
    assert plans.change("b", status="done", ended_at=LATER).ended_at == LATER


def test_times(plans: Records[Plan], elsewhere_in: Elsewhere) -> None:
    made = plans.create("a")
    assert made.created_at == made.updated_at
    given = plans.put(Plan(id="b", created_at=THEN))
    assert given.created_at == given.updated_at == THEN
    assert plans.change("b", updated_at=LATER).updated_at == LATER
    assert plans.change("b", size=1).updated_at not in (THEN, LATER)
    assert plans["b"].created_at == THEN
    elsewhere_in(ref("c"), b'{"created_at":"2025-01-02 03:04:05+00:00"}')
    assert plans.change("c", size=1).created_at == THEN


def test_a_type_without_recovery_leaves_held_by_alone(store: Store, elsewhere_in: Elsewhere) -> None:
    notes: RecordType[Plan] = RecordType("plans", Plan, lifecycle=LIFECYCLE)
    elsewhere_in(ref("a"), b'{"held_by": "somebody"}')
    store.records(notes).change("a", status="running")
    store.records(notes).change("a", status="done")
    assert written(store, "plans", "a")["held_by"] == "somebody"


def test_what_is_derived_must_fit_the_model(store: Store) -> None:
    def nonsense(_before: object, after: dict[str, Any], _now: str) -> None:
        after["size"] = "big"

    notes: RecordType[Plan] = RecordType("plans", Plan, derive=nonsense)
    with pytest.raises(ValidationError, match="size"):
        store.records(notes).create("a")
    assert store.records(notes).count() == 0


# -- keep


def kept(store: Store, **more: Any) -> Records[Plan]:
    rules = {"lifecycle": LIFECYCLE, "recovery": PLANS.recovery, "group_by": "session_id", "keep": 3}
    return store.records(RecordType("plans", Plan, **{**rules, **more}))


def test_each_group_keeps_its_newest(store: Store) -> None:
    plans = kept(store)
    for number in range(7):
        for group in ("s", "t", None):
            plans.create(f"{number}{group}", session_id=group)
            assert plans.count(session_id=group) == min(number + 1, 3)
    assert plans.ids() == sorted(f"{number}{group}" for number in (4, 5, 6) for group in ("s", "t", None))
    plans.put(Plan(id="new", session_id="s"))
    assert [plan.id for plan in plans.list(session_id="s")] == ["new", "6s", "5s"]
    plans.put(Plan(id="5s", session_id="s", title="no new one"))
    assert plans.count(session_id="s") == 3


def test_a_refused_addition_costs_nobody_its_place(store: Store) -> None:
    plans = kept(store)
    for name in "abc":
        plans.create(name)
    with pytest.raises(AlreadyExistsError):
        plans.create("b")
    with pytest.raises(ValueError, match="status"):
        plans.create("d", status="odd")
    assert plans.ids() == ["a", "b", "c"]


def test_the_oldest_go_whatever_they_are_called(store: Store) -> None:
    plans = kept(store)
    days = {"c": 3, "a": 5, "b": 4, "d": None}
    for name, day in days.items():
        plans.add(Plan(id=name, created_at=datetime(2025, 1, day, tzinfo=UTC) if day else None))
    assert plans.ids() == ["a", "b", "d"]
    # Equal ones go by name, those without a time first.
    equal = kept(store, order_by="-ended_at")
    for name in ("z", "y", "x"):
        equal.put(Plan(id=name, session_id="e", ended_at=THEN))
    equal.create("none", session_id="e")
    assert sorted(plan.id for plan in equal.list(session_id="e")) == ["none", "y", "z"]
    equal.create("later", session_id="e")
    assert sorted(plan.id for plan in equal.list(session_id="e")) == ["later", "y", "z"]


def test_what_was_touched_meanwhile_is_new_again(store: Store) -> None:
    plans = kept(store, order_by="-updated_at")
    for name in "abcd":
        plans.create(name)
    assert plans.ids() == ["b", "c", "d"]
    plans.change("b", title="touched")
    plans.create("e")
    assert plans.ids() == ["b", "d", "e"]


WORK = Lifecycle(steps={"draft": ("done",), "done": ()})


def test_what_is_in_flight_stays(store: Store) -> None:
    retried = Lifecycle(steps={"draft": ("running",), "running": ("draft",)})
    plans = kept(store, lifecycle=retried, recovery=Recovery("draft", in_flight=("running",)))
    plans.create("a", status="running")
    for name in "bcd":
        plans.create(name)
    assert plans.ids() == ["a", "c", "d"]
    # Its age was known, and now it is at work.
    plans.change("c", status="running")
    for name in "efg":
        plans.create(name)
    assert plans.ids() == ["a", "c", "g"]
    plans.change("a", status="draft")
    plans.create("h")
    assert plans.ids() == ["c", "g", "h"]


def test_records_in_flight_go_when_there_are_too_many_of_them_alone(store: Store) -> None:
    plans = kept(store, lifecycle=WORK, recovery=Recovery("done", in_flight=("draft",)))
    for name in "abcde":
        plans.create(name)
    assert plans.ids() == ["c", "d", "e"]
    plans.change("e", status="done")
    plans.create("f")
    assert plans.ids() == ["c", "d", "f"]


def test_records_that_others_added_count(store: Store, elsewhere_in: Elsewhere) -> None:
    plans = kept(store)
    for name in "abc":
        plans.create(name)
    for name in "xyz":
        elsewhere_in(ref(name), b'{"created_at":"2020-01-01T00:00:00Z"}')
    plans.create("d")
    assert plans.ids() == ["b", "c", "d"]


class State(enum.Enum):
    DRAFT = "draft"
    DONE = "done"


@dataclasses.dataclass
class Draft:
    id: str
    status: State = State.DRAFT


def test_statuses_that_are_members_of_an_enum(store: Store) -> None:
    drafts = store.records(RecordType("drafts", Draft, lifecycle=WORK))
    made = drafts.create("a", status=State.DRAFT)
    assert drafts.change("a", status=State.DONE) == Draft("a", State.DONE) != made
    assert drafts.list(status="done") == drafts.list(status=State.DONE) == [drafts["a"]]
    with pytest.raises(InvalidTransitionError, match="'done' and cannot become 'done'"):
        drafts.change("a", status="done")


class Strict(pydantic.BaseModel, extra="forbid"):
    id: str
    created_at: datetime
    status: str = "draft"


def test_a_model_that_admits_no_fields_but_its_own(store: Store) -> None:
    kind = RecordType(
        "strict",
        Strict,
        lifecycle=Lifecycle({"draft": ("running",), "running": ("done",), "done": ()}),
        recovery=Recovery("done", in_flight=("running",)),
        migrations=[Migration(2, "nothing", dict)],
    )
    records = store.records(kind)
    made = records.create("a")
    assert made.created_at is not None
    assert records.change("a", status="running") == records["a"]
    assert [flight.is_alive for flight in records.in_flight()] == [True]
    with records.edit("a") as record:
        record.status = "done"
    assert (records["a"].status, records.in_flight()) == ("done", [])


def test_what_fsstate_keeps_itself_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="fsstate's own; choose another category"):
        store.records(RecordType("runs", dict))
    with pytest.raises(TypeError, match=r"expected a fsstate\.RecordType"):
        store.records(Strict)  # type: ignore[arg-type]
    session = store.session(store.sessions.create().id)
    with pytest.raises(ValueError, match="fsstate's own"):
        session.records(RecordType("checkpoints", dict, parent="sessions"))


def test_unreadable_files_cost_no_new_record_its_place(store: Store, elsewhere_in: Elsewhere) -> None:
    plans = kept(store)
    for name in "xyz":
        elsewhere_in(ref(name), b"{")
    for name in "abcd":
        assert plans.create(name) == plans[name]
    assert sorted(plan.id for plan in plans.list()) == ["b", "c", "d"]


def test_asking_within_a_group_where_there_are_none(store: Store) -> None:
    flat = store.records(RecordType("flat", dict))
    flat.create("a")
    with pytest.raises(ValueError, match="have no groups"):
        flat.get("a", within="y")


def test_a_recovery_that_fits_no_record_writes_nothing(store: Store, elsewhere_in: Elsewhere) -> None:
    kind = RecordType(
        "sized", Sized, lifecycle=CYCLE_OF_TWO, recovery=Recovery("done", ("draft",), {"size": "not a number"})
    )
    data = b'{"status": "draft"}'
    elsewhere_in(Ref("sized", "a", JSON), data)
    report = store.records(kind).recover()
    assert (report.settled, [type(problem) for problem in report.problems]) == ([], [ValidationError])
    blob = store.backend.read(Ref("sized", "a", JSON))
    assert blob is not None
    assert blob.data == data


CYCLE_OF_TWO = Lifecycle({"draft": ("done",), "done": ()})


@dataclasses.dataclass
class Sized:
    id: str
    status: str = "draft"
    size: int | None = None


# -- lists


@pytest.fixture
def many(plans: Records[Plan]) -> Records[Plan]:
    rows = [("a", "s", 2, "x"), ("b", "s", 1, "x"), ("c", "t", 2, "y"), ("d", None, 3, None)]
    for name, group, size, title in rows:
        plans.create(name, session_id=group, size=size, title=title)
    return plans


def names(found: list[Plan]) -> str:
    return "".join(plan.id for plan in found)


def test_lists(many: Records[Plan]) -> None:
    assert names(many.list()) == "dcba"
    assert names(many.list(order_by="created_at")) == "abcd"
    assert names(many.list(order_by="size")) == "bacd"
    assert names(many.list(order_by="-size")) == "dcab"
    assert names(many.list(order_by="title")) == "abcd"
    assert names(many.list(order_by="-title")) == "cbad"
    assert names(many.list(order_by="id")) == "abcd"
    with pytest.raises(ValueError, match="no such field"):
        many.list(order_by="-nothing")
    assert names(many.list(session_id="s")) == "ba"
    assert names(many.list(session_id=None)) == "d"
    assert names(many.list(size=2, order_by="id")) == "ac"
    assert names(many.list(session_id="s", size=2, title="x", status="draft")) == "a"
    assert names(many.list(id="c")) == "c"
    assert many.list(size=5) == many.list(size="2") == []


def test_pages(many: Records[Plan]) -> None:
    assert many.list(limit=0) == []
    assert names(many.list(limit=2)) == "dc"
    assert names(many.list(limit=2, offset=3)) == "a"
    assert many.list(offset=10**30) == []
    for limit in (10**9, 10**30):
        assert names(many.list(limit=limit, offset=1)) == "cba"
    for limit, offset in ((-1, 0), (1, -1)):
        with pytest.raises(ValueError, match="0 or more"):
            many.list(limit=limit, offset=offset)


def test_first_and_count(many: Records[Plan]) -> None:
    assert (many.count(), len(many), many.count(size=2), many.count(session_id="s")) == (4, 4, 2, 2)
    assert names([many.first() or Plan(), many.first(order_by="size") or Plan()]) == "db"
    assert many.first(session_id="nobody") is None
    assert list(many) == ["a", "b", "c", "d"]


def test_an_undeclared_filter_is_named(many: Records[Plan]) -> None:
    for ask in (many.list, many.count, many.first):
        with pytest.raises(ValueError, match=r"id, session_id, status, title, size.*'words'"):
            ask(words=1)


# -- prune


def test_prune(plans: Records[Plan]) -> None:
    for name in "abc":
        plans.create(name, session_id="s")
    plans.create("r", status="running")
    dry = plans.prune(PrunePolicy(keep=1), dry_run=True)
    assert [pruned.id for pruned in dry.pruned] == ["plans/s/a.json", "plans/s/b.json"]
    assert plans.count() == 4
    assert plans.prune(PrunePolicy(keep=1)).pruned == dry.pruned
    assert plans.ids() == ["c", "r"]


def test_a_pruned_record_takes_no_group_of_its_name_along(plans: Records[Plan]) -> None:
    plans.create("s")
    plans.create("a", session_id="s")
    plans.create("b", session_id="s")
    plans.prune(PrunePolicy(keep=2))
    assert plans.ids() == ["a", "b"]


def test_in_flight_at_birth(store: Store) -> None:
    tasks = store.records(TASKS)
    tasks.create("a")
    assert "held_by" in written(store, "tasks", "a")
    assert [flight.is_alive for flight in tasks.in_flight()] == [True]


def test_migrations_go_with_everything_else(store: Store, elsewhere_in: Elsewhere, kind: Kind) -> None:
    step = Migration(2, "call it title", renamed("name", "title"))
    notes = store.records(declared(kind.model, migrations=(step,), derive=None))
    elsewhere_in(Ref("notes/g", "a", JSON), b'{"name": "x", "extra": 1}')
    assert kind.get(notes["a"], "title") == "x"
    assert notes.count(title="x") == 1
    notes.change("a", status="running")
    on_disk = written(store, "notes/g", "a")
    assert (on_disk["title"], on_disk["extra"], on_disk["schema_version"], "name" in on_disk) == ("x", 1, 2, False)
    assert written(store, "notes/g", "a") == on_disk
    notes.create("b")
    assert written(store, "notes", "b")["schema_version"] == 2
