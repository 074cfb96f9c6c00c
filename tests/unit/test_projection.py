"""A state that follows from a log is never older than the log, and computed anew only when it must be."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import LOG, Backend, Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import ValidationError
from fsstate.journal import Log
from fsstate.projection import Projection, Projections, Row, fold_record, readable

REF = Ref("a", "log", LOG)


def fold_only(records: dict[str, Row], row: Row) -> None:
    fold_record(records, row)


def projection(backend: Backend, folded: list[int] | None = None) -> Projection[dict[str, Row]]:
    def fold(records: dict[str, Row], row: Row) -> None:
        if folded is not None:
            folded.append(row["seq"])
        fold_record(records, row)

    return Projections(backend).of(Log(backend, REF), dict, fold)


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
