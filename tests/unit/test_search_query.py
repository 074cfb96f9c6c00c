"""Questions as people type them, and that FTS5 answers them as they are meant."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fsstate
from fsstate.errors import FsStateError, InvalidQueryError
from fsstate.search.query import Query
from fsstate.search.words import BOUNDARY, tokens_of

MEANT = {
    "red car": '"red" AND "car"',
    "Red  CAR": '"red" AND "car"',
    '"red car"': '"red car"',
    "„red car“ x": '"red car" AND "x"',
    "plan*": '"plan"*',
    '"foo ba*" "foo"*': '"foo ba"* AND "foo"*',
    "a*b": '"a b"',
    "red OR blue car": '("red" OR "blue") AND "car"',
    "red OR blue OR green": '("red" OR "blue" OR "green")',
    "car -red": '("car") NOT "red"',
    'car NOT "deep red" -x': '("car") NOT ("deep red" OR "x")',
    "a OR -b c": '("a" AND "c") NOT "b"',
    "a AND b": '"a" AND "b"',
    "or and not": '"or" AND "and" AND "not"',
    "OR": '"or"',
    "NOT": '"not"',
    "AND b": '"and" AND "b"',
    "a OR": '"a" AND "or"',
    "a OR OR b": '("a" OR "or") AND "b"',
    "--json": '"json"',
    "well-known": '"well known"',
    '"unbalanced words': '"unbalanced words"',
    '5" disk': '"5" AND "disk"',
    "snake_case 東京": '"snake case" AND "東 京"',
    "a a a": '"a"',
    'NEAR(a b) ^c {x}: "y" + z': '"near a" AND "b" AND "c" AND "x" AND "y" AND "z"',
    "a\x00b \x1b[31mred": '"a b" AND "red"',
}


@pytest.mark.parametrize(("text", "match"), MEANT.items())
def test_what_is_typed_and_what_is_meant(text: str, match: str) -> None:
    assert Query.parse(text).match() == match


@pytest.mark.parametrize("text", ["", "  ", '"', '""', "*", "-", "()", "-red", "NOT red", '-"a b"', "\x00", "…!"])
def test_a_question_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(InvalidQueryError, match="give at least one word") as caught:
        Query.parse(text)
    assert caught.value.query == text
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FsStateError)
    assert fsstate.InvalidQueryError is InvalidQueryError


@pytest.fixture(scope="module")
def words() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE VIRTUAL TABLE words USING fts5(tokens, content='', tokenize='ascii')")
    yield db
    db.close()


def fill(db: sqlite3.Connection, texts: list[list[str]]) -> None:
    db.execute("INSERT INTO words (words) VALUES ('delete-all')")
    rows = [(number, " ".join(tokens)) for number, tokens in enumerate(texts)]
    db.executemany("INSERT INTO words (rowid, tokens) VALUES (?, ?)", rows)


def answers(db: sqlite3.Connection, query: Query, texts: list[list[str]]) -> list[int]:
    fill(db, texts)
    return ask(db, query)


def ask(db: sqlite3.Connection, query: Query) -> list[int]:
    found = db.execute("SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid", (query.match(),))
    return [number for number, _ in found]


# Few words of several scripts, so that questions have answers; and now and then anything.
WORD = st.sampled_from(["red", "Red", "reder", "car", "Café", "cafe", "東京", "京", "or", "not", "ไทย", "🎉", "x_y"])
TEXT = st.lists(WORD, max_size=6).map(" ".join)
SIGN = st.sampled_from(["", "-", '"', "*", " OR ", " NOT ", " AND ", " ", "(", ")", ":", "^", "+", "NEAR", ",", "\x00"])
QUESTION = st.lists(st.one_of(WORD, SIGN, st.just(" ")), min_size=1, max_size=12).map("".join) | st.text(max_size=30)


@given(QUESTION, st.lists(st.lists(TEXT, min_size=1, max_size=2), min_size=1, max_size=6))
def test_fts5_answers_as_the_plain_words_do(words: sqlite3.Connection, text: str, passages: list[list[str]]) -> None:
    try:
        query = Query.parse(text)
    except InvalidQueryError:
        return
    texts = [f" {BOUNDARY} ".join(" ".join(tokens_of(part)) for part in parts).split() for parts in passages]
    assert answers(words, query, texts) == [number for number, tokens in enumerate(texts) if query.fits(tokens)]


@given(st.text(min_size=1))
def test_a_text_is_found_by_itself(words: sqlite3.Connection, text: str) -> None:
    tokens = tokens_of(text)
    if tokens and '"' not in text:
        assert answers(words, Query.parse('"' + text.translate(dict.fromkeys(map(ord, "“”„‟«»"), " ")) + '"'), [tokens])


LONG = {
    "words": " ".join(f"w{number}" for number in range(2500)),
    "phrase": '"' + "a b " * 2500 + '"',
    "one word": "x" * 10_000,
    "alternatives": " OR ".join(f"w{number}" for number in range(2000)),
    "without": "a " + " ".join(f"-w{number}" for number in range(2000)),
    "quotes": '"' * 9999 + "a",
    "characters": "".join(map(chr, range(0x4E00, 0x4E00 + 10_000))),
    "operators": "a" + " OR NOT AND -" * 1000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_question_is_answered(words: sqlite3.Connection, text: str) -> None:
    assert answers(words, Query.parse(text), [tokens_of(text), ["other"]]) in ([0], [])


def test_naughty_strings(words: sqlite3.Connection, shared_data: Path) -> None:
    path = shared_data / "naughty-strings" / "blns.json"
    if not path.exists():
        pytest.skip("needs the naughty strings")
    texts: list[str] = json.loads(path.read_text())
    tokens = [tokens_of(text) for text in texts]
    asked = 0
    fill(words, tokens)
    for text in texts:
        try:
            query = Query.parse(text)
        except InvalidQueryError:
            continue
        asked += 1
        assert ask(words, query) == [number for number, each in enumerate(tokens) if query.fits(each)]
    assert asked > 300
