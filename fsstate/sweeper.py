"""Pruning documents together with what belongs to them: looks, lets the policy decide, and looks again under the lock.

An error while looking never prunes, and neither does one while moving or deleting: what could not be judged or did not
go is kept, and the report says why. What tells no time cannot be judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from fsstate import codec
from fsstate.backends.base import LOG, Backend, Move, Moved, Ref
from fsstate.errors import FsStateError, LockTimeoutError
from fsstate.queries import MISSING, plain
from fsstate.retention import (
    Candidate,
    Kept,
    Planned,
    Pruned,
    PrunePlan,
    PrunePolicy,
    PruneReport,
    Reason,
    Shortlist,
    select_expired,
)
from fsstate.times import Clock, parse_time
from fsstate.trash import Run, Trash, TrashItem

__all__ = ["Progress", "Source", "Sweeper", "exemption_of", "group_of", "look_at_all", "time_of"]

# Told how many records are done, and of how many.
Progress: TypeAlias = Callable[[int, int], None]

# Records that go in one breath: what they are said to be, and what is told of progress.
_TOGETHER: Final = 512
# Seconds until every change to a file shows: soon, or where the file system stamps with even seconds.
_UNTIL_SETTLED: Final = (0.03, 2.1)


class Source(NamedTuple):
    """Where a sweep finds the documents that it may prune.

    - `candidates(per, progress)`: all of them, as they are now; see `look_at_all`.
    - `shortlist(policy, now)`: what comes of that, from somebody who knows it already; None where nobody does.
    - `look(id, per)`: one of them as it is now, or None when it is gone.
    - `ref_of(id)`: its address. Raises an FsStateError or ValueError for what is none of them.
    - `alone`: what is in a folder of a document's name does not go with the document.
    - `owner`: what all of them belong to.
    """

    candidates: Callable[[str | None, Progress | None], Iterable[Candidate]]
    look: Callable[[str, str | None], Candidate | None]
    ref_of: Callable[[str], Ref]
    shortlist: Callable[[PrunePolicy, datetime], Shortlist | None] = lambda _policy, _now: None
    alone: bool = False
    owner: Ref | None = None


class Sweeper:
    """Prunes what a source has. Any thread may call."""

    def __init__(self, backend: Backend, clock: Clock, source: Source) -> None:
        self._backend = backend
        self._clock = clock
        self._source = source
        self._trash = Trash(backend, clock)

    def plan(self, policy: PrunePolicy, *, progress: Progress | None = None) -> PrunePlan:
        """Look at all records, and tell which the policy wants to go. Writes nothing."""
        return self._plan(policy, progress, passes_over_used=True)

    def apply(self, plan: PrunePlan, *, trash: bool = True, progress: Progress | None = None) -> PruneReport:
        """Move what is planned to the trash, or delete it, unless it was touched since; durable at return."""
        pruned: list[Pruned] = []
        kept = [*plan.kept]
        if plan.pruned:
            filling: AbstractContextManager[Run | None] = self._trash.filling() if trash else nullcontext()
            with filling as run:
                self._apply(plan.pruned, run, pruned, kept, progress)
            self._trash.keep_within_limits()
        return PruneReport(pruned, kept, dry_run=False, bytes=sum(each.bytes for each in pruned), in_trash=trash)

    def prune(
        self, policy: PrunePolicy, *, dry_run: bool = False, trash: bool = True, progress: Progress | None = None
    ) -> PruneReport:
        """Plan and apply. With `dry_run`, only tell what would go."""
        plan = self._plan(policy, progress, passes_over_used=dry_run)
        return report_of(plan, trash=trash) if dry_run else self.apply(plan, trash=trash, progress=progress)

    # Looking

    def _plan(self, policy: PrunePolicy, progress: Progress | None, *, passes_over_used: bool) -> PrunePlan:
        now = self._clock()
        found = self._source.shortlist(policy, now) or self._looked_at(policy, now, progress)
        kept = [*found.exempt]
        expired = self._settled(found.expired, policy.per, kept)
        planned: list[Planned] = []
        for mark, each, reason in expired:
            if passes_over_used and self._is_used(each.id):
                kept.append(Kept(each.id, "locked"))
            elif each.last_active is not None:
                told = (each.id, reason, each.last_active, each.bytes, mark)
                planned.append(Planned(*told, has_belongings=each.has_belongings))
        # Those that had to be looked at again came last.
        planned.sort(key=lambda each: (each.last_active, each.id))
        size = sum(each.bytes for each in planned)
        return PrunePlan(planned, kept, size, found.number - len(planned), found.bytes - size)

    def _looked_at(self, policy: PrunePolicy, now: datetime, progress: Progress | None) -> Shortlist:
        seen = list(self._source.candidates(policy.per, progress))
        exempt = [Kept(each.id, each.exempt) for each in seen if each.exempt is not None]
        return Shortlist(select_expired(seen, policy, now), exempt, len(seen), sum(each.bytes for each in seen))

    def _settled(
        self, expired: Iterable[tuple[Candidate, Reason]], per: str | None, kept: list[Kept]
    ) -> Iterator[tuple[bytes, Candidate, Reason]]:
        """Those whose marks tell any change from now on. Those that changed while they were looked at stay."""
        unsettled: list[tuple[Candidate, Reason]] = []
        for each, reason in expired:
            if each.mark is None:
                unsettled.append((each, reason))
            else:
                yield each.mark, each, reason
        waits = iter(_UNTIL_SETTLED)
        pause = next(waits, None) if unsettled else None
        while unsettled and pause is not None:
            time.sleep(pause)
            pause = next(waits, None)
            again: list[tuple[Candidate, Reason]] = []
            for each, reason in unsettled:
                now = self._look(each.id, per)
                if now is None or not _is_same(now, each):
                    kept.extend([] if now is None else [Kept(each.id, now.exempt or "touched")])
                elif now.mark is not None:
                    yield now.mark, now, reason
                else:
                    again.append((now, reason))
            unsettled = again
        kept.extend(Kept(each.id, "touched") for each, _ in unsettled)

    def _look(self, name: str, per: str | None) -> Candidate | None:
        try:
            return self._source.look(name, per)
        except FsStateError as error:
            return Candidate(name, None, exempt=f"error: {error}")

    def _is_used(self, name: str) -> bool:
        ref = self._source.ref_of(name)
        if self._backend.is_locked(ref):
            return True
        return not self._source.alone and _has_writer(self._backend, ref.belongings)

    # Acting

    def _apply(
        self, planned: Sequence[Planned], run: Run | None, pruned: list[Pruned], kept: list[Kept],
        progress: Progress | None,
    ) -> None:  # fmt: skip
        # Before anything is touched: a plan of something else is refused as a whole.
        for one in planned:
            self._source.ref_of(one.id)
        for start in range(0, len(planned), _TOGETHER):
            together = planned[start : start + _TOGETHER]
            try:
                outcomes = self._move([(one, self._source.ref_of(one.id)) for one in together], run)
            except FsStateError as error:
                error.add_note(f"{len(pruned)} of {len(planned)} were pruned before")
                raise
            for one, outcome in zip(together, outcomes, strict=True):
                _tell(one, outcome, pruned, kept)
            if progress is not None:
                progress(min(start + _TOGETHER, len(planned)), len(planned))

    def _move(self, going: Sequence[tuple[Planned, Ref]], run: Run | None) -> list[Moved]:
        if run is not None:
            run.announce(self._item(each, ref) for each, ref in going)
        moves = [
            Move(
                ref,
                None if self._source.alone else ref.belongings,
                None if run is None else run.place_of(ref),
                each.mark,
            )
            for each, ref in going
        ]
        return self._backend.move_many(moves, timeout=0)

    def _item(self, planned: Planned, ref: Ref) -> TrashItem:
        owner = None if self._source.owner is None else str(self._source.owner)
        return TrashItem(
            "", str(ref), planned.reason, planned.last_active, planned.last_active, planned.bytes,
            has_belongings=planned.has_belongings, owner=owner,
        )  # fmt: skip


def report_of(plan: PrunePlan, *, trash: bool) -> PruneReport:
    """What applying a plan would report, if nobody touched anything."""
    pruned = [Pruned(each.id, each.reason, each.last_active, each.bytes, each.number) for each in plan.pruned]
    return PruneReport(pruned, plan.kept, dry_run=True, bytes=plan.bytes, in_trash=trash)


def look_at_all(
    names: Sequence[str], look: Callable[[str], Candidate | None], progress: Progress | None = None
) -> Iterator[Candidate]:
    """Look at each record. What cannot be read is exempt, and what is gone by now is left out."""
    waiting = iter(names)
    done = 0
    while together := list(islice(waiting, _TOGETHER)):
        for name in together:
            try:
                seen = look(name)
            except FsStateError as error:
                yield Candidate(name, None, exempt=f"error: {error}")
            else:
                if seen is not None:
                    yield seen
        done += len(together)
        if progress is not None:
            progress(done, len(names))


def exemption_of(told: Mapping[str, Any], last_active: datetime | None) -> str | None:
    """Why a document stays, whatever a policy says, as far as it tells itself."""
    if told.get("pinned") is True:
        return "pinned"
    if told.get("archived_at") is not None:
        return "archived"
    return "undated" if last_active is None else None


def time_of(told: Mapping[str, Any]) -> datetime | None:
    """When a document was last active, as far as it tells: `updated_at`, or else `created_at`."""
    names = (name for name in ("updated_at", "created_at") if told.get(name) is not None)
    try:
        return parse_time(told[next(names)])
    except (StopIteration, ValueError):
        return None


def group_of(value: object) -> Hashable:
    """The value of a policy's `per`, to tell it from others; None where there is none."""
    return None if value is None or value is MISSING else codec.encode_line(plain(value))


def _is_same(now: Candidate, then: Candidate) -> bool:
    """Whether the policy would decide the same."""
    return now._replace(mark=None) == then._replace(mark=None)


def _has_writer(backend: Backend, folder: str) -> bool:
    claimed = any(backend.is_claimed(Ref(folder, name, LOG)) for name in backend.names(folder, LOG))
    return claimed or any(_has_writer(backend, f"{folder}/{below}") for below in backend.categories(folder))


def _tell(planned: Planned, outcome: Moved, pruned: list[Pruned], kept: list[Kept]) -> None:
    if outcome is True:
        pruned.append(Pruned(*planned[:4]))
    elif outcome is None:
        kept.append(Kept(planned.id, "touched"))
    elif isinstance(outcome, LockTimeoutError):
        kept.append(Kept(planned.id, "locked"))
    elif isinstance(outcome, Exception):
        kept.append(Kept(planned.id, f"error: {outcome}"))
    # Else somebody else deleted it: that is neither.
