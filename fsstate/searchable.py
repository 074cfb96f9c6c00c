"""What can be searched in a store, read file by file: only those that look other than the index knows them.

- Documents and notes are read whole; of a log that only grew, the new lines.
- Messages are those that readers see: of all branches, changed by later rows, still under way, or in the session's
  document. A file that cannot be read has no passages, and is named in a warning.
- A file's look is taken before it is read: what is written meanwhile makes the next look differ.

Reading takes no lock. What was read is a `Reading`, to be entered in the index in one go.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fsstate import codec
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref
from fsstate.conversation import Message, Tree, message_of
from fsstate.document_changes import PROBLEMS
from fsstate.errors import CorruptRecordError, FsStateError, StorageError, UnsafePathError, ValidationError
from fsstate.journal import Log
from fsstate.projection import Row
from fsstate.queries import MISSING, Missing
from fsstate.search import (
    Growth,
    Index,
    Known,
    Part,
    Passage,
    Reached,
    Source,
    json_parts,
    markdown_parts,
    value_parts,
)
from fsstate.seeded_log import may_be_seeded, message_log
from fsstate.session_documents import CATEGORY as SESSIONS
from fsstate.session_documents import SessionDocuments
from fsstate.shared import Shared
from fsstate.streams import Streams
from fsstate.times import parse_time

__all__ = ["Reading", "Searchable", "hides_others", "pass_over"]

# They are read as messages.
_EMBEDDED: Final = frozenset(["user_messages", "agent_responses"])
_TIMES: Final = ("updated_at", "created_at", "at")
# What may change of a message so that its text alone is affected, or not even that.
_PLAIN_CHANGES: Final = frozenset(["seq", "update", "at", "head", "content", "delta", "status", "model", "metadata"])
# In the index, as a passage's state: what a later row that changes the message needs to know.
_TEXT: Final = 0  # its content is a text
_BLOCKS: Final = 1  # its content is something else: all must be read to know its text after a change
_TAKEN: Final = 2  # no message, but nobody else can have its id
# As a source's state: the messages, or some of them, are in the session's document.
_SEEDED: Final = b"seeded"
_NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM)

_log = logging.getLogger("fsstate")


class _Edit(NamedTuple):
    """A later change of a message's text: another text, or more of it."""

    key: str
    content: Any
    delta: str


_News: TypeAlias = Passage | _Edit


class _UnclearError(Exception):
    """What changed cannot be told without reading everything. Never leaves this module."""


class Reading:
    """What is to be entered in the index of one file: all its passages."""

    def __init__(self, source: Source, passages: Iterable[Passage]) -> None:
        self.source = source
        self._passages = list(passages)

    @property
    def size(self) -> int:
        """How much text it is, in characters."""
        return sum(len(part.text) for passage in self._passages for part in passage.parts)

    def enter(self, index: Index) -> None:
        """Bring the index up to date."""
        index.replace(index.put(self.source), self._passages)


class _GrownReading(Reading):
    """The same of a log that grew: only what is new. Requires: the index knows the log as it was before."""

    def __init__(
        self, source: Source, news: Iterable[_News], under_way: Iterable[Passage], again: Callable[[], Reading]
    ) -> None:
        super().__init__(source, under_way)
        self._news = list(news)
        self._again = again

    def enter(self, index: Index) -> None:
        """Bring the index up to date, if need be from all of the log."""
        try:
            self._enter_news(index)
        except _UnclearError:
            self._again().enter(index)

    def _enter_news(self, index: Index) -> None:
        known = index.put(self.source)
        index.take_out(known, index.under_way(known))
        for each in (*self._news, *self._passages):
            if isinstance(each, _Edit):
                _edit(index, known, each)
            elif index.find(known, each.key) is None:
                index.add(known, [each])


class _Removal(Reading):
    """A file that is gone."""

    def __init__(self, known: Known) -> None:
        super().__init__(known.source, ())
        self._known = known

    def enter(self, index: Index) -> None:
        """Take it out of the index."""
        index.remove(self._known)


def _edit(index: Index, known: Known, edit: _Edit) -> None:
    found = index.find(known, edit.key)
    if found is None:
        return
    number, state = found
    if state != _TEXT or not isinstance(edit.content, str | Missing):
        raise _UnclearError
    before = "".join(part.text for part in index.parts(number)) if isinstance(edit.content, Missing) else edit.content
    index.rewrite(known, number, [Part(before + edit.delta)])


class Searchable:
    """The searchable files of a store."""

    def __init__(self, shared: Shared, is_excluded: Callable[[str], bool]) -> None:
        self._backend = shared.backend
        # Says of a category whether it is left out.
        self._is_excluded = is_excluded
        self._sessions = SessionDocuments(shared)

    def record(self, ref: Ref, known: Mapping[str, Known]) -> Iterator[Reading]:
        """What is new of a document and of all that belongs to it. `known` is what the index has of it."""
        there: set[str] = set()
        fresh = False
        for document in self._documents(ref):
            look = self._backend.look(document)
            if look is not None:
                there.add(str(document))
                if not _is_known(known.get(str(document)), str(look)):
                    fresh = fresh or document == ref
                    yield self._document(document, str(look), ref)
        if session_of(ref) is not None and str(ref) in there and not self._is_excluded(ref.belongings):
            try:
                yield from self._messages(ref, known, there, fresh=fresh)
            except StorageError as error:
                pass_over(error)
        yield from (_Removal(each) for name, each in known.items() if name not in there and self._is_over(each))

    def is_current(self, ref: Ref, known: Known | None) -> bool:
        """Whether `log` has nothing new. Costs no read."""
        look = self._backend.look(ref)
        return known is None if look is None else _is_known(known, str(look))

    def log(self, ref: Ref, known: Known | None) -> Reading | None:
        """What is new of a log that was asked for by name; None when nothing is."""
        look = self._backend.look(ref)
        if look is None:
            return None if known is None else _Removal(known)
        if self.is_current(ref, known):
            return None
        owner = _owner_of(ref)
        unit, session = (str(ref), None) if owner is None else (str(owner), owner.name)
        source = Source(str(ref), unit, str(look), session, is_main=False)
        return _LogFile(self._backend, Log(self._backend, ref), look, source).read(known)

    # Inside

    def _documents(self, ref: Ref) -> Iterator[Ref]:
        """A document, and those that belong to it."""
        yield ref
        folders = [ref.belongings] if ref.suffix == JSON else []
        while folders:
            folder = folders.pop()
            if self._is_excluded(folder):
                continue
            try:
                for suffix in (JSON, MARKDOWN):
                    yield from [Ref(folder, name, suffix) for name in self._backend.names(folder, suffix)]
                folders += (f"{folder}/{name}" for name in self._backend.categories(folder))
            except StorageError as error:
                pass_over(error)

    def _is_over(self, known: Known) -> bool:
        """Whether a source that is no document of the record is to go: a log that was asked for stays with its file."""
        if known.source.is_main:
            return True
        category, _, name = known.source.ref.rpartition("/")
        return self._backend.look(Ref(category, name.removesuffix(LOG), LOG)) is None

    def _document(self, ref: Ref, look: str, unit: Ref) -> Reading:
        user = self._user_of(ref.name) if ref == unit and session_of(ref) is not None else None
        source = Source(str(ref), str(unit), look, session_of(unit), user)
        try:
            passage = self._passage_of(ref)
        except (*PROBLEMS, StorageError) as error:
            pass_over(error)
            passage = None
        return Reading(source, [] if passage is None else [passage])

    def _passage_of(self, ref: Ref) -> Passage | None:
        blob = self._backend.read(ref)
        if blob is None:
            return None
        where = self._backend.location(ref)
        if ref.suffix == MARKDOWN:
            return Passage("", tuple(markdown_parts(blob.data, where)))
        value = codec.decode(blob, where)
        parts = json_parts(blob.data, _EMBEDDED if session_of(ref) is not None else ())
        return Passage("", tuple(parts), at=_time_in(value))

    def _user_of(self, session: str) -> str | None:
        # What cannot be read has no owner that could be told.
        with suppress(*PROBLEMS, StorageError):
            found = self._sessions.get(session)
            return None if found is None else found.user_id
        return None

    def _messages(self, owner: Ref, known: Mapping[str, Known], there: set[str], *, fresh: bool) -> Iterator[Reading]:
        ref = Ref(owner.belongings, "messages", LOG)
        before = known.get(str(ref))
        # Streams first: a message that is finished in between is then seen twice rather than not at all.
        streams = Streams(self._backend, owner)
        looks = [(name, self._backend.look(streams.log(name).ref)) for name in streams.ids()]
        look = self._backend.look(ref)
        seeded = may_be_seeded(self._backend, owner) if fresh or before is None else before.source.state == _SEEDED
        if look is None and not looks and not seeded:
            return
        there.add(str(ref))
        told = str((look, looks, self._backend.look(owner) if seeded else None))
        if not _is_known(before, told):
            source = Source(str(ref), str(owner), told, owner.name, state=_SEEDED if seeded else b"")
            yield _Conversation(self._backend, message_log(self._backend, owner), look or (), source, streams).read(
                before
            )


class _LogFile:
    """One reading of a log."""

    def __init__(self, backend: Backend, log: Log, look: tuple[int, ...], source: Source) -> None:
        self._backend = backend
        self._log = log
        self._look = look
        self._source = source

    def read(self, known: Known | None) -> Reading:
        """What is new."""
        try:
            grown = None if known is None else self._grown(known)
            return self._whole() if grown is None else grown
        except (*PROBLEMS, StorageError) as error:
            pass_over(error)
            return Reading(self._source, ())

    def _grown(self, known: Known) -> Reading | None:
        """What was appended; None where more may have happened."""
        before = None if _SEEDED in (known.source.state, self._source.state) else Reached.of(known.source.state)
        if before is None:
            return None
        under_way = self._under_way()
        growth = Growth(self._backend, self._log.ref, self._look)
        lines = growth.new_lines(before)
        if lines is None:
            return None
        with suppress(CorruptRecordError, _UnclearError):
            rows = [codec.decode_line(line.data, self._log.path) for line in lines]
            news = [each for each in map(self._news_in, rows) if each is not None]
            passages = [self._passage(row) for row in under_way.values()]
            return _GrownReading(self._reached(growth), news, passages, self._whole)
        return None

    def _whole(self) -> Reading:
        under_way = self._under_way()
        growth = Growth(self._backend, self._log.ref, self._look)
        rows = self._folded(self._log.readable(growth.counted(self._log.lines())), under_way)
        passages = [self._passage(row) for row in rows]
        return Reading(self._reached(growth), passages)

    def _reached(self, growth: Growth) -> Source:
        reached = None if self._source.state == _SEEDED else growth.reached()
        return self._source if reached is None else self._source._replace(state=reached.packed())

    def _under_way(self) -> dict[str, Row]:
        """What readers see besides the log."""
        return {}

    def _folded(self, rows: Iterator[Row], under_way: Mapping[str, Row]) -> Iterable[Row]:
        """The records in the rows of the log."""
        return rows

    def _news_in(self, row: Row) -> _News | None:
        """What a row says that comes behind those that are known. Raises _UnclearError where it alone cannot tell."""
        return self._passage(row)

    def _passage(self, row: Row) -> Passage:
        fields = {key: value for key, value in row.items() if key != "at"}
        return Passage(str(row["seq"]), tuple(value_parts(fields)), row["seq"], _time_in(row))


class _Conversation(_LogFile):
    """One reading of a session's messages."""

    def __init__(self, backend: Backend, log: Log, look: tuple[int, ...], source: Source, streams: Streams) -> None:
        super().__init__(backend, log, look, source)
        self._streams = streams

    def _under_way(self) -> dict[str, Row]:
        return self._streams.unfinished()

    def _folded(self, rows: Iterator[Row], under_way: Mapping[str, Row]) -> Iterable[Row]:
        tree = Tree()
        for row in rows:
            tree.fold(row)
        return tree.with_unfinished(under_way).rows.values()

    def _news_in(self, row: Row) -> _News | None:
        changed, name = row.get("update"), row.get("id")
        if isinstance(changed, str):
            return self._edit_in(changed, row)
        return self._passage(row) if isinstance(name, str) else None

    def _edit_in(self, changed: str, row: Row) -> _Edit | None:
        about: Row = {key: row[key] for key in ("status", "model", "metadata") if key in row}
        if not row.keys() <= _PLAIN_CHANGES or self._message({"id": changed, "role": "user", **about}) is None:
            raise _UnclearError
        delta = row.get("delta")
        edit = _Edit(changed, row.get("content", MISSING), delta if isinstance(delta, str) else "")
        return edit if edit.delta or not isinstance(edit.content, Missing) else None

    def _passage(self, row: Row) -> Passage:
        message = self._message(row)
        seq: int = row.get("seq", 0)
        if message is None:
            return Passage(row["id"], (), seq, state=_TAKEN)
        state = _TEXT if isinstance(message.content, str) else _BLOCKS
        return Passage(message.id, (Part(message.text),), seq, message.created_at, message.role, state)

    def _message(self, row: Row) -> Message | None:
        try:
            return message_of(row, self._log.path)
        except ValidationError as error:
            pass_over(error)
            return None


def session_of(ref: Ref) -> str | None:
    """The session whose document this is."""
    return ref.name if ref.category == SESSIONS and ref.suffix == JSON else None


def _owner_of(ref: Ref) -> Ref | None:
    """The session that a record belongs to, as its document."""
    above, _, rest = ref.category.partition("/")
    return Ref(SESSIONS, rest.partition("/")[0], JSON) if above == SESSIONS and rest else None


def _is_known(known: Known | None, look: str) -> bool:
    return known is not None and known.source.look == look


def hides_others(error: FsStateError) -> bool:
    """Whether it may be so for others: one that we may not read hides none, other refusals are no property of it."""
    if not isinstance(error, StorageError) or isinstance(error, UnsafePathError):
        return False
    return error.errno not in _NOT_ALLOWED


def pass_over(error: FsStateError) -> None:
    """Go on without a file or folder, with a warning. Raises the error if it may be so for others."""
    if hides_others(error):
        raise error
    _log.warning("not searched: %s", str(error))


def _time_in(value: object) -> datetime | None:
    if not isinstance(value, dict):
        return None
    fields = cast("Row", value)
    for each in (fields[name] for name in _TIMES if name in fields):
        with suppress(ValueError):
            return parse_time(each)
    return None
