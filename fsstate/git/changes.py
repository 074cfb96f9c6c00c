"""What a commit did to a record, in the record's own terms: fields of documents, entries of logs, lines of notes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

import orjson

from fsstate.backends.base import JSON, LOG, MARKDOWN

__all__ = ["FileChange", "RecordCommit", "changed_fields"]

_KINDS: Final = {"A": "added", "D": "removed"}
_MOST_FIELDS: Final = 6
_SINGULAR: Final = {
    "entries": "entry", "lines": "line", "messages": "message", "events": "event", "tool_calls": "tool_call"
}  # fmt: skip


class FileChange(NamedTuple):
    """What a commit did to one file.

    - `path`: the file, as `sessions/0198c3….json`. `kind`: "added", "changed" or "removed".
    - `fields`: those of a JSON document that are different, at its outermost level.
    - `added`, `removed`: how many lines; a line of a log is an entry.
    """

    path: str
    kind: str
    fields: tuple[str, ...]
    added: int
    removed: int


class RecordCommit(NamedTuple):
    """A commit that changed a record: its id, when and by whom it was made, the first line of its message, and what.

    `record` is what the record was called there, as `agents/planner.json`: it may have moved since.
    """

    id: str
    at: datetime
    author: str
    subject: str
    record: str
    changes: list[FileChange]

    @property
    def made_it(self) -> bool:
        """Whether the record came to its place with this commit."""
        return any(change.path == self.record and change.kind == "added" for change in self.changes)

    @property
    def summary(self) -> str:
        """The changes in a few words: `status, +3 messages`."""
        stem = self.record.removesuffix(JSON)
        return ", ".join(_in_words(change, self.record, f"{stem}/") for change in self.changes)


def kind_of(status: str) -> str:
    """What git's letter for a change means here."""
    return _KINDS.get(status[:1], "changed")


def changed_fields(before: bytes, after: bytes) -> tuple[str, ...]:
    """The outermost fields in which two JSON documents differ, in the files' order; none where that cannot be told."""
    old, new = _fields(before), _fields(after)
    if old is None or new is None:
        return ()
    missing = object()
    return tuple(name for name in {**old, **new} if old.get(name, missing) != new.get(name, missing))


def _fields(data: bytes) -> dict[str, Any] | None:
    try:
        found: object = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _in_words(change: FileChange, record: str, belongings: str) -> str:
    is_itself = change.path == record
    name = change.path.removeprefix(belongings).removesuffix(LOG).removesuffix(JSON).removesuffix(MARKDOWN)
    if change.path.endswith(LOG):
        return _counted(change, "entries" if is_itself else name)
    if change.kind != "changed":
        return change.kind if is_itself else f"{name} {change.kind}"
    what = _listed(change.fields) if change.fields else _counted(change, "lines")
    return what if is_itself else f"{name}: {what}"


def _counted(change: FileChange, noun: str) -> str:
    signs = ((change.added, "+"), (change.removed, "−"))
    shown = " ".join(f"{sign}{number:,}" for number, sign in signs if number) or "no"
    return f"{shown} {_SINGULAR.get(noun, noun) if change.added + change.removed == 1 else noun}"


def _listed(fields: Iterable[str]) -> str:
    names = list(fields)
    return ", ".join(names[:_MOST_FIELDS]) + (", …" if len(names) > _MOST_FIELDS else "")
