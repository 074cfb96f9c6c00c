"""The three verbs of retention for async code."""

from __future__ import annotations

from typing import Generic, TypeVar

from fsstate.aio.offload import Mirror, offloaded
from fsstate.prunable import Prunable

__all__ = ["AsyncPrunable"]

S_co = TypeVar("S_co", bound=Prunable, covariant=True)


class AsyncPrunable(Mirror[S_co], Generic[S_co]):
    """What can be pruned; see `fsstate.prunable.Prunable`."""

    plan = offloaded(Prunable.plan)
    apply = offloaded(Prunable.apply)
    prune = offloaded(Prunable.prune)
