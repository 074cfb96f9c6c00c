"""Records of one type: a file each, seen through a model, changed by rules.

- A write is durable when it returns, is decided on what the file holds under the record's lock, and follows the rules
  of the type: steps, times, holders. What the model does not know survives.
- A grouped type has a folder for each group; lists of one group, and the limit on its size, look at no other. An id is
  taken once in its group; where several groups have one, say which by `within`.
- A record in flight is held by the open store that put it there, until it leaves that status or the store is closed.
  `recover` settles those whose holder is gone, and only those, however many programs do so at once.
- One record that cannot be read hides no other: lists log and skip it, `problems` names it.

All methods may be called from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from fsstate import ids
from fsstate.backends.base import JSON, Blob, Change, Ref
from fsstate.cursors import page_of, position_in
from fsstate.document_changes import PROBLEMS, Editing, Problem
from fsstate.errors import FsStateError, LockTimeoutError, NotFoundError
from fsstate.index import fetch
from fsstate.keys import NULL, key_of, text_in
from fsstate.migrator import MigrationReport, Progress, migrate
from fsstate.prunable import Prunable
from fsstate.queries import (
    MISSING,
    Missing,
    Order,
    Page,
    Position,
    Question,
    answer,
    checked_page,
    criteria_of,
    orders_of,
    position_of,
)
from fsstate.record_documents import Fields, RecordDocuments
from fsstate.record_places import Places
from fsstate.record_types import RecordType
from fsstate.record_view import RecordView, fields_of
from fsstate.recovery import InFlight, RecoveryReport, look, recover
from fsstate.retention import Age, Candidate, Newest
from fsstate.shared import Shared
from fsstate.sweeper import Source, Sweeper, exemption_of, group_of, look_at_all
from fsstate.trash import ref_of

__all__ = ["Records"]

T = TypeVar("T")

# Records has a method called `list`.
Listing: TypeAlias = list[T]
Names: TypeAlias = list[str]
Flights: TypeAlias = list[InFlight]
Problems: TypeAlias = list[Problem]

_log = logging.getLogger("fsstate")


class _Found(NamedTuple, Generic[T]):
    """A record, and the path of its file without the suffix."""

    place: str
    value: T


class Records(Prunable, Generic[T]):
    """The records of one type: all, or those that belong to `owner`."""

    # Whether the folder named after a record goes with it. Else it is a group's, or a category of somebody's own.
    _has_belongings = False

    def __init__(self, shared: Shared, kind: RecordType[T], owner: Ref | None = None) -> None:
        self.kind = kind
        self._shared = shared
        self._owner = owner
        self._places = Places(shared, kind, owner)
        self._root = self._places.of(None)
        self._newest = None if kind.keep is None else shared.newest.setdefault(kind, Newest(kind.keep))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind.category!r})"

    # One record

    def create(self, id: str | None = None, /, **fields: Any) -> T:  # noqa: A002 - what the attribute is called
        """Create a record and return it as it was stored. Without an `id` it gets a new UUIDv7.

        Raises AlreadyExistsError for an id that is taken, TypeError for a field that the model does not have,
        ValidationError for a value that does not fit, NotFoundError when the document that it belongs to is gone.
        """
        if self.kind.key in fields:
            raise TypeError(
                f"the {self.kind.key} of a record is given by its place: create({fields[self.kind.key]!r}, …)"
            )
        given = {**self._begun(), self.kind.key: ids.new_id() if id is None else id, **fields}
        return self.add(self.kind.view.made(given))

    def add(self, value: T) -> T:
        """Create a record from a whole value, which must have its key. As `create`."""
        documents, name = self._home_of(value)
        return self._save_new(documents, *documents.creation(name, value))

    def put(self, value: T) -> T:
        """Save a record, whether it exists or not, and return it as it was stored.

        Raises InvalidTransitionError when the lifecycle allows no step from the status that it has.
        """
        documents, name = self._home_of(value)
        save = documents.save if documents.contains(name) else partial(self._save_new, documents)
        return save(*documents.saving(name, value))

    def get(self, id: str, *, within: str | Missing | None = MISSING) -> T | None:  # noqa: A002
        """Return a record, or None. Raises CorruptRecordError or ValidationError for a file that cannot be read."""
        documents = self._places.holding(id, within)
        return None if documents is None else documents.get(documents.name_of(id))

    def require(self, id: str, *, within: str | Missing | None = MISSING) -> T:  # noqa: A002
        """Return a record. Raises NotFoundError when there is none."""
        documents = self._holding(id, within)
        return documents.require(documents.name_of(id))

    def __getitem__(self, id: str) -> T:  # noqa: A002
        return self.require(id)

    def contains(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Return whether there is such a record, readable or not."""
        documents = self._places.holding(id, within)
        return documents is not None and documents.contains(documents.name_of(id))

    def __contains__(self, id: str) -> bool:  # noqa: A002
        return self.contains(id)

    def change(self, id: str, /, *, within: str | Missing | None = MISSING, **fields: Any) -> T:  # noqa: A002
        """Lay fields over a record and return it as it is then. A `status` among them is a step.

        Raises NotFoundError, and InvalidTransitionError for a step that the lifecycle forbids: to stay where it is
        is no step either, so nothing is finished twice.
        """
        documents = self._holding(id, within)
        return documents.update(
            documents.name_of(id), lambda value: documents.stepped(value, f"{self.kind.category}/{id}", fields)
        )

    def update(
        self,
        id: str,  # noqa: A002
        fn: Callable[[T], T | None],
        *,
        within: str | Missing | None = MISSING,
        timeout: float | None = None,
    ) -> T:
        """Read, change and save a record under its lock; return it as saved. As `Collection.update`."""
        documents = self._holding(id, within)
        return documents.update(documents.name_of(id), fn, timeout=timeout)

    @contextmanager
    def edit(
        self,
        id: str,  # noqa: A002
        *,
        within: str | Missing | None = MISSING,
        timeout: float | None = None,
    ) -> Generator[T]:
        """Give a record to a `with` block that changes it in place, under its lock, and save it at the end."""
        documents = self._holding(id, within)
        with documents.edit(documents.name_of(id), timeout=timeout) as value:
            yield value

    def delete(self, id: str, *, within: str | Missing | None = MISSING) -> bool:  # noqa: A002
        """Delete a record; return whether there was one."""
        documents = self._places.holding(id, within)
        # Where there is none in any group, who deleted it may have been killed before that would last.
        folders = self._places.all() if documents is None else [documents]
        return sum(folder.delete(folder.name_of(id)) for folder in folders) > 0

    def path_of(self, id: str, *, within: str | Missing | None = MISSING) -> str:  # noqa: A002
        """Return where a person finds a record, or where it would be."""
        documents = self._places.holding(id, within)
        # Not by its truth: a folder is as true as it is full.
        documents = self._root if documents is None else documents
        return documents.path_of(documents.name_of(id))

    # Many records

    def list(
        self, *, order_by: str | None = None, limit: int | None = None, offset: int = 0, **where: Any
    ) -> Listing[T]:
        """Return the records that have what `where` says, in the type's usual order or another.

        `where` maps declared fields to the values that they must equal, or to conditions (`OneOf`, `Range`, `Prefix`).
        `order_by` is any field, with a leading "-" to descend; equal ones are ordered by key in the same direction. A
        `limit` of None means all. Raises ValueError for a field that is not declared, and for a negative number.
        """
        checked_page(limit, offset)
        question = self._question(where, order_by)._replace(limit=limit, offset=offset)
        return [item.value for item in self._answer(question)]

    def page(
        self, *, order_by: str | None = None, limit: int | None = 50, after: str | None = None, **where: Any
    ) -> Page[T]:
        """Return a page of what `list` gives, and the cursor of the next page, to be given as `after`.

        What comes and goes between two pages makes no other record appear twice or not at all; one whose place in the
        order changes may. Raises InvalidCursorError for a cursor of another query.
        """
        checked_page(limit, 0)
        question = self._question(where, order_by)._replace(limit=limit)
        if after is not None:
            question = question._replace(after=position_in(after, question, self._root.category))
        found = self._answer(question if limit is None else question._replace(limit=limit + 1))
        page = page_of(found, question, self._root.category, lambda item: self._position(question, item))
        return Page([item.value for item in page.items], page.cursor)

    def first(self, *, order_by: str | None = None, **where: Any) -> T | None:
        """Return the first record that `list` would, or None."""
        found = self.list(order_by=order_by, limit=1, **where)
        return found[0] if found else None

    def count(self, **where: Any) -> int:
        """Return the number of records, readable or not; or of those that have what `where` says, as in `list`."""
        if not where:
            return sum(documents.count() for documents in self._places.all())
        question = self._question(where, self.kind.key)
        view = self._view_for(question)
        return len(self._answer(question)) if view is None else self._shared.indexes.count(view, question)

    def __len__(self) -> int:
        return self.count()

    def ids(self) -> Names:
        """Return the ids of all records, sorted."""
        return sorted(documents.key_of(name) for documents, name in self._everything())

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    def problems(self) -> Problems:
        """Return what is wrong with the records that cannot be read. Reads them all."""
        return [problem for documents in self._places.all() for problem in documents.problems()]

    def in_flight(self) -> Flights:
        """Return the records that somebody works on, or did, and whether they live. Writes nothing."""
        return look(self._places.all(), self._shared.ownership)

    def recover(self) -> RecoveryReport:
        """Settle the records in flight whose holders are gone, by the type's rule; tell which."""
        return recover(self._places.all(), self._shared.ownership)

    def migrate(self, *, dry_run: bool = False, progress: Progress | None = None) -> MigrationReport:
        """Write all records of older versions in the present one; tell which.

        Raises NewerVersionError, before anything is written, when there is a record of a newer version.
        """
        return migrate(self._places.all(), dry_run=dry_run, progress=progress)

    # The same in steps, for those who bring their own way of waiting

    def open_edit(
        self,
        id: str,  # noqa: A002
        *,
        within: str | Missing | None = MISSING,
        timeout: float | None = None,
    ) -> Editing[T]:
        """Take the record's lock and read it: `edit` in steps. See `Collection.open_edit`."""
        documents = self._holding(id, within)
        return documents.open_edit(documents.name_of(id), timeout=timeout)

    def ref_of(self, id: str, *, within: str | Missing | None = MISSING) -> Ref:  # noqa: A002
        """Return the record whose lock `edit` and `update` hold."""
        documents = self._holding(id, within)
        return documents.ref_of(documents.name_of(id))

    # Inside

    def _begun(self) -> Fields:
        """What the rules give a new record, where the model cannot do without it."""
        view, lifecycle = self.kind.view, self.kind.lifecycle
        needed = view.keys - view.defaults().keys()
        begun: Fields = {
            name: self._shared.clock() for name in ("created_at", "updated_at") if name in needed & view.times
        }
        return begun if lifecycle is None or "status" not in needed else {**begun, "status": lifecycle.initial}

    def _home_of(self, value: T) -> tuple[RecordDocuments[T], str]:
        documents = self._places.home_of(value)
        key = documents.field(value, self.kind.key)
        if not isinstance(key, str) or not key:
            raise ValueError(f"a record of {self.kind.category!r} needs a text as its {self.kind.key}, got {key!r}")
        self._places.forget(key, unless=documents)
        return documents, documents.name_of(key)

    def _holding(self, id: str, within: str | Missing | None) -> RecordDocuments[T]:  # noqa: A002
        documents = self._places.holding(id, within)
        if documents is None:
            raise NotFoundError(f"{self.kind.category}/{id}", f"there is no record {id!r} in {self.kind.category}")
        return documents

    def _save_new(self, documents: RecordDocuments[T], ref: Ref, change: Change) -> T:
        """Add a record, and remove in the same breath what its group then has too many."""
        newest = self._newest
        if newest is None:
            return documents.save(ref, change)
        folder = documents.category
        looks_first = not newest.had_room(folder)
        surplus = self._surplus(documents, newest, coming=ref.name) if looks_first else []
        value, is_alone = self._save_with(documents, ref, change, surplus)
        newest.note(folder, self._age_of(documents, value, ref.name))
        if not (looks_first and is_alone) or newest.has_company(folder):
            # Others may have added some at the same time. Who looks now sees the new ones among all: what one removes
            # another would have removed as well.
            self._remove_surplus(documents, newest)
        return value

    def _remove_surplus(self, documents: RecordDocuments[T], newest: Newest) -> None:
        """Remove what is too much. Where that fails, the new record is there nevertheless; the next one tries again."""
        try:
            documents.change_each(documents.removals(self._surplus(documents, newest)))
        except FsStateError as error:
            _log.warning("%s: more stay than %d: %s", documents.category, self.kind.keep, str(error))

    def _save_with(
        self, documents: RecordDocuments[T], ref: Ref, change: Change, surplus: Listing[Age]
    ) -> tuple[T, bool]:
        """Save a record and remove the surplus; tell whether nobody else did that at the same time.

        Of several who see the same surplus one removes it. The others find it gone, or locked, once that one's own
        record is there.
        """
        # What is refused, or fails on the disk, must cost no other its place.
        removals = documents.removals(surplus, lambda: documents.contains(ref.name))
        if not removals or documents.owner is not None:
            value = documents.save(ref, change)
            outcomes = documents.change_each(removals)
        else:
            outcome, *outcomes = self._shared.backend.change_many([(ref, change), *removals], timeout=0)
            if isinstance(outcome, Exception) and not isinstance(outcome, LockTimeoutError):
                raise outcome
            saved = outcome if isinstance(outcome, Blob) else None
            value = documents.save(ref, change) if saved is None else documents.value_of(saved, ref.name)
        is_alone = not any(isinstance(outcome, Exception) for outcome in outcomes)
        return value, is_alone and not any(removal.was_gone for _, removal in removals)

    def _surplus(self, documents: RecordDocuments[T], newest: Newest, *, coming: str | None = None) -> Listing[Age]:
        """The records that are too many, or will be with the one that is coming."""
        names = [name for name in documents.names() if name != coming]
        look = partial(self._age, documents)
        return newest.surplus(documents.category, names, look, coming=0 if coming is None else 1)

    def _age(self, documents: RecordDocuments[T], name: str) -> Age | None:
        try:
            blob = documents.blob_of(name)
            return None if blob is None else self._age_of(documents, documents.value_of(blob, name), name)
        except PROBLEMS:
            return None

    def _age_of(self, documents: RecordDocuments[T], value: T, name: str) -> Age:
        is_busy = documents.field(value, "status") in self.kind.in_flight
        return Age(is_busy, key_of(self._time_of(documents, value)) or NULL, name)

    def _time_of(self, documents: RecordDocuments[T], value: T) -> Any:
        return documents.field(value, self.kind.order_by.removeprefix("-"))

    def _known_order(self, order_by: str) -> str:
        keys = self.kind.view.keys
        if keys and order_by.removeprefix("-") not in keys:
            raise ValueError(f"{self.kind.category} cannot be ordered by {order_by!r}: there is no such field")
        return order_by

    def _question(self, where: Mapping[str, Any], order_by: str | None) -> Question:
        self.kind.check_filters(where)
        order = orders_of(self.kind.order_by if order_by is None else self._known_order(order_by))
        by_key = Order(self.kind.key, order[0].descending)
        return Question(criteria_of(where), (*order, by_key), places_descend=order[0].descending)

    def _answer(self, question: Question) -> Listing[_Found[T]]:
        view = self._view_for(question) if question.criteria or question.limit is not None else None
        if view is None:
            return answer(self._looked_at(question), question, self._field_of, _place_of)

        def read(place: str) -> _Found[T] | None:
            documents, name = view.spot(place)
            value = documents.get(name)
            return None if value is None else _Found(place, value)

        return fetch(self._shared.indexes, view, question, read=read, field=self._field_of, place=_place_of)

    def _looked_at(self, question: Question) -> Iterator[_Found[T]]:
        for documents in self._asked(question):
            for item in documents.items():
                yield _Found(f"{documents.category}/{item.name}", item.value)

    def _view_for(self, question: Question) -> RecordView[T] | None:
        """What the index may answer the question with; None if it is to be asked of each record."""
        fields = fields_of(self.kind)
        asked = [*(field for field, _ in question.criteria), *(each.field for each in question.order)]
        if self._owner is not None or self.kind.parent is not None or not all(field in fields for field in asked):
            return None
        folders = list(self._asked(question))
        name = folders[0].category if len(folders) == 1 else f"{self._root.category}/*"
        view = RecordView(self.kind, folders, self._places.at, name=name)
        return view if self._shared.indexes.serves(view) else None

    def _asked(self, question: Question) -> Iterable[RecordDocuments[T]]:
        """The folders in which what is asked for may be: one group's, where it must be of that group."""
        group = dict(question.criteria).get(self.kind.group_by or "")
        if group is None or group.keys is None or len(group.keys) != 1:
            return self._places.all()
        (key,) = group.keys
        name = text_in(key)
        return self._places.all() if name is None and key != NULL else [self._places.of(name)]

    def _position(self, question: Question, found: _Found[T]) -> Position:
        return position_of(found, question.order, self._field_of, _place_of)

    def _field_of(self, found: _Found[T], name: str) -> Any:
        return self._root.field(found.value, name)

    def _everything(self) -> Iterator[tuple[RecordDocuments[T], str]]:
        return ((documents, name) for documents in self._places.all() for name in documents.names())

    def _sweeper(self) -> Sweeper:
        alone = not self._has_belongings
        source = Source(self._candidates, self._look_at, self._ref_at, alone=alone, owner=self._owner)
        return Sweeper(self._shared.backend, self._shared.clock, source)

    def _candidates(self, per: str | None, progress: Progress | None) -> Iterable[Candidate]:
        found = {str(documents.ref_of(name)): (documents, name) for documents, name in self._everything()}
        return look_at_all([*found], lambda place: self._look(*found[place], per), progress)

    def _look_at(self, place: str, per: str | None) -> Candidate | None:
        ref = self._ref_at(place)
        there = (documents for documents in self._places.all() if documents.category == ref.category)
        documents = next(there, None)
        return None if documents is None else self._look(documents, ref.name, per)

    def _ref_at(self, place: str) -> Ref:
        ref = ref_of(place)
        if f"{ref.category}/".startswith(f"{self._root.category}/") and ref.suffix == JSON:
            return ref
        raise ValueError(f"{place!r} is none of the records in {self._root.category}")

    def _look(self, documents: RecordDocuments[T], name: str, per: str | None) -> Candidate | None:
        ref = documents.ref_of(name)
        # Before it is read: what comes in between gives it another mark.
        footprint = self._shared.backend.footprint(ref, ref.belongings if self._has_belongings else None)
        blob = documents.blob_of(name)
        if footprint is None or blob is None:
            return None
        fields = documents.fields_of(blob, name)
        time = self._time_of(documents, documents.value_of(blob, name))
        active = time if isinstance(time, datetime) else None
        exempt = "in flight" if documents.is_in_flight(fields) else exemption_of(fields, active)
        group = None if per is None else group_of(fields.get(per))
        return Candidate(str(ref), active, footprint.size, group, exempt, footprint.mark, footprint.has_belongings)


def _place_of(found: _Found[Any]) -> str:
    return found.place
