"""Measures a disk's bare durable writes and fsstate's beside them, by turns, for as long as it is given.

Each round times every side once, in an order drawn anew: what disturbs the machine meanwhile hits all alike. The
figures are medians over the rounds, ratios those of quotients within one round.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from fsstate.codec import encode
from fsstate.store import Store

__all__ = ["SAVE_MANY", "Figure", "Measured", "measure"]

# What the bare sides are called that others are compared with.
BARE_APPEND: Final = "write, flush"
BARE_SAVE: Final = "write aside, flush, rename, flush"

SIZE: Final = 2048
TOGETHER: Final = 20
LISTED: Final = 200
SAVE_MANY: Final = f"save, {TOGETHER} at once"
# Seconds that one side takes in a round, about; and the fewest rounds, whatever they take.
_TURN: Final = 0.004
_FEWEST: Final = 3

# macOS has the one that flushes more only.
_flush: Final = getattr(os, "fdatasync", os.fsync)

# Called once a round with how many tenths of a second are gone, and how many there are. May raise, to end it.
Progress = Callable[[int, int], None]


class Side(NamedTuple):
    """One thing to time. `against` is the bare side that does the same; `each` is how many a call does."""

    name: str
    run: Callable[[], object]
    against: str | None = None
    each: int = 1


class Figure(NamedTuple):
    """What one thing takes, in seconds; `ratio` is how many times as fast it is as what stands in `against`."""

    name: str
    seconds: float
    against: str | None
    ratio: float | None


@dataclass(frozen=True)
class Measured:
    """What was measured in so many rounds; `flush` is how much longer a write takes because it is flushed."""

    figures: list[Figure]
    flush: float
    rounds: int

    def figure(self, name: str) -> Figure:
        """What was measured of one thing."""
        return next(figure for figure in self.figures if figure.name == name)


def measure(directory: str, seconds: float, progress: Progress) -> Measured:
    """Measure in an empty directory, for about so long."""
    with ExitStack() as stack:
        sides = [*_bare(directory, stack), *_ours(directory, stack)]
        calls = [_calls(side) for side in sides]
        rounds = list(_rounds(sides, calls, seconds, progress))
    costs = {side.name: [found[number] for found in rounds] for number, side in enumerate(sides)}
    flushes = [flushed - plain for flushed, plain in zip(costs[BARE_APPEND], costs["write"], strict=True)]
    figures = [_figure(side, costs) for side in sides]
    return Measured(figures, statistics.median(flushes), len(rounds))


def _figure(side: Side, costs: dict[str, list[float]]) -> Figure:
    own, ratio = costs[side.name], None
    if side.against is not None:
        ratio = statistics.median(bare / ours for bare, ours in zip(costs[side.against], own, strict=True))
    return Figure(side.name, statistics.median(own), side.against, ratio)


def _calls(side: Side) -> int:
    """How many calls make a turn. Warms the side up on the way."""
    side.run()
    once = min(_timed(side, 1) for _ in range(2)) * side.each
    return max(1, min(100, round(_TURN / max(once, 1e-9))))


def _rounds(sides: Sequence[Side], calls: Sequence[int], seconds: float, progress: Progress) -> Iterator[list[float]]:
    begin, chance = time.perf_counter(), random.Random(1)  # noqa: S311 - an order, no secret
    for number in itertools.count():
        spent = time.perf_counter() - begin
        if spent >= seconds and number >= _FEWEST:
            break
        progress(min(int(spent * 10), int(seconds * 10)), int(seconds * 10))
        costs = [0.0] * len(sides)
        for which in chance.sample(range(len(sides)), len(sides)):
            costs[which] = _timed(sides[which], calls[which])
        yield costs


def _timed(side: Side, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        side.run()
    return (time.perf_counter() - begin) / calls / side.each


# -- the sides


def _document(number: int) -> dict[str, Any]:
    step = {"name": "grep", "input": "x" * 40, "done": True}
    return {"id": f"{number:08}", "model": "m1", "status": "idle", "steps": [{"id": n, **step} for n in range(14)]}


def _bare(directory: str, stack: ExitStack) -> Iterator[Side]:
    """The system calls alone."""
    folder, document = os.path.join(directory, "bare"), encode(_document(1))  # noqa: PTH118 - a str
    os.mkdir(folder)  # noqa: PTH102
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    plain, flushed = (os.open(name, flags | more, 0o600, dir_fd=fd) for name, more in _FILES.items())
    for opened in (plain, flushed):
        stack.callback(os.close, opened)
    # Over itself, since it grows faster than any disk.
    offsets = itertools.cycle(range(0, 1024 * SIZE, SIZE))
    data = b"x" * SIZE

    def write_and_flush() -> None:
        os.write(flushed, data)
        _flush(flushed)

    yield Side("write", lambda: os.pwrite(plain, data, next(offsets)))
    yield Side(BARE_APPEND, write_and_flush)
    yield Side(BARE_SAVE, lambda: _replace(fd, document))
    yield Side("open, read, parse", lambda: orjson.loads(_read(fd)))
    yield Side(f"look at {LISTED} files", lambda: _scan(os.path.join(directory, "state", "sessions")))  # noqa: PTH118


_FILES: Final = {"plain": 0, "flushed": os.O_APPEND}


def _replace(folder: int, data: bytes) -> None:
    fd = os.open("staged", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        os.write(fd, data)
        _flush(fd)
    finally:
        os.close(fd)
    os.rename("staged", "document", src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _read(folder: int) -> bytes:
    fd = os.open("document", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(fd, 2 * SIZE)
    finally:
        os.close(fd)


def _scan(folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)


def _ours(directory: str, stack: ExitStack) -> Iterator[Side]:
    """What users of fsstate type."""
    store = stack.enter_context(Store(Path(directory) / "state"))
    documents, log = store.collection("documents"), store.journal("audit", "trail")
    # By turns, since a save that changes nothing writes nothing.
    values = itertools.cycle([_document(1), _document(2)])
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    store.collection("sessions").put_many({f"s{n:03}": {"id": f"s{n:03}", **times} for n in range(LISTED)})

    def save_many() -> None:
        value = next(values)
        documents.put_many({f"d{n}": value for n in range(TOGETHER)})

    text = "x" * (SIZE - 90)
    yield Side("append", lambda: log.append("note", text=text), BARE_APPEND)
    yield Side("save", lambda: documents.put("one", next(values)), BARE_SAVE)
    yield Side(SAVE_MANY, save_many, BARE_SAVE, TOGETHER)
    yield Side("load", lambda: documents.get("d0"), "open, read, parse")
    yield Side(f"list {LISTED} sessions", lambda: store.sessions.list(limit=50), f"look at {LISTED} files")
