"""Records with belongings: what lies in the folder named after a record exists for as long as the record does."""

from __future__ import annotations

from typing import Generic, TypeVar

from fsstate import belongings
from fsstate.backends.base import Change, Ref
from fsstate.queries import MISSING, Missing
from fsstate.record_documents import RecordDocuments
from fsstate.records import Records

__all__ = ["OwningRecords"]

T = TypeVar("T")


class OwningRecords(Records[T], Generic[T]):
    """Records that others belong to. Not for types with `group_by` or `keep`: those would leave belongings behind."""

    _has_belongings = True

    def delete(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Delete a record with everything that belongs to it; return whether there was one.

        Waits for those who are writing to it; raises LockTimeoutError when one takes too long.
        """
        return belongings.delete(self._shared.backend, self.owner_ref(id), lambda: True)

    def owner_ref(self, id: str) -> Ref:  # noqa: A002
        """Return what the belongings of a record are written for, whether it exists or not."""
        return self._root.ref_of(self._root.name_of(id))

    def folder_of(self, id: str) -> str:  # noqa: A002
        """Return the category of what belongs to a record."""
        return self.owner_ref(id).belongings

    def _save_new(self, documents: RecordDocuments[T], ref: Ref, change: Change) -> T:
        belongings.sweep(self._shared.backend, ref)
        return super()._save_new(documents, ref, change)
