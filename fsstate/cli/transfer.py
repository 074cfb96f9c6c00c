"""`import` and `export`: what other programs keep, into the store and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import click

from fsstate.cli import output
from fsstate.cli.addresses import Session, find_session
from fsstate.cli.base import Group, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.errors import StorageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["export_group", "import_group"]


@click.group("import", cls=Group)
def import_group() -> None:
    """Import what other programs keep."""


@click.group("export", cls=Group)
def export_group() -> None:
    """Export in the form that other programs read."""


@import_group.command(
    "claude-code",
    shape=('{"sessions", "messages", "events", "tool_calls", "unchanged", "rows": numbers, "problems": [text]}',),
)
@click.argument("path", type=click.Path(exists=True))
@pass_settings
def import_claude_code(settings: Settings, path: str) -> None:
    """Import Claude Code transcripts.

    PATH is a .jsonl file, or a directory with all that are below it. Importing again changes nothing. A line that
    cannot be read is reported and left out; the exit code is 1 then.
    """
    from fsstate.integrations.claude_code import import_transcripts

    with _Progress(shown=not settings.json and output.is_terminal(sys.stderr)) as progress:
        report = import_transcripts(settings.opened, path, progress=progress)
    numbers = {
        name: getattr(report, name) for name in ("sessions", "messages", "events", "tool_calls", "unchanged", "rows")
    }
    if settings.json:
        output.json_document({**numbers, "problems": [str(problem) for problem in report.problems]})
    else:
        _tell(numbers, report.problems)
    if report.problems:
        click.get_current_context().exit(PROBLEM)


def _tell(numbers: dict[str, int], problems: Iterable[object]) -> None:
    for problem in problems:
        output.complain(str(problem))
    shown = ("message", "event", "tool_call")
    parts = ", ".join(output.count(numbers[f"{name}s"], name.replace("_", " ")) for name in shown)
    rows = output.count(numbers["rows"], "row")
    output.say(f"imported {output.count(numbers['sessions'], 'session')} from {rows}: {parts}")
    if numbers["unchanged"]:
        output.say(f"{output.count(numbers['unchanged'], 'session')} unchanged")


class _Progress:
    """A progress bar, drawn from the first call on."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def __call__(self, done: int, total: int) -> None:
        if self._shown:
            self._bar = self._bar or _start_bar()
            self._bar[0].update(self._bar[1], completed=done, total=total)


def _start_bar() -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=output.console(err=True), transient=True)
    bar.start()
    return bar, bar.add_task("importing")


@export_group.command(
    "claude-code",
    shape=('the same, JSON lines; with --output: {"session", "output", "rows"}',),
)
@click.argument("session", type=Session())
@click.option(
    "--output", "-o", "target", type=click.Path(dir_okay=False), help="Write to this file, whole or not at all."
)
@pass_settings
def export_claude_code(settings: Settings, session: str, target: str | None) -> None:
    """Export a session that was imported from Claude Code.

    Every row comes back, in order.
    """
    from fsstate.integrations.claude_code import export_transcript

    ref = find_session(settings, session)
    lines = export_transcript(settings.opened, ref.name)
    if target is None or target == "-":
        _write(lines, sys.stdout.buffer)
        return
    with _replacing(target) as file:
        rows = _write(lines, file)
    if settings.json:
        output.json_document({"session": ref.name, "output": target, "rows": rows})
    else:
        output.say(f"exported {output.count(rows, 'row')} to {output.one_line(target)}")


def _write(lines: Iterable[bytes], file: IO[bytes]) -> int:
    rows = 0
    for line in lines:
        file.write(line if line.endswith(b"\n") else line + b"\n")
        rows += 1
    return rows


@contextmanager
def _replacing(target: str) -> Generator[IO[bytes]]:
    """A file that takes the target's place at the end of the block, or never."""
    import tempfile

    try:
        fd, path = tempfile.mkstemp(prefix=".fsstate-", dir=Path(target).resolve().parent)
    except OSError as error:
        raise StorageError.of("write", target, error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        Path(path).replace(target)
    except BaseException:
        Path(path).unlink()
        raise
