"""The rows of a transcript: from a line to a value and back, so that every row comes out equal as JSON. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, TypeGuard

import orjson

from fsstate import codec

__all__ = [
    "Object",
    "Row",
    "UnreadableError",
    "dump",
    "is_list",
    "is_object",
    "parse",
    "restored",
    "text_in",
    "without_content",
]

Object: TypeAlias = dict[str, Any]

# fsstate's files take 254 levels, and a row stands a few levels deep in its line.
_MAX_DEPTH: Final = 240
# Only a number this long can be one that orjson turns into a float. Looked for in a copy whose digits are all zeros,
# which takes a sixth of the time of a regular expression.
_LONG_NUMBER: Final = b"0" * 19
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")


class UnreadableError(ValueError):
    """A line that is no row. `column` counts from 1."""

    def __init__(self, reason: str, column: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column


class Row(NamedTuple):
    """One row and the number of its line, from 1.

    `line` is the line's text where `value` could not be stored as it is; `value` is then as much of it as can.
    """

    number: int
    value: Any
    line: str | None = None

    def is_same(self, other: Row) -> bool:
        """Whether two rows are equal, wherever they stand."""
        return self.line == other.line and (self.line is not None or self.value == other.value)


def parse(data: bytes, number: int) -> Row:
    """The row in a line. Raises UnreadableError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _parse_strictly(data, number)
    if _LONG_NUMBER in data.translate(_DIGITS_TO_ZERO):
        return _parse_strictly(data, number)
    if data.count(b"[") + data.count(b"{") > _MAX_DEPTH and _is_deep(value):
        return Row(number, _flat(value), data.decode())
    if orjson.dumps(value) != data and _has_twice(data):
        # The value has only the last of them; the line keeps both.
        return Row(number, value, data.decode())
    return Row(number, value)


def _has_twice(data: bytes) -> bool:
    """Whether an object in the text has a key twice."""
    twice = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in pairs}) < len(pairs)

    json.loads(data, object_pairs_hook=look)
    return twice


def dump(row: Row) -> bytes:
    """The line for a row, without a newline."""
    return row.line.encode() if row.line is not None else codec.encode_line(row.value)


def without_content(row: Object) -> Object:
    """A message's row with null in the place of the content, which stands in the message itself."""
    message = row["message"]
    return {**row, "message": {**message, "content": None}} if "content" in message else row


def restored(row: Object, content: Any) -> Object:
    """The row that `without_content` was made from."""
    message = row.get("message")
    if not is_object(message) or message.get("content", ...) is not None:
        return row
    return {**row, "message": {**message, "content": content}}


def is_object(value: object) -> TypeGuard[Object]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


def text_in(value: Mapping[str, Any], key: str) -> str | None:
    """A field, if it is a text that is not empty."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def _parse_strictly(data: bytes, number: int) -> Row:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte 0x{data[error.start]:02x} is not UTF-8", error.start + 1) from None
    value = _loaded(text)
    if _is_deep(value):
        return Row(number, _flat(value), text)
    plain = _plain(value)
    # The text, unless nothing had to give way.
    return Row(number, plain, None if plain == value else text)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise UnreadableError(_explain(error), error.colno) from None
    except RecursionError:
        raise UnreadableError("it is nested too deeply to be read") from None
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _refuse(constant: str) -> NoReturn:
    raise UnreadableError(f"{constant} is no JSON value")


def _explain(error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return "more text follows the JSON value; expected one value on a line"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return "the line is cut off in the middle of the JSON"
    return f"expected one JSON value on the line: {error.msg}"


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [item for each in level for item in _members(each)]
        if not level:
            return False
    return True


def _members(value: object) -> list[Any]:
    return list(value.values()) if is_object(value) else value if is_list(value) else []


def _flat(value: object) -> Any:
    """What tells of a row that is too deep to be stored: its fields that hold neither objects nor arrays."""
    if not is_object(value):
        return None
    return {_plain(key): _plain(item) for key, item in value.items() if not isinstance(item, dict | list)}


def _plain(value: Any) -> Any:
    """The value with a replacement character for each half of one, and null for numbers beyond a float."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_object(value):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if is_list(value):
        return [_plain(item) for item in value]
    return value
