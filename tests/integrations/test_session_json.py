"""A session as one JSON document, and the same session made of it in another store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate import CorruptRecordError, NotFoundError, Store, StoreOptions
from fsstate.backends.base import LOG, Ref
from fsstate.integrations.claude_code import export_transcript, import_transcripts
from fsstate.integrations.session_json import export_session, import_session
from fsstate.journal import Log
from tests.integrations.test_pages import talk

QUICK = StoreOptions(durability="process")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", QUICK) as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other", QUICK) as store:
        yield store


def exported(store: Store, session: str) -> bytes:
    return b"".join(export_session(store.session(session)))


@pytest.fixture
def carried(store: Store, other: Store, tmp_path: Path) -> Callable[[str], Any]:
    """Export a session, import it into the other store, and give the report."""

    def carry(session: str) -> Any:
        path = tmp_path / "session.json"
        path.write_bytes(exported(store, session))
        return import_session(other, path)

    return carry


def test_there_and_back(store: Store, other: Store, carried: Callable[[str], Any]) -> None:
    session = talk(store)
    one = store.session(session)
    one.messages.update("a", metadata={"rated": 1})
    one.messages.set_head("g")
    one.collection("deep/er").put("x", [1, "</details>", 12345678901234567890123])
    log = Ref(f"sessions/{session}/deep", "log", LOG)
    Log(store.backend, log, owner=Ref("sessions", session, ".json")).append([{"a": 1}])
    report = carried(session)
    assert (report.problems, report.changed) == ([], [])
    assert report.total.imported == report.total.found
    assert exported(other, session) == exported(store, session)
    there = other.session(session)
    head = there.messages.head()
    assert head is not None
    assert (head.id, head.status) == ("g", "interrupted")
    assert there.tool_calls.require("t1").completed_at == one.tool_calls.require("t1").completed_at
    again = carried(session)
    assert again.total.unchanged == again.total.found == report.total.found


def test_the_document(store: Store) -> None:
    found = json.loads(exported(store, talk(store)))
    logs = ["messages", "tool_calls", "steps", "events"]
    assert [*found] == ["fsstate", "version", "id", "document", "head", *logs, "documents", "notes", "logs", "problems"]
    assert (found["fsstate"], found["version"], found["id"], found["head"]) == ("session", 1, "s1", "g")
    assert [message["id"] for message in found["messages"]] == [*"abcdefg"]
    assert found["messages"][4]["parent"] == "a"
    assert found["tool_calls"][0]["completed_at"] == "2026-01-31T12:00:02.000000Z"
    assert [*found["documents"]] == ["goal", "checkpoints/first%2Fone", "reviews/r1"]
    assert found["notes"] == {"plan": "# Plan\n```\n"}
    assert found["events"][1]["seq"] == 2
    assert [*found["logs"]] == ["changes"]


def test_an_empty_session(store: Store, other: Store, carried: Callable[[str], Any]) -> None:
    session = store.sessions.create(id="a%2Fb").id
    assert carried(session).problems == []
    assert exported(other, session) == exported(store, session)


def test_public_transcripts(store: Store, other: Store, shared_data: Path, carried: Callable[[str], Any]) -> None:
    for folder in ("claude-code-log", "claude-code-transcripts"):
        import_transcripts(store, shared_data / folder)
    for session in store.sessions:
        assert carried(session).problems == []
        assert exported(other, session) == exported(store, session)
        # What was imported before it was exported can be given back, too.
        assert [*export_transcript(other, session)] == [*export_transcript(store, session)]


def test_naughty_strings(store: Store, other: Store, shared_data: Path, carried: Callable[[str], Any]) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    texts = json.loads((shared_data / "naughty-strings" / "blns.json").read_text("utf-8"))
    for text in texts:
        one.messages.append("user", text, metadata={text: text})
        one.events.append("said", text=text)
    for text in filter(None, texts[:50]):
        one.checkpoints.save(text, {"text": text})
    assert carried("s1").problems == []
    assert exported(other, "s1") == exported(store, "s1")
    assert [message.content for message in other.session("s1").messages.list()] == texts


def test_what_cannot_be_read_is_among_the_problems(store: Store) -> None:
    one = store.session(talk(store))
    Path(one.collection("reviews").path_of("r1")).write_bytes(b"{")
    with open(one.messages.path, "ab") as file:
        file.write(b"not json\n")
    found = json.loads(exported(store, "s1"))
    assert len(found["messages"]) == 7
    assert "reviews/r1" not in found["documents"]
    assert len(found["problems"]) == 2
    assert found["problems"][0].startswith("sessions/s1/messages.jsonl, line 8")


def test_a_message_that_is_being_written_is_interrupted_elsewhere(
    store: Store, other: Store, carried: Callable[[str], Any]
) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    with one.messages.stream("assistant", id="m") as reply:
        reply.write("Hel")
        assert carried("s1").problems == []
    there = other.session("s1").messages.require("m")
    assert (there.content, there.status) == ("Hel", "interrupted")


def test_numbers_that_are_given_anew_are_told(store: Store, carried: Callable[[str], Any]) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    for _ in range(3):
        one.events.append("x")
    one.events.trim(before=3)
    (problem,) = carried("s1").problems
    assert "numbered anew" in problem.reason


def test_another_session_of_that_id_is_left_alone(store: Store, other: Store, carried: Callable[[str], Any]) -> None:
    talk(store)
    other.sessions.create(id="s1", title="Mine")
    before = exported(other, "s1")
    report = carried("s1")
    assert report.total.imported == 0
    assert report.total.failed == report.total.found
    assert exported(other, "s1") == before


def test_what_was_changed_there_is_left_and_named(store: Store, other: Store, carried: Callable[[str], Any]) -> None:
    talk(store)
    carried("s1")
    other.session("s1").markdown().put("plan", "Mine")
    other.session("s1").journal("changes").append("mine")
    report = carried("s1")
    assert [problem.place for problem in report.changed] == ["$.notes.plan"]
    assert [problem.place for problem in report.problems] == ["$.logs.changes"]
    assert other.session("s1").markdown()["plan"].text == "Mine"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[]", "export SESSION --format json"),
        ("{}", "export SESSION --format json"),
        ('{"fsstate": "session", "version": 2, "id": "a"}', "upgrade fsstate"),
        ('{"fsstate": "session", "version": 1}', "id: expected a text"),
        ('{"fsstate": "session", "version": 1, "id": "a", "messages": {}}', "messages: expected an array"),
        ('{"fsstate": "session", "version": 1, "id": "a", "events": [1]}', "events: expected an array of objects"),
        ('{"fsstate": "session", "version": 1, "id": "a", "logs": {"x": 1}}', "logs.x: expected an array of objects"),
        ("{", "line 1"),
    ],
)
def test_other_documents_are_refused(other: Store, tmp_path: Path, document: str, reason: str) -> None:
    path = tmp_path / "session.json"
    path.write_text(document)
    with pytest.raises(CorruptRecordError, match=reason):
        import_session(other, path)
    assert len(other.sessions) == 0


def test_hostile_documents_write_nothing_outside(other: Store, tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    document: dict[str, Any] = {"fsstate": "session", "version": 1, "id": "../../out", "notes": {"../../../up": "x"}}
    document |= {"documents": {"../../up": 1, "": 1}, "logs": {"../up": [{"a": 1}], "streams/x": [{"seq": 1}]}}
    path.write_text(json.dumps(document))
    report = import_session(other, path)
    assert report["documents"].failed == 4
    assert sorted(os_path.name for os_path in tmp_path.iterdir()) == ["other", "session.json"]


def test_there_is_no_such_file_or_session(other: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        import_session(other, tmp_path / "none.json")
    with pytest.raises(NotFoundError):
        export_session(other.session("none"))
