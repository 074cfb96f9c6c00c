"""What other programs kept, put into a store: each thing once, and nothing changed that is there.

The integrations turn what they find into items; a `Landing` writes them and keeps count.

- Importing again writes what is missing, and compares the rest: what is there as it was found is unchanged. What
  differs was changed here since, as by a recovery or by the store's users; it is named and left as it is. Where the
  times tell that it is older than what was found, or another one, it is a problem. What was added is no difference.
- It may be killed at any time. A log is written by one append, a document by one rename; a session's document says
  that it is incomplete until all that belongs to it is there.
- What cannot be imported is a problem with its place. In the end every thing that was found is accounted for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fsstate import (
    AlreadyExistsError,
    FsStateError,
    InvalidValueError,
    NotFoundError,
    SessionHandle,
    StorageError,
    Store,
    StoreClosedError,
    UnsafePathError,
    ValidationError,
    codec,
)
from fsstate.backends.base import JSON, LOG, Ref, as_it_is
from fsstate.collection import Collection
from fsstate.conversation import message_of
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, TextItem, is_object
from fsstate.integrations.lineage import Lineage
from fsstate.journal import Log
from fsstate.markdown import Markdown
from fsstate.merge import same
from fsstate.names import name_for
from fsstate.times import parse_time

__all__ = ["KEY", "KINDS", "ImportReport", "Landing", "Problem", "Progress", "Tally", "check_apart"]

Progress: TypeAlias = Callable[[int, int], None]

KINDS: Final = (
    "sessions",
    "messages",
    "events",
    "tool_calls",
    "steps",
    "checkpoints",
    "goals",
    "tools",
    "jobs",
    "runs",
    "audits",
    "sources",
    "settings",
    "workflows",
    "documents",
)
# On disk, in the metadata of sessions: do not rename.
KEY: Final = "imported"
_INCOMPLETE: Final = "is_incomplete"

# Of logs whose entries have an id: a line without one says something about another, and was not imported.
_NAMED: Final = ("messages", "tool_calls")
# The document's own time of change goes on when a person changes it.
_FREE: Final = ("updated_at", "metadata")
_ATTEMPTS: Final = 5


class Problem(NamedTuple):
    """What was not imported, or not as it was found. `place` says where in the file or database it stands."""

    path: str
    place: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, {self.place}: {self.reason}" if self.place else f"{self.path}: {self.reason}"


class Tally(msgspec.Struct):
    """How many things of one kind were found, and what became of them."""

    found: int = 0
    imported: int = 0
    unchanged: int = 0
    changed: int = 0
    failed: int = 0

    @property
    def accounted(self) -> int:
        """Those of which is known what became of them."""
        return self.imported + self.unchanged + self.changed + self.failed


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did.

    `tallies` has a `Tally` for each kind of thing, `ids` are the sessions in the order of the import. Where there are
    `problems`, not all is in the store as it was found; each failed thing is among them, by itself or with others of
    its place. `changed` is what was changed in the store since it was imported, and was left as it is; a change of the
    source looks the same where no time tells. `passed_over` are files that hold nothing to import, and tables that a
    database lacks.
    """

    tallies: dict[str, Tally] = {}
    ids: list[str] = []
    problems: list[Problem] = []
    changed: list[Problem] = []
    passed_over: list[Problem] = []

    def __post_init__(self) -> None:
        self.tallies = {kind: Tally() for kind in KINDS} | self.tallies

    def __getitem__(self, kind: str) -> Tally:
        return self.tallies[kind]

    @property
    def total(self) -> Tally:
        """The sum of all kinds."""
        each = self.tallies.values()
        return Tally(*(sum(getattr(tally, name) for tally in each) for name in Tally.__struct_fields__))


class Landing:
    """One import on its way into a store."""

    def __init__(self, store: Store, path: str | os.PathLike[str], progress: Progress | None = None) -> None:
        self.path = os.fspath(path)
        self.report = ImportReport()
        self._store = store
        self._sessions: Collection[Any] = store.collection("sessions")
        self._progress = progress

    # Counting

    def expect(self, kind: str, number: int = 1) -> None:
        """Say that so many things of a kind were found."""
        self.report[kind].found += number

    def fail(self, kind: str, place: str | None, reason: str, number: int = 1) -> None:
        """Say that things could not be imported."""
        self.report[kind].failed += number
        if number:
            self.note(place, reason)

    def lose(self, kind: str, place: str | None, reason: str, number: int = 1) -> None:
        """Say that things were found and could not be imported."""
        self.expect(kind, number)
        self.fail(kind, place, f"not imported: {reason}", number)

    def note(self, place: str | None, reason: str) -> None:
        """Say that something was not imported as it was found."""
        self.report.problems.append(Problem(self.path, place, reason))

    def pass_over(self, place: str, reason: str) -> None:
        """Say that a file holds nothing to import, or that a table is not there."""
        self.report.passed_over.append(Problem(self.path, place, reason))

    def show(self, done: int, total: int) -> None:
        """Tell how far the import is."""
        if self._progress is not None:
            self._progress(min(done, total), total)

    def roots(self) -> dict[str, str]:
        """The paths of the sources that the store has, by their ids: no two have the same."""
        return {root.id: root.path for root in self._store.sources.list()}

    def settle(self) -> ImportReport:
        """Compare what was found with what became of it, and return the report."""
        for kind, tally in self.report.tallies.items():
            if tally.found != tally.accounted:
                name = kind.replace("_", " ")
                advice = "; import again" if tally.accounted < tally.found else ": some were told twice"
                self.note(None, f"{tally.found} {name} were found, and {tally.accounted} are accounted for{advice}")
        return self.report

    # Writing

    def document(self, item: DocumentItem) -> None:
        """Create a document, or see that it is there."""
        with self._guarded(item.kind, item.place, item.parts):
            collection = self._collection(item)
            try:
                collection.create(item.name, item.value)
            except AlreadyExistsError:
                there = collection.get(item.name)
                differing = _differences(there, item.value)
                is_other = _is_other(there, item.value)
                self._compared(item, differing, collection.ref_of(item.name), is_other=is_other)
            else:
                self.report[item.kind].imported += item.parts

    def text(self, item: TextItem) -> None:
        """Create a Markdown document, or see that it is there."""
        with self._guarded("documents", item.place):
            notes = self._markdown(item)
            try:
                notes.create(item.name, item.text)
            except AlreadyExistsError:
                blob = self._store.backend.read(notes.ref_of(item.name))
                is_same = blob is not None and blob.data == item.text.encode()
                document = DocumentItem("documents", item.category, item.name, None, item.place)
                self._compared(document, [] if is_same else ["the text"], notes.ref_of(item.name))
            else:
                self.report["documents"].imported += 1

    def journal(self, place: str, rows: Sequence[Object], where: str, session: str) -> None:
        """Fill a log of a session, `place` being its path in the session's folder, or see that it is filled."""
        folder, _, name = place.rpartition("/")
        owner = Ref("sessions", session, JSON)
        with self._guarded("documents", where):
            log = Log(self._store.backend, Ref(f"{owner.belongings}/{folder}".rstrip("/"), name, LOG), owner=owner)
            lines = [log.encode(row) for row in rows]
            there = _lines_in(log, named=False)
            if there.lines == lines:
                self.report["documents"].unchanged += 1
            elif there.lines or not self._append(log, there.last, lines, None):
                self.fail("documents", where, f"{log.path} holds something else, and was left as it is")
            else:
                self.report["documents"].imported += 1

    def session(self, item: SessionItem) -> None:
        """Create a session with all that belongs to it, or complete it, or see that it is there."""
        name = name_for(item.id)
        with self._guarded("sessions", item.place):
            before = self._begun(name, item)
            if before is None:
                self._refuse(name, item)
                return
            handle = self._store.session(name)
            for kind, entries in item.logs.items():
                self._log(kind, _log_of(handle, kind), entries, item.head if kind == "messages" else None)
            for document in item.documents:
                self.document(document._replace(session=name))
            self._finish(name, item, before)
            self.report.ids.append(name)

    # Inside: sessions

    def _begun(self, name: str, item: SessionItem) -> Object | None:
        """The session's document, made if need be; None when it is another's."""
        there = self._sessions.get(name)
        if there is None:
            mark = {**_mark(item), _INCOMPLETE: True}
            self._store.sessions.get_or_create(name, metadata={KEY: mark})
            there = self._sessions.require(name)
        mark = _mark_in(there)
        return there if all(mark.get(key) == value for key, value in _mark(item).items()) else None

    def _refuse(self, name: str, item: SessionItem) -> None:
        reason = f"there is another session {self._sessions.path_of(name)}, which was not imported from here"
        self.fail("sessions", item.place, reason)
        for kind, entries in item.logs.items():
            self.fail(kind, item.place, f"{kind.replace('_', ' ')}: {reason}", len(entries))
        for document in item.documents:
            self.fail(document.kind, document.place, reason, document.parts)

    def _finish(self, name: str, item: SessionItem, before: Object) -> None:
        if not _mark_in(before).get(_INCOMPLETE):
            differing = _session_differences(before, item)
            there = DocumentItem("sessions", "sessions", name, None, item.place)
            is_other = _is_other(before, item.fields)
            self._compared(there, differing, self._sessions.ref_of(name), is_other=is_other)
            return

        def complete(document: Object) -> Object:
            metadata = {**_metadata(document), **item.metadata, KEY: _mark(item)}
            return {**document, **item.fields, "metadata": metadata}

        # Not as a `Session`: that would be stamped with the time of now.
        self._sessions.update(name, complete)
        self.report["sessions"].imported += 1

    # Inside: logs

    def _log(self, kind: str, log: Log, entries: Sequence[Entry], head: tuple[str | None] | None) -> None:
        lines, flaws = _lines(kind, log, entries)
        heirs: Mapping[str | None, str | None] = {}
        if flaws and kind == "messages":
            lineage = Lineage(entries, flaws.keys(), head)
            heirs, head = lineage.heirs, lineage.head
            lines, _ = _lines(kind, log, lineage.entries)
        self._leave_out(kind, entries, flaws, heirs)
        with self._guarded(kind, entries[0].place if entries else None, len(lines)):
            for _ in range(_ATTEMPTS):
                there = _lines_in(log, named=kind in _NAMED)
                equal = _equal(there.lines, [line for _, line in lines])
                if equal < min(len(there.lines), len(lines)):
                    self._differs(kind, log, lines, equal)
                    return
                if not there.lines and not lines:
                    return
                if self._append(log, there.last, [line for _, line in lines[equal:]], head):
                    self.report[kind].unchanged += equal
                    self.report[kind].imported += len(lines) - equal
                    return
            raise InvalidValueError(f"{log.path} is being written to all the time; import again later")

    def _leave_out(
        self, kind: str, entries: Sequence[Entry], flaws: Mapping[int, str], heirs: Mapping[str | None, str | None]
    ) -> None:
        for number, flaw in flaws.items():
            place, row = entries[number]
            name = row.get("id")
            self.fail(kind, place, f"not imported: {flaw}{_told_of(heirs[name]) if name in heirs else ''}")

    def _append(self, log: Log, last: int, lines: Sequence[bytes], head: tuple[str | None] | None) -> bool:
        """Append with one flush; whether the log still ended where it did when it was read."""
        if not lines:
            # Who wrote what is there may have been killed before it would last, and a crash may have torn its end.
            log.append_next(lambda _: [])
            return True
        rows = [codec.decode_line(line, log.path) for line in lines]
        if head is not None and head[0] != rows[-1]["id"]:
            rows.append({"head": head[0], **({"at": rows[-1]["at"]} if "at" in rows[-1] else {})})

        def make(entry: Object | None) -> list[Object]:
            return rows if last == (0 if entry is None else entry["seq"]) else []

        return len(log.append_next(make)) > 0

    def _differs(self, kind: str, log: Log, lines: Sequence[tuple[str, bytes]], equal: int) -> None:
        self.report[kind].unchanged += equal
        reason = f"{log.path} holds something else from here on, and was left as it is"
        rest = len(lines) - equal
        self.fail(kind, lines[equal][0], f"{reason} ({rest} {kind.replace('_', ' ')})", rest)

    # Inside: documents

    def _collection(self, item: DocumentItem) -> Collection[Any]:
        if item.session is None:
            return self._store.collection(item.category)
        return self._store.session(item.session).collection(item.category or None)

    def _markdown(self, item: TextItem) -> Markdown:
        if item.session is None:
            return self._store.markdown(item.category)
        return self._store.session(item.session).markdown(item.category or None)

    def _compared(self, item: DocumentItem, differing: Sequence[str], ref: Ref, *, is_other: bool = False) -> None:
        if not differing:
            self._store.backend.change(ref, as_it_is)
            self.report[item.kind].unchanged += item.parts
            return
        shown = ", ".join(differing[:5]) + (", …" if len(differing) > 5 else "")
        reason = f"{self._store.backend.location(ref)} differs in {shown}"
        if is_other:
            self.fail(item.kind, item.place, f"{reason}: it is older or another one, and was left as it is", item.parts)
        else:
            self.report[item.kind].changed += item.parts
            self.report.changed.append(Problem(self.path, item.place, f"{reason}: changed since, and left as it is"))

    @contextlib.contextmanager
    def _guarded(self, kind: str, place: str | None, number: int = 1) -> Generator[None]:
        """Make what cannot be stored a problem; what stops the whole import is raised."""
        try:
            yield
        except UnsafePathError as error:
            self.fail(kind, place, f"not imported: {error}", number)
        except (StorageError, StoreClosedError):
            raise
        except FsStateError as error:
            self.fail(kind, place, f"not imported: {error}", number)


def check_apart(store: Store, path: str | os.PathLike[str]) -> None:
    """Raise InvalidValueError when a store would be imported into itself, and NotFoundError when nothing is there."""
    source, target = os.path.realpath(path), os.path.realpath(store.path)
    if not os.path.exists(source):  # noqa: PTH110 - as the path was given
        raise NotFoundError(os.fspath(path))
    if source == target or source.startswith(target + os.sep):
        raise InvalidValueError(f"{os.fspath(path)} is the store itself; name another one as the target")


class _Lines(NamedTuple):
    """What a log holds, without the numbers; `last` is the last number in it."""

    lines: list[bytes]
    last: int


def _lines(kind: str, log: Log, entries: Iterable[Entry]) -> tuple[list[tuple[str, bytes]], dict[int, str]]:
    """The lines of a log with their places, and what is wrong with those that cannot be stored, by their numbers."""
    lines: list[tuple[str, bytes]] = []
    flaws: dict[int, str] = {}
    for number, (place, row) in enumerate(entries):
        try:
            line = log.encode(row)
            if kind == "messages":
                message_of(row, "it is no message")
        except (InvalidValueError, ValidationError) as error:
            flaws[number] = str(error)
        else:
            lines.append((place, line))
    return lines, flaws


def _told_of(heir: str | None) -> str:
    return "; what is under it begins anew" if heir is None else f"; what is under it goes under {heir!r}"


def _lines_in(log: Log, *, named: bool) -> _Lines:
    lines: list[bytes] = []
    last = 0
    for row in log.rows():
        last = row.pop("seq")
        if not named or ("id" in row and "update" not in row):
            lines.append(codec.encode_line(row))
    return _Lines(lines, last)


def _equal(there: Sequence[bytes], lines: Sequence[bytes]) -> int:
    """How many lines both begin with."""
    pairs = enumerate(zip(there, lines, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(there), len(lines)))


def _log_of(handle: SessionHandle, kind: str) -> Log:
    if kind == "messages":
        return handle.messages.log
    if kind == "events":
        return handle.events.log
    return handle.tool_calls.log if kind == "tool_calls" else handle.steps.log


def _mark(item: SessionItem) -> Object:
    return {"from": item.system, "id": item.id}


def _metadata(document: Mapping[str, Any]) -> Object:
    found = document.get("metadata")
    return found if is_object(found) else {}


def _mark_in(document: object) -> Object:
    found = _metadata(document).get(KEY) if is_object(document) else None
    return found if is_object(found) else {}


def _session_differences(there: Object, item: SessionItem) -> list[str]:
    fields = {key: value for key, value in item.fields.items() if key not in _FREE}
    inside = _differences(_metadata(there), item.metadata)
    return [*_differences(there, fields), *(f"metadata.{key}" for key in inside)]


def _differences(there: Any, wanted: Any) -> list[str]:
    """Where a document is not what was wanted. It may hold more."""
    wanted = codec.decode_bytes(codec.encode(wanted), "the imported value")
    if not (is_object(there) and is_object(wanted)):
        return [] if same(there, wanted) else ["all of it"]
    return [key for key, value in wanted.items() if key not in there or not same(there[key], value)]


def _is_other(there: Any, wanted: Any) -> bool:
    """Whether two documents tell by their times that the one there is older or another one, so not changed since."""
    if not (is_object(there) and is_object(wanted)):
        return False
    created, updated = _times("created_at", there, wanted), _times("updated_at", there, wanted)
    return (created is not None and created[0] != created[1]) or (updated is not None and updated[0] < updated[1])


def _times(key: str, there: Object, wanted: Object) -> tuple[datetime, datetime] | None:
    """The time under a key in both, if both have one."""
    try:
        return parse_time(there[key]), parse_time(wanted[key])
    except (KeyError, ValueError, TypeError):
        return None
