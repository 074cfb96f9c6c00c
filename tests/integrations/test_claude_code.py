"""Transcripts of Claude Code: nothing lost on the way in and out, nothing written twice, whatever happens between."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fsstate
from fsstate import Store
from fsstate.integrations.claude_code import ImportReport, export_transcript, import_transcripts

DATA_SETS = ["claude-code-viewer", "claude-code-log", "claude-code-transcripts", "agent-sessions/stage0/agents/claude"]
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", fsstate.StoreOptions(durability="process", clock=lambda: NOW)) as store:
        yield store


def row(
    kind: str, uuid: str, parent: str | None = None, content: Any = "text", at: int = 0, **more: Any
) -> dict[str, Any]:
    message = {"role": kind, "content": content}
    stamp = f"2025-01-01T00:00:{at:02}.000Z"
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "timestamp": stamp, "message": message, **more}


def use(name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "grep", "input": given}


def result(name: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": content, **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def exported(store: Store, session_id: str) -> list[Any]:
    return [json.loads(line) for line in export_transcript(store, session_id)]


def same(left: list[Any], right: list[Any]) -> bool:
    """As JSON: 1 is not true, and the order of keys does not matter."""
    return [json.dumps(each, sort_keys=True) for each in left] == [json.dumps(each, sort_keys=True) for each in right]


def snapshot(root: Path) -> dict[str, Any]:
    """All that is below a directory, with inode and times of change."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        found[str(path)] = status.st_ino, status.st_mtime_ns, status.st_ctime_ns, path.is_file() and path.read_bytes()
    return found


def imported(store: Store, path: Path, rows: list[Any]) -> ImportReport:
    """Import a transcript of `rows`, and see that they come out again."""
    write(path, rows)
    report = import_transcripts(store, path)
    assert report.problems == []
    assert same(exported(store, report.ids[0]), rows)
    return report


# Real transcripts


@pytest.mark.parametrize("name", DATA_SETS)
def test_real_transcripts_come_out_as_they_went_in(store: Store, shared_data: Path, name: str) -> None:
    path = shared_data / name
    if not path.is_dir():
        pytest.skip(f"needs the public data set {name} in ../shared/data")
    files = sorted(path.rglob("*.jsonl"))
    report = import_transcripts(store, path)
    assert report.problems == []
    assert report.sessions == len(files)
    for file, session_id in zip(files, report.ids, strict=True):
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        assert same(exported(store, session_id), rows)
        one = store.session(session_id)
        said = {each["uuid"] for each in rows if isinstance(each, dict) and each.get("type") in ("user", "assistant")
                and isinstance(each.get("message"), dict) and each.get("uuid")}  # fmt: skip
        assert said <= {message.id for message in one.messages.all()}
        assert one.messages.problems() == one.events.problems() == one.tool_calls.problems() == []


@pytest.mark.parametrize("name", DATA_SETS)
def test_importing_again_writes_nothing(store: Store, tmp_path: Path, shared_data: Path, name: str) -> None:
    path = shared_data / name
    if not path.is_dir():
        pytest.skip(f"needs the public data set {name} in ../shared/data")
    first = import_transcripts(store, path)
    before = snapshot(tmp_path / "state")
    again = import_transcripts(store, path)
    assert snapshot(tmp_path / "state") == before
    assert again.ids == first.ids
    assert again.unchanged == len(again.ids)
    assert (again.sessions, again.rows, again.problems) == (0, 0, [])


def test_the_tree_of_a_real_session(store: Store, shared_data: Path) -> None:
    path = shared_data / "claude-code-viewer" / "projects"
    if not path.is_dir():
        pytest.skip("needs the public data set claude-code-viewer in ../shared/data")
    import_transcripts(store, path)
    name = "fe5e1c67-53e7-4862-81ae-d0e013e3270b"
    rows = [json.loads(line) for line in (path / "sample-project" / f"{name}.jsonl").read_text().splitlines()]
    said = [each for each in rows if each["type"] in ("user", "assistant")]
    messages = store.session(name).messages.all()
    assert [(m.id, m.parent_id, m.role, m.content) for m in messages] == [
        (each["uuid"], each["parentUuid"], each["message"]["role"], each["message"]["content"]) for each in said
    ]
    head = store.session(name).messages.head()
    assert head is not None
    assert head.id == said[-1]["uuid"]
    assert all(call.status in ("completed", "failed") for call in store.session(name).tool_calls.list())
    summary = store.sessions.summary(name)
    assert summary is not None
    assert summary.title == "Empty Repo Setup: CLAUDE.md Foundation Created"
    assert summary.project_id == "/path/to/Demo"
    assert summary.updated_at == max(datetime.fromisoformat(each["timestamp"]) for each in said)
    assert store.sessions.require("agent-test-hash-123").parent_id == "5c0375b4-57a5-4f26-b12d-d022ee4e51b7"


def test_the_json_form(store: Store, shared_data: Path) -> None:
    path = shared_data / "claude-code-transcripts" / "sample_session.json"
    if not path.is_file():
        pytest.skip("needs the public data set claude-code-transcripts in ../shared/data")
    report = import_transcripts(store, path)
    assert same(exported(store, "sample_session"), json.loads(path.read_text())["loglines"])
    assert report.problems == []
    assert import_transcripts(store, path).unchanged == 1


# What rows become


def test_rows_become_messages_events_and_tool_calls(store: Store, tmp_path: Path) -> None:
    rows = [
        {"type": "summary", "summary": "Old title", "leafUuid": "elsewhere"},
        row("user", "u1", content="Find it", at=1, sessionId="s", cwd="/project"),
        row(
            "assistant",
            "a1",
            "u1",
            [{"type": "text", "text": "Yes"}, use("t1", pattern="x"), use("t2"), use("t3")],
            at=2,
        ),
        {"type": "system", "uuid": "y1", "parentUuid": "a1", "timestamp": "2025-01-01T00:00:09Z", "content": "hook"},
        row("user", "u2", "y1", [result("t1", "found"), result("t2", "no such file", is_error=True)], at=3),
        {"type": "ai-title", "aiTitle": "New title"},
    ]
    rows[2]["message"]["model"] = "m1"
    report = imported(store, tmp_path / "one.jsonl", rows)
    assert (report.sessions, report.messages, report.events, report.tool_calls, report.rows) == (1, 3, 3, 3, 6)
    one = store.session("one")
    assert [(m.id, m.parent_id, m.text, m.model) for m in one.messages.list()] == [
        ("u1", None, "Find it", None), ("a1", "u1", "Yes", "m1"), ("u2", "a1", "", None)
    ]  # fmt: skip
    assert [(e.kind, e["row"]) for e in one.events] == [("summary", 1), ("system", 4), ("ai-title", 6)]
    done, failed, waiting = one.tool_calls.list()
    assert (done.id, done.name, done.parameters, done.status, done.result) == (
        "t1",
        "grep",
        {"pattern": "x"},
        "completed",
        "found",
    )
    assert (failed.status, failed.error, failed.message_id) == ("failed", "no such file", "a1")
    assert (waiting.status, waiting.completed_at) == ("pending", None)
    assert done.completed_at == datetime(2025, 1, 1, 0, 0, 3, tzinfo=UTC)
    session = store.sessions.require("one")
    assert (session.title, session.project_id, session.metadata["cwd"]) == ("New title", "/project", "/project")
    assert session.created_at == datetime(2025, 1, 1, 0, 0, 1, tzinfo=UTC)
    # The latest time of any row, although it stands before others; never the present.
    summary = store.sessions.summary("one")
    assert summary is not None
    assert summary.updated_at == datetime(2025, 1, 1, 0, 0, 9, tzinfo=UTC)


def test_rows_of_any_shape(store: Store, tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(300):
        deep = [deep]
    rows = [
        "text", 42, None, True, [1, [2]], {}, {"silly": "this"}, {"type": 7}, {"type": ""}, {"type": "user"},
        {"type": "user", "message": "error"}, {"type": "user", "uuid": 5, "message": {}},
        {"type": "assistant", "uuid": "", "message": {"content": None}},
        row("user", "big", content=[{"n": 10**30, "f": 0.1, "e": 1e300}]), {"n": -(10**40)},
        row("user", "half", content="cut \ud83d here", cwd="\udfff"), {"type": "\ud800", "uuid": "\ud800"},
        {"type": "x", "deep": deep}, row("assistant", "deep", content=deep),
        {"type": "user", "seq": 1, "at": "x", "kind": "y", "fsstate": "trimmed", "id": 3, "update": "u"},
    ]  # fmt: skip
    imported(store, tmp_path / "odd.jsonl", rows)
    one = store.session("odd")
    assert [m.id for m in one.messages.all()] == ["row-12", "row-13", "big", "half"]
    assert one.messages.get("half").content == "cut \ufffd here"  # type: ignore[union-attr]
    assert one.messages.problems() == one.events.problems() == []


def test_numbers_that_only_a_text_can_hold(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_bytes(b'{"type":"x","n":1e400}\n{"type":"x","a":1,"a":2}\n')
    report = import_transcripts(store, path)
    assert report.problems == []
    assert next(export_transcript(store, "big")) == b'{"type":"x","n":1e400}\n'


def test_what_is_no_transcript_is_told_and_not_read(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside.jsonl").write_text(json.dumps(row("user", "out")))
    folder = tmp_path / "transcripts"
    write(folder / "good.jsonl", [row("user", "in")])
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "dangling.jsonl").symlink_to("nowhere")
    (folder / "escaping.jsonl").symlink_to(tmp_path / "outside.jsonl")
    report = import_transcripts(store, folder)
    assert report.ids == ["good"]
    assert [Path(problem.path).stem for problem in report.problems] == ["dangling", "escaping", "folder", "pipe"]


def test_keys_that_stand_twice_in_a_row_stay(store: Store, tmp_path: Path) -> None:
    line = b'{"type":"user","uuid":"a","note":1,"note":2,"message":{"role":"user","content":"hi"}}'
    (tmp_path / "t.jsonl").write_bytes(line + b"\n")
    assert import_transcripts(store, tmp_path / "t.jsonl").messages == 1
    assert list(export_transcript(store, "t")) == [line + b"\n"]


def test_repeated_uuids(store: Store, tmp_path: Path) -> None:
    again = row("user", "u1", at=9)
    other = row("user", "u1", content="another")
    imported(store, tmp_path / "one.jsonl", [row("user", "u1"), row("assistant", "a1", "u1"), again, other, other])
    one = store.session("one")
    assert [m.id for m in one.messages.all()] == ["u1", "a1", "u1~4"]
    assert [(e.kind, e["row"]) for e in one.events] == [("user", 3), ("user", 5)]


def test_a_tree_with_holes_and_circles(store: Store, tmp_path: Path) -> None:
    rows = [row("user", "a", "gone"), row("user", "b"), row("user", "c", "later"), row("user", "later", "b"),
            row("user", "x", "y"), row("user", "y", "x"), row("user", "self", "self")]  # fmt: skip
    imported(store, tmp_path / "one.jsonl", rows)
    messages = store.session("one").messages
    assert {m.id: m.parent_id for m in messages.all()} == {each["uuid"]: each["parentUuid"] for each in rows}
    assert [m.id for m in messages.list("c")] == ["b", "later", "c"]


def test_parents_that_are_no_messages_are_passed_over(store: Store, tmp_path: Path) -> None:
    other = [{"type": "attachment", "uuid": f"x{n}", "parentUuid": f"x{n - 1}" if n else "u1"} for n in range(3)]
    circle = {"type": "system", "uuid": "o", "parentUuid": "o"}
    rows = [row("user", "u1"), *other, row("assistant", "a1", "x2"), circle, row("user", "u2", "o")]
    imported(store, tmp_path / "one.jsonl", rows)
    messages = store.session("one").messages
    assert [m.id for m in messages.list("a1")] == ["u1", "a1"]
    assert [m.id for m in messages.list("u2")] == ["u2"]


@pytest.mark.parametrize(
    ("place", "leaf", "head"),
    [(4, "b", "b"), (0, "b", "b"), (4, "a", "a"), (0, "a", "c"), (4, "elsewhere", "c")],
)
def test_the_head(store: Store, tmp_path: Path, place: int, leaf: str, head: str) -> None:
    rows = [row("user", "a"), row("user", "b", "a"), row("user", "c", "a")]
    rows.insert(place, {"type": "summary", "summary": "S", "leafUuid": leaf})
    imported(store, tmp_path / "one.jsonl", rows)
    found = store.session("one").messages.head()
    assert found is not None
    assert found.id == head


def test_calls_without_ids_are_answered_in_their_message(store: Store, tmp_path: Path) -> None:
    call, answer = {"type": "tool_use", "name": "bash"}, {"type": "tool_result", "content": "ok"}
    rows = [row("assistant", "a", content=[call, call, call]), row("user", "u", "a", [answer, answer]),
            row("user", "v", "u", [answer])]  # fmt: skip
    imported(store, tmp_path / "one.jsonl", rows)
    calls = store.session("one").tool_calls.list()
    assert [(c.id, c.status) for c in calls] == [("a#0", "completed"), ("a#1", "completed"), ("a#2", "pending")]


# Which session


def test_files_of_one_name_are_not_mixed(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "in/a/log.jsonl", [row("user", "u1")])
    write(tmp_path / "in/b/log.jsonl", [row("user", "u2")])
    write(tmp_path / "in/c/log.jsonl", [row("user", "u1"), row("user", "u3")])
    first, second, third = import_transcripts(store, tmp_path / "in").ids
    assert (first, third) == ("log", "log")  # A copy that went on.
    assert second.startswith("log~")
    assert [m.id for m in store.session(second).messages.all()] == ["u2"]
    assert import_transcripts(store, tmp_path / "in/b").ids == [second]


def test_long_names_are_not_mixed_either(store: Store, tmp_path: Path) -> None:
    for folder in "ab":
        write(tmp_path / f"in/{folder}/{'ä' * 100}.jsonl", [row("user", folder)])
    first, second = import_transcripts(store, tmp_path / "in").ids
    assert first != second
    assert [m.id for m in store.session(second).messages.all()] == ["b"]


def test_a_session_of_other_origin_is_left_alone(store: Store, tmp_path: Path) -> None:
    store.sessions.create(id="chat")
    report = imported(store, tmp_path / "chat.jsonl", [row("user", "u1")])
    assert report.ids[0].startswith("chat~")
    assert store.session("chat").messages.count() == 0
    with pytest.raises(fsstate.NotFoundError, match="not imported"):
        export_transcript(store, "chat")
    with pytest.raises(fsstate.NotFoundError):
        export_transcript(store, "nobody")


@pytest.mark.parametrize("stem", ["a b ", "CON", "ä" * 90, "x" * 240, "a.json", "%"])
def test_names_that_are_no_ids(store: Store, tmp_path: Path, stem: str) -> None:
    imported(store, tmp_path / f"{stem}.jsonl", [row("user", "u1")])
    assert import_transcripts(store, tmp_path / f"{stem}.jsonl").unchanged == 1


def test_side_chains_know_their_session(store: Store, tmp_path: Path) -> None:
    main = "0a1b2c3d"
    write(tmp_path / f"p/{main}.jsonl", [row("user", "u", sessionId=main)])
    write(tmp_path / "p/agent-1.jsonl", [row("user", "v", sessionId=main, isSidechain=True)])
    write(tmp_path / f"p/{main}/subagents/agent-2.jsonl", [row("user", "w", sessionId="agent-2", isSidechain=True)])
    write(tmp_path / "p/agent-3.jsonl", [row("user", "z", sessionId="unknown", isSidechain=True)])
    import_transcripts(store, tmp_path / "p")
    assert {each.id: each.parent_id for each in store.sessions.all()} == {
        main: None, "agent-1": main, "agent-2": main, "agent-3": None
    }  # fmt: skip


# Bad lines and bad files


def test_bad_lines_are_named_and_stop_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = [json.dumps(row("user", f"u{n}")).encode() for n in range(4)]
    bad = [b'{"type": "us', b"{} {}", b'{"a": "\xff"}', b"NaN", b"\x00\x00", b"<<<<<<< HEAD"]
    path.write_bytes(b"\n".join([b"\xef\xbb\xbf" + good[0], *bad, b"", good[1] + b"\r", b"   ", good[2], good[3][:40]]))
    report = import_transcripts(store, path)
    assert [problem.line for problem in report.problems] == [2, 3, 4, 5, 6, 7, 12]
    assert str(report.problems[0]).startswith(f"{path}, line 2: the line is cut off")
    assert "one value on a line" in report.problems[1].reason
    assert "0xff is not UTF-8" in report.problems[2].reason
    assert [m.id for m in store.session("bad").messages.all()] == ["u0", "u1", "u2"]
    before = snapshot(tmp_path / "state")
    again = import_transcripts(store, path)
    assert again.problems == report.problems
    assert snapshot(tmp_path / "state") == before
    # The line that was being written is complete now.
    with path.open("ab") as file:
        file.write(good[3][40:])
    assert import_transcripts(store, path).messages == 1
    assert [each["uuid"] for each in exported(store, "bad")] == ["u0", "u1", "u2", "u3"]


def test_a_bad_line_that_was_mended_is_told(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(f"{json.dumps(row('user', 'a'))}\noops\n")
    import_transcripts(store, path)
    write(path, [row("user", "a"), row("user", "b")])
    (problem,) = import_transcripts(store, path).problems
    assert problem.line == 2
    assert "could not be read" in problem.reason


def test_bad_files_stop_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(b"\xff\xfe\n\n\x00")
    (tmp_path / "in/b.jsonl").write_bytes(b"")
    (tmp_path / "in/c.jsonl").mkdir()
    (tmp_path / "in/d.jsonl").symlink_to("nowhere")
    write(tmp_path / "in/e.jsonl", [row("user", "u")])
    report = import_transcripts(store, tmp_path / "in")
    assert (report.ids, [problem.line for problem in report.problems]) == (["e"], [None, None, 1, 3])
    assert store.sessions.ids() == ["e"]
    document = tmp_path / "no.json"
    document.write_text('{"rows": []}')
    assert "loglines" in import_transcripts(store, document).problems[0].reason
    document.write_bytes(b'{"loglines": [' + b"[" * 1000 + b"]" * 1000 + b"]}")
    # How deep Python reads is its own affair; what it cannot read is told.
    assert all("nested too deeply" in each.reason for each in import_transcripts(store, document).problems)
    with pytest.raises(fsstate.NotFoundError):
        import_transcripts(store, tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", [row("user", "u")])
    path.chmod(0)
    (problem,) = import_transcripts(store, path).problems
    assert problem.line is None


# Again, and later


def test_a_transcript_that_grew_gives_its_new_rows(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    rows = [row("user", "u1", at=1), row("assistant", "a1", "u1", [use("t1"), use("t2")], at=2)]
    imported(store, path, rows)
    before = (tmp_path / "state/sessions/one/messages.jsonl").read_bytes()
    rows += [
        row("user", "u2", "a1", [result("t2", "late")], at=7),
        {"type": "summary", "summary": "Title", "leafUuid": "a1"},
    ]
    report = imported(store, path, rows)
    assert (report.sessions, report.messages, report.events, report.tool_calls) == (1, 1, 1, 0)
    assert (tmp_path / "state/sessions/one/messages.jsonl").read_bytes().startswith(before)
    one = store.session("one")
    assert [call.status for call in one.tool_calls.list()] == ["pending", "completed"]
    assert one.tool_calls.list()[1].completed_at == datetime(2025, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert one.messages.head().id == "a1"  # type: ignore[union-attr]
    summary = store.sessions.summary("one")
    assert summary is not None
    assert (summary.title, summary.updated_at) == ("Title", datetime(2025, 1, 1, 0, 0, 7, tzinfo=UTC))


def test_what_people_changed_stays(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    rows: list[Any] = [row("user", "u1"), {"type": "summary", "summary": "First"}]
    imported(store, path, rows)

    def rename(session: fsstate.Session) -> None:
        session.title, session.metadata["mine"] = "My own", 1

    store.sessions.update("one", rename)
    store.session("one").messages.update("u1", content="edited", metadata={"mine": 2})
    store.session("one").messages.append("user", "asked here")
    imported(store, path, [*rows, {"type": "summary", "summary": "Second"}])
    session = store.sessions.require("one")
    assert (session.title, session.metadata["mine"]) == ("My own", 1)


@pytest.mark.parametrize("line", range(3))
def test_a_transcript_that_changed_is_told_and_left_alone(store: Store, tmp_path: Path, line: int) -> None:
    path = tmp_path / "one.jsonl"
    rows: list[Any] = [row("user", "u1"), {"type": "system"}, row("user", "u2", "u1")]
    imported(store, path, rows)
    before = snapshot(tmp_path / "state/sessions")
    changed = [{**each, "changed": True} if n == line else each for n, each in enumerate(rows)]
    elsewhere = write(tmp_path / "moved/one.jsonl", [*changed, row("user", "u3")])
    for place in [write(path, [*changed, row("user", "u3")]), *([elsewhere] if line else [])]:
        (problem,) = import_transcripts(store, place).problems
        assert problem.line == line + 1
        assert "delete the session" in problem.reason
    (shorter,) = import_transcripts(store, write(path, rows[:2])).problems
    assert shorter.line == 3
    assert snapshot(tmp_path / "state/sessions") == before


def test_another_layout_of_the_same_rows_is_no_change(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    rows = [row("user", "u1"), row("user", "u2", "u1")]
    imported(store, path, rows)
    path.write_bytes(
        b"".join(json.dumps(each, indent=None, separators=(" , ", ":")).encode() + b"\r\n" for each in rows)
    )
    report = import_transcripts(store, path)
    assert (report.problems, report.rows) == ([], 0)
    assert import_transcripts(store, path).unchanged == 1


def test_a_last_line_without_its_newline(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row("user", "u1")))
    assert import_transcripts(store, path).messages == 1
    assert import_transcripts(store, path).unchanged == 1
    with path.open("a") as file:
        file.write("\n")
    assert import_transcripts(store, path).unchanged == 1
    with path.open("a") as file:
        file.write("oops")
    report = import_transcripts(store, path)
    assert (report.unchanged, report.problems[0].line) == (1, 2)


def test_progress_is_told_in_bytes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsstate.integrations.claude_code.transfer._BATCH", 1000)
    for name in "ab":
        write(tmp_path / f"in/{name}.jsonl", [row("user", f"{name}{n}") for n in range(50)])
    told: list[tuple[int, int]] = []
    import_transcripts(store, tmp_path / "in", progress=lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == (size, size)


# Crashes and neighbours

# For each step in turn, or for one, a process that dies in the middle of an append; as far as one that ends.
CRASH = """
import itertools, os, signal, sys
import fsstate
from fsstate import journal
from fsstate.integrations.claude_code import import_transcripts, transfer

transfer._BATCH = 1500
append = journal.Log.append_lines

def counted(self, lines):
    global steps
    if steps < 0:
        # As far as half of the lines came.
        append(self, lines[: len(lines) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    steps -= 1
    return append(self, lines)

journal.Log.append_lines = counted
state, source = sys.argv[1:3]
for steps in map(int, sys.argv[3:]) if sys.argv[3:] else itertools.count():
    child = os.fork()
    if child == 0:
        with fsstate.Store(f"{state}{steps}", fsstate.StoreOptions(durability="process")) as store:
            import_transcripts(store, source)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code)
    if code != -signal.SIGKILL:
        break
"""


def crash(state: Path, source: Path, *steps: int) -> list[int]:
    """Import with a crash at each step, or at these, in a store each. Returns the exit codes."""
    command = [sys.executable, "-c", CRASH, str(state), str(source), *map(str, steps)]
    return [int(code) for code in subprocess.run(command, capture_output=True, check=True).stdout.split()]


def conversation(turns: int) -> list[Any]:
    rows: list[Any] = []
    for n in range(turns):
        before = f"u{n - 1}b" if n else None
        rows += [
            row("user", f"u{n}", before),
            row("assistant", f"a{n}", f"u{n}", [use(f"t{n}", n=n), use(f"s{n}")]),
            {"type": "progress", "n": n},
            row("user", f"u{n}b", f"a{n}", [result(f"t{n}", "ok")]),
        ]
    return rows


def logs_of(store: Store, session_id: str) -> list[Any]:
    one = store.session(session_id)
    return [one.messages.all(), list(one.events), one.tool_calls.list(), store.sessions.require(session_id)]


def test_a_killed_import_is_completed_by_the_next(store: Store, tmp_path: Path) -> None:
    rows = conversation(8)
    path = write(tmp_path / "one.jsonl", rows)
    import_transcripts(store, path)
    wanted = logs_of(store, "one")
    codes = crash(tmp_path / "state", path)
    assert len(codes) > 7
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    for step in range(len(codes)):
        root = tmp_path / f"state{step}"
        options = fsstate.StoreOptions(durability="process", clock=lambda: NOW)
        with Store(root, options) as again:
            report = import_transcripts(again, path)
            assert report.problems == []
            assert same(exported(again, "one"), rows)
            messages, events, calls, session = logs_of(again, "one")
            assert ([m.id for m in messages], len(events), session) == (
                [m.id for m in wanted[0]],
                len(wanted[1]),
                wanted[3],
            )
            assert [(c.id, c.status, c.result) for c in calls] == [(c.id, c.status, c.result) for c in wanted[2]]
            assert import_transcripts(again, path).unchanged == 1


def test_a_killed_import_is_compared_before_it_goes_on(tmp_path: Path) -> None:
    rows = conversation(8)
    path = write(tmp_path / "one.jsonl", rows)
    assert crash(tmp_path / "state", path, 3) == [-signal.SIGKILL]
    rows[1]["changed"] = True
    write(path, rows)
    with Store(tmp_path / "state3") as store:
        (problem,) = import_transcripts(store, path).problems
        assert problem.line == 2


def test_imports_at_the_same_time_do_not_mix(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsstate.integrations.claude_code.transfer._BATCH", 500)
    rows = conversation(10)
    path = write(tmp_path / "one.jsonl", rows)
    reports: list[ImportReport] = []
    threads = [threading.Thread(target=lambda: reports.append(import_transcripts(store, path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.sessions for report in reports) == [0, 0, 0, 1]
    assert [problem for report in reports for problem in report.problems] == []
    assert same(exported(store, "one"), rows)
    assert len(store.session("one").tool_calls.list()) == 20


# Any rows

NAMES = st.sampled_from(["a", "b", "c", "d", "row-1", "a~2", ""])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "tool_result"])},
    optional={"id": NAMES | VALUES, "tool_use_id": NAMES | VALUES, "name": VALUES, "input": VALUES, "content": VALUES,
              "is_error": st.booleans() | VALUES, "text": TEXTS},
)  # fmt: skip
CONTENTS = VALUES | st.lists(BLOCKS | VALUES, max_size=3)
MESSAGES = st.fixed_dictionaries({}, optional={"role": TEXTS | VALUES, "content": CONTENTS, "model": VALUES})
ROWS = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant", "system", "summary", "ai-title"]) | VALUES},
    optional={
        "uuid": NAMES | VALUES, "parentUuid": NAMES | VALUES, "leafUuid": NAMES, "sessionId": NAMES | VALUES,
        "timestamp": st.sampled_from(["2025-01-01T00:00:00Z", "2024-01-01", 1e9, "never"]) | VALUES,
        "message": MESSAGES | VALUES, "isSidechain": st.booleans() | VALUES, "summary": VALUES, "aiTitle": TEXTS,
        "cwd": TEXTS, "raw": VALUES, "row": VALUES,
    },
)  # fmt: skip


@given(rows=st.lists(ROWS | VALUES, min_size=1, max_size=12), cut=st.integers(0, 12))
def test_any_rows_come_out_again(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], cut: int) -> None:
    path = tmp_path_factory.mktemp("any") / "one.jsonl"
    with Store.in_memory() as whole, Store.in_memory() as grown:
        imported(whole, path, rows)
        if rows[:cut]:
            imported(grown, path, rows[:cut])
        imported(grown, path, rows)
        for store in (whole, grown):
            one = store.session("one")
            assert import_transcripts(store, path).unchanged == 1
            assert one.messages.problems() == one.events.problems() == one.tool_calls.problems() == []
            assert len(one.messages.all()) + len(list(one.events)) == len(rows)
        left, right = (store.session("one") for store in (whole, grown))
        assert [(m.id, m.parent_id, m.content) for m in left.messages.all()] == [
            (m.id, m.parent_id, m.content) for m in right.messages.all()
        ]
        assert left.messages.head() == right.messages.head() or left.messages.head().id == right.messages.head().id  # type: ignore[union-attr]
        assert [(c.id, c.status, c.result, c.error) for c in left.tool_calls.list()] == [
            (c.id, c.status, c.result, c.error) for c in right.tool_calls.list()
        ]
