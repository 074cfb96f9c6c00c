"""Which step may follow which."""

import pytest

from fsstate.errors import InvalidTransitionError, InvalidValueError
from fsstate.lifecycle import Lifecycle

LIGHT = Lifecycle(steps={"red": ("green",), "green": ("yellow",), "yellow": ()}, stamps={"green": "went_at"})


def test_steps() -> None:
    LIGHT.check_step("x", "red", "green")
    with pytest.raises(InvalidTransitionError) as caught:
        LIGHT.check_step("x", "red", "yellow")
    assert caught.value.allowed == ["green"]
    with pytest.raises(InvalidTransitionError, match="final"):
        LIGHT.check_step("x", "yellow", "red")
    with pytest.raises(InvalidValueError, match="no status"):
        LIGHT.check_step("x", "red", "blue")
    assert LIGHT.is_final("yellow")
    assert not LIGHT.is_final("red")


def test_a_stamp_keeps_the_first_time() -> None:
    record = {"went_at": "then"}
    LIGHT.stamp(record, "green", "now")
    assert record == {"went_at": "then"}


def test_stamps_may_be_left_out() -> None:
    record = {"status": "red"}
    Lifecycle(steps={"red": ()}).stamp(record, "red", "now")
    assert record == {"status": "red"}


OPEN = Lifecycle(steps={"running": ("done", "*"), "done": (), "*": ()}, stamps={"running": "began_at", "*": "ended_at"})


def test_any_other_status() -> None:
    OPEN.check_step("x", "running", "done")
    OPEN.check_step("x", "running", "partial")
    assert OPEN.is_final("partial")
    for wanted in ("running", "done", "odd"):
        with pytest.raises(InvalidTransitionError, match="final"):
            OPEN.check_step("x", "partial", wanted)
    for nothing in ("", "*"):
        with pytest.raises(InvalidValueError, match="no status"):
            OPEN.check_step("x", "running", nothing)
    record: dict[str, str] = {}
    OPEN.stamp(record, "done", "now")
    assert record == {}
    OPEN.stamp(record, "partial", "now")
    assert record == {"ended_at": "now"}


@pytest.mark.parametrize("nonsense", [None, 5, [], {}, "blue"])
def test_what_is_no_status(nonsense: object) -> None:
    assert not LIGHT.knows(nonsense)
    assert LIGHT.knows("red")
