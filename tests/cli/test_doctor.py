"""`fsstate doctor`: what it prints for people and for programs, its exit codes, and what it leaves alone."""

import json
import os
from pathlib import Path

import pytest

from fsstate import Store, StoreOptions
from tests.cli.conftest import Cli, Terminals


@pytest.fixture
def broken(cli: Cli, store: Store) -> Path:
    """A store with one damaged document, one torn log, and a session without a document."""
    store.collection("agents").put("planner", {"a": 1})
    store.collection("agents").put("other", {"a": 1})
    store.journal("audit", "trail").append("x")
    store.sessions.create(id="one")
    store.session("one").messages.append("user", "Hi")
    root = cli.directory
    (root / "agents/planner.json").write_bytes(b'{\n  "a": 1,\n}\n')
    with (root / "audit/trail.jsonl").open("ab") as file:
        file.write(b'{"seq":2,"k')
    (root / "sessions/one.json").unlink()
    return root


def test_a_sound_store(cli: Cli, store: Store) -> None:
    store.collection("agents").put("planner", {"a": 1})
    store.close()
    shown = cli.out("doctor")
    assert "1 file looked at: nothing is wrong" in shown
    assert "file system: " in shown
    assert "locks keep processes apart" in shown


def test_what_is_wrong_is_told_with_its_place_and_what_to_do(cli: Cli, broken: Path) -> None:
    before = sorted(broken.rglob("*"))
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (1, "")
    shown = result.stdout
    assert "error agents/planner.json:2:9: a trailing comma stands before '}'; remove it [malformed-json]" in shown
    assert "no program can read the record" in shown
    assert "`--fix` moves it to the quarantine" in shown
    assert "warning audit/trail.jsonl:2:1 (byte " in shown
    assert "warning sessions/one: there is no one.json beside it [orphan]" in shown
    assert "3 files looked at: 1 error, 2 warnings, 1 notice; --fix mends 4 of them" in shown
    assert sorted(broken.rglob("*")) == before


def test_fix(cli: Cli, broken: Path) -> None:
    result = cli("doctor", "--fix")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "mended: moved to .fsstate/quarantine/" in result.stdout
    assert "nothing is wrong, 4 mended" in result.stdout
    assert (broken / "audit/trail.jsonl").read_bytes().endswith(b"}\n")
    again = cli.out("doctor", "--fix")
    assert "1 notice" in again
    assert "it was taken out of the store, and waits for a person to look at it" in again


def test_what_is_left_to_people_keeps_the_exit_code(cli: Cli, store: Store) -> None:
    store.collection("agents").put("planner", {"a": 1})
    (cli.directory / "agents/planner.json").write_text("<<<<<<< ours\n=======\n>>>>>>> theirs\n")
    for _ in range(2):
        result = cli("doctor", "--fix")
        assert result.exit_code == 1
        assert "conflict-markers" in result.stdout


def test_json(cli: Cli, broken: Path) -> None:
    found = json.loads(cli("doctor", "--json").stdout)
    assert (found["store"], found["is_store"], found["fix"], found["files"]) == (str(broken), True, False, 3)
    planner = next(each for each in found["findings"] if each["kind"] == "malformed-json")
    assert (planner["path"], planner["line"], planner["column"]) == (str(broken / "agents/planner.json"), 2, 9)
    assert (planner["severity"], planner["fixable"], planner["fixed"], planner["failure"]) == (
        "error",
        True,
        None,
        None,
    )
    assert all(isinstance(planner[key], str) and planner[key] for key in ("reason", "why", "advice"))
    tail = next(each for each in found["findings"] if each["kind"] == "torn-tail")
    assert tail["offset"] == len((broken / "audit/trail.jsonl").read_bytes()) - 11
    assert {trait["name"]: trait["holds"] for trait in found["file_system"]["traits"]}["locks"] is True
    mended = json.loads(cli("doctor", "--fix", "--json").stdout)
    assert mended["fix"]
    assert all(each["fixed"] for each in mended["findings"] if each["kind"] != "stale-locks")


def test_a_store_of_a_newer_format(cli: Cli, broken: Path) -> None:
    (broken / ".fsstate/store.json").write_text('{"format": 7}')
    result = cli("doctor", "--fix")
    assert result.exit_code == 1
    assert "has format 7" in result.stdout
    assert "upgrade fsstate" in result.stdout
    assert (broken / "agents/planner.json").exists()


def test_a_mark_that_cannot_be_read(cli: Cli, broken: Path) -> None:
    (broken / ".fsstate/store.json").write_text("{")
    result = cli("doctor", "--fix")
    assert result.exit_code == 1
    assert "malformed-mark" in result.stdout
    assert "malformed-json" in result.stdout
    assert (broken / "agents/planner.json").exists()


def test_a_directory_that_is_no_store(cli: Cli) -> None:
    (cli.directory / "agents").mkdir(parents=True)
    (cli.directory / "agents/a.json").write_text("{}")
    (cli.directory / "agents/a.json").chmod(0o600)
    (cli.directory / "agents").chmod(0o700)
    shown = cli.out("doctor", "--fix")
    assert "there is no .fsstate/store.json [no-store]" in shown
    assert "`fsstate init` makes it one" in shown
    assert os.listdir(cli.directory) == ["agents"]


def test_nothing_there(cli: Cli) -> None:
    assert "does not exist" in cli.fails(1, "doctor")
    assert not cli.directory.exists()


def test_control_characters_and_bytes_in_names(cli: Cli, store: Store) -> None:
    store.collection("agents").put("a", {})
    store.close()
    folder = os.fsencode(cli.directory / "agents")
    for name in (b"\xff.json", b"\x1b[31m.json", b"two\nlines.json"):
        with open(folder + b"/" + name, "w") as file:
            file.write("{")
        os.chmod(folder + b"/" + name, 0o600)
    result = cli("doctor")
    assert result.exit_code == 1
    assert "\x1b[31m" not in result.stdout
    assert result.stdout.count("[refused-name]") == 3
    assert len(json.loads(cli("doctor", "--json").stdout)["findings"]) == 3


def test_progress_is_for_people(store: Store, terminal: Terminals) -> None:
    for number in range(5):
        store.collection("agents").put(f"a{number}", {})
    store.close()
    ended = terminal("doctor").end()
    assert ended.code == 0
    assert "5 files looked at: nothing is wrong" in ended.text


def test_where_a_store_cannot_keep_its_promise(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Store(cli.directory, StoreOptions()).collection("agents").put("a", {})
    told = tmp_path / "mountinfo"
    told.write_text("1 0 9:9 / / rw,relatime - nfs4 host:/export rw\n")
    monkeypatch.setattr("fsstate.mounts._MOUNTS", told)
    error = cli.fails(5, "put", "agents/a", "{}")
    assert "nfs4" in error
    assert "FSSTATE_ANY_FILE_SYSTEM=1" in error
    assert cli.out("cat", "agents/a") == "{}\n"
    result = cli("doctor")
    assert result.exit_code == 1
    assert "file system: nfs4, on the network at /" in result.stdout
    assert "[network-file-system]" in result.stdout
    monkeypatch.setenv("FSSTATE_ANY_FILE_SYSTEM", "1")
    cli.out("put", "agents/a", '{"b": 1}')
