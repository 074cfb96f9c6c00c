"""A store: one directory, opened. What is in it is the business of the floors below."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Ref
from fsstate.options import StoreOptions

# What a store that is only opened, or only reads documents, does not need is imported at its first use.
if TYPE_CHECKING:
    from fsstate.collection import Collection
    from fsstate.journal import Journal
    from fsstate.markdown import Markdown
    from fsstate.projection import Projections
    from fsstate.session import SessionHandle
    from fsstate.sessions import Session, Sessions, SessionSummary

__all__ = ["Store"]

T = TypeVar("T")


class Store:
    """An application's or an agent's state as plain files below one directory.

    Opening reads `.fsstate/store.json` and writes nothing; the directory comes with the first write. Safe to share
    between threads, between processes that open it each for itself, and with people who edit the files. A context
    manager.

    Raises NewerFormatError for a store that a newer fsstate wrote, StorageError when `path` is no directory.
    """

    def __init__(self, path: str | os.PathLike[str], options: StoreOptions | None = None) -> None:
        from fsstate.backends.files import FileBackend

        options = options or StoreOptions()
        self._open(FileBackend(path, options), options, os.path.abspath(path))  # noqa: PTH100 - a str, links kept

    @classmethod
    def in_memory(cls, options: StoreOptions | None = None) -> Self:
        """Return a store without files, for tests: the same API, and gone when it is no longer used."""
        from fsstate.backends.memory import MemoryBackend

        options = options or StoreOptions()
        return cls.over(MemoryBackend(options), options, path=":memory:")

    @classmethod
    def over(cls, backend: Backend, options: StoreOptions | None = None, *, path: str = "") -> Self:
        """Return a store over a backend of your own, which closing the store closes. `path` is what it is called."""
        store = cls.__new__(cls)
        store._open(backend, options or StoreOptions(), path)
        return store

    def _open(self, backend: Backend, options: StoreOptions, path: str) -> None:
        self.path = path
        self.options = options
        self.backend = backend
        self._made: tuple[Sessions, Projections] | None = None

    def __repr__(self) -> str:
        return f"Store({self.path!r})"

    @overload
    def collection(self, category: str, *, model: None = None) -> Collection[Any]: ...

    @overload
    def collection(self, category: str, *, model: type[T]) -> Collection[T]: ...

    def collection(self, category: str, *, model: type[T] | None = None) -> Collection[Any]:
        """Return the JSON documents of a category, which may be nested: `teams/red/agents`.

        With a `model` (dataclass, TypedDict, msgspec.Struct or pydantic model) they are read as that. Raises
        InvalidNameError for a category that cannot be a directory's name.
        """
        from fsstate.collection import Collection

        return Collection(self.backend, category) if model is None else Collection(self.backend, category, model)

    def markdown(self, category: str) -> Markdown:
        """Return the Markdown documents of a category."""
        from fsstate.markdown import Markdown

        return Markdown(self.backend, category)

    def journal(self, category: str, name: str) -> Journal:
        """Return one log, `<category>/<name>.jsonl`."""
        from fsstate.journal import Journal

        return Journal(self.backend, Ref(category, name, LOG), self.options.clock)

    @property
    def sessions(self) -> Sessions:
        """The sessions."""
        return self._policies()[0]

    def session(self, id: str) -> SessionHandle:  # noqa: A002 - what the attribute is called
        """Return what belongs to one session: messages, events, tool calls and so on. Reads nothing."""
        from fsstate.session import SessionHandle

        sessions, projections = self._policies()
        return SessionHandle(sessions, projections, self.options.clock, id)

    def categories(self, below: str = "") -> list[str]:
        """Return the names of the categories directly below one (the top level when empty), sorted."""
        return self.backend.categories(names.check_category(below) if below else "")

    def path_of(self, record: Session | SessionSummary | tuple[str, str]) -> str:
        """Return which file a person finds a record in: a session, or (category, name).

        For a pair it is the JSON document, the Markdown document or the log, the first of these that exists; when none
        does, where the JSON document would be.
        """
        if not isinstance(record, tuple):
            return self.backend.location(Ref("sessions", names.check_segment(record.id), JSON))
        category, name = names.check_category(record[0]), names.check_name(record[1])
        refs = [Ref(category, name, JSON), Ref(category, name, MARKDOWN), Ref(category, name, LOG)]
        there = (ref for ref in refs if name in self.backend.names(category, ref.suffix))
        return self.backend.location(next(there, refs[0]))

    def close(self) -> None:
        """Give back all resources. Waits a little for pruning in the background; later calls raise StoreClosedError."""
        if self._made is not None:
            self._made[0].close()
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _policies(self) -> tuple[Sessions, Projections]:
        made = self._made
        if made is None:
            from fsstate.projection import Projections
            from fsstate.sessions import Sessions

            projections = Projections(self.backend)
            # Of two threads that are the first at once, both get the same.
            made = self._made = self.__dict__.setdefault(
                "_first", (Sessions(projections, self.options.clock), projections)
            )
        return made
