"""Keys compare as the values do."""

from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.keys import MISSING, NULL, elements_of, key_of, pair_key, text_in

numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64, 10**400, -(10**400), 10**400 + 1, -0.0, 0]),
)
json = st.recursive(
    st.one_of(st.none(), numbers, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def key(value: Any) -> bytes:
    found = key_of(value)
    assert found is not None
    return found


@given(numbers, numbers)
def test_numbers_compare_exactly(one: float, other: float) -> None:
    assert (key(one) < key(other)) == (one < other)
    assert (key(one) == key(other)) == (one == other)


@given(st.text(), st.text())
def test_texts_compare_by_code_points(one: str, other: str) -> None:
    assert (key(one) < key(other)) == (one < other)
    assert text_in(key(one)) == one


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))])),
    st.datetimes().map(lambda d: d.replace(tzinfo=UTC)),
)
def test_times_compare_as_points_in_time(one: datetime, other: datetime) -> None:
    assert (key(one) < key(other)) == (one < other)
    assert (key(one) == key(other)) == (one == other)


@given(st.dates(), st.dates())
def test_dates_compare(one: date, other: date) -> None:
    assert (key(one) < key(other)) == (one < other)


@given(json, json)
def test_only_equal_values_have_equal_keys(one: Any, other: Any) -> None:
    assert (key(one) == key(other)) == (one == other)


@given(json)
def test_the_same_value_spelt_otherwise_has_the_same_key(value: Any) -> None:
    def respelt(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: respelt(item) for name, item in reversed(value.items())}
        if isinstance(value, list):
            return tuple(respelt(item) for item in value)
        return float(value) if isinstance(value, int) and abs(value) < 2**53 else value

    assert key(respelt(value)) == key(value)


def test_kinds_do_not_mix() -> None:
    values = [date(2026, 1, 1), datetime(1970, 1, 1, tzinfo=UTC), -5, 10**30, "", "5", [], {"a": 1}]
    assert [key(value) for value in values] == sorted(key(value) for value in values)


NAIVE = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, NULL),
        (MISSING, None),
        (Colour.RED, key_of("red")),
        (NAIVE, key_of(NAIVE.replace(tzinfo=UTC))),
    ],
)
def test_what_stands_for_something_else(value: Any, expected: bytes | None) -> None:
    assert key_of(value) == expected


def test_elements() -> None:
    assert elements_of(["a", 1, None]) == {key_of("a"), key_of(1), NULL}
    assert elements_of({"a": [1]}) == {pair_key("a", [1.0])}
    assert elements_of("text") == elements_of(None) == elements_of(MISSING) == frozenset()


@given(st.text(), json, st.text(), json)
def test_fields_are_told_apart(name: str, value: Any, other_name: str, other: Any) -> None:
    assert (pair_key(name, value) == pair_key(other_name, other)) == ((name, value) == (other_name, other))


def test_what_is_no_json_has_a_key_all_the_same() -> None:
    assert key_of(object()) is not None
    assert key_of([float("nan"), float("inf"), "\ud800", {1, 2}]) is not None
