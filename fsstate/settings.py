"""Settings: values under keys, each in a file of its own.

A key nests with "/", into folders: the value of "milestones/welcome_shown" is in
`settings/milestones/welcome_shown.json`, together with the times when it was first and last set. Any text is a key, if
its parts are neither empty nor only dots.

Every write is durable when it returns. A file that cannot be read hides no other: `items` logs and skips it, `problems`
names it. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec

from fsstate import names
from fsstate.backends.base import Ref
from fsstate.document_changes import Problem
from fsstate.errors import InvalidNameError
from fsstate.record_documents import Fields, RecordDocuments
from fsstate.record_types import RecordType
from fsstate.shared import Shared

__all__ = ["SETTINGS", "Setting", "Settings"]


class Setting(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A value under a key, and when it was first and last set. The value is any JSON; None is one, too."""

    key: str = ""
    value: Any
    created_at: datetime | None = None
    updated_at: datetime | None = None


# On disk: do not rename.
SETTINGS: Final = RecordType("settings", Setting, key="key", order_by="key")

# Settings has methods called `set` and `items`.
Keys: TypeAlias = list[str]
Problems: TypeAlias = list[Problem]


class Settings:
    """The settings of a store."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __repr__(self) -> str:
        return "Settings()"

    def set(self, key: str, value: Any) -> Setting:
        """Save a value, in the place of any that there was. `updated_at` is now, also for the same value.

        Raises InvalidNameError for what is no key, InvalidValueError for what cannot be stored.
        """
        now = self._shared.clock()

        def change(setting: Setting) -> None:
            setting.value, setting.updated_at = value, now
            setting.created_at = setting.created_at or now

        return self._change(key, value, change)

    def set_once(self, key: str, value: Any) -> Any:
        """Save a value unless there is one; return the one that stands. Of two who do so at once, both are told it."""
        return self._change(key, value, lambda _: None).value

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or `default` when there is none. `setting` tells that from a value of None."""
        setting = self.setting(key)
        return default if setting is None else setting.value

    def setting(self, key: str) -> Setting | None:
        """Return the value with its times, or None when there is none.

        Raises CorruptRecordError or ValidationError for a file that cannot be read.
        """
        folder, name = self._place(key)
        return folder.get(name)

    def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one. Those below the key stay."""
        folder, name = self._place(key)
        return folder.delete(name)

    def items(self, below: str = "") -> dict[str, Any]:
        """Return the values below a key, at any depth, by their whole keys, sorted; of all when it is empty."""
        found = (item.value for folder in self._folders(below) for item in folder.items())
        return {setting.key: setting.value for setting in sorted(found, key=attrgetter("key"))}

    def keys(self, below: str = "") -> Keys:
        """Return the keys below a key, at any depth, whole and sorted; all when it is empty. Reads no file.

        A part that is too long for the name of a file shows as its hash here.
        """
        return sorted(folder.key_of(name) for folder in self._folders(below) for name in folder.names())

    def problems(self) -> Problems:
        """Return what is wrong with the settings that cannot be read. Reads them all."""
        return [problem for folder in self._folders("") for problem in folder.problems()]

    def path_of(self, key: str) -> str:
        """Return where a person finds the value, or where it would be."""
        folder, name = self._place(key)
        return folder.path_of(name)

    # Inside

    def _change(self, key: str, value: Any, change: Callable[[Setting], None]) -> Setting:
        folder, name = self._place(key)
        return folder.update(name, change, default=Setting(key=key, value=value))

    def _place(self, key: str) -> tuple[_Folder, str]:
        *folders, name = _parts(key)
        folder = _Folder(self._shared, folders)
        return folder, folder.name_of(name)

    def _folders(self, below: str) -> Iterator[_Folder]:
        yield from _Folder(self._shared, _parts(below) if below else []).all()


class _Folder(RecordDocuments[Setting]):
    """The settings directly below one key, given by its parts."""

    def __init__(self, shared: Shared, parts: list[str], category: str | None = None) -> None:
        super().__init__(shared, SETTINGS, category or "/".join([SETTINGS.category, *map(names.name_for, parts)]))
        self._parts = parts

    def all(self) -> Iterator[_Folder]:
        """It and those below it."""
        yield self
        for name in filter(names.is_segment, self._backend.categories(self.category)):
            below = _Folder(self._shared, [*self._parts, names.key_of(name)], f"{self.category}/{name}")
            yield from below.all()

    def key_of(self, name: str) -> str:
        """The whole key of what is in a file, as far as the names tell."""
        return "/".join([*self._parts, names.key_of(name)])

    def _told_by_place(self, document: Fields, ref: Ref) -> Fields:
        key = document.get("key")
        parts = key.split("/") if isinstance(key, str) else [""]
        is_fitting = parts[:-1] == self._parts and names.name_for(parts[-1]) == ref.name
        return {"key": key if is_fitting else self.key_of(ref.name)}


def _parts(key: str) -> list[str]:
    parts = key.split("/")
    if not all(part.strip(".") for part in parts):
        raise InvalidNameError(key, "a key is parts with a '/' between each two, none of them empty or only dots")
    return parts
