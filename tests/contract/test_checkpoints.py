"""A session's checkpoints."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.checkpoints import CHECKPOINTS, Checkpoint, Checkpoints
from fsstate.dynamic_tools import Tool
from fsstate.errors import CorruptRecordError, InvalidValueError, NotFoundError, ValidationError
from fsstate.retention import PrunePolicy
from fsstate.session_config import SessionConfig
from fsstate.store import Store
from tests.contract.conftest import Elsewhere, FakeClock

FOLDER = "sessions/s/checkpoints"


@pytest.fixture
def checkpoints(store: Store) -> Checkpoints:
    store.sessions.create(id="s")
    return store.session("s").checkpoints


def states(checkpoints: Checkpoints, **how: Any) -> list[Any]:
    return [checkpoint.state for checkpoint in checkpoints.list(**how)]


def test_save_load_list_delete(store: Store, checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is checkpoints.load("a") is None
    first = checkpoints.save("a", {"deep": [1, None]})
    assert first.saved_at is not None
    second = checkpoints.save("b", None)
    for each in (checkpoints, Store.over(store.backend).session("s").checkpoints):
        assert each.load("a") == first
        assert each.load() == second
        assert each.list() == [second, first]
        assert (each.names(), each.count(), "a" in each, "c" in each) == (["a", "b"], 2, True, False)
    assert checkpoints.delete("b") is True
    assert checkpoints.delete("b") is False
    assert checkpoints.load() == first


def test_saving_again_replaces_the_state_and_its_time(checkpoints: Checkpoints) -> None:
    checkpoints.save("a", {"x": 1, "deep": {"old": 1}})
    checkpoints.save("b", 2)
    again = checkpoints.save("a", {"deep": {"new": 1}})
    assert checkpoints.load() == again == checkpoints.load("a")
    assert again.state == {"deep": {"new": 1}}
    assert checkpoints.count() == 2
    assert checkpoints.save("a", again.state) != again, "saved later"


@pytest.mark.parametrize("name", ["a/b", "..", "Grüße an alle", "CON", "x" * 300, " ", "a.json", "checkpoints"])
def test_names_are_any_text(store: Store, checkpoints: Checkpoints, name: str) -> None:
    checkpoints.save(name, 1)
    found = Store.over(store.backend).session("s").checkpoints
    assert found.load(name) == found.load() == checkpoints.list()[0]
    assert found.list()[0].name == name
    assert checkpoints.delete(name)


def test_a_checkpoint_needs_a_name(checkpoints: Checkpoints) -> None:
    with pytest.raises(ValueError, match="name"):
        checkpoints.save("", 1)


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (100, 100), (101, 101), (10**9, 105), (None, 105)])
def test_limits(checkpoints: Checkpoints, limit: int | None, count: int) -> None:
    for number in range(105):
        checkpoints.save(f"{number:03}", number)
    assert states(checkpoints) == list(range(104, 4, -1))
    assert states(checkpoints, limit=limit) == list(range(104, 104 - count, -1))
    with pytest.raises(ValueError, match="limit"):
        checkpoints.list(limit=-1)


def test_the_latest_is_the_last_saved_also_when_the_clock_is_set_back(
    store: Store, checkpoints: Checkpoints, clock: FakeClock
) -> None:
    store.sessions.create(id="other")
    before = checkpoints.save("a", "before")
    clock.advance(hours=-1)
    for number in range(3):
        # Each time another handle: the store remembers.
        saved = store.session("s").checkpoints.save(f"later {number}", number)
        assert checkpoints.load() == saved
    assert states(checkpoints) == [2, 1, 0, "before"]
    other = store.session("other").checkpoints.save("a", 1)
    assert other.saved_at is not None
    assert before.saved_at is not None
    assert other.saved_at < before.saved_at, "no other session is drawn along"


def test_those_of_one_time_are_ordered_by_name(checkpoints: Checkpoints) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    for name in "bca":
        assert checkpoints.put(Checkpoint(name=name, state=name, saved_at=then)).saved_at == then
    assert states(checkpoints) == ["c", "b", "a"]
    checkpoints.save("0", "now")
    assert states(checkpoints, limit=2) == ["now", "c"]


def test_other_ways_to_write_keep_the_time(checkpoints: Checkpoints) -> None:
    made = checkpoints.create("a", state=1)
    changed = checkpoints.change("a", state=2)
    assert made.saved_at is not None
    assert changed.saved_at is not None
    assert changed.saved_at > made.saved_at


def test_prune(checkpoints: Checkpoints) -> None:
    for number in range(5):
        checkpoints.save(str(number), number)
    checkpoints.prune(PrunePolicy(keep=2))
    assert states(checkpoints) == [4, 3]


def test_a_session_must_exist(store: Store, checkpoints: Checkpoints) -> None:
    nobody = store.session("nobody").checkpoints
    assert (nobody.load(), nobody.load("a"), nobody.list(), nobody.names(), nobody.count()) == (None, None, [], [], 0)
    with pytest.raises(NotFoundError, match="nobody"):
        nobody.save("a", 1)
    checkpoints.save("a", 1)
    store.sessions.delete("s")
    assert (checkpoints.load(), checkpoints.list(), checkpoints.names()) == (None, [], [])
    with pytest.raises(NotFoundError):
        checkpoints.save("b", 1)
    with pytest.raises(NotFoundError):
        checkpoints.save("a", 1)


def test_an_unreadable_one_hides_no_other(
    checkpoints: Checkpoints, elsewhere_in: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save("a", 1)
    checkpoints.save("b", 2)
    checkpoints.save("c", 3)
    elsewhere_in(Ref(FOLDER, "b", JSON), b'{"name":"b","saved_at":"soon"}')
    elsewhere_in(Ref(FOLDER, "c", JSON), b'{"state":')
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert states(checkpoints) == [1]
        latest = checkpoints.load()
    assert latest is not None
    assert latest.name == "a"
    assert "c.json" in caplog.text
    with pytest.raises(CorruptRecordError):
        checkpoints.load("c")
    with pytest.raises(ValidationError, match="saved_at"):
        checkpoints.load("b")
    assert len(checkpoints.problems()) == 2
    with pytest.raises(CorruptRecordError):
        checkpoints.save("c", 4)
    assert checkpoints.delete("c")
    assert checkpoints.save("c", 4) == checkpoints.load()


def test_files_of_other_hands(store: Store, checkpoints: Checkpoints, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref(FOLDER, "by hand", JSON), b'{"state":[1],"note":"mine"}')
    assert checkpoints.load("by hand") == Checkpoint(name="by hand", state=[1])
    checkpoints.save("by hand", [2])
    document = store.session("s").collection("checkpoints").require("by hand")
    assert (document["state"], document["note"]) == ([2], "mine")


def test_what_json_cannot_hold(checkpoints: Checkpoints) -> None:
    for state in (float("nan"), {"deep": object()}):
        with pytest.raises(InvalidValueError):
            checkpoints.save("a", state)
    assert checkpoints.names() == []


def test_what_was_got_may_be_changed(checkpoints: Checkpoints) -> None:
    state = {"deep": [1]}
    checkpoints.save("a", state).state["deep"].append(2)
    state["deep"].append(3)
    found = checkpoints.load("a")
    assert found is not None
    assert found.state == {"deep": [1]}


def test_nothing_clashes_with_plain_views(store: Store, checkpoints: Checkpoints) -> None:
    one = store.session("s")
    checkpoints.save("a", 1)
    one.journal("checkpoints").append("note")
    one.markdown("checkpoints").put("a", "text")
    assert one.records(CHECKPOINTS).require("a") == checkpoints.load()
    assert one.journal("checkpoints").count() == 1
    assert checkpoints.names() == ["a"]


def test_deleting_a_session_deletes_all_of_it(store: Store, checkpoints: Checkpoints) -> None:
    one = store.session("s")
    checkpoints.save("a", 1)
    one.goal.set("be done")
    one.tools.replace([Tool(name="a")])
    one.config.put(SessionConfig())
    assert one.collection().names() == ["config", "goal", "tools"]
    store.sessions.delete("s")
    assert store.categories("sessions") == []
    store.sessions.create(id="s")
    assert (one.goal.get(), one.tools.list(), one.config.get(), checkpoints.names()) == (None, [], None, [])


def test_a_migration_of_the_store_looks_at_checkpoints(store: Store, checkpoints: Checkpoints) -> None:
    checkpoints.save("a", 1)
    assert store.migrate(CHECKPOINTS, dry_run=True).problems == []
    assert store.recover(CHECKPOINTS).problems == []
