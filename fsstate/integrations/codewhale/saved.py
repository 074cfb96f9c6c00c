"""Saved sessions: what becomes of one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from fsstate.integrations.codewhale.runtime import timed, titled
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, is_list, is_object, session_fields
from fsstate.integrations.landing import Landing
from fsstate.names import name_for

__all__ = ["checkpoint", "saved_session"]

_NAME: Final = "codewhale"
_SYSTEM: Final = "codewhale-session"
_OWN: Final = ("title", "created_at", "updated_at")


def saved_session(name: str, value: Object, place: str, title: str | None, landing: Landing) -> SessionItem:
    """The session in a file. `title` is what the index says; the landing is told what is not as it should be."""
    told: Object = dict(value["metadata"])
    found: Object = {key: told.pop(key) for key in _OWN if key in told}
    found["title"], other = titled(found.get("title"), title)
    if isinstance(parent := told.get("parent_session_id"), str):
        found["parent_id"] = name_for(parent)
    rest = {key: each for key, each in value.items() if key not in ("metadata", "messages", "system_prompt")}
    fields, unfit = session_fields(found, _NAME, partial(landing.note, place))
    kept = {**told, **rest, **other, **unfit.get(_NAME, {})}
    messages = _messages(value.get("messages"), place, landing)
    if told.get("message_count", len(messages)) != len(messages):
        landing.note(place, f"it says that it has {told['message_count']} messages, and has {len(messages)}")
    return SessionItem(
        system=_SYSTEM,
        id=name,
        place=place,
        fields=timed(fields),
        metadata={_NAME: {key: each for key, each in kept.items() if each is not None}},
        logs={"messages": messages, "tool_calls": list(_calls(messages))},
        documents=_config(value.get("system_prompt"), place),
    )


def checkpoint(value: Object, place: str) -> DocumentItem:
    """The checkpoint that a session made of itself."""
    saved_at = session_fields({"updated_at": value["metadata"].get("updated_at")}, _NAME, lambda _: None)[0]
    told = {"name": "latest", "state": value}
    if "updated_at" in saved_at:
        told["saved_at"] = saved_at["updated_at"]
    return DocumentItem("checkpoints", "checkpoints", "latest", told, place)


def _config(prompt: Any, place: str) -> list[DocumentItem]:
    if prompt is None:
        return []
    name = "system_prompt" if isinstance(prompt, str) else "system_prompt_as_found"
    return [DocumentItem("documents", "", "config", {name: prompt}, place)]


def _messages(found: Any, place: str, landing: Landing) -> list[Entry]:
    """The messages, each under the one before it. One that is none keeps its number."""
    if not is_list(found):
        if found is not None:
            landing.lose("messages", place, "its messages are no list")
        return []
    entries: list[Entry] = []
    for number, item in enumerate(found, 1):
        where = f"{place}, message {number}"
        if is_object(item) and isinstance(item.get("role"), str) and item["role"]:
            entries.append(Entry(where, _message(f"message-{number}", item, entries)))
        else:
            landing.lose("messages", where, "it has no role")
    return entries


def _message(name: str, item: Object, before: list[Entry]) -> Object:
    rest = {key: value for key, value in item.items() if key not in ("role", "content") and value is not None}
    row: Object = {"id": name, "role": item["role"], "content": item.get("content")}
    row |= {"parent": before[-1].row["id"]} if before else {}
    return row | ({"metadata": rest} if rest else {})


def _calls(messages: list[Entry]) -> Iterator[Entry]:
    """The tool calls that the messages ask for, with what came of each."""
    results: dict[str, Object] = {}
    for _, block in _blocks(messages, "tool_result"):
        results.setdefault(str(block.get("tool_use_id")), block)
    seen: set[str] = set()
    for entry, block in _blocks(messages, "tool_use"):
        name = str(block.get("id"))
        if name not in seen:
            seen.add(name)
            row = {"id": name, "name": str(block.get("name")), "parameters": block.get("input")}
            yield Entry(entry.place, {**row, **_outcome(results.get(name)), "message_id": entry.row["id"]})


def _blocks(messages: list[Entry], kind: str) -> Iterator[tuple[Entry, Object]]:
    for entry in messages:
        content = entry.row["content"]
        for block in content if is_list(content) else []:
            if is_object(block) and block.get("type") == kind:
                yield entry, block


def _outcome(result: Object | None) -> Object:
    if result is None:
        return {"status": "pending"}
    if result.get("is_error") is True:
        return {"status": "failed", "error": result.get("content")}
    return {"status": "completed", "result": result.get("content")}
