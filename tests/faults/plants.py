"""Steps with mistakes planted in them, each of which the judge must find: else it would find no other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

import fsstate
from fsstate import Store
from fsstate.backends.base import JSON, Ref
from tests.faults.deed import Deed
from tests.faults.writing import agents, make_planner, planner

__all__ = ["PLANTS"]


def say_nothing(store: Store) -> None:
    """Tell nobody of an error."""
    with contextlib.suppress(fsstate.StorageError):
        agents(store).put("planner", {"n": 2})


def take_for_absent(store: Store) -> object:
    """Take what cannot be read for what is not there."""
    try:
        return planner(store)
    except fsstate.StorageError:
        return None


def tell_too_late(store: Store) -> None:
    """Fail when all is done."""
    agents(store).put("planner", {"n": 2})
    agents(store).put("other", {"n": 2})


def keep_open(store: Store) -> None:
    """Forget a descriptor on the way out."""
    descriptor = os.open(store.path, os.O_RDONLY)
    agents(store).put("planner", {"n": 2})
    os.close(descriptor)


def keep_locked(store: Store) -> None:
    """Forget a lock on the way out."""
    held = store.backend.lock(Ref("agents", "other", JSON))
    _forgotten.append(held)
    agents(store).put("planner", {"n": 2})
    held.release()


def write_in_place(store: Store) -> None:
    """Leave half of a document behind."""
    with open(agents(store).path_of("planner"), "w", encoding="utf-8", buffering=1) as file:
        file.write('{"n":\n')
        file.write(" 2}\n")


def write_past_the_store(store: Store) -> None:
    """Tell of an error as the system does."""
    with open(agents(store).path_of("planner"), "w", encoding="utf-8") as file:
        file.write('{"n": 2}\n')


_forgotten: Final[list[Any]] = []

PLANTS: Final[Mapping[str, Deed]] = {
    "say nothing": Deed(say_nothing, planner, make_planner),
    "take for absent": Deed(take_for_absent, prepare=make_planner, is_answer=True),
    "tell too late": Deed(tell_too_late, planner, make_planner),
    "keep open": Deed(keep_open, planner, make_planner),
    "keep locked": Deed(keep_locked, planner, make_planner),
    "write in place": Deed(write_in_place, planner, make_planner, also=(OSError,)),
    "write past the store": Deed(write_past_the_store, planner, make_planner),
}
