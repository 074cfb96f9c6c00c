"""`--json` before or behind every command gives JSON, with every key that its help tells."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest

from fsstate import Store
from tests.cli.conftest import Cli
from tests.cli.test_help import COMMANDS
from tests.cli.test_transfer import ROWS
from tests.integrations.schemas import ZERO

RUNS: dict[str, list[str]] = {
    "bench": ["--seconds", "0.1"],
    "cat": ["agents/planner", "mine"],
    "completion": ["bash"],
    "conflicts": [],
    "demo": ["DIR"],
    "doctor": [],
    "edit": ["agents/planner"],
    "export claude-code": ["talk", "--output", "DIR"],
    "export record": ["mine", "--output", "DIR"],
    "git diff": ["agents/planner", "HEAD"],
    "git init": [],
    "git log": ["agents/planner"],
    "git restore": ["agents/planner", "HEAD"],
    "git show": ["agents/planner", "HEAD"],
    "git snapshot": ["-m", "saved"],
    "import claude-code": ["talk.jsonl"],
    "import codewhale": ["theirs"],
    "import json": ["mine.json"],
    "import oxios": ["theirs"],
    "import sqlite": ["--from", "zero", "zero.db"],
    "git merge-driver": ["talk.jsonl", "talk.jsonl", "talk.jsonl", "7", "talk.jsonl"],
    "git textconv": ["talk.jsonl"],
    "init": [],
    "log": ["audit/trail"],
    "ls": [],
    "migrate": [],
    "pin": ["mine"],
    "prune": ["--keep", "1", "--dry-run"],
    "put": ["agents/planner", "{}"],
    "recover": [],
    "resolve": ["agents/planner"],
    "restore": ["--all"],
    "rm": ["agents/planner"],
    "search": ["found"],
    "sessions": [],
    "sessions show": ["mine"],
    "show": ["mine"],
    "stats": [],
    "trash": [],
    "trash empty": [],
    "unpin": ["mine"],
}
# These print what stands in the files, a line each.
LINES = ("log",)


@pytest.fixture
def filled(cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(cli.directory.parent)
    monkeypatch.setenv("EDITOR", f"{sys.executable} -c pass")
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "ada@example.org")
    Path("talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    cli.out("import", "claude-code", "talk.jsonl")
    Path("theirs/sessions").mkdir(parents=True)
    Path("theirs/sessions/a.json").write_text('{"metadata": {}}')
    with closing(sqlite3.connect("zero.db")) as connection:
        connection.executescript(ZERO)
    store.collection("agents").put("planner", {"a": 1})
    (cli.directory / "agents/planner.conflict-2026-11-28T184512Z-1f3a.json").write_text('{"a": 2}\n')
    store.journal("audit", "trail").append("made")
    session = store.sessions.create(label="mine")
    store.session(session.id).messages.append("user", "Hi")
    cli.out("export", "mine", "--format", "json", "--output", "mine.json")
    return store


@pytest.fixture
def committed(filled: Store, command: str) -> None:
    if command.startswith("git "):
        if shutil.which("git") is None:
            pytest.skip("needs git")
        subprocess.run(["git", "init", "--quiet", filled.path], check=True)
        filled.snapshot("made")


def test_every_command_is_here() -> None:
    leaves = {" ".join(path) for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert leaves | {"sessions", "trash"} == RUNS.keys()


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.usefixtures("committed")
def test_json_parses_and_has_the_documented_keys(cli: Cli, command: str, place: str) -> None:
    arguments = [str(cli.directory.parent / "new") if word == "DIR" else word for word in RUNS[command]]
    words = [*command.split(), *arguments]
    printed = cli(*(["--json", *words] if place == "before" else [*words, "--json"])).stdout
    found = [json.loads(line) for line in printed.splitlines()] if command in LINES else [json.loads(printed)]
    assert all(isinstance(each, dict) for each in found)
    documented = set(re.findall(r'"(\w+)"', cli.out(*command.split(), "--help").partition("With --json:")[2]))
    if command not in LINES:
        assert found[0].keys() <= documented


@pytest.mark.usefixtures("filled")
def test_the_shape_of_a_message(cli: Cli) -> None:
    message = json.loads(cli.out("show", "mine", "--json"))["messages"][0]
    keys = ["id", "role", "content", "parent", "at", "status", "model", "tool_call_id", "steps", "metadata", "seq"]
    assert sorted(message) == sorted(keys)
