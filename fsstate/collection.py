"""JSON documents in a category: as dicts, or typed.

- Keys keep the order that the file has, and new ones come last: changing one field changes one line.
- A dict replaces the document. A typed value is laid over it: fields that the model does not know survive.
- An edit whose document was changed behind the lock is merged field by field; see `fsstate.merge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import NoneType
from typing import Any, Final, Generic, TypeGuard, TypeVar, overload

from fsstate import codec
from fsstate.backends.base import JSON, Backend, Blob, Ref
from fsstate.conditions import mapped
from fsstate.documents import Documents
from fsstate.errors import ConflictError
from fsstate.layout import differs_in_values
from fsstate.merge import keep_order, same, three_way
from fsstate.models import Model
from fsstate.times import format_time

__all__ = ["Collection", "kept"]

T = TypeVar("T")

_SCALARS: Final = (str, int, float, NoneType)


class Collection(Documents[T, T], Generic[T]):
    """A category of JSON documents.

    Without a `model` a document is any JSON value, a dict as a rule. With one (a dataclass, TypedDict, msgspec.Struct
    or pydantic model) it is read as that, and refused with ValidationError when it does not fit.
    """

    @overload
    def __init__(
        self: Collection[Any], backend: Backend, category: str, model: None = None, *, owner: Ref | None = None
    ) -> None: ...

    @overload
    def __init__(self, backend: Backend, category: str, model: type[T], *, owner: Ref | None = None) -> None: ...

    def __init__(
        self, backend: Backend, category: str, model: type[T] | None = None, *, owner: Ref | None = None
    ) -> None:
        super().__init__(backend, category, JSON, owner=owner)
        self._model: Model[T] = self._view(model)

    def _view(self, model: type[T] | None) -> Model[T]:
        return Model.of(model)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def _plain(self, where: Mapping[str, object]) -> Mapping[str, object]:
        if not self._model.is_identity:
            return where
        # What was put as a time stands in the file as its text.
        return {name: mapped(wanted, _as_stored) for name, wanted in where.items()}

    def _seen(self, document: Any, ref: Ref) -> Any:
        """The document as the model sees it. A new object, or the same if nothing is to be told apart."""
        return document

    def _unseen(self, document: Any, original: Any, ref: Ref) -> Any:
        """What of it the file holds, which holds `original` now (None: a new file)."""
        return document

    def _decode(self, blob: Blob, ref: Ref) -> T:
        where = self._where(ref)
        return self._model.load(self._seen(codec.decode(blob, where), ref), where)

    def _told(self, blob: Blob, ref: Ref) -> Mapping[str, Any]:
        document = codec.decode(blob, self._where(ref))
        return document if _is_object(document) else {}

    def _encode(self, value: T, blob: Blob | None, ref: Ref) -> bytes:
        where = self._where(ref)
        if blob is None:
            return codec.encode(self._unseen(self._model.dump(value, None, where=where), None, ref), where=where)
        document = codec.decode(blob, where)
        dumped = self._model.dump(value, self._seen(document, ref), where=where)
        return kept(self._unseen(dumped, document, ref), document, blob, where)

    def _save(self, value: T, blob: Blob | None, ref: Ref) -> bytes:
        if blob is None or self._model.is_identity:
            return super()._save(value, blob, ref)
        # A model refuses by itself what cannot be stored.
        return self._settled(self._encode(value, blob, ref), blob, ref)

    def _refit(self, value: T, data: bytes, blob: Blob, ref: Ref) -> bytes:
        if self._model.is_identity and differs_in_values(blob.data, data):
            return data
        return self._encode(value, blob, ref)

    def _merge(self, base: Blob | None, mine: T, theirs: Blob | None, ref: Ref) -> bytes | None:
        where = self._where(ref)
        before = None if base is None else self._seen(codec.decode(base, where), ref)
        after = _plain(self._model.dump(mine, before, where=where), where)
        if theirs is None:
            if same(before, after):
                return None
            raise ConflictError(where, base=before, mine=after, reason="who deleted it")
        # Created on both sides: with nothing as the base, fields that only one side has do not meet.
        start: Any = {} if base is None else before
        original = codec.decode(theirs, where)
        present = self._seen(original, ref)
        merged, conflicts = three_way(start, after, present)
        if conflicts:
            raise ConflictError(
                where, base=before, mine=after, theirs=present, revision=theirs.revision, fields=conflicts
            )
        # Two changes that are fine each may together not fit the model; what cannot be read back is not written.
        self._model.load(merged, where)
        return kept(self._unseen(merged, original, ref), original, theirs, where)


def kept(value: Any, document: Any, blob: Blob, where: str) -> bytes:
    """The value in the file's order of keys; or the file's own bytes, whatever their layout, when they say the same."""
    ordered = value if _is_in_order(value, document) else keep_order(value, document)
    data = codec.encode(ordered, where=where)
    return blob.data if data == blob.data or data == codec.encode(document, where=where) else data


def _is_in_order(value: object, like: object) -> bool:
    """Whether `keep_order` surely has nothing to do: nearly always so, and told several times faster than done."""
    if value is like:
        return True
    if _is_object(value):
        return _is_object(like) and list(value) == list(like) and _are_in_order(value.values(), like.values())
    if _is_array(value):
        return _is_array(like) and len(value) == len(like) and _are_in_order(value, like)
    return True


def _are_in_order(values: Iterable[object], like: Iterable[object]) -> bool:
    for value, other in zip(values, like, strict=True):
        if not isinstance(value, _SCALARS) and not _is_in_order(value, other):
            return False
    return True


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _as_stored(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) and value.tzinfo is not None else value


def _plain(value: Any, where: str) -> Any:
    """The value as it will be read back: a datetime that was put as such is the text that stands in the file."""
    return codec.decode_bytes(codec.encode(value, where=where), where)
