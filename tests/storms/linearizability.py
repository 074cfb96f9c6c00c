"""Whether there is an order in which operations on one record make sense: exact, also with unknown outcomes.

Operations that overlap may have taken effect in any order; one that ended before another began took effect before it.
The search is that of Wing and Gong (Testing and verifying concurrent objects, 1993), with the two savings of Lowe
(Testing for linearizability, 2017): an operation is given its place only when its end, or that of another, asks for it,
and what was tried is remembered. All that can have happened until a moment is a few states, each with the operations
under way that have already taken effect in it, so that time is one window after another.

Every record may be judged by itself: linearizability is local (Herlihy and Wing, 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
            return f"{operation} fits no order: what it met can only have been {' or '.join(states)}"
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
    while open_:
        state, placed = open_.pop()
        if number in placed:
            reached.add((state, placed))
            continue
        for other, operation in under_way.items():
            if other not in placed:
                more = {(left, placed | {other}) for left in step(state, operation)} - seen
                seen |= more
                open_ += more
    return reached
