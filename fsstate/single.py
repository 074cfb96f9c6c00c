"""What there is one of: a typed document at a fixed place, and a set of items that is replaced as one.

Both follow the rules of a record type, and are durable when a write returns. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar, cast

import msgspec

from fsstate import codec
from fsstate.backends.base import Blob, Ref
from fsstate.document_changes import Editing
from fsstate.errors import AlreadyExistsError
from fsstate.merge import same
from fsstate.queries import MISSING, Missing, criteria_of, fits
from fsstate.record_documents import Fields, RecordDocuments
from fsstate.record_types import RecordType
from fsstate.shared import Shared

__all__ = ["ItemSet", "Single"]

T = TypeVar("T")

# ItemSet has a method called `list`.
Listing: TypeAlias = list[T]


class Single(Generic[T]):
    """One typed document: `<category>/<name>.json`. `owner`, if set, is the document that it belongs to."""

    def __init__(
        self, shared: Shared, kind: RecordType[T], category: str, name: str, *, owner: Ref | None = None
    ) -> None:
        self._documents = RecordDocuments(shared, kind, category, owner=owner, keyed=False)
        self._name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._documents.category!r}, {self._name!r})"

    @property
    def path(self) -> str:
        """Where a person finds the document, whether it exists or not."""
        return self._documents.path_of(self._name)

    def get(self) -> T | None:
        """Return it, or None. Raises CorruptRecordError or ValidationError when it cannot be read."""
        return self._documents.get(self._name)

    def require(self) -> T:
        """Return it. Raises NotFoundError when there is none."""
        return self._documents.require(self._name)

    def exists(self) -> bool:
        """Return whether there is one, readable or not."""
        return self._documents.contains(self._name)

    def put(self, value: T) -> T:
        """Save it, whether it exists or not, and return it as stored. Raises NotFoundError when its owner is gone."""
        return self._documents.save(*self._documents.put_change(self._name, value))

    def update(self, fn: Callable[[T], T | None], *, default: T | Missing = MISSING, timeout: float | None = None) -> T:
        """Read, change and save it under its lock; return it as saved. As `Collection.update`."""
        return self._documents.update(self._name, fn, default=default, timeout=timeout)

    def change(self, **fields: Any) -> T:
        """Lay fields over it, and return it as it is then. A `status` among them is a step.

        Raises NotFoundError when there is none, and InvalidTransitionError for a step that is none: to stay where it is
        is none either, so that nothing is completed twice.
        """
        return self.update(lambda value: self._documents.stepped(value, self.path, fields))

    @contextmanager
    def edit(self, *, default: T | Missing = MISSING, timeout: float | None = None) -> Generator[T]:
        """Give it to a `with` block that changes it in place, under its lock, and save it at the end."""
        with self._documents.edit(self._name, default=default, timeout=timeout) as value:
            yield value

    def delete(self) -> bool:
        """Delete it; return whether there was one."""
        return self._documents.delete(self._name)

    # The same in steps, for those who bring their own way of waiting

    def open_edit(self, *, default: T | Missing = MISSING, timeout: float | None = None) -> Editing[T]:
        """Take its lock and read it: `edit` in steps. See `Collection.open_edit`."""
        return self._documents.open_edit(self._name, default=default, timeout=timeout)

    def ref_of(self) -> Ref:
        """Return the record whose lock `edit` and `update` hold."""
        return self._documents.ref_of(self._name)


class ItemSet(Generic[T]):
    """Items in an order, in one document, `{"items": […]}`: replaced as one, so that readers see the old or the new."""

    def __init__(
        self, shared: Shared, kind: RecordType[T], category: str, name: str, *, owner: Ref | None = None
    ) -> None:
        self._kind = kind
        self._single = _Whole(shared, kind, category, name, owner)
        self._documents = RecordDocuments(shared, kind, category)

    def __repr__(self) -> str:
        return f"ItemSet({self._single!r})"

    @property
    def path(self) -> str:
        """Where a person finds the document, whether it exists or not."""
        return self._single.path

    def replace(self, items: Iterable[T]) -> int:
        """Make these the items, in this order, in the place of all that there were; return how many there are.

        Raises AlreadyExistsError when two have the same key; nothing is changed then.
        """
        new = list(items)
        seen: set[Any] = set()
        for item in new:
            key = self._documents.field(item, self._kind.key)
            if key in seen:
                raise AlreadyExistsError(f"{self.path}: {key!r}")
            seen.add(key)
        return len(self._single.put(self._single.model(items=new)).items)

    def list(self, **where: Any) -> Listing[T]:
        """Return the items in their order: all, or those that have what `where` says in their declared fields."""
        self._kind.check_filters(where)
        criteria = criteria_of(where)
        return [item for item in self._items() if fits(item, criteria, self._documents.field)]

    def get(self, key: str) -> T | None:
        """Return the item with this key, or None."""
        return next((item for item in self._items() if self._documents.field(item, self._kind.key) == key), None)

    def count(self, **where: Any) -> int:
        """Return the number of items, or of those that have what `where` says."""
        return len(self.list(**where))

    def clear(self) -> int:
        """Remove all items; return how many there were."""
        found = self.count()
        self._single.delete()
        return found

    def _items(self) -> Listing[T]:
        found = self._single.get()
        return [] if found is None else cast("list[T]", found.items)


class _Whole(Single[Any]):
    """The document that the items are in."""

    def __init__(self, shared: Shared, kind: RecordType[Any], category: str, name: str, owner: Ref | None) -> None:
        whole = _set_of(kind)
        super().__init__(shared, whole, category, name, owner=owner)
        self.model: Any = whole.model
        self._documents = _ItemDocuments(shared, whole, category, owner=owner, keyed=False)
        self._documents.item_key = kind.key


class _ItemDocuments(RecordDocuments[Any]):
    """What the view does not know of an item goes with the item's key, not with its place in the list."""

    item_key = "id"

    def _refit(self, value: Any, data: bytes, blob: Blob, ref: Ref) -> bytes:
        where = self._where(ref)
        document: object = codec.decode(blob, where)
        old = document.get("items") if _is_object(document) else None
        if _is_object(document) and _is_array(old):
            aligned = self._aligned(old, codec.decode_bytes(data, where).get("items", []))
            blob = blob if same(old, aligned) else Blob(codec.encode({**document, "items": aligned}, where=where))
        return super()._refit(value, data, blob, ref)

    def _aligned(self, old: list[object], new: list[Fields]) -> list[Fields]:
        """For each new item the old one of the same key, or itself where there is none."""
        known = {str(item.get(self.item_key)): item for item in old if _is_object(item)}
        return [known.get(str(item.get(self.item_key)), item) for item in new]


def _is_object(value: object) -> TypeGuard[Fields]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _set_of(kind: RecordType[T]) -> RecordType[Any]:
    """The record type of a document that holds items of another."""
    fields: Any = [("items", list[kind.model], []), ("updated_at", datetime | None, None)]  # type: ignore[name-defined]
    model = msgspec.defstruct(f"{kind.model.__name__}Set", fields, kw_only=True, omit_defaults=True)
    return RecordType(kind.category, model)
