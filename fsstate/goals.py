"""What a session is to achieve: one goal at a time, with a budget and what was used of it.

A goal is under way, or stopped for a reason. Each of these may follow each other, and the last is final:

    active | paused | blocked | usage_limited | budget_limited -> complete

A goal with another id may take its place at any time. Every change is durable when it returns. Any thread may call.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, cast

import msgspec

from fsstate import codec, ids
from fsstate.backends.base import Blob, Change, Ref
from fsstate.errors import InvalidValueError
from fsstate.lifecycle import Lifecycle
from fsstate.record_documents import RecordDocuments
from fsstate.record_types import RecordType
from fsstate.shared import Shared
from fsstate.single import Single

__all__ = ["GOALS", "LIFECYCLE", "Goal", "SessionGoal"]

_LIMITED: Final = "budget_limited"
_OPEN: Final = ("active", "paused", "blocked", "usage_limited", _LIMITED)
_ALL: Final = (*_OPEN, "complete")
_AMOUNT: Final = msgspec.Meta(ge=0)

# On disk: do not rename.
LIFECYCLE: Final = Lifecycle(
    {status: tuple(other for other in _ALL if other != status) for status in _OPEN} | {"complete": ()}
)


class Goal(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A goal. `token_budget` is how many tokens it may take; None: any number.

    Changing these attributes changes no file.
    """

    id: str = ""
    objective: str = ""
    status: str = "active"
    token_budget: Annotated[int, _AMOUNT] | None = None
    tokens_used: Annotated[int, _AMOUNT] = 0
    time_used_seconds: Annotated[int, _AMOUNT] | Annotated[float, _AMOUNT] = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether no change of status can follow."""
        return LIFECYCLE.is_final(self.status)

    @property
    def tokens_left(self) -> int | None:
        """How many tokens of the budget are left, 0 when more were used; None without a budget."""
        return None if self.token_budget is None else max(0, self.token_budget - self.tokens_used)


GOALS: Final = RecordType("goals", Goal, lifecycle=LIFECYCLE)


class SessionGoal(Single[Goal]):
    """The goal of one session, `sessions/<id>/goal.json`. Writing raises NotFoundError when the session is gone.

    Raises InvalidTransitionError when a change, however it is made, would take up a complete goal again.
    """

    _documents: _GoalDocuments

    def __init__(self, shared: Shared, owner: Ref) -> None:
        category = owner.belongings
        super().__init__(shared, GOALS, category, "goal", owner=owner)
        self._documents = _GoalDocuments(shared, GOALS, category, owner=owner, keyed=False)

    def set(
        self,
        objective: str,
        *,
        token_budget: int | None = None,
        id: str | None = None,  # noqa: A002 - what the attribute is called
    ) -> Goal:
        """Make a new goal, active and with nothing used, in the place of any that there is; return it.

        Without an `id` it gets a new UUIDv7. Raises ValidationError for a negative budget.
        """
        return self.put(Goal(id=ids.new_id() if id is None else id, objective=objective, token_budget=token_budget))

    def put(self, value: Goal) -> Goal:
        """Save a goal as it is, and return it as stored. It must have an id.

        One with another id than the present goal's replaces that, whatever its status was. Raises CorruptRecordError
        when the file cannot be read: `delete` it first.
        """
        if not value.id:
            raise InvalidValueError("a goal needs an id; set() makes a new goal with one", at="$.id")
        return super().put(value)

    def spend(self, tokens: int = 0, seconds: float = 0) -> Goal:
        """Add to what was used of the goal, and return it: "budget_limited" once its tokens are used up.

        A complete goal stays complete. Raises ValueError for negative amounts, NotFoundError when there is no goal.
        """
        if not (tokens >= 0 and seconds >= 0):
            raise ValueError(f"what is spent must be 0 or more, got tokens={tokens!r}, seconds={seconds!r}")
        return self.update(lambda goal: _spent(goal, tokens, seconds))


class _GoalDocuments(RecordDocuments[Goal]):
    """The document of a goal: one with another id is a new goal, not a change of the present one."""

    def _put(self, ref: Ref, value: Goal, expect: str | None, *, merge: bool = False) -> Change:
        put = super()._put(ref, value, expect, merge=merge)
        return lambda blob: put(None if blob is not None and self._holds_other(blob, value, ref) else blob)

    def _holds_other(self, blob: Blob, goal: Goal, ref: Ref) -> bool:
        # Without the model: what was wrong with the other goal ends with it, unless a newer program wrote it.
        self.pending(blob, ref.name)
        document: object = codec.decode(blob, self._where(ref))
        return isinstance(document, dict) and cast("dict[str, Any]", document).get("id") != goal.id


def _spent(goal: Goal, tokens: int, seconds: float) -> None:
    goal.tokens_used += tokens
    goal.time_used_seconds += seconds
    if goal.tokens_left == 0 and not goal.is_final:
        goal.status = _LIMITED
