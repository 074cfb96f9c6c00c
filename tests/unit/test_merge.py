import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.merge import differences, keep_order, overlay, same, three_way

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.text("ab", max_size=2)
KEYS = st.sampled_from(["id", "a", "b", "c"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(VALUES, VALUES)
def test_one_sided_changes_are_taken(base: Any, changed: Any) -> None:
    for mine, theirs in ((changed, base), (base, changed), (changed, changed)):
        merged, conflicts = three_way(base, mine, theirs)
        assert same(merged, changed)
        assert conflicts == ()


@given(VALUES, VALUES, VALUES)
def test_merging_changes_no_argument(base: Any, mine: Any, theirs: Any) -> None:
    before = copy.deepcopy((base, mine, theirs))
    three_way(base, mine, theirs)
    overlay(base, mine, theirs)
    keep_order(mine, theirs)
    assert before == (base, mine, theirs)


@given(VALUES, VALUES, VALUES)
def test_both_sides_see_the_same_conflicts(base: Any, mine: Any, theirs: Any) -> None:
    merged, conflicts = three_way(base, mine, theirs)
    mirrored, others = three_way(base, theirs, mine)
    assert sorted(conflicts) == sorted(others)
    if not conflicts and "id" not in repr(base):
        assert same(merged, mirrored)


def test_changes_of_different_keys_meet_nowhere() -> None:
    base = {"name": "a", "status": "idle", "tags": ["x"]}
    mine = {"name": "b", "status": "idle", "tags": ["x"], "mine": 1}
    theirs = {"theirs": 2, "status": "busy", "name": "a"}
    merged, conflicts = three_way(base, mine, theirs)
    assert merged == {"theirs": 2, "status": "busy", "name": "b", "mine": 1}
    assert list(merged) == ["theirs", "status", "name", "mine"]
    assert conflicts == ()


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "places"),
    [
        ({"a": 1}, {"a": 2}, {"a": 3}, ("$.a",)),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, {"a": {"b": 3}}, ("$.a.b",)),
        ({"a": 1}, {}, {"a": 2}, ("$.a",)),
        ({"a": 1}, {"a": 2}, {}, ("$.a",)),
        ({}, {"a b": 1}, {"a b": 2}, ('$["a b"]',)),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 3]}, ("$.a",)),
        ({"a": 1}, {"a": True}, {"a": 1.0}, ("$.a",)),
        ([{"id": "x", "n": 1}], [{"id": "x", "n": 2}], [{"id": "x", "n": 3}], ("$[id=x].n",)),
        (1, 2, 3, ("$",)),
    ],
)
def test_conflicts_are_named_and_hold_mine(base: Any, mine: Any, theirs: Any, places: tuple[str, ...]) -> None:
    merged, conflicts = three_way(base, mine, theirs)
    assert conflicts == places
    if places == ("$.a",) and "a" in mine:
        assert same(merged["a"], mine["a"])


def test_objects_that_both_sides_added_are_united() -> None:
    assert three_way({}, {"m": {"a": 1}}, {"m": {"b": 2}}) == ({"m": {"b": 2, "a": 1}}, ())


def test_lists_of_objects_with_ids_are_merged_by_id() -> None:
    base = [{"id": 1, "done": False}, {"id": 2, "done": False}, {"id": 3}]
    mine = [{"id": 1, "done": True}, {"id": 2, "done": False}, {"id": 4}]
    theirs = [{"id": 5}, {"id": 2, "done": True}, {"id": 1, "done": False}, {"id": 3}]
    merged, conflicts = three_way(base, mine, theirs)
    assert merged == [{"id": 5}, {"id": 2, "done": True}, {"id": 1, "done": True}, {"id": 4}]
    assert conflicts == ()


def test_lists_whose_ids_repeat_are_taken_whole() -> None:
    base = [{"id": 1}, {"id": 1}]
    assert three_way(base, [*base, {"id": 2}], [*base, {"id": 3}])[1] == ("$",)


def test_same_tells_types_apart() -> None:
    assert same({"a": 1, "b": [None]}, {"b": [None], "a": 1})
    assert not same(1, True)
    assert not same(1, 1.0)
    assert not same({"a": None}, {})
    assert not same([1], [1, 2])
    assert same(float("nan"), float("nan"))


@given(VALUES, VALUES)
def test_overlaying_a_view_that_knows_all_gives_the_new_value(base: Any, after: Any) -> None:
    assert same(overlay(base, base, after), after)


@given(VALUES, VALUES)
def test_overlaying_no_change_gives_the_document(base: Any, view: Any) -> None:
    assert overlay(base, view, copy.deepcopy(view)) is base


def test_overlay_keeps_what_the_view_does_not_know() -> None:
    base = {"x": 1, "name": "a", "deep": {"y": 2, "n": 1}, "gone": 1, "z": [3]}
    before = {"name": "a", "deep": {"n": 1}, "gone": 1, "default": 0, "other": 0}
    after = {"new": 5, "name": "b", "deep": {"n": 2}, "default": 0, "other": 7}
    result = overlay(base, before, after)
    assert result == {"x": 1, "name": "b", "deep": {"y": 2, "n": 2}, "z": [3], "new": 5, "other": 7}
    assert list(result) == ["x", "name", "deep", "z", "new", "other"]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([{"n": 1}, {"n": 2}, {"n": 3}], [{"n": 1, "u": 1}, {"n": 2, "u": 2}, {"n": 3}]),
        ([{"n": 0}, {"n": 1}, {"n": 2}], [{"n": 0}, {"n": 1, "u": 1}, {"n": 2, "u": 2}]),
        ([{"n": 2}], [{"n": 2, "u": 2}]),
        ([{"n": 9}, {"n": 2}], [{"n": 9, "u": 1}, {"n": 2, "u": 2}]),
        ([{"n": 9}, {"n": 2}, {"n": 3}], [{"n": 9, "u": 1}, {"n": 2, "u": 2}, {"n": 3}]),
        ([], []),
    ],
)
def test_overlay_follows_the_members_of_lists(after: Any, expected: Any) -> None:
    base = [{"n": 1, "u": 1}, {"n": 2, "u": 2}]
    assert overlay(base, [{"n": 1}, {"n": 2}], after) == expected


def test_overlay_follows_ids() -> None:
    base = [{"id": "a", "u": 1}, {"id": "b", "u": 2}]
    before = [{"id": "a"}, {"id": "b"}]
    after = [{"id": "b", "n": 1}, {"id": "c"}]
    assert overlay(base, before, after) == [{"id": "b", "u": 2, "n": 1}, {"id": "c"}]


@given(VALUES, VALUES)
def test_keeping_order_changes_no_value(value: Any, like: Any) -> None:
    assert same(keep_order(value, like), value)


@given(OBJECTS, OBJECTS)
def test_known_keys_come_first_in_their_order(value: dict[str, Any], like: dict[str, Any]) -> None:
    ordered = list(keep_order(value, like))
    assert ordered == [key for key in like if key in value] + [key for key in value if key not in like]


def test_order_is_kept_at_every_depth() -> None:
    ordered = keep_order(
        {"b": [{"y": 1, "x": 2}], "a": {"d": 1, "c": 2}}, {"a": {"c": 0, "d": 0}, "b": [{"x": 0, "y": 0}]}
    )
    assert repr(ordered) == "{'a': {'c': 2, 'd': 1}, 'b': [{'x': 2, 'y': 1}]}"


@pytest.mark.parametrize(
    ("one", "other", "places"),
    [
        ({"a": 1, "b": 1}, {"b": 1, "a": 1}, []),
        ({"a": 1}, {"a": 1.0}, ["$.a"]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["$.a", "$.b", "$.c"]),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, ["$.a.b"]),
        ([{"id": 3, "n": 1}, {"id": 4}], [{"id": 3, "n": 2}], ["$[id=3].n", "$[id=4]"]),
        ([1], {"a": 1}, ["$"]),
        ([], {}, ["$"]),
        ({}, [{"id": 1}], ["$"]),
    ],
)
def test_differences(one: Any, other: Any, places: list[str]) -> None:
    assert sorted(differences(one, other)) == places


@given(VALUES, VALUES)
def test_what_differs_has_differences(one: Any, other: Any) -> None:
    found = list(differences(one, other))
    assert (found == []) == same(one, other) or "id" in repr((one, other))
    assert sorted(differences(other, one)) == sorted(found)
    assert len(set(found)) == len(found)
