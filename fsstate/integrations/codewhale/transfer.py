"""The files of codewhale into a store; the package says what becomes of what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Final

from fsstate import Store
from fsstate.integrations.codewhale import sources as kinds
from fsstate.integrations.codewhale.runtime import CUT_OFF, Part, Thread, event, in_order, thread_session
from fsstate.integrations.codewhale.saved import checkpoint, saved_session
from fsstate.integrations.codewhale.sources import Line, Sources, lines, read
from fsstate.integrations.files import Found
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, is_list, is_object, setting
from fsstate.integrations.landing import ImportReport, Landing, Progress, check_apart
from fsstate.names import name_for

__all__ = ["import_codewhale"]

# What the files of each kind become; items become several things.
_KIND_OF: Final = {
    kinds.SESSION: "sessions",
    kinds.LATEST: "checkpoints",
    kinds.QUEUE: "documents",
    kinds.THREAD: "sessions",
    kinds.TURN: "documents",
    kinds.ITEM: "documents",
    kinds.EVENTS: "events",
    kinds.STATE: "settings",
    kinds.INDEX: "settings",
}
_DATABASES: Final = (".db", ".db-wal", ".db-shm", ".db-journal")


def import_codewhale(store: Store, path: str | os.PathLike[str], *, progress: Progress | None = None) -> ImportReport:
    """Import a directory of codewhale's files, durably, and return what was done.

    `progress` is called now and then with how many files are done and how many there are. A file or line that cannot be
    imported is a problem in the report and stops nothing. Raises NewerFormatError for files of a version that is not
    known, before anything is written; NotFoundError when there is no such directory, and StorageError when the store
    cannot be written to.
    """
    check_apart(store, path)
    sources = Sources(path, without=store.path)
    run = _Run(Landing(store, path, progress), sources)
    run.tell_of_others()
    run.saved_sessions()
    run.threads()
    run.settings()
    return run.landing.settle()


class _Run:
    """One import."""

    def __init__(self, landing: Landing, sources: Sources) -> None:
        self.landing = landing
        self._sources = sources
        self._done = 0
        self._titles = dict(self._index())

    def tell_of_others(self) -> None:
        """Tell of what cannot be imported as a whole."""
        for kind, found, flaw in self._sources.flaws:
            self.landing.lose(_KIND_OF[kind], found.place, flaw)
        for found in self._sources.others:
            if found.is_hidden:
                self.landing.pass_over(found.place, "hidden")
            elif found.path.name.endswith(_DATABASES):
                advice = "a database: see `fsstate import sqlite --from codewhale`"
                self.landing.pass_over(found.place, advice)
            elif self._sources.is_artifact(found):
                self.landing.pass_over(found.place, "an artifact of a session; copy it yourself if you need it")
            else:
                self.landing.lose("documents", found.place, found.flaw or "nothing is known of such a file")

    def saved_sessions(self) -> None:
        """Import the saved sessions, and what was kept for a crash of one."""
        for found, value in self._read(kinds.SESSION):
            self._session(self._saved(found.path.stem, found, value))
        for found, value in self._read(kinds.LATEST):
            told = value.get("metadata")
            name = told.get("id") if is_object(told) else None
            if not isinstance(name, str):
                self.landing.lose("checkpoints", found.place, "it does not tell its session")
            elif name in self._sources.ids:
                self._document(checkpoint(value, found.place)._replace(session=name_for(name)))
            else:
                self._session(self._saved(name, found, value))
        for found, value in self._read(kinds.QUEUE):
            name = value.get("session_id")
            owner = name_for(name) if isinstance(name, str) and name in self._sources.ids else None
            category = "codewhale" if owner is None else ""
            self._document(DocumentItem("documents", category, "offline_queue", value, found.place, owner))

    def threads(self) -> None:
        """Import the threads of the runtime."""
        logs = {found.path.stem: found for found in self._sources.found[kinds.EVENTS]}
        for found, value in self._read(kinds.THREAD):
            name = found.path.stem
            turns = list(self._parts(kinds.TURN, self._sources.turns.pop(name, [])))
            self._tell_of_cut_off(turns)
            items = [item for turn in turns for item in self._items(turn)]
            events = list(self._events(logs.pop(name, None)))
            thread = Thread(name, value, found.place, turns, items, events, self._titles.get(name))
            self._session(thread_session(thread, partial(self.landing.note, found.place)))
        self._lost(logs)

    def settings(self) -> None:
        """Import the state of the runtime, and the index of names."""
        for found, value in self._read(kinds.STATE):
            self._document(setting("codewhale/state", value, None, found.place))
        for found in self._sources.found[kinds.INDEX]:
            for name, (place, value) in self._last_lines(found).items():
                self._document(setting(f"codewhale/threads/{name}", value, None, place))
            for line in lines(found):
                if (reason := line.flaw or _flaw_of_name(line)) is not None:
                    self.landing.lose("settings", line.place, reason)
            self._advance()

    # Inside: reading

    def _tell_of_cut_off(self, turns: list[Part]) -> None:
        for turn in turns:
            if turn.value.get("status") == CUT_OFF:
                reason = f"the turn was kept as found, {CUT_OFF}: its program was in the middle of it, or was killed"
                self.landing.note(turn.place, reason)

    def _read(self, kind: str) -> Iterator[tuple[Found, Object]]:
        for found in self._sources.found[kind]:
            value = self._value(kind, found)
            if value is not None:
                yield found, value
            self._advance()

    def _value(self, kind: str, found: Found) -> Object | None:
        """What is in a file. One that could be read before may have gone since: its program may be running."""
        value = read(found)
        if isinstance(value, str):
            self.landing.lose(_KIND_OF[kind], found.place, value)
            return None
        return value

    def _parts(self, kind: str, found: list[tuple[object, ...]]) -> Iterator[Part]:
        """Turns or items by their time, and by name where that does not tell."""
        for _, name, each in sorted(found, key=lambda part: part[:2]):
            assert isinstance(each, Found)
            value = self._value(kind, each)
            if value is not None:
                yield Part(str(name), value, each.place)
            self._advance()

    def _items(self, turn: Part) -> Iterator[Part]:
        names = turn.value.get("item_ids")
        parts = list(self._parts(kinds.ITEM, self._sources.items.pop(turn.name, [])))
        yield from in_order(names if is_list(names) else [], parts)

    def _events(self, found: Found | None) -> Iterator[Entry]:
        for line in lines(found) if found is not None else ():
            if line.value is None:
                self.landing.lose("events", line.place, str(line.flaw))
            else:
                yield event(line)
        if found is not None:
            self._advance()

    def _index(self) -> Iterator[tuple[str, str]]:
        for found in self._sources.found[kinds.INDEX]:
            for name, (_, value) in self._last_lines(found).items():
                if isinstance(title := value.get("thread_name"), str):
                    yield name, title

    def _last_lines(self, found: Found) -> dict[str, tuple[str, Object]]:
        """The last line for each thread, which is the one that counts."""
        told: dict[str, tuple[str, Object]] = {}
        for line in lines(found):
            if line.value is not None and isinstance(name := line.value.get("thread_id"), str):
                told[name] = line.place, line.value
        return told

    # Inside: writing

    def _saved(self, name: str, found: Found, value: Object) -> SessionItem:
        return saved_session(name, value, found.place, self._titles.get(name), self.landing)

    def _session(self, item: SessionItem) -> None:
        self.landing.expect("sessions")
        for kind, entries in item.logs.items():
            self.landing.expect(kind, len(entries))
        for document in item.documents:
            self.landing.expect(document.kind, document.parts)
        self.landing.session(item)

    def _document(self, item: DocumentItem) -> None:
        self.landing.expect(item.kind, item.parts)
        self.landing.document(item)

    def _lost(self, logs: dict[str, Found]) -> None:
        """Tell of what belongs to nothing that is there."""
        for name, found in logs.items():
            self.landing.lose("events", found.place, f"there is no thread {name!r}")
        for what, groups in (("thread", self._sources.turns), ("turn", self._sources.items)):
            for name, parts in groups.items():
                for *_, found in parts:
                    self.landing.lose("documents", found.place, f"there is no {what} {name!r}")

    def _advance(self) -> None:
        self._done += 1
        self.landing.show(self._done, self._sources.total())


def _flaw_of_name(line: Line) -> str | None:
    told = line.value is not None and isinstance(line.value.get("thread_id"), str)
    return None if told else "it names no thread"
