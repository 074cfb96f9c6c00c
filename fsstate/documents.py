"""What collections and Markdown share: a category of documents, one file each.

- Every write is durable when it returns, and whole: a reader sees the old document or the new one.
- A write looks at what the file holds under the record's lock. What somebody else changed meanwhile is kept, merged,
  or reported as ConflictError; it is never overwritten unseen, save by a plain `put`, which says "this, whatever is
  there".
- What cannot be merged is not lost either: the file stays as the other one left it, and mine is kept beside it, see
  `fsstate.conflict_copies`. Only a plain `put(expect=…)` keeps nothing: its caller has the value in hand.
- A save that changes nothing writes nothing.
- A value that was handed out is the caller's to change; nothing here keeps it.
- One document that cannot be read never hides the others: listings log and skip it, `problems()` names it.

All methods may be called from any thread.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

from fsstate import names
from fsstate.backends.base import Backend, Blob, Change, Held, Outcome, Ref, Suffix, Unknown
from fsstate.cursors import page_of, position_in
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
from fsstate.prunable import Prunable
from fsstate.queries import (
    MISSING,
    Missing,
    Page,
    Position,
    Question,
    answer,
    checked_page,
    criteria_of,
    orders_of,
    position_of,
)

if TYPE_CHECKING:
    from fsstate.retention import Candidate
    from fsstate.sweeper import Progress, Sweeper

__all__ = ["PROBLEMS", "Documents", "Editing", "Item", "Problem", "Record", "Where"]

T = TypeVar("T")
P = TypeVar("P")

# What may be wrong with one document. Not StorageError as such: a listing that takes EMFILE for "absent" would lie.
Problem: TypeAlias = CorruptRecordError | ValidationError | UnsafePathError | NewerVersionError | MigrationError
PROBLEMS: Final = (CorruptRecordError, ValidationError, UnsafePathError, NewerVersionError, MigrationError)

# What a query asks for: of fields, or of whole values. None asks for nothing.
Where: TypeAlias = Mapping[str, object] | Callable[[T], bool] | None

_log = logging.getLogger("fsstate")


class Record(NamedTuple, Generic[T]):
    """A document with its name and the revision that `put(expect=…)` and `delete(expect=…)` compare."""

    name: str
    value: T
    revision: str


class Item(NamedTuple, Generic[T]):
    """A document with its name."""

    name: str
    value: T


class Documents(Prunable, Generic[T, P]):
    """A category of documents that are read as `T` and may be given as `P`.

    `owner`, if set, is the document that they belong to: writes are refused with NotFoundError once it is gone.
    """

    def __init__(self, backend: Backend, category: str, suffix: Suffix, *, owner: Ref | None = None) -> None:
        self.category = names.check_category(category)
        self.owner = owner
        self._backend = backend
        self._suffix: Suffix = suffix

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.category!r})"

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

    def _field(self, value: T, name: str) -> Any:
        """A field of the value that queries ask for, or MISSING."""
        if isinstance(value, Mapping):
            return cast("Mapping[str, Any]", value).get(name, MISSING)
        return getattr(value, name, MISSING)

    @abstractmethod
    def _told(self, blob: Blob, ref: Ref) -> Mapping[str, Any]:
        """The fields that stand in a file, whatever a model sees of them. Raises CorruptRecordError."""

    def _check(self, name: str) -> None:
        """Raise what is wrong with one document."""
        self._value(name)

    # Reading: takes no lock, and gives a whole document

    def get(self, name: str) -> T | None:
        """Return the document, or None when there is none.

        Raises CorruptRecordError, or ValidationError when it does not fit the model; the file stays as it is.
        """
        return self._value(name)

    def require(self, name: str) -> T:
        """Return the document. Raises NotFoundError when there is none."""
        ref = self.ref_of(name)
        return self._decode(self._present(ref, self._backend.read(ref)), ref)

    def __getitem__(self, name: str) -> T:
        return self.require(name)

    def record(self, name: str) -> Record[T] | None:
        """Return the document with its revision, or None when there is none."""
        ref = self.ref_of(name)
        blob = self._backend.read(ref)
        return None if blob is None else Record(name, self._decode(blob, ref), self.handed_out(blob))

    def revision(self, name: str) -> str | None:
        """Return what `expect=` compares: the hash of the file's bytes, as `git hash-object` prints it."""
        blob = self._backend.read(self.ref_of(name))
        return None if blob is None else self.handed_out(blob)

    def peek(self, name: str) -> T | Unknown | None:
        """Return what `get` would, if that is known without waiting for a disk; else an `Unknown`."""
        ref = self.ref_of(name)
        blob = self._backend.peek(ref)
        return blob if blob is None or isinstance(blob, Unknown) else self._decode(blob, ref)

    def contains(self, name: str) -> bool:
        """Return whether there is such a document, readable or not."""
        return self._backend.read(self.ref_of(name)) is not None

    def __contains__(self, name: str) -> bool:
        return self.contains(name)

    def names(self) -> list[str]:
        """Return the names of all documents, sorted.

        Files whose names fsstate refuses are left out, with a warning, once in a process; `problems` names them.
        """
        return self._backend.names(self.category, self._suffix)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def count(self, where: Where[T] = None) -> int:
        """Return the number of documents, readable or not; or of those that fit `where`, as in `query`."""
        if where is None:
            return len(self.names())
        return len(self._answer(self._question(where, ()), where if callable(where) else None))

    def __len__(self) -> int:
        return self.count()

    def items(self) -> Iterator[Item[T]]:
        """Iterate over all documents by name. What cannot be read is logged as a warning and skipped."""
        for name in self.names():
            ref = self.ref_of(name)
            try:
                blob = self._backend.read(ref)
                if blob is not None:
                    yield Item(name, self._decode(blob, ref))
            except PROBLEMS as error:
                _log.warning("skipped: %s", str(error))

    def problems(self) -> list[Problem]:
        """Return what is wrong with the documents that cannot be read, by their names or else. Reads them all."""
        refused: list[CorruptRecordError] = []
        found: list[Problem] = []
        for name in self._backend.names(self.category, self._suffix, refused):
            try:
                self._check(name)
            except PROBLEMS as error:
                found.append(error)
        return found + refused

    def query(
        self,
        where: Where[T] = None,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Item[T]]:
        """Return the documents that fit `where`, ordered and cut to a page. Reads every document, without an index.

        `where` maps fields to the values that they must equal or to conditions (`OneOf`, `Range`, `Prefix`,
        `Contains`), or says of each value whether it fits. `order_by` is a field or several, each with a leading "-" to
        descend; documents without the field, or with None in it, come last, and what is equal stays in the order of
        names. A `limit` of None means all. Raises ValueError for a negative number.
        """
        checked_page(limit, offset)
        question = self._question(where, order_by)._replace(limit=limit, offset=offset)
        return self._answer(question, where if callable(where) else None)

    def page(
        self,
        where: Where[T] = None,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = 50,
        after: str | None = None,
    ) -> Page[Item[T]]:
        """Return a page of what `query` gives, and the cursor of the next page, to be given as `after`.

        What comes and goes between two pages makes no other document appear twice or not at all; one whose place in the
        order changes may. Raises InvalidCursorError for a cursor of another query.
        """
        checked_page(limit, 0)
        question = self._question(where, order_by)._replace(limit=limit)
        if after is not None:
            question = question._replace(after=position_in(after, question, self.category))
        more = question if limit is None else question._replace(limit=limit + 1)
        found = self._answer(more, where if callable(where) else None)
        return page_of(found, question, self.category, partial(self._position, question))

    def path_of(self, name: str) -> str:
        """Return where a person finds the document, whether it exists or not."""
        return self._where(self.ref_of(name))

    # Writing: durable when it returns

    def put(self, name: str, value: T | P, *, expect: str | None = None, merge: bool = False) -> str:
        """Save the document, whether it exists or not, and return its new revision.

        With `expect`, a revision, it is saved only if the file still is that one; else ConflictError carries what the
        file holds now. With `merge`, too, both changes since that revision are kept if they do not meet; otherwise, or
        when nobody knows any more what it held, ConflictError says where the value is kept. Known are the contents
        whose revisions this store gave out last: a thousand, 8 MiB in all.

        Raises InvalidValueError for what cannot be stored, and CorruptRecordError when the file cannot be read:
        `delete` it first if nothing in it is worth saving. Raises ValueError for `merge` without `expect`.
        """
        ref = self.ref_of(name)
        return self.handed_out(self._write(ref, self._put(ref, value, expect, merge=merge)))

    def create(self, name: str, value: T | P) -> str:
        """Save a new document and return its revision. Raises AlreadyExistsError when there is one."""
        return self.handed_out(self._write(*self._create(name, value)))

    def update(
        self,
        name: str,
        fn: Callable[[T], T | None],
        *,
        default: T | P | Missing = MISSING,
        timeout: float | None = None,
    ) -> T:
        """Read, change and save the document under its lock; return it as saved.

        `fn` gets the value, or a copy of `default` when there is no document, and returns the new one, or None after
        changing it in place. It runs again when somebody without the lock changed the file meanwhile. What it raises
        leaves the file as it is. Raises NotFoundError when there is neither document nor default, and LockTimeoutError
        when the lock was not free within `timeout` seconds (None: the store's default).
        """
        ref, change = self.update_change(name, fn, default=default)
        return self._decode(self._write(ref, change, timeout), ref)

    @contextmanager
    def edit(self, name: str, *, default: T | P | Missing = MISSING, timeout: float | None = None) -> Generator[T]:
        """Give the value to a `with` block that changes it in place, under the record's lock, and save it at the end.

        When somebody without the lock changed the file meanwhile, both changes are kept if they do not meet;
        otherwise ConflictError carries all versions, and mine is kept beside the file: `kept_at` says where. An
        exception in the block writes nothing. Raises as `update` does.
        """
        editing = self.open_edit(name, default=default, timeout=timeout)
        editing.bind_to_thread()
        try:
            yield editing.value
        except BaseException:
            editing.abandon()
            raise
        editing.commit()

    def delete(self, name: str, *, expect: str | None = None) -> bool:
        """Delete the document; return whether there was one. `expect` is as in `put`.

        Conflict copies beside it stay: they are somebody's work, and can be put in its place.
        """
        ref = self.ref_of(name)
        deletion = self._deletion(ref, expect)
        self._backend.change(ref, deletion, owner=self.owner)
        return deletion.existed

    def put_many(self, values: Mapping[str, T | P]) -> dict[str, str]:
        """Save many documents, sharing the flushes; return their revisions.

        All are checked before the first is written. Each is then as durable as with `put`, but they are no unit: when
        one fails its error is raised, with a note of how many others were saved.
        """
        refs = [self.ref_of(name) for name in values]
        changes = [(ref, self._put(ref, value, None)) for ref, value in zip(refs, values.values(), strict=True)]
        blobs = _all_or_raise(self.change_each(changes))
        return {name: self.handed_out(blob) for name, blob in zip(values, blobs, strict=True) if blob is not None}

    def delete_many(self, names: Iterable[str]) -> int:
        """Delete many documents, sharing the flushes; return how many there were. Fails as `put_many` does."""
        refs = [self.ref_of(name) for name in names]
        deletions = [self._deletion(ref, None) for ref in refs]
        _all_or_raise(self.change_each(list(zip(refs, deletions, strict=True))))
        return sum(deletion.existed for deletion in deletions)

    # The same in steps, for those who bring their own way of waiting

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

    def _question(self, where: Where[T], order_by: str | Sequence[str]) -> Question:
        if not (where is None or callable(where) or isinstance(cast("object", where), Mapping)):
            raise TypeError(f"where must map fields to what is asked of them, or be a function; got {where!r}")
        criteria = () if where is None or callable(where) else criteria_of(self._plain(where))
        return Question(criteria, orders_of(order_by))

    def _plain(self, where: Mapping[str, object]) -> Mapping[str, object]:
        """What is asked for, as it stands in documents."""
        return where

    def _answer(self, question: Question, fits: Callable[[T], bool] | None) -> list[Item[T]]:
        """The documents that a question asks for, of those that `fits` accepts."""
        items = self.items() if fits is None else (item for item in self.items() if fits(item.value))
        return answer(items, question, self._field_of, _name_of)

    def _field_of(self, item: Item[T], name: str) -> Any:
        return self._field(item.value, name)

    def _position(self, question: Question, item: Item[T]) -> Position:
        return position_of(item, question.order, self._field_of, _name_of)

    def _sweeper(self) -> Sweeper:
        # What only reads and writes documents does not need it.
        from fsstate.sweeper import Source, Sweeper

        source = Source(self._candidates, self._look, self.ref_of, alone=True, owner=self.owner)
        return Sweeper(self._backend, self._backend.options.clock, source)

    def _candidates(self, per: str | None, progress: Progress | None) -> Iterable[Candidate]:
        from fsstate.sweeper import look_at_all

        return look_at_all(self.names(), lambda name: self._look(name, per), progress)

    def _look(self, name: str, per: str | None) -> Candidate | None:
        from fsstate.retention import Candidate
        from fsstate.sweeper import exemption_of, group_of, time_of

        ref = self.ref_of(name)
        # Before it is read: what comes in between gives it another mark.
        footprint = self._backend.footprint(ref, None)
        blob = self._backend.read(ref)
        if footprint is None or blob is None:
            return None
        told = self._told(blob, ref)
        active = time_of(told)
        group = None if per is None else group_of(told.get(per))
        return Candidate(name, active, footprint.size, group, exemption_of(told, active), footprint.mark)

    def _where(self, ref: Ref) -> str:
        return self._backend.location(ref)

    def _value(self, name: str) -> T | None:
        ref = self.ref_of(name)
        blob = self._backend.read(ref)
        return None if blob is None else self._decode(blob, ref)

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


def _name_of(item: Item[Any]) -> str:
    return item.name


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


def _all_or_raise(outcomes: Sequence[Outcome]) -> list[Blob | None]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(outcomes)} documents failed; the others were written")
        raise errors[0]
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
