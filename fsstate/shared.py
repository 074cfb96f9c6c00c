"""What the parts of one open store share."""

from __future__ import annotations

from typing import NamedTuple

from fsstate.backends.base import Backend
from fsstate.ownership import Ownership
from fsstate.projection import Projections
from fsstate.times import Clock, RisingTimes

__all__ = ["Shared"]


class Shared(NamedTuple):
    """The place that keeps the files, the clock, what logs were folded to, who works on what, and times that rise."""

    backend: Backend
    clock: Clock
    projections: Projections
    ownership: Ownership
    rising: RisingTimes
