"""Whether a disk's flushes can be what they claim to be.

A flush that returned shall mean that the data outlives a power cut. No program can see whether that is so; it can see
that a flush took less time than a disk needs.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from fsstate.mounts import IN_MEMORY

__all__ = ["Flushes", "Trust", "judge"]

# Whether a flush can have reached a disk: no; perhaps not; as far as its time tells, yes.
Trust: TypeAlias = Literal["none", "doubtful", "plausible"]

# Seconds. The quickest drives that keep what they acknowledge need more than the first; most need more than the second.
_IMPOSSIBLE: Final = 8e-6
_QUICK: Final = 80e-6


class Flushes(NamedTuple):
    """What is to be thought of a disk's flushes, and why, in a sentence for people."""

    trust: Trust
    reason: str


def judge(kind: str, flush: float) -> Flushes:
    """Say what to think of flushes that take so many seconds each on a file system of this kind.

    `flush` is how much longer a write takes that is flushed than one that is not.
    """
    took = f"{max(flush, 0) * 1e6:.3g} µs"
    if kind in IN_MEMORY:
        return Flushes("none", f"{kind} keeps files in memory: a flush does nothing there, and a power cut takes all")
    if flush < _IMPOSSIBLE:
        return Flushes(
            "none", f"a flush adds only {took} to a write, less than any disk needs: nothing here outlives a power cut"
        )
    if flush < _QUICK:
        return Flushes(
            "doubtful",
            f"a flush adds only {took} to a write: drives that back up their cache are so quick, and virtual disks"
            " whose host answers before its own disk has the data",
        )
    return Flushes("plausible", f"a flush adds {took} to a write, as a disk may need that keeps what it acknowledges")
