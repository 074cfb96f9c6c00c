"""Steps that change nothing, and whose answers must be true."""

from __future__ import annotations

from typing import Any, Final

from fsstate import Store
from tests.faults.deed import Deed
from tests.faults.talking import export, talk, whole
from tests.faults.writing import make_trail, read_trail, trail

__all__ = ["ANSWERS"]


def make_tasks(store: Store) -> None:
    talk(store)
    make_trail(store)
    tasks(store).put_many({f"t{number}": {"status": "open", "n": number} for number in range(20)})
    ask(store)
    # What the index knows is not all there is.
    tasks(store).put("t3", {"status": "closed", "n": 3})


def tasks(store: Store) -> Any:
    return store.collection("tasks", indexed=["status", "n"])


def ask(store: Store) -> object:
    """Whatever has an index behind it."""
    found = tasks(store).query({"status": "open"}, order_by="-n", limit=5)
    sessions = [(one.id, one.title, one.message_count) for one in store.sessions.list(order_by="id")]
    hits = sorted((hit.place, hit.message_id or "") for hit in store.search("hello"))
    return found, sessions, hits, store.jobs.count(status="queued")


def list_all(store: Store) -> object:
    found = tasks(store).query({"status": "open"}, order_by="-n", limit=5)
    return found, [(one.id, one.title, one.message_count) for one in store.sessions.list(order_by="id")]


def read(store: Store) -> object:
    documents = sorted(tasks(store)), tasks(store).get("t3"), tasks(store).get("absent"), "t1" in tasks(store)
    logs = read_trail(store), len(trail(store)), [entry.seq for entry in trail(store).tail(2)]
    return documents, logs, whole(store), exists(store)


def exists(store: Store) -> object:
    return store.session("s1").exists(), store.session("s4").exists(), store.settings.get("absent")


ANSWERS: Final = {
    "ask, and the cache fails": Deed(ask, prepare=make_tasks, is_answer=True, within=".fsstate/cache"),
    "ask first, and the cache fails": Deed(ask, prepare=talk, is_answer=True, within=".fsstate/cache"),
    "list": Deed(list_all, prepare=make_tasks, is_answer=True),
    "read": Deed(read, prepare=make_tasks, is_answer=True),
    "export": Deed(export, prepare=talk, is_answer=True),
}
