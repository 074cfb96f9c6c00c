"""A session's tool calls: what was asked for, whether it was approved, and what came of it.

A call goes through statuses, and each change is one line in the log, durable when the method returns:

    pending -> approved -> executing -> completed | failed
    pending | approved -> denied

Steps may be left out, never taken back. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from fsstate import ids
from fsstate.backends.base import LOG, Ref
from fsstate.conversation import copied, metadata_of, time_of
from fsstate.errors import CorruptRecordError, NotFoundError, ValidationError
from fsstate.journal import Log
from fsstate.ledger import Ledger
from fsstate.lifecycle import Lifecycle
from fsstate.models import Model
from fsstate.projection import Projections, Row, readable
from fsstate.times import Clock

__all__ = ["LIFECYCLE", "ToolCall", "ToolCalls"]

# On disk: do not rename.
LIFECYCLE: Final = Lifecycle(
    steps={
        "pending": ("approved", "denied", "executing", "completed", "failed"),
        "approved": ("executing", "denied", "completed", "failed"),
        "executing": ("completed", "failed"),
        "completed": (),
        "failed": (),
        "denied": (),
    },
    stamps={"executing": "started_at", "completed": "completed_at", "failed": "completed_at"},
)


class ToolCall(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"created_at": "at"}):
    """One tool call. `parameters`, `result` and `error` are any JSON; `message_id` is the message that asked for it.

    `started_at` is when it was first executing, `completed_at` when it was completed or failed, `updated_at` the time
    of the last change. Changing these attributes changes no file.
    """

    id: str
    name: str
    parameters: Any = None
    status: str = "pending"
    message_id: str | None = None
    result: Any = None
    error: Any = None
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether no change of status can follow."""
        return LIFECYCLE.is_final(self.status)


_MODEL: Final[Model[ToolCall]] = Model.of(ToolCall)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
# The class has a method called `list`.
Listing: TypeAlias = list[ToolCall]
Problems: TypeAlias = list[CorruptRecordError | ValidationError]


class ToolCalls:
    """The tool calls of one session."""

    def __init__(self, projections: Projections, clock: Clock, owner: Ref) -> None:
        self.log = Log(projections.backend, Ref(owner.belongings, "tool_calls", LOG), owner=owner)
        self._ledger = Ledger(projections, self.log, LIFECYCLE, clock, self._typed)

    def __repr__(self) -> str:
        return f"ToolCalls({str(self.log.ref)!r})"

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.log.path

    def create(
        self,
        name: str,
        parameters: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        message_id: str | None = None,
        status: str = "pending",
        metadata: Mapping[str, Any] | None = None,
    ) -> ToolCall:
        """Add a call and return it. Without an `id` it gets a new UUIDv7.

        Raises AlreadyExistsError for an id that is taken, NotFoundError when the session does not exist,
        ValidationError or InvalidValueError for what does not fit.
        """
        call = ToolCall(id=id or ids.new_id(), name=name, parameters=parameters, status=status)
        call.message_id, call.metadata = message_id, metadata_of(metadata)
        return self.extend([call])[0]

    def extend(self, calls: Iterable[ToolCall]) -> Listing:
        """Add many calls as they are, results and times included, with one flush; all or none. For import."""
        return [self._typed(row) for row in self._ledger.add(map(_row_of, calls))]

    def approve(self, id: str) -> ToolCall:  # noqa: A002
        """Let the call be executed. Raises InvalidTransitionError unless it is pending; NotFoundError if unknown."""
        return self._change(id, {"status": "approved"})

    def deny(self, id: str, reason: str | None = None) -> ToolCall:  # noqa: A002
        """Refuse the call, for good. `reason` becomes its `error`. Raises as `approve` does."""
        return self._change(id, {"status": "denied", "error": reason})

    def start(self, id: str) -> ToolCall:  # noqa: A002
        """Say that the call is being executed. Raises as `approve` does."""
        return self._change(id, {"status": "executing"})

    def complete(self, id: str, result: Any = None) -> ToolCall:  # noqa: A002
        """Say that the call was executed, and what it gave. Raises as `approve` does."""
        return self._change(id, {"status": "completed", "result": result})

    def fail(self, id: str, error: Any = None) -> ToolCall:  # noqa: A002
        """Say that the call failed, and why. Raises as `approve` does."""
        return self._change(id, {"status": "failed", "error": error})

    def update(
        self,
        id: str,  # noqa: A002
        *,
        status: str | None = None,
        parameters: Any = None,
        result: Any = None,
        error: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> ToolCall:
        """Change what is given, in one line, and return the call. None means: leave it as it is.

        Raises as `approve` does for a `status` that is no step from the present one.
        """
        fields: Row = {"status": status, "parameters": parameters, "result": result, "error": error}
        return self._change(id, {**fields, "metadata": None if metadata is None else metadata_of(metadata)})

    def get(self, id: str) -> ToolCall | None:  # noqa: A002
        """Return one call, or None."""
        row = self._ledger.get(id)
        return None if row is None else self._typed(row)

    def require(self, id: str) -> ToolCall:  # noqa: A002
        """Return one call. Raises NotFoundError when there is none."""
        call = self.get(id)
        if call is None:
            raise NotFoundError(f"{self.path}: {id!r}")
        return call

    def list(self, *, status: str | None = None) -> Listing:
        """Return all calls, or those with one status, in the order of their making."""
        return [*readable(self._ledger.list(status=status), self._typed)]

    def pending(self) -> Listing:
        """Return the calls that wait for approval, in the order of their making."""
        return self.list(status="pending")

    def count(self, *, status: str | None = None) -> int:
        """Return the number of calls, or of those with one status."""
        return self._ledger.count(status=status)

    def problems(self) -> Problems:
        """Return what is wrong with the log's lines, and with calls in it that cannot be read. Reads all of it."""
        return [*self.log.problems(), *self._misfits()]

    def _misfits(self) -> Iterator[ValidationError]:
        for row in self._ledger.list():
            try:
                self._typed(row)
            except ValidationError as error:
                yield error

    def _change(self, name: str, fields: Row) -> ToolCall:
        changes = {key: copied(value) for key, value in fields.items() if value is not None}
        return self._typed(self._ledger.change(name, changes))

    def _typed(self, row: Row) -> ToolCall:
        return _MODEL.load(copied({key: value for key, value in row.items() if key != "seq"}), self._where(row))

    def _where(self, row: Row) -> str:
        return f"{self.path}: tool call {row.get('id')!r}"


def _row_of(call: ToolCall) -> Row:
    row: Row = {"id": call.id, "name": call.name, "parameters": copied(call.parameters), "status": call.status}
    row |= {"message_id": call.message_id, "result": copied(call.result), "error": copied(call.error)}
    row["metadata"] = copied(call.metadata) or None
    row["at"] = time_of(call.created_at, "created_at")
    row["started_at"] = time_of(call.started_at, "started_at")
    row["completed_at"] = time_of(call.completed_at, "completed_at")
    return {key: value for key, value in row.items() if value is not None}
