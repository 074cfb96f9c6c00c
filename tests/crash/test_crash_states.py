"""No state that a power cut may leave loses an acknowledged write, shows half of one, or needs a person to go on.

The workloads really run and their calls are recorded (`recorder`, `workloads`, `sessions`); models of a disk tell what
a cut after each call may leave (`model`); a fresh store opens it and is judged (`checker`). That the checker sees what
it should is shown by planted mistakes (`plants`).
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from fsstate.backends.base import Ref
from tests.crash.checker import Findings, History, as_promised, judge, look
from tests.crash.model import Budget, Disk, Model, Ordered, Posix, Tree
from tests.crash.plants import PLANTS
from tests.crash.recorder import Call, is_change, read_trace
from tests.crash.sessions import SESSION_WORKLOADS, Scene, judge_sessions, look_at_sessions
from tests.crash.tally import CrashTally
from tests.crash.workloads import WORKLOADS, Job, Workload

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

MODELS: Final[tuple[type[Model], ...]] = (Posix, Ordered)
FEW: Final = Budget(names=4, data=3, total=4)
FEWER: Final = Budget(names=3, data=2, total=2, points=0.25)
SOME: Final = Budget(names=6, data=6, total=10)
MANY: Final = Budget(names=48, data=32, total=200)
# Of programs that were killed, in the fast test; the soak looks at each.
STRIDE: Final = 4
SEED: Final = 2014
RECORDERS: Final = min(4, os.cpu_count() or 1)
MEMORY: Final = "/dev/shm"  # noqa: S108 - a directory of its own is made in it
ALL: Final[dict[str, Workload]] = {**WORKLOADS, **SESSION_WORKLOADS}
PLAIN: Final = [name for name, workload in ALL.items() if not workload.kills]
KILLED: Final = [name for name, workload in ALL.items() if workload.kills]
# Together they meet every planted mistake.
REVEALING: Final = ("new store", "documents", "old log", "log with a torn tail")
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


class Recordings(NamedTuple):
    """All traces: of the workloads, with those of their children killed, and with mistakes planted."""

    sound: dict[str, list[Trace]]
    planted: dict[str, list[Trace]]


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)


@pytest.fixture
def place(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where states are built. The library's warnings about them are not shown."""
    monkeypatch.setattr(logging.getLogger("fsstate"), "disabled", True)
    return memory / "states"


@pytest.fixture(scope="module")
def recordings(memory: Path) -> Recordings:
    """What all tests here look at."""
    whole = record(memory / "whole", [Job(name) for name in ALL])
    kills = [Job(one.job.workload, n) for one in whole if ALL[one.job.workload].kills for n in range(1, one.kills + 1)]
    sound: dict[str, list[Trace]] = {name: [] for name in ALL}
    for trace in (*whole, *record(memory / "killed", kills)):
        sound[trace.job.workload].append(trace)
    planted: dict[str, list[Trace]] = {plant: [] for plant in PLANTS}
    for trace in record(memory / "planted", [Job(name, 0, plant) for plant in PLANTS for name in REVEALING]):
        planted[trace.job.plant].append(trace)
    return Recordings(sound, planted)


def record(directory: Path, jobs: Sequence[Job], before: Sequence[Tree] = ()) -> list[Trace]:
    """Run the jobs, in a few processes that fork for each."""
    directory.mkdir()
    for number, tree in enumerate(before):
        (directory / f"{number}.tree").write_bytes(pickle.dumps(tree))
    arguments = [f"{number}:{job.workload}:{job.kill}:{job.plant}" for number, job in enumerate(jobs)]
    command = [sys.executable, "-m", "tests.crash", str(directory)]
    project = Path(__file__).parents[2]
    started = [
        subprocess.Popen([*command, *arguments[n::RECORDERS]], cwd=project, stderr=subprocess.DEVNULL)
        for n in range(RECORDERS)
    ]
    assert not any(process.wait() for process in started)
    return [
        Trace(job, list(read_trace(directory / f"{number}.trace")), directory / f"{number}.base", tree)
        for number, (job, tree) in enumerate(itertools.zip_longest(jobs, before))
    ]


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
        for kind in MODELS:
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


def require_sound(checker: Checker, tally: CrashTally) -> None:
    tally.tried += checker.tried
    tally.distinct += checker.distinct
    assert not checker.failures, f"{len(checker.failures)} traces fail; the first:\n{checker.failures[0]}"


@pytest.mark.parametrize("name", ALL)
def test_what_a_power_cut_leaves_keeps_all_promises(
    name: str, recordings: Recordings, place: Path, tally: CrashTally
) -> None:
    checker = Checker(place, FEWER if ALL[name].kills else FEW, SEED)
    for trace in recordings.sound[name][::STRIDE]:
        checker.check(trace)
    require_sound(checker, tally)


def some_states(traces: Sequence[Trace], count: int, seed: int) -> list[tuple[Job, Tree]]:
    """States that a power cut may leave, of all traces, chosen at random."""
    found = []
    chance = random.Random(seed)
    for trace in traces:
        model = Posix(disk_of(trace), is_quiet, SOME, chance)
        for point in chance.sample(points := list(model.points()), min(count, len(points))):
            found.append((trace.job, chance.choice(model.states(point))))
    return found


def check_second_cuts(recordings: Recordings, place: Path, checker: Checker, count: int, seed: int) -> None:
    names = [name for name in PLAIN if name in WORKLOADS]
    left = some_states([trace for name in names for trace in recordings.sound[name]], count, seed)
    for trace in record(place.with_name(f"again{seed}"), [job for job, _ in left], [tree for _, tree in left]):
        checker.check(trace)


def test_a_second_power_cut_keeps_all_promises(recordings: Recordings, place: Path, tally: CrashTally) -> None:
    checker = Checker(place, FEWER, SEED)
    check_second_cuts(recordings, place, checker, 2, SEED)
    require_sound(checker, tally)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_mistake_is_found(plant: str, recordings: Recordings, place: Path, tally: CrashTally) -> None:
    checker = Checker(place, SOME, SEED)
    for trace in recordings.planted[plant]:
        checker.check(trace)
    tally.planted += 1
    assert checker.failures


@pytest.mark.soak
@pytest.mark.parametrize("names", [PLAIN, KILLED], ids=["plain", "killed"])
def test_many_more_states(
    names: Sequence[str], recordings: Recordings, place: Path, soak_seconds: float, tally: CrashTally
) -> None:
    """Each round has other random choices; the last one ends when the time is up."""
    stop = time.monotonic() + soak_seconds
    traces = [trace for name in names for trace in recordings.sound[name]]
    for seed in itertools.count(SEED):
        for trace in random.Random(seed).sample(traces, len(traces)):
            checker = Checker(place, MANY, seed, stop)
            checker.check(trace)
            require_sound(checker, tally)
            if time.monotonic() > stop:
                return


@pytest.mark.soak
def test_many_second_power_cuts(recordings: Recordings, place: Path, soak_seconds: float, tally: CrashTally) -> None:
    stop = time.monotonic() + soak_seconds
    for seed in itertools.count(1):
        checker = Checker(place, SOME, seed, stop)
        check_second_cuts(recordings, place, checker, 4, seed)
        require_sound(checker, tally)
        if time.monotonic() > stop:
            return
