"""Records, recovery, migrations, sessions, workflows and imports, killed after every change that they make on the disk.

Each scene (`scenes`) is killed at each step, and has its power cut; what is left is read, gone on from, and judged
(`trials`). That the judge sees what it should is shown by planted mistakes (`plants`).
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.crash.scenes import SCENES
from tests.crash.tally import CrashTally
from tests.crash.test_crash_states import MEMORY, SEED
from tests.crash.trials import Order, Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

HANDS: Final = min(4, os.cpu_count() or 1)
# Of power cuts, in each scene and hand; and of kills with power cuts in what follows.
CUTS: Final = 20
TWICE: Final = 1
# In the fast test; the soak kills after each.
STRIDE: Final = 5
# They break what every write relies on; each is found in the first scene.
PLANTED: Final = ("no_data_flush", "no_directory_flush", "in_place")
PATIENCE: Final = 240


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def verdicts(memory: Path) -> dict[str, list[Verdict]]:
    """What comes of all scenes: after every fifth change, and in some power cuts."""
    return carry_out(memory / "all", SCENES, seed=SEED, cuts=CUTS // 2, twice=TWICE, stride=STRIDE)


def carry_out(
    memory: Path, scenes: Collection[str], *, seed: int, cuts: int, twice: int = 0,
    flushes: bool = False, plant: str = "", stride: int = 1,
) -> dict[str, list[Verdict]]:  # fmt: skip
    """Try the scenes, in a few processes that share the kills and cuts."""
    command = [sys.executable, "-m", "tests.crash.trials"]
    project = Path(__file__).parents[2]
    started: list[subprocess.Popen[bytes]] = []
    for hand in range(HANDS):
        orders = [tuple(Order(scene, hand, HANDS, seed, cuts, twice, flushes, plant, stride)) for scene in scenes]
        place = memory / str(hand)
        process = subprocess.Popen(
            [*command, str(place)], cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(orders))
        process.stdin.flush()
        started.append(process)
    try:
        told = [process.communicate(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
    assert not any(process.returncode for process in started), [error.decode() for _, error in told]
    each = [[Verdict(*verdict) for verdict in pickle.loads(output)] for output, _ in told]  # noqa: S301 - our own
    return dict(zip(scenes, map(list, zip(*each, strict=True)), strict=True))


def require_sound(verdicts: Sequence[Verdict], tally: CrashTally) -> None:
    for verdict in verdicts:
        tally.kills += verdict.kills
        tally.tried += verdict.kills + verdict.cuts
        tally.distinct += verdict.distinct
    failures = [failure for verdict in verdicts for failure in verdict.failures]
    assert not failures, f"{len(failures)} fail; the first:\n{failures[0]}"


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_after_a_change_and_a_power_cut_keep_all_promises(
    scene: str, verdicts: dict[str, list[Verdict]], tally: CrashTally
) -> None:
    require_sound(verdicts[scene], tally)
    assert sum(verdict.kills for verdict in verdicts[scene]) > 10 // STRIDE


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_mistake_is_found(plant: str, memory: Path, tally: CrashTally) -> None:
    found = carry_out(memory / plant, ["records"], seed=SEED, cuts=CUTS, plant=plant)
    tally.planted += 1
    assert any(verdict.failures for verdict in found["records"])


@pytest.mark.soak
def test_every_flush_and_many_more_power_cuts(memory: Path, soak_seconds: float, tally: CrashTally) -> None:
    """Each round has other random choices; the last scene begins before the time is up."""
    stop = time.monotonic() + soak_seconds
    for seed in itertools.count(1):
        for number, scene in enumerate(random.Random(seed).sample([*SCENES], len(SCENES))):
            place = memory / f"soak{seed}.{number}"
            found = carry_out(place, [scene], seed=seed, cuts=5 * CUTS, twice=4, flushes=True)
            require_sound(found[scene], tally)
            if time.monotonic() > stop:
                return
