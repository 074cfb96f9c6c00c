"""Runs of tasks: commands and checks that a program starts for itself, what they printed, and how they ended.

    queued -> running -> complete | failed | cancelled | timed_out

A queued one may end without having run. A step is never taken back, and nothing ends twice. Each write is durable when
it returns; any thread may call. Of each session the newest 200 are kept, and those under way before others. A run whose
program died becomes "failed" by `Store.recover`, and its `error_code` says so; that of a program that lives does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from fsstate.errors import InvalidTransitionError
from fsstate.lifecycle import Lifecycle
from fsstate.queries import MISSING, Missing
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.shared import Shared
from fsstate.times import parse_time

__all__ = ["RUNS", "Run", "Runs"]

_Fields: TypeAlias = dict[str, Any]
_ENDS: Final = ("complete", "failed", "cancelled", "timed_out")


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run. `task` is what is run, in a word of your own; `path` is where, `command` how a person would type it.

    - `stdout_tail`, `stderr_tail`: the end of what it printed, `…_truncated` whether there was more than
      `max_output_bytes`. Cutting is up to you.
    - `started_at`: when it began to run, unless given; `completed_at`: when it ended, however it did. Lists begin with
      the latest to start; those that never did come last.
    - `duration_ms`: between the two, unless given.
    - `metadata`: any JSON.

    Changing these attributes changes no file.
    """

    id: str = ""
    session_id: str | None = None
    task: str = ""
    path: str | None = None
    command: str | None = None
    status: str = "queued"
    exit_code: int | None = None
    stdout_tail: str = ""
    stderr_tail: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    timed_out: bool = False
    cancel_requested: bool = False
    max_output_bytes: int | None = None
    error: str | None = None
    error_code: str | None = None
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether it ended."""
        return self.status in _ENDS


def _derive(_before: Mapping[str, Any] | None, after: _Fields, _now: str) -> None:
    status = after["status"]
    if status == "timed_out":
        after["timed_out"] = True
    if status in _ENDS and after.get("duration_ms") is None:
        duration = _milliseconds(after.get("started_at"), after.get("completed_at"))
        if duration is not None:
            after["duration_ms"] = duration


def _milliseconds(start: object, end: object) -> int | None:
    try:
        passed = parse_time(end) - parse_time(start)
    except ValueError:
        return None
    return max(0, round(passed.total_seconds() * 1000))


# On disk: do not rename. For codes of your own declare a type with the same model, lifecycle and derive.
RUNS: Final = RecordType(
    "runs",
    Run,
    group_by="session_id",
    indexed=("error_code", "task"),
    order_by="-started_at",
    lifecycle=Lifecycle(
        steps={"queued": ("running", *_ENDS), "running": _ENDS, **dict.fromkeys(_ENDS, ())},
        stamps={"running": "started_at", **dict.fromkeys(_ENDS, "completed_at")},
    ),
    keep=200,
    recovery=Recovery(
        "failed",
        in_flight=("queued", "running"),
        fields={
            "error": "workspace task interrupted before completion",
            "error_code": "workspace_task_interrupted",
        },
    ),
    derive=_derive,
)


class Runs(Records[Run]):
    """The runs of all sessions, and of none: `runs/<session>/<id>.json`, or `runs/<id>.json`.

    Where several sessions have a run of the same id, `within` says whose is meant.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, RUNS)

    def start(
        self,
        task: str,
        *,
        session_id: str | None = None,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        status: str = "running",
        **fields: Any,
    ) -> Run:
        """Add a run that is under way, or one at another `status`, and return it. As `Records.create`."""
        return self.create(id, task=task, session_id=session_id, status=status, **fields)

    def finish(
        self,
        id: str,  # noqa: A002
        status: str = "complete",
        *,
        within: str | Missing | None = MISSING,
        **fields: Any,
    ) -> Run:
        """Say that the run ended, and lay `fields` over it.

        Raises InvalidTransitionError when it had ended before, or when `status` is no end; NotFoundError if unknown.
        """
        if status in RUNS.in_flight:
            present = self.require(id, within=within).status
            raise InvalidTransitionError(f"runs/{id}", present, status, list(_ENDS))
        return self.change(id, within=within, status=status, **fields)

    def fail(
        self,
        id: str,  # noqa: A002
        error: str | None = None,
        *,
        error_code: str | None = None,
        within: str | Missing | None = MISSING,
    ) -> Run:
        """Say that the run failed, and why. Raises as `finish` does."""
        told = {name: value for name, value in (("error", error), ("error_code", error_code)) if value is not None}
        return self.finish(id, "failed", within=within, **told)

    def cancel(self, id: str, *, within: str | Missing | None = MISSING) -> Run:  # noqa: A002
        """Say that the run was stopped. Raises as `finish` does."""
        return self.finish(id, "cancelled", within=within, cancel_requested=True)

    def request_cancel(self, id: str, *, within: str | Missing | None = MISSING) -> Run:  # noqa: A002
        """Ask whoever works on the run to stop it, and return it; one that has ended stays as it is."""

        def ask(run: Run) -> None:
            run.cancel_requested = run.cancel_requested or not run.is_final

        return self.update(id, ask, within=within)
