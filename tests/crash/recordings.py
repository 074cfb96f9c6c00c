"""Recordings of workloads, and the search for a state that a power cut may leave of one and that breaks a promise."""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from fsstate.backends.base import Ref
from tests.crash.checker import Findings, History, as_promised, judge, look
from tests.crash.model import Budget, Disk, Model, Ordered, Posix, Tree
from tests.crash.recorder import Call, is_change, read_trace
from tests.crash.sessions import SESSION_WORKLOADS, Scene, judge_sessions, look_at_sessions
from tests.crash.workloads import WORKLOADS, Job, Workload

__all__ = ["ALL", "MEMORY", "SEED", "Checker", "Recordings", "Trace", "disk_of", "is_quiet", "recording"]

SEED: Final = 2014
MEMORY: Final = "/dev/shm"  # noqa: S108 - a directory of its own is made in it
ALL: Final[dict[str, Workload]] = {**WORKLOADS, **SESSION_WORKLOADS}
_MODELS: Final[tuple[type[Model], ...]] = (Posix, Ordered)
_SHOWN_CALLS: Final = 15


class Trace(NamedTuple):
    """What one job recorded."""

    job: Job
    calls: list[Call]
    base: Path
    # What an earlier power cut had left.
    before: Tree | None = None

    @property
    def kills(self) -> int:
        """After how many changes the child can be killed."""
        parent = self.calls[0].pid
        return sum(call.pid != parent and is_change(call) for call in self.calls)


class Recordings:
    """Processes that record what they are asked to, in a directory."""

    def __init__(self, directory: Path, started: Sequence[subprocess.Popen[str]]) -> None:
        self._directory = directory
        self._started = started
        self._numbers = itertools.count()
        self._whole: dict[str, Trace] = {}

    def whole(self, workload: str) -> Trace:
        """A workload that nobody disturbs. The same recording each time."""
        if workload not in self._whole:
            (self._whole[workload],) = self.of([Job(workload)])
        return self._whole[workload]

    def killed(self, workload: str, most: int | None = None) -> list[Trace]:
        """A workload with its child killed after each of its changes, or after so many of them, evenly spread."""
        kills = range(1, self.whole(workload).kills + 1)
        step = 1 if most is None else max(1, len(kills) // most)
        return self.of([Job(workload, kill) for kill in kills[step // 2 :: step]])

    def of(self, jobs: Sequence[Job], before: Sequence[Tree] = ()) -> list[Trace]:
        """Run the jobs, each behind what an earlier power cut had left `before` it, if that is given."""
        traces = [(next(self._numbers), job, tree) for job, tree in itertools.zip_longest(jobs, before)]
        shares = [traces[n :: len(self._started)] for n in range(len(self._started))]
        for process, share in zip(self._started, shares, strict=True):
            for number, job, tree in share:
                if tree is not None:
                    (self._directory / f"{number}.tree").write_bytes(pickle.dumps(tree))
                assert process.stdin is not None
                process.stdin.write(f"{number}:{job.workload}:{job.kill}:{job.plant}\n")
                process.stdin.flush()
        for process, share in zip(self._started, shares, strict=True):
            for number, *_ in share:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{number}\n", "the recorder died"
        return [self._read(number, job, tree) for number, job, tree in traces]

    def _read(self, number: int, job: Job, tree: Tree | None) -> Trace:
        trace = self._directory / f"{number}.trace"
        return Trace(job, list(read_trace(trace)), trace.with_suffix(".base"), tree)


@contextmanager
def recording(directory: Path, processes: int = 1) -> Generator[Recordings]:
    """Have processes record for the length of a block."""
    directory.mkdir()
    command, project = [sys.executable, "-m", "tests.crash", str(directory)], Path(__file__).parents[2]
    started = [
        subprocess.Popen(
            command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(processes)
    ]
    try:
        yield Recordings(directory, started)
    finally:
        for process in started:
            # Nothing is asked any more: they end.
            process.communicate()


def is_quiet(folder: str) -> bool:
    """Whether names in a folder matter little: nobody but fsstate looks there."""
    return "/.fsstate/locks" in folder or "/.fsstate/staging" in folder


def disk_of(trace: Trace) -> Disk:
    assert trace.calls[-1].kind == "end", trace.base.with_suffix(".error").read_text()
    disk = Disk(trace.base, trace.calls, trace.before)
    disk.require_same_as(trace.calls[-1].mark)
    return disk


class Checker:
    """Tries the states of traces. What one state shows is looked at once."""

    def __init__(self, place: Path, budget: Budget, seed: int, stop: float = float("inf")) -> None:
        self.tried = 0
        self.failures: list[str] = []
        self._place = place
        self._budget = budget
        self._stop = stop
        self._random = random.Random(seed)
        self._seen: dict[tuple[frozenset[tuple[str, bytes | None]], tuple[Ref, ...]], Findings | Scene] = {}
        self._numbers = itertools.count()

    @property
    def distinct(self) -> int:
        """How many different states were opened."""
        return len(self._seen)

    def check(self, trace: Trace) -> None:
        """Cut the power after the calls, in both models, until something is wrong or the time is up."""
        disk = disk_of(trace)
        for kind in _MODELS:
            model = kind(disk, is_quiet, self._budget, self._random)
            for point in model.points():
                if time.monotonic() > self._stop:
                    return
                for tree in model.states(point):
                    self.tried += 1
                    problems = self._judge(trace, point, tree)
                    if problems:
                        self.failures.append(explain(trace, model.name, point, tree, problems))
                        return

    def _judge(self, trace: Trace, point: int, tree: Tree) -> list[str]:
        found = self._look(tree, ALL[trace.job.workload].refs)
        if isinstance(found, Scene):
            return judge_sessions(found, trace.calls, point)
        before = None if trace.before is None else self._look(trace.before, ALL[trace.job.workload].refs)
        return judge(found, History(trace.calls, point, as_promised(before) if isinstance(before, Findings) else ()))

    def _look(self, tree: Tree, refs: tuple[Ref, ...]) -> Findings | Scene:
        key = (frozenset(tree.items()), refs)
        if key not in self._seen:
            place = self._place / f"state{next(self._numbers)}"
            self._seen[key] = look(tree, refs, place) if refs else look_at_sessions(tree, place)
        return self._seen[key]


def explain(trace: Trace, model: str, point: int, tree: Tree, problems: Sequence[str]) -> str:
    """A failure, so that it can be understood and tried again."""
    calls = [call for call in trace.calls[: point + 1] if call.kind not in ("open", "close") or is_change(call)]
    shown = [f"  {call.kind} {call.path} {call.new_path} {call.mark or call.data[:60]!r}" for call in calls]
    left = [f"  {path}: {data if data is None else data[:120]!r}" for path, data in sorted(tree.items())]
    head = f"{trace.job} under {model}, cut after call {point}"
    return "\n".join([head, *problems, "its last calls:", *shown[-_SHOWN_CALLS:], "what was left:", *left])
