"""The records that all programs of a storm work on."""

from __future__ import annotations

from typing import Any, Final

from fsstate import Store

__all__ = ["DOCUMENTS", "LOGS", "PASSING", "SESSIONS", "STABLE", "WORD", "blank", "prepare"]

# Documents that everybody writes: a register, a note that only people write, and a counter.
DOCUMENTS: Final = tuple(f"shared-{number}" for number in range(3))
LOGS: Final = ("trail", "news")
SESSIONS: Final = ("first", "second")
# Records that come and go, beside some that stay.
PASSING: Final = tuple(f"passing-{number}" for number in range(8))
STABLE: Final = tuple(f"stable-{number}" for number in range(4))
# What all of these hold, for searches.
WORD: Final = "weather"


def blank(content: str) -> dict[str, Any]:
    """A record that comes and goes."""
    return {"content": content, "kind": WORD, "updated_at": "2020-01-01T00:00:00Z"}


def prepare(store: Store) -> None:
    """Make what is there before the storm."""
    store.collection("shared").put_many({name: {"register": "", "note": "", "counter": 0} for name in DOCUMENTS})
    for name in SESSIONS:
        store.sessions.create(id=name)
    # Without a time nothing is pruned.
    store.collection("records").put_many({name: {"content": name, "kind": WORD} for name in STABLE})
