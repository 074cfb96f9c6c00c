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
_SAY_WHICH = "say in which group, by within=…"


class Places(Generic[T]):
    """The folders of a type's records: of all, or of those that belong to `owner`."""

    def __init__(self, shared: Shared, kind: RecordType[T], owner: Ref | None = None) -> None:
        self.kind = kind
        self._shared = shared
        self._owner = owner
        self._category = kind.category if owner is None else f"{owner.belongings}/{kind.category}"
        self._hints: dict[str, str | None] = {}

    def of(self, group: str | None) -> RecordDocuments[T]:
        """The folder of one group, whether it exists or not; None: of the records without one."""
        return self._in_folder(None) if group is None else self._in_folder(self._folder_of(group), group)

    def at(self, category: str) -> RecordDocuments[T]:
        """The folder that is this category, which it must be for this type: the type's own, or that of a group."""
        return self._in_folder(category.removeprefix(self._category).removeprefix("/") or None)

    def all(self) -> Iterator[RecordDocuments[T]]:
        """Every folder that there is."""
        if self.kind.parent is not None and self._owner is None:
            yield from self._of_all_parents(self.kind.parent)
            return
        for folder in self._folders():
            yield self._in_folder(folder)

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
        """The folder that has a record, among all or `within` one group. Raises AmbiguousIdError.

        Raises ValueError for a group of a type without groups: who asks for one means to see no other.
        """
        if self.kind.group_by is None and not isinstance(within, Missing):
            raise ValueError(f"{self.kind.category} have no groups; leave out within={within!r}")
        if self.kind.group_by is None:
            return self.of(None)
        if not isinstance(within, Missing):
            return self.of(within)
        # Looked up once: another thread may forget it at any moment.
        hint = self._hints.get(key, MISSING)
        if not isinstance(hint, Missing) and (hinted := self._in_folder(hint)).has(key):
            return hinted
        found = [folder for folder in self._folders() if self._in_folder(folder).has(key)]
        if len(found) > 1:
            places = [self._in_folder(folder) for folder in found]
            raise AmbiguousIdError(key, [place.path_of(place.name_of(key)) for place in places], hint=_SAY_WHICH)
        if not found:
            return None
        if len(self._hints) >= _MOST_HINTS:
            self._hints.clear()
        self._hints[key] = found[0]
        return self._in_folder(found[0])

    def forget(self, key: str, *, unless: RecordDocuments[T]) -> None:
        """Look for a record anew the next time, unless it is here: two groups may have one from now on."""
        hint = self._hints.get(key, MISSING)
        if not isinstance(hint, Missing) and self._in_folder(hint).category != unless.category:
            self._hints.pop(key, None)

    def _in_folder(self, folder: str | None, group: str | None = None) -> RecordDocuments[T]:
        category = self._category if folder is None else f"{self._category}/{folder}"
        if folder is not None and group is None:
            group = names.key_of(folder)
        return RecordDocuments(self._shared, self.kind, category, owner=self._owner, group=group)

    def _folder_of(self, group: str) -> str:
        """The folder of a group. One that another program made may be called by the group itself."""
        folder = names.name_for(group)
        if folder == group or folder in self._folders():
            return folder
        return group if group in self._folders() else folder

    def _folders(self) -> list[str | None]:
        """The folders that there are: None is the type's own."""
        groups = [] if self.kind.group_by is None else self._shared.backend.categories(self._category)
        return [None, *filter(names.is_segment, groups)]

    def _of_all_parents(self, parent: str) -> Iterator[RecordDocuments[Any]]:
        # A folder without its document is what a crash left of a deletion: it belongs to nobody.
        there = set(self._shared.backend.names(parent, JSON))
        for name in filter(names.is_segment, self._shared.backend.categories(parent)):
            if name in there:
                yield from Places(self._shared, self.kind, Ref(parent, name, JSON)).all()
