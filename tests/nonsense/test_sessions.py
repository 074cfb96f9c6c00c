"""Sessions and conversations at random: files and memory answer the same, with an index and without."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from fsstate.backends.base import JSON, LOG, Ref
from fsstate.codec import decode_bytes
from fsstate.conditions import OneOf, Prefix, Range
from fsstate.errors import FsStateError
from fsstate.retention import PrunePolicy
from fsstate.store import Store
from tests.nonsense.lockstep import BEGINNING, Machine, Outcome, Pair, run, run_for
from tests.nonsense.values import damaged, json_values, layouts, texts

IDS = ["session-a", "session-b", "session-ab", "s", "ü"]
session_ids = st.sampled_from([*IDS, *IDS, "", "a.json", "no/such", "missing"])
message_ids = st.sampled_from(["m1", "m2", "m3", "m4", "lost"])
contents = (
    texts | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), texts, max_size=2), max_size=2) | json_values
)
metadata = st.none() | st.dictionaries(
    st.sampled_from(["title", "k", "project_id"]), texts | st.integers(0, 2), max_size=2
)
labels = st.none() | st.sampled_from(["red", " red ", "", "session-a", "Ünder"])
times = st.sampled_from([BEGINNING + timedelta(seconds=n) for n in (0, 20, 60)] + [datetime(2026, 1, 1), None])  # noqa: DTZ001
filters = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.sampled_from(["u1", "u2", OneOf("u1", None), None]),
        "status": st.sampled_from(["active", "ended", Prefix("a")]),
        "project_id": st.sampled_from(["p", None]),
        "label": st.sampled_from(["red", Prefix("r")]),
        "title": st.sampled_from(["", "hello", Prefix("h")]),
        "message_count": st.sampled_from([0, 1, Range(at_least=1), Range(below=3)]),
        "archived": st.sampled_from([True, False, None]),
        "pinned": st.sampled_from([True, False]),
        "metadata": st.sampled_from([{"k": 1}, {"k": "1"}, {}]),
        "created_after": times,
        "updated_before": times,
        "last_model": st.sampled_from(["gpt", Prefix("g")]),
    },
)
orders = st.sampled_from(
    ["-updated_at", "updated_at", "created_at", "title", "-title", "-message_count", "id", "nothing"]
)


class Sessions(Machine):
    """A few sessions with all that belongs to them."""

    @initialize(indexing=st.sampled_from(["auto", "always"]))
    def begin(self, indexing: Any) -> None:
        self.pair.close()
        self.pair = Pair(indexing)
        self.both, self.value = self.pair.both, self.pair.value
        self.id = "session-a"
        self.cursor: tuple[dict[str, Any], str, str] | None = None
        self.both(lambda store: store.sessions.create(id="session-a", user_id="u1"))

    # Sessions

    @rule(
        id=session_ids, user=st.sampled_from([None, "u1", "u2"]), title=st.none() | texts, label=labels, more=metadata
    )
    def create(self, id: str, user: Any, title: Any, label: Any, more: Any) -> None:
        self.both(lambda store: store.sessions.create(id=id, user_id=user, title=title, label=label, metadata=more))
        self.choose(id)

    @rule(id=session_ids)
    def choose(self, id: str) -> None:
        if id in IDS:
            self.id = id

    @rule(id=session_ids)
    def look(self, id: str) -> None:
        self.both(lambda store: (store.sessions.get(id), store.sessions.summary(id)))
        self.both(lambda store: (id in store.sessions, len(store.sessions), store.sessions.ids()))

    @rule(needle=st.sampled_from([*IDS, "sessio", "session-", "red", " red", "sess", "", "a/b", "\0", "x" * 300]))
    def find(self, needle: str) -> None:
        self.both(lambda store: store.sessions.find(needle))

    @rule(title=st.none() | texts, project=st.sampled_from([None, "p"]), more=metadata, fails=st.booleans())
    def update(self, title: Any, project: Any, more: Any, fails: bool) -> None:
        def change(session: Any) -> None:
            session.title, session.project_id = title, project
            session.metadata = more or session.metadata
            if fails:
                raise ValueError("no")

        self.both(lambda store: store.sessions.update(self.id, change))

    @rule(title=texts)
    def edit(self, title: str) -> None:
        def work(store: Store) -> Any:
            with store.sessions.edit(self.id) as session:
                session.title = title
            return store.sessions.require(self.id)

        self.both(work)

    @rule(verb=st.sampled_from(["archive", "unarchive", "pin", "unpin", "end"]))
    def mark(self, verb: str) -> None:
        self.both(lambda store: getattr(store.sessions, verb)(self.id))

    @rule(label=labels)
    def label(self, label: Any) -> None:
        self.both(lambda store: store.sessions.set_label(self.id, label))

    @rule(at=message_ids | st.none(), copies=st.booleans(), new=session_ids)
    def fork(self, at: Any, copies: bool, new: str) -> None:
        self.both(lambda store: store.sessions.fork(self.id, at=at, new_id=new, copy_messages=copies))
        self.choose(new)

    @rule(id=session_ids)
    def delete(self, id: str) -> None:
        self.both(lambda store: store.sessions.delete(id))

    @rule(filters=filters, order=orders, limit=st.none() | st.integers(0, 3), offset=st.integers(0, 2))
    def look_at_all(self, filters: Any, order: str, limit: Any, offset: int) -> None:
        self.both(lambda store: store.sessions.list(order_by=order, limit=limit, offset=offset, **filters))
        self.both(lambda store: store.sessions.count(**filters))

    @rule(filters=filters, order=orders, limit=st.integers(1, 2))
    def page(self, filters: Any, order: str, limit: int) -> None:
        outcome = self.both(lambda store: store.sessions.page(order_by=order, limit=limit, **filters))
        if outcome.error is None:
            cursor = self.value(lambda store: store.sessions.page(order_by=order, limit=limit, **filters).cursor)
            self.cursor = None if cursor is None else (filters, order, cursor)

    @rule(limit=st.integers(1, 2), other=st.booleans())
    def next_page(self, limit: int, other: bool) -> None:
        if self.cursor is not None:
            filters, order, cursor = self.cursor
            order = "id" if other else order
            self.both(lambda store: store.sessions.page(order_by=order, limit=limit, after=cursor, **filters))

    @rule(title=texts)
    def titles(self, title: str) -> None:
        self.both(lambda store: (store.sessions.titles(), store.sessions.find_title(title)))
        self.both(lambda store: store.sessions.owned_by("u1").list(limit=None))

    @rule(words=st.sampled_from(["hello", "a OR b", "-a", '"a b', "a*", "", "*", "OR", "(", "\0", "\ud800", "ü" * 500]))
    def search(self, words: str) -> None:
        self.both(lambda store: [msgspec.structs.replace(hit, score=0.0) for hit in store.search(words)])

    # Messages

    @rule(
        id=st.none() | message_ids, parent=message_ids | st.none(), content=contents, model=st.none() | st.just("gpt")
    )
    def append(self, id: Any, parent: Any, content: Any, model: Any) -> None:
        given = {} if parent == "lost" else {"parent": parent}
        self.both(lambda store: self.messages(store).append("user", content, id=id, model=model, **given))

    def messages(self, store: Store) -> Any:
        return store.session(self.id).messages

    @rule(role=st.sampled_from(["user", "assistant", ""]), content=contents)
    def append_more(self, role: str, content: Any) -> None:
        self.both(lambda store: self.messages(store).append(role, content))

    @rule(pieces=st.lists(texts, max_size=3), id=st.none() | message_ids, fails=st.booleans())
    def stream(self, pieces: list[str], id: Any, fails: bool) -> None:
        def work(store: Store) -> Any:
            with self.messages(store).stream("assistant", id=id, model="gpt") as stream:
                for piece in pieces:
                    stream.write(piece)
                seen = self.messages(store).list()
                if fails:
                    raise ValueError(f"after {seen}")
            return seen, stream.message

        self.both(work)

    @rule(id=message_ids | st.none(), content=contents)
    def fork_at(self, id: Any, content: Any) -> None:
        self.both(lambda store: self.messages(store).fork_at(id, "user", content))

    @rule(id=message_ids | st.none())
    def set_head(self, id: Any) -> None:
        self.both(lambda store: self.messages(store).set_head(id))

    @rule(id=message_ids, content=contents, more=metadata, delta=texts)
    def update_message(self, id: str, content: Any, more: Any, delta: str) -> None:
        self.both(lambda store: self.messages(store).update(id, content=content, metadata=more, status="rated"))
        self.both(lambda store: self.messages(store).append_text(id, delta))

    @rule(head=st.none() | message_ids, limit=st.none() | st.integers(-1, 3), id=message_ids)
    def read(self, head: Any, limit: Any, id: str) -> None:
        self.both(lambda store: self.messages(store).list(head, limit))
        self.both(lambda store: (self.messages(store).get(id), self.messages(store).head()))
        self.both(lambda store: (self.messages(store).leaves(), self.messages(store).children(id)))
        self.both(lambda store: (self.messages(store).all(), self.messages(store).count()))

    @rule()
    def clear(self) -> None:
        self.both(lambda store: self.messages(store).clear())

    # What else belongs to them

    @rule(name=st.sampled_from(["grep", ""]), fields=st.dictionaries(st.sampled_from(["name", "n"]), json_values))
    def event(self, name: str, fields: dict[str, Any]) -> None:
        self.both(lambda store: store.session(self.id).events.append("tool", **fields))
        self.both(lambda store: store.session(self.id).events.tail(3))
        self.both(lambda store: store.session(self.id).tool_calls.create(name, fields, id="c1"))
        self.both(lambda store: store.session(self.id).tool_calls.complete("c1", fields))

    @rule(name=texts, state=json_values, keep=st.integers(1, 2))
    def checkpoint(self, name: str, state: Any, keep: int) -> None:
        self.both(lambda store: store.session(self.id).checkpoints.save(name, state))
        self.both(lambda store: store.session(self.id).checkpoints.load(name))
        self.both(lambda store: (store.session(self.id).checkpoints.load(), store.session(self.id).checkpoints.list()))

    @rule(value=json_values)
    def document(self, value: Any) -> None:
        self.both(lambda store: store.session(self.id).collection().put("notes", value))
        self.both(lambda store: store.session(self.id).collection("deep/er").put("notes", value))

    # Retention

    @rule(keep=st.integers(1, 3), ttl=st.sampled_from([None, 1, 15, 3600]), trash=st.booleans(), dry=st.booleans())
    def prune(self, keep: int, ttl: int | None, trash: bool, dry: bool) -> None:
        policy = PrunePolicy(keep=keep, ttl=None if ttl is None else timedelta(seconds=ttl))
        self.both(lambda store: store.sessions.prune(policy, trash=trash, dry_run=dry))
        self.both(lambda store: store.trash.list())

    @rule(id=st.sampled_from(IDS))
    def restore(self, id: str) -> None:
        self.both(lambda store: store.trash.restore(id))
        self.both(lambda store: (store.trash.list(), store.sessions.ids(), store.session(id).messages.all()))

    @rule(seconds=st.sampled_from([None, 1, 30]))
    def empty_the_trash(self, seconds: int | None) -> None:
        older = None if seconds is None else timedelta(seconds=seconds)
        self.both(lambda store: store.trash.empty(older_than=older).emptied)

    # Other hands

    @rule(style=st.integers(0, 3), title=texts)
    def edit_by_hand(self, style: int, title: str) -> None:
        ref = Ref("sessions", self.id, JSON)
        try:
            document = decode_bytes(self.pair.read(ref) or b"", "")
        except FsStateError:
            return
        if isinstance(document, dict):
            self.pair.write(ref, layouts({**document, "title": title, "own": [1]}, style))

    @rule(
        id=st.sampled_from(["by hand", "session-b"]),
        document=st.sampled_from(
            [
                {},
                {"id": "other"},
                {"title": 3},
                {"created_at": 10**400},
                {"updated_at": "soon"},
                {"metadata": []},
                [],
                1,
            ]
        ),
    )
    def write_by_hand(self, id: str, document: Any) -> None:
        self.pair.write(Ref("sessions", id, JSON), layouts(document, 0))

    @rule(id=st.sampled_from(["by hand", "session-b"]), data=damaged)
    def damage(self, id: str, data: bytes) -> None:
        self.pair.write(Ref("sessions", id, JSON), data)
        self.both(lambda store: [str(each) for each in store.sessions.problems()])

    @rule()
    def copy_messages_over(self) -> None:
        """The same content in another file, as `git checkout` puts it there."""
        put_back = self.pair.snapshot_of(Ref(f"sessions/{self.id}", "messages", LOG))
        if put_back is not None:
            put_back()

    @rule(reindex=st.booleans())
    def reopen(self, reindex: bool) -> None:
        self.pair.reindex() if reindex else self.pair.reopen()


def test_sessions() -> None:
    run(Sessions, examples=5, steps=35)


@pytest.mark.soak
def test_sessions_for_long(soak_seconds: float) -> None:
    run_for(soak_seconds, Sessions)


def test_an_outcome_tells_more_than_equality_does() -> None:
    assert Outcome("1", None) != Outcome("True", None)
