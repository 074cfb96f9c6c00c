"""All who are measured beside one another: fsstate, as it comes and without flushes, and its peers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import fsstate
from tests.benchmarks import population
from tests.benchmarks.contender import Contender
from tests.benchmarks.crowds import indexed, prune_older
from tests.benchmarks.databases import DiskCache, DiskCacheFlushed, Sqlite
from tests.benchmarks.interleave import Unavailable
from tests.benchmarks.json_files import DictDataBase, FileHistory, TinyDb
from tests.benchmarks.population import Document

__all__ = ["CONTENDERS", "OURS", "FsState", "FsStateUnflushed", "by_name"]

# Messages of one conversation, where there are many.
_TALK: Final = 100


class FsState(Contender):
    """fsstate, as it comes."""

    name = "fsstate"
    durability = "flushed: a file, then its folder; a log once"
    flushes = True
    options = fsstate.StoreOptions()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._store = fsstate.Store(directory / "state", self.options)
        self._documents = self._store.collection("sessions")
        self._talk: fsstate.Messages | None = None

    def close(self) -> None:
        self._store.close()

    def fill(self, documents: Mapping[str, Document]) -> None:
        # As its first save would: a folder of documents that is no store yet keeps no index.
        self._store.backend.prepare()
        population.write(self.directory / "state" / "sessions", documents.items())

    def save(self, name: str, document: Document) -> object:
        return self._documents.put(name, document)

    def load(self, name: str) -> object:
        return self._documents[name]

    @property
    def _messages(self) -> fsstate.Messages:
        if self._talk is None:
            self._talk = self._store.session(self._store.sessions.get_or_create("talk").id).messages
        return self._talk

    def converse(self, texts: Iterable[str]) -> None:
        path = self.directory / "state" / "sessions"
        self._store.sessions.get_or_create("talk")
        population.write_messages(path, "talk", texts, "2026-01-01T00:00:00.000000Z")

    def archive(self, texts: Iterable[str]) -> None:
        waiting = list(texts)
        path = self.directory / "state" / "sessions"
        names = population.sessions(-(-len(waiting) // _TALK))
        population.write(path, names.items())
        for first, name in zip(range(0, len(waiting), _TALK), names, strict=True):
            population.write_messages(path, name, waiting[first : first + _TALK], names[name]["updated_at"])

    def append(self, text: str) -> object:
        return self._messages.append("user", text)

    def conversation(self) -> object:
        return self._messages.list()

    def page(self, limit: int) -> object:
        return self._store.sessions.list(limit=limit)

    def query(self, status: str, limit: int) -> object:
        collection = indexed(self._store, "sessions", ("status", "updated_at"))
        return collection.query(where={"status": status}, order_by="-updated_at", limit=limit)

    def prune(self, before: datetime) -> object:
        return prune_older(self._store, before)

    def search(self, words: str) -> object:
        if not hasattr(self._store, "search"):
            raise Unavailable("this fsstate has no search")
        anything: Any = self._store
        return anything.search(words, limit=10)


class FsStateUnflushed(FsState):
    """fsstate without flushes, for a fair look at those who have none."""

    name = "fsstate, process"
    durability = 'not flushed: StoreOptions(durability="process")'
    flushes = False
    twin = True
    options = fsstate.StoreOptions(durability="process")


OURS: Final = FsState
CONTENDERS: Final[tuple[type[Contender], ...]] = (
    FsState,
    FsStateUnflushed,
    Sqlite,
    DiskCache,
    DiskCacheFlushed,
    TinyDb,
    DictDataBase,
    FileHistory,
)


def by_name(name: str) -> type[Contender]:
    return next(each for each in CONTENDERS if each.__name__ == name)
