"""Stores with 100,000 sessions: lists, queries, pruning and search, beside the bare operations on the same files."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Final

import fsstate
from tests.benchmarks import population
from tests.benchmarks.interleave import Room, Setup, Side, Unavailable, each
from tests.benchmarks.ours import SETTLED, store
from tests.benchmarks.population import Document, crowd
from tests.benchmarks.raw import KB, documents, folder, interpreter, interpreter_memory

MANY: Final = 100_000
PAGE: Final = 50
_TALKS: Final = 1000

# What these print is the time behind the start and all imports, which looking at an empty store brings about.
_LIST: Final = """
import sys, time, fsstate
with fsstate.Store(sys.argv[1] + ".none") as nothing:
    nothing.sessions.list(limit=50)
begin = time.perf_counter()
with fsstate.Store(sys.argv[1]) as opened:
    opened.sessions.list(limit=50)
    print(time.perf_counter() - begin)
"""
_SCAN: Final = """
import sys, time
from tests.benchmarks.crowds import scan
begin = time.perf_counter()
scan(sys.argv[1] + "/sessions", below=sys.argv[1].endswith("talks"))
print(time.perf_counter() - begin)
"""
_MEMORY: Final = "import sys, fsstate; fsstate.Store(sys.argv[1]).sessions.list(limit=50)"

# -- the first page


def page(*, talk: bool = False) -> Setup:
    """List the 50 sessions that were active last, in a program that has done so before."""

    def setup(room: Room) -> Side:
        opened = room.stack.enter_context(fsstate.Store(crowd(room, MANY, talk=talk)))
        time.sleep(SETTLED)
        return each(lambda: opened.sessions.list(limit=PAGE))

    return setup


def bare_scan(*, talk: bool = False) -> Setup:
    """Look at each of the files: scandir and stat."""

    def setup(room: Room) -> Side:
        place = str(crowd(room, MANY, talk=talk) / "sessions")
        return each(lambda: scan(place, below=talk))

    return setup


def scan(place: str, *, below: bool) -> int:
    """Stat every file of a folder, and with `below` those in its folders; return how many there are."""
    found = 0
    with os.scandir(place) as entries:
        for entry in entries:
            if below and entry.is_dir(follow_symlinks=False):
                found += scan(entry.path, below=False)
            else:
                entry.stat(follow_symlinks=False)
                found += 1
    return found


def cold_page(*, talk: bool = False) -> Setup:
    """The same page in a fresh interpreter, without its start and imports."""

    def setup(room: Room) -> Side:
        place = crowd(room, MANY, talk=talk)
        time.sleep(SETTLED)
        # Whatever fsstate remembers on disk is there from now on.
        with fsstate.Store(place) as opened:
            opened.sessions.list(limit=PAGE)
        return _printed(_LIST, place)

    return setup


def cold_scan(*, talk: bool = False) -> Setup:
    return lambda room: _printed(_SCAN, crowd(room, MANY, talk=talk))


def _printed(code: str, place: Path) -> Side:
    """A side that takes the seconds which a fresh interpreter prints."""
    return lambda times: sum(float(interpreter(code, str(place))) for _ in range(times))


# -- a query


def query(room: Room) -> Side:
    """Query one page of a collection's documents by an indexed field."""
    opened = room.stack.enter_context(fsstate.Store(crowd(room, MANY)))
    collection = indexed(opened, "sessions", ("status", "updated_at"))
    time.sleep(SETTLED)
    return each(lambda: collection.query(where={"status": "idle"}, order_by="-updated_at", limit=PAGE))


def indexed(opened: fsstate.Store, category: str, fields: tuple[str, ...]) -> Any:
    """A collection with an index over these fields."""
    if "indexed" not in signature(opened.collection).parameters:
        raise Unavailable("this fsstate has no indexed collections")
    anything: Any = opened
    return anything.collection(category, indexed=fields)


def save_indexed(room: Room) -> Side:
    """Save one of 1,000 documents whose collection is indexed and has been queried."""
    collection = indexed(store(room), "docs", ("status", "model"))
    return _saving(room, collection, lambda: collection.query(where={"status": "idle"}, limit=1))


def save_plain(room: Room) -> Side:
    return _saving(room, store(room).collection("docs"), lambda: None)


def _saving(room: Room, collection: Any, begin: Callable[[], object]) -> Side:
    values = documents(2 * KB)
    collection.put_many({f"d{n}": next(values) for n in range(population.size(room, 1000))})
    begin()
    return each(lambda: collection.put("d7", next(values)))


# -- pruning


def prune(*, talk: bool = False) -> Setup:
    """Prune 1 % of the sessions. They are put back, and the store has seen that, before the next time."""

    def setup(room: Room) -> Side:
        opened = room.stack.enter_context(fsstate.Store(crowd(room, MANY, talk=talk)))
        gone = population.expired(population.size(room, MANY))

        def once() -> float:
            time.sleep(SETTLED)
            opened.sessions.list(limit=1)
            begin = time.perf_counter()
            report = prune_older(opened, population.expiry(population.size(room, MANY)))
            spent = time.perf_counter() - begin
            _put_back(room, gone, talk)
            assert len(report.pruned) == len(gone)
            return spent

        return lambda times: sum(once() for _ in range(times))

    return setup


def prune_older(opened: fsstate.Store, expiry: datetime) -> fsstate.PruneReport:
    """Prune for good, not into a trash, what was last active before then."""
    policy = fsstate.PrunePolicy(ttl=datetime.now(UTC) - expiry)
    anything: Any = opened.sessions
    forever = {"trash": False} if "trash" in signature(opened.sessions.prune).parameters else {}
    report: fsstate.PruneReport = anything.prune(policy, **forever)
    return report


def bare_prune(*, talk: bool = False) -> Setup:
    """Unlink the files of 1 % of the sessions, after one scan of all, and flush the folder."""

    def setup(room: Room) -> Side:
        place = crowd(room, MANY, talk=talk) / "sessions"
        fd = folder(room, place)
        gone = population.expired(population.size(room, MANY))

        def once() -> float:
            begin = time.perf_counter()
            scan(str(place), below=talk)
            for name in gone:
                _unlink(fd, name, talk)
            os.fsync(fd)
            spent = time.perf_counter() - begin
            _put_back(room, gone, talk)
            return spent

        return lambda times: sum(once() for _ in range(times))

    return setup


def _unlink(fd: int, name: str, talk: bool) -> None:
    os.unlink(f"{name}.json", dir_fd=fd)
    if talk:
        os.unlink(f"{name}/messages.jsonl", dir_fd=fd)
        os.rmdir(name, dir_fd=fd)


def _put_back(room: Room, gone: Mapping[str, Document], talk: bool) -> None:
    population.write(crowd(room, MANY, talk=talk) / "sessions", gone.items(), talk=talk)


# -- memory


def list_memory(room: Room) -> Side:
    """Megabytes that a fresh interpreter holds at its peak which lists the first page."""
    return interpreter_memory(_MEMORY, partial(crowd, full=MANY))(room)


def prune_memory(room: Room) -> Side:
    """The same of one that prunes 1 %."""
    count = population.size(room, MANY)
    expiry = population.expiry(count)
    code = "import sys, fsstate; from datetime import datetime; from tests.benchmarks.crowds import prune_older; "
    code += f"prune_older(fsstate.Store(sys.argv[1]), datetime.fromisoformat('{expiry.isoformat()}'))"
    side, gone = interpreter_memory(code, partial(crowd, full=MANY))(room), population.expired(count)

    def once() -> float:
        peak = side(1)
        _put_back(room, gone, talk=False)
        return peak

    return lambda times: sum(once() for _ in range(times))


# -- search


def talks(room: Room) -> Path:
    """A store with 100,000 messages in 1,000 sessions, made once."""
    place = room.shared / "messages"
    if not place.exists():
        count = population.size(room, _TALKS)
        texts = population.messages()
        population.write(place / "sessions", population.sessions(count).items())
        for name, document in population.sessions(count).items():
            population.write_messages(
                place / "sessions", name, itertools.islice(texts, MANY // _TALKS), document["updated_at"]
            )
    return place


def search(room: Room) -> Side:
    """The first ten hits for two words among 100,000 messages."""
    if not hasattr(fsstate.Store, "search"):
        raise Unavailable("this fsstate has no search")
    opened: Any = room.stack.enter_context(fsstate.Store(talks(room)))
    words = population.queries()
    return each(lambda: opened.search(next(words), limit=10))


def bare_search(room: Room) -> Side:
    """The same of an FTS5 table with the same texts, ranked."""
    connection = room.stack.enter_context(closing(full_text(room.directory / "texts.db", population.size(room, MANY))))
    words = population.queries()
    return each(lambda: connection.execute(FIND, (next(words),)).fetchall())


FIND: Final = "SELECT rowid, text FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT 10"


def full_text(path: Path, count: int) -> sqlite3.Connection:
    """A database with an FTS5 table of so many messages."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    try:
        connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text)")
    except sqlite3.OperationalError as error:
        connection.close()
        raise Unavailable(f"this sqlite3 has no FTS5: {error}") from error
    connection.execute("BEGIN")
    rows = ((text,) for text in itertools.islice(population.messages(), count))
    connection.executemany("INSERT INTO texts VALUES (?)", rows)
    connection.execute("COMMIT")
    return connection
