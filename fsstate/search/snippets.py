"""Snippets: the piece of a text that shows best why it was found, and where in it the words are.

The best piece has the most different phrases, then the most matches, and is the first of these.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fsstate.search.passages import Part
from fsstate.search.query import Phrase
from fsstate.search.words import words_of

__all__ = ["WIDTH", "Snippet", "snippet_of"]

# Characters, some two lines of a terminal.
WIDTH: Final = 160
# So far is a cut moved for a whole word's sake.
_LEEWAY: Final = 24
_CUT: Final = "…"
_SPACE: Final = re.compile(r"\s+")

Span = tuple[int, int]


class Snippet(NamedTuple):
    """A piece of a part, and where the matches are in it. `line` is that of the first match."""

    text: str
    spans: tuple[Span, ...]
    field: str | None
    line: int


class _Match(NamedTuple):
    start: int
    end: int
    phrase: int


class _Window(NamedTuple):
    """Matches that fit into one snippet: how many phrases, and how often any."""

    phrases: int
    hits: int
    matches: tuple[_Match, ...]


_NOTHING: Final = _Window(0, 0, ())


def snippet_of(parts: Sequence[Part], phrases: Sequence[Phrase], width: int = WIDTH) -> Snippet:
    """The best piece of all parts, about `width` characters of it. Without a match, the beginning of the first."""
    best, found = Part(""), _NOTHING
    for number, part in enumerate(parts):
        window = _best_window(_matches(part.text, phrases), width)
        if number == 0 or window[:2] > found[:2]:
            best, found = part, window
        if found.phrases == len(phrases):
            break
    spans = _merged(found.matches)
    first, last = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    text, spans = _cut_out(best.text, *_borders(best.text, first, last, width), spans)
    return Snippet(text, spans, best.field, best.line + (best.text.count("\n", 0, first) if best.counts else 0))


def _matches(text: str, phrases: Sequence[Phrase]) -> list[_Match]:
    words = list(words_of(text))
    tokens = [word.token for word in words]
    return sorted(
        _Match(words[start].start, words[start + len(phrase.tokens) - 1].end, number)
        for number, phrase in enumerate(phrases)
        for start in _starts(phrase, tokens)
    )


def _starts(phrase: Phrase, tokens: Sequence[str]) -> Iterator[int]:
    if len(phrase.tokens) == 1 and not phrase.prefix:
        token = phrase.tokens[0]
        return (place for place, each in enumerate(tokens) if each == token)
    return phrase.starts(tokens)


def _best_window(matches: Sequence[_Match], width: int) -> _Window:
    best = _NOTHING
    ends = 0
    for begins, first in enumerate(matches):
        ends = max(ends, begins + 1)
        while ends < len(matches) and matches[ends].end - first.start <= width:
            ends += 1
        if (ends - begins) <= best.hits and best.phrases == len({match.phrase for match in matches[begins:ends]}):
            continue
        inside = tuple(matches[begins:ends])
        window = _Window(len({match.phrase for match in inside}), len(inside), inside)
        if window[:2] > best[:2]:
            best = window
    return best


def _merged(matches: Iterable[_Match]) -> tuple[Span, ...]:
    """The matches as spans that do not overlap."""
    spans: list[Span] = []
    for match in matches:
        if spans and match.start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], match.end)
        else:
            spans.append((match.start, match.end))
    return tuple(spans)


def _borders(text: str, first: int, last: int, width: int) -> Span:
    """Where to cut: the matches in the middle, whole words at the ends."""
    around = max(0, width - (last - first)) // 2
    start, end = max(0, first - around), min(len(text), last + around)
    start, end = max(0, min(start, end - width)), min(len(text), max(end, start + width))
    if start > 0:
        start = _snapped(text, start, range(start, min(first, start + _LEEWAY)))
    if end < len(text):
        end = _snapped(text, end, range(end, max(last, end - _LEEWAY), -1))
    return start, end


def _snapped(text: str, place: int, near: range) -> int:
    """The nearest place between two words; without one, a place where no mark is cut off from its letter."""
    for each in near:
        if text[each].isspace() or text[each - 1].isspace():
            return each
    return next((each for each in near if not unicodedata.combining(text[each])), place)


def _cut_out(text: str, start: int, end: int, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """The piece on one line, and the spans in it."""
    piece = text[start:end]
    # Each run of spaces as one, and how much shorter that makes what comes behind it.
    shrunk, ends, losses = [""], [0], [0]
    rest = 0
    for match in _SPACE.finditer(piece):
        shrunk += piece[rest : match.start()], " " if match.start() > 0 and match.end() < len(piece) else ""
        rest = match.end()
        ends.append(rest)
        losses.append(losses[-1] + len(match[0]) - len(shrunk[-1]))
    shrunk.append(piece[rest:])
    before = _CUT if start > 0 else ""

    def moved(place: int) -> int:
        return len(before) + place - start - losses[bisect_right(ends, place - start) - 1]

    moved_spans = tuple((moved(first), moved(last - 1) + 1) for first, last in spans)
    return before + "".join(shrunk) + (_CUT if end < len(text) else ""), moved_spans
