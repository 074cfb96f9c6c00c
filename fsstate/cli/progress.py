"""A progress bar for work that takes its time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from fsstate.cli import output
from fsstate.cli.base import Settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]


class ProgressBar:
    """Drawn from the first call on, and only for a person: neither with --json nor into a file. A context manager."""

    def __init__(self, settings: Settings, doing: str) -> None:
        self._shown = not settings.json and output.is_terminal(sys.stderr)
        self._doing = doing
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def __call__(self, done: int, total: int) -> None:
        """Draw how far it is."""
        if self._shown:
            self._bar = self._bar or _start(self._doing)
            self._bar[0].update(self._bar[1], completed=done, total=total)


def _start(doing: str) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=output.console(err=True), transient=True)
    bar.start()
    return bar, bar.add_task(doing)
