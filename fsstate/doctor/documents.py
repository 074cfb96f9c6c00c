"""Judging documents: JSON and Markdown as they stand, and as the record types see them that keep them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, cast

from fsstate import codec, names
from fsstate.backends.base import JSON, MARKDOWN, Backend, Blob, Ref
from fsstate.doctor.findings import Case, case_of
from fsstate.doctor.parts import PartCheck
from fsstate.doctor.quarantine import Quarantine
from fsstate.errors import (
    CorruptRecordError,
    FsStateError,
    MigrationError,
    MissingExtraError,
    NewerVersionError,
    StorageError,
    ValidationError,
)
from fsstate.frontmatter import Document
from fsstate.record_documents import RecordDocuments
from fsstate.record_places import Places
from fsstate.record_types import RecordType
from fsstate.rules import HOLDER
from fsstate.session_documents import CATEGORY
from fsstate.shared import Shared

__all__ = ["DocumentCheck", "kind_of_damage"]

_BOM: Final = b"\xef\xbb\xbf"
_CONFLICT: Final = re.compile(rb"^(?:<{7}|>{7})(?: |\r?$)", re.MULTILINE)
# All three, in this order: Markdown has uses of its own for each.
_MERGE: Final = re.compile(rb"^<{7} [^\n]*\n(?:.*\n)?={7}\r?\n(?:.*\n)?>{7} ", re.MULTILINE | re.DOTALL)
_MISFITS: Final = (ValidationError, MigrationError, CorruptRecordError)
# Seconds: between two looks at a document that cannot be read, and for all of them together.
_PAUSE: Final = 0.05
_PATIENCE: Final = 1.0
# Nanoseconds. What changed no longer ago than this may be in somebody's hands.
_YOUNG: Final = 300_000_000
_RESTORE: Final = "correct it by hand, or restore it from git or a backup"
_MOVE: Final = "`--fix` moves it to the quarantine, where it can be corrected and moved back"


class DocumentCheck:
    """Judges the documents of one store, one after the other."""

    def __init__(
        self,
        shared: Shared,
        kinds: Iterable[RecordType[Any]],
        owners: frozenset[str],
        quarantine: Quarantine | None,
        parts: PartCheck,
    ) -> None:
        self._backend: Backend = shared.backend
        self._shared = shared
        self._kinds = [*kinds]
        self._owners = owners
        self._quarantine = quarantine
        self._parts = parts
        self._patience = _PATIENCE
        self._is_alive = cache(shared.ownership.is_alive)
        self._labels: dict[str, str] = {}
        self._known: tuple[str, RecordDocuments[Any] | None] = ("", None)

    def judge(self, ref: Ref) -> Iterator[Case]:
        """What is wrong with a document; nothing where it is gone by now."""
        where = self._backend.location(ref)
        try:
            blob = self._backend.read(ref)
        except StorageError as error:
            yield case_of("unreadable", where, str(error), "let the owner of the store look at the file, or the disk")
            return
        if blob is None:
            return
        flaw = _flaw(ref, blob, where)
        if flaw is not None:
            again = self._looked_at_again(ref, blob)
            flaw = None if again is None else _flaw(ref, again, where)
            if again is not None and flaw is not None:
                yield self._damaged(ref, again, flaw)
            return
        yield from _habits(blob.data, where)
        if ref.suffix == MARKDOWN:
            yield from _unfinished_merge(blob, where)
            yield from _front_matter(blob, where)
        else:
            yield from self._as_record(ref, blob)

    def _looked_at_again(self, ref: Ref, blob: Blob) -> Blob | None:
        """A document that cannot be read, once nobody is at work on it: an editor may write it piece by piece."""
        while self._patience > 0 and self._is_young(ref):
            self._patience -= _PAUSE
            time.sleep(_PAUSE)
            now = self._backend.read(ref)
            if now is None or _flaw(ref, now, "") is None:
                return None
            blob = now
        return blob

    def _is_young(self, ref: Ref) -> bool:
        stamp = self._backend.log_stamp(ref)
        return stamp is not None and abs(time.time_ns() - stamp[-1]) < _YOUNG

    def _damaged(self, ref: Ref, blob: Blob, flaw: CorruptRecordError) -> Case:
        kind = kind_of_damage(blob.data, flaw)
        if kind == "conflict-markers" or self._quarantine is None:
            advice = "finish the merge: keep one side, and save" if kind == "conflict-markers" else _RESTORE
            return case_of(kind, flaw.path, flaw.reason, advice, at=flaw)
        quarantine, owns = self._quarantine, ref.category in self._owners and ref.suffix == JSON

        def is_bad() -> bool:
            now = self._backend.read(ref)
            return now is not None and _flaw(ref, now, flaw.path) is not None

        case = case_of(kind, flaw.path, flaw.reason, f"{_RESTORE}; {_MOVE}", at=flaw)
        return case.mended_by(lambda finding: quarantine.take_document(ref, finding, is_bad, owns=owns))

    # -- records

    def _as_record(self, ref: Ref, blob: Blob) -> Iterator[Case]:
        documents = self._documents_in(ref.category)
        if documents is None:
            return
        where = self._backend.location(ref)
        try:
            fields = documents.fields_of(blob, ref.name)
            documents.value_of(blob, ref.name)
        except NewerVersionError as error:
            yield case_of("newer-version", where, str(error), "upgrade the program that reads it")
        except _MISFITS as error:
            advice = "correct the field; where the file is another program's, nothing needs to be done"
            yield case_of("invalid-record", where, _without(where, error), advice)
        else:
            told = cast("Mapping[str, Any]", codec.decode(blob, where))
            yield from self._place_flaws(documents.kind, told, fields, where)
            yield from self._flight(documents, ref, blob, fields)
            if ref.category == CATEGORY:
                yield from self._references(fields, where)
                yield from self._parts.judge_embedded(ref.name, blob.data)

    def _documents_in(self, category: str) -> RecordDocuments[Any] | None:
        if self._known[0] != category:
            found = (place for kind in self._kinds if (place := self._place_of(kind, category)) is not None)
            self._known = category, next(found, None)
        return self._known[1]

    def _place_of(self, kind: RecordType[Any], category: str) -> RecordDocuments[Any] | None:
        """The folder of a type's records, if a category is one."""
        owner, below = None, category
        if kind.parent is not None:
            name, _, below = category.removeprefix(f"{kind.parent}/").partition("/")
            if not category.startswith(f"{kind.parent}/"):
                return None
            owner = Ref(kind.parent, name, JSON)
        is_group = kind.group_by is not None and below.rpartition("/")[0] == kind.category
        return Places(self._shared, kind, owner).at(category) if below == kind.category or is_group else None

    def _place_flaws(
        self, kind: RecordType[Any], told: Mapping[str, Any], fields: Mapping[str, Any], where: str
    ) -> Iterator[Case]:
        for key in (kind.key, kind.group_by):
            if key is not None and isinstance(told.get(key), str) and key in fields and told[key] != fields[key]:
                reason = f"$.{key} is {told[key]!r}, and the file's place says {fields[key]!r}"
                yield case_of("mismatched-id", where, reason, "correct the field, or rename the file after it")

    def _flight(
        self, documents: RecordDocuments[Any], ref: Ref, blob: Blob, fields: Mapping[str, Any]
    ) -> Iterator[Case]:
        if not documents.kind.in_flight or not documents.is_in_flight(dict(fields)):
            return
        holder = fields.get(HOLDER)
        if self._is_alive(holder if isinstance(holder, str) else None):
            return
        # Its holder may have finished it, and ended, since it was read.
        now = self._backend.read(ref)
        if now is not None and now.data == blob.data:
            status = documents.kind.status_of(fields)
            reason = f"it is {status!r}, and whoever worked on it is gone"
            yield case_of("dead-holder", self._backend.location(ref), reason, "settle it with `fsstate recover`")

    def _references(self, fields: Mapping[str, Any], where: str) -> Iterator[Case]:
        label, parent = fields.get("label"), fields.get("parent_id")
        if isinstance(label, str) and label:
            first = self._labels.setdefault(label, where)
            if first != where and self._is_labelled(first, label):
                reason = f"the label {label!r} is that of {first} as well"
                yield case_of("duplicate-label", where, reason, "take it from one of them, or give another")
        if isinstance(parent, str) and parent and not self._is_session(parent):
            reason = f"$.parent_id is {parent!r}, and there is no such session"
            yield case_of("missing-parent-session", where, reason, "restore it from the trash, or leave it so")

    def _is_labelled(self, where: str, label: str) -> bool:
        """Whether a session has a label still: it may have been given to another meanwhile."""
        name = where.rpartition("/")[2].removesuffix(JSON)
        blob = self._backend.read(Ref(CATEGORY, name, JSON))
        try:
            now = None if blob is None else codec.decode(blob, where)
        except CorruptRecordError:
            return False
        return isinstance(now, dict) and cast("dict[str, Any]", now).get("label") == label

    def _is_session(self, name: str) -> bool:
        return self._backend.look(Ref(CATEGORY, names.name_for(name), JSON)) is not None


def kind_of_damage(data: bytes, flaw: CorruptRecordError) -> str:
    """Which kind of finding a document is that cannot be read, told from its bytes."""
    body = data.removeprefix(_BOM)
    if not body.strip():
        return "empty-file"
    if not body.strip(b"\0 \t\r\n"):
        return "zero-bytes"
    if _CONFLICT.search(data):
        return "conflict-markers"
    if not _is_utf8(body):
        return "invalid-utf8"
    if "stands twice" in flaw.reason:
        return "duplicate-key"
    return "malformed-json"


def _flaw(ref: Ref, blob: Blob, where: str) -> CorruptRecordError | None:
    """Why nobody can read a document, if that is so."""
    decode: Callable[[], object] = (
        (lambda: Document.parse(blob.data, where)) if ref.suffix == MARKDOWN else (lambda: codec.decode(blob, where))
    )
    try:
        decode()
    except CorruptRecordError as error:
        return error
    return None


def _unfinished_merge(blob: Blob, where: str) -> Iterator[Case]:
    """A merge that was not finished, in text that can be read all the same."""
    found = _MERGE.search(blob.data)
    if found is not None:
        start = found.start()
        flaw = CorruptRecordError(where, "", line=blob.data.count(b"\n", 0, start) + 1, column=1, offset=start)
        reason = "git conflict markers stand in it"
        yield case_of("conflict-markers", where, reason, "finish the merge: keep one side, and save", at=flaw)


def _front_matter(blob: Blob, where: str) -> Iterator[Case]:
    try:
        _ = Document.parse(blob.data, where).front_matter
    except MissingExtraError:
        # Without the extra the front matter is text like the rest, and cannot be wrong.
        return
    except CorruptRecordError as error:
        if _MERGE.search(blob.data) is None:
            advice = "correct it by hand; its text stays readable as it is"
            yield case_of("malformed-front-matter", where, error.reason, advice, at=error)


def _habits(data: bytes, where: str) -> Iterator[Case]:
    """What other programs do that is no fault."""
    if data.startswith(_BOM):
        yield case_of("byte-order-mark", where, "it begins with a byte order mark", "save it as UTF-8 without one")
    if b"\r\n" in data:
        yield case_of("crlf", where, "its lines end as on Windows", "save it with LF, or tell git to keep it so")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without(where: str, error: FsStateError) -> str:
    return str(error).removeprefix(f"{where}: ")
