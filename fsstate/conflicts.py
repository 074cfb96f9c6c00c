"""Conflicts: what could not be saved because somebody else had changed the document, until somebody decides.

Each is a conflict copy beside its document, see `fsstate.conflict_copies`; nothing else is kept of it. So `git` carries
conflicts along, a person may edit a copy before it is put in place, and removing the file resolves it as well.
"""

from __future__ import annotations

import logging
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from fsstate import belongings, codec, names
from fsstate.backends.base import JSON, MARKDOWN, Backend, Blob, Change, Ref
from fsstate.collection import Collection
from fsstate.documents import Documents
from fsstate.errors import AmbiguousIdError, InvalidNameError, MissingExtraError, NotFoundError, StorageError
from fsstate.frontmatter import Document
from fsstate.markdown import Markdown
from fsstate.trash import ref_of

__all__ = ["Conflict", "conflicts_in", "conflicts_of", "oldest_of", "resolve"]

_log = logging.getLogger("fsstate")


class Conflict(NamedTuple):
    """A version of a document that could not be saved.

    - `id`: names it: `agents/planner.conflict-2026-11-28T184512Z-1f3a.json`.
    - `record`: whose version it is: `agents/planner.json`, which may not exist any more.
    - `path`: where a person finds the version.
    - `at`: when it was kept, in UTC and to the second.
    """

    id: str
    record: str
    path: str
    at: datetime


def conflicts_in(backend: Backend, category: str = "") -> list[Conflict]:
    """All conflicts in a category and below, the oldest first; without one, all that there are.

    A folder that cannot be listed is logged as a warning and hides no other.
    """
    refused: list[StorageError] = []
    found = _sorted(backend, backend.copies(category, refused, below=True))
    for error in refused:
        _log.warning("no conflicts were looked for there: %s", str(error))
    return found


def conflicts_of(backend: Backend, record: str) -> list[Conflict]:
    """The conflicts of one document, the oldest first: `agents/planner`, also with its extension, or a conflict's id.

    Raises AmbiguousIdError where a JSON and a Markdown document of that name have some.
    """
    category = record.rpartition("/")[0]
    with suppress(InvalidNameError):
        names.check_category(category)
        refused: list[StorageError] = []
        found = _sorted(backend, backend.copies(category, refused, below=False))
        for error in refused:
            raise error
        return _meant(found, record)
    return []


def oldest_of(backend: Backend, record: str) -> Conflict:
    """The conflict of a document that is to be resolved first. Raises NotFoundError when it has none."""
    found = conflicts_of(backend, record)
    if not found:
        raise NotFoundError(record, f"there is no conflict of {record!r}; `fsstate conflicts` lists those there are")
    return found[0]


def resolve(backend: Backend, conflict: Conflict, take: object, parents: Container[str]) -> str | None:
    """End a conflict; return the document's revision then (None: it does not exist). See `Store.resolve`.

    `parents` are the categories whose documents others belong to.
    """
    copy, ref = ref_of(conflict.id), ref_of(conflict.record)
    if take != "theirs" and ref.category in parents:
        belongings.sweep(backend, ref)
    # Held until the copy is gone: who resolves the same conflict must not put an old version over a later one.
    held = backend.lock(ref)
    try:
        kept = backend.read(copy)
        if kept is None:
            raise NotFoundError(conflict.path, f"{conflict.path} does not exist: the conflict was resolved already")
        owner = _owner_of(ref.category, parents)
        if take == "theirs":
            blob = backend.read(ref)
        else:
            blob = backend.change(ref, _placing(backend, ref, kept, take, conflict.path), held=held, owner=owner)
        backend.change(copy, lambda _: None)
    finally:
        held.release()
    return None if blob is None else backend.contents.remember(blob)


def _placing(backend: Backend, ref: Ref, kept: Blob, take: object, path: str) -> Change:
    """The change that puts in place what was chosen. Raises CorruptRecordError for a copy that cannot be read."""
    if take == "mine":
        _check(ref, kept.data, path)
        return lambda _: kept.data
    return _documents_of(backend, ref).put_change(ref.name, take)[1]


def _documents_of(backend: Backend, ref: Ref) -> Documents[Any, Any]:
    return Markdown(backend, ref.category) if ref.suffix == MARKDOWN else Collection(backend, ref.category)


def _check(ref: Ref, data: bytes, path: str) -> None:
    """Raise CorruptRecordError for what is no document: people edit the copies."""
    if ref.suffix == JSON:
        codec.decode_bytes(data, path)
        return
    document = Document.parse(data, path)
    # Without the extra the front matter is text like the rest.
    with suppress(MissingExtraError):
        _ = document.front_matter


def _sorted(backend: Backend, copies: Iterable[Ref]) -> list[Conflict]:
    return sorted(_conflicts(backend, copies), key=lambda conflict: (conflict.at, conflict.id))


def _conflicts(backend: Backend, copies: Iterable[Ref]) -> Iterator[Conflict]:
    for copy in copies:
        found = names.copy_in(copy.name)
        if found is not None:
            record = Ref(copy.category, found.record, copy.suffix)
            yield Conflict(str(copy), str(record), backend.location(copy), found.at)


def _meant(found: Iterable[Conflict], text: str) -> list[Conflict]:
    exact = [conflict for conflict in found if text in (conflict.id, conflict.record)]
    meant = exact or [conflict for conflict in found if text == conflict.record.rpartition(".")[0]]
    if len({conflict.record for conflict in meant}) > 1:
        raise AmbiguousIdError(text, sorted({conflict.record for conflict in meant}), hint="give the extension as well")
    return meant


def _owner_of(category: str, parents: Container[str]) -> Ref | None:
    """The document that the records of a category belong to: what is written for it must not outlive it."""
    for parent in parents:
        if category.startswith(f"{parent}/"):
            return Ref(parent, category[len(parent) + 1 :].partition("/")[0], JSON)
    return None
