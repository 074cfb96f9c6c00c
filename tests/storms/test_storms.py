"""Many processes, threads and tasks work on the same records while some are killed; what they were told is judged.

`worker` is a program of the storm, `conductor` starts and kills them, `verdict` judges what they recorded by `checks`.
FSSTATE_STORM_SEED repeats the choices of a storm, though not what the system makes of them.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from fsstate import Store
from tests.git import needs_git
from tests.storms.conductor import Storm
from tests.storms.person import git
from tests.storms.scene import prepare
from tests.storms.tally import StormTally
from tests.storms.verdict import verdict, verdict_of_long, verdict_with_person

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


# The person is the first, who is never killed: nobody mends what an editor left half saved.
EDITED = ("person", "updates", "updates", "updates")
# What they do leaves nothing behind that grows.
STEADY = ("steady",)
SEED = int(os.environ.get("FSSTATE_STORM_SEED", "1"))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[StormTally]:
    """What a storm adds to."""
    tally = StormTally()
    yield tally
    tally.add_to(request.node)


def weather(storm: Storm, tally: StormTally) -> None:
    with Store(storm.root) as store:
        prepare(store)
    storm.rage()
    add(storm, tally)
    is_long = storm.styles == STEADY
    verdict_on = verdict_of_long if is_long else verdict
    judge(storm, verdict_on(storm.root, storm.operations, storm.survivor))


def weather_with_person(storm: Storm, tally: StormTally) -> None:
    with Store(storm.root) as store:
        prepare(store)
    git(storm.root, "init", "-q")
    git(storm.root, "add", ".")
    git(storm.root, "commit", "-q", "-m", "at first")
    storm.rage()
    add(storm, tally)
    saved = sum(each.does == "save" for each in storm.operations)
    assert saved > 0
    judge(storm, verdict_with_person(storm.root, storm.operations))


def add(storm: Storm, tally: StormTally) -> None:
    tally.operations += len(storm.operations)
    tally.unknown += sum(each.outcome == "unknown" for each in storm.operations)
    tally.forks += sum(each.does == "fork" for each in storm.operations)
    tally.kills += storm.kills
    tally.stops += storm.stops


def judge(storm: Storm, problems: Iterable[str]) -> None:
    wrong = list(problems)
    assert not wrong, f"seed {storm.seed}, {len(wrong)} wrong: {told(storm, wrong)}\n" + "\n".join(wrong[:10])


def told(storm: Storm, wrong: Sequence[str]) -> Path:
    """Write what is wrong into a file, before the whole history, record by record."""
    path = storm.root.with_suffix(".wrong")
    history = sorted(storm.operations, key=lambda each: (each.on, each.begun))
    path.write_text("\n".join([*wrong, "", *map(str, history), ""]), "utf-8", "surrogateescape")
    return path


def test_nothing_acknowledged_is_lost_in_a_storm(tmp_path: Path, tally: StormTally) -> None:
    weather(Storm(tmp_path / "state", SEED, seconds=2.0), tally)


@needs_git
def test_nothing_acknowledged_is_lost_where_a_person_edits(tmp_path: Path, tally: StormTally) -> None:
    storm = Storm(tmp_path / "state", SEED, seconds=0.8, programs=3, styles=EDITED)
    weather_with_person(storm, tally)


def seeds_for(seconds: float) -> Iterator[tuple[int, float]]:
    """One seed after the other until the time is up, each with the seconds that are left."""
    ends = time.monotonic() + seconds
    for seed in itertools.count(SEED + 1):
        left = ends - time.monotonic()
        if left < 1:
            break
        yield seed, left


@pytest.mark.soak
@needs_git
def test_many_storms_with_a_person(tmp_path: Path, soak_seconds: float, tally: StormTally) -> None:
    for seed, left in seeds_for(soak_seconds):
        storm = Storm(tmp_path / f"state-{seed}", seed, seconds=min(left, 10.0), styles=EDITED)
        weather_with_person(storm, tally)


@pytest.mark.soak
def test_many_storms(tmp_path: Path, soak_seconds: float, tally: StormTally) -> None:
    for seed, left in seeds_for(soak_seconds):
        weather(Storm(tmp_path / f"state-{seed}", seed, seconds=min(left, 15.0), programs=6, pause=0.3), tally)


@pytest.mark.soak
def test_a_program_that_goes_on_holds_no_more_than_before(
    tmp_path: Path, soak_seconds: float, tally: StormTally
) -> None:
    weather(Storm(tmp_path / "state", SEED, seconds=soak_seconds, pause=0.3, styles=STEADY), tally)
