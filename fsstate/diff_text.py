"""Files of a store as texts that read well in a diff. Only for people's eyes: what is told here is not parsed again.

- A document is laid out as fsstate writes it, whatever its own layout; a text of several lines stands there as lines.
- An entry of a log is a few lines: `#seq  time  kind or role  id`, and below it its fields, long texts folded.
- Markdown, and whatever cannot be read, is shown as it is; what is wrong with it is said in a line before it.

The same file always gives the same text, and a change in one place changes the text in one place.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from fsstate import codec
from fsstate.backends.base import JSON, LOG
from fsstate.errors import CorruptRecordError, InvalidValueError

__all__ = ["diff_text"]

_WIDTH: Final = 100
_INDENT: Final = "    "
# No blank gets lost: who adds one wants to see it.
_FOLD: Final = textwrap.TextWrapper(
    _WIDTH, expand_tabs=False, replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False
)
# A line of a document whose value, or list member, is a text.
_TEXT: Final = re.compile(r'(?P<head> *(?:"(?:[^"\\]|\\.)*": )?)(?P<text>"(?:[^"\\]|\\.)*"),?')
# What cannot be read, and what is nested too deeply to be laid out.
_ERRORS: Final = (CorruptRecordError, InvalidValueError, RecursionError)
# Texts that, without quotes, would be taken for another value.
_OTHER: Final = re.compile(r'["\[{]|(?:-?[0-9.]+(?:[eE][+-]?[0-9]+)?|true|false|null)\Z')
# What an entry's first line tells, besides its seq.
_FIRST: Final = ("at", "kind", "role", "update", "id")


def diff_text(name: str, data: bytes) -> bytes:
    """The text for a file of this name, in UTF-8. Never raises for what the file holds."""
    if name.endswith(LOG):
        return _encoded(_log(data))
    if not name.endswith(JSON):
        return data
    try:
        return _encoded(_document(codec.decode_bytes(data, "")))
    except _ERRORS as error:
        return _encoded([_note("no valid document", error)]) + data


def _encoded(lines: Iterator[str] | list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _note(what: str, error: Exception) -> str:
    if not isinstance(error, CorruptRecordError):
        return f"! {what}: {error}"
    place = "" if error.line is None else f" (line {error.line}, column {error.column})"
    return f"! {what}: {error.reason}{place}"


def _document(value: Any) -> Iterator[str]:
    for line in codec.encode(value).decode().split("\n")[:-1]:
        match = _TEXT.fullmatch(line) if "\\n" in line else None
        text: str = "" if match is None else json.loads(match["text"])
        if match is None or "\n" not in text:
            yield line
            continue
        yield f"{match['head']}|"
        indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
        yield from (f"{indent}{part}" if part else "" for part in text.split("\n"))


def _log(data: bytes) -> Iterator[str]:
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip():
            continue
        try:
            yield from [*_entry(codec.decode_line(line, ""))]
        except _ERRORS as error:
            yield _note("no entry", error)
            yield _INDENT + line.decode("utf-8", "backslashreplace")


def _entry(row: dict[str, Any]) -> Iterator[str]:
    seq = row.pop("seq", "?")
    if row.get("fsstate") == "trimmed":
        yield f"#{seq}  trimmed up to here"
        return
    keys = [key for key in _FIRST if isinstance(row.get(key), str) and "\n" not in row[key]]
    told = [f"update {row.pop(key)}" if key == "update" else row.pop(key) for key in keys]
    yield "  ".join([f"#{seq}", *told])
    for key, value in row.items():
        yield from _field(key, value)


def _field(key: str, value: Any) -> Iterator[str]:
    text = value if isinstance(value, str) else codec.encode_line(value).decode()
    if "\n" not in text and len(text) <= _WIDTH:
        is_odd = isinstance(value, str) and (not value or value != value.strip() or _OTHER.match(value))
        yield f"{_INDENT}{key}: {codec.encode_line(text).decode() if is_odd else text}"
        return
    yield f"{_INDENT}{key}:"
    lines = _folded(text) if isinstance(value, str) else _document(value)
    yield from (f"{_INDENT * 2}{line}" if line else "" for line in lines)


def _folded(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield from _FOLD.wrap(line) or [""]
