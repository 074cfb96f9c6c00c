"""The benchmarks run, and the harness counts right. Nothing here measures."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.goals import ROWS
from tests.benchmarks.interleave import ITS_TIME, Goal, Room, Row, Setup, Side, Unavailable, measure

pytestmark = pytest.mark.benchmark


def costs(seconds: float) -> Setup:
    """A side that pretends each call took that long."""

    def setup(room: Room) -> Side:
        assert room.directory.is_dir()
        return lambda times: seconds * times

    return setup


def test_a_quotient_says_how_many_times_as_fast_ours_is(tmp_path: Path) -> None:
    row = Row("a", "b", Goal(3, 5), costs(0.001), costs(0.004))
    figure = measure(row, tmp_path, rounds=7, seed=1, quick=True)
    assert figure.value == pytest.approx(4)
    assert figure.meets(Goal(3, 5).on(journaled=False), rises=row.rises)
    assert not figure.meets(Goal(3, 5).on(journaled=True), rises=row.rises)


def test_a_difference_says_how_much_more_ours_takes(tmp_path: Path) -> None:
    row = Row("a", "b", Goal(3), costs(6.0), costs(4.0), unit="MB more")
    figure = measure(row, tmp_path, rounds=7, seed=1, quick=True)
    assert figure.value == pytest.approx(2)
    assert figure.meets(Goal(3).on(journaled=True), rises=row.rises)


def test_a_multiple_says_how_much_of_the_others_time_ours_takes(tmp_path: Path) -> None:
    row = Row("a", "b", Goal(1.1), costs(0.0044), costs(0.004), unit=ITS_TIME)
    figure = measure(row, tmp_path, rounds=7, seed=1, quick=True)
    assert figure.value == pytest.approx(1.1)
    assert figure.meets(1.2, rises=row.rises)
    assert not figure.meets(1.0, rises=row.rises)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} against {row.against}")
def test_every_row_can_be_measured(row: Row, tmp_path: Path) -> None:
    try:
        figure = measure(row, tmp_path, rounds=1, seed=1, quick=True, target=0)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert figure.ours > 0
    assert figure.theirs > 0


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--dir", str(tmp_path), "--json", str(tmp_path / "out.json"), "lock and unlock"]) == 0
    assert "filelock.FileLock" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out.json").read_text("utf-8"))["rows"]
    assert row["goal"] == 10
    assert list(tmp_path.iterdir()) == [tmp_path / "out.json"]
