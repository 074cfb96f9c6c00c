"""What a place that keeps records must do: the `Backend` protocol and the few types it speaks in.

Two kinds of record exist. A *document* is replaced as a whole; a *log* grows at its end and is trimmed at its start.
A backend deals in bytes: what they mean is the business of the floors above.

Every backend guarantees:

1. A write that returned is durable, as far as its options say so.
2. One writer per record at a time, across tasks, threads and processes. Readers never wait.
3. A document is read whole, as the old or the new version. A log is read as a prefix of what was appended.
4. A log's seq starts at 1, grows strictly, and is never given out twice, not even after a trim of everything.
5. A failed operation raises and leaves the record as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from fsstate.errors import CorruptRecordError, FsStateError, StorageError
from fsstate.options import StoreOptions

if TYPE_CHECKING:
    import sqlite3

    from fsstate.mounts import FileSystem

__all__ = [
    "ENTRY_BEGINNING",
    "JSON",
    "LOG",
    "MARKDOWN",
    "TRIM_MARKER",
    "Appended",
    "Backend",
    "BadLine",
    "Blob",
    "Cache",
    "Change",
    "Compose",
    "Contents",
    "Footprint",
    "Held",
    "LogLine",
    "Move",
    "Moved",
    "Oddity",
    "Outcome",
    "Ref",
    "Stamps",
    "State",
    "Stored",
    "Suffix",
    "Survey",
    "Torn",
    "Unknown",
    "Upkeep",
    "Visit",
    "as_it_is",
]

R = TypeVar("R")

Suffix: TypeAlias = Literal[".json", ".md", ".jsonl"]

JSON: Final[Suffix] = ".json"
MARKDOWN: Final[Suffix] = ".md"
LOG: Final[Suffix] = ".jsonl"

# On disk: do not rename. How the lines of entries begin that fsstate writes.
ENTRY_BEGINNING: Final = b'{"seq":'
# On disk: do not rename. An entry that stands for the entries that a trim removed, so that their seqs are not reused.
TRIM_MARKER: Final = b'"fsstate":"trimmed"'


class Ref(NamedTuple):
    """The address of a record: `teams/red/agents`, `planner`, `.json`. Its parts were checked by the caller."""

    category: str
    name: str
    suffix: Suffix

    def __str__(self) -> str:
        return f"{self.category}/{self.name}{self.suffix}"

    @property
    def belongings(self) -> str:
        """The category of what belongs to a document: it goes with the document."""
        return f"{self.category}/{self.name}"


class Blob:
    """A document as it stood at one moment."""

    __slots__ = ("_revision", "data", "lossless")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._revision: str | None = None
        # Set by the decoder once it knows that parsing these bytes loses nothing; spares the check on the next load.
        self.lossless = False

    @property
    def revision(self) -> str:
        """The content's hash: 40 hex digits, the same that `git hash-object` prints for the file."""
        if self._revision is None:
            digest = hashlib.sha1(b"blob %d\0" % len(self.data), usedforsecurity=False)
            digest.update(self.data)
            self._revision = digest.hexdigest()
        return self._revision


class Unknown:
    """The answer of `peek` when only a read can tell."""


class LogLine(NamedTuple):
    """One entry of a log: its seq, and the whole JSON object as it stands in the line, seq included."""

    seq: int
    data: bytes


class BadLine(NamedTuple):
    """A line that is no entry. `offset` counts bytes from 0, `line` from 1 (None when reading began further on)."""

    data: bytes
    reason: str
    offset: int
    line: int | None
    column: int | None


# How the logs that belong to a document look, by their paths below its folder, without the suffix.
Stamps: TypeAlias = Mapping[str, tuple[int, ...] | None]


class Survey(NamedTuple):
    """What a look at a category shows beside an earlier one.

    - `changed`: the names of the records that are new or look other than before, each with how the logs look that
      belong to it; None where they were not looked at.
    - `gone`: the names of those that are no longer there, or never were more than a folder.
    - `kept`: the keys of what was known and still holds; all other keys are to be forgotten.
    - `stretches`: what is to be remembered besides those, by its keys.
    """

    changed: Mapping[str, Stamps | None]
    gone: set[str]
    kept: set[int]
    stretches: dict[int, bytes]


class State(NamedTuple):
    """What a cache's content is called: two are equal only if nobody wrote in between, and it is the same content."""

    born: str
    writes: int


class Visit(NamedTuple):
    """A cache, open for one piece of work: its content is called `state` now, and `after` once the work is done."""

    db: sqlite3.Connection
    state: State
    after: State


class Cache(Protocol):
    """A database for what can be computed again, shared by all processes. It may be empty at any moment.

    Work is done in one transaction, and from the beginning again if the database turned out to be broken: it must not
    count on having been done once. Its errors go on to the caller; the database's own never do.
    """

    def exists(self) -> bool:
        """Whether anything was kept. Makes nothing."""
        ...

    def read(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes nothing."""
        ...

    def write(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes, all or nothing, while nobody else writes."""
        ...


class Contents(Protocol):
    """What documents held when they were handed out with their revision: a merge begins with it.

    Of any number only the last are known. A content is known by its revision alone, whichever record held it.
    """

    def remember(self, blob: Blob) -> str:
        """Remember a content, and return its revision."""
        ...

    def find(self, revision: str) -> Blob | None:
        """The content with this revision, or None when it is no longer known."""
        ...


class Stored(NamedTuple):
    """One folder, a category or a place below `.fsstate`: its files by their whole names, and their bytes."""

    category: str
    files: list[tuple[str, int]]


class Oddity(NamedTuple):
    """A file or folder that is not as a store makes them, by its path below the root.

    `kind` is "symlink", "special" (a pipe, a socket, a device), "loose" (others may read or write it who may not do so
    with what the store makes), "unreadable" (its owner may not), or "hidden" (a folder that its owner may not look
    into). `told` says where a link leads to, or the mode.
    """

    kind: str
    path: str
    told: str
    identity: tuple[int, ...]


class Torn(NamedTuple):
    """What was taken out of a log: so many pieces of it, and their bytes in all."""

    pieces: int
    bytes: int


class Upkeep(Protocol):
    """Looks after files, which may be damaged. Looking writes nothing; what mends looks again, under their locks.

    Paths are below the root. `to` is a category that is free: what is put there was taken out of the store.
    """

    def mark_flaw(self) -> FsStateError | None:
        """What is wrong with what says that this is a store, and which format it has."""
        ...

    def is_marked(self) -> bool:
        """Whether anything says that this is a store."""
        ...

    def is_writable(self) -> bool:
        """Whether files may be made here."""
        ...

    def oddities(self) -> Iterator[Oddity]:
        """What is no plain file or folder, or has a mode of its own; a folder before what is in it."""
        ...

    def leftovers(self) -> list[str]:
        """What writers that died had begun to write."""
        ...

    def stale_locks(self) -> list[str]:
        """Lock files that nobody holds."""
        ...

    def useless_caches(self) -> list[str]:
        """Caches that the next use throws away and makes again."""
        ...

    def tail_flaw(self, ref: Ref) -> BadLine | None:
        """What stands behind the last entry of a log while nobody writes to it; None also where somebody does."""
        ...

    def lines(self, ref: Ref) -> Iterator[tuple[int, int, LogLine | BadLine]]:
        """The lines of a log but for what `tail_flaw` tells of, each with its number and its offset."""
        ...

    def may_take(self, line: BadLine) -> bool:
        """Whether `take_lines` would take a line out: it is no JSON, and no part of a merge under way."""
        ...

    def file_system(self) -> FileSystem:
        """What the file system does. Tries it out in a folder of its own where there is a store that may be written."""
        ...

    def remove(self, path: str) -> bool:
        """Remove what `leftovers`, `stale_locks` or `useless_caches` told of, if it is still so."""
        ...

    def set_mode(self, oddity: Oddity) -> str | None:
        """Give a loose or unreadable file or folder the mode it should have, and tell it; None if it has it by now."""
        ...

    def take_link(self, oddity: Oddity, to: str) -> bool:
        """Move a symlink or special file away, if it is still there."""
        ...

    def take_folder(self, owner: Ref, to: str) -> bool:
        """Move away what belongs to a document that does not exist, if it still does not."""
        ...

    def take_lines(self, ref: Ref, to: str) -> Torn | None:
        """Take out of a log what is no JSON, and put it aside first; None when there is nothing of the kind by now.

        A log in which no line is an entry, or was one, is left alone: it may be another program's.
        """
        ...


class Held(Protocol):
    """A record lock in the caller's hands. Not bound to the thread that took it."""

    ref: Ref

    def bind_to_thread(self) -> None:
        """Let this thread fail at once, instead of waiting for itself, when it asks for the same lock again."""
        ...

    def release(self) -> None:
        """Give the lock back. A second call does nothing."""
        ...


# Given what a document holds now (None: absent), says what it shall hold (None: absent). Called under the record's
# lock, and again on the fresh content when the file changed behind the lock. What it raises ends the operation.
Change: TypeAlias = Callable[[Blob | None], bytes | None]


def as_it_is(blob: Blob | None) -> bytes | None:
    """The `Change` that changes nothing, and so makes last what stands there: who put it there may have been killed."""
    return None if blob is None else blob.data


# Given a log's last entry (None: no entry yet), says what to append: JSON objects without seq. Called under the
# log's lock, possibly with other callers' appends in the same breath.
Compose: TypeAlias = Callable[[LogLine | None], Sequence[bytes]]

# What became of one of many changes: the document as it stands now (None: absent), or why it was not changed.
Outcome: TypeAlias = Blob | Exception | None


class Footprint(NamedTuple):
    """What a document takes with all that belongs to it: so many bytes.

    `mark` differs once anything of it was touched, and means the same to every process. None: the files are so young
    that a change might not show yet; look again in a moment.
    """

    size: int
    mark: bytes | None
    has_belongings: bool


class Move(NamedTuple):
    """A document that is to go, unless it was touched since it had the `mark` (see `Footprint`; None: in any case).

    - `belongings`: the category that goes with it. None: it goes alone.
    - `to`: where to, which must be free; the belongings go to `to.belongings`. None: nowhere, it is deleted.
    """

    ref: Ref
    belongings: str | None
    to: Ref | None
    mark: bytes | None


# What became of one of many moves: whether it was made. None: it was touched. An exception: why not.
Moved: TypeAlias = bool | Exception | None


# What became of one of many appends: the seqs given out, or why nothing was appended.
Appended: TypeAlias = range | Exception


class Backend(Protocol):
    """A place that keeps documents and logs. All methods are safe to call from any thread.

    `owner`, where it is accepted, is the document that the record belongs to: the write is refused with NotFoundError
    when the owner does not exist, and the owner's `delete_with` waits for the write or comes wholly before it.
    """

    @property
    def options(self) -> StoreOptions:
        """The options that it was made with."""
        ...

    @property
    def contents(self) -> Contents:
        """What was handed out with a revision, for all collections over this backend."""
        ...

    def read(self, ref: Ref) -> Blob | None:
        """The document, or None when absent."""
        ...

    def peek(self, ref: Ref) -> Blob | Unknown | None:
        """The document if that is known without any wait (an unchanged file that was read before); else Unknown."""
        ...

    def change(
        self,
        ref: Ref,
        change: Change,
        *,
        held: Held | None = None,
        owner: Ref | None = None,
        timeout: float | None = None,
    ) -> Blob | None:
        """Read, change and write one document under its lock (or under `held`). Returns what it holds afterwards.

        Nothing is written when `change` returns the bytes that are there. Raises LockTimeoutError after `timeout`
        seconds (None: the options' default).
        """
        ...

    def change_many(self, changes: Sequence[tuple[Ref, Change]], *, timeout: float | None = None) -> list[Outcome]:
        """`change` for each, sharing the flushes. Each document is as durable as with `change`; they are no unit.

        They are begun in this order, and a few are made one after the other.

        A record that stays locked for `timeout` seconds (None: the options' default) has LockTimeoutError as its
        outcome; the others do not wait for it when `timeout` is 0.
        """
        ...

    def names(self, category: str, suffix: Suffix, refused: list[CorruptRecordError] | None = None) -> list[str]:
        """The names of a category's records of one kind, sorted. Names that fsstate would refuse are left out.

        What was left out is put into `refused`; without it, it is logged as a warning, once in a process. Files that
        begin with a dot are nobody's records, and conflict copies are none: they are left out without a word.
        """
        ...

    def copies(self, category: str, refused: list[StorageError], *, below: bool) -> Iterator[Ref]:
        """The conflict copies in a category, and in all `below` it if asked for; in all there are when it is empty.

        A folder that cannot be listed goes to `refused`. Reads none of them.
        """
        ...

    def categories(self, below: str = "") -> list[str]:
        """The names of the categories directly below `below` (the top level when empty), sorted.

        Names that fsstate would refuse are left out, and logged as `names` does.
        """
        ...

    def has_any(self, category: str) -> bool:
        """Whether anything stands in a category or below, also what is no record."""
        ...

    def survey(
        self,
        category: str,
        suffix: Suffix,
        known: Mapping[int, bytes],
        *,
        belongings: bool,
        documents: bool = False,
    ) -> Survey:
        """Which records of a category look other than when `known` was remembered, told without reading any.

        `known` is what the last survey, with the same arguments, gave to keep and to remember; nothing, at the first.
        With `belongings` a record also looks otherwise when a log that belongs to it does, or anything was made,
        replaced or removed in a folder of its own; with `documents`, too, when a document in there was written in its
        place, as some editors do. Names that fsstate would refuse are treated as `names` does.
        """
        ...

    def look(self, ref: Ref) -> tuple[int, ...] | None:
        """How a record of any kind looks; None when it does not exist. Costs no read.

        The same as an earlier look only if the record holds what it held then. Of a log, the first two items are those
        of its stamp.
        """
        ...

    def lock(self, ref: Ref, *, timeout: float | None = None) -> Held:
        """Take a document's lock. Raises LockTimeoutError after `timeout` seconds (None: the options' default)."""
        ...

    def is_locked(self, ref: Ref) -> bool:
        """Whether anybody holds the lock of a document."""
        ...

    def append(self, ref: Ref, compose: Compose, *, owner: Ref | None = None) -> range:
        """Append what `compose` says. Returns the seqs given out. Concurrent appends share their flushes."""
        ...

    def append_many(self, ref: Ref, composes: Sequence[Compose], *, owner: Ref | None = None) -> list[Appended]:
        """`append` for each in order with one flush. One that raises does not stop the others."""
        ...

    def entries(self, ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        """The entries with a seq greater than `after`, in file order, without reading what lies before them."""
        ...

    def entries_backwards(self, ref: Ref) -> Iterator[LogLine | BadLine]:
        """The entries from the last to the first, reading only as far as the caller iterates."""
        ...

    def log_stamp(self, ref: Ref) -> tuple[int, ...] | None:
        """A value that changes whenever the log does; None when it does not exist. Costs no read.

        With more than one item, the first tells the file from every other and the second is its size in bytes: 0
        only while the log never had an entry.
        """
        ...

    def checksum(self, ref: Ref, size: int) -> int:
        """A number that tells whether the first `size` bytes of a log are what they were: the last 8 MB of them."""
        ...

    def trim(
        self,
        ref: Ref,
        before: int,
        *,
        owner: Ref | None = None,
        to: Ref | None = None,
        confirm: Callable[[], bool] | None = None,
    ) -> int:
        """Remove the entries with a seq lower than `before`. Returns how many went. Reclaims the space.

        With `to`, a log that does not exist, they stand there before they go, with the bad lines between them. With
        `confirm`, which is asked while nobody else writes, nothing happens unless it says True.
        """
        ...

    def delete_log(self, ref: Ref) -> bool:
        """Delete a log. Returns whether it existed."""
        ...

    def claim_log(self, ref: Ref, *, owner: Ref | None = None) -> AbstractContextManager[None]:
        """Mark a log as being written by the caller until the block ends or its process dies; see `is_claimed`."""
        ...

    def is_claimed(self, ref: Ref) -> bool:
        """Whether a living writer, in any process, has claimed the log."""
        ...

    def delete_with(
        self, ref: Ref, belongings: str, confirm: Callable[[], bool], *, timeout: float | None = None
    ) -> bool:
        """Delete a document and the category of what belongs to it, as one: the document's end is the commit point.

        `confirm` is asked while nobody else can write to either; nothing happens unless it says True.
        Raises LockTimeoutError when the document is locked or one of the logs is claimed for longer than `timeout`.
        Returns whether the document was deleted.
        """
        ...

    def footprint(self, ref: Ref, belongings: str | None) -> Footprint | None:
        """What a document takes with a category of what belongs to it (None: by itself); None when it is absent."""
        ...

    def move_many(self, moves: Sequence[Move], *, timeout: float | None = None) -> list[Moved]:
        """`delete_with` for each, or as much of it as the move says, sharing the flushes.

        What has a place to go to is at every moment, and after a power cut, in the one or the other, or in both; what
        belongs to it follows once the document itself has gone: if that was cut off, the same move again finishes it.
        All that was made is durable at return.
        A record that is in use for `timeout` seconds (None: the options' default) has LockTimeoutError as its outcome.
        """
        ...

    def put_back(self, source: Ref, target: Ref, *, owner: Ref | None = None) -> None:
        """Put a document, with what belongs to it, or the entries of a log, where `move_many` or `trim` took it from.

        A document appears with all that is its own, or not at all; entries go in front of those that are there.
        Cut off, it is finished by the next call. Raises NotFoundError when there is nothing at `source`,
        AlreadyExistsError when the place is taken, LockTimeoutError when it is locked.
        """
        ...

    def discard(self, category: str) -> bool:
        """Remove a category with all that is in it. Returns whether it existed."""
        ...

    def prepare(self) -> None:
        """Make what the first write would make besides its record, so that the place is known as a store."""
        ...

    def cache(self, name: str, schema: str) -> Cache | None:
        """A database with the tables of `schema`; None where all that would be in it costs nothing to ask again."""
        ...

    def inventory(self, refused: list[StorageError]) -> Iterator[Stored]:
        """All that is kept, folder by folder, one before those in it. Reads no record.

        A folder that cannot be looked into goes to `refused`. What changes meanwhile is told as it was or as it is.
        """
        ...

    def upkeep(self) -> Upkeep | None:
        """What looks after the place; None where there is nothing that could be damaged."""
        ...

    def location(self, ref: Ref) -> str:
        """Where a person finds the record."""
        ...

    def close(self) -> None:
        """Give back all resources. Waits for nobody; later calls raise StoreClosedError."""
        ...
