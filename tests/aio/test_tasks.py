"""What many tasks do to one store at once."""

import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from fsstate.aio import AsyncStore
from fsstate.errors import ConflictError, LockTimeoutError, StoreClosedError, UnsafePathError
from fsstate.options import StoreOptions
from fsstate.store import Store

pytestmark = pytest.mark.anyio


async def test_no_increment_of_many_tasks_is_lost(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("shared", {"plain": 0, "awaited": 0, "edited": 0})

    async def awaited(doc: dict[str, int]) -> dict[str, int]:
        await anyio.lowlevel.checkpoint()
        return {**doc, "awaited": doc["awaited"] + 1}

    async def work() -> None:
        await agents.update("shared", lambda doc: {**doc, "plain": doc["plain"] + 1})
        await agents.update("shared", awaited)
        async with agents.edit("shared") as doc:
            before = doc["edited"]
            await anyio.lowlevel.checkpoint()
            doc["edited"] = before + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(work)
    assert await agents.get("shared") == {"plain": 30, "awaited": 30, "edited": 30}


async def test_tasks_and_threads_of_another_store_share_a_record(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("shared", {"n": 0})

    def elsewhere() -> None:
        with Store(store.path) as other:
            for _ in range(50):
                other.collection("agents").update("shared", lambda doc: {"n": doc["n"] + 1})

    async def here() -> None:
        await agents.update("shared", lambda doc: {"n": doc["n"] + 1})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, elsewhere)
        for _ in range(50):
            tasks.start_soon(here)
    assert await agents.get("shared") == {"n": 100}


async def test_appends_of_many_tasks_share_their_flushes(store: AsyncStore, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = []
    append_many = store.sync.backend.append_many

    def counting(ref: Any, composes: Any, **given: Any) -> Any:
        flushes.append(len(composes))
        return append_many(ref, composes, **given)

    monkeypatch.setattr(store.sync.backend, "append_many", counting)
    trail = store.journal("audit", "trail")
    seqs: list[int] = []

    async def work(number: int) -> None:
        seqs.append(await trail.append("done", number=number))

    async with anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(work, number)
    assert sorted(seqs) == list(range(1, 65))
    assert sum(flushes) == 64
    assert len(flushes) <= 4
    assert sorted(entry["number"] for entry in await trail.read()) == list(range(64))


async def test_one_bad_append_or_put_fails_alone(store: AsyncStore) -> None:
    session = await store.sessions.create()
    messages, agents = store.session(session.id).messages, store.collection("agents")
    failed = []

    async def work(number: int) -> None:
        try:
            await messages.append("user", {"bad": {1, 2}} if number % 8 == 0 else f"text {number}")
            await agents.put(f"a{number}", {"bad": float("nan")} if number % 8 == 1 else {"n": number})
        except ValueError:
            failed.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(32):
            tasks.start_soon(work, number)
    assert sorted(failed) == [n for n in range(32) if n % 8 in (0, 1)]
    assert await messages.count() == 28
    assert await agents.count() == 24


async def test_a_record_that_another_process_holds_delays_no_other(store: AsyncStore) -> None:
    agents = store.collection("agents")
    with Store(store.path) as other, other.collection("agents").edit("held", default={}) as held:
        held["by"] = "other"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agents.put, "held", {"by": "me"})
            with anyio.fail_after(3):
                for number in range(20):
                    await agents.put(f"free{number}", {})
                # And the one that waits for the other process can be cancelled.
                tasks.cancel_scope.cancel()
    assert await agents.count() == 21
    assert await agents.get("held") == {"by": "other"}


async def test_edits_that_wait_take_no_threads_from_the_one_that_must_end(store: AsyncStore) -> None:
    """More edits than worker threads, each wanting in turn what another holds."""
    agents = store.collection("agents")
    await agents.put("one", {"n": 0})

    async def work() -> None:
        async with agents.edit("one") as doc:
            await anyio.sleep(0.001)
            doc["n"] += 1

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(work)
    assert await agents.get("one") == {"n": 50}


async def test_a_task_that_wants_its_own_record_again_is_told_at_once(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {})
    async with agents.edit("one") as doc:
        with pytest.raises(LockTimeoutError, match="this task holds the lock itself"):
            await agents.put("one", {"n": 1})
        doc["n"] = 2
    assert await agents.get("one") == {"n": 2}


async def test_waiting_ends_in_an_error_that_names_the_record(tmp_path: Path) -> None:
    async with AsyncStore(tmp_path / "state", StoreOptions(lock_timeout=0.05)) as store:
        agents = store.collection("agents")
        await agents.put("one", {})
        entered, leave = anyio.Event(), anyio.Event()

        async def hold() -> None:
            async with agents.edit("one"):
                entered.set()
                await leave.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await entered.wait()
            with pytest.raises(LockTimeoutError, match=r"agents/one\.json"):
                await agents.put("one", {"n": 1})
            leave.set()


async def test_an_unchanged_document_is_served_in_the_event_loop(
    store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"n": 1})
    await anyio.sleep(0.05)  # younger than the clock's tick, a file's signature is not trusted
    await agents.get("one")

    async def no_hop(*_: object, **__: object) -> None:
        pytest.fail("took a thread for what is known")

    monkeypatch.setattr(store.offload, "run", no_hop)
    assert await agents.get("one") == {"n": 1}


async def test_what_blocks_never_runs_in_the_event_loop(store: AsyncStore, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, loop = store.sync.backend, threading.get_ident()

    def watch(name: str, method: Any) -> Any:
        def watched(*args: Any, **given: Any) -> Any:
            assert threading.get_ident() != loop, f"{name} blocks the event loop"
            return method(*args, **given)

        return watched

    for name in ("read", "change", "change_many", "append_many", "entries", "names", "lock", "delete_with", "trim"):
        monkeypatch.setattr(backend, name, watch(name, getattr(backend, name)))
    agents, trail = store.collection("agents"), store.journal("audit", "trail")
    await agents.put("one", {"n": 1})
    await agents.update("one", lambda doc: {"n": doc["n"] + 1})
    async with agents.edit("one") as doc:
        doc["n"] = 3
    await agents.get("one")
    await agents.names()
    [item async for item in agents.items()]
    await agents.delete("one")
    await trail.append("x")
    await trail.tail(1)
    [entry async for entry in trail]
    await trail.trim(before=2)
    session = await store.sessions.create()
    chat = store.session(session.id)
    await chat.messages.append("user", "Hi")
    async with chat.messages.stream("assistant") as reply:
        await reply.write("Hello")
    await chat.messages.list()
    await chat.tool_calls.create("grep")
    await chat.document()
    await store.sessions.list()
    async with store.sessions.edit(session.id) as edited:
        edited.title = "t"
    await store.sessions.delete(session.id)


def test_one_store_serves_several_event_loops(tmp_path: Path, anyio_backend: str) -> None:
    store = AsyncStore(tmp_path / "state")

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(store.journal("audit", "trail").append, "x")

    for _ in range(3):
        anyio.run(work, backend=anyio_backend)
    assert anyio.run(store.journal("audit", "trail").count, backend=anyio_backend) == 15
    anyio.run(store.close, backend=anyio_backend)


async def test_a_closed_store_says_so(store: AsyncStore) -> None:
    await store.close()
    with pytest.raises(StoreClosedError):
        await store.collection("agents").put("one", {})


async def test_sync_and_async_sides_of_one_store(store: AsyncStore) -> None:
    side = AsyncStore.of(store.sync)
    await side.collection("agents").put("one", {"n": 1})
    assert store.sync.collection("agents")["one"] == {"n": 1}


async def test_an_awaited_update_runs_again_when_its_change_meets_an_editors(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"mood": "calm"})
    edit = Path(agents.path_of("one")).write_text
    seen = []

    async def change(doc: dict[str, str]) -> dict[str, str]:
        seen.append(doc["mood"])
        if len(seen) == 1:
            edit('{\n  "mood": "busy"\n}\n')
        return {"mood": doc["mood"] + "!"}

    assert await agents.update("one", change) == {"mood": "busy!"}
    assert seen == ["calm", "busy"]
    assert await agents.get("one") == {"mood": "busy!"}
    # What was done again was not lost.
    assert await store.conflicts() == []


async def test_what_many_tasks_lose_at_once_is_all_kept(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put("one", {"n": "theirs"})
    told: list[str | None] = []

    async def lose(number: int) -> None:
        with pytest.raises(ConflictError) as caught:
            await agents.put("one", {"n": number}, expect="0" * 40, merge=True)
        told.append(caught.value.kept_at)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(lose, number)
    assert sorted(filter(None, told)) == sorted(each.path for each in await store.conflicts())
    assert len(set(told)) == 20
    assert await agents.get("one") == {"n": "theirs"}


async def test_a_conflict_that_an_update_raises_itself_goes_on(store: AsyncStore) -> None:
    agents = store.collection("agents")
    await agents.put_many({"one": {}, "other": {"n": 1}})
    calls = 0

    async def change(_: dict[str, int]) -> None:
        nonlocal calls
        calls += 1
        await agents.put("other", {"n": 2}, expect="0" * 40)

    with anyio.fail_after(5), pytest.raises(ConflictError):
        await agents.update("one", change)
    assert calls == 1
    await agents.put("one", {"free": True})


async def test_a_store_whose_recovery_fails_is_closed(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(tmp_path)
    store = AsyncStore(tmp_path, recover=True)
    with pytest.raises(UnsafePathError):
        async with store:
            pass
    with pytest.raises(StoreClosedError):
        await store.categories()
