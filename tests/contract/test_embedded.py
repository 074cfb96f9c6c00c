"""Sessions whose documents hold their conversation, as oxios writes them."""

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from fsstate.backends.base import JSON, LOG, Ref
from fsstate.conversation import Message
from fsstate.errors import AlreadyExistsError, CorruptRecordError, NotFoundError
from fsstate.journal import Log
from fsstate.retention import PrunePolicy
from fsstate.store import Store
from tests.contract.conftest import Elsewhere

DOCUMENT = Ref("sessions", "s", JSON)
MESSAGES = Ref("sessions/s", "messages", LOG)
STEPS = Ref("sessions/s", "steps", LOG)
STEP = {"tool_args": {"pattern": "x"}, "output_summary": "3 hits", "duration_ms": 12, "is_error": False}
WHOLE: dict[str, Any] = {
    "id": "s",
    "user_id": "u1",
    "user_messages": [
        {"content": "Find x\nplease", "timestamp": "2026-01-01T10:00:00.123456789Z"},
        {"content": "Thanks", "timestamp": "2026-01-01T10:02:00Z"},
        {"content": "One more", "timestamp": "2026-01-01T10:03:00Z"},
    ],
    "agent_responses": [
        {
            "content": "Here",
            "session_id": "s",
            "seed_id": None,
            "phase_reached": "execute",
            "evaluation_passed": True,
            "timestamp": "2026-01-01T10:01:00Z",
            "trajectory_range": {"start": 0, "end": 2},
        },
        {"content": "Welcome", "session_id": None, "timestamp": "2026-01-01T10:02:00Z"},
    ],
    "trajectory_steps": [
        {"tool_name": "grep", **STEP, "tool_call_id": "c1", "timestamp": "2026-01-01T10:00:30Z"},
        {"tool_name": "read", **STEP, "tool_call_id": "c2", "timestamp": "2026-01-01T10:00:40Z"},
    ],
    "created_at": "2026-01-01T10:00:00Z",
    "updated_at": "2026-01-01T10:03:00Z",
    "metadata": {"channel": "web"},
}
ODD: dict[str, Any] = {
    "user_messages": [{"content": "Hello", "timestamp": "soon"}, 5],
    "agent_responses": [{"text": "no content"}, {"content": "Hi"}],
    "trajectory_steps": [{"tool": "grep"}, {"tool_name": "read", "duration_ms": "long"}, {"tool_name": "write"}],
}
TEXTS = ["Find x\nplease", "Here", "Thanks", "Welcome", "One more"]
IDS = ["user-1", "agent-1", "user-2", "agent-2", "user-3"]


@pytest.fixture
def hold(elsewhere_in: Elsewhere) -> Callable[[Any], None]:
    """Let the session's document hold this."""
    return lambda document: elsewhere_in(DOCUMENT, orjson.dumps(document))


@pytest.fixture
def embedded(store: Store, hold: Callable[[Any], None]) -> Store:
    hold(WHOLE)
    return store


def texts(found: list[Message]) -> list[str]:
    return [message.text for message in found]


def again(store: Store) -> Store:
    """The same store, without what this process remembers of it."""
    return Store.over(store.backend)


def lines(store: Store, ref: Ref = MESSAGES) -> list[dict[str, Any]]:
    return [orjson.loads(line.data) for line in store.backend.entries(ref)]


def document(store: Store) -> Any:
    blob = store.backend.read(DOCUMENT)
    return None if blob is None else orjson.loads(blob.data)


class TestReading:
    def test_messages(self, embedded: Store) -> None:
        messages = embedded.session("s").messages
        assert texts(messages.list()) == texts(messages.all()) == TEXTS
        assert [message.id for message in messages.list()] == IDS
        assert texts(messages.list(limit=2)) == TEXTS[-2:]
        assert texts(messages.list("agent-1")) == TEXTS[:2]
        assert texts(messages.all(after=3, limit=1)) == ["Welcome"]
        assert texts(messages.leaves()) == ["One more"]
        assert texts(messages.children("user-1")) == ["Here"]
        assert texts(messages.children(None)) == TEXTS[:1]
        assert messages.count() == 5
        head = messages.head()
        assert head is not None
        assert (head.id, head.role, head.parent_id, head.seq) == ("user-3", "user", "agent-2", 5)
        assert messages.problems() == []

    def test_a_response(self, embedded: Store) -> None:
        answer = embedded.session("s").messages.get("agent-1")
        assert answer is not None
        assert (answer.role, answer.steps, answer.parent_id) == ("assistant", (0, 2), "user-1")
        assert answer.metadata == {"session_id": "s", "phase_reached": "execute", "evaluation_passed": True}
        assert answer.created_at == datetime(2026, 1, 1, 10, 1, tzinfo=UTC)
        assert embedded.session("s").messages.get("agent-3") is None

    def test_steps(self, embedded: Store) -> None:
        steps = embedded.session("s").steps
        first, second = steps.list()
        assert (first.number, first.tool_name, first.tool_args, first.duration_ms) == (0, "grep", {"pattern": "x"}, 12)
        assert (first.tool_call_id, first.extra) == ("c1", {})
        assert first.timestamp == datetime(2026, 1, 1, 10, 0, 30, tzinfo=UTC)
        assert steps.slice(1, 2) == steps.tail(1) == [second]
        assert steps.slice(2, 9) == []
        assert (steps.count(), steps.problems()) == (2, [])

    def test_a_list_of_sessions(self, embedded: Store) -> None:
        (summary,) = embedded.sessions.list()
        assert (summary.title, summary.message_count, summary.user_id) == ("Find x", 5, "u1")
        assert summary.updated_at == datetime(2026, 1, 1, 10, 3, tzinfo=UTC)

    def test_nothing_is_written(self, embedded: Store) -> None:
        one = embedded.session("s")
        _ = one.messages.list(), one.messages.list(limit=1), one.messages.problems(), one.steps.list()
        embedded.sessions.list()
        embedded.sessions.prune(PrunePolicy(keep=5))
        assert embedded.backend.categories("sessions") == []
        with pytest.raises(NotFoundError):
            one.messages.append("user", "x", parent="nobody")
        assert lines(embedded) == []

    def test_the_document_may_change(self, embedded: Store, hold: Callable[[Any], None]) -> None:
        one = embedded.session("s")
        assert (one.messages.count(), one.steps.count()) == (5, 2)
        assert embedded.sessions.list()[0].message_count == 5
        grown = [*WHOLE["agent_responses"], {"content": "Sure", "timestamp": "2026-01-01T10:04:00Z"}]
        hold({**WHOLE, "agent_responses": grown, "trajectory_steps": WHOLE["trajectory_steps"][:1]})
        assert texts(one.messages.list()) == [*TEXTS, "Sure"]
        assert one.steps.count() == 1
        assert embedded.sessions.list()[0].message_count == 6

    def test_a_stream(self, embedded: Store) -> None:
        with embedded.session("s").messages.stream("assistant") as stream:
            stream.write("Sure")
            assert texts(embedded.session("s").messages.list()) == [*TEXTS, "Sure"]
            assert embedded.sessions.list()[0].message_count == 6
        assert stream.message is not None
        assert stream.message.parent_id == "user-3"
        assert texts(again(embedded).session("s").messages.list()) == [*TEXTS, "Sure"]

    def test_a_fork(self, embedded: Store) -> None:
        new = embedded.sessions.fork("s", at="agent-1", copy_messages=True)
        assert texts(embedded.session(new.id).messages.list()) == TEXTS[:2]
        assert embedded.backend.log_stamp(MESSAGES) is None


class TestWriting:
    def test_the_first_append_puts_them_into_the_log(self, embedded: Store) -> None:
        added = embedded.session("s").messages.append("assistant", "Sure")
        assert (added.parent_id, added.seq) == ("user-3", 6)
        embedded.session("s").messages.append("user", "Bye")
        for each in (embedded, again(embedded)):
            assert texts(each.session("s").messages.list()) == [*TEXTS, "Sure", "Bye"]
        assert [line["seq"] for line in lines(embedded)] == [1, 2, 3, 4, 5, 6, 7]
        assert lines(embedded)[1] == {
            "seq": 2,
            "id": "agent-1",
            "role": "assistant",
            "content": "Here",
            "parent": "user-1",
            "at": "2026-01-01T10:01:00.000000Z",
            "steps": [0, 2],
            "metadata": {"session_id": "s", "phase_reached": "execute", "evaluation_passed": True},
        }
        assert document(embedded) == WHOLE

    @pytest.mark.parametrize(
        ("write", "expected"),
        [
            (lambda messages: messages.append("user", "x", id="mine"), [*TEXTS, "x"]),
            (lambda messages: messages.append("user", "x", parent="agent-1"), ["Find x\nplease", "Here", "x"]),
            (lambda messages: messages.fork_at(None, "user", "x"), ["x"]),
            (lambda messages: messages.extend([Message(id="m", role="user", content="x", parent_id="user-3")]),
             [*TEXTS, "x"]),
            (lambda messages: messages.set_head("agent-1"), ["Find x\nplease", "Here"]),
            (lambda messages: messages.update("user-3", content="x"), [*TEXTS[:-1], "x"]),
            (lambda messages: messages.append_text("user-3", "!"), [*TEXTS[:-1], "One more!"]),
        ],
    )  # fmt: skip
    def test_every_write_does(self, embedded: Store, write: Callable[[Any], Any], expected: list[str]) -> None:
        write(embedded.session("s").messages)
        for each in (embedded, again(embedded)):
            assert texts(each.session("s").messages.list()) == expected
            assert texts(each.session("s").messages.list(limit=9)) == expected
        assert [line["id"] for line in lines(embedded)[:5]] == IDS
        assert document(embedded) == WHOLE

    def test_ids_are_taken(self, embedded: Store) -> None:
        with pytest.raises(AlreadyExistsError):
            embedded.session("s").messages.append("user", "x", id="agent-2")
        assert texts(embedded.session("s").messages.list()) == TEXTS

    def test_after_clear_they_do_not_come_back(self, embedded: Store) -> None:
        messages = embedded.session("s").messages
        assert messages.clear() == 5
        for each in (embedded, again(embedded)):
            assert each.session("s").messages.list() == []
            assert each.session("s").messages.list(limit=3) == []
            assert each.sessions.list()[0].message_count == 0
        assert messages.clear() == 0
        added = messages.append("user", "New")
        assert (added.seq, added.parent_id) == (6, None)
        assert texts(again(embedded).session("s").messages.list()) == ["New"]

    def test_steps(self, embedded: Store) -> None:
        assert embedded.session("s").steps.append("write") == 2
        assert embedded.session("s").steps.append("grep") == 3
        for each in (embedded, again(embedded)):
            found = each.session("s").steps.list()
            assert [(step.number, step.tool_name) for step in found] == [
                (0, "grep"),
                (1, "read"),
                (2, "write"),
                (3, "grep"),
            ]
        assert document(embedded) == WHOLE
        assert embedded.backend.log_stamp(MESSAGES) is None

    def test_a_log_that_is_there_is_the_truth(self, embedded: Store) -> None:
        embedded.backend.append(MESSAGES, lambda _: [b'{"id":"a","role":"user","content":"Other"}'])
        embedded.backend.append(STEPS, lambda _: [b'{"tool_name":"other"}'])
        one = embedded.session("s")
        assert texts(one.messages.list()) == texts(one.messages.list(limit=5)) == ["Other"]
        one.messages.append("user", "x")
        one.steps.append("y")
        assert texts(one.messages.list()) == ["Other", "x"]
        assert [step.tool_name for step in one.steps.list()] == ["other", "y"]
        assert embedded.sessions.list()[0].title == "Other"

    @pytest.mark.parametrize("number", [1, 4])
    def test_what_a_crash_left_of_them_is_completed(self, embedded: Store, number: int) -> None:
        other = Store.in_memory()
        other.backend.change(DOCUMENT, lambda _: orjson.dumps(WHOLE))
        other.session("s").messages.append("user", "x")
        other.session("s").steps.append("x")
        for ref, count in ((MESSAGES, number), (STEPS, 1)):
            Log(embedded.backend, ref).append_lines(
                [b"{" + line.data.partition(b",")[2] for line in other.backend.entries(ref)][:count]
            )
        one = embedded.session("s")
        assert texts(one.messages.list()) == texts(one.messages.list(limit=9)) == TEXTS
        assert (one.steps.count(), [step.number for step in one.steps.slice(1, 9)]) == (2, [1])
        assert embedded.sessions.list()[0].message_count == 5
        one.messages.append("assistant", "Sure")
        one.steps.append("write")
        for each in (embedded, again(embedded)):
            assert texts(each.session("s").messages.list()) == [*TEXTS, "Sure"]
            assert [step.tool_name for step in each.session("s").steps.list()] == ["grep", "read", "write"]
        assert len(lines(embedded)) == 6

    def test_an_empty_conversation(self, store: Store, hold: Callable[[Any], None]) -> None:
        hold({"id": "s", "user_id": "u", "user_messages": [], "agent_responses": []})
        messages = store.session("s").messages
        assert (messages.list(), messages.count(), messages.head(), messages.clear()) == ([], 0, None, 0)
        assert store.backend.log_stamp(MESSAGES) is None
        assert messages.append("user", "Hello").seq == 1


class TestDamage:
    def test_it_is_named_and_hides_nothing(
        self, store: Store, hold: Callable[[Any], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        hold(ODD)
        one = store.session("s")
        with caplog.at_level(logging.WARNING):
            assert texts(one.messages.list()) == ["Hello", "Hi"]
            assert [step.number for step in one.steps.list()] == [2]
        assert "$.user_messages[1]" in caplog.text
        assert store.sessions.list()[0].message_count == 2
        found = "\n".join(str(problem) for problem in [*one.messages.problems(), *one.steps.problems()])
        for place in ("user_messages[0].timestamp", "user_messages[1]", "agent_responses[0]", "trajectory_steps[0]"):
            assert f"$.{place}" in found
        assert "step 1" in found
        assert store.path_of(("sessions", "s")) in found

    def test_steps_keep_their_numbers_in_the_log(self, store: Store, hold: Callable[[Any], None]) -> None:
        hold(ODD)
        steps = store.session("s").steps
        assert steps.append("grep") == 3
        assert [step.number for step in steps.list()] == [2, 3]
        assert len(steps.problems()) == 2

    def test_a_document_that_cannot_be_read(self, store: Store, elsewhere_in: Elsewhere) -> None:
        elsewhere_in(DOCUMENT, b'{"user_messages": [')
        messages = store.session("s").messages
        for attempt in (messages.list, messages.head, lambda: messages.append("user", "x"), messages.clear):
            with pytest.raises(CorruptRecordError):
                attempt()
        assert len(messages.problems()) == 1
        assert lines(store) == []


class TestTwoWriters:
    """What is added to the document when the log counts already is seen by nobody, and so it is named."""

    def test_messages(self, embedded: Store, hold: Callable[[Any], None]) -> None:
        messages = embedded.session("s").messages
        messages.append("assistant", "Sure")
        messages.append("user", "Bye", id="user-x")
        assert messages.problems() == []
        hold({**WHOLE, "agent_responses": [*WHOLE["agent_responses"], {"content": "1"}, {"content": "2"}]})
        for each in (messages, again(embedded).session("s").messages):
            found = [str(problem) for problem in each.problems()]
            assert ["$.agent_responses[2]" in found[0], "$.agent_responses[3]" in found[1]] == [True, True]
            assert len(found) == 2
            assert embedded.path_of(("sessions", "s")) in found[0]
            assert texts(each.list()) == [*TEXTS, "Sure", "Bye"]

    def test_messages_of_a_session_that_began_here(self, store: Store, hold: Callable[[Any], None]) -> None:
        store.sessions.create(id="s")
        store.session("s").messages.append("user", "Mine")
        hold({"id": "s", "user_messages": [{"content": "Theirs"}]})
        (problem,) = store.session("s").messages.problems()
        assert "$.user_messages[0]" in str(problem)
        assert texts(store.session("s").messages.list()) == ["Mine"]

    def test_steps(self, embedded: Store, hold: Callable[[Any], None]) -> None:
        steps = embedded.session("s").steps
        steps.append("write")
        assert steps.problems() == []
        hold({**WHOLE, "trajectory_steps": [*WHOLE["trajectory_steps"], {"tool_name": "write"}]})
        (problem,) = again(embedded).session("s").steps.problems()
        assert "$.trajectory_steps[2]" in str(problem)
        assert steps.count() == 3

    def test_what_was_cleared_is_not_named(self, embedded: Store) -> None:
        messages = embedded.session("s").messages
        messages.clear()
        assert messages.problems() == []
        messages.append("user", "New")
        assert messages.problems() == []

    def test_a_read_warns_once(
        self, store: Store, hold: Callable[[Any], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        hold(WHOLE)
        store.session("s").steps.append("write")
        # A text of its own: what this process has compared is told by it.
        hold({**WHOLE, "trajectory_steps": [*WHOLE["trajectory_steps"], {"tool_name": uuid.uuid4().hex}]})
        with caplog.at_level(logging.WARNING, "fsstate"):
            for _ in range(2):
                assert len(again(store).session("s").steps.list()) == 3
        assert ["$.trajectory_steps[2]" in message for message in caplog.messages] == [True]

    def test_a_document_that_cannot_be_read_hides_no_log(self, embedded: Store, elsewhere_in: Elsewhere) -> None:
        embedded.session("s").steps.append("write")
        elsewhere_in(DOCUMENT, b'{"trajectory_steps": [')
        assert len(again(embedded).session("s").steps.list()) == 3
