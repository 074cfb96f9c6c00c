"""A session's tools and its config."""

import stat
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.dynamic_tools import Tool
from fsstate.errors import AlreadyExistsError, CorruptRecordError, NotFoundError, ValidationError
from fsstate.session import SessionHandle
from fsstate.session_config import (
    AlwaysAsk,
    ApiKeyAuth,
    BearerAuth,
    Blacklist,
    LocalWorkspace,
    Mixed,
    PreApproved,
    RemoteWorkspace,
    SessionConfig,
    ToolApproval,
    ToolConfig,
    ToolRules,
    Whitelist,
)
from fsstate.store import Store
from tests.contract.conftest import Elsewhere

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
FULL = SessionConfig(
    workspace=RemoteWorkspace("host:1", ApiKeyAuth("secret")),
    tools=ToolConfig(
        backends=[{"type": "mcp", "server_name": "s", "tool_filter": {"include": ["x"]}}],
        visibility=Whitelist({"z", "a"}),
        approval=Mixed({"z", "b"}, ask_for_others=False),
        metadata={"k": "v"},
        tools={"bash": ToolRules(["ls *"])},
    ),
    system_prompt="Be brief.",
    metadata={"team": "red"},
)


@pytest.fixture
def one(store: Store) -> SessionHandle:
    store.sessions.create(id="s")
    return store.session("s")


# Tools


def test_tools_are_replaced_as_one_set(store: Store, one: SessionHandle) -> None:
    assert (one.tools.list(), one.tools.count(), one.tools.get("a"), one.tools.clear()) == ([], 0, None, 0)
    tools = [Tool(name="b", description="B", input_schema=SCHEMA), Tool(name="a"), Tool(name="c", input_schema=True)]
    assert one.tools.replace(tools) == 3
    for each in (one, Store.over(store.backend).session("s")):
        assert each.tools.list() == tools
        assert each.tools.get("b") == tools[0]
        assert each.tools.list(name="a") == [tools[1]]
        assert each.tools.count() == 3
    before = store.backend.read(Ref("sessions/s", "tools", JSON))
    assert one.tools.replace(tools) == 3
    after = store.backend.read(Ref("sessions/s", "tools", JSON))
    assert before is not None
    assert after is not None
    assert after.data == before.data, "the same items are no change"
    assert one.tools.replace(reversed(tools[:2])) == 2
    assert [tool.name for tool in one.tools.list()] == ["a", "b"]
    assert one.tools.replace([]) == 0
    assert one.tools.list() == []
    one.tools.replace(tools)
    assert one.tools.clear() == 3
    assert one.tools.list() == []


def test_tools_with_one_name_are_refused(one: SessionHandle) -> None:
    one.tools.replace([Tool(name="a")])
    with pytest.raises(AlreadyExistsError, match="'b'"):
        one.tools.replace([Tool(name="b"), Tool(name="c"), Tool(name="b", description="again")])
    assert one.tools.list() == [Tool(name="a")]


def test_what_others_added_to_a_tool_stays_with_it(one: SessionHandle, elsewhere_in: Elsewhere) -> None:
    text = b'{"items":[{"name":"a","note":1},{"name":"b","note":{"deep":2}},{"odd":1},3],"more":1}'
    elsewhere_in(Ref("sessions/s", "tools", JSON), text)
    one.tools.replace([Tool(name="new"), Tool(name="b", description="B"), Tool(name="c"), Tool(name="a")])
    found: Any = one.collection().require("tools")
    assert found["items"] == [
        {"name": "new"},
        {"name": "b", "note": {"deep": 2}, "description": "B"},
        {"name": "c"},
        {"name": "a", "note": 1},
    ]
    assert found["more"] == 1


def test_unreadable_tools(one: SessionHandle, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("sessions/s", "tools", JSON), b'{"items":[{"description":"nameless"}]}')
    with pytest.raises(ValidationError, match=r"\$.items\[0\].*name"):
        one.tools.list()
    elsewhere_in(Ref("sessions/s", "tools", JSON), b'{"items":[')
    with pytest.raises(CorruptRecordError):
        one.tools.list()


# Config


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        SessionConfig(),
        SessionConfig(workspace=LocalWorkspace("/work")),
        SessionConfig(workspace=RemoteWorkspace("host:1")),
        SessionConfig(workspace=RemoteWorkspace("host:1", BearerAuth("t"))),
        SessionConfig(tools=ToolConfig(visibility="read_only", approval=PreApproved({"a"}))),
        SessionConfig(tools=ToolConfig(visibility=Blacklist({"rm"}), approval=Mixed({"a"}))),
        SessionConfig(tools=ToolConfig(visibility=Blacklist(), approval=PreApproved())),
        SessionConfig(tools=ToolConfig(approval=Mixed(ask_for_others=False))),
    ],
)
def test_configs_come_back(store: Store, one: SessionHandle, config: SessionConfig) -> None:
    assert one.config.get() is None
    assert one.config.put(config) == config
    assert Store.over(store.backend).session("s").config.require() == config
    # In the place of any other.
    for before in (FULL, SessionConfig(tools=ToolConfig(visibility=Blacklist({"x"}), approval=PreApproved({"q"})))):
        one.config.put(before)
        assert one.config.put(config) == config == one.config.get()
    assert one.config.delete()
    assert one.config.get() is None


def test_what_stands_in_the_file(one: SessionHandle) -> None:
    one.config.put(FULL)
    assert one.collection().require("config") == {
        "workspace": {"type": "remote", "agent_address": "host:1", "auth": {"type": "api_key", "key": "secret"}},
        "tools": {
            "backends": [{"type": "mcp", "server_name": "s", "tool_filter": {"include": ["x"]}}],
            "visibility": {"type": "whitelist", "tools": ["a", "z"]},
            "approval": {"type": "mixed", "pre_approved": ["b", "z"], "ask_for_others": False},
            "metadata": {"k": "v"},
            "tools": {"bash": {"approved_patterns": ["ls *"]}},
        },
        "system_prompt": "Be brief.",
        "metadata": {"team": "red"},
    }


def test_changes(one: SessionHandle) -> None:
    with pytest.raises(NotFoundError):
        one.config.change(system_prompt="x")
    with one.config.edit(default=SessionConfig()) as config:
        config.tools.approval = PreApproved({"grep"})
    assert one.config.change(system_prompt="x").tools.approval == PreApproved({"grep"})

    def approve(config: SessionConfig) -> None:
        assert isinstance(config.tools.approval, PreApproved)
        config.tools.approval.tools.add("glob")

    assert one.config.update(approve).tools.approval.is_approved("glob")


@pytest.mark.parametrize(
    ("approval", "approved", "asked"),
    [
        (AlwaysAsk(), [False, False], [True, True]),
        (PreApproved({"grep"}), [True, False], [False, True]),
        (Mixed({"grep"}), [True, False], [False, True]),
        (Mixed({"grep"}, ask_for_others=False), [True, False], [False, False]),
    ],
)
def test_approval(approval: ToolApproval, approved: list[bool], asked: list[bool]) -> None:
    assert [approval.is_approved(tool) for tool in ("grep", "bash")] == approved
    assert [approval.asks_for(tool) for tool in ("grep", "bash")] == asked


def test_unknown_fields_stay(one: SessionHandle, elsewhere_in: Elsewhere) -> None:
    text = b'{"tools":{"approval":{"type":"mixed","pre_approved":["z","a"],"why":"x"},"more":1},"also":2}'
    elsewhere_in(Ref("sessions/s", "config", JSON), text)
    assert one.config.change(system_prompt="p").tools.approval == Mixed({"a", "z"})
    found: Any = one.collection().require("config")
    assert (found["also"], found["tools"]["more"], found["tools"]["approval"]["why"]) == (2, 1, "x")
    assert found["tools"]["approval"]["pre_approved"] == ["z", "a"], "not touched, as it was not changed"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'{"workspace":{"type":"cloud"}}', "workspace"),
        (b'{"workspace":{"path":"/w"}}', "workspace"),
        (b'{"tools":{"visibility":"some"}}', "visibility"),
        (b'{"tools":{"approval":{"type":"mixed","ask_for_others":"no"}}}', "ask_for_others"),
        (b'{"metadata":{"k":1}}', "metadata"),
    ],
)
def test_what_does_not_fit_is_named(one: SessionHandle, elsewhere_in: Elsewhere, text: bytes, place: str) -> None:
    elsewhere_in(Ref("sessions/s", "config", JSON), text)
    with pytest.raises(ValidationError, match=place):
        one.config.get()


def test_secrets(one: SessionHandle, place: str) -> None:
    one.config.put(FULL)
    if place == "files":
        path = Path(one.config.path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "secret" in path.read_text()
    assert "secret" not in repr(FULL)
    assert "hidden" not in repr(BearerAuth("hidden"))


# Both


def test_a_session_must_exist(store: Store, one: SessionHandle) -> None:
    nobody = store.session("nobody")
    assert (nobody.tools.list(), nobody.tools.count(), nobody.config.get()) == ([], 0, None)
    one.tools.replace([Tool(name="a")])
    one.config.put(FULL)
    store.sessions.delete("s")
    assert (one.tools.list(), one.config.get(), one.config.exists()) == ([], None, False)
    for each in (nobody, one):
        with pytest.raises(NotFoundError):
            each.tools.replace([Tool(name="a")])
        with pytest.raises(NotFoundError):
            each.config.put(FULL)


def test_plain_views_of_the_same_names(one: SessionHandle) -> None:
    one.config.put(FULL)
    one.tools.replace([Tool(name="a")])
    one.goal.set("x")
    assert one.collection().names() == ["config", "goal", "tools"]
    for name in ("config", "goal", "tools", "checkpoints"):
        one.journal(name).append("note")
        one.collection(name).put("mine", {"x": 1})
        one.markdown(name).put("mine", "text")
        one.markdown().put(name, "text")
    assert one.config.get() == FULL
    assert one.tools.count() == 1
    assert one.goal.require().objective == "x"


def test_a_fork_has_neither(store: Store, one: SessionHandle) -> None:
    one.config.put(FULL)
    one.tools.replace([Tool(name="a")])
    other = store.session(store.sessions.fork("s").id)
    assert (other.config.get(), other.tools.list()) == (None, [])
