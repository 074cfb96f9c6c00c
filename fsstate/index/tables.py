"""How the index is laid out in its database, and how questions are put to it: SQL, and nothing else.

Of each view there is one table of records, with the key of each field in a column of its own (NULL where there is none,
so that SQLite orders them as `fsstate.queries` does), and one of the keys of what is in lists and objects.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from fsstate.conditions import Criterion
from fsstate.index.views import Kept, View
from fsstate.keys import NULL, Key, elements_of, key_of
from fsstate.queries import Position, Question

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MOST_FIELDS", "SCHEMA", "Found", "Stretches", "Table", "Weight"]

SCHEMA: Final = """
CREATE TABLE views (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, version TEXT, UNIQUE (name, version));
CREATE TABLE stretches (view INTEGER, folder TEXT, key INTEGER, data BLOB, PRIMARY KEY (view, folder, key))
WITHOUT ROWID;
"""

# What surveys gave to remember, by folder.
Stretches: TypeAlias = dict[str, dict[int, bytes]]

# Programs of so many versions may share a store without each beginning anew.
_VERSIONS: Final = 3
# So many places or keys are asked for one by one.
_MANY: Final = 500
# SQLite counts no further, and has no more bits.
MOST_FIELDS: Final = 63
_MOST: Final = (1 << 63) - 1


class Found(NamedTuple):
    """A record that fits."""

    place: str
    value: bytes
    position: Position


class Weight(NamedTuple):
    """So many records, and so many bytes that they take."""

    number: int
    bytes: int


class Table:
    """The records of one view, in a database that is open."""

    def __init__(self, db: sqlite3.Connection, view: View, number: int) -> None:
        self._db = db
        self._view = view
        self._number = number
        # Whether it was laid out here, and is to be arranged once it is filled.
        self.is_new = False
        self._columns = {field: f"k{index}" for index, field in enumerate(view.fields)}
        self._bits = {field: 1 << index for index, field in enumerate(view.fields)}

    @classmethod
    def find(cls, db: sqlite3.Connection, view: View) -> Table | None:
        """The table of a view, if there is one of this version."""
        row = db.execute(
            "SELECT number FROM views WHERE name = ? AND version = ?", (view.name, view.version)
        ).fetchone()
        return None if row is None else cls(db, view, row[0])

    @classmethod
    def make(cls, db: sqlite3.Connection, view: View) -> Table:
        """The same, laid out if need be. What other versions kept goes, but for the latest few."""
        found = cls.find(db, view)
        if found is not None:
            return found
        old = db.execute("SELECT number FROM views WHERE name = ? ORDER BY number DESC", (view.name,)).fetchall()
        for (number,) in old[_VERSIONS - 1 :]:
            cls(db, view, number)._drop()
        number = db.execute("INSERT INTO views (name, version) VALUES (?, ?)", (view.name, view.version)).lastrowid
        assert number is not None
        table = cls(db, view, number)
        table._lay_out()
        table.is_new = True
        return table

    # What surveys remember

    def stretches(self) -> Stretches:
        """What is remembered of the directories."""
        rows = self._db.execute("SELECT folder, key, data FROM stretches WHERE view = ?", (self._number,)).fetchall()
        # Made anew, the keys lie side by side in memory: among the data, each look-up would wait for a page of its own.
        keys = array("q", [key for _, key, _ in rows]).tolist()
        found: Stretches = {}
        for (folder, _, data), key in zip(rows, keys, strict=True):
            found.setdefault(folder, {})[key] = data
        return found

    def remember(self, folder: str, forgotten: Iterable[int], stretches: dict[int, bytes]) -> None:
        """Put what a survey gave in the place of what it does not keep."""
        gone = ((self._number, folder, key) for key in forgotten)
        self._db.executemany("DELETE FROM stretches WHERE view = ? AND folder = ? AND key = ?", gone)
        new = ((self._number, folder, key, data) for key, data in stretches.items())
        self._db.executemany("INSERT OR REPLACE INTO stretches VALUES (?, ?, ?, ?)", new)

    def arrange(self) -> None:
        """Make it quick to find and order by fields. After the first filling: sorting all at once takes less time."""
        number = self._number
        for field in self._view.sorted_fields:
            column = self._columns[field]
            self._db.execute(f"CREATE INDEX rows_{number}_{column} ON rows_{number} ({column})")
        for field in self._view.found_fields:
            column = self._columns[field]
            # Nobody looks for those without: they take no room.
            where = f"WHERE {column} IS NOT NULL"
            self._db.execute(f"CREATE INDEX rows_{number}_{column} ON rows_{number} ({column}) {where}")
        if self._view.weighed:
            self._db.execute(f"CREATE INDEX rows_{number}_size ON rows_{number} (size)")
        self._db.execute(f"CREATE INDEX items_{number}_place ON items_{number} (place)")

    # What is kept of records

    def values(self, places: Sequence[str]) -> dict[str, bytes]:
        """What is kept of these records as their value."""
        found: dict[str, bytes] = {}
        for start in range(0, len(places), _MANY):
            some = places[start : start + _MANY]
            sql = f"SELECT place, value FROM rows_{self._number} WHERE place IN ({_marks(some)})"
            found.update(self._db.execute(sql, some))
        return found

    def put(self, kept: Sequence[tuple[str, Kept]]) -> None:
        """Keep this of these records, in the place of what was kept of them."""
        marks = _marks(("place", "nulls", "size", "value", *self._columns))
        rows = [self._row(place, each) for place, each in kept]
        if not self.is_new:
            self._remove_others([place for place, _ in kept])
        self._db.executemany(f"INSERT OR REPLACE INTO rows_{self._number} VALUES ({marks})", rows)
        items = ((index, key, place) for place, each in kept for index, key in self._items(each))
        self._db.executemany(f"INSERT INTO items_{self._number} VALUES (?, ?, ?)", items)

    def put_flaws(self, flaws: Sequence[tuple[str, str]]) -> None:
        """Keep of these records why they cannot be read."""
        if not self.is_new:
            self.remove([place for place, _ in flaws])
        self._db.executemany(f"INSERT INTO flaws_{self._number} VALUES (?, ?)", flaws)

    def remove(self, places: Sequence[str]) -> None:
        """Keep nothing of these records."""
        self._db.executemany(f"DELETE FROM rows_{self._number} WHERE place = ?", ((place,) for place in places))
        self._remove_others(places)

    def flaws(self) -> list[tuple[str, str]]:
        """The records that cannot be read, and why."""
        return self._db.execute(f"SELECT place, flaw FROM flaws_{self._number} ORDER BY place").fetchall()

    # Questions

    def count(self, question: Question) -> int:
        """How many records fit, on whatever page."""
        where, given = self._where(question)
        return int(self._db.execute(f"SELECT count(*) FROM rows_{self._number}{where}", given).fetchone()[0])

    def weigh(self, question: Question) -> Weight:
        """How many records fit, and how many bytes they take, on whatever page."""
        where, given = self._where(question)
        sql = f"SELECT count(*), coalesce(sum(size), 0) FROM rows_{self._number}{where}"
        return Weight(*self._db.execute(sql, given).fetchone())

    def select(self, question: Question) -> Iterator[Found]:
        """The records that a question asks for."""
        where, given = self._where(question)
        direction = "DESC" if question.places_descend else "ASC"
        columns = [self._columns[each.field] for each in question.order]
        terms = [
            f"{column} {'DESC' if each.descending else 'ASC NULLS LAST'}"
            for column, each in zip(columns, question.order, strict=True)
        ]
        order = ", ".join([*terms, f"place {direction}"])
        limit = -1 if question.limit is None else min(question.limit, _MOST)
        sql = f"SELECT {', '.join(['place', 'value', *columns])} FROM rows_{self._number}{where} ORDER BY {order}"
        rows = self._db.execute(f"{sql} LIMIT ? OFFSET ?", (*given, limit, min(question.offset, _MOST)))
        return (Found(place, value, Position(tuple(keys), place)) for place, value, *keys in rows)

    # Inside

    def _lay_out(self) -> None:
        columns = "".join(f", {column} BLOB" for column in self._columns.values())
        number = self._number
        self._db.execute(
            f"CREATE TABLE rows_{number} (place TEXT PRIMARY KEY, nulls INTEGER, size INTEGER, value BLOB{columns})"
            " WITHOUT ROWID"
        )
        self._db.execute(
            f"CREATE TABLE items_{number} (field INTEGER, key BLOB, place TEXT, PRIMARY KEY (field, key, place))"
            " WITHOUT ROWID"
        )
        self._db.execute(f"CREATE TABLE flaws_{number} (place TEXT PRIMARY KEY, flaw TEXT) WITHOUT ROWID")

    def _drop(self) -> None:
        for table in ("rows", "items", "flaws"):
            self._db.execute(f"DROP TABLE {table}_{self._number}")
        self._db.execute("DELETE FROM stretches WHERE view = ?", (self._number,))
        self._db.execute("DELETE FROM views WHERE number = ?", (self._number,))

    def _row(self, place: str, kept: Kept) -> tuple[Any, ...]:
        keys = {field: key_of(kept.values[field]) if field in kept.values else None for field in self._columns}
        nulls = sum(self._bits[field] for field, key in keys.items() if key == NULL)
        return place, nulls, kept.size, kept.value, *(key or None for key in keys.values())

    def _items(self, kept: Kept) -> Iterator[tuple[int, Key]]:
        for index, field in enumerate(self._view.fields):
            yield from ((index, key) for key in elements_of(kept.values.get(field)))

    def _remove_others(self, places: Iterable[str]) -> None:
        given = [(place,) for place in places]
        for table in ("items", "flaws"):
            self._db.executemany(f"DELETE FROM {table}_{self._number} WHERE place = ?", given)

    def _where(self, question: Question) -> tuple[str, list[Any]]:
        terms: list[str] = []
        given: list[Any] = []
        for field, criterion in question.criteria:
            self._add(field, criterion, terms, given)
        if question.after is not None:
            terms.append(self._behind(question, question.after, 0, given))
        return (f" WHERE {' AND '.join(terms)}" if terms else ""), given

    def _add(self, field: str, criterion: Criterion, terms: list[str], given: list[Any]) -> None:
        column = self._columns[field]
        if criterion.keys is not None:
            found = sorted(criterion.keys - {NULL})
            is_null = f" OR nulls & {self._bits[field]}" if NULL in criterion.keys else ""
            terms.append(f"({column} IN ({self._listed(found, given)}){is_null})")
        if criterion.low is not None:
            terms.append(f"{column} >= ?")
            given.append(criterion.low)
        if criterion.high is not None:
            terms.append(f"{column} < ?")
            given.append(criterion.high)
        if criterion.elements:
            terms.append(self._contain(field, sorted(criterion.elements), given))
        elif criterion.elements is not None:
            terms.append("1")

    def _contain(self, field: str, elements: Sequence[Key], given: list[Any]) -> str:
        """The condition that the field has all of these in it."""
        given.append(self._view.fields.index(field))
        keys = self._listed(elements, given)
        given.append(len(elements))
        items = f"SELECT place FROM items_{self._number} WHERE field = ? AND key IN ({keys})"
        return f"place IN ({items} GROUP BY place HAVING count(*) = ?)"

    def _listed(self, keys: Sequence[Key], given: list[Any]) -> str:
        """Keys, as what stands behind IN."""
        if len(keys) <= _MANY:
            given.extend(keys)
            return _marks(keys)
        # SQLite takes no more than so many values apart, but any number in one.
        self._db.create_function("key_in", 1, bytes.fromhex, deterministic=True)
        given.append(json.dumps([key.hex() for key in keys]))
        return "SELECT key_in(value) FROM json_each(?)"

    def _behind(self, question: Question, after: Position, number: int, given: list[Any]) -> str:
        """The condition that a record stands behind a position, from one field of the order on."""
        if number == len(question.order):
            given.append(after.place)
            return "place < ?" if question.places_descend else "place > ?"
        order, key = question.order[number], after.keys[number] or None
        column = self._columns[order.field]
        if key is None:
            return f"({column} IS NULL AND {self._behind(question, after, number + 1, given)})"
        given.extend([key, key])
        rest = self._behind(question, after, number + 1, given)
        return f"({column} IS NULL OR {column} {'<' if order.descending else '>'} ? OR ({column} = ? AND {rest}))"


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
