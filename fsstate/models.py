"""Typed records: a view over a document that never takes from it what the view does not know.

The parsed dict is the truth. A `Model` turns it into what the user brings (a dataclass, TypedDict, msgspec.Struct,
pydantic model, or a `list[…]` or `dict[…]` of the first three) and, on the way back, lays only what changed over it:

- fields unknown to the model survive, at every depth;
- fields at their default are left out, unless the document has them already;
- what is written fits the model and reads back as the same value.

Where a top-level field is a datetime, every form that `fsstate.times` knows is read; one form is written.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import typing
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeGuard, TypeVar, cast

# msgspec is imported where it is used: documents without a model do without it.
from fsstate.codec import encode_line, path_to
from fsstate.errors import InvalidValueError, ValidationError
from fsstate.merge import overlay
from fsstate.times import format_time, parse_time

__all__ = ["Model"]

T = TypeVar("T")

_Object: TypeAlias = dict[str, Any]
_Array: TypeAlias = list[Any]
_UNTYPED: Final[tuple[Any, ...]] = (None, Any, object, dict, dict[str, Any], dict[str, object])
_OPTIONAL_TIME: Final = {datetime, type(None)}


def _is_object(value: object) -> TypeGuard[_Object]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[_Array]:
    return isinstance(value, list | tuple)


class Model(Generic[T]):
    """How the documents of a collection are seen. Safe to use from any thread."""

    # Whether `load` and `dump` give the document itself.
    is_identity = False

    def __init__(self, target: Any) -> None:
        self._target = target
        # The keys of the top-level fields that are times.
        hints = _hints_by_key(target)
        self.times = frozenset(key for key, hint in hints.items() if _is_time(hint))
        # The keys of all of them; none where any may be.
        self.keys = frozenset(hints)
        # Whose keys in the document are not their names in Python.
        self.renamed = _field_names(target) - self.keys

    @staticmethod
    def of(target: type[T] | None) -> Model[T]:
        """The model for a type. None, `dict`, `dict[str, Any]` and `Any` give the one that changes nothing.

        Raises TypeError for a type that cannot be read from JSON.
        """
        if any(target == untyped for untyped in _UNTYPED):
            return _Identity(target)
        return _PydanticModel(target) if _is_pydantic(target) else _MsgspecModel(target)

    def load(self, document: Any, where: str) -> T:
        """The document as a T. `document` is not changed.

        Raises ValidationError that names `where`, the field's path, and what was expected.
        """
        return self._convert(self._with_times(document, where), where)

    def dump(self, value: T, base: Any = None, *, where: str = "the value") -> Any:
        """The document for a value: what changed since `base`, laid over `base` (None: a new document).

        Raises ValidationError when the value does not fit its own type, for it could not be read back, and
        InvalidValueError when it holds something without a JSON form. Neither argument is changed.
        """
        after = self._filled(value, where)
        if isinstance(base, dict | list):
            # A base that the model refuses may have to go as a whole.
            with contextlib.suppress(ValidationError):
                return self._checked(overlay(base, self._before(base, after, where), after), after, where)
        return self._checked(after, after, where)

    def defaults(self) -> dict[str, Any]:
        """The fields that need not be given, with their defaults, as far as those can be told."""
        return {field.name: field.default() for field in _fields(self._target) if field.default is not None}

    def made(self, fields: Mapping[str, Any]) -> T:
        """A new value with these fields. Raises TypeError for a field that it does not have."""
        if typing.is_typeddict(self._target):
            self._refuse_unknown(fields, self.keys)
        return cast("T", self._target(**fields))

    def _refuse_unknown(self, fields: Iterable[str], known: Container[str | None]) -> None:
        unknown = next((name for name in fields if name not in known), None)
        if unknown is not None:
            raise TypeError(f"{self._target.__name__} has no field {unknown!r}")

    def replaced(self, value: T, fields: Mapping[str, Any]) -> T:
        """A copy of a value with other fields. Raises TypeError for a field that it does not have."""
        import dataclasses

        return cast("T", dataclasses.replace(cast("Any", value), **fields))

    def _before(self, base: Any, after: Any, where: str) -> Any:
        try:
            return self._filled(self.load(base, where), where)
        except ValidationError:
            # Not a document of this model: all that the value says is a change, but for the defaults that it lacks.
            left_out = after.defaults - base.keys() if isinstance(after, _Filled) and isinstance(base, dict) else ()
            return {key: after[key] for key in left_out}

    def _checked(self, merged: Any, after: Any, where: str) -> Any:
        """Without defaults if that reads back as the same, else (a default tells a union's members apart) with all."""
        bare = _settled(merged, defaults=False)
        with contextlib.suppress(ValidationError):
            if self._filled(self.load(bare, where), where) == after:
                return bare
        full = _settled(merged, defaults=True)
        self.load(full, where)
        return full

    def _with_times(self, document: Any, where: str) -> Any:
        if not self.times or not _is_object(document):
            return document
        document = dict(document)
        for key in self.times & document.keys():
            if document[key] is not None:
                document[key] = _time_at(key, document[key], where)
        return document

    def _convert(self, document: Any, where: str) -> T:
        raise NotImplementedError

    def _filled(self, value: T, where: str) -> Any:
        """The value's document with every field, defaults marked."""
        raise NotImplementedError


class _Identity(Model[T]):
    """Documents as they are."""

    is_identity = True

    def load(self, document: Any, where: str) -> T:
        return cast("T", document)

    def dump(self, value: T, base: Any = None, *, where: str = "the value") -> Any:
        return value

    def replaced(self, value: T, fields: Mapping[str, Any]) -> T:
        return _with_fields(value, fields)


class _MsgspecModel(Model[T]):
    """Dataclasses, TypedDicts, Structs and containers of them."""

    def __init__(self, target: Any) -> None:
        # Says at once, not at the first record, that a type is not supported.
        import msgspec

        msgspec.json.Decoder(target)
        super().__init__(target)

    def dump(self, value: T, base: Any = None, *, where: str = "the value") -> Any:
        """As every model does; looking only at the fields that changed where they can be told."""
        if _is_object(base) and _fields(self._target):
            with contextlib.suppress(ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError):
                return self._changed(value, base, where)
        return super().dump(value, base, where=where)

    def _changed(self, value: T, base: _Object, where: str) -> _Object:
        """The document for a value, if only its fields matter. Raises ValueError or TypeError if more does."""
        known = self.load(base, where)
        if type(known) is not type(value):
            raise TypeError("a kind of its own")
        packed = _packed(value)
        changed = [key for key, item in _packed(known).items() if item != packed[key]]
        merged: _Object = {**overlay(base, _part(known, changed), _part(value, changed))}
        for key in merged.keys() & changed:
            merged[key] = _settled(merged[key], defaults=False)
        if _packed(self.load(merged, where)) != packed:
            raise ValueError("it reads back otherwise")
        return merged

    def _convert(self, document: Any, where: str) -> T:
        import msgspec

        try:
            return cast("T", msgspec.convert(document, self._target, str_keys=True))
        except msgspec.ValidationError as error:
            reason, _, path = str(error).rpartition(" - at `")
            raise ValidationError(where, f"{path[:-1]}: {reason}" if reason else f"$: {error}") from None

    def replaced(self, value: T, fields: Mapping[str, Any]) -> T:
        if isinstance(value, dict):
            if typing.is_typeddict(self._target):
                self._refuse_unknown(fields, self.keys)
            return _with_fields(cast("T", value), fields)
        if not hasattr(value, "__struct_fields__"):
            return super().replaced(value, fields)
        import msgspec

        return cast("T", msgspec.structs.replace(cast("Any", value), **fields))

    def _filled(self, value: T, where: str) -> Any:
        if _fields(self._target) and not isinstance(value, self._target):
            raise _other_type(self._target, value, where)
        try:
            return _filled(value, _to_builtins(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValueError(f"{error} ({where})") from None


class _PydanticModel(Model[T]):
    """Through pydantic's own API, so that validators, serialisers and aliases work."""

    def _convert(self, document: Any, where: str) -> T:
        try:
            return cast("T", self._target.model_validate(document))
        except ValueError as error:
            raise ValidationError(where, _pydantic_reason(error)) from None

    def made(self, fields: Mapping[str, Any]) -> T:
        known = self._target.model_fields
        self._refuse_extra(fields, {*known, *(field.alias for field in known.values())})
        return self._valid(lambda: self._target(**fields))

    def replaced(self, value: T, fields: Mapping[str, Any]) -> T:
        self._refuse_extra(fields, self._target.model_fields)
        changed = cast("Any", value).model_copy(update=dict(fields))
        # A copy takes what it is given: the model's own validators have not seen it yet.
        return self._valid(lambda: self._target.model_validate(changed.model_dump(by_alias=True, warnings=False)))

    def defaults(self) -> dict[str, Any]:
        given = {name: field for name, field in self._target.model_fields.items() if not field.is_required()}
        return {name: field.get_default(call_default_factory=False) for name, field in given.items()}

    def _refuse_extra(self, fields: Iterable[str], known: Container[str | None]) -> None:
        if self._target.model_config.get("extra") != "allow":
            self._refuse_unknown(fields, known)

    def _valid(self, make: Callable[[], Any]) -> T:
        try:
            return cast("T", make())
        except ValueError as error:
            raise ValidationError(f"a {self._target.__name__}", _pydantic_reason(error)) from None

    def _filled(self, value: T, where: str) -> Any:
        if not isinstance(value, self._target):
            raise _other_type(self._target, value, where)
        model: Any = value
        try:
            document = model.model_dump(mode="json", by_alias=True, warnings=False)
            bare = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, warnings=False)
            return _filled_by_pydantic(document, bare, model.model_dump(by_alias=True, warnings=False))
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"{error} ({where})") from None


def _with_fields(value: T, fields: Mapping[str, Any]) -> T:
    return cast("T", {**cast("_Object", value), **fields})


def _other_type(target: Any, value: object, where: str) -> ValidationError:
    return ValidationError(where, f"$: Expected `{target.__name__}`, got `{type(value).__name__}`")


def _is_pydantic(target: Any) -> bool:
    # Whoever brings a pydantic model has imported pydantic; nobody else waits for it.
    pydantic: Any = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(target, type) and issubclass(target, pydantic.BaseModel)


def _pydantic_reason(error: ValueError) -> str:
    details: Callable[[], list[_Object]] | None = getattr(error, "errors", None)
    if details is None:
        return f"$: {error}"
    return "; ".join(f"{functools.reduce(path_to, item['loc'], '$')}: {item['msg']}" for item in details())


# --- times -----------------------------------------------------------------------------------------------------------


def _hints_by_key(target: Any) -> dict[str, Any]:
    """The types of the top-level fields, by their keys in the document."""
    try:
        hints = typing.get_type_hints(target)
    except (TypeError, NameError):
        return {}
    if _is_pydantic(target):
        fields = target.model_fields
        return {fields[name].alias or name: hint for name, hint in hints.items() if name in fields}
    keys = {field.name: field.key for field in _fields(target)}
    return {keys.get(name, name): hint for name, hint in hints.items()}


def _field_names(target: Any) -> frozenset[str]:
    """The names that the fields have in Python, where those can differ from their keys."""
    if _is_pydantic(target):
        return frozenset(target.model_fields)
    return frozenset(field.name for field in _fields(target))


def _is_time(hint: Any) -> bool:
    """Whether it is a datetime, or None or a datetime."""
    return hint is datetime or set(typing.get_args(hint)) == _OPTIONAL_TIME


def _time_at(key: str, value: object, where: str) -> datetime:
    try:
        return parse_time(value)
    except ValueError as error:
        raise ValidationError(where, f"{path_to('$', key)}: {error}") from None


def _formatted(value: datetime) -> str | datetime:
    # One without a zone is left to the codec, which refuses it with its place.
    return format_time(value) if value.tzinfo is not None else value


# --- defaults --------------------------------------------------------------------------------------------------------


class _Filled(dict[str, Any]):
    """A record's document with all its fields, and the keys of those that are at their default.

    What `overlay` merges becomes a plain dict; one that comes through is a new record, and need not spell them out.
    """

    def __init__(self, items: _Object, defaults: set[str]) -> None:
        super().__init__(items)
        self.defaults = defaults


class _Field(NamedTuple):
    """A field of a dataclass or Struct: its attribute, its key in the document, and what makes its default."""

    name: str
    key: str
    default: Callable[[], Any] | None

    def is_default(self, value: object) -> bool:
        if self.default is None:
            return False
        default = self.default()
        return type(value) is type(default) and bool(value == default)


@functools.lru_cache(maxsize=256)
def _fields(kind: Any) -> tuple[_Field, ...]:
    if hasattr(kind, "__struct_fields__"):
        import msgspec

        infos = msgspec.structs.fields(kind)
        return tuple(_Field(info.name, info.encode_name, _default(info, msgspec.NODEFAULT)) for info in infos)
    fields: Mapping[str, Any] = getattr(kind, "__dataclass_fields__", {})
    if not fields:
        return ()
    missing = sys.modules["dataclasses"].MISSING
    return tuple(_Field(name, name, _default(field, missing)) for name, field in fields.items())


def _default(field: Any, missing: object) -> Callable[[], Any] | None:
    if field.default is not missing:
        return functools.partial(getattr, field, "default")
    # Other factories (a counter, the clock) may not like to be called in passing.
    factory = field.default_factory
    return factory if isinstance(typing.get_origin(factory) or factory, type) else None


def _to_builtins(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True)


def _filled(value: Any, document: Any) -> Any:
    """What msgspec made of a value, with times formatted and every record's defaults marked."""
    if isinstance(document, datetime):
        return _formatted(document)
    if _is_object(document):
        return _filled_object(value, document)
    if _is_array(document):
        if isinstance(value, set | frozenset):
            # The order of a set differs from process to process.
            return sorted(map(_filled, document, document), key=encode_line)
        return list(map(_filled, value if _is_array(value) else document, document))
    return document


def _filled_object(value: Any, document: _Object) -> _Object:
    if _is_object(value):
        # Keys that are no strings became strings, in the same order.
        return dict(zip(document, map(_filled, value.values(), document.values()), strict=True))
    import msgspec

    kind = cast("Any", type(value))
    fields = {field.key: field for field in _fields(kind)}
    values = {key: getattr(value, field.name, msgspec.UNSET) for key, field in fields.items()}
    for key, item in values.items():
        # msgspec leaves out what omit_defaults says, and a dataclass's defaults that it set itself.
        if key not in document and item is not msgspec.UNSET:
            document[key] = _to_builtins(item)
    items = {key: _filled(values.get(key), item) for key, item in document.items()}
    return _Filled(items, {key for key, field in fields.items() if field.is_default(values[key])})


def _packed(value: Any) -> dict[str, bytes]:
    """What tells whether a field changed. JSON would not tell NaN from null, nor Python 1 from 1.0 or True."""
    import msgspec

    kind = cast("Any", type(value))
    return {field.key: msgspec.msgpack.encode(getattr(value, field.name)) for field in _fields(kind)}


def _part(value: Any, keys: Container[str]) -> _Filled:
    """Some fields of a record, those at their default marked."""
    kind = cast("Any", type(value))
    fields = {field.key: field for field in _fields(kind) if field.key in keys}
    values = {key: getattr(value, field.name) for key, field in fields.items()}
    items = {key: _filled(item, _to_builtins(item)) for key, item in values.items()}
    return _Filled(items, {key for key, field in fields.items() if field.is_default(values[key])})


def _filled_by_pydantic(document: Any, bare: Any, value: Any) -> Any:
    """The same from pydantic's JSON form, that without defaults, and that with Python's own types."""
    if isinstance(value, datetime) and isinstance(document, str):
        return _formatted(value)
    if _is_object(document) and _is_object(value):
        known = bare if _is_object(bare) else document
        items = {key: _filled_by_pydantic(item, known.get(key), value.get(key)) for key, item in document.items()}
        return _Filled(items, document.keys() - known.keys())
    if _is_array(document) and _is_array(value) and len(document) == len(value):
        known_items = bare if _is_array(bare) and len(bare) == len(document) else document
        return list(map(_filled_by_pydantic, document, known_items, value))
    return document


def _settled(document: Any, *, defaults: bool) -> Any:
    """Plain dicts and lists, with or without the defaults of new records."""
    if _is_object(document):
        left_out = document.defaults if isinstance(document, _Filled) and not defaults else ()
        return {key: _settled(item, defaults=defaults) for key, item in document.items() if key not in left_out}
    if _is_array(document):
        return [_settled(item, defaults=defaults) for item in document]
    return document
