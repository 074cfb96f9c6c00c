"""What an index keeps of a session: its summary, and the digest of its logs to carry on with."""

from __future__ import annotations

from typing import Final

import msgspec

from fsstate import codec
from fsstate.backends.base import JSON, Ref
from fsstate.digests import Digest, Digests
from fsstate.index import Kept, View
from fsstate.session_documents import CATEGORY, Session, SessionDocuments
from fsstate.summaries import SessionSummary, given_title, summarise

__all__ = ["SESSION_FIELDS", "SessionView", "Summed", "fields_of"]

# What sessions may be asked for and ordered by, besides their metadata.
SESSION_FIELDS: Final = (
    "id",
    "user_id",
    "status",
    "project_id",
    "parent_id",
    "label",
    "archived",
    "created_at",
    "updated_at",
    "ended_at",
    "message_count",
    "title",
    "last_model",
)
# Not for callers: the title that the document has, in one case.
FOLDED_TITLE: Final = "folded_title"


class Summed(msgspec.Struct, array_like=True):
    """A session's summary, and the title that its document has. On disk in the cache: see `SessionView.version`."""

    summary: SessionSummary
    title: str | None
    # Apart from it, as JSON: it may hold numbers that the cache's own form cannot.
    metadata: bytes = b""
    digest: bytes = b""

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
    title = given_title(session)
    return {**found, "metadata": summary.metadata, FOLDED_TITLE: None if title is None else title.casefold()}


class SessionView(View):
    """The sessions of one store."""

    name = CATEGORY
    # To be changed whenever a summary is made otherwise of the same files.
    version = "1"
    fields = (*SESSION_FIELDS, "metadata", FOLDED_TITLE)
    sorted_fields = (
        *("user_id", "project_id", "parent_id", "label", "created_at", "updated_at", "message_count", "title"),
        FOLDED_TITLE,
    )
    containers = ("metadata",)
    belongings = True

    def __init__(self, documents: SessionDocuments, digests: Digests) -> None:
        self._documents = documents
        self._digests = digests

    def folders(self) -> tuple[str]:
        """Where sessions are."""
        return (CATEGORY,)

    def place_of(self, folder: str, name: str) -> str:
        """The session's id."""
        return name

    def read(self, folder: str, name: str, before: bytes | None) -> Kept | None:
        """Sum up a session, going on from what was kept of its logs."""
        session = self._documents.get(name)
        if session is None:
            return None
        known = _digests.decode(_decoder.decode(before).digest) if before else None
        digest = self._digests.carry_on(Ref(CATEGORY, name, JSON), known)
        summary = summarise(session, digest)
        metadata = codec.encode_line(summary.metadata) if summary.metadata else b""
        bare = msgspec.structs.replace(summary, metadata={})
        summed = Summed(bare, given_title(session), metadata, _encoder.encode(digest))
        return Kept(fields_of(session, summary), _encoder.encode(summed))

    def summed(self, value: bytes) -> Summed:
        """What was kept of a session."""
        return _decoder.decode(value)
