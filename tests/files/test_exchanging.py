"""Saves in the moment between the last look at a document and its replacement: nobody's is lost.

The moment is found, not hoped for: the renames that end a save are wrapped, and what people do comes just before one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate import NotFoundError, Store, StoreOptions
from fsstate.backends.base import JSON, Blob, Ref
from fsstate.backends.files import FileBackend, exchanging, renames
from fsstate.collection import Collection
from fsstate.errors import ConflictError, LockTimeoutError, OutcomeUnknownError, StorageError, UnsafePathError
from tests.files.processes import PROJECT, run, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these renames")

IN_PLACE = "python3 - <<'E'\ntext = open('p.json').read()\nopen('p.json', '{}').write(text.replace('[', '[MARK, '))\nE"
# Each adds a number to the list in p.json, in its own way.
EDITORS = {
    "sed -i": "sed -i 's/\\[/[MARK, /' p.json",
    "a copy that is moved": "sed 's/\\[/[MARK, /' p.json > .p.swp && mv .p.swp p.json",
    "a shell that truncates": "text=$(sed 's/\\[/[MARK, /' p.json) && printf '%s\\n' \"$text\" > p.json",
    "in place": IN_PLACE.format("r+"),
    "in place, truncated first": IN_PLACE.format("w"),
    "ed": "printf '%s\\n' 's/\\[/[MARK, /' w q | ed -s p.json",
    "ex": "ex -s -u NONE -c 's/\\[/[MARK, /' -c wq p.json",
    "vim": "vim -es -u NONE -c 'set backupcopy=no' -c 's/\\[/[MARK, /' -c wq p.json",
    "vim, copying": "vim -es -u NONE -c 'set backupcopy=yes' -c 's/\\[/[MARK, /' -c wq p.json",
    "perl -i": "perl -pi -e 's/\\[/[MARK, /' p.json",
}
Act = Callable[[], None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(lock_timeout=5)) as store:
        yield store


@pytest.fixture
def agents(store: Store) -> Collection[Any]:
    agents = store.collection("agents")
    # In one line, so that line editors find it at once.
    Path(store.path, "agents").mkdir(parents=True)
    Path(store.path, "agents/p.json").write_text('{"n": 0, "edits": [0]}\n')
    return agents


@pytest.fixture
def path(store: Store) -> Path:
    return Path(store.path, "agents/p.json")


class Moments:
    """Lets things happen just before renames: the first exchange, the second, and so on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: list[Act | None] = []
        self.after: list[Act | None] = []
        self.seen = 0
        self._real = renames.renameat2
        monkeypatch.setattr(renames, "renameat2", self._rename)

    def _rename(self, *args: Any) -> None:
        self.seen += 1
        self._next(self.before)
        self._real(*args)
        self._next(self.after)

    def _next(self, acts: list[Act | None]) -> None:
        act = acts.pop(0) if acts else None
        if act is not None:
            act()


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch, agents: Collection[Any], path: Path) -> Moments:
    # The store makes files of its own first.
    agents.update("p", lambda doc: {**doc, "ready": True})
    path.write_text('{"n": 0, "edits": [0]}\n')
    return Moments(monkeypatch)


def edit(path: Path, editor: str, mark: int) -> Act:
    command = EDITORS[editor].replace("MARK", str(mark))
    return lambda: void(subprocess.run(["bash", "-ec", command], cwd=path.parent, check=True, capture_output=True))


def save(path: Path, text: str) -> Act:
    """Save as most editors do."""

    def act() -> None:
        Path(f"{path}.new").write_text(text)
        os.replace(f"{path}.new", path)

    return act


def void(_: object) -> None:
    pass


def kept(path: Path) -> list[str]:
    """What was put aside."""
    folder = path.parents[1] / ".fsstate/quarantine"
    return sorted(one.read_text() for one in folder.iterdir()) if folder.exists() else []


def staged(path: Path) -> list[str]:
    return [one.name for one in (path.parents[1] / ".fsstate/staging").rglob("*") if not one.is_dir()]


def count(doc: dict[str, Any]) -> dict[str, Any]:
    return {**doc, "n": doc["n"] + 1}


@pytest.mark.parametrize("editor", EDITORS)
def test_an_edit_in_the_last_moment_stays_and_the_change_is_made_on_it(
    agents: Collection[Any], path: Path, moments: Moments, editor: str
) -> None:
    program = re.split("[ ,]", editor)[0]
    if program in ("sed", "ed", "ex", "vim", "perl") and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for mark in (1, 2, 3):
        path.write_text(path.read_text().replace("\n", ""))
        moments.before = [edit(path, editor, mark)]
        assert agents.update("p", count)["n"] == mark
    assert agents["p"] == {"n": 3, "edits": [3, 2, 1, 0]}
    # Put in place and back, and once more.
    assert moments.seen == 9
    assert (kept(path), staged(path)) == ([], [])


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_in_the_last_moment(agents: Collection[Any], path: Path, moments: Moments) -> None:
    def git(*arguments: str) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(command, cwd=path.parent, check=True, capture_output=True)

    git("init", "-q", "-b", "one")
    for branch, n in (("one", 10), ("two", 20)):
        git("checkout", "-q", "-B", branch)
        path.write_text(f'{{"n": {n}, "edits": ["{branch}"]}}\n')
        git("add", ".")
        git("commit", "-qm", branch)
    moments.before = [lambda: git("checkout", "-q", "one")]
    agents.update("p", count)
    assert agents["p"] == {"n": 11, "edits": ["one"]}
    git("commit", "-qam", "counted")
    moments.before = [lambda: git("checkout", "-q", "two")]
    agents.update("p", count)
    assert agents["p"] == {"n": 21, "edits": ["two"]}
    assert (kept(path), staged(path)) == ([], [])


def test_a_put_with_a_revision_is_refused_in_the_last_moment(
    agents: Collection[Any], path: Path, moments: Moments
) -> None:
    revision = agents.revision("p")
    moments.before = [save(path, '{"theirs": 1}')]
    with pytest.raises(ConflictError):
        agents.put("p", {"n": 5}, expect=revision)
    assert path.read_text() == '{"theirs": 1}'
    assert (kept(path), staged(path)) == ([], [])


def test_permissions_that_change_in_the_last_moment_stay(agents: Collection[Any], path: Path, moments: Moments) -> None:
    moments.before = [lambda: path.chmod(0o640)]
    agents.update("p", count)
    assert path.stat().st_mode & 0o777 == 0o640
    assert agents["p"]["n"] == 1


SLOW = """
import sys, time
file = open(sys.argv[1], sys.argv[2])
print("open", flush=True)
for piece in ('{"n": 7, ', '"edits": ', '[1]}'):
    time.sleep(0.05)
    file.write(piece)
    file.flush()
file.truncate()
file.close()
"""


@pytest.mark.parametrize("mode", ["r+", "w"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_slow_writer_in_place_is_waited_for(
    agents: Collection[Any], path: Path, moments: Moments, mode: str, when: str
) -> None:
    writer: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        writer.append(subprocess.Popen([sys.executable, "-c", SLOW, path, mode], stdout=subprocess.PIPE))
        assert writer[0].stdout is not None
        assert writer[0].stdout.readline() == b"open\n"

    moments.before, moments.after = ([begin], []) if when == "before" else ([], [begin])
    agents.update("p", count)
    with writer[0] as process:
        process.communicate()
    # Who opened what a save had put in place saves over it.
    assert agents["p"] == {"n": 8 if when == "before" else 7, "edits": [1]}
    assert (kept(path), staged(path)) == ([], [])


def test_a_writer_who_opened_it_long_ago_is_seen(agents: Collection[Any], path: Path, moments: Moments) -> None:
    with path.open("r+") as file:

        def finish() -> None:
            file.write('{"n": 7, "edits": [1]}')
            file.close()

        later = threading.Timer(0.2, finish)
        later.start()
        agents.update("p", count)
        later.join()
    assert agents["p"] == {"n": 8, "edits": [1]}
    # Exchanged once to find out, and back; what follows are looks, until it is closed.
    assert moments.seen == 3


def test_a_writer_who_never_ends_is_told_of(store: Store, path: Path, moments: Moments) -> None:
    before = path.read_text()
    with Store(store.path, StoreOptions(lock_timeout=0.1)) as impatient, path.open("r+"):
        agents = impatient.collection("agents")
        with pytest.raises(
            LockTimeoutError, match=r"p\.json stayed locked for 0.1 s: another program has the file open"
        ):
            agents.update("p", count)
        with pytest.raises(LockTimeoutError):
            agents.delete("p")
        assert path.read_text() == before
        assert moments.seen == 3
    store.collection("agents").update("p", count)


def test_one_of_many_that_is_open_for_writing_is_told_of_alone(backend: FileBackend, root: Path) -> None:
    refs = [Ref("agents", name, JSON) for name in "ab"]
    backend.change_many([(ref, lambda _: b"old") for ref in refs])
    with (root / "agents/a.json").open("r+"):
        outcomes = backend.change_many([(ref, lambda _: b"new") for ref in refs], timeout=0)
    assert isinstance(outcomes[0], LockTimeoutError)
    assert isinstance(outcomes[1], Blob)
    assert [path.read_bytes() for path in sorted((root / "agents").iterdir())] == [b"old", b"new"]


def test_what_is_saved_over_ours_before_it_is_put_back_is_the_newest(
    agents: Collection[Any], path: Path, moments: Moments, caplog: pytest.LogCaptureFixture
) -> None:
    moments.before = [save(path, '{"n": 50}'), save(path, '{"n": 60}')]
    with caplog.at_level(logging.WARNING, "fsstate"), pytest.raises(OutcomeUnknownError, match=r"p\.json"):
        agents.update("p", count)
    assert path.read_text() == '{"n": 60}'
    assert kept(path) == ['{"n": 50}']
    assert f"{path}: several saves came in the same moment" in caplog.text
    assert staged(path) == []


def test_many_saves_in_the_same_moment(agents: Collection[Any], path: Path, moments: Moments) -> None:
    moments.before = [save(path, f'{{"n": {n}}}') for n in range(5)]
    with pytest.raises(OutcomeUnknownError):
        agents.update("p", count)
    assert path.read_text() == '{"n": 4}'
    # Those before were saved over by whoever saved next, as without us; the last but one was with us.
    assert kept(path) == ['{"n": 3}']


def test_an_edit_in_place_of_what_is_put_back_is_the_newest(
    agents: Collection[Any], path: Path, moments: Moments
) -> None:
    moments.before = [save(path, '{"n": 50}'), lambda: void(path.write_text('{"n": 60}'))]
    with pytest.raises(OutcomeUnknownError):
        agents.update("p", count)
    assert path.read_text() == '{"n": 60}'
    assert kept(path) == ['{"n": 50}']


def test_a_deletion_in_the_last_moment(agents: Collection[Any], path: Path, moments: Moments) -> None:
    moments.before = [path.unlink]
    with pytest.raises(NotFoundError):
        agents.update("p", count)
    assert not path.exists()
    assert (kept(path), staged(path)) == ([], [])


def test_a_deletion_of_what_is_to_be_put_back_keeps_the_save_before_it(
    agents: Collection[Any], path: Path, moments: Moments
) -> None:
    moments.before = [save(path, '{"n": 50}'), path.unlink]
    with pytest.raises(NotFoundError):
        agents.update("p", count)
    assert not path.exists()
    assert kept(path) == ['{"n": 50}']


def test_a_document_that_somebody_makes_in_the_last_moment(
    agents: Collection[Any], path: Path, moments: Moments
) -> None:
    path.unlink()
    moments.before = [save(path, '{"n": 50}')]
    agents.put("p", {"n": 1, "mine": True})
    # A put without a revision replaces what is there, but after a look.
    assert moments.seen == 2
    path.unlink()
    moments.before = [save(path, '{"n": 50}')]
    assert agents.update("p", count, default={"n": 0})["n"] == 51
    assert (kept(path), staged(path)) == ([], [])


@pytest.mark.parametrize("kind", ["symlink", "directory", "pipe"])
def test_what_is_no_file_goes_back(agents: Collection[Any], path: Path, moments: Moments, kind: str) -> None:
    def act() -> None:
        path.unlink()
        makers: dict[str, Act] = {
            "symlink": lambda: path.symlink_to("q"),
            "directory": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
        }
        makers[kind]()

    moments.before = [act]
    with pytest.raises(UnsafePathError):
        agents.update("p", count)
    assert not path.is_file()
    assert path.is_symlink() or path.exists()
    assert (kept(path), staged(path)) == ([], [])


@pytest.fixture
def before_removal(monkeypatch: pytest.MonkeyPatch) -> list[Act]:
    """Things that happen just before a document is moved aside to be removed."""
    acts: list[Act] = []
    real = os.rename

    def rename(*args: Any, **options: Any) -> None:
        if acts and args[0] == "p.json":
            acts.pop(0)()
        real(*args, **options)

    monkeypatch.setattr(os, "rename", rename)
    return acts


def test_a_save_just_before_a_removal_is_looked_at(
    agents: Collection[Any], path: Path, before_removal: list[Act]
) -> None:
    before_removal.append(save(path, '{"n": 50}'))
    with pytest.raises(ConflictError):
        agents.delete("p", expect=agents.revision("p"))
    assert path.read_text() == '{"n": 50}'
    assert (kept(path), staged(path)) == ([], [])


def test_a_removal_that_meets_two_saves_keeps_both(
    agents: Collection[Any], path: Path, moments: Moments, before_removal: list[Act]
) -> None:
    before_removal.append(save(path, '{"n": 50}'))
    moments.before = [save(path, '{"n": 60}')]
    with pytest.raises(ConflictError):
        agents.delete("p", expect=agents.revision("p"))
    assert path.read_text() == '{"n": 60}'
    assert kept(path) == ['{"n": 50}']


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM])
def test_without_these_renames_it_works_as_ever(
    agents: Collection[Any], path: Path, moments: Moments, code: int
) -> None:
    def lack() -> None:
        raise OSError(code, os.strerror(code))

    moments.before = [lack] * 9
    with path.open("r+"):
        # Nor is there a wait for whoever has it open.
        agents.update("p", count)
    agents.put("q", {"n": 1})
    agents.update("q", count)
    assert agents.delete("q")
    assert agents["p"]["n"] == 1
    assert moments.seen == 1
    assert (kept(path), staged(path)) == ([], [])


def test_a_refusal_of_the_system_is_told(agents: Collection[Any], path: Path, moments: Moments) -> None:
    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    moments.before = [refuse]
    with pytest.raises(StorageError) as caught:
        agents.update("p", count)
    assert caught.value.errno == errno.EROFS
    assert agents["p"]["n"] == 0
    assert staged(path) == []
    agents.update("p", count)
    assert moments.seen == 2


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.ENOLCK])
def test_without_leases_the_content_counts(
    agents: Collection[Any], path: Path, moments: Moments, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real, asked = fcntl.fcntl, []

    def without(fd: int, command: int, *rest: Any) -> Any:
        if command != fcntl.F_SETLEASE:
            return real(fd, command, *rest)
        asked.append(command)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "fcntl", without)
    moments.before = [edit(path, "sed -i", 1)]
    agents.update("p", count)
    assert agents["p"] == {"n": 1, "edits": [1, 0]}
    # One that is another user's says nothing of the next.
    assert len(asked) == (3 if code == errno.EACCES else 1)


def test_the_kernel_is_asked_by_number_where_the_c_library_is_old(tmp_path: Path) -> None:
    import ctypes

    arguments = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call = renames._by_number(ctypes.CDLL(None, use_errno=True), arguments)
    if call is None:
        pytest.skip("its number is not known here")
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert call(fd, b"a", fd, b"b", renames.EXCHANGE) == 0
        assert call(fd, b"a", fd, b"b", renames.NOREPLACE) == -1
        assert ctypes.get_errno() == errno.EEXIST
    finally:
        os.close(fd)
    assert (tmp_path / "a").read_text() == "b"


def test_what_only_reads_loads_nothing_for_it(root: Path) -> None:
    code = 'b, doc = FileBackend(root), Ref("agents", "a", JSON)\nb.read(doc)\nprint("ctypes" in sys.modules)\n'
    assert run(code, root) == "False\n"
    assert run(f'{code}b.change(doc, lambda _: b"1")\nprint("ctypes" in sys.modules)', root) == "False\nTrue\n"


def test_a_python_without_ctypes_works_as_ever(root: Path) -> None:
    saves = 'for n in range(3):\n    b.change(doc, lambda _: b"%d" % n)\nprint(b.read(doc).data)'
    code = 'sys.modules["ctypes"] = None\nb, doc = FileBackend(root), Ref("agents", "a", JSON)\n'
    assert run(f"{code}{saves}", root) == "b'2'\n"


def test_whoever_opens_a_file_that_is_looked_at_ends_nobody(
    agents: Collection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agents.update("p", count)
    # The kernel tells the holder of a lease by a signal, which would end the program by default.
    opener: list[subprocess.Popen[bytes]] = []
    told: list[int] = []
    real = exchanging.read_whole

    def read(fd: int, size: int) -> bytes:
        if not opener:
            code = "import sys; open(sys.argv[1], 'r+').close()"
            opener.append(subprocess.Popen([sys.executable, "-c", code, f"/proc/{os.getpid()}/fd/{fd}"]))
            deadline = time.monotonic() + 10
            while not told and time.monotonic() < deadline:
                time.sleep(0.005)
        return real(fd, size)

    monkeypatch.setattr(exchanging, "read_whole", read)
    before = signal.signal(signal.SIGURG, lambda number, _: told.append(number))
    try:
        agents.update("p", count)
        assert told == [signal.SIGURG]
        assert opener[0].wait(10) == 0
    finally:
        signal.signal(signal.SIGURG, before)


FORKS = """
import threading
from fsstate.backends.files import documents
b, doc = FileBackend(root, StoreOptions(lock_timeout=1)), Ref("agents", "a", JSON)
b.change(doc, lambda _: b"1")
staging, forked = threading.Event(), threading.Event()
real = documents.flush_data
def flush(fd):
    staging.set()
    forked.wait()
    real(fd)
documents.flush_data = flush
thread = threading.Thread(target=lambda: b.change(doc, lambda _: b"2"))
thread.start()
staging.wait()
pid = os.fork()
if not pid:
    time.sleep(60)
    os._exit(0)
forked.set()
thread.join()
b.change(doc, lambda _: b"3")
print(b.read(doc).data)
os.kill(pid, 9)
os.waitpid(pid, 0)
"""


def test_a_forked_child_does_not_keep_what_was_staged_open(root: Path) -> None:
    assert run(FORKS, root) == "b'3'\n"


KILLED = """
from fsstate.backends.files import renames
import signal
b, doc = FileBackend(root), Ref("agents", "a", JSON)
b.change(doc, lambda _: b"read")
real = renames.renameat2
def rename(*args):
    edited = sys.argv[2].encode()
    if edited:
        with open(f"{root}/agents/new", "wb") as file:
            file.write(edited)
        os.replace(f"{root}/agents/new", f"{root}/agents/a.json")
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)
renames.renameat2 = rename
b.change(doc, lambda _: b"ours")
"""


@pytest.mark.parametrize("edited", ["", "edited"])
def test_what_a_killed_writer_got_in_exchange_is_kept_if_it_was_saved_just_then(
    root: Path, caplog: pytest.LogCaptureFixture, edited: str
) -> None:
    with start(KILLED, root, edited) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    path = root / "agents/a.json"
    assert path.read_bytes() == b"ours"
    with Store(root) as store:
        store.collection("agents").put("b", 1)
        assert kept(path) == ([edited] if edited else [])
    assert staged(path) == []
    assert ("a.json: a writer was killed" in caplog.text) == bool(edited)


RACER = """
import json, sys, time
import fsstate
agents = fsstate.Store(sys.argv[1]).collection("agents")
end, told = time.monotonic() + float(sys.argv[2]), []
number = 0
while time.monotonic() < end:
    number += 1
    begun = time.monotonic()
    try:
        agents.update("p", lambda doc: {**doc, "updates": [*doc["updates"], number]})
    except (LookupError, fsstate.CorruptRecordError, fsstate.OutcomeUnknownError) as error:
        # Of half a file, too, which lacks something.
        outcome = type(error).__name__
        time.sleep(0.001)
    else:
        outcome = "done"
    told.append((number, outcome, begun, time.monotonic()))
with open(sys.argv[3], "w") as file:
    json.dump(told, file)
"""


def hurried(path: Path, mark: int) -> None:
    """Write in place, with pauses."""
    with path.open("r+") as file:
        text = file.read().replace("[", f"[{mark}, ", 1)
        file.seek(0)
        for piece in (text[:9], text[9:20], text[20:]):
            file.write(piece)
            file.flush()
            time.sleep(0.001)
        file.truncate()


def renamed(path: Path, mark: int) -> None:
    save(path, path.read_text().replace("[", f"[{mark}, ", 1))()


def with_sed(path: Path, mark: int) -> None:
    subprocess.run(["sed", "-i", f"0,/\\[/s//[{mark}, /", path], check=True)


HABITS = [renamed, hurried, with_sed]


def race(store: Store, path: Path, report: Path, habit: Callable[[Path, int], None], seconds: float) -> None:
    """Let a program update what a person edits, and hold what is left against what they were told."""
    agents = store.collection("agents")
    agents.put("p", {"edits": [0], "updates": []})
    command = [sys.executable, "-c", RACER, store.path, str(seconds), str(report)]
    edits: list[tuple[int, float, float]] = []
    chance = random.Random(7)
    with subprocess.Popen(command, cwd=PROJECT) as racer:
        while racer.poll() is None:
            begun = time.monotonic()
            habit(path, len(edits) + 1)
            edits.append((len(edits) + 1, begun, time.monotonic()))
            # Who reads again at once may meet what is about to be put back, and take that for the document.
            time.sleep(0.002 + chance.random() * 0.02)
    told = json.loads(report.read_text())
    doc = agents["p"]
    found = {*doc["edits"], *(mark for text in kept(path) for mark in json.loads(text)["edits"])}
    # Not one edit is lost, whatever the program did.
    assert found == {0, *(mark for mark, _, _ in edits)}
    done = {number for number, outcome, _, _ in told if outcome == "done"}
    unsure = {number for number, outcome, _, _ in told if outcome == "OutcomeUnknownError"}
    assert len(doc["updates"]) == len(set(doc["updates"]))
    assert set(doc["updates"]) <= done | unsure
    # Whoever reads, thinks and saves over what was saved meanwhile takes that away, and takes no lock against it.
    for number, outcome, begun, ended in told:
        if outcome == "done" and number not in doc["updates"]:
            assert any(start <= ended and begun <= end for _, start, end in edits), (number, begun, ended)
    # Some meet half of a file that is written slowly, and are refused.
    assert len(done) > 5
    assert len(edits) > 10


@pytest.mark.parametrize("habit", HABITS)
def test_a_person_and_a_program_race(
    store: Store, path: Path, tmp_path: Path, habit: Callable[[Path, int], None]
) -> None:
    race(store, path, tmp_path / "told", habit, 1)


@pytest.mark.soak
@pytest.mark.parametrize("habit", HABITS)
def test_a_person_and_a_program_race_for_long(
    store: Store, path: Path, tmp_path: Path, soak_seconds: float, habit: Callable[[Path, int], None]
) -> None:
    end = time.monotonic() + soak_seconds
    while time.monotonic() < end:
        race(store, path, tmp_path / "told", habit, 5)
        shutil.rmtree(path.parents[1] / ".fsstate/quarantine", ignore_errors=True)


def test_a_copy_of_the_descriptor_keeps_no_lease(agents: Collection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a child has one that was forked meanwhile: editors would wait for it."""
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("there are no leases here")
    real, copies = exchanging.read_whole, []

    def copy_and_read(fd: int, size: int) -> bytes:
        copies.append(os.dup(fd))
        return real(fd, size)

    monkeypatch.setattr(exchanging, "read_whole", copy_and_read)
    agents.update("p", count)
    assert copies
    for copy in copies:
        assert fcntl.fcntl(copy, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        os.close(copy)
