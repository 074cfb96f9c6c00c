"""Pruning all that can be pruned, and the trash: what goes there comes back whole, or is emptied by its own limits."""

from datetime import timedelta
from typing import Any

import pytest

from fsstate import trash as trash_module
from fsstate.backends.base import JSON, MARKDOWN, Ref
from fsstate.errors import AlreadyExistsError, AmbiguousIdError, NotFoundError
from fsstate.options import StoreOptions
from fsstate.retention import Kept, PrunePlan, PrunePolicy, Throttle
from fsstate.store import Store
from tests.contract.conftest import Elsewhere, FakeClock, MakeBackend, wait_for
from tests.contract.plans import PLANS

WEEK = PrunePolicy(ttl=timedelta(days=7))
MONTH = timedelta(days=31)


def talk(store: Store, name: str, **given: Any) -> None:
    store.sessions.create(id=name, **given)
    one = store.session(name)
    one.messages.append("user", f"Hello from {name}")
    one.checkpoints.save("c", {"n": 1})


def test_a_session_comes_back_with_all_that_is_its_own(store: Store, clock: FakeClock) -> None:
    talk(store, "a", label="mine")
    store.sessions.create(id="bare")
    clock.advance(days=8)
    talk(store, "young")
    report = store.sessions.prune(WEEK)
    assert [each.id for each in report.pruned] == ["a", "bare"]
    assert report.in_trash
    assert report.bytes == sum(each.bytes for each in report.pruned) > 0
    assert store.sessions.ids() == ["young"]
    assert store.categories("sessions") == ["young"]
    found = store.trash.list()
    assert [(item.record, item.reason, item.bytes) for item in found] == [
        (f"sessions/{each.id}.json", "ttl", each.bytes) for each in report.pruned
    ]
    assert [item.record for item in store.trash.restore("a")] == ["sessions/a.json"]
    assert store.session("a").messages.list()[0].text == "Hello from a"
    assert store.session("a").checkpoints.require("c").state == {"n": 1}
    assert store.sessions.find("mine").id == "a"
    store.session("a").messages.append("user", "more")
    assert [item.record for item in store.trash.list()] == ["sessions/bare.json"]
    store.trash.restore(found[1].id)
    assert store.trash.list() == []
    assert store.sessions.ids() == ["a", "bare", "young"]


def test_deleted_at_once(store: Store, clock: FakeClock) -> None:
    talk(store, "a")
    clock.advance(days=8)
    report = store.sessions.prune(WEEK, trash=False)
    assert (len(report.pruned), report.in_trash) == (1, False)
    assert store.trash.list() == []
    assert store.sessions.ids() == store.categories("sessions") == []


def test_a_plan_tells_all_and_does_nothing(store: Store, clock: FakeClock, elsewhere_in: Elsewhere) -> None:
    for name in ("old", "pinned", "archived", "edited", "streaming"):
        talk(store, name)
    store.sessions.pin("pinned")
    store.sessions.archive("archived")
    elsewhere_in(Ref("sessions", "timeless", JSON), b"{}")
    elsewhere_in(Ref("sessions", "broken", JSON), b"{")
    clock.advance(days=8)
    stream = store.session("streaming").messages.stream("assistant")
    clock.advance(days=8)
    with store.sessions.edit("edited"), stream:
        plan = store.sessions.plan(WEEK)
    assert [(each.id, each.reason) for each in plan.pruned] == [("old", "ttl")]
    assert plan.bytes == plan.pruned[0].bytes
    assert (plan.staying, plan.staying_bytes > plan.bytes) == (6, True)
    kept = dict(plan.kept)
    assert kept.pop("broken").startswith("error: ")
    assert kept == {
        "pinned": "pinned", "archived": "archived", "edited": "locked", "streaming": "locked", "timeless": "undated",
    }  # fmt: skip
    assert len(store.sessions) == 7
    assert store.trash.list() == []


def test_pins(store: Store, clock: FakeClock) -> None:
    store.sessions.create(id="a")
    assert store.sessions.pin("a").pinned
    assert store.sessions.list()[0].pinned
    clock.advance(days=8)
    assert store.sessions.prune(WEEK).kept == [Kept("a", "pinned")]
    assert not store.sessions.unpin("a").pinned
    clock.advance(days=8)
    assert len(store.sessions.prune(WEEK).pruned) == 1


def test_the_newest_of_each_user_and_project(store: Store) -> None:
    for number, user in enumerate("aabab"):
        store.sessions.create(id=f"s{number}", user_id=user, metadata={"project_id": f"p{number % 2}"})
    store.sessions.create(id="nobodys")
    by_user = store.sessions.plan(PrunePolicy(keep=1, per="user_id"))
    assert [(each.id, each.reason) for each in by_user.pruned] == [("s0", "count"), ("s1", "count"), ("s2", "count")]
    by_project = store.sessions.plan(PrunePolicy(keep=2, per="project_id"))
    assert [each.id for each in by_project.pruned] == ["s0"]
    owned = store.sessions.owned_by("a").prune(PrunePolicy(keep=1))
    assert [each.id for each in owned.pruned] == ["s0", "s1"]


def test_by_a_field_that_only_the_file_has(store: Store, elsewhere_in: Elsewhere) -> None:
    for number in range(3):
        data = b'{"created_at": "2025-01-0%dT00:00:00Z", "team": "red"}' % (number + 1)
        elsewhere_in(Ref("sessions", f"s{number}", JSON), data)
    assert [each.id for each in store.sessions.plan(PrunePolicy(keep=2, per="team")).pruned] == ["s0"]


def test_the_oldest_until_it_fits(store: Store) -> None:
    for name in "abc":
        talk(store, name)
    sizes = [each.bytes for each in store.sessions.plan(PrunePolicy(max_bytes=1)).pruned]
    assert len(sizes) == 3
    report = store.sessions.prune(PrunePolicy(max_bytes=sizes[1] + sizes[2]))
    assert [(each.id, each.reason, each.bytes) for each in report.pruned] == [("a", "bytes", sizes[0])]


def test_a_place_that_is_taken(store: Store, clock: FakeClock) -> None:
    for name in "ab":
        talk(store, name)
    clock.advance(days=8)
    store.sessions.prune(WEEK)
    store.sessions.create(id="a", title="another")
    with pytest.raises(AlreadyExistsError, match="a"):
        store.trash.restore("a", "b")
    assert store.sessions.require("a").title == "another"
    assert store.session("a").messages.list() == []
    assert store.session("b").messages.list()[0].text == "Hello from b"
    assert [item.record for item in store.trash.list()] == ["sessions/a.json"]
    store.sessions.delete("a")
    store.trash.restore("a")
    assert store.session("a").messages.list()[0].text == "Hello from a"


def test_which_is_meant(store: Store, clock: FakeClock) -> None:
    notes = store.collection("notes")
    for number in range(2):
        notes.put("n", {"created_at": "2025-01-01T00:00:00Z", "n": number})
        notes.prune(WEEK)
        clock.advance(seconds=10)
    store.sessions.create(id="abcdef1")
    store.sessions.create(id="abcdef2")
    clock.advance(days=8)
    store.sessions.prune(WEEK)
    with pytest.raises(NotFoundError, match="not in the trash"):
        store.trash.restore("x")
    with pytest.raises(AmbiguousIdError):
        store.trash.restore("abcdef")
    first = store.trash.list()[0].id
    store.trash.restore("notes/n")
    assert notes["n"]["n"] == 1
    notes.delete("n")
    store.trash.restore(first)
    assert notes["n"]["n"] == 0
    store.trash.restore("abcdef1", "sessions/abcdef2.json")
    assert store.trash.list() == []


def test_documents_and_notes(store: Store, elsewhere_in: Elsewhere) -> None:
    agents = store.collection("agents")
    agents.put("old", {"updated_at": "2025-01-01T00:00:00Z"})
    agents.put("made", {"created_at": "2025-01-01"})
    agents.put("pinned", {"updated_at": "2025-01-01T00:00:00Z", "pinned": True})
    agents.put("archived", {"updated_at": "2025-01-01T00:00:00Z", "archived_at": "2025-01-02T00:00:00Z"})
    agents.put("undated", {"updated_at": "soon", "created_at": "2025-01-01"})
    agents.put("list", [1])
    agents.put("future", {"updated_at": "2999-01-01T00:00:00Z"})
    elsewhere_in(Ref("agents", "broken", JSON), b"{")
    report = agents.prune(WEEK)
    assert sorted(each.id for each in report.pruned) == ["made", "old"]
    kept = dict(report.kept)
    assert kept.pop("broken").startswith("error: ")
    assert kept == {"pinned": "pinned", "archived": "archived", "undated": "undated", "list": "undated"}
    store.trash.restore("agents/old")
    assert agents["old"] == {"updated_at": "2025-01-01T00:00:00Z"}
    elsewhere_in(Ref("notes", "old", MARKDOWN), b"---\ncreated_at: 2025-01-01\n---\nHm\n")
    elsewhere_in(Ref("notes", "kept", MARKDOWN), b"---\ncreated_at: 2025-01-01\npinned: true\n---\nHm\n")
    elsewhere_in(Ref("notes", "plain", MARKDOWN), b"Hm\n")
    report = store.markdown("notes").prune(WEEK)
    assert [each.id for each in report.pruned] == ["old"]
    assert dict(report.kept) == {"kept": "pinned", "plain": "undated"}
    assert [item.record for item in store.trash.restore("notes/old")] == ["notes/old.md"]


def test_what_a_model_does_not_see_counts(store: Store) -> None:
    from tests.contract.plans import Plan

    store.collection("things").put("a", {"id": "a", "created_at": "2025-01-01T00:00:00Z", "pinned": True})
    assert store.collection("things", model=Plan).prune(WEEK).kept == [Kept("a", "pinned")]


def test_records_of_a_type(store: Store) -> None:
    plans = store.records(PLANS)
    for number, session in enumerate("xxy"):
        plans.create(f"p{number}", session_id=session)
    plan = plans.plan(PrunePolicy(keep=1, per="session_id"))
    assert [each.id for each in plan.pruned] == ["plans/x/p0.json"]
    plans.apply(plan)
    assert plans.ids() == ["p1", "p2"]
    store.trash.restore("plans/x/p0")
    assert plans.ids() == ["p0", "p1", "p2"]
    with pytest.raises(ValueError, match="none of the records"):
        plans.apply(plan._replace(pruned=[plan.pruned[0]._replace(id="agents/a.json")]))


def test_what_belongs_to_a_session(store: Store) -> None:
    store.sessions.create(id="s")
    cards = store.session("s").collection("cards")
    cards.put("c", {"created_at": "2025-01-01T00:00:00Z"})
    assert len(cards.prune(WEEK).pruned) == 1
    store.trash.restore("sessions/s/cards/c")
    cards.prune(WEEK)
    store.sessions.delete("s")
    with pytest.raises(NotFoundError):
        store.trash.restore("sessions/s/cards/c")
    assert store.categories("sessions") == []


def test_a_plan_may_be_applied_twice_and_later(store: Store, clock: FakeClock) -> None:
    for name in "ab":
        store.sessions.create(id=name)
    clock.advance(days=8)
    plan = store.sessions.plan(WEEK)
    assert isinstance(plan, PrunePlan)
    store.sessions.delete("a")
    store.sessions.create(id="a")
    assert [each.id for each in store.sessions.apply(plan).pruned] == ["b"]
    report = store.sessions.apply(plan)
    assert (report.pruned, report.kept) == ([], [Kept("a", "touched")])
    assert [item.record for item in store.trash.list()] == ["sessions/b.json"]


def test_progress(store: Store) -> None:
    store.collection("agents").put_many({f"a{n}": {"created_at": "2025-01-01T00:00:00Z"} for n in range(3)})
    told: list[tuple[int, int]] = []
    store.collection("agents").prune(WEEK, progress=lambda *how_far: told.append(how_far))
    assert told == [(3, 3), (3, 3)]


class TestEmptying:
    @pytest.fixture(autouse=True)
    def old(self, store: Store, clock: FakeClock) -> None:
        for day in range(3):
            store.sessions.create(id=f"s{day}")
            clock.advance(days=8)
            store.sessions.prune(WEEK)

    def records(self, store: Store) -> list[str]:
        return [item.record[len("sessions/") : -len(".json")] for item in store.trash.list()]

    def test_all(self, store: Store) -> None:
        sizes = [item.bytes for item in store.trash.list()]
        report = store.trash.empty()
        assert (report.bytes, len(report.emptied), report.kept) == (sum(sizes), 3, [])
        assert store.trash.list() == []
        with pytest.raises(NotFoundError):
            store.trash.restore("s1")

    def test_what_is_there_for_long(self, store: Store) -> None:
        store.trash.empty(older_than=timedelta(days=10))
        assert self.records(store) == ["s1", "s2"]
        with pytest.raises(ValueError, match="older_than must be longer than 0"):
            store.trash.empty(older_than=timedelta(0))

    def test_a_clock_that_was_set_back(self, store: Store, clock: FakeClock) -> None:
        clock.advance(days=-1000)
        assert store.trash.empty(older_than=timedelta(days=1)).emptied == []

    def test_what_is_too_much(self, store: Store) -> None:
        store.trash.empty(max_bytes=store.trash.list()[-1].bytes)
        assert self.records(store) == ["s2"]
        store.trash.empty(max_bytes=1)
        assert self.records(store) == []

    def test_part_of_a_run(self, store: Store, clock: FakeClock) -> None:
        for name in "xyz":
            talk(store, name)
        clock.advance(days=8)
        store.sessions.prune(WEEK)
        store.trash.empty(max_bytes=2 * store.trash.list()[-1].bytes)
        assert self.records(store) == ["y", "z"]
        store.trash.restore("y")
        assert store.session("y").messages.list()[0].text == "Hello from y"

    def test_by_the_options_when_something_is_pruned(self, store: Store, clock: FakeClock) -> None:
        clock.advance(days=31)
        assert self.records(store) == ["s0", "s1", "s2"]
        store.sessions.create(id="fresh")
        clock.advance(days=8)
        store.sessions.prune(WEEK)
        assert self.records(store) == ["fresh"]


def test_the_trash_has_a_budget(make_backend: MakeBackend, clock: FakeClock) -> None:
    options = StoreOptions(clock=clock, trash_bytes=1, trash_ttl=None)
    with Store.over(make_backend(options), options) as store:
        talk(store, "a")
        clock.advance(days=8)
        assert len(store.sessions.prune(WEEK).pruned) == 1
        assert store.trash.list() == []


@pytest.mark.parametrize("wrong", [{"trash_ttl": timedelta(0)}, {"trash_bytes": 0}, {"trash_bytes": -1}])
def test_a_trash_of_nothing_is_refused(wrong: dict[str, Any], make_backend: MakeBackend) -> None:
    with pytest.raises(ValueError, match="None means no limit"):
        make_backend(StoreOptions(**wrong))


def test_a_run_in_use_is_passed_over(store: Store, clock: FakeClock) -> None:
    talk(store, "a")
    clock.advance(days=8)
    store.sessions.prune(WEEK)
    item = store.trash.list()[0]
    held = store.backend.lock(Ref(trash_module.TRASH, item.id.partition("/")[0], JSON))
    report = store.trash.empty()
    held.release()
    assert (report.emptied, report.kept) == ([], [Kept(item.id, "locked")])
    assert len(store.trash.empty().emptied) == 1


class TestLogs:
    @pytest.fixture(autouse=True)
    def log(self, store: Store) -> None:
        log = store.journal("audit", "trail")
        for day in (1, 2, 3, 20, 21):
            log.append("x", at=f"2026-01-{day:02}", day=day)

    def days(self, store: Store) -> list[int]:
        return [entry["day"] for entry in store.journal("audit", "trail")]

    def test_those_that_are_too_old(self, store: Store, clock: FakeClock) -> None:
        clock.advance(days=14)
        log = store.journal("audit", "trail")
        plan = log.plan(WEEK)
        assert [(each.id, each.reason, each.number) for each in plan.pruned] == [("1-3", "ttl", 3)]
        assert plan.staying == 2
        log.append("x", day=30)
        report = log.apply(plan)
        assert report.bytes == plan.bytes > 0
        assert self.days(store) == [20, 21, 30]
        assert [(item.record, item.number) for item in store.trash.list()] == [("audit/trail.jsonl", 3)]
        store.trash.restore("audit/trail")
        assert self.days(store) == [1, 2, 3, 20, 21, 30]
        assert [entry.seq for entry in log] == [1, 2, 3, 4, 5, 6]
        assert log.problems() == []
        assert log.append("x", day=31) == 7

    def test_number_and_size(self, store: Store) -> None:
        log = store.journal("audit", "trail")
        size = log.plan(PrunePolicy(keep=4)).bytes
        report = log.prune(PrunePolicy(keep=4, max_bytes=2 * size + 4))
        assert [(each.id, each.reason) for each in report.pruned] == [("1-1", "count"), ("2-3", "bytes")]
        assert self.days(store) == [20, 21]
        assert [each.id for each in log.prune(PrunePolicy(keep=1, batch=1)).pruned] == ["4-4"]

    def test_all_of_it_and_back(self, store: Store, clock: FakeClock) -> None:
        clock.advance(days=1000)
        log = store.journal("audit", "trail")
        log.prune(WEEK)
        assert len(log) == 0
        store.trash.restore("audit/trail")
        assert self.days(store) == [1, 2, 3, 20, 21]
        assert log.problems() == []
        log.prune(WEEK)
        assert log.append("x", day=40) == 6
        store.trash.restore("audit/trail")
        assert [entry.seq for entry in log] == [1, 2, 3, 4, 5, 6]

    def test_two_runs_come_back_the_last_one_first(self, store: Store, clock: FakeClock) -> None:
        log = store.journal("audit", "trail")
        for keep in (4, 3):
            log.prune(PrunePolicy(keep=keep))
            clock.advance(days=1)
        with pytest.raises(AlreadyExistsError, match="last first"):
            [store.trash.restore(item.id) for item in store.trash.list()]
        assert self.days(store) == [1, 3, 20, 21]

    def test_all_runs(self, store: Store, clock: FakeClock) -> None:
        log = store.journal("audit", "trail")
        for keep in (4, 3):
            log.prune(PrunePolicy(keep=keep))
            clock.advance(days=1)
        store.trash.restore(*[item.id for item in store.trash.list()])
        assert self.days(store) == [1, 2, 3, 20, 21]
        assert store.trash.list() == []

    def test_a_log_that_begins_otherwise_by_now_stays(self, store: Store) -> None:
        log = store.journal("audit", "trail")
        plan = log.plan(PrunePolicy(keep=1))
        log.trim(before=3)
        report = log.apply(plan)
        assert (report.pruned, report.kept) == ([], [Kept("1-4", "touched")])
        assert self.days(store) == [3, 20, 21]
        assert store.trash.list() == []

    def test_at_once(self, store: Store) -> None:
        store.journal("audit", "trail").prune(PrunePolicy(keep=1), trash=False)
        assert self.days(store) == [21]
        assert store.trash.list() == []

    def test_of_a_session(self, store: Store) -> None:
        store.sessions.create(id="s")
        for number in range(3):
            store.session("s").events.append("x", n=number)
        store.session("s").events.prune(PrunePolicy(keep=1))
        store.trash.restore("sessions/s/events")
        assert [event["n"] for event in store.session("s").events] == [0, 1, 2]

    def test_by_a_field(self, store: Store) -> None:
        with pytest.raises(ValueError, match="from its start only"):
            store.journal("audit", "trail").plan(PrunePolicy(keep=1, per="kind"))

    def test_a_log_that_is_not_there(self, store: Store) -> None:
        report = store.journal("audit", "none").prune(PrunePolicy(keep=1))
        assert (report.pruned, report.kept, report.bytes) == ([], [], 0)


def test_the_cooldown_is_shared(store: Store, neighbour: Store, clock: FakeClock) -> None:
    """Of two that prune in the background the second finds that the first did."""
    talk(store, "a")
    clock.advance(days=8)
    store.sessions.auto_prune(WEEK, cooldown=timedelta(days=1))
    store.sessions.create(id="b")
    wait_for(lambda: store.sessions.ids() == ["b"])
    store.sessions.close()
    talk(store, "c", created_at=clock() - timedelta(days=30))
    store.backend.change(Ref("sessions", "c", JSON), lambda _: b'{"id": "c", "updated_at": "2025-01-01T00:00:00Z"}')
    store.backend.discard("sessions/c")
    neighbour.sessions.auto_prune(WEEK, cooldown=timedelta(days=1))
    neighbour.sessions.create(id="d")
    neighbour.sessions.close()
    assert neighbour.sessions.ids() == ["b", "c", "d"]
    # A clock that was set back leaves a time in the future, which is none.
    clock.advance(days=-300)
    neighbour.sessions.auto_prune(PrunePolicy(keep=2), cooldown=timedelta(days=1))
    neighbour.sessions.create(id="e")
    wait_for(lambda: len(neighbour.sessions.ids()) == 2)
    neighbour.sessions.close()


def test_a_throttle_is_put_off() -> None:
    seconds = [100.0]
    throttle = Throttle(timedelta(seconds=10), clock=lambda: seconds[0])
    assert throttle.ready()
    throttle.put_off(3)
    seconds[0] = 102.9
    assert not throttle.ready()
    seconds[0] = 103
    assert throttle.ready()
