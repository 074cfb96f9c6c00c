"""Clocks that jump: nothing is lost, hidden, pruned or put in another order because of what a clock says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fsstate import PrunePolicy, Store, StoreOptions
from fsstate.times import format_time, parse_time

PROJECT = Path(__file__).parents[2]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    options = StoreOptions(durability="process", clock=clock, trash_ttl=timedelta(days=1))
    with Store(tmp_path / "state", options) if request.param == "files" else Store.in_memory(options) as store:
        yield store


JUMPS = (
    timedelta(days=4000),
    timedelta(days=-9000),
    timedelta(0),
    timedelta(microseconds=-1),
    timedelta(days=2_000_000),
)


def test_order_is_that_of_what_was_done(store: Store, clock: Clock) -> None:
    store.sessions.create(id="s")
    one, log = store.session("s"), store.journal("audit", "trail")
    for number, jump in enumerate(JUMPS):
        clock.now = NOON + jump
        one.messages.append("user", str(number))
        log.append("x", n=number)
        one.checkpoints.save(f"c{number}", number)
        assert (found := one.checkpoints.load()) is not None
        assert found.state == number
    assert [message.text for message in one.messages.list()] == list("01234")
    assert [entry["n"] for entry in log.read()] == [0, 1, 2, 3, 4]
    assert [entry.at for entry in log.read()] == [NOON + jump for jump in JUMPS]


def test_a_clock_that_was_set_back_prunes_nothing_for_its_age(store: Store, clock: Clock) -> None:
    for name in "abc":
        store.sessions.create(id=name)
        store.collection("agents").put(name, {"updated_at": format_time(NOON)})
        store.journal("audit", "trail").append(name)
    clock.now = NOON - timedelta(days=9999)
    policy = PrunePolicy(ttl=timedelta(seconds=1))
    for prunable in (store.sessions, store.collection("agents"), store.journal("audit", "trail")):
        assert prunable.prune(policy).pruned == []
    clock.now = NOON + timedelta(days=9999)
    assert len(store.sessions.prune(policy).pruned) == 3
    # What came to the trash in the future is of no age.
    clock.now = NOON
    assert store.trash.empty(older_than=timedelta(seconds=1)).emptied == []
    assert len(store.trash.restore("a", "b", "c")) == 3


def test_the_night_in_which_the_clocks_go_back(store: Store, clock: Clock) -> None:
    """Each of the two hours from two to three is another moment, whatever the zone's clock shows."""
    berlin = ZoneInfo("Europe/Berlin")
    store.sessions.create(id="s")
    moments = [datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1)]
    for moment in [*moments, datetime(2026, 3, 29, 2, 30, tzinfo=berlin)]:
        clock.now = moment
        store.journal("audit", "trail").append("x")
        store.sessions.update("s", lambda session: setattr(session, "title", f"{session.title}x"))
        assert store.sessions["s"].updated_at == moment.astimezone(UTC)
    first, second, third = (entry.at for entry in store.journal("audit", "trail").read())
    assert first is not None
    assert second is not None
    assert second - first == timedelta(hours=1)
    assert third == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.999999Z", "2017-01-01T00:59:60+01:00"])
def test_leap_seconds(store: Store, text: str) -> None:
    store.journal("audit", "trail").append("x", at=text)
    (entry,) = store.journal("audit", "trail").read()
    assert entry.at == parse_time(text)
    assert entry.at is not None
    assert entry.at.replace(microsecond=0) == datetime(2017, 1, 1, tzinfo=UTC)


def test_the_ends_of_time(store: Store, clock: Clock) -> None:
    clock.now = datetime.max.replace(tzinfo=UTC)
    store.sessions.create(id="last")
    clock.now = datetime.min.replace(tzinfo=UTC)
    store.sessions.create(id="first")
    assert [each.id for each in store.sessions.list(order_by="created_at")] == ["first", "last"]
    store.session("last").checkpoints.save("c", 1)
    clock.now = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(ValueError, match="outside the years"):
        store.sessions.create(id="beyond")
    assert "beyond" not in store.sessions


FAKED = """
import os, select, sys, fsstate
store = fsstate.Store(sys.argv[1])
agents = store.collection("agents", indexed=["n"])
path = os.path.join(sys.argv[1], "agents", "a.json")
for n in range(10, 16):
    agents.put("a", {"n": n})
    assert agents["a"] == {"n": n} and len(agents.query({"n": n})) == 1
    select.select([], [], [], 0.03)
    with open(path, "w") as file:
        file.write('{\\n  "n": %d\\n}\\n' % (n + 50))
    assert agents["a"] == {"n": n + 50}, n
    assert len(agents.query({"n": n + 50})) == 1, n
    assert agents.update("a", lambda agent: {**agent, "m": 1}) == {"n": n + 50, "m": 1}
    store.journal("audit", "trail").append("x")
with agents.edit("a") as agent:
    with open(path, "w") as file:
        file.write('{"other": 1}')
    agent["k"] = 2
assert agents["a"] == {"other": 1, "k": 2} or agents["a"]["k"] == 2
assert len(store.journal("audit", "trail")) == 6
"""


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")
@pytest.mark.parametrize("shift", ["-10y", "+10y", "-30d x50"])
def test_clocks_that_are_not_those_of_the_files(tmp_path: Path, shift: str) -> None:
    """The files' times come from the system, and the program's from a clock that goes wrong."""
    env = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "PYTHONPATH": str(PROJECT)}
    command = ["faketime", "-f", shift, sys.executable, "-c", FAKED, str(tmp_path / "state")]
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
