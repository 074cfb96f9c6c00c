"""`log`: the end of a log, what follows an entry, and following it through whatever happens to it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate import Journal, Store
from fsstate.backends.base import LOG, Ref
from fsstate.cli.logs import Follower
from tests.cli.conftest import PROGRAM, Cli, environment

TRAIL = Ref("audit", "trail", LOG)


@pytest.fixture
def trail(store: Store) -> Journal:
    return store.journal("audit", "trail")


@pytest.fixture
def twelve(trail: Journal) -> Journal:
    trail.append_many([("even" if n % 2 == 0 else "odd", {"n": n}) for n in range(1, 13)])
    return trail


def seqs(cli: Cli, *arguments: str) -> list[int]:
    return [json.loads(line)["seq"] for line in cli.out("log", "audit/trail", "--json", *arguments).splitlines()]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], range(3, 13)),
        (["-n", "2"], [11, 12]),
        (["--tail", "0"], []),
        (["--after", "9"], [10, 11, 12]),
        (["--after", "0"], range(1, 13)),
        (["--after", "3", "-n", "2"], [4, 5]),
        (["--after", "12"], []),
        (["--kind", "odd", "-n", "2"], [9, 11]),
        (["--kind", "odd", "--after", "6"], [7, 9, 11]),
        (["--kind", "odd", "--kind", "even", "-n", "3"], [10, 11, 12]),
        (["--kind", "none"], []),
    ],
    ids=str,
)
@pytest.mark.usefixtures("twelve")
def test_which_entries_are_shown(cli: Cli, arguments: list[str], wanted: list[int]) -> None:
    assert seqs(cli, *arguments) == list(wanted)


def test_json_is_the_line_of_the_file(cli: Cli, trail: Journal) -> None:
    trail.append("made", text="ü", big=10**30, deep={"a": [None, 1.5]})
    assert cli.out("log", "audit/trail", "--json") == Path(trail.path).read_text()


def test_people_read_seq_time_kind_and_fields(cli: Cli, trail: Journal) -> None:
    trail.append("made", at="2026-01-31T12:00:00Z", name="grep", text="two words", n=1, deep={"a": None})
    line = '     1  2026-01-31 12:00:00Z  made  name=grep  text="two words"  n=1  deep={"a":null}\n'
    assert cli.out("log", "audit/trail") == line


def test_entries_of_others_are_shown(cli: Cli, trail: Journal) -> None:
    trail.append("x")
    Path(trail.path).write_text('{"seq":1,"at":"yesterday","kind":5}\n')
    assert cli.out("log", "audit/trail").split() == ["1", "at=yesterday", "kind=5"]


def test_a_bad_line_is_told_and_hides_nothing(cli: Cli, twelve: Journal) -> None:
    path = Path(twelve.path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:10], "nonsense\n", *lines[10:]]))
    done = cli.run("log", "audit/trail", "-n", "3", "--json")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [10, 11, 12]
    assert done.returncode == 0
    assert done.stderr.startswith(b"fsstate: warning: skipped: ")


def test_a_session_shows_its_events(cli: Cli, store: Store) -> None:
    session = store.sessions.create(label="mine")
    assert cli.out("log", "mine") == ""
    store.session(session.id).events.append("started", name="grep")
    assert "started  name=grep" in cli.out("log", session.id)
    store.session(session.id).messages.append("user", "Hi")
    assert json.loads(cli.out("log", f"sessions/{session.id}/messages", "--json"))["content"] == "Hi"


# Following, step by step


def news(follower: Follower) -> list[int]:
    return [row["seq"] for row in follower.news()]


@pytest.fixture
def follower(store: Store, twelve: Journal) -> Follower:
    follower = Follower(store.backend, twelve.log.ref)
    follower.tail(1, ())
    return follower


def test_follower_sees_appends_once(follower: Follower, twelve: Journal) -> None:
    assert news(follower) == []
    twelve.append("x")
    assert (news(follower), news(follower)) == ([13], [])


@pytest.mark.parametrize("before", [5, 13, 14, 100])
def test_follower_goes_on_after_a_trim(follower: Follower, twelve: Journal, before: int) -> None:
    twelve.append("x")
    assert news(follower) == [13]
    twelve.trim(before=before)
    assert news(follower) == []
    twelve.append("y")
    assert news(follower) == [14]


def test_follower_sees_what_came_before_a_trim_was_noticed(follower: Follower, twelve: Journal) -> None:
    twelve.append("x")
    twelve.append("y")
    twelve.trim(before=14)
    assert news(follower) == [14]


def rows(*numbers: int, kind: str = "new") -> str:
    return "".join(json.dumps({"seq": n, "kind": kind}) + "\n" for n in numbers)


OTHER_LOGS = {"short": rows(1, 2), "as long": rows(1, 2, 12), "longer": rows(1, 2, 15), "trimmed": rows(12, 13)}


@pytest.mark.parametrize("text", OTHER_LOGS.values(), ids=OTHER_LOGS)
def test_follower_begins_anew_with_another_log(follower: Follower, twelve: Journal, text: str) -> None:
    path = Path(twelve.path)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)
    assert news(follower) == [json.loads(line)["seq"] for line in text.splitlines()]
    assert news(follower) == []


def test_follower_survives_a_deletion(follower: Follower, store: Store, twelve: Journal) -> None:
    store.backend.delete_log(TRAIL)
    assert news(follower) == []
    twelve.append("again")
    assert news(follower) == [1]


def test_follower_of_what_is_not_there_yet(store: Store, trail: Journal) -> None:
    follower = Follower(store.backend, TRAIL)
    assert list(follower.after(0)) == []
    trail.append("x")
    assert news(follower) == [1]


def test_follower_loses_nothing_appended_while_it_reads(store: Store, twelve: Journal) -> None:
    follower = Follower(store.backend, TRAIL)
    shown = follower.after(10)
    twelve.append("x")
    assert [row["seq"] for row in shown] == [11, 12]
    assert news(follower) == [13]


# Following, as a process


class Following:
    """`fsstate log --follow` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture
def follow(cli: Cli) -> Iterator[Callable[..., Following]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, stderr: bool = False) -> Following:
        command = [*PROGRAM, "--store", str(cli.directory), "log", "audit/trail", "--follow", "--json", *arguments]
        errors = subprocess.PIPE if stderr else None
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment()))
        return Following(started[-1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_follow_says_nothing_twice(twelve: Journal, follow: Callable[..., Following]) -> None:
    with Path(twelve.path).open("a") as file:
        file.write("rubbish\n")
    following = follow("-n", "1", stderr=True)
    for seq in (12, 13, 14):
        assert following.next()["seq"] == seq
        twelve.append("x")
    assert following.next()["seq"] == 15
    following.process.kill()
    told = following.process.communicate()[1].splitlines()
    assert b"skipped" in told[0]
    assert len(set(told)) == len(told)


def test_follow_shows_entries_as_they_come(twelve: Journal, follow: Callable[..., Following]) -> None:
    following = follow("-n", "1", "--kind", "even")
    assert following.next()["seq"] == 12
    twelve.append("odd")
    twelve.append("even")
    began = time.monotonic()
    assert following.next()["seq"] == 14
    assert time.monotonic() - began < 5
    twelve.trim(before=100)
    twelve.append("even")
    assert following.next()["seq"] == 15
    Path(twelve.path).write_text(rows(1, kind="even"))
    assert following.next()["seq"] == 1
