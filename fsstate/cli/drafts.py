"""What a person typed, on its way to becoming a record: is it valid, and how does it meet what others changed?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fsstate import codec
from fsstate.backends.base import JSON, MARKDOWN, Blob, Change, Ref
from fsstate.cli.addresses import is_session
from fsstate.errors import ConflictError, MissingExtraError
from fsstate.frontmatter import Document
from fsstate.merge import keep_order, three_way

__all__ = ["check", "parts_of", "save_over"]


def check(ref: Ref, data: bytes, where: str) -> Any:
    """The value in the bytes: what the record's collection takes. `where` names them in errors.

    Raises CorruptRecordError with line and column, and ValidationError for a session's document that is none.
    """
    if ref.suffix == MARKDOWN:
        document = Document.parse(data, where)
        # Without the extra the front matter is text like the rest.
        with suppress(MissingExtraError):
            _ = document.front_matter
        return document
    value = codec.decode_bytes(data, where)
    if is_session(ref):
        from fsstate.models import Model
        from fsstate.sessions import Session

        Model.of(Session).load(value, where)  # pyright: ignore[reportUnknownMemberType]
    return value


def parts_of(ref: Ref, data: bytes, where: str) -> Any:
    """What can be compared and merged of the bytes: the JSON value, or a Markdown document's front matter and text."""
    return _parts(data, where) if ref.suffix == MARKDOWN else codec.decode_bytes(data, where)


def save_over(ref: Ref, base: Blob | None, mine: bytes, where: str) -> Change:
    """The change that saves `mine`, byte for byte if the file still holds `base`, else merged with what it holds.

    It raises ConflictError where the two changes meet.
    """

    def change(theirs: Blob | None) -> bytes:
        if (None if theirs is None else theirs.data) in (None if base is None else base.data, mine):
            return mine
        if theirs is None or base is None:
            present = (None, None) if theirs is None else (theirs.data, theirs.revision)
            raise ConflictError(where, mine=mine, theirs=present[0], revision=present[1])
        merge = _merged_json if ref.suffix == JSON else _merged_markdown
        data, fields = merge(base, mine, theirs, where)
        if fields:
            raise ConflictError(
                where, base=base.data, mine=mine, theirs=theirs.data, revision=theirs.revision, fields=fields
            )
        check(ref, data, where)
        return data

    return change


def _merged_json(base: Blob, mine: bytes, theirs: Blob, where: str) -> tuple[bytes, tuple[str, ...]]:
    present = codec.decode(theirs, where)
    merged, fields = three_way(codec.decode(base, where), codec.decode_bytes(mine, where), present)
    return codec.encode(keep_order(merged, present), where=where), fields


def _merged_markdown(base: Blob, mine: bytes, theirs: Blob, where: str) -> tuple[bytes, tuple[str, ...]]:
    from fsstate.merging.notes import merge_note
    from fsstate.merging.versions import Markers, Versions

    merged = merge_note(Versions(base.data, theirs.data, mine), Markers(), where)
    return merged.data, merged.conflicts


def _parts(data: bytes, where: str) -> dict[str, Any]:
    document = Document.parse(data, where)
    return {"front_matter": document.front_matter, "text": document.text}
