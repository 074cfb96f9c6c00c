"""Whether there is an order in which operations on one record make sense: exact, also with unknown outcomes.

Operations that overlap may have taken effect in any order; one that ended before another began took effect before it.
The search is that of Wing and Gong (Testing and verifying concurrent objects, 1993), with the two savings of Lowe
(Testing for linearizability, 2017): an operation is given its place only when its end, or that of another, asks for it,
and what was tried is remembered. All that can have happened until a moment is a few states, each with the operations
under way that have already taken effect in it, so that time is one window after another. Of several that do the same
and end at the same moment, as those of a program that was killed do, it makes no difference which comes first.

Every record may be judged by itself: linearizability is local (Herlihy and Wing, 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from tests.storms.history import Operation

__all__ = ["Step", "first_misfit"]

S = TypeVar("S")

# The states that an operation may leave behind, given the state before it: none where it does not fit, with what it
# was told. It is not asked whether one with an unknown outcome did nothing at all.
Step: TypeAlias = Callable[[S, Operation], Iterable[S]]

# A state, and those of the operations under way that brought it about, by their numbers.
_Moment: TypeAlias = tuple[S, frozenset[int]]


def first_misfit(operations: Sequence[Operation], initial: S, step: Step[S]) -> str | None:
    """Say which operation, the first to end, fits no order of those before it; None if all fit."""
    moments: set[_Moment[S]] = {(initial, frozenset())}
    under_way: dict[int, Operation] = {}
    for _, ends, number in sorted(_events(operations)):
        operation = operations[number]
        if not ends:
            under_way[number] = operation
            continue
        after = _reached(moments, number, under_way, step)
        if operation.outcome == "unknown":
            after |= {moment for moment in moments if number not in moment[1]}
        if not after:
            states = sorted({repr(state) for state, _ in moments})[:5]
            beside = "".join(f"\n    beside {each}" for each in under_way.values() if each is not operation)
            return f"{operation} fits no order: what it met can only have been {' or '.join(states)}{beside}"
        moments = {(state, placed - {number}) for state, placed in after}
        del under_way[number]
    return None


def _events(operations: Sequence[Operation]) -> Iterable[tuple[int, bool, int]]:
    """Begins and ends. Those of the same instant overlap; what may go on for ever has no end."""
    for number, operation in enumerate(operations):
        yield operation.begun, False, number
        if operation.ended is not None:
            yield operation.ended, True, number


def _reached(
    moments: Iterable[_Moment[S]], number: int, under_way: dict[int, Operation], step: Step[S]
) -> set[_Moment[S]]:
    """All that can be when this operation has taken effect, last of all unless it had before."""
    reached: set[_Moment[S]] = set()
    open_, seen = list(moments), set(moments)
    twins = _twins(under_way)
    while open_:
        state, placed = open_.pop()
        if number in placed:
            reached.add((state, placed))
            continue
        for other, operation in under_way.items():
            if other not in placed and twins.get(other, other) in (other, *placed):
                more = {(left, placed | {other}) for left in step(state, operation)} - seen
                seen |= more
                open_ += more
    return reached


def _twins(under_way: Mapping[int, Operation]) -> dict[int, int]:
    """For operations that do the same until the same moment: the one before each, which may as well come first."""
    latest: dict[str, int] = {}
    twins: dict[int, int] = {}
    for number, each in under_way.items():
        same = repr((each.does, each.given, each.outcome, each.result, each.ended))
        if same in latest:
            twins[number] = latest[same]
        latest[same] = number
    return twins
