"""Stores with 10,000 records: whether what was kept makes opening, recovering or adding any dearer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import fsstate
from tests.benchmarks.interleave import Room, Setup, Side, each
from tests.benchmarks.ours import store

Document: TypeAlias = dict[str, Any]

SESSIONS: Final = 50
FULL: Final = 200
IN_FLIGHT: Final = 100
# So many additions go to one place before the next one is made ready.
FEW: Final = 10
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
# None is in flight: nobody would end it, and each would be looked at again by every addition.
_ENDED: Final[Document] = {"command": "pytest -q", "status": "complete", "started_at": datetime(2026, 6, 1, tzinfo=UTC)}
_FAST: Final = fsstate.StoreOptions(durability="process")

# -- the 10,000 runs


def run(number: int, session: str, status: str = "complete") -> tuple[str, Document]:
    """A run as it stands in its file."""
    at = [(_BEGIN + timedelta(seconds=number + n)).isoformat().replace("+00:00", "Z") for n in range(2)]
    document: Document = {"id": f"r{number:05}", "session_id": session, "task": "test", "command": "pytest -q"}
    document |= {"status": status, "stdout_tail": "x" * 200, "created_at": at[0], "started_at": at[0]}
    if status == "running":
        return f"r{number:05}", {**document, "held_by": "0198c3f0-0000-7000-8000-000000000000", "updated_at": at[0]}
    return f"r{number:05}", {**document, "completed_at": at[1], "updated_at": at[1], "duration_ms": 1000}


def fill(place: Path, category: str, documents: Mapping[str, Document]) -> None:
    """Put documents there without waiting for the disk."""
    with fsstate.Store(place, _FAST) as opened:
        opened.collection(category).put_many(documents)


def runs(session: str, count: int, first: int = 0) -> dict[str, Document]:
    return dict(run(first + n, session) for n in range(count))


def ten_thousand_runs(room: Room, place: Path) -> Path:
    """A store with as many sessions as have 200 runs each; made once."""
    if not place.exists():
        for number in range(room.size(SESSIONS)):
            fill(place, f"runs/s{number}", runs(f"s{number}", FULL, first=number * FULL))
    return place


def orphans(room: Room) -> Callable[[], None]:
    """Makes some runs of each session look as their program's death left them. Outside of any timing."""
    count = room.size(SESSIONS)
    chosen = [(f"s{n % count}", FULL * (n % count) + n // count) for n in range(IN_FLIGHT)]

    def spoil() -> None:
        with fsstate.Store(shared_runs(room), _FAST) as opened:
            for session, number in chosen:
                name, document = run(number, session, "running")
                opened.collection(f"runs/{session}").put(name, document)

    return spoil


def shared_runs(room: Room) -> Path:
    return ten_thousand_runs(room, room.shared / "runs")


def open_and_recover(room: Room) -> Side:
    """Open the store and settle the 100 in flight, which are put there again before each time."""
    place, spoil = shared_runs(room), orphans(room)

    def once() -> float:
        spoil()
        begin = time.perf_counter()
        with fsstate.Store(place, recover=True):
            return time.perf_counter() - begin

    return lambda times: sum(once() for _ in range(times))


def open_and_list(room: Room) -> Side:
    place = shared_runs(room)

    def once() -> None:
        with fsstate.Store(place) as opened:
            opened.runs.list()

    return each(once)


def open_runs(room: Room) -> Side:
    return opening(shared_runs(room))


def open_empty(room: Room) -> Side:
    place = room.directory / "state"
    fill(place, "docs", {"doc": {}})
    return opening(place)


def opening(place: Path) -> Side:
    def once() -> None:
        with fsstate.Store(place):
            pass

    return each(once)


# -- adding one more


def by_turns(places: Iterator[Callable[[], object]]) -> Side:
    """A side that adds a few times in one place, and then goes to the next. Making it ready is not timed."""

    def side(times: int) -> float:
        spent = 0.0
        for first in range(0, times, FEW):
            add = next(places)
            begin = time.perf_counter()
            for _ in range(min(FEW, times - first)):
                add()
            spent += time.perf_counter() - begin
        return spent

    return side


def add_run(before: int, *, among: bool = False) -> Setup:
    """Add runs to sessions that have so many already, alone or in a store with 10,000 others."""

    def setup(room: Room) -> Side:
        opened, place = store(room), room.directory / "state"
        if among:
            ten_thousand_runs(room, place)

        def places() -> Iterator[Callable[[], object]]:
            for number in itertools.count():
                session = f"new-{number}"
                fill(place, f"runs/{session}", runs(session, before))
                add = partial(opened.runs.start, "test", session_id=session, **_ENDED)
                # Looks at those that are there, once in a store's life.
                add()
                yield add

        return by_turns(places())

    return setup


def add_and_delete_run(room: Room) -> Side:
    """Add runs, and delete another for each, as a full session does by itself."""
    opened, place = store(room), room.directory / "state"

    def places() -> Iterator[Callable[[], object]]:
        for number in itertools.count():
            session = f"new-{number}"
            fill(place, f"runs/{session}", runs(session, 2 * FEW))
            old = iter(opened.runs.list(session_id=session, order_by="created_at"))

            def add(session: str = session, old: Iterator[fsstate.Run] = old) -> None:
                opened.runs.start("test", session_id=session, **_ENDED)
                opened.runs.delete(next(old).id, within=session)

            add()
            yield add

    return by_turns(places())


def save_checkpoint(before: int) -> Setup:
    """Save new checkpoints in a session that has so many; a new one each ten if it is to have few."""
    state = {"messages": ["x" * 200] * 5, "step": 3}

    def prepared(opened: fsstate.Store, count: int) -> fsstate.Checkpoints:
        one = opened.session(opened.sessions.create().id)
        one.checkpoints.save("first", state)
        document = {"state": state, "saved_at": "2026-01-01T12:00:00Z"}
        names = [f"c{n:05}" for n in range(count)]
        fill(Path(opened.path), f"sessions/{one.id}/checkpoints", dict.fromkeys(names, document))
        return one.checkpoints

    def setup(room: Room) -> Side:
        opened, names = store(room), itertools.count()
        if before > FEW:
            full = prepared(opened, room.size(before))
            return each(lambda: full.save(f"new-{next(names)}", state))

        def places() -> Iterator[Callable[[], object]]:
            while True:
                few = prepared(opened, before)
                yield lambda few=few: few.save(f"new-{next(names)}", state)  # type: ignore[misc]

        return by_turns(places())

    return setup


def add_job(before: int) -> Setup:
    """Queue a job beside so many others."""

    def setup(room: Room) -> Side:
        opened = store(room)
        opened.jobs.create("first")
        if before > FEW:
            document = {"name": "old", "status": "completed", "progress": 100, "completed_at": "2026-01-01T12:00:00Z"}
            fill(Path(opened.path), "jobs", {f"j{n:05}": document for n in range(room.size(before))})
        return each(lambda: opened.jobs.create("index"))

    return setup


def report_progress(history: int) -> Setup:
    """Report a job's progress when so much has happened to it before."""

    def setup(room: Room) -> Side:
        opened, percents = store(room), itertools.cycle(range(1, 100))

        def places() -> Iterator[Callable[[], object]]:
            while True:
                job = opened.jobs.create("index")
                opened.jobs.start(job.id)
                for _ in range(history):
                    opened.jobs.progress(job.id, next(percents))
                yield lambda job=job: opened.jobs.progress(job.id, next(percents))  # type: ignore[misc]

        if history > FEW:
            return each(next(places()))
        return by_turns(places())

    return setup
