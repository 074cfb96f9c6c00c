"""Each system call of a write fails in turn: the outcome told is true, and the store works on.

strace makes the n-th call of a kind fail in a process of its own, for every n until there is no such call any more.
What the process was told is then held against the files, read in a process without faults.
"""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import pytest

from fsstate.backends.base import JSON, LOG, LogLine, Ref
from fsstate.backends.files import FileBackend
from tests.files.processes import needs_strace, run, start

pytestmark = needs_strace

DOC = Ref("agents", "a", JSON)
LOG_REF = Ref("sessions/s", "m", LOG)
MOST = 40

SETUP = """
b = FileBackend(root)
b.change(Ref("agents", "a", JSON), lambda _: b"old")
b.change(Ref("sessions", "s", JSON), lambda _: b"old")
for _ in range(3):
    b.append(Ref("sessions/s", "m", LOG), lambda _: [b"{}"])
b.close()
"""

# Each step says "done", "failed" (must not have happened) or "unknown"; the steps after it go on in the same process.
WORKLOAD = """
import json
doc, log, owner = Ref("agents", "a", JSON), Ref("sessions/s", "m", LOG), Ref("sessions", "s", JSON)
first = Ref("sessions/s", "f", LOG)
told = {}
def step(name, action):
    try:
        result = action()
        for one in result if isinstance(result, list) else ():
            if isinstance(one, Exception):
                raise one
        told[name] = "done"
    except OutcomeUnknownError:
        told[name] = "unknown"
    except FsStateError:
        told[name] = "failed"
def work():
    STEP
    step("again", lambda: b.change(doc, lambda _: b"new"))
# Once elsewhere, so that what Python loads is loaded.
b = FileBackend(sys.argv[2])
b.change(owner, lambda _: b"old")
work()
b = FileBackend(root)
print("ready", flush=True)
os.read(0, 1)
work()
# Not with write, whose calls are counted and fail.
os.writev(1, [json.dumps(told).encode()])
"""

STEPS = {
    "save": 'step("save", lambda: b.change(doc, lambda _: b"new"))',
    "create": 'step("create", lambda: b.change(Ref("new/deep", "n", JSON), lambda _: b"new"))',
    "append": 'step("append", lambda: b.append(log, lambda _: [b\'{"n":"new"}\']))',
    "first_append": 'step("first_append", lambda: b.append(first, lambda _: [b"{}"], owner=owner))',
    "trim": 'step("trim", lambda: b.trim(log, 3))',
    "delete": 'step("delete", lambda: b.delete_with(owner, "sessions/s", lambda: True))',
    "many": 'step("many", lambda: b.change_many([(Ref("agents", f"m{n}", JSON), lambda _: b"new") for n in range(3)]))',
}
CALLS = (
    "openat",
    "write",
    "fdatasync",
    "fsync",
    "rename,renameat,renameat2",
    "unlink,unlinkat",
    "mkdir,mkdirat",
    "ftruncate",
)


def seen(root: Path) -> dict[str, bool]:
    """Which steps have happened, as a process without faults finds it. It must find everything sound."""
    backend = FileBackend(root)
    try:
        doc = backend.read(DOC)
        assert doc is not None
        assert doc.data in (b"old", b"new")
        lines = list(backend.entries(LOG_REF))
        assert all(isinstance(line, LogLine) for line in lines), lines
        entries = [line for line in lines if isinstance(line, LogLine)]
        many = [backend.read(Ref("agents", f"m{number}", JSON)) for number in range(3)]
        return {
            "save": doc.data == b"new",
            "create": backend.read(Ref("new/deep", "n", JSON)) is not None,
            "append": any(b"new" in entry.data for entry in entries),
            "first_append": bool(list(backend.entries(Ref("sessions/s", "f", LOG)))),
            "trim": not any(entry.seq < 3 for entry in entries),
            "delete": backend.read(Ref("sessions", "s", JSON)) is None,
            "many": all(one is not None and one.data == b"new" for one in many),
        }
    finally:
        backend.close()


def assert_works(root: Path) -> None:
    backend = FileBackend(root)
    backend.change(DOC, lambda _: b"after")
    assert backend.append(LOG_REF, lambda _: [b"{}"])
    backend.close()
    assert [path for path in (root / ".fsstate" / "staging").rglob("*") if path.is_file()] == []


def fail_call(process: Popen[str], place: Path, fault: tuple[str, str, int]) -> str:
    """Let the n-th of these calls fail from now on, and the process go on. Returns what strace saw."""
    log = place / "strace.txt"
    calls, error, when = fault
    injection = f"inject={calls}:error={error}:when={when}"
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={calls}", "-e", injection, "-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    return log.read_text()


def try_fault(template: Path, place: Path, step: str, fault: tuple[str, str, int]) -> bool:
    """Whether there still was a call to fail."""
    place.mkdir()
    root = place / "state"
    subprocess.run(["cp", "-a", template, root], check=True)
    with start(WORKLOAD.replace("STEP", STEPS[step]), root, place / "elsewhere") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        traced = fail_call(process, place, fault)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (step, fault, err)
    check(root, step, json.loads(out), f"{step} {fault}")
    return "(INJECTED)" in traced


def check(root: Path, step: str, told: dict[str, str], where: str) -> None:
    happened = seen(root)
    where = f"{where}: {told} {happened}"
    if told["again"] == "done":
        assert happened["save"], where
    elif told["again"] == "failed" and step != "save":
        assert not happened["save"], where
    if told[step] == "done":
        assert happened[step], where
    elif told[step] == "failed" and step not in ("save", "many"):
        assert not happened[step], where
    assert_works(root)


def test_the_faults_reach_the_store(tmp_path: Path) -> None:
    run(SETUP, tmp_path / "template")
    assert try_fault(tmp_path / "template", tmp_path / "place", "save", ("fdatasync", "EIO", 1))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_each_call_fails_in_turn(tmp_path: Path, step: str, error: str) -> None:
    template = tmp_path / "template"
    run(SETUP, template)

    def exhaust(calls: str) -> int:
        for when in range(1, MOST):
            if not try_fault(template, tmp_path / f"{calls}{when}", step, (calls, error, when)):
                return when - 1
        raise AssertionError(f"no end of {calls}")

    # One of the two errors for each kind of call: they are told alike.
    kinds = CALLS[::2] if error == "EIO" else CALLS[1::2]
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(exhaust, kinds)) > 0
