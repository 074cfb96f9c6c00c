"""Steps that write documents and logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fsstate
from fsstate import Store
from tests.faults.deed import GONE, TAKEN, Deed
from tests.faults.injecting import unharmed

__all__ = [
    "DOCUMENTS", "LOGS", "agents", "edit", "make_planner", "make_trail", "planner", "read_trail", "settled", "trail",
]  # fmt: skip


def agents(store: Store) -> Any:
    return store.collection("agents")


def planner(store: Store) -> object:
    return agents(store).get("planner")


BUSY: Final = {"n": 1, "mood": "busy"}


def all_agents(store: Store) -> Mapping[str, Any]:
    return {name: agents(store).get(name) for name in [f"m{number}" for number in range(10)]}


def make_planner(store: Store) -> None:
    agents(store).put("planner", {"n": 1, "mood": "calm"})


def edit(store: Store) -> None:
    with agents(store).edit("planner") as doc:
        doc["n"] = 2


def meet(store: Store, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Save on top of a version that somebody has replaced since it was read."""
    with unharmed():
        revision = agents(store).put("other", {"n": 1, "mood": "calm"})
        Path(agents(store).path_of("other")).write_text(json.dumps(theirs))
    agents(store).put("other", mine, expect=revision, merge=True)


def merge(store: Store) -> None:
    meet(store, BUSY, {"n": 2, "mood": "calm"})


def conflict(store: Store) -> None:
    """Have a version kept aside. One that could not be kept is an error."""
    try:
        meet(store, BUSY, {"n": 1, "mood": "angry"})
    except fsstate.ConflictError as error:
        if error.kept_at is None:
            raise


def make_other(store: Store) -> None:
    agents(store).put("other", BUSY)


def make_conflict(store: Store) -> None:
    make_other(store)
    conflict(store)


def other(store: Store) -> object:
    return agents(store).get("other"), len(store.conflicts()) > 0


def put_many(store: Store, number: int) -> None:
    agents(store).put_many({f"m{each}": {"n": 2} for each in range(number)})


DOCUMENTS: Final = {
    "put a new document": Deed(lambda store: agents(store).put("planner", {"n": 2}), planner),
    "put in new folders": Deed(
        lambda store: store.collection("teams/red/agents").put("a", {"n": 1}),
        lambda store: store.collection("teams/red/agents").get("a"),
    ),
    "put": Deed(lambda store: agents(store).put("planner", {"n": 2}), planner, make_planner),
    "put the same": Deed(make_planner, planner, make_planner),
    "create": Deed(lambda store: agents(store).create("planner", {"n": 2}), planner, repeated=TAKEN),
    "update": Deed(lambda store: agents(store).update("planner", lambda doc: {**doc, "n": 2}), planner, make_planner),
    "edit": Deed(edit, planner, make_planner),
    "delete": Deed(lambda store: agents(store).delete("planner"), planner, make_planner),
    "put many": Deed(
        lambda store: put_many(store, 3), all_agents, lambda store: agents(store).put("m1", {"n": 1}), in_parts=True
    ),
    "put many by several threads": Deed(lambda store: put_many(store, 10), all_agents, in_parts=True),
    "put a note": Deed(
        lambda store: store.markdown("notes").put("standup", "After\n"),
        lambda store: getattr(store.markdown("notes").get("standup"), "text", None),
        lambda store: store.markdown("notes").put("standup", "Before\n"),
    ),
    "merge": Deed(merge, other, make_other),
    "keep a conflict": Deed(conflict, other, make_other, in_parts=True, also=(fsstate.ConflictError,)),
    "resolve with mine": Deed(
        lambda store: store.resolve("agents/other", "mine"), other, make_conflict, in_parts=True, repeated=GONE
    ),
    "resolve with theirs": Deed(
        lambda store: store.resolve("agents/other", "theirs"), other, make_conflict, in_parts=True, repeated=GONE
    ),
}


def trail(store: Store) -> fsstate.Journal:
    return store.journal("audit", "trail")


def make_trail(store: Store) -> None:
    trail(store).append_many([("old", {"n": number}) for number in range(4)])


def read_trail(store: Store) -> object:
    rows = [(entry.seq, entry.kind, entry.get("n")) for entry in trail(store).read()]
    seqs = [seq for seq, *_ in rows]
    assert seqs == sorted(set(seqs)), f"seqs that do not grow: {rows}"
    # Whether it is there: doing it again appends another.
    return {row[1:] for row in rows}


def settled(report: fsstate.PruneReport | fsstate.TrashReport) -> object:
    """Raise what a report tells of one record."""
    for kept in report.kept:
        if kept.reason.startswith(("error", "locked", "touched")):
            raise fsstate.StorageError(kept.reason, kept.id, 0)
    return report


def put_several(store: Store) -> None:
    trail(store).append_many([("new", {"n": number, "text": "x" * 40_000}) for number in range(6)])


LOGS: Final = {
    "append": Deed(lambda store: trail(store).append("new"), read_trail, make_trail),
    "append to a new log": Deed(lambda store: trail(store).append("new"), read_trail),
    "append many": Deed(put_several, read_trail, make_trail),
    "trim": Deed(lambda store: trail(store).trim(before=3), read_trail, make_trail),
    "trim all": Deed(lambda store: trail(store).trim(before=5), read_trail, make_trail),
    "prune a log": Deed(
        lambda store: settled(trail(store).prune(fsstate.PrunePolicy(keep=2))), read_trail, make_trail, in_parts=True
    ),
}
