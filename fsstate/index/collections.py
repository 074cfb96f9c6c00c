"""Collections with declared fields, whose queries are put to the index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar, cast

from fsstate.backends.base import Backend, Stamps
from fsstate.collection import Collection
from fsstate.documents import Item, Where
from fsstate.index.fetching import fetch
from fsstate.index.index import Index
from fsstate.index.views import Kept, View
from fsstate.models import Model
from fsstate.queries import Question

__all__ = ["IndexedCollection", "version_of"]

T = TypeVar("T")

# To be changed whenever something else is kept of the same documents.
_LAYOUT: Final = "3"
# Their code changes with their release, and decides nothing about what a field is called or defaults to.
_FOREIGN: Final = ("builtins", "typing", "msgspec", "pydantic", "abc")
_THIS_PROCESS: Final = os.urandom(8).hex()


class IndexedCollection(Collection[T], Generic[T]):
    """A category of JSON documents that is asked for its declared fields only, and then reads only what it finds."""

    def __init__(
        self, backend: Backend, category: str, model: type[T] | None, index: Index, indexed: Iterable[str]
    ) -> None:
        super().__init__(backend, category, cast("type[T]", model))
        self.indexed = _field_names(indexed)
        self._index = index
        self._indexed_view = _Documents(self, model)

    def count(self, where: Where[T] = None) -> int:
        """Return the number of documents, or of those that fit `where`, as in `query`."""
        if where is None or callable(where) or not self._index.serves(self._indexed_view):
            return super().count(where)
        return self._index.count(self._indexed_view, self._question(where, ()))

    def field_of(self, value: T, name: str) -> Any:
        """A field of a document, or MISSING."""
        return self._field(value, name)

    def item_of(self, name: str) -> Item[T] | None:
        """A document with its name, or None when it is gone: one that is there may hold null."""
        ref = self.ref_of(name)
        blob = self._backend.read(ref)
        return None if blob is None else Item(name, self._decode(blob, ref))

    def _question(self, where: Where[T], order_by: str | Sequence[str]) -> Question:
        question = super()._question(where, order_by)
        self._check_declared(name for name, _ in question.criteria)
        self._check_declared(order.field for order in question.order)
        return question

    def _check_declared(self, fields: Iterable[str]) -> None:
        unknown = next((field for field in fields if field not in self.indexed), None)
        if unknown is not None:
            known = ", ".join(self.indexed) or "nothing"
            raise ValueError(f"{self.category} are asked for {known}, not for {unknown!r}; declare it as indexed")

    def _answer(self, question: Question, fits: Callable[[T], bool] | None) -> list[Item[T]]:
        asks = bool(question.criteria or question.limit is not None)
        if fits is not None or not asks or not self._index.serves(self._indexed_view):
            return super()._answer(question, fits)
        return fetch(
            self._index, self._indexed_view, question, read=self.item_of, field=self._field_of, place=itemgetter(0)
        )


def _field_names(given: Iterable[object]) -> tuple[str, ...]:
    # A text is iterable, too: over its own letters, which is never what was meant.
    every: list[object] = [] if isinstance(given, str) else [*given]
    names = dict.fromkeys(each for each in every if isinstance(each, str))
    if isinstance(given, str) or len(names) != len(set(every)):
        raise TypeError(f"indexed is a sequence of names, got {given!r}")
    return tuple(names)


class _Documents(View):
    """The documents of an indexed collection."""

    def __init__(self, collection: IndexedCollection[Any], model: type[Any] | None) -> None:
        self._collection = collection
        self.name = f"collection/{collection.category}"
        self.version = version_of(model, collection.indexed)
        self.fields = self.sorted_fields = collection.indexed

    def folders(self) -> Sequence[str]:
        """The collection's category."""
        return (self._collection.category,)

    def place_of(self, folder: str, name: str) -> str:
        """The document's name."""
        return name

    def read(self, folder: str, name: str, *, before: bytes | None, logs: Stamps | None) -> Kept | None:
        """Take the declared fields out of a document."""
        item = self._collection.item_of(name)
        if item is None:
            return None
        return Kept({field: self._collection.field_of(item.value, field) for field in self.fields})


def version_of(model: type[Any] | None, fields: Iterable[str]) -> str:
    """What differs whenever the same documents may have other values in these fields."""
    fields = tuple(fields)
    told = [
        _LAYOUT,
        *fields,
        *(() if model is None else (_source_of(cast("Hashable", model)), _defaults(model, fields))),
    ]
    return hashlib.blake2s("\0".join(told).encode(), digest_size=12).hexdigest()


def _defaults(model: type[Any], fields: Iterable[str]) -> str:
    """The defaults of fields; those that are made anew each time, such as ids, decide nothing."""
    once, again = Model.of(model).defaults(), Model.of(model).defaults()  # pyright: ignore[reportUnknownMemberType]
    return repr([(field, once[field]) for field in fields if field in once and once[field] == again[field]])


@lru_cache(maxsize=256)
def _source_of(model: Hashable) -> str:
    """The code of a model and of what it derives from. Where nobody can tell it, it is good for this process only."""
    from inspect import getsource

    classes = [each for each in getattr(model, "__mro__", ()) if each.__module__.partition(".")[0] not in _FOREIGN]
    try:
        return "\n".join(f"{each.__module__}.{each.__qualname__}\n{getsource(each)}" for each in classes)
    except (OSError, TypeError):
        return _THIS_PROCESS
