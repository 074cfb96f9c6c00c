"""Read-modify-write for tasks: one at a time per record, with the lock held across awaits."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar, cast

from fsstate.aio.offload import Offload
from fsstate.backends.base import Ref
from fsstate.document_changes import Editing
from fsstate.errors import ConflictError

__all__ = ["Updater", "Work", "editing", "update"]

T = TypeVar("T")

# What `update` calls: a plain function runs in a worker thread, an async one in the event loop.
Updater: TypeAlias = Callable[[T], T | None] | Callable[[T], Awaitable[T | None]]


class Work:
    """How to edit one record: which, how long to wait for its turn, and how to take its lock."""

    def __init__(self, offload: Offload, ref: Ref, timeout: float, open_edit: Callable[[float], Editing[Any]]) -> None:
        self.offload = offload
        self.ref = ref
        self.timeout = timeout
        self.open_edit = open_edit


@asynccontextmanager
async def _opened(work: Work) -> AsyncGenerator[Editing[Any]]:
    """Hold a record's lock for the length of a block. What the block does not commit is abandoned."""
    async with work.offload.turn(work.ref, work.timeout):
        edit = await work.offload.acquire_locking(work.open_edit, work.ref, work.timeout, Editing[Any].abandon)
        try:
            yield edit
        finally:
            edit.abandon()


@asynccontextmanager
async def editing(work: Work) -> AsyncGenerator[Editing[Any]]:
    """Hold a record's lock for the length of a block, and save its value at the end."""
    async with _opened(work) as edit:
        yield edit
        await work.offload.finish(edit.commit)


async def update(work: Work, fn: Updater[T], plain: Callable[[Callable[[T], T | None], float], T]) -> T:
    """Change a record with `fn`; `plain` is the sync way to do so with a plain function, within so many seconds."""
    if not inspect.iscoroutinefunction(fn):
        blocking = cast("Callable[[T], T | None]", fn)
        async with work.offload.turn(work.ref, work.timeout):
            return await work.offload.acquire_locking(lambda wait: plain(blocking, wait), work.ref, work.timeout)
    while True:
        async with _opened(work) as edit:
            result = await fn(edit.value)
            if result is not None:
                edit.value = result
            # Somebody without the lock changed what `fn` changed: let it see that, and keep nothing of what is done
            # again. What it raises itself goes on.
            with suppress(ConflictError):
                await work.offload.finish(edit.commit, keep=False)
                return cast("T", edit.value)
