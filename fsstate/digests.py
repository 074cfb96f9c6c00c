"""What lists tell of a session's logs: how many messages, the first words, the last model and time.

A digest is carried on, not made anew, while its logs only grow: what was read stays as it was (told by a checksum over
it), and what is new is read. Anything else that happened to a log, and a change of a message that the digest rests on,
has the log read from its beginning.

- The checksum covers the last 8 MB of what was read. What cannot be told: that an editor changed a longer log further
  up, to exactly as many bytes in the same file, before something was appended to it.
- The first digest of a log takes no checksum: most logs never grow again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from fsstate import codec
from fsstate.backends.base import LOG, Backend, LogLine, Ref, Stamps
from fsstate.conversation import Tree, text_of
from fsstate.errors import CorruptRecordError
from fsstate.forks import renew_in_children
from fsstate.journal import Log
from fsstate.names import is_name
from fsstate.projection import Row, exactly, is_longer
from fsstate.seeded_log import is_blank, may_be_seeded, message_log
from fsstate.streams import Streams
from fsstate.times import parse_time

__all__ = ["Digest", "Digests"]

# Digests of this many sessions are remembered, at about 1 KB each.
_MOST_DIGESTS: Final = 50_000
# So far back are the logs of events and tool calls searched for a model.
_MOST_ROWS: Final = 200
_LONGEST_TEXT: Final = 240
_MESSAGES: Final = "messages"
_STREAMS: Final = "streams/"
_TELL_MODELS: Final = ("events", "tool_calls")
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)

_Stamp: TypeAlias = tuple[int, ...] | None


class _Named(msgspec.Struct, array_like=True, frozen=True):
    """The last row of a log that names a model, and how many rows stand behind it."""

    time: datetime | None
    model: str
    rows_since: int = 0


class _LogDigest(msgspec.Struct, array_like=True, frozen=True):
    """One log, as far as it was read: up to entry `seq`, when it bore the stamp. None as `checksum`: none was taken."""

    stamp: _Stamp
    seq: int = 0
    checksum: int | None = None
    last_time: datetime | None = None
    named: _Named | None = None


class _Messages(msgspec.Struct, array_like=True, frozen=True):
    """The messages in the log. `newest` is the last id; ids are `rising` if each was greater than the one before."""

    count: int = 0
    newest: str = ""
    rising: bool = True
    first_id: str | None = None
    first_text: str | None = None


class Digest(msgspec.Struct, array_like=True, frozen=True):
    """What is told of a session's logs. Equal ones were made of logs that look the same."""

    logs: dict[str, _LogDigest] = {}
    messages: _Messages = _Messages()
    # Messages that are being written and are not in the log yet.
    under_way: int = 0

    @property
    def stamps(self) -> Mapping[str, _Stamp]:
        """How the logs looked, by their paths below the session's folder."""
        return {path: log.stamp for path, log in self.logs.items()}

    @property
    def message_count(self) -> int:
        """The number of messages, those under way included."""
        return self.messages.count + self.under_way

    @property
    def first_text(self) -> str | None:
        """The beginning of the first message of a user that says something."""
        return self.messages.first_text

    @property
    def last_model(self) -> str | None:
        """The model that the latest row of all logs names, of equal times that of the messages."""
        named = [log.named for log in self.logs.values() if log.named is not None]
        latest = max(named, key=lambda each: each.time or _BEFORE_ALL, default=None)
        return None if latest is None else latest.model

    @property
    def last_time(self) -> datetime | None:
        """The latest of the times of all logs' last entries."""
        return max((log.last_time for log in self.logs.values() if log.last_time is not None), default=None)


_NONE: Final = Digest()


class Digests:
    """The digests of one store's sessions. Any thread may ask."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._known: dict[str, Digest] = {}
        renew_in_children(self)

    def look(self, owner: Ref) -> Digest:
        """The digest of a session's logs as they are now. Reads only what looks other than before."""
        with self._lock:
            known = self._known.get(owner.belongings)
        found = self.carry_on(owner, known)
        with self._lock:
            if len(self._known) >= _MOST_DIGESTS:
                self._known.clear()
            self._known[owner.belongings] = found
        return found

    def carry_on(self, owner: Ref, known: Digest | None, stamps: Stamps | None = None) -> Digest:
        """The same, beginning with what was known of it. `stamps` is how the logs look, if that is known already."""
        return _Reading(self._backend, owner, known or _NONE, stamps).digest()

    def last_time(self, owner: Ref) -> datetime | None:
        """When the last entry of any of a session's logs was made. Reads the last entry of each, remembers nothing."""
        folders = (owner.belongings, f"{owner.belongings}/{_STREAMS[:-1]}")
        refs = [Ref(folder, name, LOG) for folder in folders for name in self._backend.names(folder, LOG)]
        messages = message_log(self._backend, owner)
        logs = [messages, *(Log(self._backend, ref) for ref in refs if ref != messages.ref)]
        times = (_time_of(row) for log in logs for row in islice(log.rows_backwards(), 1))
        return max((time for time in times if time is not None), default=None)

    def after_fork(self) -> None:
        """In a forked child: the lock may have been copied while another thread held it."""
        self._lock = threading.Lock()


class _Reading:
    """One look at a session's logs."""

    def __init__(self, backend: Backend, owner: Ref, known: Digest, stamps: Stamps | None) -> None:
        self._backend = backend
        self._owner = owner
        self._known = known
        self._log = message_log(backend, owner)
        # Before reading: what is appended meanwhile makes the next look read again.
        self._stamps = self._look() if stamps is None else self._relevant(stamps)
        self._is_seeded = may_be_seeded(backend, owner)
        if self._is_seeded and is_blank(self._stamps.get(_MESSAGES)):
            self._stamps[_MESSAGES] = self._log.stamp()
        elif _MESSAGES not in self._stamps:
            # Without a file it reads as empty; a link, a pipe or a folder in its place is refused, as by who reads it.
            next(self._log.rows(), None)

    def digest(self) -> Digest:
        if self._stamps == self._known.stamps:
            return self._known
        streams = Streams(self._backend, self._owner)
        # Before the messages are read: one that is finished in between counts there.
        names = (path.removeprefix(_STREAMS) for path in self._stamps if path.startswith(_STREAMS))
        begun = [name for name in names if streams.is_begun(name)]
        if _MESSAGES not in self._stamps:
            return Digest(self._read_others(), _Messages(), len(begun))
        log, messages, under_way = self._read_messages(begun)
        # Messages first: of equal times theirs counts.
        return Digest({_MESSAGES: log, **self._read_others()}, messages, under_way)

    def _look(self) -> dict[str, _Stamp]:
        category = self._owner.belongings
        own = self._backend.names(category, LOG)
        paths = [*own, *(f"{_STREAMS}{name}" for name in self._backend.names(f"{category}/{_STREAMS[:-1]}", LOG))]
        return {path: self._backend.log_stamp(self._ref(path)) for path in paths}

    def _relevant(self, stamps: Stamps) -> dict[str, _Stamp]:
        """Those of the logs that `_look` would find, in the same order."""
        found = [path for path in stamps if is_name(path.removeprefix(_STREAMS))]
        return {path: stamps[path] for path in sorted(found, key=lambda path: (path.startswith(_STREAMS), path))}

    def _ref(self, path: str) -> Ref:
        folder, _, name = f"{self._owner.belongings}/{path}".rpartition("/")
        return Ref(folder, name, LOG)

    def _read_others(self) -> dict[str, _LogDigest]:
        return {path: self._read(path, self._ref(path)) for path in self._stamps if path != _MESSAGES}

    # Messages

    def _read_messages(self, begun: Sequence[str]) -> tuple[_LogDigest, _Messages, int]:
        known = self._known.messages
        new = self._new_rows(_MESSAGES, self._log.ref) if known.rising and not self._is_seeded else None
        # One that is greater than all that are known is none of those; so it is waiting, if it is none of the new ones.
        if new is not None and all(name > known.newest for name in begun):
            messages = _carried_on(known, new)
            if messages is not None:
                waiting = {*begun} - {row.get("id") for row in new}
                return self._extended(_MESSAGES, self._log.ref, new), messages, len(waiting)
        return self._read_all_messages(begun)

    def _read_all_messages(self, begun: Sequence[str]) -> tuple[_LogDigest, _Messages, int]:
        tree = Tree()
        last: Row | None = None
        highest = 0
        for last in self._log.rows():
            tree.fold(last)
            highest = max(highest, last["seq"])
        rows = list(tree.rows.values())
        newest = max(tree.rows, default="")
        rising = all(one < other for one, other in zip(tree.rows, islice(tree.rows, 1, None), strict=False))
        first = next((row for row in rows if _first_words(row)), None)
        named = next((_Named(_time_of(row), row["model"]) for row in reversed(rows) if _model_in(row)), None)
        told = (None, None) if first is None else (first["id"], _first_words(first))
        log = self._read_so_far(_MESSAGES, self._log.ref, last, named, highest)
        under_way = sum(name not in tree.rows for name in begun)
        return log, _Messages(len(rows), newest, rising, *told), under_way

    # Any log

    def _read(self, path: str, ref: Ref) -> _LogDigest:
        new = self._new_rows(path, ref)
        if new is not None:
            return self._extended(path, ref, new)
        backwards = Log(self._backend, ref).rows_backwards()
        rows = list(islice(backwards, _MOST_ROWS if path in _TELL_MODELS else 1))
        named = _last_named(rows) if path in _TELL_MODELS else None
        highest = max((row["seq"] for row in rows), default=0)
        return self._read_so_far(path, ref, rows[0] if rows else None, named, highest)

    def _new_rows(self, path: str, ref: Ref) -> list[Row] | None:
        """The rows behind those that are known; None where more than an append may have happened."""
        known, stamp = self._known.logs.get(path), self._stamps.get(path)
        if known is None or known.stamp is None or stamp is None:
            return None
        if known.stamp == stamp:
            return []
        if known.checksum is None or not is_longer(known.stamp, stamp):
            return None
        if self._backend.checksum(ref, known.stamp[1]) != known.checksum:
            return None
        new = exactly(stamp[1] - known.stamp[1], self._backend.entries(ref, after=known.seq))
        with suppress(CorruptRecordError):
            return _decoded(new) if new else None
        return None

    def _extended(self, path: str, ref: Ref, new: Sequence[Row]) -> _LogDigest:
        known = self._known.logs[path]
        if not new:
            return known
        named = _last_named(new[::-1]) if path in _TELL_MODELS else None
        if path == _MESSAGES:
            named = _last_named([row for row in new[::-1] if isinstance(row.get("id"), str)])
        if named is None and known.named is not None:
            rows_since = known.named.rows_since + len(new)
            is_near = path == _MESSAGES or rows_since < _MOST_ROWS
            named = _Named(known.named.time, known.named.model, rows_since) if is_near else None
        return self._read_so_far(path, ref, new[-1], named, new[-1]["seq"])

    def _read_so_far(self, path: str, ref: Ref, last: Row | None, named: _Named | None, highest: int) -> _LogDigest:
        stamp = self._stamps.get(path)
        time = None if last is None else _time_of(last)
        # Only of a log that grew before, and only if it did not grow while it was read: then the rows are its bytes.
        grows = path in self._known.logs and stamp is not None and self._backend.log_stamp(ref) == stamp
        # And only while its seqs grow: in a log that was merged by hand, what is behind one stands anywhere.
        if not grows or stamp is None or len(stamp) < 2 or last is None or last["seq"] < highest:
            return _LogDigest(stamp, last_time=time, named=named)
        return _LogDigest(stamp, last["seq"], self._backend.checksum(ref, stamp[1]), time, named)


def _carried_on(known: _Messages, new: Iterable[Row]) -> _Messages | None:
    """The messages with the new rows; None if these touch what the digest rests on."""
    count, newest = known.count, known.newest
    first = known.first_id, known.first_text
    for row in new:
        name, changed = row.get("id"), row.get("update")
        if isinstance(changed, str):
            if not _is_harmless(row, changed, first[0]):
                return None
        elif isinstance(name, str):
            if name <= newest:
                return None
            count, newest = count + 1, name
            words = _first_words(row)
            first = first if first[0] is not None or not words else (name, words)
    return _Messages(count, newest, True, *first)


def _is_harmless(row: Row, changed: str, first_id: str | None) -> bool:
    """Whether a change of a message changes nothing that a digest tells."""
    if row.keys() & {"id", "role", "model"}:
        return False
    return not row.keys() & {"content", "delta"} or (first_id is not None and changed > first_id)


def _decoded(lines: Iterable[LogLine]) -> list[Row]:
    return [codec.decode_line(line.data, "") for line in lines]


def _first_words(row: Row) -> str | None:
    text = text_of(row.get("content")).strip() if row.get("role") == "user" else ""
    return text[:_LONGEST_TEXT] or None


def _last_named(backwards: Iterable[Row]) -> _Named | None:
    """Of rows from the last to the first, the first that names a model."""
    for rows_since, row in enumerate(backwards):
        if _model_in(row):
            return _Named(_time_of(row), row["model"], rows_since)
    return None


def _model_in(row: Row) -> bool:
    model = row.get("model")
    return isinstance(model, str) and model != ""


def _time_of(row: Row) -> datetime | None:
    try:
        return parse_time(row["at"]) if "at" in row else None
    except ValueError:
        return None
