"""Conversations that stand in a session's document itself, as oxios writes them, told as rows of the session's logs.

    user_messages      [{"content": "Hello", "timestamp": "…"}]
    agent_responses    [{"content": "Hi", "timestamp": "…", "trajectory_range": {"start": 0, "end": 2}, …}]
    trajectory_steps   [{"tool_name": "grep", "tool_args": {…}, "timestamp": "…", …}]

Messages become one line, each under the one before it: by turns, a user's first, each list in its own order. Clocks are
set back, so times say no more than where messages belong that have no response of their own; see `_by_turns`.
A message's id is its place in its list, a step's number its index: neither changes while the document grows at its end.
What cannot be read is named and hides nothing else. Pure: `fsstate.seeded_log` reads the document.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeGuard

from fsstate.projection import Row
from fsstate.times import format_time, parse_time

__all__ = [
    "BEGINNING_OF_MESSAGE",
    "BEGINNING_OF_STEP",
    "Embedded",
    "embedded_messages",
    "embedded_steps",
    "may_embed",
    "place_of_message",
    "place_of_step",
]

# How the lines of these rows begin in a log; as a rule no other line begins so.
# The group is the same for the same part of a document, whatever else the document holds.
BEGINNING_OF_MESSAGE: Final = re.compile(rb'\{"seq":\d+,"id":"((?:user|agent)-\d+)"')
BEGINNING_OF_STEP: Final = re.compile(rb'\{"seq":(\d+),"(?:tool_name|malformed)"')

_USERS: Final = "user_messages"
_AGENTS: Final = "agent_responses"
_STEPS: Final = "trajectory_steps"
_KEYS: Final = tuple(f'"{field}"'.encode() for field in (_USERS, _AGENTS, _STEPS))
# A log has a use of its own for these.
_RESERVED: Final = ("seq", "fsstate")


class Embedded(NamedTuple):
    """Rows for a log, and what is wrong with the document's parts: `$.user_messages[3]: …`."""

    rows: list[Row]
    flaws: list[str]


def may_embed(data: bytes) -> bool:
    """Whether a document may hold any of this, told without parsing it."""
    return any(key in data for key in _KEYS)


def embedded_messages(document: object) -> Embedded:
    """The messages of a document as rows of a conversation."""
    flaws: list[str] = []
    users = _messages(document, _USERS, "user", "user", flaws)
    agents = _messages(document, _AGENTS, "assistant", "agent", flaws)
    return Embedded(list(_one_line(_by_turns(deque(users), deque(agents)))), flaws)


def embedded_steps(document: object) -> Embedded:
    """The steps of a document as rows. One that is no step keeps its place, so that the others keep their numbers."""
    flaws: list[str] = []
    items = enumerate(_items(document, _STEPS, flaws))
    return Embedded([_step(item, f"$.{_STEPS}[{number}]", flaws) for number, item in items], flaws)


def place_of_message(name: str) -> str:
    """Where a message stands in its document: what `BEGINNING_OF_MESSAGE` finds tells."""
    prefix, _, number = name.rpartition("-")
    return f"$.{_USERS if prefix == 'user' else _AGENTS}[{int(number) - 1}]"


def place_of_step(seq: str) -> str:
    """Where a step stands in its document: what `BEGINNING_OF_STEP` finds tells."""
    return f"$.{_STEPS}[{int(seq) - 1}]"


def _messages(document: object, field: str, role: str, prefix: str, flaws: list[str]) -> list[Row]:
    rows: list[Row] = []
    for number, item in enumerate(_items(document, field, flaws)):
        place = f"$.{field}[{number}]"
        if not _is_object(item) or item.get("content") is None:
            flaws.append(f"{place}: expected an object with a content")
            continue
        rest = dict(item)
        row: Row = {"id": f"{prefix}-{number + 1}", "role": role, "content": rest.pop("content"), "parent": None}
        row["at"] = _take_time(rest, place, flaws)
        row["steps"] = _take_range(rest, place, flaws)
        row["metadata"] = {key: value for key, value in rest.items() if value is not None} or None
        rows.append(row)
    return rows


def _by_turns(users: deque[Row], agents: deque[Row]) -> Iterator[Row]:
    """Both lists as one: each in its own order, and no response before the user's message of the same number.

    With as many responses as messages, or more, they take turns. With fewer, that many messages may come before their
    turn, where they are older than the response that would be next, and no list's times ever go back. Otherwise what
    is left over comes last.
    """
    spare = len(users) - len(agents)
    if spare <= 0 or not (_is_in_time(users) and _is_in_time(agents)):
        spare = 0
    lead = 0
    while users and agents:
        # Times as texts in this form sort as times.
        if lead == 0 or (lead <= spare and users[0]["at"] < agents[0]["at"]):
            yield users.popleft()
            lead += 1
        else:
            yield agents.popleft()
            lead -= 1
    yield from users
    yield from agents


def _is_in_time(rows: Iterable[Row]) -> bool:
    """Whether all times are known, and none is before the one above it."""
    times = [row["at"] for row in rows]
    return None not in times and all(one <= other for one, other in pairwise(times))


def _one_line(rows: Iterable[Row]) -> Iterator[Row]:
    parent: str | None = None
    for row in rows:
        row["parent"] = parent
        parent = row["id"]
        yield {key: value for key, value in row.items() if value is not None}


def _step(item: object, place: str, flaws: list[str]) -> Row:
    if not _is_object(item) or not isinstance(item.get("tool_name"), str):
        flaws.append(f"{place}: expected an object with a tool_name")
        return {"malformed": item}
    rest = {key: value for key, value in item.items() if value is not None and key not in _RESERVED}
    flaws.extend(f"{place}.{key}: left out; logs have a use of their own for it" for key in _RESERVED if key in item)
    at = _take_time(rest, place, flaws)
    row: Row = {"tool_name": rest.pop("tool_name"), **rest}
    return row if at is None else {**row, "at": at}


def _take_time(rest: Row, place: str, flaws: list[str]) -> str | None:
    """Take the time out of `rest`. One that cannot be read stays there."""
    value = rest.get("timestamp")
    if value is None:
        return None
    try:
        at = format_time(parse_time(value))
    except ValueError as error:
        flaws.append(f"{place}.timestamp: {error}")
        return None
    del rest["timestamp"]
    return at


def _take_range(rest: Row, place: str, flaws: list[str]) -> list[int] | None:
    """Take the range of steps out of `rest`. One that cannot be read stays there."""
    value = rest.get("trajectory_range")
    if value is None:
        return None
    start, end = (value.get("start"), value.get("end")) if _is_object(value) else (None, None)
    if not _is_index(start) or not _is_index(end):
        flaws.append(f"{place}.trajectory_range: expected an object with start and end, whole numbers from 0")
        return None
    del rest["trajectory_range"]
    return [start, end]


def _items(document: object, field: str, flaws: list[str]) -> list[object]:
    value = document.get(field) if _is_object(document) else None
    if value is None:
        return []
    if not _is_list(value):
        flaws.append(f"$.{field}: expected an array")
        return []
    return value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
