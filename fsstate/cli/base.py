"""What all commands share: the global options, which stand before or behind the command, and the open store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fsstate.backends.base import Backend
from fsstate.errors import NotFoundError
from fsstate.lazy import lazy_property
from fsstate.options import StoreOptions
from fsstate.store import Store

if TYPE_CHECKING:
    from fsstate.record_types import RecordType

__all__ = ["COMPLETION_VARIABLE", "Command", "Group", "ParamType", "Settings", "pass_settings"]

# By which a shell asks what a word may be completed to.
COMPLETION_VARIABLE: Final = "_FSSTATE_COMPLETE"
_DEFAULT_STORE: Final = "state"
# Writes where a store cannot keep its promise, too: see StoreOptions.
_ANY_FILE_SYSTEM: Final = "FSSTATE_ANY_FILE_SYSTEM"
T = TypeVar("T")

# Generic in newer releases of click, and not so in older ones.
if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType


class Settings:
    """What the global options say, and what is open because of them."""

    def __init__(self) -> None:
        self.store = _DEFAULT_STORE
        # The store if the command line itself names it.
        self.named: str | None = None
        self.json = False
        self.wait = StoreOptions().lock_timeout
        # Record types of the application's own; set before the store is opened.
        self.types: Sequence[RecordType[Any]] = ()
        self._open = contextlib.ExitStack()

    @lazy_property
    def opened(self) -> Store:
        """The store. Opening it writes nothing."""
        return self._open.enter_context(Store(self.store, self.options, types=self.types))

    @property
    def options(self) -> StoreOptions:
        """How the store is opened."""
        anywhere = os.environ.get(_ANY_FILE_SYSTEM, "") not in ("", "0")
        return StoreOptions(lock_timeout=self.wait, file_system="any" if anywhere else "safe")

    def open_unchecked(self) -> Store:
        """The store, whatever its mark says: for looking at what is wrong with it."""
        return self._open.enter_context(Store.unchecked(self.store, self.options, types=self.types))

    @property
    def backend(self) -> Backend:
        """The store's files, for what deals in bytes."""
        return self.opened.backend

    def require_store(self) -> None:
        """Raise NotFoundError when there is no store: who only looks must not take a typo for an empty one."""
        directory = Path(self.store)
        if not directory.is_dir():
            # A file in its place is reported by the store, which cannot be opened.
            _ = directory.exists() and self.opened
            message = f"{self.store} does not exist; say --store DIR, or make one with `fsstate init`"
            raise NotFoundError(self.store, message)

    def close(self) -> None:
        """Give back what was opened."""
        self._open.close()


def pass_settings(function: Callable[..., T]) -> Callable[..., T]:
    """Hand the settings to a command as its first argument."""
    return click.make_pass_decorator(Settings)(function)


def _note_store(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    if not value:
        raise click.BadParameter(
            "the directory has an empty name; leave the option out for the default", context, parameter
        )
    settings = context.ensure_object(Settings)
    settings.store = value
    if context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE:
        settings.named = value


def _note_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).json = True


def _note_wait(context: click.Context, _: click.Parameter, value: float | None) -> None:
    if value is not None:
        context.ensure_object(Settings).wait = value


def _shared_options(*, outermost: bool) -> list[click.Parameter]:
    return [
        click.Option(
            ["--store"],
            metavar="DIR",
            type=click.Path(),
            # Once: a default of the inner command would hide what the outer one was given.
            envvar="FSSTATE_STORE" if outermost else None,
            expose_value=False,
            callback=_note_store,
            help="The directory that keeps the state.  [env: FSSTATE_STORE; default: state]",
        ),
        click.Option(
            ["--json"], is_flag=True, expose_value=False, callback=_note_json, help="Print JSON, for programs."
        ),
        click.Option(
            ["--wait"],
            metavar="SECONDS",
            type=click.FloatRange(min=0),
            expose_value=False,
            callback=_note_wait,
            help="How long to wait for a record that somebody else is changing.  [default: 30]",
        ),
    ]


class _Documented(click.Command):
    """A command that takes the global options, too, and whose help has sections that are printed as they are.

    `shape` says what it prints with --json, for programs to rely on. `notes` is a heading and its lines.
    """

    outermost = False

    def __init__(self, *args: Any, shape: tuple[str, ...] = (), notes: tuple[str, ...] = (), **given: Any) -> None:
        super().__init__(*args, **given)
        self.params.extend(_shared_options(outermost=self.outermost))
        self._sections = [(notes[:1], notes[1:]), (("With --json",), shape)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the sections."""
        super().format_epilog(ctx, formatter)
        for head, lines in self._sections:
            if lines:
                with formatter.section(head[0]):
                    formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in lines))


class Command(_Documented):
    """A command of fsstate."""


class Group(_Documented, click.Group):
    """A group of such commands. The outermost one reads the environment."""

    command_class = Command


Group.group_class = Group
