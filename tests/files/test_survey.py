"""A survey names every record that changed, and no other."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from fsstate.backends.base import JSON, Survey
from fsstate.backends.files import FileBackend
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.tree import Directory

Known = dict[int, bytes]


class Surveyor:
    """Surveys one category again and again, as an index does."""

    def __init__(self, backend: FileBackend, *, belongings: bool = True) -> None:
        self.backend = backend
        self.belongings = belongings
        self.known: Known = {}

    def look(self) -> Survey:
        survey = self.backend.survey("c", JSON, self.known, belongings=self.belongings)
        self.known = {**{key: self.known[key] for key in survey.kept}, **survey.stretches}
        return survey

    def changes(self) -> set[str]:
        survey = self.look()
        return {*survey.changed, *(f"-{name}" for name in survey.gone)}

    def settled(self) -> Surveyor:
        """All that is there is known, and old enough to be trusted."""
        time.sleep(0.03)
        self.look()
        assert self.changes() == set()
        return self


@pytest.fixture
def folder(root: Path) -> Path:
    (root / "c").mkdir(parents=True)
    for number in range(300):
        (root / f"c/r{number}.json").write_text("{}\n")
    for name in ("r1", "r2", "r3"):
        (root / "c" / name).mkdir()
        (root / "c" / name / "messages.jsonl").write_text('{"seq":1}\n')
    (root / "c/r3/streams").mkdir()
    return root / "c"


@pytest.fixture
def surveyor(backend: FileBackend, folder: Path) -> Surveyor:
    assert folder.is_dir()
    return Surveyor(backend)


def test_at_first_all_is_new(surveyor: Surveyor) -> None:
    assert surveyor.changes() == {f"r{number}" for number in range(300)}


def rewrite(folder: Path) -> None:
    (folder / "r7.json").write_text("[]\n")


def rename_over(folder: Path) -> None:
    (folder / ".swap").write_text("{}\n")
    (folder / ".swap").replace(folder / "r7.json")


def keep_size_and_time(folder: Path) -> None:
    status = (folder / "r7.json").stat()
    (folder / "r7.json").write_text("[]\n")
    os.utime(folder / "r7.json", ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(folder: Path) -> None:
    (folder / "r7.json").touch()


def append(folder: Path) -> None:
    with (folder / "r1/messages.jsonl").open("a") as file:
        file.write('{"seq":2}\n')


def new_log(folder: Path) -> None:
    (folder / "r2/events.jsonl").write_text('{"seq":1}\n')


def first_log(folder: Path) -> None:
    (folder / "r9").mkdir()
    (folder / "r9/messages.jsonl").write_text('{"seq":1}\n')


def log_below(folder: Path) -> None:
    (folder / "r3/streams/m.jsonl").write_text('{"seq":1}\n')


def remove_log(folder: Path) -> None:
    (folder / "r1/messages.jsonl").unlink()


def remove_folder(folder: Path) -> None:
    (folder / "r1/messages.jsonl").unlink()
    (folder / "r1").rmdir()


def swap(folder: Path) -> None:
    (folder / "r5.json").rename(folder / ".swap")
    (folder / "r6.json").rename(folder / "r5.json")
    (folder / ".swap").rename(folder / "r6.json")


def add(folder: Path) -> None:
    (folder / "new.json").write_text("{}\n")


def remove(folder: Path) -> None:
    (folder / "r7.json").unlink()


def link_in_its_place(folder: Path) -> None:
    (folder / "r7.json").unlink()
    (folder / "r7.json").symlink_to("r8.json")


def folder_in_its_place(folder: Path) -> None:
    (folder / "r7.json").unlink()
    (folder / "r7.json").mkdir()


def refused(folder: Path) -> None:
    (folder / "con.json").write_text("{}\n")
    os.close(os.open(os.fsencode(folder) + b"/\xff.json", os.O_CREAT))


def others(folder: Path) -> None:
    (folder / "note.md").write_text("x")
    (folder / "r400").mkdir()
    (folder / "log.jsonl").write_text('{"seq":1}\n')


CHANGES: list[tuple[Callable[[Path], None], set[str]]] = [
    (rewrite, {"r7"}),
    (rename_over, {"r7"}),
    (keep_size_and_time, {"r7"}),
    (touch, {"r7"}),
    (append, {"r1"}),
    (new_log, {"r2"}),
    (first_log, {"r9"}),
    (log_below, {"r3"}),
    (remove_log, {"r1"}),
    (remove_folder, {"r1"}),
    (swap, {"r5", "r6"}),
    (add, {"new"}),
    (remove, {"-r7"}),
    (link_in_its_place, {"-r7"}),
    (folder_in_its_place, {"-r7"}),
    (refused, set()),
    (others, {"-r400"}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_change_is_seen_and_then_known(
    surveyor: Surveyor, folder: Path, change: Callable[[Path], None], expected: set[str]
) -> None:
    surveyor.settled()
    change(folder)
    assert surveyor.changes() == expected
    time.sleep(0.03)
    surveyor.look()
    survey = surveyor.look()
    assert not survey.changed
    assert not survey.gone
    # Nothing has to be kept anew, either: what stands still costs no write.
    assert not survey.stretches


def test_what_was_just_touched_is_named_until_it_is_old_enough(
    backend: FileBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor = Surveyor(backend).settled()
    rewrite(folder)
    append(folder)
    status = (folder / "r7.json").stat()
    monkeypatch.setattr("time.time_ns", lambda: status.st_mtime_ns + 1)
    assert surveyor.changes() >= {"r7", "r1"}
    assert surveyor.changes() >= {"r7", "r1"}


def test_a_clock_set_back_trusts_nothing(surveyor: Surveyor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 10**18)
    surveyor.look()
    assert len(surveyor.changes()) == 300


def test_without_belongings_only_documents_count(backend: FileBackend, folder: Path) -> None:
    surveyor = Surveyor(backend, belongings=False).settled()
    append(folder)
    first_log(folder)
    assert surveyor.changes() == set()
    rewrite(folder)
    assert surveyor.changes() == {"r7"}


def test_the_logs_of_what_changed_are_told_as_they_were_seen(surveyor: Surveyor, folder: Path) -> None:
    surveyor.settled()
    append(folder)
    log_below(folder)
    changed = surveyor.look().changed
    assert changed["r1"] == {"messages": tuple(Signature.of((folder / "r1/messages.jsonl").stat()))}
    assert set(changed["r3"] or ()) == {"messages", "streams/m"}


def test_a_category_that_comes_and_goes(backend: FileBackend, root: Path) -> None:
    surveyor = Surveyor(backend)
    assert surveyor.changes() == set()
    (root / "c").mkdir(parents=True)
    (root / "c/a.json").write_text("{}")
    assert surveyor.changes() == {"a"}
    (root / "c/a.json").unlink()
    (root / "c").rmdir()
    assert surveyor.changes() == {"-a"}
    assert surveyor.changes() == set()


@pytest.mark.parametrize("seed", range(5))
def test_random_changes(backend: FileBackend, folder: Path, seed: int) -> None:
    choose = random.Random(seed)
    surveyor = Surveyor(backend)
    seen: dict[str, bytes] = {}
    for step in range(25):
        for _ in range(choose.randrange(12)):
            name = choose.choice([*(path.name for path in folder.glob("*.json")), f"n{step}.json"])
            what = choose.randrange(4)
            if what == 0 and (folder / name).exists():
                (folder / name).unlink()
            elif what == 1:
                (folder / ".swap").write_bytes(choose.randbytes(3))
                (folder / ".swap").replace(folder / name)
            else:
                (folder / name).write_bytes(choose.randbytes(3))
        survey = surveyor.look()
        for name in survey.gone:
            seen.pop(name, None)
        seen |= {name: (folder / f"{name}.json").read_bytes() for name in survey.changed}
        assert seen == {path.stem: path.read_bytes() for path in folder.glob("*.json")}


def test_records_that_are_replaced_all_the_while_are_never_taken_for_gone(backend: FileBackend, folder: Path) -> None:
    code = f"""
import os, time
folder = {str(folder)!r}
deadline = time.monotonic() + 1.5
number = 0
while time.monotonic() < deadline:
    number += 1
    with open(folder + "/.swap", "w") as file:
        file.write(str(number))
    os.replace(folder + "/.swap", folder + f"/r{{number % 300}}.json")
"""
    writer = subprocess.Popen(["python3", "-c", code])
    surveyor = Surveyor(backend)
    names = {f"r{number}" for number in range(300)}
    seen: set[str] = set()
    while writer.poll() is None:
        survey = surveyor.look()
        assert not survey.gone
        seen |= set(survey.changed)
    assert seen == names


@pytest.mark.parametrize("stays", [True, False])
def test_a_record_that_comes_behind_the_listing_is_named_until_it_is_in_one_or_gone(
    surveyor: Surveyor, folder: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    surveyor.settled()
    (folder / "r7.json").unlink()
    listing = Directory.entries

    @contextlib.contextmanager
    def with_news_at_the_end(directory: Directory) -> Generator[Iterator[os.DirEntry[str]]]:
        with listing(directory) as entries:
            yield entries
        (folder / "r7.json").write_text("[]\n")

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "entries", with_news_at_the_end)
        assert surveyor.changes() == {"r7"}
    if stays:
        assert surveyor.changes() == {"r7"}
        surveyor.settled()
    else:
        (folder / "r7.json").unlink()
        assert surveyor.changes() == {"-r7"}
    assert surveyor.changes() == set()
