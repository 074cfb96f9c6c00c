"""Any value as bytes that compare as the values do: what queries are decided by, in Python and in a database alike.

- Two keys are equal if and only if the values are, as Python says it: 1 equals 1.0, and lists and objects are compared
  by what is in them.
- Numbers are ordered by size, exactly; texts by their characters; times as points in time, those without a zone as UTC.
  Everything else is ordered by its JSON text. Of several kinds None comes first, then dates, times, numbers, texts, and
  the rest.
- A value that is missing has no key.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from math import isfinite
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeGuard

import orjson

__all__ = ["MISSING", "NULL", "Key", "Missing", "elements_of", "key_of", "pair_key", "text_in"]

Key: TypeAlias = bytes

# The key of None.
NULL: Final[Key] = b""

# The first byte of a key: its kind.
_DATE: Final = b"d"
_TIME: Final = b"m"
_NUMBER: Final = b"n"
_TEXT: Final = b"t"
_OTHER: Final = b"x"
_PAIR: Final = b"y"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
# Behind a number that is a float exactly; what lies above or below it sorts behind or before that.
_EXACT: Final = b"\x80"
_ABOVE: Final = b"\x81"


class Missing(Enum):
    """The type of `MISSING`: no value was given, and None is a value."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def key_of(value: Any) -> Key | None:
    """The key of a value; None for MISSING."""
    if isinstance(value, Enum):
        return None if isinstance(value, Missing) else key_of(value.value)
    return NULL if value is None else _kind_and_rest(value)


def text_in(key: Key) -> str | None:
    """The text that a key is of; None for what is no text's key."""
    return key[1:].decode("utf-8", "surrogatepass") if key.startswith(_TEXT) else None


def pair_key(name: str, value: Any) -> Key:
    """The key of one field of an object."""
    encoded = _bytes_of(name)
    return _PAIR + struct.pack(">I", len(encoded)) + encoded + (key_of(value) or NULL)


def elements_of(value: Any) -> frozenset[Key]:
    """The keys of what is in a value: the items of a list, the fields of an object; nothing in all others."""
    if _is_object(value):
        return frozenset(pair_key(name, item) for name, item in value.items() if isinstance(name, str))
    if _is_array(value):
        return frozenset(key for key in map(key_of, value) if key is not None)
    return frozenset()


def _kind_and_rest(value: Any) -> Key:
    if isinstance(value, str):
        return _TEXT + _bytes_of(value)
    if isinstance(value, int | float):
        return _NUMBER + _number(value)
    if isinstance(value, datetime):
        return _TIME + _moment(value)
    if isinstance(value, date):
        return _DATE + struct.pack(">I", value.toordinal())
    return _OTHER + _text_of(value).encode()


def _bytes_of(text: str) -> bytes:
    # In UTF-8 texts compare as by their code points. What no file can hold may still be asked for.
    return text.encode("utf-8", "surrogatepass")


def _moment(value: datetime) -> bytes:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return struct.pack(">Q", (aware - _EPOCH) // _MICROSECOND + _SIGN)


def _number(value: float) -> bytes:
    nearest = _nearest(value)
    # IEEE 754: without its sign a float's bits grow with it; the zeros are one.
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest + 0.0))
    ordered = struct.pack(">Q", bits ^ (_ALL if bits & _SIGN else _SIGN))
    beyond = value - _whole(nearest) if isinstance(value, int) else 0
    return ordered + (_EXACT if not beyond else _beyond(beyond))


def _nearest(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _whole(nearest: float) -> int:
    return int(nearest) if abs(nearest) != float("inf") else 0


def _beyond(distance: int) -> bytes:
    """What an integer is more or less than the nearest float, such that greater ones sort behind."""
    size = (abs(distance).bit_length() + 7) // 8
    told = struct.pack(">I", size) + abs(distance).to_bytes(size, "big")
    return _ABOVE + told if distance > 0 else b"\x7f" + bytes(255 - byte for byte in told)


def _text_of(value: Any) -> str:
    """A text that two values share if and only if they are equal."""
    if _is_object(value):
        fields = sorted(((str(name), item) for name, item in value.items()), key=itemgetter(0))
        return "{" + ",".join(f"{_scalar(name)}:{_text_of(item)}" for name, item in fields) + "}"
    if _is_array(value):
        return "[" + ",".join(map(_text_of, value)) + "]"
    if isinstance(value, bool | float):
        return repr(int(value) if isfinite(value) and value == int(value) else value)
    return _text_of(value.value) if isinstance(value, Enum) else _scalar(value)


def _scalar(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        # An integer beyond 64 bits, or what no file can hold.
        return repr(value).encode("ascii", "backslashreplace").decode()


def _is_object(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_array(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, list | tuple)
