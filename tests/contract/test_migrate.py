"""Migrating records: at each read, with each write, and all at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import InvalidValueError, MigrationError, NewerVersionError, NotFoundError, ValidationError
from fsstate.migrations import Migration
from fsstate.record_types import RecordType
from fsstate.records import Records
from fsstate.store import Store
from tests.contract.conftest import Elsewhere
from tests.contract.plans import raw, renamed, written


class Note(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    name: str = ""
    tags: list[str] = []
    size: int = 0
    updated_at: datetime | None = None


def split(document: dict[str, Any]) -> dict[str, Any]:
    words = document.pop("words", "").split()
    return {**document, "tags": words}


FIRST: RecordType[Note] = RecordType("notes", Note)
STEPS = (Migration(2, "call it name", renamed("title", "name")), Migration(3, "split the words", split))
NOTES: RecordType[Note] = RecordType("notes", Note, migrations=STEPS, indexed=("name",))
OLD = b'{"id": "a", "title":"x", "extra": {"n": 1.50}, "words": "p q",  "updated_at": "2025-01-01T00:00:00Z"}\n'


@pytest.fixture
def notes(store: Store) -> Records[Note]:
    return store.records(NOTES)


def ref(name: str) -> Ref:
    return Ref("notes", name, JSON)


def test_reads_migrate_and_write_nothing(store: Store, notes: Records[Note], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(ref("a"), OLD)
    elsewhere_in(ref("b"), b'{"name": "y", "words": "z", "schema_version": 2}')
    assert (notes["a"].name, notes["a"].tags) == ("x", ["p", "q"])
    assert [note.name for note in notes.list(order_by="id")] == ["x", "y"]
    assert notes.count(name="x") == 1
    assert raw(store, "notes", "a") == OLD


def test_a_write_writes_the_present_version(store: Store, notes: Records[Note], elsewhere_in: Elsewhere) -> None:
    acts: list[Callable[[], object]] = [
        lambda: notes.change("a", size=1),
        lambda: notes.update("a", lambda note: msgspec.structs.replace(note, size=1)),
        lambda: notes.put(msgspec.structs.replace(notes["a"], size=1)),
    ]
    for act in acts:
        elsewhere_in(ref("a"), OLD)
        act()
        on_disk = written(store, "notes", "a")
        assert on_disk.pop("updated_at") > "2025-02"
        expected = {"id": "a", "extra": {"n": 1.5}, "name": "x", "tags": ["p", "q"], "size": 1, "schema_version": 3}
        assert on_disk == expected
        assert list(on_disk)[:2] == ["id", "extra"]


def test_migrate(store: Store, notes: Records[Note], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(ref("a"), OLD)
    elsewhere_in(ref("b"), b'{"name": "y", "words": "z", "schema_version": 2}')
    notes.create("c")
    present = raw(store, "notes", "c")
    steps: list[tuple[int, int]] = []
    dry = notes.migrate(dry_run=True)
    assert raw(store, "notes", "a") == OLD
    report = store.migrate(NOTES, progress=lambda done, total: steps.append((done, total)))
    assert report.migrated == dry.migrated
    assert (report.dry_run, dry.dry_run, report.unchanged, report.problems) == (False, True, 1, [])
    told = [(one.name, one.found, one.latest, one.steps) for one in report.migrated]
    assert told == [("a", 1, 3, ("call it name", "split the words")), ("b", 2, 3, ("split the words",))]
    assert report.migrated[0].path == notes.path_of("a")
    assert steps == [(0, 2), (1, 2), (2, 2)]
    on_disk = written(store, "notes", "a")
    assert (on_disk["tags"], on_disk["extra"], on_disk["schema_version"]) == (["p", "q"], {"n": 1.5}, 3)
    # To write it anew is no change of the record.
    assert on_disk["updated_at"] == "2025-01-01T00:00:00Z"
    assert raw(store, "notes", "c") == present
    data = [raw(store, "notes", name) for name in "abc"]
    again = notes.migrate()
    assert (again.migrated, again.unchanged) == ([], 3)
    assert [raw(store, "notes", name) for name in "abc"] == data


def test_what_cannot_be_migrated_is_named_and_stays(store: Store, elsewhere_in: Elsewhere) -> None:
    def picky(document: dict[str, Any]) -> Any:
        document["name"] = "half"
        if (odd := document.get("odd", "")) == "raise":
            raise KeyError("why")
        return {"list": [], "unfit": {"size": "big"}, "unwritable": {"x": object()}}.get(odd)

    kind: RecordType[Note] = RecordType("notes", Note, migrations=(Migration(2, "be picky", picky),))
    bad = {odd: json.dumps({"odd": odd}).encode() for odd in ("raise", "list", "unfit", "unwritable")}
    bad |= {"version": b'{"schema_version": "2"}', "broken": b"{", "array": b"[]"}
    for name, data in {**bad, "fine": b"{}"}.items():
        elsewhere_in(ref(name), data)
    notes = store.records(kind)
    report = notes.migrate()
    assert [one.name for one in report.migrated] == ["fine"]
    assert len(report.problems) == len(bad)
    named = " ".join(map(str, report.problems))
    assert all(notes.path_of(name) in named for name in bad)
    assert "be picky" in named
    assert {name: raw(store, "notes", name) for name in bad} == bad
    with pytest.raises(MigrationError, match="be picky"):
        notes.require("raise")
    with pytest.raises((MigrationError, ValidationError, InvalidValueError)):
        notes.change("unwritable", size=1)
    assert {name: raw(store, "notes", name) for name in bad} == bad
    elsewhere_in(ref("raise"), b'{"odd": "mended"}')
    assert [one.name for one in notes.migrate().migrated] == ["raise"]


def test_a_newer_version_is_refused_before_anything_is_written(store: Store, elsewhere_in: Elsewhere) -> None:
    notes = store.records(NOTES)
    newer = b'{"id": "z", "schema_version": 4, "name": "from tomorrow"}'
    elsewhere_in(ref("a"), OLD)
    elsewhere_in(ref("z"), newer)
    acts: list[Callable[[], object]] = [
        lambda: notes.get("z"),
        lambda: notes.put(Note(id="z")),
        lambda: notes.change("z", size=1),
        lambda: notes.update("z", lambda note: note),
        notes.migrate,
        store.migrate,
    ]
    for act in acts:
        with pytest.raises(NewerVersionError, match=r"notes.*4.*3"):
            act()
    with pytest.raises(NewerVersionError), notes.edit("z"):
        pass
    assert (raw(store, "notes", "a"), raw(store, "notes", "z")) == (OLD, newer)
    assert [note.id for note in notes.list()] == ["a"]
    assert len(notes.problems()) == 1


def test_a_type_without_migrations_refuses_versions_too(store: Store, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(ref("a"), b'{"schema_version": 2}')
    with pytest.raises(NewerVersionError):
        store.records(FIRST).change("a", size=1)


def test_records_of_sessions(store: Store, elsewhere_in: Elsewhere) -> None:
    kind: RecordType[Note] = RecordType("notes", Note, parent="sessions", migrations=STEPS)
    for name in ("s", "t"):
        store.sessions.create(id=name)
    for name in ("s", "t", "gone"):
        elsewhere_in(Ref(f"sessions/{name}/notes", "a", JSON), OLD)
    report = store.migrate(kind)
    assert sorted(one.category for one in report.migrated) == ["sessions/s/notes", "sessions/t/notes"]
    assert report.problems == []
    assert raw(store, "sessions/gone/notes", "a") == OLD
    assert store.session("t").records(kind)["a"].name == "x"


def test_one_that_is_deleted_meanwhile(notes: Records[Note], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(ref("a"), OLD)
    elsewhere_in(ref("b"), OLD)

    def progress(done: int, _total: int) -> None:
        if done == 1:
            elsewhere_in(ref("b"), None)

    report = notes.migrate(progress=progress)
    assert [one.name for one in report.migrated] == ["a"]
    assert report.problems == []
    with pytest.raises(NotFoundError):
        notes.require("b")


def test_one_that_is_changed_meanwhile(notes: Records[Note], elsewhere_in: Elsewhere) -> None:
    elsewhere_in(ref("a"), OLD)
    changed = OLD.replace(b'"x"', b'"new"')
    report = notes.migrate(progress=lambda *_: elsewhere_in(ref("a"), changed))
    assert report.problems == []
    assert notes["a"].name == "new"


def test_nobody_s_change_is_lost(store: Store, elsewhere_in: Elsewhere) -> None:
    count, rounds = 6, 15
    for number in range(count):
        elsewhere_in(ref(str(number)), b'{"title": "x", "words": "p"}')

    def work() -> None:
        other = Store.over(store.backend).records(NOTES)
        for number in list(range(count)) * rounds:
            other.update(str(number), lambda note: msgspec.structs.replace(note, size=note.size + 1))

    def migrate() -> None:
        for _ in range(rounds):
            assert Store.over(store.backend).records(NOTES).migrate().problems == []

    threads = [threading.Thread(target=each) for each in (work, work, migrate, migrate)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes = store.records(NOTES)
    assert {note.size for note in notes.list()} == {2 * rounds}
    assert all(written(store, "notes", name)["schema_version"] == 3 for name in notes.ids())
    assert all((note.name, note.tags) == ("x", ["p"]) for note in notes.list())
