"""Versions of records: which one a document has, and the named steps that lead to the present one. Pure.

A document tells its version in `schema_version`; one that does not tell has version 1. A document of an older version
is migrated each time that it is read, and written so with its next change. One of a newer version is refused: what this
program does not know it cannot keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fsstate.errors import MigrationError, NewerVersionError, ValidationError

__all__ = ["VERSION", "Migration", "Versions"]

# On disk: do not rename.
VERSION: Final = "schema_version"

Fields: TypeAlias = dict[str, Any]


class Migration(NamedTuple):
    """A step to version `to` from the one before.

    `change` is given the document, changes it in place or returns the new one. It must depend on nothing else: it runs
    at every read until the document is written. `name` says to people what it does.
    """

    to: int
    name: str
    change: Callable[[Fields], Fields | None]


class Versions:
    """The versions of one record type, called `kind` in errors."""

    def __init__(self, kind: str, migrations: Sequence[Migration] = ()) -> None:
        steps = {migration.to: migration for migration in migrations}
        expected = list(range(min(steps), min(steps) + len(migrations))) if steps else []
        if list(steps) != expected or (expected and expected[0] < 2):
            raise ValueError(
                f"the migrations of {kind!r} must lead to consecutive versions from 2 on, got {[*steps] or 'none'}"
            )
        self.kind = kind
        self.latest = max(steps, default=1)
        self._steps = steps

    def of(self, document: Mapping[str, Any], where: str) -> int:
        """The version of a document. Raises NewerVersionError, and ValidationError for what is no version."""
        found = document.get(VERSION, 1)
        if type(found) is not int or found < 1:
            raise ValidationError(where, f"$.{VERSION}: expected a whole number from 1 on, got {found!r}")
        if found > self.latest:
            raise NewerVersionError(where, self.kind, found, self.latest)
        return found

    def pending(self, document: Mapping[str, Any], where: str) -> list[Migration]:
        """The steps that a document has still to take, in order."""
        wanted = range(self.of(document, where) + 1, self.latest + 1)
        missing = next((version for version in wanted if version not in self._steps), None)
        if missing is not None:
            raise MigrationError(where, f"to version {missing}", f"{self.kind!r} declares no such step any more")
        return [self._steps[version] for version in wanted]

    def migrated(self, document: Fields, where: str) -> Fields:
        """The document in the present version: itself if it has that, else a copy. Raises MigrationError."""
        steps = self.pending(document, where)
        if not steps:
            return document
        document = deepcopy(document)
        for step in steps:
            document = _taken(step, document, where)
        return {**document, VERSION: self.latest}


def _taken(step: Migration, document: Fields, where: str) -> Fields:
    try:
        result = step.change(document)
    except Exception as error:
        raise MigrationError(where, step.name, f"{type(error).__name__}: {error}") from error
    if result is None:
        return document
    if not isinstance(cast("object", result), dict):
        raise MigrationError(where, step.name, f"it gave a {type(result).__name__}, and a record is a JSON object")
    return result
