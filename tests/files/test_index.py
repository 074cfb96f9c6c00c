"""The index beside a full scan, while a program, people with editors and git change the files, and break the index."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import msgspec
import pytest

from fsstate import Contains, FsStateError, OneOf, Prefix, PrunePlan, PrunePolicy, Range, StoreClosedError
from fsstate.backends.base import BadLine, LogLine, Ref
from fsstate.options import StoreOptions
from fsstate.record_types import RecordType
from fsstate.store import Store
from tests.files.processes import needs_strace, start, trace
from tests.files.test_cache import DAMAGES

ALWAYS = StoreOptions(indexing="always", durability="process")
NEVER = StoreOptions(indexing="never", durability="process")


def git(root: Path, *arguments: str) -> str:
    name = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(["git", *name, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root, ALWAYS) as store:
        yield store


QUESTIONS: list[dict[str, Any]] = [
    {"limit": None, "archived": None},
    {"limit": 3, "order_by": "title"},
    {"limit": 4, "offset": 2, "order_by": "-message_count", "archived": None},
    {"user_id": "u1", "limit": None},
    {"status": OneOf("active", "ended"), "metadata": {"n": 1}, "limit": None},
    {"message_count": Range(at_least=2), "limit": None, "order_by": "created_at"},
    {"title": Prefix("T"), "limit": None, "order_by": "-last_model"},
    {"metadata": Contains({"n": 2}), "archived": None, "limit": None},
]


POLICIES = [PrunePolicy(keep=3), PrunePolicy(keep=2, batch=1), PrunePolicy(ttl=timedelta(days=1), keep=1)]


def told(plan: PrunePlan) -> object:
    """A plan, whatever it knows the sessions by."""
    return plan._replace(pruned=[each._replace(mark=b"") for each in plan.pruned])


def assert_same(root: Path, indexed: Store) -> None:
    with Store(root, NEVER) as scanned:
        for question in QUESTIONS:
            assert indexed.sessions.list(**question) == scanned.sessions.list(**question), question
        for policy in POLICIES:
            assert told(indexed.sessions.plan(policy)) == told(scanned.sessions.plan(policy)), policy
        assert indexed.sessions.titles() == scanned.sessions.titles()
        assert indexed.sessions.count(user_id="u2") == scanned.sessions.count(user_id="u2")


class Hands:
    """Somebody who changes sessions, each time in another way."""

    def __init__(self, root: Path, store: Store, choose: random.Random) -> None:
        self.root, self.store, self.choose = root, store, choose
        self.sessions = root / "sessions"
        self.ways = [
            *(self.create, self.append, self.append, self.update, self.delete, self.archive, self.stream, self.event),
            *(self.change_message, self.edit_in_place, self.edit_by_rename, self.break_document, self.copy_file),
            *(self.edit_log, self.cut_log, self.append_by_hand, self.remove_by_hand, self.add_delta, self.same_length),
        ]

    def act(self) -> None:
        # What is broken by hand is refused, and so is what exists; a person who cannot read a file leaves it.
        with suppress(FsStateError, ValueError, TypeError, shutil.SameFileError):
            self.choose.choice(self.ways)()

    def any(self) -> str:
        ids = self.store.sessions.ids()
        return self.choose.choice(ids) if ids else self.store.sessions.create().id

    def log(self) -> Path:
        return self.sessions / self.any() / "messages.jsonl"

    def create(self) -> None:
        number = self.choose.randrange(3)
        self.store.sessions.create(
            user_id=f"u{number}",
            title=self.choose.choice([None, "Title", "other"]),
            metadata={"n": number},
            id=self.choose.choice([None, f"s{self.choose.randrange(9)}"]),
        )

    def append(self) -> None:
        messages = self.store.session(self.any()).messages
        for _ in range(self.choose.randrange(1, 4)):
            role = self.choose.choice(["user", "assistant"])
            messages.append(role, f"text {self.choose.random()}", model=self.choose.choice([None, "m1", "m2"]))

    def update(self) -> None:
        self.store.sessions.update(self.any(), lambda session: setattr(session, "status", self.choose.choice("ab")))

    def delete(self) -> None:
        self.store.sessions.delete(self.any())

    def archive(self) -> None:
        self.store.sessions.archive(self.any())

    def stream(self) -> None:
        with self.store.session(self.any()).messages.stream("assistant", model="m3") as reply:
            reply.write("begun ")
            assert_same(self.root, self.store)
            reply.write("and done")

    def event(self) -> None:
        self.store.session(self.any()).events.append("done", model="m4")

    def change_message(self) -> None:
        messages = self.store.session(self.any()).messages
        for message in messages.list()[:1]:
            messages.update(message.id, content=f"changed {self.choose.random()}")

    def add_delta(self) -> None:
        messages = self.store.session(self.any()).messages
        for message in messages.list()[-1:]:
            messages.append_text(message.id, " and more")

    def edit_in_place(self) -> None:
        path = Path(self.store.sessions.path_of(self.any()))
        document = json.loads(path.read_bytes())
        path.write_text(json.dumps({**document, "title": f"T{self.choose.randrange(10)}"}))

    def edit_by_rename(self) -> None:
        path = Path(self.store.sessions.path_of(self.any()))
        path.with_suffix(".swp").write_bytes(path.read_bytes().replace(b"active", b"ended!"))
        path.with_suffix(".swp").replace(path)

    def break_document(self) -> None:
        Path(self.store.sessions.path_of(self.any())).write_text(self.choose.choice(["", "{", "[1]", "{}"]))

    def copy_file(self) -> None:
        source = self.any()
        shutil.copy2(self.sessions / f"{source}.json", self.sessions / f"copy{self.choose.randrange(5)}.json")

    def edit_log(self) -> None:
        log = self.log()
        if log.exists():
            log.write_bytes(log.read_bytes().replace(b"text", b"words"))

    def same_length(self) -> None:
        log = self.log()
        if log.exists():
            with log.open("r+b") as file:
                data = file.read().replace(b"text", self.choose.choice([b"test", b"tent"]))
                file.seek(0)
                file.write(data)
            self.store.session(log.parent.name).messages.append("user", "behind an edit")

    def cut_log(self) -> None:
        log = self.log()
        if log.exists():
            os.truncate(log, self.choose.randrange(log.stat().st_size + 1))

    def append_by_hand(self) -> None:
        log = self.log()
        if log.exists():
            line = self.choose.choice(['{"seq":9999,"id":"by hand","role":"user","content":"x"}\n', "no entry\n", "{"])
            with log.open("a") as file:
                file.write(line)

    def remove_by_hand(self) -> None:
        name = self.any()
        (self.sessions / f"{name}.json").unlink()
        if self.choose.random() < 0.5:
            shutil.rmtree(self.sessions / name, ignore_errors=True)


@pytest.mark.parametrize("seed", range(3))
def test_every_answer_is_that_of_a_full_scan(root: Path, store: Store, seed: int) -> None:
    choose = random.Random(seed)
    hands = Hands(root, store, choose)
    for _ in range(20):
        hands.act()
    git(root.parent, "init", "-q", str(root))
    commits: list[str] = []
    for step in range(40):
        for _ in range(choose.randrange(1, 5)):
            hands.act()
        if step % 9 == 4:
            git(root, "add", "-A")
            git(root, "commit", "-qm", str(step), "--allow-empty")
            commits.append(git(root, "rev-parse", "HEAD").strip())
        if step % 9 == 8:
            git(root, "stash", "-u", "-q")
            git(root, "checkout", "-q", choose.choice(commits))
            assert_same(root, store)
            git(root, "stash", "drop", "-q")
        if choose.random() < 0.2:
            damage(root, choose)
        assert_same(root, store)


def damage(root: Path, choose: random.Random) -> None:
    file = root / ".fsstate/cache/index.sqlite"
    # It may be broken already, and not have been used since.
    with suppress(FileNotFoundError):
        choose.choice(DAMAGES)(file)


@pytest.mark.soak
def test_every_answer_is_that_of_a_full_scan_for_long(root: Path, store: Store, soak_seconds: float) -> None:
    deadline = time.monotonic() + soak_seconds
    choose = random.Random(time.time_ns())
    hands = Hands(root, store, choose)
    while time.monotonic() < deadline:
        for _ in range(choose.randrange(1, 20)):
            hands.act()
        if choose.random() < 0.1:
            damage(root, choose)
        assert_same(root, store)


def test_a_store_copied_to_another_place_is_listed_as_it_is(root: Path, tmp_path: Path, store: Store) -> None:
    hands = Hands(root, store, random.Random(1))
    for _ in range(30):
        hands.act()
    assert_same(root, store)
    for way in ("cp -r", "cp -a"):
        copy = tmp_path / way.replace(" ", "")
        subprocess.run([*way.split(), str(root), str(copy)], check=True)
        with Store(copy, ALWAYS) as copied:
            assert_same(copy, copied)


def test_several_processes_share_it(root: Path, store: Store) -> None:
    code = """
    import random
    from fsstate.store import Store
    with Store(root, StoreOptions(indexing="always", durability="process")) as store:
        for number in range(25):
            session = store.sessions.create(id=f"p{sys.argv[2]}-{number}", user_id="u1")
            store.session(session.id).messages.append("user", "Hi")
            found = {each.id: each.message_count for each in store.sessions.list(user_id="u1", limit=None)}
            mine = {f"p{sys.argv[2]}-{other}": 1 for other in range(number + 1)}
            assert found.items() >= mine.items(), sorted(mine.keys() - found.keys())
            if number % 5 == 0:
                store.sessions.update(session.id, lambda session: setattr(session, "title", "T"))
    """
    others = [start(code, root, number) for number in range(3)]
    found: set[str] = set()
    while any(other.poll() is None for other in others):
        listed = {each.id for each in store.sessions.list(user_id="u1", limit=None)}
        assert listed >= found
        found = listed
    ends = [(other.communicate()[1], other.returncode) for other in others]
    assert [code for _, code in ends] == [0, 0, 0], ends
    assert store.sessions.count(user_id="u1") == 75
    assert_same(root, store)


def test_threads_share_it(root: Path, store: Store) -> None:
    wrong: list[object] = []

    def work(name: str) -> None:
        for number in range(15):
            store.sessions.create(id=f"{name}{number}", user_id=name)
            if store.sessions.count(user_id=name) != number + 1:
                wrong.append((name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_same(root, store)


@needs_strace
def test_after_one_change_only_that_file_is_read(root: Path, tmp_path: Path) -> None:
    with Store(root, ALWAYS) as store:
        for number in range(40):
            store.sessions.create(id=f"s{number}")
            store.session(f"s{number}").messages.append("user", "Hi")
        time.sleep(0.03)
        store.sessions.list()
        store.session("s7").messages.append("user", "Hi again")
        store.sessions.update("s8", lambda session: setattr(session, "title", "T"))
        time.sleep(0.03)
    # In a process that never read any of them.
    code = """
    from fsstate.store import Store
    store = Store(root, StoreOptions(indexing="always", durability="process"))
    os.write(2, b"MARK")
    assert len(store.sessions.list()) == 40
    os.write(2, b"MARK")
    """
    opened = [line for line in trace(code, root, tmp_path, "openat") if "/sessions" in line or '"s' in line]
    read = [line for line in opened if ".json" in line]
    assert {line.split('"')[1].split("/")[-1] for line in read} == {"s7.json", "s8.json", "messages.jsonl"}, read
    assert sum("messages.jsonl" in line for line in read) <= 3, read


def test_a_grown_log_is_not_parsed_from_its_beginning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.sessions.create(id="s")
    messages = store.session("s").messages
    for _ in range(3):
        # The first growth is read whole, and from then on only what is new.
        messages.append("user", "Hi")
        store.sessions.list()
    seen: list[int] = []
    entries = store.backend.entries

    def watched(ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        seen.append(after)
        return entries(ref, after=after)

    monkeypatch.setattr(store.backend, "entries", watched)
    messages.append("user", "Hi", model="m9")
    (summary,) = store.sessions.list()
    assert (summary.message_count, summary.last_model) == (4, "m9")
    assert seen[-1:] == [3]
    assert 0 not in seen


def test_a_message_under_way_counts_beside_ids_of_any_kind(root: Path, store: Store) -> None:
    store.sessions.create(id="s")
    messages = store.session("s").messages
    for _ in range(3):
        messages.append("user", "Hi")
        store.sessions.list()
    with Path(messages.path).open("a") as file:
        file.write('{"seq":9999,"id":"greater than any UUID","role":"user","content":"x"}\n')
    with messages.stream("assistant") as reply:
        reply.write("begun")
        assert_same(root, store)
        assert [each.message_count for each in store.sessions.list()] == [5]
    assert_same(root, store)


def test_seqs_that_do_not_grow_are_read_as_they_stand(root: Path, store: Store) -> None:
    store.sessions.create(id="s")
    messages = store.session("s").messages
    log = Path(messages.path)
    log.parent.mkdir()
    log.write_text('{"seq":1,"id":"a","role":"user","at":"2026-01-01T00:00:00.000000Z"}\n')
    # The one behind the second 9 is as long as the one behind the first.
    for day, seq in enumerate([9, 10, 9, 11], 2):
        with log.open("a") as file:
            file.write(f'{{"seq":{seq},"update":"a","status":"x","at":"2096-01-0{day}T00:00:00.000000Z"}}\n')
        assert_same(root, store)


def test_a_clock_that_is_set_back_costs_time_and_no_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(root, ALWAYS) as store:
        hands = Hands(root, store, random.Random(3))
        hands.create()
        monkeypatch.setattr("time.time_ns", lambda: 10**18)
        # By such a clock a file never is old enough for its time to tell every change, however long one waits.
        monkeypatch.setattr("fsstate.sweeper._UNTIL_SETTLED", (0.03, 0.06))
        for _ in range(20):
            hands.act()
            assert_same(root, store)


def test_files_dated_in_the_future(root: Path, store: Store) -> None:
    store.sessions.create(id="s", title="old")
    path = root / "sessions/s.json"
    os.utime(path, (4 * 10**9, 4 * 10**9))
    assert_same(root, store)
    path.write_text('{"title": "new"}')
    os.utime(path, (4 * 10**9, 4 * 10**9))
    assert_same(root, store)
    assert [each.title for each in store.sessions.list()] == ["new"]


def put_a_link_for_the_folder(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def put_a_link_for_the_log(folder: Path) -> None:
    (folder / "messages.jsonl").rename(folder / "elsewhere")
    (folder / "messages.jsonl").symlink_to("elsewhere")


def put_a_pipe_for_the_log(folder: Path) -> None:
    (folder / "messages.jsonl").unlink()
    os.mkfifo(folder / "messages.jsonl")


@pytest.mark.parametrize("put", [put_a_link_for_the_folder, put_a_link_for_the_log, put_a_pipe_for_the_log])
@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_no_log_hides_no_other_session(
    root: Path, store: Store, put: Callable[[Path], None], *, is_known: bool
) -> None:
    for name in ("a", "b"):
        store.session(store.sessions.create(id=name).id).messages.append("user", "hello")
    if is_known:
        assert len(store.sessions.list()) == 2
    put(root / "sessions/a")
    assert "b" in [each.id for each in store.sessions.list()]
    assert_same(root, store)


def test_a_folder_that_may_not_be_read_is_named(root: Path) -> None:
    code = f"""
import os
from fsstate import StorageError, Store
from fsstate.backends.files import guarding
from fsstate.options import StoreOptions
from fsstate.record_types import RecordType
# What is imported may not be readable to others.
Store({str(root.parent / "empty")!r}, StoreOptions(indexing="always")).sessions.list()
os.setgid(65534); os.setuid(65534)
try:
    Store({str(root)!r}, StoreOptions(indexing="always")).sessions.list()
except StorageError as error:
    print(error)
"""
    if os.geteuid() != 0:
        pytest.skip("needs the right to be somebody else")
    with Store(root, StoreOptions(indexing="never", file_mode=0o644, directory_mode=0o755)) as store:
        store.session(store.sessions.create(id="a").id).messages.append("user", "hello")
    for above in (root, *root.parents):
        if above != Path(gettempdir()) and above.is_relative_to(gettempdir()):
            above.chmod(0o755)
    (root / "sessions/a").chmod(0)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == f"cannot look at {root}/sessions/a: Permission denied\n", done.stderr


def test_a_closed_store_that_is_asked_holds_no_file(root: Path) -> None:
    store = Store(root, ALWAYS)
    store.sessions.create()
    assert store.sessions.list()
    store.close()
    before = len(os.listdir("/proc/self/fd"))
    for ask in (store.sessions.list, store.sessions.page):
        with pytest.raises(StoreClosedError):
            ask()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_broken_session_is_told_at_every_list_and_hides_no_other(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.sessions.create(id="good")
    (root / "sessions/bad.json").write_text('{"title": ')
    for _ in range(2):
        caplog.clear()
        assert [each.id for each in store.sessions.list()] == ["good"]
        assert [record.getMessage() for record in caplog.records if "bad.json" in record.getMessage()]
    (root / "sessions/bad.json").write_text('{"title": "mended"}')
    assert {each.id for each in store.sessions.list()} == {"good", "bad"}


def test_of_many_groups_not_all_is_held_in_memory(root: Path) -> None:
    class Job(msgspec.Struct):
        id: str
        team: str

    with Store(root, ALWAYS) as store:
        jobs = store.records(RecordType("work", Job, group_by="team", order_by="id"))
        for number in range(70):
            jobs.create(f"j{number}", team=f"t{number}")
        for _ in range(2):
            assert [jobs.count(team=f"t{number}") for number in range(70)] == [1] * 70
        assert len(store._index._known) <= 64
