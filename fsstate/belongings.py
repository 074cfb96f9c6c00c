"""What belongs to a document, and goes with it: deleted as one, and never inherited by the next of the same name."""

from __future__ import annotations

from collections.abc import Callable

from fsstate import trash
from fsstate.backends.base import Backend, Ref

__all__ = ["delete", "sweep"]


def delete(backend: Backend, owner: Ref, confirm: Callable[[], bool]) -> bool:
    """Delete a document with all that belongs to it, if `confirm` says so under its lock; return whether it was there.

    Waits for those who are writing to it; raises LockTimeoutError when one takes too long.
    """
    deleted = backend.delete_with(owner, owner.belongings, confirm)
    if not deleted:
        # Who began to delete it may have been killed before all was gone.
        sweep(backend, owner)
    return deleted


def sweep(backend: Backend, owner: Ref) -> None:
    """Remove what a crash left of a deleted document, lest a new one inherits it.

    What is left of one that is in the trash follows it there.
    """
    trash.rescue(backend, owner)
    held = backend.lock(owner)
    try:
        if backend.read(owner) is None:
            backend.discard(owner.belongings)
    finally:
        held.release()
