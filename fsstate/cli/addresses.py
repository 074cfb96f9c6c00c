"""How people name records: `category/name`, with or without its extension; or a session by id, prefix or label.

    agents/planner          agents/planner.json, or .md or .jsonl, whichever is there
    notes/standup.md        that very file
    sessions/0198c3…/events the log of a session
    0198c3                  the session whose id begins so
    my label                the session with this label

A session is its document: it is found as `sessions/<id>.json`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref, Suffix
from fsstate.cli.base import ParamType, Settings
from fsstate.errors import AmbiguousIdError, FsStateError, NotFoundError, StorageError

__all__ = [
    "KINDS",
    "SESSIONS",
    "Category",
    "Record",
    "Session",
    "Text",
    "find",
    "find_session",
    "is_session",
    "owner_of",
    "records",
]

SESSIONS: Final = "sessions"
KINDS: Final[dict[Suffix, str]] = {JSON: "document", MARKDOWN: "markdown", LOG: "log"}


def find(settings: Settings, text: str) -> Ref:
    """The record or session that a person means. Raises NotFoundError, AmbiguousIdError or InvalidNameError."""
    settings.require_store()
    if "/" not in text:
        return find_session(settings, text)
    found = _existing(settings.backend, text)
    if not found:
        raise NotFoundError(text, _missing(settings, text))
    if len(found) > 1:
        raise AmbiguousIdError(text, [str(ref) for ref in found])
    return found[0]


def find_or_new(settings: Settings, text: str) -> Ref:
    """The record that is there, or else the one to make: a JSON document unless the extension says otherwise."""
    if "/" not in text:
        return find(settings, text)
    found = _existing(settings.backend, text)
    if len(found) > 1:
        raise AmbiguousIdError(text, [str(ref) for ref in found])
    return found[0] if found else _exact(text) or Ref(*_split(text), JSON)


def find_session(settings: Settings, needle: str) -> Ref:
    """The session that a person means, as its document. Raises NotFoundError or AmbiguousIdError."""
    settings.require_store()
    name = needle if _stands(settings.backend, needle) else None
    if name is None:
        try:
            name = settings.opened.sessions.find(needle).id
        except NotFoundError:
            raise NotFoundError(needle, _no_session(settings, needle)) from None
    return Ref(SESSIONS, name, JSON)


def is_session(ref: Ref) -> bool:
    """Whether the record is a session's document."""
    return ref.category == SESSIONS and ref.suffix == JSON


def owner_of(ref: Ref) -> Ref | None:
    """The session that the record belongs to, if any: what is written for it must not outlive it."""
    above, _, rest = ref.category.partition("/")
    return Ref(SESSIONS, rest.partition("/")[0], JSON) if above == SESSIONS and rest else None


def records(backend: Backend, category: str) -> list[Ref]:
    """All records of a category, by name."""
    return sorted(Ref(category, name, suffix) for suffix in KINDS for name in backend.names(category, suffix))


def _is_there(backend: Backend, ref: Ref) -> bool:
    """Whether a file has that name, readable or not. Raises StorageError when that cannot be told."""
    path = backend.location(ref)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError.of("look for", path, error) from error
    return True


def _stands(backend: Backend, name: str) -> bool:
    return names.is_name(name) and _is_there(backend, Ref(SESSIONS, name, JSON))


def _split(text: str) -> tuple[str, str]:
    category, _, name = text.rpartition("/")
    return names.check_category(category), names.check_name(name)


def _exact(text: str) -> Ref | None:
    """The record that the text names with its extension, if it has one."""
    category, name = _split(text)
    for suffix in KINDS:
        if name.endswith(suffix) and len(name) > len(suffix):
            return Ref(category, names.check_name(name.removesuffix(suffix)), suffix)
    return None


def _existing(backend: Backend, text: str) -> list[Ref]:
    """The records that the text may mean. The file of that very name is meant before any other."""
    if text.endswith("/"):
        names.check_category(text.rstrip("/"))
        return []
    exact = _exact(text)
    if exact is not None and _is_there(backend, exact):
        return [exact]
    category, name = _split(text)
    candidates = [Ref(category, name, suffix) for suffix in KINDS]
    return [ref for ref in candidates if _is_there(backend, ref)]


def _no_session(settings: Settings, needle: str) -> str:
    hint = "a record is given as category/name, a session by its id, 6 or more characters of it, or its label"
    if names.is_name(needle) and Path(settings.store, needle).is_dir():
        hint = f"{needle} is a category, and `fsstate ls {needle}` lists its records"
    return f"there is no session {needle!r}; {hint}"


def _missing(settings: Settings, text: str) -> str:
    category = text.rstrip("/")
    if Path(settings.store, category).is_dir():
        return f"{category} is a category; `fsstate ls {category}` lists its records"
    where = Path(settings.store, text)
    return f"{where} does not exist" + ("" if _exact(text) else ", neither as .json nor .md nor .jsonl")


class Text(ParamType):
    """A text that the shell can complete from what is in the store."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What may be meant. A store that cannot be read completes nothing."""
        del param
        settings = ctx.ensure_object(Settings)
        if not Path(settings.store).is_dir():
            return []
        try:
            return [
                CompletionItem(each)
                for each in self.candidates(settings.backend, incomplete)
                if each.startswith(incomplete)
            ]
        except (FsStateError, OSError):
            return []

    def candidates(self, backend: Backend, incomplete: str) -> Iterator[str]:
        """Everything that begins as `incomplete` does, and perhaps more."""
        raise NotImplementedError


class Session(Text):
    """A session's id, prefix or label."""

    name = "session"

    def candidates(self, backend: Backend, incomplete: str) -> Iterator[str]:
        """All sessions' ids."""
        del incomplete
        yield from backend.names(SESSIONS, JSON)


class Category(Text):
    """A category."""

    name = "category"

    def candidates(self, backend: Backend, incomplete: str) -> Iterator[str]:
        """The categories below what is there already."""
        above = incomplete.rpartition("/")[0]
        yield from (f"{above}/{name}".lstrip("/") for name in backend.categories(above))


class Record(Category):
    """A record, or a session."""

    name = "record"

    def candidates(self, backend: Backend, incomplete: str) -> Iterator[str]:
        """Categories, their records, and sessions."""
        above, slash, _ = incomplete.rpartition("/")
        yield from (f"{category}/" for category in super().candidates(backend, incomplete))
        if slash:
            yield from map(str, records(backend, above))
        else:
            yield from backend.names(SESSIONS, JSON)
