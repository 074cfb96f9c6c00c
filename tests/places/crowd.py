"""Work for several processes at once, importable by those that start anew.

python -m tests.places.crowd DIRECTORY fork|spawn|forkserver
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import fsstate

__all__ = ["HANDS", "TIMES"]

HANDS, TIMES = 3, 15


def count_up(agent: Any) -> Any:
    return {"n": agent["n"] + 1}


def work(store: fsstate.Store, hand: int) -> None:
    for number in range(TIMES):
        store.journal("audit", "trail").append("x", hand=hand, number=number)
        store.collection("agents").update("counter", count_up)
        store.session("s").messages.append("user", f"{hand}/{number}")


def in_child(store: fsstate.Store | None, root: str, hand: int) -> None:
    """With the parent's store, where a child can have it; else with one of its own."""
    if store is not None:
        work(store, hand)
        return
    with fsstate.Store(root) as own:
        work(own, hand)


def main(root: str, method: str) -> None:
    with fsstate.Store(root, fsstate.StoreOptions(durability="process")) as store:
        store.collection("agents").put("counter", {"n": 0})
        store.sessions.create(id="s")
        # In use, with locks and descriptors that a forked child inherits.
        with (
            store.session("s").messages.stream("assistant") as stream,
            store.collection("agents").edit("held", default={}),
        ):
            stream.write("before")
            context: Any = multiprocessing.get_context(method)
            inherited = store if method == "fork" else None
            children = [context.Process(target=in_child, args=(inherited, root, hand)) for hand in range(HANDS)]
            for child in children:
                child.start()
            work(store, HANDS)
            for child in children:
                child.join()
                assert child.exitcode == 0
            stream.write(" after")
        assert store.collection("agents")["counter"] == {"n": (HANDS + 1) * TIMES}
        assert store.collection("agents")["held"] == {}


if __name__ == "__main__":
    main(*sys.argv[1:])
