"""What other programs keep, damaged at random: it is imported or told, and the rest comes along."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from fsstate import FsStateError, Store, StoreOptions
from fsstate.integrations.claude_code import export_transcript, import_transcripts
from fsstate.integrations.codewhale import import_codewhale
from fsstate.integrations.oxios import import_oxios
from fsstate.integrations.sqlite import import_sqlite
from tests.integrations import schemas
from tests.nonsense.fuzz import fuzz

Import: TypeAlias = Callable[[Store, Path], Any]

T: Final = "2025-01-01T00:00:0{}Z"

TRANSCRIPT: Final = [
    {"type": "summary", "summary": "A talk", "leafUuid": "m2"},
    {
        "type": "user",
        "uuid": "m1",
        "parentUuid": None,
        "sessionId": "s1",
        "timestamp": T.format(1),
        "message": {"role": "user", "content": "Hello"},
        "isSidechain": False,
        "cwd": "/w",
        "version": "1",
    },
    {
        "type": "assistant",
        "uuid": "m2",
        "parentUuid": "m1",
        "sessionId": "s1",
        "timestamp": T.format(2),
        "message": {
            "role": "assistant",
            "model": "m",
            "usage": {"input_tokens": 3},
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "c1", "name": "grep", "input": {"q": 1}},
            ],
        },
    },
    {
        "type": "user",
        "uuid": "m3",
        "parentUuid": "m2",
        "sessionId": "s1",
        "timestamp": T.format(3),
        "message": {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x", "is_error": True}],
        },
    },
    {"type": "system", "content": "compacted", "uuid": "m4", "parentUuid": "m3", "timestamp": 1735689600},
]
LINES: Final = b"".join(json.dumps(row).encode() + b"\n" for row in TRANSCRIPT)
SAVED: Final = {
    "schema_version": 1,
    "metadata": {"id": "a1", "title": "x", "created_at": T.format(0), "updated_at": T.format(5), "model": "m1"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "grep", "input": {"q": "x"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "found"}]},
    ],
    "system_prompt": "Be brief.",
}
ITEM: Final = {"schema_version": 2, "turn_id": "turn-1", "status": "completed", "artifact_refs": []}
WHALE: Final[dict[str, Any]] = {
    "sessions/a1.json": SAVED,
    "sessions/checkpoints/latest.json": SAVED,
    "threads/thr-1.json": {"schema_version": 2, "id": "thr-1", "created_at": T.format(0), "latest_turn_id": "turn-1"},
    "turns/turn-1.json": {"schema_version": 2, "thread_id": "thr-1", "id": "turn-1", "item_ids": ["i1", "i2"]},
    "items/i1.json": {**ITEM, "id": "i1", "kind": "user_message", "summary": "Hi", "detail": "Hi there"},
    "items/i2.json": {**ITEM, "id": "i2", "kind": "tool_call", "summary": "x", "metadata": {"tool_name": "grep"}},
    "events/thr-1.jsonl": {"schema_version": 2, "thread_id": "thr-1", "event": "x", "seq": 3, "timestamp": T.format(1)},
    "state.json": {"schema_version": 2, "next_seq": 8},
    "session_index.jsonl": {"thread_id": "thr-1", "thread_name": "Old", "updated_at": 1},
}
OXIOS: Final[dict[str, Any]] = {
    "sessions/s1.json": {
        "id": "s1",
        "user_id": "u1",
        "created_at": "2025-01-01T00:00:00.123456789Z",
        "metadata": {"title": "t"},
        "user_messages": [{"content": "Hello", "timestamp": T.format(0)}],
        "agent_responses": [{"content": "Hi", "timestamp": T.format(2), "trajectory_range": {"start": 0, "end": 1}}],
        "trajectory_steps": [{"tool_name": "grep", "tool_args": {"q": "x"}, "timestamp": T.format(1)}],
    },
    "agents/a1.json": {"id": "a1", "status": "Running", "cost_usd": 0.25},
    "cron/jobs.json": [{"id": "j1", "schedule": "* * * * *"}],
}
ROWS: Final[dict[str, list[dict[str, Any]]]] = {
    "sessions": [
        {
            "id": "s1",
            "created_at": T.format(0),
            "updated_at": T.format(1),
            "status": "inactive",
            "metadata": '{"a": 1}',
            "tool_policy_type": "mixed",
            "pre_approved_tools": '["grep"]',
            "workspace_config": '{"type": "local", "path": "/"}',
            "tool_config": '{"visibility": "all", "approval_policy": {"type": "mixed"}}',
            "active_message_id": "m1",
        }
    ],
    "messages": [
        {
            "id": "m1",
            "session_id": "s1",
            "sequence_num": 0,
            "role": "user",
            "content": '[{"type": "text", "text": "Hi"}]',
            "created_at": T.format(1),
        }
    ],
    "tool_calls": [
        {
            "id": "c1",
            "session_id": "s1",
            "tool_name": "grep",
            "parameters": '{"q": 1}',
            "status": "completed",
            "result": "two",
            "payload_json": '{"n": 2}',
            "started_at": T.format(0),
            "error_json": '{"message": "no"}',
        }
    ],
    "events": [
        {
            "session_id": "s1",
            "sequence_num": 0,
            "event_type": "x",
            "event_data": '{"type": "x"}',
            "created_at": T.format(2),
        }
    ],
}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Bench:
    """Imports a source into a new store each time."""

    def __init__(self, place: Path) -> None:
        self.source = place / "source"
        self._root = place / "state"

    def imports(self, load: Import, path: Path) -> Store | None:
        """Import twice, with the same outcome; return the store, or None when all was refused."""
        shutil.rmtree(self._root, ignore_errors=True)
        before = files_below(self.source)
        options = StoreOptions(durability="process")
        with Store(self._root, options) as store:
            report = load(store, path)
            written = files_below(self._root)
            again = load(store, path)
            assert [str(each) for each in again.problems] == [str(each) for each in report.problems]
            assert files_below(self.source) == before
            assert documents_in(files_below(self._root)) == documents_in(written)
            assert store.sessions.problems() == []
            for session in store.sessions.ids():
                store.session(session).messages.list()
        return Store(self._root, options)


def documents_in(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.startswith(".fsstate")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "source").mkdir()
    return Bench(tmp_path)


def take_transcript(bench: Bench, data: bytes) -> None:
    path = bench.source / "talk.jsonl"
    path.write_bytes(data)
    store = bench.imports(import_transcripts, path)
    assert store is not None
    with store:
        for session in store.sessions.ids():
            rows = [json.loads(line) for line in export_transcript(store, session)]
            assert rows == readable(data)


def readable(data: bytes) -> list[Any]:
    """The rows as the standard library reads them, without what no reader of JSON takes."""
    rows = []
    for number, line in enumerate(data.split(b"\n")):
        text = line.strip().removeprefix(b"\xef\xbb\xbf" if number == 0 else b"").strip()
        try:
            rows.append(json.loads(text.decode(), parse_constant=refuse))
        except (ValueError, RecursionError):
            continue
    return rows


def refuse(_: str) -> None:
    raise ValueError


def take_loglines(bench: Bench, data: bytes) -> None:
    path = bench.source / "talk.json"
    path.write_bytes(data)
    store = bench.imports(import_transcripts, path)
    assert store is not None
    store.close()


def take_directory(bench: Bench, load: Import, files: dict[str, Any], data: bytes) -> None:
    """The first bytes say which of the files has the rest as its content."""
    places = [*files]
    for place, content in files.items():
        path = bench.source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(content).encode() + b"\n")
    damaged = places[(data[0] if data else 0) % len(places)]
    (bench.source / damaged).write_bytes(data[1:])
    store = bench.imports(load, bench.source)
    assert store is not None
    store.close()


def seeds_of(files: dict[str, Any]) -> list[bytes]:
    return [bytes([number]) + json.dumps(content).encode() + b"\n" for number, content in enumerate(files.values())]


def take_codewhale(bench: Bench, data: bytes) -> None:
    take_directory(bench, import_codewhale, WHALE, data)


def take_oxios(bench: Bench, data: bytes) -> None:
    take_directory(bench, import_oxios, OXIOS, data)


def database(path: Path, change: Callable[[str, str, Any], Any] = lambda _table, _column, cell: cell) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(schemas.STEER)
        for table, rows in ROWS.items():
            for row in rows:
                cells = [change(table, column, cell) for column, cell in row.items()]
                marks = ", ".join("?" * len(cells))
                connection.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})", cells)


def from_steer(store: Store, path: Path) -> Any:
    return import_sqlite(store, path, "steer")


def take_database(bench: Bench, data: bytes) -> None:
    path = bench.source / "state.db"
    path.write_bytes(data)
    store = bench.imports(from_steer, path)
    assert store is not None
    store.close()


def take_cells(bench: Bench, data: bytes) -> None:
    """The first byte says which cell has the rest as its content, and of which type."""
    places = [(table, column) for table, rows in ROWS.items() for column in rows[0]]
    wanted = places[(data[0] if data else 0) % len(places)]
    kind = data[1] % 4 if len(data) > 1 else 0
    cell: Any = [data[2:].decode("utf-8", "replace"), data[2:], int.from_bytes(data[2:9], "big", signed=True), 1.5][
        kind
    ]
    path = bench.source / "state.db"
    # What NOT NULL forbids is no cell of a database.
    database(path, lambda table, column, old: cell if (table, column) == wanted else old)
    store = bench.imports(from_steer, path)
    assert store is not None
    store.close()


def cells() -> list[bytes]:
    columns = [cell for rows in ROWS.values() for cell in rows[0].values()]
    return [bytes([number, number % 4]) + str(cell).encode() for number, cell in enumerate(columns)]


def sound_database(tmp_path: Path) -> bytes:
    path = tmp_path / "sound.db"
    database(path)
    return path.read_bytes()


IMPORTERS: Final = {
    "transcript": (take_transcript, [LINES, *LINES.splitlines(keepends=True)]),
    "loglines": (take_loglines, [json.dumps({"loglines": TRANSCRIPT}).encode(), b'{"loglines": []}']),
    "codewhale": (take_codewhale, seeds_of(WHALE)),
    "oxios": (take_oxios, seeds_of(OXIOS)),
    "cells": (take_cells, cells()),
    "database": (take_database, []),
}


def run(name: str, bench: Bench, tmp_path: Path, **given: Any) -> None:
    take, seeds = IMPORTERS[name]
    fuzz(lambda data: take(bench, data), seeds or [sound_database(tmp_path)], **given)


@pytest.mark.parametrize("name", IMPORTERS)
def test_importers(name: str, bench: Bench, tmp_path: Path) -> None:
    run(name, bench, tmp_path, inputs=3)


@pytest.mark.soak
@pytest.mark.parametrize("name", IMPORTERS)
def test_importers_for_long(name: str, bench: Bench, tmp_path: Path, soak_seconds: float) -> None:
    run(name, bench, tmp_path, seconds=soak_seconds)


def test_real_transcripts_of_every_program(bench: Bench, shared_data: Path) -> None:
    """Also those of programs that it does not know: their rows are kept, or told, and come back."""
    found = [
        path
        for folder in ("agent-sessions", "pi-mono", "claude-code-log")
        for path in (shared_data / folder).rglob("*.jsonl")
    ]
    if not found:
        pytest.skip("needs the transcripts of agent-sessions, pi-mono and claude-code-log")
    for path in found:
        if path.stat().st_size < 200_000:
            try:
                take_transcript(bench, path.read_bytes())
            except FsStateError as error:
                pytest.fail(f"{path}: {error}")
