"""A ledger of records that take the steps of their lifecycle."""

import threading
from datetime import UTC, datetime

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import AlreadyExistsError, InvalidTransitionError, NotFoundError
from fsstate.journal import Log
from fsstate.ledger import Ledger
from fsstate.lifecycle import Lifecycle
from fsstate.projection import Projections

LIGHT = Lifecycle(steps={"red": ("green",), "green": ("yellow",), "yellow": ()}, stamps={"green": "went_at"})


def ledger(backend: MemoryBackend | None = None) -> Ledger:
    backend = backend or MemoryBackend()
    return Ledger(
        Projections(backend), Log(backend, Ref("lights", "log", LOG)), LIGHT, lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )


def test_records_go_through_their_steps() -> None:
    lights = ledger()
    lights.add([{"id": "a", "status": "red"}, {"id": "b", "status": "green"}])
    assert "went_at" not in (lights.get("a") or {})
    changed = lights.change("a", {"status": "green", "lamp": 2})
    assert changed == lights.get("a")
    assert changed["went_at"] == changed["updated_at"]
    assert [each["id"] for each in lights.list(status="green")] == ["a", "b"]
    assert (lights.count(), lights.count(status="red")) == (2, 0)
    with pytest.raises(NotFoundError):
        lights.change("c", {"lamp": 1})
    assert lights.get("c") is None


def test_ids_are_taken_once() -> None:
    lights = ledger()
    lights.add([{"id": "a", "status": "red"}])
    for ids in ("a", "bb"):
        with pytest.raises(AlreadyExistsError):
            lights.add([{"id": each, "status": "red"} for each in ids])
    assert lights.count() == 1


def test_of_many_only_one_takes_the_last_step() -> None:
    backend = MemoryBackend()
    ledger(backend).add([{"id": "a", "status": "green"}])
    wins: list[int] = []

    def go(number: int) -> None:
        try:
            ledger(backend).change("a", {"status": "yellow", "by": number})
        except InvalidTransitionError:
            return
        wins.append(number)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert (ledger(backend).get("a") or {})["by"] == wins[0]
