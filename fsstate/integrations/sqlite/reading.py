"""From rows to what a landing takes: cells with their meaning, and every row accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from fsstate import CorruptRecordError, InvalidValueError, ValidationError, codec
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem
from fsstate.integrations.landing import Landing
from fsstate.integrations.sqlite.database import ROW, Database
from fsstate.names import name_for
from fsstate.record_types import RecordType
from fsstate.times import format_time, parse_time

__all__ = ["Cells", "Item", "Owned", "Reader", "fields", "moment", "session_times"]

Item: TypeAlias = SessionItem | DocumentItem
# A condition on rows, and what stands in it for its question marks.
Owned: TypeAlias = tuple[str, Sequence[Any]]

_ALL: Final[Owned] = ("1", ())
# Behind the name of what could not stand under it.
_AS_FOUND: Final = "_as_found"


class Cells:
    """One row, from which cells are taken; `rest` gives those that nobody took.

    What is wrong with a cell is told, and what it holds stays among the rest.
    """

    def __init__(self, landing: Landing, table: str, kind: str, cells: Object) -> None:
        self.place = f"table {table}, row {cells.pop(ROW)}"
        self.kind = kind
        self._cells = cells
        self._landing = landing

    def take(self, name: str) -> Any:
        """A cell; None when it is NULL or there is no such column."""
        return self._cells.pop(name, None)

    def peek(self, name: str) -> Any:
        """A cell that stays among the rest."""
        return self._cells.get(name)

    def text(self, name: str) -> str | None:
        """A cell as text: ids may be numbers."""
        value = self.take(name)
        return value if value is None or isinstance(value, str) else str(value)

    def flag(self, name: str) -> bool | None:
        """A cell that is true or false."""
        value = self.take(name)
        return None if value is None else bool(value)

    def json(self, name: str) -> Any:
        """The JSON value in a cell; what is none is told and given as the text that it is."""
        value = self.take(name)
        if not isinstance(value, str):
            return value
        try:
            return codec.decode_bytes(value.encode(), name)
        except CorruptRecordError as error:
            self.note(f"column {name} was kept as text, as it is no sound JSON: {error.reason}")
            return value

    def time(self, name: str) -> str | None:
        """The time in a text, as fsstate writes it."""
        return self._time(name, parse_time)

    def seconds(self, name: str) -> str | None:
        """The time in a number of seconds since 1970."""
        return self._time(name, lambda value: _since_1970(value, 1))

    def milliseconds(self, name: str) -> str | None:
        """The time in a number of milliseconds since 1970."""
        return self._time(name, lambda value: _since_1970(value, 1000))

    def rest(self) -> Object:
        """What was not taken, without NULLs."""
        return {name: value for name, value in self._cells.items() if value is not None}

    def kept(self, system: str) -> Object:
        """The rest, as it stands in a session's metadata."""
        rest = self.rest()
        return {system: rest} if rest else {}

    def note(self, reason: str) -> None:
        """Say that something of the row was not imported as it was found."""
        self._landing.note(self.place, reason)

    def refuse(self, reason: str) -> None:
        """Say that the row cannot be imported."""
        self._landing.fail(self.kind, self.place, f"not imported: {reason}")

    def _time(self, name: str, parse: Callable[[Any], datetime]) -> str | None:
        value = self._cells.get(name)
        try:
            return None if value is None else format_time(parse(self.take(name)))
        except (ValueError, TypeError, OverflowError):
            self._cells[f"{name}{_AS_FOUND}"] = value
            self.note(f"column {name} was kept as {name}{_AS_FOUND}, as {value!r} is no time")
            return None


def fields(**given: Any) -> Object:
    """What is not None."""
    return {name: value for name, value in given.items() if value is not None}


class Reader:
    """The rows of one database, on their way to a landing."""

    def __init__(self, database: Database, landing: Landing) -> None:
        self._database = database
        self._landing = landing

    def expect(self) -> None:
        """Say how many rows there are, and which tables are missing or not known: nothing takes the rows of those."""
        for name in self._database.missing():
            self._landing.pass_over(f"table {name}", "it is not there")
        for name, table in self._database.tables.items():
            self._landing.expect(table.kind, self._database.count(name))
        for name, number in self._database.unknown():
            self._landing.expect("documents", number)
            self._landing.fail(
                "documents", f"table {name}", f"not imported: nothing is known of its {number} rows", number
            )

    def record(
        self, kind: RecordType[Any], value: Object, cells: Cells, *, key: str = "id", category: str | None = None
    ) -> Iterator[DocumentItem]:
        """A record, named after its key, unless its status is none. The rest of its cells stays in it."""
        name, folder = cells.text(key) or "", category or kind.category
        told: Object = {kind.key: name}
        if kind.group_by is not None:
            group = told[kind.group_by] = cells.text(kind.group_by) or ""
            folder = f"{folder}/{name_for(group)}"
        fitted = self.fitted(kind, {**told, **cells.rest(), **value}, cells)
        if fitted is not None:
            yield DocumentItem(cells.kind, folder, name_for(name), fitted, cells.place)

    def fitted(self, kind: RecordType[Any], value: Object, cells: Cells) -> Object | None:
        """The value as such a record can be read: what does not fit is told, and kept under another name.

        None when it is refused, as its status is none.
        """
        status = kind.status_of(value)
        if kind.lifecycle is not None and not kind.lifecycle.knows(status):
            cells.refuse(f"{status!r} is no status of {kind.category}")
            return None
        unfit = [name for name, each in value.items() if not _is_fit(kind, {kind.key: value.get(kind.key), name: each})]
        for name in unfit:
            self._landing.note(cells.place, f"{name} was kept as {name}{_AS_FOUND}, as it does not fit")
        return {f"{name}{_AS_FOUND}" if name in unfit else name: each for name, each in value.items()}

    def counted(self, item: DocumentItem) -> DocumentItem:
        """The document, counted: it comes from cells of a row that is something else."""
        self._landing.expect(item.kind, item.parts)
        return item

    def take(self, items: Iterator[Item]) -> None:
        """Write what was read."""
        for item in items:
            if isinstance(item, SessionItem):
                self._landing.session(item)
            else:
                self._landing.document(item)
            total = self._landing.report.total
            self._landing.show(total.accounted, total.found)

    def cells(self, table: str, order: str = "rowid", owned: Owned = _ALL) -> Iterator[Cells]:
        """The rows of a table, in order."""
        kind = self._database.tables[table].kind
        for row in self._database.rows(table, order, *owned):
            yield Cells(self._landing, table, kind, row)

    def belongings(self, table: str, column: str, owner: str, key: str = "id") -> Iterator[Cells]:
        """The rows of a table that belong to one that is there, in order. The others are told."""
        yield from self.cells(table, owned=(f"{column} IN ({self._database.all_of(owner, key)})", ()))
        self.orphans(table, column, owner, key)

    def entries(self, table: str, order: str, owned: Owned, make: Callable[[Cells], Entry | None]) -> list[Entry]:
        """What is made of the rows that belong to one session."""
        made = (make(cells) for cells in self.cells(table, order, owned))
        return [entry for entry in made if entry is not None]

    def orphans(self, table: str, column: str, owner: str, key: str = "id") -> None:
        """Tell of rows that belong to nothing that is there: no session can hold them."""
        kind = self._database.tables[table].kind
        for name, number in self._database.orphans(table, column, owner, key):
            reason = f"{number} with {column} {name!r}, which is not in {owner}, were not imported"
            self._landing.fail(kind, f"table {table}", reason, number)

    def refuse(self, table: str, owned: Owned, reason: str) -> None:
        """Say that rows cannot be imported."""
        number = sum(1 for _ in self.cells(table, owned=owned))
        told = f"not imported: {number} rows, as {reason}"
        self._landing.fail(self._database.tables[table].kind, f"table {table}", told, number)

    def roots(self) -> dict[str, str]:
        """The paths of the sources that the store has, by their ids."""
        return self._landing.roots()

    def head(self, cells: Cells, column: str, messages: Sequence[Entry]) -> tuple[str | None] | None:
        """The message that a conversation goes on from, unless it is the last."""
        name = cells.peek(column)
        if name is None or not messages:
            return None
        if str(name) not in {entry.row.get("id") for entry in messages}:
            self._landing.note(cells.place, f"{column} {name!r} is none of its messages; it goes on from the last one")
            return None
        return (cells.text(column),)


def _is_fit(kind: RecordType[Any], value: Object) -> bool:
    known = {key: each for key, each in value.items() if each is not None}
    try:
        kind.view.load(codec.decode_bytes(codec.encode(known), kind.category), kind.category)
    except ValidationError:
        return False
    except InvalidValueError:
        # Told when it is written.
        return True
    return True


def session_times(created: str | None, updated: str | None) -> Object:
    """A session's times. One that cannot be told is the other, as a new session has the time of now."""
    return {"created_at": created or updated, "updated_at": updated or created}


def moment(seconds: Any) -> Any:
    """A number of seconds since 1970 as fsstate writes times; what is none stays as it is."""
    try:
        return format_time(_since_1970(seconds, 1))
    except (TypeError, OverflowError):
        return seconds


def _since_1970(value: object, per_second: int) -> datetime:
    if not isinstance(value, int):
        raise TypeError(value)
    return datetime.fromtimestamp(0, tz=UTC) + timedelta(microseconds=value * (1_000_000 // per_second))
