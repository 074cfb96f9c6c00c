"""What is put into stores at random: values, names, files as people write them, and damage."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

import orjson
from hypothesis import strategies as st

__all__ = ["FIELDS", "INTERESTING", "damaged", "documents", "json_values", "layouts", "mutated", "names", "texts"]

# Few, so that what is done to one record meets what was done to it before.
FIELDS: Final = ("status", "n", "updated_at", "tags", "title")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([2**63, 2**64, -(2**70), 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["idle", "busy", "ready", 1, True, 1.0, None]),
        "n": st.integers(-3, 3) | st.sampled_from([2**70, 0.5, -0.0, None, "3"]),
        "updated_at": st.sampled_from(
            ["2025-01-01T00:00:00Z", "2027-05-05T05:05:05+05:00", 1735689600, "soon", 10**400]
        ),
        "tags": st.lists(st.sampled_from(["a", "b", "ü", 1]), max_size=3),
        "title": texts,
        "pinned": st.booleans(),
    },
)

# Refused ones, too.
names = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "B",
        "ü",
        "e\u0301",
        "name with spaces",
        "x.json",
        "x" * 200,
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "CON",
        "nul.txt",
        "a ",
        "a.",
        "x" * 201,
        "\0",
        "a\nb",
        "\ud800",
    ]
)


def layouts(value: Any, style: int) -> bytes:
    """A document as somebody else may have written it: the same values in another layout."""
    if style == 0:
        return json.dumps(value, ensure_ascii=True, indent=4).encode()
    if style == 1:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8-sig", "surrogatepass")
    if style == 2:
        return json.dumps(value, indent="\t").replace("\n", "\r\n").encode()
    return b"\n\n" + json.dumps(value, sort_keys=True).encode() + b"  \n\n"


damaged = st.sampled_from(
    [
        b"",
        b"\0" * 40,
        b"{",
        b'{"a": 1,}',
        b'{"a": 1, "a": 2}',
        b"[1, 2",
        b"null",
        b"NaN",
        b"12",
        b'"text"',
        b'\xff\xfe{\x00"\x00',
        b"\xef\xbb\xbf",
        b'{"a": "\\ud800"}',
        b'{"n": 1e400}',
        b'<<<<<<< HEAD\n{"a": 1}\n=======\n{"a": 2}\n>>>>>>> other\n',
        b"[" * 100_000,
        b"9" * 5000,
        *(
            b'{"n":' + b"[" * depth + b"]" * depth + b',"tags":' + b'{"a":' * depth + b"1" + b"}" * (depth + 1)
            for depth in (260, 480, 960)
        ),
        b"---\na: [\n---\ntext\n",
        b"\xc3",
    ]
)

# Pieces that readers have to decide about.
INTERESTING: Final[tuple[bytes, ...]] = (
    b"", b"\0", b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\\", b'"', b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"false", b"NaN", b"-Infinity", b"1e999",
    b"-0", b"0x10", b"18446744073709551616", b"9223372036854775808", b"9" * 400, b"1" * 5000, b"\\u0000", b"\\ud800",
    b"\\udc00\\ud800", b"---\n", b"---", b"...\n", b"<<<<<<< HEAD\n", b"=======\n", b">>>>>>> x\n", b"# ", b"- ", b": ",
    b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"<<: *a", b"%YAML 1.1\n", b"\t", b"\x85", b"\xe2\x80\xa8",
    b'"seq":0', b'"seq":1', b'"seq":-1', b'"seq":1e3', b'"seq":999999999999999999', b'"seq":1000000000000000000',
    b'"fsstate":"trimmed"', b"[" * 300, b"{" * 300, b'{"a":' * 300, b"[" * 2000, b"23:59:60", b"0000-00-00T00:00:00Z",
    b"9999-12-31T23:59:59.999999Z", b"1e308", b"\xf0\x9f\x98\x80", b"\xcc\x81", b"\xe2\x80\xae", b"\x1b[31m", b"../",
)  # fmt: skip


def mutated(source: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """The bytes after some damage: cut, doubled, mixed with others, or with pieces in them that readers trip over."""
    data = bytearray(source)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 2, 4, 16, 200)))
        way = chance.randrange(7)
        if way == 0:
            del data[at:end]
        elif way == 1:
            data[at:at] = data[at:end]
        elif way == 2:
            data[at:end] = chance.choice(INTERESTING)
        elif way == 3:
            data[at:end] = chance.randbytes(end - at)
        elif way == 4 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif way == 5:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + chance.choice((1, 10, 100, 1000))]
        else:
            del data[at:]
    return bytes(data)


def as_line(value: object) -> bytes:
    """A line of a log."""
    return orjson.dumps(value)
