"""The sessions of one owner, for applications that serve many: with them, those of all others do not exist.

- Whose a session is stands in its document, as `user_id`. One without it belongs to nobody and is in no owner's view.
- It is decided under the session's lock where something is written, on what the file holds then.
- What cannot be read has no owner that could be told: lists leave it out, and asking for it raises what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from fsstate.backends.base import Blob, Ref
from fsstate.documents import Item, Record
from fsstate.errors import AlreadyExistsError, InvalidValueError, NotFoundError, WrongOwnerError
from fsstate.names import is_name
from fsstate.session_documents import Session, SessionDocuments
from fsstate.session_scope import SessionScope
from fsstate.shared import Shared

if TYPE_CHECKING:
    from fsstate.search import SearchHit

__all__ = ["OwnedSessions"]


class _OwnedDocuments(SessionDocuments):
    """The documents of one owner's sessions."""

    def __init__(self, shared: Shared, user_id: str) -> None:
        super().__init__(shared)
        self.user_id = user_id
        self._everyones = SessionDocuments(shared)

    def check(self, name: str) -> None:
        """Raise NotFoundError when there is no such session, WrongOwnerError when it is not the owner's."""
        if not self._has(self._everyones.require(name)):
            raise WrongOwnerError(self.path_of(name))

    def is_within_reach(self, name: str) -> bool:
        """Whether the session is the owner's, if there is one. Raises for a file that cannot be read."""
        session = self._everyones.get(name)
        return session is None or self._has(session)

    def record(self, name: str) -> Record[Session] | None:
        """Return the owner's document with its revision, or None."""
        record = self._everyones.record(name)
        return record if record is not None and self._has(record.value) else None

    def contains(self, name: str) -> bool:
        """Return whether the owner has such a session. Raises for a file that cannot be read."""
        return self.get(name) is not None

    def names(self) -> list[str]:
        """Return the names of the owner's documents, sorted. Reads all documents."""
        return [item.name for item in self.items()]

    def items(self) -> Iterator[Item[Session]]:
        """Iterate over the owner's documents by name."""
        return (item for item in self._everyones.items() if self._has(item.value))

    def _has(self, session: Session) -> bool:
        return session.user_id == self.user_id

    def _value(self, name: str) -> Session | None:
        session = self._everyones.get(name)
        return session if session is not None and self._has(session) else None

    def _decode(self, blob: Blob, ref: Ref) -> Session:
        session = super()._decode(blob, ref)
        if not self._has(session):
            raise NotFoundError(self._where(ref))
        return session

    def _settled(self, data: bytes, blob: Blob | None, ref: Ref) -> bytes:
        session = super()._decode(Blob(data), ref)
        if not self._has(session):
            where = self._where(ref)
            reason = f"can only belong to {self.user_id!r} here; to give it to somebody else, use store.sessions"
            raise WrongOwnerError(where, f"{where} {reason}")
        parent = session.parent_id
        if parent is not None and (blob is None or parent != super()._decode(blob, ref).parent_id):
            self._check_parent(parent)
        return super()._settled(data, blob, ref)

    def _check_parent(self, name: str) -> None:
        # One that does not exist belongs to nobody else: an import may bring it later.
        if is_name(name) and not self.is_within_reach(name):
            raise WrongOwnerError(self.path_of(name))


class OwnedSessions(SessionScope):
    """The sessions of one user: what `store.sessions.owned_by(user_id)` gives.

    All that it returns, changes and deletes is the user's. A session of somebody else, or of nobody, is as one that
    does not exist; but whoever would create or `check` one under its id gets WrongOwnerError. What is created belongs
    to the user, and stays so: giving another `user_id`, or a `parent_id` of somebody else's session, raises
    WrongOwnerError. A label names one session of the user.

    It is no more than a way of looking, cheap to make: nothing is read, and there is nothing to close.
    """

    # Public methods are not overridden: the async mirror calls those of SessionScope.

    def __init__(self, sessions: SessionScope, user_id: str) -> None:
        _check_owner(user_id)
        self._owned = _OwnedDocuments(sessions._shared, user_id)
        self._everyones = sessions
        super().__init__(sessions._shared, self._owned, sessions._digests)

    def __repr__(self) -> str:
        return f"OwnedSessions({self.user_id!r})"

    @property
    def user_id(self) -> str:
        """Whose sessions they are."""
        return self._owned.user_id

    def check(self, id: str) -> None:  # noqa: A002 - what the attribute is called
        """Make sure that a session is the user's, before `store.session(id)` is used for them.

        Raises NotFoundError when there is none, WrongOwnerError when it belongs to somebody else or to nobody.
        """
        self._owned.check(id)

    def search(
        self, query: str, *, in_: str | Iterable[str] | None = None, limit: int | None = 10, offset: int = 0
    ) -> list[SearchHit]:
        """Search the user's sessions, with all that belongs to them, as `Store.search` does."""
        from fsstate.searcher import Searcher

        return Searcher(self._shared).search(query, in_, limit, offset, self.user_id)

    def saved(self) -> None:
        """Say that a session was saved in steps: the store's pruning in the background begins here, if it is due."""
        self._everyones.saved()

    def _reach(self) -> Mapping[str, object]:
        return {"user_id": self.user_id}

    def _may_delete(self, name: str) -> bool:
        return self._owned.is_within_reach(name)

    def _create(self, session: Session, label: str | None, *, sweep: bool) -> Session:
        session.user_id = self.user_id if session.user_id is None else session.user_id
        try:
            return super()._create(session, label, sweep=sweep)
        except AlreadyExistsError:
            # Deleted since: it was there all the same.
            with suppress(NotFoundError):
                self.check(session.id)
            raise


def _check_owner(user_id: object) -> None:
    if not isinstance(user_id, str):
        raise InvalidValueError(f"an owner's id is a text, not {user_id!r}", at="$.user_id")
    if not user_id:
        raise InvalidValueError("an owner's id must not be empty", at="$.user_id")
