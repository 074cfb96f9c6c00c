"""Questions as people type them: what must be found, what must not, and how SQLite is asked for it.

    red car             both words, anywhere
    "red car"           the words one behind the other; 東京 and snake_case are meant so without quotes
    plan*               words that begin so; also at the end of a phrase
    red OR blue car     the word car, and one of the other two
    car -red, NOT red   not with this word; at least one word must be asked for

Case and diacritics do not matter, save that OR, NOT and AND are operators in capitals only. What is typed is never a
syntax error: a sign that makes no sense is passed over, and an operator that has nothing to work on is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from fsstate.errors import InvalidQueryError
from fsstate.search.words import words_of

__all__ = ["Phrase", "Query"]

_QUOTES: Final = '"“”„‟«»'
_PIECE: Final = re.compile(
    rf"(?P<minus>-(?!-))?"
    rf"(?:[{_QUOTES}](?P<quoted>[^{_QUOTES}]*)(?:[{_QUOTES}]|\Z)(?P<star>\*?)|(?P<plain>[^\s{_QUOTES}]+))"
)


class Phrase(NamedTuple):
    """Tokens that must follow each other. With `prefix`, the last one only has to begin so."""

    tokens: tuple[str, ...]
    prefix: bool = False

    def match(self) -> str:
        """The phrase as FTS5 takes it. A token holds no quote, so nothing has to be escaped."""
        return f'"{" ".join(self.tokens)}"' + "*" * self.prefix

    def starts(self, tokens: Sequence[str]) -> Iterator[int]:
        """Where in a text's tokens the phrase begins."""
        *firsts, last = self.tokens
        for end in range(len(firsts), len(tokens)):
            ends = tokens[end].startswith(last) if self.prefix else tokens[end] == last
            if ends and list(tokens[end - len(firsts) : end]) == firsts:
                yield end - len(firsts)


class Query(NamedTuple):
    """A text is an answer if it has a phrase of each of the `wanted` alternatives, and none of the `unwanted`."""

    wanted: tuple[tuple[Phrase, ...], ...]
    unwanted: tuple[Phrase, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Query:
        """The question in a text. Raises InvalidQueryError when it asks for no word."""
        wanted: list[tuple[Phrase, ...]] = []
        unwanted: list[Phrase] = []
        operator = ""
        for piece in _with_operators(list(_pieces(text))):
            if isinstance(piece, str):
                operator = piece
                continue
            if piece.minus or operator == "NOT":
                unwanted.append(piece.phrase)
            elif operator == "OR" and wanted:
                wanted[-1] += (piece.phrase,)
            else:
                wanted.append((piece.phrase,))
            operator = ""
        if not wanted:
            reason = "it only says what not to find" if unwanted else "it has no word"
            raise InvalidQueryError(text, f"{reason}; give at least one word to search for")
        return cls(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(unwanted)))

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """All phrases that are wanted, each once."""
        return tuple(dict.fromkeys(phrase for alternatives in self.wanted for phrase in alternatives))

    def match(self) -> str:
        """The question as FTS5 takes it."""
        wanted = " AND ".join(map(_any_of, self.wanted))
        return f"({wanted}) NOT {_any_of(self.unwanted)}" if self.unwanted else wanted

    def fits(self, tokens: Sequence[str]) -> bool:
        """Whether a text with these tokens is an answer: the same as FTS5 says, told without it."""
        return all(_has_any(each, tokens) for each in self.wanted) and not _has_any(self.unwanted, tokens)


class _Piece(NamedTuple):
    """What stands between two spaces or quotes, if there are words in it."""

    text: str
    phrase: Phrase
    minus: bool


def _pieces(text: str) -> Iterator[_Piece]:
    for match in _PIECE.finditer(text):
        quoted, plain = match["quoted"], match["plain"]
        content = plain if quoted is None else quoted
        words = list(words_of(content))
        if words:
            prefix = bool(match["star"]) or content[words[-1].end :].startswith("*")
            phrase = Phrase(tuple(word.token for word in words), prefix)
            yield _Piece("" if quoted is not None else plain, phrase, match["minus"] is not None)


def _with_operators(pieces: Sequence[_Piece]) -> Iterator[_Piece | str]:
    """The pieces, with those that are operators as texts: they need something behind them, and OR and AND before."""
    before = ""
    for number, piece in enumerate(pieces):
        word = "" if piece.minus else piece.text
        follows = number > 0 and not before
        is_last = number == len(pieces) - 1
        if not is_last and ((word in ("OR", "AND") and follows) or (word == "NOT" and before != "NOT")):
            before = word
            yield word
        else:
            before = ""
            yield piece


def _any_of(phrases: Iterable[Phrase]) -> str:
    matches = [phrase.match() for phrase in phrases]
    return matches[0] if len(matches) == 1 else f"({' OR '.join(matches)})"


def _has_any(phrases: Iterable[Phrase], tokens: Sequence[str]) -> bool:
    return any(next(phrase.starts(tokens), None) is not None for phrase in phrases)
