"""The same work in any environment: it leaves the same files behind, byte for byte, with the same modes.

    python -m tests.places.workout DIRECTORY [UMASK]

Prints a digest of what is in the store. Names are ASCII, as not every environment can write others.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsstate
from fsstate.cli import output
from fsstate.cli.app import program

__all__ = ["END", "clock", "digest", "work"]

END = datetime(2026, 10, 25, tzinfo=UTC)


class clock:  # noqa: N801 - used as a function is
    """A second later each time, through the night in which Europe's clocks go back."""

    def __init__(self) -> None:
        self._seconds: Iterator[int] = itertools.count()

    def __call__(self) -> datetime:
        return END + timedelta(seconds=next(self._seconds))


def work(root: str) -> None:
    with fsstate.Store(root, fsstate.StoreOptions(clock=clock(), durability="process")) as store:
        agents = store.collection("agents", indexed=["status", "n"])
        agents.put_many({f"agent-{number}": {"status": "İı ÜßÅ 東京 🙂", "n": number / 3} for number in range(5)})
        agents.update("agent-1", lambda agent: {**agent, "I": "ı".upper()})
        assert len(agents.query({"status": "İı ÜßÅ 東京 🙂"}, order_by="-n")) == 5
        store.markdown("notes").put("note", fsstate.Document("Grüße\r\n", {"title": "İ", "at": "23:59:60"}))
        store.journal("audit", "trail").append_many([("login", {"wer": "Jürgen", "n": n}) for n in range(20)])
        store.journal("audit", "trail").trim(before=3)
        store.sessions.create(id="SID", user_id="ı", title="İSTANBUL", created_at=END)
        with store.session("SID").messages.stream("assistant", id="mid") as stream:
            stream.write("Grüße ")
            stream.write("aus İstanbul")
        store.session("SID").checkpoints.save("CHECK", {"ü": 1})
        store.settings.set("key/i", "ü")
        assert [hit.message_id for hit in store.search("grüsse istanbul", in_="SID")] == ["mid"]
        assert store.sessions.find("SID").title == "İSTANBUL"
        assert (found := store.sessions.find_title("i̇stanbul")) is not None
        assert found.id == "SID"
        assert len(store.sessions.list(updated_after=END)) == 1
        policy = fsstate.PrunePolicy(ttl=timedelta(days=9000))
        assert store.sessions.prune(policy).pruned == []


def look(root: str) -> None:
    """What the command line shows of it, which must not fail."""
    output.prepare()
    for given in (
        ["ls"],
        ["show", "SID"],
        ["log", "audit/trail"],
        ["search", "grüße"],
        ["stats"],
        ["show", "agents/agent-1"],
    ):
        code: Any = program.main(["--store", root, *given], standalone_mode=False)
        assert code == 0, given


def digest(root: str) -> str:
    found = hashlib.sha256()
    for path in sorted(Path(root).rglob("*")):
        place = path.relative_to(root)
        if place.parts[0] == ".fsstate" and path.name != "store.json":
            continue
        found.update(os.fsencode(place) + b"\0%o\0" % path.stat().st_mode)
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def main(root: str, umask: str = "022") -> None:
    os.umask(int(umask, 8))
    work(root)
    told = digest(root)
    look(root)
    assert digest(root) == told
    sys.stderr.write(f"{told}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
