"""`conflicts` and `resolve`, with people who edit and with real editors."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fsstate import ConflictError, Store
from tests.cli.conftest import Cli, Terminals

Person = Callable[[str], None]


@pytest.fixture
def person(store: Store) -> Person:
    """Change files of the store by a command of the shell, in its directory."""

    def run(command: str) -> None:
        subprocess.run(["bash", "-ec", command], cwd=store.path, check=True, capture_output=True)

    return run


@pytest.fixture
def kept(store: Store, person: Person) -> Path:
    """A conflict about agents/planner: mine has the mood angry, the file has busy."""
    agents = store.collection("agents")
    agents.put("planner", {"mood": "calm", "n": 0})
    with pytest.raises(ConflictError) as caught, agents.edit("planner") as doc:  # noqa: PT012
        doc["mood"] = "angry"
        person("sed -i s/calm/busy/ agents/planner.json")
    assert caught.value.kept_at is not None
    return Path(caught.value.kept_at)


def test_an_edit_of_another_field_is_no_conflict(cli: Cli, store: Store, person: Person) -> None:
    agents = store.collection("agents")
    agents.put("planner", {"mood": "calm", "n": 0})
    with agents.edit("planner") as doc:
        doc["n"] = 1
        person("sed -i s/calm/busy/ agents/planner.json")
    assert agents["planner"] == {"mood": "busy", "n": 1}
    assert cli.out("conflicts") == "no conflicts\n"


# conflicts


@pytest.mark.usefixtures("kept")
def test_they_are_listed_with_what_differs(cli: Cli, person: Person) -> None:
    heads, line = cli.out("conflicts").splitlines()
    assert re.split(" {2,}", heads) == ["RECORD", "KEPT", "DIFFERS IN"]
    record, time, fields = re.split(" {2,}", line)
    assert (record, fields) == ("agents/planner.json", "$.mood")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", time)
    person("""sed -i 's/"n": 0/"n": 1/' agents/planner.json""")
    assert cli.out("conflicts").endswith("$.mood, $.n\n")
    person("sed -i 's/$/,/' agents/planner.json")
    assert "planner.json, line 1" in cli.out("conflicts")
    person("rm agents/planner.json")
    assert cli.out("conflicts").endswith("the file was deleted\n")


def test_those_of_one_record_are_told_apart(cli: Cli, kept: Path, person: Person) -> None:
    person(f"cp {kept} agents/planner.conflict-2030-01-01T000000Z-0000.json; cp agents/planner.json {kept}")
    first, second = cli.out("conflicts").splitlines()[1:]
    assert first.endswith(f"{kept.name}  nothing")
    assert second.endswith("agents/planner.conflict-2030-01-01T000000Z-0000.json  $.mood")


def test_as_json(cli: Cli, kept: Path) -> None:
    (row,) = json.loads(cli.out("conflicts", "--json"))["conflicts"]
    assert row == {
        "record": "agents/planner.json",
        "id": f"agents/{kept.name}",
        "path": str(kept),
        "at": row["at"],
        "fields": ["$.mood"],
        "problem": None,
    }
    assert row["at"].endswith("Z")


def test_of_notes_and_of_sessions(cli: Cli, store: Store, person: Person) -> None:
    session = store.sessions.create(label="mine", title="one")
    store.session(session.id).checkpoints.save("first", {"n": 1})
    store.markdown("notes").put("standup", "---\nwho: ann\n---\ntext\n")
    copy = "conflict-2026-11-28T184512Z-1f3a"
    person(f"sed s/ann/bob/ notes/standup.md > notes/standup.{copy}.md")
    person(f"cd sessions; sed s/one/two/ {session.id}.json > {session.id}.{copy}.json")
    person(f"cd sessions/{session.id}/checkpoints; sed 's/1/2/' first.json > first.{copy}.json")
    rows = {row["record"]: row["fields"] for row in json.loads(cli.out("conflicts", "--json"))["conflicts"]}
    assert rows.keys() == {
        "notes/standup.md",
        f"sessions/{session.id}.json",
        f"sessions/{session.id}/checkpoints/first.json",
    }
    assert rows["notes/standup.md"] == ["$.front_matter.who"]
    for name in (session.id[:12], "mine"):
        assert "two" in cli.out("resolve", name)
    cli.out("resolve", session.id, "--mine")
    assert store.sessions[session.id].title == "two"
    cli.out("resolve", f"sessions/{session.id}/checkpoints/first", "--theirs")
    cli.out("resolve", "notes/standup", "--mine")
    assert store.markdown("notes")["standup"].front_matter == {"who": "bob"}
    assert cli.out("conflicts") == "no conflicts\n"


# resolve: looking


def test_both_versions_are_shown(cli: Cli, store: Store, kept: Path) -> None:
    shown = cli.out("resolve", "agents/planner")
    assert f"--- theirs: agents/planner.json\n+++ mine: {kept}\n" in shown
    assert '-  "mood": "busy",\n+  "mood": "angry",\n' in shown
    for option in ("--mine", "--theirs", "--edit"):
        assert f"\n{option} " in shown
    assert len(store.conflicts()) == 1


def test_both_versions_as_json(cli: Cli, kept: Path, person: Person) -> None:
    shown = json.loads(cli.out("resolve", "agents/planner.json", "--json"))
    assert (json.loads(shown["theirs"])["mood"], json.loads(shown["mine"])["mood"]) == ("busy", "angry")
    assert (shown["fields"], shown["id"]) == (["$.mood"], f"agents/{kept.name}")
    person("rm agents/planner.json")
    shown = json.loads(cli.out("resolve", "agents/planner.json", "--json"))
    assert (shown["theirs"], shown["fields"], shown["problem"]) == (None, None, "the file was deleted")


def test_a_deleted_record_and_one_that_says_the_same(cli: Cli, kept: Path, person: Person) -> None:
    person("mv agents/planner.json moved")
    assert "--- theirs: deleted\n" in cli.out("resolve", "agents/planner")
    person(f"cp {kept} agents/planner.json")
    assert "both say the same" in cli.out("resolve", "agents/planner")
    person("sed -i 's/$/\\r/' agents/planner.json")
    assert "ends of lines" in cli.out("resolve", "agents/planner")


def test_a_terminal_shows_no_control_characters(terminal: Terminals, kept: Path) -> None:
    kept.write_bytes(b'{"mood": "\x1b]0;owned\x07"}')
    ended = terminal("resolve", "agents/planner").end()
    assert ended.code == 0
    assert "\\x1b]0;owned\\x07" in ended.text
    assert "\x1b]0" not in ended.text


@pytest.mark.parametrize("way", ["absolute", "copy", "id", "from within"])
def test_a_conflict_is_found_by_its_file(
    cli: Cli, store: Store, kept: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(store.path, "agents"))
    given = {
        "absolute": str(kept.with_name("planner.json")),
        "copy": str(kept),
        "id": f"agents/{kept.name}",
        "from within": kept.name,
    }[way]
    assert "angry" in cli.out("resolve", given)


@pytest.mark.usefixtures("kept")
def test_what_has_no_conflict(cli: Cli) -> None:
    for name in ("agents/coder", "nobody", "agents/", "no/such/place", "../x"):
        assert "`fsstate conflicts` lists those there are" in cli.fails(1, "resolve", name)
    assert cli.fails(2, "resolve", "agents/planner", "--mine", "--theirs")


def test_records_refuse_the_name(cli: Cli, kept: Path) -> None:
    assert "`fsstate resolve`" in cli.fails(2, "show", f"agents/{kept.name}")
    assert "planner.conflict" not in cli.out("ls", "agents")
    assert cli.out("ls") == "agents/  1 document\n"


# resolve: ending


def test_mine(cli: Cli, store: Store, kept: Path) -> None:
    mine = kept.read_bytes()
    said = cli.out("resolve", "agents/planner", "--mine")
    assert said == f"resolved: agents/planner.json, revision {store.collection('agents').revision('planner')}\n"
    assert Path(store.path_of(("agents", "planner"))).read_bytes() == mine
    assert not kept.exists()


def test_theirs(cli: Cli, store: Store, kept: Path) -> None:
    done = json.loads(cli.out("resolve", "agents/planner", "--theirs", "--json"))
    assert done == {
        "record": "agents/planner.json",
        "path": store.path_of(("agents", "planner")),
        "revision": store.collection("agents").revision("planner"),
        "left": 0,
    }
    assert store.collection("agents")["planner"]["mood"] == "busy"
    assert not kept.exists()


@pytest.mark.usefixtures("kept")
def test_theirs_of_a_record_that_is_gone(cli: Cli, store: Store, person: Person) -> None:
    person("rm agents/planner.json")
    assert cli.out("resolve", "agents/planner", "--theirs").endswith("there is no such record\n")
    assert store.conflicts() == []


def test_the_oldest_goes_first_and_the_others_are_counted(cli: Cli, kept: Path, person: Person) -> None:
    person("""echo '{"mood": "old"}' > agents/planner.conflict-2020-01-01T000000Z-0000.json""")
    assert "kept 2020-01-01 00:00:00Z, the oldest of 2 conflicts" in cli.out("resolve", "agents/planner")
    assert cli.out("resolve", "agents/planner", "--mine").endswith(", 1 conflict left\n")
    assert kept.exists()
    cli.out("resolve", str(kept), "--mine")
    assert not kept.exists()


def test_a_version_that_somebody_broke_is_named_and_stays(cli: Cli, store: Store, kept: Path) -> None:
    kept.write_text('{"mood": "angry",}')
    assert f"{kept}, line 1, column 17" in cli.fails(1, "resolve", "agents/planner", "--mine")
    assert store.collection("agents")["planner"]["mood"] == "busy"
    assert kept.exists()


def test_a_session_must_stay_one(cli: Cli, store: Store, person: Person) -> None:
    session = store.sessions.create(title="one")
    person(
        f"sed 's/\"one\"/7/' sessions/{session.id}.json > sessions/{session.id}.conflict-2026-11-28T184512Z-1f3a.json"
    )
    assert "title" in cli.fails(1, "resolve", session.id, "--mine")
    assert store.sessions[session.id].title == "one"


# resolve: in an editor


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An editor that is a shell script, in which `$1` is the file."""

    def make(script: str) -> dict[str, str]:
        path = tmp_path / "editor.sh"
        path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
        path.chmod(0o755)
        (tmp_path / "drafts").mkdir()
        return {"EDITOR": str(path), "TMPDIR": str(tmp_path / "drafts")}

    return make


SIDES = r"sed -i.bak -e '/^<<<<<<< theirs$/d' -e '/^=======$/d' -e '/^>>>>>>> mine$/d' -e '/busy/d' $1"


def test_the_editor_sees_both(
    cli: Cli, store: Store, kept: Path, editor: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    done = cli.run("resolve", "agents/planner", "--edit", env=editor(f"cp $1 {tmp_path}/seen; {SIDES}"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "seen").read_text() == (
        '{\n<<<<<<< theirs\n  "mood": "busy",\n=======\n  "mood": "angry",\n>>>>>>> mine\n  "n": 0\n}\n'
    )
    assert store.collection("agents")["planner"] == {"mood": "angry", "n": 0}
    assert not kept.exists()
    assert list((tmp_path / "drafts").iterdir()) == []


def test_markers_that_are_left_are_not_saved(
    cli: Cli, store: Store, person: Person, editor: Callable[[str], dict[str, str]]
) -> None:
    store.markdown("notes").put("a", "theirs")
    person("printf mine > notes/a.conflict-2026-11-28T184512Z-1f3a.md")
    done = cli.run("resolve", "notes/a", "--edit", env=editor("echo more >> $1"))
    message = done.stderr.decode()
    assert (done.returncode, message.count("\n")) == (1, 1)
    assert "line 1, column 1: a conflict marker" in message
    text = Path(message.rpartition("your text is kept in ")[2].strip()).read_text()
    assert text == "<<<<<<< theirs\ntheirs\n=======\nmine\n>>>>>>> mine\nmore\n"
    assert store.markdown("notes")["a"].text == "theirs"
    assert len(store.conflicts()) == 1


def test_an_editor_that_changes_nothing_ends_nothing(
    cli: Cli, kept: Path, editor: Callable[[str], dict[str, str]]
) -> None:
    done = cli.run("resolve", "agents/planner", "--edit", env=editor("true"))
    assert done.returncode == 0
    assert done.stdout.startswith(b"nothing was changed: agents/planner.json, revision ")
    assert done.stdout.endswith(b", 1 conflict left\n")
    assert kept.exists()


def test_a_change_while_the_editor_is_open_is_not_overwritten(
    cli: Cli, store: Store, kept: Path, editor: Callable[[str], dict[str, str]]
) -> None:
    script = f"{SIDES}; sed -i s/busy/sad/ {store.path}/agents/planner.json"
    done = cli.run("resolve", "agents/planner", "--edit", env=editor(script))
    assert done.returncode == 3
    assert store.collection("agents")["planner"]["mood"] == "sad"
    # The first one is kept, and holds the very text that came out of the editor.
    assert [each.path for each in store.conflicts()] == [str(kept)]
    assert str(kept) in done.stderr.decode()


@pytest.mark.usefixtures("kept")
def test_a_deleted_record_is_edited_as_it_was_kept(
    cli: Cli, store: Store, person: Person, editor: Callable[[str], dict[str, str]]
) -> None:
    person("rm agents/planner.json")
    assert cli.run("resolve", "agents/planner", "--edit", env=editor("sed -i.bak s/angry/fine/ $1")).returncode == 0
    assert store.collection("agents")["planner"]["mood"] == "fine"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.usefixtures("kept")
def test_conflicts_travel_with_git(store: Store, person: Person, tmp_path: Path) -> None:
    person("git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm one")
    person(f"git clone -q . {tmp_path}/clone")
    with Store(tmp_path / "clone") as clone:
        (conflict,) = clone.conflicts()
        clone.resolve(conflict, "mine")
        assert clone.collection("agents")["planner"]["mood"] == "angry"
    assert len(store.conflicts()) == 1
