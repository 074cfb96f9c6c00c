"""The contract that `--help` tells: every command and option, the exit codes, completion, and how fast it starts."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

import fsstate
import fsstate.cli
from fsstate.cli.app import program
from fsstate.cli.exits import CODES
from tests.cli.conftest import PROGRAM, Cli, environment

NAMES = [
    "bench",
    "cat",
    "completion",
    "conflicts",
    "demo",
    "doctor",
    "edit",
    "export",
    "git",
    "import",
    "init",
    "log",
    "ls",
    "migrate",
    "pin",
    "prune",
    "put",
    "recover",
    "resolve",
    "restore",
    "rm",
    "search",
    "sessions",
    "show",
    "stats",
    "trash",
    "unpin",
]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(program))


def test_these_are_the_commands() -> None:
    assert sorted(program.commands) == NAMES
    assert [program.commands[name].name for name in NAMES] == NAMES
    assert {
        ("import", "claude-code"),
        ("export", "claude-code"),
        ("export", "record"),
        ("import", "json"),
        ("sessions", "show"),
        ("trash", "empty"),
    } < COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help(cli: Cli, path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith((".", "]")), parameter.help
    shown = cli.out(*path, "--help")
    for option in ("--store", "--json", "--help"):
        assert option in shown
    assert "With --json:" in shown or isinstance(command, click.Group)


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_commands_shows_their_first_sentence_whole(cli: Cli, name: str) -> None:
    line = next(line for line in cli.out("--help").splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(".")
    assert not line.endswith("...")


def test_help_and_module_tell_the_exit_codes(cli: Cli) -> None:
    shown = cli.out("--help")
    assert fsstate.cli.__doc__ is not None
    for code, meaning in CODES.items():
        assert f"{code:<4} {meaning}" in shown
        assert f"{code:<4} {meaning}" in fsstate.cli.__doc__


def test_version(cli: Cli) -> None:
    assert cli.out("--version") == f"fsstate {fsstate.__version__}\n"


def test_without_arguments_it_helps() -> None:
    done = subprocess.run(PROGRAM, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stdout[:6], done.stderr) == (0, b"Usage:", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).stdout
    assert "_FSSTATE_COMPLETE" in script
    assert shell in script


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("fsstate s", ["search", "sessions", "show", "stats"]),
        ("fsstate show ag", ["agents/"]),
        ("fsstate show agents/p", ["agents/planner.json"]),
        ("fsstate log audit/", ["audit/trail.jsonl"]),
        ("fsstate ls ", ["agents", "audit", "sessions"]),
        ("fsstate resolve ", ["agents/planner.json", "sessions/fixed-id.json"]),
        ("fsstate resolve ag", ["agents/planner.json"]),
        ("fsstate show fix", ["fixed-id"]),
        ("fsstate export claude-code fix", ["fixed-id"]),
        ("fsstate export fix", ["fixed-id"]),
        ("fsstate export rec", ["record"]),
        ("fsstate completion f", ["fish"]),
    ],
)
def test_the_shell_completes(cli: Cli, store: fsstate.Store, words: str, wanted: list[str]) -> None:
    store.collection("agents").put("planner", {})
    store.journal("audit", "trail").append("x")
    store.sessions.create(id="fixed-id")
    for kept in ("agents/planner", "sessions/fixed-id"):
        (cli.directory / f"{kept}.conflict-2026-11-28T184512Z-1f3a.json").write_text("{}")
    more = {"_FSSTATE_COMPLETE": "bash_complete", "COMP_WORDS": words, "FSSTATE_STORE": str(cli.directory)}
    more["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = subprocess.run(PROGRAM, env=environment(**more), capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == wanted


def imported(*arguments: str) -> set[str]:
    """The modules that a run imports."""
    code = "import sys; from fsstate.cli.app import run; run(); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_it_starts_without_what_it_does_not_need(cli: Cli, store: fsstate.Store) -> None:
    store.collection("agents").put("planner", {})
    heavy = {"rich", "anyio", "asyncio", "msgspec", "ruamel.yaml", "subprocess", "tempfile", "multiprocessing"}
    assert not imported("--help") & heavy
    assert not imported("--store", str(cli.directory), "cat", "agents/planner") & heavy
    assert not imported("--store", str(cli.directory), "ls") & heavy
    assert not imported("--store", str(cli.directory), "put", "agents/x", "{}") & (heavy - {"msgspec"})
    assert "rich" not in imported("--store", str(cli.directory), "show", "agents/planner")
    others = {"fsstate.cli.retention", "fsstate.cli.git", "fsstate.cli.recovery", "fsstate.cli.transfer"}
    assert not imported("--store", str(cli.directory), "ls") & others


def test_without_click_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from fsstate.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "fsstate: the command line needs an extra: python -m pip install 'fsstate[cli]'\n"
