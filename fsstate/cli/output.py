r"""Printing: JSON for programs, plain lines for people.

- What people see never carries a control character of the data to their terminal: it is shown as `\x1b`.
- Nothing fails because the terminal's encoding lacks a character: that is shown as `\u2026`.
- Colours go to terminals only, and to none when NO_COLOR is set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from fsstate import codec
from fsstate.visible import one_line, shown_time, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "Warnings",
    "brief",
    "can_show",
    "complain",
    "console",
    "count",
    "discard_the_rest",
    "draw",
    "fields",
    "flush",
    "is_terminal",
    "json_document",
    "json_line",
    "one_line",
    "prepare",
    "say",
    "shown_size",
    "shown_time",
    "table",
    "visible",
    "wants_colour",
    "width",
]

_UNITS: Final = ("bytes", "KB", "MB", "GB", "TB", "PB")
# Wide enough to never cut a table that goes to a file or a program.
_UNCUT: Final = 10_000


def brief(text: str, width: int) -> str:
    """The first line of the text, cut to `width` characters, with every control character made visible."""
    first, _, rest = text.strip().partition("\n")
    line = one_line(first.strip())
    return f"{line[: width - 1]}…" if len(line) > width or (rest and len(line) == width) else line + "…" * bool(rest)


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown_size(number: int) -> str:
    """Bytes as people read them, in units of a thousand: `999 bytes`, `1.2 MB`."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return count(number, "byte")
    return f"{value:.1f} {_UNITS[unit]}" if value < 9.95 else f"{value:.0f} {_UNITS[unit]}"


def say(text: str = "") -> None:
    """Print to standard output. Requires: what came from the data was made visible."""
    click.echo(text)


def complain(message: str) -> None:
    """Print one line to standard error, for people."""
    # Standard error may be closed, too, and there is nobody left to tell.
    with contextlib.suppress(OSError):
        click.echo(f"fsstate: {one_line(message)}", err=True)


def json_document(value: object) -> None:
    """Print one JSON value, indented."""
    click.echo(codec.encode(value), nl=False)


def json_line(value: object) -> None:
    """Print one JSON value on one line."""
    click.echo(codec.encode_line(value))


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sits there."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour() -> bool | None:
    """False when nobody wants colours; None leaves it to whether the output is a terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def console(*, err: bool = False) -> Console:
    """Where rich draws. Text that goes elsewhere than to a terminal is not cut."""
    from rich.console import Console

    terminal = is_terminal(sys.stderr if err else sys.stdout)
    return Console(
        stderr=err, width=None if terminal else _UNCUT, no_color=wants_colour() is False, highlight=False, emoji=False
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table. Columns that are empty throughout are left out; the last one is cut to the terminal's width.

    No other column is: who cannot read an id cannot use it.
    """
    from rich.cells import cell_len

    columns = [list(map(one_line, column)) for column in zip(heads, *rows, strict=True) if any(column[1:])]
    widths = [max(map(cell_len, column)) for column in columns]
    widths[-1] = min(widths[-1], _room_for_last(widths))
    for number, cells in enumerate(zip(*columns, strict=True)):
        line = "  ".join(map(_fitted, cells, widths)).rstrip()
        say(line if number else click.style(line, bold=True))


def _room_for_last(widths: Sequence[int]) -> int:
    if not is_terminal(sys.stdout):
        return widths[-1]
    return max(8, width() - sum(each + 2 for each in widths[:-1]))


def width() -> int:
    """How many cells a line of the terminal has; 80 where there is none."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if is_terminal(sys.stdout) else 80


def can_show(text: str) -> bool:
    """Whether the encoding of standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _fitted(text: str, width: int) -> str:
    """The text in so many cells of a terminal: a character may take two."""
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def draw(drawing: RenderableType) -> None:
    """Print a drawing of rich's, without spaces at the ends of lines."""
    here = console()
    with here.capture() as captured:
        here.print(drawing)
    for line in captured.get().splitlines():
        say(line.rstrip())


def fields(values: Mapping[str, Any]) -> str:
    """`key=value` for each, on one line; texts without quotes where that is clear."""
    return "  ".join(f"{one_line(key)}={_field(value)}" for key, value in values.items())


def _field(value: object) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s\"=]", value):
        return one_line(value)
    return one_line(codec.encode_line(value).decode())


def prepare() -> None:
    """Make the standard streams and the library's log fit for people. Called once, by the program."""
    # A program may be started with some of them closed.
    sys.stdin = _there(sys.stdin, "r")
    sys.stdout, sys.stderr = _there(sys.stdout, "w"), _there(sys.stderr, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log = logging.getLogger("fsstate")
    log.addHandler(Warnings(logging.WARNING))
    log.propagate = False


def flush() -> None:
    """Hand everything to the reader now. Raises BrokenPipeError when it went away."""
    sys.stdout.flush()


def _there(stream: TextIO | None, mode: str) -> TextIO:
    # Never closed: it lives as long as the program does.
    return TextIOWrapper(FileIO(os.devnull, mode), encoding="utf-8") if stream is None else stream


def discard_the_rest() -> None:
    """Throw away what cannot be written any more, so that the interpreter's own flush at exit does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Warnings(logging.Handler):
    """Prints what the library warns about, one line each, and the same only once: a log is read again and again."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, unless it was printed before."""
        message = record.getMessage()
        if message not in self._told:
            self._told.add(message)
            complain(f"warning: {message}")
