"""The three verbs of retention, for all that has documents which a policy may take away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsstate.retention import PrunePlan, PrunePolicy, PruneReport
    from fsstate.sweeper import Progress, Sweeper

__all__ = ["Prunable"]


class Prunable(ABC):
    """What can be pruned. Age comes from the times that the records tell, never from those of their files.

    That is, of a session, its last change or the last entry of any of its logs; of a record, the time of its type's
    usual order; of any other document, its `updated_at`, or else its `created_at`.
    """

    @abstractmethod
    def _sweeper(self) -> Sweeper:
        """What does it."""

    def plan(self, policy: PrunePolicy, *, progress: Progress | None = None) -> PrunePlan:
        """Tell which records a policy wants to go, and which stay whatever it says. Writes nothing.

        A record stays that is pinned (`"pinned": true`), archived (it has an `archived_at`), in flight, in use at this
        moment, or undated, or that cannot be read. What goes is told with its bytes, all that belongs to it included.
        Sessions and documents are named by their names, records of a type as `<folder>/<name>.json`. `progress` is told
        how many were looked at, and of how many.
        """
        return self._sweeper().plan(policy, progress=progress)

    def apply(self, plan: PrunePlan, *, trash: bool = True, progress: Progress | None = None) -> PruneReport:
        """Move what was planned to the trash, with all that belongs to it; tell which went and why. Durable at return.

        What was touched since it was planned stays, as does what is locked or being written to. `Store.trash` restores
        the others. With `trash=False` they are deleted at once. Raises ValueError, before anything is touched, for a
        plan of something else; StorageError when the trash cannot be written.
        """
        return self._sweeper().apply(plan, trash=trash, progress=progress)

    def prune(
        self, policy: PrunePolicy, *, dry_run: bool = False, trash: bool = True, progress: Progress | None = None
    ) -> PruneReport:
        """`plan` and `apply`. With `dry_run` nothing is touched."""
        return self._sweeper().prune(policy, dry_run=dry_run, trash=trash, progress=progress)
