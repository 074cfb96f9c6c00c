"""What to prune, and when: pure decisions. The sweep that deletes is the business of who owns the records.

Age comes from the time that a record tells, never from a file's mtime: `git checkout` resets those. A time in the
future is no age at all, so a clock that was set back prunes nothing.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from fsstate.forks import renew_in_children
from fsstate.keys import Key

__all__ = [
    "Age",
    "Candidate",
    "Expired",
    "Kept",
    "Newest",
    "PrunePolicy",
    "PruneReport",
    "Pruned",
    "Reason",
    "Throttle",
    "select_expired",
]

# Why a record is to go: it was idle for longer than the ttl, or there are more than `keep` younger ones.
Reason: TypeAlias = Literal["ttl", "count"]

# Ages of the records of this many folders are remembered.
_MOST_FOLDERS: Final = 256

_log = logging.getLogger("fsstate")


class PrunePolicy:
    """Which records may stay.

    - `ttl`: those active within this time; the others go.
    - `keep`: of those, the latest this many.
    - `batch`: at most this many go at once, the oldest first; the rest waits for the next time.

    None means no limit. With neither `ttl` nor `keep` nothing is ever pruned, and a warning is logged.
    Raises ValueError for a limit of 0 or less: whoever means "off" says None; TypeError for what is no limit at all.
    """

    __slots__ = ("batch", "keep", "ttl")

    def __init__(self, *, ttl: timedelta | None = None, keep: int | None = None, batch: int | None = None) -> None:
        if ttl is not None and _duration("ttl", ttl) <= timedelta(0):
            raise ValueError(f"ttl must be longer than 0, got {ttl!r}; None means that age does not matter")
        for name, limit in (("keep", keep), ("batch", batch)):
            if limit is not None and _number(name, limit) <= 0:
                raise ValueError(f"{name} must be 1 or more, got {limit!r}; None means no limit")
        if ttl is None and keep is None:
            _log.warning("a PrunePolicy with neither ttl nor keep prunes nothing")
        self.ttl = ttl
        self.keep = keep
        self.batch = batch

    def __repr__(self) -> str:
        return f"PrunePolicy(ttl={self.ttl!r}, keep={self.keep!r}, batch={self.batch!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrunePolicy) and self._limits() == other._limits()

    def __hash__(self) -> int:
        return hash(self._limits())

    def _limits(self) -> tuple[timedelta | None, int | None, int | None]:
        return self.ttl, self.keep, self.batch


def _duration(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, such as timedelta(hours=1), got {value!r}")
    return value


def _number(name: str, value: object) -> int:
    # True is an int, and means something else.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}; None means no limit")
    return value


class Candidate(NamedTuple):
    """A record that may be pruned, and when it was last active (None: it does not tell, and is never pruned)."""

    id: str
    last_active: datetime | None


class Expired(NamedTuple):
    """A record that a policy wants to go."""

    id: str
    reason: Reason
    last_active: datetime


class Pruned(NamedTuple):
    """A record that went, or would have gone in a dry run."""

    id: str
    reason: Reason
    last_active: datetime


class Kept(NamedTuple):
    """A record that stayed although it was to go, or nobody can tell.

    `reason`: it was "touched" meanwhile, or "locked"; there was an "error: …"; or it is "undated", and so never goes.
    """

    id: str
    reason: str


class PruneReport(NamedTuple):
    """What a sweep did. With `dry_run` nothing was deleted."""

    pruned: list[Pruned]
    kept: list[Kept]
    dry_run: bool


def select_expired(candidates: Iterable[Candidate], policy: PrunePolicy, now: datetime) -> list[Expired]:
    """Decide which records go: first those older than the ttl, then all but the latest `keep` of the rest.

    Oldest first; among equals by id. A record active exactly `ttl` ago stays.
    """
    dated = [(each.last_active, each.id) for each in candidates if each.last_active is not None]
    dated.sort()
    expired = [Expired(name, "ttl", active) for active, name in dated if _is_older(active, policy.ttl, now)]
    rest = [(active, name) for active, name in dated if not _is_older(active, policy.ttl, now)]
    surplus = 0 if policy.keep is None else max(0, len(rest) - policy.keep)
    expired += [Expired(name, "count", active) for active, name in rest[:surplus]]
    return expired[: policy.batch]


def _is_older(active: datetime, ttl: timedelta | None, now: datetime) -> bool:
    return ttl is not None and now - active > ttl


class Age(NamedTuple):
    """How old a record is: sorts before what is younger, and busy ones behind all others."""

    is_busy: bool
    time: Key
    name: str


class Newest:
    """Keeps each folder of records to its newest. Remembers ages, so that each record is looked at once.

    Any thread may ask.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._known: OrderedDict[str, dict[str, Age]] = OrderedDict()
        # The folders that had room for one more at the last look, and those where others add as well.
        self._roomy: set[str] = set()
        self._shared: set[str] = set()
        renew_in_children(self)

    def had_room(self, folder: str) -> bool:
        """Whether there was room for one more at the last look: whoever adds may look when it is done."""
        return folder in self._roomy

    def has_company(self, folder: str) -> bool:
        """Whether the last look found records that somebody else had added."""
        return folder in self._shared

    def note(self, folder: str, age: Age) -> None:
        """Remember a record that was added."""
        with self._lock:
            if folder in self._known:
                self._known[folder][age.name] = age

    def surplus(
        self, folder: str, names: Sequence[str], look: Callable[[str], Age | None], *, coming: int
    ) -> list[Age]:
        """Which of the folder's records must go with as many more `coming`: the oldest that are not busy.

        Busy ones go when there are too many of them alone. `look` tells a record's age; None for one that must stay.
        """
        with self._lock:
            _note(self._roomy, folder, len(names) + coming < self._keep)
            if len(names) + coming <= self._keep:
                return []
            ages = self._ages(folder, names, look)
            # What cannot be read takes nobody's place.
            return _oldest(len(ages) + coming - self._keep, ages, look)

    def after_fork(self) -> None:
        """In a forked child: the lock may have been copied while another thread held it."""
        self._lock = threading.Lock()

    def _ages(self, folder: str, names: Sequence[str], look: Callable[[str], Age | None]) -> dict[str, Age]:
        known = self._known.pop(folder, {})
        _note(self._shared, folder, any(name not in known for name in names))
        found: dict[str, Age] = {}
        for name in names:
            age = known.get(name)
            if age is None or age.is_busy:
                age = look(name)
            if age is not None:
                found[name] = age
        self._known[folder] = found
        if len(self._known) > _MOST_FOLDERS:
            self._known.popitem(last=False)
        return found


def _note(folders: set[str], folder: str, is_so: bool) -> None:
    """Remember of a folder whether something is so, of a bounded number of them."""
    folders.discard(folder)
    if len(folders) >= _MOST_FOLDERS:
        folders.clear()
    if is_so:
        folders.add(folder)


def _oldest(count: int, ages: dict[str, Age], look: Callable[[str], Age | None]) -> list[Age]:
    """The `count` oldest. Those are looked at again, for what is remembered may have changed; `ages` is set right."""
    found: list[Age] = []
    queue = [*ages.values()]
    heapq.heapify(queue)
    while queue and len(found) < count:
        age = heapq.heappop(queue)
        present = look(age.name)
        if present is None:
            del ages[age.name]
            count -= 1
        elif present <= age:
            found.append(present)
        else:
            ages[age.name] = present
            heapq.heappush(queue, present)
    return found


class Throttle:
    """Says yes once per `cooldown`, the first time at once. Any thread may ask. Unmoved by changes of the clock.

    Raises TypeError for a cooldown that is no timedelta, ValueError for a negative one.
    """

    def __init__(self, cooldown: timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        if _duration("cooldown", cooldown) < timedelta(0):
            raise ValueError(f"cooldown must not be negative, got {cooldown!r}")
        self._cooldown = cooldown.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._last: float | None = None

    def ready(self) -> bool:
        """Whether the cooldown is over. A yes begins the next one."""
        with self._lock:
            now = self._clock()
            if self._last is not None and now - self._last < self._cooldown:
                return False
            self._last = now
            return True
