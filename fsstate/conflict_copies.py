"""Conflict copies: what could not be saved, kept beside the document that somebody else changed meanwhile.

    agents/
    ├── planner.json                                     as the other one left it
    └── planner.conflict-2026-11-28T184512Z-1f3a.json    mine, as the document would be

A copy is durable when it is told of, is no record, and stays until somebody resolves the conflict: also when the
document is deleted. Nothing is ever written over one, and what is kept already is not kept again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from fsstate import names
from fsstate.backends.base import Backend, Blob, Ref, as_it_is
from fsstate.errors import AlreadyExistsError, ConflictError, FsStateError

__all__ = ["copies_of", "keep_mine"]


def keep_mine(backend: Backend, ref: Ref, error: FsStateError, data: Callable[[], bytes]) -> None:
    """Keep beside a document what could not be saved because of `error`, and say in the error where.

    It says, too, if that could not be kept; the error itself is raised by the caller in any case.
    """
    try:
        path = backend.location(_keep(backend, ref, data()))
    except FsStateError as problem:
        error.add_note(f"mine could not be kept beside it: {problem}")
        return
    if isinstance(error, ConflictError):
        error.tell_kept(path, str(ref))
    else:
        error.add_note(f"mine is kept in {path}: `fsstate conflicts` lists it")


def copies_of(backend: Backend, ref: Ref) -> Iterator[Ref]:
    """The conflict copies of a document, there or not, in no order."""
    for copy in backend.copies(ref.category, [], below=False):
        found = names.copy_in(copy.name)
        if found is not None and found.record == ref.name and copy.suffix == ref.suffix:
            yield copy


def _keep(backend: Backend, ref: Ref, data: bytes) -> Ref:
    for copy in copies_of(backend, ref):
        if as_it_is(backend.read(copy)) == data == as_it_is(backend.change(copy, as_it_is)):
            return copy

    def write(blob: Blob | None) -> bytes:
        if blob is not None:
            raise AlreadyExistsError(ref.name)
        return data

    at = backend.options.clock()
    while True:
        copy = Ref(ref.category, names.name_of_copy(ref.name, at), ref.suffix)
        # Of one second, and with the same digits behind it: the next try has others.
        with suppress(AlreadyExistsError):
            backend.change(copy, write)
            return copy
