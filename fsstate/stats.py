"""What a store holds: counts and bytes by category, its largest sessions, how it grew, and what is left over.

- One look at each file's size, and one read of each document for the day that it tells; logs of sessions are not read.
- Days come from the times that records tell, in UTC, never from a file's mtime: `git clone` resets those.
- Nothing is locked and nothing is written. What changes meanwhile is counted as it was or as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, BadLine, Ref, Stored
from fsstate.codec import decode_bytes, decode_line
from fsstate.document_changes import PROBLEMS
from fsstate.errors import FsStateError, StorageError
from fsstate.index import Freshness
from fsstate.session_documents import CATEGORY
from fsstate.times import parse_time

if TYPE_CHECKING:
    from fsstate.migrator import Progress

__all__ = ["CategoryUsage", "Garbage", "Growth", "SessionUsage", "StoreStats", "Usage", "take_stock"]

_OWN: Final = ".fsstate"
_MARK: Final = ("store.json", ".gitignore")
# On disk: do not rename. The folders of fsstate's own.
_KINDS: Final = ("cache", "cooldowns", "locks", "quarantine", "staging", "trash")
_ORPHANED: Final = "orphaned"
# A look at the progress every so many documents costs nothing.
_STEP: Final = 500


class Usage(NamedTuple):
    """How many files, and how many bytes are in them."""

    files: int = 0
    bytes: int = 0

    def plus(self, files: int, size: int) -> Usage:
        """Both together."""
        return Usage(self.files + files, self.bytes + size)


class CategoryUsage(NamedTuple):
    """What is in one category: its records, and the files that belong to its documents, such as a session's logs.

    `others` are files that are no records: of another kind, or with a name that is refused.
    """

    category: str
    documents: Usage
    notes: Usage
    logs: Usage
    belongings: Usage
    others: Usage

    @property
    def bytes(self) -> int:
        """All bytes in it."""
        parts = (self.documents, self.notes, self.logs, self.belongings, self.others)
        return sum(part.bytes for part in parts)


class SessionUsage(NamedTuple):
    """What one session takes, with all that belongs to it. `title` is its document's."""

    id: str
    title: str | None
    bytes: int


class Growth(NamedTuple):
    """What came to a store on one day, in UTC, and is there still.

    `records` are documents whose `created_at` it was; `bytes` are theirs, with all that belongs to them now. `entries`
    are those of logs that belong to no document, by their `at`, and their bytes count as well.
    """

    day: date
    records: int = 0
    entries: int = 0
    bytes: int = 0

    def plus(self, size: int, *, records: int = 0, entries: int = 0) -> Growth:
        """Both together."""
        return Growth(self.day, self.records + records, self.entries + entries, self.bytes + size)


class Garbage(NamedTuple):
    """What may go without loss of records, or came from them.

    `kind` is "staging" (what writers who died left), "locks", "cooldowns" (of pruning in the background), "cache",
    "trash", "quarantine" (what could not be read, or was saved in the same moment as the record, and was put aside),
    "orphaned" (what belonged to a document that is gone), or "other".
    """

    kind: str
    files: int
    bytes: int


class StoreStats(NamedTuple):
    """What a store holds.

    `undated` are notes, and documents without a `created_at`; `problems` tells what could not be looked at. `freshness`
    is how many sessions the index of lists knows, and how many of them the next list reads anew; None without an index.
    """

    bytes: int
    sessions: int
    categories: list[CategoryUsage]
    largest: list[SessionUsage]
    growth: list[Growth]
    undated: Usage
    garbage: list[Garbage]
    problems: list[FsStateError]
    freshness: Freshness | None = None


def take_stock(
    backend: Backend,
    owners: Collection[str],
    today: date,
    *,
    days: int = 30,
    largest: int = 10,
    progress: Progress | None = None,
) -> StoreStats:
    """Look at all files of a store. `owners` are the categories whose folders belong to documents, there or not."""
    if days < 0 or largest < 0:
        raise ValueError(f"days and largest must be 0 or more, got days={days!r}, largest={largest!r}")
    if days > (most := (today - date.min).days):
        raise ValueError(f"days must be {most} or fewer, as many as there were before today, got {days!r}")
    refused: list[StorageError] = []
    stock = _Stock(owners)
    for folder in backend.inventory(refused):
        stock.add(folder)
    problems: list[FsStateError] = [*refused]
    growth = _Calendar(today, days)
    if days:
        _read_documents(backend, stock, growth, problems, progress)
        _read_logs(backend, stock, growth, problems)
    return StoreStats(
        bytes=sum(each.bytes for each in stock.categories.values()) + sum(each.bytes for each in stock.garbage()),
        sessions=len(stock.documents.get(CATEGORY, {})),
        categories=sorted(stock.categories.values()),
        largest=list(_largest(backend, stock, largest)),
        growth=growth.days(),
        undated=growth.undated,
        garbage=stock.garbage(),
        problems=problems,
    )


# -- sizes


class _Stock:
    """Sums up folders as they come: one before those in it."""

    def __init__(self, owners: Collection[str]) -> None:
        self.categories: dict[str, CategoryUsage] = {}
        # By category and name: the bytes of each document, with all that belongs to it.
        self.documents: dict[str, dict[str, int]] = {}
        self.logs: list[Ref] = []
        self._owners = owners
        self._garbage: dict[str, Usage] = {}

    def add(self, folder: Stored) -> None:
        """Count a folder's files where they belong."""
        if not folder.files:
            return
        if folder.category.partition("/")[0] == _OWN:
            self._add_own(folder)
            return
        owner = self._owner(folder.category)
        if owner is None:
            self._add_records(folder)
        else:
            self._add_belongings(owner, len(folder.files), sum(size for _, size in folder.files))

    def garbage(self) -> list[Garbage]:
        """What is left over, by kind."""
        return [Garbage(kind, *usage) for kind, usage in sorted(self._garbage.items())]

    def _owner(self, category: str) -> Ref | None:
        """The document that a folder belongs to, there or not; None for a category."""
        above, parts = "", category.split("/")
        for part in parts:
            if above in self._owners or part in self.documents.get(above, ()):
                return Ref(above, part, JSON)
            above = f"{above}/{part}" if above else part
        return None

    def _add_records(self, folder: Stored) -> None:
        sums: dict[str, Usage] = {}
        for file, size in folder.files:
            kind, name = _kind_of(file) if folder.category else ("", file)
            sums[kind] = sums.get(kind, Usage()).plus(1, size)
            if kind == JSON:
                self.documents.setdefault(folder.category, {})[name] = size
            elif kind == LOG:
                self.logs.append(Ref(folder.category, name, LOG))
        documents, notes, logs, others = (sums.get(kind, Usage()) for kind in (JSON, MARKDOWN, LOG, ""))
        self.categories[folder.category] = CategoryUsage(folder.category, documents, notes, logs, Usage(), others)

    def _add_belongings(self, owner: Ref, files: int, size: int) -> None:
        documents = self.documents.get(owner.category, {})
        if owner.name not in documents:
            self._throw(_ORPHANED, files, size)
            return
        documents[owner.name] += size
        usage = self.categories[owner.category]
        self.categories[owner.category] = usage._replace(belongings=usage.belongings.plus(files, size))

    def _add_own(self, folder: Stored) -> None:
        parts = folder.category.split("/")
        kind = parts[1] if len(parts) > 1 and parts[1] in _KINDS else "other"
        files = [size for file, size in folder.files if len(parts) > 1 or file not in _MARK]
        if files:
            self._throw(kind, len(files), sum(files))

    def _throw(self, kind: str, files: int, size: int) -> None:
        self._garbage[kind] = self._garbage.get(kind, Usage()).plus(files, size)


def _kind_of(file: str) -> tuple[str, str]:
    """The suffix and name of a record's file; no suffix for what is no record."""
    for suffix in (JSON, MARKDOWN, LOG):
        if file.endswith(suffix) and names.is_name(file.removesuffix(suffix)):
            return suffix, file.removesuffix(suffix)
    return "", file


def _largest(backend: Backend, stock: _Stock, number: int) -> Iterator[SessionUsage]:
    sizes = stock.documents.get(CATEGORY, {})
    for name in heapq.nlargest(number, sizes, key=lambda each: (sizes[each], each)):
        document = _read(backend, Ref(CATEGORY, name, JSON), [])
        title = document.get("title") if document else None
        yield SessionUsage(name, title if isinstance(title, str) else None, sizes[name])


# -- days


class _Calendar:
    """Growth by day: the last so many."""

    def __init__(self, today: date, days: int) -> None:
        self._days = {day: Growth(day) for day in (today - timedelta(days=back) for back in reversed(range(days)))}
        self.first = next(iter(self._days), today)
        self.undated = Usage()

    def days(self) -> list[Growth]:
        return list(self._days.values())

    def add(self, day: date | None, size: int, **what: int) -> None:
        if day is None:
            self.undated = self.undated.plus(1, size)
        elif day in self._days:
            self._days[day] = self._days[day].plus(size, **what)


def _read_documents(
    backend: Backend, stock: _Stock, growth: _Calendar, problems: list[FsStateError], progress: Progress | None
) -> None:
    total = sum(map(len, stock.documents.values()))
    every = ((category, name, size) for category, sizes in stock.documents.items() for name, size in sizes.items())
    for done, (category, name, size) in enumerate(every):
        if progress is not None and done % _STEP == 0:
            progress(done, total)
        document = _read(backend, Ref(category, name, JSON), problems)
        if document is not None:
            growth.add(_day(document, "created_at"), size, records=1)
    if progress is not None:
        progress(total, total)
    for usage in stock.categories.values():
        growth.undated = growth.undated.plus(*usage.notes)


def _read_logs(backend: Backend, stock: _Stock, growth: _Calendar, problems: list[FsStateError]) -> None:
    for ref in stock.logs:
        try:
            _read_log(backend, ref, growth)
        except StorageError as error:
            problems.append(error)


def _read_log(backend: Backend, ref: Ref, growth: _Calendar) -> None:
    for line in backend.entries_backwards(ref):
        if isinstance(line, BadLine):
            continue
        day = _day(decode_line(line.data, str(ref)), "at")
        if day is not None and day < growth.first:
            # What stands before it is older, but for clocks that were set back.
            break
        growth.add(day, len(line.data) + 1, entries=1)


def _read(backend: Backend, ref: Ref, problems: list[FsStateError]) -> dict[str, Any] | None:
    """A document, or None when it cannot be read, is no object, or went away meanwhile."""
    try:
        blob = backend.read(ref)
        found: Any = None if blob is None else decode_bytes(blob.data, backend.location(ref))
    except (*PROBLEMS, StorageError) as error:
        problems.append(error)
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _day(fields: dict[str, Any], key: str) -> date | None:
    try:
        return parse_time(fields[key]).astimezone(UTC).date()
    except (KeyError, ValueError):
        return None
