"""`init`, `ls`, `cat`, `show`, `put` and `rm`."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fsstate import Store
from tests.cli.conftest import Cli


@pytest.fixture
def filled(store: Store) -> Store:
    """One record of every kind, and a nested category."""
    store.collection("agents").put("planner", {"model": "m1", "name": "Plänner"})
    store.markdown("notes").put("standup", "---\nwho: ada\n---\n# Monday\n")
    store.journal("audit", "trail").append_many([("made", {"n": 1}), ("sent", {"n": 2})])
    store.collection("teams/red/agents").put("scout", {})
    return store


def as_json(cli: Cli, *arguments: str) -> Any:
    return json.loads(cli.out(*arguments, "--json"))


# init


def test_init_makes_a_store_once(cli: Cli) -> None:
    assert as_json(cli, "init") == {"store": str(cli.directory), "created": True}
    assert os.listdir(cli.directory) == [".fsstate"]
    assert json.loads((cli.directory / ".fsstate/store.json").read_text()) == {"format": 1}
    assert as_json(cli, "init") == {"store": str(cli.directory), "created": False}


def test_init_takes_a_directory(cli: Cli, tmp_path: Path) -> None:
    cli.out("init", str(tmp_path / "other"))
    assert (tmp_path / "other/.fsstate/store.json").exists()
    assert not cli.directory.exists()


@pytest.mark.usefixtures("filled")
def test_init_leaves_what_is_there(cli: Cli) -> None:
    before = sorted(cli.directory.rglob("*.json"))
    cli.out("init")
    assert sorted(cli.directory.rglob("*.json")) == before


# The directory


def test_a_missing_store_is_no_empty_one(cli: Cli) -> None:
    for arguments in (["ls"], ["show", "a/b"], ["cat", "x"], ["sessions"], ["log", "a/b"], ["prune", "--keep", "1"]):
        message = cli.fails(1, *arguments)
        assert str(cli.directory) in message
        assert "fsstate init" in message
    assert not cli.directory.exists()


@pytest.mark.usefixtures("filled")
def test_the_store_may_be_named_behind_the_command_or_by_the_environment(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = cli.out("ls")
    elsewhere = Cli(tmp_path / "elsewhere")
    assert elsewhere.out("ls", "--store", str(cli.directory)) == wanted
    done = elsewhere.run("ls", "--store", str(cli.directory))
    assert done.stdout.decode() == wanted
    monkeypatch.setenv("FSSTATE_STORE", str(cli.directory))
    assert elsewhere.fails(1, "ls")  # what is said by hand counts
    from click.testing import CliRunner

    from fsstate.cli.app import program

    assert CliRunner().invoke(program, ["ls"]).stdout == wanted


# ls


def test_ls_lists_categories(cli: Cli, filled: Store) -> None:
    filled.session(filled.sessions.create().id).messages.append("user", "Hi")
    filled.sessions.create()
    assert [line.split(maxsplit=1) for line in cli.out("ls").splitlines()] == [
        ["agents/", "1 document"],
        ["audit/", "1 log"],
        ["notes/", "1 note"],
        ["sessions/", "2 sessions"],
        ["teams/", "no records of its own"],
        ["teams/red/", "no records of its own"],
        ["teams/red/agents/", "1 document"],
    ]
    numbers = {"document": 1, "markdown": 0, "log": 0, "misnamed": 0}
    assert as_json(cli, "ls")["categories"][0] == {"category": "agents", **numbers}


def test_ls_tells_a_crowd_of_folders_in_one_line(cli: Cli, store: Store) -> None:
    for number in range(21):
        store.runs.start("test", session_id=f"s{number}")
    store.runs.start("test")
    for number in range(20):
        store.collection(f"teams/t{number:02}").put("agent", {})
    lines = cli.out("ls").splitlines()
    assert [line.split(maxsplit=1) for line in lines[:3]] == [
        ["runs/", "1 document"],
        ["runs/*/", "21 documents in 21 folders; `ls runs` names them"],
        ["teams/", "no records of its own"],
    ]
    assert len(lines) == 3 + 20
    assert len(json.loads(cli.out("ls", "--json"))["categories"]) == 22 + 21


def test_ls_lists_a_category(cli: Cli, filled: Store) -> None:
    filled.markdown("agents").put("planner", "x")
    assert cli.out("ls", "agents") == "planner.json\nplanner.md\n"
    assert cli.out("ls", "teams/") == "red/\n"
    path = filled.path_of(("agents", "planner"))
    record = {"record": "agents/planner.json", "name": "planner", "kind": "document", "path": path}
    assert as_json(cli, "ls", "agents")["records"][0] == record


@pytest.mark.usefixtures("filled")
def test_ls_counts_and_names_files_that_no_record_can_be_called(cli: Cli) -> None:
    for name in ("CON.json", "a:b.md", ".hidden.json"):
        (cli.directory / "agents" / name).write_bytes(b"{}")
    assert cli.out("ls").splitlines()[0].split(maxsplit=1) == ["agents/", "1 document, 2 misnamed files"]
    assert as_json(cli, "ls")["categories"][0]["misnamed"] == 2
    listed = cli("ls", "agents")
    assert (listed.exit_code, listed.stdout) == (0, "planner.json\n")
    named = listed.stderr.splitlines()
    assert ["agents/CON.json: " in named[0], "agents/a:b.md: " in named[1], len(named)] == [True, True, 2]
    assert [f"fsstate: {text}" for text in as_json(cli, "ls", "agents")["misnamed"]] == named


def test_ls_shows_what_belongs_to_a_session(cli: Cli, store: Store) -> None:
    session = store.sessions.create(id="one-session")
    store.session(session.id).events.append("x")
    assert cli.out("ls", "sessions/one-session") == "events.jsonl\n"
    assert cli.out("ls", "sessions") == "one-session.json\n"


def test_ls_of_nothing(cli: Cli) -> None:
    cli.out("init")
    assert cli.out("ls") == f"{cli.directory} is empty\n"
    assert "nowhere" in cli.fails(1, "ls", "nowhere")


# cat


def test_cat_gives_the_very_bytes(cli: Cli, filled: Store) -> None:
    path = Path(filled.path_of(("agents", "planner")))
    path.write_bytes(b'\xef\xbb\xbf{"a":\r\n1e2}')
    assert cli("cat", "agents/planner").stdout_bytes == path.read_bytes()
    log = Path(filled.path_of(("audit", "trail")))
    assert cli("cat", "notes/standup", "audit/trail.jsonl").stdout_bytes.endswith(log.read_bytes())


def test_cat_gives_what_cannot_be_read_otherwise(cli: Cli, filled: Store) -> None:
    Path(filled.path_of(("agents", "planner"))).write_text("{broken")
    assert cli.out("cat", "agents/planner") == "{broken"
    assert as_json(cli, "cat", "agents/planner")["records"][0]["text"] == "{broken"


def test_cat_of_a_session_is_its_document(cli: Cli, store: Store) -> None:
    session = store.sessions.create(label="mine")
    for needle in (session.id, session.id[:20], "mine", f"sessions/{session.id}"):
        assert cli.out("cat", needle) == Path(store.path_of(session)).read_text()


# show


def test_show_a_document(cli: Cli, filled: Store) -> None:
    shown = cli.out("show", "agents/planner")
    assert shown.endswith('{\n  "model": "m1",\n  "name": "Plänner"\n}\n')
    found = as_json(cli, "show", "agents/planner")
    assert found.pop("path") == filled.path_of(("agents", "planner"))
    revision = filled.collection("agents").revision("planner")
    value = {"model": "m1", "name": "Plänner"}
    assert found == {"record": "agents/planner.json", "kind": "document", "revision": revision, "value": value}


@pytest.mark.usefixtures("filled")
def test_show_markdown(cli: Cli) -> None:
    assert cli.out("show", "notes/standup").endswith("# Monday\n")
    found = as_json(cli, "show", "notes/standup")
    assert (found["kind"], found["front_matter"], found["text"]) == ("markdown", {"who": "ada"}, "# Monday\n")


def test_show_a_log(cli: Cli, filled: Store) -> None:
    log = Path(filled.path_of(("audit", "trail")))
    log.write_text(log.read_text() + "nonsense\n")
    found = as_json(cli, "show", "audit/trail")
    assert (found["kind"], found["count"], found["first"], found["last"]) == ("log", 2, 1, 2)
    assert [entry["kind"] for entry in found["entries"]] == ["made", "sent"]
    assert "line 3" in found["problems"][0]
    shown = cli.out("show", "audit/trail", "-n", "1")
    assert "2 entries" in shown
    assert "line 3" in shown
    assert "sent" in shown
    assert "made" not in shown


# Addresses


def test_an_extension_decides_between_several(cli: Cli, filled: Store) -> None:
    filled.markdown("agents").put("planner", "text")
    message = cli.fails(1, "cat", "agents/planner")
    assert "agents/planner.json, agents/planner.md" in message
    assert cli.out("cat", "agents/planner.md") == "text"


def test_a_name_may_end_like_an_extension(cli: Cli, filled: Store) -> None:
    filled.collection("agents").put("readme.md", {"odd": True})
    assert cli.out("cat", "agents/readme.md") == cli.out("cat", "agents/readme.md.json")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("agents/nobody", "agents/nobody does not exist, neither as .json nor .md nor .jsonl"),
        ("agents/nobody.json", "agents/nobody.json does not exist"),
        ("agents/", "`fsstate ls agents`"),
        ("agents", "`fsstate ls agents`"),
        ("teams/red", "`fsstate ls teams/red`"),
        ("nosuchsession", "category/name"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_what_is_not_there_is_named(cli: Cli, address: str, words: str) -> None:
    for command in ("cat", "show", "rm", "log"):
        assert words in cli.fails(1, command, address)


@pytest.mark.parametrize("address", ["../x/y", "a/..", "/etc/passwd", "a//b", ".fsstate/store", "a/CON", "a/b\\c", "/"])
@pytest.mark.usefixtures("filled")
def test_names_that_are_none_are_refused(cli: Cli, address: str) -> None:
    for command in ("cat", "put", "edit"):
        assert "cannot be a name" in cli.fails(2, command, address, *["{}"][: command == "put"])


@pytest.mark.usefixtures("filled")
def test_a_symlink_is_not_followed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"secret": 1}')
    (cli.directory / "agents/link.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/one.json").write_text('{"secret": 1}')
    (cli.directory / "linked").symlink_to(tmp_path / "outside")
    for address in ("agents/link", "linked/one"):
        for command in ("cat", "show", "edit"):
            assert "link" in cli.fails(5, command, address)


# put


def test_put_says_the_revision(cli: Cli, store: Store) -> None:
    saved = as_json(cli, "put", "agents/planner", '{"a": 1}')
    assert saved["revision"] == store.collection("agents").revision("planner")
    assert (saved["record"], saved["path"]) == ("agents/planner.json", store.path_of(("agents", "planner")))
    shown = cli.out("put", "agents/planner", '{"a": 2}').split()[-1]
    assert shown == store.collection("agents").revision("planner")


def test_put_takes_a_file_or_standard_input(cli: Cli, store: Store, tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text('{"from": "file"}')
    cli.out("put", "agents/a", "--file", str(tmp_path / "value.json"))
    cli.out("put", "agents/b", stdin='{"from": "input"}')
    cli.out("put", "agents/c", "--file", "-", stdin='{"from": "input"}')
    assert [item.value["from"] for item in store.collection("agents").items()] == ["file", "input", "input"]


def test_put_takes_markdown_as_it_is(cli: Cli, store: Store) -> None:
    cli.out("put", "notes/a.md", stdin=b"# Gr\xc3\xbc\xc3\x9fe\r\n")
    assert Path(store.path_of(("notes", "a"))).read_bytes() == "# Grüße\r\n".encode()


@pytest.mark.usefixtures("filled")
def test_put_changes_one_line(cli: Cli) -> None:
    cli.out("put", "agents/planner", '{"name": "Plänner", "model": "m2"}')
    assert cli.out("cat", "agents/planner") == '{\n  "model": "m2",\n  "name": "Plänner"\n}\n'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"a": 1,}', "line 1, column 8"),
        ("", "empty"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "twice"),
        (b"\xff", "UTF-8"),
    ],
)
@pytest.mark.usefixtures("filled")
def test_put_refuses_what_is_no_json(cli: Cli, value: str | bytes, words: str) -> None:
    before = cli.out("cat", "agents/planner")
    assert words.lower() in cli.fails(1, "put", "agents/planner", stdin=value).lower()
    assert cli.out("cat", "agents/planner") == before


def test_put_refuses_front_matter_that_is_none(cli: Cli, store: Store) -> None:
    assert "line 3" in cli.fails(1, "put", "notes/a.md", "--", "---\na: [\n---\n")
    assert cli.fails(1, "put", "notes/a.md", stdin=b"\xff")
    assert "a" not in store.markdown("notes")


@pytest.mark.usefixtures("filled")
def test_put_expects(cli: Cli) -> None:
    revision = as_json(cli, "show", "agents/planner")["revision"]
    cli.out("put", "agents/planner", "1", "--expect", revision)
    cli.fails(3, "put", "agents/planner", "2", "--expect", revision)
    assert "40 hex digits" in cli.fails(2, "put", "agents/planner", "2", "--expect", revision[:12])
    cli.fails(3, "put", "agents/planner", "2", "--new")
    cli.out("put", "agents/other", "2", "--new")
    assert cli.out("cat", "agents/planner") == "1\n"


def test_put_of_a_session_must_fit(cli: Cli, store: Store) -> None:
    session = store.sessions.create(title="old")
    assert "title" in cli.fails(1, "put", session.id, '{"title": 5}')
    cli.out("put", session.id, '{"title": "new", "own": 1}')
    assert store.sessions[session.id].title == "new"


def test_put_does_not_write_for_a_session_that_is_gone(cli: Cli, store: Store) -> None:
    session = store.sessions.create(id="one-session")
    cli.out("put", "sessions/one-session/goal", '{"goal": 1}')
    store.sessions.delete(session.id)
    cli.fails(1, "put", "sessions/one-session/goal", '{"goal": 2}')
    assert not (cli.directory / "sessions/one-session/goal.json").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("put", "audit/trail.jsonl", "{}"),
        ("put", "agents/a", "{}", "--new", "--expect", "x"),
        ("put", "agents/a", "{}", "--file", "-"),
        ("show", "agents/planner", "--tree"),
        ("log", "agents/planner"),
        ("edit", "audit/trail"),
        ("rm",),
        ("nonsense",),
        ("ls", "--nonsense"),
        ("import",),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("filled")
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    cli.fails(2, *arguments)


# rm


def test_rm_deletes_every_kind(cli: Cli, filled: Store) -> None:
    session = filled.sessions.create(id="one-session")
    filled.session(session.id).messages.append("user", "Hi")
    found = as_json(cli, "rm", "agents/planner", "notes/standup", "audit/trail", "one-session")
    records = ["agents/planner.json", "notes/standup.md", "audit/trail.jsonl", "sessions/one-session.json"]
    assert found == {"deleted": records, "kept": []}
    assert [path for path in cli.directory.rglob("*") if path.name.startswith(("planner", "standup", "trail"))] == []
    assert list((cli.directory / "sessions").iterdir()) == []


def test_rm_deletes_nothing_if_one_is_missing(cli: Cli, filled: Store) -> None:
    cli.fails(1, "rm", "agents/planner", "agents/nobody")
    assert "planner" in filled.collection("agents")


def test_rm_deletes_what_cannot_be_read(cli: Cli, filled: Store) -> None:
    Path(filled.path_of(("agents", "planner"))).write_text("{broken")
    (cli.directory / "sessions").mkdir()
    (cli.directory / "sessions/bad-session.json").write_text("{broken")
    cli.out("rm", "agents/planner", "bad-session")
    assert "planner" not in filled.collection("agents")
    assert "bad-session" not in filled.sessions
