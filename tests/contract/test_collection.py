"""Collections of JSON documents: what every method promises, over memory and files."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fsstate import codec
from fsstate.backends.base import JSON, Backend, Ref, Unknown
from fsstate.collection import Collection
from fsstate.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptRecordError,
    InvalidNameError,
    InvalidValueError,
    LockTimeoutError,
    NotFoundError,
)
from tests.contract.blocking import Blocking
from tests.contract.conftest import Background, Elsewhere, View

PLANNER = Ref("agents", "planner", JSON)


@pytest.fixture
def agents(backend: Backend, view: View) -> Collection[Any]:
    return view(Collection(backend, "agents"))  # type: ignore[no-any-return]


def file_of(backend: Backend, ref: Ref = PLANNER) -> str:
    blob = backend.read(ref)
    assert blob is not None
    return blob.data.decode()


class TestReading:
    def test_what_is_absent(self, agents: Collection[Any]) -> None:
        assert agents.get("planner") is None
        assert agents.record("planner") is None
        assert agents.revision("planner") is None
        assert "planner" not in agents
        assert agents.names() == []
        assert len(agents) == 0
        for read in (agents.__getitem__, agents.require):
            with pytest.raises(NotFoundError) as caught:
                read("planner")
            assert caught.value.where == agents.path_of("planner")

    def test_what_is_there(self, agents: Collection[Any]) -> None:
        revision = agents.put("planner", {"model": "m1"})
        assert agents.get("planner") == agents["planner"] == agents.require("planner") == {"model": "m1"}
        assert agents.record("planner") == ("planner", {"model": "m1"}, revision)
        assert agents.revision("planner") == revision
        assert "planner" in agents
        assert list(agents) == agents.names() == ["planner"]
        assert agents.count() == 1

    def test_peek_knows_or_says_that_it_does_not(self, agents: Collection[Any]) -> None:
        assert agents.peek("planner") is None or isinstance(agents.peek("planner"), Unknown)
        agents.put("planner", {"n": 1})
        found = agents.peek("planner")
        assert found == {"n": 1} or isinstance(found, Unknown)

    def test_values_are_the_readers_own(self, agents: Collection[Any]) -> None:
        value: dict[str, Any] = {"steps": [1]}
        agents.put("planner", value)
        value["steps"].append(2)
        agents["planner"]["steps"].append(3)
        assert agents["planner"] == {"steps": [1]}

    @pytest.mark.parametrize("value", [None, True, 0, 1.5, "text", [], [1, {"a": None}], {}, 2**70, {"a": -(2**90)}])
    def test_any_json_value(self, agents: Collection[Any], value: object) -> None:
        agents.put("planner", value)
        assert agents["planner"] == value
        assert "planner" in agents

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0", " a", "a.", "CON", "x" * 300])
    def test_names_that_cannot_be(self, agents: Collection[Any], name: str) -> None:
        for use in (
            lambda: agents.get(name),
            lambda: agents.delete(name),
            lambda: agents.put(name, 1),
            lambda: name in agents,
        ):
            with pytest.raises(InvalidNameError):
                use()

    def test_a_category_that_cannot_be(self, backend: Backend) -> None:
        for category in ("", "/a", "a//b", "../a", ".fsstate", "a.json"):
            with pytest.raises(InvalidNameError):
                Collection(backend, category)

    def test_path_of(self, agents: Collection[Any], backend: Backend) -> None:
        assert agents.path_of("planner") == backend.location(PLANNER)


class TestPut:
    def test_the_form_on_disk(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"name": "Zoë", "n": 1, "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)})
        assert file_of(backend) == '{\n  "name": "Zoë",\n  "n": 1,\n  "at": "2026-01-02T03:04:05.000000Z"\n}\n'

    def test_it_replaces_and_keeps_the_order_of_keys(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"b": 1, "a": {"y": 1, "x": 2}, "gone": 1})
        agents.put("planner", {"new": 0, "a": {"x": 3, "z": 1, "y": 1}, "b": 1})
        assert list(agents["planner"]) == ["b", "a", "new"]
        assert agents["planner"] == {"b": 1, "a": {"y": 1, "x": 3, "z": 1}, "new": 0}
        assert list(agents["planner"]["a"]) == ["y", "x", "z"]
        assert '"gone"' not in file_of(backend)

    @pytest.mark.parametrize(
        "data",
        [
            b'{"a":1,"b":[1,2]}',
            b'\xef\xbb\xbf{\r\n\t"b": [1, 2],\r\n\t"a": 1\r\n}\r\n',
            b'{\n    "a": 1,\n    "b": [\n        1,\n        2\n    ]\n}',
        ],
    )
    def test_an_unchanged_save_writes_nothing(
        self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere, data: bytes
    ) -> None:
        elsewhere(PLANNER, data)
        revision = agents.revision("planner")
        assert agents.put("planner", {"a": 1, "b": [1, 2]}) == revision
        agents.update("planner", lambda _: None)
        with agents.edit("planner"):
            pass
        assert file_of(backend).encode() == data

    def test_numbers_of_another_type_are_a_change(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"a": 1, "b": True})
        agents.put("planner", {"a": 1.0, "b": 1})
        assert file_of(backend) == '{\n  "a": 1.0,\n  "b": 1\n}\n'

    def test_expect(self, agents: Collection[Any]) -> None:
        first = agents.put("planner", {"n": 1})
        second = agents.put("planner", {"n": 2}, expect=first)
        with pytest.raises(ConflictError) as caught:
            agents.put("planner", {"n": 3}, expect=first)
        error = caught.value
        assert (error.mine, error.theirs, error.revision) == ({"n": 3}, {"n": 2}, second)
        assert agents["planner"] == {"n": 2}

    def test_expect_of_what_was_deleted(self, agents: Collection[Any]) -> None:
        first = agents.put("planner", {"n": 1})
        agents.delete("planner")
        with pytest.raises(ConflictError) as caught:
            agents.put("planner", {"n": 2}, expect=first)
        assert (caught.value.theirs, caught.value.revision) == (None, None)
        assert "planner" not in agents

    @pytest.mark.parametrize("value", [{"a": float("nan")}, {1: 2}, {"a": {1}}, {"a": b""}, {"a": "\ud800"}, object()])
    def test_what_cannot_be_stored(self, agents: Collection[Any], value: object) -> None:
        agents.put("planner", {"a": 1})
        for write in (
            lambda: agents.put("planner", value),
            lambda: agents.create("other", value),
            lambda: agents.update("planner", lambda _: value),
            lambda: agents.put_many({"x": 1, "planner": value}),
        ):
            with pytest.raises(InvalidValueError):
                write()
        assert agents["planner"] == {"a": 1}
        assert agents.names() == ["planner"]

    def test_a_value_that_contains_itself(self, agents: Collection[Any]) -> None:
        value: dict[str, Any] = {}
        value["self"] = value
        agents.put("planner", {"self": {"self": {}}})
        for write in (lambda: agents.put("planner", value), lambda: agents.update("planner", lambda _: value)):
            with pytest.raises(InvalidValueError):
                write()

    def test_a_document_that_cannot_be_read_is_not_destroyed(
        self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere
    ) -> None:
        elsewhere(PLANNER, b'{"a": 1,}')
        with pytest.raises(CorruptRecordError):
            agents.put("planner", {"a": 2})
        assert file_of(backend) == '{"a": 1,}'
        assert agents.delete("planner")

    def test_create(self, agents: Collection[Any]) -> None:
        revision = agents.create("planner", {"n": 1})
        assert agents.revision("planner") == revision
        with pytest.raises(AlreadyExistsError):
            agents.create("planner", {"n": 2})
        assert agents["planner"] == {"n": 1}


class TestUpdate:
    def test_a_new_value(self, agents: Collection[Any]) -> None:
        agents.put("planner", {"n": 1})
        assert agents.update("planner", lambda doc: {**doc, "n": doc["n"] + 1}) == {"n": 2}
        assert agents["planner"] == {"n": 2}

    def test_a_change_in_place(self, agents: Collection[Any]) -> None:
        agents.put("planner", {"n": 1})
        assert agents.update("planner", lambda doc: doc.update(n=5)) == {"n": 5}
        assert agents["planner"] == {"n": 5}

    def test_what_is_absent(self, agents: Collection[Any]) -> None:
        with pytest.raises(NotFoundError):
            agents.update("planner", lambda doc: doc)
        default: dict[str, Any] = {"steps": []}
        for _ in range(2):
            agents.update("planner", lambda doc: doc["steps"].append(1), default=default)
        assert agents["planner"] == {"steps": [1, 1]}
        assert default == {"steps": []}

    def test_none_is_a_default(self, agents: Collection[Any]) -> None:
        assert agents.update("planner", lambda doc: [doc], default=None) == [None]

    def test_an_exception_writes_nothing(self, agents: Collection[Any]) -> None:
        agents.put("planner", {"n": 1})

        def fail(doc: dict[str, Any]) -> None:
            doc["n"] = 2
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            agents.update("planner", fail)
        assert agents["planner"] == {"n": 1}

    def test_it_runs_again_on_what_an_editor_saved(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        agents.put("planner", {"n": 1})
        seen: list[int] = []

        def fn(doc: dict[str, Any]) -> None:
            seen.append(doc["n"])
            if len(seen) == 1:
                elsewhere(PLANNER, b'{"n": 10, "theirs": true}')
            doc["n"] += 1

        agents.update("planner", fn)
        assert seen == [1, 10]
        assert agents["planner"] == {"n": 11, "theirs": True}

    def test_no_update_is_lost_between_threads(self, agents: Collection[Any]) -> None:
        agents.put("planner", {"n": 0})

        def work() -> None:
            for _ in range(25):
                agents.update("planner", lambda doc: doc.update(n=doc["n"] + 1))

        for thread in [Background(work) for _ in range(4)]:
            thread.result()
        assert agents["planner"] == {"n": 100}


class TestEdit:
    def test_a_change_in_place(self, agents: Collection[Any]) -> None:
        agents.put("planner", {"n": 1})
        with agents.edit("planner") as doc:
            doc["n"] += 1
        assert agents["planner"] == {"n": 2}

    def test_the_lock_is_held_and_given_back(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"n": 1})
        with agents.edit("planner"):
            assert backend.is_locked(PLANNER)
        assert not backend.is_locked(PLANNER)

    def test_an_exception_writes_nothing_and_gives_the_lock_back(
        self, agents: Collection[Any], backend: Backend
    ) -> None:
        agents.put("planner", {"n": 1})
        with pytest.raises(ZeroDivisionError), agents.edit("planner") as doc:
            doc["n"] = 1 // 0
        assert agents["planner"] == {"n": 1}
        assert not backend.is_locked(PLANNER)

    def test_what_is_absent(self, agents: Collection[Any], backend: Backend) -> None:
        with pytest.raises(NotFoundError), agents.edit("planner"):
            pass
        assert not backend.is_locked(PLANNER)
        with agents.edit("planner", default={"n": 1}):
            pass
        assert agents["planner"] == {"n": 1}

    def test_what_cannot_be_read(self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(PLANNER, b"{")
        with pytest.raises(CorruptRecordError), agents.edit("planner"):
            pass
        assert not backend.is_locked(PLANNER)

    def test_what_cannot_be_stored(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"n": 1})
        with pytest.raises(InvalidValueError), agents.edit("planner") as doc:
            doc["n"] = {1}
        assert not backend.is_locked(PLANNER)

    def test_writing_to_the_document_from_inside_fails_at_once(self, agents: Collection[Any]) -> None:
        if isinstance(agents, Blocking):
            pytest.skip("here each call is a task of its own; tests/aio has this for one task")
        agents.put("planner", {"n": 1})
        with agents.edit("planner") as doc:
            with pytest.raises(LockTimeoutError, match="this thread"):
                agents.put("planner", {"n": 2})
            doc["n"] = 3
        assert agents["planner"] == {"n": 3}

    def test_both_changes_are_kept_when_they_do_not_meet(
        self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere
    ) -> None:
        agents.put("planner", {"a": 1, "b": 1, "steps": [{"id": 1, "done": False}]})
        with agents.edit("planner") as doc:
            doc["a"] = 2
            doc["steps"].append({"id": 3})
            doc["new"] = True
            elsewhere(PLANNER, b'{"b": 2, "a": 1, "steps": [{"id": 1, "done": true}, {"id": 2}], "note": "by hand"}')
        value = agents["planner"]
        assert value == {
            "b": 2,
            "a": 2,
            "steps": [{"id": 1, "done": True}, {"id": 2}, {"id": 3}],
            "note": "by hand",
            "new": True,
        }
        assert list(value) == ["b", "a", "steps", "note", "new"]

    def test_changes_that_meet_are_a_conflict(
        self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere
    ) -> None:
        agents.put("planner", {"a": {"x": 1}, "b": 1})
        editing = agents.open_edit("planner")
        editing.value["a"]["x"] = 2
        elsewhere(PLANNER, b'{"a": {"x": 3}, "b": 1}')
        with pytest.raises(ConflictError) as caught:
            editing.commit()
        error = caught.value
        assert error.where == agents.path_of("planner")
        assert error.base == {"a": {"x": 1}, "b": 1}
        assert error.mine == {"a": {"x": 2}, "b": 1}
        assert error.theirs == {"a": {"x": 3}, "b": 1}
        assert error.revision == agents.revision("planner")
        assert error.fields == ("$.a.x",)
        assert agents["planner"] == error.theirs
        assert not backend.is_locked(PLANNER)

    def test_their_layout_stays_when_i_changed_nothing(
        self, agents: Collection[Any], backend: Backend, elsewhere: Elsewhere
    ) -> None:
        agents.put("planner", {"a": 1})
        with agents.edit("planner"):
            elsewhere(PLANNER, b'{"a": 2}')
        assert file_of(backend) == '{"a": 2}'

    def test_a_time_that_was_not_changed_is_no_change(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        agents.put("planner", {"at": datetime(2026, 1, 1, tzinfo=UTC), "n": 1})
        with agents.edit("planner") as doc:
            doc["at"] = datetime(2026, 1, 1, tzinfo=UTC)
            doc["n"] = 2
            elsewhere(PLANNER, b'{"at": "2027-01-01T00:00:00.000000Z", "n": 1}')
        assert agents["planner"] == {"at": "2027-01-01T00:00:00.000000Z", "n": 2}

    def test_deleted_meanwhile(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        agents.put("planner", {"a": 1})
        editing = agents.open_edit("planner")
        editing.value["a"] = 2
        elsewhere(PLANNER, None)
        with pytest.raises(ConflictError) as caught:
            editing.commit()
        assert (caught.value.mine, caught.value.theirs, caught.value.revision) == ({"a": 2}, None, None)
        assert "planner" not in agents

    def test_deleted_meanwhile_and_nothing_changed_here(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        agents.put("planner", {"a": 1})
        with agents.edit("planner"):
            elsewhere(PLANNER, None)
        assert "planner" not in agents

    def test_created_on_both_sides(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        with agents.edit("planner", default={"mine": 1}):
            elsewhere(PLANNER, b'{"theirs": 2}')
        assert agents["planner"] == {"theirs": 2, "mine": 1}
        with pytest.raises(ConflictError), agents.edit("coder", default={"n": 1}):
            elsewhere(Ref("agents", "coder", JSON), b'{"n": 2}')

    def test_created_on_both_sides_as_something_else(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        with pytest.raises(ConflictError), agents.edit("planner", default=[1]):
            elsewhere(PLANNER, b"[2]")
        with agents.edit("coder", default=[1]):
            elsewhere(Ref("agents", "coder", JSON), b"[1]")

    def test_in_steps(self, agents: Collection[Any], backend: Backend) -> None:
        agents.put("planner", {"n": 1})
        editing = agents.open_edit("planner")
        with pytest.raises(LockTimeoutError):
            agents.open_edit("planner", timeout=0)
        editing.value = {"n": 2}
        assert Background(editing.commit).result() == agents.revision("planner")
        editing.abandon()
        assert agents["planner"] == {"n": 2}
        other = agents.open_edit("planner", timeout=0)
        other.value["n"] = 3
        other.abandon()
        assert agents["planner"] == {"n": 2}
        assert not backend.is_locked(PLANNER)


class TestDelete:
    def test_it_says_whether_there_was_something(self, agents: Collection[Any]) -> None:
        agents.put("planner", 1)
        assert agents.delete("planner") is True
        assert agents.delete("planner") is False
        assert "planner" not in agents

    def test_expect(self, agents: Collection[Any]) -> None:
        first = agents.put("planner", {"n": 1})
        second = agents.put("planner", {"n": 2})
        with pytest.raises(ConflictError) as caught:
            agents.delete("planner", expect=first)
        assert (caught.value.theirs, caught.value.revision) == ({"n": 2}, second)
        assert agents.delete("planner", expect=second)
        with pytest.raises(ConflictError):
            agents.delete("planner", expect=second)


class TestMany:
    def test_put_many(self, agents: Collection[Any]) -> None:
        agents.put("b", {"old": 1})
        revisions = agents.put_many({"b": {"n": 2}, "a": {"n": 1}})
        assert revisions == {"b": agents.revision("b"), "a": agents.revision("a")}
        assert (agents["a"], agents["b"]) == ({"n": 1}, {"n": 2})
        assert agents.put_many({}) == {}

    def test_one_that_fails_is_told_and_the_others_are_saved(
        self, agents: Collection[Any], elsewhere: Elsewhere
    ) -> None:
        elsewhere(Ref("agents", "bad", JSON), b"{")
        with pytest.raises(CorruptRecordError) as caught:
            agents.put_many({"a": 1, "bad": 2, "c": 3})
        assert caught.value.__notes__ == ["1 of 3 documents failed; the others were written"]
        assert (agents["a"], agents["c"]) == (1, 3)

    def test_delete_many(self, agents: Collection[Any]) -> None:
        agents.put_many({"a": 1, "b": 2, "c": 3})
        assert agents.delete_many(["a", "c", "never"]) == 2
        assert agents.names() == ["b"]
        assert agents.delete_many([]) == 0

    def test_changes_for_the_backend(self, agents: Collection[Any], backend: Backend) -> None:
        value = {"n": [1]}
        changes = [agents.put_change("a", value), agents.create_change("b", value)]
        value["n"].append(2)
        outcomes = backend.change_many(changes)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes)
        assert (agents["a"], agents["b"]) == ({"n": [1]}, {"n": [1]})
        again = backend.change_many([agents.create_change("b", 1), agents.put_change("a", 1, expect="0" * 40)])
        assert [type(outcome) for outcome in again] == [AlreadyExistsError, ConflictError]
        assert agents.ref_of("planner") == PLANNER


class TestListing:
    @pytest.fixture
    def bad(self, agents: Collection[Any], elsewhere: Elsewhere) -> Collection[Any]:
        agents.put_many({"a": {"n": 1}, "c": {"n": 3}})
        elsewhere(Ref("agents", "b", JSON), b'{\n  "n": 2,\n}\n')
        return agents

    def test_a_bad_document_hides_no_other(self, bad: Collection[Any], caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "fsstate"):
            assert list(bad.items()) == [("a", {"n": 1}), ("c", {"n": 3})]
        assert len(caplog.records) == 1
        assert bad.path_of("b") in caplog.text
        assert bad.names() == ["a", "b", "c"]
        assert "b" in bad

    def test_one_that_is_nested_too_deeply_hides_no_other(self, agents: Collection[Any], elsewhere: Elsewhere) -> None:
        agents.put("good", {"n": 1})
        for name, levels in (("deep", 400), ("deeper", 900)):
            elsewhere(agents.ref_of(name), b'{"n": ' + b"[" * levels + b"]" * levels + b"}")
        assert [item.name for item in agents.query({"n": 1}, order_by="n")] == ["good"]
        assert [("254 levels" in str(problem)) for problem in agents.problems()] == [True, True]
        with pytest.raises(CorruptRecordError, match="254 levels"):
            agents.update("deep", lambda value: value)

    def test_problems(self, bad: Collection[Any]) -> None:
        (problem,) = bad.problems()
        assert isinstance(problem, CorruptRecordError)
        assert problem.path == bad.path_of("b")
        assert problem.line is not None

    def test_a_name_that_is_refused_is_a_problem(self, bad: Collection[Any], on_disk: Callable[[Ref], Path]) -> None:
        on_disk(PLANNER).with_name("trail..json").write_bytes(b"{}")
        assert bad.names() == ["a", "b", "c"]
        _, problem = bad.problems()
        assert isinstance(problem, CorruptRecordError)
        assert problem.path == str(on_disk(PLANNER).with_name("trail..json"))
        assert "Windows drops" in problem.reason
        assert "rename it, for example to 'trail%2E.json'" in problem.reason

    def test_a_bad_document_raises_when_asked_for(self, bad: Collection[Any]) -> None:
        for read in (bad.get, bad.require, bad.record):
            with pytest.raises(CorruptRecordError):
                read("b")
        with pytest.raises(CorruptRecordError):
            bad.update("b", lambda doc: doc)

    def test_a_symlink_is_a_problem(
        self, agents: Collection[Any], on_disk: Callable[[Ref], Path], tmp_path: Path
    ) -> None:
        agents.put("planner", {"n": 1})
        (tmp_path / "target").write_text("{}")
        on_disk(PLANNER).with_name("link.json").symlink_to(tmp_path / "target")
        assert [item.name for item in agents.items()] == ["planner"]


class TestQuery:
    @pytest.fixture
    def tasks(self, agents: Collection[Any]) -> Collection[Any]:
        agents.put_many(
            {
                "a": {"status": "idle", "n": 2},
                "b": {"status": "busy", "n": 1},
                "c": {"status": "idle", "n": None},
                "d": {"status": "idle", "n": 1, "tag": "x"},
                "e": {"status": "idle"},
                "f": [1],
            }
        )
        return agents

    def names(self, items: list[Any]) -> str:
        return "".join(item.name for item in items)

    def test_all(self, tasks: Collection[Any]) -> None:
        assert self.names(tasks.query()) == "abcdef"
        assert tasks.query()[5].value == [1]

    def test_where(self, tasks: Collection[Any]) -> None:
        assert self.names(tasks.query({"status": "idle"})) == "acde"
        assert self.names(tasks.query({"status": "idle", "n": 1})) == "d"
        assert self.names(tasks.query({"n": None})) == "c"
        assert self.names(tasks.query(lambda doc: "tag" in doc)) == "d"
        assert tasks.query({"status": "gone"}) == []

    def test_order(self, tasks: Collection[Any]) -> None:
        assert self.names(tasks.query(order_by="n")) == "bdacef"
        assert self.names(tasks.query(order_by="-n")) == "abdcef"
        assert self.names(tasks.query(order_by=["status", "-n"])) == "badcef"
        assert self.names(tasks.query(order_by=["-status", "n"])) == "dacebf"

    def test_values_of_all_types_have_an_order(self, agents: Collection[Any]) -> None:
        values: list[Any] = ["text", 3, 2.5, True, [1], {"a": 1}, None, "another", [1]]
        agents.put_many({f"r{index}": {"v": value} for index, value in enumerate(values)})
        assert len(agents.query(order_by="v")) == len(values)
        assert [item.value["v"] for item in agents.query(order_by="v")][-1] is None
        assert [item.value["v"] for item in agents.query(order_by="-v")][-1] is None

    def test_pages(self, tasks: Collection[Any]) -> None:
        assert self.names(tasks.query(limit=2)) == "ab"
        assert self.names(tasks.query(limit=2, offset=3)) == "de"
        assert self.names(tasks.query(offset=4)) == "ef"
        assert self.names(tasks.query(order_by="-n", limit=1, offset=1)) == "b"
        assert tasks.query(limit=0) == []
        assert tasks.query(offset=99) == []
        for page in ({"limit": -1}, {"offset": -1}):
            with pytest.raises(ValueError, match="0 or more"):
                tasks.query(**page)  # type: ignore[arg-type]


class TestOwner:
    def test_documents_need_their_owner(self, backend: Backend) -> None:
        owner = Ref("sessions", "s1", JSON)
        goals = Collection(backend, "sessions/s1", owner=owner)
        for write in (
            lambda: goals.put("goal", {"n": 1}),
            lambda: goals.create("goal", {"n": 1}),
            lambda: goals.update("goal", lambda doc: doc, default={}),
            lambda: goals.put_many({"goal": {"n": 1}}),
            lambda: goals.delete("goal"),
        ):
            with pytest.raises(NotFoundError):
                write()
        assert goals.names() == []
        backend.change(owner, lambda _: codec.encode({}))
        goals.put("goal", {"n": 1})
        goals.put_many({"goal": {"n": 2}, "other": {}})
        assert goals.delete_many(["other", "goal"]) == 2

    def test_an_edit_that_outlives_the_owner(self, backend: Backend) -> None:
        owner = Ref("sessions", "s1", JSON)
        backend.change(owner, lambda _: codec.encode({}))
        goals = Collection(backend, "sessions/s1", owner=owner)
        with pytest.raises(NotFoundError), goals.edit("goal", default={"n": 1}):
            backend.delete_with(owner, "sessions/s1", lambda: True)
        assert goals.names() == []
