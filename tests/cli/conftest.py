"""The command line in three ways: inside the test (fast), as a real process, and as a process at a real terminal."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from fsstate import Store
from fsstate.cli.app import program

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "fsstate.cli")
PATIENCE = 15.0


def environment(**more: str) -> dict[str, str]:
    """What a process started by a test sees: nothing of the person's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "xterm", **more}


class Cli:
    """The command line on one store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runner = CliRunner()

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run inside the test."""
        return self._runner.invoke(program, ["--store", str(self.directory), *arguments], input=stdin)

    def out(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Run inside the test; it must succeed and say nothing on standard error."""
        result = self(*arguments, stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def fails(self, code: int, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Run inside the test; it must end in this code, with one line on standard error."""
        result = self(*arguments, stdin=stdin)
        assert result.exit_code == code, result.output
        assert result.stderr.startswith("fsstate: ")
        assert result.stderr.count("\n") == 1
        return result.stderr

    def run(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run as a process of its own."""
        command = [*PROGRAM, "--store", str(self.directory), *arguments]
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env=environment(**(env or {})),
            cwd=self.directory.parent,
            timeout=60,
            check=False,
        )


def take_terminal() -> None:
    """Let the process be the one that the terminal's interrupts go to."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Ended(NamedTuple):
    code: int
    text: str


# Runs a program, and tells its code while the terminal still stands: when the first process of a terminal ends, what it
# wrote last may be thrown away unread.
LEADER = 'trap : INT; "$@"; echo "[ended $?]"; exec sleep 100'
ENDED = re.compile(r"\[ended (\d+)\]\n")


class Terminal:
    """A process whose standard streams are one real terminal."""

    def __init__(self, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self.text = ""
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", LEADER, "sh", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment(**(env or {})),
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - the only way; no other thread runs here
        )
        os.close(slave)

    def expect(self, wanted: str) -> str:
        """Wait until the text appears; return all that was shown."""
        self._read_until(lambda: wanted in self.text, PATIENCE)
        assert wanted in self.text
        return self.text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> Ended:
        """Press Ctrl-C until the process ends: one that comes just before Python reads its line goes unheard."""
        time.sleep(0.2)
        for _ in range(4):
            self.type("\x03")
            if self._read_until(self._has_ended, PATIENCE / 4):
                break
        return self.end()

    def end(self) -> Ended:
        """Wait for the process; return its code and all that was shown."""
        self._read_until(self._has_ended, PATIENCE)
        match = ENDED.search(self.text)
        assert match is not None, f"goes on: {self.text!r}"
        return Ended(int(match[1]), self.text[: match.start()])

    def close(self) -> None:
        os.close(self._master)
        os.killpg(self._leader.pid, signal.SIGKILL)
        self._leader.wait()

    def _has_ended(self) -> bool:
        return ENDED.search(self.text) is not None

    def _read_until(self, enough: Callable[[], bool], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not enough():
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            self.text = (self.text + os.read(self._master, 65536).decode(errors="replace")).replace("\r\n", "\n")
        return True


class Terminals:
    """Opens terminals for one test."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._open: list[Terminal] = []

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Terminal:
        command = (*PROGRAM, "--store", str(self._cli.directory), *arguments)
        terminal = Terminal(*command, cwd=self._cli.directory.parent, env=env)
        self._open.append(terminal)
        return terminal

    def close(self) -> None:
        for terminal in self._open:
            terminal.close()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "state")


@pytest.fixture
def store(cli: Cli) -> Iterator[Store]:
    """The store that `cli` works on."""
    with Store(cli.directory) as store:
        yield store


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Terminals]:
    terminals = Terminals(cli)
    yield terminals
    terminals.close()


@pytest.fixture
def no_git_path(tmp_path: Path) -> str:
    """A PATH on which there is a shell and no git."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shell = shutil.which("sh")
    assert shell is not None
    (folder / "sh").symlink_to(shell)
    return str(folder)
