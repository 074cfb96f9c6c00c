"""Audits of changes to files."""

import json
from datetime import timedelta

import pytest

from fsstate.audits import AUDITS, Audit, Audits
from fsstate.backends.base import JSON, Ref
from fsstate.errors import AlreadyExistsError, InvalidTransitionError, InvalidValueError, NotFoundError, ValidationError
from fsstate.store import Store
from tests.contract.conftest import Elsewhere

CODE, REASON = "workspace_file_change_interrupted", "workspace file change interrupted before completion"


@pytest.fixture
def audits(store: Store) -> Audits:
    return store.audits


def test_an_audit_goes_its_way(store: Store, audits: Audits) -> None:
    audit = audits.start("rename_path", "a.md", session_id="s", target_path="b.md", size_before=12)
    assert (audit.action, audit.path, audit.target_path) == ("rename_path", "a.md", "b.md")
    assert (audit.status, audit.size_before, audit.applied_at) == ("applying", 12, None)
    done = audits.finish(audit.id, size_after=12)
    assert (done.status, done.size_after, done.error) == ("complete", 12, None)
    assert done.applied_at == done.updated_at
    for each in (audits, Store.over(store.backend).audits):
        assert each.get(audit.id) == each.require(audit.id) == done
        assert each.list(session_id="s") == [done]
        assert each.list(session_id="other") == []


def test_one_that_failed(audits: Audits) -> None:
    audit = audits.start("write_text", "a.md", session_id="s")
    failed = audits.finish(audit.id, "failed", error="it changed meanwhile", error_code="workspace_conflict")
    assert (failed.status, failed.error, failed.error_code) == ("failed", "it changed meanwhile", "workspace_conflict")
    assert failed.applied_at is not None
    assert audits.list(error_code="workspace_conflict") == [failed]
    assert audits.list(error_code=CODE) == []


def test_applying_finishes_nothing(audits: Audits) -> None:
    audit = audits.start("write_text", "a.md", session_id="s")
    with pytest.raises(InvalidTransitionError, match="complete, failed"):
        audits.finish(audit.id, "applying")
    with pytest.raises(InvalidValueError, match="no status"):
        audits.finish(audit.id, "odd")
    assert audits.require(audit.id) == audit


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_nothing_is_finished_twice(audits: Audits, status: str) -> None:
    audit = audits.start("write_text", "a.md", session_id="s")
    done = audits.finish(audit.id, status)
    for again in ("complete", "failed", "applying"):
        with pytest.raises(InvalidTransitionError, match="final"):
            audits.finish(audit.id, again)
    assert audits.require(audit.id) == done


def test_content_is_never_kept(audits: Audits) -> None:
    with pytest.raises(TypeError, match="content"):
        audits.start("write_text", "a.md", content="secret")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="content"):
        audits.create(action="write_text", path="a.md", content="secret")
    audit = audits.start("write_text", "a.md", session_id="s")
    with pytest.raises(TypeError, match="content"):
        audits.finish(audit.id, content="secret")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="content"):
        audits.change(audit.id, content="secret")
    assert "content" not in Audit.__struct_fields__
    assert audits.count() == 1


def test_ids(audits: Audits) -> None:
    audits.start("write_text", "a.md", session_id="s", id="one")
    with pytest.raises(AlreadyExistsError):
        audits.start("write_text", "a.md", session_id="s", id="one")
    audits.start("delete_file", "b.md", session_id="t", id="one")
    assert audits.finish("one", within="t").action == "delete_file"
    assert audits.require("one", within="s").status == "applying"
    for act in (audits.finish, audits.require):
        with pytest.raises(NotFoundError, match="nobody"):
            act("nobody")


def test_lists(audits: Audits) -> None:
    first, second = (audits.start(action, "a.md", session_id="s") for action in ("write_text", "delete_file"))
    assert audits.list() == [second, first]
    assert audits.list(action="write_text", path="a.md") == [first]
    assert (audits.list(limit=0), audits.list(limit=1)) == ([], [second])
    assert len(audits.list(limit=10**9)) == 2
    with pytest.raises(ValueError, match="limit"):
        audits.list(limit=-1)


def test_the_newest_200_of_each_session_stay(audits: Audits) -> None:
    other = audits.start("write_text", "a.md", session_id="other")
    busy = audits.start("write_text", "a.md", session_id="s")
    ids = [audits.finish(audits.start("write_text", f"{n}.md", session_id="s").id).id for n in range(203)]
    assert [audit.id for audit in audits.list(session_id="s")] == [*reversed(ids[4:]), busy.id]
    assert audits.count(session_id="s") == AUDITS.keep == 200
    assert audits.list(session_id="other") == [other]


def test_recovery(store: Store, neighbour: Store, audits: Audits, elsewhere_in: Elsewhere) -> None:
    theirs = neighbour.audits.start("write_text", "a.md", session_id="s")
    for name, fields in {
        "dead": {"status": "applying", "held_by": "nobody", "path": "b.md", "x": 1},
        "told": {"error": "it said", "applied_at": "2026-01-01T00:00:00Z"},
        "done": {"status": "complete"},
    }.items():
        elsewhere_in(Ref("audits/s", name, JSON), json.dumps(fields).encode())
    report = store.recover()
    assert sorted((one.id, one.was, one.status) for one in report.settled) == [
        ("dead", "applying", "failed"),
        ("told", "applying", "failed"),
    ]
    assert [flight.id for flight in report.alive] == [theirs.id]
    dead, told = audits.require("dead"), audits.require("told")
    assert (dead.status, dead.error, dead.error_code, dead.path) == ("failed", REASON, CODE, "b.md")
    assert dead.applied_at == dead.updated_at
    assert (told.error, told.error_code) == ("it said", CODE)
    assert told.applied_at is not None
    assert told.updated_at is not None
    assert told.updated_at - told.applied_at > timedelta(0)
    assert {audit.id for audit in audits.list(error_code=CODE)} == {"dead", "told"}
    blob = store.backend.read(Ref("audits/s", "dead", JSON))
    assert blob is not None
    assert json.loads(blob.data)["x"] == 1
    assert audits.finish(theirs.id).status == "complete"


def test_a_status_that_was_written_by_hand(audits: Audits, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("audits", "odd", JSON), b'{"status": "applied"}')
    with pytest.raises(ValidationError, match=r"'applied' is no status; it is one of applying, complete, failed"):
        audits.finish("odd")
    assert audits.list() == []
    assert len(audits.problems()) == 1


def test_audits_outlive_their_session(store: Store, audits: Audits) -> None:
    store.sessions.create(id="s")
    audit = audits.start("write_text", "a.md", session_id="s")
    store.sessions.delete("s")
    assert audits.finish(audit.id).status == "complete"
