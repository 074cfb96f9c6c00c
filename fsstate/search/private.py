"""An index in memory, for stores that keep none: gone with whoever made it, and shared with nobody."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fsstate.backends.base import State, Visit
from fsstate.forks import renew_in_children

if TYPE_CHECKING:
    import sqlite3

__all__ = ["PrivateCache"]

R = TypeVar("R")


class PrivateCache:
    """A `Cache` in memory. Threads use it one after the other; a forked child begins an empty one."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._mutex = threading.Lock()
        self._born = 0
        self._writes = 0
        # At most one.
        self._open: list[sqlite3.Connection] = []
        self._finalizer = weakref.finalize(self, _close, self._open)
        renew_in_children(self)

    def exists(self) -> bool:
        """Whether anything was kept."""
        return bool(self._open)

    def read(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes nothing."""
        with self._mutex:
            db, state = self._connection(), self._state()
            return work(Visit(db, state, state))

    def write(self, work: Callable[[Visit], R]) -> R:
        """Do work that writes, all or nothing."""
        with self._mutex, self._connection() as db:
            db.execute("BEGIN")
            state = self._state()
            self._writes += 1
            return work(Visit(db, state, self._state()))

    def close(self) -> None:
        """Give back the memory. It is begun anew when it is used again."""
        with self._mutex:
            _close(self._open)

    def after_fork(self) -> None:
        """In a forked child: another thread may have been at work."""
        self._mutex = threading.Lock()
        _close(self._open)

    def _state(self) -> State:
        return State(str(self._born), self._writes)

    def _connection(self) -> sqlite3.Connection:
        if not self._open:
            import sqlite3

            self._born += 1
            self._open.append(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
            self._open[0].executescript(self._schema)
        return self._open[0]


def _close(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
