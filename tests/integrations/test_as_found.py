"""Databases that hold what a session, config or job cannot: nothing of it is lost, and most of it is told."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect
from typing import Any, TypeAlias

import pytest

from fsstate import Store, StoreOptions
from fsstate.integrations.sqlite import import_sqlite
from fsstate.session_config import AlwaysAsk
from tests.integrations import schemas
from tests.integrations.test_sqlite import add, steer_session, thread

Land: TypeAlias = Callable[..., list[str]]

AT = datetime(2025, 1, 1, tzinfo=UTC)
S = int(AT.timestamp())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


@pytest.fixture
def land(store: Store, tmp_path: Path) -> Land:
    """Import rows twice, and give the problems, which are the same each time."""

    def land(system: str, table: str, *rows: dict[str, Any]) -> list[str]:
        path = tmp_path / "state.db"
        with closing(connect(path)) as connection, connection:
            connection.executescript({"steer": schemas.STEER, "codewhale": schemas.CODEWHALE}[system])
            for row in rows:
                add(connection, table, row)
        report, again = (import_sqlite(store, path, system) for _ in range(2))
        assert again.problems == report.problems
        assert report.total.imported == again.total.unchanged == report.total.found
        return [problem.reason for problem in report.problems]

    return land


def job(**more: Any) -> dict[str, Any]:
    return {"id": "j1", "name": "j", "status": "queued", "created_at": S, "updated_at": S, **more}


def test_metadata_of_the_user_under_the_names_that_an_import_uses(store: Store, land: Land) -> None:
    assert land("steer", "sessions", steer_session(metadata={"imported": "mine", "steer": 1, "index": 2})) == [
        "metadata.imported was kept as metadata.steer.metadata.imported, as an import keeps its own there",
        "metadata.steer was kept as metadata.steer.metadata.steer, as an import keeps its own there",
    ]
    assert store.sessions["s1"].metadata == {
        "index": 2,
        "steer": {"metadata": {"imported": "mine", "steer": 1}},
        "imported": {"from": "steer", "id": "s1"},
    }


@pytest.mark.parametrize("names", [["grep"], "[grep"])
def test_approved_tools_without_a_policy_for_them(store: Store, land: Land, names: Any) -> None:
    told = land("steer", "sessions", steer_session(tool_policy_type="always_ask", pre_approved_tools=names))
    assert told[-1] == (
        "column pre_approved_tools was kept as pre_approved_tools_as_found in the config, "
        "as the policy 'always_ask' has none"
    )
    assert store.session("s1").config.require().tools.approval == AlwaysAsk()
    assert store.session("s1").collection()["config"]["pre_approved_tools_as_found"] == names


def test_approved_tools_of_a_policy_that_is_not_known(store: Store, land: Land) -> None:
    assert len(land("steer", "sessions", steer_session(tool_policy_type="odd"))) == 2
    found = store.session("s1").collection()["config"]
    assert (found["tools_as_found"]["approval"], found["pre_approved_tools_as_found"]) == ({"type": "odd"}, ["grep"])


def test_an_empty_list_of_approved_tools_is_none(land: Land) -> None:
    assert land("steer", "sessions", steer_session(tool_policy_type="always_ask", pre_approved_tools=[])) == []


def test_a_time_that_is_none_is_not_that_of_the_import(store: Store, land: Land) -> None:
    never = {"created_at": "never", "updated_at": "never"}
    land("steer", "sessions", steer_session(created_at="never"), steer_session("s2", **never))
    first, second = store.sessions["s1"], store.sessions["s2"]
    assert first.created_at == first.updated_at == AT.replace(second=1, microsecond=500000)
    assert (second.created_at, second.updated_at) == (None, None)


def test_archived_threads(store: Store, land: Land) -> None:
    rows = [
        thread("a", status="archived", archived=1, archived_at=S + 5),
        thread("b", status="archived", archived=0),
        thread("c", archived=0, archived_at=S + 5),
        thread("d", archived=1),
    ]
    assert land("codewhale", "threads", *rows) == []
    at = {name: store.sessions[name].archived_at for name in "abcd"}
    assert at == {"a": AT.replace(second=5), "b": AT.replace(second=9), "c": None, "d": AT.replace(second=9)}
    kept = {name: store.sessions[name].metadata["codewhale"] for name in "abcd"}
    assert (kept["a"]["status"], kept["b"]["status"], kept["c"]["archived_at"]) == ("archived", "archived", S + 5)
    assert not {"status", "archived", "archived_at"} & kept["d"].keys()
    assert store.sessions.unarchive("a").status == "idle"


def test_the_attempts_in_a_job_s_history(store: Store, land: Land) -> None:
    retry = {"attempt": 2, "max_attempts": 3, "next_retry_at": S + 7}
    entry = {"at": S, "phase": "failed", "status": "failed", "retry": retry}
    told = {"schema_version": 1, "status": "failed", "history": [entry, {**entry, "retry": None}]}
    assert land("codewhale", "jobs", job(detail=told)) == []
    first, second = store.jobs.require("j1").history
    assert (first.attempt, first.next_retry_at, second.attempt) == (2, AT.replace(second=7), 0)
    assert store.collection("jobs")["j1"]["history"][0]["retry"] == {"max_attempts": 3}


def test_a_job_s_detail_of_another_version_stays_whole(store: Store, land: Land) -> None:
    detail = json.dumps({"schema_version": 2, "status": "paused", "history": {}})
    (told,) = land("codewhale", "jobs", job(detail=detail))
    assert told == "detail was kept whole, as version 2 of it is not known; 1 is"
    assert (store.jobs.require("j1").detail, store.jobs.require("j1").status) == (detail, "queued")


def test_a_job_of_a_status_and_progress_that_are_none(store: Store, land: Land) -> None:
    assert land("codewhale", "jobs", job(status="odd", progress=-5)) == [
        "it was imported as queued, as 'odd' is no status of jobs; that is kept as status_as_found",
        "progress was kept as progress_as_found, as -5 is no percentage",
    ]
    found = store.collection("jobs")["j1"]
    assert (found["status"], found["status_as_found"], found["progress_as_found"]) == ("queued", "odd", -5)
    assert store.jobs.require("j1").progress is None
