"""What the integrations find, in the form in which a landing takes it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

import msgspec

from fsstate.names import name_for
from fsstate.settings import SETTINGS
from fsstate.times import format_time, parse_time

__all__ = [
    "DocumentItem",
    "Entry",
    "Object",
    "SessionItem",
    "TextItem",
    "is_list",
    "is_object",
    "session_fields",
    "setting",
]

Object: TypeAlias = dict[str, Any]


class Entry(NamedTuple):
    """A line for a log, and where it was found."""

    place: str
    row: Object


class DocumentItem(NamedTuple):
    """A JSON document to be. `session` is the id of the session that it belongs to, `category` then a folder there.

    `parts` is how many things of its kind it holds.
    """

    kind: str
    category: str
    name: str
    value: Any
    place: str
    session: str | None = None
    parts: int = 1


class TextItem(NamedTuple):
    """A Markdown document to be."""

    category: str
    name: str
    text: str
    place: str
    session: str | None = None


class SessionItem(msgspec.Struct, kw_only=True):
    """A session to be.

    `id` is what it was called where it comes from, `fields` what its document holds besides `metadata`. `logs` are
    messages, events, tool_calls and steps. With `head` the conversation goes on elsewhere than from its last message;
    None in it: from none.
    """

    system: str
    id: str
    place: str
    fields: Object
    metadata: Object = {}
    logs: dict[str, list[Entry]] = {}
    head: tuple[str | None] | None = None
    documents: list[DocumentItem] = []


def is_object(value: object) -> TypeGuard[Object]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


def setting(key: str, value: Any, at: str | None, place: str, **more: Any) -> DocumentItem:
    """A setting to be; its key nests with "/". Parts that no key has, such as an empty one, are quoted in it."""
    parts = [part if part.strip(".") else name_for(part) for part in key.split("/")]
    told = {"key": "/".join(parts), "value": value, **({} if at is None else {"updated_at": at}), **more}
    *folders, name = map(name_for, parts)
    return DocumentItem("settings", "/".join([SETTINGS.category, *folders]), name, told, place)


def session_fields(found: Object, system: str, note: Callable[[str], None]) -> tuple[Object, Object]:
    """What a session's document may hold, and its metadata, of the fields that another program kept.

    Times become those of fsstate. What does not fit is told, and stays in the metadata under the system's name.
    """
    fields: Object = {key: value for key, value in found.items() if key != "metadata" and value is not None}
    metadata = found.get("metadata")
    unfit: Object = {} if metadata is None or is_object(metadata) else {"metadata": metadata}
    for key in fields.keys() & _TEXTS.keys():
        try:
            fields[key] = _TEXTS[key](fields[key])
        except (ValueError, TypeError):
            unfit[key] = fields.pop(key)
    for key in sorted(unfit):
        note(f"{key} was kept in the metadata, as a session cannot have {unfit[key]!r} there")
    return fields, {**(metadata if is_object(metadata) else {}), **({system: unfit} if unfit else {})}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _time(value: object) -> str:
    return format_time(parse_time(value))


_TEXTS: Final[Mapping[str, Callable[[object], str]]] = {
    **dict.fromkeys(("user_id", "title", "status", "project_id", "parent_id", "parent_message_id"), _text),
    **dict.fromkeys(("label", "memory_mode"), _text),
    **dict.fromkeys(("created_at", "updated_at", "ended_at", "archived_at"), _time),
}
