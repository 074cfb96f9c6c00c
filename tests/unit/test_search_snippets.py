"""Snippets: the best piece of a text, and where the matches are in it."""

from hypothesis import given
from hypothesis import strategies as st

from fsstate.search.passages import Part
from fsstate.search.query import Query
from fsstate.search.snippets import WIDTH, Snippet, snippet_of
from fsstate.search.words import tokens_of


def snippet(text: str, query: str, width: int = WIDTH) -> Snippet:
    return snippet_of([Part(text)], Query.parse(query).phrases, width)


def marked(found: Snippet) -> str:
    text = found.text
    for start, end in reversed(found.spans):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return text


def test_a_short_text_is_shown_whole_on_one_line() -> None:
    assert marked(snippet("  Red\n\n car and\tRED Straße ", "red strasse")) == "[Red] car and [RED] [Straße]"


def test_phrases_and_prefixes_are_marked_as_they_were_found() -> None:
    assert marked(snippet("a deep red car, red wine", '"deep red" win*')) == "a [deep red] car, red [wine]"
    assert marked(snippet("東京タワーと京都", "京タ 京都")) == "東[京タ]ワーと[京都]"
    assert marked(snippet("a a a b", '"a a" "a b"')) == "[a a a b]"


def test_the_piece_with_most_of_the_words_is_shown() -> None:
    filler = "and so it goes on " * 30
    text = f"red here. {filler} the car is red today. {filler} red"
    found = snippet(text, "red car")
    assert marked(found).count("[") == 2
    assert "the [car] is [red] today." in marked(found)
    assert found.text.startswith("…")
    assert found.text.endswith("…")
    assert len(found.text) <= WIDTH + 2


def test_lines_are_those_of_the_file() -> None:
    text = "one\ntwo\nthree red\n"
    assert snippet(text, "red").line == 3
    red = Query.parse("red").phrases
    assert snippet_of([Part("x"), Part(text, "front_matter", 10)], red)[2:] == ("front_matter", 12)
    assert snippet_of([Part(text, "$.a", 7, counts=False)], red)[2:] == ("$.a", 7)


def test_the_part_with_most_of_the_words_is_shown() -> None:
    parts = [Part("red", "$.a"), Part("a red car", "$.b"), Part("car red", "$.c")]
    assert snippet_of(parts, Query.parse("car red").phrases).field == "$.b"


def test_a_text_without_a_match_is_shown_from_its_beginning() -> None:
    assert snippet_of([], Query.parse("x").phrases) == Snippet("", (), None, 1)
    assert snippet("abc " * 100, "x").text.startswith("abc abc")


def test_a_phrase_longer_than_a_snippet_is_shown_whole() -> None:
    text = "word " * 100
    assert marked(snippet(f"start {text} end", f'"{text}"', 40)).startswith("…[word word")


@given(st.text(max_size=400), st.text(st.sampled_from('ab é東京*" '), min_size=1, max_size=8), st.integers(10, 60))
def test_spans_are_matches_in_the_snippet(text: str, query: str, width: int) -> None:
    if not tokens_of(query):
        return
    phrases = Query.parse(query + " a").phrases
    found = snippet_of([Part(text), Part(text[::-1])], phrases, width)
    ends = [place for span in found.spans for place in span]
    assert ends == sorted(ends)
    for start, end in found.spans:
        piece = tokens_of(found.text[start:end])
        assert any(list(phrase.starts(piece)) for phrase in phrases)
    assert "\n" not in found.text
