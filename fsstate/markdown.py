"""Markdown documents in a category: text that people write, with optional YAML front matter.

- Byte-faithful: what is not changed keeps its very bytes, be it CRLF, a BOM, comments or quoting.
- The text needs nothing but this library; only who looks into the front matter needs the `yaml` extra.
- An edit whose document was changed behind the lock is merged: the text line by line, the front matter field by
  field.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fsstate.backends.base import MARKDOWN, Backend, Blob, Ref
from fsstate.documents import Documents
from fsstate.errors import ConflictError, CorruptRecordError, InvalidValueError, MissingExtraError
from fsstate.frontmatter import Document
from fsstate.queries import MISSING

__all__ = ["Document", "Markdown"]

_log = logging.getLogger("fsstate")


class Markdown(Documents[Document, str]):
    """A category of Markdown documents.

    They are read as `Document`. A `str` may be given for one: it is the whole file, front matter included if it
    begins with one. `query` looks at the fields of the front matter.
    """

    def __init__(self, backend: Backend, category: str, *, owner: Ref | None = None) -> None:
        super().__init__(backend, category, MARKDOWN, owner=owner)

    def _decode(self, blob: Blob, ref: Ref) -> Document:
        return Document.parse(blob.data, self._where(ref))

    def _told(self, blob: Blob, ref: Ref) -> Mapping[str, Any]:
        return self._decode(blob, ref).front_matter or {}

    def _encode(self, value: Document | str, blob: Blob | None, ref: Ref) -> bytes:
        data = _text_bytes(value) if isinstance(value, str) else _rendered(value, self._where(ref))
        if blob is None or data == blob.data:
            return data
        present = self._decode(blob, ref)
        return data if isinstance(value, str) or not _is_plain(value, data) else _laid_over(present, value)

    def _merge(self, base: Blob | None, mine: Document, theirs: Blob | None, ref: Ref) -> bytes | None:
        data = mine.render()
        if base is not None and data == base.data:
            return None if theirs is None else theirs.data
        if theirs is not None and data == theirs.data:
            return data
        if base is None or theirs is None:
            raise self._conflict((base, mine, theirs), ("text",), ref)
        # What is hardly ever needed is not loaded before.
        from fsstate.merging.notes import merge_note
        from fsstate.merging.versions import Markers, Versions

        merged = merge_note(Versions(base.data, theirs.data, data), Markers(), self._where(ref))
        if merged.conflicts:
            # Of the text only its lines are told, which nobody finds in a file that was left alone.
            fields = dict.fromkeys(place if place.startswith("$") else "$.text" for place in merged.conflicts)
            raise self._conflict((base, mine, theirs), tuple(fields), ref)
        return merged.data

    def _conflict(
        self, versions: tuple[Blob | None, Document, Blob | None], fields: tuple[str, ...], ref: Ref
    ) -> ConflictError:
        base, mine, theirs = versions
        return ConflictError(
            self._where(ref),
            base=None if base is None else self._decode(base, ref),
            mine=mine,
            theirs=None if theirs is None else self._decode(theirs, ref),
            revision=None if theirs is None else theirs.revision,
            fields=fields,
        )

    def _field(self, value: Document, name: str) -> Any:
        try:
            return (value.front_matter or {}).get(name, MISSING)
        except CorruptRecordError as error:
            # It has a readable text, so listings show it; no query for a field finds it.
            _log.warning("skipped its front matter: %s", str(error))
            return MISSING

    def _check(self, name: str) -> None:
        document = self.get(name)
        # Without the extra the front matter is text like the rest, and cannot be wrong.
        with suppress(MissingExtraError):
            _ = document and document.front_matter


def _rendered(value: object, where: str) -> bytes:
    if not isinstance(value, Document):
        raise InvalidValueError(f"expected a Document or a str, got {type(value).__name__} ({where})")
    return value.render()


def _text_bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot express"
        raise InvalidValueError(reason) from None


def _is_plain(document: Document, data: bytes) -> bool:
    """Whether the document has no layout of its own (comments, quotes …), as one that was not parsed from a file."""
    try:
        return Document(document.text, document.front_matter).render() == data
    except (CorruptRecordError, MissingExtraError):
        return False


def _laid_over(present: Document, document: Document) -> bytes:
    """What the document says, in the layout of what is there: a dict has no comments that could have been meant."""
    present.text = document.text
    present.front_matter = document.front_matter
    return present.render()
