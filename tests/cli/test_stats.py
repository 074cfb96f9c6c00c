"""`stats`: what a store holds, as a table, a chart that fits, and JSON."""

import itertools
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from fsstate import Store, StoreOptions
from fsstate.cli.stats import bars
from fsstate.stats import Growth
from tests.cli.conftest import Cli, Terminals

NOW = datetime.now(UTC)


def fill(cli: Cli, days: int = 3) -> None:
    """A session a day, up to today, and some other records."""
    for back in range(days):
        then = NOW - timedelta(days=back)
        with Store(cli.directory, StoreOptions(clock=itertools.repeat(then).__next__)) as store:
            session = store.session(store.sessions.create(title=f"Day {back}").id)
            session.messages.append("user", "x" * 1000 * (back + 1))
    with Store(cli.directory) as store:
        store.collection("agents").put_many({"a": {}, "b": {}})
        store.markdown("notes").put("standup", "# Today\n")
        store.journal("audit", "trail").append("login")


def test_the_whole_picture(cli: Cli) -> None:
    fill(cli)
    (cli.directory / "sessions" / "gone").mkdir()
    (cli.directory / "sessions" / "gone" / "messages.jsonl").write_bytes(b"x" * 2048)
    lines = cli.out("stats").splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines[1:5]}
    assert lines[0].split() == ["CATEGORY", "DOCUMENTS", "NOTES", "LOGS", "BELONGINGS", "SIZE"]
    assert table["agents"] == ["2", "6", "bytes"]
    assert table["notes"] == ["1", "8", "bytes"]
    assert table["sessions"][:2] == ["3", "3"]
    largest = lines[lines.index(next(line for line in lines if line.startswith("LARGEST"))) + 1]
    assert largest.endswith("Day 2")
    assert f"{NOW:%Y-%m-%d}" in "\n".join(lines)
    assert any(line.split() == ["orphaned", "1", "2.0", "KB", *line.split()[4:]] for line in lines)
    assert lines[-1].endswith("in all, 3 sessions")


def test_the_chart_has_a_bar_for_each_day_that_brought_something(cli: Cli) -> None:
    fill(cli)
    shown = {line[:10]: line for line in cli.out("stats", "--days", "5").splitlines() if line.startswith("20")}
    assert list(shown) == [f"{NOW - timedelta(days=back):%Y-%m-%d}" for back in reversed(range(5))]
    assert ["█" in line for line in shown.values()] == [False, False, True, True, True]
    today = shown[f"{NOW:%Y-%m-%d}"]
    assert today.endswith("1 record, 1 entry")
    assert "3 files of 14 bytes in all tell no day" in cli.out("stats")


def test_what_it_prints_for_programs(cli: Cli) -> None:
    fill(cli)
    found = json.loads(cli.out("stats", "--json", "--days", "2", "-n", "1"))
    assert found["store"] == str(cli.directory)
    assert found["sessions"] == 3
    assert [each["category"] for each in found["categories"]] == ["agents", "audit", "notes", "sessions"]
    assert found["categories"][0]["documents"] == {"files": 2, "bytes": 6}
    assert [each["title"] for each in found["largest"]] == ["Day 2"]
    assert [(each["day"], each["records"]) for each in found["growth"]] == [
        ((NOW - timedelta(days=1)).date().isoformat(), 1),
        (NOW.date().isoformat(), 1),
    ]
    assert found["undated"] == {"files": 3, "bytes": 14}
    assert found["problems"] == []


def test_an_empty_store_and_none(cli: Cli) -> None:
    assert "does not exist" in cli.fails(1, "stats")
    cli.out("init")
    assert cli.out("stats").splitlines()[0] == "no records"
    assert cli.out("stats").endswith("0 sessions\n")


def test_what_cannot_be_read_is_reported(cli: Cli) -> None:
    fill(cli, 1)
    (cli.directory / "agents" / "bad.json").write_text("{")
    done = cli("stats")
    assert done.exit_code == 1
    assert "agents/bad.json" in done.stderr
    assert "in all, 1 session" in done.stdout
    assert cli("stats", "--days", "0").exit_code == 0


def test_a_crowd_of_groups_is_one_line(cli: Cli, store: Store) -> None:
    for n in range(21):
        store.runs.start("test", session_id=f"s{n:02}")
    lines = cli.out("stats").splitlines()
    assert lines[1].split()[:3] == ["runs/*", "(21)", "21"]
    assert not any(line.startswith("runs/s") for line in lines)


def test_titles_cannot_reach_the_terminal(cli: Cli, store: Store) -> None:
    store.sessions.create(title="red \x1b[31m\nalert")
    shown = cli.out("stats")
    assert "\x1b" not in shown
    assert "red \\x1b[31m\\nalert" in shown


@pytest.mark.parametrize("columns", [50, 100])
def test_it_fits_the_terminal(cli: Cli, terminal: Terminals, columns: int) -> None:
    fill(cli)
    more = {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb", "LANG": "C.UTF-8"}
    ended = terminal("stats", env=more).end()
    assert ended.code == 0
    chart = [line for line in ended.text.splitlines() if line.startswith("20")]
    assert max(map(len, chart)) <= columns
    assert max(map(len, chart)) > columns - 12


def test_without_blocks_it_draws_with_plain_characters(cli: Cli) -> None:
    fill(cli)
    shown = cli.run("stats", env={"PYTHONIOENCODING": "ascii"}).stdout.decode("ascii")
    assert "###" in shown
    assert "\\u" not in shown


# -- the parts


def test_bars_are_as_long_as_days_are_large() -> None:
    days = [Growth(date(2026, 1, n + 1), n, 0, number) for n, number in enumerate([0, 1, 500, 1000])]
    lines = list(bars(days, 60))
    assert [line.count("█") for line in lines][2:] == pytest.approx(
        [lines[3].count("█") / 2, lines[3].count("█")], abs=1
    )
    assert lines[0].strip() == "2026-01-01"
    assert "▏" in lines[1]
    assert max(map(len, lines)) <= 60
    plain = list(bars(days, 60, plain=True))
    assert plain[1].count("#") == 1
    assert [line for line in plain if not line.isascii()] == []
    assert list(bars([], 60)) == []
