"""`--types`: record types that an application declares, from its own modules."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, TypeGuard, cast

import click

from fsstate.record_types import RecordType

__all__ = ["load"]


def load(places: Iterable[str]) -> tuple[RecordType[Any], ...]:
    """The types in these places, each once. Raises UsageError for a place without any, and for two of one category."""
    # In the order in which they come; a type is often imported by other modules, too.
    found = tuple({id(kind): kind for place in places for kind in _types_at(place)}.values())
    by_place: dict[tuple[str | None, str], RecordType[Any]] = {}
    for kind in found:
        if by_place.setdefault((kind.parent, kind.category), kind) is not kind:
            raise click.UsageError(f"there are several types for {kind.category!r}: say --types MODULE:NAME for one")
    return found


def _types_at(place: str) -> list[RecordType[Any]]:
    name, _, attribute = place.partition(":")
    module = _imported(name)
    if attribute and not hasattr(module, attribute):
        raise click.UsageError(f"{name} has no {attribute}")
    values = [getattr(module, attribute)] if attribute else vars(module).values()
    found = [kind for value in values for kind in _types_in(value)]
    if not found:
        raise click.UsageError(f"{place} {'is' if attribute else 'has'} no RecordType")
    return found


def _types_in(value: object) -> Iterator[RecordType[Any]]:
    several = cast("Iterable[object]", value) if isinstance(value, (tuple, list)) else (value,)
    yield from filter(_is_type, several)


def _is_type(value: object) -> TypeGuard[RecordType[Any]]:
    return isinstance(value, RecordType)


def _imported(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - a str, as all of sys.path
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        # What a module prints while it is imported is no part of the answer.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise click.UsageError(f"cannot import {name}: {type(error).__name__}: {error}") from error
