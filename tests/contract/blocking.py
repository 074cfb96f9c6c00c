"""The async API as if it were the sync one, so that one suite of tests holds both.

`Blocking(thing, portal)` runs each coroutine in the portal's event loop and waits for it. What is awaited, `async with` and
`async for` there is called, `with` and `for` here; nothing else differs.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from anyio.from_thread import BlockingPortal

__all__ = ["Blocking", "blocking"]

_MODULES = "fsstate.aio"


def blocking(value: Any, portal: BlockingPortal) -> Any:
    """What the sync API would have given in the place of `value`."""
    if hasattr(value, "__aenter__"):
        return _Block(value, portal)
    if hasattr(value, "__anext__"):
        return _iterate(value, portal)
    if type(value).__module__.startswith(_MODULES):
        return Blocking(value, portal)
    return value


class Blocking:
    """One object of the async API, called without await."""

    def __init__(self, thing: Any, portal: BlockingPortal) -> None:
        self._thing = thing
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        return self._calling(value) if inspect.ismethod(value) else blocking(value, self._portal)

    def _calling(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return blocking(self._portal.call(functools.partial(method, *args, **kwargs)), self._portal)
            return blocking(method(*args, **kwargs), self._portal)

        return call

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Any:
        return self.require(name)

    def __contains__(self, name: str) -> bool:
        return bool(self.contains(name))

    def __len__(self) -> int:
        return int(self.count())

    def __iter__(self) -> Iterator[Any]:
        return _iterate(aiter(self._thing), self._portal)


class _Block:
    """An `async with` block as a `with` block."""

    def __init__(self, manager: Any, portal: BlockingPortal) -> None:
        self._manager: AbstractContextManager[Any] = portal.wrap_async_context_manager(manager)
        self._portal = portal

    def __enter__(self) -> Any:
        return blocking(self._manager.__enter__(), self._portal)

    def __exit__(self, *raised: Any) -> Any:
        return self._manager.__exit__(*raised)


def _iterate(iterator: Any, portal: BlockingPortal) -> Iterator[Any]:
    async def step() -> Any:
        return await anext(iterator, _END)

    while (item := portal.call(step)) is not _END:
        yield blocking(item, portal)


_END = object()
