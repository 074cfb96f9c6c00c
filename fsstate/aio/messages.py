"""A conversation for async code. Appends of many tasks share their flushes, streams are `async with` blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeAlias

from fsstate.aio.offload import Mirror, Offload, offloaded
from fsstate.backends.base import Backend
from fsstate.messages import Message, Messages, PreparedAppend, Stream
from fsstate.queries import MISSING, Missing

__all__ = ["AsyncMessages", "AsyncStream"]

_Prepare: TypeAlias = Callable[[], PreparedAppend]


class AsyncStream(Mirror[Stream]):
    """A message that is being written, as an async context manager; see `fsstate.Stream`.

    When its task is cancelled inside the block, what was written is kept as an interrupted message.
    """

    @property
    def id(self) -> str:
        """The message's id."""
        return self.sync.id

    @property
    def text(self) -> str:
        """What was written so far."""
        return self.sync.text

    @property
    def message(self) -> Message | None:
        """The finished message; None until the end."""
        return self.sync.message

    @property
    def metadata(self) -> dict[str, Any]:
        """The message's metadata, which may be changed in place until the end."""
        return self.sync.metadata

    @property
    def model(self) -> str | None:
        """The message's model, which may be set until the end."""
        return self.sync.model

    @model.setter
    def model(self, model: str | None) -> None:
        self.sync.model = model

    @property
    def content(self) -> Any:
        """What is to stand in the place of the text, if set until the end."""
        return self.sync.content

    @content.setter
    def content(self, content: Any) -> None:
        self.sync.content = content

    async def open(self) -> None:
        """Begin: `async with` does so. Readers see the message from now on."""
        await self.offload.acquire(self.sync.open, lambda _: self.sync.close("interrupted"))

    write = offloaded(Stream.write)

    async def close(self, status: str = "complete") -> Message:
        """End: append the message to the conversation and return it. `async with` does so."""
        return await self.offload.finish(self.sync.close, status)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.offload.finish(self.sync.__exit__, kind, error, traceback)


class AsyncMessages(Mirror[Messages]):
    """The messages of one session; see `fsstate.Messages` for what each method promises."""

    def __init__(self, messages: Messages, backend: Backend, offload: Offload) -> None:
        super().__init__(messages, offload)
        self._backend = backend

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.sync.path

    async def append(
        self,
        role: str,
        content: Any,
        *,
        parent: str | Missing | None = MISSING,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: str = "complete",
        tool_call_id: str | None = None,
        steps: tuple[int, int] | None = None,
        created_at: datetime | None = None,
    ) -> Message:
        """Append a message, durably, make it the head, and return it. Appends of many tasks share their flushes."""
        given: dict[str, Any] = {"parent": parent, "model": model, "metadata": metadata, "status": status}
        given |= {"tool_call_id": tool_call_id, "steps": steps, "created_at": created_at}
        if id is not None:
            return await self.offload.run(self.sync.append, role, content, id=id, **given)
        batcher = self.offload.batcher(self.sync.log.ref, self._append_all)
        return await batcher.submit(lambda: self.sync.prepare(role, content, **given))

    def _append_all(self, appends: list[_Prepare]) -> list[Message | Exception]:
        """Append what can be prepared with one flush. Blocks: looks for streams that were cut off, too."""
        log = self.sync.log
        prepared = [_attempt(prepare) for prepare in appends]
        ready = [one for one in prepared if isinstance(one, PreparedAppend)]
        outcomes = iter(self._backend.append_many(log.ref, [one.compose for one in ready], owner=log.owner))
        return [one if isinstance(one, Exception) else _result(one, next(outcomes)) for one in prepared]

    def stream(
        self,
        role: str,
        *,
        parent: str | Missing | None = MISSING,
        id: str | None = None,  # noqa: A002
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tool_call_id: str | None = None,
    ) -> AsyncStream:
        """Return an async context manager that writes a message piece by piece; see `AsyncStream`."""
        given: dict[str, Any] = {"parent": parent, "id": id, "model": model, "metadata": metadata}
        return AsyncStream(self.sync.stream(role, tool_call_id=tool_call_id, **given), self.offload)

    extend = offloaded(Messages.extend)
    fork_at = offloaded(Messages.fork_at)
    set_head = offloaded(Messages.set_head)
    update = offloaded(Messages.update)
    append_text = offloaded(Messages.append_text)
    clear = offloaded(Messages.clear)
    settle = offloaded(Messages.settle)
    get = offloaded(Messages.get)
    require = offloaded(Messages.require)
    list = offloaded(Messages.list)
    all = offloaded(Messages.all)
    head = offloaded(Messages.head)
    leaves = offloaded(Messages.leaves)
    children = offloaded(Messages.children)
    count = offloaded(Messages.count)
    problems = offloaded(Messages.problems)


def _attempt(prepare: _Prepare) -> PreparedAppend | Exception:
    try:
        return prepare()
    except Exception as error:  # noqa: BLE001 - belongs to the task that asked
        return error


def _result(prepared: PreparedAppend, outcome: range | Exception) -> Message | Exception:
    return outcome if isinstance(outcome, Exception) else prepared.result(outcome)
