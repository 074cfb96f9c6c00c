"""`demo`: everything that it prints happened."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fsstate import Store
from tests.cli.conftest import PROGRAM, Cli, Terminals, environment
from tests.git import needs_git


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "demo", *arguments], cwd=folder, env=environment(**more), capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where a demo was made, and what it printed; for tests that do the directory nothing."""
    folder = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    done = run(folder)
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


@needs_git
def test_the_demo_tells_what_it_did(shown: tuple[Path, str]) -> None:
    folder, text = shown
    with Store(folder / "fsstate-demo") as store:
        trail = store.journal("audit", "trail")
        assert [entry.seq for entry in trail] == list(range(1, 91))
        assert len({entry["by"] for entry in trail}) == 6
        assert store.collection("agents")["planner"]["runs"] == 90
        assert len(store.sessions) == 2
        for session in store.sessions:
            assert len(store.session(session).messages.leaves()) == 2
            assert store.session(session).events.count() > 0
    for words in ("90 entries", "90 of 90", "1 session", "├── agents/", '"status": "busy"', "Try next:"):
        assert words in text
    assert '-  "status": "idle",\n+  "status": "busy",\n' in text
    git = ["git", "-C", str(folder / "fsstate-demo"), "diff"]
    assert subprocess.run(git, capture_output=True, text=True, check=True).stdout in text
    assert (folder / "fsstate-demo/agents/planner.json").read_text() in text
    assert ".git/" not in text


def test_what_to_try_next_works(shown: tuple[Path, str], tmp_path: Path) -> None:
    folder, text = shown
    shutil.copytree(folder / "fsstate-demo", tmp_path / "fsstate-demo", symlinks=True)
    commands = [line.split()[1:] for line in text.partition("Try next:\n")[2].splitlines()]
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(
            [*PROGRAM, *command], cwd=tmp_path, env=environment(EDITOR="true"), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), command


def test_without_git(tmp_path: Path, no_git_path: str) -> None:
    done = run(tmp_path, PATH=no_git_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "git diff` to see here" in done.stdout
    assert "$ git" not in done.stdout


@needs_git
def test_the_persons_git_settings_do_not_disturb(tmp_path: Path) -> None:
    settings = [
        "commit.gpgsign=true",
        "diff.external=false",
        "core.pager=false",
        "core.autocrlf=true",
        "color.ui=always",
    ]
    for setting in settings:
        git = ["git", "config", "--file", str(tmp_path / ".gitconfig"), *setting.split("=")]
        subprocess.run(git, check=True)
    done = run(tmp_path, "--json", HOME=str(tmp_path), GIT_DIR="/nowhere", GIT_WORK_TREE="/nowhere")
    assert '+  "status": "busy",\n' in json.loads(done.stdout)["diff"]


def test_json(tmp_path: Path, no_git_path: str) -> None:
    found = json.loads(run(tmp_path, "here", "--json", PATH=no_git_path).stdout)
    assert found["directory"] == str(tmp_path / "here")
    assert found["diff"] is None
    assert (found["appended"], found["updated"], found["runs"]) == (90, 90, 90)
    assert (len(found["sessions"]), len(found["pruned"])) == (2, 1)


def test_it_takes_no_directory_that_is_in_use(cli: Cli) -> None:
    cli.directory.mkdir()
    (cli.directory / "mine.txt").write_text("mine")
    for force in ([], ["--force"]):
        assert "is not empty" in cli.fails(2, "demo", str(cli.directory), *force)
    assert os.listdir(cli.directory) == ["mine.txt"]
    (cli.directory / "mine.txt").unlink()
    cli.out("demo", str(cli.directory))


def test_force_replaces_an_earlier_demo(cli: Cli) -> None:
    cli.out("demo")
    (cli.directory / "leftover.txt").write_text("old")
    assert "--force replaces" in cli.fails(2, "demo")
    cli.out("demo", "--force")
    assert not (cli.directory / "leftover.txt").exists()


def test_a_file_is_no_directory(cli: Cli) -> None:
    cli.directory.write_text("mine")
    cli.fails(2, "demo", "--force")
    assert cli.directory.read_text() == "mine"


def test_at_a_terminal(terminal: Terminals) -> None:
    ended = terminal("demo").end()
    assert ended.code == 0
    assert "\x1b[31m-  " in ended.text.replace("\x1b[1m", "")
