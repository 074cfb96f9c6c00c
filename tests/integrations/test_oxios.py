"""State directories of oxios: every file accounted for, nothing written twice, the directory left as it is."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fsstate import InvalidValueError, NotFoundError, StorageError, Store, StoreOptions
from fsstate.backends.base import Blob, Change, Held, Ref
from fsstate.backends.memory import MemoryBackend
from fsstate.integrations.oxios import import_oxios
from tests.integrations.test_sqlite import files_of, numbers

T = "2025-01-01T00:00:0{}Z"
SESSION: dict[str, Any] = {
    "id": "s1",
    "user_id": "u1",
    "user_messages": [
        {"content": "Hello", "timestamp": T.format(0)},
        {"content": "And?", "timestamp": T.format(4)},
    ],
    "agent_responses": [
        {
            "content": "Hi",
            "session_id": "s1",
            "seed_id": None,
            "phase_reached": "Execute",
            "evaluation_passed": True,
            "timestamp": T.format(2),
            "trajectory_range": {"start": 0, "end": 1},
        }
    ],
    "trajectory_steps": [
        {
            "tool_name": "grep",
            "tool_args": {"q": "x"},
            "output_summary": "…",
            "duration_ms": 12,
            "is_error": False,
            "tool_call_id": "c1",
            "timestamp": T.format(1),
        }
    ],
    "active_seed_id": "seed-1",
    "project_id": "p1",
    "created_at": "2025-01-01T00:00:00.123456789Z",
    "updated_at": T.format(4),
    "metadata": {"mode": "chat", "title": "A talk"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "oxios"


@pytest.fixture
def write(source: Path) -> Callable[..., None]:
    def put(place: str, content: Any) -> None:
        path = source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content, indent=2).encode()
        path.write_bytes(data)

    return put


@pytest.fixture
def whole(write: Callable[..., None], source: Path) -> Path:
    write("sessions/s1.json", SESSION)
    write("agents/a1.json", {"id": "a1", "status": "Running", "tool_calls": [], "cost_usd": 0.25})
    write("evals/report.json", {"score": 1})
    write("evals/report.md", b"\xef\xbb\xbf---\ntitle: x\n---\r\n# Report\r\n")
    write("cron/jobs.json", [{"id": "j1", "schedule": "* * * * *"}])
    write("memory/facts/f1.json", {"id": "f1", "memory_type": "fact"})
    write("sessions/s1/notes.md", b"hm")
    return source


def test_a_directory(store: Store, whole: Path) -> None:
    before = files_of(whole)
    report = import_oxios(store, whole)
    assert report.problems == []
    assert numbers(report) == {
        "sessions": (1, 1, 0, 0),
        "messages": (3, 3, 0, 0),
        "steps": (1, 1, 0, 0),
        "documents": (6, 6, 0, 0),
    }
    agent = store.agents.require("a1")
    assert (agent.status, agent.cost_usd) == ("Running", 0.25)
    assert store.collection("cron")["jobs"] == [{"id": "j1", "schedule": "* * * * *"}]
    assert store.collection("memory/facts").names() == ["f1"]
    assert (Path(store.path) / "evals/report.md").read_bytes() == (whole / "evals/report.md").read_bytes()
    assert store.session("s1").markdown()["notes"].text == "hm"
    written = files_of(Path(store.path))
    again = import_oxios(store, whole)
    assert again.problems == []
    assert (again.total.unchanged, again.total.imported) == (11, 0)
    assert files_of(Path(store.path)) == written
    assert files_of(whole) == before


def test_a_session(store: Store, whole: Path) -> None:
    import_oxios(store, whole)
    session = store.sessions["s1"]
    assert (session.user_id, session.project_id) == ("u1", "p1")
    assert session.created_at == datetime(2025, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert session.metadata == {"mode": "chat", "title": "A talk", "imported": {"from": "oxios", "id": "s1"}}
    assert store.collection("sessions")["s1"]["active_seed_id"] == "seed-1"
    messages = store.session("s1").messages.list()
    assert [(each.role, each.text) for each in messages] == [("user", "Hello"), ("assistant", "Hi"), ("user", "And?")]
    assert messages[1].steps == (0, 1)
    assert messages[1].metadata["phase_reached"] == "Execute"
    (step,) = store.session("s1").steps.list()
    assert (step.tool_name, step.tool_call_id, step.duration_ms) == ("grep", "c1", 12)
    (summary,) = store.sessions.list()
    assert (summary.title, summary.message_count) == ("A talk", 3)


def test_what_holds_nothing_is_passed_over_by_name(store: Store, whole: Path, write: Callable[..., None]) -> None:
    left_over = "agents/a1.json.4711.0b0f7a3e-9d2b-4d7c-8f0a-1f2e3d4c5b6a.tmp"
    write(left_over, b"{")
    write("agent_log.db", b"SQLite format 3\0")
    write(".git/config", b"x")
    report = import_oxios(store, whole)
    assert report.problems == []
    assert [each.place for each in report.passed_over] == [".git", "agent_log.db", left_over]


def test_what_cannot_be_read_is_told_and_stops_nothing(store: Store, whole: Path, write: Callable[..., None]) -> None:
    write("agents/bad.json", b'{"id": 1,}')
    write("agents/latin.md", b"\xe9")
    write("agents/picture.png", b"")
    write("loose.json", {})
    write("sessions/list.json", [1])
    write("sessions/gone/x.json", {})
    (whole / "agents/link.json").symlink_to(whole / "agents/a1.json")
    report = import_oxios(store, whole)
    told = {problem.place: problem.reason for problem in report.problems}
    assert list(told) == [
        "sessions/list.json",
        "agents/bad.json",
        "agents/latin.md",
        "agents/link.json",
        "agents/picture.png",
        "loose.json",
        "sessions/gone/x.json",
    ]
    assert told["agents/bad.json"] == "not imported: line 1, column 9: a trailing comma stands before '}'; remove it"
    assert told["loose.json"] == "not imported: it stands in no category"
    assert numbers(report)["documents"] == (12, 6, 0, 6)
    assert numbers(report)["sessions"] == (2, 1, 0, 1)


def test_parts_of_a_session_that_are_not_what_they_should_be(
    store: Store, whole: Path, write: Callable[..., None]
) -> None:
    odd = {"user_messages": [{"content": "a"}, 5], "trajectory_steps": [{}], "user_id": 7, "created_at": "once"}
    write("sessions/odd.json", {"id": "other", "agent_responses": "none", **odd})
    report = import_oxios(store, whole)
    assert len(report.problems) == 5
    assert numbers(report)["messages"] == (5, 4, 0, 1)
    session = store.sessions["odd"]
    assert session.metadata["oxios"] == {"user_id": 7, "created_at": "once", "id": "other"}
    assert store.collection("sessions")["odd"]["agent_responses"] == "none"
    assert import_oxios(store, whole).total.imported == 0


def test_names_that_no_file_of_a_store_can_have(store: Store, source: Path, write: Callable[..., None]) -> None:
    write("agents/a:b.json", {"n": 1})
    write("who?/x.json", {"n": 2})
    write("sessions/CON.json", SESSION)
    write("notes/a.conflict-2026-11-28T184512Z-1f3a.json", {"n": 3})
    report = import_oxios(store, source)
    assert report.problems == []
    assert store.collection("agents").names() == ["a%3Ab"]
    assert store.collection("who%3F")["x"] == {"n": 2}
    assert store.collection("notes")["a%2Econflict-2026-11-28T184512Z-1f3a"] == {"n": 3}
    assert store.sessions["%43ON"].metadata["oxios"] == {"id": "s1"}


def test_a_document_that_differs_is_told_and_left(store: Store, whole: Path, write: Callable[..., None]) -> None:
    import_oxios(store, whole)
    write("agents/a1.json", {"id": "a1", "status": "Idle"})
    write("evals/report.md", b"new")
    report = import_oxios(store, whole)
    assert [problem.place for problem in report.changed] == ["agents/a1.json", "evals/report.md"]
    assert report.changed[0].reason.endswith("differs in status: changed since, and left as it is")
    assert store.collection("agents")["a1"]["status"] == "Running"


def test_the_store_may_stand_in_the_directory_and_not_be_it(whole: Path, tmp_path: Path) -> None:
    with Store(whole / "fsstate", StoreOptions(durability="process")) as store:
        first = import_oxios(store, whole)
        second = import_oxios(store, whole)
    assert second.total.found == first.total.found == second.total.unchanged
    assert [each.place for each in second.passed_over] == ["fsstate"]
    with Store(whole) as store, pytest.raises(InvalidValueError, match="is the store itself"):
        import_oxios(store, whole)
    with Store(tmp_path / "state") as store, pytest.raises(NotFoundError):
        import_oxios(store, tmp_path / "nowhere")


def test_progress_goes_to_the_end(store: Store, whole: Path) -> None:
    told: list[tuple[int, int]] = []
    import_oxios(store, whole, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(store: Store, whole: Path) -> None:
    (whole / "agents/a1.json").chmod(0)
    (problem,) = import_oxios(store, whole).problems
    assert "Permission denied" in problem.reason


class FullDisk(MemoryBackend):
    """One that has no room."""

    def change(
        self,
        ref: Ref,
        change: Change,
        *,
        held: Held | None = None,
        owner: Ref | None = None,
        timeout: float | None = None,
    ) -> Blob | None:
        raise StorageError("write", self.location(ref), errno.ENOSPC)


def test_a_store_that_cannot_be_written_to_ends_the_import(whole: Path) -> None:
    with Store.over(FullDisk(), path=":memory:") as store, pytest.raises(StorageError, match="write"):
        import_oxios(store, whole)
