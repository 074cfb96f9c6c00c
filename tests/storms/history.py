"""What programs did and what they were told: a line before each operation, and a line behind it.

Every line is one write(2) to a file opened with O_APPEND, so that threads and forked children may share it, and that
a program killed between the two lines leaves an operation behind whose outcome nobody knows. Times are those of
`time.monotonic_ns`, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = ["Operation", "Outcome", "Recorder", "read_history"]

# - "done": it returned. It took effect between its begin and its end.
# - "refused": it raised an error that says that nothing was done.
# - "unknown": nobody was told. It took effect between its begin and its end, or never.
# - "failed": it raised an error that nobody expects.
Outcome: TypeAlias = Literal["done", "refused", "unknown", "failed"]

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One call. `ended` is when it returned, or the death of the process that never told (None: it may still go on)."""

    id: str
    does: str
    on: str
    begun: int
    given: dict[str, Any] = {}
    ended: int | None = None
    outcome: Outcome = "unknown"
    result: Any = None
    error: str = ""

    @property
    def pid(self) -> int:
        """The process that did it."""
        return int(self.id.partition("-")[0])

    @property
    def may_count(self) -> bool:
        """Whether it took effect, or may have."""
        return self.outcome in ("done", "unknown")

    def is_before(self, other: Operation) -> bool:
        """Whether it had ended when the other one began."""
        return self.ended is not None and self.ended < other.begun


class _End(msgspec.Struct):
    id: str
    ended: int
    outcome: Outcome
    result: Any = None
    error: str = ""


class Recorder:
    """Writes a history. Any thread and any forked child may use it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _FLAGS, 0o600)
        self._numbers = itertools.count()

    def begin(self, does: str, on: str, given: Mapping[str, Any]) -> str:
        """Tell that an operation begins; return its id."""
        name = f"{os.getpid()}-{next(self._numbers)}"
        self._write(Operation(id=name, does=does, on=on, given=dict(given), begun=time.monotonic_ns()))
        return name

    def end(self, name: str, outcome: Outcome, *, result: Any = None, error: str = "") -> None:
        """Tell what came of it: a result that JSON can hold, or an error."""
        self._write(_End(name, time.monotonic_ns(), outcome, result, error))

    def close(self) -> None:
        """Give back the file."""
        os.close(self._fd)

    def _write(self, line: msgspec.Struct) -> None:
        os.write(self._fd, msgspec.json.encode(line) + b"\n")


def read_history(paths: Iterable[Path], deaths: Mapping[int, int]) -> list[Operation]:
    """The operations of many programs, in the order of their begins. `deaths` tells when a process was seen dead."""
    operations: dict[str, Operation] = {}
    for line in itertools.chain.from_iterable(path.read_bytes().splitlines() for path in paths):
        if b'"begun"' in line:
            operation = msgspec.json.decode(line, type=Operation)
            operation.ended = deaths.get(operation.pid)
            operations[operation.id] = operation
        else:
            end = msgspec.json.decode(line, type=_End)
            told = operations[end.id]
            told.ended, told.outcome, told.result, told.error = end.ended, end.outcome, end.result, end.error
    return sorted(operations.values(), key=lambda each: each.begun)
