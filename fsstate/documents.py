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
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from fsstate.backends.base import Blob, Outcome, Ref, Unknown
from fsstate.cursors import page_of, position_in
from fsstate.document_changes import PROBLEMS, DocumentChanges, Problem
from fsstate.errors import CorruptRecordError
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

__all__ = ["Documents", "Item", "Record", "Where"]

T = TypeVar("T")
P = TypeVar("P")

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


class Documents(DocumentChanges[T, P], Prunable):
    """A category of documents that are read as `T` and may be given as `P`.

    `owner`, if set, is the document that they belong to: writes are refused with NotFoundError once it is gone.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.category!r})"

    # What a kind of document defines, besides how it changes

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

    def _value(self, name: str) -> T | None:
        ref = self.ref_of(name)
        blob = self._backend.read(ref)
        return None if blob is None else self._decode(blob, ref)


def _name_of(item: Item[Any]) -> str:
    return item.name


def _all_or_raise(outcomes: Sequence[Outcome]) -> list[Blob | None]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(outcomes)} documents failed; the others were written")
        raise errors[0]
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
