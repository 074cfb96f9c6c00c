"""A session with all that belongs to it as one JSON document, and back.

    {"fsstate": "session", "version": 1, "id": "…", "document": {…}, "head": "…", "messages": […], "tool_calls": […],
     "steps": […], "events": […], "documents": {"goal": {…}, "checkpoints/first": {…}}, "notes": {"plan": "…"},
     "logs": {"notes/changes": […]}, "problems": ["…"]}

- `messages` and `tool_calls` are as they are now, each once, in the order of the log; `parent` makes the tree, and
  `head` is the message that the conversation goes on from. Fields that fsstate does not know are there, too. Entries of
  events, steps and logs have their `seq`.
- `documents`, `notes` (Markdown, the whole file as a text) and `logs` stand under their paths in the session's folder.
- What cannot be read is in `problems`, and hides nothing else. What a session's config keeps in clear is in clear here.

`import_session` makes the session again in another store. It has the same id, times and content; messages that were
being written are "interrupted" there, and entries are numbered anew, from 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from fsstate import CorruptRecordError, Session, SessionHandle, Store, codec
from fsstate.backends.base import JSON, LOG, MARKDOWN
from fsstate.integrations.files import read_json
from fsstate.integrations.items import DocumentItem, Entry, Object, SessionItem, TextItem, is_list, is_object
from fsstate.integrations.landing import KEY, ImportReport, Landing, check_apart
from fsstate.integrations.whole import WholeSession
from fsstate.journal import Log
from fsstate.names import key_of, name_for

__all__ = ["export_session", "import_session"]

# In the exported document: do not rename.
_KIND: Final = "session"
_VERSION: Final = 1
_SYSTEM: Final = "fsstate"


def export_session(session: SessionHandle) -> Iterator[bytes]:
    """Give the document in pieces, in UTF-8, an entry a line; of all that is exported, only messages are in memory.

    Raises NotFoundError when there is no such session, and StorageError for reads that fail.
    """
    whole = WholeSession(session)
    return chain(_object(_members(whole)), [b"\n"])


def import_session(store: Store, path: str | os.PathLike[str]) -> ImportReport:
    """Make a session of the document in a file, durably; complete one that was cut off; see that it is there.

    As for other imports: nothing that is there is changed, and what cannot be stored is a problem in the report. Raises
    NotFoundError when there is no such file, and CorruptRecordError for one that holds no such document.
    """
    check_apart(store, path)
    found = _checked(read_json(Path(path)), os.fspath(path))
    landing = Landing(store, path)
    item = _item(found, landing)
    for kind, entries in item.logs.items():
        landing.expect(kind, len(entries))
    for kind in ("sessions", *(each.kind for each in item.documents)):
        landing.expect(kind)
    landing.session(item)
    _land_the_rest(landing, found, name_for(item.id))
    return landing.settle()


# --- out -------------------------------------------------------------------------------------------------------------


def _members(whole: WholeSession) -> Iterator[tuple[str, Iterable[bytes]]]:
    whole.check_logs()
    tree, session = whole.tree(), whole.handle
    yield "fsstate", _value(_KIND)
    yield "version", _value(_VERSION)
    yield "id", _value(session.id)
    yield "document", _value(_in_order(_without_own_mark(whole.document(), session.id)))
    yield "head", _value(tree.end)
    yield "messages", _array(map(_without_seq, tree.rows.values()))
    yield "tool_calls", _array(map(_without_seq, whole.calls()))
    yield "steps", _array(whole.rows(session.steps.log))
    yield "events", _array(whole.rows(session.events.log))
    yield "documents", _object(_documents(whole), "  ")
    notes = ((place, whole.text(ref)) for place, ref in whole.belongings(MARKDOWN))
    yield "notes", _object(((place, _value(text, "    ")) for place, text in notes), "  ")
    logs = ((place, whole.rows(Log(whole.backend, ref))) for place, ref in whole.belongings(LOG))
    yield "logs", _object(((place, _array(rows, "    ")) for place, rows in logs), "  ")
    yield "problems", _value(whole.problems)


def _documents(whole: WholeSession) -> Iterator[tuple[str, Iterable[bytes]]]:
    for place, ref in whole.belongings(JSON):
        before = len(whole.problems)
        value = whole.attempt(partial(whole.json, ref))
        if len(whole.problems) == before:
            yield place, _value(value, "    ")


def _object(members: Iterable[tuple[str, Iterable[bytes]]], indent: str = "") -> Iterator[bytes]:
    lead, end = b"{", b"}"
    for key, pieces in members:
        yield b"%b\n%b  %b: " % (lead, indent.encode(), codec.encode_line(key))
        yield from pieces
        lead, end = b",", f"\n{indent}}}".encode()
    yield end if lead == b"," else b"{}"


def _array(rows: Iterable[Mapping[str, Any]], indent: str = "  ") -> Iterator[bytes]:
    lead = b"["
    for row in rows:
        yield b"%b\n%b  %b" % (lead, indent.encode(), codec.encode_line(row))
        lead = b","
    yield f"\n{indent}]".encode() if lead == b"," else b"[]"


def _value(value: object, indent: str = "  ") -> Iterator[bytes]:
    yield codec.encode(value).removesuffix(b"\n").replace(b"\n", f"\n{indent}".encode())


def _without_seq(row: Mapping[str, Any]) -> Object:
    return {key: value for key, value in row.items() if key != "seq"}


def _in_order(document: Object) -> Object:
    """The document with the fields of a session first, in their order: an import writes them in another."""
    known = {key: document[key] for key in Session.__struct_fields__ if key in document}
    return {**known, **document}


def _without_own_mark(document: Object, name: str) -> Object:
    """The document as it was where it was exported first: an import leaves its mark."""
    metadata = document.get("metadata")
    if is_object(metadata) and metadata.get(KEY) == {"from": _SYSTEM, "id": key_of(name)}:
        metadata = {key: value for key, value in metadata.items() if key != KEY}
    rest = {key: value for key, value in document.items() if key != "metadata"}
    return {**rest, "metadata": metadata} if metadata else rest


# --- in --------------------------------------------------------------------------------------------------------------


def _checked(found: Any, path: str) -> Object:
    """The document, if it is one. What it lacks is empty."""
    if not is_object(found) or found.get("fsstate") != _KIND:
        reason = '"fsstate": "session" is missing; expected what `fsstate export SESSION --format json` writes'
        raise CorruptRecordError(path, reason)
    version = found.get("version")
    if not isinstance(version, int) or version > _VERSION:
        reason = f"it has version {version!r}, and this fsstate knows {_VERSION}: upgrade fsstate"
        raise CorruptRecordError(path, reason)
    whole = {**_EMPTY, **found}
    for key, empty in {**_EMPTY, "id": ""}.items():
        if not isinstance(whole.get(key), type(empty)):
            raise CorruptRecordError(path, f"$.{key}: expected {_NAMES[type(empty)]}")
    logs: Object = {f"$.{kind}": whole[kind] for kind in _LOGS}
    for place, rows in {**logs, **{codec.path_to("$.logs", key): rows for key, rows in whole["logs"].items()}}.items():
        if not is_list(rows) or not all(map(is_object, rows)):
            raise CorruptRecordError(path, f"{place}: expected an array of objects")
    return whole


def _item(found: Object, landing: Landing) -> SessionItem:
    document: Object = found["document"]
    metadata = document.get("metadata")
    metadata = dict(metadata) if is_object(metadata) else {}
    system, name = _origin(metadata.pop(KEY, None), found["id"])
    return SessionItem(
        system=system,
        id=name,
        place="$.document",
        fields={key: value for key, value in document.items() if key != "metadata"},
        metadata=metadata,
        logs={kind: [*_entries(kind, found[kind], landing)] for kind in _LOGS},
        head=(found.get("head"),),
        documents=[*map(_document, found["documents"].items())],
    )


def _origin(mark: object, name: str) -> tuple[str, str]:
    """Where the session was imported from before, and what it was called there; else that it comes from here."""
    if is_object(mark):
        system, known = mark.get("from"), mark.get("id")
        if isinstance(system, str) and isinstance(known, str) and name_for(known) == name:
            return system, known
    return _SYSTEM, key_of(name)


def _entries(kind: str, rows: list[Object], landing: Landing) -> Iterator[Entry]:
    seqs = [row.get("seq", number) for number, row in enumerate(rows, 1)]
    if seqs != [*range(1, len(rows) + 1)]:
        landing.note(f"$.{kind}", "entries are numbered anew, from 1: some before or between them are gone")
    for number, row in enumerate(rows):
        kept = _without_seq(row)
        if kind == "messages" and kept.get("status") == "streaming":
            # Whoever wrote it does not write here.
            kept["status"] = "interrupted"
        yield Entry(f"$.{kind}[{number}]", kept)


def _document(member: tuple[str, Any]) -> DocumentItem:
    place, value = member
    folder, _, name = place.rpartition("/")
    kind = "checkpoints" if folder == "checkpoints" else _KINDS.get(place, "documents")
    return DocumentItem(kind, folder, name, value, codec.path_to("$.documents", place))


def _land_the_rest(landing: Landing, found: Object, name: str) -> None:
    """Notes and logs that have no name of their own in a session."""
    for place, text in found["notes"].items():
        where = codec.path_to("$.notes", place)
        folder, _, stem = place.rpartition("/")
        if name not in landing.report.ids or not isinstance(text, str):
            landing.lose("documents", where, "its session was not imported, or it is no text")
        else:
            landing.expect("documents")
            landing.text(TextItem(folder, stem, text, where, name))
    for place, rows in found["logs"].items():
        where = codec.path_to("$.logs", place)
        if name not in landing.report.ids:
            landing.lose("documents", where, "its session was not imported")
        else:
            landing.expect("documents")
            landing.journal(place, [each.row for each in _entries(f"logs.{place}", rows, landing)], where, name)


_LOGS: Final = ("messages", "tool_calls", "steps", "events")
_KINDS: Final = {"goal": "goals", "tools": "tools"}
_EMPTY: Final[Object] = {"document": {}, **{kind: [] for kind in _LOGS}, "documents": {}, "notes": {}, "logs": {}}
_NAMES: Final[dict[type, str]] = {dict: "an object", list: "an array", str: "a text"}
