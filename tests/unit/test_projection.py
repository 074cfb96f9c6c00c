"""A state that follows from a log is never older than the log, and computed anew only when it must be."""

import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.backends.base import LOG, Backend, BadLine, LogLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import ValidationError
from fsstate.journal import Log
from fsstate.projection import Projection, Projections, Row, fold_record, readable

REF = Ref("a", "log", LOG)


def fold_only(records: dict[str, Row], row: Row) -> None:
    fold_record(records, row)


def projection(
    backend: Backend, folded: list[int] | None = None, *, patience: float = 1000
) -> Projection[dict[str, Row]]:
    def fold(records: dict[str, Row], row: Row) -> None:
        if folded is not None:
            folded.append(row["seq"])
        fold_record(records, row)

    return Projections(backend, patience=patience).of(Log(backend, REF), dict, fold)


def ids(one: Projection[dict[str, Row]]) -> list[str]:
    return one.view(list)


def test_records_are_added_changed_and_added_once() -> None:
    records: dict[str, Any] = {}
    assert fold_record(records, {"id": "a", "x": 1}) is records["a"]
    assert fold_record(records, {"id": "a", "x": 2}) is None
    assert fold_record(records, {"update": "a", "y": 3, "at": "now"}) is records["a"]
    assert fold_record(records, {"update": "b"}) is None
    assert fold_record(records, {"kind": "other"}) is None
    assert records == {"a": {"id": "a", "x": 1, "y": 3}}


def test_a_state_is_kept_until_the_log_changes() -> None:
    backend, folded = MemoryBackend(), list[int]()
    state = projection(backend, folded)
    assert ids(state) == []
    Log(backend, REF).append([{"id": "a"}])
    assert ids(state) == ids(state) == ["a"]
    assert folded == [1]


def test_own_appends_are_folded_without_reading_again(tmp_path: Path) -> None:
    backend, folded = FileBackend(tmp_path), list[int]()
    state = projection(backend, folded)
    Log(backend, REF).append([{"id": "a"}])
    ids(state)
    for name in "bcdefghijk":
        state.append(lambda _, name=name: [{"id": name}])  # type: ignore[misc]
    assert ids(state) == list("abcdefghijk")
    assert folded == list(range(1, 12))
    backend.close()


def test_an_edit_in_place_is_seen_also_when_an_append_follows(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path)
    state = projection(backend)
    state.append(lambda _: [{"id": "teh"}, {"id": "end"}])
    assert ids(state) == ["teh", "end"]
    path = Path(backend.location(REF))
    with path.open("r+b") as file:  # same inode, same size, as some editors do
        data = file.read()
        file.seek(0)
        file.write(data.replace(b"teh", b"the"))
    os.utime(path)
    state.append(lambda _: [{"id": "new"}])
    assert ids(state) == ["the", "end", "new"]
    backend.close()


def test_a_decision_sees_all_that_came_before(tmp_path: Path) -> None:
    one, other = FileBackend(tmp_path), FileBackend(tmp_path)
    mine, theirs = projection(one), projection(other)
    for number in range(5):
        for each in (mine, theirs):
            rows = each.append(lambda records: [{"id": str(len(records))}])
            assert rows[0]["id"] == str(rows[0]["seq"] - 1), number
    one.close()
    other.close()


@pytest.fixture(params=["memory", "files"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Backend]]:
    """Two stores on one place."""
    one: Backend
    other: Backend
    if request.param == "memory":
        one = other = MemoryBackend()
    else:
        one, other = FileBackend(tmp_path), FileBackend(tmp_path)
    yield one, other
    one.close()
    other.close()


def test_what_others_append_is_folded_without_reading_again(pair: tuple[Backend, Backend]) -> None:
    folded: tuple[list[int], list[int]] = ([], [])
    states = [projection(backend, seen) for backend, seen in zip(pair, folded, strict=True)]
    Log(pair[0], REF).append({"id": f"{number}", "text": "x" * 100} for number in range(100))
    assert all(len(ids(state)) == 100 for state in states)
    for number, state in zip(range(100, 150), itertools.cycle(states), strict=False):
        state.append(lambda records: [{"id": str(len(records))}])
        assert len(ids(states[1])) == number + 1
    Log(pair[1], REF).append([{"id": "a"}, {"update": "149", "name": "last"}])
    assert all(state.view(lambda records: records["149"]["name"]) == "last" for state in states)
    assert folded == (list(range(1, 153)),) * 2


def test_after_a_trim_all_is_read_anew(pair: tuple[Backend, Backend]) -> None:
    state = projection(pair[0])
    Log(pair[0], REF).append([{"id": "a"}, {"id": "b"}])
    assert ids(state) == ["a", "b"]
    Log(pair[1], REF).trim(before=2)
    Log(pair[1], REF).append([{"id": "c"}, {"id": "d"}])
    assert ids(state) == ["b", "c", "d"]


def test_a_fold_that_fails_is_begun_anew(pair: tuple[Backend, Backend]) -> None:
    def fold(numbers: list[int], row: Row) -> None:
        numbers.append(row["seq"])
        if failing and row["seq"] == 3:
            raise KeyboardInterrupt

    failing: list[bool] = []
    state = Projections(pair[0]).of(Log(pair[0], REF), list[int], fold)
    Log(pair[1], REF).append([{"id": "a"}])
    assert state.view(list) == [1]
    Log(pair[1], REF).append([{"id": "b"}, {"id": "c"}])
    failing.append(True)
    with pytest.raises(KeyboardInterrupt):
        state.view(list)
    failing.clear()
    assert state.view(list) == [1, 2, 3]


def write_many(backend: FileBackend) -> None:
    Log(backend, REF).append([{"id": "teh"}, *({"id": f"{number}", "text": "x" * 100} for number in range(100))])


def test_an_edit_far_up_with_an_append_behind_it_shows_in_time(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path)
    write_many(backend)
    patient, state = projection(backend), projection(backend, patience=0.05)
    for each in (patient, state):
        assert ids(each)[0] == "teh"
    with open(backend.location(REF), "r+b") as file:
        file.write(b'{"seq":1,"id":"the"}')
    Log(backend, REF).append([{"id": "more"}])
    # What the module says cannot be told.
    for each in (patient, state):
        assert (ids(each)[0], ids(each)[-1]) == ("teh", "more")
    while state.is_current():
        time.sleep(0.01)
    assert ids(state)[0] == "the"
    time.sleep(0.06)
    assert state.is_current()  # what was read whole needs no other look
    assert ids(patient)[0] == "teh"
    backend.close()


@pytest.mark.parametrize(("written", "in_place"), [("three", True), ("the", False)])
def test_an_edit_far_up_is_seen_by_the_length_or_the_file(tmp_path: Path, written: str, in_place: bool) -> None:
    backend = FileBackend(tmp_path)
    write_many(backend)
    state = projection(backend)
    assert ids(state)[0] == "teh"
    path = Path(backend.location(REF))
    target = path if in_place else tmp_path / "new"
    target.write_bytes(path.read_bytes().replace(b"teh", written.encode()))
    target.replace(path)
    Log(backend, REF).append([{"id": "more"}])
    assert (ids(state)[0], ids(state)[-1]) == (written, "more")
    backend.close()


class BusyBackend(MemoryBackend):
    """Somebody appends whenever a reading is about to begin."""

    def entries(self, ref: Ref, *, after: int = 0) -> Iterator[LogLine | BadLine]:
        self.append(ref, lambda _: [b'{"name":"other"}'])
        return super().entries(ref, after=after)


def test_what_is_appended_while_a_reading_begins_is_folded_once() -> None:
    backend = BusyBackend()
    state = keep_all(backend)
    for number in range(10):
        seqs = state.view(lambda rows: [row["seq"] for row in rows])
        assert seqs == list(range(1, len(seqs) + 1)), number
        Log(backend, REF).append([{"name": "mine"}])


# One hand after the other on a short log; whatever they do, a state that was kept is the one that a fresh look gives.

Edit = Callable[[list[bytes], int], list[bytes]]


EDITS: dict[str, Edit] = {
    "same length": lambda lines, at: [*lines[:at], lines[at].replace(b':"n', b':"m'), *lines[at + 1 :]],
    "drop": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "double": lambda lines, at: [*lines[: at + 1], *lines[at:]],
    "swap": lambda lines, at: [*lines[:at], *lines[at : at + 2][::-1], *lines[at + 2 :]],
    "damage": lambda lines, at: [*lines[:at], b"x" + lines[at][1:], *lines[at + 1 :]],
    "blank": lambda lines, at: [*lines[:at], b"\n", *lines[at:]],
    "windows": lambda lines, at: [*lines[:at], lines[at].replace(b"\n", b"\r\n"), *lines[at + 1 :]],
    "no newline": lambda lines, _: [*lines[:-1], lines[-1].rstrip(b"\n")],
    "half a line": lambda lines, _: [*lines, b'{"seq":1'],
    "a line": lambda lines, at: [*lines, b'{"seq":%d,"ID":"h%d"}\n' % (100 + at, at)],
    "a low seq": lambda lines, at: [*lines, b'{"seq":1,"ID":"low%d"}\n' % at],
}

HANDS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("decide"), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("look"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("trim"), st.integers(0, 1), st.integers(1, 20)),
    st.tuples(st.sampled_from([f"{how}: {edit}" for how in ("in place", "anew") for edit in EDITS]), st.integers(0, 30),
              st.just(0)),
)  # fmt: skip


class Hands:
    """Two stores on one log, and an editor."""

    def __init__(self, folder: str) -> None:
        self.backends = [FileBackend(folder), FileBackend(folder)]
        self.states = [keep_all(backend) for backend in self.backends]
        self.path = Path(self.backends[0].location(REF))
        self.times = itertools.count(time.time_ns(), 1_000_000)
        self.names = itertools.count()

    def fresh(self) -> list[Row]:
        return keep_all(self.backends[0]).view(list)

    def rows(self, number: int) -> list[Row]:
        return [{"ID": f"n{next(self.names)}"} for _ in range(number)]

    def do(self, hand: str, at: int, number: int) -> None:
        match hand.partition(": "):
            case ("append", _, _):
                Log(self.backends[at], REF).append(self.rows(number))
            case ("decide", _, _):
                self.states[at].append(lambda known: self.checked(known, number))
            case ("look", _, _):
                assert self.states[at].view(list) == self.fresh()
            case ("trim", _, _):
                Log(self.backends[at], REF).trim(before=number)
            case (how, _, edit):
                self.edit(EDITS[edit], at, in_place=how == "in place")
        self.touch()

    def checked(self, known: list[Row], number: int) -> list[Row]:
        assert known == self.fresh()
        return self.rows(number)

    def edit(self, edit: Edit, at: int, *, in_place: bool) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        if not lines:
            return
        data = b"".join(edit(lines, at % len(lines)))
        target = self.path if in_place else self.path.with_suffix(".new")
        target.write_bytes(data)
        target.replace(self.path)

    def touch(self) -> None:
        """File systems tell times apart by a few milliseconds only; these hands are faster."""
        if self.path.exists():
            moment = next(self.times)
            os.utime(self.path, ns=(moment, moment))

    def close(self) -> None:
        for backend in self.backends:
            backend.close()


def keep_all(backend: Backend) -> Projection[list[Row]]:
    return Projections(backend, patience=1000).of(Log(backend, REF), list[Row], list[Row].append)


@given(st.lists(HANDS, max_size=25))
def test_whatever_hands_do_a_kept_state_is_what_a_fresh_look_gives(hands: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        both = Hands(folder)
        try:
            for hand in hands:
                both.do(*hand)
            for at in (0, 1):
                both.do("look", at, 0)
        finally:
            both.close()


def test_what_a_decision_raises_leaves_the_log_as_it_is() -> None:
    state = projection(MemoryBackend())

    def decide(_: object) -> list[Row]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        state.append(decide)
    assert ids(state) == []


def test_few_states_are_kept() -> None:
    backend = MemoryBackend()
    projections = Projections(backend)
    first = Log(backend, Ref("a", "0", LOG))
    kept = projections.of(first, dict, fold_only)
    assert projections.of(first, dict, fold_only) is kept
    for number in range(1, 300):
        projections.of(Log(backend, Ref("a", str(number), LOG)), dict, fold_only)
    assert projections.of(first, dict, fold_only) is not kept


def test_rows_that_do_not_fit_are_skipped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def load(row: Row) -> int:
        if "x" not in row:
            raise ValidationError("here", "no x")
        return int(row["x"])

    with caplog.at_level(logging.WARNING, "fsstate"):
        assert list(readable([{"x": 1}, {}, {"x": 2}], load)) == [1, 2]
    assert "no x" in caplog.text
