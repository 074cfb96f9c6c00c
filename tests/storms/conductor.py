"""Starts programs on one store, kills some, stops some for a while, and sees all of them end."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.storms.history import Operation, read_history

__all__ = ["Storm"]

PROJECT: Final = Path(__file__).parents[2]
STYLES: Final = ("asyncio", "threads", "trio", "threads")
# Seconds that the programs may take to end after their time, on a busy machine.
PATIENCE: Final = 60.0
LONGEST_STOP: Final = 0.2
# Warnings that a storm gives a reason for: a program that is killed in the middle of a write, at the end of a page,
# leaves half a line, or what a person saved in that moment under its staged name; and a person saves twice while a
# program is about to put back what it got in exchange.
EXPECTED: Final = (
    "the line is incomplete: a crash during an append",
    "a writer was killed; what may have been saved there meanwhile is in",
    "several saves came in the same moment",
)


@dataclass
class Storm:
    """A storm over `root`, with the histories beside it. The first program survives; it is stopped, but never killed.

    Afterwards `operations` has what all did, and `survivor` is the process that was there all the time.
    """

    root: Path
    seed: int
    seconds: float
    programs: int = 4
    pause: float = 0.15
    styles: Sequence[str] = STYLES
    kills: int = 0
    stops: int = 0
    survivor: int = 0
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._numbers = itertools.count()
        self._deaths: dict[int, int] = {}
        self._ends = 0.0
        self._running: list[subprocess.Popen[bytes]] = []
        self._groups: list[int] = []

    def rage(self) -> None:
        """Let it all happen. Raises AssertionError when a program fails or does not end."""
        self._ends = time.monotonic() + self.seconds
        reading, writing = os.pipe()
        try:
            self._running = [self._start(writing, place) for place in range(self.programs)]
            self.survivor = self._running[0].pid
            while time.monotonic() < self._ends:
                time.sleep(self._chance.uniform(0.2, 1.8) * self.pause)
                self._disturb(writing)
            for program in self._running:
                self._see_end(program)
        finally:
            os.close(writing)
            for program in self._running:
                program.kill()
                program.wait()
            # Children of those killed hold the other end for as long as they live.
            ended, _, _ = select.select([reading], [], [], PATIENCE)
            os.close(reading)
            if not ended:
                self._clear_away()
        assert ended, f"a forked child of a program does not end: {''.join(self._complaints())}"
        self._gather()

    def _clear_away(self) -> None:
        """End the children that do not end by themselves; they print the stacks of their threads."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGABRT)

    def _disturb(self, writing: int) -> None:
        number = self._chance.randrange(self.programs)
        program = self._running[number]
        if number == 0 or self._chance.random() < 0.3:
            self.stops += 1
            program.send_signal(signal.SIGSTOP)
            time.sleep(self._chance.uniform(0, LONGEST_STOP))
            program.send_signal(signal.SIGCONT)
        else:
            self.kills += 1
            program.kill()
            program.wait()
            self._deaths[program.pid] = time.monotonic_ns()
            self._running[number] = self._start(writing, number)

    def _start(self, writing: int, place: int) -> subprocess.Popen[bytes]:
        number = next(self._numbers)
        history = self._histories / f"{number}.jsonl"
        style = self.styles[place % len(self.styles)]
        left = max(0.0, self._ends - time.monotonic())
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.storms.worker", self.root, history]
        with history.with_suffix(".err").open("wb") as errors:
            program = subprocess.Popen(
                [*map(str, command), str(self.seed * 1000 + number), style, str(left)],
                cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=writing, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self._groups.append(program.pid)
        return program

    def _see_end(self, program: subprocess.Popen[bytes]) -> None:
        try:
            status = program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # It prints the stacks of its threads.
            program.send_signal(signal.SIGABRT)
            status = program.wait()
        assert status == 0, f"a program ended with status {status}: {''.join(self._complaints())}"

    def _gather(self) -> None:
        complaints = list(self._complaints())
        assert not complaints, "\n".join(complaints)
        self.operations = read_history(self._histories.glob("*.jsonl"), self._deaths)
        last = time.monotonic_ns()
        for each in self.operations:
            # By now all are dead.
            each.ended = last if each.ended is None else each.ended

    def _complaints(self) -> Iterator[str]:
        """What the programs wrote to their standard error, but for what the storm gives a reason for."""
        for path in sorted(self._histories.glob("*.err")):
            lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
            text = "".join(line for line in lines if not any(each in line for each in EXPECTED))
            if text:
                yield f"{path.name}: {text[-4000:]}"

    @property
    def _histories(self) -> Path:
        path = self.root.with_suffix(".histories")
        path.mkdir(exist_ok=True)
        return path
