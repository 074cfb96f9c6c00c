"""The files of codewhale: every one accounted for, nothing written twice, the directory left as it is."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from fsstate import NewerFormatError, Store, StoreOptions
from fsstate.integrations.codewhale import import_codewhale
from tests.integrations.test_sqlite import files_of, numbers

Write: TypeAlias = Callable[[str, Any], None]

T = "2025-01-01T00:00:0{}.000000Z"
AT = datetime(2025, 1, 1, tzinfo=UTC)
SAVED: dict[str, Any] = {
    "schema_version": 1,
    "metadata": {
        "id": "a1",
        "title": "A talk",
        "created_at": T.format(0),
        "updated_at": T.format(5),
        "message_count": 4,
        "total_tokens": 99,
        "model": "m1",
        "workspace": "/w",
        "parent_session_id": "a0",
    },
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "grep", "input": {"q": "x"}},
                {"type": "tool_use", "id": "c2", "name": "rm", "input": {}},
                {"type": "tool_use", "id": "c3", "name": "ls", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "found"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Done"}]},
    ],
    "system_prompt": "Be brief.",
    "artifacts": [{"id": "x"}],
}
ITEM = {"schema_version": 2, "turn_id": "turn-1", "status": "completed", "artifact_refs": []}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "codewhale"


@pytest.fixture
def write(source: Path) -> Write:
    def write(place: str, content: Any) -> None:
        path = source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            content = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in content)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    return write


@pytest.fixture
def saved(write: Write, source: Path) -> Path:
    write("sessions/a1.json", SAVED)
    write("sessions/checkpoints/latest.json", SAVED)
    write("sessions/checkpoints/offline_queue.json", {"schema_version": 1, "messages": [{"display": "later"}]})
    return source


@pytest.fixture
def runtime(write: Write, source: Path) -> Path:
    thread = {"schema_version": 2, "id": "thr-1", "created_at": T.format(0), "updated_at": T.format(9)}
    write("threads/thr-1.json", {**thread, "model": "m", "archived": True, "latest_turn_id": "turn-2"})
    turn = {"schema_version": 2, "thread_id": "thr-1", "status": "completed", "input_summary": "Hello"}
    write("turns/turn-1.json", {**turn, "id": "turn-1", "created_at": T.format(1), "item_ids": ["i2", "i1", "i3"]})
    write("turns/turn-2.json", {**turn, "id": "turn-2", "created_at": T.format(5), "item_ids": []})
    write("items/i1.json", {**ITEM, "id": "i1", "kind": "agent_message", "summary": "Hi", "detail": "Hi there"})
    write("items/i2.json", {**ITEM, "id": "i2", "kind": "user_message", "summary": "Hello", "started_at": T.format(1)})
    call = {**ITEM, "id": "i3", "kind": "tool_call", "summary": "grep: 2", "detail": "two", "status": "interrupted"}
    write("items/i3.json", {**call, "metadata": {"tool_name": "grep", "input": {"q": "x"}}, "ended_at": T.format(3)})
    write("items/i4.json", {**ITEM, "id": "i4", "kind": "agent_reasoning", "summary": "hm"})
    event = {"schema_version": 2, "thread_id": "thr-1", "event": "turn.started", "payload": {"n": 1}}
    write(
        "events/thr-1.jsonl",
        [
            {**event, "seq": 3, "timestamp": T.format(1)},
            {**event, "seq": 7, "timestamp": T.format(2), "turn_id": "turn-1", "kind": "odd"},
        ],
    )
    write("state.json", {"schema_version": 2, "next_seq": 8})
    line = {"thread_id": "thr-1", "thread_name": "Old", "updated_at": 1, "rollout_path": None}
    write("session_index.jsonl", [line, {**line, "thread_name": "Named", "updated_at": 2}])
    return source


@pytest.fixture
def both(saved: Path, runtime: Path) -> Path:
    assert saved == runtime
    return saved


def imported(store: Store, source: Path, **wanted: int) -> None:
    before = files_of(source)
    report = import_codewhale(store, source)
    assert report.problems == []
    assert numbers(report) == {kind: (number, number, 0, 0) for kind, number in wanted.items()}
    written = files_of(Path(store.path))
    again = import_codewhale(store, source)
    assert again.problems == []
    assert numbers(again) == {kind: (number, 0, number, 0) for kind, number in wanted.items()}
    assert files_of(Path(store.path)) == written
    assert files_of(source) == before


def test_saved_sessions(store: Store, saved: Path) -> None:
    imported(store, saved, sessions=1, messages=4, tool_calls=3, checkpoints=1, documents=2)
    session = store.sessions["a1"]
    assert (session.title, session.created_at, session.parent_id) == ("A talk", AT, "a0")
    assert session.metadata["codewhale"]["total_tokens"] == 99
    assert session.metadata["codewhale"]["artifacts"] == [{"id": "x"}]
    one = store.session("a1")
    assert [message.role for message in one.messages.list()] == ["user", "assistant", "user", "assistant"]
    found, refused, waiting = one.tool_calls.list()
    assert (found.name, found.parameters, found.result, found.message_id) == ("grep", {"q": "x"}, "found", "message-2")
    assert (refused.status, refused.error, waiting.status) == ("failed", "no", "pending")
    assert one.config.require().system_prompt == "Be brief."
    latest = one.checkpoints.load()
    assert latest is not None
    assert (latest.name, latest.state, latest.saved_at) == ("latest", SAVED, AT.replace(second=5))
    assert store.collection("codewhale")["offline_queue"]["messages"] == [{"display": "later"}]


def test_a_crashed_session_that_was_not_saved_yet(store: Store, source: Path, write: Write) -> None:
    write("checkpoints/latest.json", SAVED)
    write("checkpoints/offline_queue.json", {"session_id": "a1", "messages": []})
    imported(store, source, sessions=1, messages=4, tool_calls=3, documents=2)
    assert store.sessions["a1"].title == "A talk"


def test_sessions_directly_in_the_directory(store: Store, source: Path, write: Write) -> None:
    write("a1.json", SAVED)
    write("offline_queue.json", {"session_id": "a1", "messages": []})
    write("a1/artifacts/picture.png", "")
    imported(store, source, sessions=1, messages=4, tool_calls=3, documents=2)
    assert store.session("a1").collection()["offline_queue"]["messages"] == []


def test_threads(store: Store, runtime: Path) -> None:
    imported(store, runtime, sessions=1, messages=2, tool_calls=1, events=2, settings=2, documents=3)
    session = store.sessions["thr-1"]
    assert (session.title, session.created_at, session.archived_at) == ("Named", AT, AT.replace(second=9))
    one = store.session("thr-1")
    assert [(each.id, each.role, each.content) for each in one.messages.list()] == [
        ("i2", "user", "Hello"),
        ("i1", "assistant", "Hi there"),
    ]
    (call,) = one.tool_calls.list()
    assert (call.name, call.parameters, call.status, call.error) == ("grep", {"q": "x"}, "failed", "two")
    assert call.completed_at == AT.replace(second=3)
    first, second = one.events
    assert (first.kind, first["sequence_num"], first["payload"]) == ("turn.started", 3, {"n": 1})
    assert (second["sequence_num"], second["other"]) == (7, {"kind": "odd"})
    assert one.collection("turns").names() == ["turn-1", "turn-2"]
    assert one.collection("items")["i4"]["kind"] == "agent_reasoning"
    assert store.settings.get("codewhale/state") == {"schema_version": 2, "next_seq": 8}
    assert store.settings.get("codewhale/threads/thr-1")["thread_name"] == "Named"


def test_the_index_names_threads_and_sessions(store: Store, both: Path, write: Write) -> None:
    thread = json.loads((both / "threads/thr-1.json").read_text())
    write("threads/thr-1.json", {**thread, "title": "Own"})
    names = [("a1", "First"), ("a1", "Last"), ("thr-1", "Named")]
    write("session_index.jsonl", [{"thread_id": name, "thread_name": title} for name, title in names])
    assert import_codewhale(store, both).problems == []
    found = {name: store.sessions[name] for name in ("a1", "thr-1")}
    told = {name: (each.title, each.metadata["codewhale"]["title"]) for name, each in found.items()}
    assert told == {"a1": ("Last", "A talk"), "thr-1": ("Named", "Own")}


def test_what_was_cut_off(store: Store, runtime: Path, write: Write) -> None:
    turn = json.loads((runtime / "turns/turn-2.json").read_text())
    write("turns/turn-2.json", {**turn, "status": "in_progress"})
    call = json.loads((runtime / "items/i3.json").read_text())
    write("items/i3.json", {**call, "status": "in_progress"})
    (problem,) = import_codewhale(store, runtime).problems
    assert problem.place == "turns/turn-2.json"
    assert store.session("thr-1").collection("turns")["turn-2"]["status"] == "in_progress"
    (told,) = store.session("thr-1").tool_calls.list()
    assert (told.status, told.error, told.result) == ("failed", "interrupted", "two")
    assert told.metadata["item"]["status"] == "in_progress"


def test_times_that_are_none_are_not_those_of_the_import(store: Store, both: Path, write: Write) -> None:
    write("sessions/a2.json", {"metadata": {"created_at": "never", "updated_at": T.format(5)}})
    write("sessions/a3.json", {"metadata": {}})
    thread = json.loads((both / "threads/thr-1.json").read_text())
    write("threads/thr-1.json", {**thread, "created_at": None})
    import_codewhale(store, both)
    at = [store.sessions[name].created_at for name in ("a2", "a3", "thr-1")]
    assert at == [AT.replace(second=5), None, AT.replace(second=9)]
    assert store.sessions["a3"].updated_at is None


def test_events_that_came_since_are_added(store: Store, runtime: Path) -> None:
    import_codewhale(store, runtime)
    with (runtime / "events/thr-1.jsonl").open("a") as file:
        file.write('{"seq": 9, "event": "turn.ended", "timestamp": "2025-01-01T00:00:04Z"}\n{"seq": 10, "ev')
    report = import_codewhale(store, runtime)
    (problem,) = report.problems
    assert str(problem).startswith(f"{runtime}, events/thr-1.jsonl, line 4: not imported: ")
    assert numbers(report)["events"] == (4, 1, 2, 1)


@pytest.mark.parametrize(
    "newer",
    [
        ("sessions/b.json", {**SAVED, "schema_version": 2}, 1),
        ("checkpoints/latest.json", {**SAVED, "schema_version": 3}, 1),
        ("items/i9.json", {**ITEM, "schema_version": 3}, 2),
        ("events/thr-2.jsonl", [{"seq": 1, "schema_version": 5}], 2),
        ("state.json", {"schema_version": 3, "next_seq": 1}, 2),
    ],
)
def test_what_is_newer_is_refused_before_anything_is_touched(
    store: Store, both: Path, write: Write, newer: tuple[str, Any, int]
) -> None:
    place, content, known = newer
    write(place, content)
    with pytest.raises(NewerFormatError) as caught:
        import_codewhale(store, both)
    assert (caught.value.path, caught.value.known) == (str(both / place), known)
    assert not Path(store.path).exists()


def test_what_cannot_be_read_is_told_and_stops_nothing(store: Store, both: Path, write: Write) -> None:
    write("sessions/bad.json", "{")
    write("sessions/odd.json", {"messages": []})
    write("sessions/short.json", {"metadata": {"message_count": 3, "title": 5}, "messages": [{}, {"role": "user"}]})
    write("sessions/a1/picture.png", "")
    write("items/lost.json", {**ITEM, "turn_id": "gone"})
    write("turns/lost.json", {"thread_id": "gone"})
    write("events/gone.jsonl", [{"seq": 1}])
    write("session_index.jsonl", ["nonsense", {"thread_id": "thr-1", "thread_name": "Named"}, {"name": 1}])
    write("state.db", "x")
    write(".lock", "")
    report = import_codewhale(store, both)
    told = {str(problem.place): problem.reason for problem in report.problems}
    assert set(told) == {
        "sessions/bad.json",
        "sessions/odd.json",
        "sessions/short.json",
        "sessions/short.json, message 1",
        "items/lost.json",
        "turns/lost.json",
        "events/gone.jsonl",
        "session_index.jsonl, line 1",
        "session_index.jsonl, line 3",
    }
    assert told["turns/lost.json"] == "not imported: there is no thread 'gone'"
    assert [each.place for each in report.passed_over] == [".lock", "sessions/a1/picture.png", "state.db"]
    assert report.total.found == report.total.accounted
    assert store.sessions["thr-1"].title == "Named"
    assert store.sessions["short"].metadata["codewhale"]["title"] == 5


def test_progress_goes_to_the_end(store: Store, both: Path) -> None:
    told: list[tuple[int, int]] = []
    import_codewhale(store, both, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (13, 13)


@pytest.mark.parametrize("place", ["events/thr-1.jsonl", "items/i1.json", "threads/thr-1.json", "state.json"])
def test_what_goes_while_it_is_imported_is_told(store: Store, both: Path, place: str) -> None:
    report = import_codewhale(store, both, progress=lambda *_: (both / place).unlink(missing_ok=True))
    assert place in {problem.place for problem in report.problems}
