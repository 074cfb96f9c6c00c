"""How two encodings of one document differ, told from their lines, without parsing either.

A save must keep the key order of the file. Where the new text has the same keys on the same lines, that is so already,
and parsing the old text to find out can be spared: this is what most saves look like.
"""

from __future__ import annotations

from itertools import compress
from operator import ne

import orjson

__all__ = ["differs_in_values"]


def differs_in_values(old: bytes, new: bytes) -> bool:
    """Whether `new`, as the codec writes documents, differs from `old` in nothing but the scalar values of some keys.

    False may also mean that this cannot be told so cheaply.
    """
    start = _common_prefix(old, new)
    end = _common_suffix(old, new, start)
    before, after = old[start : len(old) - end].split(b"\n"), new[start : len(new) - end].split(b"\n")
    return len(before) == len(after) and all(
        _same_key(*pair) for pair in compress(zip(before, after, strict=True), map(ne, before, after))
    )


def _same_key(old: bytes, new: bytes) -> bool:
    key, separator, value = old.partition(b'": ')
    other_key, _, other_value = new.partition(b'": ')
    if not separator or key != other_key or old.endswith(b",") != new.endswith(b","):
        return False
    return _is_scalar(value.removesuffix(b",")) and _is_scalar(other_value.removesuffix(b","))


def _is_scalar(text: bytes) -> bool:
    """Whether a text is a scalar just as the codec writes it, so that other bytes mean another value."""
    if text[:1] in (b"{", b"["):
        return False
    try:
        return orjson.dumps(orjson.loads(text)) == text
    except orjson.JSONDecodeError:
        return False


def _common_prefix(one: bytes, other: bytes) -> int:
    """Where the first line begins that differs."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one.rfind(b"\n", 0, low) + 1


def _common_suffix(one: bytes, other: bytes, start: int) -> int:
    """How many bytes behind the end of the last line that differs are the same, looking back to `start` at most."""
    low, high = 0, min(len(one), len(other)) - start
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle : len(one) - low] == other[len(other) - middle : len(other) - low]:
            low = middle
        else:
            high = middle - 1
    newline = one.find(b"\n", len(one) - low) if low else -1
    return len(one) - newline if newline >= 0 else 0
