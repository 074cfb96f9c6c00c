"""Finding sessions: lists, pages, counts, labels and titles.

All is answered from what the files hold at that moment. With many sessions an index spares reading those that did not
change; see `fsstate.index`.

All methods may be called from any thread.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypedDict, TypeVar, Unpack

from fsstate import names
from fsstate.backends.base import JSON, Ref
from fsstate.conditions import Condition, Contains, Range
from fsstate.cursors import page_of, position_in
from fsstate.digests import Digest, Digests
from fsstate.document_changes import PROBLEMS
from fsstate.errors import AmbiguousIdError, NotFoundError
from fsstate.queries import Page, Question, answer, checked_page, criteria_of, fits, orders_of, position_of
from fsstate.session_documents import CATEGORY, Session, SessionDocuments
from fsstate.session_view import FOLDED_TITLE, SESSION_FIELDS, SessionView, Summed, fields_of
from fsstate.shared import Shared
from fsstate.summaries import SessionSummary, given_title, summarise
from fsstate.times import zoned

__all__ = ["SessionFilters", "SessionLists"]

R = TypeVar("R")

_SHORTEST_PREFIX: Final = 6
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_NO_LOGS: Final = Digest()
# What follows from the logs as well.
_TOLD_BY_LOGS: Final = frozenset(["updated_at", "message_count", "title", "last_model"])
_BOUNDS: Final = {
    "created_after": ("created_at", "at_least"),
    "created_before": ("created_at", "at_most"),
    "updated_after": ("updated_at", "at_least"),
    "updated_before": ("updated_at", "at_most"),
}

_log: Final = logging.getLogger("fsstate")

# SessionLists has a method called `list`.
Ids: TypeAlias = list[str]
Listed: TypeAlias = list[Session]
Summaries: TypeAlias = list[SessionSummary]
Listing: TypeAlias = list[R]
_Values: TypeAlias = dict[str, object]


class SessionFilters(TypedDict, total=False):
    """Which sessions: those that fit all that is given, where None means that it does not matter.

    - Each is a value that the summary must have, or a condition: `OneOf`, `Range`, `Prefix`.
    - `archived`: lists leave archived sessions out unless it is given.
    - `metadata`: keys with the values that they must have; others may be there, too.
    - The bounds of times belong to the range.
    """

    user_id: str | Condition | None
    status: str | Condition | None
    project_id: str | Condition | None
    parent_id: str | Condition | None
    label: str | Condition | None
    title: str | Condition | None
    last_model: str | Condition | None
    message_count: int | Condition | None
    archived: bool | None
    pinned: bool | None
    metadata: Mapping[str, object] | Condition | None
    created_after: datetime | None
    created_before: datetime | None
    updated_after: datetime | None
    updated_before: datetime | None


class SessionLists(ABC):
    """The sessions within reach, to be found."""

    def __init__(self, shared: Shared, documents: SessionDocuments, digests: Digests) -> None:
        self._shared = shared
        self._documents = documents
        self._digests = digests
        # Of all sessions, also where not all are within reach: there is one index for all.
        self._view = SessionView(shared.backend, SessionDocuments(shared), digests)

    # One session

    def get(self, id: str) -> Session | None:  # noqa: A002 - what the attribute is called
        """Return a session, or None. Raises CorruptRecordError or ValidationError for a file that cannot be read."""
        return self._documents.get(id)

    def require(self, id: str) -> Session:  # noqa: A002
        """Return a session. Raises NotFoundError when there is none."""
        return self._documents.require(id)

    def __getitem__(self, id: str) -> Session:  # noqa: A002
        return self.require(id)

    def contains(self, id: str) -> bool:  # noqa: A002
        """Return whether there is such a session, readable or not."""
        return self._documents.contains(id)

    def __contains__(self, id: str) -> bool:  # noqa: A002
        return self.contains(id)

    def path_of(self, id: str) -> str:  # noqa: A002
        """Return where a person finds the session's document, whether it exists or not."""
        return self._documents.path_of(id)

    def summary(self, id: str) -> SessionSummary | None:  # noqa: A002
        """Return one session's summary, or None."""
        session = self._documents.get(id)
        return None if session is None else self._summary(id, session)

    def find(self, needle: str) -> Session:
        """Return the session with this id, or else the one whose id begins so, or else the one with this label.

        A beginning has 6 characters or more. Raises AmbiguousIdError when several fit, NotFoundError when none does.
        """
        found, hint = [needle] if names.is_name(needle) and needle in self else [], "give more characters"
        if not found and len(needle) >= _SHORTEST_PREFIX:
            found = [each for each in self.ids() if each.startswith(needle)]
        if not found:
            found, hint = self._labelled(needle.strip()), "give an id"
        if len(found) > 1:
            raise AmbiguousIdError(needle, found, hint=hint)
        session = self.get(found[0]) if found else None
        if session is None:
            raise NotFoundError(needle, f"no session has the id or label {needle!r}, or an id that begins so")
        return session

    # Many sessions

    def ids(self) -> Ids:
        """Return the ids of all sessions, sorted; UUIDv7s sort by the time of their making."""
        if self._reach() and self._is_indexed():
            return self._asked(Question(criteria_of(self._reach())), _id_in)
        return self._documents.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids())

    def count(self, **filters: Unpack[SessionFilters]) -> int:
        """Return the number of sessions, or of those that fit all that is given, as in `list`; archived ones, too."""
        if not filters and not self._reach():
            return self._documents.count()
        question = self._question({"archived": None, **filters}, "id")
        if self._is_indexed():
            return self._shared.indexes.count(self._view, question)
        return len(self._asked(question, _id_in))

    def __len__(self) -> int:
        return self.count()

    def all(self) -> Listed:
        """Return all sessions by id, whole. What cannot be read is logged as a warning and skipped."""
        return [item.value for item in self._documents.items()]

    def list(
        self,
        *,
        order_by: str = "-updated_at",
        limit: int | None = 50,
        offset: int = 0,
        **filters: Unpack[SessionFilters],
    ) -> Summaries:
        """Return summaries of the sessions that fit all that is given, the latest active first.

        See `SessionFilters` for what can be given; archived sessions are left out by default. `order_by` is a field of
        the summary, with "-" to descend; equal ones are ordered by id in the same direction, and those without the
        field come last. A `limit` of None means all. Sessions that cannot be read are logged and left out.
        Raises ValueError for a field that there is not, and for a negative number.
        """
        checked_page(limit, offset)
        question = self._question(filters, order_by)._replace(limit=limit, offset=offset)
        return self._asked(question, Summed.whole)

    def page(
        self,
        *,
        order_by: str = "-updated_at",
        limit: int | None = 50,
        after: str | None = None,
        **filters: Unpack[SessionFilters],
    ) -> Page[SessionSummary]:
        """Return a page of what `list` gives, and the cursor of the next page, to be given as `after`.

        What comes and goes between two pages makes no other session appear twice or not at all; one whose place in the
        order changes may. Raises InvalidCursorError for a cursor of a query with other filters or another order.
        """
        checked_page(limit, 0)
        question = self._question(filters, order_by)._replace(limit=limit)
        if after is not None:
            question = question._replace(after=position_in(after, question, CATEGORY))
        more = question if limit is None else question._replace(limit=limit + 1)
        found = self._asked(more, Summed.whole)
        return page_of(found, question, CATEGORY, lambda each: position_of(each, question.order, getattr, _id_of))

    def titles(self, ids: Iterable[str] | None = None) -> dict[str, str | None]:
        """Return the title that each session's document has, by id: of all sessions, or of those asked for.

        It is the session's, or else its metadata's. None is for a session without one, and for an id without a session.
        Those made of a first message are not among them; see `list`. What cannot be read is logged as a warning: it has
        no title, or is left out of all.
        """
        if ids is not None:
            return {each: self._title(each) for each in ids}
        return dict(self._asked(Question(criteria_of(self._reach())), lambda each: (each.summary.id, each.title)))

    def find_title(self, title: str) -> Session | None:
        """Return the session whose document has this title in any case, or None; of several the one updated last.

        Titles are those that `titles` gives. Sessions that cannot be read are logged and passed over.
        """
        question = Question(criteria_of({**self._reach(), FOLDED_TITLE: title.casefold()}))
        fitting = [
            session for each in self._asked(question, _id_in) if (session := self._titled(each, title)) is not None
        ]
        return max(fitting, key=_last_updated, default=None)

    # Inside

    @abstractmethod
    def _reach(self) -> Mapping[str, object]:
        """What all sessions within reach have, as criteria; nothing where all are."""

    def _is_indexed(self) -> bool:
        return self._shared.indexes.serves(self._view)

    def _question(self, filters: SessionFilters | Mapping[str, Any], order_by: str) -> Question:
        where = {"archived": False, **filters}
        criteria = criteria_of(self._reach())
        for name, wanted in where.items():
            if name not in SessionFilters.__annotations__:
                known = ", ".join(SessionFilters.__annotations__)
                raise TypeError(f"sessions are not listed by {name!r}, but by {known}")
            if wanted is not None:
                criteria += criteria_of(_asked_for(name, wanted))
        order = orders_of(_known_order(order_by))
        return Question(criteria, order, places_descend=order[0].descending)

    def _asked(self, question: Question, read: Callable[[Summed], R]) -> Listing[R]:
        """What `read` makes of what a question finds, by the index or by looking at each session."""
        if self._is_indexed():
            return self._shared.indexes.select(self._view, question, lambda each: read(self._view.summed(each.value)))
        found = answer(self._looked_at(question), question, _value_of, _place_of)
        return [read(summed) for _, summed in found]

    def _looked_at(self, question: Question) -> Iterator[tuple[_Values, Summed]]:
        # The logs of sessions that do not fit by their documents are not looked at.
        early = tuple(each for each in question.criteria if each[0] not in _TOLD_BY_LOGS)
        for name, session in self._documents.items():
            if fits(fields_of(session, summarise(session, _NO_LOGS)), early, _value_in):
                summary = _if_readable(partial(self._summary, name, session))
                if summary is not None:
                    yield fields_of(session, summary), Summed(summary, given_title(session))

    def _summary(self, name: str, session: Session) -> SessionSummary:
        return summarise(session, self._digests.look(Ref(CATEGORY, name, JSON)))

    def _title(self, name: str) -> str | None:
        session = _if_readable(partial(self._documents.get, name))
        return None if session is None else given_title(session)

    def _titled(self, name: str, title: str) -> Session | None:
        """A session, if it has this title: it may have got another one since it was found."""
        session = _if_readable(partial(self._documents.get, name))
        found = None if session is None else given_title(session)
        return None if found is None or found.casefold() != title.casefold() else session

    def _labelled(self, label: str) -> Ids:
        if not label:
            return []
        question = Question(criteria_of({**self._reach(), "label": label}))
        return self._asked(question, _id_in)


def _if_readable(read: Callable[[], R | None]) -> R | None:
    try:
        return read()
    except PROBLEMS as error:
        _log.warning("skipped: %s", str(error))
        return None


def _asked_for(name: str, wanted: Any) -> dict[str, object]:
    """A filter as what is asked of a field."""
    if name in _BOUNDS:
        field, bound = _BOUNDS[name]
        return {field: Range(**{bound: zoned(wanted, name)})}
    return {name: Contains(wanted) if isinstance(wanted, Mapping) else wanted}


def _known_order(order_by: object) -> str:
    if not isinstance(order_by, str) or order_by.removeprefix("-") not in SESSION_FIELDS:
        known = ", ".join(SESSION_FIELDS)
        raise ValueError(f"order_by must be one of {known}, with a leading '-' to descend, got {order_by!r}")
    return order_by


def _value_in(values: _Values, field: str) -> object:
    return values[field]


def _value_of(found: tuple[_Values, Summed], field: str) -> object:
    return found[0][field]


def _place_of(found: tuple[_Values, Summed]) -> str:
    return found[1].summary.id


def _id_in(summed: Summed) -> str:
    return summed.summary.id


def _id_of(summary: SessionSummary) -> str:
    return summary.id


def _last_updated(session: Session) -> tuple[datetime, str]:
    return session.updated_at or session.created_at or _NEVER, session.id
