"""What to prune, and when: pure decisions. The sweep that moves or deletes is the business of who owns the records.

Age comes from the time that a record tells, never from a file's mtime: `git checkout` resets those. A time in the
future is no age at all, so a clock that was set back prunes nothing for its age.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from fsstate.forks import renew_in_children
from fsstate.keys import Key

__all__ = [
    "Age",
    "Candidate",
    "Kept",
    "Mark",
    "Newest",
    "Planned",
    "PrunePlan",
    "PrunePolicy",
    "PruneReport",
    "Pruned",
    "Reason",
    "Shortlist",
    "Throttle",
    "select_expired",
]

# Why a record is to go: it was idle for longer than the ttl, there are more than `keep` younger ones, or all that stays
# would take more than `max_bytes`.
Reason: TypeAlias = Literal["ttl", "count", "bytes"]

# What differs once a record was touched.
Mark: TypeAlias = bytes

# Ages of the records of this many folders are remembered.
_MOST_FOLDERS: Final = 256

_log = logging.getLogger("fsstate")


class PrunePolicy:
    """Which records may stay.

    - `ttl`: those active within this time; the others go.
    - `keep`: of those, the latest this many; with `per`, the name of a field, the latest this many for each of its
      values. Those without the field are counted together.
    - `max_bytes`: of what the others leave, the oldest go until the rest takes no more than this.
    - `batch`: at most this many go at once, the oldest first; the rest waits for the next time.

    None means no limit. With neither `ttl`, `keep` nor `max_bytes` nothing is ever pruned, and a warning is logged.
    Records that are exempt (pinned, archived, in flight …) stay, and count for no limit.
    Raises ValueError for a limit of 0 or less: whoever means "off" says None; and for `per` without `keep`. Raises
    TypeError for what is no limit at all.
    """

    __slots__ = ("batch", "keep", "max_bytes", "per", "ttl")

    def __init__(
        self,
        *,
        ttl: timedelta | None = None,
        keep: int | None = None,
        per: str | None = None,
        max_bytes: int | None = None,
        batch: int | None = None,
    ) -> None:
        if ttl is not None and _duration("ttl", ttl) <= timedelta(0):
            raise ValueError(f"ttl must be longer than 0, got {ttl!r}; None means that age does not matter")
        for name, limit in (("keep", keep), ("max_bytes", max_bytes), ("batch", batch)):
            if limit is not None and _number(name, limit) <= 0:
                raise ValueError(f"{name} must be 1 or more, got {limit!r}; None means no limit")
        _check_field(per, keep)
        if ttl is None and keep is None and max_bytes is None:
            _log.warning("a PrunePolicy with neither ttl nor keep nor max_bytes prunes nothing")
        self.ttl = ttl
        self.keep = keep
        self.per = per
        self.max_bytes = max_bytes
        self.batch = batch

    def __repr__(self) -> str:
        given = (f"{name}={getattr(self, name)!r}" for name in ("ttl", "keep", "per", "max_bytes", "batch"))
        return f"PrunePolicy({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrunePolicy) and self._limits() == other._limits()

    def __hash__(self) -> int:
        return hash(self._limits())

    def _limits(self) -> tuple[object, ...]:
        return self.ttl, self.keep, self.per, self.max_bytes, self.batch


def _duration(name: str, value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, such as timedelta(hours=1), got {value!r}")
    return value


def _number(name: str, value: object) -> int:
    # True is an int, and means something else.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}; None means no limit")
    return value


def _check_field(per: object, keep: int | None) -> None:
    if per is None:
        return
    if not isinstance(per, str):
        raise TypeError(f"per must be the name of a field, got {per!r}")
    if not per or keep is None:
        raise ValueError(f"per={per!r} says for each of which keep counts; give keep as well, and the name of a field")


class Candidate(NamedTuple):
    """A record as it was looked at.

    - `last_active`: when it was, as far as it tells. None: it is never pruned.
    - `bytes`: what it takes, with all that belongs to it.
    - `group`: the value of the policy's `per`.
    - `exempt`: why it stays whatever the policy says.
    - `mark`: differs once it, or anything that belongs to it, was touched. None: that cannot be told yet.
    - `has_belongings`: whether anything goes with it.
    """

    id: str
    last_active: datetime | None
    bytes: int = 0
    group: Hashable = None
    exempt: str | None = None
    mark: Mark | None = None
    has_belongings: bool = False


class Planned(NamedTuple):
    """A record that is to go, why, and what `apply` knows it by: it stays if it has another mark by then.

    In the plan of a log, it stands for `number` entries that are to go for one reason; `id` names the first and last.
    """

    id: str
    reason: Reason
    last_active: datetime
    bytes: int
    mark: Mark
    number: int = 1
    has_belongings: bool = False


class Pruned(NamedTuple):
    """A record that went, or would have gone in a dry run. Of a log, it stands for `number` entries."""

    id: str
    reason: Reason
    last_active: datetime
    bytes: int
    number: int = 1


class Kept(NamedTuple):
    """A record that stayed whatever the policy says, or although it was to go.

    `reason`: it is "pinned", "archived", "in flight", "locked" (in use at this moment), or "undated": it tells no time;
    it was "touched" since it was looked at; or there was an "error: …".
    """

    id: str
    reason: str


class PrunePlan(NamedTuple):
    """What a policy wants to go, the oldest first, and what stays whatever it says. Nothing is done yet.

    `bytes` is what would come back, `staying` how many records would be left, and `staying_bytes` what they take, as
    far as they could be looked at.
    """

    pruned: list[Planned]
    kept: list[Kept]
    bytes: int
    staying: int
    staying_bytes: int


class PruneReport(NamedTuple):
    """What went, and what stayed and why. With `dry_run` nothing was touched.

    `bytes` is what the records took that went. They came back with `trash=False`; else they are in the trash, and come
    back when that is emptied: `in_trash` says so.
    """

    pruned: list[Pruned]
    kept: list[Kept]
    dry_run: bool
    bytes: int = 0
    in_trash: bool = False


class Shortlist(NamedTuple):
    """What `select_expired` would decide about many records, told by somebody who need not look at each.

    - `expired`: those that go, the oldest first, each with its reason.
    - `exempt`: those that stay whatever the policy says, and what cannot be read.
    - `number`, `bytes`: of all records there are.
    """

    expired: Sequence[tuple[Candidate, Reason]]
    exempt: Sequence[Kept]
    number: int
    bytes: int


class _Due(NamedTuple):
    """Sorts by age; among equals by id."""

    last_active: datetime
    id: str
    number: int
    reason: Reason


def select_expired(
    candidates: Sequence[Candidate], policy: PrunePolicy, now: datetime
) -> list[tuple[Candidate, Reason]]:
    """Decide which records go: those older than the ttl; of the rest all but the latest `keep`, in each group; of what
    that leaves the oldest, until it fits into `max_bytes`.

    Oldest first; among equals by id. A record active exactly `ttl` ago stays. So does one that is exempt or tells no
    time, and it takes nobody's place.
    """
    dated = sorted(
        (each.last_active, each.id, number)
        for number, each in enumerate(candidates)
        if each.exempt is None and each.last_active is not None
    )
    due: list[_Due] = []
    rest: list[tuple[datetime, str, int]] = []
    for each in dated:
        if policy.ttl is not None and now - each[0] > policy.ttl:
            due.append(_Due(*each, "ttl"))
        else:
            rest.append(each)
    if policy.keep is not None:
        rest = _keep_latest(rest, candidates, policy.keep, due)
    if policy.max_bytes is not None:
        _fit(rest, candidates, policy.max_bytes, due)
    due.sort()
    return [(candidates[each.number], each.reason) for each in due[: policy.batch]]


def _keep_latest(
    dated: list[tuple[datetime, str, int]], candidates: Sequence[Candidate], keep: int, due: list[_Due]
) -> list[tuple[datetime, str, int]]:
    """Put all but the latest of each group with those that are due; return the others."""
    surplus = Counter(candidates[number].group for _, _, number in dated)
    rest: list[tuple[datetime, str, int]] = []
    for each in dated:
        group = candidates[each[2]].group
        if surplus[group] > keep:
            surplus[group] -= 1
            due.append(_Due(*each, "count"))
        else:
            rest.append(each)
    return rest


def _fit(
    dated: list[tuple[datetime, str, int]], candidates: Sequence[Candidate], max_bytes: int, due: list[_Due]
) -> None:
    """Put the oldest with those that are due, until the others fit."""
    total = sum(candidates[number].bytes for _, _, number in dated)
    for each in dated:
        if total <= max_bytes:
            return
        total -= candidates[each[2]].bytes
        due.append(_Due(*each, "bytes"))


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

    def put_off(self, seconds: float) -> None:
        """Say no for so long from now on, and yes after that."""
        with self._lock:
            self._last = self._clock() - self._cooldown + seconds
