"""`edit` with real editors: shell scripts that do what editors do. The text is never lost."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fsstate import Store
from tests.cli.conftest import PROGRAM, Cli, Terminals, environment

Editor = Callable[[str], dict[str, str]]


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    """Makes an editor of a shell script, in which `$1` is the file; gives the environment that names it."""

    def make(script: str) -> dict[str, str]:
        path = tmp_path / "my editor.sh"
        path.write_text(f"#!/bin/sh\nset -e\n{script}\n")
        path.chmod(0o755)
        (tmp_path / "drafts").mkdir(exist_ok=True)
        return {"EDITOR": f"'{path}' --wait", "TMPDIR": str(tmp_path / "drafts"), "STORE": str(tmp_path / "state")}

    return make


@pytest.fixture(autouse=True)
def planner(store: Store) -> None:
    store.collection("agents").put("planner", {"model": "m1", "runs": 1})


def drafts(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "drafts").rglob("*.*"))


def kept(message: str) -> Path:
    """The file in which the text was kept, as the message says."""
    match = re.search(r"(?:your text|mine) is kept in ([^\s:;]+)", message)
    assert match is not None, message
    return Path(match[1])


# The editor gets `--wait` and the file, as `$1` and `$2`.
VALID = 'echo \'{"model": "m2",\n "runs": 1}\' > "$2"'
INVALID = 'echo \'{"model": "m2",}\' > "$2"'


def test_a_valid_edit_is_saved_as_it_is(cli: Cli, editor: Editor, tmp_path: Path) -> None:
    done = cli.run("edit", "agents/planner", env=editor(VALID))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"saved agents/planner.json, revision ")
    # The person's own layout, byte for byte.
    assert cli.out("cat", "agents/planner") == '{"model": "m2",\n "runs": 1}\n'
    assert drafts(tmp_path) == []


def test_the_editor_sees_the_record_under_its_name_and_nobody_else_does(
    cli: Cli, editor: Editor, tmp_path: Path
) -> None:
    cli.run(
        "edit",
        "agents/planner",
        env=editor(f'cp -p "$2" {tmp_path}/seen; ls -ld "$(dirname "$2")" "$2" > {tmp_path}/ls'),
    )
    assert (tmp_path / "seen").read_text() == cli.out("cat", "agents/planner")
    listed = (tmp_path / "ls").read_text().splitlines()
    assert listed[1].endswith("/planner.json") or listed[0].endswith("/planner.json")
    assert any(line.startswith("drwx------") for line in listed)


def test_visual_comes_before_editor(cli: Cli, editor: Editor) -> None:
    env = editor(VALID)
    done = cli.run("edit", "agents/planner", env={**env, "VISUAL": env["EDITOR"], "EDITOR": "false"})
    assert done.returncode == 0


def test_no_change_is_no_write(cli: Cli, editor: Editor, store: Store, tmp_path: Path) -> None:
    before = os.stat(store.path_of(("agents", "planner")))
    done = cli.run("edit", "agents/planner", env=editor("true"))
    assert (done.returncode, done.stdout) == (0, b"nothing was changed\n")
    assert os.stat(store.path_of(("agents", "planner"))).st_ino == before.st_ino
    assert drafts(tmp_path) == []


def test_an_editor_that_renames(cli: Cli, editor: Editor, store: Store) -> None:
    done = cli.run("edit", "agents/planner", env=editor('cp "$2" "$2~"; echo "{}" > "$2.new"; mv "$2.new" "$2"'))
    assert done.returncode == 0
    assert store.collection("agents")["planner"] == {}


def test_an_editor_that_deletes(cli: Cli, editor: Editor, store: Store) -> None:
    done = cli.run("edit", "agents/planner", env=editor('rm "$2"'))
    assert (done.returncode, done.stdout) == (0, b"nothing was changed\n")
    assert store.collection("agents")["planner"]["model"] == "m1"


def test_an_editor_that_fails_saves_nothing_and_loses_nothing(cli: Cli, editor: Editor, store: Store) -> None:
    done = cli.run("edit", "agents/planner", env=editor(f"{VALID}\nexit 3"))
    message = done.stderr.decode()
    assert (done.returncode, message.count("\n")) == (1, 1)
    assert "failed with code 3" in message
    assert "m2" in kept(message).read_text()
    assert store.collection("agents")["planner"]["model"] == "m1"


def test_an_editor_that_fails_without_a_change_keeps_nothing(cli: Cli, editor: Editor, tmp_path: Path) -> None:
    done = cli.run("edit", "agents/planner", env=editor("exit 1"))
    assert done.returncode == 1
    assert b"kept" not in done.stderr
    assert drafts(tmp_path) == []


def test_an_editor_that_is_not_there(cli: Cli) -> None:
    done = cli.run("edit", "agents/planner", env={"EDITOR": "/no/such/editor -w"})
    assert done.returncode == 2
    assert b"set $VISUAL or $EDITOR" in done.stderr


def test_an_invalid_edit_without_a_terminal_is_kept(cli: Cli, editor: Editor, store: Store) -> None:
    done = cli.run("edit", "agents/planner", env=editor(INVALID))
    message = done.stderr.decode()
    assert (done.returncode, message.count("\n")) == (1, 1)
    assert "line 1, column 15: a trailing comma" in message
    assert kept(message).read_text() == '{"model": "m2",}\n'
    assert stat.S_IMODE(kept(message).parent.stat().st_mode) == 0o700
    assert store.collection("agents")["planner"]["model"] == "m1"


def test_kept_text_outlives_a_restart(cli: Cli, editor: Editor) -> None:
    env = editor(INVALID)
    del env["TMPDIR"]
    done = cli.run("edit", "agents/planner", env=env)
    path = kept(done.stderr.decode())
    assert path.parts[1:3] == ("var", "tmp")
    path.unlink()
    path.parent.rmdir()


def test_an_invalid_edit_is_offered_again_and_saved(editor: Editor, terminal: Terminals, store: Store) -> None:
    # The second time it finds its own text, and corrects it.
    env = editor('if grep -q "m2" "$2"; then sed -i.bak "s/,}/}/" "$2"; else ' + INVALID + "; fi")
    shown = terminal("edit", "agents/planner", env=env)
    assert "a trailing comma" in shown.expect("Edit again? [Y/n]: ")
    shown.type("\n")
    assert shown.end().code == 0
    assert store.collection("agents")["planner"] == {"model": "m2"}


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\x03", 130), ("\x04", 130)], ids=["no", "ctrl-c", "ctrl-d"])
def test_giving_up_keeps_the_text(editor: Editor, terminal: Terminals, store: Store, answer: str, code: int) -> None:
    shown = terminal("edit", "agents/planner", env=editor(INVALID))
    shown.expect("Edit again? [Y/n]: ")
    shown.type(answer)
    ended = shown.interrupt() if answer == "\x03" else shown.end()
    assert ended.code == code
    assert kept(ended.text).read_text() == '{"model": "m2",}\n'
    assert store.collection("agents")["planner"]["model"] == "m1"


def test_an_interrupt_is_the_editors(editor: Editor, terminal: Terminals, store: Store) -> None:
    env = editor(
        f"trap 'echo caught' INT\necho ready; while ! test -e {store.path}/go; do sleep 0.02 || true; done\n{VALID}"
    )
    shown = terminal("edit", "agents/planner", env=env)
    shown.expect("ready")
    shown.type("\x03")
    shown.expect("caught")
    Path(store.path, "go").touch()
    assert shown.end().code == 0
    assert store.collection("agents")["planner"]["model"] == "m2"


# Others change it meanwhile


def while_editing(command: str) -> str:
    """A script that edits `model`, while `command` of fsstate runs."""
    program = " ".join(PROGRAM)
    return f'sed -i.bak "s/m1/m2/" "$2"; {program} --store "$STORE" {command} > /dev/null'


def test_changes_that_do_not_meet_are_both_kept(cli: Cli, editor: Editor, store: Store) -> None:
    script = while_editing('put agents/planner \'{"model": "m1", "runs": 2}\'')
    done = cli.run("edit", "agents/planner", env=editor(script))
    assert (done.returncode, done.stderr) == (0, b"")
    assert store.collection("agents")["planner"] == {"model": "m2", "runs": 2}
    assert cli.out("cat", "agents/planner") == '{\n  "model": "m2",\n  "runs": 2\n}\n'


def test_changes_that_meet_are_a_conflict(cli: Cli, editor: Editor, store: Store, tmp_path: Path) -> None:
    script = while_editing('put agents/planner \'{"model": "m3", "runs": 1}\'')
    done = cli.run("edit", "agents/planner", env=editor(script))
    message = done.stderr.decode()
    assert (done.returncode, message.count("\n")) == (3, 1)
    assert "$.model" in message
    # Beside the record, and nowhere else.
    assert kept(message).parent == Path(store.path, "agents")
    assert [each.path for each in store.conflicts()] == [str(kept(message))]
    assert drafts(tmp_path) == []
    assert json.loads(kept(message).read_text())["model"] == "m2"
    assert store.collection("agents")["planner"]["model"] == "m3"


def test_a_deletion_meanwhile_is_a_conflict(cli: Cli, editor: Editor, store: Store) -> None:
    done = cli.run("edit", "agents/planner", env=editor(while_editing("rm --yes agents/planner")))
    assert done.returncode == 3
    assert "m2" in kept(done.stderr.decode()).read_text()
    assert "planner" not in store.collection("agents")


def test_the_same_change_by_both_is_none(cli: Cli, editor: Editor) -> None:
    done = cli.run(
        "edit",
        "agents/planner",
        env=editor(f'{VALID}; cat "$2" | {" ".join(PROGRAM)} --store "$STORE" put agents/planner'),
    )
    assert done.returncode == 0


def test_markdown_is_merged_by_text_and_field(cli: Cli, editor: Editor, store: Store) -> None:
    store.markdown("notes").put("a", "---\nwho: ada\nwhen: monday\n---\nmine\n")
    other = "---\nwho: grace\nwhen: monday\n---\nmine\n"
    Path(store.path, "other.txt").write_text(other)
    theirs = f"cp {store.path}/other.txt {store.path_of(('notes', 'a'))}"
    script = f'sed -i.bak "s/mine/changed/; s/monday/friday/" "$2"; {theirs}'
    done = cli.run("edit", "notes/a", env=editor(script))
    assert (done.returncode, done.stderr) == (0, b"")
    assert cli.out("cat", "notes/a") == "---\nwho: grace\nwhen: friday\n---\nchanged\n"


def test_markdown_that_meets_is_a_conflict(cli: Cli, editor: Editor, store: Store) -> None:
    store.markdown("notes").put("a", "one\n")
    script = f'echo mine > "$2"; echo theirs > {store.path_of(("notes", "a"))}'
    done = cli.run("edit", "notes/a", env=editor(script))
    assert done.returncode == 3
    assert kept(done.stderr.decode()).read_text() == "mine\n"


# What may be edited


def test_a_new_record_is_made(cli: Cli, editor: Editor, store: Store) -> None:
    assert cli.run("edit", "agents/new", env=editor('grep -qx "{}" "$2"; echo "[1]" > "$2"')).returncode == 0
    assert cli.run("edit", "notes/new.md", env=editor('test ! -s "$2"; echo text > "$2"')).returncode == 0
    assert store.collection("agents")["new"] == [1]
    assert store.markdown("notes")["new"].text == "text\n"


def test_a_new_record_left_alone_is_not_made(cli: Cli, editor: Editor, store: Store) -> None:
    assert cli.run("edit", "agents/new", env=editor("true")).returncode == 0
    assert "new" not in store.collection("agents")


def test_a_new_record_that_somebody_made_meanwhile(cli: Cli, editor: Editor, store: Store) -> None:
    script = f'echo "[1]" > "$2"; echo "[2]" > {store.path_of(("agents", "new"))}'
    assert cli.run("edit", "agents/new", env=editor(script)).returncode == 3
    assert store.collection("agents")["new"] == [2]


def test_a_session_must_stay_one(cli: Cli, editor: Editor, store: Store) -> None:
    session = store.sessions.create(title="old")
    done = cli.run("edit", session.id, env=editor('sed -i.bak \'s/"old"/7/\' "$2"'))
    assert done.returncode == 1
    assert b"title" in done.stderr
    assert b'"title": 7' in kept(done.stderr.decode()).read_bytes()
    assert cli.run("edit", session.id, env=editor("sed -i.bak 's/old/new/' \"$2\"")).returncode == 0
    assert store.sessions[session.id].title == "new"


def test_a_broken_record_can_be_mended(cli: Cli, editor: Editor, store: Store) -> None:
    Path(store.path_of(("agents", "planner"))).write_text('{"a": 1,}')
    assert cli.run("edit", "agents/planner", env=editor("sed -i.bak 's/,}/}/' \"$2\"")).returncode == 0
    assert store.collection("agents")["planner"] == {"a": 1}


def test_json(cli: Cli, editor: Editor, store: Store) -> None:
    saved = json.loads(cli.run("edit", "agents/planner", "--json", env=editor(VALID)).stdout)
    assert saved["revision"] == store.collection("agents").revision("planner")
    same = json.loads(cli.run("edit", "agents/planner", "--json", env=editor("true")).stdout)
    assert same == saved


def test_a_disk_that_refuses_loses_nothing(cli: Cli, editor: Editor, store: Store) -> None:
    # A file in the place of the record's directory, made while the person edits.
    script = f'echo "[1]" > "$2"; touch {store.path}/fresh'
    done = cli.run("edit", "fresh/one", env=editor(script))
    assert done.returncode == 5
    assert kept(done.stderr.decode()).read_text() == "[1]\n"


def test_the_lock_is_not_held_while_editing(cli: Cli, editor: Editor) -> None:
    script = f'{sys.executable} -m fsstate.cli --store "$STORE" --wait 0 put agents/planner 5'
    assert cli.run("edit", "agents/planner", env=editor(script)).returncode == 0
    assert subprocess.run([*PROGRAM, "--version"], env=environment(), check=False, capture_output=True).returncode == 0
