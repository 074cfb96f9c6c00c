"""The tables of the index: which passages there are, and in which the words are.

    source      a file that passages came from: how it looked, and what its reader must know to read only what is new
    passage     one answer: where it stands, and when it was written
    body        its parts, for snippets and for taking it out of the words again
    words_0     the words of all passages but those of logs that were asked for by name
    words_<id>  the words of one such log: what is asked for now and then must not weigh on the ranking of the rest

The words are kept without the texts (a "contentless" table of FTS5). To take a passage out, the very tokens that went
in are handed over again, which works in every version of SQLite; they are made from the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from fsstate.errors import SearchUnavailableError
from fsstate.search.passages import Part, Passage, to_microseconds, tokens_in

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MAIN", "SCHEMA", "Index", "Known", "Source", "parts_of", "require_fts5"]

# The corpus of what is always searched.
MAIN: Final = 0
_WORDS: Final = "CREATE VIRTUAL TABLE words_{} USING fts5(tokens, content='', tokenize='ascii')"
# What makes tokens is part of the schema: other tokens need another index. On disk: raise the number then.
SCHEMA: Final = f"""
-- tokens 1
CREATE TABLE look (category TEXT, suffix TEXT, key INTEGER, data BLOB, PRIMARY KEY (category, suffix, key))
  WITHOUT ROWID;
CREATE TABLE source (id INTEGER PRIMARY KEY, ref TEXT UNIQUE, unit TEXT, session TEXT, user TEXT, corpus INTEGER,
  look TEXT, state BLOB);
CREATE INDEX source_unit ON source (unit);
CREATE INDEX source_session ON source (session);
CREATE TABLE passage (id INTEGER PRIMARY KEY, source INTEGER, seq INTEGER, at INTEGER, role TEXT, state INTEGER,
  key TEXT);
CREATE INDEX passage_key ON passage (source, key);
CREATE INDEX under_way ON passage (source) WHERE seq = 0;
CREATE TABLE body (id INTEGER PRIMARY KEY, parts BLOB);
{_WORDS.format(MAIN)};
"""


@cache
def require_fts5() -> None:
    """Raise SearchUnavailableError where this Python's SQLite cannot keep words. A success is remembered."""
    try:
        import sqlite3
    except ImportError as error:
        raise SearchUnavailableError(f"it was built without SQLite ({error})") from error
    with closing(sqlite3.connect(":memory:")) as memory:
        try:
            memory.execute(_WORDS.format(MAIN))
        except sqlite3.OperationalError as error:
            raise SearchUnavailableError(f"its SQLite {sqlite3.sqlite_version} says {str(error)!r}") from error


class Source(NamedTuple):
    """A file that passages come from. `unit` is the record that it goes with: a session, say.

    `look` is how the file looked, and `state` what its reader wants to know the next time. `user` is whose session it
    is the document of.
    """

    ref: str
    unit: str
    look: str
    session: str | None = None
    user: str | None = None
    is_main: bool = True
    state: bytes = b""


class Known(NamedTuple):
    """A source that is in the index."""

    id: int
    source: Source


class Index:
    """The index, open in one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        # The names of the sources that were taken out in this transaction.
        self.removed: list[str] = []

    # What was seen

    def looks(self) -> dict[tuple[str, str], dict[int, bytes]]:
        """What the last survey of each category gave to remember."""
        found: dict[tuple[str, str], dict[int, bytes]] = {}
        for category, suffix, key, data in self.db.execute("SELECT category, suffix, key, data FROM look"):
            found.setdefault((category, suffix), {})[key] = data
        return found

    def remember(self, place: tuple[str, str], forget: Iterable[int], new: dict[int, bytes]) -> None:
        """Note what a survey gave to remember, and what is to be forgotten."""
        self.db.executemany(
            "DELETE FROM look WHERE category = ? AND suffix = ? AND key = ?", [(*place, key) for key in forget]
        )
        self.db.executemany("INSERT INTO look VALUES (?, ?, ?, ?)", [(*place, *item) for item in new.items()])

    # Sources

    def units(self) -> set[str]:
        """The records that anything came from."""
        return {unit for (unit,) in self.db.execute("SELECT DISTINCT unit FROM source")}

    def sources(self, unit: str) -> dict[str, Known]:
        """The sources of a record, by what they are called."""
        return self._known("unit = ?", unit)

    def source(self, ref: str) -> Known | None:
        """The source of this name."""
        return self._known("ref = ?", ref).get(ref)

    def named_logs(self) -> dict[str, Known]:
        """The logs that were asked for by name."""
        return self._known("corpus != ?", MAIN)

    def put(self, source: Source) -> Known:
        """Note how a source looks now."""
        columns = (source.unit, source.session, source.user, source.look, source.state)
        known = self.source(source.ref)
        if known is not None:
            assignments = "unit = ?, session = ?, user = ?, look = ?, state = ?"
            self.db.execute(f"UPDATE source SET {assignments} WHERE id = ?", (*columns, known.id))
            return Known(known.id, source)
        insertion = "INSERT INTO source (unit, session, user, look, state, ref, corpus) VALUES (?, ?, ?, ?, ?, ?, ?)"
        number = self.db.execute(insertion, (*columns, source.ref, MAIN)).lastrowid
        assert number is not None
        if not source.is_main:
            self.db.execute("UPDATE source SET corpus = id WHERE id = ?", (number,))
            self.db.execute(_WORDS.format(number))
        return Known(number, source)

    def remove(self, known: Known) -> None:
        """Take a source out with all its passages."""
        if known.source.is_main:
            self.take_out(known, [number for (number,) in self._passages(known, "")])
        else:
            self.db.execute("DELETE FROM body WHERE id IN (SELECT id FROM passage WHERE source = ?)", (known.id,))
            self.db.execute("DELETE FROM passage WHERE source = ?", (known.id,))
            self.db.execute(f"DROP TABLE {_words(known)}")
        self.db.execute("DELETE FROM source WHERE id = ?", (known.id,))
        self.removed.append(known.source.ref)

    def overwrite_what_goes(self) -> None:
        """Have zeros written over all that is deleted from now on: SQLite would leave it in the file until it is used.

        But for words, which stay beside a note that they are gone; see `forget_words`.
        """
        self.db.execute("PRAGMA secure_delete = ON").fetchall()

    def forget_words(self) -> None:
        """Write the words anew, without those that are gone."""
        self.db.execute(f"INSERT INTO words_{MAIN} (words_{MAIN}) VALUES ('optimize')")

    # Passages

    def replace(self, known: Known, passages: Iterable[Passage]) -> None:
        """Make these the source's passages. Those that are as they were cost a comparison."""
        columns = "p.id, p.key, p.seq, p.at, p.role, p.state, b.parts"
        rows = self.db.execute(
            f"SELECT {columns} FROM passage p JOIN body b ON b.id = p.id WHERE source = ?", (known.id,)
        )
        before: dict[tuple[Any, ...], list[int]] = {}
        for number, *about in rows:
            before.setdefault(tuple(about), []).append(number)
        new: list[Passage] = []
        for passage in passages:
            same = before.get((passage.key, *_about(passage), _packed(passage.parts)))
            if same:
                same.pop()
            else:
                new.append(passage)
        self.take_out(known, (number for numbers in before.values() for number in numbers))
        self.add(known, new)

    def add(self, known: Known, passages: Iterable[Passage]) -> None:
        """Add passages. Requires: none of them is there."""
        for passage in passages:
            row = (known.id, passage.key, *_about(passage))
            insertion = "INSERT INTO passage (source, key, seq, at, role, state) VALUES (?, ?, ?, ?, ?, ?)"
            number = self.db.execute(insertion, row).lastrowid
            self.db.execute("INSERT INTO body VALUES (?, ?)", (number, _packed(passage.parts)))
            self._enter(known, number, passage.parts)

    def find(self, known: Known, key: str) -> tuple[int, int] | None:
        """The number and the state of the passage with this key."""
        found = self.db.execute("SELECT id, state FROM passage WHERE source = ? AND key = ?", (known.id, key))
        row: tuple[int, int] | None = found.fetchone()
        return row

    def parts(self, number: int) -> tuple[Part, ...]:
        """The parts of a passage."""
        return parts_of(self.db.execute("SELECT parts FROM body WHERE id = ?", (number,)).fetchone()[0])

    def rewrite(self, known: Known, number: int, parts: Sequence[Part]) -> None:
        """Give a passage other parts."""
        self._strike(known, number)
        self.db.execute("UPDATE body SET parts = ? WHERE id = ?", (_packed(parts), number))
        self._enter(known, number, parts)

    def under_way(self, known: Known) -> list[int]:
        """The numbers of the passages that are in no log yet."""
        return [number for (number,) in self._passages(known, "AND seq = 0")]

    def take_out(self, known: Known, numbers: Iterable[int]) -> None:
        """Take passages out."""
        for number in list(numbers):
            self._strike(known, number)
            self.db.execute("DELETE FROM body WHERE id = ?", (number,))
            self.db.execute("DELETE FROM passage WHERE id = ?", (number,))

    # Inside

    def _known(self, condition: str, value: object) -> dict[str, Known]:
        columns = "id, ref, unit, look, session, user, corpus, state"
        rows = self.db.execute(f"SELECT {columns} FROM source WHERE {condition}", (value,))
        return {
            ref: Known(number, Source(ref, unit, look, session, user, corpus == MAIN, state))
            for number, ref, unit, look, session, user, corpus, state in rows
        }

    def _passages(self, known: Known, condition: str) -> Iterator[Any]:
        return self.db.execute(f"SELECT id FROM passage WHERE source = ? {condition}", (known.id,))

    def _enter(self, known: Known, number: int | None, parts: Iterable[Part]) -> None:
        tokens = " ".join(tokens_in(parts))
        self.db.execute(f"INSERT INTO {_words(known)} (rowid, tokens) VALUES (?, ?)", (number, tokens))

    def _strike(self, known: Known, number: int) -> None:
        table, tokens = _words(known), " ".join(tokens_in(self.parts(number)))
        self.db.execute(f"INSERT INTO {table} ({table}, rowid, tokens) VALUES ('delete', ?, ?)", (number, tokens))


def parts_of(packed: bytes) -> tuple[Part, ...]:
    """The parts of a passage, as they are kept in its body."""
    return tuple(Part(*each) for each in orjson.loads(packed))


def _packed(parts: Iterable[Part]) -> bytes:
    return orjson.dumps([list(part) for part in parts])


def _about(passage: Passage) -> tuple[int, int | None, str | None, int]:
    return passage.seq, to_microseconds(passage.at), passage.role, passage.state


def _words(known: Known) -> str:
    return f"words_{MAIN if known.source.is_main else known.id}"
