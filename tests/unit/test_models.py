import copy
import dataclasses
import enum
import typing
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.errors import InvalidValueError, ValidationError
from fsstate.models import Model

WHERE = "agents/planner.json"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_TEXT = "2026-01-31T12:00:00.000000Z"


@dataclasses.dataclass
class Step:
    name: str
    done: bool = False


@dataclasses.dataclass
class Agent:
    name: str
    turns: int = 0
    at: datetime | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    steps: list[Step] = dataclasses.field(default_factory=list)
    price: float = 1.0


class StructStep(msgspec.Struct):
    name: str
    done: bool = False


class StructAgent(msgspec.Struct):
    name: str
    turns: int = 0
    at: datetime | None = None
    tags: list[str] = []
    steps: list[StructStep] = []
    price: float = 1.0


class PydanticStep(pydantic.BaseModel):
    name: str
    done: bool = False


class PydanticAgent(pydantic.BaseModel):
    name: str
    turns: int = 0
    at: datetime | None = None
    tags: list[str] = []
    steps: list[PydanticStep] = []
    price: float = 1.0


class Task(TypedDict):
    name: str
    at: NotRequired[datetime]


STEPS: dict[Any, Any] = {Agent: Step, StructAgent: StructStep, PydanticAgent: PydanticStep}
EVERY_KIND = pytest.mark.parametrize("agent", STEPS)
DOCUMENT = {
    "x": {"kept": 1},
    "name": "planner",
    "steps": [{"name": "one", "note": "kept", "done": False}, {"name": "two"}],
    "at": 1769860800,
    "price": 1,
}


# --- every kind of model ---------------------------------------------------------------------------------------------


@EVERY_KIND
def test_a_document_as_an_object(agent: Any) -> None:
    value = Model.of(agent).load(DOCUMENT, WHERE)
    assert isinstance(value, agent)
    assert (value.name, value.turns, value.at, value.tags) == ("planner", 0, NOON, [])
    assert value.steps == [STEPS[agent](name="one"), STEPS[agent](name="two")]


@EVERY_KIND
def test_no_change_gives_the_document(agent: Any) -> None:
    model = Model.of(agent)
    before = copy.deepcopy(DOCUMENT)
    assert model.dump(model.load(DOCUMENT, WHERE), DOCUMENT) == before
    assert before == DOCUMENT


@EVERY_KIND
def test_only_changes_are_laid_over_the_document(agent: Any) -> None:
    model = Model.of(agent)
    value = model.load(DOCUMENT, WHERE)
    value.steps[0].done = True
    value.steps.append(STEPS[agent](name="three"))
    value.turns = 3
    value.at = NOON.astimezone(timezone(timedelta(hours=5))) + timedelta(seconds=1)
    assert repr(model.dump(value, DOCUMENT)) == repr(
        {
            "x": {"kept": 1},
            "name": "planner",
            "steps": [{"name": "one", "note": "kept", "done": True}, {"name": "two"}, {"name": "three"}],
            "at": "2026-01-31T12:00:01.000000Z",
            "price": 1,
            "turns": 3,
        }
    )


@EVERY_KIND
def test_a_new_document_leaves_defaults_out(agent: Any) -> None:
    model = Model.of(agent)
    assert model.dump(agent(name="a")) == {"name": "a"}
    full = agent(name="a", at=NOON, steps=[STEPS[agent](name="s"), STEPS[agent](name="t", done=True)], tags=["x"])
    document = model.dump(full)
    steps = [{"name": "s"}, {"name": "t", "done": True}]
    assert document == {"name": "a", "at": NOON_TEXT, "tags": ["x"], "steps": steps}
    assert model.load(document, WHERE) == full


@EVERY_KIND
def test_a_field_set_back_to_its_default_stays_in_the_document(agent: Any) -> None:
    model = Model.of(agent)
    document = {"name": "a", "turns": 5, "tags": ["x"]}
    value = model.load(document, WHERE)
    value.turns, value.tags = 0, []
    assert model.dump(value, document) == {"name": "a", "turns": 0, "tags": []}


@EVERY_KIND
@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"name": 1}, r"\$\.name: "),
        ({}, r"\$"),
        ({"name": "a", "steps": [{"name": "s"}, {"name": "s", "done": []}]}, r"\$\.steps\[1\]\.done: "),
        ({"name": "a", "at": "soon"}, r"\$\.at: 'soon' is not a time: expected"),
        ([], r"\$: "),
        (None, r"\$: "),
    ],
)
def test_a_misfit_is_named_with_its_field(agent: Any, document: Any, place: str) -> None:
    with pytest.raises(ValidationError, match=place) as raised:
        Model.of(agent).load(document, WHERE)
    assert raised.value.where == WHERE


@EVERY_KIND
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_what_could_not_be_read_back_is_not_written(agent: Any) -> None:
    value = agent(name="a")
    value.turns = "many"
    with pytest.raises(ValidationError, match=r"\$\.turns"):
        Model.of(agent).dump(value, {"name": "a"}, where=WHERE)


@EVERY_KIND
def test_a_value_of_another_type_is_refused(agent: Any) -> None:
    with pytest.raises(ValidationError):
        Model.of(agent).dump(STEPS[agent](name="s"), where=WHERE)
    with pytest.raises(ValidationError, match="got `dict`"):
        Model.of(agent).dump({"name": "a"}, where=WHERE)


@EVERY_KIND
def test_a_document_that_does_not_fit_can_be_replaced(agent: Any) -> None:
    broken = {"x": 1, "name": [], "turns": "?"}
    assert Model.of(agent).dump(agent(name="a", turns=2), broken) == {"x": 1, "name": "a", "turns": 2}
    assert Model.of(agent).dump(agent(name="a", turns=2), ["?"]) == {"name": "a", "turns": 2}


# --- single kinds ----------------------------------------------------------------------------------------------------


@given(
    st.builds(Agent, st.text(), st.integers(), st.none() | st.datetimes(timezones=st.just(UTC)), st.lists(st.text()))
)
def test_dataclasses_round_trip(value: Agent) -> None:
    model = Model.of(Agent)
    assert model.load(model.dump(value), WHERE) == value
    assert model.load(model.dump(value, DOCUMENT), WHERE) == value


class Loose(msgspec.Struct, omit_defaults=True):
    """A record with room for anything."""

    name: str = ""
    extra: Any = None
    steps: list[StructStep] = []
    kind: Literal["a", "b"] = "a"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
LOOSE = st.builds(
    Loose,
    st.text(max_size=2),
    ANYTHING,
    st.lists(st.builds(StructStep, st.text(max_size=1), st.booleans()), max_size=3),
)


@given(LOOSE, LOOSE, ANYTHING)
def test_a_look_at_what_changed_finds_what_a_look_at_all_does(old: Loose, new: Loose, unknown: Any) -> None:
    model = Model.of(Loose)
    document = {"unknown": unknown, **model.dump(old)}
    before = copy.deepcopy(document)
    assert repr(model.dump(new, document)) == repr(Model.dump(model, new, document))
    assert repr(document) == repr(before)


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, True), (1, 1.0), (0, False), ([1], [True]), ({"a": 1}, {"a": 1.0}), (None, 10**30)],
)
def test_what_python_takes_for_equal_is_a_change(old: Any, new: Any) -> None:
    assert repr(Model.of(Loose).dump(Loose(extra=new), {"extra": old})) == repr({"extra": new})


def test_what_json_cannot_hold_is_no_null() -> None:
    dumped = Model.of(Loose).dump(Loose(extra=float("nan")), {"extra": None})
    assert repr(dumped) == repr({"extra": float("nan")})  # for the codec to refuse


def test_typed_dicts() -> None:
    model = Model.of(Task)
    document = {"x": 1, "at": "2026-01-31 12:00", "name": "a"}
    task = model.load(document, WHERE)
    assert task == {"name": "a", "at": NOON}
    task["name"] = "b"
    assert repr(model.dump(task, document)) == repr({"x": 1, "at": "2026-01-31 12:00", "name": "b"})
    del task["at"]
    assert model.dump(task, document) == {"x": 1, "name": "b"}
    with pytest.raises(ValidationError, match="name"):
        model.load({}, WHERE)


def test_containers_of_records() -> None:
    steps = Model.of(dict[str, Step])
    assert steps.dump({"a": Step("s"), "b": Step("t")}, {"a": {"u": 1, "name": "r"}}) == {
        "a": {"u": 1, "name": "s"},
        "b": {"name": "t"},
    }
    assert steps.load({"a": {"name": "s"}}, WHERE) == {"a": Step("s")}
    assert Model.of(list[Step]).dump([Step("s")], []) == [{"name": "s"}]
    by_number = Model.of(dict[int, Step])
    assert by_number.load(by_number.dump({1: Step("s")}), WHERE) == {1: Step("s")}


@pytest.mark.parametrize("untyped", [None, dict, dict[str, Any], Any], ids=repr)
def test_without_a_model_documents_are_as_they_are(untyped: Any) -> None:
    model: Model[Any] = Model.of(untyped)
    assert model.load(DOCUMENT, WHERE) is DOCUMENT
    assert model.dump(DOCUMENT, {"other": 1}) is DOCUMENT


def test_a_type_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        Model.of(typing.cast("type[Any]", Step | StructStep | Agent))


def test_structs_with_renamed_and_omitted_fields() -> None:
    class Made(msgspec.Struct, rename="camel", omit_defaults=True, tag=True):
        first_name: str
        made_at: datetime
        turns: int = 1

    model = Model.of(Made)
    document = {"firstName": "a", "madeAt": 1769860800, "x": 1}
    made = model.load(document, WHERE)
    assert made.made_at == NOON
    assert model.dump(made, document) == document
    made.made_at += timedelta(hours=1)
    assert model.dump(made, document) == {"firstName": "a", "madeAt": "2026-01-31T13:00:00.000000Z", "x": 1}
    assert model.dump(made) == {"type": "Made", "firstName": "a", "madeAt": "2026-01-31T13:00:00.000000Z"}


def test_unset_fields_stay_away() -> None:
    class Partial(msgspec.Struct):
        a: int | msgspec.UnsetType = msgspec.UNSET

    model = Model.of(Partial)
    assert model.dump(Partial(), {"x": 1}) == {"x": 1}
    assert model.dump(Partial(2), {"x": 1}) == {"x": 1, "a": 2}


def test_values_with_a_json_form_of_their_own() -> None:
    class Level(enum.Enum):
        LOW = "low"

    @dataclasses.dataclass
    class Mixed:
        level: Level
        one: uuid.UUID
        words: set[str]
        pair: tuple[int, str]
        times: list[datetime]

    model = Model.of(Mixed)
    value = Mixed(Level.LOW, uuid.UUID(int=1), {"b", "a", "c"}, (1, "x"), [NOON])
    document = model.dump(value)
    assert document == {
        "level": "low",
        "one": str(uuid.UUID(int=1)),
        "words": ["a", "b", "c"],
        "pair": [1, "x"],
        "times": [NOON_TEXT],
    }
    assert model.load(document, WHERE) == value


def test_a_factory_is_not_called_in_passing() -> None:
    made: list[int] = []

    def count() -> int:
        made.append(len(made))
        return made[-1]

    @dataclasses.dataclass
    class Counted:
        number: int = dataclasses.field(default_factory=count)

    assert Model.of(Counted).dump(Counted()) == {"number": 0}
    assert made == [0]


def test_an_object_without_a_json_form_is_refused() -> None:
    @dataclasses.dataclass
    class Loose:
        anything: Any

    with pytest.raises(InvalidValueError, match="planner"):
        Model.of(Loose).dump(Loose(object()), where=WHERE)


def test_an_unknown_field_that_the_model_forbids() -> None:
    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        a: int

    model = Model.of(Strict)
    with pytest.raises(ValidationError, match="unknown field `x`"):
        model.load({"a": 1, "x": 1}, WHERE)
    assert model.dump(Strict(2), {"a": 1, "x": 1}) == {"a": 2}


# --- pydantic --------------------------------------------------------------------------------------------------------


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 9


class Owner(pydantic.BaseModel):
    pets: list[Cat | Dog] = []
    since: datetime | None = pydantic.Field(default=None, alias="Since")
    log: dict[str, datetime] = {}


def test_defaults_that_tell_models_apart_are_written() -> None:
    model = Model.of(Owner)
    owner = Owner(pets=[Dog()])
    document = model.dump(owner)
    assert document["pets"][0]["kind"] == "dog"
    assert model.load(document, WHERE) == owner


def test_pydantic_aliases_and_times() -> None:
    model = Model.of(Owner)
    owner = model.load({"Since": 1769860800000, "x": 1}, WHERE)
    assert owner.since == NOON
    owner.log["fed"] = NOON
    assert model.dump(owner, {"Since": 1769860800000, "x": 1}) == {
        "Since": 1769860800000,
        "x": 1,
        "log": {"fed": NOON_TEXT},
    }


def test_a_pydantic_validator_has_its_say() -> None:
    class Even(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def must_be_even(cls, n: int) -> int:
            if n % 2:
                raise ValueError("odd")
            return n

    with pytest.raises(ValidationError, match=r"planner.json: \$\.n: Value error, odd"):
        Model.of(Even).load({"n": 1}, WHERE)


def test_a_default_factory_of_a_parametrised_type_is_a_default() -> None:
    @dataclasses.dataclass
    class Tagged:
        tags: list[str] = dataclasses.field(default_factory=list[str])

    assert Model.of(Tagged).dump(Tagged()) == {}
