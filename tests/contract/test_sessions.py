"""Sessions: their documents, lists, labels, forks and deletion."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate.backends.base import JSON, LOG, Ref
from fsstate.errors import (
    AlreadyExistsError,
    AmbiguousIdError,
    CorruptRecordError,
    InvalidNameError,
    InvalidValueError,
    LockTimeoutError,
    NotFoundError,
)
from fsstate.sessions import Session, Sessions
from fsstate.store import Store
from fsstate.summaries import title_of
from tests.contract.blocking import Blocking
from tests.contract.conftest import Elsewhere, FakeClock


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return store.sessions


def ids(found: list[Any]) -> list[str]:
    return [each.id for each in found]


def written(store: Store, name: str) -> bytes:
    blob = store.backend.read(Ref("sessions", name, JSON))
    assert blob is not None
    return blob.data


# One session


def test_create_and_get(sessions: Sessions) -> None:
    session = sessions.create(user_id="u1", title="T", project_id="p", metadata={"a": [1]}, label="L")
    assert sessions.get(session.id) == sessions[session.id] == sessions.require(session.id) == session
    assert (session.user_id, session.title, session.project_id, session.label) == ("u1", "T", "p", "L")
    assert (session.status, session.metadata) == ("active", {"a": [1]})
    assert session.id in sessions
    assert (len(sessions), list(sessions), sessions.all()) == (1, [session.id], [session])
    assert sessions.get("nobody") is None
    with pytest.raises(NotFoundError):
        sessions.require("nobody")


def test_ids(sessions: Sessions) -> None:
    sessions.create(id="one")
    with pytest.raises(AlreadyExistsError):
        sessions.create(id="one")
    for name in ("", "a/b", "..", "x.json"):
        with pytest.raises(InvalidNameError):
            sessions.create(id=name)
    first, second = sessions.create(), sessions.create()
    assert first.id < second.id
    assert sessions.count() == 3


def test_the_file_is_short_and_plain(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one", user_id="u1", created_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert written(store, "one").decode() == (
        '{\n  "id": "one",\n  "user_id": "u1",\n'
        '  "created_at": "2026-01-02T00:00:00.000000Z",\n  "updated_at": "2026-01-02T00:00:00.000000Z"\n}\n'
    )


def test_get_or_create(sessions: Sessions) -> None:
    made = sessions.get_or_create("one", user_id="u1", title="T")
    assert sessions.get_or_create("one", user_id="u2") == made
    new = sessions.get_or_create(user_id="u3")
    assert (new.user_id, sessions[new.id]) == ("u3", new)
    assert made.user_id == "u1"


def test_update_stamps_what_changed_and_only_that(store: Store, sessions: Sessions) -> None:
    before = sessions.create(id="one")
    after = sessions.update("one", lambda session: setattr(session, "title", "new"))
    assert (after.title, sessions["one"]) == ("new", after)
    assert before.updated_at is not None
    assert after.updated_at is not None
    assert after.updated_at > before.updated_at
    data = written(store, "one")
    assert sessions.update("one", lambda _: None) == after
    assert written(store, "one") == data
    replaced = sessions.update("one", lambda _: Session(id="other", user_id="u"))
    assert (replaced.id, replaced.user_id, replaced.title) == ("one", "u", None)
    with pytest.raises(NotFoundError):
        sessions.update("nobody", lambda _: None)


def test_edit(store: Store, sessions: Sessions) -> None:
    before = sessions.create(id="one")
    with sessions.edit("one") as session:
        session.metadata["a"] = 1
    assert sessions["one"].metadata == {"a": 1}
    assert sessions["one"].updated_at != before.updated_at
    data = written(store, "one")
    with sessions.edit("one"):
        pass
    with pytest.raises(ZeroDivisionError), sessions.edit("one") as session:
        session.metadata["never"] = 1 / 0
    assert written(store, "one") == data
    with pytest.raises(NotFoundError), sessions.edit("nobody"):
        pytest.fail("it began")


def test_an_edit_meets_an_editor(store: Store, sessions: Sessions, elsewhere_in: Elsewhere) -> None:
    sessions.create(id="one", metadata={"a": 1})
    with sessions.edit("one") as session:
        elsewhere_in(Ref("sessions", "one", JSON), written(store, "one").replace(b'"a": 1', b'"a": 1,\n    "b": 2'))
        session.title = "mine"
    found = sessions["one"]
    assert (found.title, found.metadata) == ("mine", {"a": 1, "b": 2})


def test_what_others_put_into_the_file_survives(store: Store, sessions: Sessions, elsewhere_in: Elsewhere) -> None:
    theirs = b'{\n  "custom": {"x": [1]},\n  "created_at": 1767225600,\n  "title": "T"\n}\n'
    elsewhere_in(Ref("sessions", "foreign", JSON), theirs)
    session = sessions["foreign"]
    assert (session.id, session.title, session.created_at) == ("foreign", "T", datetime(2026, 1, 1, tzinfo=UTC))
    assert sessions.update("foreign", lambda _: None).updated_at is None
    assert written(store, "foreign") == theirs or b'"custom"' in written(store, "foreign")
    sessions.move("foreign", "p")
    assert b'"custom": {' in written(store, "foreign")
    assert sessions.list()[0].project_id == "p"


def test_what_was_given_may_be_changed(sessions: Sessions) -> None:
    metadata = {"deep": [1]}
    session = sessions.create(id="one", metadata=metadata)
    metadata["deep"].append(2)
    session.metadata["deep"].append(3)
    sessions["one"].metadata["deep"].append(4)
    assert sessions["one"].metadata == {"deep": [1]}


# Deletion


def test_delete_takes_all_that_belongs_to_it(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one")
    one = store.session("one")
    one.messages.append("user", "Hello")
    one.events.append("started")
    one.tool_calls.create("grep")
    one.steps.append("grep")
    one.collection().put("goal", {"a": 1})
    one.collection("checkpoints").put("latest", {"a": 1})
    one.markdown().put("notes", "text")
    assert sessions.delete("one")
    assert not sessions.delete("one")
    assert "one" not in sessions
    for read in (one.messages.list, one.events.read, one.tool_calls.list, one.steps.list):
        assert read() == []
    assert store.categories("sessions") == []
    for write in (lambda: one.messages.append("user", "x"), lambda: one.collection().put("goal", {})):
        with pytest.raises(NotFoundError):
            write()
    sessions.create(id="one")
    assert one.messages.append("user", "new").seq == 1


def test_a_new_session_inherits_nothing_of_a_deletion_that_crashed(store: Store, sessions: Sessions) -> None:
    store.backend.append(Ref("sessions/one", "messages", LOG), lambda _: [b'{"id":"a","role":"user","content":"old"}'])
    assert "one" not in sessions
    assert ids(sessions.list()) == []
    sessions.create(id="one")
    assert store.session("one").messages.list() == []


# Changes with a name


def test_archive(sessions: Sessions) -> None:
    sessions.create(id="one")
    archived = sessions.archive("one")
    assert sessions.archive("one").archived_at == archived.archived_at
    assert ids(sessions.list()) == []
    assert ids(sessions.list(archived=True)) == ids(sessions.list(archived=None)) == ["one"]
    assert sessions.list(archived=True)[0].archived
    assert sessions.unarchive("one").archived_at is None
    assert ids(sessions.list()) == ["one"]


def test_end_keeps_the_first_time(sessions: Sessions) -> None:
    sessions.create(id="one")
    ended = sessions.end("one")
    assert ended.status == "ended"
    assert ended.ended_at is not None
    assert sessions.end("one") == ended


def test_move(sessions: Sessions) -> None:
    sessions.create(id="one", metadata={"project_ids": "a, b"})
    assert sessions.list()[0].project_id == "a"
    sessions.move("one", "p")
    assert ids(sessions.list(project_id="p")) == ["one"]
    assert sessions["one"].metadata == {}
    sessions.create(id="two", metadata={"project_id": "p", "project_ids": "a", "k": 1})
    for name in ("one", "two"):
        sessions.move(name, None)
        summary = sessions.summary(name)
        assert summary is not None
        assert summary.project_id is None
    assert sessions["two"].metadata == {"k": 1}
    # A list is none of the old forms, and no project: it is somebody's own.
    sessions.create(id="three", metadata={"project_ids": ["a"]})
    assert sessions.move("three", "p").metadata == {"project_ids": ["a"]}


def test_memory_mode(store: Store, sessions: Sessions) -> None:
    assert sessions.create(id="one").memory_mode is None
    assert sessions.set_memory_mode("one", "disabled").memory_mode == sessions["one"].memory_mode == "disabled"
    assert b'"memory_mode": "disabled"' in written(store, "one")
    assert sessions.set_memory_mode("one", None).memory_mode is None
    with pytest.raises(NotFoundError):
        sessions.set_memory_mode("nobody", "disabled")


def test_labels_name_one_session(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    first, second = sessions.create(label=" work "), sessions.create()
    assert first.label == "work"
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert sessions.set_label(second.id, "work").label == "work"
    assert "moves" in caplog.text
    assert sessions[first.id].label is None
    assert sessions.find("work").id == second.id
    assert sessions.set_label(second.id, None).label is None
    with pytest.raises(InvalidValueError, match="empty"):
        sessions.set_label(second.id, "  ")
    with pytest.raises(InvalidValueError, match="empty"):
        sessions.create(id="third", label="  ")
    assert "third" not in sessions


def test_only_set_label_gives_a_label(sessions: Sessions) -> None:
    sessions.create(id="one", label="work")
    sessions.create(id="two", label="play")
    for label in ("work", "  "):
        with pytest.raises(InvalidValueError, match="set_label"):
            sessions.update("two", lambda session, label=label: setattr(session, "label", label))  # type: ignore[misc]
        with pytest.raises(InvalidValueError, match=r"\$\.label"), sessions.edit("two") as session:
            session.label = label
    assert sessions["two"].label == "play"
    with sessions.edit("two") as session:
        session.title = "T"
    assert sessions.update("two", lambda session: setattr(session, "label", None)).label is None


def test_labels_that_a_file_has_already(sessions: Sessions, elsewhere_in: Elsewhere) -> None:
    for name in ("one", "two"):
        elsewhere_in(Ref("sessions", name, JSON), b'{"label": " work "}')
        assert sessions.update(name, lambda session: setattr(session, "title", "T")).label == " work "
        sessions.set_label(name, None)
        elsewhere_in(Ref("sessions", name, JSON), b'{"label": "work"}')
    with pytest.raises(AmbiguousIdError, match="give an id"):
        sessions.find("work")
    assert sessions.set_label("two", "work") == sessions.find("work")


def test_find(sessions: Sessions) -> None:
    sessions.create(id="abcdef-1", label="mine")
    sessions.create(id="abcdef-2")
    sessions.create(id="abcdef")
    assert sessions.find("abcdef").id == "abcdef"
    assert sessions.find("abcdef-2").id == "abcdef-2"
    assert sessions.find("mine").id == "abcdef-1"
    sessions.delete("abcdef")
    with pytest.raises(AmbiguousIdError) as caught:
        sessions.find("abcdef")
    assert caught.value.matches == ["abcdef-1", "abcdef-2"]
    for needle in ("abcde", "nobody", "", "a/b"):
        with pytest.raises(NotFoundError):
            sessions.find(needle)


def test_titles_by_id(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one", title="One")
    sessions.create(id="two")
    store.session("two").messages.append("user", "no title of the document's")
    assert sessions.titles() == {"one": "One", "two": None}
    assert sessions.titles(["two", "nobody", "one"]) == {"two": None, "nobody": None, "one": "One"}
    assert sessions.titles([]) == {}


def test_a_title_in_the_metadata(sessions: Sessions) -> None:
    sessions.create(id="one", metadata={"title": "Theirs"})
    sessions.create(id="two", title="Own", metadata={"title": "Theirs"})
    assert sessions.titles() == sessions.titles(["one", "two"]) == {"one": "Theirs", "two": "Own"}
    assert sessions.find_title("theirs") == sessions["one"]


def test_a_blank_title_is_none(store: Store, sessions: Sessions) -> None:
    assert sessions.create(id="one", title="   ").title is None
    store.session("one").messages.append("user", "Hello")
    assert sessions.fork("one", title="").title is None
    sessions.update("one", lambda session: setattr(session, "title", " "))
    assert sessions.list(order_by="created_at")[0].title == "Hello"
    assert sessions.titles(["one"]) == {"one": None}


def test_find_title(sessions: Sessions, elsewhere_in: Elsewhere) -> None:
    for name, title in (("one", "Große Reise"), ("two", "GROSSE REISE"), ("three", "Reise"), ("four", None)):
        sessions.create(id=name, title=title)
    elsewhere_in(Ref("sessions", "timeless", JSON), '{"title": "große reise"}'.encode())
    elsewhere_in(Ref("sessions", "dated", JSON), b'{"title": "reise", "created_at": "2030-01-01"}')
    for title, found in (("grosse reise", "two"), ("reise", "dated")):
        session = sessions.find_title(title)
        assert session is not None
        assert session.id == found
    renewed = sessions.move("one", "p")
    assert sessions.find_title("große reise") == renewed
    assert sessions.find_title("Reis") is sessions.find_title("") is None


@pytest.mark.parametrize("data", [b'{"title": "T", ', b'{"title": "T", "schema_version": 2}'])
def test_a_bad_file_has_no_title_and_takes_none_from_others(
    sessions: Sessions, elsewhere_in: Elsewhere, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    good = sessions.create(id="good", title="T")
    elsewhere_in(Ref("sessions", "broken", JSON), data)
    for ask in (lambda: sessions.titles(["broken", "good"]), sessions.titles, lambda: sessions.find_title("t")):
        caplog.clear()
        found = ask()
        assert "broken.json" in caplog.text
        assert found in ({"broken": None, "good": "T"}, {"good": "T"}, good)


def test_fork(store: Store, sessions: Sessions) -> None:
    sessions.create(id="old", user_id="u", project_id="p")
    messages = store.session("old").messages
    kept = [messages.append("user", "a"), messages.append("assistant", "b")]
    messages.append("user", "c")
    fork = sessions.fork("old", at=kept[1].id, title="T", metadata={"k": 1})
    assert (fork.parent_id, fork.parent_message_id, fork.user_id, fork.project_id) == ("old", kept[1].id, "u", "p")
    assert sessions[fork.id] == fork
    assert store.session(fork.id).messages.list() == []
    copy = sessions.fork("old", at=kept[1].id, new_id="copy", copy_messages=True)
    assert [(each.id, each.content, each.parent_id) for each in store.session("copy").messages.list()] == [
        (each.id, each.content, each.parent_id) for each in kept
    ]
    assert set(ids(sessions.list(parent_id="old"))) == {fork.id, copy.id}
    assert sessions.fork("old").parent_message_id == messages.list()[-1].id
    with pytest.raises(NotFoundError):
        sessions.fork("old", at="nobody")
    with pytest.raises(NotFoundError):
        sessions.fork("nobody")


def test_a_fork_is_in_the_project_of_its_parent_s_metadata(sessions: Sessions) -> None:
    sessions.create(id="old", metadata={"project_ids": "a, b"})
    assert sessions.fork("old").project_id == "a"


def test_a_copy_has_the_steps_that_its_messages_point_at(store: Store, sessions: Sessions) -> None:
    sessions.create(id="old")
    old = store.session("old")
    for name in "abcdef":
        old.steps.append(name, note=name)
    first = old.messages.append("assistant", "x", steps=(1, 3))
    second = old.messages.append("assistant", "y", steps=(3, 5))
    old.messages.fork_at(first.id, "assistant", "z", steps=(5, 6))
    sessions.fork("old", at=second.id, new_id="copy", copy_messages=True)
    copy = store.session("copy")
    assert copy.steps.list() == old.steps.slice(0, 5)
    assert [each.steps for each in copy.messages.list()] == [(1, 3), (3, 5)]
    old.steps.log.trim(before=3)
    sessions.fork("old", at=second.id, new_id="trimmed", copy_messages=True)
    copy = store.session("trimmed")
    ranges = [each.steps for each in copy.messages.list()]
    assert [[step.tool_name for step in copy.steps.slice(*each)] for each in ranges if each] == [["c"], ["d", "e"]]
    sessions.fork("old", new_id="empty")
    assert store.session("empty").steps.count() == 0
    sessions.create(id="stepless")
    store.session("stepless").messages.append("user", "x")
    sessions.fork("stepless", new_id="also", copy_messages=True)
    assert store.backend.names("sessions/also", LOG) == ["messages"]


# Lists


def test_a_summary(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one", user_id="u", metadata={"mode": "x"})
    messages = store.session("one").messages
    messages.append("system", "be kind")
    messages.append("user", "\n  How do I?  \nThank you")
    messages.append("assistant", "So.", model="m1")
    last = messages.append("user", "Ah")
    summary = sessions.summary("one")
    assert summary is not None
    assert sessions.list() == [summary]
    assert (summary.title, summary.message_count, summary.last_model) == ("How do I?", 4, "m1")
    assert (summary.user_id, summary.archived, summary.metadata) == ("u", False, {"mode": "x"})
    assert summary.updated_at == last.created_at
    assert sessions.summary("nobody") is None
    event_time = store.session("one").events.append("x") and store.session("one").events.tail(1)[0].at
    assert sessions.list()[0].updated_at == event_time


def test_titles(sessions: Sessions) -> None:
    sessions.create(id="one", metadata={"title": "theirs"})
    assert sessions.list()[0].title == "theirs"
    sessions.update("one", lambda session: setattr(session, "title", "own"))
    assert sessions.list()[0].title == "own"
    assert title_of("x" * 60) == "x" * 60
    assert title_of("x" * 61) == "x" * 59 + "…"
    assert title_of(" \n\t\n") is title_of(None) is None


def test_a_list_sees_every_change(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one")
    for count in range(1, 4):
        store.session("one").messages.append("user", "x")
        assert sessions.list()[0].message_count == count
    with store.session("one").messages.stream("assistant"):
        assert sessions.list()[0].message_count == 4
    store.session("one").messages.clear()
    assert sessions.list()[0].message_count == 0


def test_filters(sessions: Sessions, clock: FakeClock) -> None:
    times = []
    for number in range(4):
        clock.advance(days=1)
        user = "even" if number % 2 == 0 else "odd"
        status = "active" if number < 2 else "waiting"
        made = sessions.create(id=f"s{number}", user_id=user, status=status, metadata={"n": number, "k": {"x": 1}})
        times.append(made.created_at)

    def found(**wanted: Any) -> list[str]:
        return ids(sessions.list(order_by="created_at", **wanted))

    assert found() == ["s0", "s1", "s2", "s3"]
    assert found(user_id="even") == ["s0", "s2"]
    assert found(status="waiting") == ["s2", "s3"]
    assert found(user_id="even", status="waiting") == ["s2"]
    assert found(metadata={"n": 1}) == ["s1"]
    assert found(metadata={"n": 1, "k": {"x": 2}}) == []
    assert found(metadata={"absent": None}) == []
    assert found(created_after=times[1]) == ["s1", "s2", "s3"]
    assert found(created_before=times[1]) == ["s0", "s1"]
    assert found(created_after=times[1], created_before=times[2]) == ["s1", "s2"]
    with pytest.raises(ValueError, match="created_after needs a zone"):
        found(created_after=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    sessions.move("s0", "p")
    assert found(updated_after=sessions["s0"].updated_at) == ["s0"]
    assert found(updated_before=times[2]) == ["s1", "s2"]


def test_orders_and_pages(store: Store, sessions: Sessions) -> None:
    for name, title in (("a", "x"), ("b", None), ("c", "w"), ("d", None)):
        sessions.create(id=name, title=title)
    assert ids(sessions.list()) == ["d", "c", "b", "a"]
    store.session("a").messages.append("assistant", "now")
    assert ids(sessions.list()) == ["a", "d", "c", "b"]
    assert ids(sessions.list(order_by="created_at")) == ["a", "b", "c", "d"]
    assert ids(sessions.list(order_by="title")) == ["c", "a", "b", "d"]
    assert ids(sessions.list(order_by="-title")) == ["a", "c", "d", "b"]
    assert ids(sessions.list(order_by="-message_count")) == ["a", "d", "c", "b"]
    assert ids(sessions.list(order_by="message_count")) == ["b", "c", "d", "a"]
    assert ids(sessions.list(limit=2, offset=1)) == ["d", "c"]
    assert ids(sessions.list(offset=3)) == ["b"]
    assert sessions.list(limit=0) == sessions.list(offset=9) == []
    assert len(sessions.list(limit=None)) == 4
    refused: list[dict[str, Any]] = [{"limit": -1}, {"offset": -1}, {"order_by": "color"}]
    for wrong in refused:
        with pytest.raises(ValueError, match="must be"):
            sessions.list(**wrong)


def test_a_list_has_fifty_unless_told_otherwise(sessions: Sessions) -> None:
    for _ in range(52):
        sessions.create()
    assert len(sessions.list()) == 50


def test_a_bad_file_hides_no_other(
    sessions: Sessions, elsewhere_in: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    sessions.create(id="good")
    elsewhere_in(Ref("sessions", "broken", JSON), b'{"id": ')
    elsewhere_in(Ref("sessions", "odd", JSON), b'{"title": 5}')
    with caplog.at_level(logging.WARNING, "fsstate"):
        assert ids(sessions.list()) == ids(sessions.all()) == ["good"]
    assert "broken.json" in caplog.text
    assert len(sessions.problems()) == 2
    with pytest.raises(CorruptRecordError):
        sessions.get("broken")
    assert sessions.find("good").id == "good"


# In steps, as the async API uses it


def test_steps_of_an_edit_and_an_update(store: Store, sessions: Sessions) -> None:
    sessions.create(id="one")
    editing = sessions.open_edit("one")
    assert editing.value.id == "one"
    editing.value.title = "a"
    editing.commit()
    ref, change = sessions.update_change("one", lambda session: setattr(session, "project_id", "p"))
    store.backend.change(ref, change)
    assert (sessions["one"].title, sessions["one"].project_id) == ("a", "p")


@pytest.mark.parametrize("act", ["get", "delete", "archive", "contains", "summary"])
def test_names_are_checked(sessions: Sessions, act: str) -> None:
    run: Callable[[str], object] = getattr(sessions, act)
    with pytest.raises(InvalidNameError):
        run("../x")


def test_changing_a_session_from_inside_its_edit_fails_at_once(store: Store) -> None:
    if isinstance(store, Blocking):
        pytest.skip("here each call is a task of its own; tests/aio has this for one task")
    store.sessions.create(id="s")
    with store.sessions.edit("s") as session:
        session.title = "kept"
        with pytest.raises(LockTimeoutError, match="this thread"):
            store.sessions.archive("s")
    assert store.sessions["s"].title == "kept"
