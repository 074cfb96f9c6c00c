"""Group commit for tasks: what many tasks ask for at about the same moment is done together, with one flush.

Requests gather in an open batch while the batch before it is being flushed. The task that opened a batch leads it: it
waits for the flush under way, closes the batch and flushes it; the others wait for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

__all__ = ["Batcher", "Flushed"]

Request = TypeVar("Request")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Flushed(Protocol[Result_co]):
    """What came of a flush."""

    def result(self) -> Sequence[Result_co | Exception]:
        """A result or an error for each request, in their order; or raise what went wrong with all of them."""
        ...


class _Asked(Generic[Request, Result]):
    """One task's request, and where its outcome goes."""

    __slots__ = ("outcome", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.outcome: tuple[Result] | Exception | None = None


class _Batch(Generic[Request, Result]):
    """Requests that are flushed together. `ended` is set when they were, or when the batch lost its leader before."""

    __slots__ = ("asked", "ended")

    def __init__(self) -> None:
        self.asked: list[_Asked[Request, Result]] = []
        self.ended = anyio.Event()


class Batcher(Generic[Request, Result]):
    """Does the requests of many tasks in few calls of `flush`.

    `flush` tells what came of it, and the cancellation, if any, that came to the leading task meanwhile. It raises
    only if it did not begin.

    A task that is cancelled while its batch is open takes its request back; once the batch is being flushed the task
    learns the outcome before the cancellation goes on. Belongs to one event loop.
    """

    def __init__(
        self, flush: Callable[[list[Request]], Awaitable[tuple[Flushed[Result], BaseException | None]]]
    ) -> None:
        self._flush = flush
        self._open: _Batch[Request, Result] | None = None
        self._flushing: _Batch[Request, Result] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or is being flushed."""
        return self._open is None and self._flushing is None

    async def submit(self, request: Request) -> Result:
        """Have `request` done with those of other tasks; return its result or raise its error."""
        mine = _Asked[Request, Result](request)
        # Again when the batch lost its leader.
        while mine.outcome is None:
            batch = self._open
            if batch is None:
                batch = self._open = _Batch()
                batch.asked.append(mine)
                await self._lead(batch)
            else:
                batch.asked.append(mine)
                await self._follow(batch, mine)
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome[0]

    async def _follow(self, batch: _Batch[Request, Result], mine: _Asked[Request, Result]) -> None:
        try:
            await batch.ended.wait()
        except BaseException:
            if batch is self._open:
                batch.asked.remove(mine)
            else:
                await _outwait(batch.ended)
            raise

    async def _lead(self, batch: _Batch[Request, Result]) -> None:
        try:
            # Tasks that are ready to run now join before the batch is closed.
            await anyio.lowlevel.checkpoint()
            while self._flushing is not None:
                await self._flushing.ended.wait()
            self._open, self._flushing = None, batch
            with anyio.CancelScope(shield=True):
                flushed, cancelled = await self._flush([one.request for one in batch.asked])
                _settle(batch.asked, flushed)
                if cancelled is not None:
                    raise cancelled
        finally:
            if self._open is batch:
                self._open = None
            if self._flushing is batch:
                self._flushing = None
            batch.ended.set()


def _settle(asked: list[_Asked[Request, Result]], flushed: Flushed[Result]) -> None:
    try:
        outcomes = flushed.result()
    except Exception as error:  # noqa: BLE001 - each of the tasks raises it for itself
        outcomes = [error for _ in asked]
    for one, outcome in zip(asked, outcomes, strict=True):
        one.outcome = outcome if isinstance(outcome, Exception) else (outcome,)


async def _outwait(event: anyio.Event) -> None:
    """Wait for an event that is sure to come, however often the task is cancelled meanwhile."""
    while not event.is_set():
        with suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
            await event.wait()
