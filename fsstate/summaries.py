"""What a list of sessions shows of each: taken from its document and its logs, and remembered while the logs stay as
they are. Filters, orders and pages are decided here, purely; `fsstate.sessions` does the reading.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fsstate.backends.base import LOG, Backend, Ref
from fsstate.conversation import Tree, text_of
from fsstate.forks import renew_in_children
from fsstate.journal import Log
from fsstate.projection import Row
from fsstate.queries import ordered, page
from fsstate.session_documents import Session
from fsstate.streams import Streams
from fsstate.times import parse_time

__all__ = ["Digests", "SessionFilter", "SessionSummary", "Stamps", "project_of", "summarise", "title_of"]

_TITLE_LENGTH: Final = 60
# Digests of this many sessions are remembered, at about 1 KB each.
_MOST_DIGESTS: Final = 50_000
_ORDERS: Final = ("updated_at", "created_at", "message_count", "title")

# How the logs of a session look: the stamp of each.
Stamps: TypeAlias = tuple[tuple[str, tuple[int, ...] | None], ...]


class SessionSummary(msgspec.Struct, kw_only=True, frozen=True):
    """A session in a list.

    `title` is the session's, or its metadata's, or the first line of the first user message, cut at 60 characters;
    `project_id` the session's or its metadata's; `updated_at` the latest of the document's and of all logs' last
    entries; `last_model` the model of the latest message that names one.
    """

    id: str
    user_id: str | None
    title: str | None
    status: str
    project_id: str | None
    parent_id: str | None
    label: str | None
    archived: bool
    created_at: datetime | None
    updated_at: datetime | None
    message_count: int
    last_model: str | None
    metadata: dict[str, Any]


class Digest(NamedTuple):
    """What a summary needs of a session's logs."""

    message_count: int = 0
    first_text: str | None = None
    last_model: str | None = None
    last_time: datetime | None = None


class Digests:
    """The digests of one store's sessions. Any thread may ask."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamps, Digest]] = {}
        renew_in_children(self)

    def look(self, owner: Ref) -> tuple[Stamps, Digest]:
        """How a session's logs look now, and their digest. Reads them only if they look other than before."""
        category = f"{owner.category}/{owner.name}"
        streams = f"{category}/streams"
        # Before reading: what is appended meanwhile makes the next look read again.
        refs = [Ref(below, name, LOG) for below in (category, streams) for name in self._backend.names(below, LOG)]
        stamps = tuple((str(ref), self._backend.log_stamp(ref)) for ref in refs)
        with self._lock:
            known = self._known.get(category)
        if known is not None and known[0] == stamps:
            return known
        found = stamps, (self._read(owner, refs) if refs else Digest())
        with self._lock:
            if len(self._known) >= _MOST_DIGESTS:
                self._known.clear()
            self._known[category] = found
        return found

    def after_fork(self) -> None:
        """In a forked child: the lock may have been copied while another thread held it."""
        self._lock = threading.Lock()

    def _read(self, owner: Ref, refs: Iterable[Ref]) -> Digest:
        category = f"{owner.category}/{owner.name}"
        streams = Streams(self._backend, owner)
        # Before the messages are read: one that is finished in between counts there.
        begun = [ref.name for ref in refs if ref.category != category and streams.is_begun(ref.name)]
        times = [_last_time(Log(self._backend, ref)) for ref in refs]
        tree = Tree()
        for row in Log(self._backend, Ref(category, "messages", LOG)).rows():
            tree.fold(row)
        under_way = [name for name in begun if name not in tree.rows]
        last_time = max((time for time in times if time is not None), default=None)
        return _digest(list(tree.rows.values()), len(under_way), last_time)


def _digest(rows: list[Row], under_way: int, last_time: datetime | None) -> Digest:
    texts = (text_of(row.get("content")).strip() for row in rows if row.get("role") == "user")
    models = (row["model"] for row in reversed(rows) if isinstance(row.get("model"), str))
    first = next((text for text in texts if text), None)
    return Digest(len(rows) + under_way, first and first[: 4 * _TITLE_LENGTH], next(models, None), last_time)


def _last_time(log: Log) -> datetime | None:
    row = next(log.rows_backwards(), None)
    try:
        return parse_time(row["at"]) if row is not None and "at" in row else None
    except ValueError:
        return None


def summarise(session: Session, digest: Digest) -> SessionSummary:
    """The summary of a session."""
    times = [time for time in (session.updated_at, digest.last_time) if time is not None]
    return SessionSummary(
        id=session.id,
        user_id=session.user_id,
        title=session.title or _text(session.metadata.get("title")) or title_of(digest.first_text),
        status=session.status,
        project_id=project_of(session),
        parent_id=session.parent_id,
        label=session.label,
        archived=session.archived_at is not None,
        created_at=session.created_at,
        updated_at=max(times, default=session.created_at),
        message_count=digest.message_count,
        last_model=digest.last_model,
        metadata=session.metadata,
    )


def title_of(text: str | None) -> str | None:
    """The automatic title: the first line that says something, at most 60 characters, cut with an ellipsis."""
    line = next((line.strip() for line in (text or "").splitlines() if line.strip()), None)
    if line is None or len(line) <= _TITLE_LENGTH:
        return line
    return line[: _TITLE_LENGTH - 1].rstrip() + "…"


def project_of(session: Session) -> str | None:
    """The session's project; else its metadata's `project_id`, or the first of `project_ids`, separated by commas."""
    listed = _text(session.metadata.get("project_ids")) or ""
    return session.project_id or _text(session.metadata.get("project_id")) or listed.split(",")[0].strip() or None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class SessionFilter(NamedTuple):
    """Which sessions to list; None means that it does not matter. The bounds of times belong to the range."""

    user_id: str | None = None
    status: str | None = None
    project_id: str | None = None
    parent_id: str | None = None
    archived: bool | None = False
    metadata: Mapping[str, object] = {}
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    def may_fit(self, session: Session) -> bool:
        """Whether the document fits, before its logs are looked at."""
        wanted = (
            (self.user_id, session.user_id),
            (self.status, session.status),
            (self.project_id, project_of(session)),
            (self.parent_id, session.parent_id),
            (self.archived, session.archived_at is not None),
        )
        return (
            all(want is None or want == found for want, found in wanted)
            and all(key in session.metadata and session.metadata[key] == want for key, want in self.metadata.items())
            and _is_within(session.created_at, self.created_after, self.created_before)
        )

    def fits(self, summary: SessionSummary) -> bool:
        """Whether a session whose document fits also fits by its logs."""
        return _is_within(summary.updated_at, self.updated_after, self.updated_before)


def _is_within(time: datetime | None, after: datetime | None, before: datetime | None) -> bool:
    if time is None:
        return after is None and before is None
    return (after is None or time >= after) and (before is None or time <= before)


def select(summaries: Iterable[SessionSummary], order_by: str, limit: int | None, offset: int) -> list[SessionSummary]:
    """Order, then cut. Equal ones are ordered by id in the same direction; those without the field come last."""
    direction = "-" if order_by.startswith("-") else ""
    if order_by.removeprefix("-") not in _ORDERS:
        known = ", ".join(_ORDERS)
        raise ValueError(f"order_by must be one of {known}, with a leading '-' to descend, got {order_by!r}")
    return page(ordered(summaries, (order_by, f"{direction}id"), getattr), limit, offset)
