"""Search: what is found, where, and in which order; the same over files and in memory, sync and async."""

import random
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fsstate import Document, Message
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref
from fsstate.errors import InvalidNameError, InvalidQueryError, SearchUnavailableError, StoreClosedError
from fsstate.options import StoreOptions
from fsstate.search import SearchHit, require_fts5
from fsstate.session import SessionHandle
from fsstate.store import Store

Elsewhere = Callable[[Ref, bytes | None], None]
MakeBackend = Callable[[StoreOptions], Backend]


@pytest.fixture
def one(store: Store) -> SessionHandle:
    store.sessions.create(id="s1", user_id="ada")
    return store.session("s1")


def found(store: Any, query: str, **given: Any) -> list[str]:
    """What was found: messages by id, other records by place."""
    return [hit.message_id or hit.place for hit in store.search(query, **given)]


def shown(hit: SearchHit) -> list[str]:
    return [hit.snippet[start:end] for start, end in hit.spans]


def test_an_empty_store_has_no_answers(store: Store) -> None:
    assert store.search("anything") == []
    assert store.search("anything", in_="nowhere") == []


def test_a_message(store: Store, one: SessionHandle) -> None:
    message = one.messages.append("user", "Where do\nmy Straßen live?", id="m1", model="m")
    (hit,) = store.search("strassen LIVE")
    assert hit == SearchHit(
        place="sessions/s1/messages.jsonl",
        session="s1",
        message_id="m1",
        role="user",
        seq=1,
        field=None,
        line=2,
        snippet="Where do my Straßen live?",
        spans=((12, 19), (20, 24)),
        score=hit.score,
        at=message.created_at,
    )
    assert hit.score > 0


def test_all_branches_and_all_blocks(store: Store, one: SessionHandle) -> None:
    one.messages.append("user", "first", id="a")
    one.messages.append("assistant", [{"type": "text", "text": "red"}, {"type": "x"}, {"text": "car"}], id="b")
    one.messages.append("assistant", "red wine", parent="a", id="c")
    assert sorted(found(store, "red")) == ["b", "c"]
    assert found(store, "red car") == ["b"]


def test_a_changed_message_is_found_by_its_new_text(store: Store, one: SessionHandle) -> None:
    one.messages.append("user", "old words", id="a")
    one.messages.append("user", "others", id="b")
    assert found(store, "old") == ["a"]
    one.messages.update("a", content="new ones")
    assert (found(store, "old"), found(store, "new")) == ([], ["a"])
    one.messages.append_text("a", " and more")
    one.messages.update("a", status="rated", metadata={"x": 1})
    assert (found(store, "new more"), found(store, "rated")) == (["a"], [])
    one.messages.update("a", content=[{"text": "in blocks"}])
    assert (found(store, "new"), found(store, "blocks")) == ([], ["a"])
    one.messages.append_text("a", " longer")
    one.messages.update("b", content="last")
    assert (found(store, "blocks longer"), found(store, "others"), found(store, "last")) == (["a"], [], ["b"])
    assert [hit.seq for hit in store.search("last")] == [2]
    one.messages.clear()
    assert found(store, "last OR blocks") == []


def test_a_message_under_way(store: Store, one: SessionHandle) -> None:
    with one.messages.stream("assistant", id="m") as reply:
        reply.write("begun but")
        assert [(hit.message_id, hit.seq) for hit in store.search("begun")] == [("m", None)]
        reply.write("terfly")
        assert (found(store, "butterfly"), found(store, "but")) == (["m"], [])
    assert [(hit.message_id, hit.seq, hit.place) for hit in store.search("butterfly")] == [
        ("m", 1, "sessions/s1/messages.jsonl")
    ]
    with one.messages.stream("assistant", id="n") as reply:
        reply.write("draft")
        assert found(store, "draft") == ["n"]
        reply.content = "final"
    assert (found(store, "draft"), found(store, "final")) == ([], ["n"])


def test_rows_of_other_hands(store: Store, one: SessionHandle) -> None:
    log = Ref("sessions/s1", "messages", LOG)

    def append(*lines: bytes) -> None:
        store.backend.append(log, lambda _: lines)

    append(b'{"id":"a","role":"user","content":"one"}', b'{"role":"user","content":"nobody"}')
    assert found(store, "one OR nobody") == ["a"]
    append(b'{"id":"a","role":"user","content":"again"}', b'{"update":"zz","content":"unknown"}')
    append(b'{"id":"bad","role":5,"content":"misfit"}', b'{"id":"b","role":"user","content":null}')
    assert found(store, "again OR unknown OR misfit OR one") == ["a"]
    append(b'{"update":"bad","role":"user","head":"bad"}', b'{"update":"a","content":"two","delta":" three"}')
    assert sorted(found(store, "misfit OR three")) == sorted(["bad", "a"])
    append(b'{"update":"a","status":7}')
    assert found(store, "three") == []
    append(b'{"update":"a","status":"fine"}', b'{"update":"b","content":{"text":"block"}}')
    assert sorted(found(store, "three OR block")) == ["a", "b"]
    assert {message.id for message in one.messages.all()} == {"a", "b", "bad"}


def test_a_note(store: Store) -> None:
    store.markdown("notes").put("standup", "---\ntitle: Daily\n---\n\nHello\nred world\n")
    (hit,) = store.search("red")
    assert (hit.place, hit.session, hit.field, hit.line, hit.seq) == ("notes/standup.md", None, None, 6, None)
    (hit,) = store.search("daily")
    assert (hit.field, hit.line, shown(hit)) == ("front_matter", 2, ["Daily"])
    assert found(store, '"daily hello"') == []
    assert found(store, "daily red hello") == ["notes/standup.md"]


def test_a_document(store: Store) -> None:
    store.collection("teams/red/agents").put(
        "planner", {"n": 5, "goal": {"text": ["x", "find it"]}, "at": "2026-01-02"}
    )
    (hit,) = store.search("find")
    assert (hit.place, hit.field, hit.line) == ("teams/red/agents/planner.json", "$.goal.text[1]", 6)
    assert hit.at == datetime(2026, 1, 2, tzinfo=UTC)
    assert found(store, "x find") == ["teams/red/agents/planner.json"]
    assert found(store, "goal") == []


def test_what_belongs_to_a_session(store: Store, one: SessionHandle) -> None:
    store.sessions.update("s1", lambda session: setattr(session, "title", "Red titles"))
    one.goal.set("reach the moon")
    one.markdown("drafts").put("plan", "moon landing")
    one.collection("deep/data").put("before", {"state": {"moon": "full moon"}})
    hits = {hit.place: (hit.session, hit.field) for hit in store.search("moon OR titles")}
    assert hits == {
        "sessions/s1.json": ("s1", "$.title"),
        "sessions/s1/goal.json": ("s1", "$.objective"),
        "sessions/s1/drafts/plan.md": ("s1", None),
        "sessions/s1/deep/data/before.json": ("s1", "$.state.moon"),
    }
    store.sessions.delete("s1")
    assert store.search("moon OR titles") == []


def test_changes_of_documents(store: Store, elsewhere_in: Elsewhere) -> None:
    agents, notes = store.collection("agents"), store.markdown("notes")
    agents.put("a", {"text": "old"})
    notes.put("n", "old")
    assert sorted(found(store, "old")) == ["agents/a.json", "notes/n.md"]
    agents.put("a", {"text": "new"})
    elsewhere_in(Ref("notes", "n", MARKDOWN), b"new as well")
    assert (found(store, "old"), sorted(found(store, "new"))) == ([], ["agents/a.json", "notes/n.md"])
    agents.delete("a")
    elsewhere_in(Ref("notes", "n", MARKDOWN), None)
    assert found(store, "new") == []


def test_a_bad_file_hides_no_other(store: Store, elsewhere_in: Elsewhere, caplog: pytest.LogCaptureFixture) -> None:
    store.collection("agents").put("a", {"text": "word"})
    store.markdown("notes").put("n", "word")
    elsewhere_in(Ref("agents", "a", JSON), b'{"text": word}')
    assert found(store, "word") == ["notes/n.md"]
    assert "agents/a.json" in caplog.text
    elsewhere_in(Ref("agents", "a", JSON), b'{"text": "word"}')
    assert sorted(found(store, "word")) == ["agents/a.json", "notes/n.md"]


def test_numbers_beyond_a_float_hide_nothing(store: Store) -> None:
    store.collection("agents").put("a", {"n": 10**400, "text": "needle"})
    store.collection("agents").put("b", {"text": "needle"})
    store.journal("audit", "trail").append("x", n=10**400, text="needle")
    assert sorted(found(store, "needle", in_=["agents", "audit/trail"])) == [
        "agents/a.json", "agents/b.json", "audit/trail.jsonl",
    ]  # fmt: skip


def test_messages_in_a_sessions_document(store: Store, elsewhere_in: Elsewhere) -> None:
    document = b'{"id": "s", "user_messages": [{"content": "red hello"}], "agent_responses": [{"content": "red hi"}]}'
    elsewhere_in(Ref("sessions", "s", JSON), document)
    assert sorted(found(store, "red")) == ["agent-1", "user-1"]
    elsewhere_in(Ref("sessions", "s", JSON), document.replace(b"hi", b"ho"))
    assert (found(store, "hi"), found(store, "ho")) == ([], ["agent-1"])
    store.session("s").messages.append("user", "red more", id="m")
    assert sorted(found(store, "red")) == ["agent-1", "m", "user-1"]
    assert [hit.seq for hit in store.search("more")] == [3]


def test_logs_are_searched_when_they_are_named(store: Store, one: SessionHandle) -> None:
    trail = store.journal("audit", "trail")
    trail.append("login", name="word", at="2026-01-02")
    one.events.append("other", text=["x", "word"])
    one.messages.append("user", "word", id="m")
    assert found(store, "word") == ["m"]
    for place in ("audit/trail", "audit/trail.jsonl"):
        (hit,) = store.search("word", in_=place)
        assert (hit.place, hit.seq, hit.field, hit.line) == ("audit/trail.jsonl", 1, "$.name", None)
        assert hit.at == datetime(2026, 1, 2, tzinfo=UTC)
    (hit,) = store.search("word", in_="sessions/s1/events")
    assert (hit.place, hit.session, hit.field) == ("sessions/s1/events.jsonl", "s1", "$.text[1]")
    assert len(store.search("word", in_=["audit/trail", "sessions/s1/events", "sessions"])) == 3
    trail.append("word")
    assert [hit.seq for hit in store.search("word", in_="audit/trail")] in ([1, 2], [2, 1])
    trail.trim(before=2)
    assert [hit.seq for hit in store.search("word", in_="audit/trail")] == [2]
    assert found(store, "word") == found(store, "word", in_="sessions/s1/messages") == ["m"]
    store.backend.delete_log(Ref("audit", "trail", LOG))
    store.sessions.delete("s1")
    assert store.search("word", in_=["audit/trail", "sessions/s1/events"]) == []


def test_where_to_search(store: Store, one: SessionHandle) -> None:
    one.messages.append("user", "word", id="m1")
    store.sessions.create(id="s2", title="word")
    store.markdown("notes").put("s1", "word")
    store.markdown("notes/deep").put("n", "word")
    store.collection("notesx").put("n", {"a": "word"})
    notes, deep, title = "notes/s1.md", "notes/deep/n.md", "sessions/s2.json"
    for in_, places in {
        "notes": [notes, deep],
        "notes/": [notes, deep],
        "notes/deep": [deep],
        "notes/s1": [notes],
        "notes/s1.md": [notes],
        "sessions": ["m1", title],
        "sessions/s1": ["m1"],
        "s1": ["m1"],
        "s2": [title],
        "s3": [],
        ("s1", "notes/deep"): ["m1", deep],
        (): [],
    }.items():
        assert sorted(found(store, "word", in_=in_)) == sorted(places), in_
    many = [f"nowhere/n{number}" for number in range(5000)]
    assert sorted(found(store, "word", in_=[*many, "s1", "notes/s1"])) == ["m1", notes]
    assert found(store, "word", in_=many) == []
    for bad in ("", "a//b", "../x", ".fsstate", "a/b:c"):
        with pytest.raises(InvalidNameError):
            store.search("word", in_=bad)


def test_one_users_sessions(store: Store, one: SessionHandle) -> None:
    one.messages.append("user", "word", id="m1")
    one.events.append("word")
    store.sessions.create(id="s2", user_id="bob", title="word")
    store.sessions.create(id="s3", title="word")
    store.markdown("notes").put("n", "word")
    ada, bob = store.sessions.owned_by("ada"), store.sessions.owned_by("bob")
    assert (found(ada, "word"), found(bob, "word")) == (["m1"], ["sessions/s2.json"])
    assert len(ada.search("word", in_="sessions/s1/events")) == 1
    assert bob.search("word", in_=["s1", "sessions/s1/events", "notes"]) == []
    store.sessions.update("s1", lambda session: setattr(session, "user_id", "bob"))
    assert (found(ada, "word"), sorted(found(bob, "word"))) == ([], ["m1", "sessions/s2.json"])
    assert store.sessions.owned_by("carl").search("word") == []


def test_the_best_come_first_and_of_equals_the_newest(store: Store, one: SessionHandle) -> None:
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3, 1)]
    one.messages.extend(
        [Message(id=str(day), role="user", content="red car", created_at=day) for day in times]
        + [Message(id="long", role="user", content="red car " + "and so on " * 20, created_at=times[0])]
        + [Message(id="other", role="user", content="nothing")] * 1
    )
    for name in "ba":
        store.markdown("notes").put(name, "red car")
    ids = [str(times[1]), str(times[0]), str(times[2]), "notes/a.md", "notes/b.md", "long"]
    assert found(store, "red car") == ids
    assert found(store, "red car", limit=2, offset=1) == ids[1:3]
    assert found(store, "red car", limit=None, offset=5) == ids[5:]
    assert found(store, "red car", limit=0) == found(store, "red", offset=99) == []
    assert found(store, "red car", limit=10**30, offset=5) == ids[5:]
    assert found(store, "red car", limit=10**30, offset=10**30) == []
    scores = [hit.score for hit in store.search("red car")]
    assert scores == sorted(scores, reverse=True)


def test_what_was_there_before_does_not_weigh(store: Store, one: SessionHandle) -> None:
    chooser = random.Random(7)
    texts = [
        " ".join(chooser.choices(["red", "car", "blue", "sea", "deep"], k=chooser.randint(1, 9))) for _ in range(40)
    ]
    for number, text in enumerate(texts):
        one.messages.append("user", text, id=f"m{number}")
        if number % 3 == 0:
            store.search("red")
            one.messages.update(f"m{number // 2}", content=texts[-number])
        if number % 10 == 0:
            store.markdown("notes").put(f"n{number}", text)
            store.journal("audit", "trail").append("red", text=text)
            store.search("red", in_="audit/trail")
            store.markdown("notes").delete(f"n{number}")
    # Another store on the same records begins with nothing.
    fresh = Store.over(store.backend, StoreOptions())
    fresh_hits = [fresh.search(query, limit=None) for query in ("red", "car -sea", '"red car" OR deep*')]
    assert fresh_hits == [store.search(query, limit=None) for query in ("red", "car -sea", '"red car" OR deep*')]
    assert fresh._shared.parts
    for held in fresh._shared.parts.values():
        held.private.close()


def test_what_is_left_out(make_backend: MakeBackend) -> None:
    everything, little = StoreOptions(), StoreOptions(search_exclude=("notes", "sessions/s1", "teams/red"))
    backend = make_backend(everything)
    with Store.over(backend, everything) as store:
        store.sessions.create(id="s1", title="word")
        store.session("s1").messages.append("user", "word", id="m")
        store.session("s1").goal.set("word")
        store.markdown("notes").put("n", "word")
        store.collection("teams/red").put("a", {"a": "word"})
        store.collection("teams/blue").put("a", {"a": "word"})
        store.journal("notes", "log").append("word")
        assert len(store.search("word")) == 6
        assert len(store.search("word", in_=["notes", "notes/log"])) == 2
        less = Store.over(backend, little)
        assert sorted(found(less, "word")) == ["sessions/s1.json", "teams/blue/a.json"]
        assert less.search("word", in_=["notes", "notes/log", "teams/red"]) == []
        assert len(store.search("word")) == 6
        for held in less._shared.parts.values():
            held.private.close()


def test_options_name_categories() -> None:
    with pytest.raises(TypeError, match="tuple of categories"):
        StoreOptions(search_exclude="notes").checked()  # type: ignore[arg-type]
    with pytest.raises(InvalidNameError):
        StoreOptions(search_exclude=("a//b",)).checked()


class WithoutFts5(sqlite3.Connection):
    """What SQLite says where it was built without FTS5."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if "USING fts5" in sql:
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(sql, *parameters)


def test_a_python_that_cannot_search(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.collection("agents").put("planner", {"model": "m1"})
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=WithoutFts5, **named))
    require_fts5.cache_clear()
    for _ in range(2):
        with pytest.raises(SearchUnavailableError, match="no such module: fts5'; use one whose sqlite3 module has"):
            store.search("m1")
    with pytest.raises(SearchUnavailableError):
        store.sessions.owned_by("ada").search("m1")
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(SearchUnavailableError, match="built without SQLite"):
        store.search("m1")
    monkeypatch.undo()
    assert [hit.place for hit in store.search("m1")] == ["agents/planner.json"]


def test_bad_questions(store: Store) -> None:
    with pytest.raises(InvalidQueryError):
        store.search("-x")
    with pytest.raises(ValueError, match="limit and offset"):
        store.search("x", limit=-1)
    with pytest.raises(ValueError, match="limit and offset"):
        store.search("x", offset=-1)


def test_a_closed_store_is_not_searched(make_backend: MakeBackend) -> None:
    store = Store.over(make_backend(StoreOptions()))
    store.markdown("notes").put("n", Document("word"))
    assert len(store.search("word")) == 1
    store.close()
    with pytest.raises(StoreClosedError):
        store.search("word")
