"""Words of any script, and that what SQLite is given is what this says."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.search.words import LONGEST, tokens_of, words_of

CASES = {
    "Red cars, RED bikes!": ["red", "cars", "red", "bikes"],
    "snake_case don't x86-64": ["snake", "case", "don", "t", "x86", "64"],
    "Straße STRASSE Café ｆｕｌｌ ﬁn": ["strasse", "strasse", "cafe", "full", "fin"],
    "e\u0301 é Ёлка İstanbul": ["e", "e", "елка", "istanbul"],
    "東京タワー": ["東", "京", "タ", "ワ", "ー"],
    "かか\u3099が ｶﾞ": ["か", "が", "が", "ガ"],
    "ไทยดี": ["ไ", "ท", "ย", "ด", "ี"],
    "한국어 학교에서": ["한국어", "학교에서"],
    "हिन्दी क्षेत्र": ["हिन्दी", "क्षेत्र"],
    "می\u200cخواهم co\u00adop": ["میخواهم", "coop"],
    "עִבְרִית عَرَبِيّ": ["עברית", "عربي"],
    "👩\u200d👧🎉 ✔\ufe0f": ["👩", "👧", "🎉", "✔"],
    "ﷺ ½": ["صلى", "الله", "عليه", "وسلم", "1", "2"],
    "mix日本mix": ["mix", "日", "本", "mix"],
    "": [],
    " \n\x00\x1b \ud800 _-*\"'": [],
    "\x1b[1;31mred\x1b[0mé \x1bred [31m": ["red", "e", "red", "31m"],
}


@pytest.mark.parametrize(("text", "tokens"), CASES.items())
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


@given(st.text())
def test_words_stand_where_they_say_and_tokens_are_what_fts5_keeps_whole(text: str) -> None:
    words = list(words_of(text))
    assert [word.token for word in words] == tokens_of(text)
    places = [(word.start, word.end) for word in words]
    assert places == sorted(places)
    for token, start, end in words:
        assert 0 <= start < end <= len(text)
        assert 0 < len(token) <= LONGEST
        assert all(not letter.isascii() or letter.isdigit() or letter.islower() for letter in token)


@given(st.text())
def test_forms_do_not_matter(text: str) -> None:
    assert tokens_of(unicodedata.normalize("NFD", text)) == tokens_of(unicodedata.normalize("NFC", text))


@given(st.text(st.characters(codec="ascii")))
def test_ascii_has_no_rules_of_its_own(text: str) -> None:
    assert tokens_of(f"{text} é") == [*tokens_of(text), "e"]


def test_a_long_word_is_cut() -> None:
    assert tokens_of("x" * 5000) == ["x" * LONGEST]
    assert tokens_of("é" * 5000) == ["e" * LONGEST]


def test_naughty_strings(shared_data: Path) -> None:
    path = shared_data / "naughty-strings" / "blns.json"
    if not path.exists():
        pytest.skip("needs the naughty strings")
    for text in json.loads(path.read_text()):
        assert tokens_of(text) == [word.token for word in words_of(text)]
