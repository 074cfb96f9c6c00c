"""Which message goes under which when some are left out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from fsstate.integrations.items import Entry

__all__ = ["Lineage"]


class Lineage:
    """Messages without those at some places.

    What was under one that is left out goes under its nearest ancestor that is kept; where it has none, under the
    message that stands before it. No circle comes of that.

    - `entries`: the messages that are kept, with their parents.
    - `head`: where the conversation goes on, as in `SessionItem`.
    - `heirs`: what each one that is left out and had something under it is replaced by there; None: by nothing.
    """

    def __init__(self, entries: Sequence[Entry], left_out: AbstractSet[int], head: tuple[str | None] | None) -> None:
        kept = [entry for number, entry in enumerate(entries) if number not in left_out]
        self._above = {name: _parent(entry) for entry in entries if (name := _name(entry)) is not None}
        self._gone = self._above.keys() - {_name(entry) for entry in kept}
        self._tie_up(entries)
        asked = {*map(_parent, kept), *(head or ())} & self._gone
        self.heirs: dict[str | None, str | None] = {name: self._nearest(name) for name in asked}
        self.entries = [self._mended(entry) for entry in kept]
        self.head = self._mended_head(head)

    def _tie_up(self, entries: Sequence[Entry]) -> None:
        """Put what is gone and has no ancestor under the message before it."""
        before: str | None = None
        for name in map(_name, entries):
            if name not in self._gone:
                before = name or before
            elif self._above[name] not in self._above:
                self._above[name] = None if name in self._upward(before) else before

    def _nearest(self, name: str | None) -> str | None:
        return next((each for each in self._upward(name) if each not in self._gone), None)

    def _upward(self, name: str | None) -> Iterator[str]:
        seen: set[str] = set()
        while name is not None and name not in seen:
            yield name
            seen.add(name)
            name = self._above.get(name)

    def _mended(self, entry: Entry) -> Entry:
        parent = _parent(entry)
        if parent not in self.heirs:
            return entry
        rest = {key: value for key, value in entry.row.items() if key != "parent"}
        heir = self.heirs[parent]
        return entry._replace(row=rest if heir is None else {**rest, "parent": heir})

    def _mended_head(self, head: tuple[str | None] | None) -> tuple[str | None] | None:
        """Where nothing stands in for the head, the conversation goes on from its last message."""
        if head is None or head[0] not in self.heirs:
            return head
        heir = self.heirs[head[0]]
        return None if heir is None else (heir,)


def _name(entry: Entry) -> str | None:
    return entry.row.get("id")


def _parent(entry: Entry) -> str | None:
    return entry.row.get("parent")
