"""Files that other programs put into a store under names that fsstate refuses."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import JSON, MARKDOWN, Ref
from fsstate.backends.memory import MemoryBackend
from fsstate.record_types import RecordType
from fsstate.retention import PrunePolicy
from fsstate.store import Store

OnDisk = Callable[[Ref, str], Path]
PLANS: RecordType[dict[str, Any]] = RecordType("plans", dict)


@pytest.fixture
def beside(store: Store) -> OnDisk:
    """Another file in a record's folder."""
    if isinstance(store.backend, MemoryBackend):
        pytest.skip("memory has no files")
    return lambda ref, name: Path(store.backend.location(ref)).with_name(name)


def test_a_session(store: Store, beside: OnDisk, caplog: pytest.LogCaptureFixture) -> None:
    store.sessions.create(id="s")
    path = beside(Ref("sessions", "s", JSON), "telegram:42.json")
    path.write_bytes(b'{"id":"telegram:42"}')
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert store.sessions.ids() == [one.id for one in store.sessions.list()] == ["s"]
        store.sessions.prune(PrunePolicy(keep=1))
    assert [str(path) in message for message in caplog.messages] == [True]
    (problem,) = store.sessions.problems()
    assert "'telegram%3A42.json'" in str(problem)
    path.rename(path.with_name("telegram%3A42.json"))
    assert (store.sessions.problems(), store.sessions.ids()) == ([], ["s", "telegram%3A42"])


def test_a_record(store: Store, beside: OnDisk) -> None:
    plans = store.records(PLANS)
    plans.create("a")
    beside(Ref("plans", "a", JSON), "CON.json").write_bytes(b"{}")
    (problem,) = plans.problems()
    assert "'%43ON.json'" in str(problem)
    assert len(plans.list()) == 1


def test_a_note(store: Store, beside: OnDisk) -> None:
    notes = store.markdown("notes")
    notes.put("a", "text")
    beside(Ref("notes", "a", MARKDOWN), " lead.md").write_bytes(b"text")
    (problem,) = notes.problems()
    assert "'%20lead.md'" in str(problem)
    assert notes.names() == ["a"]
