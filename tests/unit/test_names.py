import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsstate.errors import InvalidNameError
from fsstate.names import (
    MAX_BYTES,
    check_category,
    check_name,
    check_segment,
    copy_in,
    is_name,
    name_of_copy,
    quote_name,
    unquote_name,
)

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("aAN.%/ conuljsm1é\ud800\ude00")

GOOD = ["a", "planner", "0198c3aa-11", "a b", "a.b", "é", "日本語", "x" * 200, "%", "a%2Fb", "a.json", "con1", "nulls"]
GOOD += [f"a.conflict-{rest}" for rest in ("2026-02-29T184512Z-1f3a", "2026-11-28T184512Z-1F3A", "x")]
BAD = [
    ("", "empty"),
    (".", "directory"),
    ("..", "directory"),
    ("a/b", "'/'"),
    ("a\\b", r"'\\\\'"),
    ("a\0", "control"),
    ("a\n", "control"),
    ("a\x7f", "control"),
    ("a\u2028b", "control"),
    (" a", "space"),
    ("a ", "space"),
    ("a\u3000", "space"),
    (".a", "dot"),
    ("a.", "dot"),
    ("a:b", "':'"),
    ("a?", "'\\?'"),
    ("CON", "Windows"),
    ("con.txt", "Windows"),
    ("Nul .tar.gz", "Windows"),
    ("LPT9", "Windows"),
    ("COM¹", "Windows"),
    ("a\ud800", "UTF-8"),
    ("a.conflict-2026-11-28T184512Z-1f3a", "conflict copy of 'a'"),
    ("a.b.conflict-2024-02-29T000000Z-0000", r"conflict copy of 'a\.b'"),
    ("x" * 201, "201 bytes"),
    ("é" * 101, "202 bytes"),
]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    assert check_name(name) == name
    assert is_name(name)


@pytest.mark.parametrize(("name", "reason"), BAD)
def test_bad_names_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidNameError, match=reason) as raised:
        check_name(name)
    assert raised.value.name == name
    assert not is_name(name)


@pytest.mark.parametrize("name", [None, 1, b"a", Path("a")])
def test_a_name_is_a_str(name: object) -> None:
    with pytest.raises(InvalidNameError, match="a name is a str"):
        check_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.json", "a.JSONL", "a.md", "b.Md"])
def test_a_directory_must_not_look_like_a_record(name: str) -> None:
    check_name(name)
    with pytest.raises(InvalidNameError, match="names a directory"):
        check_segment(name)


def test_categories() -> None:
    for category in ("agents", "teams/red/agents", "a b/é"):
        assert check_category(category) == category


@pytest.mark.parametrize("category", ["", "/", "/a", "a/", "a//b", "a/../b", ".fsstate", ".fsstate/cache", "a.json/b"])
def test_bad_categories_are_refused(category: str) -> None:
    with pytest.raises(InvalidNameError) as raised:
        check_category(category)
    assert raised.value.name == category


def test_a_bad_segment_is_named() -> None:
    with pytest.raises(InvalidNameError, match="segment 'b:c'"):
        check_category("a/b:c/d")


@given(ANY_TEXT)
def test_quoting_makes_a_safe_name_and_can_be_undone(text: str) -> None:
    try:
        name = quote_name(text)
    except InvalidNameError:
        assume(False)
        raise
    assert check_segment(name) == name
    assert unquote_name(name) == text


@given(ANY_TEXT)
def test_a_name_that_passes_is_a_file_name(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    assume(is_name(text))
    path = tmp_path_factory.mktemp("names") / f"{text}.jsonl"
    path.write_bytes(b"")
    assert os.listdir(path.parent) == [path.name]


@given(st.from_regex(r"[A-Za-z0-9_-]{1,200}", fullmatch=True))
def test_the_common_case_is_decided_alike(name: str) -> None:
    # A dot in front of the last character sends it the long way.
    assert is_name(name) or not is_name(f"{name}.x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "%"),
        ("planner", "planner"),
        ("a/b", "a%2Fb"),
        ("%", "%25"),
        ("100%", "100%25"),
        ("..", "%2E%2E"),
        (".a", "%2Ea"),
        ("a.", "a%2E"),
        (" a ", "%20a%20"),
        ("a b", "a b"),
        ("NUL", "%4EUL"),
        ("con.txt", "%63on.txt"),
        ("a.json", "a%2Ejson"),
        ("ä:ö", "ä%3Aö"),
        ("\ud800", "%ED%A0%80"),
        ("\ud83d\ude00", "%ED%A0%BD%ED%B8%80"),
        ("😀", "😀"),
    ],
)
def test_quoted_forms(text: str, name: str) -> None:
    assert quote_name(text) == name
    assert unquote_name(name) == text


def test_what_would_be_too_long_is_refused() -> None:
    assert len(quote_name("x" * MAX_BYTES)) == MAX_BYTES
    for text in ("x" * (MAX_BYTES + 1), "/" * 67):
        with pytest.raises(InvalidNameError, match="200 is the limit"):
            quote_name(text)


@pytest.mark.parametrize("name", ["50%", "%zz", "a%2", "%FF", "%C3"])
def test_what_was_never_quoted_is_not_unquoted(name: str) -> None:
    with pytest.raises(InvalidNameError, match=r"quote_name\(\)"):
        unquote_name(name)


def test_naughty_strings(shared_data: Path) -> None:
    texts = json.loads((shared_data / "naughty-strings" / "blns.json").read_text("utf-8"))
    names = {quote_name(text): text for text in texts if len(text.encode()) < 60}
    assert len(names) > 300
    for name, text in names.items():
        assert check_segment(name) == name
        assert unquote_name(name) == text


SINCE_1900 = st.datetimes(min_value=datetime(1900, 1, 1))  # noqa: DTZ001 - Hypothesis wants it so


@given(st.text("ab.é-", min_size=1, max_size=10).filter(is_name), SINCE_1900)
def test_a_copy_tells_whose_it_is_and_when_it_was_kept(name: str, time: datetime) -> None:
    at = time.replace(tzinfo=UTC, microsecond=0)
    copy = name_of_copy(name, at)
    assert copy_in(copy) == (name, at)
    assert not is_name(copy)
    assert unquote_name(quote_name(copy)) == copy
    assert is_name(quote_name(copy))
    assert len(copy.encode()) <= len(name.encode()) + 255 - MAX_BYTES - len(".json")


@given(ANY_TEXT)
def test_any_text_that_ends_like_a_copy_can_be_quoted(text: str) -> None:
    assume(len(text) < 20)
    made = f"{text}.conflict-2026-11-28T184512Z-1f3a"
    assert is_name(quote_name(made))
    assert unquote_name(quote_name(made)) == made


def test_a_copy_is_named_in_utc() -> None:
    there = datetime(2026, 11, 28, 20, 45, 12, tzinfo=timezone(timedelta(hours=2)))
    assert name_of_copy("planner", there).startswith("planner.conflict-2026-11-28T184512Z-")
