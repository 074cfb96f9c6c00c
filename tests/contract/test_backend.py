"""The contract of the `Backend` protocol, sentence by sentence, and files held against the model in memory."""

import contextlib
import itertools
import logging
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Blob, Change, Compose, LogLine, Outcome, Ref, Unknown
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import (
    CorruptRecordError,
    FsStateError,
    LockTimeoutError,
    NotFoundError,
    StorageError,
    StoreClosedError,
)
from fsstate.options import StoreOptions
from tests.contract.conftest import Background, Elsewhere, MakeBackend, wait_for

PLANNER = Ref("agents", "planner", JSON)
CODER = Ref("agents", "coder", JSON)
TRAIL = Ref("audit", "trail", LOG)
SESSION = Ref("sessions", "s1", JSON)
EVENTS = Ref("sessions/s1", "events", LOG)
GOAL = Ref("sessions/s1", "goal", JSON)
DEEP = Ref("sessions/s1/checkpoints", "latest", JSON)


def put(backend: Backend, ref: Ref, data: bytes) -> None:
    backend.change(ref, lambda _: data)


def remove(backend: Backend, ref: Ref) -> None:
    backend.change(ref, lambda _: None)


def data_of(backend: Backend, ref: Ref) -> bytes | None:
    blob = backend.read(ref)
    return None if blob is None else blob.data


def row(**fields: Any) -> bytes:
    return orjson.dumps(fields)


def rows(*values: object) -> Compose:
    return lambda _: [row(n=value) for value in values]


def append(backend: Backend, ref: Ref, *values: object) -> range:
    return backend.append(ref, rows(*values))


def entries(lines: Iterable[object]) -> list[tuple[int, object]]:
    """(seq, n) of each entry; fails at a bad line."""
    found: list[tuple[int, object]] = []
    for line in lines:
        assert isinstance(line, LogLine)
        value = orjson.loads(line.data)
        assert value["seq"] == line.seq
        found.append((line.seq, value["n"]))
    return found


def read(backend: Backend, ref: Ref, after: int = 0) -> list[tuple[int, object]]:
    return entries(backend.entries(ref, after=after))


class TestDocuments:
    def test_an_absent_document_is_none(self, backend: Backend) -> None:
        assert backend.read(PLANNER) is None
        assert backend.change(PLANNER, lambda _: None) is None

    def test_what_was_written_is_read(self, backend: Backend) -> None:
        put(backend, PLANNER, b"{}\n")
        assert data_of(backend, PLANNER) == b"{}\n"

    def test_bytes_are_only_bytes(self, backend: Backend) -> None:
        for data in (b"", b"\xff\0\r\n", b"x" * 100_000):
            put(backend, PLANNER, data)
            assert data_of(backend, PLANNER) == data

    def test_change_gets_what_is_there_and_returns_what_is_there_afterwards(self, backend: Backend) -> None:
        seen: list[bytes | None] = []

        def change(blob: Blob | None) -> bytes:
            seen.append(None if blob is None else blob.data)
            return b"%d" % len(seen)

        first, second = backend.change(PLANNER, change), backend.change(PLANNER, change)
        assert first is not None
        assert second is not None
        assert (first.data, second.data) == (b"1", b"2")
        assert seen == [None, b"1"]

    def test_none_deletes(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        assert backend.change(PLANNER, lambda _: None) is None
        assert backend.read(PLANNER) is None
        assert backend.names("agents", JSON) == []

    def test_a_change_that_raises_leaves_the_document_as_it_was(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        with pytest.raises(ZeroDivisionError):
            backend.change(PLANNER, lambda _: b"%d" % (1 // 0))
        assert data_of(backend, PLANNER) == b"1"
        assert not backend.is_locked(PLANNER)

    def test_the_same_bytes_are_not_written(self, backend: Backend, on_disk: Callable[[Ref], Path]) -> None:
        put(backend, PLANNER, b"1")
        before = on_disk(PLANNER).stat()
        put(backend, PLANNER, b"1")
        after = on_disk(PLANNER).stat()
        assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)

    def test_a_change_runs_again_when_the_document_changed_behind_the_lock(
        self, backend: Backend, elsewhere: Elsewhere
    ) -> None:
        put(backend, PLANNER, b"1")
        seen: list[bytes | None] = []

        def change(blob: Blob | None) -> bytes:
            seen.append(None if blob is None else blob.data)
            if len(seen) == 1:
                elsewhere(PLANNER, b"2")
            return (seen[-1] or b"") + b"+mine"

        backend.change(PLANNER, change)
        assert seen == [b"1", b"2"]
        assert data_of(backend, PLANNER) == b"2+mine"

    def test_a_change_runs_again_when_the_document_went_or_came_behind_the_lock(
        self, backend: Backend, elsewhere: Elsewhere
    ) -> None:
        put(backend, PLANNER, b"1")
        runs = itertools.count()

        def change(blob: Blob | None) -> bytes:
            if next(runs) == 0:
                elsewhere(PLANNER, None)
            return b"absent" if blob is None else b"present"

        backend.change(PLANNER, change)
        assert data_of(backend, PLANNER) == b"absent"

        def create(blob: Blob | None) -> bytes:
            if next(runs) == 2:
                elsewhere(CODER, b"theirs")
            return b"absent" if blob is None else b"present"

        backend.change(CODER, create)
        assert data_of(backend, CODER) == b"present"

    def test_a_change_made_elsewhere_is_seen_at_once(self, backend: Backend, elsewhere: Elsewhere) -> None:
        for number in range(50):
            elsewhere(PLANNER, b"%3d" % number)
            assert data_of(backend, PLANNER) == b"%3d" % number

    def test_the_revision_is_that_of_git(self, backend: Backend) -> None:
        put(backend, PLANNER, b'{"n": 1}\n')
        blob = backend.read(PLANNER)
        assert blob is not None
        hashed = subprocess.run(["git", "hash-object", "--stdin"], input=blob.data, capture_output=True, check=True)
        assert blob.revision == hashed.stdout.decode().strip()

    def test_peek_knows_or_says_that_it_does_not(self, backend: Backend, elsewhere: Elsewhere) -> None:
        put(backend, PLANNER, b"1")
        for data in (b"1", b"2", None):
            elsewhere(PLANNER, data)
            blob = backend.peek(PLANNER)
            if not isinstance(blob, Unknown):
                assert (None if blob is None else blob.data) == data

    def test_kinds_of_records_do_not_meet(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        put(backend, PLANNER._replace(suffix=MARKDOWN), b"# 2")
        append(backend, PLANNER._replace(suffix=LOG), 3)
        assert data_of(backend, PLANNER) == b"1"
        assert data_of(backend, PLANNER._replace(suffix=MARKDOWN)) == b"# 2"
        for suffix in (JSON, MARKDOWN, LOG):
            assert backend.names("agents", suffix) == ["planner"]

    def test_one_writer_at_a_time(self, backend: Backend) -> None:
        put(backend, PLANNER, b"0")

        def count() -> None:
            for _ in range(25):
                backend.change(PLANNER, lambda blob: b"%d" % (int(blob.data) + 1) if blob else b"lost")

        threads = [Background(count) for _ in range(4)]
        for thread in threads:
            thread.result()
        assert data_of(backend, PLANNER) == b"100"

    def test_a_reader_sees_the_old_document_or_the_new(self, backend: Backend) -> None:
        put(backend, PLANNER, b"a" * 50_000)
        stop = threading.Event()

        def write() -> None:
            for letter in itertools.cycle((b"b", b"a")):
                if stop.is_set():
                    return
                put(backend, PLANNER, letter * 50_000)

        writer = Background(write)
        seen = {data_of(backend, PLANNER) for _ in range(200)}
        stop.set()
        writer.result()
        assert seen <= {b"a" * 50_000, b"b" * 50_000}


class TestChangeMany:
    def test_each_is_changed(self, backend: Backend) -> None:
        changes: list[tuple[Ref, Change]] = [(PLANNER, lambda _: b"1"), (CODER, lambda _: b"2")]
        assert [told(outcome) for outcome in backend.change_many(changes)] == [b"1", b"2"]
        assert (data_of(backend, PLANNER), data_of(backend, CODER)) == (b"1", b"2")

    def test_nothing_is_nothing(self, backend: Backend) -> None:
        assert backend.change_many([]) == []

    def test_one_that_fails_does_not_stop_the_others(self, backend: Backend) -> None:
        put(backend, CODER, b"1")

        def fail(_: Blob | None) -> bytes:
            raise ZeroDivisionError

        outcomes = backend.change_many([(PLANNER, lambda _: b"1"), (CODER, fail), (DEEP, lambda _: b"3")])
        assert isinstance(outcomes[1], ZeroDivisionError)
        assert (told(outcomes[0]), told(outcomes[2])) == (b"1", b"3")
        assert data_of(backend, CODER) == b"1"

    def test_one_document_twice_is_changed_twice_in_order(self, backend: Backend) -> None:
        def add(letter: bytes) -> Callable[[Blob | None], bytes]:
            return lambda blob: (blob.data if blob else b"") + letter

        backend.change_many([(PLANNER, add(b"a")), (CODER, add(b"x")), (PLANNER, add(b"b")), (PLANNER, add(b"c"))])
        assert (data_of(backend, PLANNER), data_of(backend, CODER)) == (b"abc", b"x")

    def test_a_few_are_made_in_the_order_that_they_are_given_in(self, backend: Backend) -> None:
        made: list[str] = []

        def note(ref: Ref) -> Callable[[Blob | None], bytes]:
            def change(_: Blob | None) -> bytes:
                made.append(str(ref))
                return b"1"

            return change

        order = [PLANNER, GOAL, CODER, DEEP]
        backend.change_many([(ref, note(ref)) for ref in order])
        assert made == [str(ref) for ref in order]

    def test_deleting_and_leaving_alone(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        put(backend, CODER, b"2")
        outcomes = backend.change_many(
            [(PLANNER, lambda _: None), (CODER, lambda blob: blob.data if blob else None), (GOAL, lambda _: None)]
        )
        assert [told(outcome) for outcome in outcomes] == [None, b"2", None]
        assert backend.names("agents", JSON) == ["coder"]

    def test_a_document_changed_behind_the_lock_is_changed_again(self, backend: Backend, elsewhere: Elsewhere) -> None:
        put(backend, PLANNER, b"1")
        runs = itertools.count()

        def change(blob: Blob | None) -> bytes:
            if next(runs) == 0:
                elsewhere(PLANNER, b"2")
            return (blob.data if blob else b"") + b"+mine"

        backend.change_many([(CODER, lambda _: b"x"), (PLANNER, change)])
        assert data_of(backend, PLANNER) == b"2+mine"

    def test_many(self, backend: Backend) -> None:
        refs = [Ref("many", f"r{number:03}", JSON) for number in range(300)]
        backend.change_many([(ref, lambda _, name=ref.name: name.encode()) for ref in refs])  # type: ignore[misc]
        assert backend.names("many", JSON) == [ref.name for ref in refs]
        assert data_of(backend, refs[-1]) == b"r299"

    def test_two_callers_with_the_same_documents_do_not_wait_for_each_other(self, backend: Backend) -> None:
        refs = [Ref("many", f"r{number}", JSON) for number in range(5)]

        def add(blob: Blob | None) -> bytes:
            return b"%d" % (int(blob.data) + 1 if blob else 1)

        def work(order: Sequence[Ref]) -> None:
            for _ in range(10):
                backend.change_many([(ref, add) for ref in order])

        threads = [Background(lambda: work(refs)), Background(lambda: work(refs[::-1]))]
        for thread in threads:
            thread.result()
        assert [data_of(backend, ref) for ref in refs] == [b"20"] * 5


def told(outcome: Outcome) -> bytes | None:
    assert not isinstance(outcome, Exception), outcome
    return None if outcome is None else outcome.data


class TestListing:
    def test_names_are_sorted_and_of_one_category_and_kind(self, backend: Backend) -> None:
        for name in ("b", "a", "c", "é", "B"):
            put(backend, Ref("agents", name, JSON), b"1")
        put(backend, Ref("agents/a", "below", JSON), b"1")
        put(backend, Ref("agents", "note", MARKDOWN), b"1")
        append(backend, Ref("agents", "log", LOG), 1)
        assert backend.names("agents", JSON) == sorted(["b", "a", "c", "é", "B"])
        assert backend.names("agents", MARKDOWN) == ["note"]
        assert backend.names("agents", LOG) == ["log"]
        assert backend.names("nowhere", JSON) == []

    def test_conflict_copies_are_listed_apart(self, backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
        copy = "planner.conflict-2026-11-28T184512Z-1f3a"
        there = [Ref("agents", copy, JSON), Ref("agents/below", copy, MARKDOWN), Ref("sessions/s", copy, JSON)]
        for ref in (*there, Ref("agents", "planner", JSON), Ref(".fsstate/trash/run/agents", copy, JSON)):
            backend.change(ref, lambda _: b"{}")
        refused: list[CorruptRecordError] = []
        assert backend.names("agents", JSON, refused) == ["planner"]
        assert list(backend.survey("agents", JSON, {}, belongings=True).changed) == ["planner"]
        assert (refused, caplog.messages) == ([], [])
        problems: list[StorageError] = []
        assert sorted(backend.copies("", problems, below=True)) == sorted(there)
        assert sorted(backend.copies("agents", problems, below=True)) == there[:2]
        assert list(backend.copies("agents", problems, below=False)) == there[:1]
        assert list(backend.copies("nowhere", problems, below=True)) == []
        assert problems == []

    def test_names_that_would_be_refused_are_left_out(self, backend: Backend, on_disk: Callable[[Ref], Path]) -> None:
        put(backend, PLANNER, b"1")
        for name in (".json", ".hidden.json", "a:b.json", "CON.json", "x.json~", "x.txt"):
            on_disk(PLANNER).with_name(name).write_bytes(b"1")
        on_disk(PLANNER).with_name("folder.json").mkdir()
        assert backend.names("agents", JSON) == ["planner"]

    def test_names_that_are_left_out_are_told_once(
        self, backend: Backend, on_disk: Callable[[Ref], Path], caplog: pytest.LogCaptureFixture
    ) -> None:
        put(backend, PLANNER, b"1")
        for name in (".json", ".hidden.json", "a:b.json", "CON.json", " lead.json", "b:a.md"):
            on_disk(PLANNER).with_name(name).write_bytes(b"1")
        on_disk(PLANNER).parent.with_name("x|y").mkdir()
        on_disk(PLANNER).parent.with_name(".git").mkdir()
        refused: list[CorruptRecordError] = []
        with caplog.at_level(logging.WARNING):
            assert backend.names("agents", JSON, refused) == ["planner"]
            assert caplog.messages == []
            assert [Path(error.path).name for error in refused] == [" lead.json", "CON.json", "a:b.json"]
            for _ in range(2):
                assert backend.names("agents", JSON) == ["planner"]
                assert backend.categories() == ["agents"]
        assert caplog.messages[:3] == [str(error) for error in refused]
        assert "'a%3Ab.json'" in caplog.messages[2]
        assert "'x%7Cy'" in caplog.messages[3]
        assert len(caplog.messages) == 4

    def test_no_name_makes_up_a_line_of_the_log(self, backend: Backend, on_disk: Callable[[Ref], Path]) -> None:
        put(backend, PLANNER, b"1")
        on_disk(PLANNER).with_name("a\nb.json").write_bytes(b"1")
        on_disk(PLANNER).with_name("\udcff" + "x" * 210 + ".json").write_bytes(b"1")
        refused: list[CorruptRecordError] = []
        backend.names("agents", JSON, refused)
        assert "'a%0Ab.json'" in str(refused[0])
        assert "give it a shorter name" in str(refused[1])
        assert all(str(error).isprintable() for error in refused)

    def test_categories_are_those_directly_below(self, backend: Backend) -> None:
        for category in ("agents", "teams/red/agents", "teams/blue", "teams"):
            put(backend, Ref(category, "x", JSON), b"1")
        append(backend, TRAIL, 1)
        assert backend.categories() == ["agents", "audit", "teams"]
        assert backend.categories("teams") == ["blue", "red"]
        assert backend.categories("teams/red") == ["agents"]
        assert backend.categories("team") == []
        assert backend.categories("teams/blue") == []

    def test_the_location_tells_which_record_it_is(self, backend: Backend) -> None:
        assert backend.location(PLANNER).endswith("agents/planner.json")
        if isinstance(backend, MemoryBackend):
            assert backend.location(PLANNER) == "memory:agents/planner.json"


class TestLocks:
    def test_a_lock_excludes_other_writers_and_no_readers(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        held = backend.lock(PLANNER)
        writer = Background(lambda: put(backend, PLANNER, b"2"))
        time.sleep(0.02)
        assert writer.is_running
        assert data_of(backend, PLANNER) == b"1"
        held.release()
        writer.result()
        assert data_of(backend, PLANNER) == b"2"

    def test_a_lock_names_its_record(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        assert held.ref == PLANNER
        held.release()

    def test_other_records_are_free(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        put(backend, CODER, b"1")
        put(backend, PLANNER._replace(suffix=MARKDOWN), b"1")
        held.release()

    def test_an_absent_document_can_be_locked(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        assert backend.read(PLANNER) is None
        assert backend.names("agents", JSON) == []
        held.release()

    @pytest.mark.parametrize("timeout", [0, 0.05])
    def test_waiting_ends(self, backend: Backend, timeout: float) -> None:
        held = backend.lock(PLANNER)
        with pytest.raises(LockTimeoutError) as caught:
            backend.lock(PLANNER, timeout=timeout)
        assert caught.value.timeout == timeout
        assert "agents/planner.json" in str(caught.value)
        held.release()
        backend.lock(PLANNER, timeout=0).release()

    def test_the_options_say_how_long_to_wait(self, make_backend: MakeBackend) -> None:
        backend = make_backend(StoreOptions(lock_timeout=0.05))
        held = backend.lock(PLANNER)
        with pytest.raises(LockTimeoutError):
            put(backend, PLANNER, b"1")
        with pytest.raises(LockTimeoutError):
            backend.lock(PLANNER)
        outcomes = backend.change_many([(CODER, lambda _: b"1"), (PLANNER, lambda _: b"1")])
        assert told(outcomes[0]) == b"1"
        assert isinstance(outcomes[1], LockTimeoutError)
        held.release()

    def test_writing_under_a_held_lock(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        backend.change(PLANNER, lambda _: b"1", held=held)
        backend.change(PLANNER, lambda blob: blob.data + b"2" if blob else b"lost", held=held)
        assert backend.is_locked(PLANNER)
        held.release()
        assert data_of(backend, PLANNER) == b"12"

    def test_releasing_twice_does_nothing(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        held.release()
        other = backend.lock(PLANNER)
        held.release()
        with pytest.raises(LockTimeoutError):
            backend.lock(PLANNER, timeout=0)
        other.release()

    def test_a_lock_may_be_released_by_another_thread(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        Background(held.release).result()
        backend.lock(PLANNER, timeout=0).release()

    def test_a_bound_lock_does_not_let_its_thread_wait_for_itself(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        held.bind_to_thread()
        start = time.monotonic()
        with pytest.raises(LockTimeoutError, match="this thread"):
            put(backend, PLANNER, b"1")
        assert time.monotonic() - start < 1
        writer = Background(lambda: put(backend, PLANNER, b"2"))
        time.sleep(0.02)
        held.release()
        writer.result()
        put(backend, PLANNER, b"3")

    def test_is_locked(self, backend: Backend) -> None:
        assert not backend.is_locked(PLANNER)
        held = backend.lock(PLANNER)
        assert backend.is_locked(PLANNER)
        assert not backend.is_locked(CODER)
        held.release()
        assert not backend.is_locked(PLANNER)

    def test_the_lock_is_held_while_a_change_runs(self, backend: Backend) -> None:
        backend.change(PLANNER, lambda _: b"yes" if backend.is_locked(PLANNER) else b"no")
        assert data_of(backend, PLANNER) == b"yes"


class TestLogs:
    def test_an_absent_log_is_empty(self, backend: Backend) -> None:
        assert list(backend.entries(TRAIL)) == []
        assert list(backend.entries_backwards(TRAIL)) == []
        assert backend.log_stamp(TRAIL) is None
        assert backend.trim(TRAIL, 5) == 0
        assert not backend.delete_log(TRAIL)
        assert backend.names("audit", LOG) == []

    def test_seqs_start_at_1_and_grow(self, backend: Backend) -> None:
        assert append(backend, TRAIL, "a", "b") == range(1, 3)
        assert append(backend, TRAIL, "c") == range(3, 4)
        assert read(backend, TRAIL) == [(1, "a"), (2, "b"), (3, "c")]

    def test_the_seq_is_the_first_key(self, backend: Backend) -> None:
        backend.append(TRAIL, lambda _: [b'{"a":1}', b"{}"])
        lines = [line.data for line in backend.entries(TRAIL)]
        assert lines == [b'{"seq":1,"a":1}', b'{"seq":2}']

    def test_compose_gets_the_last_entry(self, backend: Backend) -> None:
        seen: list[LogLine | None] = []

        def compose(last: LogLine | None) -> list[bytes]:
            seen.append(last)
            return [row(n=1), row(n=2)]

        backend.append(TRAIL, compose)
        backend.append(TRAIL, compose)
        assert seen == [None, LogLine(2, b'{"seq":2,"n":2}')]

    def test_appending_nothing(self, backend: Backend) -> None:
        assert len(append(backend, TRAIL)) == 0
        assert read(backend, TRAIL) == []
        assert append(backend, TRAIL, "a") == range(1, 2)
        assert len(append(backend, TRAIL)) == 0
        assert append(backend, TRAIL, "b") == range(2, 3)

    def test_a_compose_that_raises_appends_nothing(self, backend: Backend) -> None:
        append(backend, TRAIL, "a")
        with pytest.raises(ZeroDivisionError):
            backend.append(TRAIL, lambda _: [b"%d" % (1 // 0)])
        assert append(backend, TRAIL, "b") == range(2, 3)
        assert read(backend, TRAIL) == [(1, "a"), (2, "b")]

    def test_append_many_goes_on_behind_one_that_raises(self, backend: Backend) -> None:
        last: list[int] = []

        def fail(_: LogLine | None) -> list[bytes]:
            raise ZeroDivisionError

        def look(line: LogLine | None) -> list[bytes]:
            last.append(line.seq if line else 0)
            return [row(n="looked")]

        outcomes = backend.append_many(TRAIL, [rows("a"), fail, rows(), look, rows("b", "c")])
        assert outcomes[0] == range(1, 2)
        assert isinstance(outcomes[1], ZeroDivisionError)
        assert isinstance(outcomes[2], range)
        assert len(outcomes[2]) == 0
        assert outcomes[3:] == [range(2, 3), range(3, 5)]
        assert last == [1]
        assert read(backend, TRAIL) == [(1, "a"), (2, "looked"), (3, "b"), (4, "c")]
        assert backend.append_many(TRAIL, []) == []

    def test_reading_after_a_seq(self, backend: Backend) -> None:
        append(backend, TRAIL, *range(1, 1001))
        for after in (0, 1, 499, 998, 999):
            assert read(backend, TRAIL, after) == [(seq, seq) for seq in range(after + 1, 1001)]
        assert read(backend, TRAIL, 1000) == []
        assert read(backend, TRAIL, 5000) == []

    def test_reading_after_a_seq_among_lines_of_all_sizes(self, backend: Backend) -> None:
        sizes = [0, 1, 20_000, 3, 400_000, 5, 16_384, 7]
        append(backend, TRAIL, *("x" * size for size in sizes))
        for after in range(len(sizes) + 1):
            assert [len(str(value)) for _, value in read(backend, TRAIL, after)] == sizes[after:]
        backwards = entries(backend.entries_backwards(TRAIL))
        assert [len(str(value)) for _, value in backwards] == sizes[::-1]

    def test_reading_backwards(self, backend: Backend) -> None:
        append(backend, TRAIL, *range(1, 1001))
        assert entries(backend.entries_backwards(TRAIL)) == [(seq, seq) for seq in range(1000, 0, -1)]
        assert entries(itertools.islice(backend.entries_backwards(TRAIL), 2)) == [(1000, 1000), (999, 999)]

    def test_a_reader_that_began_is_not_disturbed(self, backend: Backend) -> None:
        append(backend, TRAIL, *range(1, 101))
        for lines in (backend.entries(TRAIL), backend.entries_backwards(TRAIL)):
            first = next(lines)
            append(backend, TRAIL, "more")
            backend.trim(TRAIL, 50)
            assert isinstance(first, LogLine)
            assert all(isinstance(line, LogLine) for line in lines)

    def test_a_reader_sees_a_prefix(self, backend: Backend) -> None:
        def write() -> None:
            for number in range(1, 101):
                append(backend, TRAIL, number)

        writer = Background(write)
        while writer.is_running:
            found = read(backend, TRAIL)
            assert found == [(seq, seq) for seq in range(1, len(found) + 1)]
        writer.result()

    def test_many_threads_append_without_loss(self, backend: Backend) -> None:
        def write(thread: int) -> list[int]:
            return [append(backend, TRAIL, [thread, number])[0] for number in range(25)]

        threads = [Background(lambda thread=thread: write(thread)) for thread in range(4)]  # type: ignore[misc]
        given_out = {
            seq: [thread, number] for thread, one in enumerate(threads) for number, seq in enumerate(seqs(one))
        }
        assert dict(read(backend, TRAIL)) == given_out
        assert sorted(given_out) == list(range(1, 101))

    def test_the_stamp_changes_with_the_log(self, backend: Backend) -> None:
        stamps: list[tuple[int, ...] | None] = [backend.log_stamp(TRAIL)]
        for step in (
            lambda: append(backend, TRAIL, 1),
            lambda: append(backend, TRAIL, 2),
            lambda: backend.trim(TRAIL, 2),
            lambda: append(backend, TRAIL, 3),
            lambda: backend.trim(TRAIL, 100),
        ):
            step()
            stamps.append(backend.log_stamp(TRAIL))
            assert backend.log_stamp(TRAIL) == stamps[-1]
        assert len(set(stamps)) == len(stamps)
        backend.delete_log(TRAIL)
        assert backend.log_stamp(TRAIL) is None


def seqs(thread: Background) -> list[int]:
    found: Any = thread.result()
    assert isinstance(found, list)
    return cast("list[int]", found)


class TestTrim:
    def test_it_removes_what_lies_before(self, backend: Backend) -> None:
        append(backend, TRAIL, *range(1, 11))
        assert backend.trim(TRAIL, 4) == 3
        assert read(backend, TRAIL) == [(seq, seq) for seq in range(4, 11)]
        assert backend.trim(TRAIL, 4) == 0
        assert append(backend, TRAIL, 11) == range(11, 12)
        assert read(backend, TRAIL, 9) == [(10, 10), (11, 11)]

    @pytest.mark.parametrize("before", [-1, 0, 1])
    def test_nothing_lies_before_the_first(self, backend: Backend, before: int) -> None:
        append(backend, TRAIL, 1)
        assert backend.trim(TRAIL, before) == 0
        assert read(backend, TRAIL) == [(1, 1)]

    def test_seqs_are_not_given_out_again_after_a_trim_of_everything(self, backend: Backend) -> None:
        append(backend, TRAIL, *range(1, 58))
        assert backend.trim(TRAIL, 1000) == 57
        assert read(backend, TRAIL) == []
        assert list(backend.entries_backwards(TRAIL)) == []
        assert backend.trim(TRAIL, 1000) == 0
        seen: list[LogLine | None] = []

        def compose(last: LogLine | None) -> list[bytes]:
            seen.append(last)
            return [row(n="new")]

        assert backend.append(TRAIL, compose) == range(58, 59)
        assert seen == [None]
        assert read(backend, TRAIL) == [(58, "new")]
        assert entries(backend.entries_backwards(TRAIL)) == [(58, "new")]

    def test_space_is_reclaimed(self, backend: Backend, on_disk: Callable[[Ref], Path]) -> None:
        append(backend, TRAIL, *("x" * 1000 for _ in range(100)))
        backend.trim(TRAIL, 91)
        assert on_disk(TRAIL).stat().st_size < 20_000

    def test_appends_and_trims_at_once_lose_nothing(self, backend: Backend) -> None:
        def write() -> None:
            for number in range(1, 51):
                append(backend, TRAIL, number)

        writers = [Background(write) for _ in range(2)]
        gone = 0
        while any(writer.is_running for writer in writers):
            lines = read(backend, TRAIL)
            gone += backend.trim(TRAIL, lines[-1][0]) if lines else 0
        for writer in writers:
            writer.result()
        left = [seq for seq, _ in read(backend, TRAIL)]
        assert gone + len(left) == 100
        assert left == list(range(gone + 1, 101))

    def test_a_deleted_log_is_a_new_one(self, backend: Backend) -> None:
        append(backend, TRAIL, 1, 2)
        assert backend.delete_log(TRAIL)
        assert not backend.delete_log(TRAIL)
        assert read(backend, TRAIL) == []
        assert append(backend, TRAIL, "a") == range(1, 2)


class TestOwners:
    def test_writes_without_the_owner_are_refused(self, backend: Backend) -> None:
        for write in (
            lambda: backend.change(GOAL, lambda _: b"1", owner=SESSION),
            lambda: backend.append(EVENTS, rows(1), owner=SESSION),
            lambda: backend.claim_log(EVENTS, owner=SESSION).__enter__(),
        ):
            with pytest.raises(NotFoundError) as caught:
                write()
            assert "sessions/s1.json" in str(caught.value)
        outcomes = backend.append_many(EVENTS, [rows(1), rows(2)], owner=SESSION)
        assert [type(outcome) for outcome in outcomes] == [NotFoundError, NotFoundError]
        assert backend.read(GOAL) is None
        assert list(backend.entries(EVENTS)) == []

    def test_writes_with_the_owner_are_done(self, backend: Backend) -> None:
        put(backend, SESSION, b"{}")
        backend.change(GOAL, lambda _: b"1", owner=SESSION)
        assert backend.append(EVENTS, rows(1, 2), owner=SESSION) == range(1, 3)
        assert backend.trim(EVENTS, 2, owner=SESSION) == 1
        assert data_of(backend, GOAL) == b"1"

    def test_a_held_lock_does_not_stand_in_for_the_owner(self, backend: Backend) -> None:
        held = backend.lock(GOAL)
        with pytest.raises(NotFoundError):
            backend.change(GOAL, lambda _: b"1", held=held, owner=SESSION)
        held.release()
        assert backend.read(GOAL) is None

    def test_belongings_can_be_written_while_the_owner_is_edited(self, backend: Backend) -> None:
        put(backend, SESSION, b"{}")
        held = backend.lock(SESSION)
        backend.append(EVENTS, rows(1), owner=SESSION)
        backend.change(GOAL, lambda _: b"1", owner=SESSION)
        held.release()


class TestClaims:
    def test_a_log_is_claimed_until_the_block_ends(self, backend: Backend) -> None:
        assert not backend.is_claimed(EVENTS)
        with backend.claim_log(EVENTS):
            assert backend.is_claimed(EVENTS)
            assert not backend.is_claimed(TRAIL)
        assert not backend.is_claimed(EVENTS)

    def test_an_exception_ends_the_claim(self, backend: Backend) -> None:
        with pytest.raises(ZeroDivisionError), backend.claim_log(EVENTS):
            raise ZeroDivisionError
        assert not backend.is_claimed(EVENTS)

    def test_the_claimant_appends_and_all_read(self, backend: Backend) -> None:
        put(backend, SESSION, b"{}")
        with backend.claim_log(EVENTS, owner=SESSION):
            backend.append(EVENTS, rows("a"), owner=SESSION)
            assert Background(lambda: read(backend, EVENTS)).result() == [(1, "a")]
            backend.append(EVENTS, rows("b"), owner=SESSION)
        assert read(backend, EVENTS) == [(1, "a"), (2, "b")]

    def test_a_claimed_log_may_be_deleted_by_the_claimant(self, backend: Backend) -> None:
        with backend.claim_log(EVENTS):
            append(backend, EVENTS, 1)
            assert backend.delete_log(EVENTS)
        assert backend.names("sessions/s1", LOG) == []
        assert not backend.is_claimed(EVENTS)


@pytest.fixture
def session(backend: Backend) -> Backend:
    """A session with belongings at several depths, and a neighbour with a similar name."""
    put(backend, SESSION, b"{}")
    put(backend, GOAL, b"1")
    put(backend, DEEP, b"2")
    append(backend, EVENTS, 1, 2)
    put(backend, Ref("sessions", "s10", JSON), b"{}")
    put(backend, Ref("sessions/s10", "goal", JSON), b"3")
    return backend


def is_whole(backend: Backend) -> bool:
    return (
        data_of(backend, SESSION) == b"{}"
        and data_of(backend, GOAL) == b"1"
        and data_of(backend, DEEP) == b"2"
        and read(backend, EVENTS) == [(1, 1), (2, 2)]
    )


def is_gone(backend: Backend) -> bool:
    left = [data_of(backend, ref) for ref in (SESSION, GOAL, DEEP)]
    return left == [None, None, None] and read(backend, EVENTS) == [] and backend.categories("sessions") == ["s10"]


class TestDeleteWith:
    def test_all_goes_and_neighbours_stay(self, session: Backend) -> None:
        assert session.delete_with(SESSION, "sessions/s1", lambda: True)
        assert is_gone(session)
        assert session.names("sessions", JSON) == ["s10"]
        assert data_of(session, Ref("sessions/s10", "goal", JSON)) == b"3"

    def test_a_document_without_belongings(self, backend: Backend) -> None:
        put(backend, SESSION, b"{}")
        assert backend.delete_with(SESSION, "sessions/s1", lambda: True)
        assert backend.names("sessions", JSON) == []

    def test_an_absent_document(self, backend: Backend) -> None:
        assert not backend.delete_with(SESSION, "sessions/s1", lambda: True)

    def test_nothing_happens_unless_confirmed(self, session: Backend) -> None:
        assert not session.delete_with(SESSION, "sessions/s1", lambda: False)
        assert is_whole(session)

    def test_nothing_happens_when_the_confirmation_fails(self, session: Backend) -> None:
        with pytest.raises(ZeroDivisionError):
            session.delete_with(SESSION, "sessions/s1", lambda: bool(1 // 0))
        assert is_whole(session)
        put(session, SESSION, b"free")

    def test_the_confirmation_may_look_at_all_of_it(self, session: Backend) -> None:
        assert session.delete_with(SESSION, "sessions/s1", lambda: is_whole(session))
        assert is_gone(session)

    def test_it_waits_for_the_documents_lock(self, session: Backend) -> None:
        held = session.lock(SESSION)
        with pytest.raises(LockTimeoutError):
            session.delete_with(SESSION, "sessions/s1", lambda: True, timeout=0)
        with pytest.raises(LockTimeoutError):
            session.delete_with(SESSION, "sessions/s1", lambda: True, timeout=0.02)
        assert is_whole(session)
        deletion = Background(lambda: session.delete_with(SESSION, "sessions/s1", lambda: True))
        held.release()
        assert deletion.result() is True
        assert is_gone(session)

    def test_it_waits_for_claimed_logs(self, session: Backend) -> None:
        with session.claim_log(EVENTS, owner=SESSION):
            with pytest.raises(LockTimeoutError):
                session.delete_with(SESSION, "sessions/s1", lambda: True, timeout=0)
            assert is_whole(session)
            deletion = Background(lambda: session.delete_with(SESSION, "sessions/s1", lambda: True))
            time.sleep(0.02)
            # Else the claim could never come to its end.
            session.append(EVENTS, rows(3), owner=SESSION)
            assert deletion.is_running
        assert deletion.result() is True
        assert is_gone(session)

    def test_no_write_comes_between_the_confirmation_and_the_end(self, session: Backend) -> None:
        writers: list[Background] = []

        def confirm() -> bool:
            writers.append(Background(lambda: session.append(EVENTS, rows("late"), owner=SESSION)))
            new = Ref("sessions/s1", "tools", JSON)
            writers.append(Background(lambda: session.change(new, lambda _: b"late", owner=SESSION)))
            time.sleep(0.02)
            return is_whole(session)

        assert session.delete_with(SESSION, "sessions/s1", confirm)
        for writer in writers:
            with pytest.raises(NotFoundError):
                writer.result()
        assert is_gone(session)

    def test_writes_go_on_when_it_was_not_confirmed(self, session: Backend) -> None:
        writers: list[Background] = []

        def confirm() -> bool:
            writers.append(Background(lambda: session.append(EVENTS, rows(3), owner=SESSION)))
            return False

        assert not session.delete_with(SESSION, "sessions/s1", confirm)
        assert writers[0].result() == range(3, 4)

    @pytest.mark.parametrize("_", range(10))
    def test_an_acknowledged_write_is_seen_by_the_confirmation(self, backend: Backend, _: int) -> None:
        put(backend, SESSION, b"{}")
        acknowledged: list[int] = []
        seen: list[int] = []

        def write() -> None:
            with contextlib.suppress(NotFoundError):
                while True:
                    acknowledged.append(backend.append(EVENTS, rows("x"), owner=SESSION)[0])

        def confirm() -> bool:
            seen.append(len(read(backend, EVENTS)))
            return True

        writer = Background(write)
        wait_for(lambda: len(acknowledged) > 2)
        assert backend.delete_with(SESSION, "sessions/s1", confirm)
        writer.result()
        # The last may have been written, and deleted with all others before its writer was told.
        assert len(acknowledged) <= seen[0] <= len(acknowledged) + 1
        assert backend.read(SESSION) is None
        assert list(backend.entries(EVENTS)) == []

    def test_discard(self, session: Backend) -> None:
        assert session.discard("sessions/s1")
        assert not session.discard("sessions/s1")
        assert not session.discard("nowhere")
        assert session.names("sessions", JSON) == ["s1", "s10"]
        assert session.categories("sessions") == ["s10"]
        assert append(session, EVENTS, "new") == range(1, 2)


class TestClose:
    def test_later_calls_are_refused(self, backend: Backend) -> None:
        put(backend, PLANNER, b"1")
        append(backend, TRAIL, 1)
        backend.close()
        backend.close()
        for call in (
            lambda: backend.read(PLANNER),
            lambda: backend.peek(PLANNER),
            lambda: put(backend, PLANNER, b"2"),
            lambda: backend.change_many([(PLANNER, lambda _: b"2")]),
            lambda: backend.names("agents", JSON),
            backend.categories,
            lambda: backend.lock(PLANNER),
            lambda: backend.is_locked(PLANNER),
            lambda: append(backend, TRAIL, 2),
            lambda: backend.append_many(TRAIL, [rows(2)]),
            lambda: list(backend.entries(TRAIL)),
            lambda: list(backend.entries_backwards(TRAIL)),
            lambda: backend.log_stamp(TRAIL),
            lambda: backend.trim(TRAIL, 2),
            lambda: backend.delete_log(TRAIL),
            lambda: backend.claim_log(TRAIL).__enter__(),
            lambda: backend.is_claimed(TRAIL),
            lambda: backend.delete_with(SESSION, "sessions/s1", lambda: True),
            lambda: backend.discard("agents"),
        ):
            with pytest.raises(StoreClosedError):
                call()

    def test_a_held_lock_can_still_be_released(self, backend: Backend) -> None:
        held = backend.lock(PLANNER)
        backend.close()
        held.release()


NAMES = st.sampled_from(["a", "b"])
DATA = st.sampled_from([b"", b"1", b"22"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, DATA),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("own"), NAMES, NAMES, DATA),
        st.tuples(st.just("append"), NAMES, NAMES, st.integers(1, 3)),
        st.tuples(st.just("trim"), NAMES, NAMES, st.integers(0, 8)),
        st.tuples(st.just("delete_log"), NAMES, NAMES),
        st.tuples(st.just("delete_with"), NAMES, st.booleans()),
        st.tuples(st.just("discard"), NAMES),
    ),
    max_size=20,
)


def do(backend: Backend, step: Sequence[Any]) -> object:
    """What one step answers, told alike by every backend."""
    verb, name, *rest = step
    owner = Ref("top", name, JSON)
    log = Ref(f"top/{name}", rest[0], LOG) if verb in ("append", "trim", "delete_log") else TRAIL
    steps: dict[str, Callable[[], object]] = {
        "put": lambda: told(backend.change(owner, lambda _: rest[0])),
        "remove": lambda: told(backend.change(owner, lambda _: None)),
        "own": lambda: told(backend.change(Ref(f"top/{name}", rest[0], JSON), lambda _: rest[1], owner=owner)),
        "append": lambda: list(backend.append(log, rows(*range(rest[1])), owner=owner)),
        "trim": lambda: backend.trim(log, rest[1]),
        "delete_log": lambda: backend.delete_log(log),
        "delete_with": lambda: backend.delete_with(owner, f"top/{name}", lambda: rest[0]),
        "discard": lambda: backend.discard(f"top/{name}"),
    }
    try:
        answer = steps[verb]()
        # Whether an empty folder was there is no matter: memory has none.
        return None if verb == "discard" else answer
    except FsStateError as error:
        return type(error)


def everything(backend: Backend) -> dict[str, object]:
    found: dict[str, object] = {}
    for category in ("top", "top/a", "top/b"):
        for name in backend.names(category, JSON):
            found[f"{category}/{name}"] = data_of(backend, Ref(category, name, JSON))
        for name in backend.names(category, LOG):
            ref = Ref(category, name, LOG)
            found[f"{category}/{name}.jsonl"] = read(backend, ref)
            assert entries(backend.entries_backwards(ref)) == read(backend, ref)[::-1]
    return found


@given(STEPS)
def test_files_do_what_the_model_does(steps: list[tuple[Any, ...]]) -> None:
    files = pytest.importorskip("fsstate.backends.files", exc_type=ImportError)
    options = StoreOptions(durability="process", lock_timeout=5)
    with tempfile.TemporaryDirectory() as root:
        model, real = MemoryBackend(options), files.FileBackend(root, options)
        for step in steps:
            assert do(real, step) == do(model, step), step
            assert everything(real) == everything(model), step
        real.close()


def test_a_write_with_anothers_lock_is_refused(backend: Backend) -> None:
    held = backend.lock(CODER)
    with pytest.raises(StorageError):
        backend.change(PLANNER, lambda _: b"1", held=held)
    held.release()
    with pytest.raises(StorageError):
        backend.change(CODER, lambda _: b"1", held=held)


def test_a_prepared_place_has_no_records(backend: Backend) -> None:
    backend.prepare()
    backend.prepare()
    assert backend.categories() == []
