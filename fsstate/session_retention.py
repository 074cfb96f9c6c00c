"""Which sessions a policy wants to go, asked of the index: what `select_expired` decides by looking at each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from fsstate.conditions import Prefix, Range
from fsstate.index import Found, Index, Table
from fsstate.keys import NULL, text_in
from fsstate.queries import Order, Question, criteria_of
from fsstate.retention import Candidate, Kept, PrunePolicy, Reason, Shortlist
from fsstate.session_view import EXEMPT, IDLE_SINCE, SessionView

__all__ = ["shortlist"]

_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


def shortlist(
    index: Index, view: SessionView, reach: Mapping[str, object], policy: PrunePolicy, now: datetime
) -> Shortlist | None:
    """What a policy wants of the sessions within reach. None for what only a look at each tells: groups and bytes."""
    if policy.per is not None or policy.max_bytes is not None:
        return None
    return index.ask(view, lambda table: _asked(table, view, reach, policy, now))


def _asked(
    table: Table, view: SessionView, reach: Mapping[str, object], policy: PrunePolicy, now: datetime
) -> Shortlist:
    oldest = _oldest_allowed(policy, now)
    due: list[tuple[Found, Reason]] = []
    if oldest is not None:
        due += _due(table.select(_idle(reach, Range(below=oldest), policy.batch)), "ttl")
    if policy.keep is not None:
        rest = _idle(reach, Range(at_least=_BEFORE_ALL if oldest is None else oldest), None)
        surplus = max(0, table.count(rest) - policy.keep)
        due += _due(table.select(rest._replace(limit=surplus)), "count")
    expired: list[tuple[Candidate, Reason]] = [(_candidate(each, view), reason) for each, reason in due[: policy.batch]]
    # Nobody can tell whose they are that cannot be read.
    unreadable = [] if reach else [Kept(place, f"error: {flaw}") for place, flaw in table.flaws()]
    number, size = table.weigh(Question(criteria_of(reach)))
    return Shortlist(expired, sorted([*_exempt(table, reach), *unreadable]), number + len(unreadable), size)


def _due(found: Iterable[Found], reason: Reason) -> list[tuple[Found, Reason]]:
    return [(each, reason) for each in found]


def _oldest_allowed(policy: PrunePolicy, now: datetime) -> datetime | None:
    """When the oldest session that the ttl lets stay was last active."""
    try:
        return None if policy.ttl is None else now - policy.ttl
    except OverflowError:
        return None


def _idle(reach: Mapping[str, object], since: Range, limit: int | None) -> Question:
    """The sessions that may be pruned and were last active then, the oldest first."""
    return Question(criteria_of({**reach, IDLE_SINCE: since}), (Order(IDLE_SINCE, descending=False),), limit=limit)


def _exempt(table: Table, reach: Mapping[str, object]) -> Iterator[Kept]:
    """Those that stay whatever a policy says."""
    question = Question(criteria_of({**reach, EXEMPT: Prefix("")}), (Order(EXEMPT, descending=False),))
    for each in table.select(question):
        yield Kept(each.place, text_in(each.position.keys[0] or NULL) or "")


def _candidate(found: Found, view: SessionView) -> Candidate:
    summed = view.summed(found.value)
    size, mark, has_belongings = summed.footprint
    active = summed.summary.updated_at
    return Candidate(found.place, active, size, mark=mark, has_belongings=has_belongings)
