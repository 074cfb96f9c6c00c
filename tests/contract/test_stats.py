"""`store.stats()`: what is counted, on which day, and what belongs to whom."""

import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from fsstate import Store, StoreOptions
from fsstate.backends.base import JSON, Ref
from fsstate.backends.files import FileBackend
from fsstate.record_types import RecordType
from fsstate.stats import CategoryUsage, Growth, SessionUsage, StoreStats, Usage
from tests.contract.conftest import Elsewhere, FakeClock
from tests.contract.plans import Plan

TODAY = date(2026, 1, 1)


def usage(stats: StoreStats, category: str) -> CategoryUsage:
    return next(each for each in stats.categories if each.category == category)


def grown(stats: StoreStats) -> list[Growth]:
    return [day for day in stats.growth if day.bytes]


def test_an_empty_store(store: Store) -> None:
    stats = store.stats(days=3)
    assert stats[:4] == (0, 0, [], [])
    assert [day.day for day in stats.growth] == [date(2025, 12, 30), date(2025, 12, 31), TODAY]
    assert (grown(stats), stats.undated, stats.garbage, stats.problems) == ([], Usage(), [], [])


def test_records_are_counted_by_category_and_kind(store: Store) -> None:
    store.collection("agents").put("a", {"n": 1})
    store.collection("agents").put("b", {"n": 22})
    store.collection("teams/red/agents").put("a", {})
    store.markdown("notes").put("standup", "# Today\n")
    store.journal("audit", "trail").append("login")
    stats = store.stats()
    assert [each.category for each in stats.categories] == ["agents", "audit", "notes", "teams/red/agents"]
    assert usage(stats, "agents").documents == Usage(2, len('{\n  "n": 1\n}\n') + len('{\n  "n": 22\n}\n'))
    assert usage(stats, "notes").notes == Usage(1, 8)
    assert usage(stats, "audit").logs.files == 1
    assert usage(stats, "audit").documents == Usage()
    assert stats.bytes >= sum(each.bytes for each in stats.categories) > 0


def test_what_belongs_to_a_session_counts_with_it(store: Store) -> None:
    for name, messages in (("small", 1), ("large", 5)):
        session = store.session(store.sessions.create(id=name, title=name.title()).id)
        for _ in range(messages):
            session.messages.append("user", "x" * 100)
        session.checkpoints.save("first", {"n": 1})
    stats = store.stats(largest=1)
    sessions = usage(stats, "sessions")
    assert (stats.sessions, sessions.documents.files, sessions.belongings.files) == (2, 2, 4)
    (largest,) = stats.largest
    assert largest == SessionUsage("large", "Large", largest.bytes)
    assert [each.id for each in store.stats().largest] == ["large", "small"]
    assert sum(each.bytes for each in store.stats().largest) == sessions.bytes
    assert [each.category for each in stats.categories] == ["sessions"]
    assert store.stats(largest=0).largest == []


def test_belongings_of_other_records(store: Store) -> None:
    run = store.workflows.create()
    store.workflow(run.id).branches.create("b1")
    stats = store.stats()
    assert [each.category for each in stats.categories] == ["workflows"]
    assert usage(stats, "workflows").belongings.files == 1


def test_groups_are_categories(store: Store) -> None:
    store.runs.start("test", session_id="s1")
    store.runs.start("test", session_id="s2")
    assert [each.category for each in store.stats().categories] == ["runs/s1", "runs/s2"]


def test_growth_is_by_the_day_that_records_tell(store: Store, clock: FakeClock) -> None:
    store.sessions.create(id="old")
    store.journal("audit", "trail").append("login")
    clock.advance(days=2)
    store.sessions.create(id="new")
    store.journal("audit", "trail").append("logout")
    store.journal("audit", "trail").append("login")
    # What is appended later counts where the session does.
    before = store.stats(days=3)
    store.session("old").messages.append("user", "x" * 1000)
    stats = store.stats(days=3)
    assert [(day.day, day.records, day.entries) for day in stats.growth] == [
        (TODAY, 1, 1),
        (TODAY + timedelta(days=1), 0, 0),
        (TODAY + timedelta(days=2), 1, 2),
    ]
    assert stats.growth[0].bytes - before.growth[0].bytes > 1000
    assert stats.growth[2] == before.growth[2]
    assert sum(day.bytes for day in stats.growth) == stats.bytes - sum(each.bytes for each in stats.garbage)


def test_days_before_the_window_are_left_out(store: Store, clock: FakeClock) -> None:
    store.sessions.create()
    store.journal("audit", "trail").append("login")
    clock.advance(days=5)
    store.journal("audit", "trail").append("login")
    stats = store.stats(days=2)
    assert [(day.records, day.entries) for day in stats.growth] == [(0, 0), (0, 1)]
    assert stats.undated == Usage()
    assert store.stats(days=0).growth == []


def test_what_tells_no_time_is_undated(store: Store) -> None:
    store.collection("agents").put("a", {"n": 1})
    store.collection("agents").put("b", {"created_at": "yesterday"})
    store.collection("agents").put("c", {"created_at": 1767225600})
    store.markdown("notes").put("standup", "# Today\n")
    stats = store.stats()
    assert stats.undated.files == 3
    assert [(day.day, day.records) for day in grown(stats)] == [(TODAY, 1)]


def test_what_cannot_be_read_is_told_and_counted(store: Store, elsewhere_in: Elsewhere) -> None:
    store.sessions.create(id="good")
    elsewhere_in(Ref("sessions", "bad", JSON), b'{"id": ')
    elsewhere_in(Ref("sessions", "list", JSON), b"[]\n")
    stats = store.stats()
    assert stats.sessions == 3
    assert len(stats.problems) == 1
    assert "sessions/bad.json" in str(stats.problems[0])
    assert [(day.records) for day in grown(stats)] == [1]


def test_declared_types_tell_what_belongs_to_documents(store: Store) -> None:
    kind = RecordType("parts", Plan, parent="wholes")
    with Store.over(store.backend, store.options, types=[kind]) as knowing:
        knowing.collection("wholes").put("one", {})
        knowing.collection("wholes/two/parts").put("left", {})
        assert [(each.kind, each.files) for each in knowing.stats().garbage if each.kind == "orphaned"] == [
            ("orphaned", 1)
        ]


def test_progress_ends_with_all(store: Store) -> None:
    for n in range(3):
        store.sessions.create(id=f"s{n}")
    seen: list[tuple[int, int]] = []
    store.stats(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (3, 3)]


@pytest.mark.parametrize("given", [{"days": -1}, {"largest": -1}])
def test_negative_numbers_are_refused(store: Store, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        store.stats(**given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_more_days_than_there_were_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="or fewer"):
        store.stats(days=10**6)


def test_a_survey_tells_folders_before_those_in_them(backend: FileBackend) -> None:
    with Store.over(backend) as store:
        store.session(store.sessions.create(id="s").id).checkpoints.save("first", {})
        store.collection("agents").put("a", {"n": 1})
        found = {each.category: dict(each.files) for each in backend.inventory([]) if each.files}
        found = {category: files for category, files in found.items() if not category.startswith(".")}
        assert list(found) == ["agents", "sessions", "sessions/s/checkpoints"]
        assert found["agents"] == {"a.json": len('{\n  "n": 1\n}\n')}


def test_freshness_tells_what_the_next_list_reads_anew(tmp_path: Path) -> None:
    with Store(tmp_path / "state", StoreOptions(indexing="always")) as store:
        store.sessions.create(id="a")
        store.sessions.create(id="b")
        assert store.stats().freshness is None
        time.sleep(0.03)
        store.sessions.list()
        assert store.stats().freshness == (2, 0)
        store.sessions.update("a", lambda session: setattr(session, "title", "T"))
        store.sessions.create(id="c")
        assert store.stats().freshness == (2, 2)
        store.sessions.list()
        time.sleep(0.03)
        store.sessions.list()
        assert store.stats().freshness == (3, 0)
