"""Where each command is. One that is looked up is imported then: who runs `ls` loads none of the others."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Final

import click

__all__ = ["Commands"]

# By its name: the module of this package, and what the command is called there.
_PLACES: Final = {
    "bench": ("bench", "bench"),
    "cat": ("documents", "cat"),
    "completion": ("completion", "completion"),
    "conflicts": ("conflicts", "conflicts"),
    "demo": ("demo", "demo"),
    "doctor": ("doctor", "doctor"),
    "edit": ("editing", "edit"),
    "export": ("exporting", "export_group"),
    "git": ("git", "git"),
    "import": ("transfer", "import_group"),
    "log": ("logs", "log"),
    "ls": ("listing", "ls"),
    "migrate": ("recovery", "migrate"),
    "pin": ("retention", "pin"),
    "prune": ("retention", "prune"),
    "put": ("documents", "put"),
    "recover": ("recovery", "recover"),
    "resolve": ("conflicts", "resolve"),
    "restore": ("retention", "restore"),
    "rm": ("documents", "rm"),
    "search": ("searching", "search"),
    "sessions": ("sessions", "sessions"),
    "show": ("showing", "show"),
    "stats": ("stats", "stats"),
    "trash": ("retention", "trash"),
    "unpin": ("retention", "unpin"),
}


class Commands(MutableMapping[str, click.Command]):
    """The commands by name; a group keeps its own in it, too. To list the names imports nothing."""

    def __init__(self) -> None:
        self._found: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._found:
            module, attribute = _PLACES[name]
            self._found[name] = getattr(import_module(f"fsstate.cli.{module}"), attribute)
        return self._found[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found or name in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter({**_PLACES, **self._found})

    def __len__(self) -> int:
        return len({**_PLACES, **self._found})
