"""Agents."""

import json
from datetime import UTC, datetime, timedelta

import pytest

import fsstate
from fsstate.agents import Agent
from fsstate.backends.base import JSON, Ref
from fsstate.errors import AlreadyExistsError, NotFoundError
from fsstate.store import Store
from tests.contract.conftest import Elsewhere, FakeClock

OXIOS = b"""{
  "id": "7d1c",
  "name": "builder",
  "status": "Running",
  "created_at": "2026-01-01T00:00:00.123456789Z",
  "seed_id": null,
  "steps_completed": 3,
  "tool_calls": [{"tool": "exec", "input": {"cmd": "ls"}, "output": "x", "duration_ms": 5, "is_error": false}],
  "tokens_input": 10,
  "cost_usd": 0.25,
  "from_another_program": {"a": 1}
}
"""


def test_agents_are_records(store: Store) -> None:
    agent = store.agents.create("a", name="planner", status="idle", project_id="p")
    assert agent.created_at is not None
    assert store.agents["a"] == agent
    assert store.collection("agents")["a"]["name"] == "planner"
    assert store.agents.change("a", status="Failed", error="boom").error == "boom"
    assert store.agents.list(status="Failed", project_id="p") == [store.agents["a"]]
    assert store.agents.list(status="idle") == []
    with pytest.raises(ValueError, match="declare it as indexed"):
        store.agents.list(cost_usd=1)
    with pytest.raises(AlreadyExistsError):
        store.agents.create("a")
    with pytest.raises(NotFoundError):
        store.agents.change("b", status="idle")
    assert store.agents.delete("a") is True


def test_files_of_others_open_as_they_are(store: Store, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("agents", "7d1c", JSON), OXIOS)
    elsewhere_in(Ref("agents", "planner", JSON), b'{"model": "m1", "runs": 2, "status": "idle"}\n')
    agent = store.agents["7d1c"]
    assert (agent.status, agent.steps_completed, agent.tool_calls[0]["tool"]) == ("Running", 3, "exec")
    assert store.agents["planner"] == Agent(id="planner", status="idle")
    store.agents.change("7d1c", status="Completed")
    store.agents.change("planner", tokens_input=7)
    blob = store.backend.read(Ref("agents", "7d1c", JSON))
    assert blob is not None
    assert json.loads(blob.data) == {**json.loads(OXIOS), "status": "Completed"}
    planner = store.collection("agents")["planner"]
    assert planner | {"model": "m1", "runs": 2, "status": "idle", "tokens_input": 7} == planner


def test_limits(store: Store) -> None:
    for number in range(5):
        store.agents.create(f"a{number}")
    assert [agent.id for agent in store.agents.list()] == ["a4", "a3", "a2", "a1", "a0"]
    assert store.agents.list(limit=0) == []
    assert len(store.agents.list(limit=10**9)) == 5
    with pytest.raises(ValueError, match="0 or more"):
        store.agents.list(limit=-1)


def test_pruning_by_age_number_and_batch(store: Store, clock: FakeClock) -> None:
    old = clock.now - timedelta(hours=721)
    for number in range(3):
        store.agents.create(f"old{number}", created_at=old)
    for number in range(10):
        store.agents.create(f"new{number}", created_at=clock.now + timedelta(minutes=number))
    policy = fsstate.PrunePolicy(ttl=timedelta(hours=720), keep=4, batch=5)
    planned = store.agents.prune(policy, dry_run=True)
    assert store.agents.count() == 13
    report = store.agents.prune(policy)
    assert report.pruned == planned.pruned
    # The oldest so many at a time, whatever they go for.
    assert [gone.reason for gone in report.pruned] == ["ttl"] * 3 + ["count"] * 2
    assert store.agents.ids() == [f"new{number}" for number in range(2, 10)]
    for _ in range(3):
        store.agents.prune(policy)
    assert store.agents.ids() == ["new6", "new7", "new8", "new9"]


def test_one_whose_age_nobody_knows_stays(store: Store, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("agents", "planner", JSON), b'{"status": "idle"}\n')
    elsewhere_in(Ref("agents", "bad", JSON), b"{")
    store.agents.create("old", created_at=datetime(2020, 1, 1, tzinfo=UTC))
    report = store.agents.prune(fsstate.PrunePolicy(ttl=timedelta(hours=1)))
    assert [gone.id for gone in report.pruned] == ["agents/old.json"]
    assert store.agents.ids() == ["bad", "planner"]
    assert len(store.agents.problems()) == 1


@pytest.mark.parametrize("act", ["delete", "prune"])
def test_categories_below_are_not_an_agents_own(store: Store, act: str) -> None:
    store.agents.create("planner", created_at=datetime(2020, 1, 1, tzinfo=UTC))
    store.collection("agents/planner/notes").put("a", {})
    if act == "delete":
        store.agents.delete("planner")
    else:
        store.agents.prune(fsstate.PrunePolicy(ttl=timedelta(days=1)))
    assert store.agents.ids() == []
    assert store.collection("agents/planner/notes").names() == ["a"]
