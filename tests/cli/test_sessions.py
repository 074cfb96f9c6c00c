"""`sessions`, `prune` and `show` of sessions."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fsstate import Message, Store, StoreOptions, Tool
from tests.cli.conftest import Cli

NOW = datetime.now(UTC)


@pytest.fixture
def several(cli: Cli) -> dict[str, str]:
    """Sessions of several ages, by title."""
    found: dict[str, str] = {}
    facts: list[tuple[str, int, dict[str, Any]]] = [
        ("ancient", 40, {"user_id": "ada", "project_id": "red"}),
        ("old", 10, {"user_id": "ada", "metadata": {"team": "core", "n": 1}}),
        ("recent", 3, {"user_id": "grace", "status": "ended", "label": "the recent one"}),
        ("new", 0, {"user_id": "grace"}),
    ]
    for title, days, given in facts:
        then = NOW - timedelta(days=days)
        with Store(cli.directory, StoreOptions(clock=partial(datetime.fromtimestamp, then.timestamp(), UTC))) as store:
            found[title] = store.sessions.create(title=title, **given).id
            for _ in range(days % 7):
                store.session(found[title]).messages.append("user", "Hi")
    return found


def titles(cli: Cli, *arguments: str) -> list[str]:
    return [each["title"] for each in json.loads(cli.out("sessions", "--json", *arguments))["sessions"]]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ["new", "recent", "old", "ancient"]),
        (["--user", "ada"], ["old", "ancient"]),
        (["--status", "ended"], ["recent"]),
        (["--project", "red"], ["ancient"]),
        (["--metadata", "team=core"], ["old"]),
        (["--metadata", "team=core", "--metadata", "n=1"], ["old"]),
        (["--metadata", "n=2"], []),
        (["--order", "title"], ["ancient", "new", "old", "recent"]),
        (["--order", "-message_count"], ["ancient", "recent", "old", "new"]),
        (["--order", "created_at", "-n", "2"], ["ancient", "old"]),
        (["-n", "2", "--offset", "1"], ["recent", "old"]),
        (["-n", "0"], ["new", "recent", "old", "ancient"]),
        (["--created-after", "5 days ago"], ["new", "recent"]),
        (["--updated-before", "5 days ago"], ["old", "ancient"]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("several")
def test_filters_order_and_pages(cli: Cli, arguments: list[str], wanted: list[str]) -> None:
    then = (NOW - timedelta(days=5)).isoformat()
    assert titles(cli, *(then if argument == "5 days ago" else argument for argument in arguments)) == wanted


def test_archived_and_children(cli: Cli, several: dict[str, str], store: Store) -> None:
    store.sessions.archive(several["old"])
    assert "old" not in titles(cli)
    assert titles(cli, "--archived") == ["old"]
    assert "old" in titles(cli, "--all")
    store.sessions.fork(several["recent"], title="child")
    assert titles(cli, "--parent", "the recent one") == ["child"]
    cli.fails(2, "sessions", "--all", "--archived")


def test_the_table(cli: Cli, several: dict[str, str]) -> None:
    lines = cli.out("sessions").splitlines()
    assert lines[0].split() == ["ID", "UPDATED", "(UTC)", "MSGS", "STATUS", "USER", "PROJECT", "LABEL", "TITLE"]
    assert lines[2].split()[0] == several["recent"]
    assert lines[2].endswith("the recent one  recent")
    assert "PROJECT" not in cli.out("sessions", "--user", "grace")
    assert cli.out("sessions", "--user", "nobody") == "no sessions\n"


@pytest.mark.usefixtures("several")
def test_json_has_every_field(cli: Cli) -> None:
    found = json.loads(cli.out("sessions", "--json", "-n", "1"))["sessions"][0]
    shape = cli.out("sessions", "--help").partition("With --json:")[2]
    assert all(f'"{field}"' in shape for field in found)
    assert found["updated_at"].endswith("Z")


@pytest.mark.parametrize(
    "option", [["--created-after", "soon"], ["--order", "age"], ["--metadata", "x"], ["-n", "-1"]], ids=str
)
@pytest.mark.usefixtures("several")
def test_wrong_filters(cli: Cli, option: list[str]) -> None:
    cli.fails(2, "sessions", *option)


# show


@pytest.fixture
def talk(store: Store) -> str:
    session = store.sessions.create(title="Talk", label="talk")
    messages = store.session(session.id).messages
    first = messages.append("user", "Hello\nthere")
    messages.append("assistant", [{"type": "text", "text": "Hi"}, {"type": "tool_use", "name": "grep"}], model="m1")
    messages.fork_at(first.id, "assistant", "Another", status="interrupted")
    return session.id


def test_show_a_session(cli: Cli, talk: str) -> None:
    shown = cli.out("show", "talk")
    assert f"session {talk}" in shown
    assert "3 messages in 2 branches" in shown
    assert "  Hello\n  there\n" in shown
    assert "Another" in shown
    assert "interrupted" in shown
    assert "grep" not in shown  # in the other branch
    assert cli.out("sessions", "show", "talk") == shown


def test_show_what_a_session_has_besides_messages(cli: Cli, store: Store) -> None:
    one = store.session(store.sessions.create(id="rich").id)
    assert "goal" not in cli.out("show", "rich")
    one.goal.set("Ship it", token_budget=2000)
    one.goal.spend(tokens=1500)
    one.tools.replace([Tool(name="grep"), Tool(name="ls")])
    for name in range(10):
        one.checkpoints.save(f"c{name}", {})
    shown = cli.out("show", "rich")
    assert "goal        Ship it (active, 1,500 of 2,000 tokens)\n" in shown
    assert "tools       grep, ls\n" in shown
    assert "checkpoints c0, c1, c2, c3, c4, c5, c6, c7, …\n" in shown
    Path(one.goal.path).write_text("{")
    assert "goal        not readable: " in cli.out("show", "rich")


def test_show_a_session_as_a_tree(cli: Cli, talk: str) -> None:
    tree = cli.out("show", talk, "--tree").partition(".json\n\n")[2]
    assert tree.splitlines() == [
        "user  Hello…",
        "├── assistant  Hi [tool_use grep]",
        "└── assistant  Another  interrupted  ← head",
    ]


def test_show_a_session_for_programs(cli: Cli, talk: str, store: Store) -> None:
    found = json.loads(cli.out("show", talk, "--json"))
    messages = store.session(talk).messages.all()
    assert [message["id"] for message in found["messages"]] == [message.id for message in messages]
    assert found["messages"][1]["parent"] == messages[0].id
    assert found["messages"][1]["at"] is not None
    assert found["head"] == messages[2].id
    assert found["leaves"] == [messages[1].id, messages[2].id]
    assert found["value"]["title"] == found["summary"]["title"] == "Talk"
    assert len(json.loads(cli.out("show", talk, "--json", "-n", "1"))["messages"]) == 1


def test_a_long_conversation_is_cut_and_its_tree_is_flat(cli: Cli, store: Store) -> None:
    session = store.sessions.create(title="T")
    parents = [None, *(f"m{n}" for n in range(3000))]
    store.session(session.id).messages.extend(
        [Message(id=f"m{n}", role="user", content=f"text {n}", parent_id=parents[n]) for n in range(3000)]
    )
    shown = cli.out("show", session.id)
    assert "… 2,980 earlier messages; -n 0 shows all" in shown
    assert "text 2980" in shown
    assert "text 2979\n" not in shown
    assert cli.out("show", session.id, "-n", "0").count("text ") == 3000
    tree = cli.out("show", session.id, "--tree").splitlines()
    assert tree[-1] == "user  text 2999  ← head"


def test_odd_trees_are_drawn_whole(cli: Cli, store: Store) -> None:
    session = store.sessions.create(title="T")
    parents = {"a": "missing", "b": "c", "c": "b", "d": "d", "e": "a"}
    store.session(session.id).messages.extend(
        [Message(id=name, role="user", content=f"text {name}", parent_id=parent) for name, parent in parents.items()]
    )
    tree = cli.out("show", session.id, "--tree")
    assert all(tree.count(f"text {name}") == 1 for name in parents)


def test_an_empty_session(cli: Cli, store: Store) -> None:
    session = store.sessions.create()
    assert "0 messages" in cli.out("show", session.id)
    assert cli.out("show", session.id, "--tree")
    assert json.loads(cli.out("show", session.id, "--json"))["head"] is None


def test_an_ambiguous_beginning_is_refused(cli: Cli, store: Store) -> None:
    for end in "ab":
        store.sessions.create(id=f"twins-{end}")
    assert "twins-a, twins-b" in cli.fails(1, "show", "twins-")


# prune


def test_prune_shows_before_it_does(cli: Cli, several: dict[str, str], store: Store) -> None:
    arguments = ("prune", "--ttl", "7d", "--keep", "1")
    found = json.loads(cli.out(*arguments, "--dry-run", "--json"))
    assert found["dry_run"]
    assert [(each["id"], each["reason"]) for each in found["pruned"]] == [
        (several["ancient"], "ttl"),
        (several["old"], "ttl"),
        (several["recent"], "count"),
    ]
    assert len(store.sessions) == 4
    shown = cli.out(*arguments, "--dry-run")
    assert "3 sessions would go to the trash" in shown
    assert several["old"] in shown
    assert "3 sessions went to the trash" in cli.out(*arguments)
    assert store.sessions.ids() == [several["new"]]
    assert cli.out(*arguments) == "0 sessions pruned\n"


def test_prune_in_batches(cli: Cli, several: dict[str, str], store: Store) -> None:
    cli.out("prune", "--ttl", "1d", "--batch", "1")
    assert several["ancient"] not in store.sessions
    assert len(store.sessions) == 3


@pytest.mark.parametrize(("ttl", "left"), [("36000m", 3), ("3w", 3), ("5d", 2), ("2d12h", 1), ("120h", 2), ("3s", 1)])
def test_durations(cli: Cli, several: dict[str, str], store: Store, ttl: str, left: int) -> None:
    with store.sessions.edit(several["new"]) as session:
        session.title = "touched"
    cli.out("prune", "--ttl", ttl)
    assert len(store.sessions) == left


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--ttl", "7"],
        ["--ttl", "d"],
        ["--ttl", "7 d"],
        ["--ttl", "-7d"],
        ["--ttl", "0d"],
        ["--keep", "0"],
        ["--max-bytes", "0"],
        ["--max-bytes", "5 tons"],
        ["--max-bytes", "-1MB"],
        ["--per", "user_id"],
        ["--per", "user_id", "--ttl", "1d"],
        ["--ttl", f"{10**12}w"],
    ],
    ids=str,
)
@pytest.mark.usefixtures("several")
def test_wrong_limits(cli: Cli, store: Store, arguments: list[str]) -> None:
    cli.fails(2, "prune", *arguments)
    assert len(store.sessions) == 4


def test_what_stays_is_told(cli: Cli, several: dict[str, str], store: Store) -> None:
    Path(store.sessions.path_of(several["old"])).write_text("{broken")
    with store.session(several["ancient"]).messages.stream("assistant"):
        result = cli("prune", "--ttl", "7d", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["pruned"] == []
    kept = {each["id"]: each["reason"] for each in found["kept"]}
    assert kept[several["old"]].startswith("error: ")
    result = cli("prune", "--ttl", "7d")
    assert f"{several['old']} stays: error" in result.stderr
