"""Trees that change under our hands, or hold what no store would make: nothing outside is touched, nothing hidden."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from fsstate import CorruptRecordError, FsStateError, PrunePolicy, Store, StoreOptions
from fsstate.backends.base import JSON, LOG, BadLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import StorageError, UnsafePathError

DOC = Ref("agents", "a", JSON)
LOG_REF = Ref("audit", "t", LOG)
FAST = StoreOptions(durability="process", lock_timeout=5.0)
GIGABYTE = 1 << 30


@contextlib.contextmanager
def in_turns(first: Callable[[], object], second: Callable[[], object]) -> Generator[None]:
    """Somebody does the one and the other again and again, while the block runs."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for each in (first, second):
                with contextlib.suppress(OSError):
                    each()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def use(store: Store, number: int) -> int:
    """Try everything once; returns how much of it was refused."""
    agents = store.collection("agents")
    works: list[Callable[[], object]] = [
        lambda: agents.put("a", {"n": number}),
        lambda: agents.update("a", lambda value: {"m": number, **value}, default={}),
        lambda: agents.put_many({"b": {"n": number}, "c": {}}),
        lambda: agents.query({"n": number}),
        lambda: agents.delete("b"),
        lambda: store.journal("agents", "log").append("x", n=number),
        lambda: store.journal("agents", "log").tail(2),
        lambda: store.journal("agents", "log").trim(before=number // 2),
        lambda: store.markdown("agents").put("note", "text"),
        lambda: agents.prune(PrunePolicy(keep=2)),
    ]
    refused = 0
    for work in works:
        try:
            work()
        except FsStateError as error:
            if not isinstance(error, StorageError | CorruptRecordError | KeyError):
                raise
            refused += 1
    return refused


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("a.json", "b.json", "log.jsonl", "note.md", "deep/x.json"):
        (outside / name).write_bytes(b'{"seq":1,"outside":1}\n')
    return outside


def swap_races(root: Path, outside: Path, seconds: float) -> None:
    """Whoever swaps a folder for a link while we write gets nothing of ours, and loses nothing."""
    before = contents(outside)
    kept, link = root / "agents", root.parent / "link"
    aside = root.parent / "aside"

    def put_link() -> None:
        kept.rename(aside)
        link.symlink_to(outside)
        link.rename(kept)

    def take_link() -> None:
        kept.rename(link)
        link.unlink()
        aside.rename(kept)

    with Store(root, FAST) as store:
        use(store, 0)
        refused, end, number = 0, time.monotonic() + seconds, 0
        with in_turns(put_link, take_link):
            while time.monotonic() < end:
                number += 1
                refused += use(store, number)
                with Store(root, FAST) as other:
                    use(other, number)
        assert contents(outside) == before
        assert number > 3
        with contextlib.suppress(OSError):
            take_link()
        shutil.rmtree(aside, ignore_errors=True)
        if kept.is_symlink():
            kept.unlink()
        assert use(store, number) == 0
    assert contents(outside) == before


def test_a_folder_that_is_swapped_for_a_link_to_elsewhere(tmp_path: Path, outside: Path) -> None:
    swap_races(tmp_path / "state", outside, 0.8)


@pytest.mark.soak
def test_a_folder_that_is_swapped_for_a_link_for_long(tmp_path: Path, outside: Path, soak_seconds: float) -> None:
    swap_races(tmp_path / "state", outside, soak_seconds)


def test_a_record_that_is_swapped_for_a_link_to_elsewhere(tmp_path: Path, outside: Path) -> None:
    root, before = tmp_path / "state", contents(outside)
    with Store(root, FAST) as store:
        use(store, 0)
        links = {name: outside / name for name in ("a.json", "log.jsonl", "note.md")}
        aside = tmp_path / "aside"
        aside.mkdir()

        def put_links() -> None:
            for name, target in links.items():
                with contextlib.suppress(OSError):
                    (aside / name).symlink_to(target)
                    (aside / name).rename(root / "agents" / name)

        def take_links() -> None:
            for name in links:
                path = root / "agents" / name
                if path.is_symlink():
                    path.unlink()

        end, number = time.monotonic() + 0.8, 0
        with in_turns(put_links, take_links):
            while time.monotonic() < end:
                number += 1
                use(store, number)
        take_links()
        assert contents(outside) == before
        assert use(store, number) == 0


def test_a_folder_that_is_replaced_by_another(tmp_path: Path) -> None:
    """As `git checkout` of another branch does: what is acknowledged is in the folder that was there by then."""
    root = tmp_path / "state"
    with Store(root, FAST) as store:
        use(store, 0)
        folder, spare = root / "agents", tmp_path / "spare"
        shutil.copytree(folder, spare)
        hand = tmp_path / "hand"

        def exchange() -> None:
            folder.rename(hand)
            spare.rename(folder)
            hand.rename(spare)

        with in_turns(exchange, exchange):
            for number in range(1, 40):
                use(store, number)
        assert use(store, 100) == 0
        for place in (folder, spare):
            for path in place.iterdir():
                if path.suffix == ".json":
                    assert path.read_bytes().endswith(b"}\n"), path
    left = [path for path in (root / ".fsstate" / "staging").rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_in_a_records_place(tmp_path: Path, kind: int) -> None:
    root = tmp_path / "state"
    with Store(root, FAST) as store:
        use(store, 0)
        for name in ("dev.json", "dev.jsonl", "dev.md"):
            try:
                # The device that is always full, or the first loop device.
                os.mknod(
                    root / "agents" / name, kind | 0o666, os.makedev(1, 7) if kind == stat.S_IFCHR else os.makedev(7, 0)
                )
            except OSError:
                pytest.skip("cannot make devices here")
        agents = store.collection("agents")
        for work in (
            lambda: agents.get("dev"),
            lambda: agents.put("dev", {}),
            lambda: agents.delete("dev"),
            lambda: store.journal("agents", "dev").append("x"),
            lambda: store.journal("agents", "dev").read(),
            lambda: store.markdown("agents").put("dev", "x"),
        ):
            with pytest.raises(StorageError):
                work()
        assert "dev" not in agents.names()
        assert use(store, 1) == 0
        assert store.search("text", in_="agents")


def test_things_in_the_places_of_fsstates_own(tmp_path: Path) -> None:
    """A folder, a pipe or a socket where a lock, the cache or the trash would be: an error, or done without."""
    for number, place in enumerate(
        (".fsstate/locks/agents+a.json.lock", ".fsstate/cache", ".fsstate/trash", ".fsstate/staging")
    ):
        for make in (os.mkdir, os.mkfifo, bind):
            root = tmp_path / f"state-{number}-{make.__name__}"
            with Store(root, FAST) as store:
                store.collection("agents").put("other", {"n": 1})
            path = root / place
            if path.is_dir():
                shutil.rmtree(path)
            make(path)
            with Store(root, FAST._replace(lock_timeout=0.2, indexing="always")) as store:
                assert store.collection("agents").get("other") == {"n": 1}
                assert len(store.collection("agents", indexed=["n"]).query({"n": 1})) == 1
                with contextlib.suppress(StorageError, TimeoutError):
                    store.collection("agents").put("a", {})
                    store.collection("agents").prune(PrunePolicy(keep=1))
                assert store.collection("agents").get("other") == {"n": 1}


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


def test_hard_links(tmp_path: Path) -> None:
    """A document that somebody linked elsewhere stays there as it was; a log is one file, whoever appends."""
    root = tmp_path / "state"
    with Store(root, FAST) as store:
        use(store, 0)
        for name in ("a.json", "log.jsonl", "note.md"):
            os.link(root / "agents" / name, tmp_path / name)
        store.collection("agents").put("a", {"new": 1})
        store.markdown("agents").put("note", "new")
        assert b"new" not in (tmp_path / "a.json").read_bytes() + (tmp_path / "note.md").read_bytes()
        # Two names of one log are one log.
        os.link(root / "agents" / "log.jsonl", root / "agents" / "twin.jsonl")
        seqs = [store.journal("agents", name).append("x") for name in ("log", "twin", "log", "twin")]
        assert seqs == list(range(seqs[0], seqs[0] + 4))
        assert store.journal("agents", "log").problems() == []


NAMES = [
    b"\xff\xfe.json", b"caf\xe9.json", "日本".encode("shift_jis") + b".json", "日本".encode("euc_jp") + b".md",
    b"\xed\xa0\x80.json", b"\xc0\xaf.jsonl", b"new\nline.json", b"esc\x1b[31m.json", b"tab\t.json",
    b"a\xcc\x81\xff.jsonl",
    b"con.json", b"COM1.json", b"q?.json", b"dot..json", b" space.json", b"back\\slash.json", b".json",
    b"a" * 240 + b".json",
]  # fmt: skip


def test_names_in_every_encoding(tmp_path: Path) -> None:
    """Other programs name files as they like: what cannot be a record is told, and hides none."""
    root = os.fsencode(tmp_path / "state")
    with Store(tmp_path / "state", FAST) as store:
        use(store, 0)
        before = store.collection("agents").names()
        for name in NAMES:
            with open(root + b"/agents/" + name, "wb") as file:
                file.write(b"{}")
            os.makedirs(root + b"/dir-" + name, exist_ok=True)
        agents = store.collection("agents")
        assert agents.names() == before
        told = "\n".join(str(problem) for problem in agents.problems())
        assert len(agents.problems()) == sum(name.endswith(b".json") and name != b".json" for name in NAMES)
        assert told.replace("\n", "").isprintable()
        assert use(store, 1) == 0
        store.stats()
        assert store.search("text", in_="agents")
        assert "agents" in store.categories()
        for name in NAMES:
            assert os.path.exists(root + b"/agents/" + name)


def test_names_that_differ_in_case_or_form_only(tmp_path: Path) -> None:
    """Here they are several records; each keeps what it holds."""
    names = ["planner", "Planner", "PLANNER", "\u00e9", "e\u0301", "ß", "ss", "SS", "ı", "i", "I", "\ufb01", "fi"]
    with Store(tmp_path / "state", FAST) as store:
        agents = store.collection("agents", indexed=["name"])
        try:
            agents.put_many({name: {"name": name} for name in names})
        except OSError:
            pytest.skip("this file system takes some of them for one")
        if len(agents) < len(names):
            pytest.skip("this file system takes some of them for one")
        assert {item.name: item.value["name"] for item in agents.items()} == {name: name for name in names}
        assert [item.name for item in agents.query({"name": "Planner"})] == ["Planner"]
        assert agents.delete("PLANNER")
        assert "planner" in agents
        for name in names:
            store.sessions.create(id=name)
        assert sorted(store.sessions.ids()) == sorted(names)


@contextlib.contextmanager
def limited_memory(more: int) -> Generator[None]:
    """No more memory than now and so many bytes."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def sparse(path: Path, size: int, head: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


@pytest.mark.parametrize("size", [GIGABYTE // 16, pytest.param(GIGABYTE, marks=pytest.mark.soak)])
def test_a_log_with_a_gigabyte_of_zeros_at_its_end(tmp_path: Path, size: int) -> None:
    """What a crash may leave: told, in little memory, and cut off by the next append."""
    root = tmp_path / "state"
    sparse(root / "audit" / "t.jsonl", size, b'{"seq":1,"kind":"x"}\n{"seq":2,"kind":"x"}\n')
    with contextlib.closing(FileBackend(root, FAST)) as backend, limited_memory(32 << 20):
        last = next(line for line in backend.entries_backwards(LOG_REF) if not isinstance(line, BadLine))
        assert last.seq == 2
        assert backend.append(LOG_REF, lambda _: [b"{}"]) == range(3, 4)
    assert (root / "audit" / "t.jsonl").stat().st_size < 1000


@pytest.mark.soak
def test_a_document_of_a_gigabyte(tmp_path: Path) -> None:
    """It is refused with its place, as any other that is no JSON, and the others are there."""
    root = tmp_path / "state"
    sparse(root / "agents" / "huge.json", GIGABYTE, b"{")
    with Store(root, FAST) as store:
        store.collection("agents").put("a", {"n": 1})
        with pytest.raises(CorruptRecordError, match=r"huge\.json"):
            store.collection("agents").get("huge")
        assert [item.name for item in store.collection("agents").query({"n": 1})] == ["a"]
        assert store.collection("agents").delete("huge")


def test_a_document_that_does_not_fit_into_memory(tmp_path: Path) -> None:
    """The system has no room for it: nothing is lost, and the other records are there."""
    root = tmp_path / "state"
    sparse(root / "agents" / "huge.json", GIGABYTE, b"{")
    with Store(root, FAST) as store:
        store.collection("agents").put("a", {"n": 1})
        with limited_memory(200 << 20), pytest.raises((StorageError, MemoryError)) as caught:
            store.collection("agents").get("huge")
        assert getattr(caught.value, "errno", errno.ENOMEM) == errno.ENOMEM
        assert store.collection("agents").get("a") == {"n": 1}


@pytest.mark.soak
def test_a_hundred_thousand_entries(tmp_path: Path) -> None:
    root = tmp_path / "state"
    folder = root / "agents"
    folder.mkdir(parents=True)
    for number in range(100_000):
        fd = os.open(folder / f"{number}.json", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b'{"n": %d}' % (number % 10))
        os.close(fd)
    with Store(root, FAST) as store:
        agents = store.collection("agents", indexed=["n"])
        assert len(agents) == agents.count() == 100_000
        assert agents.count({"n": 3}) == 10_000
        assert [item.name for item in agents.query({"n": 3}, limit=2)] == ["10003", "10013"]
        agents.put("0", {"n": 3})
        assert agents.count({"n": 3}) == 10_001
        assert store.search("nothing") == []


def test_a_directory_in_every_records_place(tmp_path: Path) -> None:
    """Also where one of the same name with a suffix is a category."""
    root = tmp_path / "state"
    with Store(root, FAST) as store:
        use(store, 0)
        for name in ("dir.json", "dir.jsonl", "dir.md"):
            (root / "agents" / name / "deep").mkdir(parents=True)
        for work in (
            lambda: store.collection("agents").put("dir", {}),
            lambda: store.journal("agents", "dir").append("x"),
            lambda: store.markdown("agents").put("dir", "x"),
        ):
            with pytest.raises(UnsafePathError):
                work()
        assert use(store, 1) == 0
        (root / "flat").write_bytes(b"no directory")
        with pytest.raises(UnsafePathError):
            store.collection("flat/below").put("a", {})
        assert store.collection("flat/below").names() == []
        store.stats()
