"""Messages that are written piece by piece."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.conversation import Message
from fsstate.errors import (
    AlreadyExistsError,
    InvalidNameError,
    InvalidValueError,
    LockTimeoutError,
    NotFoundError,
    ValidationError,
)
from fsstate.messages import Messages
from fsstate.store import Store


@pytest.fixture
def messages(store: Store) -> Messages:
    store.sessions.create(id="s")
    return store.session("s").messages


def told(found: list[Message]) -> list[tuple[str, str]]:
    return [(message.text, message.status) for message in found]


def stream_logs(store: Store) -> list[str]:
    return store.backend.names("sessions/s/streams", LOG)


def abandon(store: Store, name: str, *pieces: bytes, parent: str | None = None) -> None:
    """What a writer that died leaves behind."""
    under = b'"parent":"%s",' % parent.encode() if parent else b""
    rows = (b'{"role":"assistant",' + under + b'"at":"2026-01-01T00:00:00.000000Z"}', *pieces)
    store.backend.append(Ref("sessions/s/streams", name, LOG), lambda _: rows)


def test_readers_see_what_is_written_so_far(store: Store, messages: Messages) -> None:
    question = messages.append("user", "Hello?")
    with messages.stream("assistant", model="m", metadata={"a": 1}) as m:
        assert told(messages.list()) == [("Hello?", "complete"), ("", "streaming")]
        m.write("Hel")
        m.write("")
        m.write("lo")
        assert m.text == "Hello"
        reader = Store.over(store.backend).session("s").messages
        for each in (messages, reader):
            assert told(each.list()) == told(each.list(limit=2)) == [("Hello?", "complete"), ("Hello", "streaming")]
            assert told(each.leaves()) == [("Hello", "streaming")]
            head = each.head()
            assert head == each.get(m.id)
            assert head is not None
            assert (head.parent_id, head.model, head.metadata, head.seq) == (question.id, "m", {"a": 1}, 0)
            assert each.count() == 2
        m.metadata["b"] = 2
    assert m.message is not None
    assert messages.list()[1] == m.message
    assert (m.message.text, m.message.status, m.message.metadata) == ("Hello", "complete", {"a": 1, "b": 2})
    assert m.message.seq == 2
    assert stream_logs(store) == []
    assert len(list(store.backend.entries(messages.log.ref))) == 2


def test_an_exception_leaves_an_interrupted_message(store: Store, messages: Messages) -> None:
    def pieces() -> Iterator[str]:
        yield "half"
        raise ConnectionError

    def answer() -> None:
        with messages.stream("assistant") as m:
            for piece in pieces():
                m.write(piece)

    with pytest.raises(ConnectionError):
        answer()
    assert told(messages.list()) == [("half", "interrupted")]
    assert stream_logs(store) == []


def test_content_may_take_the_place_of_the_text(messages: Messages) -> None:
    with messages.stream("assistant") as m:
        m.write("Hi")
        m.content = [{"type": "text", "text": "Hi"}, {"type": "tool_use"}]
    assert messages.list()[0].content == m.content


def test_nothing_is_written_outside_the_block(messages: Messages) -> None:
    stream = messages.stream("assistant")
    for act in (lambda: stream.write("x"), stream.close):
        with pytest.raises(ValueError, match="not being written"):
            act()
    assert messages.list() == []


def test_a_dead_writers_message_is_interrupted_and_settled_by_the_next_append(store: Store, messages: Messages) -> None:
    question = messages.append("user", "?")
    abandon(store, "dead", b'{"text":"ha"}', b'{"text":"lf"}', parent=question.id)
    assert told(messages.list()) == [("?", "complete"), ("half", "interrupted")]
    assert stream_logs(store) == ["dead"]
    following = messages.append("user", "go on")
    assert following.parent_id == "dead"
    assert told(messages.list()) == [("?", "complete"), ("half", "interrupted"), ("go on", "complete")]
    assert stream_logs(store) == []
    assert Store.over(store.backend).session("s").messages.list() == messages.list()


def test_settling_leaves_the_head_where_it_went_meanwhile(store: Store, messages: Messages) -> None:
    first = messages.append("user", "1")
    second = messages.append("user", "2")
    abandon(store, "dead", parent=first.id)
    assert told(messages.list()) == [("1", "complete"), ("2", "complete")]
    assert messages.append("user", "3").parent_id == second.id
    assert messages.get("dead") is not None
    assert [message.text for message in messages.list()] == ["1", "2", "3"]


@pytest.mark.parametrize("act", ["append", "extend", "set_head", "stream", "clear"])
def test_every_write_settles(store: Store, messages: Messages, act: str) -> None:
    abandon(store, "dead", b'{"text":"x"}')
    acts: dict[str, Callable[[], Any]] = {
        "append": lambda: messages.append("user", "a"),
        "extend": lambda: messages.extend([Message(id="a", role="user")]),
        "set_head": lambda: messages.set_head("dead"),
        "stream": lambda: messages.stream("assistant").__enter__().close(),
        "clear": messages.clear,
    }
    acts[act]()
    assert stream_logs(store) == []
    assert (messages.get("dead") is None) == (act == "clear")


def test_a_crash_between_append_and_removal_shows_the_message_once(store: Store, messages: Messages) -> None:
    with messages.stream("assistant", id="m") as m:
        m.write("x")
    abandon(store, "m", b'{"text":"x"}')
    assert told(messages.all()) == [("x", "complete")]
    messages.append("user", "y")
    assert told(messages.all()) == [("x", "complete"), ("y", "complete")]
    assert stream_logs(store) == []


def test_a_stream_that_never_began_is_no_message(store: Store, messages: Messages) -> None:
    store.backend.append(Ref("sessions/s/streams", "torn", LOG), lambda _: [b'{"text":"x"}'])
    assert messages.all() == []
    assert store.sessions.list()[0].message_count == 0
    messages.append("user", "a")
    assert stream_logs(store) == []
    assert messages.count() == 1


def test_an_append_during_a_stream_goes_under_it(messages: Messages) -> None:
    messages.append("user", "1")
    with messages.stream("assistant") as m:
        m.write("2")
        following = messages.append("user", "3")
        assert following.parent_id == m.id
        assert [message.text for message in messages.list()] == ["1", "2", "3"]
    assert [message.text for message in messages.list()] == ["1", "2", "3"]
    assert messages.append("user", "4").parent_id == following.id


def test_another_answer_begins_a_branch(messages: Messages) -> None:
    question = messages.append("user", "?")
    messages.append("assistant", "one")
    with messages.stream("assistant", parent=question.id) as m:
        m.write("two")
        assert [message.text for message in messages.list()] == ["?", "two"]
    assert [message.text for message in messages.list()] == ["?", "two"]
    with pytest.raises(NotFoundError), messages.stream("assistant", parent="nobody"):
        pytest.fail("it began")
    assert messages.count() == 3


def test_two_at_once(store: Store, messages: Messages) -> None:
    question = messages.append("user", "?")
    with messages.stream("assistant", parent=question.id) as one, messages.stream("a", parent=question.id) as two:
        one.write("one")
        two.write("two")
        assert len(messages.leaves()) == 2
    assert [message.text for message in messages.list()] in (["?", "one"], ["?", "two"])
    assert stream_logs(store) == []
    assert messages.count() == 3


def test_ids(store: Store, messages: Messages) -> None:
    messages.append("user", "a", id="taken")
    with pytest.raises(AlreadyExistsError), messages.stream("assistant", id="taken"):
        pytest.fail("it began")
    with pytest.raises(InvalidNameError):
        messages.stream("assistant", id="a/b")
    assert stream_logs(store) == []
    assert messages.count() == 1


def test_the_session_stays_while_a_message_is_written(store: Store, messages: Messages) -> None:
    held = store.backend
    with messages.stream("assistant"), pytest.raises(LockTimeoutError):
        held.delete_with(Ref("sessions", "s", ".json"), "sessions/s", lambda: True, timeout=0)
    assert store.sessions.delete("s")


def test_a_forgotten_stream_is_interrupted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.sessions.create(id="s")
    stream = store.session("s").messages.stream("assistant")
    stream.open()
    stream.write("x")
    del stream
    gc.collect()
    with Store(tmp_path) as other:
        store.close()
        assert told(other.session("s").messages.list())[0][0] == "x"


def test_only_text_is_written(messages: Messages) -> None:
    with messages.stream("assistant") as m:
        pieces: list[Any] = [5, None, [], b"x"]
        for piece in pieces:
            with pytest.raises(InvalidValueError, match="expected a text"):
                m.write(piece)
        m.write("good")
    assert told(messages.all()) == [("good", "complete")]


def test_a_message_that_does_not_fit_is_refused_at_its_beginning_and_at_its_end(messages: Messages) -> None:
    with pytest.raises(ValidationError, match=r"\$\.model"):
        messages.stream("assistant", model=3)  # type: ignore[arg-type]
    m = messages.stream("assistant")
    m.open()
    m.write("kept")
    m.model = 3  # type: ignore[assignment]
    with pytest.raises(ValidationError, match=r"\$\.model"):
        m.close()
    assert messages.log.count() == 0
    messages.settle()
    assert told(messages.all()) == [("kept", "interrupted")]
