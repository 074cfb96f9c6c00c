"""What the rules make of a change: alone, and in any sequence of changes by two stores, over memory and files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.backends.base import JSON, Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import InvalidTransitionError, NotFoundError, ValidationError
from fsstate.lifecycle import Lifecycle
from fsstate.options import StoreOptions
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.rules import HOLDER, Moment, apply_rules, check_status, is_in_flight, keep_untold, recovered
from fsstate.store import Store
from fsstate.times import format_time


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    status: str = "draft"
    title: str | None = None
    error: str | None = None
    words: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None


def derived(_before: object, after: dict[str, Any], _now: str) -> None:
    after["words"] = len((after.get("title") or "").split())


STEPS = {"draft": ("running", "paused"), "running": ("paused", "done"), "paused": ("running", "draft"), "done": ()}
STAMPS = {"running": "began_at", "done": "ended_at"}
PLANS = RecordType(
    "plans",
    Plan,
    lifecycle=Lifecycle(steps=STEPS, stamps=STAMPS),
    recovery=Recovery("paused", in_flight=("running", "paused"), fields={"error": "lost", "title": "none"}),
    derive=derived,
)
BARE = RecordType("plans", Plan)
NOW, THEN = "2026-01-02T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z"


def ruled(before: dict[str, Any] | None, after: dict[str, Any], holder: str | None = "me") -> dict[str, Any]:
    after = dict(after)
    apply_rules(PLANS, before, after, Moment(NOW, "x", holder))
    return after


def test_a_new_one() -> None:
    expected = {"status": "draft", "words": 0, "created_at": NOW, "updated_at": NOW}
    assert ruled(None, {}) == expected
    assert ruled(None, {"created_at": THEN})["updated_at"] == THEN
    assert ruled(None, {"created_at": THEN, "updated_at": NOW})["updated_at"] == NOW
    running = ruled(None, {"status": "running"})
    assert (running["began_at"], running[HOLDER]) == (NOW, "me")


def test_a_step() -> None:
    before = {"status": "draft", "updated_at": THEN}
    after = ruled(before, {**before, "status": "running"})
    assert (after["updated_at"], after["began_at"], after[HOLDER]) == (NOW, NOW, "me")
    other = ruled(after, {**after, "status": "paused"}, "you")
    assert (other[HOLDER], other["began_at"]) == ("you", NOW)
    rest = ruled(other, {**other, "status": "draft"})
    assert HOLDER not in rest
    assert ruled(rest, {**rest, "status": "running", "began_at": THEN})["began_at"] == THEN
    with pytest.raises(InvalidTransitionError, match="x"):
        ruled(before, {**before, "status": "done"})


def test_to_stay_is_no_step() -> None:
    before = {"status": "running", HOLDER: "you", "updated_at": THEN}
    after = ruled(before, {**before, "title": "x y"})
    assert (after[HOLDER], after["words"], "began_at" in after) == ("you", 2, False)


def test_what_is_not_told_is_kept() -> None:
    before = {
        "status": "running",
        HOLDER: "you",
        "updated_at": THEN,
        "created_at": THEN,
        "began_at": THEN,
        "title": "x",
    }
    after: dict[str, Any] = {"status": "running", "began_at": None}
    keep_untold(PLANS, before, after, held=True)
    assert after == {key: value for key, value in before.items() if key != "title"}
    stepped: dict[str, Any] = {"status": "done"}
    keep_untold(PLANS, before, stepped, held=True)
    assert stepped == {"status": "done", "created_at": THEN, "updated_at": THEN}
    bare: dict[str, Any] = {}
    keep_untold(BARE, {HOLDER: "x", "created_at": THEN}, bare, held=True)
    assert bare == {"created_at": THEN}


def test_recovered() -> None:
    before = {"status": "running", HOLDER: "you", "title": None, "error": "own"}
    assert recovered(PLANS, before) == {"status": "paused", "title": "none", "error": "own"}
    assert before[HOLDER] == "you"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, False),
        ({"status": "running"}, True),
        ({"status": "running", HOLDER: "x"}, True),
        ({"status": "paused"}, False),
        ({"status": "paused", HOLDER: "x"}, True),
        ({"status": "paused", HOLDER: None}, True),
        ({"status": "done", HOLDER: "x"}, False),
    ],
)
def test_what_is_in_flight(document: dict[str, Any], expected: bool) -> None:
    assert is_in_flight(PLANS, document) is expected
    assert not is_in_flight(BARE, document)


@pytest.mark.parametrize("status", ["odd", "", 5, [], {}, True])
def test_what_is_no_status(status: Any) -> None:
    with pytest.raises(ValidationError, match=r"x: \$\.status"):
        check_status(PLANS, {"status": status}, "x")
    check_status(BARE, {"status": status}, "x")


# -- any sequence of changes


class Act(NamedTuple):
    """What one store does to the one record. None leaves a field out."""

    by: int
    way: str
    status: str | None
    title: str | None

    @property
    def fields(self) -> dict[str, Any]:
        told = {"status": self.status, "title": self.title}
        return {name: value for name, value in told.items() if value is not None}


ACTS = st.builds(
    Act,
    by=st.integers(0, 1),
    way=st.sampled_from(["put", "change", "update", "edit", "by hand"]),
    status=st.sampled_from([None, *STEPS]),
    title=st.sampled_from([None, "x", "x y", "y"]),
)

Fields = dict[str, Any]


def expected(file: Fields | None, act: Act, now: str) -> Fields | None:
    """What the file holds afterwards. None: the act is refused."""
    if act.way == "by hand":
        return {**(file or {}), "extra": now}
    if file is None:
        return (
            None if act.way != "put" else moved({}, {"status": "draft", **act.fields, "created_at": now}, act.by, now)
        )
    was = file.get("status", "draft")
    wanted = act.fields.get("status", "draft" if act.way == "put" else was)
    is_step = was != wanted
    if (is_step and wanted not in STEPS[was]) or (act.way == "change" and act.status == was):
        return None
    after = {**file, **act.fields, "status": wanted}
    if act.way == "put":
        after["title"] = act.title
        if is_step:
            # A step may take back the times of others; a whole record that does not tell them does.
            after.update(dict.fromkeys(STAMPS.values()))
    after["words"] = len((after.get("title") or "").split())
    if plain({**after, HOLDER: None}) == plain({**file, HOLDER: None}):
        return file
    return moved(file, after, act.by, now)


def moved(file: Fields, after: Fields, by: int, now: str) -> Fields:
    status = after["status"]
    after = {**after, "updated_at": now, "words": len((after.get("title") or "").split())}
    if not file or file.get("status", "draft") != status:
        after[HOLDER] = by if status in PLANS.in_flight else None
        if (stamp := STAMPS.get(status)) is not None and after.get(stamp) is None:
            after[stamp] = now
    return after


def plain(file: Fields) -> Fields:
    """Without what says no more than the default does."""
    settled = {"status": "draft", "words": 0} | {key: value for key, value in file.items() if value is not None}
    settled.pop("id", None)
    return settled


class Place:
    """Two stores on one backend, and a clock that stands still."""

    def __init__(self, backend: Any, clock: Callable[[], datetime]) -> None:
        self.backend = backend
        self.stores = [Store.over(backend, StoreOptions(clock=clock)) for _ in range(2)]
        self.plans: list[Records[Plan]] = [store.records(PLANS) for store in self.stores]
        self._holders = {store._shared.ownership.mine(): by for by, store in enumerate(self.stores)}
        self._ref = Ref("plans", "a", JSON)

    def file(self) -> Fields | None:
        blob = self.backend.read(self._ref)
        if blob is None:
            return None
        document: Fields = json.loads(blob.data)
        if HOLDER in document:
            document[HOLDER] = self._holders[document[HOLDER]]
        return document

    def act(self, act: Act, now: str) -> None:
        plans = self.plans[act.by]
        if act.way == "by hand":
            self.backend.change(self._ref, lambda blob: _edited(blob.data if blob else b"{}", now))
        elif act.way == "put":
            plans.put(Plan(id="a", **act.fields))
        elif act.way == "change":
            plans.change("a", **act.fields)
        elif act.way == "update":
            plans.update("a", lambda plan: msgspec.structs.replace(plan, **act.fields))
        else:
            with plans.edit("a") as plan:
                for name, value in act.fields.items():
                    setattr(plan, name, value)


def _edited(data: bytes, now: str) -> bytes:
    return json.dumps({**json.loads(data), "extra": now}).encode()


@given(acts=st.lists(ACTS, max_size=12))
def test_the_file_is_what_the_rules_say(acts: list[Act]) -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        places = [
            Place(MemoryBackend(), lambda: time),
            Place(FileBackend(Path(folder) / "state"), lambda: time),
        ]
        for place in places:
            for store in place.stores:
                stack.callback(store.close)
        file: Fields | None = None
        for act in acts:
            time += timedelta(seconds=1)
            wanted = expected(file, act, format_time(time))
            for place in places:
                before = place.file()
                if wanted is None:
                    with pytest.raises((InvalidTransitionError, NotFoundError)):
                        place.act(act, format_time(time))
                    assert place.file() == before
                else:
                    place.act(act, format_time(time))
                    assert plain(place.file() or {}) == plain(wanted)
            assert places[0].file() == places[1].file()
            file = file if wanted is None else wanted
