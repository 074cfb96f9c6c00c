"""What must be made anew in a forked child: locks that another thread of the parent held, and what hangs on them."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["Forkable", "renew_in_children"]


class Forkable(Protocol):
    """Something that a fork copies in whatever state it is in."""

    def after_fork(self) -> None:
        """In a forked child: give up what is shared with the parent, and make locks anew."""
        ...


_known: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()


def renew_in_children(thing: Forkable) -> None:
    """Have `thing.after_fork()` called in each child that is forked while it lives."""
    _known.add(thing)


def _after_fork_in_child() -> None:
    for thing in list(_known):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
