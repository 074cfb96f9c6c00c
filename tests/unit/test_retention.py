"""What a policy prunes, and how often."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.retention import Candidate, PrunePolicy, Throttle, select_expired

NOW = datetime(2026, 1, 10, tzinfo=UTC)
WEEK = PrunePolicy(ttl=timedelta(days=7))


def days_ago(*days: float) -> list[Candidate]:
    return [Candidate(f"{day:g}", NOW - timedelta(days=day)) for day in days]


def ids(candidates: list[Candidate], policy: PrunePolicy) -> list[str]:
    return [expired.id for expired in select_expired(candidates, policy, NOW)]


def test_ttl_takes_what_was_idle_for_longer_and_not_what_is_exactly_as_old() -> None:
    assert ids(days_ago(1, 7, 7.5, 9), WEEK) == ["9", "7.5"]


def test_count_keeps_the_latest() -> None:
    assert ids(days_ago(3, 1, 2), PrunePolicy(keep=2)) == ["3"]


def test_ttl_goes_first_and_does_not_use_up_the_count() -> None:
    found = select_expired(days_ago(1, 2, 3, 9), PrunePolicy(ttl=timedelta(days=7), keep=2), NOW)
    assert [(each.id, each.reason) for each in found] == [("9", "ttl"), ("3", "count")]


def test_a_batch_takes_the_oldest() -> None:
    assert ids(days_ago(8, 9, 10, 1), PrunePolicy(ttl=timedelta(days=7), batch=2)) == ["10", "9"]


def test_a_time_in_the_future_is_no_age() -> None:
    assert ids(days_ago(-100), WEEK) == []


def test_what_does_not_tell_its_time_stays() -> None:
    assert ids([Candidate("x", None)], PrunePolicy(ttl=timedelta(1), keep=1)) == []


def test_equals_go_by_id() -> None:
    assert ids([Candidate(name, NOW) for name in "cab"], PrunePolicy(keep=1)) == ["a", "b"]


@given(st.lists(st.floats(0, 30)), st.integers(1, 10))
def test_what_stays_is_never_older_than_what_goes(ages: list[float], keep: int) -> None:
    times = {str(index): NOW - timedelta(days=age) for index, age in enumerate(ages)}
    gone = set(ids([Candidate(*item) for item in times.items()], PrunePolicy(keep=keep)))
    assert len(times) - len(gone) == min(keep, len(times))
    assert all(times[old] <= times[young] for old in gone for young in times.keys() - gone)


@pytest.mark.parametrize("limits", [{"keep": 0}, {"keep": -1}, {"batch": 0}, {"ttl": timedelta(0)}])
def test_a_limit_of_nothing_is_refused(limits: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="None means"):
        PrunePolicy(**limits)  # type: ignore[arg-type]


def test_a_policy_without_limits_prunes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert ids(days_ago(1000), PrunePolicy()) == []
    assert "prunes nothing" in caplog.text


def test_a_throttle_says_yes_once_per_cooldown() -> None:
    seconds = [0.0]
    throttle = Throttle(timedelta(seconds=10), clock=lambda: seconds[0])
    assert throttle.ready()
    assert not throttle.ready()
    seconds[0] = 9.9
    assert not throttle.ready()
    seconds[0] = 10
    assert throttle.ready()
    assert not throttle.ready()
