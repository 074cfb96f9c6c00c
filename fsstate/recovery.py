"""Records in flight: which there are, whether their holders live, and what becomes of those whose holder is gone.

Looking writes nothing. Settling decides under each record's lock, on what the file holds then: any number of programs
may do it at once, and a record that somebody took up meanwhile is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from fsstate.backends.base import Change, Ref
from fsstate.document_changes import PROBLEMS
from fsstate.errors import FsStateError, NewerVersionError, NotFoundError
from fsstate.ownership import Ownership
from fsstate.record_documents import Fields, RecordDocuments
from fsstate.rules import HOLDER

__all__ = ["InFlight", "RecoveryReport", "Settled", "look", "recover"]

# Seconds to wait for a record that somebody has locked: whoever changes it now may be about to settle it.
_PATIENCE: Final = 1.0

_log = logging.getLogger("fsstate")


class InFlight(NamedTuple):
    """A record in flight, and whether the store that holds it is open somewhere (`held_by` is None: nobody does)."""

    category: str
    id: str
    status: str
    held_by: str | None
    is_alive: bool
    path: str


class Settled(NamedTuple):
    """A record that was in flight at status `was`, and has another since its holder is gone."""

    category: str
    id: str
    was: str
    status: str
    path: str


class RecoveryReport(NamedTuple):
    """What was settled, what lives and was left alone, and what could not be looked at or settled."""

    settled: list[Settled]
    alive: list[InFlight]
    problems: list[FsStateError]

    def log_problems(self) -> None:
        """Log them as warnings, where nobody is told otherwise."""
        for problem in self.problems:
            _log.warning("not recovered: %s", str(problem))


def look(folders: Iterable[RecordDocuments[Any]], ownership: Ownership) -> list[InFlight]:
    """The records in flight. What cannot be read is logged as a warning."""
    flights: list[InFlight] = []
    problems: list[FsStateError] = []
    is_alive = cache(ownership.is_alive)
    for documents in folders:
        found = _candidates(documents, problems)
        flights += [_flight(documents, name, fields, is_alive) for name, fields in found]
    for problem in problems:
        _log.warning("skipped: %s", str(problem))
    return flights


def recover(folders: Iterable[RecordDocuments[Any]], ownership: Ownership) -> RecoveryReport:
    """Settle the records in flight whose holders are gone. Raises NewerVersionError; nothing is settled then."""
    report = RecoveryReport([], [], [])
    is_alive = cache(ownership.is_alive)
    found: list[tuple[RecordDocuments[Any], dict[str, InFlight]]] = []
    for documents in folders:
        orphans: dict[str, InFlight] = {}
        for name, fields in _candidates(documents, report.problems):
            flight = _flight(documents, name, fields, is_alive)
            if flight.is_alive:
                report.alive.append(flight)
            else:
                orphans[name] = flight
        if orphans:
            found.append((documents, orphans))
    # A newer program may mean something else by what it wrote: where it did, nothing is touched.
    _refuse_newer(report.problems)
    for documents, orphans in found:
        _settle(documents, orphans, ownership, report)
    return report


def _refuse_newer(problems: Iterable[FsStateError]) -> None:
    for problem in problems:
        if isinstance(problem, NewerVersionError):
            raise problem


def _candidates(documents: RecordDocuments[Any], problems: list[FsStateError]) -> Iterator[tuple[str, Fields]]:
    if not documents.kind.in_flight:
        return
    for name in documents.names():
        try:
            blob = documents.blob_of(name)
            if blob is None or not documents.may_be_in_flight(blob):
                continue
            fields = documents.fields_of(blob, name)
        except PROBLEMS as error:
            problems.append(error)
        else:
            if documents.is_in_flight(fields):
                yield name, fields


def _flight(
    documents: RecordDocuments[Any], name: str, fields: Fields, is_alive: Callable[[Hashable], bool]
) -> InFlight:
    holder = fields.get(HOLDER)
    status = documents.kind.status_of(fields) or ""
    key = str(fields.get(documents.kind.key, name))
    told = holder if isinstance(holder, str) else None
    return InFlight(documents.category, key, status, told, is_alive(told), documents.path_of(name))


class _Settling:
    """The change that settles one record, and what it did."""

    def __init__(self, documents: RecordDocuments[Any], flight: InFlight, ownership: Ownership) -> None:
        self.flight = flight
        self.done: Settled | None = None
        self._documents = documents
        self._ownership = ownership

    def change(self, name: str) -> tuple[Ref, Change]:
        return self._documents.ref_of(name), self._documents.recovery(name, self._is_orphan)

    def _is_orphan(self, fields: Fields) -> bool:
        self.done = None
        if not self._documents.is_in_flight(fields) or self._ownership.is_alive(fields.get(HOLDER)):
            return False
        recovery = self._documents.kind.recovery
        assert recovery is not None
        was = self._documents.kind.status_of(fields) or ""
        self.done = Settled(self.flight.category, self.flight.id, was, recovery.status, self.flight.path)
        return True


def _settle(
    documents: RecordDocuments[Any], orphans: dict[str, InFlight], ownership: Ownership, report: RecoveryReport
) -> None:
    settlings = [_Settling(documents, flight, ownership) for flight in orphans.values()]
    changes = [settling.change(name) for name, settling in zip(orphans, settlings, strict=True)]
    for settling, outcome in zip(settlings, documents.change_each(changes, timeout=_PATIENCE), strict=True):
        if isinstance(outcome, NotFoundError):
            continue  # somebody deleted it meanwhile
        if isinstance(outcome, FsStateError):
            report.problems.append(outcome)
        elif isinstance(outcome, Exception):
            raise outcome
        elif settling.done is not None:
            report.settled.append(settling.done)
