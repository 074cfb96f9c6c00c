"""Whatever the files hold, merging them gives something: never an error, and never less than both sides had."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.codec import encode
from fsstate.merging.files import MergedFile, merge_file
from fsstate.merging.versions import Markers, Versions

NAMES = ["x.json", "x.jsonl", "state/sessions/s/messages.jsonl", "x.md", "x.txt", "json"]
LOG = b'{"seq":1,"id":"a","role":"user","content":"Hello"}\n{"seq":2,"head":"a"}\n'
GARBAGE = [
    b"",
    b"\n",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"\0",
    b"<<<<<<< ours\n{}\n=======\n[]\n>>>>>>> theirs\n",
    b'{"seq":1}\n',
    b'{"seq":1,"at":[1],"kind":{}}\n',
    b'{"seq":999999999999999999}\n',
    b'{"seq":1e3}\n{"seq":true}\n',
    b'{"seq":1,"id":7,"update":{}}\n',
    b'{"seq":1,"head":{"a":1}}\n',
    b'{"a":NaN}',
    b'{"a":"\\ud800"}',
    b'{"a":1e999}',
    b'{"items":[{"name":1},{"name":1}]}',
    b"---\n",
    b"---\na: [\n---\n",
    b"---\na: 1\n---\ntext",
    b"[" * 300,
    b"[" * 300 + b"]" * 300,
    b"[" * 900 + b"]" * 900,
    b'{"seq":1,"a":' + b"[" * 500 + b"]" * 500 + b"}\n",
    b'{"seq":1,"a":' + b"[" * 500 + b"0" + b"]" * 500 + b"}\n",
    b"\xef\xbb\xbf{}\r\n",
    LOG,
    LOG[:-5],
    b"x" * 100_000,
    b"\n" * 10_000,
]
DATA = st.sampled_from(GARBAGE) | st.binary(max_size=20)


@given(st.sampled_from(NAMES), DATA, DATA, DATA)
def test_anything_is_merged_somehow(name: str, base: bytes, ours: bytes, theirs: bytes) -> None:
    merged = merge_file(name, Versions(base, ours, theirs))
    assert isinstance(merged, MergedFile)
    if b"\0" in ours + theirs and ours != theirs and base not in (ours, theirs):
        assert merged.data is None
        assert merged.conflicts
    assert merged.data is not None or merged.conflicts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", GARBAGE)
def test_what_is_found_beside_garbage_is_still_there(name: str, other: bytes) -> None:
    """A line that ours has, and the base does not, is in what comes of it, or ours stays as it is."""
    good = LOG if name.endswith(".jsonl") else encode({"title": "Hello"})
    for base in (b"", b"{}\n", other + b"x"):
        merged = merge_file(name, Versions(base, good, other))
        assert merged.data is None or b"Hello" in merged.data


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_one_side_left_alone_is_the_other_sides(name: str) -> None:
    for one in GARBAGE:
        assert merge_file(name, Versions(b"base", one, b"base")) == (one, (), "")
        assert merge_file(name, Versions(b"base", b"base", one)) == (one, (), "")
        assert merge_file(name, Versions(b"base", one, one)) == (one, (), "")


def test_what_is_not_as_its_name_says_is_merged_by_line_and_that_is_said() -> None:
    merged = merge_file("a/x.json", Versions(b"{\n1\n2\n3\n", b"{\n0\n2\n3\n", b"{\n1\n2\n4\n"))
    assert (merged.data, merged.conflicts) == (b"{\n0\n2\n4\n", ())
    assert merged.note.startswith("merged by line: ours, line 2, column 1: ")


def test_a_log_of_many_entries_is_merged_without_reading_what_nobody_touched() -> None:
    rows = [{"seq": seq, "kind": "k", "text": "x" * 100} for seq in range(1, 50_001)]
    base = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    # It could not be read.
    base = base.replace(b'{"seq":25000,', b"garbage,")
    ours, theirs = (base + b'{"seq":50001,"kind":"%b"}\n' % name for name in (b"o", b"t"))
    merged = merge_file("x.jsonl", Versions(base, ours, theirs), Markers())
    assert merged.data == ours + b'{"seq":50002,"kind":"t"}\n'
