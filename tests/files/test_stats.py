"""`store.stats()` of what stands on a disk: leftovers, strangers, links, and folders that cannot be read."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fsstate import Store, StoreOptions
from fsstate.stats import StoreStats


def left(stats: StoreStats) -> dict[str, tuple[int, int]]:
    return {each.kind: (each.files, each.bytes) for each in stats.garbage}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def put(path: Path, size: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_leftovers_are_told_by_kind(path: Path) -> None:
    with Store(path) as store:
        store.sessions.create(id="s")
    own = path / ".fsstate"
    put(own / "staging" / "0123456789abcdef" / "0", 100)
    put(own / "locks" / "agents+a.json.lock", 0)
    put(own / "trash" / "2026" / "s.json", 30)
    put(own / "quarantine" / "a.json", 7)
    put(own / "cache" / "index", 5)
    put(own / "cooldowns" / "sessions.json", 50)
    put(own / "mine.txt", 3)
    put(path / "sessions" / "gone" / "messages.jsonl", 50)
    put(path / "sessions" / "gone" / "checkpoints" / "c.json", 5)
    with Store(path) as store:
        stats = store.stats()
    found = left(stats)
    assert found.pop("locks")[0] >= 1
    assert found == {
        "staging": (1, 100),
        "trash": (1, 30),
        "quarantine": (1, 7),
        "cache": (1, 5),
        "cooldowns": (1, 50),
        "other": (1, 3),
        "orphaned": (2, 55),
    }
    assert stats.sessions == 1


def test_what_the_living_stage_is_no_garbage(path: Path) -> None:
    with Store(path) as living:
        living.collection("agents").put("a", {})
        (own,) = (path / ".fsstate" / "staging").iterdir()
        put(own / "half", 100)
        with Store(path) as other:
            assert "staging" not in left(other.stats())
        assert "staging" not in left(living.stats())


def test_files_of_other_kinds_are_told_as_such(path: Path) -> None:
    put(path / "README.txt", 10)
    put(path / "notes" / "picture.png", 20)
    put(path / "notes" / "aux.json", 5)
    put(path / ".git" / "config", 1000)
    put(path / "notes" / ".swp", 4)
    with Store(path) as store:
        stats = store.stats()
    assert {each.category: each.others for each in stats.categories} == {"": (1, 10), "notes": (3, 29)}
    assert stats.bytes == 39


def test_links_are_neither_followed_nor_counted(path: Path, tmp_path: Path) -> None:
    put(tmp_path / "outside" / "a.json", 1000)
    path.mkdir()
    (path / "agents").symlink_to(tmp_path / "outside")
    put(path / "notes" / "a.md", 1)
    (path / "notes" / "b.md").symlink_to(tmp_path / "outside" / "a.json")
    with Store(path) as store:
        assert store.stats().bytes == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_hides_no_other(path: Path) -> None:
    put(path / "agents" / "a.json")
    put(path / "notes" / "a.md")
    (path / "agents").chmod(0)
    try:
        with Store(path) as store:
            stats = store.stats()
    finally:
        (path / "agents").chmod(0o700)
    assert [each.category for each in stats.categories] == ["notes"]
    assert "agents" in str(stats.problems[0])


def test_files_that_may_not_be_read_hide_no_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store:
        for name in ("denied", "mine"):
            store.collection("agents").put(name, {"created_at": "2026-01-01T00:00:00Z"})
            store.journal("audit", name).append("login")
        put(path / ".fsstate" / "staging" / "denied" / "0")
    open_, denied = os.open, ("denied", "denied.json", "denied.jsonl")

    def refusing(name: str, *given: int, dir_fd: int | None = None) -> int:
        if name in denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return open_(name, *given, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    with Store(path) as store:
        stats = store.stats()
    assert sorted(str(problem).split(str(path))[1] for problem in stats.problems) == [
        "/.fsstate/staging/denied: Permission denied",
        "/agents/denied.json: Permission denied",
        "/audit/denied.jsonl: Permission denied",
    ]
    assert {each.category: (each.documents.files, each.logs.files) for each in stats.categories} == {
        "agents": (2, 0),
        "audit": (0, 2),
    }
    assert sum(day.entries for day in stats.growth) == 1


def test_mtimes_tell_nothing(path: Path) -> None:
    options = StoreOptions(clock=lambda: datetime(2026, 3, 3, tzinfo=UTC))
    with Store(path, options) as store:
        store.sessions.create(id="s")
        os.utime(path / "sessions" / "s.json", (0, 0))
        assert store.stats(days=1).growth[0].records == 1


def test_stats_write_nothing(path: Path) -> None:
    put(path / "agents" / "a.json", 1)
    with Store(path) as store:
        store.stats()
    assert [each.name for each in path.iterdir()] == ["agents"]
