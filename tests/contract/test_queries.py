"""Conditions, pages and counts: the same answers with an index and without, over files and memory."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsstate import Contains, InvalidCursorError, OneOf, Prefix, Range
from fsstate.index import Index
from fsstate.options import Indexing, StoreOptions
from fsstate.record_types import RecordType
from fsstate.store import Store

TASKS: dict[str, dict[str, Any]] = {
    "a": {"status": "idle", "n": 2, "tags": ["red", "big"], "at": "2026-01-03T00:00:00.000000Z"},
    "b": {"status": "busy", "n": 1.5, "tags": ["red"], "at": "2026-01-01T00:00:00.000000Z"},
    "c": {"status": "idle", "n": None, "tags": [], "meta": {"team": "x", "size": 1}},
    "d": {"status": "idler", "n": -1, "meta": {"team": "x", "size": 2}, "at": "2026-01-02T00:00:00.000000Z"},
    "e": {"status": None, "n": 10**20},
    "f": {"n": "2", "status": "Idle"},
    "g": {"n": [2], "status": "idle", "tags": "red"},
}
FIELDS = ("status", "n", "tags", "meta", "at")


@pytest.fixture
def indexing(indexed_or_not: Indexing) -> Indexing:
    return indexed_or_not


@pytest.fixture
def tasks(store: Store) -> Any:
    tasks = store.collection("tasks", indexed=FIELDS)
    tasks.put_many(TASKS)
    return tasks


def names(items: list[Any]) -> str:
    return "".join(item.name for item in items)


def test_what_no_query_is_made_of_is_told_as_such(tasks: Any) -> None:
    with pytest.raises(TypeError, match="where must map fields"):
        tasks.query(["status"])
    for order in (None, ["n", 1]):
        with pytest.raises(TypeError, match="order_by must be a field or several"):
            tasks.query(order_by=order)


class TestConditions:
    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"status": "idle"}, "acg"),
            ({"status": None}, "e"),
            ({"status": OneOf("busy", "Idle")}, "bf"),
            ({"status": OneOf("busy", None)}, "be"),
            ({"status": OneOf()}, ""),
            ({"status": Prefix("idl")}, "acdg"),
            ({"status": Prefix("")}, "abcdfg"),
            ({"n": 2}, "a"),
            ({"n": 2.0}, "a"),
            ({"n": [2.0]}, "g"),
            ({"n": Range(at_least=1.5)}, "abe"),
            ({"n": Range(above=1.5)}, "ae"),
            ({"n": Range(at_least=-1, below=2)}, "bd"),
            ({"n": Range(at_most=2)}, "abd"),
            ({"n": Range(at_least="2")}, "f"),
            ({"n": 10**20}, "e"),
            ({"n": Range(above=10**20 - 1, below=10**20 + 1)}, "e"),
            ({"n": Range(above=10**20)}, ""),
            ({"tags": Contains("red")}, "ab"),
            ({"tags": Contains("red", "big")}, "a"),
            ({"tags": ["red"]}, "b"),
            ({"tags": []}, "c"),
            ({"meta": Contains({"team": "x"})}, "cd"),
            ({"meta": Contains({"team": "x", "size": 2.0})}, "d"),
            ({"meta": {"size": 1, "team": "x"}}, "c"),
            ({"at": Range(at_least=datetime(2026, 1, 2, tzinfo=UTC))}, "ad"),
            ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "b"),
            ({"status": "idle", "tags": Contains("red")}, "a"),
            ({}, "abcdefg"),
        ],
    )
    def test_where(self, tasks: Any, where: dict[str, Any], expected: str) -> None:
        assert names(tasks.query(where)) == expected
        assert tasks.count(where) == len(expected)

    def test_without_declared_fields_any_field_may_be_asked_for(self, store: Store, tasks: Any) -> None:
        assert names(store.collection("tasks").query({"n": Range(at_least=1.5), "status": "idle"})) == "a"

    def test_a_field_that_is_not_declared(self, tasks: Any) -> None:
        with pytest.raises(ValueError, match=r"tasks are asked for status, n, tags, meta, at, not for 'age'; declare"):
            tasks.query({"age": 1})
        with pytest.raises(ValueError, match="not for 'age'"):
            tasks.query(order_by=["n", "-age"])
        with pytest.raises(ValueError, match="not for 'age'"):
            tasks.count({"age": 1})

    def test_a_function_may_ask_for_anything(self, tasks: Any) -> None:
        assert names(tasks.query(lambda task: "meta" in task, order_by="-n", limit=1)) == "d"
        assert tasks.count(lambda task: "meta" in task) == 2

    @pytest.mark.parametrize(
        "bounds",
        [{}, {"at_least": 1, "above": 2}, {"at_most": 1, "below": 2}, {"at_least": 1, "at_most": "2"}, {"above": None}],
    )
    def test_ranges_that_are_none(self, bounds: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"Range\("):
            Range(**bounds)

    def test_more_than_a_database_takes(self, tasks: Any) -> None:
        assert tasks.count({"n": OneOf(None, *range(1000))}) == 2
        assert tasks.count({"tags": Contains("red", *range(1100))}) == 0

    @pytest.mark.parametrize("number", [70, 2100])
    def test_more_fields_than_a_database_takes(self, store: Store, number: int) -> None:
        fields = [f"f{index}" for index in range(number)]
        many = store.collection("many", indexed=fields)
        many.put("a", dict.fromkeys(fields))
        assert many.count({fields[-1]: None}) == 1

    @pytest.mark.parametrize("number", [2.5, float("nan"), "5"])
    def test_limits_that_are_no_whole_number(self, tasks: Any, number: Any) -> None:
        for ask in (tasks.query, tasks.page):
            with pytest.raises(TypeError, match="must be whole numbers"):
                ask({"n": 2}, limit=number)

    def test_documents_that_hold_null_are_there(self, tasks: Any) -> None:
        tasks.put("null", None)
        assert names(tasks.query(limit=9))[-4:] == "null"
        assert tasks.count({"status": None}) == 1

    def test_an_object_with_a_name_that_is_no_text(self, tasks: Any) -> None:
        with pytest.raises(TypeError, match="named by texts, got 1"):
            tasks.query({"meta": Contains({1: 2})})

    @pytest.mark.parametrize("indexed", ["n", [1]])
    def test_declared_fields_that_are_no_names(self, store: Store, indexed: Any) -> None:
        with pytest.raises(TypeError, match="a sequence of names"):
            store.collection("c", indexed=indexed).count({"n": 1})

    def test_a_prefix_that_is_no_text(self) -> None:
        with pytest.raises(TypeError, match="a prefix is a text"):
            Prefix(5)  # type: ignore[arg-type]

    def test_a_text_in_the_place_of_the_fields(self, store: Store) -> None:
        with pytest.raises(TypeError, match="sequence of names"):
            store.collection("tasks", indexed="status")


class TestOrder:
    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ("n", "dbaefgc"),
            ("-n", "gfeabdc"),
            ("status", "fbacgde"),
            (["-status", "n"], "dagcbfe"),
            (["status", "-n"], "fbgacde"),
            ("at", "bdacefg"),
            ((), "abcdefg"),
        ],
    )
    def test_order(self, tasks: Any, order: Any, expected: str) -> None:
        assert names(tasks.query(order_by=order)) == expected
        for size in (1, 2, 3, 7, 8):
            assert self.in_pages(tasks, order, size) == expected
            assert names(tasks.query(order_by=order, limit=size, offset=2)) == expected[2 : 2 + size]

    def in_pages(self, tasks: Any, order: Any, size: int) -> str:
        found, after = "", None
        while True:
            page = tasks.page(order_by=order, limit=size, after=after)
            assert len(page.items) <= size
            found += names(page.items)
            if page.cursor is None:
                return found
            after = page.cursor


class TestCursor:
    def test_what_comes_and_goes_between_pages_moves_nothing_else(self, tasks: Any) -> None:
        first = tasks.page(order_by="-n", limit=3)
        tasks.delete("g")
        tasks.put("h", {"n": 10**30})
        tasks.put("i", {"n": 1})
        assert names(first.items) == "gfe"
        assert names(tasks.page(order_by="-n", limit=3, after=first.cursor).items) == "abi"

    def test_it_outlives_its_last_item(self, tasks: Any) -> None:
        first = tasks.page({"status": "idle"}, order_by="n", limit=1)
        tasks.delete("a")
        assert names(tasks.page({"status": "idle"}, order_by="n", limit=9, after=first.cursor).items) == "gc"

    @pytest.mark.parametrize("other", [{"order_by": "n"}, {"order_by": "-n", "where": {"status": "idle"}}, {}])
    def test_that_of_another_query(self, tasks: Any, other: dict[str, Any]) -> None:
        cursor = tasks.page(order_by="-n", limit=1).cursor
        with pytest.raises(InvalidCursorError, match="other filters or another order; begin again without one"):
            tasks.page(**other, after=cursor)

    def test_that_of_another_category(self, store: Store, tasks: Any) -> None:
        cursor = store.collection("others").page(limit=0).cursor
        assert cursor is None
        cursor = tasks.page(order_by="-n", limit=1).cursor
        with pytest.raises(InvalidCursorError):
            store.collection("others", indexed=FIELDS).page(order_by="-n", after=cursor)

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "!!!!", 5, b"BBBB", "W10=", "e30=", "WzEsMiwzXQ=="])
    def test_what_is_none(self, tasks: Any, cursor: Any) -> None:
        with pytest.raises(InvalidCursorError, match="is none that fsstate gave"):
            tasks.page(order_by="-n", after=cursor)

    def test_a_page_of_nothing(self, tasks: Any) -> None:
        assert tasks.page({"status": "gone"}) == ([], None)
        assert tasks.page(limit=0) == ([], None)
        assert names(tasks.page(limit=None).items) == "abcdefg"
        with pytest.raises(ValueError, match="0 or more"):
            tasks.page(limit=-1)


class Job(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str = ""
    team: str | None = None
    size: int = 0
    created_at: datetime | None = None


class Note(msgspec.Struct, kw_only=True):
    id: str
    tags: list[str] = []
    created_at: datetime | None = None


JOBS = RecordType("work", Job, group_by="team", indexed=("size",), order_by="-created_at")


class TestRecords:
    @pytest.fixture
    def work(self, store: Store) -> Any:
        work = store.records(JOBS)
        for number in range(9):
            work.create(f"j{number}", team=[None, "red", "blue"][number % 3], size=number // 2)
        return work

    def test_what_is_found_in_groups_and_out_of_them(self, work: Any) -> None:
        assert [job.id for job in work.list(size=Range(at_least=3))] == ["j8", "j7", "j6"]
        assert [job.id for job in work.list(team="red", order_by="id")] == ["j1", "j4", "j7"]
        assert [job.id for job in work.list(team=OneOf(None, "blue"), size=0)] == ["j0"]
        assert [job.id for job in work.list(team=None, limit=1)] == ["j6"]
        assert work.count(team=Prefix("r")) == 3
        assert work.first(size=1).id == "j3"

    def test_pages(self, work: Any) -> None:
        found, after = [], None
        for _ in range(3):
            page = work.page(limit=4, order_by="-size", after=after)
            found += [job.id for job in page.items]
            after = page.cursor
        assert after is None
        assert found == ["j8", "j7", "j6", "j5", "j4", "j3", "j2", "j1", "j0"]

    def test_what_is_in_lists(self, store: Store) -> None:
        notes = store.records(RecordType("notes", Note, indexed=("tags",)))
        notes.create("a", tags=["red", "big"])
        notes.create("b", tags=["red"])
        assert [note.id for note in notes.list(tags=Contains("red", "big"))] == ["a"]
        assert notes.count(tags=Contains()) == 2

    def test_a_field_that_is_not_declared(self, work: Any) -> None:
        with pytest.raises(ValueError, match="are listed by id, team, size, not by 'colour'; declare it as indexed"):
            work.list(colour="red")


class TestSessions:
    @pytest.fixture
    def chats(self, store: Store) -> Any:
        for number in range(6):
            user, team = ["ada", "bob"][number % 2], ["x", "y", "z"][number % 3]
            store.sessions.create(id=f"chat{number}", user_id=user, title=f"T{number}", metadata={"team": team})
            for _ in range(number):
                store.session(f"chat{number}").messages.append("user", "Hi")
        store.sessions.archive("chat5")
        return store.sessions

    def ids(self, found: list[Any]) -> list[str]:
        return [each.id.removeprefix("chat") for each in found]

    def test_conditions(self, chats: Any) -> None:
        assert self.ids(chats.list(message_count=Range(at_least=2), order_by="message_count")) == ["2", "3", "4"]
        assert self.ids(chats.list(title=OneOf("T1", "T5"), archived=None)) == ["5", "1"]
        assert self.ids(chats.list(metadata={"team": "x"})) == ["3", "0"]
        assert self.ids(chats.list(metadata=Contains({"team": "y"}), user_id=Prefix("a"))) == ["4"]
        assert self.ids(chats.list(order_by="user_id")) == ["0", "2", "4", "1", "3"]

    def test_counts(self, chats: Any) -> None:
        assert chats.count() == 6
        assert chats.count(archived=False) == 5
        assert chats.count(user_id="bob") == 3
        assert chats.count(message_count=0) == 1

    def test_pages(self, chats: Any) -> None:
        page = chats.page(limit=2, order_by="-message_count")
        assert self.ids(page.items) == ["4", "3"]
        chats.create(id="chat6")
        page = chats.page(limit=2, order_by="-message_count", after=page.cursor)
        assert self.ids(page.items) == ["2", "1"]
        page = chats.page(limit=2, order_by="-message_count", after=page.cursor)
        assert (self.ids(page.items), page.cursor) == (["6", "0"], None)

    def test_what_is_in_a_field_that_holds_nothing(self, chats: Any) -> None:
        assert chats.list(label=Contains("x")) == chats.list(label={"x": 1}) == []

    def test_what_is_not_asked_for(self, chats: Any) -> None:
        with pytest.raises(TypeError, match=r"sessions are not listed by 'colour', but by user_id, status"):
            chats.list(colour="red")
        with pytest.raises(ValueError, match="order_by must be one of id, user_id"):
            chats.list(order_by="-metadata")

    def test_one_owner_is_one_view(self, chats: Any) -> None:
        ada = chats.owned_by("ada")
        assert self.ids(ada.list()) == ["4", "2", "0"]
        assert ada.ids() == ["chat0", "chat2", "chat4"]
        assert (ada.count(), ada.count(message_count=Range(at_least=2))) == (3, 2)
        assert ada.list(user_id="bob") == []
        with pytest.raises(InvalidCursorError):
            ada.page(after=chats.page(limit=1).cursor)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 10**20]), st.text("abé", max_size=2)
)
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from("xy"), scalars, max_size=2))
documents = st.dictionaries(st.sampled_from("pqr"), values, max_size=3)
wanted = st.one_of(
    values,
    st.lists(scalars, max_size=3).map(lambda found: OneOf(*found)),
    st.text("abé", max_size=2).map(Prefix),
    st.integers(-3, 3).map(lambda low: Range(at_least=low)),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(lambda two: Range(above=two[0], below=two[1])),
    st.text("abé", max_size=1).map(lambda high: Range(at_most=high)),
    st.lists(scalars, max_size=2).map(lambda found: Contains(*found)),
    st.dictionaries(st.sampled_from("xy"), scalars, max_size=2).map(Contains),
)


@given(
    found=st.lists(documents, max_size=8),
    where=st.dictionaries(st.sampled_from("pqr"), wanted, max_size=2),
    order=st.lists(st.sampled_from(["p", "-p", "q", "-q", "-r"]), max_size=2),
    limit=st.integers(1, 4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=120)
def test_the_index_answers_as_every_document_would(
    tmp_path_factory: pytest.TempPathFactory, found: list[Any], where: dict[str, Any], order: list[str], limit: int
) -> None:
    options = StoreOptions(indexing="always", durability="process")
    with Store(tmp_path_factory.mktemp("index"), options) as store:
        plain, indexed = store.collection("c"), store.collection("c", indexed="pqr".replace("", " ").split())
        plain.put_many({f"d{number}": document for number, document in enumerate(found)})
        expected = plain.query(where, order_by=order)
        assert indexed.query(where, order_by=order) == expected
        assert indexed.count(where) == len(expected)
        pages, after = [], None
        while True:
            page = indexed.page(where, order_by=order, limit=limit, after=after)
            assert page == plain.page(where, order_by=order, limit=limit, after=after)
            pages += page.items
            if page.cursor is None:
                break
            after = page.cursor
        assert pages == expected


def test_more_values_than_sqlite_takes_variables(tmp_path: Path) -> None:
    with Store(tmp_path, StoreOptions(indexing="always", durability="process")) as store:
        numbers = store.collection("numbers", indexed=["n"])
        numbers.put("a", {"n": 7})
        assert numbers.count({"n": OneOf(*range(260_000))}) == 1


def test_small_stores_keep_no_index(tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:
        tasks = store.collection("tasks", indexed=FIELDS)
        tasks.put_many(TASKS)
        store.sessions.create()
        assert names(tasks.query({"status": "idle"}, limit=2)) == "ac"
        assert len(store.sessions.list()) == 1
        assert not (tmp_path / "state/.fsstate/cache").exists()


def test_never_means_never(tmp_path: Path) -> None:
    with Store(tmp_path / "state", StoreOptions(indexing="never", durability="process")) as store:
        tasks = store.collection("tasks", indexed=FIELDS)
        tasks.put_many({f"t{number}": {"n": number} for number in range(300)})
        assert tasks.count({"n": Range(below=5)}) == 5
        assert not (tmp_path / "state/.fsstate/cache").exists()


def task_model(default: str) -> Any:
    class Task(msgspec.Struct):
        status: str = default

    return Task


def test_models_of_the_same_name_do_not_share_what_is_kept(tmp_path: Path) -> None:
    first, second = task_model("idle"), task_model("new")
    with Store(tmp_path / "state", StoreOptions(indexing="always")) as store:
        store.collection("tasks").put("a", {})
        assert store.collection("tasks", model=first, indexed=["status"]).count({"status": "idle"}) == 1
        assert store.collection("tasks", model=second, indexed=["status"]).count({"status": "idle"}) == 0
        assert store.collection("tasks", model=second, indexed=["status"]).count({"status": "new"}) == 1


def test_times_far_from_now_are_found(tmp_path: Path) -> None:
    with Store(tmp_path / "state", StoreOptions(indexing="always")) as store:
        late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        store.sessions.create(id="late", created_at=late)
        store.sessions.create(id="early", created_at=datetime(1, 1, 1, tzinfo=UTC))
        assert [each.id for each in store.sessions.list(created_after=late - timedelta(days=1))] == ["late"]
        assert [each.id for each in store.sessions.list(order_by="created_at")] == ["early", "late"]


class Between:
    """What somebody else does once between what the index found and the reading of the records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
        select = Index.select
        changes = [change]

        def selecting(index: Index, view: Any, question: Any, read: Any) -> Any:
            found = select(index, view, question, read)
            if changes:
                changes.pop()()
            return found

        monkeypatch.setattr(Index, "select", selecting)


class TestChangesMeanwhile:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with Store(tmp_path, StoreOptions(indexing="always", durability="process")) as store:
            yield store

    @pytest.fixture
    def numbers(self, store: Store) -> Any:
        numbers = store.collection("numbers", indexed=["n"])
        numbers.put_many({f"d{n}": {"n": n} for n in range(6)})
        return numbers

    def test_a_page_that_lost_a_document_is_not_the_last(self, numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Between(monkeypatch, lambda: numbers.delete_many(["d1", "d2", "d3"]))
        page = numbers.page(order_by="n", limit=2)
        assert [item.name for item in page.items] == ["d0", "d4"]
        page = numbers.page(order_by="n", limit=2, after=page.cursor)
        assert ([item.name for item in page.items], page.cursor) == (["d5"], None)

    def test_what_no_longer_fits_is_not_given(self, numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Between(monkeypatch, lambda: numbers.put("d1", {"n": 9}))
        found = numbers.query({"n": Range(below=3)}, order_by="n", limit=3)
        assert [item.value["n"] for item in found] == [0, 2]

    def test_what_moves_makes_no_other_appear_twice(self, numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Between(monkeypatch, lambda: numbers.put("d4", {"n": 7}))
        first = numbers.page(order_by="-n", limit=2)
        assert [item.name for item in first.items] == ["d4", "d5"]
        second = numbers.page(order_by="-n", limit=2, after=first.cursor)
        assert [item.name for item in second.items] == ["d3", "d2"]

    def test_what_moves_away_hides_no_other(self, numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        Between(monkeypatch, lambda: numbers.put("d1", {"n": 7}))
        first = numbers.page(order_by="n", limit=2)
        assert [item.name for item in first.items] == ["d0", "d2"]
        second = numbers.page(order_by="n", limit=9, after=first.cursor)
        assert [item.name for item in second.items] == ["d3", "d4", "d5", "d1"]

    def test_records_that_no_longer_fit(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        work = store.records(JOBS)
        for number in range(3):
            work.create(f"j{number}", size=number)
        Between(monkeypatch, lambda: work.change("j1", size=7))
        assert [job.id for job in work.list(size=Range(below=3), order_by="size", limit=5)] == ["j0", "j2"]

    def test_groups_that_another_process_put_into_the_index(
        self, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = store.records(JOBS)
        work.create("j0", size=1, team="blue")
        ask = Index.ask

        def asking(index: Index, view: Any, question: Any) -> Any:
            monkeypatch.setattr(Index, "ask", ask)
            with Store(tmp_path, StoreOptions(indexing="always", durability="process")) as other:
                other.records(JOBS).create("j1", team="red", size=2)
                assert other.records(JOBS).count(size=2) == 1
            return ask(index, view, question)

        monkeypatch.setattr(Index, "ask", asking)
        assert [job.id for job in work.list(size=Range(at_least=1), order_by="size")] == ["j0", "j1"]
