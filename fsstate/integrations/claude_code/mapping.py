"""What the rows of a transcript mean: each row a message or an event, and what all of them tell of the session. Pure.

The same rows give the same ids and the same order each time, so an import can be repeated and continued.

Messages and calls are made as lines of their logs (`fsstate.conversation` and `fsstate.tool_calls` tell the form), not
as `Message` and `ToolCall`: what takes those knows all that a session holds, and that need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from fsstate import codec
from fsstate.integrations.claude_code.rows import (
    Object,
    Row,
    is_list,
    is_object,
    restored,
    text_in,
    without_content,
)
from fsstate.times import format_time, parse_time

__all__ = ["Event", "Item", "Result", "Transcript", "row_of_event", "row_of_message"]

_MESSAGES: Final = ("user", "assistant")
_TITLES: Final = {"summary": "summary", "custom-title": "customTitle", "ai-title": "aiTitle"}

# Kind and fields, as a journal takes them.
Event: TypeAlias = tuple[str, Object]


class Result(NamedTuple):
    """What came of a tool call."""

    call_id: str
    is_error: bool
    content: Any
    at: str | None

    @property
    def outcome(self) -> Object:
        """What it changes of its call."""
        if self.is_error:
            return {"status": "failed", "error": self.content}
        return {"status": "completed", "result": self.content}


class Item(NamedTuple):
    """What one row becomes: a message or an event, and the tool calls in it. A time that is not known is left out."""

    row: int
    message: Object | None = None
    event: Event | None = None
    calls: tuple[Object, ...] = ()
    results: tuple[Result, ...] = ()


class Transcript:
    """What the rows tell so far. `add` them in the order of the file."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.cwd: str | None = None
        # In the order of their first row.
        self.session_ids: dict[str, None] = {}
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        # Of the latest row that has a time.
        self._at: str | None = None
        # The ids of all messages, and what tells a copy of one from another message under its uuid.
        self._messages: set[str] = set()
        self._marks: set[int] = set()
        # The parents of rows that are no messages.
        self._passed: dict[str, str | None] = {}
        self._parents: set[str | None] = set()
        # Whether a call has its result, and each message's calls without an id.
        self._calls: dict[str, bool] = {}
        self._unnamed: dict[str, list[str]] = {}
        self._last: tuple[str | None, int] = (None, 0)
        self._leaf: tuple[str | None, int] = (None, 0)
        self._main_rows = 0

    def add(self, row: Row) -> Item:
        """What a row becomes."""
        value = row.value
        if not is_object(value):
            return Item(row.number, event=_event(row, "row", self._at))
        self._note(value, row.number)
        message = value.get("message")
        if value.get("type") in _MESSAGES and is_object(message):
            name = self._new_id(value, message, row.number)
            if name is not None:
                return self._message(row, name, message)
        elif (uuid := text_in(value, "uuid")) is not None:
            self._passed.setdefault(uuid, text_in(value, "parentUuid"))
        return Item(row.number, event=_event(row, text_in(value, "type") or "row", self._at))

    @property
    def head(self) -> str | None:
        """The id of the message that the conversation goes on from."""
        leaf, told_in = self._leaf
        last, last_row = self._last
        if leaf in self._messages and (leaf not in self._parents or told_in > last_row):
            return leaf
        return last

    @property
    def last_message(self) -> str | None:
        """The id of the last message in the file."""
        return self._last[0]

    @property
    def is_side_chain(self) -> bool:
        """Whether all messages are those of an agent that another session started."""
        return bool(self._messages) and not self._main_rows

    # Inside

    def _note(self, value: Object, number: int) -> None:
        if (at := _time(value.get("timestamp"))) is not None:
            self._at = format_time(at)
            self.began_at = min(self.began_at or at, at)
            self.ended_at = max(self.ended_at or at, at)
        if (session := text_in(value, "sessionId")) is not None:
            self.session_ids[session] = None
        self.cwd = self.cwd or text_in(value, "cwd")
        kind = value.get("type")
        if isinstance(kind, str) and kind in _TITLES:
            self.title = (text_in(value, _TITLES[kind]) or "").strip() or self.title
        if kind == "summary":
            self._leaf = text_in(value, "leafUuid"), number

    def _new_id(self, value: Object, message: Object, number: int) -> str | None:
        """The id for a message; None for one that is there already."""
        wanted = text_in(value, "uuid") or f"row-{number}"
        mark = hash((wanted, codec.encode_line(message)))
        if mark in self._marks:
            return None
        name = wanted if wanted not in self._messages else f"{wanted}~{number}"
        while name in self._messages:
            name += "~"
        self._marks.add(mark)
        self._messages.add(name)
        return name

    def _message(self, row: Row, name: str, message: Object) -> Item:
        value: Object = row.value
        parent = self._parent(text_in(value, "parentUuid"))
        kept = {"line": row.line} if row.line is not None else {"raw": without_content(value)}
        self._parents.add(parent)
        self._last = name, row.number
        self._main_rows += value.get("isSidechain") is not True
        content = message.get("content", "")
        made: Object = {"id": name, "role": text_in(message, "role") or value["type"], "content": content}
        made |= _without_none({"parent": parent, "at": self._at, "model": text_in(message, "model")})
        made["metadata"] = {"row": row.number, **kept}
        blocks = [(index, block) for index, block in enumerate(content) if is_object(block)] if is_list(content) else []
        calls = tuple(self._calls_in(blocks, name))
        return Item(row.number, message=made, calls=calls, results=tuple(self._results_in(blocks, parent)))

    def _parent(self, parent: str | None) -> str | None:
        """The nearest message at or above a parent, as far as the rows so far tell."""
        seen: set[str] = set()
        while parent is not None and parent not in self._messages and parent in self._passed and parent not in seen:
            seen.add(parent)
            parent = self._passed[parent]
        return parent

    def _calls_in(self, blocks: list[tuple[int, Object]], message: str) -> Iterator[Object]:
        for index, block in blocks:
            if block.get("type") != "tool_use":
                continue
            name = text_in(block, "id")
            if name is None:
                name = f"{message}#{index}"
                self._unnamed.setdefault(message, []).append(name)
            if name not in self._calls:
                self._calls[name] = False
                call: Object = {"id": name, "name": text_in(block, "name") or "", "parameters": block.get("input")}
                yield _without_none({**call, "status": "pending", "message_id": message, "at": self._at})

    def _results_in(self, blocks: list[tuple[int, Object]], parent: str | None) -> Iterator[Result]:
        for _, block in blocks:
            if block.get("type") != "tool_result":
                continue
            name = text_in(block, "tool_use_id")
            unnamed = self._unnamed.get(parent) if name is None and parent is not None else None
            if unnamed:
                # Neither names the other: an answer to the message that it goes under, in the order of the calls there.
                name = unnamed.pop(0)
            # The first result counts; rows that a compaction repeats bring later ones.
            if name is not None and self._calls.get(name) is False:
                self._calls[name] = True
                yield Result(name, block.get("is_error") is True, block.get("content"), self._at)


def row_of_message(line: Object) -> Row | None:
    """The row that a line of a session's messages was made from, if it was."""
    metadata = line.get("metadata")
    if "update" in line or not is_object(metadata):
        return None
    row = _row(metadata)
    if row is None or row.line is not None or not is_object(row.value):
        return row
    return row._replace(value=restored(row.value, line.get("content")))


def row_of_event(line: Object) -> Row | None:
    """The row that a line of a session's events was made from, if it was."""
    return _row(line)


def _row(holder: Object) -> Row | None:
    number, text = holder.get("row"), holder.get("line")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    if isinstance(text, str):
        return Row(number, None, text)
    return Row(number, holder["raw"]) if "raw" in holder else None


def _event(row: Row, kind: str, at: str | None) -> Event:
    fields: Object = {"row": row.number, **({"raw": row.value} if row.line is None else {"line": row.line})}
    return kind, _without_none({"at": at}) | fields


def _without_none(fields: Object) -> Object:
    return {key: value for key, value in fields.items() if value is not None}


def _time(value: object) -> datetime | None:
    try:
        return None if value is None else parse_time(value)
    except ValueError:
        return None
