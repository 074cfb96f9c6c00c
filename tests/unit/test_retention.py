"""What a policy prunes, and how often."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.keys import NULL, key_of
from fsstate.retention import Age, Candidate, Newest, PrunePolicy, Throttle, select_expired

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


@pytest.mark.parametrize(
    "limits", [{"keep": 1.5}, {"keep": True}, {"keep": float("nan")}, {"batch": 0.5}, {"batch": "1"}, {"ttl": 3600}]
)
def test_what_is_no_limit_is_refused(limits: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="must be a"):
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


# -- the newest of a folder


class Folder:
    """Records with ages, and a note of which were looked at."""

    def __init__(self, ages: dict[str, int | None], busy: Iterable[str] = ()) -> None:
        self.ages = ages
        self.busy = set(busy)
        self.looked: list[str] = []

    def look(self, name: str) -> Age | None:
        self.looked.append(name)
        age = self.ages[name]
        return None if age is None else Age(name in self.busy, key_of(age) or NULL, name)

    def surplus(self, newest: Newest, *, coming: int = 1, folder: str = "f") -> list[str]:
        self.looked.clear()
        return [age.name for age in newest.surplus(folder, sorted(self.ages), self.look, coming=coming)]


def test_the_oldest_are_too_many() -> None:
    folder = Folder({"a": 3, "b": 1, "c": 2})
    assert folder.surplus(Newest(4)) == []
    assert folder.looked == []
    assert folder.surplus(Newest(3)) == ["b"]
    assert folder.surplus(Newest(3), coming=0) == []
    assert folder.surplus(Newest(2)) == ["b", "c"]
    assert Folder({"b": 1, "a": 1, "c": 1}).surplus(Newest(2)) == ["a", "b"]


def test_what_cannot_be_judged_stays() -> None:
    # Nor does it take the place of one that can be.
    assert Folder({"a": None, "b": 1, "c": 2}).surplus(Newest(2)) == ["b"]
    assert Folder({"a": None}).surplus(Newest(1)) == []


def test_busy_ones_go_last() -> None:
    folder = Folder({"a": 1, "b": 2, "c": 3}, busy={"a", "c"})
    assert folder.surplus(Newest(3)) == ["b"]
    assert folder.surplus(Newest(2)) == ["b", "a"]


def test_ages_are_remembered_and_those_that_are_to_go_looked_at_again() -> None:
    newest, folder = Newest(3), Folder({"a": 1, "b": 2, "c": 3})
    assert folder.surplus(newest) == ["a"]
    assert sorted(folder.looked) == ["a", "a", "b", "c"]
    folder.ages["a"] = 9
    assert folder.surplus(newest) == ["b"]
    assert folder.looked == ["a", "b"]
    folder.busy.add("b")
    assert folder.surplus(newest) == ["c"]
    folder.ages["c"] = None
    assert folder.surplus(newest) == []
    folder.busy.clear()
    folder.ages["f"] = 5
    assert folder.surplus(newest) == ["b"]
    del folder.ages["b"]
    folder.ages |= {"d": 4, "e": 0}
    assert folder.surplus(newest) == ["e", "d"]


def test_folders_do_not_mix() -> None:
    newest = Newest(1)
    for number in range(600):
        assert Folder({"a": number}).surplus(newest, folder=str(number)) == ["a"]


def test_room() -> None:
    newest = Newest(3)
    assert not newest.had_room("f")
    Folder({"a": 1}).surplus(newest)
    assert newest.had_room("f")
    assert not newest.had_room("g")
    Folder({"a": 1, "b": 1}).surplus(newest)
    assert not newest.had_room("f")


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 5)), st.integers(1, 6))
def test_exactly_so_many_stay(ages: dict[str, int | None], keep: int) -> None:
    folder = Folder(ages)
    gone = folder.surplus(Newest(keep))
    assert len(ages) - len(gone) == min(len(ages), keep - 1)
    ordered = sorted(ages, key=lambda name: (ages[name], name))
    assert gone == ordered[: len(gone)]
