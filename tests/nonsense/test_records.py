"""Records, settings and the trash at random: files and memory answer the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from fsstate.backends.base import JSON, Ref
from fsstate.codec import decode_bytes
from fsstate.conditions import OneOf, Range
from fsstate.errors import FsStateError
from fsstate.lifecycle import Lifecycle
from fsstate.record_types import RecordType, Recovery
from fsstate.retention import PrunePolicy
from fsstate.store import Store
from tests.nonsense.lockstep import Machine, Pair, run, run_for
from tests.nonsense.values import damaged, documents, json_values, layouts, texts


class Plan(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: str
    team: str | None = None
    status: str = "draft"
    title: str | None = None
    size: float = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    began_at: datetime | None = None


STEPS = {"draft": ("running",), "running": ("done", "draft"), "done": ()}
LIVES = Lifecycle(steps=STEPS, stamps={"running": "began_at"})
GROUPED = RecordType(
    "plans",
    Plan,
    group_by="team",
    lifecycle=LIVES,
    indexed=["title", "size"],
    keep=3,
    recovery=Recovery("draft", in_flight=("running",), fields={"title": "lost"}),
)
FLAT = RecordType("plans", Plan, lifecycle=LIVES, indexed=["title", "size"], order_by="-size")
IDS = ["p1", "p2", "p3", "p/4", "CON"]
ids = st.sampled_from([*IDS, "", "lost"])
teams = st.sampled_from([None, "red", "blue", "a/b", ""])
statuses = st.sampled_from([*STEPS, "odd"])
policies = st.builds(
    lambda keep, per, ttl: PrunePolicy(keep=keep, per=per, ttl=None if ttl is None else timedelta(seconds=ttl)),
    st.integers(1, 3),
    st.sampled_from([None, "team", "status"]),
    st.sampled_from([None, 1, 20]),
)


class Plans(Machine):
    """Records of one type, in groups or not."""

    @initialize(kind=st.sampled_from([GROUPED, FLAT]), indexing=st.sampled_from(["auto", "always"]))
    def begin(self, kind: RecordType[Plan], indexing: Any) -> None:
        self.pair.close()
        self.pair = Pair(indexing)
        self.both, self.value = self.pair.both, self.pair.value
        self.kind = kind
        self.cursor: tuple[dict[str, Any], str] | None = None

    def of(self, store: Store) -> Any:
        return store.records(self.kind)

    @rule(id=ids, team=teams, title=st.none() | texts, size=st.integers(0, 3) | st.sampled_from([10**400, 0.5, "x"]))
    def create(self, id: str, team: Any, title: Any, size: Any) -> None:
        self.both(lambda store: self.of(store).create(id, team=team, title=title, size=size))

    @rule(id=ids, team=teams, status=statuses, size=st.integers(0, 3))
    def put(self, id: str, team: Any, status: str, size: float) -> None:
        self.both(lambda store: self.of(store).put(Plan(id=id, team=team, status=status, size=size)))

    @rule(
        id=ids,
        fields=st.fixed_dictionaries({}, optional={"status": statuses, "title": texts, "team": teams, "no": teams}),
    )
    def change(self, id: str, fields: dict[str, Any]) -> None:
        self.both(lambda store: self.of(store).change(id, **fields))

    @rule(id=ids, size=st.integers(0, 3), fails=st.booleans())
    def update(self, id: str, size: float, fails: bool) -> None:
        def change(plan: Plan) -> None:
            plan.size = size
            if fails:
                raise ValueError("no")

        self.both(lambda store: self.of(store).update(id, change))

    @rule(id=ids, within=teams)
    def get(self, id: str, within: Any) -> None:
        self.both(lambda store: (self.of(store).get(id), id in self.of(store)))
        if self.kind is GROUPED:
            self.both(lambda store: self.of(store).get(id, within=within))

    @rule(id=ids)
    def delete(self, id: str) -> None:
        self.both(lambda store: self.of(store).delete(id))

    @rule(
        where=st.fixed_dictionaries(
            {},
            optional={
                "team": teams,
                "status": statuses | st.just(OneOf("draft", "done")),
                "title": texts,
                "size": st.sampled_from([0, Range(at_least=1), 0.5]),
                "id": ids,
            },
        ),
        order=st.sampled_from([None, "size", "-title", "id", "-created_at", "odd"]),
        limit=st.none() | st.integers(0, 2),
    )
    def look_at_all(self, where: dict[str, Any], order: Any, limit: Any) -> None:
        self.both(lambda store: self.of(store).list(order_by=order, limit=limit, **where))
        self.both(lambda store: (self.of(store).count(**where), self.of(store).first(**where)))
        self.both(lambda store: self.of(store).ids())

    @rule(where=st.fixed_dictionaries({}, optional={"team": teams}))
    def page(self, where: dict[str, Any]) -> None:
        if self.both(lambda store: self.of(store).page(limit=1, **where)).error is not None:
            return
        cursor = self.value(lambda store: self.of(store).page(limit=1, **where).cursor)
        self.cursor = None if cursor is None else (where, cursor)

    @rule()
    def next_page(self) -> None:
        if self.cursor is not None:
            where, cursor = self.cursor
            self.both(lambda store: self.of(store).page(limit=1, after=cursor, **where))

    @rule(policy=policies, trash=st.booleans(), dry=st.booleans())
    def prune(self, policy: PrunePolicy, trash: bool, dry: bool) -> None:
        self.both(lambda store: self.of(store).prune(policy, trash=trash, dry_run=dry))
        self.both(lambda store: store.trash.list())

    @rule(id=st.sampled_from(["plans/p1", "plans/red/p1", "plans/p2.json", "nothing"]), older=st.none() | st.just(5))
    def restore(self, id: str, older: int | None) -> None:
        self.both(lambda store: store.trash.restore(id))
        self.both(lambda store: store.trash.empty(older_than=timedelta(seconds=older or 60)).emptied)

    @rule()
    def recover(self) -> None:
        self.both(
            lambda store: [(each.category, each.id, each.status, each.is_alive) for each in self.of(store).in_flight()]
        )
        self.both(lambda store: self.of(store).recover())

    @rule()
    def problems(self) -> None:
        self.both(lambda store: [str(each) for each in self.of(store).problems()])

    # Other hands

    @rule(folder=st.sampled_from(["plans", "plans/red", "plans/none"]), document=documents, style=st.integers(0, 3))
    def write_by_hand(self, folder: str, document: Any, style: int) -> None:
        self.pair.write(Ref(folder, "p1", JSON), layouts(document, style))

    @rule(folder=st.sampled_from(["plans", "plans/red"]), data=damaged)
    def damage(self, folder: str, data: bytes) -> None:
        self.pair.write(Ref(folder, "p2", JSON), data)

    @rule(folder=st.sampled_from(["plans", "plans/red", "plans/blue"]), id=st.sampled_from(["p1", "p2", "p3"]))
    def lay_out_anew(self, folder: str, id: str) -> None:
        ref = Ref(folder, id, JSON)
        try:
            document = decode_bytes(self.pair.read(ref) or b"", "")
        except FsStateError:
            return
        self.pair.write(ref, layouts(document, 0))

    @rule(reindex=st.booleans())
    def reopen(self, reindex: bool) -> None:
        self.pair.reindex() if reindex else self.pair.reopen()


keys = st.sampled_from(
    ["a", "a/b", "a/b/c", "ü", "x.json", "CON", "", "a//b", "..", ".", "\0", "k" * 300, "%", "a%2Fb"]
)


class SettingsAndJobs(Machine):
    """Values under keys, and the jobs of the store."""

    @rule(key=keys, value=json_values, once=st.booleans())
    def set(self, key: str, value: Any, once: bool) -> None:
        self.both(lambda store: (store.settings.set_once if once else store.settings.set)(key, value))
        self.both(lambda store: store.settings.setting(key))

    @rule(key=keys)
    def get(self, key: str) -> None:
        self.both(lambda store: (store.settings.get(key), store.settings.path_of(key)))
        self.both(lambda store: store.settings.items(key))
        self.both(lambda store: store.settings.items())

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.both(lambda store: store.settings.delete(key))

    @rule(value=st.sampled_from([float("nan"), {1}, "\ud800"]))
    def set_what_cannot_be_stored(self, value: Any) -> None:
        self.both(lambda store: store.settings.set("a", value))

    @rule(key=st.sampled_from(["a", "b", "by hand"]), data=damaged | documents.map(lambda value: layouts(value, 1)))
    def write_by_hand(self, key: str, data: bytes) -> None:
        self.pair.write(Ref("settings", key, JSON), data)
        self.both(lambda store: [str(each) for each in store.settings.problems()])

    @rule(id=st.sampled_from(["j1", "j2"]), progress=st.integers(-1, 101) | st.sampled_from([10**400, 0.5, "x"]))
    def job(self, id: str, progress: Any) -> None:
        self.both(lambda store: store.jobs.create("work", id=id))
        self.both(lambda store: store.jobs.progress(id, progress))

    @rule(id=st.sampled_from(["j1", "j2"]), verb=st.sampled_from(["start", "complete", "cancel", "pause", "resume"]))
    def step(self, id: str, verb: str) -> None:
        if hasattr(self.pair.files.jobs, verb):
            self.both(lambda store: getattr(store.jobs, verb)(id))
        self.both(lambda store: store.jobs.list())

    @rule()
    def reopen(self) -> None:
        self.pair.reopen()


def test_records() -> None:
    run(Plans, examples=4, steps=30)


def test_settings_and_jobs() -> None:
    run(SettingsAndJobs, examples=3, steps=25)


@pytest.mark.soak
@pytest.mark.parametrize("machine", [Plans, SettingsAndJobs])
def test_records_for_long(machine: type[Machine], soak_seconds: float) -> None:
    run_for(soak_seconds, machine)
