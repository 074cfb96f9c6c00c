"""Records, recovery, migrations, sessions, workflows, imports, repairs, conflicts and git, killed after their changes.

Each scene (`scenes`, `mending`) is killed at its steps, and has its power cut; what is left is read, gone on from, and
judged (`trials`). That the judge sees what it should is shown by planted mistakes (`plants`).
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.crash.recordings import SEED
from tests.crash.tally import CrashTally
from tests.crash.trials import ALL_SCENES, Order, Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

HANDS: Final = min(4, os.cpu_count() or 1)
# Kills and power cuts of each scene, and kills with power cuts in what follows. A few rounds of the soak kill after
# each change.
KILLS: Final = 2
CUTS: Final = 2
TWICE: Final = 1
MANY: Final = 30
# They break what every write relies on; each is found in the first scene.
PLANTED: Final = ("no_data_flush", "no_directory_flush", "in_place")
PATIENCE: Final = 240


class Hand:
    """A process that carries out orders."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def order(self, order: Order) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(tuple(order)))
        self._process.stdin.flush()

    def verdict(self) -> Verdict:
        """What came of the order."""
        assert self._process.stdout is not None
        # What never ends is ended.
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            return Verdict(*pickle.load(self._process.stdout))  # noqa: S301 - our own child
        except EOFError:
            assert self._process.stderr is not None
            raise AssertionError(self._process.stderr.read().decode()) from None
        finally:
            watch.cancel()
            watch.join()


@contextmanager
def hands(memory: Path, count: int) -> Generator[list[Hand]]:
    """Some processes that carry out orders, for the length of a block."""
    project, pipe = Path(__file__).parents[2], subprocess.PIPE
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.crash.trials", str(memory / str(number))],
            cwd=project, stdin=pipe, stdout=pipe, stderr=pipe,
        )
        for number in range(count)
    ]  # fmt: skip
    try:
        yield [Hand(process) for process in started]
    finally:
        for process in started:
            # No more orders: they end.
            process.communicate()


@pytest.fixture(scope="module")
def hand(memory: Path) -> Iterator[Hand]:
    """What carries out the orders of the tests here, one after the other."""
    with hands(memory / "one", 1) as (hand,):
        yield hand


def require_sound(verdicts: Sequence[Verdict], tally: CrashTally) -> None:
    for verdict in verdicts:
        tally.kills += verdict.kills
        tally.tried += verdict.kills + verdict.cuts
        tally.distinct += verdict.distinct
    failures = [failure for verdict in verdicts for failure in verdict.failures]
    assert not failures, f"{len(failures)} fail; the first:\n{failures[0]}"


@pytest.mark.parametrize("scene", ALL_SCENES)
def test_a_kill_after_a_change_and_a_power_cut_keep_all_promises(scene: str, hand: Hand, tally: CrashTally) -> None:
    hand.order(Order(scene, 0, 1, SEED, CUTS, TWICE, kills=KILLS))
    verdict = hand.verdict()
    require_sound([verdict], tally)
    assert verdict.kills > 1


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_mistake_is_found(plant: str, hand: Hand, tally: CrashTally) -> None:
    tally.planted += 1
    hand.order(Order("records", 0, 1, SEED, 30 * CUTS, plant=plant))
    assert hand.verdict().failures


@pytest.mark.soak
def test_every_flush_and_many_more_power_cuts(memory: Path, soak_seconds: float, tally: CrashTally) -> None:
    """Each round has other random choices; the last scene begins before the time is up."""
    stop = time.monotonic() + soak_seconds
    with hands(memory / "soak", HANDS) as several:
        for seed in itertools.count(1):
            for scene in random.Random(seed).sample([*ALL_SCENES], len(ALL_SCENES)):
                for number, hand in enumerate(several):
                    hand.order(Order(scene, number, HANDS, seed, MANY, twice=2, flushes=True, kills=MANY // HANDS))
                require_sound([hand.verdict() for hand in several], tally)
                if time.monotonic() > stop:
                    return
