"""No state that a power cut may leave loses an acknowledged write, shows half of one, or needs a person to go on.

The workloads really run and their calls are recorded (`recorder`, `workloads`, `sessions`); models of a disk tell what
a cut after each call may leave (`model`); a fresh store opens it and is judged (`checker`). That the checker sees what
it should is shown by planted mistakes (`test_planted_mistakes`).
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.crash.model import Budget, Posix, Tree
from tests.crash.recordings import ALL, SEED, Checker, Recordings, Trace, disk_of, is_quiet, recording
from tests.crash.tally import CrashTally
from tests.crash.workloads import WORKLOADS, Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

FEW: Final = Budget(names=4, data=3, total=2, points=0.12)
FEWER: Final = Budget(names=3, data=2, total=2, points=0.04)
SOME: Final = Budget(names=6, data=6, total=10)
MANY: Final = Budget(names=48, data=32, total=200)
# Of programs that were killed, in the fast test; the soak looks at each.
KILLS: Final = 2
PLAIN: Final = [name for name, workload in ALL.items() if not workload.kills]
KILLED: Final = [name for name, workload in ALL.items() if workload.kills]
RECORDERS: Final = min(4, os.cpu_count() or 1)


@pytest.fixture(scope="module")
def recordings(memory: Path) -> Iterator[Recordings]:
    """Records what a test asks for."""
    with recording(memory / "recordings") as recordings:
        yield recordings


def require_sound(checker: Checker, tally: CrashTally) -> None:
    tally.tried += checker.tried
    tally.distinct += checker.distinct
    assert not checker.failures, f"{len(checker.failures)} traces fail; the first:\n{checker.failures[0]}"


@pytest.mark.parametrize("name", ALL)
def test_what_a_power_cut_leaves_keeps_all_promises(
    name: str, recordings: Recordings, place: Path, tally: CrashTally
) -> None:
    checker = Checker(place, FEWER if ALL[name].kills else FEW, SEED)
    for trace in recordings.killed(name, KILLS) if ALL[name].kills else [recordings.whole(name)]:
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


def check_second_cuts(
    recordings: Recordings, checker: Checker, count: int, seed: int, most: int = len(WORKLOADS)
) -> None:
    names = [name for name in PLAIN if name in WORKLOADS]
    names = random.Random(seed).sample(names, min(most, len(names)))
    left = some_states([recordings.whole(name) for name in names], count, seed)
    for trace in recordings.of([job for job, _ in left], [tree for _, tree in left]):
        checker.check(trace)


def test_a_second_power_cut_keeps_all_promises(recordings: Recordings, place: Path, tally: CrashTally) -> None:
    checker = Checker(place, FEWER, SEED)
    check_second_cuts(recordings, checker, 1, SEED, most=8)
    require_sound(checker, tally)


@pytest.mark.soak
@pytest.mark.parametrize("names", [PLAIN, KILLED], ids=["plain", "killed"])
def test_many_more_states(
    names: Sequence[str], memory: Path, place: Path, soak_seconds: float, tally: CrashTally
) -> None:
    """Each round has other random choices; the last one ends when the time is up."""
    with recording(memory / names[0], RECORDERS) as recordings:
        traces = [trace for name in names for trace in (recordings.whole(name), *recordings.killed(name))]
    stop = time.monotonic() + soak_seconds
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
        check_second_cuts(recordings, checker, 4, seed)
        require_sound(checker, tally)
        if time.monotonic() > stop:
            return
