"""What a crash left of a deletion, a folder without its document, belongs to nobody and goes with the next try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate import Migration, RecordType, Store
from tests.contract.plans import Plan, renamed

CARDS = RecordType("cards", Plan, parent="sessions", migrations=(Migration(2, "rename", renamed("name", "title")),))


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root, types=(CARDS,)) as store:
        yield store


@pytest.fixture
def left(store: Store, root: Path) -> Path:
    """A session, a run of a workflow and a source, deleted as far as the moment after the commit point."""
    store.sessions.create(id="one")
    store.session("one").collection("cards").create("c", {"name": "x"})
    store.workflows.start("build", "all", id="one")
    store.workflow("one").leaves.create("leaf", leaf_id="l", task_id="t")
    store.sources.add("one", id="one")
    store.sources.replace_files("one", [])
    store.close()
    for folder in ("sessions", "workflows", "sources/roots"):
        (root / folder / "one.json").unlink()
    return root


def test_what_belongs_to_nobody_is_not_in_flight_and_not_migrated(left: Path) -> None:
    with Store(left, types=(CARDS,)) as store:
        assert store.in_flight() == []
        assert store.recover().settled == []
        assert store.migrate(dry_run=True).migrated == store.migrate().migrated == []


def test_what_belongs_to_nobody_stops_no_migration(left: Path) -> None:
    card = left / "sessions/one/cards/c.json"
    card.write_text('{"schema_version": 9}')
    with Store(left, types=(CARDS,)) as store:
        assert store.migrate().migrated == []


def test_deleting_once_more_removes_what_was_left(left: Path) -> None:
    with Store(left) as store:
        assert not store.sessions.delete("one")
        assert not store.workflows.delete("one")
        assert not store.sources.remove("one")
    assert [path.name for path in left.rglob("one")] == []
