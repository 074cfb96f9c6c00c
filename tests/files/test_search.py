"""Search beside a full scan of the files: after any edit by anybody, with the index gone, broken or shared."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsstate import Message
from fsstate.backends.files import log_lines
from fsstate.options import StoreOptions
from fsstate.search import Part, Query, tokens_in
from fsstate.search import growth as growth_module
from fsstate.search.texts import value_parts
from fsstate.store import Store

# Nearly all of one length, so that edits often keep a file's size.
WORDS = ["red", "car", "sea", "sun", "sky", "ice", "oak", "été", "ete", "STRASSE", "straße", "東京", "京都"]
QUESTIONS = [*WORDS, "red car", '"red car"', "red -car", "s*", "red OR 東", '"sea sun" OR "ice oak"', "京"]


def texts(chooser: random.Random, most: int = 8) -> str:
    return " ".join(chooser.choices(WORDS, k=chooser.randint(1, most)))


def scan(root: Path, question: str) -> list[str]:
    """Every answer there is, from the files alone and without anything that search is made of but the words."""
    query = Query.parse(question)
    answers = []
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root).as_posix()
        owner = root / "sessions" / f"{place.split('/')[1]}.json" if place.count("/") > 1 else None
        is_leftover = place.startswith("sessions/") and owner is not None and not owner.exists()
        if place.startswith((".fsstate", ".git")) or is_leftover:
            continue
        if path.suffix == ".md":
            # In these notes, only front matter has such a line.
            parts = map(Part, path.read_text().rpartition("---\n"))
            answers += [place] if query.fits(tokens_in(parts)) else []
        elif path.suffix == ".json":
            answers += [place] if query.fits(tokens_in(value_parts(json.loads(path.read_bytes())))) else []
        elif path.name == "messages.jsonl":
            contents = messages(path)
            answers += [f"{place}:{name}" for name, text in contents.items() if query.fits(tokens_in([Part(text)]))]
    return sorted(answers)


def messages(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "update" in row and row["update"] in found:
            found[row["update"]] = row.get("content", found[row["update"]]) + row.get("delta", "")
        elif "id" in row:
            found.setdefault(row["id"], row["content"])
    return found


def ask(store: Store, question: str) -> list[str]:
    hits = store.search(question, limit=None)
    for hit in hits:
        assert hit.spans
        assert all(0 <= start < end <= len(hit.snippet) for start, end in hit.spans)
    return sorted(hit.place + (f":{hit.message_id}" if hit.message_id else "") for hit in hits)


def check(store: Store, root: Path, *questions: str) -> None:
    for question in questions:
        assert ask(store, question) == scan(root, question), question


class Person:
    """Changes a store at random: by the API, with an editor, with the shell."""

    def __init__(self, root: Path, store: Store, seed: int) -> None:
        self.root = root
        self.store = store
        self.chooser = random.Random(seed)
        self.count = 0

    def act(self) -> str:
        acts: list[Callable[[], None]] = [
            *[self.append, self.append, self.append, self.change, self.extend, self.note, self.document],
            *[self.delete, self.edit_in_place, self.edit_in_place, self.edit_by_rename, self.touch, self.goal],
        ]
        act = self.chooser.choice(acts)
        act()
        return act.__name__

    def text(self) -> str:
        return texts(self.chooser)

    def session(self) -> str:
        self.count += 1
        name = f"s{self.chooser.randint(0, 4)}"
        self.store.sessions.get_or_create(name, title=self.text())
        return name

    def append(self) -> None:
        self.store.session(self.session()).messages.append("user", self.text())

    def _some_message(self) -> tuple[str, str] | None:
        name = self.session()
        there = self.store.session(name).messages.all()
        return (name, self.chooser.choice(there).id) if there else None

    def change(self) -> None:
        if (found := self._some_message()) is not None:
            self.store.session(found[0]).messages.update(found[1], content=self.text())

    def extend(self) -> None:
        if (found := self._some_message()) is not None:
            self.store.session(found[0]).messages.append_text(found[1], " " + self.text())

    def note(self) -> None:
        head = f"---\ntitle: {self.text()}\n---\n" if self.chooser.random() < 0.5 else ""
        self.store.markdown("notes/deep").put(f"n{self.chooser.randint(0, 3)}", head + self.text() + "\n")

    def document(self) -> None:
        self.store.collection("agents").put(f"a{self.chooser.randint(0, 3)}", {"x": self.text(), "y": [self.text()]})

    def goal(self) -> None:
        self.store.session(self.session()).collection().put("plan", {"goal": self.text()})

    def delete(self) -> None:
        if self.chooser.random() < 0.5:
            self.store.sessions.delete(f"s{self.chooser.randint(0, 4)}")
        else:
            self.store.markdown("notes/deep").delete(f"n{self.chooser.randint(0, 3)}")

    def _some_file(self) -> Path | None:
        there = [each for each in self.root.rglob("*.*") if each.is_file() and not {".git", ".fsstate"} & {*each.parts}]
        return self.chooser.choice(sorted(there)) if there else None

    def _edited(self, path: Path) -> bytes:
        old, new = self.chooser.sample(WORDS, 2)
        return path.read_text().replace(old, new, self.chooser.choice([1, -1])).encode()

    def edit_in_place(self) -> None:
        if (path := self._some_file()) is not None:
            data = self._edited(path)
            with path.open("r+b") as file:
                file.write(data)
                file.truncate()

    def edit_by_rename(self) -> None:
        if (path := self._some_file()) is not None:
            times = path.stat().st_mtime_ns
            path.with_name(".swp").write_bytes(self._edited(path))
            path.with_name(".swp").replace(path)
            if self.chooser.random() < 0.5:
                os.utime(path, ns=(times, times))

    def touch(self) -> None:
        if (path := self._some_file()) is not None:
            os.utime(path, ns=(0, self.chooser.randint(0, 2**60)))


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root, StoreOptions(durability="process")) as store:
        yield store


@pytest.mark.parametrize("seed", range(3))
def test_every_answer_after_random_edits(root: Path, store: Store, seed: int) -> None:
    person = Person(root, store, seed)
    for _ in range(45):
        done = [person.act() for _ in range(person.chooser.choice([1, 1, 2, 4]))]
        try:
            check(store, root, *person.chooser.sample(QUESTIONS, 3))
        except AssertionError as error:
            error.add_note(f"after {done}")
            raise
    check(store, root, *QUESTIONS)


@pytest.mark.soak
def test_every_answer_for_long(root: Path, store: Store, soak_seconds: float) -> None:
    import time

    seed, deadline = random.randrange(10**9), time.monotonic() + soak_seconds
    person = Person(root, store, seed)
    while time.monotonic() < deadline:
        done = [person.act() for _ in range(person.chooser.choice([1, 2, 4]))]
        if person.chooser.random() < 0.1:
            harm(root, person.chooser)
        try:
            check(store, root, *person.chooser.sample(QUESTIONS, 3))
        except AssertionError as error:
            error.add_note(f"seed {seed}, after {done}")
            raise


@pytest.mark.parametrize("covered", [0, 8 * 1024 * 1024])
def test_an_edit_that_keeps_a_logs_length(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch, covered: int
) -> None:
    monkeypatch.setattr(growth_module, "_COVERED", covered)
    store.sessions.create(id="s")
    log = store.session("s").messages
    log.append("user", "red " + "ice " * 2000)
    log.append("user", "sky")
    check(store, root, "red")

    def edit(old: bytes, new: bytes) -> None:
        with Path(log.path).open("r+b") as file:
            file.write(Path(log.path).read_bytes().replace(old, new))

    edit(b"red", b"oak")
    check(store, root, "red", "oak", "sky")
    edit(b"oak", b"sea")
    log.append("user", "sun")
    check(store, root, "sea", "oak", "sun")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_takes_files_back_and_forth(root: Path, store: Store) -> None:
    def git(*arguments: str) -> None:
        options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false")
        subprocess.run(["git", *options, *arguments], cwd=root, check=True, capture_output=True)

    person = Person(root, store, 5)
    for _ in range(10):
        person.act()
    git("init", "-q", "-b", "one")
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "two")
    for _ in range(20):
        person.act()
    git("add", ".")
    git("commit", "-qm", "two")
    for command in (
        "checkout -qf one",
        "checkout -qf two",
        "checkout -q one -- .",
        "stash -q",
        "stash pop -q",
        "reset -q --hard one",
        "clean -qfd",
    ):
        if "stash" not in command:
            person.append()
        check(store, root, "red", "s*")
        git(*command.split())
        check(store, root, *QUESTIONS[:8])


def test_a_backup_is_restored_over_it(root: Path, store: Store, tmp_path: Path) -> None:
    person = Person(root, store, 8)
    for _ in range(15):
        person.act()
    check(store, root, *QUESTIONS)
    shutil.copytree(root, tmp_path / "backup")
    for _ in range(15):
        person.act()
    check(store, root, *QUESTIONS)
    shutil.rmtree(root)
    assert ask(store, "red OR s*") == []
    shutil.copytree(tmp_path / "backup", root)
    check(store, root, *QUESTIONS)


# -- the index


def harm(root: Path, chooser: random.Random) -> None:
    """Do something bad to the index."""
    folder = root / ".fsstate" / "cache"
    file = folder / "search.sqlite"
    kind = chooser.randrange(6)
    if kind == 0 or not file.exists():
        shutil.rmtree(folder, ignore_errors=True)
    elif kind == 1:
        file.unlink()
    elif kind == 2:
        file.write_bytes(b"no database")
    elif kind == 3:
        with file.open("r+b") as broken:
            broken.seek(chooser.randrange(max(1, file.stat().st_size)))
            broken.write(os.urandom(2000))
    elif kind == 4:
        os.truncate(file, file.stat().st_size // 2)
    else:
        (folder / "search.seal").write_bytes(b"{}")


def test_the_index_may_vanish_or_break_at_any_moment(root: Path, store: Store) -> None:
    person = Person(root, store, 3)
    for _ in range(40):
        person.act()
        harm(root, person.chooser)
        check(store, root, *person.chooser.sample(QUESTIONS, 2))
    assert (root / ".fsstate" / "cache" / "search.sqlite").exists()


def test_a_store_opened_anew_begins_with_the_index(root: Path, store: Store) -> None:
    person = Person(root, store, 4)
    for _ in range(30):
        person.act()
    check(store, root, *QUESTIONS)
    for _ in range(5):
        with Store(root) as other:
            check(other, root, *person.chooser.sample(QUESTIONS, 3))
        person.act()
    check(store, root, *QUESTIONS)


def test_a_store_that_cannot_be_written_to_is_searched(root: Path, store: Store) -> None:
    person = Person(root, store, 6)
    for _ in range(20):
        person.act()
    shutil.rmtree(root / ".fsstate")
    root.chmod(0o500)
    try:
        with Store(root) as other:
            check(other, root, *QUESTIONS)
        if os.geteuid():
            assert not (root / ".fsstate").exists()
    finally:
        root.chmod(0o700)


def test_searching_makes_no_store_of_a_directory(root: Path) -> None:
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "n.md").write_text("red car")
    with Store(root) as store:
        assert ask(store, "red") == ["notes/n.md"]
    assert [path.name for path in root.iterdir()] == ["notes"]


def opened(log: str) -> list[str]:
    """Which of a store's records were opened, by what strace saw."""
    names = [line.split('"')[1] for line in log.splitlines() if "openat" in line and "ENOENT" not in line]
    return sorted({Path(name).name for name in names if name.endswith((".json", ".md", ".jsonl"))})


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_only_what_changed_is_read(root: Path, store: Store, tmp_path: Path) -> None:
    for number in range(5):
        store.sessions.create(id=f"s{number}")
        store.session(f"s{number}").messages.append("user", "red")
        store.markdown("notes").put(f"n{number}", "red")
        store.collection("agents").put(f"a{number}", {"a": "red"})
    code = f"""
import os, time
from pathlib import Path
from fsstate import Store
root = Path({str(root)!r})
def append(number, text):
    with open(root / f"sessions/s{{number}}/messages.jsonl", "a") as log:
        log.write('{{"seq":%d,"id":"%s","role":"user","content":"%s"}}\\n' % (int(time.time() * 1e6), text, text))
def phase(name):
    time.sleep(0.1)
    store.search("settle")
    os.write(2, f"PHASE {{name}}\\n".encode())
with Store(root) as store:
    store.search("red")
    phase("same")
    store.search("red")
    phase("log")
    append(3, "fresh")
    os.write(2, b"PHASE search\\n")
    assert len(store.search("fresh")) == 1
    phase("edit")
    (root / "notes/n2.md").write_text("other")
    os.write(2, b"PHASE search\\n")
    assert len(store.search("other")) == 1
    phase("end")
"""
    log = tmp_path / "strace.txt"
    command = ["strace", "-f", "-o", str(log), "-e", "trace=openat,write", sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True)
    phases = log.read_text().split('write(2, "PHASE ')
    searches = [opened(phase) for phase in phases if phase.startswith("search")]
    told = {phase.split("\\n")[0]: opened(phase) for phase in phases[1:]}
    assert told["same"] == []
    assert searches == [["messages.jsonl"], ["n2.md"]]


def test_what_is_excluded_leaves_no_byte_in_the_index(root: Path, store: Store) -> None:
    notes = store.markdown("notes")
    for number in range(300):
        notes.put(f"n{number}", f"hush{number:03} " * 40)
    store.journal("notes", "trail").append("login", name="hush-trail")
    store.session(store.sessions.create(id="s1").id).messages.append("user", "still here")
    assert len(store.search("hush000")) == 1
    # What it said before goes as well.
    notes.put("n0", "hush999")
    assert len(store.search("hush999", in_=("notes", "notes/trail"))) == 1
    assert len(store.search("hush", in_="notes/trail")) == 1
    kept = root / ".fsstate/cache/search.sqlite"
    assert b"hush" in kept.read_bytes()
    with Store(root, StoreOptions(search_exclude=("notes",))) as other:
        assert ask(other, "hush*") == []
        assert len(ask(other, "still")) == 1
    assert b"hush" not in kept.read_bytes()


def test_of_a_long_log_only_the_end_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # The checksum covers 8 MB, so that no edit goes unseen; the lines that it covers are not looked into again.
    monkeypatch.setattr(log_lines, "_MOST_COMPARED", 64 * 1024)
    store.sessions.create(id="s")
    log = store.session("s").messages
    log.extend([_message(number) for number in range(3000)])
    assert len(store.search("needle2999")) == 1
    path = Path(log.path)
    assert path.stat().st_size > 500_000
    log.append("user", "fresh")

    def read() -> int:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    if not Path("/proc/self/io").exists():
        pytest.skip("needs /proc")
    before = read()
    assert len(store.search("fresh")) == 1
    assert read() - before < 400_000


def _message(number: int) -> Message:
    return Message(id=f"m{number}", role="user", content=f"needle{number} " + "hay " * 20)


# -- others


OTHER = """
import random, sys
from pathlib import Path
from fsstate import Store
from tests.files.test_search import Person, harm
root, seed = Path(sys.argv[1]), int(sys.argv[2])
with Store(root) as store:
    for number in range(25):
        name = f"p{seed}x{number}"
        store.session("shared").messages.append("user", name)
        assert len(store.search(name)) == 1, name
        assert len(store.search(f"p{seed}x*", limit=None)) == number + 1
        if number % 8 == 7:
            harm(root, random.Random(seed + number))
"""


def test_processes_share_the_index_and_see_each_other(root: Path, store: Store) -> None:
    store.sessions.create(id="shared")
    processes = [
        subprocess.Popen([sys.executable, "-c", OTHER, str(root), str(seed)], stderr=subprocess.PIPE) for seed in (1, 2)
    ]
    while any(process.poll() is None for process in processes):
        before = scan(root, "p*")
        assert set(before) <= set(ask(store, "p*"))
    for process in processes:
        errors = process.communicate()[1]
        # Where the index was taken away while it was written to, one process goes on with an index of its own.
        assert (process.wait(), b"Traceback" in errors) == (0, False)
    check(store, root, "p*", "p1x*", "p2x24")
    assert len(ask(store, "p*")) == 50


def test_threads_search_and_write_at_once(root: Path, store: Store) -> None:
    store.sessions.create(id="shared")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                store.session("shared").messages.append("user", f"t{number}x{turn}")
                assert len(store.search(f"t{number}x*", limit=None)) == turn + 1
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check(store, root, "t*")


def test_a_forked_child_searches(root: Path, store: Store) -> None:
    store.markdown("notes").put("n", "red")
    assert ask(store, "red") == ["notes/n.md"]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.markdown("notes").put("m", "red")
            code = 0 if ask(store, "red") == ["notes/m.md", "notes/n.md"] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    check(store, root, "red")


def test_a_file_that_may_not_be_read_hides_no_other(root: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    store.markdown("notes").put("a", "red")
    store.markdown("notes").put("b", "red")
    (root / "notes" / "a.md").chmod(0)
    assert ask(store, "red") == ["notes/b.md"]
    assert "a.md" in caplog.text
    (root / "notes" / "a.md").chmod(0o600)
    assert ask(store, "red") == ["notes/a.md", "notes/b.md"]


def test_a_folder_that_may_not_be_read_hides_no_other(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.markdown("notes").put("a", "red")
    store.markdown("secret").put("b", "red")
    assert ask(store, "red") == ["notes/a.md", "secret/b.md"]
    open_ = os.open

    def refusing(name: str, *given: int, dir_fd: int | None = None) -> int:
        if name == "secret":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return open_(name, *given, dir_fd=dir_fd)

    with Store(root) as other:
        monkeypatch.setattr(os, "open", refusing)
        assert ask(other, "red") == ["notes/a.md"]
        assert [record.message.rpartition("/")[2] for record in caplog.records] == ["secret: Permission denied"]
        monkeypatch.undo()
        assert ask(other, "red") == ["notes/a.md", "secret/b.md"]


def test_links_are_not_followed(root: Path, store: Store, tmp_path: Path) -> None:
    store.markdown("notes").put("a", "red")
    (tmp_path / "outside.md").write_text("red outside")
    (root / "notes" / "b.md").symlink_to(tmp_path / "outside.md")
    (root / "linked").symlink_to(tmp_path)
    store.sessions.create(id="s", title="red")
    (root / "sessions" / "s").symlink_to(tmp_path)
    assert ask(store, "red") == ["notes/a.md", "sessions/s.json"]
    assert ask(store, "outside") == []
