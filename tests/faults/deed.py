"""A step that a store does for its callers, and what a reader sees of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import fsstate
from fsstate import Store

__all__ = ["GONE", "TAKEN", "Deed", "Do"]

Do = Callable[[Store], object]


def nothing(_: Store) -> None:
    """Needs nothing but what is in every store."""


class Deed(NamedTuple):
    """One step.

    - `do`: does it; what raises is an error that its caller was told. `look`: what a reader sees of it.
    - `prepare`: makes what must be there before.
    - `is_answer`: it changes nothing, and what it returns must be true.
    - `in_parts`: a fault may leave some parts of what `look` tells as they were, and change the others.
    - `may_be_left`: the same, where a fault that goes on keeps it from being taken back.
    - `within`: only calls below that folder fail, and nobody may notice.
    - `also`: errors that it may tell besides StorageError. `repeated`: those of doing it when it is done already.
    """

    do: Do
    look: Do = nothing
    prepare: Do = nothing
    is_answer: bool = False
    in_parts: bool = False
    may_be_left: bool = False
    within: str = ""
    also: tuple[type[Exception], ...] = ()
    repeated: tuple[type[Exception], ...] = ()


TAKEN: Final = (fsstate.AlreadyExistsError,)
GONE: Final = (fsstate.NotFoundError,)
