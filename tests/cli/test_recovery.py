"""`recover` and `migrate`, with the record types of an application that fsstate knows nothing about."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsstate import Lifecycle, RecordType, Recovery, Store
from tests.cli.conftest import PROGRAM, Cli, Terminals, environment

APPLICATION = """
import time
from datetime import datetime
import msgspec
from fsstate import Lifecycle, Migration, RecordType, Recovery

class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    session_id: str | None = None
    status: str = "running"
    error_code: str | None = None
    created_at: datetime | None = None

class Note(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    title: str = ""
    created_at: datetime | None = None

LIFE = Lifecycle({"running": ("done", "failed"), "done": (), "failed": ()})
LOST = Recovery("failed", ("running",), {"error_code": "interrupted"})
"""
STATE = f"""{APPLICATION}
PLANS = RecordType("plans", Plan, group_by="session_id", lifecycle=LIFE, recovery=LOST)
"""
NEWER = f"""{APPLICATION}
def name_it(document):
    document["title"] = document.pop("name")

def tidy(document):
    document.pop("junk", None)

STEPS = (Migration(2, "name the title", name_it), Migration(3, "drop the junk", tidy))
TYPES = [RecordType("notes", Note, migrations=STEPS), RecordType("remarks", Note, parent="sessions", migrations=STEPS)]
"""
# Until somebody is in a hurry.
SLOW = f"""{APPLICATION}
from pathlib import Path

def wait(document):
    if not Path(__file__).with_name("hurry").exists():
        time.sleep(0.02)

NOTES = RecordType("notes", Note, migrations=(Migration(2, "take time", wait),))
"""
STATE_TYPES = ("--types", "myapp.state")
NEWER_TYPES = ("--types", "myapp.newer")


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    session_id: str | None = None
    status: str = "running"
    error_code: str | None = None
    created_at: datetime | None = None


LIFE = Lifecycle({"running": ("done", "failed"), "done": (), "failed": ()})
PLANS = RecordType("plans", Plan, group_by="session_id", lifecycle=LIFE, recovery=Recovery("failed", ("running",)))


@pytest.fixture(autouse=True)
def application(cli: Cli) -> Path:
    """The application's modules, in the directory that the command is run in."""
    folder = cli.directory.parent / "myapp"
    folder.mkdir()
    for name, text in {"state": STATE, "newer": NEWER, "slow": SLOW}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def orphans(cli: Cli) -> list[str]:
    """Runs whose store is closed, beside one that is done."""
    with Store(cli.directory) as store:
        plans = store.records(PLANS)
        for name in ("one", "two", "three"):
            plans.create(name, session_id="s1")
        plans.change("three", status="done")
    return ["one", "two"]


@contextmanager
def live_run(cli: Cli) -> Iterator[Store]:
    """A run in a store that stays open."""
    with Store(cli.directory) as store:
        store.records(PLANS).create("live", session_id="s2")
        yield store


def notes(cli: Cli, number: int) -> Path:
    """Notes of the first version, as an older release of the application left them."""
    folder = cli.directory / "notes"
    folder.mkdir(parents=True)
    for n in range(number):
        (folder / f"n{n:03}.json").write_text(json.dumps({"id": f"n{n:03}", "name": f"Note {n}", "mine": True}) + "\n")
    return folder


def tree(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """All files, each with its content, inode and time of the last change."""
    return {
        str(path): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def done(cli: Cli, *arguments: str) -> str:
    """What a process says; it must succeed without a word on standard error."""
    ended = cli.run(*arguments)
    assert (ended.returncode, ended.stderr) == (0, b"")
    return ended.stdout.decode()


def refused(cli: Cli, code: int, *arguments: str) -> str:
    """The one line on standard error of a process that ends in this code."""
    ended = cli.run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count(b"\n") == 1
    return ended.stderr.decode()


# -- recover


@pytest.mark.usefixtures("orphans")
def test_a_dry_run_tells_which_holders_live_and_writes_nothing(cli: Cli) -> None:
    with live_run(cli):
        before = tree(cli.directory)
        lines = done(cli, "recover", "--dry-run", *STATE_TYPES).splitlines()
        found = json.loads(done(cli, "recover", "--dry-run", *STATE_TYPES, "--json"))
        assert tree(cli.directory) == before
    assert [line.split() for line in lines[1:-1]] == [
        ["plans/s1", "one", "running", "gone"],
        ["plans/s1", "two", "running", "gone"],
        ["plans/s2", "live", "running", "alive"],
    ]
    assert lines[-1] == "3 records in flight, 2 would be settled"
    assert found["dry_run"] is True
    assert [(each["id"], each["is_alive"]) for each in found["in_flight"]] == [
        ("one", False),
        ("two", False),
        ("live", True),
    ]
    assert found["in_flight"][0].keys() == {"category", "id", "status", "held_by", "is_alive", "path"}


def test_orphans_are_settled_and_the_living_stay(cli: Cli, orphans: list[str]) -> None:
    with live_run(cli) as store:
        lines = done(cli, "recover", *STATE_TYPES).splitlines()
        plans = store.records(PLANS)
        assert {name: plans[name].status for name in plans} == {
            "live": "running",
            "one": "failed",
            "three": "done",
            "two": "failed",
        }
        assert plans["one"].error_code == "interrupted"
    assert [line.split() for line in lines[1:-1]] == [["plans/s1", name, "running", "failed"] for name in orphans]
    assert lines[-1] == "2 records settled, 1 in flight with a holder that lives"


def test_what_recover_prints_for_programs(cli: Cli, orphans: list[str]) -> None:
    with live_run(cli):
        found = json.loads(done(cli, "recover", *STATE_TYPES, "--json"))
        again = json.loads(done(cli, "recover", *STATE_TYPES, "--json"))
    path = str(cli.directory / "plans" / "s1" / "one.json")
    assert found["settled"][0] == {
        "category": "plans/s1",
        "id": "one",
        "was": "running",
        "status": "failed",
        "path": path,
    }
    assert [each["id"] for each in found["settled"]] == orphans
    assert [each["id"] for each in found["alive"]] == ["live"]
    assert (again["settled"], again["alive"]) == ([], found["alive"])
    assert (again["dry_run"], again["problems"]) == (False, [])


@pytest.mark.usefixtures("orphans")
def test_a_record_that_cannot_be_read_is_named_and_stops_nothing(cli: Cli) -> None:
    path = cli.directory / "plans" / "s1" / "broken.json"
    path.write_text('{"status": "running",\n')
    ended = cli.run("recover", *STATE_TYPES)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"fsstate: {path}, line ".encode())
    assert ended.stdout.endswith(b"2 records settled\n")
    found = json.loads(cli.run("recover", *STATE_TYPES, "--json").stdout)
    assert len(found["problems"]) == 1
    ended = cli.run("recover", "--dry-run", *STATE_TYPES)
    assert (ended.returncode, ended.stdout) == (0, b"0 records in flight, 0 would be settled\n")
    assert f"fsstate: warning: skipped: {path}, line " in ended.stderr.decode()


@pytest.mark.usefixtures("orphans")
def test_without_types_those_of_fsstate_are_settled(cli: Cli) -> None:
    assert json.loads(done(cli, "recover", "--json"))["problems"] == []


@pytest.mark.parametrize("command", [("recover",), ("recover", "--dry-run"), ("migrate",), ("migrate", "--dry-run")])
def test_a_store_that_does_not_exist_is_not_made(cli: Cli, command: tuple[str, ...]) -> None:
    message = cli.fails(1, *command)
    assert "does not exist" in message
    assert not cli.directory.exists()


def test_an_empty_store(cli: Cli) -> None:
    cli.out("init")
    assert cli.out("recover") == "0 records settled\n"
    assert cli.out("recover", "--dry-run") == "0 records in flight, 0 would be settled\n"
    assert cli.out("migrate") == "0 records migrated, 0 up to date\n"


# -- read-only


def without_privileges() -> tuple[str, ...]:
    """What makes a command obey permissions also where the tests run as root."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture
def read_only(cli: Cli, orphans: list[str]) -> Iterator[None]:
    assert orphans
    notes(cli, 2)
    folders = [cli.directory, *(path for path in cli.directory.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


def run_bare(cli: Cli, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [*without_privileges(), *PROGRAM, "--store", str(cli.directory), *arguments]
    return subprocess.run(
        command, capture_output=True, env=environment(), cwd=cli.directory.parent, timeout=60, check=False
    )


@pytest.mark.usefixtures("read_only")
def test_dry_plans_need_no_permission_to_write(cli: Cli) -> None:
    ended = run_bare(cli, "recover", "--dry-run", *STATE_TYPES)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.endswith(b"2 records in flight, 2 would be settled\n")
    ended = run_bare(cli, "migrate", "--dry-run", *NEWER_TYPES)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.endswith(b"2 records would be migrated, 0 up to date\n")


@pytest.mark.usefixtures("read_only")
def test_what_may_not_be_written_is_told_and_left(cli: Cli) -> None:
    before = tree(cli.directory)
    for arguments in (("recover", *STATE_TYPES), ("migrate", *NEWER_TYPES)):
        ended = run_bare(cli, *arguments)
        assert ended.returncode == 1
        assert ended.stderr.count(b"\n") == 2
        assert b"ermission denied" in ended.stderr
        assert b"Traceback" not in ended.stderr
    assert tree(cli.directory) == before


# -- migrate


def test_a_dry_run_names_the_steps_and_writes_nothing(cli: Cli) -> None:
    notes(cli, 3)
    before = tree(cli.directory)
    lines = done(cli, "migrate", "--dry-run", *NEWER_TYPES).splitlines()
    assert lines[1].split(maxsplit=5) == ["notes", "3", "1", "→", "3", "name the title, drop the junk"]
    assert lines[2] == "3 records would be migrated, 0 up to date"
    assert tree(cli.directory) == before


def test_migrating_writes_each_record_once(cli: Cli) -> None:
    folder = notes(cli, 3)
    (folder / "done.json").write_text('{"id": "done", "title": "Done", "schema_version": 3}\n')
    (folder / "half.json").write_text('{"id": "half", "title": "Half", "junk": 1, "schema_version": 2}\n')
    lines = done(cli, "migrate", *NEWER_TYPES).splitlines()
    assert [line.split(maxsplit=5) for line in lines[1:-1]] == [
        ["notes", "3", "1", "→", "3", "name the title, drop the junk"],
        ["notes", "1", "2", "→", "3", "drop the junk"],
    ]
    assert lines[-1] == "4 records migrated, 1 up to date"
    found = json.loads((folder / "n001.json").read_text())
    assert found.items() >= {"id": "n001", "title": "Note 1", "mine": True, "schema_version": 3}.items()
    before = tree(cli.directory)
    assert done(cli, "migrate", *NEWER_TYPES) == "0 records migrated, 5 up to date\n"
    assert tree(cli.directory) == before


def test_records_of_all_sessions_are_counted_together(cli: Cli, store: Store) -> None:
    for name in ("a", "b"):
        store.sessions.create(id=name)
        folder = cli.directory / "sessions" / name / "remarks"
        folder.mkdir(parents=True)
        (folder / "r.json").write_text('{"name": "Remark"}\n')
    lines = done(cli, "migrate", *NEWER_TYPES).splitlines()
    assert lines[1].split()[:2] == ["sessions/*/remarks", "2"]
    assert lines[2] == "2 records migrated, 2 up to date"


def test_what_migrate_prints_for_programs(cli: Cli) -> None:
    folder = notes(cli, 1)
    (folder / "odd.json").write_text('{"title": "no name"}\n')
    ended = cli.run("migrate", *NEWER_TYPES, "--json")
    found: dict[str, Any] = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert found["migrated"] == [
        {
            "category": "notes",
            "name": "n000",
            "found": 1,
            "latest": 3,
            "steps": ["name the title", "drop the junk"],
            "path": str(folder / "n000.json"),
        }
    ]
    assert (found["dry_run"], found["unchanged"]) == (False, 0)
    (problem,) = found["problems"]
    assert str(folder / "odd.json") in problem
    assert "name the title" in problem


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["really", "dry run"])
def test_a_step_that_fails_is_named_and_stops_no_other(cli: Cli, dry_run: tuple[str, ...]) -> None:
    folder = notes(cli, 2)
    (folder / "a.json").write_text('{"title": "no name"}\n')
    ended = cli.run("migrate", *dry_run, *NEWER_TYPES)
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert ended.stderr.startswith(f"fsstate: {folder / 'a.json'}".encode())
    assert b"name the title" in ended.stderr
    assert ended.stdout.splitlines()[-1].startswith(b"2 records ")
    assert (folder / "a.json").read_text() == '{"title": "no name"}\n'


def test_a_newer_record_is_refused_before_anything_is_written(cli: Cli) -> None:
    folder = notes(cli, 3)
    (folder / "z.json").write_text('{"title": "From the future", "schema_version": 9}\n')
    before = tree(cli.directory)
    message = refused(cli, 1, "migrate", *NEWER_TYPES)
    assert str(folder / "z.json") in message
    assert "version 9" in message
    assert "notes" in message
    assert tree(cli.directory) == before


def test_an_interrupted_migration_is_finished_by_the_next(cli: Cli, application: Path) -> None:
    folder = notes(cli, 60)
    command = [*PROGRAM, "--store", str(cli.directory), "migrate", "--types", "myapp.slow"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment(), cwd=cli.directory.parent)
    # The first may be taken back, where the interrupt comes before its writer is told.
    wait_for(lambda: migrated(folder) > 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert err.strip() == b"fsstate: interrupted; what is migrated stays so, and the next run goes on from there"
    before = migrated(folder)
    assert 0 < before < 60
    (application / "hurry").touch()
    done(cli, "migrate", "--types", "myapp.slow")
    assert migrated(folder) == 60


def migrated(folder: Path) -> int:
    """How many records are written in the present version; each can be read at any moment."""
    return sum("schema_version" in json.loads(path.read_text()) for path in folder.glob("*.json"))


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupt_at_a_terminal(cli: Cli, terminal: Terminals) -> None:
    folder = notes(cli, 60)
    shown = terminal("migrate", "--types", "myapp.slow")
    shown.expect("migrating")
    ended = shown.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert migrated(folder) < 60


def test_the_progress_bar_is_for_terminals(cli: Cli, terminal: Terminals) -> None:
    notes(cli, 3)
    ended = terminal("migrate", *NEWER_TYPES).end()
    assert ended.code == 0
    assert "migrating" in ended.text
    assert "3 records migrated" in ended.text
    assert done(cli, "migrate", *NEWER_TYPES) == "0 records migrated, 3 up to date\n"


# -- types


@pytest.mark.usefixtures("orphans")
def test_one_type_of_a_module(cli: Cli) -> None:
    assert done(cli, "recover", "--types", "myapp.state:PLANS").endswith("2 records settled\n")


@pytest.mark.usefixtures("orphans")
def test_types_of_several_modules(cli: Cli) -> None:
    notes(cli, 1)
    assert done(cli, "migrate", *STATE_TYPES, *NEWER_TYPES).endswith("1 record migrated, 3 up to date\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "cannot import broken: ModuleNotFoundError: No module named 'nothing_of_th"),
        ("1 / 0", "cannot import broken: ZeroDivisionError: division by zero"),
        ("raise ValueError('a\\nb')", "cannot import broken: ValueError: a\\nb"),
        ("def f(:", "cannot import broken: SyntaxError: invalid syntax (broken.py, line 1)"),
        ("import sys; sys.exit(0)", "cannot import broken: SystemExit: 0"),
        ("x = 1", "broken has no RecordType"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(cli: Cli, text: str, message: str) -> None:
    cli.out("init")
    (cli.directory.parent / "broken.py").write_text(text)
    assert refused(cli, 2, "migrate", "--types", "broken").startswith(f"fsstate: {message}")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "cannot import nowhere: ModuleNotFoundError"),
        ("", "cannot import : ValueError"),
        (".relative", "cannot import .relative: TypeError"),
        ("myapp.state:NOTHING", "myapp.state has no NOTHING"),
        ("myapp.state:Plan", "myapp.state:Plan is no RecordType"),
        ("myapp/state.py", "cannot import myapp/state.py: ModuleNotFoundError"),
    ],
)
def test_a_place_without_types(cli: Cli, place: str, message: str) -> None:
    told = refused(cli, 2, "recover", "--types", place)
    assert told.startswith(f"fsstate: {message}")
    assert "`fsstate recover --help`" in told


@pytest.mark.usefixtures("orphans")
def test_two_types_of_one_category_must_be_told_apart(cli: Cli, application: Path) -> None:
    (application / "both.py").write_text(STATE + "\nOTHER = RecordType('plans', Plan)\nAGAIN = (PLANS, PLANS)\n")
    assert "several types for 'plans'" in refused(cli, 2, "recover", "--types", "myapp.both")
    assert done(cli, "recover", "--types", "myapp.both:AGAIN").endswith("2 records settled\n")


@pytest.mark.usefixtures("orphans")
def test_what_a_module_prints_is_no_part_of_the_answer(cli: Cli, application: Path) -> None:
    (application / "loud.py").write_text(STATE + "\nprint('hello')\n")
    ended = cli.run("recover", "--types", "myapp.loud", "--json")
    assert (ended.returncode, ended.stderr) == (0, b"hello\n")
    assert len(json.loads(ended.stdout)["settled"]) == 2


def test_completion_imports_no_module(tmp_path: Path) -> None:
    (tmp_path / "touching.py").write_text("open('touched', 'w').close()")
    words = {"_FSSTATE_COMPLETE": "bash_complete", "COMP_WORDS": "fsstate recover --types touching --dr"}
    ended = subprocess.run(
        PROGRAM, env=environment(**words, COMP_CWORD="4"), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("plain,--dry-run\n", "")
    assert not (tmp_path / "touched").exists()
