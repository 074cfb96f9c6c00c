"""A session's goal."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import (
    CorruptRecordError,
    InvalidTransitionError,
    InvalidValueError,
    NewerVersionError,
    NotFoundError,
    ValidationError,
)
from fsstate.goals import LIFECYCLE, Goal, SessionGoal
from fsstate.store import Store
from tests.contract.conftest import Elsewhere

PLACE = Ref("sessions/s", "goal", JSON)


@pytest.fixture
def goal(store: Store) -> SessionGoal:
    store.sessions.create(id="s")
    return store.session("s").goal


def document(store: Store) -> Any:
    return store.session("s").collection().require("goal")


def test_a_goal_comes_and_goes(store: Store, goal: SessionGoal) -> None:
    assert (goal.get(), goal.exists(), goal.delete()) == (None, False, False)
    made = goal.set("Ship it", token_budget=100)
    assert (made.objective, made.status, made.tokens_used, made.tokens_left) == ("Ship it", "active", 0, 100)
    assert made.created_at == made.updated_at is not None
    assert made.id
    for each in (goal, Store.over(store.backend).session("s").goal):
        assert each.get() == each.require() == made
        assert each.exists()
    other = goal.set("Ship it safely")
    assert (other.id != made.id, other.token_budget, other.tokens_left) == (True, None, None)
    assert other.created_at != made.created_at
    assert goal.delete() is True
    assert (goal.get(), goal.delete()) == (None, False)


def test_put_replaces_another_goal_whatever_its_status(
    store: Store, goal: SessionGoal, elsewhere_in: Elsewhere
) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    first = goal.put(Goal(id="g1", objective="one", token_budget=123, tokens_used=7, time_used_seconds=11))
    elsewhere_in(PLACE, b'{"id":"g1","objective":"one","status":"complete","token_budget":123,"note":"by hand"}')
    second = goal.put(Goal(id="g2", objective="two", status="budget_limited", created_at=then))
    assert goal.require() == second
    assert (second.token_budget, second.status, second.created_at) == (None, "budget_limited", then)
    assert "note" not in document(store), "nothing of the old goal is left"
    assert goal.put(first).tokens_used == 7


def test_put_of_the_same_goal_is_a_change_of_it(store: Store, goal: SessionGoal, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(PLACE, b'{"id":"g","objective":"one","note":"by hand"}')
    goal.put(Goal(id="g", objective="two", status="complete"))
    assert document(store)["note"] == "by hand"
    with pytest.raises(InvalidTransitionError, match="final"):
        goal.put(Goal(id="g", objective="two"))
    with pytest.raises(InvalidTransitionError, match="final"):
        goal.set("two", id="g")
    assert goal.put(Goal(id="g", objective="three", status="complete")).objective == "three"


def test_put_needs_an_id(goal: SessionGoal) -> None:
    with pytest.raises(InvalidValueError, match="id"):
        goal.put(Goal(objective="x"))
    assert not goal.exists()


@pytest.mark.parametrize("status", [status for status in LIFECYCLE.steps if status != "complete"])
def test_what_is_not_complete_may_become_all_else(goal: SessionGoal, status: str) -> None:
    for wanted in LIFECYCLE.steps:
        goal.put(Goal(id=wanted, objective="x", status=status))
        if wanted == status:
            with pytest.raises(InvalidTransitionError):
                goal.change(status=wanted)
        else:
            assert goal.change(status=wanted).status == wanted


@pytest.mark.parametrize("wanted", list(LIFECYCLE.steps))
def test_complete_is_final(goal: SessionGoal, wanted: str) -> None:
    goal.set("x")
    done = goal.change(status="complete")
    assert done.is_final
    with pytest.raises(InvalidTransitionError, match="final"):
        goal.change(status=wanted)
    if wanted != "complete":
        with pytest.raises(InvalidTransitionError, match="final"):
            goal.update(lambda goal: setattr(goal, "status", wanted))
        with pytest.raises(InvalidTransitionError, match="final"), goal.edit() as editing:
            editing.status = wanted
    assert goal.require() == done
    assert goal.change(objective="y").objective == "y"
    assert goal.set("again").status == "active"


def test_spending_ends_with_the_budget(goal: SessionGoal) -> None:
    goal.set("x", token_budget=10)
    assert (goal.spend(4, 1.5).status, goal.spend(seconds=2).time_used_seconds) == ("active", 3.5)
    assert goal.spend(5).tokens_left == 1
    limited = goal.spend(1)
    assert (limited.status, limited.tokens_used, limited.tokens_left) == ("budget_limited", 10, 0)
    over = goal.spend(3)
    assert (over.status, over.tokens_used, over.tokens_left) == ("budget_limited", 13, 0)
    assert goal.change(status="active", token_budget=20).tokens_left == 7
    assert goal.spend().status == "active"


@pytest.mark.parametrize("status", ["paused", "blocked", "usage_limited"])
def test_a_stopped_goal_is_limited_too(goal: SessionGoal, status: str) -> None:
    goal.put(Goal(id="g", objective="x", status=status, token_budget=1))
    assert goal.spend(1).status == "budget_limited"


def test_spending_on_others(goal: SessionGoal) -> None:
    with pytest.raises(NotFoundError):
        goal.spend(1)
    goal.set("no budget")
    assert goal.spend(10**12).status == "active"
    goal.put(Goal(id="g", objective="x", status="complete", token_budget=1))
    assert (goal.spend(5).status, goal.require().tokens_used) == ("complete", 5)
    goal.set("nothing allowed", token_budget=0)
    assert goal.spend().status == "budget_limited"


@pytest.mark.parametrize("amounts", [{"tokens": -1}, {"seconds": -0.1}, {"seconds": float("nan")}])
def test_negative_amounts_are_refused(goal: SessionGoal, amounts: dict[str, Any]) -> None:
    made = goal.set("x")
    with pytest.raises(ValueError, match="0 or more"):
        goal.spend(**amounts)
    with pytest.raises(ValidationError, match=r"\$.token"):
        goal.set("y", token_budget=-1)
    with pytest.raises(ValidationError, match="tokens_used"):
        goal.change(tokens_used=-1)
    assert goal.require() == made


def test_changes(goal: SessionGoal) -> None:
    with pytest.raises(NotFoundError):
        goal.change(objective="x")
    made = goal.set("x")
    assert goal.change(objective="y").updated_at != made.updated_at
    with pytest.raises(InvalidValueError, match="no status"):
        goal.change(status="odd")
    with pytest.raises(TypeError):
        goal.change(odd=1)
    with pytest.raises(ValidationError, match="no status"):
        goal.put(Goal(id="g", objective="x", status="odd"))
    assert goal.require().objective == "y"


def test_files_of_other_hands(goal: SessionGoal, store: Store, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(PLACE, b'{"objective":"x","created_at":1760000000,"odd":{"kept":1}}')
    found = goal.require()
    assert (found.id, found.status) == ("", "active")
    assert goal.spend(3).tokens_used == 3
    assert document(store)["odd"] == {"kept": 1}
    elsewhere_in(PLACE, b'{"id":"g","objective":"x","status":"odd"}')
    with pytest.raises(ValidationError, match="'odd' is no status"):
        goal.get()
    assert goal.set("y").status == "active"
    elsewhere_in(PLACE, b'{"id":"g","obj')
    for act in (goal.get, lambda: goal.set("z")):
        with pytest.raises(CorruptRecordError):
            act()
    assert goal.delete()
    goal.set("z")
    elsewhere_in(PLACE, b'{"id":"g","schema_version":2}')
    with pytest.raises(NewerVersionError):
        goal.set("not over what a newer program wrote")


def test_a_session_must_exist(store: Store, goal: SessionGoal) -> None:
    nobody = store.session("nobody").goal
    assert (nobody.get(), nobody.exists()) == (None, False)
    for act in (nobody.set, lambda text: nobody.put(Goal(id="g", objective=text))):
        with pytest.raises(NotFoundError, match="nobody"):
            act("x")
    goal.set("x")
    store.sessions.delete("s")
    assert goal.get() is None
    with pytest.raises(NotFoundError):
        goal.set("y")
    with pytest.raises(NotFoundError):
        goal.spend(1)
    with pytest.raises(NotFoundError):
        goal.change(status="complete")


def test_a_fork_has_no_goal(store: Store, goal: SessionGoal) -> None:
    goal.set("x")
    assert store.session(store.sessions.fork("s").id).goal.get() is None
