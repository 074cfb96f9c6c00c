"""What a list of sessions shows of each, taken from its document and the digest of its logs. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from fsstate.digests import Digest
from fsstate.session_documents import Session

__all__ = ["SessionSummary", "given_title", "project_of", "put_into", "summarise", "title_of"]

_TITLE_LENGTH: Final = 60


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
    created_at: datetime | None
    updated_at: datetime | None
    ended_at: datetime | None
    message_count: int
    last_model: str | None
    metadata: dict[str, Any]


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
