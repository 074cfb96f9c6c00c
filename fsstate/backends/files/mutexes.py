"""Mutexes that are not always waited for, and that no signal leaves taken.

A signal's handler, as that of Ctrl-C, may raise between any two steps of Python code: also between taking a lock and
the `try` that gives it back, and between a lock's taking and the assignment that says so. `with lock` has no such
place, but waits without end.
"""

from __future__ import annotations

from itertools import starmap
from threading import Lock

__all__ = ["take"]


def take(lock: Lock, taken: list[bool], timeout: float = 0.0) -> bool:
    """Take the lock within `timeout` seconds, and note in `taken` whether it was had, in one step.

    Called inside the `try` whose `finally` gives it back: `if True in taken: lock.release()`, written out there, since
    a handler may also raise before a function of ours has begun.
    """
    # Both happen inside one call of C code, in which no handler runs once the lock is taken.
    taken.extend(starmap(lock.acquire, ((True, timeout),)))
    return taken[-1]
