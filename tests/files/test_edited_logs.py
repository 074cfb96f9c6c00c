"""People edit logs while they are appended to: nobody's change is lost, neither an entry that was told nor an edit.

First with every step in its place, then with real editors in processes of their own.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from fsstate.backends.base import LOG, LogLine, Ref
from fsstate.backends.files import FileBackend, births, edited_logs, log_ends, log_following, log_lines, log_writing
from fsstate.backends.files.tree import flush_data, write_all
from fsstate.errors import OutcomeUnknownError, StorageError
from fsstate.journal import Journal
from fsstate.store import Store
from tests.files.processes import run
from tests.git import needs_git

REF = Ref("audit", "trail", LOG)

Save: TypeAlias = Callable[[Path, bytes], None]


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root) as store:
        yield store


@pytest.fixture
def journal(store: Store) -> Journal:
    """A log that holds calm-1, mark-2 and calm-3."""
    journal = store.journal("audit", "trail")
    for text in ("calm", "mark", "calm"):
        tell(journal, text)
    return journal


@pytest.fixture
def path(journal: Journal) -> Path:
    return Path(journal.path)


def tell(journal: Journal, text: str) -> int:
    return journal.append("note", text=text)


def told(path: Path) -> list[tuple[int, str]]:
    return rows_of(path.read_bytes())


def rows_of(data: bytes) -> list[tuple[int, str]]:
    rows = [json.loads(line) for line in data.splitlines()]
    return [(row["seq"], row["text"]) for row in rows]


def by_rename(path: Path, data: bytes) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(data)
    os.replace(copy, path)


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def anew(path: Path, data: bytes) -> None:
    """As git does it: the old file is removed, and the new one must not be there yet."""
    path.unlink()
    with path.open("xb") as file:
        file.write(data)


SAVES = pytest.mark.parametrize("save", [by_rename, in_place, anew])
# The second is as long as what it replaces.
MARKS = pytest.mark.parametrize("mark", [b"a longer mark", b"kram", b"m"])
START = [(1, "calm"), (2, "mark"), (3, "calm")]


def marked(mark: bytes) -> list[tuple[int, str]]:
    return [(1, "calm"), (2, mark.decode()), (3, "calm")]


# -- (a) while an append is under way


def during_flush(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have a person act once, between the write and its flush."""
    acts = iter([act])

    def act_and_flush(fd: int) -> None:
        next(acts, lambda: None)()
        flush_data(fd)

    monkeypatch.setattr(log_writing, "flush_data", act_and_flush)


@SAVES
@MARKS
def test_an_editor_who_did_not_see_what_is_being_appended(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, save: Save, mark: bytes
) -> None:
    read = path.read_bytes()
    during_flush(monkeypatch, lambda: save(path, read.replace(b"mark", mark)))
    seq = tell(journal, "new")
    assert told(path) == [*marked(mark), (seq, "new")]
    assert tell(journal, "next") == seq + 1
    assert told(path)[-2:] == [(seq, "new"), (seq + 1, "next")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_an_editor_who_saw_what_is_being_appended(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    during_flush(monkeypatch, lambda: save(path, path.read_bytes().replace(b"mark", b"a longer mark")))
    seq = tell(journal, "new")
    assert told(path) == [*marked(b"a longer mark"), (seq, "new")]


def test_an_editor_who_saw_half_of_what_is_being_appended(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during_flush(monkeypatch, lambda: by_rename(path, b"".join(path.read_bytes().splitlines(keepends=True)[:4])))
    with pytest.raises(OutcomeUnknownError, match="somebody edited it"):
        journal.append_many([("note", {"text": "one"}), ("note", {"text": "two"})])
    assert told(path) == [*START, (4, "one")]
    assert tell(journal, "next") == 6


def test_of_many_that_share_a_flush_each_is_told_what_became_of_it(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(REF, lambda _: [b'{"text":"first"}'])
    path = Path(backend.location(REF))
    during_flush(monkeypatch, lambda: by_rename(path, b"".join(path.read_bytes().splitlines(keepends=True)[:2])))

    def fail(_: LogLine | None) -> list[bytes]:
        raise ZeroDivisionError

    outcomes: list[Any] = []

    def append(text: str) -> None:
        outcomes.append((text, backend.append(REF, lambda _: [b'{"text":"%s"}' % text.encode()])))

    # The leader waits at the gate until all have lined up behind it.
    log = backend._log(REF)
    with log._access.alone:
        tasks = [threading.Thread(target=append, args=(text,)) for text in ("a", "b", "c")]
        for task in tasks:
            task.start()
            while len(log._waiting) <= tasks.index(task):
                time.sleep(0.001)
    for task in tasks:
        task.join()
    assert sorted((text, list(seqs)) for text, seqs in outcomes) == [
        (text, [seq]) for seq, text in sorted(told(path)[1:], key=lambda each: each[1])
    ]
    assert [text for _, text in told(path)] == ["first", "a", "b", "c"]


def test_who_removes_a_log_to_make_it_anew_is_waited_for(journal: Journal, path: Path) -> None:
    read = path.read_bytes()
    os.unlink(path)
    seqs: list[int] = []
    appending = threading.Thread(target=lambda: seqs.append(tell(journal, "new")))
    appending.start()
    time.sleep(0.01)
    # Git fails here when it finds that somebody made the file.
    with path.open("xb") as file:
        file.write(read)
    appending.join()
    assert told(path) == [*START, (seqs[0], "new")]


# -- (b), (c) after an append that was told


@SAVES
@MARKS
def test_an_editor_who_read_before_an_append_and_saves_after_it(
    journal: Journal, path: Path, caplog: pytest.LogCaptureFixture, save: Save, mark: bytes
) -> None:
    read = path.read_bytes()
    assert [tell(journal, "one"), tell(journal, "two")] == [4, 5]
    save(path, read.replace(b"mark", mark))
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert tell(journal, "next") == 6
    assert told(path) == [*marked(mark), (4, "one"), (5, "two"), (6, "next")]
    assert "put back 2 entries at its end, as 4, 5" in caplog.text


@SAVES
def test_a_store_that_is_closed_looks_after_its_logs(store: Store, journal: Journal, path: Path, save: Save) -> None:
    read = path.read_bytes()
    assert [tell(journal, "one"), tell(journal, "two")] == [4, 5]
    save(path, read.replace(b"mark", b"kram"))
    store.close()
    assert told(path) == [*marked(b"kram"), (4, "one"), (5, "two")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_one_stale_save_after_another(journal: Journal, path: Path, save: Save) -> None:
    read = path.read_bytes()
    for count in range(1, 5):
        tell(journal, f"n{count}")
        save(path, read.replace(b"mark", b"mark%d" % count))
    assert tell(journal, "next") == 8
    assert told(path) == [*marked(b"mark4"), *((3 + count, f"n{count}") for count in range(1, 5)), (8, "next")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_what_is_put_back_is_flushed_and_kept_while_that_fails(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    read = path.read_bytes()
    tell(journal, "one")
    save(path, read.replace(b"mark", b"kram"))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(log_writing, "flush_data", fail)
        with pytest.raises(StorageError):
            tell(journal, "refused")
    assert tell(journal, "two") == 5
    assert told(path) == [*marked(b"kram"), (4, "one"), (5, "two")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_a_log_that_makes_room_for_others_is_looked_after(
    store: Store, journal: Journal, path: Path, save: Save
) -> None:
    read = path.read_bytes()
    tell(journal, "one")
    save(path, read.replace(b"mark", b"kram"))
    for number in range(40):
        store.journal("audit", f"other{number}").append("note")
    assert told(path) == [*marked(b"kram"), (4, "one")]


def test_a_claim_that_ends_is_looked_after(backend: FileBackend) -> None:
    path = Path(backend.location(REF))
    with backend.claim_log(REF):
        backend.append(REF, lambda _: [b'{"text":"mark"}'])
        read = path.read_bytes()
        backend.append(REF, lambda _: [b'{"text":"one"}'])
        by_rename(path, read.replace(b"mark", b"kram"))
    assert told(path) == [(1, "kram"), (2, "one")]


# -- (d) onto what was appended


@pytest.mark.parametrize("rest", [b"", b"x"])
def test_a_writer_in_place_writes_over_what_is_being_appended(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """The editor has emptied the file when our line comes, and writes over that; of the line a rest may stay."""
    read = path.read_bytes().replace(b"mark", b"kram")
    acts = iter([True])

    def write_under_an_editor(fd: int, data: bytes) -> None:
        if not next(acts, False):
            write_all(fd, data)
            return
        with path.open("r+b") as editor:
            editor.truncate(0)
            write_all(fd, data)
            editor.write(read[: len(data) - 20] if rest else read)

    monkeypatch.setattr(log_writing, "write_all", write_under_an_editor)
    seq = tell(journal, "new")
    if rest:
        # All that the editor left is a piece of its first lines.
        assert told(path)[-1] == (seq, "new")
    else:
        assert told(path) == [*marked(b"kram"), (seq, "new")]


@MARKS
def test_an_append_that_comes_to_stand_behind_an_edit_in_place_is_numbered_for_it(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes
) -> None:
    read = path.read_bytes()
    tell(journal, "one")
    edits = iter([read.replace(b"mark", mark)])

    def write_behind_an_edit(fd: int, data: bytes) -> None:
        if saved := next(edits, b""):
            path.write_bytes(saved)
        write_all(fd, data)

    monkeypatch.setattr(log_writing, "write_all", write_behind_an_edit)
    seq = tell(journal, "two")
    assert told(path) == [*marked(mark), (4, "one"), (seq, "two")]


def test_a_file_that_is_made_before_it_is_filled_is_left_alone(journal: Journal, path: Path) -> None:
    tell(journal, "four")
    read = path.read_bytes()
    seqs: list[int] = []
    appending = threading.Thread(target=lambda: seqs.append(tell(journal, "new")))
    path.unlink()
    with path.open("xb", buffering=0) as file:
        appending.start()
        time.sleep(0.1)
        file.write(read)
    appending.join()
    assert told(path) == [*START, (4, "four"), (seqs[0], "new")]


def test_a_rest_of_a_line_that_an_editor_wrote_over_is_taken_off(journal: Journal, path: Path) -> None:
    read = path.read_bytes()
    tell(journal, "one")
    line = path.read_bytes()[len(read) :]
    in_place(path, read.replace(b"mark", b"kram") + line[20:])
    tell(journal, "two")
    assert told(path) == [*marked(b"kram"), (4, "one"), (5, "two")]


@pytest.mark.parametrize("pause", [0.005, 0.05])
def test_a_file_that_is_being_written_in_place_is_left_alone_until_it_is_whole(
    journal: Journal, path: Path, pause: float
) -> None:
    data = path.read_bytes().replace(b"mark", b"a longer mark")
    began = threading.Event()

    def edit() -> None:
        with path.open("wb", buffering=0) as editor:
            for start in range(0, len(data), 100):
                began.set()
                time.sleep(pause)
                editor.write(data[start : start + 100])

    editing = threading.Thread(target=edit)
    editing.start()
    began.wait()
    seq = tell(journal, "new")
    editing.join()
    assert told(path) == [*marked(b"a longer mark"), (seq, "new")]


# -- (e) what was removed on purpose

REMOVALS: dict[str, Callable[[bytes], bytes]] = {
    "the last": lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
    "the last two": lambda data: b"".join(data.splitlines(keepends=True)[:-2]),
    "one in the middle": lambda data: b"".join(data.splitlines(keepends=True)[:1] + data.splitlines(keepends=True)[2:]),
    "the first two": lambda data: b"".join(data.splitlines(keepends=True)[2:]),
    "all": lambda _: b"",
    "the newline": lambda data: data[:-1],
}


@pytest.mark.parametrize("save", [by_rename, in_place])
@pytest.mark.parametrize("removal", REMOVALS)
def test_what_a_person_removes_stays_removed_and_no_seq_comes_again(
    store: Store, journal: Journal, path: Path, save: Save, removal: str
) -> None:
    save(path, REMOVALS[removal](path.read_bytes()))
    left = told(path)
    assert tell(journal, "next") == 4
    assert told(path) == [*left, (4, "next")]
    store.close()
    assert told(path) == [*left, (4, "next")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_what_was_seen_and_removed_with_another_change_stays_removed(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, save: Save
) -> None:
    # Appended longer ago than any program takes from reading to writing.
    monkeypatch.setattr(edited_logs, "_GRACE", 0)
    time.sleep(0.01)
    save(path, b"".join(path.read_bytes().replace(b"mark", b"kram").splitlines(keepends=True)[:2]))
    assert tell(journal, "next") == 4
    assert told(path) == [(1, "calm"), (2, "kram"), (4, "next")]


def test_what_was_appended_since_the_copy_was_made_is_put_back_although_the_copy_only_ends_earlier(
    journal: Journal, path: Path
) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    time.sleep(0.02)
    tell(journal, "one")
    os.replace(copy, path)
    assert tell(journal, "next") == 5
    assert told(path) == [(1, "calm"), (2, "mark"), (4, "one"), (5, "next")]


def test_an_edit_of_the_last_entry_is_no_removal(journal: Journal, path: Path) -> None:
    for save in (by_rename, in_place):
        save(path, path.read_bytes().replace(b"calm", b"quiet and calm"))
        tell(journal, "next")
    assert [text for _, text in told(path)] == ["quiet and quiet and calm", "mark", "quiet and quiet and calm"] + [
        "next"
    ] * 2


def test_a_log_that_was_removed_begins_anew(store: Store, journal: Journal, path: Path) -> None:
    path.unlink()
    assert tell(journal, "new") == 1
    path.unlink()
    store.close()
    assert not path.exists()


def test_another_log_in_its_place_gets_nothing_of_the_old_one(journal: Journal, path: Path) -> None:
    by_rename(path, b'{"seq":1,"kind":"note","at":"2020-01-01T00:00:00.000000Z","text":"other"}\n')
    assert tell(journal, "new") == 4
    assert told(path) == [(1, "other"), (4, "new")]


# -- (f) while an editor in place is halfway


class Halfway:
    """An editor in place that has emptied the log, and fills it again when it is told to."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._file: Any = None

    def empty(self) -> None:
        """Do so, once."""
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)

    def fill(self) -> None:
        """Do so, once, if it is empty."""
        if self._file is not None and not self._file.closed:
            self._file.write(self._data)
            self._file.close()


def act_before(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], name: str, where: object) -> None:
    """Have a person act each time before something is done."""
    does = getattr(where, name)

    def do(*arguments: Any) -> Any:
        act()
        return does(*arguments)

    monkeypatch.setattr(where, name, do)


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize(("name", "where"), [("sound_end", log_lines), ("find_tail", log_following)])
def test_an_append_is_not_numbered_for_half_an_edit(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, name: str, where: object, stale: bool
) -> None:
    """Who looks at the log's end at the very moment at which it is empty looks again, and forgets nothing."""
    path = Path(journal.path)
    read = path.read_bytes()
    with Store(path.parents[1]) as second:
        assert tell(journal, "mine") == 4
        assert tell(second.journal("audit", "trail"), "theirs") == 5
        with monkeypatch.context() as patch:
            editor = Halfway(path, (read if stale else path.read_bytes()).replace(b"mark", b"kram"))
            act_before(patch, editor.empty, name, where)
            for module in (log_following, log_writing):
                act_before(patch, editor.fill, "await_quiet", module)
            act_before(patch, editor.fill, "write_all", log_writing)
            seq = tell(journal, "next")
    rows = told(path)
    assert rows[:4] == [*marked(b"kram"), (4, "mine")]
    assert sorted(text for _, text in rows[4:]) == ["next", "theirs"]
    assert (seq, "next") in rows
    assert len({seq for seq, _ in rows}) == len(rows)


def test_nothing_is_cut_off_under_an_editor_that_has_emptied_the_log(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our line comes to stand in the empty file. Who took it off as the editor writes would take that along."""
    tell(journal, "one")
    editor = Halfway(path, path.read_bytes().replace(b"mark", b"kram"))
    act_before(monkeypatch, editor.empty, "write_all", log_writing)
    act_before(monkeypatch, editor.fill, "ftruncate", os)
    # A busy machine may take its time.
    monkeypatch.setattr(log_ends, "_QUIET_IF_EMPTY", 10)
    appending = threading.Thread(target=tell, args=(journal, "two"))
    appending.start()
    wait_until(lambda: b'"two"' in path.read_bytes())
    # Longer than a log may stand still that is not empty.
    time.sleep(2 * log_ends._QUIET_IF_SHORTER)
    editor.fill()
    appending.join()
    rows = told(path)
    assert rows[:-1] == [*marked(b"kram"), (4, "one")]
    assert rows[-1][1] == "two"


def test_half_a_line_is_not_cut_off_once_somebody_goes_on_with_it(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = path.read_bytes()
    store.close()
    path.write_bytes(read[:-10])
    act_before(monkeypatch, lambda: path.write_bytes(read), "cut_at", log_writing)
    with Store(store.path) as again:
        assert tell(again.journal("audit", "trail"), "next") == 4
    assert told(path) == [*START, (4, "next")]


def test_an_edit_in_place_of_what_is_not_remembered_takes_nothing_along(
    root: Path, journal: Journal, path: Path
) -> None:
    """It looks as if the end had been taken off, and nothing else."""
    journal.append("note", text="x" * 2 * edited_logs._WINDOW)
    with Store(root) as second:
        again = second.journal("audit", "trail")
        assert tell(again, "seen") == 5
        read = path.read_bytes()
        assert [tell(again, "one"), tell(again, "two")] == [6, 7]
        in_place(path, read.replace(b"mark", b"kram"))
        assert tell(again, "next") == 8
    rows = told(path)
    assert rows[:3] == marked(b"kram")
    assert rows[4:] == [(5, "seen"), (6, "one"), (7, "two"), (8, "next")]


# -- other processes of fsstate


def other(code: str, root: Path) -> None:
    run(f"b = FileBackend(root); ref = Ref('audit', 'trail', LOG); {code}", root)


def test_others_appends_are_no_edits(journal: Journal, path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object, **__: object) -> None:
        pytest.fail("looked at the whole log")

    monkeypatch.setattr(log_following, "look_at", look)
    other('b.append(ref, lambda _: [b\'{"text":"other"}\'] * 2)', root)
    assert tell(journal, "next") == 6
    assert [text for _, text in told(path)] == ["calm", "mark", "calm", "other", "other", "next"]


@pytest.mark.parametrize("before", [2, 3, 4])
def test_others_trims_are_no_edits(journal: Journal, root: Path, before: int) -> None:
    other(f"b.trim(ref, {before})", root)
    assert tell(journal, "next") == 4
    assert [entry["text"] for entry in journal.read()] == [*(text for seq, text in START if seq >= before), "next"]
    assert journal.problems() == []


def test_others_trims_of_all_that_we_appended_are_no_edits(journal: Journal, root: Path) -> None:
    other('b.append(ref, lambda _: [b\'{"text":"other"}\']); b.trim(ref, 4)', root)
    assert tell(journal, "next") == 5
    assert [entry["text"] for entry in journal.read()] == ["other", "next"]


def test_ones_own_trims_are_no_edits(store: Store, journal: Journal) -> None:
    assert journal.trim(before=3) == 2
    assert tell(journal, "next") == 4
    assert journal.trim(before=9) == 2
    store.close()
    with Store(store.path) as again:
        assert tell(again.journal("audit", "trail"), "last") == 5
        assert [entry.seq for entry in again.journal("audit", "trail")] == [5]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_an_entry_whose_seq_somebody_else_has_got_is_numbered_anew(
    journal: Journal, path: Path, root: Path, save: Save
) -> None:
    read = path.read_bytes()
    assert tell(journal, "mine") == 4
    save(path, read.replace(b"mark", b"kram"))
    row = b'{"at":"2020-01-01T00:00:00Z","text":"other"}'
    other(f"assert b.append(ref, lambda _: [{row!r}]) == range(4, 5)", root)
    assert tell(journal, "next") == 6
    assert told(path) == [*marked(b"kram"), (4, "other"), (5, "mine"), (6, "next")]


@pytest.mark.parametrize("save", [by_rename, in_place])
def test_each_of_two_writers_puts_back_its_own(root: Path, journal: Journal, path: Path, save: Save) -> None:
    with Store(root) as second:
        theirs = second.journal("audit", "trail")
        read = path.read_bytes()
        for number in range(2):
            tell(journal, f"mine{number}")
            tell(theirs, f"theirs{number}")
        save(path, read.replace(b"mark", b"kram"))
        tell(theirs, "theirs2")
        tell(journal, "mine2")
    expected = Counter(["calm", "calm", "kram", *(f"{who}{n}" for who in ("mine", "theirs") for n in range(3))])
    assert Counter(text for _, text in told(path)) == expected
    seqs = [seq for seq, _ in told(path)]
    assert seqs == sorted(set(seqs))


# -- what is remembered


def test_little_is_remembered_of_a_log_that_grows(backend: FileBackend) -> None:
    line = b'{"fill":"%s"}' % (b"x" * 100_000)
    for _ in range(40):
        backend.append(REF, lambda _: [line])
    recent = backend._log(REF)._memory.recent
    assert recent
    assert 500_000 < sum(len(line.data) for _, line in recent.entries()) < edited_logs._MOST
    backend.append(REF, lambda _: [b'{"fill":"%s"}' % (b"x" * 3_000_000)])
    assert not recent
    assert backend.append(REF, lambda _: [b"{}"]) == range(42, 43)
    assert [line.seq for _, line in recent.entries()] == [42]


def test_what_was_appended_long_ago_is_forgotten() -> None:
    recent = edited_logs.Recent()
    recent.add(b'{"seq":1}\n', 0, 1)
    recent.add(b'{"seq":2}\n', 10, edited_logs._OLDEST)
    assert [line.seq for _, line in recent.entries()] == [1, 2]
    recent.add(b'{"seq":3}\n', 20, edited_logs._OLDEST + 2)
    assert [line.seq for _, line in recent.entries()] == [2, 3]


def test_a_file_system_that_tells_no_birth(journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("rb") as file:
        born = births.birth_of(file.fileno())
        assert 0 <= time.time_ns() - born < 60e9
        monkeypatch.setattr(births, "_statx_birth", lambda _: None)
        assert born <= births.birth_of(file.fileno()) <= time.time_ns()
    read = path.read_bytes()
    tell(journal, "one")
    by_rename(path, read.replace(b"mark", b"kram"))
    tell(journal, "two")
    assert told(path) == [*marked(b"kram"), (4, "one"), (5, "two")]


# -- real editors

# Appends until its input ends, and prints what it was told; then once more, since the last save may have been stale.
WRITER = """
    import logging, sys, threading, fsstate
    logging.basicConfig(level="WARNING")
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    name = sys.argv[2]
    with fsstate.Store(sys.argv[1]) as store:
        log = store.journal("audit", "trail")
        number, last = 0, False
        while not last:
            last = over.is_set()
            print(log.append("tick", text=f"{name}-{number}"), f"{name}-{number}", flush=True)
            number += 1
            over.wait(0.002)
"""
PYTHON = """
    import os, sys
    text = open("trail.jsonl").read().replace(sys.argv[1], sys.argv[2])
    open(sys.argv[3], "w").write(text)
    os.replace(sys.argv[3], "trail.jsonl")
"""
# Vim asks whether to save over a file that has changed since it was read. Nobody answers, so it ends without a word.
VIM = (
    "rm -f ../saved; vim -es -u NONE -i NONE -n -c 'set {how}' -c '%s/{old}/{new}/' -c 'w!'"
    " -c 'call writefile([], \"../saved\")' -c q! trail.jsonl; test -e ../saved"
)
# Each changes one word, or says that it did not.
EDITORS = {
    "sed": "sed -i s/{old}/{new}/ trail.jsonl",
    "ed": "printf '%s\\n' 'g/{old}/s/{old}/{new}/' w q | ed -s trail.jsonl",
    "vim, by renaming": VIM.replace("{how}", "backupcopy=no"),
    "vim, in place": VIM.replace("{how}", "backupcopy=yes"),
    "python, by renaming": f"{sys.executable} -IS -c '{{python}}' {{old}} {{new}} .copy",
    "python, in place": f"{sys.executable} -IS -c '{{python}}' {{old}} {{new}} trail.jsonl",
    "cp": "sed s/{old}/{new}/ trail.jsonl > ../copy; cp ../copy trail.jsonl",
    "rsync": "sed s/{old}/{new}/ trail.jsonl > ../copy; rsync -I ../copy trail.jsonl",
}


class Writer:
    """A process that appends all the while."""

    def __init__(self, root: str, name: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(WRITER), root, name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._lines: list[str] = []
        self._errors: list[str] = []
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._lines.extend, args=(self._process.stdout,)),
            threading.Thread(target=self._errors.extend, args=(self._process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()

    def has_told(self) -> int:
        return len(self._lines)

    def texts(self) -> list[str]:
        """What it was told so far."""
        return [line.split()[1] for line in list(self._lines)]

    def tell_more(self) -> None:
        """Wait until it has appended more."""
        before = len(self._lines)
        wait_until(lambda: len(self._lines) > before)

    def end(self) -> dict[str, int]:
        """What was told, and by which seq. Let it append once more, so that all is put back."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait(timeout=60)
            for reader in self._readers:
                reader.join()
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
        assert self._process.returncode == 0, "".join(self._errors)
        return {text: int(seq) for seq, text in map(str.split, self._lines)}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def edit(path: Path, editor: str, old: str, new: str) -> bool:
    """Have a program change a word in the log. Whether it says that it did."""
    python = textwrap.dedent(PYTHON).replace("'", '"')
    command = EDITORS[editor].replace("{python}", python).replace("{old}", old).replace("{new}", new)
    nothing = subprocess.DEVNULL
    done = subprocess.run(["bash", "-ec", command], check=False, cwd=path.parent, stdin=nothing, stderr=nothing)
    return done.returncode == 0


@pytest.fixture
def writers(store: Store, path: Path, request: pytest.FixtureRequest) -> Iterator[list[Writer]]:
    """So many processes that append to the log."""
    assert path.exists()
    store.close()
    started = [Writer(store.path, f"w{number}") for number in range(request.param)]
    try:
        wait_until(lambda: all(writer.has_told() for writer in started))
        yield started
    finally:
        for writer in started:
            writer.end()


@pytest.mark.parametrize("writers", [1, 2], indirect=True)
@pytest.mark.parametrize("editor", EDITORS)
def test_real_editors_and_writers_lose_nothing_of_each_other(path: Path, editor: str, writers: list[Writer]) -> None:
    program = editor.partition(",")[0]
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    mark = "mark"
    for number in range(1000, 1008):
        if edit(path, editor, mark, f"m{number}"):
            mark = f"m{number}"
        for writer in writers:
            writer.tell_more()
        assert mark in {text for _, text in told_so_far(path)}
    expected = Counter([*(text for writer in writers for text in writer.end()), "calm", mark, "calm"])
    assert mark != "mark"
    rows = told_so_far(path)
    assert Counter(text for _, text in rows) == expected
    seqs = [seq for seq, _ in rows]
    assert len(seqs) == len(set(seqs))


def git(path: Path, *arguments: str) -> bytes:
    """Run git in the folder of a log."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false")
    return subprocess.run(["git", *who, *arguments], cwd=path.parent, check=True, capture_output=True).stdout


@pytest.fixture
def committed(path: Path) -> Path:
    """The log, with its first three entries committed."""
    git(path, "init", "-q")
    git(path, "add", ".")
    git(path, "commit", "-qm", "one")
    return path


@needs_git
def test_an_older_version_from_git_stays_and_only_what_comes_later_is_added(
    journal: Journal, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(journal, "thrown away")
    git(committed, "checkout", "-q", "--", ".")
    assert tell(journal, "five") == 5
    assert told(committed) == [*START, (5, "five")]
    during_flush(monkeypatch, lambda: git(committed, "checkout", "-q", "--", "."))
    seq = tell(journal, "seven")
    assert told(committed) == [*START, (seq, "seven")]


@needs_git
def test_a_stash_and_its_return(store: Store, journal: Journal, committed: Path) -> None:
    tell(journal, "four")
    git(committed, "stash", "-q")
    assert tell(journal, "five") == 5
    git(committed, "commit", "-qam", "two")
    git(committed, "checkout", "-q", "stash@{0}", "--", ".")
    assert told(committed) == [*START, (4, "four")]
    # Somebody took the other version on purpose; git has both.
    assert tell(journal, "six") == 6
    store.close()
    assert told(committed) == [*START, (4, "four"), (6, "six")]


@needs_git
@pytest.mark.parametrize("writers", [1, 2], indirect=True)
def test_stashes_while_others_append_lose_nothing_but_what_git_itself_misses(
    committed: Path, writers: list[Writer]
) -> None:
    # Whether git saw what came while it ran is its own affair.
    meanwhile: set[str] = set()
    for _ in range(4):
        before = [writer.has_told() for writer in writers]
        git(committed, "stash", "-q")
        for writer, seen in zip(writers, before, strict=True):
            writer.tell_more()
            meanwhile.update(writer.texts()[seen:])
            writer.tell_more()
    expected = {text for writer in writers for text in writer.end()}
    stashes = [git(committed, "show", f"stash@{{{number}}}:./trail.jsonl") for number in range(4)]
    stashed = {json.loads(line)["text"] for each in stashes for line in each.splitlines()}
    texts = [text for _, text in told(committed)]
    assert expected - stashed - set(texts) <= meanwhile
    assert max(Counter(texts[3:]).values()) == 1
    seqs = [seq for seq, _ in told(committed)]
    assert seqs == sorted(set(seqs))


def told_so_far(path: Path) -> Sequence[tuple[int, str]]:
    """What stands in a log that somebody appends to and edits.

    An editor may have read a line while it was written, and saved the half of it; the whole line is put back.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    if not lines[-1].endswith(b"\n"):
        return told_so_far(path)
    halves = [line for line in lines if not line.endswith(b"}\n")]
    assert len(halves) <= 1, "only what is appended at the very moment can be half written"
    return rows_of(b"".join(line for line in lines if line not in halves))
