"""The sides of fsstate: what its users type, and nothing from beneath it where that can be helped."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import anyio.from_thread

import fsstate
from tests.benchmarks.interleave import Room, Setup, Side, each
from tests.benchmarks.raw import KB, TASKS, document, documents, tasks, text

# Until then a file that was just written may change without showing it, and is read again each time.
SETTLED = 0.1


def store(room: Room) -> fsstate.Store:
    return room.stack.enter_context(fsstate.Store(room.directory / "state"))


def save(size: int) -> Setup:
    def setup(room: Room) -> Side:
        collection, values = store(room).collection("docs"), documents(size)
        return each(lambda: collection.put("doc", next(values)))

    return setup


def save_many(count: int) -> Setup:
    def setup(room: Room) -> Side:
        collection, values = store(room).collection("docs"), documents(2 * KB)

        def once() -> None:
            value = next(values)
            collection.put_many({f"d{n}": value for n in range(count)})

        return each(once)

    return setup


def save_singly(count: int) -> Setup:
    def setup(room: Room) -> Side:
        collection, values = store(room).collection("docs"), documents(2 * KB)

        def once() -> None:
            value = next(values)
            for n in range(count):
                collection.put(f"d{n}", value)

        return each(once)

    return setup


def load(size: int, count: int) -> Setup:
    """Load one of `count` documents that nobody changes."""

    def setup(room: Room) -> Side:
        collection = store(room).collection("docs")
        collection.put_many({f"d{n}": document(size, n) for n in range(count)})
        time.sleep(SETTLED)
        names = itertools.cycle([f"d{n}" for n in range(count)])
        return each(lambda: collection[next(names)])

    return setup


def load_first(size: int, count: int) -> Setup:
    """Load each of `count` documents for the first time in a store's life."""

    def setup(room: Room) -> Side:
        store(room).collection("docs").put_many({f"d{n}": document(size, n) for n in range(count)})
        time.sleep(SETTLED)

        def run(times: int) -> float:
            spent = 0.0
            for first in range(0, times, count):
                with fsstate.Store(room.directory / "state") as fresh:
                    collection = fresh.collection("docs")
                    names = [f"d{n}" for n in range(min(count, times - first))]
                    begin = time.perf_counter()
                    for name in names:
                        collection.get(name)
                    spent += time.perf_counter() - begin
            return spent

        return run

    return setup


def append(size: int) -> Setup:
    def setup(room: Room) -> Side:
        log, line = store(room).journal("audit", "trail"), "x" * size
        return each(lambda: log.append("note", text=line))

    return setup


def append_to(entries: int) -> Setup:
    """Append to a log that holds `entries` already."""

    def setup(room: Room) -> Side:
        log = store(room).journal("audit", "trail")
        log.append_many([("note", {"text": "x" * 200})] * room.size(entries))
        return each(lambda: log.append("note", text="x" * 200))

    return setup


def append_to_young(entries: int) -> Setup:
    """Append to a log that holds few entries: another one for each ten appends, made ready outside of the timing."""

    def setup(room: Room) -> Side:
        opened, numbers = store(room), itertools.count()

        def run(times: int) -> float:
            spent = 0.0
            for first in range(0, times, 10):
                log = opened.journal("audit", f"trail-{next(numbers)}")
                log.append_many([("note", {"text": "x" * 200})] * entries)
                log.append("note", text="x" * 200)
                begin = time.perf_counter()
                for _ in range(min(10, times - first)):
                    log.append("note", text="x" * 200)
                spent += time.perf_counter() - begin
            return spent

        return run

    return setup


def append_message(count: int) -> Setup:
    """Append a message to a session that has `count`."""

    def setup(room: Room) -> Side:
        opened = store(room)
        messages = opened.session(opened.sessions.create().id).messages
        for n in range(room.size(count)):
            messages.append("user", text(n))
        numbers = itertools.count(count)
        return each(lambda: messages.append("user", text(next(numbers))))

    return setup


def append_by_tasks(size: int) -> Setup:
    def setup(room: Room) -> Side:
        portal = room.stack.enter_context(anyio.from_thread.start_blocking_portal())
        log, line = async_store(room, portal).journal("audit", "trail"), "x" * size

        async def task(_: int) -> None:
            await log.append("note", text=line)

        return tasks(portal, task)

    return setup


def save_by_tasks(size: int) -> Setup:
    def setup(room: Room) -> Side:
        portal = room.stack.enter_context(anyio.from_thread.start_blocking_portal())
        collection = async_store(room, portal).collection("docs")
        # By turns of all tasks together, so that each save changes its document.
        values, names = documents(size), itertools.cycle(range(TASKS))
        current = next(values)

        async def task(_: int) -> None:
            nonlocal current
            number = next(names)
            if number == 0:
                current = next(values)
            await collection.put(f"d{number}", current)

        return tasks(portal, task)

    return setup


def save_by_hops(size: int) -> Setup:
    """Each task saves in a thread of its own, as async code would do with the sync store."""

    def setup(room: Room) -> Side:
        portal = room.stack.enter_context(anyio.from_thread.start_blocking_portal())
        collection = store(room).collection("docs")
        values, names = documents(size), itertools.count()

        async def task(_: int) -> None:
            await anyio.to_thread.run_sync(collection.put, f"d{next(names) % TASKS}", next(values))

        return tasks(portal, task)

    return setup


def async_store(room: Room, portal: anyio.from_thread.BlockingPortal) -> fsstate.AsyncStore:
    return room.stack.enter_context(portal.wrap_async_context_manager(fsstate.AsyncStore(room.directory / "state")))


def lock(room: Room) -> Side:
    """Lock and unlock a record. Its users never do that alone, so this one knocks at the backend."""
    from fsstate.backends.base import JSON, Ref
    from fsstate.backends.files import FileBackend

    backend = FileBackend(room.directory / "state")
    room.stack.callback(backend.close)
    ref = Ref("docs", "doc", JSON)
    return each(lambda: backend.lock(ref).release())


# -- a large log, made once and read by several rows

LINE = 500


def large_store(room: Room) -> Path:
    return room.shared / "state"


def large_entries(room: Room) -> int:
    """As many lines of about 590 bytes as make 100 MB."""
    return room.size(170_000)


def large_log(room: Room) -> Path:
    with fsstate.Store(large_store(room)) as opened:
        log = opened.journal("audit", "trail")
        if log.last() is None:
            missing = large_entries(room)
            for first in range(0, missing, 10_000):
                log.append_many([("note", {"text": "x" * LINE})] * min(10_000, missing - first))
        return Path(log.path)


def large_state(room: Room) -> Path:
    large_log(room)
    return large_store(room)


def tail(count: int) -> Setup:
    def setup(room: Room) -> Side:
        log = room.stack.enter_context(fsstate.Store(large_state(room))).journal("audit", "trail")
        return each(lambda: log.tail(count))

    return setup


def middle(room: Room) -> int:
    return large_entries(room) // 2


def one_seq(room: Room) -> Side:
    log = room.stack.enter_context(fsstate.Store(large_state(room))).journal("audit", "trail")
    seq = middle(room)
    return each(lambda: log.entry(seq))
