"""The texts in documents, with the place of each: the values of JSON with path and line, Markdown with its lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple, TypeGuard

import orjson

from fsstate import codec
from fsstate.frontmatter import Document
from fsstate.search.passages import Part

__all__ = ["json_parts", "markdown_parts", "value_parts"]

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_NOTHING: Final = frozenset[str]()


def value_parts(value: object, skip: Collection[str] = _NOTHING) -> Iterator[Part]:
    """The texts in a JSON value, all on line 0. `skip` are fields of the outermost object."""
    waiting: list[tuple[str, object]] = [("$", value)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, str):
            yield Part(each, path, 0, counts=False)
        elif _is_object(each):
            below = [(codec.path_to(path, key), item) for key, item in each.items() if path != "$" or key not in skip]
            waiting += reversed(below)
        elif _is_list(each):
            waiting += reversed([(codec.path_to(path, index), item) for index, item in enumerate(each)])


def json_parts(data: bytes, skip: Collection[str] = _NOTHING) -> list[Part]:
    """The texts in a JSON document, with their lines. Requires: the document can be parsed."""
    found = list(value_parts(_loads(data), skip))
    lines = _lines(data.decode("utf-8-sig"), {part.field for part in found}) if found else {}
    return [part._replace(line=lines.get(part.field, 1)) for part in found]


def _loads(data: bytes) -> object:
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        # An integer beyond a float's range: only the codec reads these.
        return codec.decode_bytes(data, "the document")


def markdown_parts(data: bytes, where: str) -> list[Part]:
    """The front matter and the body of a note. Raises CorruptRecordError for what is no UTF-8."""
    text = Document.parse(data, where).text
    whole = data.decode("utf-8-sig")
    head = whole[: len(whole) - len(text)]
    parts = [Part(head, "front_matter"), Part(text, line=1 + head.count("\n"))]
    return [part for part in parts if part.text]


class _Level(NamedTuple):
    """Where in a document the scan is: in which container, and at which member of it."""

    path: str
    member: str | int | None


def _lines(text: str, wanted: Collection[str | None]) -> dict[str | None, int]:
    """On which line the value of each path stands."""
    found: dict[str | None, int] = {}
    levels: list[_Level] = []
    line, position, is_key = 1, 0, False
    for match in _TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        token = match[0]
        if token in "{[":
            levels.append(_Level(_path(levels), None if token == "{" else 0))
            is_key = token == "{"
        elif token in "}]":
            levels.pop()
            is_key = False
        elif token == ",":
            path, member = levels[-1]
            levels[-1] = _Level(path, member + 1 if isinstance(member, int) else None)
            is_key = not isinstance(member, int)
        elif token == ":":
            is_key = False
        elif is_key:
            levels[-1] = levels[-1]._replace(member=orjson.loads(token))
        elif (path := _path(levels)) in wanted:
            found[path] = line
    return found


def _path(levels: list[_Level]) -> str:
    if not levels:
        return "$"
    path, member = levels[-1]
    return path if member is None else codec.path_to(path, member)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
