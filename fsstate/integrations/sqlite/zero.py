"""What zero keeps: sessions with numbered events, and milestones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fsstate.integrations.items import Entry, Object, SessionItem, setting
from fsstate.integrations.sqlite.database import Table
from fsstate.integrations.sqlite.reading import Cells, Item, Owned, Reader, fields
from fsstate.names import name_for

__all__ = ["HISTORY", "KNOWN_VERSION", "TABLES", "read"]

# Where refinery writes down the version of the schema.
HISTORY: Final = "refinery_schema_history"
KNOWN_VERSION: Final = 1
TABLES: Final = {
    "sessions": Table("sessions", ("id", "ulid", "started_at", "cli_version")),
    "events": Table("events", ("session_id", "seq", "at", "kind", "text")),
    "milestones": Table("settings", ("key", "value", "at")),
}
_NAME: Final = "zero"
_LABEL: Final = "session.label."


def read(reader: Reader) -> Iterator[Item]:
    """Give all that the database holds."""
    labels = {cells.text("value"): cells.text("key") or "" for cells in reader.cells("milestones", "key DESC", _LABELS)}
    for cells in reader.cells("sessions", "id"):
        yield _session(reader, cells, labels)
    reader.orphans("events", "session_id", "sessions")
    for cells in reader.cells("milestones", "key"):
        key, at = cells.text("key") or "", cells.time("at")
        yield setting(f"milestones/{key}", cells.take("value"), at, cells.place, **cells.rest())


_LABELS: Final[Owned] = ("key LIKE 'session.label.%'", ())


def _session(reader: Reader, cells: Cells, labels: dict[str | None, str]) -> SessionItem:
    owned: Owned = ("session_id = ?", (cells.peek("id"),))
    name, ended = cells.text("ulid") or "", cells.time("ended_at")
    began, parent = cells.time("started_at"), cells.text("parent_ulid")
    known = fields(
        label=labels.get(name, "").removeprefix(_LABEL).strip() or None,
        status="ended" if ended else None,
        parent_id=None if parent is None else name_for(parent),
        created_at=began,
        updated_at=ended or began,
        ended_at=ended,
    )
    events = [_event(number, each) for number, each in enumerate(reader.cells("events", "seq, rowid", owned), 1)]
    return SessionItem(
        system=_NAME, id=name, place=cells.place, fields=known, metadata=cells.kept(_NAME), logs={"events": events}
    )


def _event(number: int, cells: Cells) -> Entry:
    cells.take("session_id")
    row: Object = {"kind": cells.text("kind"), **fields(at=cells.time("at")), "text": cells.take("text")}
    seq = cells.take("seq")
    # The log numbers its entries itself, which as a rule gives the same.
    return Entry(cells.place, row | fields(sequence_num=None if seq == number else seq) | cells.rest())
