"""Pruning real files: on other devices and full ones, by several processes at once, and while others write."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fsstate import PrunePolicy, Store, StoreOptions
from fsstate.backends.base import LOG, Move, Moved, Ref
from fsstate.errors import AlreadyExistsError, StorageError, UnsafePathError
from fsstate.trash import RESTORED, Trash
from tests.files.processes import start

WEEK = PrunePolicy(ttl=timedelta(days=7))
OLD = "2025-01-01T00:00:00Z"
FAST = StoreOptions(durability="process")


def session(root: Path, name: str, *, logs: bool = True) -> None:
    """A session of long ago, as a file that anybody made."""
    folder = root / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(f'{{"id": "{name}", "created_at": "{OLD}"}}\n')
    if logs:
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "events.jsonl").write_text(f'{{"seq":1,"kind":"x","at":"{OLD}","of":"{name}"}}\n')
        (folder / name / "deep" / "notes.md").write_text(name)


def seen(root: Path) -> dict[str, str]:
    """What stands in the store, without what is fsstate's own."""
    files = (path for path in root.rglob("*") if path.is_file() and ".fsstate" not in path.parts)
    return {str(path.relative_to(root)): path.read_text() for path in files}


@contextlib.contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """Another device at a place; skips where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_person_understands_the_trash(root: Path) -> None:
    session(root, "a")
    with Store(root, FAST) as store:
        store.sessions.prune(WEEK)
    manifest, run = sorted((root / ".fsstate/trash").iterdir(), key=lambda path: path.is_dir())
    assert manifest.name == f"{run.name}.jsonl"
    assert '"record":"sessions/a.json"' in manifest.read_text()
    assert (run / "sessions/a.json").is_file()
    assert (run / "sessions/a/deep/notes.md").read_text() == "a"


def test_a_trash_on_another_device(root: Path) -> None:
    for name in "ab":
        session(root, name)
    session(root, "c", logs=False)
    before = seen(root)
    with mounted(root / ".fsstate/trash", "4M"), Store(root, FAST) as store:
        assert len(store.sessions.prune(WEEK).pruned) == 3
        assert seen(root) == {}
        assert os.listdir(root / "sessions") == []
        assert not list((root / ".fsstate/trash").rglob(".*"))
        store.trash.restore("a", "c")
        store.sessions.create(id="b")
        with pytest.raises(AlreadyExistsError):
            store.trash.restore("b")
        store.sessions.delete("b")
        store.trash.restore("b")
        assert seen(root) == before
        store.sessions.prune(WEEK)
        assert store.trash.empty().bytes > 0
        assert os.listdir(root / ".fsstate/trash") == []


def test_entries_go_to_a_trash_on_another_device(root: Path) -> None:
    with mounted(root / ".fsstate/trash", "64k"), Store(root, FAST) as store:
        log = store.journal("audit", "trail")
        for number in range(5):
            log.append("login", number=number)
        before = seen(root)
        assert sum(each.number for each in log.prune(PrunePolicy(keep=2)).pruned) == 3
        assert not list((root / ".fsstate/trash").rglob(".*"))
        assert (root / "audit/trail.jsonl").stat().st_mode == next(
            (root / ".fsstate/trash").rglob("trail.jsonl")
        ).stat().st_mode
        store.trash.restore("audit/trail")
        assert seen(root) == before
        log.append("note", text="x" * 100_000)
        log.append("login")
        before = seen(root)
        with pytest.raises(StorageError, match="No space left"):
            log.prune(PrunePolicy(keep=1))
        assert (seen(root), store.trash.list()) == (before, [])
        assert not list((root / ".fsstate/trash").rglob("*"))


def test_a_trash_on_another_device_that_is_full(root: Path) -> None:
    session(root, "a")
    (root / "sessions/a/events.jsonl").write_text(f'{{"seq":1,"at":"{OLD}","x":"{"x" * 100_000}"}}\n')
    session(root, "b", logs=False)
    before = seen(root)
    with mounted(root / ".fsstate/trash", "64k"), Store(root, FAST) as store:
        report = store.sessions.prune(WEEK)
        # What belongs to a session that went stays where it was when there is no room, and is found again.
        assert [each.id for each in report.pruned] == ["a", "b"]
        assert (root / "sessions/a/events.jsonl").exists()
        store.trash.restore("a", "b")
        assert seen(root) == before


def test_a_full_trash_loses_nothing_of_what_could_not_follow(root: Path) -> None:
    """The session went and its folder found no room: whoever makes a new one, or sweeps, spares it."""
    session(root, "a")
    events = root / "sessions/a/events.jsonl"
    events.write_text(f'{{"seq":1,"at":"{OLD}","x":"{"x" * 100_000}"}}\n')
    with mounted(root / ".fsstate/trash", "64k"), Store(root, FAST) as store:
        store.sessions.prune(WEEK)
        with pytest.raises(StorageError, match="No space left"):
            store.sessions.create(id="a")
        with contextlib.suppress(StorageError):
            store.sessions.delete("a")
        assert events.exists()
        # For good, it goes without being carried to where there is no room.
        assert store.trash.empty().kept == []
        assert seen(root) == {}


def test_a_full_disk(root: Path) -> None:
    with mounted(root, "256k"):
        for number in range(4):
            session(root, f"s{number}")
        before = seen(root)
        with Store(root, FAST) as store:
            plan = store.sessions.plan(WEEK)
            with contextlib.suppress(OSError), (root / "filler").open("wb", buffering=0) as filler:
                while filler.write(b"x" * 512):
                    pass
            with pytest.raises(StorageError, match="No space left"):
                store.sessions.apply(plan)
            (root / "filler").unlink()
            assert seen(root) == before
            assert store.trash.list() == []
            assert len(store.sessions.apply(plan).pruned) == 4
            store.trash.restore(*[item.id for item in store.trash.list()])
            assert seen(root) == before


def test_a_trash_that_is_a_symlink_is_refused(root: Path, tmp_path: Path) -> None:
    session(root, "a")
    (tmp_path / "elsewhere").mkdir()
    (root / ".fsstate").mkdir()
    (root / ".fsstate/trash").symlink_to(tmp_path / "elsewhere")
    before = seen(root)
    with Store(root, FAST) as store:
        with pytest.raises(UnsafePathError):
            store.sessions.prune(WEEK)
        assert seen(root) == before
        assert os.listdir(tmp_path / "elsewhere") == []
        assert len(store.sessions.prune(WEEK, trash=False).pruned) == 1


def test_a_file_that_was_replaced_with_the_same_time_and_size_stays(root: Path) -> None:
    session(root, "a", logs=False)
    path = root / "sessions/a.json"
    with Store(root, FAST) as store:
        plan = store.sessions.plan(WEEK)
        stamp, text = path.stat(), path.read_text()
        path.write_text(text.replace('"a"', '"b"'))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        report = store.sessions.apply(plan)
        assert [each.reason for each in report.kept] == ["touched"]
        assert path.exists()


PRUNER = """
from datetime import UTC, datetime, timedelta
from fsstate import PrunePolicy, Store
with Store(root) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    report = store.sessions.prune(PrunePolicy(ttl=timedelta(days=7)))
    assert all(each.reason in ("locked", "touched") for each in report.kept), report.kept
    print(*(each.id for each in report.pruned), flush=True)
"""


def test_two_processes_prune_at_once(root: Path) -> None:
    for number in range(60):
        session(root, f"s{number}", logs=number % 2 == 0)
    before = seen(root)
    pruners = [start(PRUNER, root) for _ in range(2)]
    for pruner in pruners:
        assert pruner.stdout is not None
        assert pruner.stdout.readline() == "ready\n"
    told = [pruner.communicate("\n", timeout=60) for pruner in pruners]
    assert [pruner.returncode for pruner in pruners] == [0, 0], told
    gone = [name for out, _ in told for name in out.split()]
    assert len(gone) == len(set(gone))
    with Store(root, FAST) as store:
        assert sorted([*gone, *store.sessions.ids()]) == sorted(f"s{number}" for number in range(60))
        store.sessions.prune(WEEK)
        store.trash.restore(*[item.id for item in store.trash.list()])
        assert seen(root) == before
        assert store.trash.list() == []


WRITER = """
b = FileBackend(root)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), 200, 2):
    owner = Ref("sessions", f"s{number}", JSON)
    try:
        b.append(Ref(owner.belongings, "events", LOG), lambda _: [b'{"kind":"new"}'], owner=owner)
        print(number, flush=True)
    except NotFoundError:
        pass
"""


@pytest.mark.parametrize("trash", [True, False])
def test_what_was_written_meanwhile_is_not_lost(root: Path, *, trash: bool) -> None:
    """Sessions get their first entry while they are pruned: those whose writer was told so are there, and no others."""
    for number in range(200):
        session(root, f"s{number}", logs=False)
    with Store(root, FAST) as store:
        plan = store.sessions.plan(WEEK)
        writers = [start(WRITER, root, number) for number in range(2)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        # From the other end, so that they meet.
        backwards = plan._replace(pruned=plan.pruned[::-1])
        report = store.sessions.apply(backwards, trash=trash)
        told = [writer.communicate(timeout=60) for writer in writers]
        assert [writer.returncode for writer in writers] == [0, 0], told
        written = {f"s{number}" for out, _ in told for number in out.split()}
        gone = {each.id for each in report.pruned}
        assert gone & written == set()
        assert gone | written == {f"s{number}" for number in range(200)}
        assert set(store.sessions.ids()) == written
        assert set(store.categories("sessions")) == written
        assert all(len(list(store.backend.entries(Ref(f"sessions/{name}", "events", LOG)))) == 1 for name in written)


@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.parametrize("trash", [True, False])
def test_what_an_editor_saved_while_its_neighbours_went_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, trash: bool, logs: bool
) -> None:
    for name in "ab":
        session(root, name, logs=logs)
    edited = root / "sessions/b.json"
    unlink = os.unlink

    def slow(path: str, *, dir_fd: int | None = None) -> None:
        if path == "a.json":
            edited.write_text('{"id": "b", "title": "I want this"}\n')
        unlink(path, dir_fd=dir_fd)

    with Store(root, FAST) as store:
        plan = store.sessions.plan(WEEK)
        monkeypatch.setattr(os, "unlink", slow)
        report = store.sessions.apply(plan, trash=trash)
        assert ([each.id for each in report.pruned], report.kept) == (["a"], [("b", "touched")])
        assert "I want this" in edited.read_text()
        assert len(store.trash.list()) == (1 if trash else 0)


def test_a_directory_that_changes_while_it_is_looked_at(root: Path) -> None:
    for number in range(300):
        session(root, f"s{number}", logs=number % 3 == 0)
    stop = threading.Event()

    def churn() -> None:
        with Store(root, FAST) as other:
            for number in range(0, 300, 2):
                if stop.is_set():
                    return
                other.sessions.delete(f"s{number}")

    thread = threading.Thread(target=churn)
    with Store(root, FAST) as store:
        thread.start()
        plans = [store.sessions.plan(WEEK) for _ in range(3)]
        stop.set()
        thread.join()
        assert all(each.reason == "locked" for plan in plans for each in plan.kept), plans
        report = store.sessions.apply(plans[-1])
        assert all(each.reason == "touched" for each in report.kept)
        assert store.sessions.ids() == [each.id for each in report.kept]


def test_young_files_are_looked_at_again(root: Path) -> None:
    """A file that has just changed may change again within the clock's tick without showing it."""
    session(root, "a")
    with Store(root, FAST) as store:
        began = time.monotonic()
        plan = store.sessions.plan(WEEK)
        assert time.monotonic() - began > 0.02
        assert [each.id for each in plan.pruned] == ["a"]
        assert store.backend.footprint(Ref("sessions", "a", ".json"), "sessions/a") is not None
        assert len(store.sessions.apply(plan).pruned) == 1


def test_what_a_killed_run_left_behind_is_not_taken_for_nobodys(root: Path) -> None:
    """The document went and its folder did not: whoever makes a new one of that name leaves the old one whole."""
    session(root, "a")
    with Store(root, FAST) as store:
        store.sessions.prune(WEEK)
        run = store.trash.list()[0].id.partition("/")[0]
        os.rename(root / ".fsstate/trash" / run / "sessions/a", root / "sessions/a")
        store.sessions.create(id="a", title="new")
        assert store.categories("sessions") == []
        store.sessions.delete("a")
        store.trash.restore("a")
        assert (root / "sessions/a/deep/notes.md").read_text() == "a"


def test_a_killed_run_loses_no_file_that_is_no_record(root: Path) -> None:
    session(root, "a", logs=False)
    (root / "sessions/a").mkdir()
    (root / "sessions/a/plot.png").write_text("picture")
    with Store(root, FAST) as store:
        store.sessions.prune(WEEK)
        run = store.trash.list()[0].id.partition("/")[0]
        os.rename(root / ".fsstate/trash" / run / "sessions/a", root / "sessions/a")
        store.sessions.create(id="a")
        assert not (root / "sessions/a").exists()
        store.sessions.delete("a")
        store.trash.restore("a")
        assert (root / "sessions/a/plot.png").read_text() == "picture"


@pytest.mark.parametrize("has_folder", [True, False])
def test_what_a_killed_run_left_behind_follows_its_own_document(root: Path, has_folder: bool) -> None:
    """A version from git that did not arrive lies in the trash as well, and may be the later one there."""
    session(root, "a")
    with Store(root, FAST) as store:
        store.sessions.prune(WEEK)
        (old,) = store.trash.list()
        run = old.id.partition("/")[0]
        os.rename(root / ".fsstate/trash" / run / "sessions/a", root / "sessions/a")
        later = Trash(store.backend, lambda: datetime(2099, 1, 1, tzinfo=UTC))
        with later.filling() as coming:
            coming.announce([old._replace(reason=RESTORED)])
            place = coming.place_of(Ref("sessions", "a", ".json"))
            store.backend.change(place, lambda _: b"{}")
            if has_folder:
                store.backend.change(Ref(place.belongings, "other", ".json"), lambda _: b"{}")
        store.sessions.create(id="a", title="new")
        store.sessions.delete("a")
        store.trash.restore(old.id)
        assert (root / "sessions/a/deep/notes.md").read_text() == "a"


def test_who_rescues_what_a_kill_left_takes_nothing_that_is_being_restored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a session that is gone, and its lock, it may come back: then all of it stays."""
    session(root, "a")
    before = seen(root)
    with Store(root, FAST) as store, Store(root, FAST) as other:
        store.sessions.prune(WEEK)
        run = store.trash.list()[0].id.partition("/")[0]
        os.rename(root / ".fsstate/trash" / run / "sessions/a", root / "sessions/a")
        move = store.backend.move_many

        def late(moves: Sequence[Move], *, timeout: float | None = None) -> list[Moved]:
            other.trash.restore("a")
            return move(moves, timeout=timeout)

        monkeypatch.setattr(store.backend, "move_many", late)
        with pytest.raises(AlreadyExistsError):
            store.sessions.create(id="a")
        assert seen(root) == before


@pytest.mark.parametrize("broken_off", range(1, 4))
def test_restoring_from_another_device_may_be_broken_off_anywhere(
    root: Path, monkeypatch: pytest.MonkeyPatch, broken_off: int
) -> None:
    session(root, "a")
    before = seen(root)
    with mounted(root / ".fsstate/trash", "4M"), Store(root, FAST) as store:
        store.sessions.prune(WEEK)
        unlink, removed = os.unlink, 0

        def interrupted(path: str, *, dir_fd: int | None = None) -> None:
            nonlocal removed
            removed += path in ("events.jsonl", "notes.md", "a.json")
            if removed == broken_off:
                raise KeyboardInterrupt
            unlink(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.trash.restore("a")
        monkeypatch.undo()
        store.trash.restore("a")
        assert seen(root) == before


def test_flushes_are_shared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(500):
        session(root, f"s{number}", logs=number % 2 == 0)
    real, flushes = os.fsync, 0

    def fsync(fd: int) -> None:
        nonlocal flushes
        flushes += 1
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with Store(root) as store:
        report = store.sessions.prune(WEEK)
        assert len(report.pruned) == 500
        assert flushes < 30
        before = flushes
        store.trash.empty()
        assert flushes - before < 10
