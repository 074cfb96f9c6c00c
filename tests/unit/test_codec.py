import enum
import json
import math
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate import codec
from fsstate.backends.base import Blob
from fsstate.codec import MAX_DEPTH, decode, decode_bytes, decode_line, encode, encode_line, path_to
from fsstate.errors import CorruptRecordError, InvalidValueError
from fsstate.merge import same

WHERE = "agents/planner.json"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TEXT = st.text()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)

# Valid JSON that fsstate refuses on purpose: one of the two values would be lost.
DUPLICATES = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}


class Color(enum.Enum):
    RED = "red"
    BROKEN = math.nan


class Name(str):
    __slots__ = ()


class Share(float):
    __slots__ = ()


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def corrupt(data: bytes, read: Callable[..., Any] = decode_bytes, **place: int) -> CorruptRecordError:
    with pytest.raises(CorruptRecordError) as raised:
        read(data, WHERE, **place)
    assert raised.value.path == WHERE
    return raised.value


# --- round trips -----------------------------------------------------------------------------------------------------


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    data = encode(value)
    assert same(decode_bytes(data, WHERE), value)
    assert encode(decode_bytes(data, WHERE)) == data


@given(st.dictionaries(TEXT, VALUES))
def test_lines_too(value: dict[str, Any]) -> None:
    data = encode_line(value)
    assert b"\n" not in data
    assert same(decode_line(data, WHERE), value)


@given(VALUES, st.sampled_from([None, 1, 4, "\t"]), st.booleans(), st.booleans(), st.booleans())
def test_every_layout_is_read(value: Any, indent: Any, ascii_only: bool, bom: bool, crlf: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    text = text.replace("\n", "\r\n") if crlf else text
    blob = Blob(b"\xef\xbb\xbf" * bom + text.encode())
    first, again = decode(blob, WHERE), decode(blob, WHERE)
    assert same(first, value)
    assert same(again, value)


@given(st.binary() | st.text('{}[]",:\\u0019.eE+-ntrufalse \n').map(str.encode))
def test_any_bytes_are_read_or_reported(data: bytes) -> None:
    try:
        value = decode_bytes(data, WHERE)
    except CorruptRecordError as error:
        assert error.line is not None  # noqa: PT017 - either outcome is right
    else:
        assert same(decode_bytes(encode(value), WHERE), value)


def test_the_form_on_disk() -> None:
    value = {"b": "é\u2028", "a": [1, {"x": None}], "e": {}, "l": []}
    text = '{\n  "b": "é\u2028",\n  "a": [\n    1,\n    {\n      "x": null\n    }\n  ],\n  "e": {},\n  "l": []\n}\n'
    assert encode(value).decode() == text
    assert encode_line(value).decode() == '{"b":"é\u2028","a":[1,{"x":null}],"e":{},"l":[]}'


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400])
def test_integers_keep_all_digits_and_the_layout(number: int) -> None:
    assert encode({"a": [number, 1]}) == b'{\n  "a": [\n    %d,\n    1\n  ]\n}\n' % number
    assert decode_bytes(b'{"a": %d}' % number, WHERE) == {"a": number}


def test_types_with_a_json_form() -> None:
    moment = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    one = uuid.UUID(int=1)
    value = {
        "t": moment,
        "d": date(2026, 1, 31),
        "u": one,
        "e": Color.RED,
        Name("n"): Name("x"),
        "s": Share(0.5),
        "p": (1,),
    }
    plain = {
        "t": "2026-01-31T12:00:00.000000Z",
        "d": "2026-01-31",
        "u": str(one),
        "e": "red",
        "n": "x",
        "s": 0.5,
        "p": [1],
    }
    assert decode_bytes(encode(value), WHERE) == plain
    assert decode_bytes(encode({"null": None} | value), WHERE) == {"null": None} | plain


# --- what is refused on write ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "at", "reason"),
    [
        ({"a": [0, 1, 2, {"b": math.nan}]}, "$.a[3].b", "no nan"),
        ([None, math.inf], "$[1]", "no inf"),
        ([(-math.inf,)], "$[0][0]", "no -inf"),
        ({"e": Color.BROKEN}, "$.e", "no nan"),
        ({"a": {1: 2}}, "$.a", "key 1 is of type int"),
        ({None: 1}, "$", "key None"),
        ({"odd key": {1, 2}}, '$["odd key"]', "sorted list"),
        ({"a": b"x"}, "$.a", "base64"),
        ({"a": object()}, "$.a", "object has no JSON form"),
        ({"a": NOON.replace(tzinfo=None)}, "$.a", "no time zone"),
        ({"a": "x\ud800"}, "$.a", "half of a surrogate pair"),
        ({"a\udfff": 1}, "$", "half of a surrogate pair"),
        ({"a": 10**5000}, "$.a", "digits"),
        (nested(MAX_DEPTH + 1), "$", "254 levels"),
        (nested(100_000), "$", "254 levels"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: Any, at: str, reason: str) -> None:
    for write in (encode, encode_line):
        with pytest.raises(InvalidValueError, match=reason) as raised:
            write(value, where=WHERE)
        assert raised.value.at == at
        assert WHERE in str(raised.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = [value]
    with pytest.raises(InvalidValueError, match="contains itself"):
        encode(value)


def test_the_deepest_value() -> None:
    assert decode_bytes(encode(nested(MAX_DEPTH)), WHERE) == nested(MAX_DEPTH)


@given(st.recursive(SCALARS | st.floats() | st.text(st.characters(exclude_categories=())), st.lists, max_leaves=10))
def test_nothing_is_bent_on_write(value: Any) -> None:
    try:
        data = encode(value)
    except InvalidValueError:
        return
    assert same(decode_bytes(data, WHERE), value)


# --- what is reported on read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "column", "reason"),
    [
        (b"", 1, 1, "empty"),
        (b" \n", 1, 1, "empty"),
        (b"\xef\xbb\xbf", 1, 1, "empty"),
        (b"\0" * 64, 1, 1, "zero bytes"),
        (b'{"a": 1}\n\0\0', 2, 1, "zero bytes"),
        (b'{\n  "a": 1,\n}\n', 2, 9, "trailing comma"),
        (b"[1,\n2, ]", 2, 2, "trailing comma"),
        (b'{\n<<<<<<< HEAD\n"a": 1\n=======\n"a": 2\n>>>>>>> x\n}', 2, 1, "git conflict markers"),
        (b'{\n"a": 1,\n<<<<<<< HEAD\n"b": 1\n', 3, 1, "git conflict markers"),
        (b'{"a": [1, 2', 1, 12, "ends in the middle"),
        (b'{"a":', 1, 6, "ends in the middle"),
        (b'{"a": "x', 1, 7, "never closed"),
        (b'{"a": 1}\n{"b": 2}', 2, 1, "more text follows"),
        (b"{'a': 1}", 1, 2, "double quotes"),
        (b"{a: 1}", 1, 2, "key in double quotes"),
        (b'{"a" 1}', 1, 6, "colon"),
        (b'{"a": 1 "b": 2}', 1, 9, "comma"),
        (b'{"a": 1 // one\n}', 1, 9, "comment"),
        (b'{"a": tru}', 1, 7, "value was expected"),
        (b'{"a": "x\ny"}', 1, 9, "line break or control"),
        (b'["\\x"]', 1, 3, "backslash"),
        (b'{"a": 1,\n "b": {"a": 1}, "a": 2}', 2, 17, "'a' stands twice"),
        (b'{"\\u0061": 1, "a": 2}', 1, 15, "'a' stands twice"),
        (b'{"a": [NaN]}', 1, 8, "NaN"),
        (b"[1, -Infinity]", 1, 5, "-Infinity"),
        (b"[1e400]", 1, 2, "too large"),
        (b'{"a": "\\ud800"}', 1, 7, "surrogate"),
        (b"9" * 5000, 1, 1, "digits"),
        (b"[" * 100_000, 1, 1, "nested too deeply"),
        (b"[" * 255 + b"]" * 255, 1, 255, "more than 254 levels"),
        (b'{"a":\n' * 900 + b"1" + b"}" * 900, 255, 1, "more than 254 levels"),
        (b'{"a": "\xff"}', 1, 8, "0xff at offset 7 is not UTF-8"),
        (b'\xef\xbb\xbf{\n"\xc3\xa9\xff": 1}', 2, 3, "0xff at offset 8 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), 1, 1, "not UTF-8"),
    ],
)
def test_faults_are_named_with_their_place(data: bytes, line: int, column: int, reason: str) -> None:
    error = corrupt(data)
    assert reason in str(error)
    assert (error.line, error.column) == (line, column)


def test_words_that_only_look_like_faults() -> None:
    value = {"a": 'NaN, Infinity: <<<<<<< \\ud800 {"a": 1,}', "b": ["a", "a"], "c": {"a": {"a": 1}}}
    assert decode_bytes(json.dumps(value).encode(), WHERE) == value


def test_lines_carry_their_place_in_the_file() -> None:
    assert (corrupt(b'{"a":1,}', decode_line, line=7).line, corrupt(b'{"a":1,}', decode_line, line=7).column) == (7, 7)
    error = corrupt(b'{"a":1,}', decode_line, offset=100)
    assert (error.line, error.column, error.offset) == (None, None, 106)
    error = corrupt(b'{"a":1,}', decode_line, line=7, offset=100)
    assert (error.line, error.column, error.offset) == (7, 7, 106)
    assert corrupt(b'{"a":\n1,}', decode_bytes, line=7).line == 8


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"[]", "an array"), (b"1", "a number"), (b"null", "null"), (b'"x"', "a string"), (b"true", "true")],
)
def test_a_line_is_an_object(data: bytes, kind: str) -> None:
    assert kind in str(corrupt(data, decode_line, line=1))


# --- the cost --------------------------------------------------------------------------------------------------------


class Counted:
    """Counts the calls of orjson and of the slow paths."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("loads", "dumps"):
            monkeypatch.setattr(orjson, name, self.counting(name, getattr(orjson, name)))
        for name in ("_plain", "_parse"):
            monkeypatch.setattr(codec, name, self.counting(name, getattr(codec, name)))

    def counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            return function(*args, **options)

        return counted

    def of(self, function: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
        self.calls.clear()
        function(*args, **options)
        return list(self.calls)


def test_a_checked_document_costs_one_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Blob(encode({"a": [1, None]}))
    by_hand = Blob(b'{"a": [1, null]}\r\n')
    counted = Counted(monkeypatch)
    assert counted.of(decode, written, WHERE) == ["loads", "dumps"]
    assert counted.of(decode, by_hand, WHERE) == ["loads", "dumps", "_parse"]
    for blob in (written, by_hand):
        assert blob.lossless
        assert counted.of(decode, blob, WHERE) == ["loads"]


@pytest.mark.parametrize("data", [b"[%d]" % 2**64, b"[1.0000000000000000000]", b"\xef\xbb\xbf{}", b"[%d]" % 10**400])
def test_what_one_parse_would_bend_is_not_called_lossless(data: bytes) -> None:
    blob = Blob(data)
    assert same(decode(blob, WHERE), decode(blob, WHERE))
    assert not blob.lossless


def test_writing_costs_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    assert counted.of(encode, {"a": [1, "x"], "t": datetime.now(UTC)}) == ["dumps"]
    assert counted.of(encode_line, {"a": None}) == ["dumps", "loads"]


# --- real data -------------------------------------------------------------------------------------------------------


def test_json_test_suite(shared_data: Path) -> None:
    judged = 0
    for path in sorted((shared_data / "json-test-suite" / "test_parsing").glob("[yn]_*.json")):
        data = path.read_bytes()
        if path.name.startswith("n_") or path.name in DUPLICATES:
            assert corrupt(data).reason, path.name
        else:
            assert same(decode_bytes(encode(decode_bytes(data, WHERE)), WHERE), decode_bytes(data, WHERE)), path.name
        judged += 1
    assert judged > 250


def test_json_that_parsers_disagree_on_is_read_or_reported(shared_data: Path) -> None:
    folder = shared_data / "json-test-suite"
    for path in [*folder.glob("test_parsing/i_*.json"), *folder.glob("test_transform/*.json")]:
        try:
            decode_bytes(path.read_bytes(), WHERE)
        except CorruptRecordError as error:
            assert error.line == 1, path.name  # noqa: PT017 - either outcome is right


def test_naughty_strings(shared_data: Path) -> None:
    texts = decode_bytes((shared_data / "naughty-strings" / "blns.json").read_bytes(), WHERE)
    assert len(texts) > 500
    assert decode_bytes(encode(texts), WHERE) == texts
    for text in texts:
        assert decode_line(encode_line({text: text}), WHERE) == {text: text}


def test_canonicalization_vectors(shared_data: Path) -> None:
    for path in (shared_data / "json-canonicalization" / "input").glob("*.json"):
        expected = json.loads(path.read_text("utf-8"))
        assert same(decode_bytes(encode(decode_bytes(path.read_bytes(), WHERE)), WHERE), expected), path.name


def test_real_logs(shared_data: Path) -> None:
    lines = [line for path in shared_data.glob("claude-code-log/*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(lines) > 20
    for number, line in enumerate(lines, 1):
        expected = json.loads(line)
        if isinstance(expected, dict):
            assert decode_line(line, WHERE, line=number) == expected
        else:
            assert corrupt(line, decode_line, line=number).line == number


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("a", "$.a"),
        ("a-b", "$.a-b"),
        ("é1", "$.é1"),
        (3, "$[3]"),
        ("3", '$["3"]'),
        ("", '$[""]'),
        ('a"b', '$["a\\"b"]'),
    ],
)
def test_places(key: str | int, place: str) -> None:
    assert path_to("$", key) == place
