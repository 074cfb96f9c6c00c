"""Sessions: a short document each, with a conversation, events, tool calls and more that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

from fsstate.auto_prune import AutoPruner
from fsstate.digests import Digests
from fsstate.document_changes import Problem
from fsstate.owned_sessions import OwnedSessions
from fsstate.retention import PrunePolicy
from fsstate.session_documents import CATEGORY, Session, SessionDocuments
from fsstate.session_scope import SessionScope
from fsstate.shared import Shared
from fsstate.summaries import SessionSummary

__all__ = ["OwnedSessions", "Session", "SessionSummary", "Sessions"]

# Sessions has a method called `list`.
Problems: TypeAlias = list[Problem]


class Sessions(SessionScope):
    """The sessions of a store."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, SessionDocuments(shared), Digests(shared.backend))
        self._auto = AutoPruner(shared.backend, shared.clock, CATEGORY, self.prune)

    def owned_by(self, user_id: str) -> OwnedSessions:
        """Return the sessions of one user, with which those of all others do not exist. Reads nothing.

        Raises InvalidValueError for a `user_id` that is empty or no text.
        """
        return OwnedSessions(self, user_id)

    def problems(self) -> Problems:
        """Return what is wrong with the documents that cannot be read. Reads them all, and no logs."""
        return self._documents.problems()

    def auto_prune(self, policy: PrunePolicy | None, *, cooldown: timedelta = timedelta(hours=1)) -> None:
        """From now on, after a session was saved, prune in the background: at most once per `cooldown`. None ends it.

        All processes that prune the store's sessions so share the cooldown; what is pruned goes to the trash.
        Saved means created, or its document changed: what is appended to messages and other logs begins no sweep, so a
        program that only goes on with old sessions calls `prune` now and then. What goes wrong there is logged.
        Closing the store waits a little for a sweep under way. Raises TypeError for a `cooldown` that is no timedelta.
        """
        self._auto.set(policy, cooldown)

    def _reach(self) -> Mapping[str, object]:
        return {}

    def saved(self) -> None:
        """Say that a session was saved in steps: pruning in the background begins here, if it is due."""
        self._auto.nudge()

    def close(self) -> None:
        """Wait a little for a sweep in the background."""
        self._auto.close()
