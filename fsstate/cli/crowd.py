"""Many at once: what the demo's processes do. Importable by itself, so that a process starts fast."""

from __future__ import annotations

import threading
from typing import Any, Final

__all__ = ["APPENDS", "PROCESSES", "UPDATES", "run"]

PROCESSES: Final = 3
_THREADS: Final = 2
_TASKS: Final = 8
_TURNS: Final = 3
# What all of them do together.
APPENDS: Final = PROCESSES * (_THREADS + _TASKS) * _TURNS
UPDATES: Final = APPENDS


def run(directory: str) -> None:
    """Let so many processes work on one directory. Raises RuntimeError when one of them failed."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        # Consumed, since an error of a process is raised where its result is taken.
        list(pool.map(_work, [directory] * PROCESSES, range(1, PROCESSES + 1)))


def _work(directory: str, number: int) -> None:
    """One process: its threads and its tasks append to one log and change one document."""
    import asyncio

    threads = [threading.Thread(target=_thread, args=(directory, f"process {number}")) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    asyncio.run(_tasks(directory, f"process {number}"))
    for thread in threads:
        thread.join()


def _count(agent: dict[str, Any]) -> None:
    agent["runs"] += 1


def _thread(directory: str, who: str) -> None:
    from fsstate import Store

    with Store(directory) as store:
        for turn in range(_TURNS):
            store.journal("audit", "trail").append("run_started", by=f"{who}, a thread", turn=turn)
            store.collection("agents").update("planner", _count)


async def _tasks(directory: str, who: str) -> None:
    import asyncio

    from fsstate import AsyncStore

    async def task() -> None:
        for turn in range(_TURNS):
            await store.journal("audit", "trail").append("run_started", by=f"{who}, a task", turn=turn)
            await store.collection("agents").update("planner", _count)

    async with AsyncStore(directory) as store:
        await asyncio.gather(*(task() for _ in range(_TASKS)))
