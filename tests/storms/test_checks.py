"""The judges of histories: each finds what it is there for, and nothing in a history that is right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storms.checks import (
    counter_problems,
    document_problems,
    entry_problems,
    growth_problems,
    lifetime_problems,
    listing_problems,
    number_problems,
    reading_problems,
)
from tests.storms.history import Operation, Outcome, Recorder, read_history
from tests.storms.linearizability import first_misfit
from tests.storms.models import Document, document


def did(
    does: str, begun: int, ended: int | None, result: Any = None, *, outcome: Outcome = "done", **given: Any
) -> Operation:  # fmt: skip
    name = f"{begun}-{ended}"
    return Operation(
        id=name, does=does, on="it", begun=begun, ended=ended, outcome=outcome, result=result, given=given
    )  # fmt: skip


def unknown(does: str, begun: int, ended: int | None, **given: Any) -> Operation:
    return did(does, begun, ended, outcome="unknown", **given)


# -- documents


def test_overlapping_operations_may_be_in_any_order() -> None:
    written = did("update", 0, 10, {"counter": 2}, add=1)
    assert document_problems([written, did("update", 1, 9, {"counter": 1}, add=1)]) == []


def test_a_lost_update_is_found() -> None:
    both = [did("update", 0, 10, {"counter": 1}, add=1), did("update", 1, 9, {"counter": 1}, add=1)]
    assert document_problems(both)
    assert counter_problems(1, both) == ["the counter is 1, expected 2 to 2"]
    assert counter_problems(3, both)


def test_a_lost_register_is_found() -> None:
    first, second = did("update", 0, 1, register="a"), did("update", 2, 3, register="b")
    assert document_problems([first, second, did("read", 4, 5, {"register": "b"})]) == []
    assert document_problems([first, second, did("read", 4, 5, {"register": "a"})])


def test_a_stale_read_is_found() -> None:
    written = did("update", 0, 10, register="new")
    saw_new = did("read", 1, 2, {"register": "new"})
    assert document_problems([written, saw_new, did("read", 1, 3, {"register": ""})]) == []
    assert document_problems([written, saw_new, did("read", 3, 4, {"register": ""})])


def test_a_write_over_a_state_that_was_not_expected_is_found() -> None:
    others = did("update", 0, 1, register="theirs")
    over = did("put", 2, 3, register="mine", add=1, expects=["", "", 0])
    assert document_problems([others, over])
    assert document_problems([others, did("put", 2, 3, register="mine", expects=["theirs", "", 0])]) == []
    assert document_problems([others, did("put", 2, 3, outcome="refused", register="mine", expects=["", "", 0])]) == []


def test_an_overwritten_note_is_found() -> None:
    """A person wrote it while a program edited."""
    person, edit = did("person", 1, 2, note="hi"), did("edit", 0, 3, {"counter": 1}, add=1)
    assert document_problems([person, edit, did("read", 4, 5, {"note": "hi", "counter": 1})]) == []
    assert document_problems([person, edit, did("read", 4, 5, {"note": "", "counter": 1})])


def test_a_person_takes_back_what_was_before_a_save_and_nothing_behind_it() -> None:
    counted = [did("update", 0, 1, {"counter": 1}, add=1), did("save", 2, 3, becomes=["", "hi", 0])]
    assert document_problems([*counted, did("read", 4, 5, {"note": "hi", "counter": 0})]) == []
    assert document_problems([*counted, did("read", 4, 5, {"note": "", "counter": 1})])
    behind = [*counted, did("update", 4, 5, add=1)]
    assert document_problems([*behind, did("read", 6, 7, {"note": "hi", "counter": 1})]) == []
    assert document_problems([*behind, did("read", 6, 7, {"note": "hi", "counter": 0})])


@pytest.mark.parametrize(("counter", "is_right"), [(0, True), (17, True), (40, True), (41, False)])
def test_many_that_were_killed_at_once_are_judged_soon(counter: int, is_right: bool) -> None:
    killed = [unknown("update", number, 100, add=1, register=f"r{number}") for number in range(40)]
    read = did("read", 200, 201, {"counter": counter})
    assert (document_problems([*killed, read]) == []) == is_right


def test_what_nobody_was_told_of_may_have_happened_until_it_ended_or_never() -> None:
    killed = unknown("update", 0, 5, add=1)
    assert document_problems([killed, did("read", 6, 7, {"counter": 0})]) == []
    assert document_problems([killed, did("read", 6, 7, {"counter": 1})]) == []
    # The dead do nothing, and nothing is undone.
    assert document_problems([killed, did("read", 6, 7, {"counter": 0}), did("read", 8, 9, {"counter": 1})])
    assert document_problems([killed, did("read", 6, 7, {"counter": 1}), did("read", 8, 9, {"counter": 0})])
    for_ever = unknown("update", 0, None, add=1)
    assert document_problems([for_ever, did("read", 6, 7, {"counter": 0}), did("read", 8, 9, {"counter": 1})]) == []


def played(chance: random.Random, length: int) -> tuple[list[Operation], Document]:
    """A history of some hands that is right by its making: each takes effect at a moment between begin and end."""
    state, operations = Document(), list[Operation]()
    moments = sorted(chance.sample(range(100, 100 * length), length))
    for number, moment in enumerate(moments):
        given: dict[str, Any] = chance.choice(
            [{"register": f"r{number}"}, {"add": 1}, {"register": f"r{number}", "add": 1}, {}]
        )
        begun, ended = moment - chance.randrange(90), moment + chance.randrange(90)
        is_unknown = bool(given) and chance.random() < 0.1
        if is_unknown and chance.random() < 0.5:
            operations.append(unknown("update", begun, ended, **given))
            continue
        state = Document(given.get("register", state.register), "", state.counter + given.get("add", 0))
        seen = {"register": state.register, "counter": state.counter}
        end = unknown("update", begun, ended, **given) if is_unknown else did("update", begun, ended, seen, **given)
        operations.append(end)
    return operations, state


def orders(operations: list[Operation]) -> Iterator[list[Operation]]:
    """All orders that real time allows: what the search must not do."""
    if not operations:
        yield []
    for each in operations:
        rest = [other for other in operations if other is not each]
        if not any(other.is_before(each) for other in rest):
            yield from ([each, *order] for order in orders(rest))


def fits(operations: list[Operation]) -> bool:
    """The definition, tried out: some of the unknown ones happened, and some order of all fits."""
    uncertain = [each for each in operations if each.outcome == "unknown"]
    for chosen in range(1 << len(uncertain)):
        gone = [each for number, each in enumerate(uncertain) if not chosen >> number & 1]
        for order in orders([each for each in operations if each not in gone]):
            states = [Document()]
            for each in order:
                states = [after for state in states for after in document(state, each)]
            if states:
                return True
    return False


@pytest.mark.parametrize("seed", range(20))
def test_what_is_right_is_found_right_however_long(seed: int) -> None:
    operations, _ = played(random.Random(seed), 300)
    assert document_problems(operations) == []


@pytest.mark.parametrize("seed", range(60))
def test_the_search_says_what_the_definition_says(seed: int) -> None:
    chance = random.Random(seed)
    operations, _ = played(chance, 6)
    for each in chance.sample(operations, 2):
        if each.result:
            each.result["counter"] = max(0, each.result["counter"] + chance.choice((-1, 0, 1)))
    assert (first_misfit(operations, Document(), document) is None) == fits(operations)


# -- records that come and go


def test_a_resurrected_record_is_found() -> None:
    made, gone = did("create", 0, 1, content="a"), did("delete", 2, 3, result=True)
    assert lifetime_problems([made, gone, did("get", 4, 5)]) == []
    assert lifetime_problems([made, gone, did("get", 4, 5, "a")])
    assert lifetime_problems([made, gone, did("create", 4, 5, outcome="refused", content="b")])


def test_a_record_that_is_made_or_deleted_twice_is_found() -> None:
    assert lifetime_problems([did("create", 0, 1, content="a"), did("create", 2, 3, content="b")])
    gone = [did("delete", 2, 3, result=True), did("delete", 2, 4, result=True)]
    assert lifetime_problems([did("create", 0, 1, content="a"), *gone])


def test_the_trash_gives_back_what_was_pruned_once() -> None:
    pruned = [did("create", 0, 1, content="a"), did("prune", 2, 3), did("restore", 4, 5)]
    assert lifetime_problems([*pruned, did("get", 6, 7, "a")]) == []
    assert lifetime_problems([*pruned, did("get", 6, 7)])
    assert lifetime_problems([*pruned, did("delete", 6, 7, result=True), did("restore", 8, 9)])


def test_what_came_back_from_the_trash_is_what_was_there() -> None:
    first, second = did("create", 0, 1, content="a"), did("create", 4, 5, content="b")
    trashed = [first, did("prune", 2, 3), second, did("prune", 6, 7)]
    assert lifetime_problems([*trashed, did("restore", 8, 9, "a"), did("get", 10, 11, "a")]) == []
    assert lifetime_problems([*trashed, did("restore", 8, 9), did("get", 10, 11, "b")]) == []
    assert lifetime_problems([*trashed, did("restore", 8, 9, "a"), did("get", 10, 11, "b")])
    assert lifetime_problems([*trashed, did("restore", 8, 9, "c")])


# -- logs


APPENDS = [did("append", 0, 1, 1, text="a"), did("append", 2, 5, 2, text="b"), did("append", 3, 6, 3, text="c")]


def test_numbers_that_are_missing_or_twice_there_are_found() -> None:
    assert number_problems([1, 2, 3]) == []
    assert number_problems([1, 2, 2])
    assert number_problems([1, 3])


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [("abc", None), ("ab", "missing"), ("abcb", "2 times"), ("abcx", "nowhere"), ("acb", "told number")],
)
def test_entries_are_there_once_and_where_was_told(tokens: str, problem: str | None) -> None:
    found = entry_problems(list(tokens), APPENDS)
    assert any(problem in each for each in found) if problem else found == []


def test_entries_against_time_are_found() -> None:
    first, second = did("say", 0, 1, text="a"), did("say", 2, 3, text="b")
    assert entry_problems(["a", "b"], [first, second]) == []
    assert "stands behind" in entry_problems(["b", "a"], [first, second])[0]


def test_entries_of_the_killed_may_be_there_or_not_but_those_of_the_refused_are_not() -> None:
    killed, refused = unknown("append", 0, 9, text="z"), did("append", 0, 9, outcome="refused", text="y")
    assert entry_problems([], [killed, refused]) == entry_problems(["z"], [killed, refused]) == []
    assert entry_problems(["y"], [killed, refused])


@pytest.mark.parametrize(
    ("begun", "ended", "seen", "problem"),
    [
        (3, 4, "a", None), (3, 4, "abc", None), (7, 8, "bc", None), (0, 1, "", None),
        (7, 8, "ab", "did not see"), (7, 8, "ac", "follow"), (7, 8, "x", "not in the log"), (0, 1, "ab", "only later"),
    ],
)  # fmt: skip
def test_reads_see_a_piece_up_to_the_end_of_that_moment(begun: int, ended: int, seen: str, problem: str | None) -> None:
    found = reading_problems(["a", "b", "c"], APPENDS, [did("tail", begun, ended, list(seen))])
    assert any(problem in each for each in found) if problem else found == []


def test_reads_that_go_back_are_found() -> None:
    reads = [did("tail", 3, 4, ["a", "b"]), did("tail", 5, 6, ["a"])]
    slow = [APPENDS[0], did("append", 2, 9, 2, text="b")]
    assert "less than a read before" in reading_problems(["a", "b"], slow, reads)[0]


# -- lists


@pytest.mark.parametrize(
    ("operations", "may_be_in", "may_be_out"),
    [
        ([did("create", 0, 1)], True, False),
        ([did("create", 0, 15)], True, True),
        ([], False, True),
        ([did("create", 25, 26)], False, True),
        ([did("create", 0, 1), did("delete", 2, 3)], False, True),
        ([did("create", 0, 1), did("delete", 12, 13)], True, True),
        ([did("create", 0, 1), unknown("prune", 2, 3)], True, True),
        ([did("create", 0, 1), did("delete", 2, 3), did("restore", 4, 5)], True, False),
        ([did("create", 0, 1), did("delete", 21, 22)], True, False),
    ],
)
def test_lists_have_what_was_there_all_the_time(operations: list[Operation], may_be_in: bool, may_be_out: bool) -> None:
    with_it, without = did("list", 10, 20, ["it"]), did("list", 10, 20, [])
    assert (listing_problems([with_it], {"it": operations}) == []) == may_be_in
    assert (listing_problems([without], {"it": operations}) == []) == may_be_out


# -- what goes on


def test_what_grows_without_end_is_found() -> None:
    level = [10, 50, 60, 60, 61, 60, 60, 61, 60.0]
    assert growth_problems(level, "memory", slack=5) == []
    assert growth_problems([float(number) for number in range(90)], "memory", slack=5)
    assert growth_problems([1.0], "memory", slack=5) == []


def test_a_history_tells_what_was_under_way_when_its_program_died(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "0.jsonl")
    told, lost = (recorder.begin("append", "trail", {"text": token}) for token in "ab")
    recorder.end(told, "done", result=1)
    recorder.close()
    first, second = read_history([tmp_path / "0.jsonl"], {int(lost.partition("-")[0]): 1 << 62})
    assert (first.id, first.outcome, first.result, first.given) == (told, "done", 1, {"text": "a"})
    assert (second.id, second.outcome, second.ended) == (lost, "unknown", 1 << 62)
    assert first.begun <= (first.ended or 0) < 1 << 62
