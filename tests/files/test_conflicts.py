"""Conflict copies with real disks, processes and crashes: what somebody did is in one place at least, at any moment."""

import errno
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import ConflictError, NotFoundError
from fsstate.options import StoreOptions
from fsstate.store import Store
from tests.files.processes import needs_strace, run, start
from tests.files.test_trash import mounted

NEVER = "0" * 40
STORE = "from fsstate.store import Store\nstore = Store(root)\nagents = store.collection('agents')\n"


def values(root: Path) -> list[Any]:
    """What the conflict copies of agents/planner hold."""
    return [json.loads(path.read_text())["n"] for path in sorted((root / "agents").glob("planner.conflict-*.json"))]


def test_what_many_processes_and_threads_lose_is_all_kept(root: Path) -> None:
    number = 20
    with Store(root) as store:
        store.collection("agents").put("planner", {"n": "theirs"})
    code = f"""
    {STORE.replace(chr(10), chr(10) + "    ")}
    for n in range({number}):
        try:
            agents.put("planner", {{"n": int(sys.argv[2]) + n}}, expect="{NEVER}", merge=True)
        except ConflictError as error:
            assert os.path.exists(error.kept_at)
    """
    processes = [start(code, root, 1000 * each) for each in range(3)]
    with Store(root) as store:
        threads = [threading.Thread(target=lose, args=(store, 1000 * each, number)) for each in (3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for process in processes:
        _, problems = process.communicate(timeout=100)
        assert process.returncode == 0, problems
    assert sorted(values(root)) == sorted(1000 * each + n for each in range(5) for n in range(number))
    with Store(root) as store:
        assert len(store.conflicts()) == 5 * number
        assert store.collection("agents")["planner"] == {"n": "theirs"}


def lose(store: Store, first: int, number: int) -> None:
    for n in range(number):
        with pytest.raises(ConflictError):
            store.collection("agents").put("planner", {"n": first + n}, expect=NEVER, merge=True)


def test_several_who_resolve_the_same_conflict(root: Path) -> None:
    with Store(root) as store:
        store.collection("agents").put("planner", {"n": "theirs"})
        lose(store, 1, 1)
        (conflict,) = store.conflicts()
        ended: list[object] = []

        def resolve() -> None:
            try:
                ended.append(store.resolve(conflict, "mine"))
            except NotFoundError:
                ended.append(None)

        threads = [threading.Thread(target=resolve) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended.count(None) == 7
        assert store.collection("agents").revision("planner") in ended
        assert store.collection("agents")["planner"] == {"n": 1}


def test_on_a_full_disk_the_conflict_is_told_all_the_same(root: Path) -> None:
    with mounted(root, "400k"), Store(root, StoreOptions(durability="process")) as store:
        agents = store.collection("agents")
        revision = agents.put("planner", {"n": 1, "text": "x" * 20_000})
        Path(agents.path_of("planner")).write_text('{"n": 2}')
        with pytest.raises(OSError, match="No space") as full:
            (root / "ballast").write_bytes(b"x" * 1_000_000)
        assert full.value.errno == errno.ENOSPC
        with pytest.raises(ConflictError, match="read it again and repeat") as caught:
            agents.put("planner", {"n": 3, "text": "y" * 20_000}, expect=revision, merge=True)
        assert caught.value.kept_at is None
        (note,) = caught.value.__notes__
        assert "mine could not be kept beside it" in note
        assert "No space left" in note
        assert caught.value.mine["n"] == 3
        assert agents["planner"] == {"n": 2}
        assert store.conflicts() == []
        (root / "ballast").unlink()
        with pytest.raises(ConflictError) as again:
            agents.put("planner", {"n": 3}, expect=revision, merge=True)
        assert again.value.kept_at is not None


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A store with a conflict about agents/planner."""
    root = tmp_path / "template"
    with Store(root) as store:
        store.collection("agents").put("planner", {"n": "theirs"})
        lose(store, 1, 1)
    return root


KILLED = """
from pathlib import Path
from fsstate.store import Store
from tests.files.killing import kill_at_each_change
print(kill_at_each_change(Path(root), lambda copy: Store(copy).resolve("agents/planner", "mine")))
"""


def test_killed_while_resolving(template: Path) -> None:
    crashes = int(run(KILLED, template))
    assert crashes > 5
    for step in range(crashes + 1):
        root = template.with_name(f"template{step}")
        with Store(root) as store:
            found = store.collection("agents")["planner"]
            assert found == {"n": 1} or (found == {"n": "theirs"} and values(root) == [1])
            if values(root):
                store.resolve("agents/planner", "mine")
            assert store.collection("agents")["planner"] == {"n": 1}
            assert store.conflicts() == []


@needs_strace
def test_the_record_lasts_before_the_copy_goes(template: Path, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    calls = "trace=rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync"
    run(
        f"{STORE}store.resolve('agents/planner', 'mine')",
        template,
        wrapper=("strace", "-f", "-y", "-o", str(log), "-e", calls),
    )
    lines = log.read_text().splitlines()
    (moved,) = [number for number, line in enumerate(lines) if "rename" in line and '"planner.json"' in line]
    # It is taken out of its place, looked at, and only then removed.
    (gone,) = [
        number for number, line in enumerate(lines) if "rename" in line and '/agents>, "planner.conflict-' in line
    ]
    flushed = [
        number for number, line in enumerate(lines) if "sync(" in line and line.rstrip().endswith("/agents>) = 0")
    ]
    assert any(moved < number < gone for number in flushed)
    assert any(number > gone for number in flushed)


def before_it_is_told(root: Path, log: Path, calls: str, value: int) -> list[str]:
    """The calls of a program that loses this value, until it is told so."""
    code = f"""
    {STORE.replace(chr(10), chr(10) + "    ")}
    try:
        agents.put("planner", {{"n": {value}}}, expect="{NEVER}", merge=True)
    except ConflictError:
        os.write(2, b"TOLD")
    """
    run(code, root, wrapper=("strace", "-f", "-y", "-o", str(log), "-e", f"trace={calls},write"))
    lines = log.read_text().splitlines()
    (told,) = [number for number, line in enumerate(lines) if "TOLD" in line]
    return lines[:told]


@needs_strace
def test_a_copy_lasts_before_it_is_told_of(template: Path, tmp_path: Path) -> None:
    lines = before_it_is_told(template, tmp_path / "trace", "rename,renameat,renameat2,fsync,fdatasync", 2)
    (moved,) = [number for number, line in enumerate(lines) if "rename" in line and "planner.conflict-" in line]
    flushed = [number for number, line in enumerate(lines) if "sync(" in line]
    assert flushed[0] < moved < flushed[-1]


@needs_strace
def test_a_copy_that_is_there_already_lasts_before_it_is_told_of(template: Path, tmp_path: Path) -> None:
    """Who made it may have been killed before it was flushed."""
    lines = before_it_is_told(template, tmp_path / "trace", "fsync,fdatasync", 1)
    assert values(template) == [1]
    assert any("planner.conflict-" in line for line in lines)
    assert any(f"{template}/agents>" in line for line in lines)


def test_folders_that_cannot_be_listed_hide_no_conflict(
    template: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (template / "linked").symlink_to(tmp_path)
    (tmp_path / "outside.conflict-2026-11-28T184512Z-1f3a.json").write_text("{}")
    with Store(template) as store:
        assert [each.record for each in store.conflicts()] == ["agents/planner.json"]
        # Nothing leads out of the store.
        with pytest.raises(OSError, match="symlink"):
            store.resolve("linked/outside", "mine")
    assert caplog.messages == []


def test_a_fork_goes_on_with_what_its_parent_knows(root: Path) -> None:
    code = f"""
    {STORE.replace(chr(10), chr(10) + "    ")}
    revision = agents.put("planner", {{"a": 1, "b": 1}})
    store.backend.contents._mutex.acquire()
    if os.fork() == 0:
        agents.put("planner", {{"a": 1, "b": 2}})
        agents.put("planner", {{"a": 2, "b": 1}}, expect=revision, merge=True)
        os._exit(0)
    assert os.wait()[1] == 0
    """
    run(code, root)
    assert json.loads((root / "agents/planner.json").read_text()) == {"a": 2, "b": 2}


def test_a_listing_of_many_looks_at_no_file(root: Path) -> None:
    with Store(root, StoreOptions(durability="process")) as store:
        store.collection("agents").put_many({f"a{number}": {} for number in range(30)})
        (root / "agents/a1.conflict-2026-11-28T184512Z-1f3a.json").write_text("{}")
    log = root.with_name("trace")
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    code = f"{STORE}os.write(2, b'MARK')\nassert len(store.conflicts()) == 1\nos.write(2, b'MARK')"
    run(code, root, wrapper=("strace", "-f", "-o", str(log), "-e", "trace=openat,newfstatat,stat,statx,write"))
    between = log.read_text().split("MARK")[1]
    assert "a2.json" not in between
    assert "a1.conflict" not in between


def test_git_and_people_may_remove_a_copy(template: Path) -> None:
    with Store(template) as store:
        (conflict,) = store.conflicts()
        subprocess.run(["rm", conflict.path], check=True)
        assert store.conflicts() == []
        with pytest.raises(NotFoundError, match="resolved already"):
            store.resolve(conflict, "mine")
        assert store.backend.read(Ref("agents", "planner", JSON)) is not None
