"""Documents at random: what files and memory answer is the same, whatever was done before, and by whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from fsstate.backends.base import JSON, MARKDOWN, Ref
from fsstate.codec import decode_bytes
from fsstate.collection import Collection
from fsstate.conditions import Contains, OneOf, Prefix, Range
from fsstate.errors import FsStateError
from fsstate.frontmatter import Document
from fsstate.store import Store
from tests.nonsense.lockstep import Machine, run, run_for
from tests.nonsense.values import FIELDS, damaged, documents, json_values, layouts, names, texts

conditions = st.sampled_from(
    ["idle", 1, True, None, 1.0, OneOf("idle", 1), Range(at_least=0), Range(below=2), Prefix("i"), Contains("a")]
)
wheres = st.none() | st.dictionaries(st.sampled_from(FIELDS), conditions, max_size=2)
orders = st.sampled_from(["n", "-n", "status", "-updated_at", ("status", "-n"), ("-title", "n"), ()])
INDEXED = [*FIELDS]


class Collections(Machine):
    """One category of JSON documents."""

    @initialize(indexing=st.sampled_from(["auto", "always", "never"]), category=st.sampled_from(["agents", "a/b/c"]))
    def begin(self, indexing: Any, category: str) -> None:
        self.pair.close()
        self.indexing = indexing
        self.pair = type(self.pair)(indexing)
        self.both, self.value = self.pair.both, self.pair.value
        self.category = category
        self.last = "a"
        self.revisions: dict[str, str] = {}
        self.cursor: tuple[Any, Any, str] | None = None

    def of(self, store: Store) -> Collection[Any]:
        return store.collection(self.category)

    def ref(self, name: str) -> Ref:
        return Ref(self.category, name, JSON)

    @rule(name=names, value=documents | json_values)
    def put(self, name: str, value: Any) -> None:
        outcome = self.both(lambda store: self.of(store).put(name, value))
        if outcome.error is None:
            self.last = name
            assert decode_bytes(self.pair.read(self.ref(name)) or b"", "") == value

    @rule(name=names, value=documents)
    def create(self, name: str, value: Any) -> None:
        self.both(lambda store: self.of(store).create(name, value))

    @rule(value=st.sampled_from([float("nan"), {1: 2}, {"a": {1, 2}}, b"x", "\ud800", [[]] * 3, {"a": float("inf")}]))
    def put_what_cannot_be_stored(self, value: Any) -> None:
        self.both(lambda store: self.of(store).put(self.last, value))

    @rule(name=names)
    def get(self, name: str) -> None:
        self.both(lambda store: self.of(store).record(name))
        self.both(lambda store: (name in self.of(store), self.of(store).revision(name), self.of(store).get(name)))

    @rule(value=documents, old=st.booleans())
    def expect(self, value: Any, old: bool) -> None:
        revision = self.revisions.get(self.last, "0" * 40) if old else self.revision_of(self.last)
        self.both(lambda store: self.of(store).put(self.last, value, expect=revision))

    @rule()
    def remember(self) -> None:
        revision = self.revision_of(self.last)
        if revision is not None:
            self.revisions[self.last] = revision

    def revision_of(self, name: str) -> str | None:
        try:
            return self.of(self.pair.files).revision(name)
        except FsStateError:
            return None

    @rule(more=documents, default=st.none() | documents, fails=st.booleans())
    def update(self, more: Any, default: Any, fails: bool) -> None:
        def change(value: Any) -> Any:
            if fails:
                raise ValueError("no")
            return {**value, **more} if isinstance(value, dict) else more

        given = {} if default is None else {"default": default}
        before = self.pair.read(self.ref(self.last))
        outcome = self.both(lambda store: self.of(store).update(self.last, change, **given))
        if outcome.error is not None:
            assert self.pair.read(self.ref(self.last)) == before

    @rule(mine=documents, theirs=documents, style=st.integers(0, 3), deletes=st.booleans())
    def edit_what_a_person_edits_too(self, mine: Any, theirs: Any, style: int, deletes: bool) -> None:
        """Both change the same document; the person first, and without the lock."""
        data = None if deletes else layouts(theirs, style)

        def work(store: Store) -> Any:
            with self.of(store).edit(self.last) as value:
                if isinstance(value, dict):
                    value.update(mine)
                if store is self.pair.files:
                    self.write_file(data)
                else:
                    self.pair.memory.write_unlocked(self.ref(self.last), data)
            return self.of(store).record(self.last)

        self.both(work)

    def write_file(self, data: bytes | None) -> None:
        path = self.pair.path_of(self.ref(self.last))
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.both(lambda store: self.of(store).delete(name))

    @rule(names=st.lists(names, max_size=5))
    def delete_many(self, names: list[str]) -> None:
        self.both(lambda store: self.of(store).delete_many(names))

    @rule(values=st.dictionaries(names, documents, max_size=12))
    def put_many(self, values: dict[str, Any]) -> None:
        self.both(lambda store: self.of(store).put_many(values))

    @rule(value=documents)
    def put_within_its_own_edit(self, value: Any) -> None:
        def work(store: Store) -> None:
            with self.of(store).edit(self.last):
                self.of(store).put(self.last, value)

        self.both(work)

    # Questions

    @rule(where=wheres, order=orders, limit=st.none() | st.integers(0, 4), offset=st.integers(0, 3))
    def query(self, where: Any, order: Any, limit: Any, offset: int) -> None:
        self.both(lambda store: self.of(store).query(where, order_by=order, limit=limit, offset=offset))
        self.both(
            lambda store: store.collection(self.category, indexed=INDEXED).query(
                where, order_by=order, limit=limit, offset=offset
            )
        )
        self.both(lambda store: (self.of(store).count(where), self.of(store).names(), len(self.of(store))))

    @rule(where=wheres, order=orders, limit=st.integers(1, 3))
    def page(self, where: Any, order: Any, limit: int) -> None:
        found = self.value(lambda store: self.of(store).page(where, order_by=order, limit=limit))
        if found.cursor is not None:
            self.cursor = where, order, found.cursor

    @rule(limit=st.integers(1, 3), indexed=st.booleans())
    def next_page(self, limit: int, indexed: bool) -> None:
        if self.cursor is None:
            return
        where, order, cursor = self.cursor
        asked = INDEXED if indexed else None
        found = self.value(
            lambda store: store.collection(self.category, indexed=asked).page(
                where, order_by=order, limit=limit, after=cursor
            )
        )
        self.cursor = None if found.cursor is None else (where, order, found.cursor)

    @rule(cursor=st.sampled_from(["", "x", "W10=", "ü", "bnVsbA==", "\ud800", "A" * 999]))
    def page_with_a_bad_cursor(self, cursor: str) -> None:
        self.both(lambda store: self.of(store).page(after=cursor))

    @rule()
    def problems(self) -> None:
        self.both(lambda store: [str(problem) for problem in self.of(store).problems()])

    # Other hands

    @rule(name=st.sampled_from(["a", "b", "c", "by hand"]), value=documents, style=st.integers(0, 3))
    def write_by_hand(self, name: str, value: Any, style: int) -> None:
        self.last = name
        self.pair.write(self.ref(name), layouts(value, style))

    @rule(name=st.sampled_from(["a", "b", "c"]), data=damaged)
    def damage(self, name: str, data: bytes) -> None:
        self.last = name
        self.pair.write(self.ref(name), data)

    @rule(style=st.integers(0, 3))
    def lay_out_anew(self, style: int) -> None:
        """The same values in another layout: to put them again writes nothing."""
        data = self.pair.read(self.ref(self.last))
        try:
            value = decode_bytes(data or b"", "")
        except FsStateError:
            return
        laid = layouts(value, style)
        self.pair.write(self.ref(self.last), laid)
        outcome = self.both(lambda store: self.of(store).put(self.last, value))
        if outcome.error is None:
            assert self.pair.read(self.ref(self.last)) == laid

    @rule(reindex=st.booleans())
    def reopen(self, reindex: bool) -> None:
        self.pair.reindex() if reindex else self.pair.reopen()


class Notes(Machine):
    """One category of Markdown documents."""

    category = "notes"
    name = "a"

    @rule(name=st.sampled_from(["a", "b", "ü"]), text=texts, head=st.none() | documents)
    def put(self, name: str, text: str, head: Any) -> None:
        self.name = name
        self.both(lambda store: store.markdown("notes").put(name, Document(text, head)))
        self.both(lambda store: store.markdown("notes").record(name))

    @rule(data=damaged)
    def write_by_hand(self, data: bytes) -> None:
        self.pair.write(Ref("notes", self.name, MARKDOWN), data)

    @rule(text=texts, more=documents, newline=st.sampled_from(["\n", "\r\n"]))
    def write_a_head_by_hand(self, text: str, more: Any, newline: str) -> None:
        lines = ["---", "# why", *(f"{key}: {value!r}" for key, value in more.items() if key == "n"), "---", text]
        self.pair.write(Ref("notes", self.name, MARKDOWN), newline.join(lines).encode())

    @rule(text=texts, more=documents)
    def update(self, text: str, more: Any) -> None:
        def change(note: Document) -> None:
            note.text += text
            note.front_matter = {**(note.front_matter or {}), **more} or None

        self.both(lambda store: store.markdown("notes").update(self.name, change, default=""))

    @rule(where=wheres, order=orders)
    def query(self, where: Any, order: Any) -> None:
        self.both(lambda store: store.markdown("notes").query(where, order_by=order))
        self.both(lambda store: [str(problem) for problem in store.markdown("notes").problems()])

    @rule()
    def delete(self) -> None:
        self.both(lambda store: store.markdown("notes").delete(self.name))

    @rule()
    def reopen(self) -> None:
        self.pair.reopen()


def test_collections() -> None:
    run(Collections, examples=5, steps=35)


def test_notes() -> None:
    run(Notes, examples=3, steps=16)


@pytest.mark.soak
@pytest.mark.parametrize("machine", [Collections, Notes])
def test_documents_for_long(machine: type[Machine], soak_seconds: float) -> None:
    run_for(soak_seconds, machine)
