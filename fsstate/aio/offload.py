"""How the async store waits: blocking work goes to threads, and tasks that want one record queue in the event loop.

- One hop per operation, on limiters of the store's own: a busy store starves nobody else's threads, and work that gives
  a lock back never waits for a thread behind work that wants one.
- Cancelling never leaves an outcome half known: work that reached a thread is waited for, and only then does the
  cancellation go on. A task that still waits for its turn leaves at once.

Everything here belongs to one event loop; a store used from several keeps these things once for each.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from itertools import islice
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from fsstate.aio.batching import Batcher
from fsstate.backends.base import Ref
from fsstate.errors import LockTimeoutError

__all__ = ["Mirror", "Offload", "iterate", "offloaded"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
Request = TypeVar("Request")
Result = TypeVar("Result")

_THREADS: Final = 16
# Seconds that a thread waits for another process before it looks whether its task was cancelled.
_PATIENCE: Final = 0.2
# More batchers than this, one for each log in use, and the idle ones go.
_BATCHERS: Final = 256
# How many items of an iteration one hop brings.
_CHUNK: Final = 64


class _Turn:
    """The task lock of one record, kept while a task holds or wants it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.users = 0


class _Loop:
    """What a store keeps for one event loop."""

    def __init__(self) -> None:
        self.entering = anyio.CapacityLimiter(_THREADS)
        self.leaving = anyio.CapacityLimiter(_THREADS)
        self.turns: dict[Ref, _Turn] = {}
        self.batchers: dict[object, Batcher[Any, Any]] = {}


class Job(Generic[R]):
    """Work for a thread: either begun by it or called off before, never both."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        # Whoever takes it out decides. list.pop is atomic, and a lock would be one more thing to wait for.
        self._undecided = [None]
        self._result: tuple[R] | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()

    def call_off(self) -> bool:
        """Keep the work from beginning. False when it has begun already."""
        try:
            self._undecided.pop()
        except IndexError:
            return False
        return True

    def __call__(self) -> None:
        if not self.call_off():
            return
        try:
            self._result = (self._work(),)
        except BaseException as error:  # noqa: BLE001 - raised by `result`, in the task that waits
            self._error = error
        finally:
            self._ended.set()

    async def ended(self) -> None:
        """Wait for the end of work that has begun, however often the task is cancelled meanwhile."""
        while not self._ended.is_set():
            with suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._ended.wait)

    @property
    def succeeded(self) -> bool:
        """Whether the work ended without raising."""
        return self._result is not None

    def result(self) -> R:
        """What the work gave; or raise what it raised."""
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result[0]


class Offload:
    """The worker threads and task queues of one store."""

    def __init__(self) -> None:
        self._loops: anyio.lowlevel.RunVar[_Loop] = anyio.lowlevel.RunVar("fsstate")

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do blocking work in a thread."""
        return await self.acquire(partial(work, *args, **kwargs))

    async def acquire(self, work: Callable[[], R], release: Callable[[R], object] = lambda _: None) -> R:
        """Do blocking work that takes hold of something; `release` it if the task was cancelled meanwhile."""
        job, cancelled = await self.complete(work)
        if cancelled is not None:
            if job.succeeded:
                release(job.result())
            raise cancelled
        return job.result()

    async def finish(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do blocking work that frees what others wait for: it is done even in a cancelled task."""
        pending: BaseException | None = None
        ended: tuple[Job[R], BaseException | None] | None = None
        while ended is None:
            try:
                with anyio.CancelScope(shield=True):
                    ended = await self.complete(partial(work, *args, **kwargs), self._loop().leaving)
            except anyio.get_cancelled_exc_class() as error:
                # Called off before it began; asyncio cancels once, so that another try gets through.
                pending = error
        job, cancelled = ended[0], ended[1] or pending
        if cancelled is not None:
            raise cancelled
        return job.result()

    async def acquire_locking(
        self, work: Callable[[float], R], ref: Ref, timeout: float, release: Callable[[R], object] = lambda _: None
    ) -> R:
        """`acquire` for work that may wait for a record that another process has.

        `work` is given how many seconds to wait, and is tried again until `timeout`: a task that is cancelled meanwhile
        leaves after one try. Raises LockTimeoutError.
        """
        deadline = anyio.current_time() + timeout
        while True:
            left = max(0.0, deadline - anyio.current_time())
            try:
                return await self.acquire(partial(work, min(_PATIENCE, left)), release)
            except LockTimeoutError as error:
                if error.where != str(ref) or left <= _PATIENCE:
                    raise LockTimeoutError(error.where, timeout) from None

    async def complete(
        self, work: Callable[[], R], limiter: anyio.CapacityLimiter | None = None
    ) -> tuple[Job[R], BaseException | None]:
        """Do blocking work in a thread; tell what came of it, and the cancellation that is still to be raised.

        Threads cannot be stopped. anyio's own cancel scopes wait for them; asyncio's `Task.cancel`, which `wait_for`
        and task groups use, does not, and would leave a lock in the hands of nobody.
        """
        job = Job(work)
        try:
            await anyio.to_thread.run_sync(job, limiter=limiter or self._loop().entering)
        except BaseException as error:
            if job.call_off():
                raise
            await job.ended()
            return job, error
        return job, None

    @asynccontextmanager
    async def turn(self, ref: Ref, timeout: float) -> AsyncGenerator[None]:
        """Keep other tasks of this loop from one record. Raises LockTimeoutError after `timeout` seconds."""
        turns = self._loop().turns
        turn = turns.setdefault(ref, _Turn())
        turn.users += 1
        try:
            await self._enter(turn, ref, timeout)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if turn.users == 0:
                del turns[ref]

    async def _enter(self, turn: _Turn, ref: Ref, timeout: float) -> None:
        try:
            turn.lock.acquire_nowait()
        except RuntimeError:
            hint = "this task holds the lock itself; change the record inside its edit block, or after it"
            raise LockTimeoutError(str(ref), 0, hint) from None
        except anyio.WouldBlock:
            try:
                with anyio.fail_after(timeout):
                    await turn.lock.acquire()
            except TimeoutError:
                hint = "another task of this program is changing it"
                raise LockTimeoutError(str(ref), timeout, hint) from None

    def batcher(
        self, key: object, flush: Callable[[list[Request]], Sequence[Result | Exception]]
    ) -> Batcher[Request, Result]:
        """The batcher for `key` in this event loop, made when there is none. `flush` runs in a thread."""
        batchers = self._loop().batchers
        for idle in [one for one, batcher in batchers.items() if batcher.is_idle] if len(batchers) > _BATCHERS else ():
            del batchers[idle]
        found: Batcher[Request, Result] | None = batchers.get(key)
        if found is None:
            found = batchers[key] = Batcher(lambda requests: self.complete(partial(flush, requests)))
        return found

    def _loop(self) -> _Loop:
        try:
            return self._loops.get()
        except LookupError:
            loop = _Loop()
            self._loops.set(loop)
            return loop


class Mirror(Generic[S_co]):
    """The async side of a sync object, which it keeps as `sync`."""

    def __init__(self, sync: S_co, offload: Offload) -> None:
        self.sync = sync
        self.offload = offload

    def __repr__(self) -> str:
        return f"Async{self.sync!r}"


def offloaded(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[Mirror[Any], P], Coroutine[Any, Any, R]]:
    """The method of a mirror of an S that does what `method` does, in a worker thread."""

    @wraps(method)
    async def awaited(self: Mirror[Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.offload.run(method, self.sync, *args, **kwargs)

    return awaited


async def iterate(offload: Offload, begin: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Go through a blocking iterator, a chunk for each hop."""
    items = await offload.run(begin)
    while chunk := await offload.run(lambda: list(islice(items, _CHUNK))):
        for item in chunk:
            yield item
