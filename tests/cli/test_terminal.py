"""At a real terminal: colours, questions, and tables that fit."""

import pytest

from fsstate import Store
from tests.cli.conftest import Cli, Terminals

COLOUR = "\x1b["


@pytest.fixture(autouse=True)
def planner(store: Store) -> None:
    store.collection("agents").put("planner", {"a": 1})


VIEWS = (("ls",), ("show", "agents/planner"), ("sessions",))


@pytest.mark.parametrize("arguments", VIEWS, ids=" ".join)
def test_colours_go_to_terminals_only(cli: Cli, store: Store, terminal: Terminals, arguments: tuple[str, ...]) -> None:
    store.sessions.create()
    assert COLOUR in terminal(*arguments).end().text
    assert COLOUR.encode() not in cli.run(*arguments).stdout
    assert COLOUR not in terminal(*arguments, env={"NO_COLOR": "1"}).end().text.replace("\x1b[1m", "").replace(
        "\x1b[0m", ""
    )


@pytest.mark.parametrize("arguments", VIEWS, ids=" ".join)
def test_a_dumb_terminal_gets_no_colours(store: Store, terminal: Terminals, arguments: tuple[str, ...]) -> None:
    store.sessions.create()
    assert COLOUR not in terminal(*arguments, env={"TERM": "dumb"}).end().text


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("n\n", True), ("\n", True)], ids=["yes", "no", "enter"])
def test_rm_asks(terminal: Terminals, store: Store, answer: str, left: bool) -> None:
    shown = terminal("rm", "agents/planner")
    shown.expect("Delete agents/planner.json? [y/N]: ")
    shown.type(answer)
    assert shown.end().code == 0
    assert ("planner" in store.collection("agents")) is left


def test_rm_says_what_goes_with_a_session(terminal: Terminals, store: Store) -> None:
    session = store.sessions.create(title="My talk\nabout \x1b[31mred")
    store.session(session.id).messages.append("user", "Hi")
    shown = terminal("rm", session.id)
    question = shown.expect("[y/N]: ")
    assert f'Delete session {session.id} "My talk…" with its 1 message? [y/N]: ' in question
    shown.type("y\n")
    assert shown.end().code == 0
    assert session.id not in store.sessions


def test_rm_with_yes_does_not_ask(terminal: Terminals) -> None:
    assert terminal("rm", "--yes", "agents/planner").end() == (0, "deleted agents/planner.json\n")


def test_rm_interrupted_deletes_nothing(terminal: Terminals, store: Store) -> None:
    shown = terminal("rm", "agents/planner")
    shown.expect("[y/N]: ")
    ended = shown.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert "planner" in store.collection("agents")


def test_put_does_not_wait_for_a_person(terminal: Terminals) -> None:
    ended = terminal("put", "agents/planner").end()
    assert ended.code == 2
    assert "nothing to save" in ended.text


def test_a_table_fits_and_cuts_no_id(terminal: Terminals, store: Store) -> None:
    session = store.sessions.create(title="long " * 12, user_id="ada")
    lines = terminal("sessions", env={"COLUMNS": "90", "NO_COLOR": "1", "TERM": "dumb"}).end().text.splitlines()
    assert session.id in lines[1]
    assert lines[1].endswith("…")
    assert all(len(line) <= 90 for line in lines)


def test_follow_ends_with_an_interrupt(terminal: Terminals, store: Store) -> None:
    store.journal("audit", "trail").append("started")
    shown = terminal("log", "audit/trail", "--follow")
    shown.expect("started")
    ended = shown.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.text
