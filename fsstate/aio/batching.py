"""Group commit for tasks: what they ask for while a flush is under way is done together in the next one.

The first task to come leads: it flushes its own request, alone. Requests that arrive meanwhile wait, and the first
of them leads the next flush. So a lone task waits for nobody, and many tasks share few flushes.
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


class _Waiting(Generic[Request, Result]):
    """One task's request, and where its outcome goes."""

    __slots__ = ("leads", "outcome", "ready", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ready = anyio.Event()
        self.leads = False
        self.outcome: tuple[Result] | Exception | None = None


class Batcher(Generic[Request, Result]):
    """Does the requests of many tasks in few calls of `flush`.

    `flush` tells what came of it, and the cancellation, if any, that came to the leading task meanwhile. It raises
    only if it did not begin.

    A task that is cancelled while its request waits takes it back; once the request is being flushed the task learns
    the outcome before the cancellation goes on. Belongs to one event loop.
    """

    def __init__(
        self, flush: Callable[[list[Request]], Awaitable[tuple[Flushed[Result], BaseException | None]]]
    ) -> None:
        self._flush = flush
        self._waiting: list[_Waiting[Request, Result]] = []
        self._busy = False

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or is being flushed."""
        return not self._busy

    async def submit(self, request: Request) -> Result:
        """Have `request` done with those of other tasks; return its result or raise its error."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        mine = _Waiting[Request, Result](request)
        self._waiting.append(mine)
        if self._busy:
            await self._wait(mine)
        else:
            self._busy = mine.leads = True
        if mine.leads:
            await self._lead(mine)
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        assert mine.outcome is not None
        return mine.outcome[0]

    async def _wait(self, mine: _Waiting[Request, Result]) -> None:
        try:
            await mine.ready.wait()
        except BaseException:
            if mine in self._waiting:
                self._waiting.remove(mine)
                if mine.leads:
                    self._pass_on()
            else:
                await _outwait(mine.ready)
            raise

    async def _lead(self, mine: _Waiting[Request, Result]) -> None:
        batch, self._waiting = self._waiting, []
        try:
            with anyio.CancelScope(shield=True):
                flushed, cancelled = await self._flush([one.request for one in batch])
                _settle(batch, flushed)
                if cancelled is not None:
                    raise cancelled
        finally:
            # Not begun, because its leader was cancelled: the others are for the next one to lead.
            self._waiting[:0] = [one for one in batch if one.outcome is None and one is not mine]
            self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].ready.set()
        else:
            self._busy = False


def _settle(batch: list[_Waiting[Request, Result]], flushed: Flushed[Result]) -> None:
    try:
        outcomes = flushed.result()
    except Exception as error:  # noqa: BLE001 - each of the tasks raises it for itself
        outcomes = [error for _ in batch]
    for one, outcome in zip(batch, outcomes, strict=True):
        one.outcome = outcome if isinstance(outcome, Exception) else (outcome,)
        one.ready.set()


async def _outwait(event: anyio.Event) -> None:
    """Wait for an event that is sure to come, however often the task is cancelled meanwhile."""
    while not event.is_set():
        with suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
            await event.wait()
