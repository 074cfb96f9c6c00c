"""Sources: roots, their files, and passes over them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import (
    AlreadyExistsError,
    CorruptRecordError,
    InvalidTransitionError,
    InvalidValueError,
    NotFoundError,
)
from fsstate.sources import SourceFile, Sources
from fsstate.store import Store
from tests.contract.conftest import Background, Elsewhere


@pytest.fixture
def sources(store: Store) -> Sources:
    return store.sources


def file(name: str, status: str = "indexed") -> SourceFile:
    return SourceFile(
        relative_path=name,
        absolute_path=f"/src/{name}",
        fingerprint="f",
        size_bytes=3,
        modified_at=datetime(2026, 1, 1, tzinfo=UTC),
        file_type="text",
        status=status,
    )


def paths(files: list[SourceFile]) -> list[tuple[str, str]]:
    return [(each.source_root_id, each.relative_path) for each in files]


# Roots


def test_a_path_keeps_its_first_root(store: Store, sources: Sources) -> None:
    root = sources.add("/home/ada/src", id="r1", read_only=False)
    assert (root.path, root.id, root.read_only) == ("/home/ada/src", "r1", False)
    assert root.created_at is not None
    assert sources.add("/home/ada/src", id="r2") == root
    assert sources.add(Path("/home/ada/src")) == root
    other = sources.add("/a")
    assert other.read_only
    assert sources.list() == [other, root]
    assert sources.get("/home/ada/src") == root
    assert sources.get("/nowhere") is None
    assert store.collection("sources/roots").names() == ["%2Fa", "%2Fhome%2Fada%2Fsrc"]


def test_an_id_is_one_roots(sources: Sources) -> None:
    sources.add("/a", id="r")
    with pytest.raises(AlreadyExistsError, match="'r'"):
        sources.add("/b", id="r")
    with pytest.raises(InvalidValueError, match="path"):
        sources.add("")
    assert [root.path for root in sources.list()] == ["/a"]


def test_many_at_once_agree_on_the_id(sources: Sources) -> None:
    adders = [Background(lambda: sources.add("/src").id) for _ in range(8)]
    assert {adder.result() for adder in adders} == {sources.list()[0].id}
    assert len(sources.list()) == 1


@pytest.mark.parametrize("path", ["/a/notes.md", "relative", "files", "C:\\src", "/" + "x" * 400, "/é/ü", "..", "."])
def test_any_text_is_a_path(sources: Sources, path: str) -> None:
    root = sources.add(path)
    assert sources.replace_files(root.id, [file("a")]) == 1
    assert sources.get(path) == root
    assert sources.list() == [root]
    assert paths(sources.files()) == [(root.id, "a")]
    assert sources.remove(path) is True
    assert (sources.list(), sources.files()) == ([], [])


# Files


def test_files_are_replaced_as_one(store: Store, sources: Sources) -> None:
    one, two = sources.add("/one", id="1"), sources.add("/two", id="2")
    assert sources.replace_files(two.id, [file("z"), file("b/c", "skipped"), file("a")]) == 3
    assert sources.replace_files(one.id, [file("x", "failed")]) == 1
    assert paths(sources.files()) == [("1", "x"), ("2", "a"), ("2", "b/c"), ("2", "z")]
    assert paths(sources.files(status="indexed")) == [("2", "a"), ("2", "z")]
    assert paths(sources.files("2", status="skipped")) == [("2", "b/c")]
    assert (sources.count_files(), sources.count_files("2"), sources.count_files(status="failed")) == (4, 3, 1)
    again = sources.files("2")[0]
    assert again.modified_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert sources.replace_files("2", [again]) == 1
    assert sources.files("2") == [again]
    assert sources.replace_files("1", []) == 0
    assert sources.count_files() == 1
    document = store.collection("sources/roots/%2Ftwo")["files"]
    assert "source_root_id" not in document["items"][0]


def test_files_of_no_root(sources: Sources) -> None:
    with pytest.raises(NotFoundError, match="add its path first"):
        sources.replace_files("nobody", [])
    assert sources.files("nobody") == []
    assert sources.count_files("nobody") == 0


def test_bad_files_change_nothing(sources: Sources) -> None:
    root = sources.add("/src", id="r")
    sources.replace_files(root.id, [file("a")])
    with pytest.raises(AlreadyExistsError, match="'x'"):
        sources.replace_files(root.id, [file("x"), file("y"), file("x")])
    stray = file("b")
    stray.source_root_id = "other"
    with pytest.raises(InvalidValueError, match="other"):
        sources.replace_files(root.id, [file("c"), stray])
    assert paths(sources.files()) == [("r", "a")]


def test_files_go_with_their_root(store: Store, sources: Sources) -> None:
    root = sources.add("/src")
    sources.replace_files(root.id, [file("a")])
    assert sources.remove("/src") is True
    assert sources.remove("/src") is False
    assert sources.files() == []
    with pytest.raises(NotFoundError):
        sources.replace_files(root.id, [file("b")])
    assert store.categories("sources/roots") == []
    new = sources.add("/src")
    assert new.id != root.id
    assert sources.count_files() == 0


def test_what_a_crash_left_is_not_inherited(sources: Sources, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("sources/roots/%2Fsrc", "files", JSON), b'{"items": [{"relative_path": "left"}]}')
    assert sources.files() == []
    sources.add("/src")
    assert sources.files() == []


def test_unknown_fields_of_files_are_read(sources: Sources, elsewhere_in: Elsewhere) -> None:
    sources.add("/src", id="r")
    data = {"items": [{"relative_path": "a", "status": "indexed", "lines": 5}]}
    elsewhere_in(Ref("sources/roots/%2Fsrc", "files", JSON), json.dumps(data).encode())
    assert paths(sources.files()) == [("r", "a")]


def test_a_bad_file_hides_no_other(sources: Sources, elsewhere_in: Elsewhere) -> None:
    for number in "12":
        sources.add(f"/{number}", id=number)
        sources.replace_files(number, [file("a")])
    elsewhere_in(Ref("sources/roots/%2F1", "files", JSON), b"{")
    elsewhere_in(Ref("sources/roots", "bad", JSON), b"[]")
    elsewhere_in(Ref("sources/ingests", "bad", JSON), b'{"status": 5}')
    assert paths(sources.files()) == [("2", "a")]
    assert sources.status().total_files == 1
    with pytest.raises(CorruptRecordError):
        sources.files("1")
    assert len(sources.problems()) == 3


# Passes


def test_a_pass(sources: Sources) -> None:
    assert sources.status() == (False, 0, 0, [])
    root = sources.add("/src", id="r")
    ingest = sources.start_ingest("everything", root.id)
    assert (ingest.status, ingest.scope, ingest.source_root_id, ingest.file_count) == ("running", "everything", "r", 0)
    assert ingest.started_at is not None
    assert ingest.completed_at is None
    assert sources.status().is_running
    sources.replace_files("r", [file("a"), file("b", "skipped")])
    done = sources.finish_ingest(ingest.id, file_count=2)
    assert (done.status, done.file_count, done.error, done.started_at) == ("complete", 2, None, ingest.started_at)
    assert done.completed_at is not None
    assert sources.status() == (False, 2, 1, [done])


@pytest.mark.parametrize("status", ["complete", "failed", "cancelled", "completed with 3 errors"])
def test_a_pass_ends_once_in_any_word(sources: Sources, status: str) -> None:
    sources.start_ingest("x", id="i")
    done = sources.finish_ingest("i", status, error="e")
    assert (done.status, done.error) == (status, "e")
    assert done.completed_at is not None
    assert sources.ingests.list(status=status) == [done]
    for wanted in ("running", "complete", status, "other"):
        with pytest.raises(InvalidTransitionError, match="final"):
            sources.finish_ingest("i", wanted)
    assert sources.ingests["i"] == done


def test_bad_passes(sources: Sources) -> None:
    sources.start_ingest("x", id="i")
    with pytest.raises(AlreadyExistsError):
        sources.start_ingest("y", id="i")
    with pytest.raises(NotFoundError):
        sources.finish_ingest("nobody")
    with pytest.raises(InvalidTransitionError):
        sources.finish_ingest("i", "running")
    with pytest.raises(InvalidValueError, match="0 or more"):
        sources.finish_ingest("i", file_count=-1)
    with pytest.raises(InvalidValueError, match="no status"):
        sources.finish_ingest("i", "")
    assert sources.ingests["i"].status == "running"


def test_the_newest_twenty(sources: Sources) -> None:
    for number in range(25):
        sources.start_ingest("x", id=f"i{number:02}")
    assert [ingest.id for ingest in sources.status().ingests] == [f"i{number:02}" for number in range(24, 4, -1)]
    assert sources.ingests.list(limit=0) == []
    assert len(sources.ingests.list(limit=10**9)) == 25
    with pytest.raises(ValueError, match="0 or more"):
        sources.ingests.list(limit=-1)


def test_a_pass_whose_program_died(store: Store, sources: Sources, elsewhere_in: Elsewhere) -> None:
    alive = sources.start_ingest("mine")
    dead = b'{"scope": "y", "status": "running", "held_by": "nobody", "started_at": "2026-01-01T00:00:00Z"}'
    elsewhere_in(Ref("sources/ingests", "dead", JSON), dead)
    elsewhere_in(Ref("sources/ingests", "told", JSON), b'{"scope": "y", "status": "running", "error": "disk full"}')
    report = store.recover()
    assert sorted(settled.id for settled in report.settled) == ["dead", "told"]
    assert [flight.id for flight in report.alive] == [alive.id]
    gone = sources.ingests["dead"]
    assert (gone.status, gone.error) == ("failed", "ingest interrupted before completion")
    assert gone.completed_at is not None
    assert sources.ingests["told"].error == "disk full"
    sources.finish_ingest(alive.id)
    assert not sources.status().is_running
