"""Threads of the runtime, with their turns, items and events: what becomes of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from fsstate.integrations.codewhale.sources import Line
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, is_object, session_fields
from fsstate.names import name_for
from fsstate.times import format_time, parse_time

__all__ = ["CUT_OFF", "Part", "Thread", "event", "in_order", "thread_session", "timed", "titled"]

# What is in progress in a file was cut off: its program says so itself when it starts again.
CUT_OFF: Final = "in_progress"
_NAME: Final = "codewhale"
_SYSTEM: Final = "codewhale-thread"
_OWN: Final = ("title", "created_at", "updated_at", "memory_mode")
_ROLES: Final = {"user_message": "user", "agent_message": "assistant"}
_CALLS: Final = ("tool_call", "file_change", "command_execution")
# Names that an entry has a use of its own for.
_ENTRY: Final = ("kind", "at", "fsstate", "sequence_num", "other")
# The statuses of items as those of messages and of tool calls.
_OF_MESSAGE: Final = {"completed": "complete", "in_progress": "streaming"}
_OF_CALL: Final = {
    "queued": "pending",
    CUT_OFF: "failed",
    "completed": "completed",
    "failed": "failed",
    "interrupted": "failed",
    "canceled": "denied",
}


class Part(NamedTuple):
    """A turn or an item of a thread."""

    name: str
    value: Object
    place: str


class Thread(NamedTuple):
    """A thread with all that belongs to it, in its order. `title` is what the index of names says."""

    name: str
    value: Object
    place: str
    turns: list[Part]
    items: list[Part]
    events: list[Entry]
    title: str | None


def thread_session(thread: Thread, note: Callable[[str], None]) -> SessionItem:
    """The session for a thread. `note` is told what is not as it should be."""
    found = {key: thread.value.get(key) for key in _OWN}
    found["title"], other = titled(found["title"] or None, thread.title)
    if thread.value.get("archived") is True:
        found["archived_at"] = found["updated_at"] or found["created_at"]
    fields, unfit = session_fields(found, _NAME, note)
    rest = {key: value for key, value in thread.value.items() if key not in _OWN and value is not None}
    logs, documents = _sorted(thread.items)
    turns = [DocumentItem("documents", "turns", name_for(turn.name), turn.value, turn.place) for turn in thread.turns]
    return SessionItem(
        system=_SYSTEM,
        id=thread.name,
        place=thread.place,
        fields=timed(fields),
        metadata={_NAME: {**rest, **other, **unfit.get(_NAME, {})}},
        logs={**logs, "events": thread.events},
        documents=[*turns, *documents],
    )


def titled(own: object, name: str | None) -> tuple[object, Object]:
    """The title, which is the name in the index where there is one, and the other title to keep."""
    if not name or own == name:
        return own, {}
    return name, _known(title=own)


def timed(fields: Object) -> Object:
    """The fields with both times. One that cannot be told is the other, as a new session has the time of now."""
    created, updated = fields.get("created_at"), fields.get("updated_at")
    return {**fields, "created_at": created or updated, "updated_at": updated or created}


def _sorted(items: list[Part]) -> tuple[dict[str, list[Entry]], list[DocumentItem]]:
    """The items by what becomes of them: messages and tool calls, and documents."""
    messages: list[Entry] = []
    calls: list[Entry] = []
    documents: list[DocumentItem] = []
    for item in items:
        kind = item.value.get("kind")
        if kind in _ROLES:
            messages.append(Entry(item.place, _message(item, _ROLES[kind], messages)))
        elif kind in _CALLS and item.value.get("status") in _OF_CALL:
            calls.append(Entry(item.place, _call(item, kind, messages)))
        else:
            documents.append(DocumentItem("documents", "items", name_for(item.name), item.value, item.place))
    return {"messages": messages, "tool_calls": calls}, documents


def event(line: Line) -> Entry:
    """The entry for a line of a thread's events. Their numbers are those of the whole runtime, and have gaps."""
    rest = dict(line.value or {})
    kind, at, seq = rest.pop("event", None), _moment(rest, "timestamp"), rest.pop("seq", None)
    row: Object = {"kind": kind if isinstance(kind, str) and kind else "event"}
    if at is not None:
        del rest["timestamp"]
    other = {key: rest.pop(key) for key in _ENTRY if key in rest}
    return Entry(line.place, row | _known(at=at, sequence_num=seq, **rest, other=other or None))


def _message(item: Part, role: str, before: list[Entry]) -> Object:
    told = {key: value for key, value in item.value.items() if key != "detail"}
    detail, summary = item.value.get("detail"), item.value.get("summary")
    content = summary if detail is None else detail
    row: Object = {"id": item.name, "role": role, "content": "" if content is None else content}
    status = _OF_MESSAGE.get(str(told.get("status")), told.get("status"))
    return row | _known(
        parent=before[-1].row["id"] if before else None,
        at=_moment(told, "started_at") or _moment(told, "ended_at"),
        status=None if status == "complete" else status,
        metadata={"item": told},
    )


def _call(item: Part, kind: str, messages: list[Entry]) -> Object:
    told = {key: value for key, value in item.value.items() if key != "detail"}
    more = told.get("metadata")
    given: Object = more if is_object(more) else {}
    names = (given.get(key) for key in ("tool_name", "tool", "name"))
    began, status = _moment(told, "started_at"), _OF_CALL[told["status"]]
    row: Object = {"id": item.name, "name": next((name for name in names if isinstance(name, str)), kind)}
    return row | _known(
        parameters=given.get("input", given.get("arguments")),
        status=status,
        message_id=messages[-1].row["id"] if messages else None,
        **_outcome(status, told["status"], item.value.get("detail")),
        at=began,
        started_at=began,
        completed_at=_moment(told, "ended_at"),
        metadata={"item": told},
    )


def _outcome(status: str, found: str, detail: object) -> Object:
    """What came of a call. What one gave that was cut off is its result so far."""
    if found == CUT_OFF:
        return {"result": detail, "error": "interrupted"}
    if status in ("failed", "denied"):
        return {"error": found if detail is None else detail}
    return {"result": detail}


def _known(**fields: Any) -> Object:
    return {key: value for key, value in fields.items() if value is not None}


def _moment(fields: Object, key: str) -> str | None:
    try:
        return format_time(parse_time(fields[key]))
    except (KeyError, ValueError):
        return None


def in_order(names: Iterable[Any], parts: list[Part]) -> Iterator[Part]:
    """The parts that are named, in the order of the names, and then the others."""
    by_name = {part.name: part for part in parts}
    yield from (by_name.pop(name) for name in names if isinstance(name, str) and name in by_name)
    yield from by_name.values()
