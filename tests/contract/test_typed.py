"""Typed collections: dataclasses, TypedDicts, msgspec.Structs and pydantic models, over memory and files."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from fsstate.backends.base import JSON, Backend, Ref
from fsstate.collection import Collection
from fsstate.errors import ConflictError, CorruptRecordError, ValidationError
from tests.contract.conftest import Elsewhere

PLANNER = Ref("agents", "planner", JSON)
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclasses.dataclass
class Data:
    model: str
    n: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)  # pyright: ignore[reportUnknownVariableType]
    at: datetime | None = None


class Struct(msgspec.Struct, omit_defaults=True):
    model: str
    n: int = 0
    tags: list[str] = []
    at: datetime | None = None


class Pydantic(pydantic.BaseModel):
    model: str
    n: int = 0
    tags: list[str] = []
    at: datetime | None = None


class Typed(TypedDict):
    model: str
    n: NotRequired[int]
    tags: NotRequired[list[str]]
    at: NotRequired[datetime | None]


class Kind(NamedTuple):
    """A way to write a model, and how its values are made, read and changed."""

    model: Any
    make: Callable[..., Any]
    get: Callable[[Any, str], Any]
    set: Callable[[Any, str, Any], None]


def get_key(value: dict[str, Any], key: str) -> Any:
    return value.get(key)


def set_key(value: dict[str, Any], key: str, item: Any) -> None:
    value[key] = item


KINDS = {
    "dataclass": Kind(Data, Data, getattr, setattr),
    "struct": Kind(Struct, Struct, getattr, setattr),
    "pydantic": Kind(Pydantic, Pydantic, getattr, setattr),
    "typeddict": Kind(Typed, dict, get_key, set_key),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def agents(backend: Backend, kind: Kind) -> Collection[Any]:
    return Collection(backend, "agents", kind.model)


def file_of(backend: Backend) -> str:
    blob = backend.read(PLANNER)
    assert blob is not None
    return blob.data.decode()


def test_values_come_back_as_they_were(agents: Collection[Any], kind: Kind) -> None:
    value = kind.make(model="m1", n=3, tags=["a"], at=THEN)
    agents.put("planner", value)
    found = agents["planner"]
    assert found == value
    assert type(found) is type(value)
    assert kind.get(found, "at") == THEN


def test_the_form_on_disk(agents: Collection[Any], kind: Kind, backend: Backend) -> None:
    agents.put("planner", kind.make(model="m1", at=THEN))
    assert file_of(backend) == '{\n  "model": "m1",\n  "at": "2026-01-02T03:04:05.000000Z"\n}\n'


def test_unknown_fields_and_the_order_of_keys_survive(
    agents: Collection[Any], kind: Kind, backend: Backend, elsewhere: Elsewhere
) -> None:
    elsewhere(PLANNER, b'{"extra": {"b": 1, "a": 2}, "n": 1, "other": null, "model": "m1"}')
    agents.update("planner", lambda value: kind.set(value, "n", 2))
    assert file_of(backend) == (
        '{\n  "extra": {\n    "b": 1,\n    "a": 2\n  },\n  "n": 2,\n  "other": null,\n  "model": "m1"\n}\n'
    )


def test_put_lays_the_value_over_the_document(
    agents: Collection[Any], kind: Kind, backend: Backend, elsewhere: Elsewhere
) -> None:
    elsewhere(PLANNER, b'{"extra": 1, "n": 1, "model": "m1"}')
    agents.put("planner", kind.make(model="m2", n=1))
    assert file_of(backend) == '{\n  "extra": 1,\n  "n": 1,\n  "model": "m2"\n}\n'


def test_an_unchanged_save_writes_nothing(agents: Collection[Any], backend: Backend, elsewhere: Elsewhere) -> None:
    data = b'{"extra": 1, "at": "2026-01-02T05:04:05+02:00", "model": "m1", "n": 0}'
    elsewhere(PLANNER, data)
    agents.put("planner", agents["planner"])
    agents.update("planner", lambda _: None)
    with agents.edit("planner"):
        pass
    assert file_of(backend).encode() == data


def test_edit_merges_field_by_field(agents: Collection[Any], kind: Kind, elsewhere: Elsewhere) -> None:
    agents.put("planner", kind.make(model="m1", n=1))
    with agents.edit("planner") as value:
        kind.set(value, "n", 2)
        elsewhere(PLANNER, b'{"model": "m2", "n": 1, "extra": true}')
    found = agents["planner"]
    assert (kind.get(found, "model"), kind.get(found, "n")) == ("m2", 2)
    editing = agents.open_edit("planner")
    kind.set(editing.value, "n", 3)
    elsewhere(PLANNER, b'{"model": "m2", "n": 4}')
    with pytest.raises(ConflictError) as caught:
        editing.commit()
    assert caught.value.fields == ("$.n",)


def test_a_document_that_does_not_fit_is_named(
    agents: Collection[Any], kind: Kind, backend: Backend, elsewhere: Elsewhere
) -> None:
    agents.put("coder", kind.make(model="m1"))
    elsewhere(PLANNER, b'{"model": "m1", "n": "many"}')
    with pytest.raises(ValidationError) as caught:
        agents.get("planner")
    assert caught.value.where == agents.path_of("planner")
    assert "n" in caught.value.reason
    assert [item.name for item in agents.items()] == ["coder"]
    assert [type(problem) for problem in agents.problems()] == [ValidationError]
    assert file_of(backend) == '{"model": "m1", "n": "many"}'


def test_a_document_that_cannot_be_read(agents: Collection[Any], elsewhere: Elsewhere) -> None:
    elsewhere(PLANNER, b'{"model": "m1"')
    with pytest.raises(CorruptRecordError):
        agents.get("planner")


def test_what_could_not_be_read_back_is_not_written(agents: Collection[Any], kind: Kind) -> None:
    agents.put("planner", kind.make(model="m1"))
    wrong = agents["planner"]
    kind.set(wrong, "n", "many")
    for write in (lambda: agents.put("planner", wrong), lambda: agents.update("planner", lambda _: wrong)):
        with pytest.raises(ValidationError):
            write()
    assert agents["planner"] == kind.make(model="m1")


def test_two_changes_that_do_not_fit_together_are_not_written(backend: Backend, elsewhere: Elsewhere) -> None:
    class Range(pydantic.BaseModel):
        low: int
        high: int

        @pydantic.model_validator(mode="after")
        def _in_order(self) -> "Range":
            if self.low > self.high:
                raise ValueError("low must not be above high")
            return self

    ranges = Collection(backend, "agents", Range)
    ranges.put("planner", Range(low=1, high=9))
    editing = ranges.open_edit("planner")
    editing.value.low = 5
    elsewhere(PLANNER, b'{"low": 1, "high": 3}')
    with pytest.raises(ValidationError, match="low must not be above high"):
        editing.commit()
    assert ranges["planner"] == Range(low=1, high=3)


def test_values_are_the_readers_own(agents: Collection[Any], kind: Kind) -> None:
    value = kind.make(model="m1", tags=["a"])
    agents.put("planner", value)
    kind.get(value, "tags").append("b")
    kind.get(agents["planner"], "tags").append("c")
    assert kind.get(agents["planner"], "tags") == ["a"]


def test_a_change_for_the_backend_is_a_copy(agents: Collection[Any], kind: Kind, backend: Backend) -> None:
    value = kind.make(model="m1", tags=["a"])
    change = agents.put_change("planner", value)
    kind.get(value, "tags").append("b")
    backend.change_many([change])
    assert kind.get(agents["planner"], "tags") == ["a"]


def test_query_looks_at_the_fields(agents: Collection[Any], kind: Kind) -> None:
    agents.put_many({name: kind.make(model="m", n=n) for name, n in (("a", 2), ("b", 3), ("c", 1))})
    assert [item.name for item in agents.query(order_by="-n")] == ["b", "a", "c"]
    assert [item.name for item in agents.query({"n": 2})] == ["a"]
    assert [item.name for item in agents.query(lambda value: kind.get(value, "n") < 3)] == ["a", "c"]


def test_a_default(agents: Collection[Any], kind: Kind) -> None:
    default = kind.make(model="m1", n=1)
    changed = agents.update("planner", lambda value: kind.set(value, "n", 2), default=default)
    assert kind.get(changed, "n") == 2
    assert kind.get(default, "n") == 1


def test_lists_of_records(backend: Backend) -> None:
    jobs = Collection(backend, "cron", list[Struct])
    jobs.put("jobs", [Struct("m1"), Struct("m2", n=2)])
    jobs.update("jobs", lambda values: values.append(Struct("m3")))
    assert jobs["jobs"] == [Struct("m1"), Struct("m2", n=2), Struct("m3")]
