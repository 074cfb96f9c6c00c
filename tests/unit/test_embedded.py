"""Conversations that stand in a document."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate import codec
from fsstate.embedded import (
    BEGINNING_OF_MESSAGE,
    BEGINNING_OF_STEP,
    embedded_messages,
    embedded_steps,
    may_embed,
    place_of_message,
    place_of_step,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["seq", "content", "x"]), inner),
    max_leaves=6,
)


def said(*seconds: int | None) -> list[dict[str, Any]]:
    times = [None if second is None else f"2026-01-01T00:00:{second:02}Z" for second in seconds]
    return [{"content": f"{number}", "timestamp": time} for number, time in enumerate(times, 1)]


def order(users: list[Any], agents: list[Any]) -> list[str]:
    return [row["id"] for row in embedded_messages({"user_messages": users, "agent_responses": agents}).rows]


def test_order_is_by_turns_whatever_the_times_say() -> None:
    assert order(said(5), said(3)) == ["user-1", "agent-1"]
    assert order(said(10, 3), said(12, 5)) == ["user-1", "agent-1", "user-2", "agent-2"]
    assert order(said(10, 20), said(50, 21)) == ["user-1", "agent-1", "user-2", "agent-2"]
    assert order(said(1, 1, 1), said(1, 1)) == ["user-1", "agent-1", "user-2", "agent-2", "user-3"]
    assert order(said(None, None), said(None, 3, 4)) == ["user-1", "agent-1", "user-2", "agent-2", "agent-3"]
    assert order([], said(1)) == ["agent-1"]


def test_times_tell_which_messages_have_no_response_of_their_own() -> None:
    assert order(said(1, 2, 5), said(3, 4)) == ["user-1", "user-2", "agent-1", "agent-2", "user-3"]
    assert order(said(1, 2, 5), said(3)) == ["user-1", "user-2", "agent-1", "user-3"]
    assert order(said(1, 2, 5, 6), said(3, 7)) == ["user-1", "user-2", "agent-1", "user-3", "user-4", "agent-2"]


@pytest.mark.parametrize("users", [said(1, None, 5), said(2, 1, 5)])
def test_times_that_go_back_or_are_unknown_tell_nothing(users: list[Any]) -> None:
    assert order(users, said(30, 40)) == ["user-1", "agent-1", "user-2", "agent-2", "user-3"]


SAID = st.lists(st.none() | st.integers(0, 9), max_size=6).map(lambda seconds: said(*seconds))


@given(SAID, SAID | SAID.map(lambda items: sorted(items, key=lambda item: item["timestamp"] or "")))
def test_lists_keep_their_order_and_no_response_comes_before_its_message(users: list[Any], agents: list[Any]) -> None:
    found = order(users, agents)
    assert [name for name in found if name[0] == "u"] == [f"user-{number + 1}" for number in range(len(users))]
    assert [name for name in found if name[0] == "a"] == [f"agent-{number + 1}" for number in range(len(agents))]
    for number in range(1, min(len(users), len(agents)) + 1):
        assert found.index(f"user-{number}") < found.index(f"agent-{number}")


def test_places() -> None:
    assert place_of_message("user-3") == "$.user_messages[2]"
    assert place_of_message("agent-1") == "$.agent_responses[0]"
    assert place_of_step("2") == "$.trajectory_steps[1]"


def test_one_line() -> None:
    rows = embedded_messages({"user_messages": said(1, 3), "agent_responses": said(2)}).rows
    assert [row.get("parent") for row in rows] == [None, "user-1", "agent-1"]
    assert rows[1] == {
        "id": "agent-1",
        "role": "assistant",
        "content": "1",
        "parent": "user-1",
        "at": "2026-01-01T00:00:02.000000Z",
    }


def test_all_that_was_said_of_a_response_is_kept() -> None:
    answer: dict[str, Any] = {"content": "Hi", "seed_id": "s1", "phase_reached": None, "evaluation_passed": False}
    answer |= {"timestamp": "2026-01-01T00:00:00.123456789+02:00", "trajectory_range": {"start": 0, "end": 2}}
    (row,) = embedded_messages({"agent_responses": [answer]}).rows
    assert row["metadata"] == {"seed_id": "s1", "evaluation_passed": False}
    assert row["steps"] == [0, 2]
    assert row["at"] == "2025-12-31T22:00:00.123456Z"


def test_what_cannot_be_read_is_named_and_hides_nothing() -> None:
    odd = {"content": "c", "timestamp": "soon", "trajectory_range": {"start": -1, "end": 2}}
    found = embedded_messages({"user_messages": [5, {"text": "a"}, {"content": "b"}], "agent_responses": [odd]})
    assert [row["id"] for row in found.rows] == ["user-3", "agent-1"]
    assert found.rows[1]["metadata"] == {"timestamp": "soon", "trajectory_range": {"start": -1, "end": 2}}
    assert [flaw.partition(":")[0] for flaw in found.flaws] == [
        "$.user_messages[0]",
        "$.user_messages[1]",
        "$.agent_responses[0].timestamp",
        "$.agent_responses[0].trajectory_range",
    ]
    assert embedded_messages({"user_messages": "all"}) == ([], ["$.user_messages: expected an array"])
    assert embedded_messages([]) == embedded_steps(None) == ([], [])


def test_steps_keep_their_places() -> None:
    items = [{"timestamp": "2026-01-01T00:00:00Z", "tool_name": "grep", "more": 1, "seq": 9}, None, {"tool_name": "b"}]
    found = embedded_steps({"trajectory_steps": items})
    assert found.rows == [
        {"tool_name": "grep", "more": 1, "at": "2026-01-01T00:00:00.000000Z"},
        {"malformed": None},
        {"tool_name": "b"},
    ]
    assert [flaw.partition(":")[0] for flaw in found.flaws] == ["$.trajectory_steps[0].seq", "$.trajectory_steps[1]"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.lists(JSON_VALUES, max_size=4) | JSON_VALUES
            for name in ("user_messages", "agent_responses", "trajectory_steps")
        },
    )
)
def test_any_document_gives_lines_that_a_log_takes(document: dict[str, Any]) -> None:
    assert may_embed(codec.encode(document)) == bool(document)
    for find, beginning in ((embedded_messages, BEGINNING_OF_MESSAGE), (embedded_steps, BEGINNING_OF_STEP)):
        for number, row in enumerate(find(document).rows, 1):
            assert not {"seq", "fsstate"} & set(row)
            assert beginning.match(b'{"seq":%d,' % number + codec.encode_line(row)[1:])
