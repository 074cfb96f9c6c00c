"""A session's conversation."""

import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import LOG, Ref
from fsstate.conversation import Message
from fsstate.errors import AlreadyExistsError, InvalidValueError, NotFoundError, ValidationError
from fsstate.messages import Messages
from fsstate.store import Store


@pytest.fixture
def messages(store: Store) -> Messages:
    store.sessions.create(id="s")
    return store.session("s").messages


def again(store: Store) -> Messages:
    """The same conversation, seen without what this process remembers of it."""
    return Store.over(store.backend).session("s").messages


def texts(found: list[Message]) -> list[str]:
    return [message.text for message in found]


def lines(store: Store, *rows: bytes) -> None:
    store.backend.append(Ref("sessions/s", "messages", LOG), lambda _: rows)


def test_each_message_goes_under_the_one_before(messages: Messages) -> None:
    first = messages.append("user", "Hello")
    second = messages.append("assistant", "Hi", model="m1", metadata={"k": [1]})
    assert (first.parent_id, second.parent_id) == (None, first.id)
    assert (first.seq, second.seq) == (1, 2)
    assert messages.list() == [first, second]
    assert messages.head() == second
    assert messages.get(first.id) == first
    assert messages.get("nobody") is None
    assert second.model == "m1"
    assert messages.count() == 2


def test_an_empty_conversation(messages: Messages) -> None:
    assert messages.list() == messages.all() == messages.leaves() == messages.list(limit=3) == []
    assert messages.head() is None
    assert messages.count() == messages.clear() == 0


def test_nothing_is_written_for_a_session_that_does_not_exist(store: Store) -> None:
    nobody = store.session("nobody").messages
    with pytest.raises(NotFoundError):
        nobody.append("user", "Hello")
    with pytest.raises(NotFoundError), nobody.stream("assistant"):
        pytest.fail("it began")
    assert nobody.list() == []
    assert store.backend.categories("sessions") == []


def test_branches(store: Store, messages: Messages) -> None:
    root = messages.append("user", "a")
    left = messages.append("assistant", "b")
    right = messages.fork_at(root.id, "assistant", "c")
    under_left = messages.append("user", "d", parent=left.id)
    for each in (messages, again(store)):
        assert texts(each.list()) == ["a", "b", "d"]
        assert texts(each.list(right.id)) == ["a", "c"]
        assert texts(each.leaves()) == ["c", "d"]
        assert texts(each.children(root.id)) == ["b", "c"]
        assert texts(each.children(None)) == ["a"]
        assert texts(each.all()) == ["a", "b", "c", "d"]
        assert each.head() == under_left


def test_the_head_moves(store: Store, messages: Messages) -> None:
    first, _ = messages.append("user", "a"), messages.append("user", "b")
    messages.set_head(first.id)
    messages.set_head(first.id)
    assert len(list(store.backend.entries(messages.log.ref))) == 3
    assert texts(messages.list()) == texts(again(store).list(limit=5)) == ["a"]
    assert messages.append("user", "c").parent_id == first.id
    messages.set_head(None)
    assert messages.list() == again(store).list(limit=2) == []
    assert messages.append("user", "root").parent_id is None
    with pytest.raises(NotFoundError):
        messages.set_head("nobody")


# Somebody edits the log: a line of the message is gone, and what names it stays.
@pytest.mark.parametrize("line", [b'{"head":"gone"}', b'{"update":"gone","status":"rated","head":"gone"}'])
def test_a_head_that_is_no_message_hides_none(store: Store, messages: Messages, line: bytes) -> None:
    first, second = messages.append("user", "a"), messages.append("user", "b")
    messages.set_head(first.id)
    assert messages.problems() == []
    lines(store, line)
    for each in (messages, again(store)):
        assert each.head() == second
        assert each.list() == each.list(limit=9) == [first, second]
        assert ["'gone' is no message" in str(problem) for problem in each.problems()] == [True]
    assert again(store).append("user", "c").parent_id == second.id
    assert again(store).problems() == []


@pytest.mark.parametrize("how", ["with an id", "streamed", "changed before"])
def test_what_is_written_goes_on_from_the_last_message(store: Store, messages: Messages, how: str) -> None:
    last = messages.append("user", "a")
    lines(store, b'{"head":"gone"}')
    if how == "with an id":
        messages.append("user", "b", id="b")
    elif how == "streamed":
        with messages.stream("assistant") as stream:
            stream.write("b")
            assert texts(again(store).list()) == ["a", "b"]
    else:
        messages.update(last.id, status="rated")
        messages.append("user", "b")
    assert texts(messages.list()) == texts(again(store).list()) == ["a", "b"]
    assert messages.list()[1].parent_id == last.id


def test_a_head_may_share_the_flush_with_its_message(store: Store) -> None:
    store.sessions.create(id="s")
    messages = Store.over(store.backend).session("s").messages
    messages.append("user", "a")
    two = b'{"id":"b","role":"user","content":"b"}', b'{"id":"c","role":"user","content":"c","head":"b"}'
    prepared = messages.prepare("user", "d")
    written = store.backend.append_many(prepared.log, [lambda _: two, prepared.compose])
    assert [seqs for seqs in written if isinstance(seqs, range)] == [range(2, 4), range(4, 5)]
    assert prepared.result(range(4, 5)).parent_id == "b"


def test_a_head_without_any_message(store: Store, messages: Messages) -> None:
    lines(store, b'{"head":"gone"}')
    assert messages.list() == []
    assert messages.append("user", "a").parent_id is None


def test_limits(store: Store, messages: Messages) -> None:
    for number in range(5):
        messages.append("user", str(number))
    for limit, expected in ((0, []), (2, ["3", "4"]), (5, list("01234")), (9, list("01234")), (None, list("01234"))):
        assert texts(messages.list(limit=limit)) == texts(again(store).list(limit=limit)) == expected
    assert texts(messages.all(after=2)) == ["2", "3", "4"]
    assert texts(messages.all(after=1, limit=2)) == ["1", "2"]
    for read in (messages.list, messages.all):
        with pytest.raises(ValueError, match="limit must be"):
            read(limit=-1)
    with pytest.raises(NotFoundError):
        messages.list("nobody")


def test_ids_of_your_own(messages: Messages) -> None:
    messages.append("user", "a", id="one")
    with pytest.raises(AlreadyExistsError):
        messages.append("user", "b", id="one")
    assert texts(messages.all()) == ["a"]
    assert messages.append("user", "c", id="two").parent_id == "one"


def test_a_parent_must_exist(messages: Messages) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        messages.append("user", "a", parent="nobody")
    assert messages.count() == 0


def test_what_cannot_be_stored_is_refused(messages: Messages) -> None:
    for content in ({1, 2}, float("nan"), b"x"):
        with pytest.raises(InvalidValueError):
            messages.append("user", content)
    assert messages.count() == 0


def test_what_was_given_and_what_was_got_may_be_changed(messages: Messages) -> None:
    content: list[Any] = [{"type": "text", "text": "a"}]
    got = messages.append("user", content)
    content[0]["text"] = got.content[0]["text"] = "changed"
    messages.list()[0].content[0]["text"] = "changed"
    assert texts(messages.list()) == ["a"]


def test_text_is_what_the_blocks_say() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "x"}, {"type": "text", "text": "b"}, "c"]
    assert Message(id="x", role="user", content=blocks).text == "a\nb\nc"
    assert Message(id="x", role="user", content=None).text == ""


def test_import_keeps_ids_parents_times_and_order(store: Store, messages: Messages) -> None:
    late, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    stored = messages.extend(
        [
            Message(id="b", role="user", content="b", parent_id="gone", created_at=late),
            Message(id="c", role="assistant", content="c", parent_id="d", created_at=early, steps=(0, 3)),
            Message(id="d", role="user", content="d", parent_id=None, tool_call_id="t", status="odd"),
        ]
    )
    for each in (messages, again(store)):
        assert each.all() == stored
        assert [message.parent_id for message in each.all()] == ["gone", "d", None]
        assert texts(each.list("b")) == ["b"]
        assert texts(each.list("c")) == ["d", "c"]
        assert each.get("c") == stored[1]
    assert stored[1].steps == (0, 3)
    assert stored[2].created_at is not None
    with pytest.raises(AlreadyExistsError):
        messages.extend([Message(id="e", role="user"), Message(id="b", role="user")])
    with pytest.raises(AlreadyExistsError):
        messages.extend([Message(id="e", role="user"), Message(id="e", role="user")])
    assert messages.extend([]) == []
    assert messages.count() == 3


def test_a_branch_whose_parents_come_later_is_found_by_its_end_too(store: Store, messages: Messages) -> None:
    messages.extend(
        [Message(id="a", role="user", content="a", parent_id="b"), Message(id="b", role="user", content="b")]
    )
    messages.set_head("a")
    assert texts(again(store).list(limit=2)) == ["b", "a"]


def test_a_message_changes(store: Store, messages: Messages) -> None:
    first, second = messages.append("user", "a"), messages.append("user", "b")
    changed = messages.update(first.id, content="A", status="edited", metadata={"k": 1}, model="m")
    assert (changed.content, changed.status, changed.metadata, changed.model) == ("A", "edited", {"k": 1}, "m")
    for each in (messages, again(store)):
        assert each.list() == each.list(limit=2) == [changed, second]
    assert messages.append("user", "c").parent_id == second.id
    with pytest.raises(NotFoundError):
        messages.update("nobody", content="x")


def test_text_is_added(store: Store, messages: Messages) -> None:
    message = messages.append("assistant", "")
    messages.append_text(message.id, "Hel")
    assert messages.append_text(message.id, "lo").status == "streaming"
    assert again(store).list(limit=1)[0].text == "Hello"
    assert messages.update(message.id, status="complete").text == "Hello"
    blocks = messages.append("assistant", [{"type": "image"}])
    messages.append_text(blocks.id, "a")
    assert messages.append_text(blocks.id, "b").content == [{"type": "image"}, {"type": "text", "text": "ab"}]


def test_clear_removes_all_and_reuses_no_seq(store: Store, messages: Messages) -> None:
    first, _, last = [messages.append("user", text) for text in "abc"]
    assert messages.require(first.id) == first
    messages.set_head(first.id)
    assert messages.clear() == 3, "what moved the head is no message"
    with pytest.raises(NotFoundError, match=first.id):
        messages.require(first.id)
    assert messages.list() == again(store).list(limit=3) == []
    message = messages.append("user", "d")
    assert message.seq > last.seq
    assert message.parent_id is None


def test_lines_of_other_hands(store: Store, messages: Messages, caplog: pytest.LogCaptureFixture) -> None:
    lines(
        store,
        b'{"id":"a","role":"user","content":"a","parent":"b"}',
        b'{"id":"b","role":"user","content":"b","parent":"a","unknown":1}',
        b'{"id":"c","content":"no role"}',
        b'{"id":"b","role":"user","content":"twice"}',
        b'{"id":"d","role":"user","content":"d","parent":"b","at":"2026-01-01 00:00:00"}',
        b'{"update":"nobody","content":"x"}',
        b'{"strange":true}',
    )
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert texts(messages.all()) == ["a", "b", "d"]
    assert "role" in caplog.text
    assert len(messages.problems()) == 1
    assert texts(messages.list("a")) == ["b", "a"]
    assert texts(messages.list()) == texts(again(store).list(limit=9)) == ["a", "b", "d"]
    assert messages.get("a") == Message(id="a", role="user", content="a", parent_id="b", seq=1)
    assert messages.append("user", "e").parent_id == "d"


def test_a_bad_last_line_does_not_stop_the_conversation(store: Store, messages: Messages) -> None:
    first = messages.append("user", "a")
    lines(store, b'{"id":"x","id":"y","role":"user"}')
    message = messages.append("user", "b")
    assert message.parent_id == first.id
    assert messages.append("user", "c", id="mine").parent_id == message.id
    assert texts(messages.list()) == ["a", "b", "c"]


def test_threads_build_one_line_of_messages(store: Store, messages: Messages) -> None:
    def talk(number: int) -> None:
        for index in range(5):
            messages.append("user", f"{number}-{index}")
            messages.append("user", "own", id=f"{number}-{index}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages.list()) == len(again(store).list()) == messages.count() == 40
    assert [message.seq for message in messages.all()] == list(range(1, 41))


def test_of_those_who_want_one_id_one_gets_it(messages: Messages) -> None:
    taken: list[int] = []

    def take(number: int) -> None:
        try:
            messages.append("user", str(number), id="mine")
        except AlreadyExistsError:
            taken.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 5
    assert messages.count() == 1


def test_prepared_appends_share_a_flush(store: Store, messages: Messages) -> None:
    prepared = [messages.prepare("user", str(number)) for number in range(3)]
    outcomes = store.backend.append_many(prepared[0].log, [each.compose for each in prepared], owner=prepared[0].owner)
    found = [each.result(seqs) for each, seqs in zip(prepared, outcomes, strict=True) if isinstance(seqs, range)]
    assert messages.list() == found
    assert texts(found) == ["0", "1", "2"]


def test_a_role_is_never_empty(messages: Messages) -> None:
    with pytest.raises(InvalidValueError, match="role"):
        messages.append("", "Hello")
    assert messages.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 5),
        ("model", 3),
        ("status", 3),
        ("tool_call_id", 3),
        ("steps", ("a", "b")),
        ("steps", 5),
        ("created_at", "2020"),
        ("created_at", datetime(2020, 1, 1)),  # noqa: DTZ001 - without a zone, which is the point
        ("metadata", 5),
    ],
)
def test_a_refused_append_writes_nothing(messages: Messages, field: str, value: Any) -> None:
    with pytest.raises((ValidationError, InvalidValueError), match=rf"\$\.{field}"):
        messages.append("user", "x", **{field: value})
    assert (messages.log.count(), messages.problems()) == (0, [])


def test_a_role_is_a_text(messages: Messages) -> None:
    first = messages.append("user", "x")
    for attempt in (
        lambda: messages.append(3, "x"),  # type: ignore[arg-type]
        lambda: messages.fork_at(first.id, 7, "x"),  # type: ignore[arg-type]
        lambda: messages.stream(3),  # type: ignore[arg-type]
        lambda: messages.extend([Message(id="good", role="user"), Message(id="bad", role=3)]),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValidationError, match=r"\$\.role: Expected `str`, got `int`"):
            attempt()
    assert messages.all() == [first]
    assert messages.log.count() == 1


def test_a_refused_change_leaves_the_message_as_it_is(messages: Messages) -> None:
    first = messages.append("user", "x")
    changes: list[dict[str, Any]] = [{"status": 3}, {"model": 3}, {"metadata": "abc"}]
    for change in changes:
        with pytest.raises((ValidationError, InvalidValueError), match=rf"\$\.{next(iter(change))}"):
            messages.update(first.id, **change)
    deltas: list[Any] = [5, None, [], {}]
    for delta in deltas:
        with pytest.raises(InvalidValueError, match="expected a text"):
            messages.append_text(first.id, delta)
    with pytest.raises(ValidationError, match=r"\$\.status"):
        messages.append_text(first.id, "y", status=3)  # type: ignore[arg-type]
    assert messages.all() == [first]
    assert messages.log.count() == 1


def test_a_message_that_a_hand_spoilt_can_be_mended(store: Store, messages: Messages) -> None:
    lines(store, b'{"id":"a","role":"user","content":"x","status":3}')
    with pytest.raises(ValidationError):
        messages.update("a", model="m")
    assert messages.update("a", status="complete").status == "complete"
    assert texts(messages.list()) == ["x"]


def test_a_session_that_is_missing_has_nothing_to_remove(store: Store) -> None:
    gone = store.session("gone")
    assert (gone.messages.clear(), gone.events.trim(before=3)) == (0, 0)
    assert store.sessions.ids() == []
