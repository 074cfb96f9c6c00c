"""A day of steer on fsstate: tools that need approval, a conversation that branches, and a crash between two writes.

    python examples/steer.py [DIRECTORY]

Without a directory it makes a new one. What each function of steer's own store is called here: see README.md.
"""

import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from fsstate import AsyncStore, Entry, LocalWorkspace, PreApproved, SessionConfig, ToolConfig

MODEL = "m1"
KINDS = ("message_complete", "tool_call_started", "tool_call_completed", "session_saved")


async def apply(store: AsyncStore, session_id: str, event: Entry) -> None:
    """Make of an event what follows from it; nothing, if that was done before."""
    session, fields = store.session(session_id), event.fields
    if event.kind == "message_complete":
        message = fields["message"]
        if await session.messages.get(message["id"]) is None:
            await session.messages.append(message["role"], message["content"], id=message["id"], model=MODEL)
    elif event.kind == "tool_call_started":
        call = fields["tool_call"]
        if await session.tool_calls.get(call["id"]) is None:
            await session.tool_calls.create(call["name"], call["parameters"], id=call["id"])
    elif event.kind == "tool_call_completed":
        name, answer = fields["tool_call_id"], f"tool_result_{fields['tool_call_id']}"
        if not (await session.tool_calls.require(name)).is_final:
            await session.tool_calls.complete(name, fields["result"])
        if await session.messages.get(answer) is None:
            await session.messages.append("tool", fields["result"], id=answer, tool_call_id=name)


async def record(store: AsyncStore, session_id: str, kind: str, **fields: Any) -> None:
    """First the event, then what follows from it: whatever happens in between, the event tells what is to be done."""
    events = store.session(session_id).journal("events", kinds=KINDS)
    event = await events.entry(await events.append(kind, model=MODEL, **fields))
    assert event is not None
    await apply(store, session_id, event)


async def say(store: AsyncStore, session_id: str, name: str, role: str, text: str) -> None:
    message = {"id": name, "role": role, "content": [{"type": "text", "text": text}]}
    await record(store, session_id, "message_complete", message=message)


async def morning(store: AsyncStore) -> None:
    await store.sessions.create(id="s1", status="inactive", metadata={"team": "red"})
    session = store.session("s1")
    approval = PreApproved({"grep"})
    await session.config.put(SessionConfig(workspace=LocalWorkspace("/work"), tools=ToolConfig(approval=approval)))

    await say(store, "s1", "u1", "user", "How many lines are in notes.md?")
    await say(store, "s1", "a1", "assistant", "I count them.")
    for name, tool in (("tc2", "wc"), ("tc1", "grep")):
        call = {"id": name, "name": tool, "parameters": {"path": "notes.md"}}
        await record(store, "s1", "tool_call_started", tool_call=call)
        if approval.is_approved(tool):
            await session.tool_calls.approve(name)
    print("waiting for approval:", [call.name for call in await session.tool_calls.pending()])
    await session.tool_calls.deny("tc2", "not on my machine")
    await session.tool_calls.start("tc1")


async def die_behind_an_event(store: AsyncStore) -> None:
    """What the child process does until it is killed: the tool is done, and its event is all that tells of it."""
    await store.session("s1").events.append("tool_call_completed", tool_call_id="tc1", result="12", model=MODEL)
    print("written", flush=True)
    await anyio.sleep_forever()


async def evening(store: AsyncStore) -> None:
    session = store.session("s1")
    print("after the crash:", (await session.tool_calls.require("tc1")).status)
    for event in await session.events.read():
        await apply(store, "s1", event)
    call = await session.tool_calls.require("tc1")
    print("caught up:", call.status, repr(call.result), [message.id for message in await session.messages.list()])

    # An edit is a sibling of the original; the other branch stays, and can be gone back to.
    await session.messages.fork_at(None, "user", "How many words are in notes.md?")
    print("edited:", [message.text for message in await session.messages.list()])
    await session.messages.set_head("tool_result_tc1")
    print("gone back:", len(await session.messages.list()), "of", await session.messages.count(), "messages")
    for summary in await store.sessions.list(metadata={"team": "red"}, status="inactive", order_by="-message_count"):
        print("listed:", summary.id, summary.message_count, summary.last_model)
    gone = await session.events.trim(before=10**9)
    print("old events deleted:", gone, "the next is", await session.events.append("session_saved"))


async def opened(directory: str, work: Callable[[AsyncStore], Awaitable[None]]) -> None:
    async with AsyncStore(directory) as store:
        await work(store)


def main(directory: str) -> None:
    anyio.run(opened, directory, morning)

    with subprocess.Popen([sys.executable, __file__, directory, "--die"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()

    anyio.run(opened, directory, evening)


if __name__ == "__main__":
    if "--die" in sys.argv:
        anyio.run(opened, sys.argv[1], die_behind_an_event)
    else:
        state = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="steer-")
        print("state in", state)
        main(state)
