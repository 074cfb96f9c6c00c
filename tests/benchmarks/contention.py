"""Many processes that change one record: what they get done together, and how long the unluckiest waits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.interleave import Room, Setup, Side

__all__ = ["throughput", "wait"]

_PROJECT: Final = Path(__file__).parents[2]
# Updates in a round, by all together: some turns for each.
_UPDATES: Final = 800

# Told a number, it makes so many updates, and tells how long each took.
_PROCESS: Final = """
import sys, time, fsstate
def count_up(document):
    document["n"] += 1
with fsstate.Store(sys.argv[1]) as opened:
    counters = opened.collection("counters")
    counters.update("one", count_up, default={"n": 0})
    print("[]", flush=True)
    for line in sys.stdin:
        moments = [time.perf_counter()]
        for _ in range(int(line)):
            counters.update("one", count_up)
            moments.append(time.perf_counter())
        print([after - before for before, after in zip(moments, moments[1:])], flush=True)
"""


class _Crowd:
    """Processes that wait to be told to change the same record."""

    def __init__(self, room: Room, count: int) -> None:
        pipe = subprocess.PIPE
        count = min(count, 2) if room.quick else count
        command = [sys.executable, "-c", _PROCESS, str(room.directory / "state")]
        self._processes = [
            room.stack.enter_context(subprocess.Popen(command, cwd=_PROJECT, stdin=pipe, stdout=pipe, text=True))
            for _ in range(count)
        ]
        for process in self._processes:
            self._answer(process)

    def run(self, updates: int) -> list[float]:
        """Let them make so many updates together; return how long each update took, its wait included."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(f"{updates // len(self._processes)}\n")
            process.stdin.flush()
        return [seconds for process in self._processes for seconds in self._answer(process)]

    def _answer(self, process: subprocess.Popen[str]) -> list[float]:
        assert process.stdout
        answer: list[float] = json.loads(process.stdout.readline())
        return answer


def throughput(count: int) -> Setup:
    """Make 800 updates of one record in so many processes."""

    def setup(room: Room) -> Side:
        crowd, updates = _Crowd(room, count), room.size(_UPDATES)

        def run(times: int) -> float:
            begin = time.perf_counter()
            for _ in range(times):
                crowd.run(updates)
            return time.perf_counter() - begin

        return run

    return setup


def wait(count: int, which: Callable[[Sequence[float]], float]) -> Setup:
    """How long one update of these took: the longest, or the median."""

    def setup(room: Room) -> Side:
        crowd, updates = _Crowd(room, count), room.size(_UPDATES)
        return lambda times: sum(which(crowd.run(updates)) for _ in range(times))

    return setup
