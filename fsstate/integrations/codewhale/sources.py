"""Which files of codewhale there are, what each is, and what they tell of one another. Reads only."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from fsstate import CorruptRecordError, NewerFormatError, codec
from fsstate.integrations.files import Found, find, read_json
from fsstate.integrations.items import Object, is_object

__all__ = [
    "EVENTS",
    "INDEX",
    "ITEM",
    "LATEST",
    "QUEUE",
    "SESSION",
    "STATE",
    "THREAD",
    "TURN",
    "Line",
    "Sources",
    "lines",
    "read",
]

SESSION: Final = "session"
LATEST: Final = "latest"
QUEUE: Final = "queue"
THREAD: Final = "thread"
TURN: Final = "turn"
ITEM: Final = "item"
EVENTS: Final = "events"
STATE: Final = "state"
INDEX: Final = "index"

_PLACES: Final = (
    (re.compile(r"(?:sessions/)?checkpoints/latest\.json"), LATEST),
    (re.compile(r"(?:sessions/)?(?:checkpoints/)?offline_queue\.json"), QUEUE),
    (re.compile(r"state\.json"), STATE),
    (re.compile(r"session_index\.jsonl"), INDEX),
    (re.compile(r"(?:sessions/)?[^/]+\.json"), SESSION),
    (re.compile(r"threads/[^/]+\.json"), THREAD),
    (re.compile(r"turns/[^/]+\.json"), TURN),
    (re.compile(r"items/[^/]+\.json"), ITEM),
    (re.compile(r"events/[^/]+\.jsonl"), EVENTS),
)
_SESSIONS: Final = "sessions/"
# The versions that are known of each.
_KNOWN: Final = {SESSION: 1, LATEST: 1, QUEUE: 1, THREAD: 2, TURN: 2, ITEM: 2, EVENTS: 2, STATE: 2, INDEX: 1}
_VERSION: Final = "schema_version"


class Line(NamedTuple):
    """One line of a log. `value` is None where it cannot be read."""

    place: str
    value: Object | None
    flaw: str | None


class Sources:
    """The files below a directory. Raises NewerFormatError when one of them is of a version that is not known."""

    def __init__(self, path: str | os.PathLike[str], *, without: str) -> None:
        self.found: dict[str, list[Found]] = defaultdict(list)
        # Files that are not what they should be, and why.
        self.flaws: list[tuple[str, Found, str]] = []
        # Files of no kind that is known.
        self.others: list[Found] = []
        self.turns: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.items: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.ids: set[str] = set()
        for each in find(path, without=without):
            kind = _kind_of(each)
            if kind is None:
                self.others.append(each)
            elif (flaw := each.flaw or self._look(kind, each)) is not None:
                self.flaws.append((kind, each, flaw))
            else:
                self.found[kind].append(each)

    def total(self) -> int:
        """The number of files that can be read."""
        return sum(map(len, self.found.values()))

    def is_artifact(self, found: Found) -> bool:
        """Whether a file of no known kind is in the folder of artifacts beside a saved session."""
        owner, slash, _ = found.place.removeprefix(_SESSIONS).partition("/")
        return bool(slash) and owner != "checkpoints" and (found.place.startswith(_SESSIONS) or owner in self.ids)

    def _look(self, kind: str, found: Found) -> str | None:
        """Check the version and note what the file belongs to; what is wrong with it, if anything is."""
        if kind in (EVENTS, INDEX):
            for line in lines(found):
                _check_version(kind, found, line.value or {})
            return None
        value = read(found)
        if isinstance(value, str):
            return value
        _check_version(kind, found, value)
        return self._note(kind, found, value)

    def _note(self, kind: str, found: Found, value: Object) -> str | None:
        if kind == TURN:
            self.turns[str(value.get("thread_id"))].append((str(value.get("created_at")), found.path.stem, found))
        elif kind == ITEM:
            self.items[str(value.get("turn_id"))].append((str(value.get("started_at")), found.path.stem, found))
        elif kind == SESSION and not is_object(value.get("metadata")):
            return "a saved session has an object metadata"
        elif kind == SESSION:
            self.ids.add(found.path.stem)
        return None


def read(found: Found) -> Object | str:
    """The object in a file, or what is wrong with the file."""
    try:
        value = read_json(found.path)
    except CorruptRecordError as error:
        return str(error).removeprefix(f"{error.path}, ").removeprefix(f"{error.path}: ")
    except OSError as error:
        return error.strerror or str(error)
    return value if is_object(value) else "expected a JSON object"


def lines(found: Found) -> Iterator[Line]:
    """The lines of a log that are not blank. Where it cannot be read any further, that is the last one's flaw."""
    try:
        with found.path.open("rb") as file:
            for number, data in enumerate(file, 1):
                if data.strip():
                    yield _line(f"{found.place}, line {number}", data)
    except OSError as error:
        yield Line(found.place, None, error.strerror or str(error))


def _line(place: str, data: bytes) -> Line:
    try:
        return Line(place, codec.decode_line(data, place), None)
    except CorruptRecordError as error:
        return Line(place, None, error.reason)


def _kind_of(found: Found) -> str | None:
    if found.is_hidden:
        return None
    return next((kind for pattern, kind in _PLACES if pattern.fullmatch(found.place)), None)


def _check_version(kind: str, found: Found, value: Object) -> None:
    version = value.get(_VERSION)
    if isinstance(version, int) and version > _KNOWN[kind]:
        raise NewerFormatError(str(found.path), version, _KNOWN[kind])
