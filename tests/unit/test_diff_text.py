"""Files as texts for `git diff`: readable, stable, and never an error."""

import json

import pytest
from hypothesis import given

from fsstate.codec import encode
from fsstate.diff_text import diff_text
from tests.unit.test_merging_files import DATA, GARBAGE


def shown(name: str, data: bytes) -> str:
    return diff_text(name, data).decode()


def test_a_document_is_laid_out_as_fsstate_writes_it() -> None:
    value = {"a": [1, {"b": None}], "ü": "x\ty", "n": 10**20}
    assert shown("x.json", json.dumps(value).encode()) == encode(value).decode()


def test_a_text_of_several_lines_is_shown_as_lines() -> None:
    data = encode({"a": {"text": 'one\n\n"two"\n', "b": ["x\ny", "z"]}})
    assert shown("x.json", data) == (
        '{\n  "a": {\n    "text": |\n      one\n\n      "two"\n\n    "b": [\n      |\n        x\n        y\n'
        '      "z"\n    ]\n  }\n}\n'
    )


def test_an_entry_is_a_few_lines() -> None:
    at = "2026-01-31T12:00:00.000000Z"
    rows = [
        {"seq": 1, "id": "a", "role": "user", "content": "Hello", "at": at},
        {"seq": 2, "id": "b", "role": "assistant", "content": "one\ntwo", "parent": "a", "at": at, "n": 1.0},
        {"seq": 3, "kind": "began", "at": at, "list": [1, {"a": "b"}], "text": "1", "empty": ""},
        {"seq": 4, "update": "b", "status": "rated", "head": "a", "at": at},
        {"seq": 4, "fsstate": "trimmed"},
    ]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    assert shown("messages.jsonl", data) == (
        f"#1  {at}  user  a\n    content: Hello\n"
        f"#2  {at}  assistant  b\n    content:\n        one\n        two\n    parent: a\n    n: 1.0\n"
        f'#3  {at}  began\n    list: [1,{{"a":"b"}}]\n    text: "1"\n    empty: ""\n'
        f"#4  {at}  update b\n    status: rated\n    head: a\n"
        "#4  trimmed up to here\n"
    )


def test_long_texts_are_folded_and_large_values_laid_out() -> None:
    rows = [
        {"seq": 1, "kind": "k", "text": "1. word\n" + "word " * 50},
        {"seq": 2, "kind": "k", "value": {"a" * 60: "b" * 60}},
    ]
    lines = shown("x.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows)).splitlines()
    assert max(map(len, lines)) <= 140
    assert lines[1] == "    text:"
    assert lines[2:4] == ["        1. word", "        " + "word " * 20]
    assert lines[-3:] == ["        {", f'          "{"a" * 60}": "{"b" * 60}"', "        }"]


@pytest.mark.parametrize(
    "text", ["a b", "a  b", "a b ", "a\tb", "x " * 80, "x " * 49 + " x" * 40, "a\nb", "a\nb ", "a \nb"]
)
def test_no_blank_is_lost(text: str) -> None:
    for name in ("x.json", "x.jsonl"):
        one, other = (diff_text(name, b'{"seq":1,"text":%b}' % encode(each).strip()) for each in (text, text + " "))
        assert one != other


def test_a_line_that_is_no_entry_hides_no_other() -> None:
    text = shown("x.jsonl", b'{"seq":1,"kind":"a"}\ngarb\xffage\n{"seq":2,"kind":"b"}')
    assert text.splitlines()[0] == "#1  a"
    assert text.splitlines()[1].startswith("! no entry: byte 0xff")
    assert text.splitlines()[2:] == ["    garb\\xffage", "#2  b"]


def test_a_document_that_cannot_be_read_is_shown_as_it_is() -> None:
    text = shown("x.json", b'{\n  "a": 1,\n}\n')
    assert text == (
        "! no valid document: a trailing comma stands before '}'; remove it (line 2, column 9)\n{\n  \"a\": 1,\n}\n"
    )


def test_a_note_is_shown_as_it_is() -> None:
    assert diff_text("x.md", b"\xff\r\n") == b"\xff\r\n"


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.md", "x"])
@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_shown(name: str, data: bytes) -> None:
    assert isinstance(diff_text(name, data), bytes)


@given(DATA)
def test_anything_is_shown(data: bytes) -> None:
    for name in ("x.json", "x.jsonl"):
        assert diff_text(name, data) == diff_text(name, data)
