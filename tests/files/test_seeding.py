"""A conversation that comes from a session's document into its log, with others at work and after crashes."""

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from fsstate.store import Store
from tests.files.processes import PROJECT, needs_strace, run, source, start

NUMBER = 40
TEXTS = [f"message {number}" for number in range(NUMBER)]


@pytest.fixture
def log(root: Path) -> Path:
    """The log of a session whose document holds a conversation."""
    at = [f"2026-01-01T00:{number:02}:00Z" for number in range(NUMBER)]
    said = [{"content": text, "timestamp": time} for text, time in zip(TEXTS, at, strict=True)]
    document = {"id": "s", "user_id": "u", "user_messages": said[::2], "agent_responses": said[1::2]}
    (root / "sessions").mkdir(parents=True)
    (root / "sessions" / "s.json").write_bytes(orjson.dumps(document))
    return root / "sessions" / "s" / "messages.jsonl"


def texts(root: Path) -> list[str]:
    with Store(root) as store:
        return [message.text for message in store.session("s").messages.list()]


def seqs(log: Path) -> list[int]:
    return [orjson.loads(line)["seq"] for line in log.read_bytes().splitlines()]


APPEND = """
from fsstate.store import Store
one = Store(root).session("s")
os.write(1, b"ready\\n")
sys.stdin.readline()
one.messages.append("user", "from " + sys.argv[2])
"""


def test_processes_that_are_first_at_once(root: Path, log: Path) -> None:
    writers = [start(APPEND, root, number) for number in range(4)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, err = writer.communicate(timeout=100)
        assert writer.returncode == 0, err
    found = texts(root)
    assert found[:NUMBER] == TEXTS
    assert sorted(found[NUMBER:]) == [f"from {number}" for number in range(4)]
    assert seqs(log) == list(range(1, NUMBER + 5))


@needs_strace
@pytest.mark.parametrize("call", ["flock", "write", "fdatasync"])
@pytest.mark.parametrize("when", [1, 2])
def test_killed_at_any_call(root: Path, log: Path, tmp_path: Path, call: str, when: int) -> None:
    code = source("from fsstate.store import Store\nStore(root).session('s').messages.append('user', 'x')")
    command = ["strace", "-f", "-o", str(tmp_path / "trace"), "-P", str(log), "-e"]
    command += [f"inject={call}:signal=SIGKILL:when={when}", sys.executable, "-c", code, str(root)]
    killed = subprocess.run(command, check=False, capture_output=True, cwd=PROJECT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = texts(root)
    assert found in (TEXTS, [*TEXTS, "x"])
    run("from fsstate.store import Store\nStore(root).session('s').messages.append('user', 'y')", root)
    assert texts(root) == [*found, "y"]
    assert seqs(log) == list(range(1, len(found) + 2))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999, 1.0])
def test_a_torn_write_is_completed(root: Path, log: Path, share: float) -> None:
    with Store(root) as store:
        store.session("s").messages.settle()
    data = log.read_bytes()
    assert seqs(log) == list(range(1, NUMBER + 1))
    log.write_bytes(data[: int(len(data) * share)])
    assert texts(root) == TEXTS
    with Store(root) as store:
        assert store.session("s").messages.append("user", "x").seq == NUMBER + 1
        assert [message.text for message in store.session("s").messages.list(limit=2)] == [TEXTS[-1], "x"]
    assert log.read_bytes().startswith(data)
    assert texts(root) == [*TEXTS, "x"]


def test_emptied_and_torn_they_do_not_come_back(root: Path, log: Path) -> None:
    with Store(root) as store:
        store.session("s").messages.clear()
    with log.open("ab") as file:
        file.write(b'{"seq":41,"id":"user-1')
    assert texts(root) == []
    with Store(root) as store:
        store.session("s").messages.append("user", "x")
    assert texts(root) == ["x"]
