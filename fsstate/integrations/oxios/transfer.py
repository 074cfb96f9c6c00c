"""A directory of oxios into a store; the package says what becomes of what."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from fsstate import CorruptRecordError, StorageError, Store
from fsstate.embedded import Embedded, embedded_messages, embedded_steps
from fsstate.integrations.files import Found, category_of, find, name_of, read_json, read_text
from fsstate.integrations.items import (
    DocumentItem,
    Entry,
    Object,
    SessionItem,
    TextItem,
    is_list,
    is_object,
    session_fields,
)
from fsstate.integrations.landing import ImportReport, Landing, Progress, check_apart
from fsstate.names import name_for

__all__ = ["import_oxios"]

_NAME: Final = "oxios"
_SESSIONS: Final = "sessions"
_TEMPORARY: Final = re.compile(r".+\.[0-9]+\.[0-9a-fA-F-]{32,36}\.tmp")
_INDEX: Final = re.compile(r"agent_log\.db(?:-wal|-shm|-journal)?")
# What a session embeds, and what becomes of it.
_EMBEDDED: Final = {"user_messages": "messages", "agent_responses": "messages", "trajectory_steps": "steps"}


def import_oxios(store: Store, path: str | os.PathLike[str], *, progress: Progress | None = None) -> ImportReport:
    """Import a state directory of oxios, durably, and return what was done.

    `progress` is called now and then with how many files are done and how many there are. A file that cannot be
    imported is a problem in the report and stops nothing. Raises NotFoundError when there is no such directory, and
    StorageError when the store cannot be written to.
    """
    check_apart(store, path)
    landing = Landing(store, path, progress)
    found = find(path, without=store.path)
    # What belongs to a session needs it to be there.
    for number, each in enumerate(sorted(found, key=lambda each: (not _is_session(each), each.place))):
        landing.show(number, len(found))
        _take(landing, each)
    landing.show(len(found), len(found))
    return landing.settle()


def _is_session(found: Found) -> bool:
    return found.folder == _SESSIONS and found.path.suffix == ".json"


def _take(landing: Landing, found: Found) -> None:
    if (reason := _nothing_in(found)) is not None:
        landing.pass_over(found.place, reason)
        return
    kind = "sessions" if _is_session(found) else "documents"
    landing.expect(kind)
    reason = found.flaw or _unfit(found)
    if reason is not None:
        landing.fail(kind, found.place, f"not imported: {reason}")
        return
    try:
        _take_file(landing, found)
    except CorruptRecordError as error:
        landing.fail(kind, found.place, f"not imported: {_told(error)}")
    except StorageError:
        raise  # of the store, not of the file
    except OSError as error:
        landing.fail(kind, found.place, f"not imported: {error.strerror or error}")


def _nothing_in(found: Found) -> str | None:
    name = found.path.name
    if _TEMPORARY.fullmatch(name):
        return "left over from a write that did not come to its end"
    if _INDEX.fullmatch(name):
        return "an index, which oxios makes anew from agents/"
    return "hidden" if found.is_hidden else None


def _unfit(found: Found) -> str | None:
    if found.path.suffix not in (".json", ".md"):
        return "neither .json nor .md"
    return None if found.folder else "it stands in no category"


def _told(error: CorruptRecordError) -> str:
    place = f"line {error.line}, column {error.column}: " if error.line and error.column else ""
    return place + error.reason


def _take_file(landing: Landing, found: Found) -> None:
    session, category = _owner(category_of(found.folder))
    name = name_of(found.path.stem)
    if found.path.suffix == ".md":
        landing.text(TextItem(category, name, read_text(found.path), found.place, session))
        return
    value = read_json(found.path)
    if _is_session(found):
        _take_session(landing, found, value)
    else:
        landing.document(DocumentItem("documents", category, name, value, found.place, session))


def _owner(category: str) -> tuple[str | None, str]:
    """The session that a category belongs to, and the category below it."""
    first, _, rest = category.partition("/")
    if first != _SESSIONS or not rest:
        return None, category
    session, _, below = rest.partition("/")
    return session, below


def _take_session(landing: Landing, found: Found, value: Any) -> None:
    if not is_object(value):
        landing.fail("sessions", found.place, "not imported: a session is a JSON object")
        return
    messages = _entries(landing, found, value, "messages", embedded_messages(value))
    steps = _entries(landing, found, value, "steps", embedded_steps(value))
    # What is no list was told, and stays in the document as it is.
    rest = {key: each for key, each in value.items() if key not in _EMBEDDED or not is_list(each)}
    told = rest.pop("id", found.path.stem)
    if isinstance(parent := rest.get("parent_session_id"), str):
        rest["parent_id"] = name_for(parent)
    fields, metadata = session_fields(rest, _NAME, lambda reason: landing.note(found.place, reason))
    if told != found.path.stem:
        metadata[_NAME] = {**metadata.get(_NAME, {}), "id": told}
    logs = {"messages": messages, "steps": steps}
    item = SessionItem(system=_NAME, id=found.path.stem, place=found.place, fields=fields, metadata=metadata, logs=logs)
    landing.session(item)


def _entries(landing: Landing, found: Found, value: Object, kind: str, embedded: Embedded) -> list[Entry]:
    number = sum(len(value[key]) for key, each in _EMBEDDED.items() if each == kind and is_list(value.get(key)))
    landing.expect(kind, number)
    for flaw in embedded.flaws:
        landing.note(found.place, flaw)
    landing.report[kind].failed += number - len(embedded.rows)
    return [Entry(f"{found.place}, {kind} {place}", row) for place, row in enumerate(embedded.rows, 1)]
