"""Processes that are forked or started anew, and interpreters that end in the middle of writing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from fsstate import AsyncStore, Store, StoreOptions
from tests.places.crowd import HANDS, TIMES

PROJECT = Path(__file__).parents[2]


def run(root: Path, *command: str, codes: tuple[int, ...] = (0,)) -> str:
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, *command, str(root)] if command[0] == "-c" else [sys.executable, *command],
        env=env, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_every_kind(tmp_path: Path, method: str) -> None:
    root = tmp_path / "state"
    run(root, "-m", "tests.places.crowd", str(root), method)
    everything = {(hand, number) for hand in range(HANDS + 1) for number in range(TIMES)}
    with Store(root) as store:
        log = store.journal("audit", "trail")
        assert [entry.seq for entry in log.read()] == list(range(1, len(everything) + 1))
        assert {(entry["hand"], entry["number"]) for entry in log.read()} == everything
        texts = [message.text for message in store.session("s").messages.all()]
        assert sorted(texts) == sorted([f"{hand}/{number}" for hand, number in everything] + ["before after"])
        assert log.problems() == store.session("s").messages.problems() == []


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_event_loops(tmp_path: Path, kind: str) -> None:
    async def main() -> list[str]:
        async with AsyncStore(tmp_path / "state", StoreOptions(durability="process")) as store:
            await store.sessions.create(id="s")

            async def append(number: int) -> None:
                await store.journal("audit", "trail").append("x", n=number)
                await store.collection("agents").update(
                    "counter", lambda value: {"n": value["n"] + 1}, default={"n": 0}
                )
                await store.session("s").messages.append("user", str(number))

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(append, number)
            assert await store.collection("agents").get("counter") == {"n": 20}
            return [message.text for message in await store.session("s").messages.list()]

    assert sorted(anyio.run(main, backend=kind), key=int) == [str(number) for number in range(20)]


# Threads write, and tell what was acknowledged; then the interpreter ends in one way or another.
WRITERS = """
import atexit, os, sys, threading, time, fsstate
root = sys.argv[1]
store = fsstate.Store(root)
store.sessions.create(id="s")

def tell(what):
    os.write(1, (what + "\\n").encode())

def write(hand):
    number = 0
    while True:
        number += 1
        store.collection("agents").put(f"agent-{hand}", {"n": number})
        tell(f"doc {hand} {number}")
        store.journal("audit", "trail").append("x", hand=hand, n=number)
        tell(f"log {hand} {number}")
        message = store.session("s").messages.append("user", f"{hand}/{number}")
        tell(f"message {hand} {number}")

for hand in range(3):
    threading.Thread(target=write, args=(hand,), daemon=True).start()

def last():
    store.journal("audit", "trail").append("last")
    tell("last 0 1")
"""
ENDS = {
    "the main thread ends": "time.sleep(0.15)",
    "sys.exit": "time.sleep(0.15); sys.exit(0)",
    "sys.exit in a thread": "threading.Thread(target=lambda: sys.exit(3)).start(); time.sleep(0.15)",
    "os._exit": "time.sleep(0.15); os._exit(0)",
    "os._exit in a thread": "threading.Timer(0.15, os._exit, (0,)).start(); time.sleep(9)",
    "atexit writes": "atexit.register(last); time.sleep(0.1)",
    "atexit closes": "atexit.register(store.close); time.sleep(0.1)",
    "a stream is open": "store.session('s').messages.stream('assistant', id='m').open(); time.sleep(0.1); os._exit(0)",
    "an edit is open": "store.collection('agents').open_edit('held', default={}); time.sleep(0.1)",
    "kill": "time.sleep(0.1); os.kill(os.getpid(), 9)",
    "abort": "time.sleep(0.1); os.abort()",
}


@pytest.mark.parametrize("end", ENDS)
def test_interpreters_that_end_while_threads_write(tmp_path: Path, end: str) -> None:
    """What was acknowledged is there, the store opens as after any other end, and nobody waits for the dead."""
    root = tmp_path / "state"
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", WRITERS + ENDS[end], str(root)]
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, -9, -6), done.stderr
    told = [line.split() for line in done.stdout.splitlines() if line.count(" ") == 2]
    assert len(told) > 3, done.stderr
    with Store(root, StoreOptions(lock_timeout=2.0)) as store:
        log, messages = store.journal("audit", "trail"), store.session("s").messages
        entries = {(str(entry.get("hand", 0)), str(entry.get("n", 1))) for entry in log.read()}
        texts = {tuple(message.text.split("/")) for message in messages.all() if "/" in message.text}
        for kind, hand, number in told:
            if kind == "doc":
                found = store.collection("agents").get(f"agent-{hand}")
                assert found is not None
                assert found["n"] >= int(number)
            elif kind in ("log", "last"):
                assert (hand, number) in entries
            else:
                assert (hand, number) in texts
        assert store.collection("agents").problems() == store.sessions.problems() == []
        # Writing goes on, also where somebody was writing.
        for hand in "012":
            store.collection("agents").put(f"agent-{hand}", {"n": 0})
        store.collection("agents").put("held", {})
        log.append("x")
        messages.append("user", "after")
        store.sessions.update("s", lambda session: setattr(session, "title", "t"))
        assert log.problems() == messages.problems() == []
        assert store.sessions.delete("s")
