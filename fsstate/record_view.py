"""What an index keeps of the records of a type: the values of their fields. The records themselves are read anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from fsstate.backends.base import Stamps
from fsstate.index import Kept, View, version_of
from fsstate.record_documents import RecordDocuments
from fsstate.record_types import RecordType

__all__ = ["RecordView", "Spot"]

T = TypeVar("T")


class Spot(NamedTuple, Generic[T]):
    """Where a record is: the folder, and the name of its file."""

    documents: RecordDocuments[T]
    name: str


class RecordView(View, Generic[T]):
    """The records of some folders of one type. `at` gives a folder that came meanwhile."""

    def __init__(
        self,
        kind: RecordType[T],
        folders: Sequence[RecordDocuments[T]],
        at: Callable[[str], RecordDocuments[T]],
        *,
        name: str,
    ) -> None:
        self.name = f"records/{name}"
        self.fields = fields_of(kind)
        self.sorted_fields = tuple(field for field in self.fields if field != "status")
        self.version = version_of(kind.model, (*self.fields, str(kind.versions.latest)))
        self._kind = kind
        self._by_folder: Mapping[str, RecordDocuments[T]] = {folder.category: folder for folder in folders}
        self._at = at

    def folders(self) -> Sequence[str]:
        """The categories that were given."""
        return list(self._by_folder)

    def place_of(self, folder: str, name: str) -> str:
        """The path of the record, without its suffix."""
        return f"{folder}/{name}"

    def read(self, folder: str, name: str, *, before: bytes | None, logs: Stamps | None) -> Kept | None:
        """Take the fields that can be asked for out of a record."""
        documents = self._documents_in(folder)
        value = documents.get(name)
        return None if value is None else Kept({field: documents.field(value, field) for field in self.fields})

    def spot(self, place: str) -> Spot[T]:
        """The record at a place."""
        folder, _, name = place.rpartition("/")
        return Spot(self._documents_in(folder), name)

    def _documents_in(self, folder: str) -> RecordDocuments[T]:
        # Another process may have put a folder into the index that was not there when the question was asked.
        found = self._by_folder.get(folder)
        return self._at(folder) if found is None else found


def fields_of(kind: RecordType[Any]) -> tuple[str, ...]:
    """The fields that records of a type are found and ordered by."""
    return tuple(dict.fromkeys((*kind.filters, kind.order_by.removeprefix("-"), *sorted(kind.view.times))))
