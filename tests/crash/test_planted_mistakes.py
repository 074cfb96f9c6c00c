"""The checker of power cuts sees what it should: each mistake that stores really make, planted, is found (`plants`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.crash.model import Budget
from tests.crash.plants import PLANTS
from tests.crash.recordings import SEED, Checker, Recordings, recording
from tests.crash.tally import CrashTally
from tests.crash.workloads import Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

SOME: Final = Budget(names=6, data=6, total=10)
# Together they meet every planted mistake.
REVEALING: Final = ("new store", "documents", "old log", "log with a torn tail")


@pytest.fixture(scope="module")
def recordings(memory: Path) -> Iterator[Recordings]:
    """Records what a test asks for."""
    with recording(memory / "recordings") as recordings:
        yield recordings


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_mistake_is_found(plant: str, recordings: Recordings, place: Path, tally: CrashTally) -> None:
    tally.planted += 1
    assert any(finds(plant, workload, recordings, place) for workload in REVEALING)


def finds(plant: str, workload: str, recordings: Recordings, place: Path) -> bool:
    """Whether the checker finds a mistake in a workload."""
    checker = Checker(place, SOME, SEED)
    for trace in recordings.of([Job(workload, 0, plant)]):
        checker.check(trace)
    return bool(checker.failures)
