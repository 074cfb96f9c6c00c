"""Databases into a store: which systems are known, and one import from the check of the schema to the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from fsstate import Store
from fsstate.integrations.landing import ImportReport, Landing, Progress, check_apart
from fsstate.integrations.sqlite import codewhale, soma, steer, zero
from fsstate.integrations.sqlite.database import Table, opened
from fsstate.integrations.sqlite.reading import Item, Reader

__all__ = ["SYSTEMS", "import_sqlite"]


class _System(NamedTuple):
    """One schema: its tables, the newest version of it that is known, and how to read it."""

    tables: Mapping[str, Table]
    version: int
    read: Callable[[Reader], Iterator[Item]]
    history: str | None = None


_SYSTEMS: Final = {
    "steer": _System(steer.TABLES, steer.KNOWN_VERSION, steer.read),
    "codewhale": _System(codewhale.TABLES, codewhale.KNOWN_VERSION, codewhale.read),
    "zero": _System(zero.TABLES, zero.KNOWN_VERSION, zero.read, zero.HISTORY),
    "soma": _System(soma.TABLES, soma.KNOWN_VERSION, soma.read),
}
SYSTEMS: Final = tuple(_SYSTEMS)


def import_sqlite(
    store: Store, path: str | os.PathLike[str], system: str, *, progress: Progress | None = None
) -> ImportReport:
    """Import the database of a system, one of SYSTEMS, durably, and return what was done.

    `progress` is called now and then with how many rows are done and how many there are. Raises before anything is
    written: NewerFormatError for a schema that is newer than the one known, CorruptRecordError for a file that is no
    database of that system, LockTimeoutError for one that is locked, NotFoundError when there is none, and ValueError
    for a system that is not known. Raises StorageError when the store cannot be written to.
    """
    if system not in _SYSTEMS:
        raise ValueError(f"{system!r} is not known; it is one of {', '.join(SYSTEMS)}")
    schema = _SYSTEMS[system]
    check_apart(store, path)
    with opened(path, schema.tables) as database:
        database.check(system, schema.version, schema.history)
        landing = Landing(store, path, progress)
        reader = Reader(database, landing)
        reader.expect()
        reader.take(schema.read(reader))
        return landing.settle()
