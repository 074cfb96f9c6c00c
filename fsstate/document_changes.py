"""How documents change: what is written over what a file holds, and what becomes of changes that meet.

A change is a function of what the file holds at the moment, so that it can be computed again when somebody without the
lock was quicker. Which value a file holds and how two changes of it are merged, the kind of document says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, Generic, TypeAlias, TypeVar

from fsstate import names
from fsstate.backends.base import Backend, Blob, Change, Held, Outcome, Ref, Suffix
from fsstate.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptRecordError,
    FsStateError,
    MigrationError,
    NewerVersionError,
    NotFoundError,
    UnsafePathError,
    ValidationError,
)
from fsstate.queries import MISSING, Missing

__all__ = ["PROBLEMS", "DocumentChanges", "Editing", "Problem"]

T = TypeVar("T")
P = TypeVar("P")

# What may be wrong with one document. Not StorageError as such: a listing that takes EMFILE for "absent" would lie.
Problem: TypeAlias = CorruptRecordError | ValidationError | UnsafePathError | NewerVersionError | MigrationError
PROBLEMS: Final = (CorruptRecordError, ValidationError, UnsafePathError, NewerVersionError, MigrationError)


class DocumentChanges(ABC, Generic[T, P]):
    """The changes of a category of documents that are read as `T` and may be given as `P`.

    `owner`, if set, is the document that they belong to: writes are refused with NotFoundError once it is gone.
    """

    def __init__(self, backend: Backend, category: str, suffix: Suffix, *, owner: Ref | None = None) -> None:
        self.category = names.check_category(category)
        self.owner = owner
        self._backend = backend
        self._suffix: Suffix = suffix

    # What a kind of document defines

    @abstractmethod
    def _decode(self, blob: Blob, ref: Ref) -> T:
        """The value in a file. Each call gives a new one."""

    @abstractmethod
    def _encode(self, value: T | P, blob: Blob | None, ref: Ref) -> bytes:
        """The file that holds `value`, keeping of `blob` what the value says nothing about (None: a new file)."""

    def _refit(self, value: T | P, data: bytes, blob: Blob, ref: Ref) -> bytes:
        """`_encode` over a file that holds something else than `data`, which is the value encoded by itself."""
        return self._encode(value, blob, ref)

    @abstractmethod
    def _merge(self, base: Blob | None, mine: T, theirs: Blob | None, ref: Ref) -> bytes | None:
        """The file with both changes since `base` (None: no file). Raises ConflictError where they meet."""

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        """The last word on what is written over `blob` (None: a new file): what follows from the change itself."""
        return data

    # Changes, for those who bring their own way of waiting

    def ref_of(self, name: str) -> Ref:
        """Return the document's address. Raises InvalidNameError."""
        return Ref(self.category, names.check_name(name), self._suffix)

    def put_change(
        self, name: str, value: T | P, *, expect: str | None = None, merge: bool = False
    ) -> tuple[Ref, Change]:
        """Return `put` as a change to hand to the backend. The value is copied: the caller may go on changing it.

        `owner` is not part of it: hand that over as well.
        """
        ref = self.ref_of(name)
        return ref, self._put(ref, self._copy(value, ref), expect, merge=merge)

    def create_change(self, name: str, value: T | P) -> tuple[Ref, Change]:
        """Return `create` as a change, like `put_change`."""
        return self._create(name, self._copy(value, self.ref_of(name)))

    def update_change(
        self, name: str, fn: Callable[[T], T | None], *, default: T | P | Missing = MISSING
    ) -> tuple[Ref, Change]:
        """Return `update` as a change."""
        ref = self.ref_of(name)
        start = self._default(default, ref)

        def change(blob: Blob | None) -> bytes:
            value = self._decode(self._present(ref, blob or start), ref)
            result = fn(value)
            return self._save(value if result is None else result, blob, ref)

        return ref, change

    def handed_out(self, blob: Blob) -> str:
        """Return the revision of a content. It is remembered: a `put` that merges may begin with it."""
        return self._backend.contents.remember(blob)

    def change_each(self, changes: Sequence[tuple[Ref, Change]], *, timeout: float | None = None) -> list[Outcome]:
        """Make many changes, sharing the flushes; tell what became of each. One that fails does not stop the others."""
        if self.owner is None:
            return self._backend.change_many(changes, timeout=timeout)
        return [self._outcome(ref, change, timeout) for ref, change in changes]

    def open_edit(self, name: str, *, default: T | P | Missing = MISSING, timeout: float | None = None) -> Editing[T]:
        """Take the record's lock and read the document: `edit` in steps.

        The caller must `commit` or `abandon` what is returned, in any thread. `timeout` is how many seconds to wait
        for the lock (None: the store's default).
        """
        ref = self.ref_of(name)
        start = self._default(default, ref)
        held = self._backend.lock(ref, timeout=timeout)
        try:
            base = self._backend.read(ref)
            value = self._decode(self._present(ref, base or start), ref)
        except BaseException:
            held.release()
            raise
        return Editing(value, held, lambda mine, keep: self._commit(held, base, mine, keep=keep))

    # Inside

    def _where(self, ref: Ref) -> str:
        return self._backend.location(ref)

    def _present(self, ref: Ref, blob: Blob | None) -> Blob:
        if blob is None:
            raise NotFoundError(self._where(ref))
        return blob

    def _copy(self, value: T | P, ref: Ref) -> T:
        return self._decode(Blob(self._encode(value, None, ref)), ref)

    def _default(self, default: T | P | Missing, ref: Ref) -> Blob | None:
        # As bytes, so that every run of a change starts from an untouched value.
        return None if isinstance(default, Missing) else Blob(self._encode(default, None, ref))

    def _save(self, value: T | P, blob: Blob | None, ref: Ref) -> bytes:
        # Encoded by itself first: what cannot be stored must be refused before anything walks through it.
        return self._laid(value, self._encode(value, None, ref), blob, ref)

    def _laid(self, value: T | P, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        """What is written for a value over `blob`. `data` is the value encoded by itself."""
        return self._settled(self._fitted(value, data, blob, ref), blob, ref)

    def _fitted(self, value: T | P, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        return data if blob is None or blob.data == data else self._refit(value, data, blob, ref)

    def _put(self, ref: Ref, value: T | P, expect: str | None, *, merge: bool = False) -> Change:
        if merge and expect is None:
            raise ValueError("merge=True needs expect=…, the revision that the value was made from")
        data = self._encode(value, None, ref)

        def change(blob: Blob | None) -> bytes:
            if merge and expect is not None and (blob is None or blob.revision != expect):
                return self._merge_put(ref, value, data, expect, blob)
            self._expect(ref, blob, expect, value)
            return self._laid(value, data, blob, ref)

        return change

    def _merge_put(self, ref: Ref, value: T | P, data: bytes, expect: str, theirs: Blob | None) -> bytes:
        base = self._backend.contents.find(expect)
        with self._keeping(ref, lambda: self._mine(value, data, theirs if base is None else base, ref)):
            if theirs is not None and self._fitted(value, data, theirs, ref) == theirs.data:
                return theirs.data
            if base is None or theirs is None:
                reason = f"and what it held as {expect} is not known any more" if base is None else "who deleted it"
                raise self._met(ref, theirs, value, base=base, reason=reason)
            mine = self._decode(Blob(self._fitted(value, data, base, ref)), ref)
            merged = self._merge(base, mine, theirs, ref)
            return theirs.data if merged is None else self._settled(merged, theirs, ref)

    def _create(self, name: str, value: T | P) -> tuple[Ref, Change]:
        ref = self.ref_of(name)
        data = self._encode(value, None, ref)

        def change(blob: Blob | None) -> bytes:
            if blob is not None:
                raise AlreadyExistsError(self._where(ref))
            return self._settled(data, None, ref)

        return ref, change

    def _mine(self, value: T | P, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        """What would have been written for a value over `blob`, or by itself where that cannot be read."""
        try:
            return self._laid(value, data, blob, ref)
        except PROBLEMS:
            return data

    def _expect(self, ref: Ref, blob: Blob | None, expect: str | None, mine: object) -> None:
        if expect is not None and (blob is None or blob.revision != expect):
            raise self._met(ref, blob, mine)

    def _met(
        self, ref: Ref, theirs: Blob | None, mine: object, *, base: Blob | None = None, reason: str = ""
    ) -> ConflictError:
        """The conflict between a value and what the file holds."""
        return ConflictError(
            self._where(ref),
            base=None if base is None else self._decode(base, ref),
            mine=mine,
            theirs=None if theirs is None else self._decode(theirs, ref),
            revision=None if theirs is None else self.handed_out(theirs),
            reason=reason,
        )

    @contextmanager
    def _keeping(self, ref: Ref, mine: Callable[[], bytes]) -> Generator[None]:
        """Keep `mine` beside the file when it cannot be merged in this block, for whatever reason."""
        try:
            yield
        except FsStateError as error:
            # What is never needed, as a rule, is not loaded before.
            from fsstate.conflict_copies import keep_mine

            keep_mine(self._backend, ref, error, mine)
            raise

    def _write(self, ref: Ref, change: Change, timeout: float | None = None) -> Blob:
        return self._present(ref, self._backend.change(ref, change, owner=self.owner, timeout=timeout))

    def _commit(self, held: Held, base: Blob | None, mine: T, *, keep: bool) -> str | None:
        ref = held.ref

        def change(blob: Blob | None) -> bytes | None:
            if _same(blob, base):
                return self._save(mine, blob, ref)
            with self._keeping(ref, lambda: self._save(mine, base, ref)) if keep else nullcontext():
                if blob is not None:
                    # Whoever is told of a conflict may repeat with its revision.
                    self.handed_out(blob)
                merged = self._merge(base, mine, blob, ref)
                return None if merged is None else self._settled(merged, blob, ref)

        blob = self._backend.change(ref, change, held=held, owner=self.owner)
        return None if blob is None else self.handed_out(blob)

    def _outcome(self, ref: Ref, change: Change, timeout: float | None) -> Outcome:
        try:
            return self._backend.change(ref, change, owner=self.owner, timeout=timeout)
        except FsStateError as error:
            return error

    def _deletion(self, ref: Ref, expect: str | None) -> _Deletion:
        return _Deletion(lambda blob: self._expect(ref, blob, expect, None))


class Editing(Generic[T]):
    """An edit under way: the record's lock is held until `commit` or `abandon`. Not for several threads at a time.

    `value` is what to change in place, or to replace.
    """

    def __init__(self, value: T, held: Held, commit: Callable[[T, bool], str | None]) -> None:
        self.value = value
        self._held = held
        self._commit = commit

    def bind_to_thread(self) -> None:
        """Make this thread's own attempts to write the document fail at once, instead of waiting for itself."""
        self._held.bind_to_thread()

    def commit(self, *, keep: bool = True) -> str | None:
        """Save the value and return the document's revision (None: somebody deleted it, and nothing was changed here).

        The lock is given back in any case. Raises ConflictError as `Documents.edit` says; without `keep`, nothing is
        kept beside the file then.
        """
        try:
            return self._commit(self.value, keep)
        finally:
            self._held.release()

    def abandon(self) -> None:
        """Give back the lock without saving. After `commit` it does nothing."""
        self._held.release()


class _Deletion:
    """A change that deletes, and remembers whether there was something."""

    def __init__(self, check: Callable[[Blob | None], None]) -> None:
        self.existed = False
        self._check = check

    def __call__(self, blob: Blob | None) -> None:
        self._check(blob)
        self.existed = blob is not None


def _same(one: Blob | None, other: Blob | None) -> bool:
    return one is other or (one is not None and other is not None and one.data == other.data)
