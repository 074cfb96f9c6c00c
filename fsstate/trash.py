"""The trash: what was pruned, until it is restored or the trash is emptied.

    .fsstate/trash/
    ├── 2026-11-28T154518Z-1f3a.jsonl      what this run was to take, a line for each record
    └── 2026-11-28T154518Z-1f3a/           what it took, laid out like the store
        ├── sessions/0198c3….json
        ├── sessions/0198c3…/messages.jsonl
        └── audit/trail.jsonl              entries that were trimmed from a log

- Each run has a folder of its own, and says what it will take before it takes anything. What it did not get to take,
  and what was restored, is simply not there.
- A record is at every moment in the store or in the trash (or, cut off, in both). What belongs to a document follows
  it: if that was cut off, it stays behind in the store, where nobody sees it, until it is restored or claimed by
  `rescue`.
- A run that is being filled, emptied or restored from is locked. Who empties the trash passes over it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fsstate import codec
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, BadLine, Move, Ref
from fsstate.errors import (
    AmbiguousIdError,
    CorruptRecordError,
    FsStateError,
    LockTimeoutError,
    NotFoundError,
    UnsafePathError,
)
from fsstate.retention import Candidate, Kept, PrunePolicy, select_expired
from fsstate.times import Clock, format_time, parse_time

__all__ = ["RESTORED", "TRASH", "Run", "Trash", "TrashItem", "TrashReport", "ref_of", "rescue"]

# On disk: do not rename.
TRASH: Final = ".fsstate/trash"
_SHORTEST_PREFIX: Final = 6
# The reason of what comes from elsewhere, and is on its way into the store. On disk: do not rename.
RESTORED: Final = "restored"
# No document looks so: what has come back since it was found to be gone counts as touched.
_GONE: Final = b""

_log = logging.getLogger("fsstate")

# Trash has a method called `list`.
Items: TypeAlias = "list[TrashItem]"
Names: TypeAlias = list[str]
Reasons: TypeAlias = list[Kept]


class TrashItem(NamedTuple):
    """A record in the trash, or `number` entries of a log.

    - `id`: the run that brought it, and the record: names one item.
    - `record`: where it was, as `sessions/0198c3….json`.
    - `reason`: why it was pruned: "ttl", "count" or "bytes"; `last_active` is what counted as its age. "replaced": a
      version from git took its place; "restored": that version, if it was cut off before it came to its place.
    - `trashed_at`: when. `bytes`: what it takes, with all that belongs to it.
    """

    id: str
    record: str
    reason: str
    last_active: datetime | None
    trashed_at: datetime
    bytes: int
    number: int = 1
    has_belongings: bool = False
    owner: str | None = None


class TrashReport(NamedTuple):
    """What was emptied, what stayed and why ("locked", "error: …"), and how many bytes came back."""

    emptied: list[TrashItem]
    kept: list[Kept]
    bytes: int


class Run:
    """A folder of the trash that is being filled."""

    def __init__(self, backend: Backend, name: str, at: datetime) -> None:
        self.name = name
        self._backend = backend
        self._at = format_time(at)

    def place_of(self, ref: Ref) -> Ref:
        """Where a record goes."""
        return _place_of(self.name, ref)

    def announce(self, coming: Iterable[TrashItem]) -> None:
        """Say durably what is about to come. `id` and `trashed_at` are the run's own."""
        lines = [codec.encode_line(self._row(item)) for item in coming]
        self._backend.append(_manifest_of(self.name), lambda _: lines)

    def _row(self, item: TrashItem) -> dict[str, Any]:
        row: dict[str, Any] = {"record": item.record, "at": self._at, "reason": item.reason, "bytes": item.bytes}
        if item.last_active is not None:
            row["last_active"] = format_time(item.last_active)
        told = {"entries": item.number if item.number != 1 else None, "owner": item.owner}
        told["belongings"] = item.has_belongings or None
        return row | {key: value for key, value in told.items() if value is not None}


class Trash:
    """The trash of a store. Any thread may call."""

    def __init__(self, backend: Backend, clock: Clock | None = None) -> None:
        self._backend = backend
        self._clock = clock or backend.options.clock

    def __repr__(self) -> str:
        return f"Trash({self._backend!r})"

    def list(self) -> list[TrashItem]:
        """Return what is in the trash, the oldest first."""
        found = [item for run in self._runs() for item in self._items(run)]
        return sorted(found, key=lambda item: (item.trashed_at, item.id))

    def restore(self, *ids: str) -> Items:
        """Put records back where they were, with all that belonged to them, durably; return them.

        Each is named by its `id`, or by its record (`sessions/0198c3.json`, `agents/planner`), of which the latest
        counts; a session also by its id, or 6 or more characters of it. Raises NotFoundError and AmbiguousIdError
        before anything is restored; AlreadyExistsError when a place is taken by now: the others are restored then.
        """
        found = self.list()
        chosen = {item.id: item for item in (_find(found, each) for each in ids)}
        # Of a log's entries the last go back first: they stand right in front of those that are there.
        return self._restore_all(sorted(chosen.values(), key=lambda item: (item.trashed_at, item.id), reverse=True))

    def empty(self, *, older_than: timedelta | None = None, max_bytes: int | None = None) -> TrashReport:
        """Delete what is in the trash for good; return what went.

        With `older_than`, what is in it for longer; with `max_bytes`, the oldest until the rest fits; with neither,
        everything. What came at a time in the future is of no age. Raises ValueError for a limit of 0 or less.
        """
        found = self.list()
        chosen = {item.id for item in found}
        if older_than is not None and older_than <= timedelta(0):
            raise ValueError(f"older_than must be longer than 0, got {older_than!r}; without it all goes")
        if older_than is not None or max_bytes is not None:
            policy = PrunePolicy(ttl=older_than, max_bytes=max_bytes)
            candidates = [Candidate(item.id, item.trashed_at, item.bytes) for item in found]
            chosen = {each.id for each, _ in select_expired(candidates, policy, self._clock())}
        emptied: Items = []
        kept: Reasons = []
        for run in self._runs():
            self._empty_run(run, chosen, emptied, kept)
        return TrashReport(emptied, kept, sum(item.bytes for item in emptied))

    # What the sweep asks for

    @contextmanager
    def filling(self) -> Generator[Run]:
        """Give a new run to a block that fills it."""
        at = self._clock()
        run = Run(self._backend, f"{at:%Y-%m-%dT%H%M%SZ}-{os.urandom(2).hex()}", at)
        with self._locked(run.name):
            try:
                yield run
            finally:
                self._drop_if_empty(run.name)

    def keep_within_limits(self) -> None:
        """Empty what the store's options say has been there for too long, or is too much. Problems are logged."""
        options = self._backend.options
        try:
            if not self._is_beyond(options.trash_ttl, options.trash_bytes):
                return
            report = self.empty(older_than=options.trash_ttl, max_bytes=options.trash_bytes)
        except FsStateError as error:
            _log.warning("the trash could not be emptied: %s", str(error))
        else:
            if report.emptied:
                _log.info("emptied %d records, %d bytes, from the trash", len(report.emptied), report.bytes)

    # Inside

    def _is_beyond(self, ttl: timedelta | None, most: int | None) -> bool:
        """Whether there is anything to empty, told without keeping a list of all."""
        now, total = self._clock(), 0
        for run in self._runs() if ttl is not None or most is not None else ():
            for item in self._items(run):
                total += item.bytes
                if ttl is not None and now - item.trashed_at > ttl:
                    return True
        return most is not None and total > most

    def _runs(self) -> Names:
        return self._backend.names(TRASH, LOG)

    def _items(self, run: str) -> Iterator[TrashItem]:
        there: dict[Ref, set[str]] = {}
        for row in _rows(self._backend, run):
            try:
                item = _item_of(run, row)
                ref = ref_of(item.record)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("skipped a line of %s: %s", self._backend.location(_manifest_of(run)), str(error))
                continue
            place = _place_of(run, ref)
            folder = place._replace(name="")
            if folder not in there:
                there[folder] = set(self._backend.names(place.category, place.suffix))
            if place.name in there[folder]:
                yield item

    @contextmanager
    def _locked(self, run: str, timeout: float | None = None) -> Generator[None]:
        # No record: what keeps those apart who fill it, empty it, and restore from it.
        held = self._backend.lock(Ref(TRASH, run, JSON), timeout=timeout)
        try:
            yield
        finally:
            held.release()

    def _restore_all(self, items: Iterable[TrashItem]) -> Items:
        restored: Items = []
        errors: list[FsStateError] = []
        for item in items:
            try:
                self._restore(item)
            except FsStateError as error:
                errors.append(error)
            else:
                restored.append(item)
        if errors:
            errors[0].add_note(f"{len(errors)} of {len(errors) + len(restored)} stay in the trash")
            raise errors[0]
        return restored

    def _restore(self, item: TrashItem) -> None:
        run, ref = item.id.partition("/")[0], ref_of(item.record)
        with self._locked(run):
            owner = None if item.owner is None else ref_of(item.owner)
            self._backend.put_back(_place_of(run, ref), ref, owner=owner)
            self._drop_if_empty(run)

    def _empty_run(self, run: str, chosen: set[str], emptied: Items, kept: Reasons) -> None:
        try:
            with self._locked(run, timeout=0):
                items = list(self._items(run))
                going = [item for item in items if item.id in chosen]
                self._delete(run, going, everything=len(going) == len(items))
        except FsStateError as error:
            reason = "locked" if isinstance(error, LockTimeoutError) else f"error: {error}"
            kept.extend(Kept(each, reason) for each in chosen if each.startswith(f"{run}/"))
        else:
            emptied.extend(going)

    def _delete(self, run: str, items: Iterable[TrashItem], *, everything: bool) -> None:
        places = [(ref_of(item.record), item.has_belongings) for item in items]
        for ref, has_belongings in places:
            if has_belongings and self._backend.has_any(ref.belongings):
                self._discard_leftover(run, ref)
        if everything:
            self._drop(run)
            return
        documents = [_place_of(run, ref) for ref, _ in places if ref.suffix != LOG]
        moves = [Move(place, place.belongings, None, None) for place in documents]
        for error in (each for each in self._backend.move_many(moves) if isinstance(each, Exception)):
            raise error
        for ref, _ in places:
            if ref.suffix == LOG:
                self._backend.delete_log(_place_of(run, ref))

    def _discard_leftover(self, run: str, ref: Ref) -> None:
        """Remove what belongs to a document and stayed in the store when it went: there may be no room for it here."""
        if self._backend.has_any(_place_of(run, ref).belongings):
            # Its own came along: that in the store is another's.
            return
        held = self._backend.lock(ref)
        try:
            if self._backend.read(ref) is None:
                self._backend.discard(ref.belongings)
        finally:
            held.release()

    def _drop_if_empty(self, run: str) -> None:
        """Remove a run in which nothing is. Where that fails nothing is lost: emptying the trash tries again."""
        try:
            if next(self._items(run), None) is None:
                self._drop(run)
        except FsStateError as error:
            _log.warning("%s stays, with nothing in it: %s", self._backend.location(_manifest_of(run)), str(error))

    def _drop(self, run: str) -> None:
        """Remove a run: what says what is in it goes last."""
        self._backend.discard(f"{TRASH}/{run}")
        self._backend.delete_log(_manifest_of(run))


def rescue(backend: Backend, owner: Ref) -> None:
    """Give what was left of a document that went to the trash to that document, lest it is taken for nobody's."""
    try:
        runs = backend.names(TRASH, LOG)
    except UnsafePathError:
        # Nothing of ours is in there.
        return
    if not runs or not backend.has_any(owner.belongings):
        return
    for run in reversed(runs):
        if any(_took_all_of(row, owner) for row in _rows(backend, run)) and _finish(backend, run, owner):
            return


def ref_of(record: str) -> Ref:
    """The address of a record that is given as `sessions/a.json`. Raises ValueError for what is none."""
    category, _, name = record.rpartition("/")
    for suffix in (LOG, JSON, MARKDOWN):
        if category and name.endswith(suffix) and len(name) > len(suffix):
            return Ref(category, name.removesuffix(suffix), suffix)
    raise ValueError(f"{record!r} is no record")


def _took_all_of(row: dict[str, Any], owner: Ref) -> bool:
    """Whether a run was to take a document out of the store, with what belongs to it."""
    return row.get("record") == str(owner) and row.get("belongings") is True and row.get("reason") != RESTORED


def _finish(backend: Backend, run: str, ref: Ref) -> bool:
    """Let what belongs to a document follow it into the trash, if that was cut off. Says whether nothing stays."""
    place = _place_of(run, ref)
    if backend.read(place) is None or backend.read(ref) is not None:
        return False
    outcome = backend.move_many([Move(ref, ref.belongings, place, _GONE)])[0]
    if isinstance(outcome, Exception):
        raise outcome
    # It stays where this run has all of another one of that name.
    return outcome is False and not backend.has_any(ref.belongings)


def _manifest_of(run: str) -> Ref:
    return Ref(TRASH, run, LOG)


def _place_of(run: str, ref: Ref) -> Ref:
    return Ref(f"{TRASH}/{run}/{ref.category}", ref.name, ref.suffix)


def _rows(backend: Backend, run: str) -> Iterator[dict[str, Any]]:
    where = backend.location(_manifest_of(run))
    for line in backend.entries(_manifest_of(run)):
        try:
            if isinstance(line, BadLine):
                raise CorruptRecordError(where, line.reason, line=line.line)
            yield codec.decode_line(line.data, where)
        except CorruptRecordError as error:
            _log.warning("skipped: %s", str(error))


def _item_of(run: str, row: dict[str, Any]) -> TrashItem:
    active = row.get("last_active")
    record = cast("str", row["record"])
    return TrashItem(
        id=f"{run}/{record}",
        record=record,
        reason=str(row.get("reason", "")),
        last_active=None if active is None else parse_time(active),
        trashed_at=parse_time(row["at"]),
        bytes=int(row.get("bytes", 0)),
        number=int(row.get("entries", 1)),
        has_belongings=row.get("belongings") is True,
        owner=row.get("owner"),
    )


def _find(items: Iterable[TrashItem], text: str) -> TrashItem:
    """The item that is meant: of one record that is there several times, the latest."""
    found = [item for item in items if text == item.id]
    found = found or [item for item in items if text in _names_of(item)]
    if not found and len(text) >= _SHORTEST_PREFIX:
        found = [item for item in items if item.record.startswith(f"sessions/{text}")]
    records = dict.fromkeys(item.record for item in found)
    if not records:
        raise NotFoundError(text, f"{text!r} is not in the trash; `Trash.list` or `fsstate trash` shows what is")
    if len(records) > 1:
        raise AmbiguousIdError(text, list(records), hint="give the whole record")
    return found[-1]


def _names_of(item: TrashItem) -> tuple[str, ...]:
    bare = item.record.rpartition(".")[0]
    return item.record, bare, bare.removeprefix("sessions/")
