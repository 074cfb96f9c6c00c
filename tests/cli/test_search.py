"""`fsstate search`: what is shown, for people and for programs."""

import json

import click
import pytest

import fsstate
from tests.cli.conftest import Cli, Terminals

pytestmark = pytest.mark.usefixtures("full")


@pytest.fixture
def full(store: fsstate.Store) -> fsstate.Store:
    store.sessions.create(id="fixed-id", user_id="ada", label="mine")
    store.session("fixed-id").messages.append("user", "Where do\nmy \x1b[31mred files live?", id="m1")
    store.session("fixed-id").events.append("red")
    store.markdown("notes").put("standup", "---\ntitle: x\n---\nHello red world\n")
    store.collection("agents").put("planner", {"goal": {"text": "paint it red"}})
    store.journal("audit", "trail").append("login", name="red", at="2026-01-02")
    return store


def test_hits_for_people(cli: Cli, full: fsstate.Store) -> None:
    (at,) = (message.created_at for message in full.session("fixed-id").messages.all())
    assert at is not None
    assert sorted(cli.out("search", "RED").split("\n")) == sorted(
        [
            "notes/standup.md  line 4",
            "  Hello red world",
            "agents/planner.json  line 3  $.goal.text",
            "  paint it red",
            f"fixed-id  user, message m1  line 2  {at:%Y-%m-%d %H:%M:%SZ}",
            "  Where do my \\x1b[31mred files live?",
            "",
        ]
    )
    for line in cli.out("search", "red").splitlines():
        if not line.startswith(" "):
            cli.out("show", line.split()[0])


def test_hits_for_programs(cli: Cli) -> None:
    shown = json.loads(cli.out("search", "red", "files", "--json"))
    (hit,) = shown["hits"]
    assert shown["query"] == "red files"
    assert hit["score"] > 0
    assert {key: hit[key] for key in hit if key not in ("score", "at")} == {
        "record": "fixed-id",
        "place": "sessions/fixed-id/messages.jsonl",
        "session": "fixed-id",
        "message_id": "m1",
        "role": "user",
        "seq": 1,
        "field": None,
        "line": 2,
        "snippet": "Where do my \x1b[31mred files live?",
        "spans": [[17, 20], [21, 26]],
    }
    assert json.loads(cli.out("search", "nothing", "--json")) == {"query": "nothing", "hits": []}


@pytest.mark.parametrize(
    ("places", "records"),
    [
        (["notes"], ["notes/standup.md"]),
        (["notes/standup", "agents/"], ["agents/planner.json", "notes/standup.md"]),
        (["notes/standup.md"], ["notes/standup.md"]),
        (["sessions"], ["fixed-id"]),
        (["fixed-"], ["fixed-id"]),
        (["mine"], ["fixed-id"]),
        (["sessions/fixed-id"], ["fixed-id"]),
        (["audit/trail"], ["audit/trail.jsonl"]),
        (["sessions/fixed-id/events"], ["sessions/fixed-id/events.jsonl"]),
    ],
)
def test_where(cli: Cli, places: list[str], records: list[str]) -> None:
    options = [option for place in places for option in ("--in", place)]
    hits = json.loads(cli.out("search", "red", *options, "--json"))["hits"]
    assert sorted(hit["record"] for hit in hits) == records


def test_how_many_and_whose(cli: Cli) -> None:
    assert len(json.loads(cli.out("search", "red", "-n", "2", "--json"))["hits"]) == 2
    assert len(json.loads(cli.out("search", "red", "-n", "0", "--offset", "1", "--json"))["hits"]) == 2
    assert cli.out("search", "red", "--user", "ada").startswith("fixed-id ")
    assert cli.out("search", "red", "--user", "bob") == "nothing found\n"


def test_questions(cli: Cli) -> None:
    assert cli.out("search", '"it red"').startswith("agents/planner.json")
    assert cli.out("search", "red", "NOT", "world", "NOT", "files").startswith("agents/planner.json")
    assert cli.out("search", "--", "red", "-world", "-files").startswith("agents/planner.json")
    assert cli.out("search", "pla* OR pai*").startswith("agents/planner.json")


def test_what_goes_wrong(cli: Cli) -> None:
    assert "give at least one word" in cli.fails(2, "search", '"*"')
    assert "only says what not to find" in cli.fails(2, "search", "--", "-red")
    assert "search --help" in cli.fails(2, "search")
    assert "no session 'nowhere'" in cli.fails(1, "search", "red", "--in", "nowhere")
    assert "notes/nothing does not exist" in cli.fails(1, "search", "red", "--in", "notes/nothing")
    assert "cannot be a name" in cli.fails(2, "search", "red", "--in", "a//b/c")
    assert "does not exist" in cli.fails(1, "--store", f"{cli.directory}x", "search", "red")
    assert cli.out("search", "nothing") == "nothing found\n"


def test_matches_are_coloured_on_a_terminal(terminal: Terminals) -> None:
    coloured = click.style("red", fg="yellow", bold=True)
    assert coloured in terminal("search", "red", "--in", "notes").end().text
    assert coloured not in terminal("search", "red", "--in", "notes", env={"NO_COLOR": "1"}).end().text
