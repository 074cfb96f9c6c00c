"""Cancelling a task leaves no lock held, and no outcome half known."""

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsstate.aio import AsyncStore
from fsstate.aio.batching import Batcher
from fsstate.options import StoreOptions
from fsstate.store import Store

pytestmark = pytest.mark.anyio


async def test_a_cancelled_write_is_whole_and_its_lock_free(store: AsyncStore) -> None:
    agents = store.collection("agents")
    for number in range(30):
        with anyio.move_on_after(number * 0.0002):
            await agents.put("one", {"n": number, "again": number})
        found = await agents.get("one")
        assert found is None or found["n"] == found["again"]
        assert not store.sync.backend.is_locked(agents.sync.ref_of("one"))


async def test_a_cancelled_edit_writes_nothing(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"n": 0})
    with anyio.move_on_after(0.02) as scope:
        async with agents.edit("one") as doc:
            doc["n"] = 1
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await agents.require("one") == {"n": 0}
    await agents.put("one", {"n": 2})


async def test_an_edit_that_is_cancelled_while_it_saves_is_saved(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"n": 0})
    with anyio.CancelScope() as scope:
        async with agents.edit("one") as doc:
            doc["n"] = 1
            scope.cancel()
    assert await agents.require("one") == {"n": 1}


async def test_a_task_that_waits_for_its_turn_leaves_at_once(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"n": 0})
    async with agents.edit("one"):
        with anyio.fail_after(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(agents.put, "one", {"n": 9})
                await anyio.sleep(0.02)
                tasks.cancel_scope.cancel()
    assert await agents.require("one") == {"n": 0}


async def test_a_cancelled_stream_is_kept_as_interrupted(store: AsyncStore) -> None:
    session = await store.sessions.create()
    messages = store.session(session.id).messages
    with anyio.move_on_after(0.1):
        async with messages.stream("assistant") as reply:
            await reply.write("so far")
            await anyio.sleep_forever()
    (message,) = await messages.list()
    assert (message.status, message.text) == ("interrupted", "so far")
    assert (await messages.append("user", "go on")).parent_id == message.id


async def test_cancelled_appends_are_there_or_not_and_never_twice(store: AsyncStore) -> None:
    trail = store.journal("audit", "trail")
    known = set()

    async def work(number: int) -> None:
        await trail.append("x", number=number)
        known.add(number)

    for start in range(0, 100, 20):
        with anyio.move_on_after(0.0005):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 20):
                    tasks.start_soon(work, number)
    numbers = [entry["number"] for entry in await trail.read()]
    assert len(numbers) == len(set(numbers))
    assert known <= set(numbers)
    assert await trail.append("after") == len(numbers) + 1


class Flushed:
    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes

    def result(self) -> list[Any]:
        return self.outcomes


class Flusher:
    """A flush that waits to be let go."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.go = anyio.Event()

    async def __call__(self, batch: list[Any]) -> tuple[Flushed, None]:
        self.batches.append(batch)
        await self.go.wait()
        return Flushed([ValueError("bad") if item == "bad" else item for item in batch]), None


async def test_a_batch_without_its_cancelled_requests() -> None:
    flusher = Flusher()
    batcher = Batcher[Any, Any](flusher)
    results: list[Any] = []

    async def submit(item: Any) -> None:
        try:
            results.append(await batcher.submit(item))
        except ValueError:
            results.append("failed")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(submit, "first")
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(submit, "gone")
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        for item in ("second", "bad", "third"):
            tasks.start_soon(submit, item)
        await anyio.wait_all_tasks_blocked()
        flusher.go.set()
    first, second = flusher.batches
    assert (first, set(second)) == (["first"], {"second", "bad", "third"})
    assert sorted(results) == ["failed", "first", "second", "third"]
    assert batcher.is_idle


async def test_a_leader_that_is_cancelled_hands_over() -> None:
    flusher = Flusher()
    batcher = Batcher[Any, Any](flusher)
    results: list[Any] = []

    async def submit(item: Any) -> None:
        results.append(await batcher.submit(item))

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
        cancelled.start_soon(submit, "first")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(submit, "second")
        await anyio.wait_all_tasks_blocked()
        cancelled.cancel_scope.cancel()
        flusher.go.set()
    assert flusher.batches == [["first"], ["second"]]
    assert "second" in results
    assert batcher.is_idle


async def test_no_thread_is_left_behind(store: AsyncStore) -> None:
    await store.collection("agents").put("one", {})
    await store.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fsstate")]


def cancelling_after(delay: float, work: Any) -> None:
    """Run `work()` in asyncio and cancel its task as asyncio itself does, which no anyio shield holds off."""

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(delay)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("delay", [step * 0.0003 for step in range(12)])
def test_a_task_that_asyncio_cancels_leaves_no_lock_behind(tmp_path: Path, delay: float) -> None:
    store = AsyncStore(tmp_path / "state", StoreOptions(lock_timeout=2))
    agents = store.collection("agents")
    agents.sync.put("one", {"n": 0, "again": 0})
    session = store.sync.sessions.create()
    messages = store.session(session.id).messages

    async def work() -> None:
        for number in range(1000):
            async with agents.edit("one") as doc:
                doc["n"] = number
                doc["again"] = number
            await agents.put("two", {"n": number})
            async with messages.stream("assistant") as reply:
                await reply.write(str(number))
            await asyncio.sleep(0)

    cancelling_after(delay, work)
    found = agents.sync["one"]
    assert found["n"] == found["again"]
    agents.sync.put("one", {"free": True})
    agents.sync.put("two", {"free": True})
    assert all(message.status in ("complete", "interrupted") for message in messages.sync.list())
    assert not messages.sync.settle()
    store.sync.close()


@pytest.mark.parametrize("delay", [step * 0.0003 for step in range(12)])
def test_followers_do_not_suffer_for_a_leader_that_asyncio_cancels(tmp_path: Path, delay: float) -> None:
    store = AsyncStore(tmp_path / "state")
    trail = store.journal("audit", "trail")

    async def work() -> None:
        tasks = [asyncio.ensure_future(trail.append("x", number=number)) for number in range(20)]
        await asyncio.sleep(delay)
        tasks[0].cancel()
        tasks[7].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
        assert set(failed) <= {0, 7}
        numbers = [entry["number"] for entry in trail.sync.read()]
        assert {*numbers, *failed} == set(range(20))
        assert len(numbers) == len(set(numbers))

    asyncio.run(work())
    store.sync.close()


def test_a_timeout_of_asyncio_around_a_long_wait(tmp_path: Path) -> None:
    store = AsyncStore(tmp_path / "state", StoreOptions(lock_timeout=20))
    agents = store.collection("agents")
    with Store(tmp_path / "state") as other, other.collection("agents").edit("one", default={}) as doc:
        doc["by"] = "other"

        async def work() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(agents.put("one", {"by": "me"}), 0.1)

        started = time.monotonic()
        asyncio.run(work())
        assert time.monotonic() - started < 5
    assert agents.sync["one"] == {"by": "other"}
    store.sync.close()
