"""`bench`: figures of a real disk, what they mean, and nothing left behind."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate.cli.bench import meaning
from fsstate.cli.disks import Flushes, judge
from fsstate.cli.measuring import SAVE_MANY, Figure, Measured
from fsstate.mounts import file_system
from tests.cli.conftest import PROGRAM, Cli, Terminals, environment

MEMORY = "/dev/shm"  # noqa: S108 - the tmpfs that Linux has

# -- the command


def test_it_measures_where_the_store_is_and_leaves_nothing(cli: Cli) -> None:
    shown = cli("bench", "--seconds", "0.1").stdout
    assert "fsstate: save" in shown
    assert "A durable save takes" in shown
    assert list(cli.directory.parent.iterdir()) == []


def test_what_it_prints_for_programs(cli: Cli, tmp_path: Path) -> None:
    found = json.loads(cli("bench", "--seconds", "0.1", "--dir", str(tmp_path), "--json").stdout)
    assert found["directory"] == str(tmp_path)
    assert found["file_system"] == file_system(str(tmp_path))
    assert found["rounds"] >= 3
    assert found["trust"] in {"none", "doubtful", "plausible"}
    figures = {each["name"]: each for each in found["figures"]}
    assert {"write, flush", "append", "save", SAVE_MANY, "load"} <= figures.keys()
    for each in figures.values():
        assert each["seconds"] > 0
        assert each["per_second"] == pytest.approx(1 / each["seconds"])
        assert (each["ratio"] is None) == (each["against"] is None)
    assert figures["save"]["against"] in figures


def test_a_store_that_is_nowhere_yet(cli: Cli) -> None:
    where = cli.directory / "not" / "there" / "state"
    assert cli("--store", str(where), "bench", "--seconds", "0.1").exit_code == 0
    assert not cli.directory.exists()


def test_a_directory_that_is_not_there(cli: Cli) -> None:
    assert "does not exist" in cli.fails(2, "bench", "--dir", str(cli.directory))


def test_a_directory_that_may_not_be_written(cli: Cli) -> None:
    assert "fsstate: " in cli.fails(5, "bench", "--dir", "/proc/self")


@pytest.mark.skipif(not os.path.ismount(MEMORY), reason="needs a tmpfs")
def test_a_disk_in_memory_is_told(cli: Cli) -> None:
    done = cli("bench", "--seconds", "0.1", "--dir", MEMORY)
    assert done.exit_code == 0
    assert "tmpfs keeps files in memory" in done.stderr
    assert "flushes are real" not in done.stdout
    assert not list(Path(MEMORY).glob(".fsstate-bench-*"))


def scratch(folder: Path) -> list[Path]:
    return list(folder.glob(".fsstate-bench-*"))


def test_an_interrupt_leaves_nothing(terminal: Terminals, cli: Cli) -> None:
    shown = terminal("bench", "--seconds", "60")
    wait_for_scratch(cli.directory.parent)
    ended = shown.interrupt()
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert scratch(cli.directory.parent) == []


def test_a_termination_leaves_nothing(cli: Cli) -> None:
    command = [*PROGRAM, "--store", str(cli.directory), "bench", "--seconds", "60"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        wait_for_scratch(cli.directory.parent)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=15)
    assert (process.returncode, told) == (128 + signal.SIGTERM, "")
    assert scratch(cli.directory.parent) == []


def wait_for_scratch(folder: Path) -> None:
    deadline = time.monotonic() + 15
    while not [each for each in scratch(folder) if (each / "state").exists()]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- what it makes of figures


@pytest.mark.parametrize(
    ("kind", "flush", "trust", "words"),
    [
        ("tmpfs", 0.0, "none", "keeps files in memory"),
        ("ext4", 0.0, "none", "adds only 0 µs"),
        ("ext4", -1e-7, "none", "adds only 0 µs"),
        ("xfs", 2e-6, "none", "less than any disk needs"),
        ("ext4", 4e-5, "doubtful", "40 µs"),
        ("ext4", 2e-4, "plausible", "200 µs"),
        ("unknown", 0.012, "plausible", "1.2e+04 µs"),
    ],
)
def test_what_is_to_be_thought_of_flushes(kind: str, flush: float, trust: str, words: str) -> None:
    judged = judge(kind, flush)
    assert judged.trust == trust
    assert words in judged.reason


def figures(*, save: float, many: float, ratio: float) -> Measured:
    found = [("save", save, ratio), (SAVE_MANY, many, 1.0), ("append", 0.0002, 0.9), ("load", 0.000005, 0.9)]
    return Measured([Figure(name, seconds, "bare", times) for name, seconds, times in found], 0.0001, 3)


def test_what_figures_mean() -> None:
    told = " ".join(meaning(figures(save=0.000468, many=0.00009, ratio=0.93), Flushes("plausible", "why")))
    assert "A durable save takes 468 µs here: about 2,100 a second" in told
    assert "the system calls take 93%, two flushes among them, and fsstate 7%" in told
    assert "An append needs one flush: 200 µs, about 5,000 a second" in told
    assert "put_many, documents take 90 µs each" in told
    assert told.endswith("flushes are real: why.")


def test_what_is_not_so_is_not_said() -> None:
    told = " ".join(meaning(figures(save=0.0002, many=0.0002, ratio=1.04), Flushes("none", "why")))
    assert "system calls take 100%" in told
    assert "put_many" not in told
    assert "real" not in told


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, where a space is in the name; skips where that is not allowed."""
    place = tmp_path / "a disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_it_measures_the_disk_that_the_store_is_on(disk: Path, tmp_path: Path) -> None:
    inside, link = disk / "state", tmp_path / "link"
    inside.mkdir()
    link.symlink_to(inside)
    for store in (disk, inside, link):
        found = json.loads(Cli(store)("bench", "--seconds", "0.1", "--json").stdout)
        assert (found["directory"], found["file_system"]) == (str(disk), "tmpfs")
    assert list(disk.iterdir()) == [inside]


def test_where_no_directory_can_be_made(cli: Cli) -> None:
    assert "cannot make a directory in /proc/self: " in cli.fails(5, "bench", "--dir", "/proc/self")


def test_the_file_system_of_a_directory_is_that_of_the_nearest_mount() -> None:
    assert file_system("/proc/self") == "proc"
