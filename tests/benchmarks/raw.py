"""What fsstate is compared with: the bare system calls, and what people use or write themselves instead.

Each function returns a `Setup`: given a room, it makes everything ready and returns the side to be timed.
"""

from __future__ import annotations

import collections
import fcntl
import importlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio.from_thread
import anyio.to_thread
import orjson

from tests.benchmarks.interleave import Room, Setup, Side, Unavailable, each

KB: Final = 1024
MB: Final = 1024 * KB
TASKS: Final = 64

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STAGE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def document(size: int, number: int = 0) -> dict[str, Any]:
    """A document of about `size` bytes as it stands in the file, different for each `number`."""
    step = {"name": "grep", "input": "x" * 40, "done": True}
    steps = [{"id": n, **step} for n in range(max(1, (size - 80) // 125))]
    return {"id": f"{number:08}", "model": "m1", "status": "idle", "steps": steps}


def documents(size: int) -> Iterator[dict[str, Any]]:
    """Documents by turns, so that every save changes something."""
    return itertools.cycle([document(size, 1), document(size, 2)])


def encoded(size: int) -> Iterator[bytes]:
    return itertools.cycle([orjson.dumps(document(size, n), option=orjson.OPT_INDENT_2) + b"\n" for n in (1, 2)])


def folder(room: Room, path: Path | None = None) -> int:
    fd = os.open(path or room.directory, _FOLDER)
    room.stack.callback(os.close, fd)
    return fd


# -- saves


def save_with(fd: int, staging: int, name: str, data: bytes) -> None:
    """The fewest system calls that make a replacement last."""
    staged = os.open(f"{name}.{threading.get_ident()}", _STAGE, 0o600, dir_fd=staging)
    try:
        os.write(staged, data)
        os.fsync(staged)
    finally:
        os.close(staged)
    os.rename(f"{name}.{threading.get_ident()}", name, src_dir_fd=staging, dst_dir_fd=fd)
    os.fsync(fd)


def save(size: int) -> Setup:
    """Save: open, write, fsync, rename, fsync of the directory."""

    def setup(room: Room) -> Side:
        fd, payloads = folder(room), encoded(size)
        return each(lambda: save_with(fd, fd, "doc.json", next(payloads)))

    return setup


def save_by_helper(size: int) -> Setup:
    """Save with the helper that careful people write: tempfile, json, fsync, replace, fsync of the directory."""

    def setup(room: Room) -> Side:
        path, values = room.directory / "doc.json", documents(size)
        return each(lambda: helper(path, next(values)))

    return setup


def helper(path: Path, value: object, *, indent: int | None = 2) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as staged:
        staged.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
        staged.flush()
        os.fsync(staged.fileno())
    os.replace(staged.name, path)
    fd = os.open(path.parent, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def save_by_atomicwrites(size: int) -> Setup:
    """Save with `atomicwrites`, which is measured where it is installed."""

    def setup(room: Room) -> Side:
        atomic_write = module("atomicwrites").atomic_write
        path, values = str(room.directory / "doc.json"), documents(size)

        def once() -> None:
            with atomic_write(path, overwrite=True) as file:
                file.write(json.dumps(next(values), indent=2, ensure_ascii=False) + "\n")

        return each(once)

    return setup


def module(name: str) -> Any:
    """A module that not everybody has installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name.partition('.')[0]} is not installed") from error


def database(room: Room) -> sqlite3.Connection:
    connection = sqlite3.connect(room.directory / "store.db", isolation_level=None)
    room.stack.callback(connection.close)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE documents (name TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID")
    return connection


def save_in_sqlite(size: int) -> Setup:
    """Save as a row of sqlite3, in WAL mode with synchronous=FULL: as durable as a file."""

    def setup(room: Room) -> Side:
        connection, values = database(room), documents(size)

        def once() -> None:
            row = ("doc", orjson.dumps(next(values)).decode())
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", row)

        return each(once)

    return setup


# -- loads


def load_from_sqlite(size: int, count: int) -> Setup:
    """Load one of `count` rows and parse it."""

    def setup(room: Room) -> Side:
        connection = database(room)
        rows = [(f"d{n}", orjson.dumps(document(size, n)).decode()) for n in range(count)]
        connection.executemany("INSERT INTO documents VALUES (?, ?)", rows)
        names = itertools.cycle(name for name, _ in rows)

        def once() -> object:
            query = connection.execute("SELECT body FROM documents WHERE name = ?", (next(names),))
            return orjson.loads(query.fetchone()[0])

        return each(once)

    return setup


def load_by_calls(size: int, count: int) -> Setup:
    """Load one of `count` files by its path with the bare system calls: open, read, close; and parse it."""

    def read(path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 16 * KB)
        finally:
            os.close(fd)

    return lambda room: loads(room, size, count, read)


def load_by_open(size: int, count: int) -> Setup:
    """Load one of `count` files by its path as Python programs do: `open(path, "rb")`, `read()`; and parse it."""

    def read(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return lambda room: loads(room, size, count, read)


def loads(room: Room, size: int, count: int, read: Callable[[str], bytes]) -> Side:
    paths = [str(room.directory / f"d{n}.json") for n in range(count)]
    for n, path in enumerate(paths):
        Path(path).write_bytes(orjson.dumps(document(size, n), option=orjson.OPT_INDENT_2))
    turn = itertools.cycle(paths)
    return each(lambda: orjson.loads(read(next(turn))))


# -- logs


def append(size: int) -> Setup:
    """Append a line: write, fdatasync."""

    def setup(room: Room) -> Side:
        fd, line = log(room), line_of(size)

        def once() -> None:
            os.write(fd, line)
            os.fdatasync(fd)

        return each(once)

    return setup


def log(room: Room) -> int:
    fd = os.open(room.directory / "log.jsonl", _APPEND, 0o600)
    room.stack.callback(os.close, fd)
    os.fsync(folder(room))
    return fd


def line_of(size: int) -> bytes:
    return (
        orjson.dumps({"seq": 100000, "kind": "note", "at": "2026-01-01T00:00:00.000000Z", "text": "x" * size}) + b"\n"
    )


def rewrite_session(count: int) -> Setup:
    """Append a message as framework histories do: the list grows by one and the whole file is written anew."""

    def setup(room: Room) -> Side:
        path = room.directory / "history.json"
        messages = [message(n) for n in range(room.size(count))]

        def once() -> None:
            messages.append(message(len(messages)))
            helper(path, messages, indent=None)

        return each(once)

    return setup


def message(number: int) -> dict[str, Any]:
    return {"type": "human", "data": {"id": str(number), "content": text(number), "additional_kwargs": {}}}


def text(number: int) -> str:
    """What a message says: 200 characters."""
    return f"{number:08} " + "word " * 38


def read_tail(path: Callable[[Room], Path], count: int) -> Setup:
    """The last lines of a log, by reading all of it."""

    def setup(room: Room) -> Side:
        file = path(room)

        def once() -> object:
            with file.open("rb") as lines:
                return [orjson.loads(line) for line in collections.deque(lines, count)]

        return each(once)

    return setup


def read_seq(path: Callable[[Room], Path], seq: Callable[[Room], int]) -> Setup:
    """One entry of a log, by reading all of it and parsing until it is found."""

    def setup(room: Room) -> Side:
        file, wanted = path(room), seq(room)

        def once() -> object:
            lines = file.read_bytes().splitlines()
            return next(entry for entry in map(orjson.loads, lines) if entry["seq"] == wanted)

        return each(once)

    return setup


# -- tasks


def append_by_tasks(size: int) -> Setup:
    """64 tasks append to one log: each hops to a thread, takes the log's lock, writes and flushes."""

    def setup(room: Room) -> Side:
        fd, line, mutex = log(room), line_of(size), threading.Lock()

        def once(_: int) -> None:
            with mutex:
                fcntl.flock(fd, fcntl.LOCK_EX)
                try:
                    os.write(fd, line)
                    os.fdatasync(fd)
                finally:
                    fcntl.flock(fd, fcntl.LOCK_UN)

        return hops(room, once)

    return setup


def save_by_tasks(size: int) -> Setup:
    """64 tasks save a document each: one hop to a thread, then the bare system calls."""

    def setup(room: Room) -> Side:
        fd, payloads = folder(room), encoded(size)
        return hops(room, lambda task: save_with(fd, fd, f"d{task}.json", next(payloads)))

    return setup


def hops(room: Room, once: Callable[[int], None]) -> Side:
    async def task(number: int) -> None:
        await anyio.to_thread.run_sync(once, number)

    return tasks(room.stack.enter_context(anyio.from_thread.start_blocking_portal()), task)


def tasks(portal: anyio.from_thread.BlockingPortal, task: Callable[[int], Any]) -> Side:
    """A side that runs 64 tasks at once, timed inside of their event loop."""

    async def run(times: int) -> float:
        begin = anyio.current_time()
        for _ in range(times):
            async with anyio.create_task_group() as group:
                for number in range(TASKS):
                    group.start_soon(task, number)
        return anyio.current_time() - begin

    return lambda times: portal.call(run, times)


# -- locks


def file_lock(room: Room) -> Side:
    """Lock and unlock a `filelock.FileLock`."""
    import filelock

    lock = filelock.FileLock(room.directory / "doc.lock")

    def once() -> None:
        with lock:
            pass

    return each(once)


# -- interpreters


def interpreter_time(code: str) -> Setup:
    """Milliseconds that an interpreter lives that runs only `code`."""

    def setup(room: Room) -> Side:
        once = each(lambda: interpreter(code, str(room.directory)))
        return lambda times: once(times) * 1000

    return setup


def interpreter_memory(code: str, argument: Callable[[Room], Path] | None = None) -> Setup:
    """Megabytes of memory that an interpreter which runs `code` holds at its peak."""

    def setup(room: Room) -> Side:
        path = str(argument(room)) if argument else ""
        return lambda times: sum(float(interpreter(code + _PEAK, path)) for _ in range(times))

    return setup


# getrusage's figure never falls below what the parent held when it started the child, so Linux's own comes first.
_PEAK: Final = """
import os
if os.path.exists("/proc/self/status"):
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
else:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024)
"""


def interpreter(code: str, argument: str) -> str:
    command = [sys.executable, "-c", code, argument]
    # Programs do not compile their modules at each start, whatever this one was told to do.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=_PROJECT, env=surroundings).stdout


_PROJECT: Final = Path(__file__).parents[2]
