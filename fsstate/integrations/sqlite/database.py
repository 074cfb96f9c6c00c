"""A SQLite database as rows with their places. Read only: the files of the database stay as they are, to the byte.

A database that is being written to, or was left in the middle of it, is read whole: from a copy, together with its
journal, in a temporary directory. Opening it in its place would change what stands beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from fsstate import (
    CorruptRecordError,
    FsStateError,
    LockTimeoutError,
    NewerFormatError,
    NotFoundError,
    StorageError,
)
from fsstate.integrations.items import Object
from fsstate.lazy import lazy_property

__all__ = ["ROW", "Database", "Table", "opened"]

# What a row's own number is called among its cells.
ROW: Final = "fsstate_rowid"
_MAGIC: Final = b"SQLite format 3\0"
# https://www.sqlite.org/fileformat2.html#file_format_version_numbers: 2 at these places means a write-ahead log.
_VERSIONS: Final = slice(18, 20)
_JOURNALS: Final = ("-wal", "-journal")
_PATIENCE: Final = 5.0
_ATTEMPTS: Final = 5
# What the tools that keep schemas up to date write down for themselves.
_OWN_TABLES: Final = ("sqlite_", "_sqlx_migrations", "refinery_schema_history")


class Table(NamedTuple):
    """What becomes of a table's rows, and the columns that it must have to be read. The table may be missing."""

    kind: str
    columns: tuple[str, ...]


class Database:
    """An open database that has tables of one schema."""

    def __init__(self, path: str, connection: sqlite3.Connection, tables: Mapping[str, Table]) -> None:
        self.path = path
        self.tables = tables
        self._connection = connection
        connection.row_factory = sqlite3.Row
        connection.text_factory = _text

    def version(self, history: str | None = None) -> int:
        """The schema version that the database says it has; with a `history` of migrations, that of the last one."""
        if history is None:
            return int(self.value("PRAGMA user_version"))
        there = self.value("SELECT count(*) FROM sqlite_master WHERE name = ?", history)
        told = self.value(f"SELECT max(version) FROM {_quoted(history)}") if there else 0  # noqa: S608
        if not isinstance(told, int | None):
            raise CorruptRecordError(self.path, f"{history} has the version {told!r}, and whole numbers were expected")
        return told or 0

    def value(self, query: str, *given: Any) -> Any:
        """The first cell of what a query gives; None when it gives nothing."""
        row = next(self._run(query, given), None)
        return None if row is None else row[0]

    @lazy_property
    def names(self) -> list[str]:
        """The names of the tables, without those that tools keep for themselves."""
        rows = self._run("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name", ())
        # A name that is no text is nobody's: no query could name it.
        return [row[0] for row in rows if isinstance(row[0], str) and not row[0].startswith(_OWN_TABLES)]

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        return [row["name"] for row in self._run(f"PRAGMA table_info({_quoted(table)})", ())]

    def count(self, table: str) -> int:
        """The number of rows; 0 when there is no such table."""
        return self.value(f"SELECT count(*) FROM {_quoted(table)}") if table in self.names else 0  # noqa: S608

    def check(self, what: str, known: int, history: str | None = None) -> None:
        """Raise NewerFormatError for a version above `known`, CorruptRecordError for a schema that is another one."""
        version = self.version(history)
        if version > known:
            raise _newer(self.path, what, version, known)
        there = [name for name in self.tables if name in self.names]
        if not there:
            raise self._foreign(what, f"it has no table {' or '.join(self.tables)}")
        for name in there:
            columns = self.columns(name)
            lacking = [column for column in self.tables[name].columns if column not in columns]
            if lacking:
                raise self._foreign(what, f"its table {name} has no column {lacking[0]}")

    def missing(self) -> list[str]:
        """The tables of the schema that are not there: older programs, and parts of them, make fewer."""
        return [name for name in self.tables if name not in self.names]

    def unknown(self) -> Iterator[tuple[str, int]]:
        """The tables of which the schema says nothing, with how many rows they have."""
        return ((name, self.count(name)) for name in self.names if name not in self.tables)

    def orphans(self, table: str, column: str, owner: str, key: str) -> Iterator[tuple[Any, int]]:
        """The owners that rows of a table name and that do not exist, with how many rows do."""
        if table not in self.names:
            return
        query = (
            f"SELECT {column}, count(*) FROM {table} WHERE {column} IS NULL OR {column} NOT IN "  # noqa: S608
            f"({self.all_of(owner, key)}) GROUP BY {column} ORDER BY {column}"
        )
        yield from ((row[0], row[1]) for row in self._run(query, ()))

    def all_of(self, table: str, column: str) -> str:
        """The query for a column of a table that may be missing, without NULLs: nothing would be "not in" these."""
        there = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608
        return there if table in self.names else "SELECT NULL WHERE 0"

    def rows(self, table: str, order: str, where: str = "1", given: Sequence[Any] = ()) -> Iterator[Object]:
        """The rows of a table; none when it is missing."""
        if table not in self.names:
            return
        query = f"SELECT rowid AS {ROW}, * FROM {_quoted(table)} WHERE {where} ORDER BY {order}"  # noqa: S608
        for row in self._run(query, given):
            yield dict(row)

    def _run(self, query: str, given: Sequence[Any]) -> Iterator[sqlite3.Row]:
        try:
            yield from self._connection.execute(query, given)
        # Of a damaged schema not even the message, or a column's name, is sure to be a text.
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _explained(self.path, error) from error

    def _foreign(self, what: str, reason: str) -> CorruptRecordError:
        return CorruptRecordError(self.path, f"this is no {what} database: {reason}; say with --from whose it is")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], tables: Mapping[str, Table]) -> Generator[Database]:
    """Open a database for reading.

    Raises NotFoundError when there is none, CorruptRecordError for a file that is no database, LockTimeoutError for one
    that another program keeps locked, StorageError when it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = _connected(Path(path), stack)
        except FsStateError:
            raise
        except OSError as error:
            raise StorageError.of("read", os.fspath(path), error) from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _explained(os.fspath(path), error) from error
        yield Database(os.fspath(path), connection, tables)


def _connected(path: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    head = _head(path)
    if not head.startswith(_MAGIC):
        raise CorruptRecordError(str(path), "this file is no SQLite database")
    source = stack.enter_context(_copied(path)) if _is_journalled(path, head) else path.resolve()
    connection = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None)
    stack.callback(connection.close)
    # One moment of the database for all queries.
    connection.execute("BEGIN")
    return connection


def _head(path: Path) -> bytes:
    if not path.exists():
        raise NotFoundError(str(path))
    with path.open("rb") as file:
        return file.read(100)


def _is_journalled(path: Path, head: bytes) -> bool:
    return 2 in head[_VERSIONS] or any(each.exists() for each in _beside(path))


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _JOURNALS]


@contextlib.contextmanager
def _copied(path: Path) -> Generator[Path]:
    """A copy of the database with its journal, as they were at one moment."""
    with tempfile.TemporaryDirectory(prefix="fsstate-") as folder:
        for _ in range(_ATTEMPTS):
            before = _stamps(path)
            for each in (path, *_beside(path)):
                (Path(folder) / each.name).unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(each, Path(folder) / each.name)
            if _stamps(path) == before:
                yield Path(folder) / path.name
                return
    raise LockTimeoutError(str(path), _PATIENCE, "it is being written to; close the program that does, and try again")


def _stamps(path: Path) -> list[tuple[int, int] | None]:
    return [
        (each.stat().st_size, each.stat().st_mtime_ns) if each.exists() else None for each in (path, *_beside(path))
    ]


def _explained(path: str, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
    text = str(error)
    if "locked" in text or "busy" in text:
        return LockTimeoutError(path, _PATIENCE, "another program keeps the database locked; close it, and try again")
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in text:
        return StorageError.of("read", path, OSError(text))
    return CorruptRecordError(path, f"SQLite cannot read this database: {text}")


def _newer(path: str, what: str, version: int, known: int) -> NewerFormatError:
    error = NewerFormatError(path, version, known)
    error.message = (
        f"{path} has version {version}, and {what} databases up to version {known} are known: "
        "upgrade fsstate, or say with --from whose it is"
    )
    return error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(data: bytes) -> str | bytes:
    """A text; bytes that are none stay bytes, which no document can hold, so that their row is told by its place."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
