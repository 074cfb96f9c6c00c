"""Compares ways to do a thing by turns (A B, B A, A B …), since single rounds on a shared machine swing tenfold.

Each round times every side for a few milliseconds; the figure is the median over the rounds of what two of them give
together: a quotient ("ours is 3 times as fast") or a difference ("ours takes 20 ms more"). A median of quotients of
neighbours in time is steady where a quotient of averages is not. Which side begins is drawn from a seed.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

__all__ = [
    "ITS_TIME",
    "Figure",
    "Goal",
    "Room",
    "Row",
    "Setup",
    "Side",
    "Unavailable",
    "calls",
    "each",
    "measure",
    "orders",
    "play",
    "room_for",
]

# The unit of a row that tells the time of ours as a multiple of theirs.
ITS_TIME: Final = "× its time"
# A side that takes longer than this is warmed up no more than it must be.
_SLOW: Final = 0.2

# Does the thing that many times and says what that cost: seconds, or the unit of the row.
Side: TypeAlias = Callable[[int], float]


class Unavailable(Exception):  # noqa: N818 - no error: the row is left out, and says why
    """What a side measures is not there: a package is not installed, or this fsstate does not do it."""


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
    """One line of the table.

    `unit` "×" divides theirs by ours, and more is better. `ITS_TIME` divides ours by theirs, any other subtracts theirs
    from ours, and less is better.
    """

    name: str
    against: str
    goal: Goal | None
    ours: Setup
    theirs: Setup
    unit: str = "×"
    rounds: int | None = None

    @property
    def divides(self) -> bool:
        return self.unit in ("×", ITS_TIME)

    @property
    def rises(self) -> bool:
        """Whether more is better."""
        return self.unit == "×"

    def value(self, ours: float, theirs: float) -> float:
        """What the two sides of one round give together."""
        if self.divides:
            return theirs / ours if self.rises else ours / theirs
        return ours - theirs


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

    def meets(self, goal: float, *, rises: bool) -> bool:
        return self.value >= goal if rises else self.value <= goal


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
        setups = {"ours": row.ours, "theirs": row.theirs}
        sides = [
            setup(room_for(directory, f"{row.name} {row.against} {which}", quick, stack))
            for which, setup in setups.items()
        ]
        # A difference is of single calls; a quotient of as many as make a round long enough to time.
        times = [calls(side, target) if row.divides else 1 for side in sides]
        pairs = [play(sides, times, order) for order in orders(len(sides), rounds, seed)]
    values = sorted(row.value(ours, theirs) for ours, theirs in pairs)
    return Figure(
        value=statistics.median(values),
        low=values[len(values) // 4],
        high=values[-1 - len(values) // 4],
        ours=statistics.median(ours for ours, _ in pairs),
        theirs=statistics.median(theirs for _, theirs in pairs),
        rounds=rounds,
        details={"calls_ours": times[0], "calls_theirs": times[1]},
    )


def room_for(directory: Path, words: str, quick: bool, stack: contextlib.ExitStack) -> Room:
    """A side's own room, in a folder that its words name, beside the folder that all share."""
    own = directory / "".join(c if c.isalnum() else "-" for c in words)
    own.mkdir()
    shared = directory / "shared"
    shared.mkdir(exist_ok=True)
    return Room(own, shared, quick, stack)


def calls(side: Side, target: float) -> int:
    """How many calls take about `target` seconds; warms the side up on the way."""
    side(1)
    once = side(1)
    if once < _SLOW:
        once = min(once, side(1))
    return max(1, min(2000, round(target / max(once, 1e-9))))


def orders(sides: int, rounds: int, seed: int) -> Iterator[Sequence[int]]:
    """The order of the sides in each round."""
    chance = random.Random(seed)
    for _ in range(rounds):
        yield chance.sample(range(sides), sides)


def play(sides: Sequence[Side], times: Sequence[int], order: Sequence[int]) -> list[float]:
    """One round: what a call of each side costs. A side that is not in the order costs NaN."""
    costs = [math.nan] * len(sides)
    with _no_collection():
        for which in order:
            costs[which] = sides[which](times[which]) / times[which]
    return costs


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A collection would hit whichever side happens to run."""
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
