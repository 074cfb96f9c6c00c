"""The database for what can be computed again: thrown away for the slightest reason, and never an error."""

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import gettempdir
from threading import Event, Thread

import pytest

from fsstate.backends.base import JSON, Ref, Visit
from fsstate.backends.files import FileBackend
from fsstate.backends.files.cache import CacheFile
from fsstate.backends.files.tree import Tree
from fsstate.options import StoreOptions

OPTIONS = StoreOptions()
SCHEMA = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, name TEXT)"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    with opened(root) as backend:
        backend.prepare()
    return root


def opened(root: Path) -> closing[FileBackend]:
    return closing(FileBackend(root))


def open_cache(backend: FileBackend, schema: str = SCHEMA) -> CacheFile:
    cache = backend.cache("numbers", schema)
    assert cache is not None
    return cache


def add(cache: CacheFile, *numbers: int) -> None:
    def work(visit: Visit) -> None:
        visit.db.executemany("INSERT INTO numbers VALUES (?, 'x')", [(number,) for number in numbers])

    cache.write(work)


def numbers_in(cache: CacheFile) -> list[int]:
    return cache.read(lambda visit: [n for (n,) in visit.db.execute("SELECT n FROM numbers ORDER BY n")])


def file_of(root: Path) -> Path:
    return root / ".fsstate/cache/numbers.sqlite"


def test_what_is_written_is_there_for_others_and_later(root: Path) -> None:
    with opened(root) as one, opened(root) as two:
        add(open_cache(one), 1)
        add(open_cache(two), 2)
        assert numbers_in(open_cache(one)) == [1, 2]
    with opened(root) as later:
        assert numbers_in(open_cache(later)) == [1, 2]


def test_the_state_changes_with_each_write_and_with_nothing_else(root: Path) -> None:
    with opened(root) as one, opened(root) as two:
        first, second = open_cache(one), open_cache(two)
        add(first, 1)
        before = first.read(lambda visit: visit.state)
        assert second.read(lambda visit: visit.state) == before
        after = second.write(lambda visit: visit.after)
        assert first.read(lambda visit: visit.state) == after != before


def test_work_that_raises_leaves_everything_as_it_was(root: Path) -> None:
    class MyError(Exception):
        pass

    def work(visit: Visit) -> None:
        visit.db.execute("INSERT INTO numbers VALUES (9, 'x')")
        raise MyError

    with opened(root) as backend:
        add(open_cache(backend), 1)
        with pytest.raises(MyError):
            open_cache(backend).write(work)
        assert numbers_in(open_cache(backend)) == [1]
        assert not open_cache(backend).is_private


def write_garbage(file: Path) -> None:
    file.write_bytes(b"this is no database" * 1000)


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(random.randrange(file.stat().st_size))
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def remove_seal(file: Path) -> None:
    file.with_suffix(".seal").unlink()


def break_seal(file: Path) -> None:
    file.with_suffix(".seal").write_bytes(b"\x00" * 100)


def put_a_folder_there(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "something").write_text("else")


def put_a_link_there(file: Path) -> None:
    file.unlink()
    elsewhere = file.parents[3] / "elsewhere"
    elsewhere.write_text("a person's file")
    file.symlink_to(elsewhere)


def put_a_pipe_for_the_seal(file: Path) -> None:
    file.with_suffix(".seal").unlink()
    os.mkfifo(file.with_suffix(".seal"))


def put_a_link_for_the_seal(file: Path) -> None:
    file.with_suffix(".seal").unlink()
    file.with_suffix(".seal").symlink_to("/etc/passwd")


def put_a_folder_for_the_seal(file: Path) -> None:
    file.with_suffix(".seal").unlink()
    file.with_suffix(".seal").mkdir()


def remove_the_folder(file: Path) -> None:
    for each in file.parent.iterdir():
        each.unlink()
    file.parent.rmdir()


DAMAGES = [
    write_garbage,
    cut_off,
    flip_a_bit,
    empty,
    remove,
    remove_seal,
    break_seal,
    put_a_folder_there,
    put_a_link_there,
    remove_the_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_what_somebody_else_touched_is_thrown_away(root: Path, damage: Callable[[Path], None], is_open: bool) -> None:
    with opened(root) as backend:
        add(open_cache(backend), *range(1000))
        if not is_open:
            backend.close()
        damage(file_of(root))
        with opened(root) as other:
            assert numbers_in(open_cache(backend if is_open else other)) == []
            add(open_cache(other), 7)
            assert numbers_in(open_cache(other)) == [7]
            assert not open_cache(other).is_private
    elsewhere = root.parent / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_text() == "a person's file"


def replace(file: Path) -> None:
    shutil.copy2(file, file.with_suffix(".other"))
    file.with_suffix(".other").rename(file)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, replace])
@pytest.mark.parametrize("writes", [True, False], ids=["written", "read"])
def test_what_is_damaged_while_it_is_in_use_is_not_believed(
    root: Path, damage: Callable[[Path], None], *, writes: bool
) -> None:
    with opened(root) as backend:
        cache = open_cache(backend)
        add(cache, *range(1000))
        damages = [damage]

        def work(visit: Visit) -> int:
            if writes:
                visit.db.execute("INSERT INTO numbers VALUES (-1, 'x')")
            if damages:
                damages.pop()(file_of(root))
            return int(visit.db.execute("SELECT count(*) FROM numbers").fetchone()[0])

        assert (cache.write if writes else cache.read)(work) == int(writes)
        assert numbers_in(cache) == [-1] * writes
        assert not cache.is_private


def test_what_does_not_read_as_it_was_written_is_thrown_away(root: Path) -> None:
    def work(visit: Visit) -> str:
        kept = [n for (n,) in visit.db.execute("SELECT n FROM numbers")]
        return b"\xff".decode() if kept else ""

    with opened(root) as backend:
        add(open_cache(backend), 1)
        assert open_cache(backend).read(work) == ""


@pytest.mark.parametrize("name", ["numbers.sqlite", "numbers.sqlite-journal"])
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_nobody_waits_for_a_pipe(root: Path, name: str, is_open: bool) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
        if not is_open:
            backend.close()
        file_of(root).with_name(name).unlink(missing_ok=True)
        os.mkfifo(file_of(root).with_name(name))
        with opened(root) as other:
            cache = open_cache(backend if is_open else other)
            assert numbers_in(cache) == []
            assert not cache.is_private


@pytest.mark.parametrize(
    "block",
    [put_a_pipe_for_the_seal, put_a_link_for_the_seal, put_a_folder_for_the_seal],
    ids=["pipe", "link", "folder"],
)
def test_what_stands_in_the_place_of_the_seal_is_no_error(root: Path, block: Callable[[Path], None]) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
        backend.close()
    block(file_of(root))
    with opened(root) as backend:
        cache = open_cache(backend)
        assert not cache.exists()
        add(cache, 2)
        assert 2 in numbers_in(cache)


def test_a_folder_that_is_none_is_no_error(root: Path) -> None:
    with opened(root) as backend:
        backend.close()
    shutil.rmtree(root / ".fsstate", ignore_errors=True)
    (root / ".fsstate").symlink_to(root.parent)
    cache = CacheFile(Tree(str(root), OPTIONS), OPTIONS, "numbers", SCHEMA)
    for number in range(3):
        add(cache, number)
    assert numbers_in(cache) == [0, 1, 2]
    assert cache.is_private


@pytest.mark.parametrize("name", [b"no text \xff", b"a?b=c#d%41", b"line\nfeed"])
def test_roots_of_any_name(tmp_path: Path, name: bytes) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    with opened(root) as backend:
        backend.prepare()
        add(open_cache(backend), 1)
        assert not open_cache(backend).is_private
    assert file_of(root).exists()


def test_a_root_that_begins_with_two_slashes(root: Path) -> None:
    with opened(Path("/" + str(root))) as backend:
        assert backend.root.startswith("//")
        add(open_cache(backend), 1)
        assert not open_cache(backend).is_private


def test_another_layout_begins_anew(root: Path) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
    with opened(root) as backend:
        assert numbers_in(open_cache(backend, SCHEMA + "; CREATE TABLE more (x)")) == []


def test_another_run_of_the_machine_begins_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
    monkeypatch.setattr("fsstate.backends.files.cache._boot", lambda: "another boot")
    with opened(root) as backend:
        assert numbers_in(open_cache(backend)) == []


def test_a_writer_that_was_killed_leaves_nothing_that_is_believed(root: Path) -> None:
    code = f"""
import os, sys
from fsstate.backends.files import FileBackend
cache = FileBackend({str(root)!r}).cache("numbers", {SCHEMA!r})
cache.write(lambda visit: visit.db.execute("INSERT INTO numbers VALUES (1, 'x')"))
cache._seal = lambda folder: os.kill(os.getpid(), 9)
cache.write(lambda visit: visit.db.execute("INSERT INTO numbers VALUES (2, 'x')"))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with opened(root) as backend:
        assert numbers_in(open_cache(backend)) == []


def test_a_store_that_nobody_wrote_to_gets_no_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as backend:
        add(open_cache(backend), 1)
        assert numbers_in(open_cache(backend)) == [1]
        assert open_cache(backend).is_private
        assert list(tmp_path.iterdir()) == []
        # With the first write there is a place for it.
        backend.change(Ref("a", "b", JSON), lambda _: b"{}\n")
        add(open_cache(backend), 2)
        assert not open_cache(backend).is_private
        assert numbers_in(open_cache(backend)) == [1, 2]
        assert (tmp_path / ".fsstate/cache/numbers.sqlite").exists()


def test_a_directory_that_may_not_be_written_to_is_copied_to_memory(root: Path) -> None:
    with closing(FileBackend(root / "open", StoreOptions(file_mode=0o644, directory_mode=0o755))) as backend:
        backend.prepare()
        add(open_cache(backend), 1)
    code = f"""
import os
from fsstate.backends.files import FileBackend, cache, guarding
os.setgid(65534); os.setuid(65534)
cache = FileBackend({str(root / "open")!r}).cache("numbers", {SCHEMA!r})
count = lambda visit: visit.db.execute("SELECT count(*) FROM numbers").fetchone()
print(cache.read(count))
cache.write(lambda visit: visit.db.execute("INSERT INTO numbers VALUES (2, 'x')"))
print(cache.read(count), cache.is_private)
"""
    for above in (root, *root.parents):
        if above != Path(gettempdir()) and above.is_relative_to(gettempdir()):
            above.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "(1,)\n(2,) True\n", done.stderr
    with opened(root / "open") as backend:
        assert numbers_in(open_cache(backend)) == [1]


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with opened(tmp_path / "state") as backend:
            backend.prepare()
            cache = open_cache(backend)
            cache.write(
                lambda visit: visit.db.executemany(
                    "INSERT INTO numbers VALUES (?, ?)", ((n, "long" * 100) for n in range(3000))
                )
            )
            assert len(numbers_in(cache)) == 3000
            assert cache.is_private
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_file_that_somebody_keeps_locked_is_no_error(root: Path) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
    with closing(sqlite3.connect(file_of(root))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with closing(FileBackend(root, StoreOptions(lock_timeout=0.1))) as backend:
            cache = open_cache(backend)
            assert numbers_in(cache) == []
            add(cache, 2)
            assert numbers_in(cache) == [2]


def test_many_threads_and_processes_lose_nothing(root: Path) -> None:
    code = f"""
import sys
from fsstate.backends.files import FileBackend
cache = FileBackend({str(root)!r}).cache("numbers", {SCHEMA!r})
for n in range(40):
    cache.write(lambda visit: visit.db.execute("INSERT INTO numbers VALUES (?, 'x')", (int(sys.argv[1]) + n,)))
assert not cache.is_private
"""
    with opened(root) as backend:
        add(open_cache(backend), 0)
        others = [subprocess.Popen([sys.executable, "-c", code, str(start)]) for start in (1000, 2000)]
        threads = [Thread(target=add, args=(open_cache(backend), n)) for n in range(1, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [other.wait() for other in others] == [0, 0]
        assert len(numbers_in(open_cache(backend))) == 60 + 80


def test_a_forked_child_opens_its_own(root: Path) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
        child = os.fork()
        if not child:
            add(open_cache(backend), 2)
            os._exit(0 if numbers_in(open_cache(backend)) == [1, 2] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert numbers_in(open_cache(backend)) == [1, 2]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("patience", [1.0, 0.01], ids=["work that ends soon", "work that goes on"])
def test_a_child_forked_while_another_thread_writes(
    root: Path, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would have the child wait for a transaction that goes on in the parent only."""
    monkeypatch.setattr("fsstate.backends.files.cache._PAUSE", patience)
    begun = Event()

    def work(visit: Visit) -> None:
        visit.db.execute("INSERT INTO numbers VALUES (1, 'x')")
        begun.set()
        time.sleep(0.2)

    with opened(root) as backend:
        cache = open_cache(backend)
        add(cache, 0)
        writer = Thread(target=cache.write, args=(work,))
        writer.start()
        begun.wait()
        child = os.fork()
        if not child:
            began = time.monotonic()
            add(cache, 2)
            is_right = {0, 2} <= {*numbers_in(cache)} and time.monotonic() - began < OPTIONS.lock_timeout / 2
            os._exit(0 if is_right and cache.is_private == (patience < 0.2) else 1)
        assert os.waitpid(child, 0)[1] == 0
        writer.join()
        assert {0, 1} <= {*numbers_in(cache)}


def test_modes_are_those_of_the_store(root: Path) -> None:
    with opened(root) as backend:
        add(open_cache(backend), 1)
    assert {path.stat().st_mode & 0o777 for path in file_of(root).parent.iterdir()} == {0o600}


def test_errors_of_the_work_are_the_callers(root: Path) -> None:
    def work(visit: Visit) -> None:
        visit.db.execute("DELETE FROM numbers")
        raise OSError(errno.EMFILE, "too many files")

    with opened(root) as backend, pytest.raises(OSError, match="too many files"):
        open_cache(backend).write(work)
