"""Logs: entries that are appended and never changed.

- An append is durable when it returns, and costs the same however long the log is.
- `seq` numbers entries from 1, grows strictly, and is never given out twice, not even after a trim of everything.
- Order is the order of the file. Times say when, never in what order: clocks jump.
- A line that is no entry is logged as a warning and skipped, never hides its neighbours, and `problems()` names it.
- People may edit a log while it is appended to, with any editor, git or rsync. Their edits stay, and so does what was
  appended while they edited. An append is told only when its entry stands in the file that the path leads to. Should an
  editor that had read the log before save over it after that, the entries that it had not seen are put back at the end,
  with a warning: by the writer's next append, or when its store is closed. They keep their seqs unless another entry
  has got one. What a person removes stays removed, also the last entries, and so does an older version from git.
- Out of reach: an editor that read the log more than two seconds before an entry came, saves over it much later, and
  does not mind that the file has changed (vim, nano and VS Code ask first); what another process appended that died, or
  was closed, before such an editor saved; and, of what git replaces by an older version, the entries of the instant
  between its reading and its writing. A process does not give out a seq again; but when an edit removes the last
  entries, other processes cannot know their seqs.

`Log` deals in JSON objects as they stand in the lines; `Journal` in entries with a kind and a time.
All methods may be called from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from fsstate import codec, names
from fsstate.backends.base import LOG, Backend, BadLine, Compose, LogLine, Ref
from fsstate.errors import CorruptRecordError, InvalidValueError
from fsstate.retention import PrunePlan, PrunePolicy, PruneReport
from fsstate.times import Clock, format_time, now, parse_time
from fsstate.trimming import Trimmer

__all__ = ["Entry", "Journal", "Log"]

# On disk: do not rename. The backend writes `seq`; `fsstate` marks lines that are no entries.
_RESERVED: Final = ("seq", "fsstate")

_log = logging.getLogger("fsstate")


class Log:
    """A log of JSON objects. What is read holds `seq` as its first key."""

    def __init__(self, backend: Backend, ref: Ref, *, owner: Ref | None = None) -> None:
        self.ref = Ref(names.check_category(ref.category), names.check_name(ref.name), LOG)
        self.owner = owner
        self.backend = self._backend = backend
        # Where a person finds the log.
        self.path = backend.location(self.ref)
        self._counted: tuple[tuple[int, ...] | None, int] = (None, 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.ref)!r})"

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Return the line for a row. Raises InvalidValueError for reserved keys and what JSON cannot hold."""
        for key in _RESERVED:
            if key in row:
                raise InvalidValueError(f"{key!r} is reserved in logs; choose another name", at=codec.path_to("$", key))
        return codec.encode_line(row, where=self.path)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> range:
        """Append rows with one flush, all or none, and return their seqs."""
        return self.append_lines([self.encode(row) for row in rows])

    def append_lines(self, lines: Sequence[bytes]) -> range:
        """Append what `encode` gave."""
        return self._backend.append(self.ref, lambda _: lines, owner=self.owner)

    def append_next(self, make: Callable[[dict[str, Any] | None], Iterable[Mapping[str, Any]]]) -> range:
        """Append what `make` makes of the last entry (None: there is none), under the log's lock."""
        return self._backend.append(self.ref, self.compose_next(make), owner=self.owner)

    def compose_next(self, make: Callable[[dict[str, Any] | None], Iterable[Mapping[str, Any]]]) -> Compose:
        """Return `append_next` as a piece of work for the backend."""
        return lambda last: [self.encode(row) for row in make(None if last is None else self._decode(last))]

    def rows(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Iterate over the entries with a seq greater than `after`, in the order of the file."""
        return self._readable(self._entries(after))

    def lines(self, after: int = 0) -> Iterator[LogLine | BadLine]:
        """Iterate over the lines that `rows` reads, as they stand."""
        return self._entries(after)

    def readable(self, lines: Iterator[LogLine | BadLine]) -> Iterator[dict[str, Any]]:
        """Iterate over the rows in such lines. One that cannot be read is logged as a warning and skipped."""
        return self._readable(lines)

    def rows_backwards(self) -> Iterator[dict[str, Any]]:
        """Iterate over the entries from the last to the first, reading only as far as asked."""
        return self._readable(self._entries_backwards())

    def stamp(self) -> tuple[int, ...] | None:
        """Return a value that changes whenever what is read does; None when there is no log. Reads no entry."""
        return self._backend.log_stamp(self.ref)

    def count(self) -> int:
        """Return the number of entries. Reads the log, unless it is as it was at the last count."""
        # The stamp first: if the log grows in between, the next count sees another stamp and counts again.
        stamp = self.stamp()
        if stamp is None:
            return 0
        counted, number = self._counted
        if counted != stamp:
            number = sum(1 for line in self._entries() if isinstance(line, LogLine))
            self._counted = stamp, number
        return number

    def trim(self, *, before: int) -> int:
        """Remove the entries with a seq lower than `before`, durably, and return how many went."""
        return self._backend.trim(self.ref, before, owner=self.owner)

    def problems(self) -> list[CorruptRecordError]:
        """Return what is wrong with the log: lines that are no entries, and seqs that do not grow. Reads all of it."""
        found: list[CorruptRecordError] = []
        previous = 0
        for line in self._entries():
            flaw = self.flaw(line, previous)
            if flaw is not None:
                found.append(flaw)
            previous = max(previous, line.seq) if isinstance(line, LogLine) else previous
        return found

    def _entries(self, after: int = 0) -> Iterator[LogLine | BadLine]:
        return self._backend.entries(self.ref, after=after)

    def _entries_backwards(self) -> Iterator[LogLine | BadLine]:
        return self._backend.entries_backwards(self.ref)

    def flaw(self, line: LogLine | BadLine, previous: int) -> CorruptRecordError | None:
        """Return what is wrong with one of `lines`, if anything; `previous` is the highest seq before it."""
        if isinstance(line, BadLine):
            return self._bad(line)
        if line.seq <= previous:
            reason = f"entry {line.seq} stands behind entry {previous}: was the file merged? number it anew by hand"
            return CorruptRecordError(self.path, reason)
        try:
            self._decode(line)
        except CorruptRecordError as error:
            return error
        return None

    def _bad(self, line: BadLine) -> CorruptRecordError:
        return CorruptRecordError(self.path, line.reason, line=line.line, column=line.column, offset=line.offset)

    def _decode(self, line: LogLine) -> dict[str, Any]:
        try:
            return codec.decode_line(line.data, self.path)
        except CorruptRecordError as error:
            raise CorruptRecordError(self.path, f"entry {line.seq}: {error.reason}", column=error.column) from None

    def _readable(self, lines: Iterator[LogLine | BadLine]) -> Iterator[dict[str, Any]]:
        for line in lines:
            try:
                if isinstance(line, BadLine):
                    raise self._bad(line)
                row = self._decode(line)
            except CorruptRecordError as error:
                _log.warning("skipped: %s", str(error))
            else:
                yield row


class Entry(msgspec.Struct, frozen=True):
    """One entry. `entry["name"]` is `entry.fields["name"]`.

    `at` is None, and `kind` empty, where a log that others wrote has none; what stands there instead is in `fields`.
    """

    seq: int
    kind: str
    at: datetime | None
    fields: dict[str, Any]

    def __getitem__(self, field: str) -> Any:
        return self.fields[field]

    def __contains__(self, field: object) -> bool:
        return field in self.fields

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field, or `default` when the entry does not have it."""
        return self.fields.get(field, default)


class Journal:
    """A log of entries, each with a kind, a time and fields of its own.

    With `kinds` nothing of another kind is appended. What the log holds already is read as it stands.
    """

    def __init__(
        self,
        backend: Backend,
        ref: Ref,
        clock: Clock = now,
        *,
        owner: Ref | None = None,
        kinds: Iterable[str] | None = None,
    ) -> None:
        self.log = Log(backend, ref, owner=owner)
        self._clock = clock
        self._kinds = None if kinds is None else _declared(kinds)

    def __repr__(self) -> str:
        return f"Journal({str(self.log.ref)!r})"

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.log.path

    def append(self, /, kind: str, *, at: datetime | str | None = None, **fields: Any) -> int:
        """Append an entry, durably, and return its seq. `at` defaults to the present time.

        Raises InvalidValueError for a kind that is not declared, what JSON cannot hold, and fields named `seq` or
        `fsstate`.
        """
        return self.log.append_lines([self.encode(kind, fields, at=at)])[0]

    def append_many(self, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> range:
        """Append (kind, fields) pairs with one flush, all or none, and return their seqs. A field `at` is the time."""
        return self.log.append_lines([self._encode_pair(kind, fields) for kind, fields in entries])

    def encode(self, kind: str, fields: Mapping[str, Any], *, at: datetime | str | None = None) -> bytes:
        """Return the line for an entry, as `compose` and the log take it."""
        if not _is_kind(kind):
            raise InvalidValueError(f"the kind must be a text that is not empty, got {kind!r}", at="$.kind")
        if self._kinds is not None and kind not in self._kinds:
            known = ", ".join(self._kinds) or "none"
            raise InvalidValueError(
                f"the kind {kind!r} is not declared for {self.path}; declared: {known}", at="$.kind"
            )
        for key in ("kind", "at"):
            if key in fields:
                raise InvalidValueError(f"{key!r} is no field; give it by itself", at=f"$.{key}")
        return self.log.encode({"kind": kind, "at": _written(self._clock() if at is None else at), **fields})

    def compose(self, kind: str, fields: Mapping[str, Any], *, at: datetime | str | None = None) -> Compose:
        """Return `append` as a piece of work for `Backend.append_many`. Everything is checked, and copied, at once."""
        lines = [self.encode(kind, fields, at=at)]
        return lambda _: lines

    def read(self, after: int = 0, limit: int | None = None, *, kinds: Container[str] | None = None) -> list[Entry]:
        """Return the entries with a seq greater than `after`, in order: at most `limit`, and only of `kinds`."""
        return list(islice(self._of(kinds, self.log.rows(after)), _checked("limit", limit)))

    def tail(self, n: int, *, kinds: Container[str] | None = None) -> list[Entry]:
        """Return the last `n` entries, in the order of the file. Reads no more of it than they take."""
        found = list(islice(self._of(kinds, self.log.rows_backwards()), _checked("n", n)))
        return found[::-1]

    def first(self) -> Entry | None:
        """Return the first entry, or None when the log is empty."""
        return next(iter(self), None)

    def last(self) -> Entry | None:
        """Return the last entry, or None when the log is empty."""
        return next(self._of(None, self.log.rows_backwards()), None)

    def entry(self, seq: int) -> Entry | None:
        """Return the entry with this seq, or None when it was never written or is gone. Reads only what is near it."""
        found = self.first_after(seq - 1)
        return found if found is not None and found.seq == seq else None

    def first_after(self, seq: int) -> Entry | None:
        """Return the first entry with a seq greater than `seq`, or None."""
        return next(self._of(None, self.log.rows(max(seq, 0))), None)

    def __iter__(self) -> Iterator[Entry]:
        return self._of(None, self.log.rows())

    def count(self) -> int:
        """Return the number of entries. Reads the log, unless it is as it was at the last count."""
        return self.log.count()

    def __len__(self) -> int:
        return self.count()

    def trim(self, *, before: int) -> int:
        """Remove the entries with a seq lower than `before`, durably, and return how many went. Frees their space."""
        return self.log.trim(before=before)

    def plan(self, policy: PrunePolicy) -> PrunePlan:
        """Tell which entries a policy wants to go from the start of the log. Reads all of it; writes nothing.

        An entry goes for its age if all before it do, too; one whose time cannot be read counts with the one before it.
        The plan tells of spans, as "1-500", with the `number` of their entries. Raises ValueError for a policy with
        `per`: what goes is the log's beginning.
        """
        return self._trimmer().plan(policy)

    def apply(self, plan: PrunePlan, *, trash: bool = True) -> PruneReport:
        """Move the entries that were planned to the trash, and free their space in the log; durable at return.

        Nothing goes when the log begins otherwise by then. Those that come behind them meanwhile do not matter.
        `Store.trash` restores them. With `trash=False` they are deleted at once.
        """
        return self._trimmer().apply(plan, trash=trash)

    def prune(self, policy: PrunePolicy, *, dry_run: bool = False, trash: bool = True) -> PruneReport:
        """`plan` and `apply`. With `dry_run` nothing is touched."""
        return self._trimmer().prune(policy, dry_run=dry_run, trash=trash)

    def problems(self) -> list[CorruptRecordError]:
        """Return what is wrong with the log: lines that are no entries, and seqs that do not grow. Reads all of it."""
        return self.log.problems()

    def _trimmer(self) -> Trimmer:
        return Trimmer(self.log.backend, self.log.ref, self._clock, self.log.owner)

    def _encode_pair(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        rest = dict(fields)
        return self.encode(kind, rest, at=rest.pop("at", None))

    def _of(self, kinds: Container[str] | None, rows: Iterator[dict[str, Any]]) -> Iterator[Entry]:
        # A text is a container too: of its own pieces, which is never what was meant.
        wanted = (kinds,) if isinstance(kinds, str) else kinds
        return (_entry(row) for row in rows if wanted is None or row.get("kind", "") in wanted)


def _entry(row: dict[str, Any]) -> Entry:
    seq = row.pop("seq")
    kind = row.pop("kind") if isinstance(row.get("kind"), str) else ""
    try:
        at = parse_time(row["at"]) if "at" in row else None
    except ValueError:
        at = None
    if at is not None:
        del row["at"]
    return Entry(seq, kind, at, row)


def _declared(kinds: Iterable[str]) -> tuple[str, ...]:
    # A text is iterable too: over its own letters, which is never what was meant.
    if isinstance(kinds, str):
        raise TypeError(f"kinds must be a collection of texts, such as ({kinds!r},), got the text {kinds!r}")
    declared = tuple(kinds)
    for kind in declared:
        if not _is_kind(kind):
            raise ValueError(f"each of kinds must be a text that is not empty, got {kind!r}")
    return tuple(sorted(declared)) if isinstance(kinds, AbstractSet) else declared


def _is_kind(kind: object) -> bool:
    return isinstance(kind, str) and kind != ""


def _written(at: datetime | str) -> str:
    try:
        return format_time(at if isinstance(at, datetime) else parse_time(at))
    except ValueError as error:
        raise InvalidValueError(str(error), at="$.at") from None


def _checked(what: str, number: int | None) -> int | None:
    if number is not None and number < 0:
        raise ValueError(f"{what} must be 0 or more, got {number!r}")
    return number
