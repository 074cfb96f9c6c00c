"""What is known of a disk: the file system on it, and whether its flushes can be what they claim to be.

A flush that returned shall mean that the data outlives a power cut. No program can see whether that is so; it can see
that a flush took less time than a disk needs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["Flushes", "Trust", "file_system", "is_journaled", "judge"]

# Whether a flush can have reached a disk: no; perhaps not; as far as its time tells, yes.
Trust: TypeAlias = Literal["none", "doubtful", "plausible"]

# These keep files in memory.
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
# In /proc/mounts: a space, a tab, a line end, a backslash.
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
# Seconds. The quickest drives that keep what they acknowledge need more than the first; most need more than the second.
_IMPOSSIBLE: Final = 8e-6
_QUICK: Final = 80e-6


class Flushes(NamedTuple):
    """What is to be thought of a disk's flushes, and why, in a sentence for people."""

    trust: Trust
    reason: str


def file_system(directory: str) -> str:
    """The type of the file system that a directory is on, as Linux tells it; "unknown" elsewhere."""
    place, best, kind = os.path.realpath(directory), "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return kind
    for mount in mounts:
        _, escaped, found, *_ = mount.split(" ")
        point = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), escaped)
        # The last one counts of several at the same point.
        if len(point) >= len(best) and Path(place).is_relative_to(point):
            best, kind = point, found
    return kind


def is_journaled(directory: str, kind: str) -> bool:
    """Whether a flush waits for a journal. Only ext4 goes without, and only where it was made so."""
    if kind in _IN_MEMORY:
        return False
    device = os.stat(directory).st_dev  # noqa: PTH116 - a str
    disk = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    return kind != "ext4" or any(Path("/proc/fs/jbd2").glob(f"{Path(disk).name}-*"))


def judge(kind: str, flush: float) -> Flushes:
    """Say what to think of flushes that take so many seconds each on a file system of this kind.

    `flush` is how much longer a write takes that is flushed than one that is not.
    """
    took = f"{max(flush, 0) * 1e6:.3g} µs"
    if kind in _IN_MEMORY:
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
