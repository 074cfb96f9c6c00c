"""Many sessions and messages to list, query, prune and search, the same for everybody who is measured.

They are written straight into their places, as programs that know the format may do: saving 100,000 sessions one by one
would take longer than all that is measured on them.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from fsstate.backends.files import FileBackend
from tests.benchmarks.interleave import Room

__all__ = ["Document", "crowd", "expired", "expiry", "messages", "queries", "session", "sessions", "size", "write"]

Document: TypeAlias = dict[str, Any]

_BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)
# Prime, so that the order of the times has nothing to do with that of the names.
_STRIDE: Final = 7919
_STATUSES: Final = ("active", "idle", "running", "ended", "failed")
_WORDS: Final = 3000
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def size(room: Room, full: int) -> int:
    """How many there are: a few hundred at most in a quick run."""
    return max(full // 500, 20) if room.quick else full


def session(number: int, count: int) -> tuple[str, Document]:
    """One of `count` sessions, by its name. Each was updated in a minute of its own."""
    created = _BEGIN + timedelta(minutes=number)
    updated = _BEGIN + timedelta(minutes=number * _STRIDE % count, days=1)
    name = f"0198c3f2-{number >> 16:04x}-7000-8000-{number * _STRIDE % 2**48:012x}"
    return name, {
        "id": name,
        "user_id": f"user-{number % 97}",
        "title": f"What is left before release {number}?",
        "status": _STATUSES[number % 5],
        "project_id": f"project-{number % 11}",
        "created_at": _time(created),
        "updated_at": _time(updated),
        "metadata": {"source": "benchmark", "turns": number % 40},
    }


def sessions(count: int) -> dict[str, Document]:
    return dict(session(number, count) for number in range(count))


def expiry(count: int) -> datetime:
    """The time before which 1 % of them were last updated."""
    # Half a minute off: none of them was updated just then.
    return _BEGIN + timedelta(minutes=max(count // 100, 1) - 0.5, days=1)


def expired(count: int) -> dict[str, Document]:
    """That 1 %."""
    numbers = (number for number in range(count) if number * _STRIDE % count < max(count // 100, 1))
    return dict(session(number, count) for number in numbers)


def write(folder: Path, documents: Iterable[tuple[str, Document]], *, talk: bool = False) -> None:
    """Write documents as fsstate would, without waiting for the disk; with `talk`, a short conversation for each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents:
        _write(f"{folder}/{name}.json", orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
        if talk:
            write_messages(folder, name, itertools.islice(messages(), 3), str(document["updated_at"]))


def write_messages(folder: Path, name: str, texts: Iterable[str], time: str) -> None:
    """Write the conversation of one session."""
    lines: list[bytes] = []
    for seq, text in enumerate(texts, 1):
        row = {"seq": seq, "id": f"{name}-{seq}", "role": "user" if seq % 2 else "assistant", "content": text}
        row |= {"parent": f"{name}-{seq - 1}"} if seq > 1 else {}
        lines.append(orjson.dumps({**row, "at": time}, option=orjson.OPT_APPEND_NEWLINE))
    os.makedirs(folder / name, exist_ok=True)
    _write(f"{folder}/{name}/messages.jsonl", b"".join(lines))


def crowd(room: Room, full: int, *, talk: bool = False) -> Path:
    """A store with so many sessions, made once and shared by all rows."""
    place = room.shared / f"{full}-{'talks' if talk else 'sessions'}"
    if not place.exists():
        count = size(room, full)
        write(place / "sessions", (session(number, count) for number in range(count)), talk=talk)
        # A store that fsstate has written to: in one that is only read, no index outlives the process.
        with closing(FileBackend(place)) as backend:
            backend.prepare()
    return place


# -- words


def messages(seed: int = 1) -> Iterator[str]:
    """Texts of a dozen words without end; some words are in many of them, most in few."""
    chance = random.Random(seed)
    words = _vocabulary()
    while True:
        yield " ".join(words[int(len(words) * chance.random() ** 3)] for _ in range(12))


def queries() -> Iterator[str]:
    """What is searched for, by turns: two words, neither among the rarest nor in every text."""
    words = _vocabulary()
    return itertools.cycle([f"{words[100 + n]} {words[300 + 7 * n]}" for n in range(20)])


@cache
def _vocabulary() -> tuple[str, ...]:
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    return tuple("".join(chance.choices(syllables, k=chance.randint(2, 4))) for _ in range(_WORDS))


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
