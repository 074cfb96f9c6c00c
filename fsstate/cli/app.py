"""The `fsstate` command, put together: the commands, the global options, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import fsstate
from fsstate.cli import output
from fsstate.cli.base import COMPLETION_VARIABLE, Command, Group, Settings, pass_settings
from fsstate.cli.commands import Commands
from fsstate.cli.exits import CODES, guarded

__all__ = ["program", "run"]

_RECORDS = (
    "How records are given",
    "agents/planner   a document, a note or a log; with its extension where several have the name",
    "0198c3f0         a session: its id, 6 or more characters of it, or its label",
)
_EXIT_CODES = tuple(f"{code:<4} {meaning}" for code, meaning in CODES.items())


class Program(Group):
    """The outermost command: every way in ends in an exit code, and none in a traceback."""

    outermost = True

    def main(self, *args: Any, **given: Any) -> Any:
        """Run, and exit; with `standalone_mode=False` return the exit code instead."""
        standalone = given.pop("standalone_mode", True)
        given |= {"prog_name": "fsstate", "complete_var": COMPLETION_VARIABLE, "color": output.wants_colour()}
        run_it: Callable[..., object] = super().main
        code = guarded(lambda: run_it(*args, standalone_mode=False, **given))
        if standalone:
            sys.exit(code)
        return code

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the exit codes behind the rest."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write("".join(f"  {line}\n" for line in _EXIT_CODES))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Tells a closed pipe apart before click ends the program because of it."""
        settings = ctx.ensure_object(Settings)
        ctx.call_on_close(settings.close)
        try:
            super().invoke(ctx)
            output.flush()
        except BrokenPipeError:
            output.discard_the_rest()
            raise click.exceptions.Exit(141) from None


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        output.say(f"fsstate {fsstate.__version__}")
        context.exit()


@click.group(
    cls=Program,
    commands=Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    notes=_RECORDS,
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Print the version."
)
def program() -> None:
    """Look at, change and tidy a state directory: durable JSON, Markdown and logs as plain files.

    New here? `fsstate demo` shows it at work. The directory is --store, or $FSSTATE_STORE, or `state`.
    """


@program.command(
    cls=Command,
    shape=('{"store", "created"}',),
)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@pass_settings
def init(settings: Settings, directory: str | None) -> None:
    """Make a state directory.

    DIR is that of --store by default. One that is there stays as it is.
    """
    if directory is not None:
        settings.store = directory
    created = not Path(settings.store, ".fsstate", "store.json").exists()
    if created:
        settings.backend.prepare()
    if settings.json:
        output.json_document({"store": settings.opened.path, "created": created})
    else:
        output.say(f"{output.one_line(settings.store)} {'is ready' if created else 'is a store already'}")


def run() -> int:
    """Run the command line of this process and return its exit code."""
    output.prepare()
    arguments = sys.argv[1:] or ["--help"]
    code: int = program.main(arguments, standalone_mode=False)
    return code
