"""Transcripts into a store and out of it; the package says what becomes of what.

A session's document is created first and completed last, under its lock for the length of the transfer. Between them
the rows are appended in their order, so a log that holds row n holds all of its rows before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, Final, NamedTuple, TypeAlias

import msgspec

from fsstate import (
    FsStateError,
    NotFoundError,
    Session,
    StorageError,
    Store,
    StoreClosedError,
)
from fsstate.integrations.claude_code.files import Line, Source, digest, find, first_row, identity, lines, lines_after
from fsstate.integrations.claude_code.mapping import Item, Result, Transcript, row_of_event, row_of_message
from fsstate.integrations.claude_code.record import (
    KEY,
    ChangedError,
    Recorded,
    calls_in,
    compare,
    last_row,
    stored_rows,
)
from fsstate.integrations.claude_code.rows import Object, Row, UnreadableError, dump
from fsstate.names import name_for
from fsstate.times import format_time

__all__ = ["ImportReport", "Problem", "export_transcript", "import_transcripts"]

# What is appended with one flush, in bytes of the transcript.
_BATCH: Final = 4 * 1024 * 1024
# Unreadable lines that a session's document names.
_MOST_NAMED: Final = 100

Progress: TypeAlias = Callable[[int, int], None]


class Problem(NamedTuple):
    """What could not be imported: a whole file (`line` is None), or one line of it, counted from 1."""

    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.reason}" if self.line else f"{self.path}: {self.reason}"


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did.

    `sessions` counts those that were created or that grew, `unchanged` the transcripts that gave nothing new; `rows`
    are the rows that were added, each a message or an event. `ids` are the sessions of all transcripts, in the order
    of the files. A line among the `problems` was not imported, and is not given back by an export.
    """

    sessions: int = 0
    messages: int = 0
    events: int = 0
    tool_calls: int = 0
    rows: int = 0
    unchanged: int = 0
    ids: list[str] = []
    problems: list[Problem] = []


def import_transcripts(store: Store, path: str | os.PathLike[str], *, progress: Progress | None = None) -> ImportReport:
    """Import a transcript, or all `*.jsonl` files below a directory, durably, and return what was done.

    `progress` is called now and then with the bytes that are done and those that there are. A transcript that cannot be
    imported is a problem in the report and does not stop the others. Raises NotFoundError when there is nothing at
    `path`, and StorageError when the store cannot be written to.
    """
    sources, unfit = find(path)
    run = _Run(store, sources, progress)
    run.report.problems.extend(Problem(name, None, reason) for name, reason in unfit.items())
    for source in sources:
        run.take(source)
    return run.report


def export_transcript(store: Store, session_id: str) -> Iterator[bytes]:
    """Give the transcript that a session was made from: JSON lines, each with its newline, in their order.

    Messages and events that were not imported are left out. Raises NotFoundError for a session that does not exist or
    was not imported from Claude Code.
    """
    session = store.sessions.require(session_id)
    if Recorded.of(session) is None:
        where = store.sessions.path_of(session_id)
        raise NotFoundError(where, f"{where} was not imported from Claude Code")
    return (dump(row) + b"\n" for row in stored_rows(store.session(session_id)))


class _NothingNewError(Exception):
    """Leaves the session as it is."""


class _Run:
    """One call of `import_transcripts`."""

    def __init__(self, store: Store, sources: list[Source], progress: Progress | None) -> None:
        self.store = store
        self.report = ImportReport()
        self._ids = {name_for(source.name) for source in sources}
        self._total = sum(source.size for source in sources)
        self._before = 0
        self._progress = progress

    def take(self, source: Source) -> None:
        """Import one transcript, or tell why not."""
        try:
            with source.open() as file:
                self._import(source, file)
        except ChangedError as error:
            advice = "nothing of this transcript was imported now; to import it anew, delete the session first"
            self._fail(source, f"{error.reason}; {advice}", error.line)
        except (StorageError, StoreClosedError):
            raise
        except (OSError, FsStateError, UnreadableError) as error:
            self._fail(source, f"not imported: {error}")
        self._before += source.size
        self.show(0)

    def show(self, done: int) -> None:
        """Tell how far the present transcript is."""
        if self._progress is not None:
            self._progress(min(self._before + done, self._total), self._total)

    def may_be(self, session_id: str) -> bool:
        """Whether there is such a session, or will be after this import."""
        return session_id in self._ids or self.store.sessions.contains(session_id)

    def _fail(self, source: Source, reason: str, line: int | None = None) -> None:
        self.report.problems.append(Problem(source.path, line, reason))

    def _import(self, source: Source, file: BinaryIO) -> None:
        first = first_row(file)
        if first is None:
            self.report.problems += [_problem(source, line) for line in lines(file) if line.error is not None]
            return
        session_id, recorded = self._place(source, identity(first))
        self.report.ids.append(session_id)
        if recorded.sha256 and self._is_done(source, file, recorded):
            self.report.unchanged += 1
            return
        with contextlib.suppress(_NothingNewError), self.store.sessions.edit(session_id) as session:
            _Transfer(self, source, file, session).run()
            return
        self.report.unchanged += 1

    def _place(self, source: Source, first: str) -> tuple[str, Recorded]:
        """The session for a transcript, made if need be, and what it tells."""
        metadata = {KEY: {"source": source.path, "first": first}}
        for name in (source.name, f"{source.name}~{first[:8]}"):
            session = self.store.sessions.get_or_create(name_for(name), metadata=metadata)
            recorded = Recorded.of(session)
            if recorded is not None and recorded.is_of(source, first):
                return session.id, recorded
        raise UnreadableError("the sessions that it could become are there, and were not made from it")

    def _is_done(self, source: Source, file: BinaryIO, recorded: Recorded) -> bool:
        """Whether the session holds all rows of the file. Parses only what was added to it."""
        if digest(file, recorded.bytes) != recorded.sha256:
            return False
        added = list(_until_news(lines_after(file, recorded.bytes, recorded.rows)))
        if any(line.row is not None or (line.error is not None and not line.is_under_way) for line in added):
            return False
        self.report.problems += [Problem(source.path, line, reason) for line, reason in recorded.unreadable]
        self.report.problems += [_problem(source, line) for line in added if line.error is not None]
        return True


class _Batch:
    """What is to be appended together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.calls: dict[str, Object] = {}
        self.late: list[Result] = []
        self.size = 0

    def take(self, item: Item, size: int, known: dict[str, bool]) -> None:
        """`known` tells of each call in the session whether it is final."""
        self.items.append(item)
        self.size += size
        self.calls.update((call["id"], call) for call in item.calls if call["id"] not in known)
        for result in item.results:
            if result.call_id in self.calls:
                self.calls[result.call_id] |= {**result.outcome, **_at(result.at, "completed_at")}
            elif known.get(result.call_id) is False:
                self.late.append(result)


class _Transfer:
    """One transcript on its way into its session. Requires: the session's lock is held."""

    def __init__(self, run: _Run, source: Source, file: BinaryIO, session: Session) -> None:
        self._run = run
        self._source = source
        self._file = file
        self._session = session
        self._handle = run.store.session(session.id)
        self._transcript = Transcript()
        self._recorded = Recorded.of(session) or Recorded(source.path, "")
        self._in_messages = last_row(self._handle.messages.log.rows_backwards(), row_of_message)
        self._in_events = last_row(self._handle.events.log.rows_backwards(), row_of_event)
        self._known: dict[str, bool] = {}
        self._title_before: str | None = None
        self._problems: list[Problem] = []
        self._added = ImportReport()

    def run(self) -> None:
        """Append what is not there yet, and write down how far it goes. Raises _NothingNewError and ChangedError."""
        self._compare()
        self._known = calls_in(self._handle.tool_calls.log.rows())
        hashed = hashlib.sha256()
        batch = _Batch()
        rows = end = 0
        for line in lines(self._file):
            if line.error is not None:
                self._problems.append(_problem(self._source, line))
            if line.is_under_way:
                break
            hashed.update(line.data)
            rows, end = line.number, line.end
            if line.row is not None:
                self._take(line, line.row, batch)
            if batch.size >= _BATCH:
                self._append(batch)
                batch = _Batch()
                self._run.show(end)
        self._append(batch)
        self._finish(rows, end, hashed.hexdigest())

    def _compare(self) -> None:
        """See that what the session holds is what the file holds."""
        recorded = self._recorded
        intact = recorded.sha256 != "" and digest(self._file, recorded.bytes) == recorded.sha256
        sure = recorded.rows if intact else 0
        if sure < max(self._in_messages, self._in_events, 0 if intact else recorded.rows):
            stored = (row for row in stored_rows(self._handle) if row.number > sure)
            mended = frozenset[int]() if intact else frozenset(line for line, _ in recorded.unreadable)
            compare(stored, lines(self._file), mended)

    def _take(self, line: Line, row: Row, batch: _Batch) -> None:
        item = self._transcript.add(row)
        if row.number > self._recorded.rows:
            batch.take(item, len(line.data), self._known)
        else:
            self._title_before = self._transcript.title

    def _append(self, batch: _Batch) -> None:
        messages = [each.message for each in batch.items if each.message and each.row > self._in_messages]
        events = [each.event for each in batch.items if each.event and each.row > self._in_events]
        calls = list(batch.calls.values())
        changes = [{"update": each.call_id, **each.outcome, **_at(each.at)} for each in batch.late]
        # Rows before the first one with a time are given that one's.
        began = _at(self._transcript.began_at)
        if messages:
            self._handle.messages.log.append(_dated(each, began) for each in messages)
        if events:
            self._handle.events.append_many((kind, _dated(fields, began)) for kind, fields in events)
        if calls or changes:
            self._handle.tool_calls.log.append([*(_dated(call, began) for call in calls), *changes])
        self._known |= calls_in([*calls, *changes])
        self._added.messages += len(messages)
        self._added.events += len(events)
        self._added.tool_calls += len(calls)

    def _finish(self, rows: int, end: int, sha256: str) -> None:
        self._run.report.problems += self._problems
        unreadable = [(each.line, each.reason) for each in self._problems if each.line and each.line <= rows]
        record = {
            "source": self._recorded.source,
            "first": self._recorded.first,
            "session_ids": list(self._transcript.session_ids),
            "rows": rows,
            "bytes": end,
            "sha256": sha256,
            **({"unreadable": unreadable[:_MOST_NAMED]} if unreadable else {}),
        }
        added = self._added
        if rows == self._recorded.rows and not added.messages + added.events and sha256 == self._recorded.sha256:
            raise _NothingNewError
        if added.messages or not self._recorded.rows:
            self._move_head()
        self._describe(self._session)
        self._session.metadata = {**self._session.metadata, KEY: record}
        report = self._run.report
        report.sessions += 1
        report.messages += added.messages
        report.events += added.events
        report.rows += added.messages + added.events
        report.tool_calls += added.tool_calls

    def _move_head(self) -> None:
        head = self._transcript.head
        if head is not None and head != self._transcript.last_message:
            # Not by `set_head`: the log's last time is the session's last activity, and that was not now.
            self._handle.messages.log.append([{"head": head, **_at(self._transcript.ended_at)}])

    def _describe(self, session: Session) -> None:
        """Say in the session's document what the rows tell of it."""
        told = self._transcript
        if session.title in (None, self._title_before):
            session.title = told.title or session.title
        if self._recorded.rows:
            if told.ended_at is not None:
                session.updated_at = max(session.updated_at or told.ended_at, told.ended_at)
            return
        session.created_at = told.began_at or session.created_at
        session.updated_at = told.ended_at or session.updated_at
        if told.cwd is not None:
            session.project_id = session.project_id or told.cwd
            session.metadata = {**session.metadata, "cwd": told.cwd}
        session.parent_id = session.parent_id or self._starter()

    def _starter(self) -> str | None:
        if not self._transcript.is_side_chain:
            return None
        told = [*self._transcript.session_ids, self._source.starter]
        ids = [name_for(name) for name in told if name]
        return next((each for each in ids if each != self._session.id and self._run.may_be(each)), None)


def _at(time: datetime | str | None, field: str = "at") -> Object:
    return {} if time is None else {field: format_time(time) if isinstance(time, datetime) else time}


def _dated(line: Object, at: Object) -> Object:
    return line if "at" in line else {**line, **at}


def _until_news(found: Iterable[Line]) -> Iterator[Line]:
    """The lines up to the first that is a row."""
    for line in found:
        yield line
        if line.row is not None:
            return


def _problem(source: Source, line: Line) -> Problem:
    assert line.error is not None
    column = f" (column {line.error.column})" if line.error.column else ""
    return Problem(source.path, line.number, line.error.reason + column)
