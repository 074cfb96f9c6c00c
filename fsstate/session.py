"""One session's records, in one hand: what `store.session(id)` gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar, overload

from fsstate import names
from fsstate.backends.base import LOG, Ref
from fsstate.checkpoints import Checkpoints
from fsstate.collection import Collection
from fsstate.dynamic_tools import Tool, tools_of
from fsstate.goals import SessionGoal
from fsstate.journal import Journal
from fsstate.lazy import lazy_property
from fsstate.markdown import Markdown
from fsstate.messages import Messages
from fsstate.record_types import RecordType
from fsstate.records import Records
from fsstate.session_config import SessionConfig, config_of
from fsstate.session_documents import CATEGORY, Session
from fsstate.sessions import Sessions
from fsstate.shared import Shared
from fsstate.single import ItemSet, Single
from fsstate.steps import Steps
from fsstate.tool_calls import ToolCalls

__all__ = ["SessionHandle"]

T = TypeVar("T")

# Logs whose entries have a meaning that a plain journal would not keep to.
_MEANINGFUL: Final = ("messages", "steps", "tool_calls")


class SessionHandle:
    """What belongs to one session. Cheap to make: nothing is read, and the session need not exist yet.

    Reading gives nothing while it does not exist; writing raises NotFoundError. Any thread may use it.
    """

    def __init__(self, sessions: Sessions, shared: Shared, session_id: str) -> None:
        self.id = names.check_segment(session_id)
        self._sessions = sessions
        self._shared = shared
        self._owner = Ref(CATEGORY, self.id, ".json")
        self._category = self._owner.belongings

    def __repr__(self) -> str:
        return f"SessionHandle({self.id!r})"

    def document(self) -> Session:
        """Return the session's document. Raises NotFoundError when there is none."""
        return self._sessions.require(self.id)

    @property
    def path(self) -> str:
        """Where a person finds the session's document; what belongs to it is in the folder of the same name."""
        return self._sessions.path_of(self.id)

    def exists(self) -> bool:
        """Return whether there is such a session."""
        return self._sessions.contains(self.id)

    @lazy_property
    def messages(self) -> Messages:
        """The conversation."""
        return Messages(self._shared.projections, self._shared.clock, self._owner)

    @lazy_property
    def tool_calls(self) -> ToolCalls:
        """The tool calls and what came of them."""
        return ToolCalls(self._shared.projections, self._shared.clock, self._owner)

    @lazy_property
    def steps(self) -> Steps:
        """The steps that were taken."""
        return Steps(self._shared.backend, self._shared.clock, self._owner)

    @lazy_property
    def events(self) -> Journal:
        """The session's own journal of events."""
        return self.journal("events")

    @lazy_property
    def checkpoints(self) -> Checkpoints:
        """Named states to go on from."""
        return Checkpoints(self._shared, self._owner)

    @lazy_property
    def goal(self) -> SessionGoal:
        """What the session is to achieve."""
        return SessionGoal(self._shared, self._owner)

    @lazy_property
    def tools(self) -> ItemSet[Tool]:
        """The tools that it has besides those of its program, replaced as one ordered set."""
        return tools_of(self._shared, self._owner)

    @lazy_property
    def config(self) -> Single[SessionConfig]:
        """What it was set up with: where it works, its tools, and which of them need approval."""
        return config_of(self._shared, self._owner)

    @overload
    def collection(self, name: str | None = None, *, model: None = None) -> Collection[Any]: ...

    @overload
    def collection(self, name: str | None = None, *, model: type[T]) -> Collection[T]: ...

    def collection(self, name: str | None = None, *, model: type[T] | None = None) -> Collection[Any]:
        """Return JSON documents that belong to the session, in `sessions/<id>/` or a folder `name` below it."""
        category = self._below(name)
        backend = self._shared.backend
        if model is None:
            return Collection(backend, category, owner=self._owner)
        return Collection(backend, category, model, owner=self._owner)

    def markdown(self, name: str | None = None) -> Markdown:
        """Return Markdown documents that belong to the session, in `sessions/<id>/` or a folder `name` below it."""
        return Markdown(self._shared.backend, self._below(name), owner=self._owner)

    def journal(self, name: str, *, kinds: Iterable[str] | None = None) -> Journal:
        """Return a journal, `sessions/<id>/<name>.jsonl`. With `kinds` no others are appended; "events" may have them.

        Raises ValueError for the session's logs that are no journals.
        """
        if name in _MEANINGFUL:
            raise ValueError(f"{name!r} is no plain journal; use session.{name}")
        ref, shared = Ref(self._category, name, LOG), self._shared
        return Journal(shared.backend, ref, shared.clock, owner=self._owner, kinds=kinds)

    def records(self, kind: RecordType[T]) -> Records[T]:
        """Return the session's records of a type that you declared with `parent="sessions"`, in its folder.

        They go with the session. For `Store.recover` and `Store.migrate` to know the type, open the store with it.
        Raises ValueError for a type of another parent, or in the category of fsstate's own records.
        """
        # Not before it is asked for: it imports all of fsstate's record types, and a conversation needs none.
        from fsstate.catalogue import check_declared

        check_declared(kind)
        if kind.parent != CATEGORY:
            raise ValueError(f"{kind.category} do not belong to sessions; declare them with parent={CATEGORY!r}")
        return Records(self._shared, kind, self._owner)

    def _below(self, name: str | None) -> str:
        return self._category if name is None else f"{self._category}/{names.check_category(name)}"
