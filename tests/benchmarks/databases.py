"""Peers that keep a database: sqlite3, and diskcache over it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson

from tests.benchmarks.contender import Contender, matching, newest, stamp
from tests.benchmarks.crowds import FIND, full_text
from tests.benchmarks.population import Document
from tests.benchmarks.raw import module

__all__ = ["DiskCache", "DiskCacheFlushed", "Sqlite"]


class Sqlite(Contender):
    """The standard library's sqlite3: a table of JSON texts with the indexes that its queries need."""

    name = "sqlite3"
    durability = "flushed: WAL, synchronous=FULL"
    flushes = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        # What commits by itself, a statement each.
        self._connection = sqlite3.connect(directory / "store.db", isolation_level=None)
        self._texts: sqlite3.Connection | None = None
        for statement in _SCHEMA:
            self._connection.execute(statement)

    def close(self) -> None:
        self._connection.close()
        if self._texts is not None:
            self._texts.close()

    def fill(self, documents: Mapping[str, Document]) -> None:
        rows = (_row(name, document) for name, document in documents.items())
        self._many("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", rows)

    def save(self, name: str, document: Document) -> object:
        return self._connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", _row(name, document))

    def load(self, name: str) -> object:
        found = self._connection.execute("SELECT body FROM documents WHERE name = ?", (name,))
        return orjson.loads(found.fetchone()[0])

    def converse(self, texts: Iterable[str]) -> None:
        self._many("INSERT INTO messages (body) VALUES (?)", ((_message(text),) for text in texts))

    def append(self, text: str) -> object:
        return self._connection.execute("INSERT INTO messages (body) VALUES (?)", (_message(text),))

    def conversation(self) -> object:
        return [orjson.loads(body) for (body,) in self._connection.execute("SELECT body FROM messages ORDER BY seq")]

    def page(self, limit: int) -> object:
        return self._bodies("SELECT body FROM documents ORDER BY updated_at DESC LIMIT ?", limit)

    def query(self, status: str, limit: int) -> object:
        words = "SELECT body FROM documents WHERE status = ? ORDER BY updated_at DESC LIMIT ?"
        return self._bodies(words, status, limit)

    def prune(self, before: datetime) -> object:
        return self._connection.execute("DELETE FROM documents WHERE updated_at < ?", (stamp(before),))

    def search(self, words: str) -> object:
        if self._texts is None:
            (count,) = self._connection.execute("SELECT count(*) FROM messages").fetchone()
            self._texts = full_text(self.directory / "texts.db", count)
        return self._texts.execute(FIND, (words,)).fetchall()

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")

    def _bodies(self, statement: str, *values: object) -> list[Document]:
        return [orjson.loads(body) for (body,) in self._connection.execute(statement, values)]


_SCHEMA: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, status TEXT, updated_at TEXT, body TEXT)",
    "CREATE INDEX IF NOT EXISTS by_time ON documents (updated_at)",
    "CREATE INDEX IF NOT EXISTS by_status ON documents (status, updated_at)",
    "CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY, body TEXT)",
)


def _row(name: str, document: Document) -> tuple[Any, ...]:
    return name, document.get("status"), document.get("updated_at"), orjson.dumps(document).decode()


def _message(text: str) -> str:
    return orjson.dumps({"role": "user", "content": text}).decode()


class DiskCache(Contender):
    """diskcache: an Index of documents, and a Deque of messages, over one Cache that drops nothing by itself."""

    name = "diskcache"
    durability = "not flushed: WAL, synchronous=NORMAL, its default"
    flushes = False
    settings: ClassVar[dict[str, object]] = {}

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        diskcache = module("diskcache")
        self._cache = diskcache.Cache(str(directory / "cache"), eviction_policy="none", **self.settings)
        talk = diskcache.Cache(str(directory / "talk"), eviction_policy="none", **self.settings)
        self._index = diskcache.Index.fromcache(self._cache)
        self._deque = diskcache.Deque.fromcache(talk)
        self._open = [self._cache, talk]

    def close(self) -> None:
        for cache in self._open:
            cache.close()

    def fill(self, documents: Mapping[str, Document]) -> None:
        with self._index.transact():
            for name, document in documents.items():
                self._index[name] = document

    def save(self, name: str, document: Document) -> object:
        self._index[name] = document
        return None

    def load(self, name: str) -> object:
        return self._index[name]

    def converse(self, texts: Iterable[str]) -> None:
        with self._deque.transact():
            for text in texts:
                self.append(text)

    def append(self, text: str) -> object:
        return self._deque.append({"role": "user", "content": text})

    def conversation(self) -> object:
        return list(self._deque)

    def page(self, limit: int) -> object:
        return newest(self._index.values(), limit)

    def query(self, status: str, limit: int) -> object:
        return newest((each for each in self._index.values() if each["status"] == status), limit)

    def prune(self, before: datetime) -> object:
        bound = stamp(before)
        gone = [name for name, document in self._index.items() if document["updated_at"] < bound]
        with self._index.transact():
            for name in gone:
                del self._index[name]
        return gone

    def search(self, words: str) -> object:
        return matching((each["content"] for each in self._deque), words)


class DiskCacheFlushed(DiskCache):
    """diskcache, told to flush."""

    name = "diskcache, FULL"
    durability = "flushed: WAL, sqlite_synchronous=2"
    flushes = True
    twin = True
    settings: ClassVar[dict[str, object]] = {"sqlite_synchronous": 2}
