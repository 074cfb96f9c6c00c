"""Each documented code in a real process, and never a traceback."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fsstate import Store
from fsstate.backends.base import JSON, Ref
from tests.cli.conftest import PROGRAM, Cli, environment

AGENT = Ref("agents", "planner", JSON)


@pytest.fixture(autouse=True)
def planner(store: Store) -> None:
    store.collection("agents").put("planner", {"a": 1})


def ended(cli: Cli, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    done = cli.run(*arguments, stdin=stdin)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stderr.decode()


def test_done(cli: Cli) -> None:
    assert ended(cli, "cat", "agents/planner") == (0, "")


def test_a_problem_in_the_data(cli: Cli, store: Store) -> None:
    path = store.path_of(("agents", "planner"))
    Path(path).write_text('{\n  "a": 1,\n}\n')
    message = f"fsstate: {path}, line 2, column 9: a trailing comma stands before '}}'; remove it\n"
    assert ended(cli, "show", "agents/planner") == (1, message)


def test_usage(cli: Cli) -> None:
    code, message = ended(cli, "show")
    assert (code, message.count("\n")) == (2, 1)
    assert "`fsstate show --help`" in message


def test_conflict(cli: Cli) -> None:
    assert ended(cli, "put", "agents/planner", "{}", "--expect", "0" * 40)[0] == 3


def test_locked(cli: Cli, store: Store) -> None:
    held = store.backend.lock(AGENT)
    try:
        code, message = ended(cli, "--wait", "0.1", "put", "agents/planner", "{}")
    finally:
        held.release()
    assert code == 4
    assert "agents/planner.json" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(cli: Cli) -> None:
    (cli.directory / "agents").chmod(0o500)
    assert ended(cli, "put", "agents/other", "{}")[0] == 5


def test_what_cannot_be_looked_at_is_not_said_to_be_absent(cli: Cli) -> None:
    (cli.directory / "loop").symlink_to("loop")
    for command in ("show", "cat", "rm", "log"):
        code, message = ended(cli, command, "loop/one")
        assert (code, message.count("\n")) == (5, 1)
        assert "cannot look for" in message


def test_refused_by_the_system(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, message = ended(cli, "ls", "--store", str(tmp_path / "file"))
    assert (code, message.count("\n")) == (5, 1)
    assert str(tmp_path / "file") in message


def test_full_disk(cli: Cli) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    command = [*PROGRAM, "--store", str(cli.directory), "show", "agents/planner"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment(), check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (5, 1)


def test_newer_store(cli: Cli) -> None:
    (cli.directory / ".fsstate/store.json").write_text('{"format": 2}')
    code, message = ended(cli, "show", "agents/planner")
    assert code == 1
    assert "upgrade fsstate" in message


def test_interrupted(cli: Cli, store: Store) -> None:
    store.journal("audit", "trail").append("x")
    command = [*PROGRAM, "--store", str(cli.directory), "log", "audit/trail", "--follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr.strip()) == (130, b"")


def test_closed_pipe_ends_quietly(cli: Cli, store: Store) -> None:
    store.journal("audit", "trail").append_many([("x", {"text": "y" * 1000})] * 500)
    for arguments in (["cat", "audit/trail"], ["log", "audit/trail", "-n", "500"], ["show", "audit/trail", "--json"]):
        command = [*PROGRAM, "--store", str(cli.directory), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(10) == 141


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-"])
def test_closed_streams_are_no_failure(cli: Cli, redirection: str) -> None:
    line = f'"$@" {redirection}'
    command = ["sh", "-c", line, "sh", *PROGRAM, "--store", str(cli.directory), "cat", "agents/planner"]
    done = subprocess.run(command, env=environment(PYTHONWARNINGS=""), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_nobody_thought_of_is_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("fsstate.cli.base.Settings.require_store", fail)
    message = cli.fails(70, "ls")
    assert message == "fsstate: this is a bug in fsstate, please report it: ZeroDivisionError: oh\\nno\n"
