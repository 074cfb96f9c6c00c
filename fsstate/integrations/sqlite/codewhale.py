"""What codewhale's state database keeps: threads with trees of messages, jobs, and traces of workflows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fsstate import CorruptRecordError, codec
from fsstate.goals import GOALS
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, is_list, is_object
from fsstate.integrations.sqlite.database import Table
from fsstate.integrations.sqlite.reading import Cells, Item, Owned, Reader, fields, moment, session_times
from fsstate.jobs import JOBS
from fsstate.names import name_for
from fsstate.record_types import RecordType
from fsstate.workflows import BRANCHES, CANDIDATES, LEAVES, NODES, WORKFLOWS

__all__ = ["KNOWN_VERSION", "TABLES", "read"]

KNOWN_VERSION: Final = 3
_OF_RUN: Final = ("id", "workflow_run_id")
TABLES: Final = {
    "threads": Table("sessions", ("id", "created_at", "updated_at", "status", "archived", "current_leaf_id")),
    "messages": Table("messages", ("id", "thread_id", "role", "content", "created_at", "parent_entry_id")),
    "thread_dynamic_tools": Table("tools", ("thread_id", "position", "name", "input_schema")),
    "checkpoints": Table("checkpoints", ("thread_id", "checkpoint_id", "state_json", "created_at")),
    "jobs": Table("jobs", ("id", "name", "status", "created_at", "updated_at")),
    "thread_goals": Table("goals", ("thread_id", "goal_id", "objective", "status")),
    "workflow_runs": Table("workflows", ("id", "workflow_id", "goal", "status")),
    "branch_runs": Table("workflows", (*_OF_RUN, "branch_id")),
    "leaf_runs": Table("workflows", (*_OF_RUN, "leaf_id")),
    "control_node_runs": Table("workflows", (*_OF_RUN, "node_id")),
    "teacher_candidates": Table("workflows", (*_OF_RUN, "candidate_id")),
}
_NAME: Final = "codewhale"
_ARCHIVED: Final = "archived"
_IDLE: Final = "idle"
# The most that a job's progress can be.
_FULL: Final = 100
# Of what a job's row tells in its detail.
_DETAIL_VERSION: Final = 1
# What belongs to a workflow run.
_BELONGINGS: Final[dict[str, RecordType[Any]]] = {
    "branch_runs": BRANCHES,
    "leaf_runs": LEAVES,
    "control_node_runs": NODES,
    "teacher_candidates": CANDIDATES,
}
_JSON: Final = ("result", "output", "artifacts", "selected_children", "rationale")


def read(reader: Reader) -> Iterator[Item]:
    """Give all that the database holds."""
    for cells in reader.cells("threads"):
        yield _session(reader, cells)
    for table in ("messages", "thread_dynamic_tools", "checkpoints", "thread_goals"):
        reader.orphans(table, "thread_id", "threads")
    for cells in reader.cells("jobs"):
        yield from reader.record(JOBS, _job(cells), cells)
    for cells in reader.cells("workflow_runs"):
        run = fields(metadata=cells.json("metadata_json") or None)
        yield from reader.record(WORKFLOWS, run | _traced(cells), cells)
    for table, kind in _BELONGINGS.items():
        yield from _belongings(reader, table, kind)


# Threads


def _session(reader: Reader, cells: Cells) -> SessionItem:
    name = cells.text("id") or ""
    owned: Owned = ("thread_id = ?", (name,))
    messages = reader.entries("messages", "id", owned, _message)
    head = reader.head(cells, "current_leaf_id", messages)
    source = _source(messages)
    times = session_times(cells.seconds("created_at"), cells.seconds("updated_at"))
    known = fields(
        title=cells.text("title"),
        parent_id=None if source is None else name_for(source),
        memory_mode=cells.text("memory_mode"),
        **_status(cells, times["updated_at"]),
    )
    return SessionItem(
        system=_NAME,
        id=name,
        place=cells.place,
        fields=known | times,
        metadata=cells.kept(_NAME),
        logs={"messages": messages},
        head=head,
        documents=[*_goals(reader, owned), *_tools(reader, owned), *_checkpoints(reader, owned)],
    )


def _status(cells: Cells, updated: str | None) -> Object:
    """The status, and when a thread was archived: in fsstate that is no status, so that it ends with the time.

    What does not become either stays among the rest.
    """
    is_archived = cells.peek("status") == _ARCHIVED
    status = _IDLE if is_archived else cells.text("status")
    if not is_archived and not cells.peek("archived"):
        cells.take("archived")
        return fields(status=status)
    at = cells.seconds("archived_at") or updated
    if at is not None:
        cells.take("archived")
    return fields(status=status, archived_at=at)


def _message(cells: Cells) -> Entry:
    cells.take("thread_id")
    row: Object = {"id": cells.text("id"), "role": cells.text("role"), "content": cells.take("content")}
    row |= fields(parent=cells.text("parent_entry_id"), at=cells.seconds("created_at"))
    item = cells.json("item_json")
    return Entry(cells.place, row | fields(metadata={**fields(item=item), **cells.rest()} or None))


def _source(messages: list[Entry]) -> str | None:
    """The thread that a fork was made from, as its first message tells."""
    first = messages[0].row if messages else {}
    if first.get("role") != "history":
        return None
    told = first.get("metadata", {}).get("item")
    found = told if is_object(told) else _parsed(first.get("content"))
    source = found.get("from_thread_id")
    return source if found.get("type") == "fork" and isinstance(source, str) else None


def _parsed(content: object) -> Object:
    try:
        value = codec.decode_bytes(str(content).encode(), "content")
    except CorruptRecordError:
        return {}
    return value if is_object(value) else {}


def _goals(reader: Reader, owned: Owned) -> Iterator[DocumentItem]:
    """The goal of a thread, if it has one."""
    for cells in reader.cells("thread_goals", "rowid", owned):
        cells.take("thread_id")
        value: Object = {"id": cells.text("goal_id"), "objective": cells.text("objective")}
        value |= fields(created_at=cells.seconds("created_at"), updated_at=cells.seconds("updated_at"))
        fitted = reader.fitted(GOALS, value | cells.rest(), cells)
        if fitted is not None:
            yield DocumentItem("goals", "", "goal", fitted, cells.place)


def _tools(reader: Reader, owned: Owned) -> Iterator[DocumentItem]:
    """The tools of a thread, in their order, as the one document that they become."""
    rows = list(reader.cells("thread_dynamic_tools", "position, rowid", owned))
    if rows:
        items = [_tool(number, cells) for number, cells in enumerate(rows)]
        yield DocumentItem("tools", "", "tools", {"items": items}, rows[0].place, parts=len(items))


def _tool(number: int, cells: Cells) -> Object:
    cells.take("thread_id")
    position = cells.take("position")
    value: Object = {"name": cells.text("name"), **fields(description=cells.text("description"))}
    value["input_schema"] = cells.json("input_schema")
    return value | fields(position=None if position == number else position) | cells.rest()


def _checkpoints(reader: Reader, owned: Owned) -> Iterator[DocumentItem]:
    for cells in reader.cells("checkpoints", "created_at, checkpoint_id", owned):
        cells.take("thread_id")
        name = cells.text("checkpoint_id") or ""
        value: Object = {"name": name, "state": cells.json("state_json")}
        value |= fields(saved_at=cells.seconds("created_at")) | cells.rest()
        yield DocumentItem("checkpoints", "checkpoints", name_for(name), value, cells.place)


# Jobs and workflows


def _job(cells: Cells) -> Object:
    """A job. What its detail tells of attempts and history is the job's own in fsstate."""
    value = fields(name=cells.text("name"), status=cells.text("status"), progress=cells.take("progress"))
    value |= fields(created_at=cells.seconds("created_at"), updated_at=cells.seconds("updated_at"))
    told = _parsed(cells.peek("detail"))
    version = told.get("schema_version")
    if version == _DETAIL_VERSION:
        cells.take("detail")
        return _judged(value | _detailed(told), cells)
    if version is not None:
        cells.note(f"detail was kept whole, as version {version!r} of it is not known; {_DETAIL_VERSION} is")
    return _judged(value | fields(detail=cells.text("detail")), cells)


def _judged(job: Object, cells: Cells) -> Object:
    """The job with what no job can have kept beside it."""
    status, progress = job.get("status"), job.get("progress")
    unfit: Object = {}
    if JOBS.lifecycle is not None and not JOBS.lifecycle.knows(JOBS.status_of(job)):
        unfit |= {"status": "queued", "status_as_found": status}
        cells.note(f"it was imported as queued, as {status!r} is no status of jobs; that is kept as status_as_found")
    if isinstance(progress, int | float) and not 0 <= progress <= _FULL:
        unfit |= {"progress": None, "progress_as_found": progress}
        cells.note(f"progress was kept as progress_as_found, as {progress!r} is no percentage")
    return {key: value for key, value in (job | unfit).items() if value is not None}


def _detailed(told: Object) -> Object:
    """What is told of a job beyond its row, where a paused one is said to be queued or running."""
    rest = {key: each for key, each in told.items() if key not in ("schema_version", "retry", "history")}
    retry, history = told.get("retry"), told.get("history")
    entries: list[Any] = history if is_list(history) else []
    return fields(**rest, **(_retry(retry) if is_object(retry) else {}), history=list(map(_phase, entries)) or None)


def _retry(retry: Object) -> Object:
    renamed = {"backoff_base_ms": "backoff_ms"}
    told = {renamed.get(key, key): value for key, value in retry.items()}
    return told | fields(next_retry_at=moment(told.get("next_retry_at")))


def _phase(entry: Any) -> Any:
    """One thing that happened to a job. Of its attempts, it has what changes; the rest stays as it is."""
    if not is_object(entry):
        return entry
    found = entry.get("retry")
    retry: Object = dict(found) if is_object(found) else {}
    tried = fields(attempt=retry.pop("attempt", None), next_retry_at=moment(retry.pop("next_retry_at", None)))
    rest = {key: value for key, value in entry.items() if key != "retry" or not is_object(value)}
    return rest | fields(at=moment(entry.get("at")), retry=retry or None) | tried


def _traced(cells: Cells) -> Object:
    """What the tables of a workflow have in common."""
    times = {name: cells.seconds(name) for name in ("created_at", "started_at", "completed_at")}
    values = {name: cells.json(f"{name}_json") for name in _JSON}
    return fields(**times, **values)


def _belongings(reader: Reader, table: str, kind: RecordType[Any]) -> Iterator[Item]:
    for cells in reader.belongings(table, "workflow_run_id", "workflow_runs"):
        run = cells.text("workflow_run_id") or ""
        value = fields(passed=cells.flag("passed")) | _traced(cells)
        folder = f"{WORKFLOWS.category}/{name_for(run)}/{kind.category}"
        yield from reader.record(kind, value, cells, category=folder)
