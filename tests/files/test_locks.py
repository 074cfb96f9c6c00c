"""One writer at a time, in threads, forked and separate processes, whatever happens to holders and lock files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from fsstate.backends.base import JSON, LOG, Blob, LogLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.files.flocks import Lockable
from fsstate.errors import LockTimeoutError, StorageError
from fsstate.options import StoreOptions
from tests.files.processes import start

REF = Ref("agents", "a", JSON)
LOG_REF = Ref("audit", "t", LOG)
PATIENT_CHILD = 60.0
NOBODY = 65534


def increment(blob: Blob | None) -> bytes:
    return b"%d" % (int(blob.data) + 1 if blob else 1)


def count(backend: FileBackend) -> int:
    blob = backend.read(REF)
    return int(blob.data) if blob else 0


HOLD = """
b = FileBackend(root)
held = b.lock(Ref("agents", "a", JSON))
print("held", flush=True)
sys.stdin.read()
held.release(); b.close()
"""


@contextlib.contextmanager
def holder(root: Path) -> Iterator[Popen[str]]:
    """A process that holds the lock of REF."""
    with start(HOLD, root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def wait_for(pid: int) -> int:
    deadline = time.monotonic() + PATIENT_CHILD
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


def in_child(code: Callable[[], object]) -> int:
    """Run in a forked child; 0 when it went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            code()
            status = 0
        finally:
            os._exit(status)
    return pid


def in_another_s_child(code: Callable[[], object]) -> int:
    """`in_child`, as another user of the system."""

    def as_nobody() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        code()

    return in_child(as_nobody)


@pytest.fixture
def shared_root() -> Iterator[Path]:
    """A directory that other users reach: the tests' own ones are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "state")


# -- nothing is lost

WORK = """
b, doc, log = FileBackend(root), Ref("agents", "a", JSON), Ref("audit", "t", LOG)
for _ in range(200):
    b.change(doc, lambda blob: b"%d" % (int(blob.data) + 1 if blob else 1))
for _ in range(200):
    b.append(log, lambda last: [b"{}"])
b.close()
"""


def assert_complete(backend: FileBackend) -> None:
    assert count(backend) == 800
    assert [one.seq for one in backend.entries(LOG_REF) if isinstance(one, LogLine)] == list(range(1, 801))


def test_separate_processes_lose_nothing(backend: FileBackend, root: Path) -> None:
    processes = [start(WORK, root) for _ in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENT_CHILD)
        assert process.returncode == 0, errors
    assert_complete(backend)
    backend.close()
    assert os.listdir(root / ".fsstate" / "locks") == []
    assert os.listdir(root / ".fsstate" / "staging") == []


def work(backend: FileBackend) -> None:
    for _ in range(200):
        backend.change(REF, increment)
        backend.append(LOG_REF, lambda _: [b"{}"])


def test_forked_processes_lose_nothing(backend: FileBackend) -> None:
    # The backend was used before: the children inherit all that it keeps open.
    backend.change(REF, lambda _: b"0")
    for pid in [in_child(lambda: work(backend)) for _ in range(4)]:
        assert wait_for(pid) == 0
    assert_complete(backend)


@pytest.mark.parametrize("own_backends", [False, True])
def test_threads_lose_nothing(backend: FileBackend, root: Path, own_backends: bool) -> None:
    backends = [FileBackend(root) if own_backends else backend for _ in range(4)]
    threads = [threading.Thread(target=work, args=(each,)) for each in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_complete(backend)
    for each in backends:
        each.close()


# -- holders that die, wait, or are forked


def test_a_killed_holder_frees_the_lock_at_once(backend: FileBackend, root: Path) -> None:
    with holder(root) as process:
        assert backend.is_locked(REF)
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.monotonic()
        backend.lock(REF, timeout=5).release()
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("timeout", [0, 0.1, 0.4])
def test_a_timeout_names_the_record(backend: FileBackend, root: Path, timeout: float) -> None:
    with holder(root):
        began = time.monotonic()
        with pytest.raises(LockTimeoutError, match=r"agents/a\.json"):
            backend.lock(REF, timeout=timeout)
        assert timeout <= time.monotonic() - began < timeout + 0.5


def test_a_wait_wakes_at_once_and_costs_no_processor_time(backend: FileBackend, root: Path) -> None:
    with holder(root) as process:
        used = time.process_time()
        released: list[float] = []

        def release() -> None:
            assert process.stdin is not None
            released.append(time.monotonic())
            process.stdin.close()

        timer = threading.Timer(1.0, release)
        timer.start()
        backend.lock(REF, timeout=20).release()
        assert time.monotonic() - released[0] < 0.1
        assert time.process_time() - used < 0.1
        timer.join()
        process.wait()


def test_a_child_forked_while_a_lock_is_held_does_not_keep_it(backend: FileBackend, root: Path) -> None:
    # The parent is another process, which is killed while its child lives on.
    code = """
    b = FileBackend(root)
    held = b.lock(Ref("agents", "a", JSON))
    with b.claim_log(Ref("audit", "t", LOG)):
        if os.fork() == 0:
            # By the child: it has come back from the fork, and let go of what it inherited.
            print(os.getpid(), flush=True)
            time.sleep(30)
            os._exit(0)
        time.sleep(30)
    """
    with start(code, root) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert backend.is_locked(REF)
        assert backend.is_claimed(LOG_REF)
        process.kill()
        process.wait()
        try:
            assert not backend.is_locked(REF)
            assert not backend.is_claimed(LOG_REF)
            backend.change(REF, increment)
            backend.append(LOG_REF, lambda _: [b"{}"])
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_held_lock_stays_with_the_parent(backend: FileBackend) -> None:
    held = backend.lock(REF)

    def child() -> None:
        with pytest.raises(StorageError):
            backend.change(REF, increment, held=held)
        held.release()
        with pytest.raises(LockTimeoutError):
            backend.lock(REF, timeout=0)

    assert wait_for(in_child(child)) == 0
    assert backend.is_locked(REF)
    backend.change(REF, increment, held=held)
    held.release()
    assert not backend.is_locked(REF)


def test_a_fork_while_threads_write_leaves_a_child_that_can_write(backend: FileBackend) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            backend.change(REF, increment)
            backend.append(LOG_REF, lambda _: [b"{}"])

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for pid in [
            in_child(lambda: (backend.change(REF, increment), backend.append(LOG_REF, lambda _: [b"{}"])))
            for _ in range(10)
        ]:
            assert wait_for(pid) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_fork_while_a_lock_is_closed_does_not_keep_it(
    backend: FileBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.change(REF, increment)
    file = Lockable(os.open(root / "agents/a.json", os.O_RDONLY), "a.json")
    assert file.try_lock()
    children: list[int] = []
    forking = threading.Thread(target=lambda: children.append(in_child(lambda: time.sleep(PATIENT_CHILD))))
    close = os.close

    def close_slowly(fd: int) -> None:
        if fd > 2 and not forking.is_alive() and not children:
            forking.start()
            forking.join(0.2)
        close(fd)

    with monkeypatch.context() as patch:
        patch.setattr("fsstate.backends.files.flocks.os.close", close_slowly)
        file.close()
    forking.join()
    try:
        again = Lockable(os.open(root / "agents/a.json", os.O_RDONLY), "a.json")
        assert again.lock(5)
        again.close()
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_a_finalizer_that_a_signal_ends_leaves_no_lock(
    backend: FileBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Lockable) -> None:
        raise KeyboardInterrupt

    backend.change(REF, increment)
    file = Lockable(os.open(root / "agents/a.json", os.O_RDONLY), "a.json")
    assert file.try_lock()
    with monkeypatch.context() as patch:
        patch.setattr(Lockable, "close", interrupted)
        # Nobody keeps what is raised there.
        patch.setattr(sys, "unraisablehook", lambda _: None)
        del file
    again = Lockable(os.open(root / "agents/a.json", os.O_RDONLY), "a.json")
    assert again.try_lock()
    again.close()


# -- waiting for oneself


def test_a_thread_that_would_wait_for_itself_is_told_at_once(backend: FileBackend) -> None:
    held = backend.lock(REF)
    held.bind_to_thread()
    began = time.monotonic()
    with pytest.raises(LockTimeoutError, match="itself"):
        backend.change(REF, increment)
    held.release()

    def nested(_: Blob | None) -> bytes:
        backend.change(REF, increment)
        return b""

    with pytest.raises(LockTimeoutError, match="itself"):
        backend.change(REF, nested)
    assert time.monotonic() - began < 1
    assert backend.change(REF, increment)


def test_another_thread_waits_for_a_bound_lock(backend: FileBackend) -> None:
    held = backend.lock(REF)
    held.bind_to_thread()
    thread = threading.Thread(target=backend.change, args=(REF, increment))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    held.release()
    thread.join()
    assert count(backend) == 1


# -- lock files


def test_lock_files_do_not_pile_up(root: Path) -> None:
    backend = FileBackend(root, StoreOptions(durability="process"))
    for number in range(10_000):
        backend.change(Ref("agents", f"a{number}", JSON), lambda _: b"{}")
    assert len(os.listdir(root / ".fsstate" / "locks")) < 100
    backend.close()
    assert os.listdir(root / ".fsstate" / "locks") == []


def test_the_last_in_line_leaves_no_queue(root: Path) -> None:
    first, second = FileBackend(root), FileBackend(root)
    held = first.lock(REF)
    waiting = threading.Thread(target=lambda: second.lock(REF).release())
    waiting.start()
    time.sleep(0.3)
    held.release()
    waiting.join()
    assert len(os.listdir(root / ".fsstate" / "locks")) == 2
    first.close()
    second.close()
    assert os.listdir(root / ".fsstate" / "locks") == []


def test_a_lock_released_after_close_leaves_no_file(root: Path) -> None:
    backend = FileBackend(root)
    held = backend.lock(REF)
    backend.close()
    held.release()
    assert os.listdir(root / ".fsstate" / "locks") == []


def test_leftover_lock_files_are_swept(backend: FileBackend, root: Path) -> None:
    locks = root / ".fsstate" / "locks"
    locks.mkdir(parents=True)
    for number in range(100):
        (locks / f"dead{number}.lock").touch()
    backend.change(REF, increment)
    assert len(os.listdir(locks)) < 10


@pytest.mark.parametrize("victim", [".fsstate/locks", ".fsstate", ".fsstate/staging"])
def test_the_folder_of_the_locks_may_be_deleted_meanwhile(backend: FileBackend, root: Path, victim: str) -> None:
    for _ in range(3):
        backend.change(REF, increment)
        backend.append(LOG_REF, lambda _: [b"{}"])
        shutil.rmtree(root / victim)
    held = backend.lock(REF)
    shutil.rmtree(root / victim, ignore_errors=True)
    backend.change(REF, increment, held=held)
    held.release()
    backend.change(REF, increment)
    assert count(backend) == 5


def test_looking_whether_a_lock_is_held_disturbs_nobody(backend: FileBackend) -> None:
    stop = threading.Event()
    busy: list[bool] = []

    def look() -> None:
        while not stop.is_set():
            busy.append(backend.is_locked(REF))

    backend.lock(REF).release()
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(busy)


def test_two_claims_in_one_process_exclude_each_other(root: Path) -> None:
    backend = FileBackend(root, StoreOptions(lock_timeout=0.1))
    with backend.claim_log(LOG_REF):
        with pytest.raises(LockTimeoutError), backend.claim_log(LOG_REF):
            pass
        assert backend.append(LOG_REF, lambda _: [b"{}"]) == range(1, 2)
    with backend.claim_log(LOG_REF):
        pass
    backend.close()


def test_a_claim_keeps_other_processes_from_appending(root: Path) -> None:
    backend, other = (FileBackend(root, StoreOptions(lock_timeout=0.1)) for _ in range(2))
    with backend.claim_log(LOG_REF), contextlib.closing(other):
        assert other.is_claimed(LOG_REF)
        with pytest.raises(LockTimeoutError, match=r"audit/t\.jsonl"):
            other.append(LOG_REF, lambda _: [b"{}"])
        assert not list(other.entries(LOG_REF))
    backend.close()


GREEDY = """
b = FileBackend(root)
print("go", flush=True)
while True:
    b.change(Ref("agents", "a", JSON), lambda _: b"%d" % time.time_ns())
"""


def test_nobody_waits_for_ever_behind_one_that_never_stops(root: Path) -> None:
    greedy = [start(GREEDY, root) for _ in range(2)]
    backend = FileBackend(root)
    try:
        for process in greedy:
            assert process.stdout is not None
            process.stdout.readline()
        for _ in range(20):
            backend.lock(REF, timeout=5).release()
    finally:
        for process in greedy:
            process.kill()
            process.communicate()
        backend.close()


def test_concurrent_listings_miss_nothing(root: Path) -> None:
    (root / "agents").mkdir(parents=True)
    for number in range(3000):
        (root / "agents" / f"a{number}.json").touch()
    backend = FileBackend(root)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(backend.names("agents", JSON)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backend.close()
    assert counts == [3000] * 8


# -- several users


def modes(root: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root / ".fsstate" / "locks").iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(("mode", "wanted"), [(0o600, 0o600), (0o644, 0o644), (0o666, 0o666), (0o400, 0o600)])
def test_lock_files_have_the_mode_of_the_store(root: Path, umask: int, mode: int, wanted: int) -> None:
    before = os.umask(umask)
    options = StoreOptions(file_mode=mode, directory_mode=0o755, lock_timeout=0.1)
    backend, other = FileBackend(root, options), FileBackend(root, options)
    try:
        with backend.lock(REF), pytest.raises(LockTimeoutError):
            other.lock(REF)
        assert modes(root) == {"agents+a.json.lock": wanted, "agents+a.json.queue": wanted}
    finally:
        os.umask(before)
        backend.close()
        other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_users_share_a_store(shared_root: Path, mode: int) -> None:
    options = StoreOptions(file_mode=mode, directory_mode=0o777)
    backend = FileBackend(shared_root, options)
    backend.change(REF, increment)

    def write() -> None:
        other = FileBackend(shared_root, options)
        for _ in range(50):
            other.change(REF, increment)
        other.close()

    children = [in_another_s_child(write) for _ in range(2)]
    for _ in range(50):
        backend.change(REF, increment)
    assert [wait_for(child) for child in children] == [0, 0]
    assert count(backend) == 151
    backend.close()
    assert modes(shared_root) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("has_lock_file", [True, False])
def test_a_user_who_may_not_lock_is_told_which_file(shared_root: Path, has_lock_file: bool) -> None:
    backend = FileBackend(shared_root, StoreOptions(file_mode=0o644, directory_mode=0o755))
    backend.change(REF, increment)
    lock_file = shared_root / ".fsstate" / "locks" / "agents+a.json.lock"
    if has_lock_file:
        lock_file.chmod(0o600)
    else:
        lock_file.unlink()

    def write() -> None:
        with pytest.raises(StorageError, match=r"cannot open .*agents\+a\.json\.lock: Permission denied"):
            FileBackend(shared_root).lock(REF)

    assert wait_for(in_another_s_child(write)) == 0
    backend.close()


def test_a_lock_may_be_given_back_in_the_middle_of_anything(backend: FileBackend) -> None:
    """As the garbage collector does, within a step of its own thread's that must not be disturbed."""
    held = backend.lock(REF)
    with backend._locks._mutex:
        held.release()
    assert not backend.is_locked(REF)
