"""What every import promises of what an earlier one left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fsstate import Store
from fsstate.integrations.oxios import import_oxios
from tests.files.processes import needs_strace, trace

IMPORT = """
from fsstate import Store
from fsstate.integrations.oxios import import_oxios
store = Store(root)
store.collection("warm").put("up", 1)
os.write(2, b"MARK")
assert import_oxios(store, os.path.dirname(root) + "/oxios").total.imported == 0
os.write(2, b"MARK")
"""


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A store into which all was imported, by a program that is gone."""
    said = {"content": "Hello", "timestamp": "2025-01-01T00:00:00Z"}
    files = {"sessions/s1.json": {"id": "s1", "user_messages": [said]}, "agents/a1.json": {}, "evals/report.md": 1}
    for place, content in files.items():
        path = tmp_path / "oxios" / place
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    with Store(tmp_path / "state") as store:
        assert import_oxios(store, tmp_path / "oxios").total.imported == 4
    return tmp_path / "state"


@needs_strace
def test_what_is_there_already_is_made_to_last(imported: Path, tmp_path: Path) -> None:
    # Who put it there may have been killed before it flushed, and the report says that nothing is missing.
    lines = trace(IMPORT, imported, tmp_path, "fsync,fdatasync")
    for place in ("sessions/s1.json", "sessions/s1/messages.jsonl", "agents/a1.json", "evals/report.md"):
        path = imported / place
        assert any(f"<{path}>" in line for line in lines), place
        assert any(f"<{path.parent}>" in line for line in lines), place


def test_the_torn_end_of_a_log_is_mended_also_where_nothing_is_missing(imported: Path, tmp_path: Path) -> None:
    log = imported / "sessions/s1/messages.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-1] + b"\0")
    with Store(imported) as store:
        assert import_oxios(store, tmp_path / "oxios").problems == []
    assert log.read_bytes() == whole
