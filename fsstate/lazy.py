"""Properties that are computed at their first use.

As `functools.cached_property`, but without its lock, which Python 3.11 still has: it is one for all objects of a class,
and a child that is forked while another thread holds it would wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["lazy_property"]

T = TypeVar("T")


class lazy_property(Generic[T]):  # noqa: N801 - used as `property` is
    """What the method returns, kept in the object. Of threads that are the first at once, all get the same."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self | T:
        if instance is None:
            return self
        # Found there the next time, without a call.
        kept: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return kept
