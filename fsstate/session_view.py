"""What an index keeps of a session: its summary, and the digest of its logs to carry on with."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from fsstate import codec
from fsstate.backends.base import JSON, Backend, Footprint, Ref, Stamps
from fsstate.digests import Digest, Digests
from fsstate.index import Kept, View
from fsstate.session_documents import CATEGORY, Session, SessionDocuments
from fsstate.summaries import SessionSummary, given_title, summarise
from fsstate.sweeper import exemption_of

__all__ = ["EXEMPT", "FOLDED_TITLE", "IDLE_SINCE", "SESSION_FIELDS", "SessionView", "Summed", "exempt_as", "fields_of"]

# What sessions may be asked for and ordered by, besides their metadata.
SESSION_FIELDS: Final = (
    "id",
    "user_id",
    "status",
    "project_id",
    "parent_id",
    "label",
    "archived",
    "pinned",
    "created_at",
    "updated_at",
    "ended_at",
    "message_count",
    "title",
    "last_model",
)
# Not for callers: the title that the document has, in one case; when a session that may be pruned was last active; and
# why one may not.
FOLDED_TITLE: Final = "folded_title"
IDLE_SINCE: Final = "idle_since"
EXEMPT: Final = "exempt"


class Summed(msgspec.Struct, array_like=True):
    """A session's summary, and the title that its document has. On disk in the cache: see `SessionView.version`."""

    summary: SessionSummary
    title: str | None
    # Apart from it, as JSON: it may hold numbers that the cache's own form cannot.
    metadata: bytes = b""
    digest: bytes = b""
    footprint: Footprint = Footprint(0, None, has_belongings=False)

    def whole(self) -> SessionSummary:
        """The summary with its metadata."""
        if not self.metadata:
            return self.summary
        return msgspec.structs.replace(self.summary, metadata=codec.decode_bytes(self.metadata, "the index"))


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Summed)
_digests: Final = msgspec.msgpack.Decoder(Digest)


def fields_of(session: Session, summary: SessionSummary) -> dict[str, object]:
    """The values that a session is asked for and ordered by."""
    found: dict[str, object] = {name: getattr(summary, name) for name in SESSION_FIELDS}
    title, exempt = given_title(session), exempt_as(session, summary.updated_at)
    found[FOLDED_TITLE] = None if title is None else title.casefold()
    found[IDLE_SINCE] = summary.updated_at if exempt is None else None
    return {**found, "metadata": summary.metadata, EXEMPT: exempt}


def exempt_as(session: Session, last_active: datetime | None) -> str | None:
    """Why no policy takes the session away; None if one may."""
    return exemption_of({"pinned": session.pinned, "archived_at": session.archived_at}, last_active)


class SessionView(View):
    """The sessions of one store."""

    name = CATEGORY
    # To be changed whenever a summary is made otherwise of the same files.
    version = "2"
    fields = (*SESSION_FIELDS, "metadata", FOLDED_TITLE, IDLE_SINCE, EXEMPT)
    sorted_fields = ("created_at", "updated_at", "message_count", "title", IDLE_SINCE)
    found_fields = ("user_id", "project_id", "parent_id", "label", FOLDED_TITLE, EXEMPT)
    weighed = True
    belongings = True

    def __init__(self, backend: Backend, documents: SessionDocuments, digests: Digests) -> None:
        self._backend = backend
        self._documents = documents
        self._digests = digests

    def folders(self) -> tuple[str]:
        """Where sessions are."""
        return (CATEGORY,)

    def place_of(self, folder: str, name: str) -> str:
        """The session's id."""
        return name

    def read(self, folder: str, name: str, *, before: bytes | None, logs: Stamps | None) -> Kept | None:
        """Sum up a session, going on from what was kept of its logs."""
        ref = Ref(CATEGORY, name, JSON)
        # Before anything is read: what comes in between gives it another mark.
        footprint = self._backend.footprint(ref, ref.belongings)
        session = self._documents.get(name)
        if session is None or footprint is None:
            return None
        known = _digests.decode(_decoder.decode(before).digest) if before else None
        digest = self._digests.carry_on(ref, known, logs)
        summary = summarise(session, digest)
        metadata = codec.encode_line(summary.metadata) if summary.metadata else b""
        bare = msgspec.structs.replace(summary, metadata={})
        summed = Summed(bare, given_title(session), metadata, _encoder.encode(digest), footprint)
        return Kept(fields_of(session, summary), _encoder.encode(summed), footprint.size)

    def summed(self, value: bytes) -> Summed:
        """What was kept of a session."""
        return _decoder.decode(value)
