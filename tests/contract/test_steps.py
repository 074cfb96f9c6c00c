"""A session's steps."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.errors import InvalidValueError, NotFoundError, ValidationError
from fsstate.steps import Step, Steps
from fsstate.store import Store


@pytest.fixture
def steps(store: Store) -> Steps:
    store.sessions.create(id="s")
    return store.session("s").steps


def test_steps_are_numbered_from_zero(steps: Steps) -> None:
    assert steps.append("grep", {"x": 1}, output_summary="3 hits", duration_ms=12, is_error=False, cost=0.5) == 0
    assert steps.extend([Step(tool_name="a"), Step(tool_name="b", is_error=True)]) == range(1, 3)
    first, second, third = steps.list()
    assert (first.number, first.tool_name, first.tool_args, first.extra) == (0, "grep", {"x": 1}, {"cost": 0.5})
    assert (first.output_summary, first.duration_ms) == ("3 hits", 12)
    assert first.timestamp is not None
    assert (second.number, third.is_error) == (1, True)
    assert steps.count() == 3


def test_ranges(steps: Steps) -> None:
    numbers = steps.extend([Step(tool_name=str(number)) for number in range(10)])
    assert [step.number for step in steps.slice(numbers[3], numbers[3] + 4)] == [3, 4, 5, 6]
    assert [step.number for step in steps.slice(8, 99)] == [8, 9]
    assert [step.number for step in steps.slice(-5, 2)] == [0, 1]
    assert steps.slice(5, 5) == steps.slice(6, 5) == []
    assert [step.number for step in steps.tail(2)] == [8, 9]
    assert steps.tail(0) == []


def test_times_are_kept(steps: Steps) -> None:
    then = datetime(2025, 1, 1, tzinfo=UTC)
    steps.append("a", timestamp=then)
    assert steps.list()[0].timestamp == then


def test_lines_of_other_hands(store: Store, steps: Steps) -> None:
    rows = [b'{"tool_name":"a","at":1767225600,"more":[1]}', b'{"odd":1}', b'{"tool_name":"b"}']
    store.backend.append(Ref("sessions/s", "steps", LOG), lambda _: rows)
    found = steps.list()
    assert [step.number for step in found] == [0, 2]
    assert (found[0].timestamp, found[0].extra) == (datetime(2026, 1, 1, tzinfo=UTC), {"more": [1]})


def test_refused(store: Store, steps: Steps) -> None:
    with pytest.raises(InvalidValueError):
        steps.append("a", {1})
    with pytest.raises(NotFoundError):
        store.session("nobody").steps.append("a")
    assert steps.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("tool_name", 3), ("output_summary", 3), ("duration_ms", "1"), ("is_error", 3), ("timestamp", "2020")],
)
def test_a_refused_step_writes_nothing(steps: Steps, field: str, value: Any) -> None:
    with pytest.raises((ValidationError, InvalidValueError), match=rf"\$\.{field}"):
        steps.append(**{"tool_name": "grep", field: value})
    assert (steps.count(), steps.problems()) == (0, [])
