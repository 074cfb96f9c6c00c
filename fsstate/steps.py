"""A session's steps: the trajectory of an agent, one entry for each tool that it used.

Steps are numbered from 0 and never changed. A message says which steps led to it by a range, first and behind the last;
a number stays a step's own, also when earlier ones were trimmed. Appends are durable. Any thread may call.

Steps that the session's document holds itself, as oxios writes them, are read there; the first append puts them into
the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import takewhile
from typing import Any, Final, TypeAlias

import msgspec

from fsstate.backends.base import Backend, Ref
from fsstate.conversation import copied, time_of
from fsstate.errors import CorruptRecordError, ValidationError
from fsstate.models import Model
from fsstate.projection import Row, readable
from fsstate.seeded_log import step_log
from fsstate.times import Clock, format_time

__all__ = ["Step", "Steps"]


class Step(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"timestamp": "at"}):
    """One use of a tool. `extra` holds whatever else was said about it; `number` is its place, from 0."""

    tool_name: str
    tool_args: Any = None
    output_summary: str | None = None
    duration_ms: int | float | None = None
    is_error: bool = False
    tool_call_id: str | None = None
    timestamp: datetime | None = None
    extra: dict[str, Any] = {}
    number: int = -1


# The keys of a line that are no `extra`. On disk: do not rename.
_FIELDS: Final = ("tool_name", "tool_args", "output_summary", "duration_ms", "is_error", "tool_call_id", "at")
_MODEL: Final[Model[Step]] = Model.of(Step)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
# The class has a method called `list`.
Listing: TypeAlias = list[Step]
Problems: TypeAlias = list[CorruptRecordError | ValidationError]


class Steps:
    """The steps of one session."""

    def __init__(self, backend: Backend, clock: Clock, owner: Ref) -> None:
        self.log = step_log(backend, owner)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Steps({str(self.log.ref)!r})"

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.log.path

    def append(
        self,
        /,
        tool_name: str,
        tool_args: Any = None,
        *,
        output_summary: str | None = None,
        duration_ms: float | None = None,
        is_error: bool = False,
        tool_call_id: str | None = None,
        timestamp: datetime | None = None,
        **extra: Any,
    ) -> int:
        """Append a step and return its number. `timestamp` defaults to the present time."""
        step = Step(tool_name=tool_name, tool_args=tool_args, output_summary=output_summary, duration_ms=duration_ms)
        step.is_error, step.tool_call_id, step.timestamp, step.extra = is_error, tool_call_id, timestamp, extra
        return self.extend([step])[0]

    def extend(self, steps: Iterable[Step]) -> range:
        """Append many steps with one flush, all or none, and return their numbers, as `Message.steps` takes them.

        Raises ValidationError or InvalidValueError for a field that is not of its type.
        """
        now = format_time(self._clock())
        rows = [{"at": now, **_row_of(step)} for step in steps]
        for row in rows:
            _step_of(dict(row), f"{self.path}: a new step")
        seqs = self.log.append(rows)
        return range(seqs.start - 1, seqs.stop - 1)

    def list(self) -> Listing:
        """Return all steps."""
        return self._typed(self.log.rows())

    def slice(self, start: int, end: int) -> Listing:
        """Return the steps from number `start` to before `end`. Reads no other part of the log."""
        rows = self.log.rows(max(start, 0))
        return self._typed(takewhile(lambda row: row["seq"] <= end, rows)) if start < end else []

    def tail(self, n: int) -> Listing:
        """Return the last `n` steps, in order. Reads no more of the log than they take."""
        rows = [row for row, _ in zip(self.log.rows_backwards(), range(n), strict=False)]
        return self._typed(reversed(rows))

    def count(self) -> int:
        """Return the number of steps in the log."""
        return self.log.count()

    def problems(self) -> Problems:
        """Return what is wrong with the log's lines, and with steps in it that cannot be read. Reads all of it.

        While the steps stand in the session's document, also what is wrong with them there.
        """
        found: Problems = [*self.log.problems()]
        # A document that cannot be read was named just now.
        with contextlib.suppress(CorruptRecordError):
            found += self._misfits()
        return found

    def _misfits(self) -> Iterator[ValidationError]:
        for row in self.log.rows():
            try:
                self._step(row)
            except ValidationError as error:
                yield error

    def _typed(self, rows: Iterable[Row]) -> Listing:
        return [*readable(rows, self._step)]

    def _step(self, row: Row) -> Step:
        return _step_of(row, f"{self.path}: step {row['seq'] - 1}")


def _step_of(row: Row, where: str) -> Step:
    """The step in a row, which is used up. Raises ValidationError when it does not fit."""
    known: Row = {key: row.pop(key) for key in _FIELDS if key in row}
    known["number"] = row.pop("seq", 0) - 1
    return _MODEL.load({**known, "extra": row}, where)


def _row_of(step: Step) -> Row:
    row: Row = {"tool_name": step.tool_name, "tool_args": copied(step.tool_args)}
    row |= {"output_summary": step.output_summary, "duration_ms": step.duration_ms, "tool_call_id": step.tool_call_id}
    row |= {"is_error": step.is_error or None, "at": time_of(step.timestamp, "timestamp")}
    return {**{key: value for key, value in row.items() if value is not None}, **copied(step.extra)}
