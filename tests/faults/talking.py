"""Steps that have to do with sessions, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fsstate
from fsstate import Store
from fsstate.integrations.session_json import export_session, import_session
from tests.faults.deed import GONE, TAKEN, Deed
from tests.faults.writing import settled

__all__ = ["SESSIONS", "export", "retitle", "talk", "titles", "trash", "whole"]


def said(name: str) -> tuple[Any, int]:
    """What `whole` tells of a session that is as it was."""
    return {f"{name}-1": ("Hello", "complete")}, 1


def talk(store: Store) -> None:
    for name in ("s1", "s2", "s3"):
        store.sessions.create(id=name, title=name)
        store.session(name).messages.append("user", "Hello", id=f"{name}-1")
        store.session(name).events.append("begun")


def say(store: Store) -> None:
    store.session("s1").messages.append("user", "Hi", id="m")


def messages(store: Store, name: str = "s1") -> object:
    if not store.sessions.get(name):
        return None
    return {message.id: (message.text, message.status) for message in store.session(name).messages.all()}


def titles(store: Store) -> Mapping[str, Any]:
    shown = {name: store.sessions.get(name) for name in ("s1", "s2", "s3", "s4")}
    return {name: found and (found.title, found.archived_at is not None) for name, found in shown.items()}


def whole(store: Store) -> Mapping[str, Any]:
    """The sessions, with all that belongs to them."""
    shown = titles(store)
    # Nothing of a session that is not there may be seen.
    return {name: shown[name] and (messages(store, name), len(store.session(name).events)) for name in shown}


def retitle(store: Store) -> None:
    def change(session: fsstate.Session) -> None:
        session.title = "renamed"

    store.sessions.update("s1", change)


def stream(store: Store) -> None:
    with store.session("s1").messages.stream("assistant", id="m") as one:
        one.write("Once ")
        one.write("upon")


def streamed(store: Store) -> object:
    """Whether it is there, and whole."""
    found = {message.id: message for message in store.session("s1").messages.all()}.get("m")
    assert found is None or "Once upon".startswith(found.text), found
    return {"it": found is not None, "text": found.text if found is not None and found.status == "complete" else None}


def prune(store: Store) -> None:
    settled(store.sessions.prune(fsstate.PrunePolicy(keep=1)))


def trash(store: Store) -> Mapping[str, Any]:
    return {item.record: item.reason for item in store.trash.list()}


def in_place_or_trash(store: Store) -> Mapping[str, Any]:
    """Sessions, and where they are: lost is none."""
    there, pruned = whole(store), trash(store)
    places = {name: (there[name] is not None, f"sessions/{name}.json" in pruned) for name in ("s1", "s2", "s3")}
    assert all(any(place) for place in places.values()), f"lost: {places}"
    assert all(there[name] in (None, said(name)) for name in places), there
    return {name: place[0] for name, place in places.items()}


def prune_for_good(store: Store) -> None:
    settled(store.sessions.prune(fsstate.PrunePolicy(keep=1), trash=False))


def talk_and_prune(store: Store) -> None:
    talk(store)
    prune(store)


def export(store: Store) -> bytes:
    return b"".join(export_session(store.session("s1")))


def exported(store: Store) -> Path:
    # Beside the store: not its own file.
    return Path(store.path).with_name("exported.json")


def make_export(store: Store) -> None:
    talk(store)
    exported(store).write_bytes(export(store).replace(b"s1", b"s4"))


def bring_in(store: Store) -> None:
    import_session(store, exported(store))


def brought_in(store: Store) -> Mapping[str, Any]:
    """What there is of the session: what an import began, the next one finishes."""
    found, one = whole(store), store.session("s4")
    there = found["s4"] is not None
    return {
        **{name: found[name] for name in ("s1", "s2", "s3")},
        "it": there,
        "said": len(one.messages.all()) if there else 0,
        "events": len(one.events) if there else 0,
    }


def forked(store: Store) -> Mapping[str, Any]:
    there = store.session("s4").exists()
    return {"it": there, "said": len(store.session("s4").messages.all()) if there else 0}


def give(store: Store) -> None:
    """What belongs to a session besides."""
    one = store.session("s1")
    one.checkpoints.save("first", {"n": 2})
    one.goal.set("win", id="g")
    one.tool_calls.create("grep", {}, id="c")


def given(store: Store) -> Mapping[str, Any]:
    one = store.session("s1")
    point, goal = one.checkpoints.load("first"), one.goal.get()
    return {
        "first": point and point.state,
        "goal": goal and goal.objective,
        "calls": [c.id for c in one.tool_calls.list()],
    }


SESSIONS: Final = {
    "say": Deed(say, messages, talk, repeated=TAKEN),
    "say the first": Deed(say, messages, lambda store: store.sessions.create(id="s1"), repeated=TAKEN),
    "change a message": Deed(
        lambda store: store.session("s1").messages.update("s1-1", content="Bye"),
        messages,
        talk,
    ),
    "stream": Deed(stream, streamed, talk, in_parts=True, repeated=TAKEN),
    "clear": Deed(lambda store: store.session("s1").messages.clear(), messages, talk),
    "create a session": Deed(lambda store: store.sessions.create(id="s4"), titles, repeated=TAKEN),
    "change a session": Deed(retitle, titles, talk),
    "archive": Deed(lambda store: store.sessions.archive("s1"), titles, talk),
    "delete a session": Deed(lambda store: store.sessions.delete("s1"), whole, talk),
    "fork": Deed(
        lambda store: store.sessions.fork("s1", new_id="s4", title="s4", copy_messages=True),
        forked,
        talk,
        may_be_left=True,
        repeated=TAKEN,
    ),
    "give a session more": Deed(give, given, talk, in_parts=True, repeated=TAKEN),
    "prune": Deed(prune, in_place_or_trash, talk, in_parts=True),
    "prune for good": Deed(prune_for_good, whole, talk, in_parts=True),
    "restore": Deed(
        lambda store: store.trash.restore("sessions/s1.json"),
        in_place_or_trash,
        talk_and_prune,
        in_parts=True,
        repeated=(*GONE, *TAKEN),
    ),
    "empty the trash": Deed(lambda store: settled(store.trash.empty()), trash, talk_and_prune, in_parts=True),
    "import": Deed(bring_in, brought_in, make_export, in_parts=True),
}
