"""What steer keeps: sessions with messages in a tree, tool calls and a stream of events.

Its sequences begin at 0 and have gaps where old events were deleted: `sequence_num` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, is_object
from fsstate.integrations.landing import KEY
from fsstate.integrations.sqlite.database import Table
from fsstate.integrations.sqlite.reading import Cells, Item, Owned, Reader, fields, session_times
from fsstate.session_config import CONFIGS
from fsstate.tool_calls import LIFECYCLE

__all__ = ["KNOWN_VERSION", "TABLES", "read"]

# sqlx keeps its own count of migrations; steer never sets the version of the database.
KNOWN_VERSION: Final = 0
TABLES: Final = {
    "sessions": Table("sessions", ("id", "created_at", "updated_at", "tool_config")),
    "messages": Table("messages", ("id", "session_id", "sequence_num", "role", "content")),
    "tool_calls": Table("tool_calls", ("id", "session_id", "tool_name", "parameters", "status")),
    "events": Table("events", ("session_id", "sequence_num", "event_type", "event_data")),
}
_NAME: Final = "steer"
# What an entry has of its own; data with a field of such a name is kept as one piece.
_ENTRY: Final = frozenset({"seq", "fsstate", "kind", "at", "data"})

# Where the policies keep the names of approved tools.
_NAMES_IN: Final = {"pre_approved": "tools", "mixed": "pre_approved"}
_UNUSED: Final = "pre_approved_tools_as_found"


def read(reader: Reader) -> Iterator[Item]:
    """Give all that the database holds."""
    for cells in reader.cells("sessions"):
        yield _session(reader, cells)
    for table in ("messages", "tool_calls", "events"):
        reader.orphans(table, "session_id", "sessions")


def _session(reader: Reader, cells: Cells) -> SessionItem:
    name = cells.text("id") or ""
    owned: Owned = ("session_id = ?", (name,))
    messages = reader.entries("messages", "sequence_num, rowid", owned, _message)
    head = reader.head(cells, "active_message_id", messages)
    config, metadata, kept = _config(reader, cells), *_metadata(cells)
    return SessionItem(
        system=_NAME,
        id=name,
        place=cells.place,
        fields={
            **fields(status=cells.text("status")),
            **session_times(cells.time("created_at"), cells.time("updated_at")),
        },
        metadata={**metadata, **_kept(cells, kept)},
        logs={
            "messages": messages,
            "tool_calls": reader.entries("tool_calls", "rowid", owned, _tool_call),
            "events": reader.entries("events", "sequence_num, rowid", owned, _event),
        },
        head=head,
        documents=config,
    )


def _metadata(cells: Cells) -> tuple[Object, Object]:
    """The user's metadata as it may stand in a session's, and what would stand where an import keeps its own."""
    found = cells.json("metadata")
    metadata: Object = dict(found) if is_object(found) else fields(metadata=found)
    return metadata, {key: metadata.pop(key) for key in (KEY, _NAME) if key in metadata}


def _kept(cells: Cells, metadata: Object) -> Object:
    """What else there is of the session, under the system's name."""
    for key in metadata:
        cells.note(f"metadata.{key} was kept as metadata.{_NAME}.metadata.{key}, as an import keeps its own there")
    rest = cells.rest() | fields(metadata=metadata or None)
    return {_NAME: rest} if rest else {}


def _config(reader: Reader, cells: Cells) -> list[DocumentItem]:
    """The session's config. The policy's own columns overrule the copy in the tool config, as they do in steer."""
    found = cells.json("tool_config")
    tools: Object = dict(found) if is_object(found) else fields(tool_config=found)
    policy = tools.pop("approval_policy", None)
    tools |= fields(visibility=_visibility(tools.get("visibility")))
    kind, names = cells.text("tool_policy_type"), cells.json("pre_approved_tools")
    tools["approval"] = _approval(kind, names, policy)
    workspace, prompt = _workspace(cells.json("workspace_config")), cells.text("system_prompt")
    value = fields(workspace=workspace, tools=tools, system_prompt=prompt) | _without_use(kind, names, cells)
    fitted = reader.fitted(CONFIGS, value, cells)
    return [] if fitted is None else [reader.counted(DocumentItem("documents", "", "config", fitted, cells.place))]


def _approval(kind: str | None, names: Any, copy: Any) -> Any:
    """Which tools need approval. Only the copy tells whether others are asked for."""
    found: Object = copy if is_object(copy) else {}
    if kind is None:
        return found
    told: Object = {_NAMES_IN[kind]: names} if kind in _NAMES_IN else {}
    asked = fields(ask_for_others=found.get("ask_for_others")) if found.get("type") == kind else {}
    return {"type": kind, **told, **asked}


def _without_use(kind: str | None, names: Any, cells: Cells) -> Object:
    """The names of approved tools where the policy has no place for them."""
    if kind in _NAMES_IN or names is None or names == []:
        return {}
    cells.note(f"column pre_approved_tools was kept as {_UNUSED} in the config, as the policy {kind!r} has none")
    return {_UNUSED: names}


def _visibility(found: Any) -> Any:
    """Which tools are seen: a word, or the name of a list with the list."""
    if not is_object(found) or len(found) != 1:
        return found
    (kind, tools), *_ = found.items()
    return {"type": kind.lower(), "tools": tools}


def _workspace(found: Any) -> Any:
    """Where the session works. Its secret is told by the name of its kind."""
    auth = found.get("auth") if is_object(found) else None
    if not is_object(found) or not is_object(auth) or len(auth) != 1:
        return found
    (kind, secret), *_ = auth.items()
    kinds = {"Bearer": "bearer", "ApiKey": "api_key"}
    return {**found, "auth": {"type": kinds.get(kind, kind), **(secret if is_object(secret) else {})}}


def _message(cells: Cells) -> Entry:
    cells.take("session_id")
    name, role, content = cells.text("id"), cells.text("role"), cells.json("content")
    call = content.get("tool_use_id") if is_object(content) and role == "tool" else None
    row = {"id": name, "role": role, "content": content}
    row |= fields(parent=cells.text("parent_message_id"), at=cells.time("created_at"), tool_call_id=call)
    return Entry(cells.place, row | fields(metadata=cells.rest() or None))


def _tool_call(cells: Cells) -> Entry | None:
    cells.take("session_id")
    status = cells.text("status")
    if status not in LIFECYCLE.steps:
        cells.refuse(f"{status!r} is no status of a tool call; it is one of {', '.join(LIFECYCLE.steps)}")
        return None
    row = {"id": cells.text("id"), "name": cells.text("tool_name"), "parameters": cells.json("parameters")}
    output, payload = cells.text("result"), cells.json("payload_json")
    error, details = cells.text("error"), cells.json("error_json")
    row |= fields(
        status=status,
        result=output if payload is None else payload,
        error=details if error is None else error,
        started_at=cells.time("started_at"),
        completed_at=cells.time("completed_at"),
    )
    twice = fields(result=None if payload is None else output, error_json=None if error is None else details)
    return Entry(cells.place, row | fields(metadata={**twice, **cells.rest()} or None))


def _event(cells: Cells) -> Entry:
    cells.take("session_id")
    kind, at, data = cells.text("event_type"), cells.time("created_at"), cells.json("event_data")
    row = {"kind": kind, **fields(at=at), **cells.rest()}
    if is_object(data) and data.get("type", kind) == kind and not (_ENTRY | row.keys()) & data.keys():
        return Entry(cells.place, row | {key: value for key, value in data.items() if key != "type"})
    return Entry(cells.place, {**row, "data": data})
