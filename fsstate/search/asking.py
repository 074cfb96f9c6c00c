"""Asking the index: which passages are answers, which are the best, and what they look like.

Ranked by bm25, as FTS5 computes it over the whole corpus, whatever part of it is asked about. What is equal comes
newest first, then by place: the same answers in the same order, whenever and wherever they are asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from fsstate.backends.base import JSON, LOG, MARKDOWN
from fsstate.search.index import MAIN, parts_of
from fsstate.search.passages import SearchHit, from_microseconds
from fsstate.search.query import Query
from fsstate.search.snippets import snippet_of

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Scope", "ask"]

# As of sqlite3's own LIMIT: none.
_ALL: Final = -1
# More than these are looked up one by one.
_MOST_PLACES: Final = 100

# An expression of SQL, and the values that stand in it.
_Condition: TypeAlias = tuple[str, tuple[str, ...]]


class Scope(NamedTuple):
    """What is asked about.

    - `within`: records, folders and categories by their path, each with all that is below it; None is everything, and
      nothing in it is nothing.
    - `sessions`: sessions with all that is theirs, by id, besides.
    - `corpora`: the logs that were asked for by name.
    - `user`: only sessions of this user's.
    """

    within: tuple[str, ...] | None = None
    sessions: tuple[str, ...] = ()
    corpora: tuple[int, ...] = ()
    user: str | None = None


class _Row(NamedTuple):
    """A passage that is an answer."""

    score: float
    at: int | None
    ref: str
    seq: int
    key: str
    role: str | None
    session: str | None
    number: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts as the statement below does."""
        return self.score, self.at is None, -(self.at or 0), self.ref, self.seq, self.key


def ask(db: sqlite3.Connection, query: Query, scope: Scope, limit: int | None, offset: int) -> list[SearchHit]:
    """The hits from the `offset`th on, the best first."""
    # What counts no further than SQLite does.
    end = None if limit is None else min(limit + offset, sys.maxsize)
    rows: list[_Row] = []
    if scope.within is None or scope.within or scope.sessions:
        rows += _rows(db, MAIN, query, _conditions(db, scope), end)
    for corpus in scope.corpora:
        rows += _rows(db, corpus, query, _of_user(scope), end)
    page = sorted(rows, key=lambda row: row.rank)[offset:end]
    return [_hit(db, row, query) for row in page]


def _rows(
    db: sqlite3.Connection, corpus: int, query: Query, conditions: Iterable[_Condition], end: int | None
) -> Iterator[_Row]:
    chosen = list(conditions)
    words = f"words_{corpus}"
    # CROSS keeps SQLite from beginning with the sources, which are many.
    statement = (
        f"SELECT bm25({words}) AS score, p.at, s.ref, p.seq, p.key, p.role, s.session, p.id "
        f"FROM {words} CROSS JOIN passage p ON p.id = {words}.rowid CROSS JOIN source s ON s.id = p.source "
        f"WHERE {words} MATCH ?{''.join(f' AND {condition}' for condition, _ in chosen)} "
        "ORDER BY score, p.at DESC, s.ref, p.seq, p.key LIMIT ?"
    )
    values = [value for _, values in chosen for value in values]
    return (_Row(*row) for row in db.execute(statement, (query.match(), *values, _ALL if end is None else end)))


def _conditions(db: sqlite3.Connection, scope: Scope) -> Iterable[_Condition]:
    yield from _of_user(scope)
    if scope.within is not None and len(scope.within) + len(scope.sessions) > _MOST_PLACES:
        yield f"p.source IN ({', '.join(map(str, _sources(db, scope)))})", ()
    elif scope.within is not None:
        within = [condition for path in scope.within for condition in _within(path)]
        sessions = [("s.session = ?", (session,)) for session in scope.sessions]
        either = [*within, *sessions]
        yield f"({' OR '.join(text for text, _ in either)})", tuple(value for _, values in either for value in values)


def _within(path: str) -> Iterable[_Condition]:
    yield "s.ref IN (?, ?, ?, ?)", (path, *(path + suffix for suffix in (JSON, MARKDOWN, LOG)))
    # The character behind "/" ends what begins with the path as a folder.
    yield "(s.ref > ? AND s.ref < ?)", (f"{path}/", f"{path}0")


def _sources(db: sqlite3.Connection, scope: Scope) -> list[int]:
    """The sources that are asked about, one by one: SQLite takes no condition of any length."""
    one = Scope(())
    scopes = [one._replace(within=(path,)) for path in scope.within or ()]
    scopes += [one._replace(sessions=(session,)) for session in scope.sessions]
    found: set[int] = set()
    for each in scopes:
        for condition, values in _conditions(db, each):
            found.update(number for (number,) in db.execute(f"SELECT id FROM source s WHERE {condition}", values))
    return sorted(found)


def _of_user(scope: Scope) -> Iterable[_Condition]:
    if scope.user is not None and not scope.user.isascii() and any("\ud800" <= each <= "\udfff" for each in scope.user):
        # Half a character, which no file holds and SQLite takes no text with: nobody is called so.
        yield "0", ()
    elif scope.user is not None:
        yield "s.session IN (SELECT session FROM source WHERE user = ?)", (scope.user,)


def _hit(db: sqlite3.Connection, row: _Row, query: Query) -> SearchHit:
    (packed,) = db.execute("SELECT parts FROM body WHERE id = ?", (row.number,)).fetchone()
    snippet = snippet_of(parts_of(packed), query.phrases)
    return SearchHit(
        place=row.ref,
        session=row.session,
        message_id=row.key if row.role is not None else None,
        role=row.role,
        seq=row.seq or None,
        field=snippet.field,
        line=snippet.line or None,
        snippet=snippet.text,
        spans=snippet.spans,
        score=-row.score,
        at=from_microseconds(row.at),
    )
