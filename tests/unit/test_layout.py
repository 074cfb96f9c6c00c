"""Telling from the lines alone that only values changed."""

import copy
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.codec import encode
from fsstate.layout import differs_in_values
from fsstate.merge import keep_order

DOCUMENT: dict[str, Any] = {"a": 1, "b": {"c": [1, 2, {"x": "y"}], "d": None}, "e": 'te": xt', "n": 5, "z": 1.5}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@pytest.mark.parametrize(
    "change",
    [{"n": 6}, {"a": 2, "z": True}, {"e": "null"}, {"n": 5.0}, {"b": {"c": [1, 2, {"x": 9}], "d": 'a": b'}}],
)
def test_changed_values_of_the_same_keys_are_told(change: dict[str, Any]) -> None:
    assert differs_in_values(encode(DOCUMENT), encode({**DOCUMENT, **change}))


@pytest.mark.parametrize(
    "new",
    [
        {**DOCUMENT, "more": 1},
        {**DOCUMENT, "b": 1},
        dict(sorted(DOCUMENT.items(), reverse=True)),
        {**DOCUMENT, "b": {"d": None, "c": [1, 2, {"x": "y"}]}},
    ],
)
def test_other_keys_and_orders_are_not(new: dict[str, Any]) -> None:
    assert not differs_in_values(encode(DOCUMENT), encode(new))


@pytest.mark.parametrize(
    "old", [b'{\r\n  "a": 1\r\n}\r\n', b'\xef\xbb\xbf{\n  "a": 1\n}\n', b'{"a": 1}', b'{\n  "a": 1.0e0\n}']
)
def test_another_layout_of_the_same_document_is_not(old: bytes) -> None:
    assert orjson.loads(old.removeprefix(b"\xef\xbb\xbf")) == {"a": 1}
    assert not differs_in_values(old, encode({"a": 1}))


@given(old=st.dictionaries(st.text(), VALUES), seed=st.integers())
def test_it_never_takes_a_changed_order_for_changed_values(old: dict[str, Any], seed: int) -> None:
    shuffled = list(old.items())
    random.Random(seed).shuffle(shuffled)
    new = copy.deepcopy(dict(shuffled))
    if new:
        new[next(iter(new))] = seed
    if differs_in_values(encode(old), encode(new)):
        assert encode(keep_order(new, old)) == encode(new)
