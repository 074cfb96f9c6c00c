"""Logs at random: files and memory answer the same, whoever replaced the file meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from fsstate.backends.base import LOG, Ref
from fsstate.backends.files import edited_logs
from fsstate.store import Store
from tests.nonsense.lockstep import Machine, run, run_for
from tests.nonsense.values import json_values, texts

REF = Ref("audit", "trail", LOG)
fields = st.dictionaries(texts.filter(lambda key: key not in ("kind", "self")), json_values, max_size=3)
kinds = st.sampled_from(["login", "logout", "ü", "", "x" * 3000])


def entry_of(store: Store) -> Any:
    return store.journal("audit", "trail")


class Journals(Machine):
    """One log."""

    def __init__(self) -> None:
        super().__init__()
        self.put_back: Callable[[], None] | None = None
        # A history takes no time: in it, who changed the layout a moment ago and took out an older version is taken
        # for a program that had not seen the last entries. Here all have seen what was there.
        self.seen = mock.patch.object(edited_logs, "_GRACE", -1)
        self.seen.start()

    def teardown(self) -> None:
        self.seen.stop()
        super().teardown()

    @rule(kind=kinds, fields=fields)
    def append(self, kind: str, fields: dict[str, Any]) -> None:
        self.both(lambda store: entry_of(store).append(kind, **fields))

    @rule(at=st.sampled_from(["2025-06-30T23:59:60Z", "soon", "2025-01-01", "1735689600", "9999-12-31T23:59:60Z", ""]))
    def append_at(self, at: str) -> None:
        self.both(lambda store: entry_of(store).append("timed", at=at))

    @rule(many=st.lists(st.tuples(kinds, fields), max_size=30))
    def append_many(self, many: list[Any]) -> None:
        self.both(lambda store: entry_of(store).append_many(many))

    @rule(value=st.sampled_from([float("nan"), {1}, "\ud800", {"a": {2: 3}}]))
    def append_what_cannot_be_stored(self, value: Any) -> None:
        self.both(lambda store: entry_of(store).append("x", value=value))
        self.both(lambda store: entry_of(store).append_many([("x", {}), ("x", {"value": value})]))

    @rule(after=st.integers(-1, 40), limit=st.none() | st.integers(-1, 5), kinds=st.none() | st.just(("login",)))
    def read(self, after: int, limit: int | None, kinds: Any) -> None:
        self.both(lambda store: entry_of(store).read(after=after, limit=limit, kinds=kinds))
        self.both(lambda store: entry_of(store).first_after(after))
        self.both(lambda store: entry_of(store).entry(after))

    @rule(n=st.integers(-1, 8))
    def tail(self, n: int) -> None:
        self.both(lambda store: entry_of(store).tail(n))
        self.both(lambda store: (len(entry_of(store)), entry_of(store).first(), entry_of(store).last()))
        # What a crash left is told of the file, and never was in the model.
        self.both(lambda store: [str(each) for each in entry_of(store).problems() if "incomplete" not in str(each)])

    @rule(before=st.integers(-2, 60) | st.just(10**30))
    def trim(self, before: int) -> None:
        self.both(lambda store: entry_of(store).trim(before=before))

    # Other hands

    @rule()
    def lay_out_anew(self) -> None:
        """The same entries, as a formatter or another program writes them."""
        path = self.pair.path_of(REF)
        if path.is_file() and path.stat().st_size:
            rows = [json.loads(line) for line in path.read_text("utf-8-sig").split("\n") if line.rstrip().endswith("}")]
            lines = [json.dumps(row, separators=(" , ", " : ")) for row in rows]
            path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n\n" for line in lines).encode())

    @rule()
    def cut_the_last_newline(self) -> None:
        path = self.pair.path_of(REF)
        if path.is_file():
            path.write_bytes(path.read_bytes().rstrip(b"\r\n"))

    @rule()
    def tear(self) -> None:
        """What a crash in the middle of an append leaves: nobody was told that it is there."""
        path = self.pair.path_of(REF)
        if path.is_file() and path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b'{"seq":999,"kind":"to')

    @rule()
    def copy_over(self) -> None:
        """The same content in another file, as a backup or `git checkout` puts it there."""
        path = self.pair.path_of(REF)
        if path.is_file():
            copy = path.with_name(".copy")
            copy.write_bytes(path.read_bytes())
            copy.replace(path)

    @rule()
    def remember(self) -> None:
        self.put_back = self.pair.snapshot_of(REF)

    @rule()
    def check_out(self) -> None:
        if self.put_back is not None:
            self.put_back()
            # A program that goes on gives out none of its numbers again; the model knows of no such program.
            self.pair.reopen()

    @rule()
    def remove(self) -> None:
        """By hand: the log begins anew."""
        self.pair.path_of(REF).unlink(missing_ok=True)
        self.pair.memory.delete_log(REF)

    @rule()
    def reopen(self) -> None:
        self.pair.reopen()


def test_journals() -> None:
    run(Journals, examples=5, steps=35)


@pytest.mark.soak
def test_journals_for_long(soak_seconds: float) -> None:
    run_for(soak_seconds, Journals)
