"""What queries may ask of a field, besides that it equals a value: one of several, a range, a beginning, a content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fsstate.keys import MISSING, NULL, Key, Missing, elements_of, key_of, pair_key

__all__ = ["Condition", "Contains", "Criterion", "OneOf", "Prefix", "Range", "criterion_of", "mapped", "values_in"]

# Behind every key of a kind: kinds are told by a first byte below this one.
_END: Final = b"\xff"


class OneOf:
    """The field equals one of these values. None among them means a field that holds null."""

    __slots__ = ("values",)

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"OneOf({', '.join(map(repr, self.values))})"


class Range:
    """The field lies between bounds, each of which may be left out. Only values of the bounds' kind do.

    `at_least` and `at_most` belong to the range, `above` and `below` do not. Raises ValueError without any bound, with
    two for one end, and for bounds of different kinds: a number is never beside a text.
    """

    __slots__ = ("above", "at_least", "at_most", "below")

    def __init__(
        self,
        *,
        at_least: Any = MISSING,
        above: Any = MISSING,
        at_most: Any = MISSING,
        below: Any = MISSING,
    ) -> None:
        self.at_least, self.above, self.at_most, self.below = at_least, above, at_most, below
        self._check()

    def __repr__(self) -> str:
        return f"Range({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def given(self) -> dict[str, Any]:
        """The bounds that there are, by name."""
        bounds = {name: getattr(self, name) for name in ("at_least", "above", "at_most", "below")}
        return {name: value for name, value in bounds.items() if not isinstance(value, Missing)}

    def _check(self) -> None:
        given = self.given()
        if not given or given.keys() >= {"at_least", "above"} or given.keys() >= {"at_most", "below"}:
            raise ValueError(f"{self!r} needs one bound, or one for each end")
        kinds = {(key_of(value) or NULL)[:1] for value in given.values()}
        if len(kinds) > 1 or NULL in kinds:
            raise ValueError(f"{self!r} needs bounds of one kind: numbers, texts, dates, or times")


class Prefix:
    """The field is a text that begins so, case and all. Raises TypeError for what is no text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a prefix is a text, got {text!r}")
        self.text = text

    def __repr__(self) -> str:
        return f"Prefix({self.text!r})"


class Contains:
    """The field is a list that has each of these items; or, given a mapping, an object with each of these fields."""

    __slots__ = ("items",)

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"Contains({', '.join(map(repr, self.items))})"

    def elements(self) -> frozenset[Key]:
        """The keys of what must be there."""
        found: set[Key] = set()
        for item in self.items:
            if isinstance(item, Mapping):
                found |= {_pair(name, value) for name, value in cast("Mapping[object, Any]", item).items()}
            else:
                found.add(key_of(item) or NULL)
        return frozenset(found)


Condition: TypeAlias = OneOf | Range | Prefix | Contains


class Criterion(NamedTuple):
    """A condition on keys. Of these, what is not None must hold.

    - `keys`: the field's key is among them.
    - `low`, `high`: it is `low` or greater, and less than `high`.
    - `elements`: the keys of what is in the field are among them all.
    """

    keys: frozenset[Key] | None = None
    low: Key | None = None
    high: Key | None = None
    elements: frozenset[Key] | None = None

    def accepts(self, value: Any) -> bool:
        """Whether the value of a field fits."""
        if self.elements is not None:
            return self.elements <= elements_of(value)
        key = key_of(value)
        if key is None:
            return False
        if self.keys is not None:
            return key in self.keys
        return (self.low is None or key >= self.low) and (self.high is None or key < self.high)


def mapped(wanted: Any, change: Callable[[Any], Any]) -> Any:
    """What is asked of a field, with each value in it changed."""
    if isinstance(wanted, OneOf):
        return OneOf(*map(change, wanted.values))
    if isinstance(wanted, Range):
        return Range(**{name: change(value) for name, value in wanted.given().items()})
    if isinstance(wanted, Contains):
        return Contains(*map(change, wanted.items))
    return wanted if isinstance(wanted, Prefix) else change(wanted)


def values_in(wanted: Any) -> tuple[Any, ...]:
    """The values that a field may equal; none where a condition does not say."""
    if isinstance(wanted, OneOf):
        return wanted.values
    return () if isinstance(wanted, Range | Prefix | Contains) else (wanted,)


def criterion_of(wanted: Any) -> Criterion:
    """The test for what is asked of a field: a condition, or a value that it must equal."""
    if isinstance(wanted, OneOf):
        return Criterion(keys=frozenset(map(_key, wanted.values)))
    if isinstance(wanted, Range):
        return _range(wanted)
    if isinstance(wanted, Prefix):
        low = _key(wanted.text)
        return Criterion(low=low, high=_after_all_with(low))
    if isinstance(wanted, Contains):
        return Criterion(elements=wanted.elements())
    return Criterion(keys=frozenset([_key(wanted)]))


def _key(value: Any) -> Key:
    return key_of(value) or NULL


def _pair(name: object, value: Any) -> Key:
    if not isinstance(name, str):
        raise TypeError(f"the fields of an object are named by texts, got {name!r}")
    return pair_key(name, value)


def _range(wanted: Range) -> Criterion:
    given = wanted.given()
    kind = _key(next(iter(given.values())))[:1]
    # No key lies between one and itself with a zero byte behind it.
    low = _key(given["at_least"]) if "at_least" in given else _key(given["above"]) + b"\0" if "above" in given else kind
    if "below" in given:
        return Criterion(low=low, high=_key(given["below"]))
    return Criterion(low=low, high=_key(given["at_most"]) + b"\0" if "at_most" in given else kind + _END)


def _after_all_with(prefix: Key) -> Key:
    # No byte of UTF-8 is 0xff.
    return prefix + _END
