"""What can be done with sessions: all of a store, or those of one owner. `SessionDocuments` decides which there are.

- A session exists when its document does. Nothing can be written for one that does not, and deleting it deletes all.
- Every write is durable when it returns, and reads, changes and writes the document under its lock.
- Pruning decides under the session's lock: one that was touched since the sweep looked at it stays, as does one that
  somebody is using. Age comes from the times in the document and the logs, never from a file's mtime.

All methods may be called from any thread.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Container, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Unpack

from fsstate import belongings, ids, names
from fsstate.backends.base import JSON, MARKDOWN, Change, Ref
from fsstate.conversation import copied
from fsstate.digests import Digests
from fsstate.document_changes import Editing
from fsstate.errors import AlreadyExistsError, FsStateError, InvalidValueError
from fsstate.messages import Message, Messages
from fsstate.prunable import Prunable
from fsstate.retention import Candidate, PrunePolicy, Shortlist
from fsstate.session_documents import CATEGORY, Session, SessionDocuments, SessionFields, setting
from fsstate.session_lists import SessionLists
from fsstate.session_retention import shortlist
from fsstate.session_view import exempt_as
from fsstate.shared import Shared
from fsstate.steps import Steps
from fsstate.summaries import given_title, project_of, put_into
from fsstate.sweeper import Progress, Source, Sweeper, group_of, look_at_all

__all__ = ["SessionScope"]

_log = logging.getLogger("fsstate")


class SessionScope(SessionLists, Prunable):
    """The sessions whose documents are within reach. The others do not exist here."""

    def __init__(self, shared: Shared, documents: SessionDocuments, digests: Digests) -> None:
        super().__init__(shared, documents, digests)
        self._backend, self._clock = shared.backend, shared.clock

    # One session

    def create(
        self,
        *,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        user_id: str | None = None,
        title: str | None = None,
        project_id: str | None = None,
        parent_id: str | None = None,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: str = "active",
        created_at: datetime | None = None,
    ) -> Session:
        """Create a session and return it. Without an `id` it gets a new UUIDv7; the times default to now.

        Raises AlreadyExistsError for an id that is taken, InvalidNameError for one that cannot be a file's name, and
        InvalidValueError for what cannot be stored.
        """
        now = self._clock() if created_at is None else created_at
        session = Session(id=ids.new_id() if id is None else id, user_id=user_id, title=title, status=status)
        session.project_id, session.parent_id, session.metadata = project_id, parent_id, copied(dict(metadata or {}))
        session.created_at = session.updated_at = now
        return self._create(session, label, sweep=id is not None)

    def get_or_create(self, id: str | None = None, **given: Unpack[SessionFields]) -> Session:  # noqa: A002
        """Return a session as it is, or else create it with what is given, as `create` takes it.

        Without an `id` it is a new one, whose id is a UUIDv7.
        """
        if id is None:
            return self.create(**given)
        session = self.get(id)
        if session is not None:
            return session
        try:
            return self.create(id=id, **given)
        except AlreadyExistsError:
            return self.require(id)

    def update(
        self,
        id: str,  # noqa: A002
        fn: Callable[[Session], Session | None],
        *,
        timeout: float | None = None,
    ) -> Session:
        """Read, change and save a session under its lock; return it as saved.

        `fn` changes the session in place or returns a new one, and may run again when somebody changed the file
        without the lock. `updated_at` is set when anything changed. Raises NotFoundError when there is none,
        LockTimeoutError when its lock was not free within `timeout` seconds (None: the store's default), and
        InvalidValueError for another `label`, which `set_label` gives.
        """
        session = self._documents.update(id, fn, timeout=timeout)
        self.saved()
        return session

    @contextmanager
    def edit(self, id: str, *, timeout: float | None = None) -> Generator[Session]:  # noqa: A002
        """Give a session to a `with` block that changes it in place, under its lock, and save it at the end.

        As `update` for times and errors, and as `Collection.edit` for what somebody else changed meanwhile.
        """
        with self._documents.edit(id, timeout=timeout) as session:
            yield session
        self.saved()

    def delete(self, id: str) -> bool:  # noqa: A002
        """Delete a session with everything that belongs to it; return whether there was one.

        Conflict copies of its own document stay, as `Collection.delete` says; those of what belongs to it do not.
        Waits for those who are writing to it; raises LockTimeoutError when one takes too long.
        """
        ref = _ref(id)
        # Asked before as well: nobody waits for those who write to a session that is not within reach.
        if not self._may_delete(id):
            return False
        return belongings.delete(self._backend, ref, lambda: self._may_delete(id))

    # Changes that have a name

    def archive(self, id: str) -> Session:  # noqa: A002
        """Take a session out of the usual lists. One that is archived keeps its time."""

        def change(session: Session) -> None:
            session.archived_at = session.archived_at or self._clock()

        return self.update(id, change)

    def unarchive(self, id: str) -> Session:  # noqa: A002
        """Put a session back into the usual lists."""
        return self.update(id, setting("archived_at", None))

    def pin(self, id: str) -> Session:  # noqa: A002
        """Keep a session from being pruned, however old it is."""
        return self.update(id, setting("pinned", value=True))

    def unpin(self, id: str) -> Session:  # noqa: A002
        """Let a session be pruned again."""
        return self.update(id, setting("pinned", value=False))

    def end(self, id: str) -> Session:  # noqa: A002
        """Mark a session as ended. One that has ended keeps its time."""

        def change(session: Session) -> None:
            session.ended_at = session.ended_at or self._clock()
            session.status = "ended"

        return self.update(id, change)

    def move(self, id: str, project_id: str | None) -> Session:  # noqa: A002
        """Put a session into a project; None takes it out of its own.

        A `project_id` or `project_ids` in its metadata, which count while it has no other, go from there.
        """
        return self.update(id, lambda session: put_into(session, project_id))

    def set_memory_mode(self, id: str, mode: str | None) -> Session:  # noqa: A002
        """Say how an agent's memory takes part in a session, in a word of your own; None takes it away."""
        return self.update(id, setting("memory_mode", mode))

    def set_label(self, id: str, label: str | None) -> Session:  # noqa: A002
        """Give a session a label to find it by, without spaces around it; None takes it away.

        A label names one session: whoever had it loses it, and a warning is logged. Raises InvalidValueError for an
        empty one.
        """
        if label is None:
            return self._write_label(id, None)
        label = _label(label)
        # No record: the lock that keeps two labellers apart. A session's own lock is that of a JSON document.
        held = self._backend.lock(Ref(CATEGORY, "labels", MARKDOWN))
        try:
            session = self._write_label(id, label)
            self._take_label(label, besides=id)
        finally:
            held.release()
        return session

    def fork(
        self,
        id: str,  # noqa: A002
        *,
        at: str | None = None,
        new_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        copy_messages: bool = False,
    ) -> Session:
        """Create a session that goes on from another, at message `at` (None: its head), and return it.

        It has the same user and project, `parent_id` and `parent_message_id`. With `copy_messages` it begins with a
        copy of the branch up to there, ids included, and of the steps up to the last that led to one of its messages;
        otherwise it is empty. Goal, tools, config and checkpoints stay with the parent. Raises NotFoundError for a
        session or message that does not exist.
        """
        parent = self.require(id)
        branch = self._messages(id).list(at, None if copy_messages else 1)
        new = Session(id=ids.new_id() if new_id is None else new_id, user_id=parent.user_id, title=title)
        new.project_id, new.parent_id, new.metadata = project_of(parent), id, copied(dict(metadata or {}))
        new.parent_message_id = branch[-1].id if branch else None
        new.created_at = new.updated_at = self._clock()
        self._create(new, None, sweep=new_id is not None)
        if copy_messages:
            with self._filling(new, {message.id for message in branch}):
                self._copy_steps(id, new.id, branch)
                for message in branch:
                    # The copy has no writer.
                    message.status = "interrupted" if message.status == "streaming" else message.status
                self._messages(new.id).extend(branch)
        return new

    # The same in steps, for those who bring their own way of waiting

    def open_edit(self, id: str, *, timeout: float | None = None) -> Editing[Session]:  # noqa: A002
        """Take the session's lock and read it: `edit` in steps. See `Collection.open_edit`."""
        return self._documents.open_edit(id, timeout=timeout)

    def ref_of(self, id: str) -> Ref:  # noqa: A002
        """Return the record whose lock `edit` and `update` hold."""
        return _ref(id)

    @abstractmethod
    def saved(self) -> None:
        """Say that a session was saved in such steps: pruning in the background begins here, if it is due."""

    def update_change(
        self,
        id: str,  # noqa: A002
        fn: Callable[[Session], Session | None],
    ) -> tuple[Ref, Change]:
        """Return `update` as a change to hand to the backend."""
        return self._documents.update_change(id, fn)

    # Inside

    def _may_delete(self, name: str) -> bool:
        """Whether the session is within reach, if there is one."""
        return True

    def _create(self, session: Session, label: str | None, *, sweep: bool) -> Session:
        names.check_segment(session.id)
        # Refused before anything is written.
        label = None if label is None else _label(label)
        session.title = given_title(Session(title=session.title))
        if sweep:
            belongings.sweep(self._backend, _ref(session.id))
        self._documents.create(session.id, session)
        self.saved()
        return session if label is None else self.set_label(session.id, label)

    def _messages(self, name: str) -> Messages:
        return Messages(self._shared.projections, self._clock, _ref(name))

    @contextmanager
    def _filling(self, new: Session, messages: Container[str]) -> Generator[None]:
        """Take a new session back where the block that fills it fails, unless others have used it by then."""

        def is_ours() -> bool:
            said = self._messages(new.id).all()
            return self._documents.get(new.id) == new and all(message.id in messages for message in said)

        try:
            yield
        except BaseException:
            with suppress(FsStateError):
                belongings.delete(self._backend, _ref(new.id), is_ours)
            raise

    def _copy_steps(self, source: str, target: str, branch: Iterable[Message]) -> None:
        """Copy the steps that the messages point at, and what is before them; make the messages point at the copies."""
        pointing = [(message, message.steps) for message in branch if message.steps is not None]
        steps = self._steps(source).slice(0, max((end for _, (_, end) in pointing), default=0))
        if steps:
            self._steps(target).extend(steps)
        # Steps that were trimmed or cannot be read are not among the copies: those behind them move up.
        numbers = [step.number for step in steps]
        for message, (start, end) in pointing:
            message.steps = bisect_left(numbers, start), bisect_left(numbers, end)

    def _steps(self, name: str) -> Steps:
        return Steps(self._backend, self._clock, _ref(name))

    def _write_label(self, name: str, label: str | None) -> Session:
        session = self._documents.labelling().update(name, setting("label", label))
        self.saved()
        return session

    def _take_label(self, label: str, *, besides: str) -> None:
        def change(session: Session) -> None:
            session.label = None if session.label == label else session.label

        for other in self._labelled(label):
            if other != besides:
                _log.warning("the label %r moves from session %s to %s", label, other, besides)
                self.update(other, change)

    def _sweeper(self) -> Sweeper:
        return Sweeper(self._backend, self._clock, Source(self._candidates, self._look, _ref, self._shortlist))

    def _shortlist(self, policy: PrunePolicy, now: datetime) -> Shortlist | None:
        if not self._is_indexed():
            return None
        return shortlist(self._shared.indexes, self._view, self._reach(), policy, now)

    def _candidates(self, per: str | None, progress: Progress | None) -> Iterable[Candidate]:
        return look_at_all(self.ids(), lambda name: self._look(name, per), progress)

    def _look(self, name: str, per: str | None) -> Candidate | None:
        ref = _ref(name)
        # Before it is read: what comes in between gives it another mark.
        footprint = self._backend.footprint(ref, ref.belongings)
        record = self._documents.record(name)
        if footprint is None or record is None:
            return None
        session = record.value
        times = (session.updated_at, self._digests.last_time(ref))
        active = max((time for time in times if time is not None), default=session.created_at)
        exempt = exempt_as(session, active)
        group = None if per is None else group_of(self._told(session, name, per))
        return Candidate(name, active, footprint.size, group, exempt, footprint.mark, footprint.has_belongings)

    def _told(self, session: Session, name: str, field: str) -> Any:
        """A field of the session's document."""
        if field == "project_id":
            return project_of(session)
        if field in session.__struct_fields__:
            return getattr(session, field)
        blob = self._documents.blob_of(name)
        return None if blob is None else self._documents.fields_of(blob, name).get(field)


def _ref(name: str) -> Ref:
    return Ref(CATEGORY, names.check_segment(name), JSON)


def _label(label: str) -> str:
    label = label.strip()
    if not label:
        raise InvalidValueError("a label must not be empty", at="$.label")
    return label
