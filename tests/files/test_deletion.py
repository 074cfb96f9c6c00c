"""A document and what belongs to it end as one, whoever writes to them meanwhile and wherever a crash comes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fsstate.backends.base import JSON, LOG, Blob, LogLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import LockTimeoutError, NotFoundError
from tests.files.processes import run, start

OWNER = Ref("sessions", "s", JSON)
FOLDER = "sessions/s"
MESSAGES = Ref(FOLDER, "messages", LOG)
GOAL = Ref(FOLDER, "goal", JSON)


def create(backend: FileBackend) -> None:
    backend.change(OWNER, lambda _: b"{}")


def append(backend: FileBackend, ref: Ref = MESSAGES) -> range:
    return backend.append(ref, lambda _: [b"{}"], owner=OWNER)


def delete(backend: FileBackend, timeout: float | None = None) -> bool:
    return backend.delete_with(OWNER, FOLDER, lambda: True, timeout=timeout)


def test_all_goes_with_the_owner(backend: FileBackend, root: Path) -> None:
    create(backend)
    append(backend)
    backend.change(Ref(f"{FOLDER}/checkpoints", "c", JSON), lambda _: b"{}", owner=OWNER)
    assert delete(backend)
    assert os.listdir(root / "sessions") == []
    assert not delete(backend)


def test_nothing_is_written_for_an_owner_that_is_gone(backend: FileBackend, root: Path) -> None:
    create(backend)
    append(backend)
    delete(backend)
    with pytest.raises(NotFoundError):
        append(backend)
    with pytest.raises(NotFoundError):
        backend.change(GOAL, lambda _: b"{}", owner=OWNER)
    with pytest.raises(NotFoundError), backend.claim_log(MESSAGES, owner=OWNER):
        pass
    assert os.listdir(root / "sessions") == []


def test_a_deletion_that_is_not_confirmed_changes_nothing(backend: FileBackend, root: Path) -> None:
    create(backend)
    assert not backend.delete_with(OWNER, FOLDER, lambda: False)
    assert os.listdir(root / "sessions") == ["s.json"]
    append(backend)
    assert not backend.delete_with(OWNER, FOLDER, lambda: False)
    assert append(backend) == range(2, 3)


def test_a_claimed_log_keeps_its_owner(backend: FileBackend, root: Path) -> None:
    create(backend)
    with contextlib.closing(FileBackend(root)) as other:
        for deleter in (backend, other):
            with backend.claim_log(MESSAGES, owner=OWNER), pytest.raises(LockTimeoutError, match="messages"):
                delete(deleter, timeout=0.1)
        assert append(backend) == range(1, 2)
        assert delete(other, timeout=0.1)


def test_a_claim_of_a_killed_process_keeps_nothing(backend: FileBackend, root: Path) -> None:
    create(backend)
    code = """
    b = FileBackend(root)
    with b.claim_log(Ref("sessions/s", "messages", LOG), owner=Ref("sessions", "s", JSON)):
        print("claimed", flush=True)
        time.sleep(60)
    """
    with start(code, root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert backend.is_claimed(MESSAGES)
        process.kill()
        process.wait()
    assert not backend.is_claimed(MESSAGES)
    assert delete(backend, timeout=1)


def test_a_log_that_a_trim_replaces_during_the_deletion_is_locked_all_the_same(
    backend: FileBackend, root: Path
) -> None:
    # The deletion waits for the lock of a file that is no longer the log when it gets it.
    create(backend)
    for _ in range(3):
        append(backend)
    done: list[bool] = []
    with contextlib.closing(FileBackend(root)) as other:
        with backend.claim_log(MESSAGES, owner=OWNER):
            thread = threading.Thread(target=lambda: done.append(delete(other)))
            thread.start()
            time.sleep(0.1)
            backend.trim(MESSAGES, 3)
            time.sleep(0.1)
            assert append(backend) == range(4, 5)
            assert done == []
        thread.join()
        assert done == [True]


WRITER = """
b, owner = FileBackend(root), Ref("sessions", "s", JSON)
number = int(sys.argv[2])
log = Ref("sessions/s", "messages" if number % 2 else f"m{number}", LOG)
print("go", flush=True)
done = 0
try:
    while True:
        with b.claim_log(log, owner=owner) if done % 3 == 0 else __import__("contextlib").nullcontext():
            b.append(log, lambda _: [b'{"by":%d}' % number], owner=owner)
        b.change(Ref("sessions/s", f"d{number}x{done}", JSON), lambda _: b"{}", owner=owner)
        done += 1
except NotFoundError:
    print(done, flush=True)
"""


def test_writers_and_a_deletion_come_wholly_before_one_another(backend: FileBackend, root: Path) -> None:
    create(backend)
    writers = [start(WRITER, root, number) for number in range(4)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    time.sleep(0.2)
    seen: list[int] = []

    def confirm() -> bool:
        # What was acknowledged by now is here, and nothing comes any more.
        for _ in range(2):
            logs = backend.names(FOLDER, LOG)
            seen.append(
                sum(1 for log in logs for one in backend.entries(Ref(FOLDER, log, LOG)) if isinstance(one, LogLine))
            )
            time.sleep(0.05)
        return True

    assert backend.delete_with(OWNER, FOLDER, confirm)
    acknowledged = 0
    for writer in writers:
        out, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err
        acknowledged += int(out)
    assert seen[0] == seen[1] >= acknowledged > 0
    assert os.listdir(root / "sessions") == []


KILLED = """
from pathlib import Path
from tests.files.killing import kill_at_each_change
owner = Ref("sessions", "s", JSON)
print(kill_at_each_change(Path(root), lambda copy: FileBackend(copy).delete_with(owner, "sessions/s", lambda: True)))
"""


def test_a_crash_at_any_step_leaves_the_whole_session_or_none(tmp_path: Path) -> None:
    template = tmp_path / "template"
    with contextlib.closing(FileBackend(template)) as backend:
        create(backend)
        append(backend)
        backend.change(GOAL, lambda _: b"{}", owner=OWNER)
    crashes = int(run(KILLED, template))
    assert crashes > 10
    outcomes = [assert_whole_or_gone(tmp_path / f"template{step}") for step in range(crashes + 1)]
    assert set(outcomes) == {True, False}
    assert outcomes == sorted(outcomes, reverse=True), "what is gone stays so"


def assert_whole_or_gone(root: Path) -> bool:
    with contextlib.closing(FileBackend(root)) as backend:
        exists = isinstance(backend.read(OWNER), Blob)
        if exists:
            assert len(list(backend.entries(MESSAGES))) == 1
            assert backend.read(GOAL) is not None
            assert append(backend) == range(2, 3)
            assert delete(backend, timeout=1)
        else:
            with pytest.raises(NotFoundError):
                append(backend)
            backend.discard(FOLDER)
        assert os.listdir(root / "sessions") == []
        backend.change(Ref("agents", "a", JSON), lambda _: b"{}")
    assert os.listdir(root / ".fsstate" / "staging") == []
    return exists


def test_discarding_shows_nothing_half_removed(backend: FileBackend, root: Path) -> None:
    for number in range(50):
        backend.change(Ref("agents", f"a{number}", JSON), lambda _: b"{}")
    counts: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        with contextlib.closing(FileBackend(root)) as other:
            while not stop.is_set():
                counts.add(len(other.names("agents", JSON)))

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.05)
    assert backend.discard("agents")
    time.sleep(0.05)
    stop.set()
    thread.join()
    # A listing that began before may see it shrink; none that began after sees anything.
    assert 50 in counts
    assert 0 in counts
    assert not backend.discard("agents")


def test_discarding_does_not_follow_symlinks(backend: FileBackend, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    backend.change(Ref("agents", "a", JSON), lambda _: b"{}")
    (root / "agents" / "link").symlink_to(outside)
    (root / "agents" / "deep").mkdir()
    (root / "agents" / "deep" / "link").symlink_to(outside / "precious")
    assert backend.discard("agents")
    assert os.listdir(outside) == ["precious"]


def test_leftovers_of_a_killed_process_are_swept(root: Path) -> None:
    code = """
    b = FileBackend(root)
    b.change(Ref("agents", "a", JSON), lambda _: b"{}")
    b._staging.create(b"left")
    os.kill(os.getpid(), 9)
    """
    with pytest.raises(AssertionError):
        run(code, root)
    assert subprocess.run(["find", root / ".fsstate/staging", "-type", "f"], capture_output=True, check=True).stdout
    run('b = FileBackend(root); b.change(Ref("agents", "a", JSON), lambda _: b"1"); b.close()', root)
    assert os.listdir(root / ".fsstate" / "staging") == []
