"""System calls fail in turn, in whatever a store does for its callers: what these are told is true, and it works on.

`deeds` has all steps, `trials` tries one fault and judges it, `shim.c` makes the call fail, `worker` is the process in
which that happens. FSSTATE_FAULT_SEED chooses other faults; a failure names the step and the fault.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.deeds import DEEDS, GROUPS
from tests.faults.injecting import build
from tests.faults.plants import PLANTS
from tests.faults.program import Program
from tests.faults.tally import FaultTally

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and preloads a library"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

SEED = int(os.environ.get("FSSTATE_FAULT_SEED", "1"))
FEW = 8
MANY = 40
NEEDS_GIT = {"take a snapshot", "restore a version", "restore a session's version"}


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[FaultTally]:
    tally = FaultTally()
    yield tally
    tally.add_to(request.node)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def program(shim: Path) -> Iterator[Program]:
    # In memory, where there is such a place: no power goes, and disks take most of the time.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of its own is made there
    with TemporaryDirectory(dir=memory) as place, Program(shim, Path(place)) as program:
        yield program


def possible_here() -> list[str]:
    return [deed for deed in DEEDS if deed not in NEEDS_GIT or shutil.which("git")]


@pytest.mark.parametrize("deed", possible_here())
def test_what_is_told_is_true_whatever_fails(program: Program, tally: FaultTally, deed: str) -> None:
    wrong = program.try_faults(deed, FEW, SEED, tally)
    assert not wrong, "\n".join(wrong)
    assert tally.tried > 0


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_mistakes_are_found(program: Program, plant: str) -> None:
    tally = FaultTally()
    assert program.try_faults(plant, 40, SEED, tally)


@pytest.mark.soak
@pytest.mark.parametrize("group", GROUPS)
def test_many_faults(program: Program, tally: FaultTally, soak_seconds: float, group: str) -> None:
    ends = time.monotonic() + soak_seconds
    wrong: list[str] = []
    for seed in itertools.count(SEED + 1):
        for deed in filter(GROUPS[group].get, possible_here()):
            left = ends - time.monotonic()
            if left > 0:
                wrong += program.try_faults(deed, MANY, seed, tally, left)
        if ends < time.monotonic():
            break
    assert not wrong, f"{len(wrong)} things are wrong: " + "\n".join(wrong[:20])
