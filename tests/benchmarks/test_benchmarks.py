"""The benchmarks run, and the harness counts right. Nothing here measures."""

import json
import re
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path

import pytest

from tests.benchmarks import chart, population
from tests.benchmarks.__main__ import main
from tests.benchmarks.contender import Contender
from tests.benchmarks.contenders import CONTENDERS, OURS
from tests.benchmarks.goals import ROWS
from tests.benchmarks.interleave import ITS_TIME, Goal, Room, Row, Setup, Side, Unavailable, measure
from tests.benchmarks.peers import CONTESTS, Contest, Result, Standing, contend, duration, lines

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


# -- peers


@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.name)
def test_every_contest_can_be_held(contest: Contest, tmp_path: Path) -> None:
    try:
        result = contend(contest, tmp_path, rounds=1, seed=1, quick=True)
    except Unavailable as reason:
        pytest.skip(str(reason))
    seconds = {standing.contender: standing.seconds for standing in result.standings}
    assert {"fsstate", "sqlite3"} <= seconds.keys()
    assert min(seconds.values()) > 0
    assert {*seconds, *result.left_out} == {contender.name for contender in CONTENDERS}
    failed = [reason for reason in result.left_out.values() if "Error" in reason]
    assert failed == []


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_contenders_do_what_they_are_timed_for(contender: type[Contender], tmp_path: Path) -> None:
    """Lest something is quick because it does nothing."""
    try:
        opened = contender(tmp_path)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with closing(opened):
        if contender.can("save"):
            check_documents(opened)
        opened.converse(["apple", "pear"])
        opened.append("plum")
        assert re.findall("apple|pear|plum", str(opened.conversation())) == ["apple", "pear", "plum"]


def check_documents(opened: Contender) -> None:
    sessions = population.sessions(200)
    opened.fill(sessions)
    name = next(iter(sessions))
    opened.save(name, {**sessions[name], "title": "Another"})
    assert "Another" in str(opened.load(name))
    newest = max(sessions, key=lambda each: sessions[each]["updated_at"])
    assert newest in str(opened.page(1))
    opened.prune(population.expiry(200))
    left = str(opened.page(1000))
    assert {each for each in sessions if each in left} == sessions.keys() - population.expired(200).keys()


def test_time_counts_with_like_flushes_only_where_something_is_written() -> None:
    standings = [Standing("TinyDB", "flushed", True, 0.004, 4, 4, 7), Standing("x", "not flushed", False, 1, 9, 8, 7)]
    written = list(lines(Result("save", True, standings, {"y": "is not installed"})))
    assert written[1].split() == ["TinyDB", "4", "ms", "4", "flushed"]
    assert written[2].split() == ["x", "1", "s", "9", "8", "not", "flushed"]
    assert written[3].split() == ["y", "left", "out:", "is", "not", "installed"]
    assert list(lines(Result("load", False, standings, {})))[2].split() == ["x", "1", "s", "9"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2e-6, "2 µs"), (0.00099999, "1 ms"), (0.0123456, "12.3 ms"), (0.9999, "1 s"), (75.4, "75.4 s")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


SVG = "{http://www.w3.org/2000/svg}"


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_the_chart_tells_every_row_and_where_each_contender_stands() -> None:
    ours = Standing("fsstate", "flushed", True, 0.001, 1, 1, 7)
    ten_times = Standing("sqlite3", "flushed", True, 0.0001, 0.1, 0.1, 7)
    a_tenth = Standing("TinyDB", "flushed", True, 0.01, 10, 10, 7)
    unflushed = Standing("DictDataBase", "not flushed", False, 0.001, 1, 0.2, 7)
    results = [
        Result("save <one> & two", True, [ours, ten_times, a_tenth, unflushed], {}),
        Result("load", False, [ours, unflushed], {}),
    ]
    root = ET.fromstring(chart.draw(results))  # noqa: S314 - our own
    rows = {group.findtext(f"{SVG}title"): group for group in root.iter(f"{SVG}g")}
    assert list(rows) == ["save <one> & two", "load"]
    assert {"save <one> & two", "load", "fsstate: 1 ms"} <= set(texts(root))
    marks = {str(each.findtext(f"{SVG}title")): each for each in rows["save <one> & two"].iter(f"{SVG}circle")}
    places = {told.partition(":")[0]: float(each.attrib["cx"]) for told, each in marks.items()}
    assert places["TinyDB"] < places["DictDataBase"] < places["sqlite3"]
    assert places["sqlite3"] - places["DictDataBase"] == pytest.approx(places["DictDataBase"] - places["TinyDB"])
    hollow = {told.partition(":")[0] for told, each in marks.items() if "hollow" in each.attrib["class"]}
    assert hollow == {"DictDataBase"}
    assert not [each for each in rows["load"].iter(f"{SVG}circle") if "hollow" in each.attrib["class"]]
    assert "prefers-color-scheme:dark" in str(root.findtext(f"{SVG}style"))


def test_the_chart_that_the_readme_shows_has_all_contests() -> None:
    root = ET.parse(Path(__file__).with_name("peers.svg")).getroot()  # noqa: S314 - our own
    known = {contest.name for contest in CONTESTS}
    shown = {str(group.findtext(f"{SVG}title")) for group in root.iter(f"{SVG}g")}
    assert shown <= known
    assert len(shown) > len(known) // 2
    assert "(tests/benchmarks/peers.svg)" in Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")


def test_the_command_holds_contests_and_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, told = tmp_path / "out.svg", tmp_path / "out.json"
    options = ["--peers", "--quick", "--dir", str(tmp_path), "--chart", str(drawn), "--json", str(told)]
    assert main([*options, "--only", "save one"]) == 0
    assert "synchronous=FULL" in capsys.readouterr().out
    (row,) = json.loads(told.read_text("utf-8"))["rows"]
    assert row["standings"][0]["contender"] == OURS.name
    assert "save one of 100 documents, 2 KB" in texts(ET.parse(drawn).getroot())  # noqa: S314 - our own
    assert sorted(tmp_path.iterdir()) == [told, drawn]
