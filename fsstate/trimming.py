"""Pruning a log: it goes from its start only, so that what stays is the log from some entry on.

- An entry goes for its age if it and all before it are older than the ttl. One whose time cannot be read counts with
  its neighbour before it; those at the very start with the first one that tells a time.
- A line that is no entry goes with the entry before it.
- What goes is a prefix, told as a few spans of entries: those too old, those too many, and those too large.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Final, NamedTuple

from fsstate import codec
from fsstate.backends.base import Backend, BadLine, LogLine, Ref
from fsstate.errors import CorruptRecordError, LockTimeoutError
from fsstate.retention import Kept, Planned, Pruned, PrunePlan, PrunePolicy, PruneReport, Reason
from fsstate.sweeper import report_of
from fsstate.times import Clock, parse_time
from fsstate.trash import Run, Trash, TrashItem

__all__ = ["LogEntry", "Span", "Trimmer", "select_prefix"]

_REASONS: Final[tuple[Reason, ...]] = ("ttl", "count", "bytes")


class LogEntry(NamedTuple):
    """An entry of a log: when it was made, as far as it tells, and what it takes with the bad lines behind it."""

    seq: int
    at: datetime | None
    size: int


class _Ends(NamedTuple):
    """How many entries a log has, what they take, and how many at its start are too old."""

    number: int
    size: int
    old: int


class Span(NamedTuple):
    """Entries that follow each other and go for one reason. `last_active` is that of the last one that tells a time."""

    first: int
    last: int
    reason: Reason
    last_active: datetime
    size: int
    number: int


def select_prefix(
    entries: Callable[[], Iterable[LogEntry]], policy: PrunePolicy, now: datetime
) -> tuple[list[Span], int, int]:
    """Decide which entries go from the start of a log; tell also how many there are, and what all of them take.

    Goes through the entries twice, and keeps none of them.
    """
    ends = _survey(entries(), policy, now)
    cuts = [ends.old, ends.number - policy.keep if policy.keep is not None else 0]
    if policy.max_bytes is not None:
        cuts.append(_to_fit(entries(), ends, max(*cuts, 0), policy.max_bytes))
    most = ends.number if policy.batch is None else policy.batch
    return list(_spans(entries(), [min(cut, most) for cut in cuts], now)), ends.number, ends.size


def _survey(entries: Iterable[LogEntry], policy: PrunePolicy, now: datetime) -> _Ends:
    count = size = old = 0
    is_old, is_dated = policy.ttl is not None, False
    for entry in entries:
        count, size = count + 1, size + entry.size
        if is_old and policy.ttl is not None:
            is_dated = is_dated or entry.at is not None
            is_old = entry.at is None or now - entry.at > policy.ttl
            # Those at the start that tell no time wait for the first one that does.
            old = count if is_old and is_dated else old
    return _Ends(count, size, old)


def _to_fit(entries: Iterable[LogEntry], ends: _Ends, going: int, max_bytes: int) -> int:
    """How many entries go in all, so that the rest fits."""
    rest = ends.size
    for number, entry in enumerate(entries):
        if number >= going and rest <= max_bytes:
            return number
        rest -= entry.size
    return ends.number


def _spans(entries: Iterable[LogEntry], cuts: list[int], now: datetime) -> Iterator[Span]:
    iterator = iter(entries)
    done = 0
    # What tells no time before any that does is as old as it can be.
    active: datetime | None = None
    for reason, cut in zip(_REASONS, cuts, strict=False):
        if cut <= done:
            continue
        first = last = size = count = 0
        while done < cut and (entry := next(iterator, None)) is not None:
            first = first or entry.seq
            last, size, count, done = entry.seq, size + entry.size, count + 1, done + 1
            active = entry.at or active
        yield Span(first, last, reason, active or now, size, count)


class Trimmer:
    """Prunes one log. Any thread may call."""

    def __init__(self, backend: Backend, ref: Ref, clock: Clock, owner: Ref | None) -> None:
        self._backend = backend
        self._ref = ref
        self._clock = clock
        self._owner = owner
        self._trash = Trash(backend, clock)

    def plan(self, policy: PrunePolicy) -> PrunePlan:
        """Tell which entries a policy wants to go. Reads the log; writes nothing."""
        if policy.per is not None:
            raise ValueError(f"a log goes from its start only: keep cannot count for each {policy.per!r}")
        spans, count, size = select_prefix(self._entries, policy, self._clock())
        mark = self._mark()
        planned = [
            Planned(f"{each.first}-{each.last}", each.reason, each.last_active, each.size, mark, each.number)
            for each in spans
        ]
        going = sum(each.size for each in spans)
        return PrunePlan(planned, [], going, count - sum(each.number for each in spans), size - going)

    def apply(self, plan: PrunePlan, *, trash: bool = True) -> PruneReport:
        """Move what is planned to the trash, or delete it, unless the log begins otherwise by now; durable."""
        kept: list[Kept] = [*plan.kept]
        pruned: list[Pruned] = []
        if plan.pruned:
            before = _last_of(plan.pruned[-1].id) + 1
            filling: AbstractContextManager[Run | None] = self._trash.filling() if trash else nullcontext()
            try:
                with filling as run:
                    gone = self._trim(plan, before, run)
            except LockTimeoutError:
                kept += [Kept(each.id, "locked") for each in plan.pruned]
            else:
                pruned = list(report_of(plan, trash=trash).pruned) if gone else []
                kept += [] if gone else [Kept(each.id, "touched") for each in plan.pruned]
            self._trash.keep_within_limits()
        return PruneReport(pruned, kept, dry_run=False, bytes=sum(each.bytes for each in pruned), in_trash=trash)

    def prune(self, policy: PrunePolicy, *, dry_run: bool = False, trash: bool = True) -> PruneReport:
        """Plan and apply. With `dry_run`, only tell what would go."""
        plan = self.plan(policy)
        return report_of(plan, trash=trash) if dry_run else self.apply(plan, trash=trash)

    def _trim(self, plan: PrunePlan, before: int, run: Run | None) -> int:
        mark = plan.pruned[0].mark
        to = None if run is None else run.place_of(self._ref)
        if run is not None:
            run.announce([self._item(plan)])
        return self._backend.trim(self._ref, before, owner=self._owner, to=to, confirm=lambda: self._mark() == mark)

    def _item(self, plan: PrunePlan) -> TrashItem:
        last = plan.pruned[-1]
        return TrashItem(
            "", str(self._ref), last.reason, last.last_active, last.last_active, plan.bytes,
            number=sum(each.number for each in plan.pruned), owner=None if self._owner is None else str(self._owner),
        )  # fmt: skip

    def _mark(self) -> bytes:
        """What the log begins with: while that is so, nothing of it was removed, and it is no other log."""
        lines = (line.data for line in self._backend.entries(self._ref) if isinstance(line, LogLine))
        return hashlib.blake2b(next(lines, b""), digest_size=12, usedforsecurity=False).digest()

    def _entries(self) -> Iterator[LogEntry]:
        entry: LogEntry | None = None
        for line in self._backend.entries(self._ref):
            size = len(line.data) + 1
            if isinstance(line, BadLine):
                entry = None if entry is None else entry._replace(size=entry.size + size)
                continue
            if entry is not None:
                yield entry
            entry = LogEntry(line.seq, _time_of(line), size)
        if entry is not None:
            yield entry


def _time_of(line: LogLine) -> datetime | None:
    try:
        row: dict[str, Any] = codec.decode_line(line.data, "")
        return parse_time(row["at"])
    except (CorruptRecordError, ValueError, KeyError):
        return None


def _last_of(span: str) -> int:
    try:
        return int(span.rpartition("-")[2])
    except ValueError:
        raise ValueError(f"{span!r} is no span of a log's entries: the plan is of something else") from None
