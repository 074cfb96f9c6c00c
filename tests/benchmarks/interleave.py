"""Compares two ways to do a thing by turns (A B, B A, A B …), since single rounds on a shared machine swing tenfold.

Each round times both sides for a few milliseconds; the figure is the median over the rounds of what the two give
together: a quotient ("ours is 3 times as fast") or a difference ("ours takes 20 ms more"). A median of quotients of
neighbours in time is steady where a quotient of averages is not. Which side begins is drawn from a seed.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

__all__ = ["Figure", "Goal", "Room", "Row", "Setup", "Side", "each", "measure"]

# Does the thing that many times and says what that cost: seconds, or the unit of the row.
Side: TypeAlias = Callable[[int], float]


@dataclass
class Room:
    """Where one side works: an empty folder of its own, and a stack that closes what it opened."""

    directory: Path
    shared: Path
    quick: bool
    stack: contextlib.ExitStack

    def size(self, full: int) -> int:
        """How much of something to make ready: less in a quick run, whose figures mean nothing."""
        return max(full // 20, 1) if self.quick else full


Setup: TypeAlias = Callable[[Room], Side]


@dataclass(frozen=True)
class Goal:
    """What a figure should come to, on a file system without a journal and with one."""

    plain: float
    journaled: float | None = None

    def on(self, journaled: bool) -> float:
        return self.journaled if journaled and self.journaled is not None else self.plain


@dataclass(frozen=True)
class Row:
    """One line of the table. `unit` "×" divides theirs by ours, more is better; any other subtracts, less is better."""

    name: str
    against: str
    goal: Goal | None
    ours: Setup
    theirs: Setup
    unit: str = "×"
    rounds: int | None = None

    @property
    def divides(self) -> bool:
        return self.unit == "×"


@dataclass(frozen=True)
class Figure:
    """What was measured: the median, the quartiles around it, and each side's own median per call."""

    value: float
    low: float
    high: float
    ours: float
    theirs: float
    rounds: int
    details: dict[str, int] = field(default_factory=dict)

    def meets(self, goal: float, *, divides: bool) -> bool:
        return self.value >= goal if divides else self.value <= goal


def each(once: Callable[[], object]) -> Side:
    """A side that times `once` in a plain loop."""

    def run(times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            once()
        return time.perf_counter() - begin

    return run


def measure(row: Row, directory: Path, *, rounds: int, seed: int, quick: bool, target: float = 0.002) -> Figure:
    """Measure one row in subfolders of `directory`. `target` is how long a side should take in a round, in seconds."""
    rounds = min(rounds, row.rounds or rounds)
    with contextlib.ExitStack() as stack:
        sides = [setup(_room(directory, row, which, quick, stack)) for which, setup in _setups(row)]
        # A difference is of single calls; a quotient of as many as make a round long enough to time.
        times = [_calls(side, target) if row.divides else 1 for side in sides]
        pairs = [_round(sides, times, order) for order in _orders(rounds, seed)]
    values = sorted(theirs / ours if row.divides else ours - theirs for ours, theirs in pairs)
    return Figure(
        value=statistics.median(values),
        low=values[len(values) // 4],
        high=values[-1 - len(values) // 4],
        ours=statistics.median(ours for ours, _ in pairs),
        theirs=statistics.median(theirs for _, theirs in pairs),
        rounds=rounds,
        details={"calls_ours": times[0], "calls_theirs": times[1]},
    )


def _setups(row: Row) -> Iterator[tuple[str, Setup]]:
    yield "ours", row.ours
    yield "theirs", row.theirs


def _room(directory: Path, row: Row, which: str, quick: bool, stack: contextlib.ExitStack) -> Room:
    own = directory / "".join(c if c.isalnum() else "-" for c in f"{row.name} {row.against} {which}")
    own.mkdir()
    shared = directory / "shared"
    shared.mkdir(exist_ok=True)
    return Room(own, shared, quick, stack)


def _calls(side: Side, target: float) -> int:
    """How many calls take about `target` seconds; warms the side up on the way."""
    once = min(side(1) for _ in range(3))
    return max(1, min(2000, round(target / max(once, 1e-9))))


def _orders(rounds: int, seed: int) -> Iterator[tuple[int, int]]:
    chance = random.Random(seed)
    for _ in range(rounds):
        yield (0, 1) if chance.random() < 0.5 else (1, 0)


def _round(sides: list[Side], times: list[int], order: tuple[int, int]) -> tuple[float, float]:
    costs = [0.0, 0.0]
    with _no_collection():
        for which in order:
            costs[which] = sides[which](times[which]) / times[which]
    return costs[0], costs[1]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A collection would hit whichever side happens to run."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
