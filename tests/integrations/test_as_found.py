"""Databases that hold what a session, config or job cannot: nothing of it is lost, and most of it is told."""

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
from tests.integrations.test_sqlite import add, steer_session

Land: TypeAlias = Callable[..., list[str]]

AT = datetime(2025, 1, 1, tzinfo=UTC)


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
