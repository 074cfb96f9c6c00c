"""Words: how a text of any script becomes the tokens that are searched for.

- A word is a run of letters, marks and digits. Everything else stands between words: `snake_case` is two of them.
- Case, diacritics and compatibility forms do not matter: `Straße` is `STRASSE`, `Café` is `cafe`, `ｆｕｌｌ` is `full`.
- Scripts that write no spaces (Han, Kana, Thai, Khmer …) have a token for each character, and so do pictures such as
  emoji: a run of them is looked for as a phrase, so that any part of it is found.
- Colours of terminals, in the output of programs, are no words.
- What SQLite makes of a text does not depend on its version, since it is only given tokens, with spaces in between.

Pure, and the same for what is indexed, what is asked for and what is shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Final, NamedTuple

__all__ = ["BOUNDARY", "LONGEST", "Word", "tokens_of", "words_of"]

# Longer ones are cut, in texts and in questions alike: nobody types a line of base64, but one may be pasted.
LONGEST: Final = 200
# A token that no text has. It stands between parts of a record, so that no phrase goes from one to the next.
BOUNDARY: Final = "\ue000"

_ASCII: Final = re.compile(r"[a-z0-9]+")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]")
# Scripts without spaces, and pictures. Of these ranges, only letters, marks, digits and pictures are tokens.
_SINGLE_RANGES: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x1AAF),  # Tai Le, New Tai Lue, Buginese, Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2600, 0x27BF),  # pictures
    (0x2E80, 0x312F),  # Han radicals, Kana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFF9D),  # Kana of half width
    (0x1AFF0, 0x1B16F),  # Kana
    (0x1F000, 0x1FAFF),  # pictures
)
# Han again: all of two planes, whatever of it the Unicode of this Python knows.
_HAN_PLANES: Final = "\U00020000-\U0003fffd"
_BEYOND: Final = 0x20000
# They are written inside words, and are none of their letters: soft hyphen, joiners.
_JOINERS: Final = "\u00ad\u200c\u200d\u2060"
_JOINER: Final = re.compile(f"[{_JOINERS}\ufe00-\ufe0f]")
# Voicing marks of half width are letters by category, and belong to the character before them.
_VOICING: Final = "\uff9e\uff9f"
# Words of natural languages, which come again and again, are shorter.
_KEPT_LENGTH: Final = 40


class Word(NamedTuple):
    """One token, and where what it was made of stands in the text."""

    token: str
    start: int
    end: int


def tokens_of(text: str) -> list[str]:
    """The tokens of a text, in order."""
    text = _without_colours(text)
    if text.isascii():
        return [token[:LONGEST] for token in _ASCII.findall(text.lower())]
    return [word.token for word in words_of(text)]


def words_of(text: str) -> Iterator[Word]:
    """The tokens of a text with their places. One character may stand for several: `ﬁ` is "fi", `ﷺ` four words."""
    text = _without_colours(text)
    if text.isascii():
        for match in _ASCII.finditer(text.lower()):
            yield Word(match[0][:LONGEST], match.start(), match.end())
        return
    for match in _patterns()[0].finditer(text):
        for token in _tokens_in(match[0]):
            yield Word(token, match.start(), match.end())


def _without_colours(text: str) -> str:
    """The text with spaces in the place of a terminal's colours, as the output of programs has them."""
    return _COLOUR.sub(lambda match: " " * len(match[0]), text) if "\x1b" in text else text


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds words in a text, and what finds tokens in a word that was folded. Made when first needed."""
    lone, marks, rest = _classes()
    picture = f"[{lone}{_HAN_PLANES}][{marks}{_VOICING}\ufe00-\ufe0f]*"
    letter = f"[{rest}]"
    return (
        re.compile(f"{picture}|{letter}(?:{letter}|[{_JOINERS}]+(?={letter}))*"),
        re.compile(f"[{lone}{_HAN_PLANES}]|{letter}+"),
    )


def _classes() -> tuple[str, str, str]:
    """Character classes: tokens by themselves, marks of other scripts, and the letters, marks and digits of these."""
    single = set[int]().union(*(range(first, last + 1) for first, last in _SINGLE_RANGES))
    lone: list[int] = []
    marks: list[int] = []
    rest: list[int] = []
    for code in (*range(_BEYOND), *range(0xE0100, 0xE01F0)):
        category = unicodedata.category(chr(code))
        if code in single and category != "Cn" and (category[0] in "LMN" or category in ("So", "Sk")):
            # Marks that may stand on any letter of their script, such as the dots of Kana.
            (marks if unicodedata.combining(chr(code)) == 8 else lone).append(code)
        elif category[0] in "LMN":
            rest.append(code)
            if category[0] == "M":
                marks.append(code)
    return _ranges(lone), _ranges(marks), _ranges(rest)


def _ranges(codes: list[int]) -> str:
    pieces: list[str] = []
    start = previous = codes[0]
    for code in (*codes[1:], -1):
        if code != previous + 1:
            pieces.append(f"{_escaped(start)}-{_escaped(previous)}")
            start = code
        previous = code
    return "".join(pieces)


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


def _is_silent(mark: str) -> bool:
    """Whether a mark makes no other letter of its base: accents, the points of Hebrew and Arabic, tones.

    Others do: viramas and vowel signs of India, voicing marks of Kana.
    """
    order = unicodedata.combining(mark)
    return order in (1, 7) or 10 <= order <= 36 or order >= 200


def _tokens_in(word: str) -> tuple[str, ...]:
    """The tokens of one word. Several, or none, where its compatibility form is no single word."""
    return _folded_once(word) if len(word) <= _KEPT_LENGTH else _folded(word)


def _folded(word: str) -> tuple[str, ...]:
    if word.isascii():
        return (word.lower()[:LONGEST],)
    plain = unicodedata.normalize("NFKD", _JOINER.sub("", word)).casefold()
    # Once more: folding may give what can be decomposed.
    plain = unicodedata.normalize("NFKD", plain)
    bare = unicodedata.normalize("NFC", "".join(each for each in plain if not _is_silent(each)))
    return tuple(token[:LONGEST] for token in _patterns()[1].findall(bare))


_folded_once: Final = lru_cache(maxsize=8192)(_folded)
