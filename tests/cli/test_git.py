"""`fsstate git`: the repository, snapshots, and the history of a record."""

import json
import subprocess
from pathlib import Path

import pytest

from fsstate import Store
from tests.cli.conftest import Cli, Terminals
from tests.git import needs_git, person_in

pytestmark = needs_git


def git(cli: Cli, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=cli.directory, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    environment = person_in(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Path(environment["GIT_CONFIG_GLOBAL"])


@pytest.fixture
def history(cli: Cli, store: Store) -> Store:
    """A store with two commits."""
    subprocess.run(["git", "init", "--quiet", str(cli.directory)], check=True)
    agents = store.collection("agents")
    agents.put("planner", {"n": 1, "status": "idle"})
    session = store.session(store.sessions.create(id="0198c3-first", label="mine").id)
    session.messages.append("user", "Hi")
    store.snapshot("one")
    agents.put("planner", {"n": 2, "status": "idle"})
    session.messages.append("user", "Ho")
    session.messages.append("user", "\x1b[31mHa")
    store.snapshot("two")
    return store


def test_init(cli: Cli, store: Store) -> None:
    assert "does not exist" in cli.fails(1, "git", "init")
    store.collection("agents").put("planner", {})
    shown = cli(*("git", "init", "--dry-run"))
    assert shown.exit_code == 1
    assert f"a git repository would be made in {cli.directory}" in shown.stdout
    assert not (cli.directory / ".git").exists()
    made = cli.out("git", "init")
    assert f"a git repository was made in {cli.directory}\n" in made
    assert ".gitattributes: added  *.jsonl -text merge=fsstate diff=fsstate\n" in made
    assert "merge.fsstate.driver: set to  " in made
    assert cli.out("git", "init") == f"{cli.directory} knows all about this store already\n"
    told = json.loads(cli.out("git", "init", "--dry-run", "--json"))
    assert (told["created"], told["lines"], told["settings"]) == (False, {}, {})
    assert git(cli, "config", "diff.fsstate.textconv").endswith(" git textconv\n")


def test_snapshot(cli: Cli, history: Store) -> None:
    assert cli.out("git", "snapshot", "-m", "three") == "nothing has changed\n"
    history.collection("agents").put("other", {})
    commit = json.loads(cli.out("git", "snapshot", "--message", "three", "--json"))["commit"]
    assert git(cli, "log", "-1", "--format=%H %s") == f"{commit} three\n"
    history.collection("agents").delete("other")
    assert cli.out("git", "snapshot", "-m", "four").startswith("commit ")
    assert "message" in cli.fails(2, "git", "snapshot")
    assert "a snapshot needs a message" in cli.fails(1, "git", "snapshot", "-m", " ")


def test_log(cli: Cli, history: Store) -> None:
    lines = cli.out("git", "log", "mine").splitlines()
    assert lines[0].split() == ["COMMIT", "DATE", "(UTC)", "AUTHOR", "WHAT", "CHANGED", "SUBJECT"]
    assert [line.partition("  Ada  ")[2].split() for line in lines[1:]] == [
        ["+2", "messages", "two"],
        ["added,", "+1", "message", "one"],
    ]
    assert len(cli.out("git", "log", "agents/planner", "-n", "1").splitlines()) == 2
    found = json.loads(cli.out("git", "log", "agents/planner", "--json"))["commits"]
    assert [(each["subject"], each["summary"]) for each in found] == [("two", "n"), ("one", "added")]
    assert found[0]["changes"] == [
        {"path": "agents/planner.json", "kind": "changed", "fields": ["n"], "added": 1, "removed": 1}
    ]
    history.collection("agents").put("new", {})
    assert cli.out("git", "log", "agents/new") == "no commit has it\n"
    assert "neither exists nor is in a commit" in cli.fails(1, "git", "log", "agents/nobody")


def test_diff(cli: Cli, history: Store) -> None:
    shown = cli.out("git", "diff", "agents/planner", "HEAD~1")
    assert '-  "n": 1,\n+  "n": 2,\n' in shown
    assert cli.out("git", "diff", "agents/planner") == ""
    history.collection("agents").put("planner", {"n": 3, "status": "idle"})
    told = json.loads(cli.out("git", "diff", "agents/planner", "HEAD~1", "HEAD", "--json"))
    assert (told["old"], told["new"]) == ("HEAD~1", "HEAD")
    assert '+  "n": 2' in told["diff"]
    assert r"+{" in cli.out("git", "diff", "mine", "HEAD~1")
    assert "\x1b" not in cli.out("git", "diff", "mine", "HEAD~1")
    assert "git knows no commit '--output=x'" in cli.fails(1, "git", "diff", "--", "agents/planner", "--output=x")


def test_show(cli: Cli, history: Store, terminal: Terminals) -> None:
    assert json.loads(cli.out("git", "show", "agents/planner", "HEAD~1")) == {"n": 1, "status": "idle"}
    whole = cli.out("git", "show", "mine", "HEAD~1")
    assert whole.startswith("==> sessions/0198c3-first.json <==\n{")
    assert "\n==> sessions/0198c3-first/messages.jsonl <==\n" in whole
    only = cli.out("git", "show", "mine", "HEAD", "--file", "messages.jsonl")
    assert [json.loads(line)["seq"] for line in only.splitlines()] == [1, 2, 3]
    assert "had no file events.jsonl then; it had" in cli.fails(
        1, "git", "show", "mine", "HEAD", "--file", "events.jsonl"
    )
    told = json.loads(cli.out("git", "show", "mine", "HEAD", "--json"))
    assert [each["path"] for each in told["files"]] == [
        "sessions/0198c3-first.json",
        "sessions/0198c3-first/messages.jsonl",
    ]
    history.sessions.delete("0198c3-first")
    assert cli.out("git", "show", "0198c3", "HEAD~1") == whole
    ended = terminal("git", "show", "agents/planner", "HEAD").end()
    assert (ended.code, json.loads(ended.text)["n"]) == (0, 2)


def test_restore(cli: Cli, history: Store) -> None:
    planned = "would be replaced  agents/planner.json\n"
    assert cli.out("git", "restore", "agents/planner", "HEAD~1", "--dry-run") == planned
    assert cli.out("git", "restore", "agents/planner", "HEAD~1") == "replaced  agents/planner.json\n"
    assert history.collection("agents")["planner"]["n"] == 1
    again = cli.out("git", "restore", "agents/planner", "HEAD~1")
    assert again == "agents/planner.json is as it was then already\n"
    message = cli.fails(3, "git", "restore", "agents/planner", "HEAD")
    assert "take a snapshot first, or force it" in message
    cli.out("git", "restore", "agents/planner", "HEAD", "--force")
    history.session("0198c3-first").messages.append("user", "more")
    told = json.loads(cli.out("git", "restore", "mine", "HEAD~1", "--force", "--json"))
    assert told["in_trash"]
    assert told["files"] == [{"path": "sessions/0198c3-first/messages.jsonl", "change": "replaced"}]
    assert "sessions/0198c3-first.json" in cli.out("trash")
    history.sessions.delete("0198c3-first")
    assert "added  sessions/0198c3-first.json\n" in cli.out("git", "restore", "0198c3-first", "HEAD")
    assert history.session("0198c3-first").messages.count() == 3
    assert "git knows no commit 'HEAD~2'" in cli.fails(1, "git", "restore", "mine", "HEAD~2")


@pytest.mark.parametrize("command", [["init"], ["snapshot", "-m", "x"], ["log", "agents/planner"]])
def test_without_git(cli: Cli, store: Store, no_git_path: str, command: list[str]) -> None:
    store.collection("agents").put("planner", {})
    done = cli.run("git", *command, env={"PATH": no_git_path})
    assert done.returncode == 1
    assert b"needs the git program, and there is none on PATH" in done.stderr
    assert b"Traceback" not in done.stderr


def test_outside_of_a_repository(cli: Cli, store: Store) -> None:
    store.collection("agents").put("planner", {})
    assert "`fsstate git init` makes one" in cli.fails(1, "git", "snapshot", "-m", "x")
    assert "`fsstate git init` makes one" in cli.fails(1, "git", "log", "agents/planner")


def test_who_commits_must_be_known(cli: Cli, history: Store, person: Path) -> None:
    person.write_text("[user]\n\tuseConfigOnly = true\n")
    history.collection("agents").put("other", {})
    assert "run `git config user.name NAME`" in cli.fails(1, "git", "snapshot", "-m", "x")
