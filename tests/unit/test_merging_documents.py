"""JSON documents merged by field: what one side changed is there, and whichever side of a conflict is kept is valid."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate import codec
from fsstate.errors import CorruptRecordError
from fsstate.merge import same, three_way
from fsstate.merging.documents import merge_document
from fsstate.merging.versions import Markers, Merged, Versions
from tests.unit.test_merging_lines import sides

SCALARS = st.none() | st.integers(-1, 1) | st.sampled_from([1.0, "", "a", "<<<<<<< ours", 10**20])
KEYS = st.sampled_from(["a", "b", "c", "", 'odd "key"'])
RECORDS = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from(["x", "y", "z"])}, optional={"n": st.integers(0, 2)}),
    max_size=3,
    unique_by=lambda record: record["id"],
)
VALUES = st.recursive(
    SCALARS | RECORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
VERSIONS = st.builds(Versions, OBJECTS, OBJECTS, OBJECTS) | st.builds(Versions, VALUES, VALUES, VALUES)


def merge(base: Any, ours: Any, theirs: Any, file: str = "agents/planner.json") -> Merged:
    return merge_document(Versions(base, ours, theirs).map(codec.encode), Markers(), file)


def choices(text: str) -> list[str]:
    """The texts that are left when one side is kept of each conflict, in every combination (or many of them)."""
    parts: list[tuple[str, str]] = []
    rest = text
    while "<<<<<<< ours\n" in rest and "\n=======\n" in rest:
        before, _, rest = rest.partition("<<<<<<< ours\n")
        block, _, rest = rest.partition(">>>>>>> theirs\n")
        marked = sides(f"<<<<<<< ours\n{block}>>>>>>> theirs\n")
        parts += [(before, before), marked]
    texts = ("".join(picked) + rest for picked in itertools.product(*(dict.fromkeys(part) for part in parts)))
    return list(itertools.islice(texts, 64))


@given(VALUES, VALUES)
def test_what_one_side_changed_is_taken(base: Any, changed: Any) -> None:
    for ours, theirs in ((changed, base), (base, changed), (changed, changed)):
        data, conflicts = merge(base, ours, theirs)
        assert conflicts == ()
        assert same(codec.decode_bytes(data, ""), changed)


@given(VERSIONS)
def test_it_says_what_a_merge_in_the_library_says(versions: Versions[Any]) -> None:
    data, conflicts = merge(*versions)
    merged, met = three_way(versions.base, versions.theirs, versions.ours)
    assert sorted(conflicts) == sorted(met)
    if not met:
        assert same(codec.decode_bytes(data, ""), merged)


@given(VERSIONS)
def test_whichever_side_is_kept_the_document_is_valid(versions: Versions[Any]) -> None:
    data, conflicts = merge(*versions)
    if not conflicts:
        return
    with pytest.raises(CorruptRecordError, match="git conflict markers"):
        codec.decode_bytes(data, "")
    for text in choices(data.decode()):
        codec.decode_bytes(text.encode(), "")
    # With one side everywhere it looks as fsstate would write it, and says what a merge that prefers that side does.
    for text, (mine, other) in zip(
        sides(data.decode()), ((versions.ours, versions.theirs), (versions.theirs, versions.ours)), strict=True
    ):
        value = codec.decode_bytes(text.encode(), "")
        assert codec.encode(value) == text.encode()
        preferred = three_way(versions.base, mine, other)[0]
        assert sorted_lists(value) == sorted_lists(preferred)


def sorted_lists(value: Any) -> str:
    """A value without the order of records, which is that of ours and not of the side that is preferred."""
    if isinstance(value, list):
        return json.dumps(sorted(map(sorted_lists, value)))
    if isinstance(value, dict):
        return json.dumps({key: sorted_lists(item) for key, item in sorted(value.items())})
    return repr(value)


def test_only_changed_lines_change_and_the_order_is_that_of_ours() -> None:
    base = {"b": 1, "a": {"y": 1, "x": 2}, "c": [1, 2]}
    ours = {"c": [1, 2], "b": 1, "a": {"x": 2, "y": 1}, "new": 1}
    theirs = {"b": 2, "a": {"y": 1, "x": 3}, "c": [1, 2], "other": 2}
    data, _ = merge(base, ours, theirs)
    assert json.loads(data) == {"c": [1, 2], "b": 2, "a": {"x": 3, "y": 1}, "new": 1, "other": 2}
    assert list(json.loads(data)) == ["c", "b", "a", "new", "other"]
    assert list(json.loads(data)["a"]) == ["x", "y"]


def test_a_layout_of_its_own_is_kept_where_lines_say_the_same() -> None:
    base = b'{ "a": 1,\n\n  "b": [1, 2],\n\n  "c": 3 }\n'
    versions = Versions(base, base.replace(b'"a": 1', b'"a": 2'), base.replace(b"3", b"4"))
    assert merge_document(versions, Markers(), "x.json").data == b'{ "a": 2,\n\n  "b": [1, 2],\n\n  "c": 4 }\n'


def test_a_layout_that_only_theirs_changed_is_no_change() -> None:
    base = codec.encode({"a": 1, "b": 2})
    ours = codec.encode({"a": 2, "b": 2})
    theirs = b'\xef\xbb\xbf{"b":2,\r\n"a":1}'
    assert merge_document(Versions(base, ours, theirs), Markers(), "x.json") == (ours, ())


def test_conflicts_are_as_small_as_can_be() -> None:
    base = {"id": "a", "tags": ["x", "y"], "at": {"n": 1, "m": 1}, "z": 0}
    ours = {"id": "a", "tags": ["x", "o", "y"], "at": {"n": 2, "m": 1}, "z": 1}
    theirs = {"id": "a", "tags": ["x", "t", "y"], "at": {"n": 3, "m": 2}, "z": 0}
    data, conflicts = merge(base, ours, theirs)
    assert conflicts == ("$.tags", "$.at.n")
    assert data.decode() == (
        '{\n  "id": "a",\n  "tags": [\n    "x",\n<<<<<<< ours\n    "o",\n=======\n    "t",\n>>>>>>> theirs\n'
        '    "y"\n  ],\n  "at": {\n<<<<<<< ours\n    "n": 2,\n=======\n    "n": 3,\n>>>>>>> theirs\n'
        '    "m": 2\n  },\n  "z": 1\n}\n'
    )


def test_a_conflict_at_the_end_takes_the_comma_before_it() -> None:
    data, _ = merge({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 2})
    assert data.decode() == ('{\n<<<<<<< ours\n  "a": 1\n=======\n  "a": 1,\n  "b": 2\n>>>>>>> theirs\n}\n')


EARLY, LATE, LATER = (f"2026-01-0{day}T00:00:00.000000Z" for day in (1, 2, 3))


@pytest.mark.parametrize(
    ("field", "base", "ours", "theirs", "merged"),
    [
        ("updated_at", EARLY, LATE, LATER, LATER),
        ("updated_at", EARLY, LATER, LATE, LATER),
        ("updated_at", EARLY, "2026-01-02T01:00:00+01:00", LATE, "2026-01-02T01:00:00+01:00"),
        ("updated_at", EARLY, 1767312000, LATER, LATER),
        ("updated_at", EARLY, None, LATE, "conflict"),
        ("updated_at", EARLY, "soon", LATE, "conflict"),
        ("created_at", ..., LATE, EARLY, EARLY),
        ("created_at", ..., EARLY, LATE, EARLY),
        ("archived_at", ..., LATE, EARLY, EARLY),
        ("completed_at", None, EARLY, LATE, EARLY),
        ("completed_at", EARLY, LATE, LATER, LATER),
        ("title", EARLY, LATE, LATER, "conflict"),
        ("tokens_used", 10, 15, 30, "conflict"),
    ],
)
def test_times_that_are_stamped_do_not_meet(field: str, base: Any, ours: Any, theirs: Any, merged: Any) -> None:
    versions = Versions(base, ours, theirs).map(lambda value: {} if value is ... else {field: value})
    data, conflicts = merge(*versions)
    assert bool(conflicts) == (merged == "conflict")
    if not conflicts:
        assert json.loads(data) == {field: merged}


def test_a_removed_updated_at_comes_back() -> None:
    assert json.loads(merge({"updated_at": EARLY}, {"a": 1}, {"updated_at": LATE}).data) == {"a": 1, "updated_at": LATE}


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        (10, 15, 30, 35),
        (..., 5, 6, 11),
        (0.5, 1.5, 2, 3.0),
        (10, 5, 30, None),
        (10, "x", 30, None),
        (10, True, 3, None),
    ],
)
def test_amounts_of_a_goal_add_up(base: Any, ours: Any, theirs: Any, merged: Any) -> None:
    versions = Versions(base, ours, theirs).map(lambda value: {} if value is ... else {"tokens_used": value})
    data, conflicts = merge(*versions, "state/sessions/s/goal.json")
    assert conflicts == (("$.tokens_used",) if merged is None else ())
    if not conflicts:
        assert same(json.loads(data), {"tokens_used": merged})


@pytest.mark.parametrize("key", ["id", "name", "relative_path"])
def test_sets_of_records_are_merged_by_what_tells_them_apart(key: str) -> None:
    base = {"items": [{key: "a"}, {key: "b", "n": 1}]}
    ours = {"items": [{key: "b", "n": 2}, {key: "o"}]}
    theirs = {"items": [{key: "a"}, {key: "b", "n": 1}, {key: "t"}]}
    data, conflicts = merge(base, ours, theirs)
    assert conflicts == ()
    assert json.loads(data) == {"items": [{key: "b", "n": 2}, {key: "o"}, {key: "t"}]}


def test_one_record_of_a_set_changed_twice_is_the_conflict() -> None:
    base, ours, theirs = ({"items": [{"name": "a", "n": n}, {"name": "b", "m": n}]} for n in (1, 2, 3))
    ours["items"][1]["m"] = 1
    assert merge(base, ours, theirs).conflicts == ("$.items[name=a].n",)


def test_a_base_with_conflicts_decides_nothing() -> None:
    """As git makes it of two bases: what they disagree on was in neither."""
    base = merge({"a": 0, "b": 0, "c": 0}, {"a": 1, "b": 0}, {"a": 2, "b": 0, "c": 1})
    assert base.conflicts == ("$.a", "$.c")
    versions = Versions(base.data, codec.encode({"a": 1, "b": 0}), codec.encode({"a": 2, "b": 1, "c": 1}))
    assert merge_document(versions, Markers(), "x.json").conflicts == ("$.a", "$.c")
    agreed = versions._replace(
        ours=codec.encode({"a": 3, "c": 1, "b": 0}), theirs=codec.encode({"a": 3, "c": 1, "b": 1})
    )
    assert merge_document(agreed, Markers(), "x.json") == (codec.encode({"a": 3, "c": 1, "b": 1}), ())


@pytest.mark.parametrize("base", [b"{", b"\xff", b"\0", b"<<<<<<< ours\n{"])
def test_a_base_that_cannot_be_read_decides_nothing(base: bytes) -> None:
    versions = Versions(base, codec.encode({"a": 1, "b": 1}), codec.encode({"a": 1, "c": 1}))
    data, conflicts = merge_document(versions, Markers(), "x.json")
    assert conflicts == ("$.b", "$.c")
    assert [json.loads(text) for text in sides(data.decode())] == [{"a": 1, "b": 1}, {"a": 1, "c": 1}]


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("data", [b"{", b"", b"\xff", b"<<<<<<< x\n", b'{"a":1,"a":2}', b"[" * 5000])
def test_a_side_that_cannot_be_read_is_refused(side: str, data: bytes) -> None:
    versions = Versions(b"{}", b"{}", b"{}")._replace(**{side: data})
    with pytest.raises(CorruptRecordError):
        merge_document(versions, Markers(), "x.json")
