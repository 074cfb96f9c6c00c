"""What fsstate and its peers are measured through: one interface, each used as its own documentation recommends.

A contender is opened on a folder of its own, may be opened there again by another process, and does what its methods
say; one that cannot leaves the method as `Contender` has it. `durability` says what is certain when a save returns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from tests.benchmarks.population import Document

__all__ = ["Contender", "matching", "newest", "stamp"]


class Contender:
    """What is measured. Documents stand under names; messages are those of one conversation."""

    name: ClassVar[str]
    durability: ClassVar[str]
    # Whether a save has reached the disk when it returns.
    flushes: ClassVar[bool]
    # Another one with other flushes, which makes no difference to reads.
    twin: ClassVar[bool] = False
    # With more documents than this it takes so long that nobody would.
    most: ClassVar[int] = 100_000

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def close(self) -> None:
        """Give back what was opened."""

    def fill(self, documents: Mapping[str, Document]) -> None:
        """Put many documents there, by the quickest way that there is."""
        raise NotImplementedError

    def save(self, name: str, document: Document) -> object:
        """Replace one document."""
        raise NotImplementedError

    def load(self, name: str) -> object:
        """Read one document."""
        raise NotImplementedError

    def converse(self, texts: Iterable[str]) -> None:
        """Put many messages there."""
        raise NotImplementedError

    def archive(self, texts: Iterable[str]) -> None:
        """Put many messages there, of many conversations where it tells them apart."""
        self.converse(texts)

    def append(self, text: str) -> object:
        """Append one message."""
        raise NotImplementedError

    def conversation(self) -> object:
        """Read all messages."""
        raise NotImplementedError

    def page(self, limit: int) -> object:
        """Read the documents that were updated last."""
        raise NotImplementedError

    def query(self, status: str, limit: int) -> object:
        """Read those with a status that were updated last."""
        raise NotImplementedError

    def prune(self, before: datetime) -> object:
        """Delete the documents that were last updated before then."""
        raise NotImplementedError

    def search(self, words: str) -> object:
        """Find ten messages with these words."""
        raise NotImplementedError

    @classmethod
    def can(cls, method: str) -> bool:
        """Whether it has a way to do that. Asked of the class: making one may need what is not installed."""
        return getattr(cls, method) is not getattr(Contender, method)


# What those do by hand who cannot order or search by themselves.


def newest(documents: Iterable[Document], limit: int) -> list[Document]:
    return sorted(documents, key=lambda document: str(document["updated_at"]), reverse=True)[:limit]


def matching(texts: Iterable[str], words: str) -> list[str]:
    wanted = words.split()
    found = (text for text in texts if all(word in text.split() for word in wanted))
    return list(itertools.islice(found, 10))


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
