"""A session's goal for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import offloaded
from fsstate.aio.records import AsyncSingle
from fsstate.goals import Goal, SessionGoal

__all__ = ["AsyncSessionGoal"]


class AsyncSessionGoal(AsyncSingle[Goal]):
    """The goal of one session; see `fsstate.SessionGoal`."""

    set = offloaded(SessionGoal.set)
    spend = offloaded(SessionGoal.spend)
