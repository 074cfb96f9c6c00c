"""What the parts of one open store share."""

from __future__ import annotations

from typing import Any, NamedTuple

from fsstate.backends.base import Backend
from fsstate.index import Index
from fsstate.ownership import Ownership
from fsstate.projection import Projections
from fsstate.record_types import RecordType
from fsstate.retention import Newest
from fsstate.times import Clock, RisingTimes

__all__ = ["Shared"]


class Shared(NamedTuple):
    """What there is one of.

    - `backend`: the place that keeps the files; `clock`: what time it is; `rising`: times that never go back.
    - `projections`: what logs were folded to.
    - `ownership`: who works on what.
    - `indexes`: what lists and queries ask of many records.
    - `newest`: the ages of the records of those types that keep so many of them.
    - `parts`: what is made when it is first needed, by name.
    - `search_exclude`: the categories that are not searched.
    """

    backend: Backend
    clock: Clock
    projections: Projections
    ownership: Ownership
    rising: RisingTimes
    indexes: Index
    newest: dict[RecordType[Any], Newest]
    parts: dict[str, Any]
    search_exclude: tuple[str, ...]
