"""steer a837341: sessions with a config, a conversation that branches, tool calls that need approval, and events.

It is async code, so what it does runs through the sync and the async API.
"""

import json
import stat
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

import fsstate
from fsstate import (
    AlwaysAsk,
    ApiKeyAuth,
    AsyncStore,
    BearerAuth,
    Blacklist,
    Entry,
    LocalWorkspace,
    Message,
    Mixed,
    PreApproved,
    RemoteWorkspace,
    SessionConfig,
    Store,
    StoreOptions,
    ToolConfig,
    ToolRules,
    Whitelist,
)
from tests.contract.conftest import FakeClock
from tests.reference.conftest import Reopen, RunExample, is_in_memory

KINDS = (
    "message_part",
    "message_complete",
    "tool_call_started",
    "tool_call_completed",
    "tool_call_failed",
    "tool_approval_required",
    "session_created",
    "session_resumed",
    "session_saved",
    "operation_started",
    "operation_completed",
    "operation_cancelled",
    "error",
    "workspace_changed",
    "workspace_files",
)
CLAUDE, GPT = "claude-3-5-sonnet-20241022", "gpt-4.1-2025-04-14"


@pytest.fixture
def store(any_store: Any) -> Any:
    return any_store


def new_session(store: Store, config: SessionConfig | None = None, **metadata: str) -> str:
    """What steer's create_session does: a new session is inactive, and has a config."""
    name = store.sessions.create(status="inactive", metadata=metadata).id
    store.session(name).config.put(config or SessionConfig(workspace=LocalWorkspace("/work")))
    return name


def events_of(store: Store, name: str) -> fsstate.Journal:
    return store.session(name).journal("events", kinds=KINDS)


def texts(messages: Iterable[Message]) -> list[str]:
    return [message.text for message in messages]


def ids(store: Store, **wanted: Any) -> list[str]:
    return [each.id for each in store.sessions.list(**wanted)]


# Its own tests


def test_create_and_get_session(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    again = reopen()
    found = again.sessions.get(name)
    assert found is not None
    assert (found.id, found.status) == (name, "inactive")
    config = again.session(name).config.require()
    assert config.tools.approval == AlwaysAsk()
    assert config.workspace == LocalWorkspace("/work")
    assert again.sessions.get("another") is None


def test_message_operations(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    content = [{"type": "text", "text": "Hello"}]
    messages.append("user", content, id="msg1", created_at=datetime.fromtimestamp(123456789, UTC))
    found = messages.all()
    assert [(each.id, each.role, each.content) for each in found] == [("msg1", "user", content)]


def test_tool_call_operations(store: Store) -> None:
    calls = store.session(new_session(store)).tool_calls
    calls.create("test_tool", {"param": "value"}, id="tc1")
    assert [(call.name, call.parameters) for call in calls.pending()] == [("test_tool", {"param": "value"})]
    calls.update("tc1", status="completed")
    assert calls.pending() == []


def test_event_streaming(store: Store) -> None:
    name = new_session(store)
    events = events_of(store, name)
    # The reference begins at 0, and asks for what lies behind a number that is 0 or more: the first event is never
    # read. Its test expects so, and gets it by the number below 0, which wraps around.
    seq = events.append("session_created", session_id=name, metadata={"model": CLAUDE})
    assert seq == 1
    assert [(entry.seq, entry.kind) for entry in events.read(after=0)] == [(1, "session_created")]
    assert events.read(after=seq) == []


def test_session_listing(store: Store) -> None:
    made = [new_session(store, index=str(number)) for number in range(3)]
    assert ids(store, order_by="-created_at", limit=2) == [made[2], made[1]]


def test_last_model_tracking(store: Store) -> None:
    name = new_session(store)

    def last_model() -> str | None:
        return store.sessions.list()[0].last_model

    events = events_of(store, name)
    assert last_model() is None
    events.append("message_complete", message={"id": "msg1", "role": "assistant"}, model=CLAUDE)
    assert last_model() == CLAUDE
    events.append("tool_call_failed", tool_call_id="tool1", error="Test error", model=GPT)
    assert last_model() == GPT
    events.append("session_saved", session_id=name)
    assert last_model() == GPT


# Sessions and their config


CONFIGS = [
    SessionConfig(),
    SessionConfig(workspace=LocalWorkspace("/work/project"), system_prompt="Be brief.", metadata={"team": "red"}),
    SessionConfig(workspace=RemoteWorkspace("agent:50051", BearerAuth("t0ken"))),
    SessionConfig(workspace=RemoteWorkspace("agent:50051", ApiKeyAuth("k3y"))),
    SessionConfig(tools=ToolConfig(visibility="read_only", approval=PreApproved({"grep", "ls"}))),
    SessionConfig(tools=ToolConfig(visibility=Whitelist({"grep"}), approval=AlwaysAsk())),
    SessionConfig(tools=ToolConfig(visibility=Blacklist({"bash"}), metadata={"k": "v"})),
    SessionConfig(
        tools=ToolConfig(
            backends=[
                {"type": "local", "tool_filter": "all"},
                {"type": "mcp", "server_name": "docs", "tool_filter": {"include": ["search"]}},
            ],
            tools={"bash": ToolRules(["git status", "ls *"])},
        )
    ),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_comes_back_as_it_was(store: Store, config: SessionConfig, reopen: Reopen) -> None:
    assert reopen().session(new_session(store, config)).config.get() == config


@pytest.mark.parametrize("ask_for_others", [True, False])
def test_a_mixed_policy_keeps_what_it_says_of_the_other_tools(store: Store, ask_for_others: bool) -> None:
    # The reference has no column for it, and asks for all others after a reload.
    policy = Mixed({"grep"}, ask_for_others=ask_for_others)
    config = store.session(new_session(store, SessionConfig(tools=ToolConfig(approval=policy)))).config
    found = config.require().tools.approval
    assert found == policy
    assert [found.is_approved(tool) for tool in ("grep", "bash")] == [True, False]
    assert [found.asks_for(tool) for tool in ("grep", "bash")] == [False, ask_for_others]


def test_what_the_other_policies_say() -> None:
    said = {
        (type(policy), tool): (policy.is_approved(tool), policy.asks_for(tool))
        for policy in (AlwaysAsk(), PreApproved({"grep"}))
        for tool in ("grep", "bash")
    }
    assert said == {
        (AlwaysAsk, "grep"): (False, True),
        (AlwaysAsk, "bash"): (False, True),
        (PreApproved, "grep"): (True, False),
        (PreApproved, "bash"): (False, True),
    }


def test_commands_that_were_approved_are_known_after_a_reload(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    with store.session(name).config.edit() as config:
        config.tools.tools = {"bash": ToolRules(["git status"])}
        # The reference keeps these in memory only.
        config.tools.approval = PreApproved({"grep"})
    tools = reopen().session(name).config.require().tools
    assert tools.tools["bash"].approved_patterns == ["git status"]
    assert tools.approval == PreApproved({"grep"})


def test_an_update_saves_all_that_it_changes(store: Store, reopen: Reopen) -> None:
    # The reference's update leaves out the system prompt and the status, and says nothing.
    name = new_session(store)
    store.session(name).config.change(system_prompt="Be brief.")
    store.sessions.update(name, lambda session: session.metadata.update(team="red"))
    with store.sessions.edit(name) as session:
        session.status = "active"
    again = reopen()
    assert again.session(name).config.require().system_prompt == "Be brief."
    assert (again.sessions[name].status, again.sessions[name].metadata) == ("active", {"team": "red"})


def test_a_session_that_is_not_there(store: Store) -> None:
    # The reference updates no row then, and says that it is done.
    with pytest.raises(fsstate.NotFoundError):
        store.sessions.update("gone", lambda session: session)
    session = store.session("gone")
    for write in (
        lambda: session.config.put(SessionConfig()),
        lambda: session.messages.append("user", "Hello"),
        lambda: session.tool_calls.create("grep"),
        lambda: session.events.append("session_saved"),
    ):
        with pytest.raises(fsstate.NotFoundError):
            write()
    assert (session.config.get(), session.messages.all(), session.tool_calls.list()) == (None, [], [])


def test_deleting_a_session_deletes_what_belongs_to_it(store: Store) -> None:
    name = new_session(store)
    session = store.session(name)
    session.messages.append("user", "Hello", id="msg1")
    session.tool_calls.create("grep", id="tc1")
    events_of(store, name).append("session_saved", session_id=name)
    assert store.sessions.delete(name)
    assert not store.sessions.delete(name)
    store.sessions.create(id=name)
    assert (session.config.get(), session.messages.count(), session.tool_calls.count()) == (None, 0, 0)
    assert session.events.count() == 0


def test_archiving_hides_a_session_and_brings_it_back(store: Store) -> None:
    name = new_session(store)
    store.sessions.archive(name)
    assert (ids(store), ids(store, archived=True)) == ([], [name])
    store.sessions.unarchive(name)
    assert (ids(store), store.sessions[name].status) == ([name], "inactive")


def test_secrets_are_readable_for_their_owner_only_and_in_no_log(store: Store, directory: Path) -> None:
    # The reference keeps them in clear, too.
    config = store.session(new_session(store, CONFIGS[2])).config
    assert stat.S_IMODE(Path(config.path).stat().st_mode) == 0o600
    assert Path(config.path).is_relative_to(directory)
    assert "t0ken" not in repr(config.require())


def test_a_policy_that_nobody_knows_is_named_and_hides_no_session(store: Store, directory: Path) -> None:
    name = new_session(store)
    other = new_session(store)
    path = Path(store.session(name).config.path)
    path.write_text('{"tools": {"approval": {"type": "sometimes"}}}')
    with pytest.raises(fsstate.ValidationError, match=r"config\.json.*\$\.tools\.approval.*sometimes"):
        store.session(name).config.get()
    assert ids(store) == [other, name]
    assert Path(path).is_relative_to(directory)


# Listing


def test_times_are_bounds_that_belong_to_the_range(store: Store) -> None:
    first, second, third = (new_session(store) for _ in range(3))
    created = store.sessions[second].created_at
    assert created is not None
    assert ids(store, created_after=created, order_by="created_at") == [second, third]
    assert ids(store, created_before=created, order_by="created_at") == [first, second]
    assert ids(store, created_after=created, created_before=created) == [second]
    tick = timedelta(microseconds=1)
    assert ids(store, created_after=created + tick) == [third]
    assert ids(store, created_before=created - tick) == [first]


def test_a_session_is_as_recent_as_its_last_entry(store: Store, clock: FakeClock) -> None:
    first, second = new_session(store), new_session(store)
    clock.advance(hours=1)
    now = clock.now
    store.session(first).messages.append("user", "Hello")
    assert ids(store, updated_after=now) == [first]
    assert ids(store, updated_before=now) == [second]
    assert ids(store, order_by="updated_at") == [second, first]
    assert ids(store, order_by="-updated_at") == [first, second]


def test_by_status(store: Store) -> None:
    first, second = new_session(store), new_session(store)
    with store.sessions.edit(first) as session:
        session.status = "active"
    assert [ids(store, status=status) for status in ("active", "inactive", "lost")] == [[first], [second], []]


def test_by_metadata(store: Store) -> None:
    # The reference takes such a filter and ignores it.
    red, blue = new_session(store, team="red", env="prod"), new_session(store, team="blue", env="prod")
    assert ids(store, metadata={"team": "red"}) == [red]
    assert ids(store, metadata={"team": "blue", "env": "prod"}) == [blue]
    assert ids(store, metadata={"team": "red", "env": "test"}) == []
    assert ids(store, metadata={"nothing": None}) == []


def test_the_order_by_number_of_messages_keeps_the_filters(store: Store) -> None:
    # The reference begins its query anew for this order, and loses all filters.
    made = [new_session(store, team=team) for team in ("red", "red", "blue")]
    for number, name in zip((1, 2, 3), made, strict=True):
        for _ in range(number):
            store.session(name).messages.append("user", "x")
    listed = store.sessions.list(metadata={"team": "red"}, status="inactive", order_by="-message_count")
    assert [(each.id, each.message_count) for each in listed] == [(made[1], 2), (made[0], 1)]
    assert ids(store, order_by="message_count") == made
    assert ids(store, order_by="message_count", metadata={"team": "red"}, limit=1, offset=1) == [made[1]]


def test_an_offset_needs_no_limit(store: Store) -> None:
    # In the reference that is no valid SQL.
    made = [new_session(store) for _ in range(4)]
    assert ids(store, order_by="created_at", offset=2, limit=None) == made[2:]
    assert ids(store, order_by="created_at", offset=1, limit=2) == made[1:3]
    assert ids(store, order_by="created_at", offset=2) == made[2:]
    assert ids(store, offset=10**9) == []


def test_limits(store: Store) -> None:
    name = new_session(store)
    assert (ids(store, limit=0), ids(store, limit=10**9)) == ([], [name])
    for wrong in ({"limit": -1}, {"offset": -1}, {"order_by": "size"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ids(store, **wrong)


def test_a_list_shows_what_a_session_is_about(store: Store) -> None:
    name = new_session(store, team="red")
    session = store.session(name)
    session.messages.append("user", "Hello")
    session.messages.append("assistant", "Hi", model=CLAUDE)
    (shown,) = store.sessions.list()
    assert (shown.id, shown.message_count, shown.last_model) == (name, 2, CLAUDE)
    assert shown.metadata == {"team": "red"}
    assert None not in (shown.created_at, shown.updated_at)


# Messages

EVERY_ROLE: list[tuple[str, Any]] = [
    ("user", [{"type": "text", "text": "Hello"}]),
    ("user", [{"type": "command_execution", "command": "ls", "stdout": "a", "stderr": "", "exit_code": 0}]),
    ("user", [{"type": "app_command", "command": {"Compact": None}, "response": {"text": "done"}}]),
    ("assistant", [{"type": "thought", "thought": {"type": "signed", "text": "hm", "signature": "x"}}]),
    ("assistant", [{"type": "tool_call", "tool_call": {"id": "tc1", "name": "ls", "parameters": {"path": "/"}}}]),
    ("tool", {"tool_use_id": "tc1", "result": {"FileList": {"entries": [], "base_path": "/"}}}),
    # The reference's schema allows it, and one such message makes the whole session unreadable.
    ("system", "Be brief."),
]


@pytest.mark.parametrize(("role", "content"), EVERY_ROLE)
def test_any_content_comes_back_as_it_was(store: Store, role: str, content: Any, reopen: Reopen) -> None:
    name = new_session(store)
    store.session(name).messages.append(role, content)
    (found,) = reopen().session(name).messages.all()
    assert (found.role, found.content) == (role, content)


def test_a_message_keeps_its_own_time(store: Store) -> None:
    # The reference writes the time of storing, and gives that back as the message's.
    messages = store.session(new_session(store)).messages
    said = datetime.fromtimestamp(123456789, UTC)
    messages.append("user", "Hello", created_at=said)
    assert messages.all()[0].created_at == said


def test_seqs_begin_at_one_and_give_the_order(store: Store, clock: FakeClock) -> None:
    messages = store.session(new_session(store)).messages
    late, early = clock.now + timedelta(hours=1), clock.now - timedelta(hours=1)
    made = [messages.append("user", text, created_at=at) for text, at in (("a", late), ("b", early), ("c", late))]
    assert [message.seq for message in made] == [1, 2, 3]
    assert texts(messages.all()) == ["a", "b", "c"]


def test_messages_after_a_seq(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    for text in "abcd":
        messages.append("user", text)
    for after, found in ((0, "abcd"), (2, "cd"), (4, ""), (99, "")):
        assert texts(messages.all(after=after)) == list(found)


def test_pages_go_on_behind_the_last_seq(store: Store) -> None:
    # The reference's cursor is the length of the page.
    messages = store.session(new_session(store)).messages
    for text in "abcde":
        messages.append("user", text)
    messages.append("user", "f", parent=None)
    pages, after = [], 0
    while page := messages.all(after=after, limit=2):
        pages.append("".join(texts(page)))
        after = page[-1].seq
    assert pages == ["ab", "cd", "ef"]


def test_seqs_are_never_given_out_twice(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    messages.append("user", "a")
    last = messages.append("user", "b").seq
    messages.clear()
    assert messages.append("user", "c").seq > last


def test_an_id_names_one_message_of_a_session(store: Store) -> None:
    # In the reference an id is taken for all sessions, so that none can go on with a copy of another's messages.
    first, second = (store.session(new_session(store)).messages for _ in range(2))
    first.append("user", "Hello", id="msg1")
    with pytest.raises(fsstate.AlreadyExistsError, match="msg1"):
        first.append("user", "Hello again", id="msg1")
    second.append("user", "Hello", id="msg1")
    assert (texts(first.all()), texts(second.all())) == (["Hello"], ["Hello"])


# Tool calls


def test_a_call_goes_through_its_statuses(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    calls = store.session(name).tool_calls
    made = calls.create("bash", {"command": "ls"}, id="tc1")
    assert (made.status, made.started_at, made.completed_at) == ("pending", None, None)
    assert calls.approve("tc1").started_at is None
    started = calls.start("tc1")
    done = calls.complete("tc1", {"output": "a b"})
    assert started.completed_at is None
    assert done.started_at == started.started_at
    assert done.started_at is not None
    assert done.completed_at is not None
    assert done.completed_at > done.started_at
    assert reopen().session(name).tool_calls.list() == [done]


RESULTS: list[Any] = [
    {"result_type": "FileList", "json_output": {"entries": []}, "success": True, "execution_time_ms": 3},
    {"output": "plain text", "success": True, "execution_time_ms": 0, "metadata": {"k": "v"}},
    "plain text",
]


@pytest.mark.parametrize("result", RESULTS)
def test_results_come_back(store: Store, result: Any, reopen: Reopen) -> None:
    # The reference writes them to the disk, reads them, and gives None.
    name = new_session(store)
    store.session(name).tool_calls.create("ls", id="tc1")
    store.session(name).tool_calls.complete("tc1", result)
    assert reopen().session(name).tool_calls.require("tc1").result == result


def test_errors_come_back(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    error = {"type": "Execution", "tool_name": "ls", "message": "no such file"}
    store.session(name).tool_calls.create("ls", id="tc1")
    store.session(name).tool_calls.start("tc1")
    store.session(name).tool_calls.fail("tc1", error)
    call = reopen().session(name).tool_calls.require("tc1")
    # The reference makes "unknown" of the tool's name.
    assert (call.status, call.error, call.result) == ("failed", error, None)
    assert call.completed_at is not None


def test_a_refusal_is_final(store: Store) -> None:
    calls = store.session(new_session(store)).tool_calls
    calls.create("rm", id="tc1")
    denied = calls.deny("tc1", "not on my machine")
    assert (denied.status, denied.error, denied.completed_at) == ("denied", "not on my machine", None)
    # The reference writes whatever status it is told.
    for step in (calls.approve, calls.start, calls.complete, calls.fail):
        with pytest.raises(fsstate.InvalidTransitionError, match="denied"):
            step("tc1")
    assert calls.require("tc1").status == "denied"


def test_what_waits_for_approval_is_in_the_order_of_its_making(store: Store) -> None:
    # The reference sorts them by their ids, which providers make up.
    calls = store.session(new_session(store)).tool_calls
    for name in ("call_z", "call_a", "call_m"):
        calls.create("bash", id=name)
    calls.approve("call_a")
    assert [call.id for call in calls.pending()] == ["call_z", "call_m"]


def test_a_call_that_is_not_there_or_there_already(store: Store) -> None:
    # The reference looks for the call in all sessions, and says that it is done when there is none.
    first, second = (store.session(new_session(store)).tool_calls for _ in range(2))
    first.create("ls", id="tc1")
    with pytest.raises(fsstate.AlreadyExistsError, match="tc1"):
        first.create("ls", id="tc1")
    with pytest.raises(fsstate.NotFoundError, match="tc1"):
        second.complete("tc1")
    second.create("ls", id="tc1")
    assert [calls.complete("tc1", n).result for n, calls in ((1, first), (2, second))] == [1, 2]


def test_an_update_of_nothing_changes_nothing(store: Store) -> None:
    calls = store.session(new_session(store)).tool_calls
    made = calls.create("ls", {"path": "/"}, id="tc1", metadata={"k": "v"})
    assert calls.update("tc1").status == made.status
    assert calls.require("tc1").parameters == {"path": "/"}
    assert calls.update("tc1", result={"output": "a"}).status == "pending"


# Events


def test_the_kinds_of_events_are_known(store: Store) -> None:
    events = events_of(store, new_session(store))
    assert [events.append(kind) for kind in KINDS] == [*range(1, len(KINDS) + 1)]
    assert [entry.kind for entry in events] == [*KINDS]
    with pytest.raises(fsstate.InvalidValueError, match=r"'message_done' is not declared"):
        events.append("message_done")
    assert events.count() == len(KINDS)


def test_events_after_a_seq_with_a_limit(store: Store) -> None:
    events = events_of(store, new_session(store))
    for number in range(5):
        events.append("message_part", content=str(number), message_id="msg1")
    parts = [(entry.seq, entry["content"]) for entry in events.read(after=2, limit=2)]
    assert parts == [(3, "2"), (4, "3")]
    assert (events.read(limit=0), len(events.read(limit=10**9))) == ([], 5)
    with pytest.raises(ValueError, match="limit"):
        events.read(limit=-1)


def test_events_of_some_kinds(store: Store) -> None:
    events = events_of(store, new_session(store))
    for kind in ("tool_call_started", "message_part", "tool_call_completed"):
        events.append(kind, tool_call_id="tc1")
    found = events.read(after=1, kinds={"tool_call_started", "tool_call_completed"})
    assert [entry.kind for entry in found] == ["tool_call_completed"]


def test_deleting_old_events(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    events = events_of(store, name)
    for _ in range(4):
        events.append("workspace_changed")
    assert events.trim(before=3) == 2
    assert [entry.seq for entry in events] == [3, 4]
    assert events.trim(before=3) == 0
    assert events.trim(before=5) == 2
    # The reference counts on from the highest that is there, and so gives out 0 again.
    assert events_of(reopen(), name).append("workspace_changed") == 5


def test_the_seq_of_the_last_event(store: Store) -> None:
    name = new_session(store)
    events = events_of(store, name)
    assert events.last() is None
    events.append("session_saved", session_id=name)
    last = events.last()
    assert last is not None
    assert (last.seq, last["session_id"]) == (1, name)


def test_many_append_at_once(store: Store) -> None:
    # The reference asks for the highest number and then inserts, in two statements.
    events, seqs = events_of(store, new_session(store)), list[int]()

    def work() -> None:
        seqs.extend(events.append("message_part", content="x", message_id="m") for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == [*range(1, 41)]


# Branches


def test_an_edited_message_is_a_sibling_of_the_original(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    for role, text in (("user", "Hi"), ("assistant", "Hello"), ("user", "How are yuo?"), ("assistant", "What?")):
        messages.append(role, text)
    original = messages.list()[2]
    edited = messages.fork_at(original.parent_id, "user", "How are you?")
    assert edited.parent_id == original.parent_id
    assert texts(messages.list()) == ["Hi", "Hello", "How are you?"]
    assert texts(messages.children(original.parent_id)) == ["How are yuo?", "How are you?"]
    assert messages.count() == 5


def test_the_first_message_may_be_edited(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    original = messages.append("user", "Hi")
    messages.fork_at(original.parent_id, "user", "Hello")
    assert texts(messages.list()) == ["Hello"]
    assert texts(messages.children(None)) == ["Hi", "Hello"]


def test_checkout_moves_the_head_and_nothing_else(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    messages = store.session(name).messages
    made = [messages.append("user", text) for text in "abc"]
    messages.set_head(made[0].id)
    other = messages.append("user", "d")
    messages.set_head(made[2].id)
    assert texts(reopen().session(name).messages.list()) == ["a", "b", "c"]
    messages.set_head(other.id)
    assert texts(reopen().session(name).messages.list()) == ["a", "d"]
    with pytest.raises(fsstate.NotFoundError, match="nowhere"):
        messages.set_head("nowhere")
    assert texts(messages.list()) == ["a", "d"]


def test_a_head_that_is_no_message_falls_back_to_the_last_one(store: Store, directory: Path, reopen: Reopen) -> None:
    name = new_session(store)
    messages = store.session(name).messages
    made = [messages.append("user", text) for text in "abc"]
    messages.set_head(made[0].id)
    # Somebody takes a line out by hand.
    log = directory / "sessions" / name / "messages.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if f'"id":"{made[0].id}"' not in line))
    again = reopen().session(name).messages
    assert texts(again.list()) == ["b", "c"]
    assert again.append("user", "d").parent_id == made[2].id


def test_without_a_head_the_next_message_is_a_root(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    messages.append("user", "a")
    messages.set_head(None)
    assert messages.append("user", "b").parent_id is None
    assert texts(messages.list()) == ["b"]


def test_a_parent_that_is_missing_ends_the_walk(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    messages.extend(
        [Message(id="b", role="user", content="b", parent_id="a"), Message(id="c", role="user", parent_id="b")]
    )
    assert [message.id for message in messages.list()] == ["b", "c"]


def test_compaction_appends_and_deletes_nothing(store: Store) -> None:
    messages = store.session(new_session(store)).messages
    for number in range(10):
        messages.append("user" if number % 2 == 0 else "assistant", f"message {number}")
    summary = messages.append("user", "[COMPACTED SUMMARY]\nTen messages about numbers.")
    thread = messages.list()
    assert (len(thread), thread[-1].id) == (11, summary.id)
    since = next(index for index, each in enumerate(thread) if each.text.startswith("[COMPACTED SUMMARY]"))
    assert texts(thread[since:]) == [summary.text]


# What its program does with the store: the event first, then what follows from it


def apply(store: Store, name: str, event: Entry) -> None:
    """Make of an event what follows from it, unless that was done already."""
    session, fields = store.session(name), event.fields
    if event.kind == "message_complete":
        message = fields["message"]
        if session.messages.get(message["id"]) is None:
            session.messages.append(message["role"], message["content"], id=message["id"], model=fields["model"])
    elif event.kind == "tool_call_started":
        call = fields["tool_call"]
        if session.tool_calls.get(call["id"]) is None:
            session.tool_calls.create(call["name"], call["parameters"], id=call["id"])
    elif event.kind in ("tool_call_completed", "tool_call_failed"):
        finish_call(store, name, fields)


def finish_call(store: Store, name: str, fields: Mapping[str, Any]) -> None:
    session, call_id = store.session(name), fields["tool_call_id"]
    if not session.tool_calls.require(call_id).is_final:
        if "error" in fields:
            session.tool_calls.fail(call_id, fields["error"])
        else:
            session.tool_calls.complete(call_id, fields["result"])
    answer = f"tool_result_{call_id}"
    if session.messages.get(answer) is None:
        content = {"tool_use_id": call_id, "result": fields.get("result", fields.get("error"))}
        last = session.messages.all()[-1]
        session.messages.append("tool", content, id=answer, parent=last.id, tool_call_id=call_id)


def record(store: Store, name: str, kind: str, **fields: Any) -> None:
    seq = events_of(store, name).append(kind, **fields)
    event = events_of(store, name).entry(seq)
    assert event is not None
    apply(store, name, event)


def problems(store: Store, name: str) -> list[str]:
    """The tool calls that messages refer to and that are not there: what steer's validate() looks for."""
    session = store.session(name)
    known = {call.id for call in session.tool_calls.list()}
    asked = [
        block["tool_call"]["id"]
        for message in session.messages.all()
        if message.role == "assistant"
        for block in message.content
        if block["type"] == "tool_call"
    ]
    answered = [message.tool_call_id for message in session.messages.all() if message.tool_call_id is not None]
    return [name for name in (*asked, *answered) if name not in known]


def call_block(call_id: str) -> dict[str, Any]:
    return {"type": "tool_call", "tool_call": {"id": call_id, "name": "ls", "parameters": {}}}


def ask_for_two_calls(store: Store, name: str) -> None:
    said = {"id": "m1", "role": "assistant", "content": [call_block("tc1"), call_block("tc2")]}
    record(store, name, "message_complete", message=said, model=CLAUDE)
    for each in ("tc1", "tc2"):
        call: dict[str, Any] = {"id": each, "name": "ls", "parameters": {}}
        record(store, name, "tool_call_started", tool_call=call, model=CLAUDE)


def test_the_event_comes_first_and_the_rest_follows(store: Store) -> None:
    name = new_session(store)
    session = store.session(name)
    ask_for_two_calls(store, name)
    assert problems(store, name) == []
    record(store, name, "tool_call_completed", tool_call_id="tc1", result={"output": "a"}, model=CLAUDE)
    record(store, name, "tool_call_failed", tool_call_id="tc2", error="no such file", model=CLAUDE)
    assert [(call.id, call.status) for call in session.tool_calls.list()] == [("tc1", "completed"), ("tc2", "failed")]
    assert [message.id for message in session.messages.list()] == ["m1", "tool_result_tc1", "tool_result_tc2"]
    assert [entry.seq for entry in session.events] == [1, 2, 3, 4, 5]
    assert problems(store, name) == []
    assert store.sessions.list()[0].last_model == CLAUDE


def test_what_a_crash_left_undone_follows_from_the_events(store: Store, reopen: Reopen) -> None:
    name = new_session(store)
    ask_for_two_calls(store, name)
    # The program dies behind the event.
    events_of(store, name).append("tool_call_completed", tool_call_id="tc1", result={"output": "a"}, model=CLAUDE)
    again = reopen()
    assert again.session(name).tool_calls.require("tc1").status == "pending"
    for _ in range(2):
        for event in events_of(again, name):
            apply(again, name, event)
    assert again.session(name).tool_calls.require("tc1").result == {"output": "a"}
    assert [message.id for message in again.session(name).messages.list()] == ["m1", "tool_result_tc1"]
    assert problems(again, name) == []


def test_a_message_that_asks_for_an_unknown_call_is_found(store: Store) -> None:
    name = new_session(store)
    store.session(name).messages.append("assistant", [call_block("tc1")])
    assert problems(store, name) == ["tc1"]


def test_tasks_share_a_session(opened: Store) -> None:
    options = StoreOptions(durability="process")

    async def main() -> None:
        async with AsyncStore.of(opened) if is_in_memory(opened) else AsyncStore(opened.path, options) as store:
            session = store.session((await store.sessions.create(status="inactive")).id)

            async def work(number: int) -> None:
                for step in range(5):
                    await session.events.append("message_part", content=f"{number}-{step}", message_id="m")
                await session.messages.append("user", str(number))
                await session.tool_calls.create("ls", id=f"tc{number}")

            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(work, number)
            thread = await session.messages.list()
            assert sorted(message.text for message in thread) == [str(number) for number in range(8)]
            assert all(below.parent_id == above.id for above, below in pairwise(thread))
            assert [entry.seq for entry in await session.events.read()] == [*range(1, 41)]
            assert await session.tool_calls.count(status="pending") == 8

    anyio.run(main)


# What stands on the disk


def test_what_a_person_finds(store: Store, directory: Path) -> None:
    name = new_session(store, CONFIGS[1], team="red")
    store.session(name).messages.append("user", "Hello", id="msg1")
    store.session(name).tool_calls.create("ls", id="tc1")
    events_of(store, name).append("workspace_changed")
    folder = directory / "sessions" / name
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "events.jsonl",
        "messages.jsonl",
        "tool_calls.jsonl",
    ]
    assert json.loads((folder / "config.json").read_text())["system_prompt"] == "Be brief."
    assert json.loads((folder / "messages.jsonl").read_text())["content"] == "Hello"
    assert json.loads((directory / "sessions" / f"{name}.json").read_text())["metadata"] == {"team": "red"}


def test_one_bad_line_hides_no_other(store: Store, directory: Path, reopen: Reopen) -> None:
    # The reference fails to read the whole session.
    name = new_session(store)
    store.session(name).messages.append("user", "a")
    with (directory / "sessions" / name / "messages.jsonl").open("a") as file:
        file.write("not JSON\n")
    again = reopen().session(name).messages
    again.append("user", "b")
    assert texts(again.all()) == ["a", "b"]
    assert len(again.problems()) == 1


def test_the_example(run_example: RunExample) -> None:
    printed = run_example("steer.py")
    assert "after the crash: executing" in printed
    assert "caught up: completed '12' ['u1', 'a1', 'tool_result_tc1']" in printed
    assert printed[-1] == "old events deleted: 5 the next is 6"
