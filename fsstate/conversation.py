"""Messages as a tree: what the rows of a conversation's log mean. Pure; `fsstate.messages` reads and writes them.

A log holds three kinds of row, on disk as follows:

    {"seq":1,"id":"a","role":"user","content":"Hello","at":"…"}                  a message, without a parent: a root
    {"seq":2,"id":"b","role":"assistant","content":"Hi","parent":"a","at":"…"}   a message under message a
    {"seq":3,"head":"a","at":"…"}                                                a move of the head
    {"seq":4,"update":"b","status":"rated","head":"a","at":"…"}                  a change of message b

The head is the message that the next one goes under. Every row tells it: by its `head`, or else by being a message.
Hands and other tools write logs too, so nothing here assumes that a head or a parent exists, or that parents run in no
circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeGuard, cast

import msgspec

from fsstate.errors import InvalidValueError
from fsstate.models import Model
from fsstate.projection import Row, fold_record
from fsstate.queries import MISSING, Missing
from fsstate.times import format_time, zoned

__all__ = [
    "Message",
    "Tree",
    "copied",
    "end_of_line",
    "fitting",
    "head_of",
    "message_of",
    "metadata_of",
    "recent_branch",
    "row_of",
    "settled",
    "text_of",
    "time_of",
    "under",
]

_NO_HEAD: Final = MISSING
Head: TypeAlias = str | None


class Message(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"parent_id": "parent", "created_at": "at"}):
    """One message of a conversation.

    - `content`: a text, or a list of blocks as the model's provider shapes them; any JSON.
    - `parent_id`: the message that it goes under; None for a root.
    - `status`: "complete"; "streaming" while it is being written, "interrupted" if its writer died; or your own.
    - `steps`: the range of the session's steps that led to it, first and behind the last.
    - `created_at` is None where a log that others wrote does not tell.
    - `seq`: its entry in the log; 0 while it is not there yet.

    Changing these attributes changes no file; `Messages.update` does.
    """

    id: str
    role: str
    content: Any = ""
    parent_id: str | None = None
    created_at: datetime | None = None
    status: str = "complete"
    model: str | None = None
    tool_call_id: str | None = None
    steps: tuple[int, int] | None = None
    metadata: dict[str, Any] = {}
    seq: int = 0

    @property
    def text(self) -> str:
        """The content if it is a text, else its text blocks, joined by newlines."""
        return text_of(self.content)


_MODEL: Final[Model[Message]] = Model.of(Message)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def message_of(row: Row, where: str) -> Message:
    """The message in a row. Nothing of the row is kept. Raises ValidationError when it does not fit."""
    try:
        message = msgspec.convert(row, Message)
    except msgspec.ValidationError:
        return _MODEL.load(copied(row), where)
    # What fsstate writes needs no more than this; the times of other tools do.
    if message.created_at is None or message.created_at.tzinfo is not UTC:
        return _MODEL.load(copied(row), where)
    if not isinstance(message.content, str):
        message.content = copied(message.content)
    if message.metadata:
        message.metadata = copied(message.metadata)
    return message


def fitting(row: Row, where: str) -> Row:
    """The row as it is. Raises ValidationError when it does not fit: what cannot be read is not written either."""
    try:
        msgspec.convert(row, Message)
    except msgspec.ValidationError:
        _MODEL.load(row, where)
    return row


def row_of(message: Message, where: str) -> Row:
    """The row for a message, without what is at its default.

    Raises ValidationError, with `where`, or InvalidValueError for a field that is not of its type.
    """
    row: Row = {"id": message.id, "role": message.role, "content": copied(message.content)}
    row["parent"] = message.parent_id
    row["at"] = time_of(message.created_at, "created_at")
    if message.status != "complete":
        row["status"] = message.status
    row |= {"model": message.model, "tool_call_id": message.tool_call_id}
    row["steps"] = list(message.steps) if isinstance(message.steps, tuple) else message.steps
    row["metadata"] = copied(message.metadata) or None
    return fitting({key: value for key, value in row.items() if value is not None or key == "content"}, where)


def time_of(value: datetime | None, field: str) -> str | None:
    """How a field's time is stored. Raises InvalidValueError, which names the field, for what is no point in time."""
    if value is None:
        return None
    try:
        return format_time(zoned(value, field))
    except ValueError as error:
        raise InvalidValueError(str(error), at=f"$.{field}") from None


def metadata_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dict of the caller's own metadata. Raises InvalidValueError for what is no mapping."""
    try:
        return dict(given or {})
    except (TypeError, ValueError):
        raise InvalidValueError(f"expected a mapping, got {type(given).__name__}", at="$.metadata") from None


def copied(value: Any) -> Any:
    """A copy of a JSON value that shares no dict or list with it. What is no JSON value stays as it is."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in cast("dict[str, Any]", value).items()}
    if _is_list(value):
        return [copied(item) for item in value]
    return value


def text_of(content: Any) -> str:
    """The text in a message's content: itself, or its text blocks, joined by newlines."""
    if isinstance(content, str):
        return content
    blocks = content if _is_list(content) else [content]
    return "\n".join(text for text in map(_text_of_block, blocks) if text)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _text_of_block(block: Any) -> str:
    text: Any = cast("dict[str, Any]", block).get("text") if isinstance(block, dict) else block
    return text if isinstance(text, str) else ""


def head_of(row: Row) -> Head | Missing:
    """The head after a row, or MISSING when it does not tell (which only a row written by hand does not)."""
    if "head" in row:
        head: Any = row["head"]
        return head if isinstance(head, str) else None
    name = row.get("id", MISSING) if "update" not in row else MISSING
    return name if isinstance(name, str) else _NO_HEAD


def line_of(head: Head, unfinished: Mapping[str, Row]) -> list[str]:
    """The messages under way that lead on from `head`, one under the other; of several, the latest id."""
    after = {row.get("parent"): name for name, row in sorted(unfinished.items())}
    line: list[str] = []
    while (name := after.pop(head, None)) is not None:
        line.append(name)
        head = name
    return line


def under(row: Row, parent: str | None) -> Row:
    """The row with its parent, in the place where a person looks for it."""
    if parent is None:
        return row
    placed: Row = {}
    for key, value in row.items():
        if key == "at":
            placed["parent"] = parent
        placed[key] = value
    return placed


def end_of_line(head: Head, under_way: Mapping[str, Row]) -> Head:
    """The head as readers see it while messages are under way."""
    line = line_of(head, under_way)
    return line[-1] if line else head


def settled(row: Row, head: str | None, under_way: Mapping[str, Row]) -> Row:
    """The row of a finished message. It becomes the head, unless the conversation went on elsewhere meanwhile."""
    if row["id"] in line_of(head, under_way):
        return row
    return {**row, "head": head}


class Tree:
    """All messages of a conversation as rows, in file order, and where its head is."""

    __slots__ = ("head", "rows")

    def __init__(self, rows: dict[str, Row] | None = None, head: Head = None) -> None:
        self.rows: dict[str, Row] = {} if rows is None else rows
        self.head = head

    def fold(self, row: Row) -> None:
        """Apply the next row of the log."""
        fold_message(self.rows, row)
        head = head_of(row)
        if not isinstance(head, Missing):
            self.head = head

    def with_unfinished(self, unfinished: Mapping[str, Row]) -> Tree:
        """The tree as a reader sees it while messages are under way."""
        new = {name: row for name, row in unfinished.items() if name not in self.rows}
        if not new:
            return self
        head = self.head if self.head in new else self.end
        line = line_of(head, new)
        return Tree({**self.rows, **new}, line[-1] if line else head)

    @property
    def end(self) -> Head:
        """Where the conversation ends: the head, or the last message if that is none of the messages here."""
        if self.head is None or self.head in self.rows:
            return self.head
        return next(reversed(self.rows), None)

    def branch(self, head: Head, limit: int | None = None) -> list[Row]:
        """The rows from the root to `head`, or the last `limit` of them.

        It begins later where a parent is missing, or where parents run in a circle.
        """
        found: dict[str, Row] = {}
        while head is not None and head not in found and (row := self.rows.get(head)) is not None:
            if len(found) == limit:
                break
            found[head] = row
            head = row.get("parent")
        return list(found.values())[::-1]

    def children(self, name: Head) -> list[Row]:
        """The rows under one message (None: the roots), in file order."""
        return [row for row in self.rows.values() if row.get("parent") == name]

    def leaves(self) -> list[Row]:
        """The rows that nothing goes under, in file order."""
        parents = {row.get("parent") for row in self.rows.values()}
        return [row for name, row in self.rows.items() if name not in parents]


def fold_message(rows: dict[str, Row], row: Row) -> None:
    """Apply a row to the messages that it may change."""
    record = fold_record(rows, row)
    delta = row.get("delta")
    if record is not None and record is not row and isinstance(delta, str):
        record["content"] = _extended(record.get("content", ""), delta)


def _extended(content: Any, delta: str) -> Any:
    """The content with a text at its end. Blocks get it in their last text block, or in a new one."""
    if isinstance(content, str):
        return content + delta
    blocks: list[Any] = [*content] if _is_list(content) else [content]
    last: Any = blocks[-1] if blocks else None
    if isinstance(last, dict) and isinstance(text := cast("Row", last).get("text"), str):
        blocks[-1] = {**last, "text": text + delta}
    else:
        blocks.append({"type": "text", "text": delta})
    return blocks


def recent_branch(backwards: Iterable[Row], limit: int) -> Sequence[Row] | None:
    """The last `limit` rows of the head's branch, read from the log's end only as far as they reach.

    None when that does not tell: the root was not met, because a parent is missing or stands behind its child.
    """
    rows = iter(backwards)
    updates: dict[str, list[Row]] = {}
    found: list[Row] = []
    wanted: Head | Missing = _NO_HEAD
    for row in rows:
        wanted = head_of(row) if isinstance(wanted, Missing) else wanted
        if isinstance(wanted, Missing):
            return None
        if isinstance(changed := row.get("update"), str):
            updates.setdefault(changed, []).append(row)
        elif row.get("id") == wanted and wanted is not None:
            found.append(_updated(row, updates.pop(wanted, [])))
            wanted = row.get("parent")
        if wanted is None or len(found) == limit:
            return found[::-1]
    return None if found or wanted is not _NO_HEAD else []


def _updated(row: Row, updates: list[Row]) -> Row:
    rows = {row["id"]: row}
    for update in reversed(updates):
        fold_message(rows, update)
    return row
