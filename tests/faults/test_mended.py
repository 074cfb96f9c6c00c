"""The smallest cases of what injected faults have shown."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import fsstate
from fsstate import Store, StoreOptions
from fsstate.backends.base import Ref
from fsstate.backends.files import log_writing
from fsstate.backends.files.flocks import Lockable
from fsstate.backends.files.tree import write_all
from tests.files.processes import run
from tests.git import needs_git, person_in

QUICK = StoreOptions(durability="process", lock_timeout=0.5)
Fail = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", QUICK) as store:
        yield store


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Make a function fail with an error, where its first argument is as told."""

    def fail(owner: Any, name: str, error: OSError, where: Callable[[Any], bool] = lambda _: True) -> None:
        real = getattr(owner, name)

        def failing(first: Any, *args: Any, **kwargs: Any) -> Any:
            if where(first):
                raise error
            return real(first, *args, **kwargs)

        monkeypatch.setattr(owner, name, failing)

    return fail


LITTLE = """
import resource, sys
import fsstate
limit = int(sys.argv[2])
with fsstate.Store(root, StoreOptions(durability="process", indexing="always")) as store:
    store.collection("warm").put("a", {"n": 1})
    store.sessions.create(id="first")
    store.session("first").messages.append("user", "hi")
    store.sessions.list(), store.search("hi"), store.sessions.prune(fsstate.PrunePolicy(keep=9))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for n in range(40):
        store.collection(f"documents{n}").put("a", {"n": n})
        store.journal(f"logs{n}", "log").append("event", n=n)
        store.sessions.create(id=f"s{n}")
        store.session(f"s{n}").messages.append("user", "hi")
    print(len(store.sessions.list(limit=None)), len(store.search("hi", limit=None)), len(store.journal("logs3", "log")))
"""


def test_what_is_only_kept_is_let_go_when_descriptors_run_out(tmp_path: Path) -> None:
    assert run(LITTLE, tmp_path / "state", 40).split() == ["41", "41", "1"]


def test_a_lock_whose_file_cannot_be_looked_at_is_free_while_the_error_is_kept(store: Store) -> None:
    agents = store.collection("agents")
    agents.put("a", {"n": 1})
    with pytest.MonkeyPatch.context() as patch:
        refused = OSError(errno.EIO, "refused")
        real = os.stat

        def stat(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
            if str(path).endswith("agents+a.json.lock"):
                raise refused
            return real(path, *args, **kwargs)

        patch.setattr(os, "stat", stat)
        with pytest.raises(fsstate.StorageError, match="look at") as kept:
            agents.put("a", {"n": 2})
    with Store(store.path, QUICK) as other:
        other.collection("agents").put("a", {"n": 3})
    assert kept.value.errno == errno.EIO


def test_a_file_that_cannot_be_looked_at_is_an_error_of_the_store_and_closed(store: Store, fail: Fail) -> None:
    store.collection("agents").put("a", {"n": 1})
    before = len(os.listdir("/dev/fd"))
    opened: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = os.open
        patch.setattr(os, "open", lambda name, *args, **kwargs: _noted(opened, real(name, *args, **kwargs), name))
        fail(os, "fstat", OSError(errno.EIO, "refused"), lambda fd: fd in opened)
        with pytest.raises(fsstate.StorageError, match="look at"):
            store.collection("agents").get("a")
    assert len(os.listdir("/dev/fd")) == before


def _noted(opened: list[int], fd: int, name: str) -> int:
    if name == "a.json":
        opened.append(fd)
    return fd


def test_a_folder_that_cannot_be_locked_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lockable, "try_lock", lambda *_: False)
    with pytest.raises(fsstate.StorageError, match="lock a folder of its own"):
        store.backend.prepare()


FORK = """
import resource, signal
import fsstate
store = fsstate.Store(root)
store.sessions.create(id="s1")
store.session("s1").messages.append("user", "x" * 50_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    store.sessions.fork("s1", new_id="s2", copy_messages=True)
except StorageError:
    print(*store.sessions.ids())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.sessions.fork("s1", new_id="s2", copy_messages=True)
print(len(store.session("s2").messages.all()))
store.close()
"""


def test_a_fork_that_fails_leaves_no_session(tmp_path: Path) -> None:
    assert run(FORK, tmp_path / "state").split() == ["s1", "1"]


@needs_git
def test_a_snapshot_that_was_made_and_may_not_last_is_no_failure(
    tmp_path: Path, fail: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in person_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    with Store(tmp_path / "state") as store:
        store.collection("agents").put("a", {"n": 1})
        store.history.init()
        fail(os, "fsync", OSError(errno.EIO, "refused"), lambda fd: ".git" in os.readlink(f"/proc/self/fd/{fd}"))
        with pytest.raises(fsstate.OutcomeUnknownError, match="make sure of the snapshot"):
            store.snapshot("first")
        command = ["git", "-C", store.path, "log", "--format=%s"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"first\n"


def test_what_came_back_from_the_trash_is_no_failure(store: Store, fail: Fail) -> None:
    for name in ("s1", "s2"):
        store.sessions.create(id=name)
    store.sessions.prune(fsstate.PrunePolicy(keep=1))
    fail(store.backend, "discard", fsstate.StorageError("remove", "it", errno.EIO))
    assert [item.record for item in store.trash.restore("s1")] == ["sessions/s1.json"]
    assert store.sessions.ids() == ["s1", "s2"]
    assert store.trash.list() == []


def test_a_message_that_was_changed_is_no_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.sessions.create(id="s1")
    messages = store.session("s1").messages
    first = messages.append("user", "one")
    real = store.backend.log_stamp

    def log_stamp(ref: Ref) -> tuple[int, ...] | None:
        if len(Path(store.path, str(ref)).read_bytes().splitlines()) > 1:
            raise fsstate.StorageError("look at", str(ref), errno.EIO)
        return real(ref)

    with monkeypatch.context() as patch:
        patch.setattr(store.backend, "log_stamp", log_stamp)
        messages.update(first.id, content="two")
    assert [message.text for message in messages.list()] == ["two"]


def test_an_entry_that_cannot_be_looked_at_any_more_is_told_as_appended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written and flushed is there, whatever a look at the file says after that."""
    trail = store.journal("audit", "trail")
    trail.append("first")
    with monkeypatch.context() as patched:

        def write_and_go_blind(fd: int, data: bytes) -> None:
            write_all(fd, data)
            patched.setattr(os, "fstat", blind)

        def blind(_: int) -> NoReturn:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patched.setattr(log_writing, "write_all", write_and_go_blind)
        assert trail.append("second") == 2
    assert trail.append("third") == len(trail.read()) == 3


def test_a_short_read_is_no_end_of_a_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for one, it hid the last entries, and let their seqs be given out again."""
    trail = store.journal("audit", "trail")
    for number in range(4):
        trail.append("old", number=number)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, start: real(fd, (size + 1) // 2, start))
    with Store(store.path, QUICK) as other:
        log = other.journal("audit", "trail")
        assert log.append("new") == 5
        assert [entry.seq for entry in log.read()] == [1, 2, 3, 4, 5]
        assert [entry.seq for entry in log.tail(2)] == [4, 5]
        assert log.problems() == []


def test_a_lock_that_cannot_be_looked_at_is_an_error_of_the_store(store: Store, fail: Fail) -> None:
    store.collection("agents").put("a", {"n": 1})
    with Store(store.path, QUICK) as other:
        fail(fcntl, "flock", OSError(errno.ENOLCK, "refused"))
        with pytest.raises(fsstate.StorageError, match="look at the lock of"):
            other.backend.is_locked(Ref("agents", "a", ".json"))
