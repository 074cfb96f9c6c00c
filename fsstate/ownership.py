"""Who works on a record in flight: each open store holds one lock for as long as it is open.

A record in flight names its holder, and the holder lives exactly as long as somebody holds its lock. The operating
system gives the lock back when the process ends, however that happens; a pid could be somebody else's by then.
"""

from __future__ import annotations

import threading
from typing import Final

from fsstate import ids, names
from fsstate.backends.base import JSON, Backend, Held, Ref
from fsstate.forks import renew_in_children

__all__ = ["Ownership"]

# No category of records: what the locks are called.
_HOLDERS: Final = "holders"


class Ownership:
    """The holder that one open store is, and a look at others. Any thread may call."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._mine: tuple[str, Held] | None = None
        renew_in_children(self)

    def mine(self) -> str:
        """Our own name as a holder. The first call takes the lock."""
        with self._lock:
            if self._mine is None:
                name = ids.new_id()
                self._mine = name, self._backend.lock(_ref(name))
            return self._mine[0]

    def is_alive(self, holder: object) -> bool:
        """Whether the store that goes by this name is open somewhere. What is no name is nobody."""
        return isinstance(holder, str) and names.is_name(holder) and self._backend.is_locked(_ref(holder))

    def close(self) -> None:
        """Let go: what this store works on is abandoned."""
        with self._lock:
            mine, self._mine = self._mine, None
        if mine is not None:
            mine[1].release()

    def after_fork(self) -> None:
        """In a forked child: what the parent works on stays the parent's."""
        self._lock = threading.Lock()
        self._mine = None


def _ref(name: str) -> Ref:
    return Ref(_HOLDERS, name, JSON)
