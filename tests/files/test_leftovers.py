"""What programs left that were killed: belongings of nobody, and what was done but would not last yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate import Migration, RecordType, Store
from tests.contract.plans import Plan, renamed
from tests.files.processes import needs_strace, trace

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


AGAIN = """
from fsstate import Store
store = Store(root)
store.collection("warm").put("up", 1)
os.write(2, b"MARK")
{}
os.write(2, b"MARK")
"""


@needs_strace
def test_a_deletion_that_finds_nothing_lasts_in_every_group(root: Path, tmp_path: Path) -> None:
    # Who deleted it may have been killed before that would last.
    with Store(root) as store:
        for group in ("one", "two"):
            store.runs.start("check", session_id=group, id=group)
    code = AGAIN.format('assert not store.runs.delete("gone")')
    lines = trace(code, root, tmp_path, "fsync,fdatasync")
    for folder in ("runs", "runs/one", "runs/two"):
        assert any(f"<{root / folder}>" in line for line in lines), folder


@needs_strace
def test_a_source_that_is_there_already_is_made_to_last(root: Path, tmp_path: Path) -> None:
    # Who added it may have been killed before that would last.
    with Store(root) as store:
        store.sources.add("docs", id="one")
    lines = trace(AGAIN.format('assert store.sources.add("docs").id == "one"'), root, tmp_path, "fsync,fdatasync")
    folder = root / "sources/roots"
    assert any(f"<{folder / 'docs.json'}>" in line for line in lines)
    assert any(f"<{folder}>" in line for line in lines)
