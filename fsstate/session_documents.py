"""What a session's document holds, and how it is saved: whole, stamped when it changed, named by its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypedDict

import msgspec

from fsstate.backends.base import Backend, Blob, Ref
from fsstate.collection import Collection
from fsstate.times import Clock

__all__ = ["CATEGORY", "Session", "SessionDocuments", "SessionFields", "named", "naming", "setting"]

# On disk: do not rename.
CATEGORY: Final = "sessions"


class Session(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A session's document. Its messages, events and so on are in logs of their own; see `Store.session`.

    - `status`: "active", "ended", or your own.
    - `parent_id`: the session that it was forked from, `parent_message_id` the message there.
    - `memory_mode`: how an agent's memory takes part in it, in a word of your own.
    - `updated_at`: when this document last changed; a summary's is later if a log's last entry is.
    - `metadata`: any JSON.

    A file may hold more than this; it stays there. Changing these attributes changes no file; `Sessions.update` does.
    """

    id: str = ""
    user_id: str | None = None
    title: str | None = None
    status: str = "active"
    project_id: str | None = None
    parent_id: str | None = None
    parent_message_id: str | None = None
    label: str | None = None
    memory_mode: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    metadata: dict[str, Any] = {}


class SessionFields(TypedDict, total=False):
    """What a new session may be given, as `Sessions.create` takes it."""

    user_id: str | None
    title: str | None
    project_id: str | None
    parent_id: str | None
    label: str | None
    metadata: Mapping[str, Any] | None
    status: str
    created_at: datetime | None


class SessionDocuments(Collection[Session]):
    """The sessions' documents. A save that changes one stamps it."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        super().__init__(backend, CATEGORY, Session)
        self._clock = clock

    def _decode(self, blob: Blob, ref: Ref) -> Session:
        return named(super()._decode(blob, ref), ref.name)

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        if blob is None or data == blob.data:
            return data
        before, after = self._decode(blob, ref), self._decode(Blob(data), ref)
        if before == after or before.updated_at != after.updated_at:
            return data
        after.updated_at = self._clock()
        return self._encode(after, Blob(data), ref)


def named(session: Session, name: str) -> Session:
    """The session with its file's name as its id: a copied file is a session of its own."""
    session.id = name
    return session


def setting(field: str, value: object) -> Callable[[Session], None]:
    """The change that sets one attribute."""
    return lambda session: setattr(session, field, value)


def naming(name: str, fn: Callable[[Session], Session | None]) -> Callable[[Session], Session]:
    """The same change, of a session that bears its file's name before and after."""

    def change(session: Session) -> Session:
        result = fn(named(session, name))
        return named(session if result is None else result, name)

    return change
