"""The pieces of a Markdown page: fences, folds, tables, and text that is meant as text. Pure.

Whatever the content is, it stays within its piece: nothing in it ends a fence, a fold or a cell, begins a heading or
is taken for HTML. Control characters are made visible.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fsstate import codec
from fsstate.visible import one_line, visible

__all__ = ["Cut", "brief", "code", "count", "facts", "fenced", "folded", "json_of", "plain", "table"]

_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|~&$#!]|(?<![^\W_])_|_(?![^\W_])")
_TICKS: Final = re.compile("`+")
# Of what is cut, so much of its limit is its beginning; the rest is its end.
_BEGINNING: Final = 0.75


class Cut(NamedTuple):
    """How much of a tool's output, or of a list, is shown: so many lines, and so many characters."""

    lines: int = 200
    characters: int = 20_000


def plain(text: str) -> str:
    """The text on one line, as itself: nothing in it is Markdown or HTML."""
    return _SPECIAL.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> str:
    """The text on one line as a code span, also in the cell of a table."""
    shown = one_line(text).replace("|", "\\|") or " "
    ticks = "`" * (_longest(shown) + 1)
    space = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


def fenced(text: str, info: str = "text", cut: Cut | None = None) -> Iterator[str]:
    """The text as a block of code. What `cut` takes out of its middle is counted in a line there."""
    shown = visible(text)
    lines = shown.split("\n")
    if cut is not None and (len(lines) > cut.lines or len(shown) > cut.characters):
        shown = _cut(shown, lines, cut)
    fence = "`" * max(3, _longest(shown) + 1)
    yield f"{fence}{info}\n{shown.removesuffix(chr(10))}\n{fence}"


def _cut(text: str, lines: Sequence[str], cut: Cut) -> str:
    head, tail = _share(cut.lines)
    if len(lines) > cut.lines:
        shown = "\n".join([*lines[:head], _left_out(len(lines) - head - tail, "line"), *lines[len(lines) - tail :]])
        return shown if len(shown) <= cut.characters else _cut_characters(shown, cut)
    return _cut_characters(text, cut)


def _cut_characters(text: str, cut: Cut) -> str:
    head, tail = _share(cut.characters)
    gone = _left_out(len(text) - head - tail, "character")
    return f"{text[:head]}\n{gone}\n{text[len(text) - tail :]}"


def _share(number: int) -> tuple[int, int]:
    head = int(number * _BEGINNING)
    return head, number - head


def _left_out(number: int, noun: str) -> str:
    return f"[… {count(number, noun)} left out here; --full shows all …]"


def json_of(value: object) -> str:
    """A JSON value, indented."""
    return codec.encode(value).decode().removesuffix("\n")


def folded(summary: str, blocks: Iterable[str]) -> Iterator[str]:
    """Blocks that a reader opens. The summary is text on one line."""
    yield f"<details>\n<summary>{html.escape(one_line(summary), quote=False)}</summary>"
    yield from blocks
    yield "</details>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and what they are; those that are nothing are left out. Requires: they are Markdown."""
    return table(("", ""), [(f"**{name}**", value) for name, value in rows if value])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Requires: its cells are what `plain` and `code` gave."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def brief(text: str, width: int) -> str:
    """The first line that says something, on one line, cut to `width` characters."""
    said = text.strip()
    first = one_line(said.partition("\n")[0].strip())
    return first if len(first) <= width and len(said) <= width else f"{first[: width - 1].rstrip()}…"


def count(number: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _longest(text: str) -> int:
    return max((len(run) for run in _TICKS.findall(text)), default=0)
