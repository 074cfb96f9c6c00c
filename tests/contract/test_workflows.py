"""Runs of workflows, and what belongs to them."""

import json
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import AlreadyExistsError, InvalidTransitionError, InvalidValueError, NotFoundError
from fsstate.store import Store
from fsstate.workflows import Workflow
from tests.contract.conftest import Elsewhere


@pytest.fixture
def run(store: Store) -> Workflow:
    store.workflows.start("review", "look at it", id="run")
    return store.workflow("run")


def test_a_run_goes_its_way(store: Store) -> None:
    started = store.workflows.start("review", "look at it", input_hash="h", metadata={"a": [1]})
    assert (started.status, started.workflow_id, started.goal) == ("running", "review", "look at it")
    assert (started.input_hash, started.metadata) == ("h", {"a": [1]})
    assert started.started_at is not None
    done = store.workflows.finish(started.id)
    assert (done.status, done.started_at) == ("completed", started.started_at)
    assert done.completed_at is not None
    failed = store.workflows.finish(store.workflows.start("other", "x").id, "failed", error="boom", error_code="e1")
    assert (failed.error, failed.error_code) == ("boom", "e1")
    assert store.workflows.list() == [failed, done]
    assert store.workflows.list(workflow_id="review", status="completed") == [done]
    one = store.workflow(done.id)
    assert one.exists()
    assert one.document() == done
    assert one.path.endswith(f"workflows/{done.id}.json")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "timed out"])
def test_a_run_ends_once_in_any_word(store: Store, run: Workflow, status: str) -> None:
    done = store.workflows.finish("run", status)
    assert done.completed_at is not None
    for wanted in ("running", "completed", status):
        with pytest.raises(InvalidTransitionError, match="final"):
            store.workflows.finish("run", wanted)
    assert run.document() == done


def test_bad_runs(store: Store, run: Workflow) -> None:
    with pytest.raises(AlreadyExistsError):
        store.workflows.start("review", "x", id="run")
    with pytest.raises(NotFoundError):
        store.workflows.finish("nobody")
    with pytest.raises(InvalidTransitionError):
        store.workflows.finish("run", "running")
    with pytest.raises(InvalidValueError, match="no status"):
        store.workflows.finish("run", "")
    with pytest.raises(TypeError):
        store.workflows.finish("run", nonsense=1)
    assert run.document().status == "running"


def test_what_belongs_to_a_run(run: Workflow) -> None:
    branch = run.branches.create("b1", branch_id="left", node_id="n")
    leaf = run.leaves.create(leaf_id="l", task_id="t", branch_run_id="b1", input_hash="h")
    node = run.nodes.create("n1", node_id="n", kind="select")
    candidate = run.candidates.create(control_node_run_id="n1", candidate_id="c", branch_run_id="b1", score=0.5)
    assert {branch.status, leaf.status, node.status} == {"running"}
    assert candidate.created_at is not None
    assert run.branches.change("b1", status="completed", result={"x": 1}).completed_at is not None
    done = run.leaves.change(leaf.id, status="completed", output={"text": "y"}, artifacts=[{"path": "a"}])
    assert (done.output, done.artifacts) == ({"text": "y"}, [{"path": "a"}])
    assert run.nodes.change("n1", status="completed", selected_children=["l"]).selected_children == ["l"]
    assert run.candidates.change(candidate.id, passed=True, rationale={"why": 1}).passed is True
    assert run.leaves.list(branch_run_id="b1") == [done]
    assert run.candidates.count(control_node_run_id="n1", passed=True) == 1
    with pytest.raises(InvalidTransitionError):
        run.branches.change("b1", status="failed")
    assert run.leaves.path_of(leaf.id).endswith(f"workflows/run/leaves/{leaf.id}.json")


def test_runs_do_not_see_one_another(store: Store, run: Workflow) -> None:
    store.workflows.start("review", "x", id="other")
    run.leaves.create("l", leaf_id="a", task_id="t")
    other = store.workflow("other")
    other.leaves.create("l", leaf_id="b", task_id="t")
    assert [leaf.leaf_id for leaf in run.leaves.list()] == ["a"]
    assert [leaf.leaf_id for leaf in other.leaves.list()] == ["b"]


# Replay


def leaf(run: Workflow, name: str, status: str = "completed", **fields: Any) -> None:
    run.leaves.create(name, task_id="t", **{"leaf_id": "l", "input_hash": "h"} | fields)
    if status != "running":
        run.leaves.change(name, status=status, output=name)


def test_replay_gives_what_was_last_completed(store: Store, run: Workflow) -> None:
    assert run.leaves.replay("l", "h") is None
    leaf(run, "z")
    leaf(run, "a")
    leaf(run, "failed", "failed")
    leaf(run, "running", "running")
    leaf(run, "other leaf", leaf_id="m")
    leaf(run, "other input", input_hash="i")
    leaf(run, "no input", input_hash=None)
    found = run.leaves.replay("l", "h")
    assert found is not None
    assert (found.id, found.output) == ("a", "a")
    assert run.leaves.replay("l", "nothing") is None
    assert run.leaves.replay("l", None) is None
    store.workflows.start("review", "x", id="other")
    assert store.workflow("other").leaves.replay("l", "h") is None


def test_a_bad_leaf_is_not_replayed(run: Workflow, elsewhere_in: Elsewhere) -> None:
    leaf(run, "good")
    elsewhere_in(Ref("workflows/run/leaves", "bad", JSON), b"{")
    found = run.leaves.replay("l", "h")
    assert found is not None
    assert found.id == "good"
    assert len(run.leaves.problems()) == 1


# Deleting


def test_a_run_goes_with_all_that_belongs_to_it(store: Store, run: Workflow) -> None:
    leaf(run, "l")
    run.branches.create("b")
    run.nodes.create("n")
    run.candidates.create("c")
    assert store.workflows.delete("run") is True
    assert store.workflows.delete("run") is False
    assert store.categories("workflows") == []
    assert not run.exists()
    assert run.leaves.list() == []
    assert run.leaves.replay("l", "h") is None
    acts = (lambda: run.leaves.create("x"), lambda: run.branches.create("x"), lambda: run.nodes.create("x"))
    for act in (*acts, lambda: run.candidates.create("x"), run.document):
        with pytest.raises(NotFoundError):
            act()
    store.workflows.start("review", "again", id="run")
    assert run.leaves.list() == []


def test_what_a_crash_left_is_not_inherited(store: Store, elsewhere_in: Elsewhere) -> None:
    for name in ("left", "put"):
        elsewhere_in(Ref(f"workflows/{name}/leaves", "l", JSON), b'{"leaf_id": "l"}')
    store.workflows.start("review", "x", id="left")
    store.workflows.put(store.workflows.kind.model(id="put", goal="x"))
    assert store.workflow("left").leaves.list() == []
    assert store.workflow("put").leaves.list() == []
    store.workflow("put").leaves.create("l")
    store.workflows.put(store.workflows.kind.model(id="put", goal="y"))
    assert store.workflow("put").leaves.ids() == ["l"]


def test_leaves_outlive_their_branch(run: Workflow) -> None:
    run.branches.create("b")
    run.branches.create("other")
    leaf(run, "l", branch_run_id="b")
    leaf(run, "m", branch_run_id="other")
    run.candidates.create("c", branch_run_id="b")
    before = run.leaves["l"]
    assert run.branches.delete("b") is True
    assert run.branches.delete("b") is False
    assert run.leaves["l"].branch_run_id is None
    assert run.leaves["l"].completed_at == before.completed_at
    assert run.leaves["m"].branch_run_id == "other"
    assert run.candidates["c"].branch_run_id is None


def test_candidates_go_with_their_node(run: Workflow) -> None:
    for name in "nm":
        run.nodes.create(name)
        run.candidates.create(f"c{name}", control_node_run_id=name)
    assert run.nodes.delete("n") is True
    assert run.nodes.delete("n") is False
    assert run.candidates.ids() == ["cm"]
    assert run.nodes.ids() == ["m"]


# Recovery, and the files of others


def test_what_was_running_when_its_program_died(store: Store, run: Workflow, elsewhere_in: Elsewhere) -> None:
    run.leaves.create("mine")
    dead = b'{"status": "running", "held_by": "nobody", "note": "stays"}'
    elsewhere_in(Ref("workflows", "dead", JSON), dead)
    for folder in ("branches", "leaves", "nodes", "candidates"):
        elsewhere_in(Ref(f"workflows/dead/{folder}", "d", JSON), dead)
    assert len(store.in_flight()) == 6
    report = store.recover()
    assert sorted(settled.category for settled in report.settled) == [
        "workflows",
        "workflows/dead/branches",
        "workflows/dead/leaves",
        "workflows/dead/nodes",
    ]
    assert sorted(flight.id for flight in report.alive) == ["mine", "run"]
    gone = store.workflow("dead")
    for record in (gone.document(), gone.branches["d"], gone.leaves["d"], gone.nodes["d"]):
        assert (record.status, record.error_code) == ("failed", "workflow_interrupted")
        assert record.completed_at is not None
    assert store.collection("workflows")["dead"]["note"] == "stays"
    assert store.recover().settled == []


def test_files_of_others(run: Workflow, store: Store, elsewhere_in: Elsewhere) -> None:
    foreign = {
        "id": "l",
        "workflow_run_id": "run",
        "leaf_id": "l",
        "task_id": "t",
        "status": "succeeded",
        "x": {"y": 1},
    }
    elsewhere_in(Ref("workflows/run/leaves", "l", JSON), json.dumps(foreign).encode())
    found = run.leaves["l"]
    assert (found.status, found.leaf_id) == ("succeeded", "l")
    run.leaves.change("l", output=1)
    assert store.collection("workflows/run/leaves")["l"] == {**foreign, "output": 1}
    elsewhere_in(Ref("workflows/run/leaves", "odd", JSON), b'{"status": ["running"]}')
    assert [each.id for each in run.leaves.list()] == ["l"]
    assert len(run.leaves.problems()) == 1


@pytest.mark.parametrize("name", ["a/b", "..", "a.json", "x" * 300, "CON", "é ü", "a%zz"])
def test_any_text_is_an_id(store: Store, name: str) -> None:
    store.workflows.start("review", "x", id=name)
    one = store.workflow(name)
    one.leaves.create(name, leaf_id="l")
    assert one.document().id == name
    assert [each.id for each in one.leaves.list()] == [name]
    assert one.leaves[name].leaf_id == "l"
    assert store.workflows.delete(name) is True
    assert store.categories("workflows") == []


def test_limits(run: Workflow) -> None:
    for name in "abc":
        run.leaves.create(name)
    assert [each.id for each in run.leaves.list(limit=2)] == ["a", "b"]
    assert run.leaves.list(limit=0) == []
    assert len(run.leaves.list(limit=10**9)) == 3
    with pytest.raises(ValueError, match="0 or more"):
        run.leaves.list(limit=-1)
    with pytest.raises(ValueError, match="declare it as indexed"):
        run.leaves.list(output=1)
