"""Each system call of a write fails in turn: the outcome told is true, and the store works on.

strace makes the n-th call of a kind fail in a process of its own, for every n until there is no such call any more.
What the process was told is then held against the files, read in a process without faults. The processes are forks of
one that has loaded all and is traced by nobody, as a new interpreter for each call would cost more than all the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

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
b = FileBackend(root)
b.change(owner, lambda _: b"old")
work()
b.close()
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        told.clear()
        b = FileBackend(line.rstrip("\\n"))
        print(os.getpid(), flush=True)
        os.read(0, 1)
        work()
        # Not with write, whose calls are counted and fail.
        os.writev(1, [json.dumps(told).encode() + b"\\n"])
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
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


class Program:
    """Runs the workload with one step, again and again, each time in a process of its own."""

    def __init__(self, step: str, place: Path) -> None:
        self.step = step
        self._place = place
        self._process = start(WORKLOAD.replace("STEP", STEPS[step]), place / "elsewhere")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()

    def try_fault(self, template: Path, fault: tuple[str, str, int]) -> bool:
        """Whether there still was a call to fail."""
        calls, _, when = fault
        root = self._place / f"{calls}{when}"
        shutil.copytree(template, root)
        pid = int(self._ask(f"{root}\n"))
        traced = self._fail_call(pid, fault)
        told, code = self._hear(), self._hear()
        assert code == "0\n", (self.step, fault, code)
        check(root, self.step, json.loads(told), f"{self.step} {fault}")
        return "(INJECTED)" in traced

    def _fail_call(self, pid: int, fault: tuple[str, str, int]) -> str:
        """Let the n-th of these calls fail from now on, and the process go on. Returns what strace saw."""
        log = self._place / "strace.txt"
        calls, error, when = fault
        injection = f"inject={calls}:error={error}:when={when}"
        command = ["strace", "-f", "-o", str(log), "-e", f"trace={calls}", "-e", injection, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            self._tell("x")
        return log.read_text()

    def _ask(self, text: str) -> str:
        self._tell(text)
        return self._hear()

    def _tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _hear(self) -> str:
        """The next line; when there is none, the program has died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, err = self._process.communicate(timeout=60)
            raise AssertionError(err)
        return line


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
    with Program("save", tmp_path) as program:
        assert program.try_fault(tmp_path / "template", ("fdatasync", "EIO", 1))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_each_call_fails_in_turn(tmp_path: Path, step: str, error: str) -> None:
    template = tmp_path / "template"
    run(SETUP, template)

    def exhaust(calls: str) -> int:
        place = tmp_path / calls
        place.mkdir()
        with Program(step, place) as program:
            for when in range(1, MOST):
                if not program.try_fault(template, (calls, error, when)):
                    return when - 1
        raise AssertionError(f"no end of {calls}")

    # One of the two errors for each kind of call: they are told alike.
    kinds = CALLS[::2] if error == "EIO" else CALLS[1::2]
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(exhaust, kinds)) > 0
