"""`import` and `export`."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fsstate import Store
from fsstate.integrations.sqlite import SYSTEMS
from tests.cli.conftest import Cli, Terminals
from tests.integrations import schemas

ROWS: list[dict[str, Any]] = [
    {"type": "summary", "summary": "A talk", "leafUuid": "b"},
    {
        "type": "user",
        "uuid": "a",
        "parentUuid": None,
        "sessionId": "s1",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "message": {"role": "user", "content": "Hello"},
    },
    {
        "type": "assistant",
        "uuid": "b",
        "parentUuid": "a",
        "sessionId": "s1",
        "timestamp": "2026-01-31T12:00:01.000Z",
        "message": {"role": "assistant", "model": "m1", "content": [{"type": "text", "text": "Hi"}]},
    },
]


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_there_and_back(cli: Cli, transcript: Path, store: Store, tmp_path: Path) -> None:
    shown = cli.out("import", "claude-code", str(transcript))
    assert shown.startswith("imported 1 session from 3 rows: 2 messages, 1 event, 0 tool calls")
    assert cli.out("import", "claude-code", str(transcript)).endswith("1 session unchanged\n")
    (session,) = store.sessions.ids()
    assert [message.text for message in store.session(session).messages.list()] == ["Hello", "Hi"]
    rows = cli.out("export", "claude-code", session)
    assert [json.loads(line) for line in rows.splitlines()] == ROWS
    target = tmp_path / "back.jsonl"
    told = json.loads(cli.out("export", "claude-code", session, "-o", str(target), "--json"))
    assert told == {"session": session, "output": str(target), "rows": 3}
    assert target.read_text() == rows


def test_json_has_the_documented_shape(cli: Cli, transcript: Path) -> None:
    found = json.loads(cli.out("import", "claude-code", str(transcript), "--json"))
    assert found == {
        "sessions": 1,
        "messages": 2,
        "events": 1,
        "tool_calls": 0,
        "unchanged": 0,
        "rows": 3,
        "problems": [],
    }


def test_a_bad_line_is_told_by_number_and_stops_nothing(cli: Cli, transcript: Path, store: Store) -> None:
    lines = transcript.read_text().splitlines(keepends=True)
    transcript.write_text("".join([lines[0], "nonsense\n", *lines[1:]]))
    result = cli("import", "claude-code", str(transcript))
    assert result.exit_code == 1
    assert f"{transcript}, line 2" in result.stderr
    assert "2 messages" in result.stdout
    assert len(store.sessions) == 1


def test_what_is_not_there(cli: Cli, store: Store, tmp_path: Path) -> None:
    cli.fails(2, "import", "claude-code", str(tmp_path / "nowhere"))
    store.collection("a").put("b", {})
    cli.fails(1, "export", "claude-code", "nosuchsession")


def test_an_export_that_fails_leaves_what_was_there(cli: Cli, transcript: Path, tmp_path: Path) -> None:
    cli.out("import", "claude-code", str(transcript))
    folder = tmp_path / "no" / "such" / "folder"
    cli.fails(5, "export", "claude-code", "talk", "-o", str(folder / "x.jsonl"))
    assert not folder.exists()


def test_a_progress_bar_is_for_terminals(cli: Cli, transcript: Path, terminal: Terminals) -> None:
    ended = terminal("import", "claude-code", str(transcript)).end()
    assert ended.code == 0
    assert "importing" in ended.text
    assert cli.run("import", "claude-code", str(transcript)).stderr == b""


def test_public_transcripts(cli: Cli, shared_data: Path, store: Store) -> None:
    source = shared_data / "claude-code-log"
    cli("import", "claude-code", str(source))
    assert len(store.sessions) > 0
    for session in store.sessions:
        assert cli("show", session).exit_code == 0
        assert cli("show", session, "--tree").exit_code == 0
        assert cli("log", session).exit_code == 0
        assert cli("export", "claude-code", session).exit_code == 0


@pytest.fixture
def oxios(tmp_path: Path) -> Path:
    directory = tmp_path / "oxios"
    for place, content in {
        "sessions/s1.json": {"id": "s1", "user_id": "u1", "user_messages": [{"content": "Hello"}]},
        "agents/a1.json": {"id": "a1"},
    }.items():
        (directory / place).parent.mkdir(parents=True)
        (directory / place).write_text(json.dumps(content))
    (directory / "agent_log.db").touch()
    return directory


@pytest.fixture
def zero(tmp_path: Path) -> Path:
    path = tmp_path / "zero.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(schemas.ZERO)
        connection.execute("INSERT INTO sessions (ulid, started_at, cli_version) VALUES ('01HA', '2025-01-01', '1')")
    return path


def test_oxios(cli: Cli, oxios: Path, store: Store) -> None:
    assert cli.out("import", "oxios", str(oxios)).splitlines() == [
        "passed over agent_log.db: an index, which oxios makes anew from agents/",
        "           found  imported  unchanged  changed  failed",
        "sessions   1      1         0          0        0",
        "messages   1      1         0          0        0",
        "documents  1      1         0          0        0",
        "imported 3 of 3; 0 unchanged, 0 changed since, 0 failed",
    ]
    assert cli.out("import", "oxios", str(oxios)).endswith("imported 0 of 3; 3 unchanged, 0 changed since, 0 failed\n")
    assert store.sessions.ids() == ["s1"]


def test_a_report_as_json_has_the_documented_shape(cli: Cli, oxios: Path) -> None:
    (oxios / "agents" / "a1.json").write_text("{")
    result = cli("import", "oxios", str(oxios), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    (problem,) = found.pop("problems")
    assert problem.startswith(f"{oxios}, agents/a1.json: not imported: line 1, column 2: ")
    assert found == {
        "kinds": {
            "sessions": {"found": 1, "imported": 1, "unchanged": 0, "changed": 0, "failed": 0},
            "messages": {"found": 1, "imported": 1, "unchanged": 0, "changed": 0, "failed": 0},
            "documents": {"found": 1, "imported": 0, "unchanged": 0, "changed": 0, "failed": 1},
        },
        "sessions": ["s1"],
        "changed": [],
        "passed_over": [f"{oxios}, agent_log.db: an index, which oxios makes anew from agents/"],
    }


def test_sqlite(cli: Cli, zero: Path, store: Store) -> None:
    assert cli.out("import", "sqlite", "--from", "zero", str(zero)).endswith(
        "imported 1 of 1; 0 unchanged, 0 changed since, 0 failed\n"
    )
    assert store.sessions.ids() == ["01HA"]
    assert "no steer database" in cli.fails(1, "import", "sqlite", "--from", "steer", str(zero))
    with closing(sqlite3.connect(zero)) as connection, connection:
        connection.execute("INSERT INTO refinery_schema_history VALUES (2, '', '', '')")
    assert "has version 2" in cli.fails(1, "import", "sqlite", "--from", "zero", str(zero))
    cli.fails(2, "import", "sqlite", str(zero))
    for system in SYSTEMS:
        assert system in cli.out("import", "sqlite", "--help")


def test_what_was_changed_here_since_is_named_and_no_failure(cli: Cli, zero: Path, store: Store) -> None:
    with closing(sqlite3.connect(zero)) as connection, connection:
        connection.execute("INSERT INTO milestones VALUES ('first_run', 'yes', '2025-01-01')")
    cli.out("import", "sqlite", "--from", "zero", str(zero))
    store.settings.set("milestones/first_run", "no")
    shown = cli.out("import", "sqlite", "--from", "zero", str(zero))
    path = store.settings.path_of("milestones/first_run")
    named = f"{path} differs in value, updated_at: changed since, and left as it is"
    assert shown.startswith(f"table milestones, row 1: {named}\n")
    assert shown.endswith("imported 0 of 2; 1 unchanged, 1 changed since, 0 failed\n")
    found = json.loads(cli.out("import", "sqlite", "--from", "zero", str(zero), "--json"))
    assert found["changed"] == [f"{zero}, table milestones, row 1: {named}"]
    assert found["kinds"]["settings"] == {"found": 1, "imported": 0, "unchanged": 0, "changed": 1, "failed": 0}


def test_codewhale(cli: Cli, tmp_path: Path) -> None:
    directory = tmp_path / "codewhale"
    (directory / "sessions").mkdir(parents=True)
    saved = {"schema_version": 1, "metadata": {"title": "One"}, "messages": [{"role": "user", "content": "a"}]}
    (directory / "sessions" / "a.json").write_text(json.dumps(saved))
    assert cli.out("import", "codewhale", str(directory)).endswith(
        "imported 2 of 2; 0 unchanged, 0 changed since, 0 failed\n"
    )
    (directory / "state.json").write_text('{"schema_version": 3}')
    assert "has format 3" in cli.fails(1, "import", "codewhale", str(directory))


def test_a_progress_bar_for_other_imports(oxios: Path, terminal: Terminals) -> None:
    ended = terminal("import", "oxios", str(oxios)).end()
    assert ended.code == 0
    assert "importing" in ended.text
