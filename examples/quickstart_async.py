"""fsstate in async code: the same names, awaited. Runs on asyncio and on trio.

python examples/quickstart_async.py [DIRECTORY] [asyncio|trio]
"""

import sys
from pathlib import Path

import anyio

import fsstate


async def worker(store: fsstate.AsyncStore, name: str) -> None:
    agents = store.collection("agents")
    for _ in range(10):
        # Each is a read-modify-write under the record's lock: no increment is lost.
        await agents.update("shared", lambda agent: {**agent, "runs": agent["runs"] + 1})
    await store.journal("audit", "trail").append("worker_done", worker=name)


async def think(agent: dict[str, int]) -> dict[str, int]:
    await anyio.sleep(0.01)  # a model would be asked here, while the record's lock is held
    return {**agent, "thoughts": 42}


async def main(directory: Path) -> None:
    async with fsstate.AsyncStore(directory) as store:
        agents = store.collection("agents")
        await agents.put("shared", {"runs": 0})
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(worker, store, f"worker-{number}")
        await agents.update("shared", think)
        print("shared:", await agents.get("shared"))
        print("log entries:", await store.journal("audit", "trail").count())

        session = await store.sessions.create(user_id="ada")
        messages = store.session(session.id).messages
        await messages.append("user", "Hi")
        async with messages.stream("assistant", model="m1") as reply:
            await reply.write("Hel")
            await reply.write("lo")
        print("conversation:", [message.text for message in await messages.list()])


if __name__ == "__main__":
    anyio.run(
        main, Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-state"), backend=(sys.argv[2:] or ["asyncio"])[0]
    )
