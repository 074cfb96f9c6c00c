"""Journals and logs: what every method promises, over memory and files."""

import logging
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest

from fsstate.backends.base import LOG, Backend, LogLine, Ref
from fsstate.errors import CorruptRecordError, InvalidNameError, InvalidValueError, NotFoundError
from fsstate.journal import Entry, Journal, Log
from fsstate.store import Store
from tests.contract.conftest import Background, View

TRAIL = Ref("audit", "trail", LOG)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def journal(backend: Backend, view: View) -> Journal:
    return view(Journal(backend, TRAIL, lambda: NOON))  # type: ignore[no-any-return]


@pytest.fixture
def log(backend: Backend) -> Log:
    return Log(backend, TRAIL)


def lines_of(backend: Backend) -> list[bytes]:
    return [line.data for line in backend.entries(TRAIL)]


def seqs(entries: list[Entry]) -> list[int]:
    return [entry.seq for entry in entries]


class TestDeclaredKinds:
    @pytest.fixture
    def declared(self, backend: Backend, view: View) -> Journal:
        return view(Journal(backend, TRAIL, lambda: NOON, kinds=("prompt", "reply")))  # type: ignore[no-any-return]

    def test_others_are_refused(self, declared: Journal, backend: Backend) -> None:
        assert declared.append("prompt", text="a") == 1
        for attempt in (
            lambda: declared.append("promt"),
            lambda: declared.append_many([("reply", {}), ("promt", {})]),
        ):
            with pytest.raises(InvalidValueError, match=r"'promt' is not declared .*: prompt, reply") as caught:
                attempt()
            assert caught.value.at == "$.kind"
        with pytest.raises(InvalidValueError):
            Journal(backend, TRAIL, kinds={"b", "a"}).compose("c", {})
        assert [entry.kind for entry in declared.read()] == ["prompt"]

    def test_what_is_there_is_read_as_it_is(self, declared: Journal, backend: Backend) -> None:
        Journal(backend, TRAIL).append("other", x=1)
        backend.append(TRAIL, lambda _: [b'{"text":"no kind"}'])
        declared.append("reply")
        assert [entry.kind for entry in declared.read()] == ["other", "", "reply"]
        assert (declared.count(), declared.problems()) == (3, [])

    def test_declarations(self, backend: Backend) -> None:
        with pytest.raises(TypeError, match="'prompt'"):
            Journal(backend, TRAIL, kinds="prompt")
        for odd in ([""], [None]):
            with pytest.raises(ValueError, match="not empty"):
                Journal(backend, TRAIL, kinds=odd)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="b, a"):
            Journal(backend, TRAIL, kinds=iter(["b", "a"])).append("c")
        with pytest.raises(InvalidValueError, match="none"):
            Journal(backend, TRAIL, kinds=()).append("c")

    def test_in_a_store(self, store: Store) -> None:
        store.sessions.create(id="s")
        for journal in (
            store.journal("audit", "trail", kinds=("a",)),
            store.session("s").journal("events", kinds=("a",)),
            store.session("s").journal("own", kinds={"a"}),
        ):
            journal.append("a")
            with pytest.raises(InvalidValueError):
                journal.append("b")
            assert journal.count() == 1
        assert [entry.kind for entry in store.session("s").events.read()] == ["a"]


class TestAppend:
    def test_the_line(self, journal: Journal, backend: Backend) -> None:
        assert journal.append("tool_started", name="grep", args={"b": 1, "a": [None]}) == 1
        line = (
            b'{"seq":1,"kind":"tool_started","at":"2026-01-02T12:00:00.000000Z","name":"grep",'
            b'"args":{"b":1,"a":[null]}}'
        )
        assert lines_of(backend) == [line]

    def test_the_entry(self, journal: Journal) -> None:
        journal.append("tool_started", name="grep")
        (entry,) = journal.read()
        assert entry == Entry(1, "tool_started", NOON, {"name": "grep"})
        assert (entry["name"], entry.get("name"), entry.get("gone"), entry.get("gone", 5)) == ("grep", "grep", None, 5)
        assert "name" in entry
        assert "gone" not in entry
        with pytest.raises(KeyError):
            _ = entry["gone"]
        assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - its own

    def test_the_kind_may_be_named(self, journal: Journal) -> None:
        journal.append(kind="note")
        assert [entry.kind for entry in journal] == ["note"]

    def test_fields_called_like_parameters_of_python(self, journal: Journal) -> None:
        journal.append("note", self=1, fields=2, after=3)
        assert journal.read()[0].fields == {"self": 1, "fields": 2, "after": 3}

    def test_the_time_may_be_given(self, journal: Journal) -> None:
        elsewhere = timezone(timedelta(hours=2))
        journal.append("note", at=datetime(2026, 5, 1, 2, tzinfo=elsewhere))
        journal.append("note", at="2026-05-01T00:00:00Z")
        assert [entry.at for entry in journal] == [datetime(2026, 5, 1, tzinfo=UTC)] * 2

    @pytest.mark.parametrize(
        "fields",
        [
            {"seq": 1},
            {"fsstate": "trimmed"},
            {"n": float("inf")},
            {"n": {1, 2}},
            {"n": {1: 2}},
            {"at": "yesterday"},
            {"at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is wrong with it
        ],
    )
    def test_what_cannot_be_stored(self, journal: Journal, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidValueError):
            journal.append("note", **fields)
        with pytest.raises(InvalidValueError):
            journal.append_many([("note", {}), ("note", fields)])
        assert journal.count() == 0

    def test_kinds_that_cannot_be(self, journal: Journal) -> None:
        kinds: list[Any] = ["", None, 5]
        for kind in kinds:
            with pytest.raises(InvalidValueError):
                journal.append(kind)
        with pytest.raises(InvalidValueError):
            journal.append_many([("note", {"kind": "other"})])

    def test_integers_beyond_a_float(self, journal: Journal) -> None:
        numbers = [10**308, 10**309, -(10**400), [10**4000]]
        for number in numbers:
            journal.append("sum", number=number)
        assert [entry["number"] for entry in journal.read()] == numbers
        assert [entry["number"] for entry in journal.tail(2)] == numbers[2:]
        assert journal.problems() == []

    def test_append_many(self, journal: Journal) -> None:
        journal.append("first")
        assert journal.append_many([("a", {"n": 1}), ("b", {"n": 2, "at": "2026-05-01"})]) == range(2, 4)
        assert [(entry.kind, entry.at) for entry in journal.read(1)] == [
            ("a", NOON),
            ("b", datetime(2026, 5, 1, tzinfo=UTC)),
        ]
        assert len(journal.append_many([])) == 0

    def test_work_for_the_backend_is_a_copy(self, journal: Journal, backend: Backend) -> None:
        fields = {"n": [1]}
        composes = [journal.compose("a", fields), journal.compose("b", fields, at="2026-05-01")]
        fields["n"].append(2)
        assert backend.append_many(TRAIL, composes) == [range(1, 2), range(2, 3)]
        assert [entry["n"] for entry in journal] == [[1], [1]]

    def test_an_owner(self, backend: Backend) -> None:
        owner = Ref("sessions", "s1", ".json")
        journal = Journal(backend, Ref("sessions/s1", "events", LOG), owner=owner)
        with pytest.raises(NotFoundError):
            journal.append("note")
        backend.change(owner, lambda _: b"{}")
        assert journal.append("note") == 1
        assert journal.append("note") == 2
        assert journal.trim(before=2) == 1

    def test_names_that_cannot_be(self, backend: Backend) -> None:
        for ref in (Ref("", "a", LOG), Ref("a", "", LOG), Ref("a", "b/c", LOG), Ref("a/../b", "c", LOG)):
            with pytest.raises(InvalidNameError):
                Journal(backend, ref)


class TestRead:
    @pytest.fixture
    def ten(self, journal: Journal) -> Journal:
        journal.append_many([("even" if n % 2 == 0 else "odd", {"n": n}) for n in range(1, 11)])
        return journal

    def test_nothing(self, journal: Journal) -> None:
        assert journal.read() == journal.tail(5) == list(journal) == []
        assert journal.problems() == []
        assert journal.first() is journal.last() is journal.entry(1) is None
        assert len(journal) == journal.count() == journal.trim(before=5) == 0

    def test_read(self, ten: Journal) -> None:
        assert seqs(ten.read()) == seqs(list(ten)) == list(range(1, 11))
        assert seqs(ten.read(7)) == [8, 9, 10]
        assert seqs(ten.read(after=7, limit=2)) == [8, 9]
        assert seqs(ten.read(limit=3)) == [1, 2, 3]
        assert ten.read(limit=0) == ten.read(10) == ten.read(99) == []
        assert seqs(ten.read(3, 2, kinds=["even"])) == [4, 6]
        assert seqs(ten.read(kinds={"even", "odd"}, limit=1)) == [1]
        assert seqs(ten.read(kinds="odd")) == [1, 3, 5, 7, 9]

    def test_tail(self, ten: Journal) -> None:
        assert seqs(ten.tail(3)) == [8, 9, 10]
        assert seqs(ten.tail(99)) == list(range(1, 11))
        assert ten.tail(0) == []
        assert seqs(ten.tail(2, kinds=["odd"])) == [7, 9]

    def test_negative_numbers_are_refused(self, ten: Journal) -> None:
        with pytest.raises(ValueError, match="0 or more"):
            ten.tail(-1)
        with pytest.raises(ValueError, match="0 or more"):
            ten.read(limit=-1)

    def test_single_entries(self, ten: Journal) -> None:
        first, last, fifth = ten.first(), ten.last(), ten.entry(5)
        assert (first and first.seq, last and last.seq, fifth and fifth["n"]) == (1, 10, 5)
        assert ten.entry(0) is ten.entry(-3) is ten.entry(11) is None
        after = ten.first_after(5)
        assert after is not None
        assert after.seq == 6

    def test_len(self, ten: Journal) -> None:
        assert len(ten) == 10
        ten.append("more")
        assert len(ten) == ten.count() == 11
        ten.trim(before=6)
        assert len(ten) == 6
        assert len(ten) == 6

    def test_trim(self, ten: Journal) -> None:
        assert ten.trim(before=4) == 3
        assert seqs(ten.read()) == list(range(4, 11))
        assert ten.entry(3) is None
        assert ten.trim(before=99) == 7
        assert ten.read() == ten.tail(3) == []
        assert ten.last() is None
        assert ten.append("new") == 11
        assert seqs(ten.read()) == seqs(ten.tail(3)) == [11]
        assert ten.problems() == []

    def test_path(self, ten: Journal, backend: Backend) -> None:
        assert ten.path == backend.location(TRAIL)

    def test_entries_are_the_readers_own(self, ten: Journal) -> None:
        ten.append("list", items=[1])
        ten.tail(1)[0]["items"].append(2)
        assert ten.tail(1)[0]["items"] == [1]

    def test_threads_append_without_loss(self, journal: Journal) -> None:
        def work() -> None:
            for _ in range(25):
                journal.append("note")

        for thread in [Background(work) for _ in range(4)]:
            thread.result()
        assert seqs(journal.read()) == list(range(1, 101))


def write(backend: Backend, *lines: bytes) -> None:
    """Write lines that have seqs of their own, as another program or a hand does. Only files can hold them all."""
    path = Path(backend.location(TRAIL))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


class TestForeignLogs:
    @pytest.fixture(autouse=True)
    def _files_only(self, on_disk: Callable[[Ref], Path]) -> None:
        pass

    def test_entries_without_kind_or_time(self, journal: Journal, backend: Backend) -> None:
        write(backend, b'{"seq":1}', b'{"seq":2,"kind":5,"at":"once"}', b'{"n":1,"seq":3,"at":1767355200000}')
        assert journal.read() == [
            Entry(1, "", None, {}),
            Entry(2, "", None, {"kind": 5, "at": "once"}),
            Entry(3, "", NOON, {"n": 1}),
        ]
        assert journal.problems() == []
        assert journal.append("note") == 4

    @pytest.mark.parametrize(
        "bad", [b"{oops", b"<<<<<<< HEAD", b"[1]", b'{"n":1}', b'{"seq":0}', b'{"seq":2,"a":NaN}'], ids=bytes.decode
    )
    def test_a_bad_line_hides_no_other(
        self, journal: Journal, backend: Backend, caplog: pytest.LogCaptureFixture, bad: bytes
    ) -> None:
        write(backend, b'{"seq":1,"kind":"a"}', bad, b'{"seq":3,"kind":"b"}')
        with caplog.at_level(logging.WARNING, "fsstate"):
            assert seqs(journal.read()) == [1, 3]
        assert len(caplog.records) == 1
        assert journal.path in caplog.text
        assert seqs(journal.tail(5)) == [1, 3]
        assert seqs(journal.read(1)) == [3]
        assert len(journal) == 2
        (problem,) = journal.problems()
        assert isinstance(problem, CorruptRecordError)
        assert (problem.path, problem.line) == (journal.path, 2)
        assert journal.append("c") == 4

    def test_keys_that_stand_twice_are_named_with_their_entry(self, journal: Journal, backend: Backend) -> None:
        write(backend, b'{"seq":1,"kind":"a"}', b'{"seq":2,"a":1,"a":2}', b'{"seq":3,"kind":"b"}')
        assert seqs(journal.read()) == [1, 3]
        (problem,) = journal.problems()
        assert "entry 2" in str(problem)

    def test_seqs_that_do_not_grow_are_shown_and_reported(self, journal: Journal, backend: Backend) -> None:
        write(backend, *(b'{"seq":%d,"kind":"a"}' % seq for seq in (1, 2, 2, 1, 3)))
        assert seqs(journal.read()) == [1, 2, 2, 1, 3]
        assert seqs(journal.tail(3)) == [2, 1, 3]
        assert len(journal.problems()) == 2
        assert "entry 2" in str(journal.problems()[0])
        assert journal.append("b") == 4


class TestLog:
    def test_rows(self, log: Log) -> None:
        assert log.append([{"a": 1}, {}]) == range(1, 3)
        assert list(log.rows()) == [{"seq": 1, "a": 1}, {"seq": 2}]
        assert list(log.rows(1)) == [{"seq": 2}]
        assert list(log.rows_backwards()) == [{"seq": 2}, {"seq": 1, "a": 1}]
        assert next(iter(next(log.rows()))) == "seq"
        assert log.count() == 2
        assert log.trim(before=2) == 1
        assert log.problems() == []

    def test_rows_made_from_the_last_one(self, log: Log) -> None:
        def count(last: dict[str, Any] | None) -> list[dict[str, Any]]:
            return [{"n": 1 if last is None else last["n"] + 1}]

        def work() -> None:
            for _ in range(25):
                log.append_next(count)

        for thread in [Background(work) for _ in range(4)]:
            thread.result()
        assert [row["n"] for row in log.rows()] == list(range(1, 101))

    def test_an_exception_appends_nothing(self, log: Log) -> None:
        with pytest.raises(ZeroDivisionError):
            log.append_next(lambda _: [{"n": 1 // 0}])
        with pytest.raises(InvalidValueError):
            log.append([{"n": 1}, {"seq": 5}])
        assert list(log.rows()) == []

    def test_the_backend_and_the_log_agree(self, log: Log, backend: Backend) -> None:
        log.append([{"a": "é\n"}])
        (line,) = backend.entries(TRAIL)
        assert isinstance(line, LogLine)
        assert orjson.loads(line.data) == next(log.rows())
        assert b"\n" not in line.data
