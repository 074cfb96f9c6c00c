"""The async API as if it were the sync one, so that one suite of tests holds both.

`Blocking(thing, portal)` runs each coroutine in the portal's event loop and waits for it. What is awaited, `async with`
and `async for` there is called, `with` and `for` here; nothing else differs.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from anyio.from_thread import BlockingPortal

__all__ = ["Blocking", "blocking"]

_MODULES = "fsstate.aio"


def blocking(value: Any, portal: BlockingPortal) -> Any:
    """What the sync API would have given in the place of `value`."""
    if type(value).__module__.startswith(_MODULES):
        return Blocking(value, portal)
    if hasattr(value, "__aenter__"):
        return portal.wrap_async_context_manager(value)
    if hasattr(value, "__anext__"):
        return _iterate(value, portal)
    return value


class Blocking:
    """One object of the async API, called without await."""

    def __init__(self, thing: Any, portal: BlockingPortal) -> None:
        self._thing = thing
        self._portal = portal
        self._block: Any = None
        self._parts: dict[str, tuple[Any, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        # What stays in this process's memory is asked of the sync side.
        value = getattr(self._thing if hasattr(self._thing, name) else self._thing.sync, name)
        if inspect.ismethod(value):
            return self._calling(value)
        if self._parts.get(name, (None,))[0] is not value:
            self._parts[name] = value, blocking(value, self._portal)
        return self._parts[name][1]

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._thing, name, value)

    def _calling(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return blocking(self._portal.call(functools.partial(method, *args, **kwargs)), self._portal)
            return blocking(method(*args, **kwargs), self._portal)

        return call

    def __enter__(self) -> Any:
        self._block = self._portal.wrap_async_context_manager(self._thing)
        self._block.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._block.__exit__(*raised)

    def __getitem__(self, name: str) -> Any:
        return self.require(name)

    def __contains__(self, name: str) -> bool:
        return bool(self.contains(name))

    def __len__(self) -> int:
        return int(self.count())

    def __iter__(self) -> Iterator[Any]:
        return _iterate(aiter(self._thing), self._portal)


def _iterate(iterator: Any, portal: BlockingPortal) -> Iterator[Any]:
    async def step() -> Any:
        return await anext(iterator, _END)

    while (item := portal.call(step)) is not _END:
        yield blocking(item, portal)


_END = object()
