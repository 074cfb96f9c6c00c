"""Sources: the directories that an application reads from, the files that it found there, and its passes over them.

- A root is `sources/roots/<path>.json`, with the path quoted. Whoever adds a path first decides on its id.
- The files of a root are one document, `sources/roots/<path>/files.json`, and are replaced as one: a reader sees those
  of the last pass or of this one. They go with their root.
- A pass is `sources/ingests/<id>.json`, and goes through statuses:

      running -> complete | failed | cancelled | any other text

  One whose program died becomes "failed" once the store is recovered.

Every write is durable when it returns. Any thread may call.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fsstate import ids
from fsstate.backends.base import MARKDOWN, Ref
from fsstate.document_changes import PROBLEMS, Problem
from fsstate.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from fsstate.lazy import lazy_property
from fsstate.lifecycle import Lifecycle
from fsstate.owning_records import OwningRecords
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.shared import Shared
from fsstate.single import ItemSet

__all__ = ["INGESTS", "ROOTS", "Ingest", "IngestStatus", "SourceFile", "SourceRoot", "Sources"]

# So many of the newest passes a status tells of.
_MOST_INGESTS: Final = 20

_log = logging.getLogger("fsstate")


class SourceRoot(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A directory that is read from."""

    path: str = ""
    id: str = ""
    read_only: bool = True
    created_at: datetime | None = None


class SourceFile(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A file that was found below a root.

    - `relative_path`: from the root on; no two files of a root have the same.
    - `fingerprint`: tells a changed file, in a form of your own.
    - `status`: "indexed", or a text of your own, such as "skipped".
    - `source_root_id`: not in the document, but set in all that is handed out.
    """

    relative_path: str
    source_root_id: str = ""
    absolute_path: str = ""
    fingerprint: str = ""
    size_bytes: int = 0
    modified_at: datetime | None = None
    file_type: str = ""
    status: str = "indexed"
    last_error: str | None = None


class Ingest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One pass over a root, or over more than one. `scope` says to people over what."""

    id: str = ""
    source_root_id: str | None = None
    scope: str = ""
    status: str = "running"
    file_count: int = 0
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class IngestStatus(NamedTuple):
    """How things stand: whether a pass is under way in an open store, how many files there are, the newest passes."""

    is_running: bool
    total_files: int
    indexed_files: int
    ingests: list[Ingest]


# On disk: do not rename.
ROOTS: Final = RecordType("sources/roots", SourceRoot, key="path", indexed=("id",), order_by="path")
_FILES: Final = RecordType("files", SourceFile, key="relative_path", indexed=("status",), order_by="relative_path")
_ENDS: Final = ("complete", "failed", "cancelled", "*")
INGESTS: Final = RecordType(
    "sources/ingests",
    Ingest,
    indexed=("source_root_id", "scope"),
    order_by="-started_at",
    lifecycle=Lifecycle(
        steps={"running": _ENDS, **dict.fromkeys(_ENDS, ())},
        stamps={"running": "started_at", **dict.fromkeys(_ENDS, "completed_at")},
    ),
    recovery=Recovery("failed", ("running",), {"error": "ingest interrupted before completion"}),
)

Place: TypeAlias = str | os.PathLike[str]
# The class has a method called `list`.
Roots: TypeAlias = list[SourceRoot]
Files: TypeAlias = list[SourceFile]
Problems: TypeAlias = list[Problem]


class Sources:
    """The sources of a store."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._roots = OwningRecords(shared, ROOTS)

    def __repr__(self) -> str:
        return "Sources()"

    # Roots

    def add(self, path: Place, *, id: str | None = None, read_only: bool = True) -> SourceRoot:  # noqa: A002
        """Add a root and return it; one that is there already is returned as it is, whatever else is given.

        Raises AlreadyExistsError when another path has the id, InvalidValueError for an empty path.
        """
        root = SourceRoot(path=os.fspath(path), id=ids.new_id() if id is None else id, read_only=read_only)
        if not root.path:
            raise InvalidValueError("the path of a source must not be empty", at="$.path")
        return self._present(root) or (self._added(root) if id is None else self._added_with_id(root))

    def list(self) -> Roots:
        """Return all roots, by path. What cannot be read is logged as a warning and skipped."""
        return self._roots.list()

    def get(self, path: Place) -> SourceRoot | None:
        """Return the root at a path, or None."""
        return self._roots.get(os.fspath(path))

    def remove(self, path: Place) -> bool:
        """Remove a root with what is known of its files, as one; return whether there was one."""
        return self._roots.delete(os.fspath(path))

    # Files

    def replace_files(self, root_id: str, files: Iterable[SourceFile]) -> int:
        """Make these the files of a root, in the place of all that there were; return how many there are.

        Raises NotFoundError when no root has this id, AlreadyExistsError when two files have the same relative path,
        and InvalidValueError for a file of another root. Nothing is changed then.
        """
        root = self._roots.first(id=root_id)
        if root is None:
            raise NotFoundError(root_id, f"no source has the id {root_id!r}; add its path first")
        new = [_without_root(file, root_id) for file in files]
        return self._files_of(root).replace(sorted(new, key=_relative_path))

    def files(self, root_id: str | None = None, *, status: str | None = None) -> Files:
        """Return the files of one root or of all, or those with one status, by root id and relative path.

        Of all roots, files that cannot be read are logged as a warning and left out.
        """
        where = {} if status is None else {"status": status}
        found = self._each(root_id, lambda items: sorted(items.list(**where), key=_relative_path))
        return [_with_root(file, root.id) for root, files in found for file in files]

    def count_files(self, root_id: str | None = None, *, status: str | None = None) -> int:
        """Return the number of files that `files` would."""
        return len(self.files(root_id, status=status))

    # Passes

    @lazy_property
    def ingests(self) -> Records[Ingest]:
        """The passes, the newest first."""
        return Records(self._shared, INGESTS)

    def start_ingest(
        self,
        scope: str,
        source_root_id: str | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> Ingest:
        """Add a pass that is under way, and return it. Raises AlreadyExistsError for an id that is taken."""
        return self.ingests.create(id, scope=scope, source_root_id=source_root_id)

    def finish_ingest(
        self,
        id: str,  # noqa: A002
        status: str = "complete",
        *,
        file_count: int = 0,
        error: str | None = None,
    ) -> Ingest:
        """Say how a pass ended, in a word of your own if you like.

        Raises InvalidTransitionError when it has ended already, NotFoundError for an unknown id, and InvalidValueError
        for a negative count.
        """
        if file_count < 0:
            raise InvalidValueError(f"a count of files is 0 or more, got {file_count!r}", at="$.file_count")
        return self.ingests.change(id, status=status, file_count=file_count, error=error)

    def status(self) -> IngestStatus:
        """Return how things stand, with the newest 20 passes. One whose program died does not count as running."""
        is_running = any(flight.is_alive for flight in self.ingests.in_flight())
        files = self.files()
        indexed = sum(file.status == "indexed" for file in files)
        return IngestStatus(is_running, len(files), indexed, self.ingests.list(limit=_MOST_INGESTS))

    def problems(self) -> Problems:
        """Return what is wrong with the roots, files and passes that cannot be read. Reads them all."""
        found: Problems = [*self._roots.problems(), *self.ingests.problems()]
        for root in self.list():
            try:
                self._files_of(root).count()
            except PROBLEMS as error:
                found.append(error)
        return found

    # Inside

    def _present(self, root: SourceRoot) -> SourceRoot | None:
        """The root that is there, made to last: who added it may have been killed before it would."""
        try:
            return self._roots.update(root.path, lambda found: found)
        except NotFoundError:
            return None

    def _added(self, root: SourceRoot) -> SourceRoot:
        try:
            return self._roots.add(root)
        except AlreadyExistsError:
            # Somebody was first, and may have removed it again.
            return self._present(root) or self._added(root)

    def _added_with_id(self, root: SourceRoot) -> SourceRoot:
        # No record: the lock that keeps two apart who add different paths with one id.
        held = self._shared.backend.lock(Ref("sources", "ids", MARKDOWN))
        try:
            other = self._roots.first(id=root.id)
            if other is not None and other.path != root.path:
                raise AlreadyExistsError(f"{self._roots.path_of(other.path)}: {root.id!r}")
            return self._added(root)
        finally:
            held.release()

    def _files_of(self, root: SourceRoot) -> ItemSet[SourceFile]:
        folder = self._roots.folder_of(root.path)
        return ItemSet(self._shared, _FILES, folder, "files", owner=self._roots.owner_ref(root.path))

    def _each(
        self, root_id: str | None, ask: Callable[[ItemSet[SourceFile]], Files]
    ) -> Iterator[tuple[SourceRoot, Files]]:
        where: dict[str, Any] = {} if root_id is None else {"id": root_id}
        for root in self._roots.list(order_by="id", **where):
            try:
                yield root, ask(self._files_of(root))
            except PROBLEMS as error:
                if root_id is not None:
                    raise
                _log.warning("skipped: %s", str(error))


def _relative_path(file: SourceFile) -> str:
    return file.relative_path


def _with_root(file: SourceFile, root_id: str) -> SourceFile:
    return msgspec.structs.replace(file, source_root_id=root_id)


def _without_root(file: SourceFile, root_id: str) -> SourceFile:
    if file.source_root_id not in ("", root_id):
        raise InvalidValueError(f"{file.relative_path!r} is a file of the source {file.source_root_id!r}", at="$.items")
    return _with_root(file, "")
