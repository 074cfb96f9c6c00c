"""The documents of a record type in one folder: every read migrates them, every write follows the type's rules.

A record's key is its file's name, and its group the folder's: what the document says of them comes second, so that a
file that was copied or moved is a record of its own. A file that does not tell them is not made to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from fsstate import codec, names
from fsstate.backends.base import Blob, Change, Ref
from fsstate.collection import Collection
from fsstate.errors import InvalidValueError
from fsstate.merge import keep_order, same
from fsstate.migrations import VERSION, Migration
from fsstate.models import Model
from fsstate.queries import MISSING
from fsstate.record_types import RecordType
from fsstate.rules import apply_rules, check_status, is_in_flight, recovered
from fsstate.shared import Shared
from fsstate.times import format_time

__all__ = ["Fields", "RecordDocuments"]

T = TypeVar("T")

Fields: TypeAlias = dict[str, Any]
_STATUS: Final = b'"status"'


class RecordDocuments(Collection[T], Generic[T]):
    """The records in one folder, by the name of their file."""

    def __init__(
        self,
        shared: Shared,
        kind: RecordType[T],
        category: str,
        *,
        owner: Ref | None = None,
        group: str | None = None,
        keyed: bool = True,
    ) -> None:
        # Before the view is asked for.
        self.kind = kind
        super().__init__(shared.backend, category, kind.model, owner=owner)
        self._shared = shared
        self._fixed: Fields = {kind.group_by: group} if kind.group_by is not None and group is not None else {}
        self._keyed = keyed
        self._signs = [f'"{status}"'.encode() for status in kind.in_flight]
        self._starts_in_flight = kind.lifecycle is not None and kind.lifecycle.initial in kind.in_flight

    def name_of(self, key: str) -> str:
        """The name of a record's file."""
        return names.name_for(key)

    def key_of(self, name: str) -> str:
        """The key of the record in a file, as far as its name tells."""
        return names.key_of(name)

    def field(self, value: T, name: str) -> Any:
        """A field of a record, or None when it has none."""
        found = self._field(value, name)
        return None if found is MISSING else found

    # Reading

    def value_of(self, blob: Blob, name: str) -> T:
        """The record in a file's content."""
        return self._decode(blob, self.ref_of(name))

    def fields_of(self, blob: Blob, name: str) -> Fields:
        """The document in a file's content, in the present version, not seen through the model.

        Raises NewerVersionError and MigrationError, and CorruptRecordError for what is no JSON object.
        """
        ref = self.ref_of(name)
        seen = self._seen(codec.decode(blob, self._where(ref)), ref)
        if not isinstance(seen, dict):
            raise self._no_object(ref)
        return cast("Fields", seen)

    def blob_of(self, name: str) -> Blob | None:
        """A file's content, or None when there is none."""
        return self._backend.read(self.ref_of(name))

    def pending(self, blob: Blob, name: str) -> tuple[int, list[Migration]]:
        """The version that a file's content is written in, and the steps from there. Raises NewerVersionError."""
        where = self._where(self.ref_of(name))
        document: object = codec.decode(blob, where)
        if not isinstance(document, dict):
            return self.kind.versions.latest, []
        fields = cast("Fields", document)
        return self.kind.versions.of(fields, where), self.kind.versions.pending(fields, where)

    # Writing

    def save(self, ref: Ref, change: Change) -> T:
        """Make a change that leaves a record, and return it as it was stored."""
        return self._decode(self._write(ref, change), ref)

    def change_fields(self, name: str, change: Callable[[Fields], Fields], *, hold: bool = True) -> Change:
        """A change of the document's fields that does not look through the model; the rules apply.

        `change` gives the fields that it was given back when there is nothing to do, and else new ones. With
        `hold=False` nobody works on the record afterwards.
        """
        ref = self.ref_of(name)

        def changed(blob: Blob | None) -> bytes:
            blob = self._present(ref, blob)
            fields = self.fields_of(blob, name)
            result = change(fields)
            if result is fields:
                return blob.data
            document = codec.decode(blob, self._where(ref))
            after = self._unseen(result, document, ref)
            return self._ruled(codec.encode(keep_order(after, document), where=self._where(ref)), blob, ref, hold=hold)

        return changed

    def recovery(self, name: str, is_orphan: Callable[[Fields], bool]) -> Change:
        """The change that settles a record in flight if it is an orphan under its lock, too."""
        return self.change_fields(
            name, lambda fields: recovered(self.kind, fields) if is_orphan(fields) else fields, hold=False
        )

    def removal(self, name: str) -> Change:
        """The change that deletes a record, unless somebody works on it by then."""

        def removed(blob: Blob | None) -> bytes | None:
            return blob.data if blob is not None and self.is_in_flight(self.fields_of(blob, name)) else None

        return removed

    def is_in_flight(self, fields: Fields) -> bool:
        """Whether somebody works on the record, or did when it was written."""
        return is_in_flight(self.kind, fields)

    def may_be_in_flight(self, blob: Blob) -> bool:
        """Whether a file's bytes look so: most are told from records at rest without parsing them."""
        return any(sign in blob.data for sign in self._signs) or (self._starts_in_flight and _STATUS not in blob.data)

    # What collections ask for

    def _view(self, model: type[T] | None) -> Model[T]:
        return self.kind.view

    def _seen(self, document: Any, ref: Ref) -> Any:
        if not isinstance(document, dict):
            return document
        where = self._where(ref)
        fields = self.kind.versions.migrated(cast("Fields", document), where)
        check_status(self.kind, fields, where)
        return {**fields, **self._told_by_place(fields, ref)}

    def _unseen(self, document: Any, original: Any, ref: Ref) -> Any:
        if not isinstance(document, dict):
            return document
        fields = {**cast("Fields", document)}
        self._keep_place(fields, ref)
        fields.update(self._told_by_place(fields, ref))
        if self.kind.versions.latest > 1:
            fields[VERSION] = self.kind.versions.latest
        if not isinstance(original, dict):
            return fields
        told = self._told_by_place(cast("Fields", original), ref)
        return {key: value for key, value in fields.items() if key in original or key not in told}

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        return self._ruled(data, blob, ref, hold=True)

    # Inside

    def _ruled(self, data: bytes, blob: Blob | None, ref: Ref, *, hold: bool) -> bytes:
        if blob is not None and data == blob.data:
            return data
        before = None if blob is None else self.fields_of(blob, ref.name)
        after = self.fields_of(Blob(data), ref.name)
        if before is not None and same(before, after):
            return data
        holder = self._holder() if hold else None
        where, now = self._where(ref), format_time(self._shared.clock())
        apply_rules(self.kind, before, after, now=now, holder=holder, where=where)
        if self.kind.derive is not None:
            # What cannot be read back is not written.
            self._model.load(after, where)
        document = codec.decode_bytes(data, where)
        settled = self._unseen(after, document if blob is not None else None, ref)
        return codec.encode(keep_order(settled, document), where=where)

    def _holder(self) -> str | None:
        return self._shared.ownership.mine() if self.kind.recovery is not None else None

    def _told_by_place(self, document: Fields, ref: Ref) -> Fields:
        told = dict(self._fixed)
        if self._keyed:
            told[self.kind.key] = _key_in(document.get(self.kind.key), ref.name)
        return told

    def _keep_place(self, fields: Fields, ref: Ref) -> None:
        for key, value in self._told_by_place(fields, ref).items():
            if fields.get(key) not in (None, "", value):
                reason = f"{self._where(ref)} is the place of {value!r}; delete the record and create it anew"
                raise InvalidValueError(reason, at=f"$.{key}")

    def _no_object(self, ref: Ref) -> InvalidValueError:
        return InvalidValueError(f"{self._where(ref)}: a record is a JSON object", at="$")


def _key_in(told: object, name: str) -> str:
    """A record's key: what the document tells if the file is named after that, else what the name says."""
    return told if isinstance(told, str) and names.name_for(told) == name else names.key_of(name)
