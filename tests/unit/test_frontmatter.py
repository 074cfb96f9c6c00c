import contextlib
import copy
import json
import pickle
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fsstate.errors import CorruptRecordError, InvalidValueError, MissingExtraError
from fsstate.frontmatter import Document

WHERE = "notes/standup.md"
NOTE = b"""---
# who and what
title:   'Standup'  # quoted
tags: [a, b]

# state
status: open # for now
body: |
  one
  # no comment

nested:
  a: 1
  b: 2   # two
# end
---

# Standup

Text.
"""

TEXT = st.text() | st.text("-\n\r .#ab\ufeff")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.text("yYesnNo:'\"- #\n|")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
FRONT_MATTERS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


def changed(data: bytes, **keys: Any) -> bytes:
    document = Document.parse(data, WHERE)
    assert document.front_matter is not None
    document.front_matter.update(keys)
    rendered = document.render()
    assert Document.parse(rendered) == document
    return rendered


def corrupt(data: bytes) -> CorruptRecordError:
    with pytest.raises(CorruptRecordError) as raised:
        _ = Document.parse(data, WHERE).front_matter
    assert raised.value.path == WHERE
    return raised.value


# --- bytes -----------------------------------------------------------------------------------------------------------


@given(st.binary() | TEXT.map(str.encode) | TEXT.map(lambda text: f"---\na: 1\n---\n{text}".encode()))
def test_every_byte_comes_back(data: bytes) -> None:
    try:
        document = Document.parse(data, WHERE)
    except CorruptRecordError:
        with pytest.raises(UnicodeDecodeError):
            data.decode()
    else:
        assert document.render() == data


@given(TEXT, st.none() | FRONT_MATTERS)
def test_what_is_written_is_read(text: str, front_matter: dict[str, Any] | None) -> None:
    document = Document(text, front_matter)
    try:
        data = document.render()
    except InvalidValueError:
        return
    assert Document.parse(data) == document
    assert Document.parse(data).text == text
    assert (Document.parse(data).front_matter or {}) == (front_matter or {})


@given(FRONT_MATTERS, FRONT_MATTERS)
def test_any_change_of_front_matter_is_read(before: dict[str, Any], after: dict[str, Any]) -> None:
    document = Document.parse(NOTE)
    for wanted in (before, after):
        document.front_matter = wanted
        try:
            document = Document.parse(document.render())
        except InvalidValueError:
            return
        assert document.front_matter == wanted
        assert document.text == Document.parse(NOTE).text


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_the_parts_of_a_document(newline: bytes, bom: bytes) -> None:
    data = bom + NOTE.replace(b"\n", newline)
    document = Document.parse(data, WHERE)
    assert document.text.encode() == b"\n# Standup\n\nText.\n".replace(b"\n", newline)
    assert document.front_matter == {
        "title": "Standup",
        "tags": ["a", "b"],
        "status": "open",
        "body": "one\n# no comment\n",
        "nested": {"a": 1, "b": 2},
    }
    assert document.render() == data
    document.text = "New"
    assert document.render() == data[: data.index(b"# end")] + b"# end" + newline + b"---" + newline + b"New"


@pytest.mark.parametrize(
    "data", [b"", b"text", b"----\na: 1\n----\n", b" ---\na: 1\n---\n", b"---\na: 1\n", b"---", b"a\n---\nb: 1\n---\n"]
)
def test_documents_without_front_matter(data: bytes) -> None:
    document = Document.parse(data)
    assert document.front_matter is None
    assert document.text.encode() == data


@pytest.mark.parametrize("data", [b"---\n---\n", b"--- \n---\t", b"---\n# nothing\n---\n", b"---\n\n...\n"])
def test_empty_front_matter(data: bytes) -> None:
    document = Document.parse(data)
    assert document.front_matter == {}
    assert document.text == ""
    assert document == Document("")


# --- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_only_the_lines_of_changed_keys_change(newline: bytes) -> None:
    document = Document.parse(NOTE.replace(b"\n", newline), WHERE)
    assert document.front_matter is not None
    document.front_matter["title"] = "Retro"
    document.front_matter["status"] = None
    document.front_matter["body"] = "x\ny\n"
    document.front_matter["nested"]["b"] = 3
    document.front_matter["new"] = ["yes", {"k": 1.5}]
    del document.front_matter["tags"]
    expected = b"""---
# who and what
title:   Retro  # quoted

# state
status: null # for now
body: |
  x
  y

nested:
  a: 1
  b: 3   # two
# end
new:
- 'yes'
- k: 1.5
---

# Standup

Text.
"""
    assert document.render() == expected.replace(b"\n", newline)


@pytest.mark.parametrize(
    ("data", "keys", "expected"),
    [
        (b"---\na:\n---\nx", {"a": 1}, b"---\na: 1\n---\nx"),
        (b"---\na: 1\n---", {"a": 2}, b"---\na: 2\n---"),
        (b"---\n---\nx", {"a": 1}, b"---\na: 1\n---\nx"),
        (b"---\n# c\n---\nx", {"a": 1}, b"---\n# c\na: 1\n---\nx"),
        (b"---\na: >-\n  x\n  y\nb: 1\n---\n", {"a": "z"}, b"---\na: z\nb: 1\n---\n"),
        (b"---\na:\n- 1\n\n# c\nb: 1\n---\n", {"a": 2}, b"---\na: 2\n\n# c\nb: 1\n---\n"),
        (b"---\na: 1 # c\nb: 1\n---\n", {"a": [2]}, b"---\na:\n- 2\nb: 1\n---\n"),
        (b"---\n# c\na:\n\n# d\nb: 1\n---\n", {"a": 2}, b"---\n# c\na: 2\n\n# d\nb: 1\n---\n"),
        (b"---\na:   # c\nb: 1\n---\n", {"a": 2}, b"---\na: 2   # c\nb: 1\n---\n"),
        (b"---\na: [x, 'y'] # c\nb: 1\n---\n", {"a": ["x", "z"]}, b"---\na: [x, z] # c\nb: 1\n---\n"),
        (b"---\na: [x, w] # c\n---\n", {"a": ["x", "w", "z"]}, b"---\na: [x, w, z] # c\n---\n"),
        (b"---\na:\n  - x # c\n  - y\n---\n", {"a": ["x", "y", "z"]}, b"---\na:\n  - x # c\n  - y\n  - z\n---\n"),
        (b"---\na:\n- x\n# c\n- y # d\n---\n", {"a": ["y"]}, b"---\na:\n# c\n- y # d\n---\n"),
        (b"---\na:\n- 'x' # c\n- y # d\n---\n", {"a": ["y", "x"]}, b"---\na:\n- y # d\n- 'x' # c\n---\n"),
        (b"---\na:\n- x # c\n- z # d\n---\n", {"a": ["z", "w"]}, b"---\na:\n- z # d\n- w\n---\n"),
        (b"---\na: |+\n  x\n\nb: 1\n---\n", {"b": 2}, b"---\na: |+\n  x\n\nb: 2\n---\n"),
        (b"---\na:\n  # c\n\nb: 1 # d\n---\n", {"a": "x\ny"}, b'---\na: "x\\ny"\n  # c\n\nb: 1 # d\n---\n'),
        (b"---\n? a # c\n: 1\nb: 1 # d\n---\n", {"b": 2}, b"---\na: 1\nb: 2\n---\n"),
        (b"---\nx: &x {p: 1}\n<<: *x\nb: 1 # d\n---\n", {"b": 2}, b"---\nx: &x {p: 1}\n<<: *x\nb: 2 # d\n---\n"),
        (
            b"---\na:\n b: |+ # c\n   x\n\n---\n",
            {"a": {"b": "x\n\n", "d": 1}},
            b"---\na:\n b: |+ # c\n   x\n\n d: 1\n---\n",
        ),
        (b"---\na: &x 1\nb: &x 2 # c\nd: *x\n---\n", {"a": 3}, b"---\na: 3\nb: &x 2 # c\nd: *x\n---\n"),
        (b"---\na: &x 1 # c\nb: *x\nd: 1 # e\n---\n", {"a": 3}, b"---\na: 3\nb: 1\nd: 1 # e\n---\n"),
        (b"---\n'a b': 1\n---\n", {"a b": 2}, b"---\n'a b': 2\n---\n"),
        (b"---\n{a: 1, b: 2}\n---\n", {"a": 3}, b"---\n{a: 3, b: 2}\n---\n"),
        (b"---\na: &x 1\nb: *x\n---\n", {"a": 3}, b"---\na: 3\nb: 1\n---\n"),
        (b"---\n  a: 1\n  b: 2\n---\n", {"a": 3}, b"---\n  a: 3\n  b: 2\n---\n"),
        (b"---\na: 1\n---\n", {"a": True}, b"---\na: true\n---\n"),
        (b"---\na: 1\n---\n", {"a": (1,)}, b"---\na:\n- 1\n---\n"),
        (b"---\na: 1\n---\n", {"a": date(2026, 1, 31)}, b"---\na: 2026-01-31\n---\n"),
        (b"---\nn: .nan\na: 1\n---\n", {"a": 2}, b"---\nn: .nan\na: 2\n---\n"),
    ],
)
def test_edits(data: bytes, keys: dict[str, Any], expected: bytes) -> None:
    document = Document.parse(data)
    assert document.front_matter is not None
    document.front_matter.update(keys)
    assert document.render() == expected


def test_the_order_of_keys_alone_is_no_change() -> None:
    document = Document.parse(NOTE)
    assert document.front_matter is not None
    document.front_matter = dict(reversed(document.front_matter.items()))
    assert document.render() == NOTE


def test_a_change_taken_back_is_no_change() -> None:
    document = Document.parse(NOTE)
    assert document.front_matter is not None
    document.front_matter["title"] = "x"
    document.front_matter["title"] = "Standup"
    assert document.render() == NOTE


def test_front_matter_can_be_removed_and_given() -> None:
    document = Document.parse(NOTE)
    document.front_matter = None
    assert document.front_matter is None
    assert document.render() == b"\n# Standup\n\nText.\n"
    document.front_matter = {"a": 1}
    assert document.render() == b"---\na: 1\n---\n\n# Standup\n\nText.\n"


def test_a_new_document_takes_over_crlf() -> None:
    assert Document("one\r\ntwo", {"a": 1}).render() == b"---\r\na: 1\r\n---\r\none\r\ntwo"


def test_text_that_looks_like_front_matter_stays_text() -> None:
    document = Document("---\na: 1\n---\n")
    assert document.render() == b"---\n---\n---\na: 1\n---\n"
    assert Document.parse(document.render()) == document


def test_text_behind_an_unfinished_line() -> None:
    document = Document.parse(b"---\na: 1\n---")
    document.text = "x"
    assert document.render() == b"---\na: 1\n---\nx"


def test_values_that_two_keys_share_are_written_twice() -> None:
    shared = {"x": [1]}
    assert Document("", {"a": shared, "b": shared}).render() == b"---\na:\n  x:\n  - 1\nb:\n  x:\n  - 1\n---\n"


def test_text_that_ends_in_blank_lines() -> None:
    assert changed(b"---\na: 1\nb: 2\n---\nx", a="y\n\n", b="z\n\n\n").endswith(b"\n---\nx")
    assert Document("", {"a": "y\n\n"}).render() == b"---\na: |+\n  y\n\n---\n"


def test_long_lines_are_not_broken() -> None:
    assert Document("", {"a": "word " * 100 + "end"}).render().count(b"\n") == 3


def test_a_time_comes_back() -> None:
    assert changed(b"---\na: 1\n---\n", a=datetime(2026, 1, 31, 12, tzinfo=UTC)).startswith(b"---\na: 2026-01-31 12:00")


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yaml", "line", "reason"),
    [
        ("a: 1\nb: [\n", 4, "not valid YAML"),
        ("a: 1\nb: 1\na: 2\n", 4, 'duplicate key "a"'),
        ("- x\n", 2, "must be a mapping"),
        ("just text\n", 2, "must be a mapping"),
        ("a: 1\nb: \x01\n", 3, "special characters"),
        ("a: 2026-13-45\n", 2, "month"),
        ("a: 1\n\tb: 1\n", 3, "not valid YAML"),
        ("a: !!python/object:os.system x\n", 2, "tag"),
        ("a: " + "[" * 1500 + "\n", 2, "not valid YAML"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n", 3, "git conflict markers"),
    ],
)
def test_faulty_front_matter_is_named_with_its_line(yaml: str, line: int, reason: str) -> None:
    data = f"---\n{yaml}---\ntext".encode()
    error = corrupt(data)
    assert error.line == line
    assert reason in str(error)
    assert Document.parse(data).text == "text"
    assert Document.parse(data).render() == data


def test_faulty_front_matter_can_be_replaced() -> None:
    document = Document.parse(b"---\n- x\n---\ntext")
    document.front_matter = {"a": 1}
    assert document.render() == b"---\na: 1\n---\ntext"


def test_bytes_that_are_not_utf_8() -> None:
    with pytest.raises(CorruptRecordError, match="0xff at offset 4 is not UTF-8") as raised:
        Document.parse(b"ab\nc\xff", WHERE)
    assert (raised.value.line, raised.value.offset) == (2, 4)


@pytest.mark.parametrize("value", [object(), type, [print]], ids=["object", "type", "function"])
def test_values_that_yaml_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match="front matter"):
        Document("", {"a": value}).render()


def test_front_matter_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(InvalidValueError, match="contains itself"):
        Document("", value).render()


def test_half_characters_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="half of a character"):
        Document("\ud800").render()


def test_without_a_yaml_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    document = Document.parse(NOTE, WHERE)
    document.text += "more"
    assert document.render() == NOTE + b"more"
    assert Document("text").render() == b"text"
    with pytest.raises(MissingExtraError, match=r"fsstate\[yaml\]"):
        _ = document.front_matter
    with pytest.raises(MissingExtraError):
        document.front_matter = {"a": 1}
    with pytest.raises(MissingExtraError):
        Document("text", {"a": 1})
    document.front_matter = None
    assert document.render() == b"\n# Standup\n\nText.\nmore"


# --- an ordinary object ----------------------------------------------------------------------------------------------


def test_equality_is_by_content() -> None:
    assert Document.parse(b"---\na: 1 # x\n---\nt") == Document("t", {"a": 1})
    assert Document("t", {"a": 1}) != Document("t", {"a": True})
    assert Document("t") != Document("u")
    assert Document("t") != "t"
    assert Document.parse(b"---\n[\n---\nt") == Document.parse(b"---\n[\n---\nt")
    assert Document.parse(b"---\n[\n---\nt") != Document.parse(b"---\n]\n---\nt")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Document("t"))


def test_copies_are_independent() -> None:
    document = Document.parse(NOTE, WHERE)
    for twin in (copy.deepcopy(document), pickle.loads(pickle.dumps(document))):  # noqa: S301 - our own bytes
        assert twin == document
        assert twin.front_matter is not None
        twin.front_matter["nested"]["a"] = 2
        assert twin != document
        assert document.render() == NOTE


def test_the_given_dict_is_not_kept() -> None:
    given_dict = {"a": 1}
    document = Document("", given_dict)
    given_dict["a"] = 2
    assert document.front_matter == {"a": 1}


def test_repr() -> None:
    assert repr(Document("t", {"a": 1})) == "Document('t', {'a': 1})"
    assert repr(Document.parse(NOTE)).endswith("…)")


# --- real data -------------------------------------------------------------------------------------------------------


def markdown_files(folder: Path) -> list[Path]:
    return [path for pattern in ("*.md", "*.txt") for path in sorted(folder.rglob(pattern)) if path.is_file()]


def test_real_documents_come_back_and_only_changed_lines_change(shared_data: Path) -> None:
    edited = 0
    for path in markdown_files(shared_data):
        data = path.read_bytes()
        document = Document.parse(data, str(path))
        assert document.render() == data
        try:
            front_matter = document.front_matter
        except CorruptRecordError as error:
            assert error.line is not None  # noqa: PT017 - either outcome is right
            continue
        keys = [*(front_matter or ())]
        for key in dict.fromkeys([*keys[:2], *keys[-1:]]):
            other = Document.parse(data)
            assert other.front_matter is not None
            other.front_matter[key] = "changed: value"
            changed = other.render()
            assert Document.parse(changed) == other
            assert is_one_change(data, changed), f"{path}: {key}"
            edited += 1
    assert edited > 150


def is_one_change(before: bytes, after: bytes) -> bool:
    """Whether all that differs lies in one stretch of lines, which begins with one that both have a key in."""
    old, new = before.splitlines(), after.splitlines()
    head = next((number for number, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))
    tail = len(new) - head - 1
    # A text of one line stands in the place of any number of lines.
    return old[len(old) - tail :] == new[len(new) - tail :] if tail else True


def test_what_python_frontmatter_reads(shared_data: Path) -> None:
    folder = shared_data / "front-matter" / "python-frontmatter"
    read = 0
    for path in markdown_files(folder / "yaml") + markdown_files(folder / "empty"):
        result = json.loads((path.parent / f"{path.stem}.result.json").read_text("utf-8"))
        content = result.pop("content")
        document = Document.parse(path.read_bytes())
        if path.name == "extra-dash.txt":
            # Its rule takes four dashes too, which are a line in Markdown.
            assert document.front_matter is None
            continue
        if path.name == "unpretty.md":
            # It reads YAML 1.1, where `yes` is true.
            destination = result["destination"]
            destination["encoding"]["xz"]["enabled"] = destination["result"]["print_to_stdout"] = "yes"
        assert document.text.strip() == content.strip(), path.name
        assert (document.front_matter or {}) == result, path.name
        read += 1
    assert read >= 6


# What gray-matter calls front matter, and fsstate a text: other delimiters, other languages, no end.
NO_FRONT_MATTER = "all.yaml autodetect-yaml.md delims-custom.md delims-semi-colons.md delims-and-lang.md"
GRAY_MATTER: dict[str, dict[str, Any] | None] = {
    **dict.fromkeys(NO_FRONT_MATTER.split()),
    "hasnt-matter.md": None,
    "empty.md": None,
    "all-dots.yaml": {"one": "foo", "two": "bar", "three": "baz"},
    "basic.txt": {"title": "Basic"},
    "has-matter.md": {"title": "Has Matter!"},
    "lang-yaml.md": {"title": "YAML"},
    "to-yaml.md": {"title": "to YAML"},
    "autodetect-no-lang.md": {"title": "autodetect-no-lang", "user": "jonschlinkert"},
    # JSON is YAML.
    "lang-json.md": {"title": "JSON", "description": "Front Matter"},
}


def test_what_gray_matter_reads(shared_data: Path) -> None:
    for name, expected in GRAY_MATTER.items():
        data = (shared_data / "front-matter" / "gray-matter" / name).read_bytes()
        assert Document.parse(data, name).front_matter == expected, name


# Where the YAML library reads otherwise than the suite says, and why. `None` in the place of what is read: refused.
YAML_DEVIATIONS: dict[str, str] = {
    **dict.fromkeys(["4MUZ-0", "4MUZ-1", "4MUZ-2"], "a quoted key in {} with its colon on another line is refused"),
    **dict.fromkeys(["7FWL-0", "CUP7-0", "M5C3-0", "UGM3-0", "WZ62-0", "Z67P-0"], "tags of one's own are refused"),
    **dict.fromkeys(["A2M4-0", "DC7X-0", "DK95-0", "J3BT-0", "NB6Z-0", "Q5MG-0", "UV7Q-0"], "tabs are refused"),
    **dict.fromkeys(["DK95-1", "DK95-2", "DK95-8", "Y79Y-1"], "tabs in places where they are wrong are let pass"),
    "SU5Z-0": "a comment right behind a quoted text is let pass",
    "565N-0": "!!binary gives bytes",
    "2XXW-0": "!!set gives a set, and front matter is a mapping",
    "652Z-0": "a question mark that begins a key in {} is dropped",
}
MARKS = {"␣": " ", "∎\n": "", "↵": "", "←": "\r", "⇔": "\ufeff"}


def yaml_cases(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """Names, the YAML, and what it says: a mapping, or None when it must be refused."""
    for path in sorted(folder.glob("*.yaml")):
        case: dict[str, Any] = {}
        for number, more in enumerate(YAML(typ="safe", pure=True).load(path.read_text("utf-8"))):
            case |= more
            text: str = case["yaml"]
            for mark, meant in MARKS.items():
                text = text.replace(mark, meant)
            is_fault, told = bool(case.get("fail")), case.get("json")
            with contextlib.suppress(ValueError):
                wanted = None if is_fault else json.loads(told or "")
                if isinstance(wanted, dict) or is_fault:
                    yield f"{path.stem}-{number}", re.sub("—*»", "\t", text).removesuffix("\n") + "\n", wanted


def test_what_the_yaml_test_suite_reads(shared_data: Path) -> None:
    read, deviating = 0, set()
    for name, yaml, wanted in yaml_cases(shared_data / "front-matter" / "yaml-test-suite"):
        document = Document.parse(f"---\n{yaml}---\ntext".encode(), name)
        if document.text != "text":
            # It holds several documents: a line that ends front matter.
            continue
        try:
            found = document.front_matter
        except CorruptRecordError as error:
            assert error.line is not None  # noqa: PT017 - either outcome is right
            found = None
        if found is None or wanted is None or json.loads(json.dumps(found, default=str)) != wanted:
            deviating |= {name} if (found is None) != (wanted is None) or found else set()
            continue
        read += 1
        # Whatever it looks like, it can be changed.
        assert document.front_matter is not None
        document.front_matter["brand new"] = 1
        assert Document.parse(document.render()) == document
    assert deviating == YAML_DEVIATIONS.keys()
    assert read > 60


def test_the_yaml_test_suite_is_read_or_reported(shared_data: Path) -> None:
    for path in sorted((shared_data / "front-matter" / "yaml-test-suite").glob("*.yaml")):
        data = b"---\n" + path.read_bytes() + b"\n---\ntext"
        document = Document.parse(data, str(path))
        try:
            _ = document.front_matter
        except CorruptRecordError as error:
            assert error.line is not None  # noqa: PT017 - either outcome is right
        assert document.render() == data
