"""`export` and `import json`: pages and documents of sessions and records, on the terminal and in files."""

import json
import os
from pathlib import Path

import pytest

from fsstate import Store
from tests.cli.conftest import Cli, Terminals

ODD = "\x1b]0;owned\x07\x9b2J\u202e"


@pytest.fixture
def talk(store: Store) -> str:
    session = store.sessions.create(id="first-talk", title="A talk", label="it")
    one = store.session(session.id)
    one.messages.append("user", f"Hello {ODD}", id="a")
    one.messages.append("assistant", "Hi", model="m1")
    one.messages.append("assistant", "Another", parent="a")
    return session.id


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("words", ["it", "record it", "it --format markdown", "--format markdown it", "first-t"])
def test_a_session_as_a_page(cli: Cli, words: str) -> None:
    page = cli.out("export", *words.split())
    assert page.startswith("# A talk\n\n|  |  |\n| --- | --- |\n| **session** | `first-talk` |\n")
    assert "*1 other continuation:*" in page
    assert not set(page) & set("\x1b\x07\x9b\u202e")


def test_options_of_a_page(cli: Cli, store: Store, talk: str) -> None:
    one = store.session(talk)
    one.tool_calls.complete(one.tool_calls.create("run").id, "x\n" * 500)
    assert "lines left out here; --full shows all" in cli.out("export", "it")
    assert "left out" not in cli.out("export", "it", "--full")
    head = cli.out("export", "--branch", "head", "it")
    assert "Another" in head
    assert "`--branch all` shows them" in head
    cli.fails(2, "export", "it", "--branch", "none")


def test_a_session_as_json_and_back(cli: Cli, talk: str, tmp_path: Path) -> None:
    document = cli.out("export", "it", "--format", "json")
    assert cli.out("export", "it", "--json") == document
    found = json.loads(document)
    assert [message["content"] for message in found["messages"]] == [f"Hello {ODD}", "Hi", "Another"]
    path = tmp_path / "talk.json"
    cli.out("export", "it", "--format", "json", "-o", str(path))
    other = Cli(tmp_path / "other")
    shown = other.out("import", "json", str(path))
    assert shown.endswith("imported 4 of 4; 0 unchanged, 0 changed since, 0 failed\n")
    assert other.out("export", talk, "--format", "json") == document
    assert json.loads(other.out("import", "json", str(path), "--json"))["kinds"]["messages"]["unchanged"] == 3
    assert "export SESSION --format json" in other.fails(
        1, "import", "json", str(cli.directory / ".fsstate/store.json")
    )


def test_a_file_is_written_whole_and_never_replaced_unasked(cli: Cli, talk: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    told = json.loads(cli.out("export", "it", "-o", str(path), "--json"))
    size = path.stat().st_size
    assert told == {"record": f"sessions/{talk}.json", "output": str(path), "format": "markdown", "bytes": size}
    path.write_text("mine")
    assert "--force replaces it" in cli.fails(3, "export", "it", "-o", str(path))
    assert path.read_text() == "mine"
    assert cli.out("export", "it", "-o", str(path), "--force").startswith(f"exported sessions/{talk}.json to {path}, ")
    assert path.stat().st_size == size
    link = tmp_path / "link.md"
    link.symlink_to(tmp_path / "nowhere.md")
    cli.fails(3, "export", "it", "-o", str(link))
    cli.fails(5, "export", "it", "-o", str(tmp_path / "no" / "x.md"))
    assert sorted(os.listdir(tmp_path)) == ["link.md", "page.md", "state"]


def test_an_export_that_fails_leaves_no_file(cli: Cli, store: Store, tmp_path: Path) -> None:
    store.collection("agents").put("planner", {})
    Path(store.collection("agents").path_of("planner")).write_bytes(b"{")
    cli.fails(1, "export", "agents/planner", "--format", "json", "-o", str(tmp_path / "x.json"))
    cli.fails(1, "export", "nosuchsession", "-o", str(tmp_path / "x.md"))
    assert os.listdir(tmp_path) == ["state"]


def test_other_records(cli: Cli, store: Store) -> None:
    store.collection("agents").put("planner", {"a": 1})
    store.markdown("notes").put("standup", "---\na: 1\n---\n# Text\n")
    store.journal("audit", "trail").append("x", a="|")
    assert cli.out("export", "agents/planner") == '# agents/planner\n\n```json\n{\n  "a": 1\n}\n```\n'
    assert cli.out("export", "notes/standup") == "---\na: 1\n---\n# Text\n"
    assert '`{"a":"\\|"}` |' in cli.out("export", "audit/trail")
    document = json.loads(cli.out("export", "agents/planner", "--json"))
    assert document == {"record": "agents/planner.json", "kind": "document", "value": {"a": 1}}
    note = json.loads(cli.out("export", "notes/standup", "--json"))
    assert note == {"record": "notes/standup.md", "kind": "markdown", "front_matter": {"a": 1}, "text": "# Text\n"}
    log = json.loads(cli.out("export", "audit/trail", "--json"))
    assert (log["kind"], log["entries"][0]["a"], log["problems"]) == ("log", "|", [])


def test_bad_lines_are_told_and_hide_nothing(cli: Cli, store: Store, talk: str) -> None:
    with open(store.session(talk).messages.path, "ab") as file:
        file.write(b"not json\n")
    result = cli("export", "it")
    assert result.exit_code == 0
    assert "## Problems (1)" in result.stdout
    assert "Another" in result.stdout


def test_a_terminal_gets_no_control_characters(store: Store, terminal: Terminals) -> None:
    store.markdown("notes").put("standup", f"# {ODD}\n")
    ended = terminal("export", "notes/standup").end()
    assert ended == (0, "# \\x1b]0;owned\\x07\\x9b2J\\u202e\n")


def test_naughty_strings_through_the_command_line(cli: Cli, store: Store, shared_data: Path) -> None:
    texts = json.loads((shared_data / "naughty-strings" / "blns.json").read_text("utf-8"))
    # What the texts are made of, in one go; and one by one those that are the hardest for a command line.
    cli.out("put", "agents/all", stdin=json.dumps({text: text for text in texts}))
    cli.out("put", "notes/all.md", stdin="\n\n".join(texts).encode())
    for text in texts:
        store.journal("audit", "trail").append("said", text=text)
        store.journal("audit", "trail").append(text or "nothing", text=1)
    for place in ("agents/all", "notes/all", "audit/trail"):
        shown = cli.out("show", place, "-n", "0")
        assert all(character in "\n\t" or ord(character) >= 0x20 for character in shown)
        assert not set(shown) & set("\x7f\x9b\u202e\u2066\u2028\ufeff")
        assert cli("cat", place).exit_code == 0
        assert cli("export", place).exit_code == 0
        json.loads(cli.out("export", place, "--json"))
    assert json.loads(cli.out("cat", "agents/all")) == {text: text for text in texts}
    note = json.loads(cli.out("export", "notes/all", "--json"))
    assert note["text"] == "\n\n".join(texts)


def test_naughty_strings_as_arguments(cli: Cli, shared_data: Path) -> None:
    texts: list[str] = json.loads((shared_data / "naughty-strings" / "blns.json").read_text("utf-8"))
    cli.out("init")
    odd = [text for text in texts if not text.isprintable() or len(text.encode()) > 200 or text.startswith(("-", "/"))]
    for text in [*texts[::16], *odd[::2]]:
        for arguments in (
            ("show", "--", text),
            ("export", "--", f"agents/{text}"),
            ("put", "--", f"agents/{text}", "{}"),
            ("ls", "--", text),
            ("search", "--", text),
            ("sessions", "--user", text),
        ):
            result = cli(*arguments)
            assert result.exit_code in (0, 1, 2), (arguments, result.output)
            assert "bug" not in result.stderr, (arguments, result.stderr)
            assert all(character in "\n\t" or ord(character) >= 0x20 for character in result.output)
