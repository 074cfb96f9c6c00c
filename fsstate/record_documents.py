"""The documents of a record type in one folder: every read migrates them, every write follows the type's rules.

A record's key is its file's name, and its group the folder's: what the document says of them comes second, so that a
file that was copied or moved is a record of its own. A file that does not tell them is not made to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar, cast

from fsstate import codec, names
from fsstate.backends.base import Blob, Change, Ref
from fsstate.collection import Collection, kept
from fsstate.errors import InvalidValueError, ValidationError
from fsstate.merge import same
from fsstate.migrations import VERSION, Migration
from fsstate.models import Model
from fsstate.queries import MISSING, plain
from fsstate.record_types import RecordType
from fsstate.retention import Age
from fsstate.rules import HOLDER, Moment, apply_rules, check_status, is_in_flight, keep_untold, recovered
from fsstate.shared import Shared
from fsstate.times import format_time

__all__ = ["Fields", "RecordDocuments", "Removal"]

T = TypeVar("T")

Fields: TypeAlias = dict[str, Any]


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
        self._group = group
        # The field that would tell a group, in a folder of records that belong to none.
        self._outside = kind.group_by if group is None else None
        self._keyed = keyed

    def name_of(self, key: str) -> str:
        """The name of a record's file. One that another program made may be called by the key itself."""
        name = names.name_for(key)
        # A file that is called by the key as another key is quoted holds that other record.
        if name == key or names.key_of(key) != key or not names.is_name(key) or self.contains(name):
            return name
        return key if self.contains(key) else name

    def has(self, key: str) -> bool:
        """Whether there is a record with this key."""
        return self.contains(self.name_of(key))

    def key_of(self, name: str) -> str:
        """The key of the record in a file, as far as its name tells."""
        return names.key_of(name)

    def field(self, value: T, name: str) -> Any:
        """A field of a record as it stands in the document, or None when it has none."""
        found = self._field(value, name)
        return None if found is MISSING else plain(found)

    # Reading

    def value_of(self, blob: Blob, name: str) -> T:
        """The record in a file's content."""
        return self._decode(blob, self.ref_of(name))

    def fields_of(self, blob: Blob, name: str) -> Fields:
        """The document in a file's content, in the present version, not seen through the model.

        Raises CorruptRecordError, ValidationError, NewerVersionError and MigrationError.
        """
        ref = self.ref_of(name)
        return self._fields(codec.decode(blob, self._where(ref)), ref)

    def blob_of(self, name: str) -> Blob | None:
        """A file's content, or None when there is none."""
        return self._backend.read(self.ref_of(name))

    def pending(self, blob: Blob, name: str) -> tuple[int, list[Migration]]:
        """The version that a file's content is written in, and the steps from there. Raises NewerVersionError."""
        where = self._where(self.ref_of(name))
        fields = _object(codec.decode(blob, where), where)
        return self.kind.versions.of(fields, where), self.kind.versions.pending(fields, where)

    # Writing

    def stepped(self, value: T, where: str, fields: Mapping[str, Any]) -> T:
        """The record with other fields. A `status` among them must be a step, and to stay where it is is none."""
        lifecycle = self.kind.lifecycle
        if lifecycle is not None and "status" in fields:
            status = self.field(value, "status") or lifecycle.initial
            lifecycle.check_step(where, status, plain(fields["status"]))
        return self.kind.view.replaced(value, fields)

    def check_rewriting(self, blob: Blob, name: str) -> None:
        """Raise what would be wrong with writing a record anew."""
        self._encode(self.value_of(blob, name), blob, self.ref_of(name))

    def creation(self, name: str, value: T) -> tuple[Ref, Change]:
        """The change that adds a record. Unlike `create_change`, it must be made before the value is touched again."""
        return self._create(name, value)

    def saving(self, name: str, value: T) -> tuple[Ref, Change]:
        """The change that saves a record, whether it exists or not; as `creation`."""
        ref = self.ref_of(name)
        return ref, self._put(ref, value, None)

    def save(self, ref: Ref, change: Change) -> T:
        """Make a change that leaves a record, and return it as it was stored."""
        return self._decode(self._write(ref, change), ref)

    def recovery(self, name: str, is_orphan: Callable[[Fields], bool]) -> Change:
        """The change that settles a record in flight if it is an orphan under its lock, too. Nobody holds it then."""
        ref = self.ref_of(name)

        def settled(blob: Blob | None) -> bytes:
            blob = self._present(ref, blob)
            before = self.fields_of(blob, name)
            if not is_orphan(before):
                return blob.data
            after = recovered(self.kind, before)
            self._apply_rules(before, after, ref, hold=False)
            return self._written(after, blob, ref)

        return settled

    def removals(self, ages: Iterable[Age], is_due: Callable[[], bool] = lambda: True) -> list[tuple[Ref, Removal]]:
        """The changes that delete records that are due, but for those that somebody works on only by then."""
        return [(self.ref_of(age.name), Removal(self, age, is_due)) for age in ages]

    def is_in_flight(self, fields: Fields) -> bool:
        """Whether somebody works on the record, or did when it was written."""
        return is_in_flight(self.kind, fields)

    def may_be_in_flight(self, blob: Blob) -> bool:
        """Whether a file's bytes look so: most are told from records at rest without parsing them."""
        return self.kind.signs.may_be_in_flight(blob.data)

    # What collections ask for

    def _view(self, model: type[T] | None) -> Model[T]:
        return self.kind.view

    def _seen(self, document: Any, ref: Ref) -> Any:
        return self._modelled(self._fields(document, ref))

    def _unseen(self, document: Any, original: Any, ref: Ref) -> Any:
        fields = {**_object(document, self._where(ref))}
        self._keep_place(fields, ref)
        fields.update(self._told_by_place(fields, ref))
        if original is None:
            return self._versioned(fields)
        told = _object(original, self._where(ref))
        if HOLDER in told and self.kind.recovery is not None:
            fields.setdefault(HOLDER, told[HOLDER])
        return self._versioned(self._as_told(fields, told, ref))

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        return self._ruled(data, blob, ref, hold=True)

    # Inside

    def _fields(self, document: Any, ref: Ref) -> Fields:
        """The whole record in the present version: what the rules see."""
        where = self._where(ref)
        fields = {**self.kind.versions.migrated(_object(document, where), where)}
        check_status(self.kind, fields, where)
        if self._outside is not None:
            fields.pop(self._outside, None)
        return {**fields, **self._told_by_place(fields, ref)}

    def _modelled(self, fields: Fields) -> Fields:
        """What the model sees of it: one that admits no fields but its own is not to know of fsstate's."""
        hidden = {VERSION} if self.kind.versions.latest > 1 else set[str]()
        hidden |= {HOLDER} if self.kind.recovery is not None else set()
        return {key: value for key, value in fields.items() if key not in hidden}

    def _versioned(self, fields: Fields) -> Fields:
        return {**fields, VERSION: self.kind.versions.latest} if self.kind.versions.latest > 1 else fields

    def _ruled(self, data: bytes, blob: Blob | None, ref: Ref, *, hold: bool) -> bytes:
        if blob is not None and data == blob.data:
            return data
        before = None if blob is None else self.fields_of(blob, ref.name)
        after = self.fields_of(Blob(data), ref.name)
        if before is not None:
            keep_untold(self.kind, before, after, held=hold)
        if before is None or not same(before, after):
            self._apply_rules(before, after, ref, hold=hold)
        return self._written(after, blob, ref)

    def _apply_rules(self, before: Fields | None, after: Fields, ref: Ref, *, hold: bool) -> None:
        where = self._where(ref)
        holder = self._holder() if hold else None
        apply_rules(self.kind, before, after, Moment(format_time(self._shared.clock()), where, holder))
        if holder is not None:
            self._take_up(after, holder)
        if self.kind.derive is not None or not hold:
            # What cannot be read back is not written.
            self._model.load(self._modelled(after), where)

    def _take_up(self, after: Fields, holder: str) -> None:
        """Whoever goes on with a record whose holder is gone works on it from then on."""
        present = after.get(HOLDER)
        if present != holder and self.is_in_flight(after) and not self._shared.ownership.is_alive(present):
            after[HOLDER] = holder

    def _written(self, fields: Fields, blob: Blob | None, ref: Ref) -> bytes:
        where = self._where(ref)
        if blob is None:
            return codec.encode(self._unseen(fields, None, ref), where=where)
        document = codec.decode(blob, where)
        return kept(self._put_back(fields, document, ref), document, blob, where)

    def _put_back(self, fields: Fields, document: Any, ref: Ref) -> Fields:
        """What a file that holds `document` holds for a whole record."""
        told = _object(document, self._where(ref))
        return self._versioned(self._as_told({**fields, **self._told_by_place(fields, ref)}, told, ref))

    def _holder(self) -> str | None:
        return self._shared.ownership.mine() if self.kind.recovery is not None else None

    def _told_by_place(self, document: Fields, ref: Ref) -> Fields:
        told: Fields = {}
        if self.kind.group_by is not None and self._group is not None:
            folder = self.category.rpartition("/")[2]
            told[self.kind.group_by] = _told(document.get(self.kind.group_by), folder, self._group)
        if self._keyed:
            told[self.kind.key] = _told(document.get(self.kind.key), ref.name, self.key_of(ref.name))
        return told

    def _as_told(self, fields: Fields, original: Fields, ref: Ref) -> Fields:
        """The fields, with no more of the place than the file tells itself."""
        told = self._told_by_place(original, ref)
        if self._outside is not None and self._outside in original:
            fields[self._outside] = original[self._outside]
        return {key: value for key, value in fields.items() if key in original or key not in told}

    def _keep_place(self, fields: Fields, ref: Ref) -> None:
        told = self._told_by_place(fields, ref)
        for key, value in (told if self._outside is None else {**told, self._outside: None}).items():
            if fields.get(key) not in (None, "", value):
                reason = f"{self._where(ref)} is the place of {value!r}; delete the record and create it anew"
                raise InvalidValueError(reason, at=f"$.{key}")


class Removal:
    """A change that deletes a record that is too many, unless somebody works on it only by now.

    `was_gone`: there was none any more.
    """

    def __init__(self, documents: RecordDocuments[Any], age: Age, is_due: Callable[[], bool]) -> None:
        self.was_gone = False
        self._documents = documents
        self._age = age
        self._is_due = is_due

    def __call__(self, blob: Blob | None) -> bytes | None:
        """What the file is to hold: nothing, or what it does."""
        self.was_gone = blob is None
        if blob is None or not self._is_due():
            return None if blob is None else blob.data
        is_busy = self._documents.is_in_flight(self._documents.fields_of(blob, self._age.name))
        return blob.data if is_busy and not self._age.is_busy else None


def _object(document: object, where: str) -> Fields:
    if not isinstance(document, dict):
        raise ValidationError(where, f"$: a record is a JSON object, this is a {type(document).__name__}")
    return cast("Fields", document)


def _told(told: object, name: str, named: str) -> str:
    """A key or group: what the document tells if the file or folder is named after that, else what its name says."""
    return told if isinstance(told, str) and names.name_for(told) == name else named
