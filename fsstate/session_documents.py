"""What a session's document holds, and the rules that it is saved by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from datetime import datetime
from typing import Any, Final, Self, TypedDict

import msgspec

from fsstate.backends.base import Blob, Ref
from fsstate.errors import InvalidValueError
from fsstate.record_documents import Fields, RecordDocuments
from fsstate.record_types import RecordType
from fsstate.shared import Shared

__all__ = ["CATEGORY", "SESSIONS", "Session", "SessionDocuments", "SessionFields", "setting"]

# On disk: do not rename.
CATEGORY: Final = "sessions"


class Session(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A session's document. Its messages, events and so on are in logs of their own; see `Store.session`.

    - `status`: "active", "ended", or your own.
    - `parent_id`: the session that it was forked from, `parent_message_id` the message there.
    - `label`: names one session; `Sessions.set_label` gives it.
    - `memory_mode`: how an agent's memory takes part in it, in a word of your own.
    - `pinned`: no retention policy takes it away; nor one that is archived.
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
    pinned: bool = False
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


# A session's own rules: its times, and what migrations may come.
SESSIONS: Final = RecordType(CATEGORY, Session, order_by="-updated_at")


class SessionDocuments(RecordDocuments[Session]):
    """The sessions' documents. Unlike other records', a session's id is its file's name as it stands."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, SESSIONS, CATEGORY)
        self._may_label = False

    def labelling(self) -> Self:
        """The same documents, where a label may be given: to whoever sees to it that no two have it."""
        documents = copy(self)
        documents._may_label = True
        return documents

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        if not self._may_label:
            label = self._decode(Blob(data), ref).label
            # Taking it away is nobody's business, and neither is what another program wrote there.
            if label is not None and (blob is None or label != self._decode(blob, ref).label):
                raise InvalidValueError("a label names one session; give it with set_label", at="$.label")
        return super()._settled(data, blob, ref)

    def _told_by_place(self, document: Fields, ref: Ref) -> Fields:
        return {"id": ref.name}

    def _keep_place(self, fields: Fields, ref: Ref) -> None:
        """Nothing to refuse: a session that takes another's place takes its id as well."""


def setting(field: str, value: object) -> Callable[[Session], None]:
    """The change that sets one attribute."""
    return lambda session: setattr(session, field, value)
