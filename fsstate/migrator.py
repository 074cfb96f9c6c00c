"""Migrating all records of a type: looks at every one first, and then writes those of older versions anew.

Nothing is written when a record of a newer version is among them. Each record is written by itself, aside and renamed
over the old file once it is durable: a run that was cut off leaves every record in one version or the other, and the
next one goes on with those that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from fsstate.document_changes import PROBLEMS
from fsstate.errors import FsStateError, InvalidValueError, NewerVersionError, NotFoundError
from fsstate.record_documents import RecordDocuments

__all__ = ["Migrated", "MigrationReport", "Progress", "migrate"]

# Called with how many records are done, and how many there are to do.
Progress: TypeAlias = Callable[[int, int], None]


class Migrated(NamedTuple):
    """A record that was migrated, or would be: from which version, to which, and the names of the steps."""

    category: str
    name: str
    found: int
    latest: int
    steps: tuple[str, ...]
    path: str


class MigrationReport(NamedTuple):
    """What was migrated (with `dry_run`: what would be), how many records needed nothing, and what went wrong."""

    migrated: list[Migrated]
    unchanged: int
    problems: list[FsStateError]
    dry_run: bool


def migrate(
    folders: Iterable[RecordDocuments[Any]], *, dry_run: bool = False, progress: Progress | None = None
) -> MigrationReport:
    """Bring the records to the versions that their types declare. Raises NewerVersionError; nothing is written then."""
    pending, report = _plan(folders, dry_run)
    for done, (documents, migrated) in enumerate(pending):
        if progress is not None:
            progress(done, len(pending))
        if dry_run or _write(documents, migrated, report):
            report.migrated.append(migrated)
    if progress is not None:
        progress(len(pending), len(pending))
    return report


def _plan(
    folders: Iterable[RecordDocuments[Any]], dry_run: bool
) -> tuple[list[tuple[RecordDocuments[Any], Migrated]], MigrationReport]:
    pending: list[tuple[RecordDocuments[Any], Migrated]] = []
    problems: list[FsStateError] = []
    unchanged = 0
    for documents in folders:
        for name in documents.names():
            try:
                migrated = _look(documents, name)
            except NewerVersionError:
                raise
            except (*PROBLEMS, InvalidValueError) as error:
                problems.append(error)
            else:
                unchanged += migrated is None
                if migrated is not None:
                    pending.append((documents, migrated))
    return pending, MigrationReport([], unchanged, problems, dry_run)


def _look(documents: RecordDocuments[Any], name: str) -> Migrated | None:
    blob = documents.blob_of(name)
    if blob is None:
        return None
    found, steps = documents.pending(blob, name)
    if not steps:
        return None
    # Tried now, so that a dry run tells what would fail.
    documents.check_rewriting(blob, name)
    latest, path = documents.kind.versions.latest, documents.path_of(name)
    return Migrated(documents.category, name, found, latest, tuple(step.name for step in steps), path)


def _write(documents: RecordDocuments[Any], migrated: Migrated, report: MigrationReport) -> bool:
    try:
        documents.update(migrated.name, lambda value: value)
    except NotFoundError:
        return False  # somebody deleted it meanwhile
    except FsStateError as error:
        report.problems.append(error)
        return False
    return True
