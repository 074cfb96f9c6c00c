"""Signals whose handlers raise in the middle of a write: it was made or it was not, and no lock is left."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from fsstate import FsStateError, Store, StoreOptions
from tests.files.processes import run

Step: TypeAlias = Callable[[Store, int], object]

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals"),
    pytest.mark.may_leak(reason="between opening a file and keeping its descriptor a handler may raise"),
    # A handler may raise in a finalizer as well, which Python can do no more than tell.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class AlarmError(BaseException):
    """As KeyboardInterrupt is, what the program did not expect."""


def ring(*_: object) -> None:
    raise AlarmError


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextmanager
def filled_store(path: Path) -> Generator[Store]:
    """A store with something in it."""
    # Waiting for a lock that is never given back would take this long, and fail.
    with Store(path, StoreOptions(durability="process", lock_timeout=2.0)) as store:
        store.sessions.create(id="s")
        store.collection("agents").put("a", {"n": 0})
        yield store


def put(store: Store, number: int) -> None:
    store.collection("agents").put("a", {"n": number})


def update(store: Store, number: int) -> None:
    store.collection("agents").update("a", lambda _: {"n": number})


def edit(store: Store, number: int) -> None:
    with store.collection("agents").edit("a") as agent:
        agent["n"] = number


def append(store: Store, number: int) -> None:
    store.journal("audit", "trail").append("x", n=number)


def say(store: Store, number: int) -> None:
    store.session("s").messages.append("user", str(number), id=f"m{number}")


def stream(store: Store, number: int) -> None:
    with store.session("s").messages.stream("assistant", id=f"m{number}") as one:
        one.write(str(number))


def many(store: Store, number: int) -> None:
    store.collection("agents").put_many({f"b{each}": {"n": number} for each in range(10)} | {"a": {"n": number}})


def document_now(store: Store) -> Any:
    agent = store.collection("agents").get("a")
    assert agent is not None
    return {agent["n"]}


def entries_now(store: Store) -> Any:
    return {entry["n"] for entry in store.journal("audit", "trail").read()}


def messages_now(store: Store) -> Any:
    return {int(message.id[1:]) for message in store.session("s").messages.all() if message.text or message.id == "m0"}


WAYS: dict[str, tuple[Step, Callable[[Store], set[int]], bool]] = {
    "put": (put, document_now, True),
    "update": (update, document_now, True),
    "edit": (edit, document_now, True),
    "put_many": (many, document_now, True),
    "append": (append, entries_now, False),
    "message": (say, messages_now, False),
    "stream": (stream, messages_now, False),
}


def interrupted(work: Callable[[], object], after: float) -> bool:
    """Do the work while a signal comes. Says whether it was not told to be done."""
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        try:
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except AlarmError:
        return True
    except FsStateError:
        # A batch that another's signal ended is told so.
        return True
    return False


def by_another_thread(work: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def try_out(store: Store, way: str, tries: int) -> int:
    step, now, replaces = WAYS[way]
    step(store, 0)
    took, acknowledged, count, number = 0.001, {0}, 0, 0
    while number < tries:
        number += 1
        began = time.perf_counter()
        if interrupted(partial(step, store, number), random.uniform(2e-5, took * 1.2)):
            count += 1
        else:
            acknowledged = {number} if replaces else acknowledged | {number}
            took = 0.8 * took + 0.2 * (time.perf_counter() - began)
        found = now(store)
        if replaces:
            # What was acknowledged, or what was under way since.
            assert found <= set(range(max(acknowledged), number + 1)), (found, acknowledged, number)
            acknowledged = found
        else:
            assert found >= acknowledged, acknowledged - found
            acknowledged = found
        if number % 5 == 0:
            number += 1
            by_another_thread(partial(step, store, number))
            acknowledged = {number} if replaces else acknowledged | {number}
    with Store(store.path, StoreOptions(lock_timeout=2.0)) as other:
        assert now(other) == now(store)
        assert other.collection("agents").problems() == other.journal("audit", "trail").problems() == []
        assert other.session("s").messages.problems() == []
        step(other, number + 1)
        assert other.sessions.delete("s")
    return count


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("alarm")
def test_handlers_that_raise(tmp_path: Path, way: str) -> None:
    with filled_store(tmp_path) as store:
        assert try_out(store, way, 50) > 5


# A process of its own: handlers come where programs are, which is in `open` more often than anywhere else.
ROUND = """
import signal
from tests.places.test_signals import filled_store, ring, try_out
signal.signal(signal.SIGALRM, ring)
with filled_store(root) as store:
    try_out(store, sys.argv[2], 300)
"""


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
def test_handlers_that_raise_for_long(tmp_path: Path, way: str, soak_seconds: float) -> None:
    until = time.monotonic() + soak_seconds
    for number in itertools.count():
        run(ROUND, tmp_path / str(number), way)
        if time.monotonic() > until:
            break
