"""A day of oxios on fsstate: its sessions, agents, seeds and memory in one directory, and a crash in the middle.

    python examples/oxios.py [DIRECTORY]

Without a directory it makes a new one. What each function of oxios's own store is called here: see README.md.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio

import fsstate

TIME = "2026-03-01T10:00:0{}Z"


def as_oxios_left_it(directory: Path) -> None:
    """A session as oxios itself writes it, with its messages and steps inside."""
    step = {"tool_name": "wc", "tool_args": {"path": "notes.md"}, "output_summary": "12", "timestamp": TIME.format(2)}
    question = {"content": "How long are my notes?", "timestamp": TIME.format(1)}
    answer = {"content": "12 lines.", "timestamp": TIME.format(3), "trajectory_range": {"start": 0, "end": 1}}
    document: dict[str, Any] = {"id": "old", "user_id": "ada", "metadata": {"project_ids": "notes,home"}}
    document |= {"user_messages": [question], "agent_responses": [answer], "trajectory_steps": [step]}
    document |= {"created_at": TIME.format(0), "updated_at": TIME.format(3)}
    path = directory / "sessions" / "old.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


async def morning(store: fsstate.AsyncStore) -> None:
    for summary in await store.sessions.list():
        print(f"found: {summary.title!r}, {summary.message_count} messages, project {summary.project_id}")

    session = store.session("old")  # goes on: a tool is used, and the answer says which steps led to it
    await session.messages.append("user", "And without empty lines?")
    number = await session.steps.append("grep", {"pattern": "."}, output_summary="9", duration_ms=4)
    answer = await session.messages.append("assistant", "9 lines.", steps=(number, number + 1))
    print("now:", [message.text for message in await session.messages.list()], "steps", answer.steps)

    # JSON and Markdown by category.
    await store.collection("seeds").put("tidy", {"goal": "tidy up the notes", "constraints": ["lose nothing"]})
    await store.markdown("evals").put("tidy", "# Tidy\n\nPassed.\n")
    await store.collection("memory/facts").put("notes", {"content": "notes are in notes.md", "importance": 0.8})
    print("categories:", await store.categories(), "memory:", await store.categories("memory"))

    # Twenty tasks change one session at once, and none of it is lost.
    def add_one(session: fsstate.Session) -> None:
        session.metadata["visits"] = session.metadata.get("visits", 0) + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.sessions.update, "old", add_one)
    print("visits:", (await store.sessions.require("old")).metadata["visits"])

    for name in ("agent-1", "agent-2", "agent-3", "agent-4", "agent-5"):
        await store.agents.create(name, name="tidier", status="Running", seed_id="tidy")
    await store.agents.change("agent-5", status="Completed", steps_completed=3, cost_usd=0.02)
    print("running:", await store.agents.count(status="Running"))


async def die_while_answering(store: fsstate.AsyncStore) -> None:
    """What the child process does until it is killed."""
    await store.sessions.create(id="crashed", user_id="ada")
    messages = store.session("crashed").messages
    await messages.append("user", "Tell me about the harbour")
    async with messages.stream("assistant", model="m1") as reply:
        for word in ("The ", "harbour ", "opens "):
            await reply.write(word)
        print("written", flush=True)
        await anyio.sleep_forever()


async def evening(store: fsstate.AsyncStore) -> None:
    for message in await store.session("crashed").messages.list():
        print(f"after the crash: {message.role} ({message.status}): {message.text}")
    await store.sessions.move("crashed", "sea")

    # Old agents and sessions go, at most once an hour.
    throttle = fsstate.Throttle(timedelta(hours=1))
    for _ in range(2):
        if not throttle.ready():
            print("pruned already in this hour")
            continue
        agents = await store.agents.prune(fsstate.PrunePolicy(ttl=timedelta(hours=720), keep=3, batch=100))
        sessions = await store.sessions.prune(fsstate.PrunePolicy(keep=1))
        print("pruned:", len(agents.pruned), "agents, sessions", [each.id for each in sessions.pruned])
    print("left:", [(summary.title, summary.project_id) for summary in await store.sessions.list()])


async def opened(directory: str, work: Callable[[fsstate.AsyncStore], Awaitable[None]]) -> None:
    async with fsstate.AsyncStore(directory, recover=True) as store:
        await work(store)


def main(directory: str) -> None:
    as_oxios_left_it(Path(directory))
    anyio.run(opened, directory, morning)

    with subprocess.Popen([sys.executable, __file__, directory, "--die"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()

    anyio.run(opened, directory, evening)


if __name__ == "__main__":
    if "--die" in sys.argv:
        anyio.run(opened, sys.argv[1], die_while_answering)
    else:
        state = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="oxios-")
        print("state in", state)
        main(state)
