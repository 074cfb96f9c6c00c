"""Descriptors, of which a process may have only so many.

What is kept open merely to save time later is let go when there are no more to be had, and the call is made once more.
An error is told only where that does not help: what is open by then is in use.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["on_shortage", "open_at", "with_enough"]

T = TypeVar("T")

_keepers: Final[weakref.WeakSet[weakref.WeakMethod[Callable[[], None]]]] = weakref.WeakSet()


class _State(threading.local):
    """Whether this thread lets go of descriptors right now, which may itself need one."""

    is_busy = False


_state: Final = _State()


def on_shortage(let_go: Callable[[], None]) -> object:
    """Have a method called, in any thread, when there are no more descriptors, for as long as the result lives.

    It closes what is only kept, and waits for nobody.
    """
    keeper = weakref.WeakMethod(let_go)
    _keepers.add(keeper)
    return keeper


def open_at(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """As `os.open`, with enough descriptors."""
    try:
        return os.open(name, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        if not _made_room(error):
            raise
    return os.open(name, flags, mode, dir_fd=dir_fd)


def with_enough(call: Callable[[], T]) -> T:
    """Make a call that takes a descriptor."""
    try:
        return call()
    except OSError as error:
        if not _made_room(error):
            raise
    return call()


def _made_room(error: OSError) -> bool:
    if error.errno != errno.EMFILE or _state.is_busy:
        return False
    _state.is_busy = True
    try:
        for keeper in list(_keepers):
            let_go = keeper()
            if let_go is not None:
                let_go()
    finally:
        _state.is_busy = False
    return True
