"""JSON on disk: written in one form, read in every form, and nothing is lost in between.

Written: UTF-8 without escapes for what is not ASCII, two-space indent, LF, final newline; a log line is compact.
Keys keep their order. What JSON cannot hold (NaN, sets, keys that are no strings …) is refused with its place.
Read: a BOM, CRLF and any layout are fine. Integers keep all their digits. What a parser would silently drop or bend
(duplicate keys, NaN, numbers beyond a float's range, half characters) is reported with line and column.

The cost of an unchanged document that was checked once is one `orjson.loads`.
"""

from __future__ import annotations

import enum
import json
import math
import re
import uuid
from datetime import date, datetime
from typing import Any, Final, NamedTuple, TypeAlias, cast

import orjson

from fsstate.backends.base import Blob
from fsstate.errors import CorruptRecordError, InvalidValueError
from fsstate.times import format_time

__all__ = ["MAX_DEPTH", "decode", "decode_bytes", "decode_line", "encode", "encode_line", "path_to"]

# orjson writes no more levels than this; a value that contains itself ends here too.
MAX_DEPTH: Final = 254

_STRICT: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_LINE: Final = _STRICT
_DOCUMENT: Final = _STRICT | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

_BOM: Final = b"\xef\xbb\xbf"
_KEY: Final = re.compile(r"[^\W\d][\w-]*")
# Only a number this long can be one that orjson turns into a float.
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_CONFLICT: Final = re.compile(r"^<{7}(?: |$)", re.MULTILINE)
_CONSTANTS: Final = frozenset(["NaN", "Infinity", "-Infinity"])

_Keys: TypeAlias = set[str] | None


class _Flaw(NamedTuple):
    """What is wrong with a text, and at which character."""

    reason: str
    position: int


class _DuplicateKeyError(Exception):
    """Raised by the parser's hook, which does not know where it is."""


def path_to(parent: str, key: str | int) -> str:
    """The place of a member below `parent`, as messages show it: `$.items[3]["odd key"]`."""
    if isinstance(key, int):
        return f"{parent}[{key}]"
    return f"{parent}.{key}" if _KEY.fullmatch(key) else f"{parent}[{json.dumps(key, ensure_ascii=False)}]"


# --- writing ---------------------------------------------------------------------------------------------------------


def encode(value: object, *, where: str = "") -> bytes:
    """A JSON document as it is stored. `where` names the record in errors.

    Accepts None, bool, int of any size, finite float, str, list, tuple, dict with str keys, aware datetime, date,
    UUID and Enum members of such values. Raises InvalidValueError, naming the place, for everything else: what could
    not be read back is never written.
    """
    return _encode(value, _DOCUMENT, where)


def encode_line(value: object, *, where: str = "") -> bytes:
    """`encode` for a log: compact, on one line, without the newline at its end."""
    return _encode(value, _LINE, where)


def _encode(value: object, option: int, where: str) -> bytes:
    try:
        data = orjson.dumps(value, default=_default, option=option)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain_or_refused(value, where), option=option)
    # orjson writes NaN and Infinity as null. Equal means that there are none: NaN equals nothing that was parsed.
    if b"null" in data and orjson.loads(data) != value:
        _plain_or_refused(value, where)
    return data


def _plain_or_refused(value: object, where: str) -> Any:
    try:
        return _plain(value, "$", where, 0)
    except RecursionError:
        raise _too_deep(where) from None


def _default(value: object) -> object:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError


def _plain(value: object, at: str, where: str, depth: int) -> Any:
    """The value in types that orjson takes, or InvalidValueError. The slow way: only after the fast one balked."""
    if depth >= MAX_DEPTH and isinstance(value, dict | list | tuple):
        raise _too_deep(where)
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {_plain_key(key, at, where): _plain(item, _below(at, key), where, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        members = enumerate(cast("list[object]", value))
        return [_plain(item, path_to(at, index), where, depth + 1) for index, item in members]
    if isinstance(value, enum.Enum):
        return _plain(value.value, at, where, depth)
    try:
        return _plain_scalar(value)
    except ValueError as error:
        raise _refused(str(error), at, where) from None


def _below(at: str, key: object) -> str:
    return path_to(at, key) if isinstance(key, str) else at


def _plain_key(key: object, at: str, where: str) -> str:
    if not isinstance(key, str):
        kind = type(key).__name__
        raise _refused(f"the key {key!r} is of type {kind}, and JSON has only str keys; use str(key)", at, where)
    try:
        return _plain_text(key)
    except ValueError as error:
        raise _refused(f"a key: {error}", at, where) from None


def _plain_scalar(value: object) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, int):
        return _plain_int(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no {float(value)!r}; store None or a string instead")
        return float(value)
    if isinstance(value, date):
        return _default(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise ValueError(f"{type(value).__name__} has no JSON form; {_advice(value)}")


def _advice(value: object) -> str:
    if isinstance(value, set | frozenset):
        return "use a sorted list"
    if isinstance(value, bytes | bytearray | memoryview):
        return "decode it to str, or use base64"
    return "use None, bool, int, float, str, list, dict or an aware datetime, or give the collection a model"


def _plain_int(value: int) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    # orjson refuses integers beyond 64 bits; a fragment goes into the output as it is.
    return orjson.Fragment(str(value))


def _plain_text(value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise ValueError(
            f"character {error.start} of the text is {half!r}, half of a surrogate pair, which UTF-8 cannot express; "
            "text.encode('utf-8', 'replace').decode() replaces it"
        ) from None
    return text


def _too_deep(where: str) -> InvalidValueError:
    return _refused(f"it is nested more than {MAX_DEPTH} levels deep, or contains itself", "$", where)


def _refused(reason: str, at: str, where: str) -> InvalidValueError:
    return InvalidValueError(f"{reason} ({where})" if where else reason, at=at)


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(blob: Blob, where: str) -> Any:
    """Parse a JSON document. `where` is the path that errors name.

    Raises CorruptRecordError with line and column, what was expected and what to do. Remembers on the blob when a
    check for lost data is not needed again.
    """
    if blob.lossless:
        return orjson.loads(blob.data)
    value, blob.lossless = _decode(blob.data, where, _DOCUMENT, None, None)
    return value


def decode_bytes(data: bytes, where: str, *, line: int | None = None) -> Any:
    """`decode` for bytes that are no blob. `line` is their line number when they are one line of a file."""
    return _decode(data, where, _DOCUMENT, line, None)[0]


def decode_line(data: bytes, where: str, *, line: int | None = None, offset: int | None = None) -> dict[str, Any]:
    """Parse one line of a log, which must hold a JSON object.

    `line` (from 1) and `offset` (bytes from 0) say where the line stands in its file; errors carry them.
    """
    value = _decode(data, where, _LINE, line, offset)[0]
    if not isinstance(value, dict):
        kind = _kind(value)
        reason = f"a JSON object was expected, and this is {kind}; remove the line or correct it"
        raise CorruptRecordError(where, reason, line=line, column=None if line is None else 1, offset=offset)
    return cast("dict[str, Any]", value)


def _kind(value: object) -> str:
    kinds: dict[object, str] = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _decode(data: bytes, where: str, option: int, line: int | None, offset: int | None) -> tuple[Any, bool]:
    """The value, and whether `orjson.loads(data)` alone gives the same."""
    body = data.removeprefix(_BOM)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _Source(data, where, line, offset).parse(surely_flawed=True), False
    written = _written(value, option)
    # Written as the bytes that it was read from: then parsing lost nothing.
    if written == body:
        return value, body is data
    source = _Source(data, where, line, offset)
    return source.parse(surely_flawed=written is None), body is data and _LONG_NUMBER.search(body) is None


def _written(value: object, option: int) -> bytes | None:
    """A parsed value as it would be stored; None for one that is nested too deeply."""
    try:
        return orjson.dumps(value, option=option)
    except orjson.JSONEncodeError:
        return None


class _Source(NamedTuple):
    """Bytes that orjson refused or may have bent, and where they come from."""

    data: bytes
    where: str
    line: int | None
    offset: int | None

    def parse(self, *, surely_flawed: bool) -> Any:
        """The value with all its digits, or the error that tells a person what to do."""
        text = self._text()
        value, flaw = _parse(text)
        if flaw is None and surely_flawed:
            flaw = _survey(text)
        if flaw is not None:
            raise self._error(flaw, text)
        return value

    def _text(self) -> str:
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # Its positions count from behind a BOM.
            at = error.start + len(self.data) - len(error.object)
            before = error.object[: error.start].decode("utf-8", "replace")
            flaw = _Flaw(f"byte 0x{self.data[at]:02x} at offset {at} is not UTF-8; save the file as UTF-8", len(before))
            raise self._error(flaw, before) from None

    def _error(self, flaw: _Flaw, text: str) -> CorruptRecordError:
        before = text[: flaw.position]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n")
        if self.offset is None:
            line = (self.line or 1) + lines
            return CorruptRecordError(self.where, flaw.reason, line=line, column=column)
        column_known = None if self.line is None else column
        offset = self.offset + len(before.encode("utf-8", "replace"))
        return CorruptRecordError(self.where, flaw.reason, line=self.line, column=column_known, offset=offset)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKeyError
    return value


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _parse(text: str) -> tuple[Any, _Flaw | None]:
    try:
        return _decoder.decode(text), None
    except json.JSONDecodeError as error:
        return None, _explain(error.msg, text, error.pos)
    except _DuplicateKeyError:
        return None, _survey(text)
    except RecursionError:
        return None, _Flaw("it is nested too deeply to be read; flatten it", 0)
    except ValueError:
        return None, _Flaw("it holds an integer of more digits than Python reads; store it as a string", 0)


def _survey(text: str) -> _Flaw | None:
    """The first thing in well-formed JSON that would be lost or that could not be written again."""
    open_keys: list[_Keys] = []
    key = ""
    key_at = 0
    for match in _WORD.finditer(text):
        word = match[0]
        if word == ":":
            flaw = _duplicate(json.loads(key), key_at, open_keys)
        else:
            _follow(word, open_keys)
            flaw = _flaw_of_word(word, match.start()) or _flaw_of_depth(open_keys, match.start())
        if flaw is not None:
            return flaw
        key, key_at = word, match.start()
    return None


def _follow(word: str, open_keys: list[_Keys]) -> None:
    if word == "{":
        open_keys.append(set())
    elif word == "[":
        open_keys.append(None)
    elif word in ("}", "]"):
        open_keys.pop()


def _duplicate(key: str, position: int, open_keys: list[_Keys]) -> _Flaw | None:
    keys = open_keys[-1]
    if keys is None or key not in keys:
        if keys is not None:
            keys.add(key)
        return None
    return _Flaw(f"the key {key!r} stands twice in one object; keep one of the two", position)


def _flaw_of_word(word: str, position: int) -> _Flaw | None:
    if word in _CONSTANTS:
        return _Flaw(f"a JSON value was expected, and {word} is none; write null or a string", position)
    if word[0] == '"':
        return _flaw_of_string(word, position)
    if any(mark in word for mark in ".eE") and word[-1].isdigit() and math.isinf(float(word)):
        return _Flaw(f"the number {word[:40]} is too large for a 64-bit float; write it as a string", position)
    return None


def _flaw_of_depth(open_keys: list[_Keys], position: int) -> _Flaw | None:
    # Not written either, and far fewer levels than what walks through a value can go down.
    if len(open_keys) <= MAX_DEPTH:
        return None
    return _Flaw(f"it is nested more than {MAX_DEPTH} levels deep; flatten it", position)


def _flaw_of_string(word: str, position: int) -> _Flaw | None:
    if "\\u" not in word:
        return None
    try:
        json.loads(word).encode()
    except UnicodeEncodeError:
        reason = r"a string holds half of a surrogate pair (\ud800 to \udfff); complete the pair or remove it"
        return _Flaw(reason, position)
    return None


# What the standard library's parser says, and what a person can do about it.
_ADVICE: Final = {
    "Expecting property name": 'a key in double quotes, or "}", was expected',
    "Expecting ':'": "a colon was expected between key and value",
    "Expecting ','": "a comma or the closing bracket was expected",
    "Expecting value": "a value was expected: a string in double quotes, number, object, array, true, false or null",
    "Extra data": "one JSON value was expected, and more text follows it; remove the rest, or restore the file",
    "Unterminated string": "the string that begins here is never closed; add the quote, or restore the file if its "
    "end is missing",
    "Invalid control character": r"a line break or control character stands inside a string; write \n or \u00XX",
    "Invalid \\": r"a backslash in a string must be followed by one of "
    r'"\/bfnrt or u and four hex digits; write \\ for a backslash',
}


def _explain(message: str, text: str, position: int) -> _Flaw:
    """Turn the parser's complaint into what is wrong, most telling first."""
    if not text.strip():
        return _Flaw("the file is empty, and a JSON value was expected; restore it or delete it", 0)
    if "\0" in text[position : position + 1]:
        reason = "zero bytes stand where JSON was expected, as a crash can leave them; restore the file from a copy"
        return _Flaw(reason, position)
    if (match := _CONFLICT.search(text)) is not None:
        reason = "git conflict markers; keep one side, remove the lines with <<<<<<<, ======= and >>>>>>>, and save"
        return _Flaw(reason, match.start())
    return _explain_syntax(message, text, position)


def _explain_syntax(message: str, text: str, position: int) -> _Flaw:
    before = text[:position].rstrip()
    after = text[position:].lstrip()
    if after.startswith(",") and after[1:].lstrip()[:1] in ("}", "]"):
        # Where Python 3.13 and newer point at.
        before, after = text[: position + 1], after[1:].lstrip()
    if before.endswith(",") and after[:1] in ("}", "]"):
        reason = f"a trailing comma stands before {after[0]!r}; remove it"
        return _Flaw(reason, len(before) - 1)
    if not after:
        return _Flaw("the file ends in the middle of the JSON; complete it, or restore it from a copy", position)
    if after.startswith(("//", "/*", "#")):
        return _Flaw("comments are no JSON; remove the comment", position)
    if after.startswith("'"):
        return _Flaw("a single quote; JSON strings take double quotes", position)
    for start, advice in _ADVICE.items():
        if message.startswith(start):
            return _Flaw(advice, position)
    return _Flaw(message, position)
