"""Where the records of one type are: in its folder, in a folder for each group, or with the document they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from fsstate import names
from fsstate.backends.base import JSON, Ref
from fsstate.errors import AmbiguousIdError, InvalidValueError
from fsstate.queries import MISSING, Missing
from fsstate.record_documents import RecordDocuments
from fsstate.record_types import RecordType
from fsstate.shared import Shared

__all__ = ["Places"]

T = TypeVar("T")

# Of this many records the group is remembered.
_MOST_HINTS = 10_000


class Places(Generic[T]):
    """The folders of a type's records: of all, or of those that belong to `owner`."""

    def __init__(self, shared: Shared, kind: RecordType[T], owner: Ref | None = None) -> None:
        self.kind = kind
        self._shared = shared
        self._owner = owner
        self._category = kind.category if owner is None else f"{owner.category}/{owner.name}/{kind.category}"
        self._hints: dict[str, str | None] = {}

    def of(self, group: str | None) -> RecordDocuments[T]:
        """The folder of one group, whether it exists or not; None: of the records without one."""
        category = self._category if group is None else f"{self._category}/{names.name_for(group)}"
        return RecordDocuments(self._shared, self.kind, category, owner=self._owner, group=group)

    def all(self) -> Iterator[RecordDocuments[T]]:
        """Every folder that there is."""
        if self.kind.parent is not None and self._owner is None:
            yield from self._of_all_parents(self.kind.parent)
            return
        yield self.of(None)
        for group in self._groups():
            yield self.of(group)

    def home_of(self, value: T) -> RecordDocuments[T]:
        """The folder that a record goes to."""
        if self.kind.group_by is None:
            return self.of(None)
        home = self.of(None)
        group = home.field(value, self.kind.group_by)
        if group is None:
            return home
        if not isinstance(group, str):
            raise InvalidValueError(f"a group is a str, got {group!r}", at=f"$.{self.kind.group_by}")
        return self.of(group)

    def holding(self, key: str, within: str | Missing | None = MISSING) -> RecordDocuments[T] | None:
        """The folder that has a record, among all or `within` one group. Raises AmbiguousIdError."""
        if self.kind.group_by is None:
            return self.of(None)
        name = names.name_for(key)
        if not isinstance(within, Missing):
            return self.of(within)
        if key in self._hints and self.of(self._hints[key]).contains(name):
            return self.of(self._hints[key])
        found = [group for group in (None, *self._groups()) if self.of(group).contains(name)]
        if len(found) > 1:
            raise AmbiguousIdError(key, [self.of(group).path_of(name) for group in found])
        if not found:
            return None
        self.note(key, found[0])
        return self.of(found[0])

    def note(self, key: str, group: str | None) -> None:
        """Remember the group of a record."""
        if len(self._hints) >= _MOST_HINTS:
            self._hints.clear()
        self._hints[key] = group

    def _groups(self) -> list[str]:
        if self.kind.group_by is None:
            return []
        return [names.key_of(name) for name in self._shared.backend.categories(self._category)]

    def _of_all_parents(self, parent: str) -> Iterator[RecordDocuments[Any]]:
        for name in self._shared.backend.categories(parent):
            yield from Places(self._shared, self.kind, Ref(parent, name, JSON)).all()
