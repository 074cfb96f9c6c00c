"""What soma keeps: conversations, task runs, audits of file changes, and sources with their files and ingests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fsstate.audits import AUDITS
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, setting
from fsstate.integrations.sqlite.database import Table
from fsstate.integrations.sqlite.reading import Cells, Item, Owned, Reader, fields
from fsstate.names import name_for
from fsstate.runs import RUNS
from fsstate.sources import INGESTS, ROOTS

__all__ = ["KNOWN_VERSION", "TABLES", "read"]

KNOWN_VERSION: Final = 3
# Older databases lack the later ones: each opening of soma makes those that are missing.
TABLES: Final = {
    "sessions": Table("settings", ("id", "created_at")),
    "conversations": Table("sessions", ("id", "session_id", "title")),
    "messages": Table("messages", ("id", "conversation_id", "sequence", "role", "content", "status")),
    "workspace_task_runs": Table("runs", ("run_id", "session_id", "task_id", "path", "status")),
    "workspace_file_change_audits": Table("audits", ("audit_id", "session_id", "action", "status")),
    "source_roots": Table("sources", ("path", "id")),
    "source_files": Table("sources", ("source_root_id", "relative_path")),
    "ingest_jobs": Table("sources", ("id", "scope_label", "status")),
    "provider_status": Table("settings", ("provider",)),
    "provider_selection": Table("settings", ("singleton",)),
}
_NAME: Final = "soma"
_NO_TITLE: Final = "New conversation"
_FLAGS: Final = ("stdout_truncated", "stderr_truncated", "timed_out", "cancel_requested")


def read(reader: Reader) -> Iterator[Item]:
    """Give all that the database holds."""
    yield from _settings(reader)
    for cells in reader.cells("conversations"):
        yield _session(reader, cells)
    reader.orphans("messages", "conversation_id", "conversations")
    for cells in reader.cells("workspace_task_runs", "started_at_ms, run_id"):
        yield from reader.record(RUNS, _run(cells), cells, key="run_id")
    for cells in reader.cells("workspace_file_change_audits", "created_at_ms, audit_id"):
        yield from reader.record(AUDITS, _audit(cells), cells, key="audit_id")
    yield from _sources(reader)


def _settings(reader: Reader) -> Iterator[Item]:
    for cells in reader.cells("sessions"):
        name, at = cells.text("id") or "", cells.time("created_at")
        yield setting(f"soma/sessions/{name}", cells.rest(), at, cells.place)
    for cells in reader.cells("provider_status"):
        name, at = cells.text("provider") or "", cells.time("last_tested_at")
        tested = fields(ok=cells.flag("last_test_ok"), detail=cells.text("last_test_detail"))
        yield setting(f"providers/{name}", tested | cells.rest(), at, cells.place)
    for cells in reader.cells("provider_selection"):
        cells.take("singleton")
        at = cells.time("updated_at")
        yield setting("provider_selection", cells.rest(), at, cells.place)


def _session(reader: Reader, cells: Cells) -> SessionItem:
    name = cells.text("id") or ""
    owned: Owned = ("conversation_id = ?", (name,))
    entries = reader.entries("messages", "sequence, rowid", owned, _message)
    known = fields(
        user_id=cells.text("session_id"),
        title=_title(cells.text("title")),
        created_at=cells.time("created_at"),
        updated_at=cells.time("updated_at"),
    )
    last = fields(last_message_at=cells.time("last_message_at"))
    return SessionItem(
        system=_NAME,
        id=name,
        place=cells.place,
        fields=known,
        metadata={_NAME: {**last, **cells.rest()}} if last or cells.rest() else {},
        logs={"messages": list(_in_line(entries))},
    )


def _title(told: str | None) -> str | None:
    """A title that somebody gave: the one that all begin with says nothing, and would keep a better one away."""
    return None if told == _NO_TITLE else told


def _message(cells: Cells) -> Entry:
    cells.take("conversation_id")
    row: Object = {"id": cells.text("id"), "role": cells.text("role"), "content": cells.take("content")}
    row |= fields(at=cells.time("created_at"), status=cells.text("status"), model=cells.text("model_id"))
    return Entry(cells.place, row | fields(metadata=cells.rest() or None))


def _in_line(entries: list[Entry]) -> Iterator[Entry]:
    """The messages, each under the one before it."""
    parent: str | None = None
    for entry in entries:
        yield entry._replace(row=entry.row | fields(parent=parent))
        # One without an id cannot be imported, and nothing goes under it.
        parent = entry.row["id"] or parent


def _sources(reader: Reader) -> Iterator[Item]:
    """The roots with their files, and the passes over them."""
    yield from _roots(reader)
    reader.orphans("source_files", "source_root_id", "source_roots")
    for cells in reader.cells("ingest_jobs", "started_at, id"):
        value = fields(scope=cells.text("scope_label"), error=cells.text("last_error"))
        value |= fields(started_at=cells.time("started_at"), completed_at=cells.time("completed_at"))
        yield from reader.record(INGESTS, value, cells)


def _roots(reader: Reader) -> Iterator[Item]:
    """The roots with their files. Of those with one id only the first is taken, unless the store has another."""
    paths = reader.roots()
    refused: dict[Any, str] = {}
    taken: set[Any] = set()
    for cells in reader.cells("source_roots", "path"):
        name, path = cells.peek("id"), str(cells.peek("path"))
        other = paths.setdefault(str(name), path)
        if other == path:
            taken.add(name)
            yield from _root(reader, cells)
        else:
            refused[name] = f"the id {name!r} is that of the source {other}"
            cells.refuse(refused[name])
    for name, reason in refused.items():
        if name not in taken:
            reader.refuse("source_files", ("source_root_id = ?", (name,)), reason)


def _root(reader: Reader, cells: Cells) -> Iterator[Item]:
    owned: Owned = ("source_root_id = ?", (cells.peek("id"),))
    place, name = cells.place, name_for(str(cells.peek("path")))
    value = fields(read_only=cells.flag("read_only"), created_at=cells.time("created_at"))
    yield from reader.record(ROOTS, value, cells, key="path")
    files = [_file(each) for each in reader.cells("source_files", "relative_path", owned)]
    if files:
        items = {"items": files}
        yield DocumentItem("sources", f"{ROOTS.category}/{name}", "files", items, place, parts=len(files))


def _file(cells: Cells) -> Object:
    cells.take("source_root_id")
    times = fields(modified_at=cells.time("modified_at"), updated_at=cells.time("updated_at"))
    return cells.rest() | times


def _run(cells: Cells) -> Object:
    """A task run."""
    began, completed = cells.milliseconds("started_at_ms"), cells.milliseconds("completed_at_ms")
    flags = {name: cells.flag(name) for name in _FLAGS}
    return fields(
        task=cells.text("task_id"),
        command=cells.text("command_label"),
        created_at=began,
        started_at=began,
        completed_at=completed,
        updated_at=cells.time("updated_at"),
        **flags,
    )


def _audit(cells: Cells) -> Object:
    return fields(
        size_before=cells.take("size_bytes_before"),
        size_after=cells.take("size_bytes_after"),
        created_at=cells.milliseconds("created_at_ms"),
        applied_at=cells.milliseconds("applied_at_ms"),
        updated_at=cells.time("updated_at"),
    )
