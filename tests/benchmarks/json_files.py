"""Peers that keep JSON files: TinyDB, DictDataBase, and a framework's chat history."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks import population
from tests.benchmarks.contender import Contender, matching, newest, stamp
from tests.benchmarks.population import Document
from tests.benchmarks.raw import module

__all__ = ["DictDataBase", "FileHistory", "TinyDb"]


class TinyDb(Contender):
    """TinyDB: one JSON file, read and rewritten as a whole each time."""

    name = "TinyDB"
    durability = "flushed, over the old file: a crash tears it"
    flushes = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._tinydb = module("tinydb")
        self._db = self._tinydb.TinyDB(directory / "db.json")
        self._table, self._talk = self._db.table("documents"), self._db.table("messages")

    def close(self) -> None:
        self._db.close()

    def fill(self, documents: Mapping[str, Document]) -> None:
        self._table.insert_multiple({**document, "name": name} for name, document in documents.items())

    def save(self, name: str, document: Document) -> object:
        return self._table.upsert({**document, "name": name}, self._tinydb.where("name") == name)

    def load(self, name: str) -> object:
        return self._table.get(self._tinydb.where("name") == name)

    def converse(self, texts: Iterable[str]) -> None:
        self._talk.insert_multiple({"role": "user", "content": text} for text in texts)

    def append(self, text: str) -> object:
        return self._talk.insert({"role": "user", "content": text})

    def conversation(self) -> object:
        return self._talk.all()

    def page(self, limit: int) -> object:
        return newest(self._table.all(), limit)

    def query(self, status: str, limit: int) -> object:
        # Its cache of queries would answer from memory, whatever the file holds by now.
        self._table.clear_cache()
        return newest(self._table.search(self._tinydb.where("status") == status), limit)

    def prune(self, before: datetime) -> object:
        return self._table.remove(self._tinydb.where("updated_at") < stamp(before))

    def search(self, words: str) -> object:
        return matching((each["content"] for each in self._talk), words)


class DictDataBase(Contender):
    """DictDataBase: a JSON file for each document."""

    name = "DictDataBase"
    durability = "not flushed, over the old file: a crash tears it"
    flushes = False
    # Each file that it reads costs it a lock file.
    most = 10_000

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._ddb = module("dictdatabase")

    def _at(self, *path: str, **which: Any) -> Any:
        # A setting of the whole process, in which other rows may have a folder of their own.
        self._ddb.config.storage_directory = str(self.directory / "ddb")
        return self._ddb.at(*path, **which)

    def fill(self, documents: Mapping[str, Document]) -> None:
        population.write(self.directory / "ddb" / "documents", documents.items())

    def save(self, name: str, document: Document) -> object:
        return self._at("documents", name).create(document, force_overwrite=True)

    def load(self, name: str) -> object:
        return self._at("documents", name).read()

    def converse(self, texts: Iterable[str]) -> None:
        self._at("talk").create({"messages": [{"role": "user", "content": text} for text in texts]})

    def append(self, text: str) -> object:
        with self._at("talk").session() as (session, talk):
            talk["messages"].append({"role": "user", "content": text})
            session.write()
        return None

    def conversation(self) -> object:
        return self._at("talk").read()["messages"]

    def page(self, limit: int) -> object:
        return newest(self._at("documents", "*").read().values(), limit)

    def query(self, status: str, limit: int) -> object:
        found = self._at("documents", "*", where=lambda _, document: document["status"] == status).read()
        return newest(found.values(), limit)

    def prune(self, before: datetime) -> object:
        bound = stamp(before)
        gone = self._at("documents", "*", where=lambda _, document: document["updated_at"] < bound).read()
        for name in gone:
            self._at("documents", name).delete()
        return gone

    def search(self, words: str) -> object:
        return matching((each["content"] for each in self._at("talk").read()["messages"]), words)


class FileHistory(Contender):
    """LangChain's FileChatMessageHistory: a conversation in one JSON file, rewritten at each message."""

    name = "LangChain file"
    durability = "not flushed, over the old file: a crash tears it"
    flushes = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with warnings.catch_warnings():
            # The package tells of its end when it is imported.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._core = module("langchain_core.messages")
            histories = module("langchain_community.chat_message_histories")
            self._history = histories.FileChatMessageHistory(str(directory / "talk.json"))

    def converse(self, texts: Iterable[str]) -> None:
        rows = self._core.messages_to_dict([self._core.HumanMessage(text) for text in texts])
        self._history.file_path.write_bytes(orjson.dumps(rows))

    def append(self, text: str) -> object:
        return self._history.add_message(self._core.HumanMessage(text))

    def conversation(self) -> object:
        return self._history.messages
