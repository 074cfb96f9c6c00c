"""Who works on a record in flight: each open store holds one lock for as long as it is open.

A record in flight names its holder, and the holder lives exactly as long as somebody holds its lock. The operating
system gives the lock back when the process ends, however that happens; a pid could be somebody else's by then.
A store that is dropped, or whose program ends, without being closed lets go as well, and leaves no lock file.
"""

from __future__ import annotations

import errno
import logging
import threading
import weakref
from typing import Any, Final

from fsstate import ids, names
from fsstate.backends.base import JSON, Backend, Ref
from fsstate.errors import StorageError
from fsstate.forks import renew_in_children

__all__ = ["Ownership"]

# No category of records: what the locks are called.
_HOLDERS: Final = "holders"
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM)

_log = logging.getLogger("fsstate")


class Ownership:
    """The holder that one open store is, and a look at others. Any thread may call."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        # Our name, and what gives its lock back: at the latest when this object or the program ends.
        self._mine: tuple[str, weakref.finalize[[], Any]] | None = None
        self._untold: set[str] = set()
        renew_in_children(self)

    def mine(self) -> str:
        """Our own name as a holder. The first call takes the lock."""
        with self._lock:
            if self._mine is None:
                name = ids.new_id()
                held = self._backend.lock(_ref(name))
                self._mine = name, weakref.finalize(self, held.release)
            return self._mine[0]

    def is_alive(self, holder: object) -> bool:
        """Whether the store that goes by this name is open somewhere. What is no name is nobody.

        A holder that we may not look at counts as alive, with a warning: nobody's work is ended by a guess.
        """
        if not isinstance(holder, str) or not names.is_name(holder):
            return False
        try:
            return self._backend.is_locked(_ref(holder))
        except StorageError as error:
            if error.errno not in _NOT_ALLOWED:
                raise
            self._warn_once(holder, error)
            return True

    def _warn_once(self, holder: str, error: StorageError) -> None:
        if holder not in self._untold:
            self._untold.add(holder)
            _log.warning("%s: whether the holder %s lives cannot be told; what it holds is left alone", error, holder)

    def close(self) -> None:
        """Let go: what this store works on is abandoned."""
        with self._lock:
            mine, self._mine = self._mine, None
        if mine is not None:
            mine[1]()

    def after_fork(self) -> None:
        """In a forked child: what the parent works on stays the parent's."""
        self._lock = threading.Lock()
        if self._mine is not None:
            self._mine[1].detach()
        self._mine = None


def _ref(name: str) -> Ref:
    return Ref(_HOLDERS, name, JSON)
