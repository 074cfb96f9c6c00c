"""What a list of sessions shows of each: taken from its document and its logs, and remembered while the logs stay as
they are. Filters, orders and pages are decided here, purely; `fsstate.sessions` does the reading.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fsstate.backends.base import LOG, Backend, Ref
from fsstate.conversation import Tree, text_of
from fsstate.forks import renew_in_children
from fsstate.journal import Log
from fsstate.projection import Row
from fsstate.queries import ordered, page
from fsstate.seeded_log import is_blank, may_be_seeded, message_log
from fsstate.session_documents import Session
from fsstate.streams import Streams
from fsstate.times import parse_time

__all__ = [
    "Digests",
    "SessionFilter",
    "SessionSummary",
    "Stamps",
    "given_title",
    "project_of",
    "put_into",
    "summarise",
    "title_of",
]

_TITLE_LENGTH: Final = 60
# Digests of this many sessions are remembered, at about 1 KB each.
_MOST_DIGESTS: Final = 50_000
# So far back are the logs of events and tool calls searched for a model.
_MOST_ROWS: Final = 200
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
_ORDERS: Final = ("updated_at", "created_at", "message_count", "title")

# How the logs of a session look: the stamp of each.
Stamps: TypeAlias = tuple[tuple[str, tuple[int, ...] | None], ...]
# When something that names a model was entered, and that model.
_Named: TypeAlias = tuple[datetime | None, str]


class SessionSummary(msgspec.Struct, kw_only=True, frozen=True):
    """A session in a list.

    `title` is the session's, or its metadata's, or the first line of the first user message, cut at 60 characters;
    `project_id` the session's or its metadata's; `updated_at` the latest of the document's and of all logs' last
    entries. `last_model` is what the latest of these names as its `model`: a message, one of the last 200 events, one
    of the last 200 lines of tool calls. In each log the last one in the file counts, and of these the latest by time.
    """

    id: str
    user_id: str | None
    title: str | None
    status: str
    project_id: str | None
    parent_id: str | None
    label: str | None
    archived: bool
    pinned: bool
    created_at: datetime | None
    updated_at: datetime | None
    ended_at: datetime | None
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

    def last_time(self, owner: Ref) -> datetime | None:
        """When the last entry of any of a session's logs was made. Reads the last entry of each, remembers nothing."""
        return _last_time(self._logs(self._refs(owner), message_log(self._backend, owner)))

    def look(self, owner: Ref) -> tuple[Stamps, Digest]:
        """How a session's logs look now, and their digest. Reads them only if they look other than before."""
        category = owner.belongings
        messages = f"{category}/messages{LOG}"
        # Before reading: what is appended meanwhile makes the next look read again.
        refs = self._refs(owner)
        stamps = tuple((str(ref), self._backend.log_stamp(ref)) for ref in refs)
        if is_blank(dict(stamps).get(messages)) and may_be_seeded(self._backend, owner):
            stamps += ((messages, message_log(self._backend, owner).stamp()),)
        with self._lock:
            known = self._known.get(category)
        if known is not None and known[0] == stamps:
            return known
        found = stamps, (self._read(owner, refs) if stamps else Digest())
        with self._lock:
            if len(self._known) >= _MOST_DIGESTS:
                self._known.clear()
            self._known[category] = found
        return found

    def after_fork(self) -> None:
        """In a forked child: the lock may have been copied while another thread held it."""
        self._lock = threading.Lock()

    def _refs(self, owner: Ref) -> list[Ref]:
        categories = (owner.belongings, f"{owner.belongings}/streams")
        return [Ref(below, name, LOG) for below in categories for name in self._backend.names(below, LOG)]

    def _logs(self, refs: Iterable[Ref], messages: Log) -> list[Log]:
        return [messages, *(Log(self._backend, ref) for ref in refs if ref != messages.ref)]

    def _read(self, owner: Ref, refs: Iterable[Ref]) -> Digest:
        category = owner.belongings
        streams = Streams(self._backend, owner)
        # Before the messages are read: one that is finished in between counts there.
        begun = [ref.name for ref in refs if ref.category != category and streams.is_begun(ref.name)]
        messages = message_log(self._backend, owner)
        tree = Tree()
        for row in messages.rows():
            tree.fold(row)
        rows = list(tree.rows.values())
        # Messages first: of equal times theirs counts.
        named = [_last_named(reversed(rows)), *(self._last_named_in(ref) for ref in refs if ref.category == category)]
        return Digest(
            message_count=len(rows) + sum(name not in tree.rows for name in begun),
            first_text=_first_text(rows),
            last_model=_latest([each for each in named if each is not None]),
            last_time=_last_time(self._logs(refs, messages)),
        )

    def _last_named_in(self, ref: Ref) -> _Named | None:
        if ref.name not in ("events", "tool_calls"):
            return None
        return _last_named(islice(Log(self._backend, ref).rows_backwards(), _MOST_ROWS))


def _first_text(rows: Iterable[Row]) -> str | None:
    texts = (text_of(row.get("content")).strip() for row in rows if row.get("role") == "user")
    first = next((text for text in texts if text), None)
    return first and first[: 4 * _TITLE_LENGTH]


def _last_named(backwards: Iterable[Row]) -> _Named | None:
    """The first of the rows that names a model, as its time and the model."""
    row = next((row for row in backwards if _text(row.get("model"))), None)
    return None if row is None else (_time_of(row), row["model"])


def _last_time(logs: Iterable[Log]) -> datetime | None:
    times = (_time_of(row) for log in logs for row in islice(log.rows_backwards(), 1))
    return max((time for time in times if time is not None), default=None)


def _latest(named: Iterable[_Named]) -> str | None:
    latest = max(named, key=lambda each: each[0] or _BEFORE_ALL, default=None)
    return None if latest is None else latest[1]


def _time_of(row: Row) -> datetime | None:
    try:
        return parse_time(row["at"]) if "at" in row else None
    except ValueError:
        return None


def summarise(session: Session, digest: Digest) -> SessionSummary:
    """The summary of a session."""
    times = [time for time in (session.updated_at, digest.last_time) if time is not None]
    return SessionSummary(
        id=session.id,
        user_id=session.user_id,
        title=given_title(session) or title_of(digest.first_text),
        status=session.status,
        project_id=project_of(session),
        parent_id=session.parent_id,
        label=session.label,
        archived=session.archived_at is not None,
        pinned=session.pinned,
        created_at=session.created_at,
        updated_at=max(times, default=session.created_at),
        ended_at=session.ended_at,
        message_count=digest.message_count,
        last_model=digest.last_model,
        metadata=session.metadata,
    )


def given_title(session: Session) -> str | None:
    """The title that somebody gave the session: its own, else its metadata's. A blank one is none."""
    titles = (session.title, _text(session.metadata.get("title")))
    return next((title for title in titles if title and title.strip()), None)


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


def put_into(session: Session, project_id: str | None) -> None:
    """Set the session's project. What its metadata says of projects goes: it would count where there is none."""
    session.project_id = project_id
    for key in ("project_id", "project_ids"):
        if _text(session.metadata.get(key)):
            del session.metadata[key]


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
