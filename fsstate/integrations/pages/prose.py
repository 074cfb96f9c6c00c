r"""Text that somebody wrote as Markdown, on a page of others: shown as Markdown as far as it stays within itself. Pure.

- Emphasis, lists, tables, links and blocks of code are rendered; line breaks are kept.
- What would reach beyond the text is shown as it was typed: HTML, headings (in bold), images (they would be loaded
  from elsewhere), definitions of links. A block of code that is not closed is closed.
- Where it cannot be told for sure what is code and what is not, all of the text is shown as it was typed, in a fence.

The rules are CommonMark's (https://spec.commonmark.org/0.31.2/) and those for tables that GitHub adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from fsstate.integrations.pages.marks import fenced
from fsstate.visible import visible

__all__ = ["prose"]

_FENCE: Final = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}(?=[^`]*\Z)|~{3,})")
_CONTAINER: Final = r"(?:[ \t]*(?:[>*+-]|\d{1,9}[.)]))*[ \t]*"
_FENCE_INSIDE: Final = re.compile(rf"{_CONTAINER}(?:`{{3,}}(?=[^`]*\Z)|~{{3,}})")
_HEADING: Final = re.compile(rf"(?P<before>{_CONTAINER})(?=\#{{1,6}}(?:[ \t]|\Z))")
# One that can be bold instead.
_SIMPLE_HEADING: Final = re.compile(
    rf"(?P<before>{_CONTAINER})(?P<text>\#{{1,6}}[ \t]+(?=\S)[^*_`~!\\\[\]<>&]+(?<=\S))[ \t]*"
)
_UNDERLINE: Final = re.compile(r"(?P<before>[ \t>]*)(?=(?:=+|-+)[ \t]*\Z)")
_DEFINITION: Final = re.compile(rf"(?P<before>{_CONTAINER})(?=\[(?:\\.|[^\]\\])*(?:\]:|\\?\Z))")
_ITEM: Final = re.compile(r"[ \t]*(?:[*+-]|\d{1,9}[.)])[ \t]")
_TICKS: Final = re.compile("`+")
# What may mean something in a line: a character that is taken as it is, a code span, HTML, an image.
_MARK: Final = re.compile(r"\\[!-/:-@\[-`{-~]|`+|<|!(?=\[)")


class _UnclearError(Exception):
    """It cannot be told what is code. Never leaves this module."""


def prose(text: str) -> Iterator[str]:
    """The text as one block of a page."""
    lines = visible(text).strip("\n").split("\n")
    try:
        shown = "\n".join(_tamed(lines))
    except _UnclearError:
        yield from fenced(text)
        return
    if shown.strip():
        yield shown


def _tamed(lines: Sequence[str]) -> Iterator[str]:
    number = 0
    while number < len(lines):
        match = _FENCE.match(lines[number])
        if match is None:
            yield _tamed_line(lines, number)
            number += 1
            continue
        end = _end_of_fence(lines, number, match)
        yield from lines[number : end + 1]
        if end == len(lines):
            yield match["marks"]
        number = end + 1


def _end_of_fence(lines: Sequence[str], start: int, opening: re.Match[str]) -> int:
    """The number of the line that closes a block of code; that behind the last when none does."""
    indent, marks = opening["indent"], opening["marks"]
    closing = re.compile(rf"(?P<indent>[ \t]*){re.escape(marks[0])}{{{len(marks)},}}[ \t]*\Z")
    for number in range(start + 1, len(lines)):
        match = closing.match(lines[number])
        if match is not None and (indent or len(match["indent"]) <= 3):
            if indent:
                _check_indented(lines, range(start, number), indent, marks)
                _require(match["indent"] == indent)
            # A tab is wider than the three spaces that may stand there.
            _require("\t" not in match["indent"])
            return number
    _require(not indent)
    return len(lines)


def _check_indented(lines: Sequence[str], inside: range, indent: str, marks: str) -> None:
    """See that a block that is indented, as in a list, is code whatever it belongs to."""
    start, *rest = inside
    _require("\t" not in indent)
    _require(all(not lines[each].strip(" \t") or lines[each].startswith(indent) for each in rest))
    # Four spaces behind a line of text go on with that: then the marks are those of a code span.
    if len(indent) > 3 and start and lines[start - 1].strip(" \t"):
        _require(marks[0] == "`")
        _require(all(lines[each].strip(" \t") and "```" not in lines[each] for each in rest))


def _require(clear: bool) -> None:
    if not clear:
        raise _UnclearError


def _tamed_line(lines: Sequence[str], number: int) -> str:
    line = lines[number]
    _require(_FENCE_INSIDE.match(line) is None)
    before = lines[number - 1].strip(" \t>") if number else ""
    shown = _inline(line)
    if before and _UNDERLINE.match(line):
        shown = _UNDERLINE.sub(r"\g<before>\\", shown, count=1)
    if (simple := _SIMPLE_HEADING.fullmatch(line)) is not None:
        shown = f"{simple['before']}**{simple['text']}**"
    elif _HEADING.match(line):
        shown = _HEADING.sub(r"\g<before>\\", shown, count=1)
    elif _DEFINITION.match(line):
        shown = _DEFINITION.sub(r"\g<before>\\", shown, count=1)
    is_indented = line.startswith(("    ", "\t")) or line[:4].strip(" ").startswith("\t")
    # Perhaps it is code, where a backslash is one.
    _require(shown == line or not is_indented or _ITEM.match(line) is not None)
    return shown + _break(lines, number)


def _break(lines: Sequence[str], number: int) -> str:
    """What keeps the next line from going on in this one; nothing where it does not anyway."""
    line, after = lines[number], lines[number + 1] if number + 1 < len(lines) else ""
    is_text = line.strip(" \t") and after.strip(" \t") and "|" not in line and not line.endswith(("\\", "  "))
    return "  " if is_text else ""


def _inline(line: str) -> str:
    """The line with code spans as they are, and without what would be HTML, an image, or a code span's beginning."""
    parts: list[str] = []
    position = 0
    while (match := _MARK.search(line, position)) is not None:
        parts.append(line[position : match.start()])
        size, shown = _shown(line, match)
        parts.append(shown)
        position = match.start() + size
    return "".join([*parts, line[position:]])


def _shown(line: str, mark: re.Match[str]) -> tuple[int, str]:
    """How many characters belong together, and how they are shown."""
    if mark[0].startswith("`"):
        return _ticks(line, mark.start())
    return len(mark[0]), mark[0] if mark[0].startswith("\\") else f"\\{mark[0]}"


def _ticks(line: str, position: int) -> tuple[int, str]:
    opening = _TICKS.match(line, position)
    assert opening is not None
    for closing in _TICKS.finditer(line, opening.end()):
        if len(closing[0]) == len(opening[0]):
            span = line[position : closing.end()]
            # A table's cells end at a pipe, also in code.
            _require("<" not in span or "|" not in line)
            return len(span), span
    return len(opening[0]), "\\`" * len(opening[0])
