"""What must hold of a history: pure functions that return what is wrong, in words."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tests.storms.history import Operation
from tests.storms.linearizability import first_misfit
from tests.storms.models import Document, Lifetime, document, lifetime

__all__ = [
    "counter_problems",
    "document_problems",
    "entry_problems",
    "growth_problems",
    "lifetime_problems",
    "listing_problems",
    "number_problems",
    "reading_problems",
]

# Operations that bring a record into being, and those that take it away.
_MAKERS = ("create", "restore")
_TAKERS = ("delete", "prune")
# What stands for all values that nobody saw.
_UNSEEN = "unseen"


def _observed(operations: Iterable[Operation]) -> set[object]:
    """The values that somebody saw."""
    seen: set[object] = set()
    for each in operations:
        seen |= {*each.result.values()} if isinstance(each.result, dict) else {each.result}
        seen |= {*each.given.get("expects", ())}
    return seen


def _blurred(operations: Iterable[Operation], fields: Sequence[str], seen: set[object]) -> list[Operation]:
    """The operations, with one value in the place of all that nobody saw: which it was makes no difference."""
    blurred = list[Operation]()
    for each in operations:
        unseen = {name: _UNSEEN for name in fields if name in each.given and each.given[name] not in seen}
        blurred.append(msgspec.structs.replace(each, given={**each.given, **unseen}) if unseen else each)
    return blurred


def document_problems(operations: Sequence[Operation]) -> list[str]:
    """A document's reads and writes fit no order."""
    seen = _observed(operations)

    def matters(each: Operation) -> bool:
        # One that nobody was told of, and whose value nobody saw, may as well have done nothing: others came behind it.
        written = {each.given[name] for name in ("register", "note") if name in each.given}
        return each.outcome != "unknown" or bool(each.given.get("add")) or bool(written & seen)

    matter = [each for each in operations if matters(each)]
    misfit = first_misfit(_blurred(matter, ("register", "note"), seen), Document(), document)
    return [] if misfit is None else [misfit]


def lifetime_problems(operations: Sequence[Operation]) -> list[str]:
    """A record was deleted and came back, was created twice, or was seen when it was not there."""
    misfit = first_misfit(_blurred(operations, ("content",), _observed(operations)), Lifetime(), lifetime)
    return [] if misfit is None else [misfit]


def counter_problems(counter: int, operations: Sequence[Operation]) -> list[str]:
    """A counter lost an increment that was acknowledged, or has one that nobody made."""
    sums = {"done": 0, "unknown": 0}
    for each in operations:
        if each.may_count:
            sums[each.outcome] += each.given.get("add", 0)
    least, most = sums["done"], sums["done"] + sums["unknown"]
    return [] if least <= counter <= most else [f"the counter is {counter}, expected {least} to {most}"]


# -- logs


def number_problems(seqs: Sequence[int]) -> list[str]:
    """Numbers of a log's entries are missing, twice there, or out of order."""
    return [
        f"entry {place} of the log has the number {seq}" for place, seq in enumerate(seqs, 1) if seq != place
    ][:5]  # fmt: skip


def entry_problems(tokens: Sequence[str], appends: Sequence[Operation]) -> list[str]:
    """Entries are missing, twice there, from nowhere, elsewhere than was told, or out of the order of time.

    `tokens` are what the entries hold, in the order of the file, and what is `given` to the appends. An append's result
    is the number that it was told, if any.
    """
    return [*_miscounted(tokens, appends), *_misplaced(tokens, appends)]


def _miscounted(tokens: Sequence[str], appends: Sequence[Operation]) -> Iterator[str]:
    counts = Counter(tokens)
    yield from (f"entry {token} is there {times} times" for token, times in counts.items() if times > 1)
    for each in appends:
        if each.outcome == "done" and each.given["text"] not in counts:
            yield f"{each} was acknowledged and is missing"
    made = {each.given["text"] for each in appends if each.may_count}
    yield from (f"entry {token} comes from nowhere" for token in counts if token not in made)


def _misplaced(tokens: Sequence[str], appends: Sequence[Operation]) -> Iterator[str]:
    by_token = {each.given["text"]: each for each in appends}
    latest: Operation | None = None
    for number, token in enumerate(tokens, 1):
        each = by_token.get(token)
        if each is None:
            continue
        if each.outcome == "done" and each.result not in (None, number):
            yield f"{each} was told number {each.result}, and has {number}"
        if latest is not None and each.is_before(latest):
            yield f"{each} had ended before {latest} began, and stands behind it"
        latest = each if latest is None or each.begun > latest.begun else latest


def reading_problems(tokens: Sequence[str], appends: Sequence[Operation], reads: Sequence[Operation]) -> list[str]:
    """Somebody read something else than a piece of the log up to its end at that moment.

    A read's result is the tokens that it saw, up to the end of the log as it was.
    """
    places = {token: place for place, token in enumerate(tokens)}
    ended = sorted((each.ended or 0, places[each.given["text"]]) for each in appends if _is_told(each, places))
    begun = {each.given["text"]: each.begun for each in appends}
    found: list[str] = []
    most, pending = -1, iter([*ended, (None, 0)])
    moment, place = next(pending)
    for read in sorted((each for each in reads if each.outcome == "done"), key=lambda each: each.begun):
        while moment is not None and moment < read.begun:
            most = max(most, place)
            moment, place = next(pending)
        found += _misread(read, places, most, begun)
    return found + _going_back(reads, places)


def _is_told(each: Operation, places: Mapping[str, int]) -> bool:
    return each.outcome == "done" and each.given["text"] in places


def _misread(read: Operation, places: Mapping[str, int], most: int, begun: Mapping[str, int]) -> Iterator[str]:
    seen: list[str] = read.result
    where = [places.get(token, -1) for token in seen]
    if -1 in where:
        yield f"{read} saw {seen[where.index(-1)]}, which is not in the log"
    elif any(after != before + 1 for before, after in itertools.pairwise(where)):
        yield f"{read} saw entries at {where}, which do not follow one another"
    elif (where[-1] if where else -1) < most:
        yield f"{read} did not see entry {most + 1}, which had been acknowledged before"
    elif any(begun[token] > (read.ended or 0) for token in seen if token in begun):
        yield f"{read} saw what began only later"


def _going_back(reads: Sequence[Operation], places: Mapping[str, int]) -> list[str]:
    """Reads that saw less than one that had ended before they began."""
    told = [each for each in reads if each.outcome == "done"]
    ends = sorted((each.ended or 0, max((places.get(token, -1) for token in each.result), default=-1)) for each in told)
    found: list[str] = []
    most, position = -1, 0
    for read in sorted(told, key=lambda each: each.begun):
        while ends[position][0] < read.begun:
            most = max(most, ends[position][1])
            position += 1
        if max((places.get(token, -1) for token in read.result), default=-1) < most:
            found.append(f"{read} saw less than a read before it, which saw entry {most + 1}")
    return found


# -- listings


def listing_problems(listings: Iterable[Operation], records: Mapping[str, Sequence[Operation]]) -> list[str]:
    """A list missed a record that was there all the time, or has one that was not there at any time of it.

    A listing's result is the names that it found; `records` has what was done to each.
    """
    found: list[str] = []
    for listing in (each for each in listings if each.outcome == "done"):
        names = set(listing.result)
        for name, operations in records.items():
            if name not in names and _stood(operations, listing, _MAKERS, _TAKERS):
                found.append(f"{listing} missed {name}, which was there all the time")
            if name in names and (
                _stood(operations, listing, _TAKERS, _MAKERS) or not any(_began(operations, listing, _MAKERS))
            ):
                found.append(f"{listing} has {name}, which was not there")
    return found


def _began(operations: Sequence[Operation], listing: Operation, kinds: Sequence[str]) -> Iterator[bool]:
    """For those of these kinds that may have taken effect before the end of the listing."""
    for each in operations:
        if each.does in kinds and each.may_count and each.begun <= (listing.ended or 0):
            yield True


def _stood(operations: Sequence[Operation], listing: Operation, by: Sequence[str], against: Sequence[str]) -> bool:
    """Whether one of a kind was acknowledged before the listing, and none against it may have come behind that one."""
    made = [each for each in operations if each.does in by and each.outcome == "done" and each.is_before(listing)]
    if not made:
        return False
    last = max(made, key=lambda each: each.begun)
    undone = (each for each in operations if each.does in against and each.may_count)
    return all(each.is_before(last) or listing.is_before(each) for each in undone)


# -- programs that go on


def growth_problems(figures: Sequence[float], what: str, *, slack: float) -> list[str]:
    """Something grew behind the first third of the time by more than `slack`."""
    third = len(figures) // 3
    if third == 0:
        return []
    warm, late = statistics.median(figures[third : 2 * third]), statistics.median(figures[-third:])
    return [f"{what} grew from {warm:,.0f} to {late:,.0f}"] if late > warm + slack else []
