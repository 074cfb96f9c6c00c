"""Jobs: work in the background that is queued, reports its progress, may pause, and is tried again when it fails.

    queued -> running <-> paused
    queued | running | paused -> completed | failed | cancelled
    failed -> queued, while attempts are left

Each write is durable when it returns; any thread may call. A job that is queued or running is held by the open store
that put it there. Once that is gone, `resume_pending` and `Store.recover` queue the job again, for anybody to start;
of several that try, one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from fsstate.errors import InvalidTransitionError, InvalidValueError
from fsstate.lifecycle import Lifecycle
from fsstate.merge import same
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.rules import HOLDER
from fsstate.shared import Shared
from fsstate.times import format_time, parse_time, zoned

__all__ = ["JOBS", "Job", "JobEvent", "Jobs"]

_MAX_ATTEMPTS: Final = 3
_BACKOFF_MS: Final = 500
_MOST_EVENTS: Final = 64
# Doubled no more often than this, and never longer than a year.
_MOST_DOUBLINGS: Final = 20
_LONGEST_MS: Final = 365 * 86_400_000

_Fields: TypeAlias = dict[str, Any]
# The class has a method called `list`.
Listing: TypeAlias = list["Job"]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class JobEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that happened to a job, and what the job was like then.

    `phase` is "created", "running", "progress_updated", "paused", "resumed", "completed", "failed", "cancelled",
    "retried", or "queued_after_resume" when its program had died.
    """

    at: datetime | None = None
    phase: str = ""
    status: str = ""
    progress: int | float | None = None
    detail: Any = None
    attempt: int = 0
    next_retry_at: datetime | None = None


class Job(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One job. `detail`, `result` and `error` are any JSON; `progress` goes from 0 to 100.

    - `attempt`: how often it failed; with `max_attempts` it is not tried again.
    - `next_backoff_ms`, `next_retry_at`: how long to wait after a failure, and until when: `backoff_ms` after the
      first, twice as long after each further one.
    - `history`: the newest 64 things that happened to it, the oldest first.
    - `started_at`, `completed_at`: when the present attempt began and ended.

    Changing these attributes changes no file.
    """

    id: str = ""
    name: str = ""
    status: str = "queued"
    progress: int | float | None = None
    detail: Any = None
    result: Any = None
    error: Any = None
    attempt: _Count = 0
    max_attempts: _Count = _MAX_ATTEMPTS
    backoff_ms: _Count = _BACKOFF_MS
    next_backoff_ms: _Count = 0
    next_retry_at: datetime | None = None
    history: list[JobEvent] = []
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more can become of it."""
        return self.status in ("completed", "cancelled") or (self.status == "failed" and not self.can_retry)

    @property
    def can_retry(self) -> bool:
        """Whether it failed and may be tried again."""
        return self.status == "failed" and self.attempt < self.max_attempts


def _derive(before: Mapping[str, Any] | None, after: _Fields, now: str) -> None:
    if before is None or not same(before.get("progress"), after.get("progress")):
        _set(after, "progress", None if after.get("progress") is None else _percent(after["progress"]))
    if before is not None and not after.get("history"):
        # What happened stays so, whatever a job that is put says.
        _set(after, "history", before.get("history"))
    phase = _phase(before, after)
    if phase is None or (before is None and after.get("history")):
        return
    if before is not None:
        _follow(phase, after, now)
    if before is None or same(before.get("history"), after.get("history")):
        _note(phase, after, now)


def _phase(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str | None:
    """What happened to the job; None for nothing that its history tells."""
    if before is None:
        return "created"
    was, status = before.get("status") or "queued", after["status"]
    if was != status:
        again = {("failed", "queued"): "retried", ("paused", "running"): "resumed"}
        return again.get((was, status), "queued_after_resume" if status == "queued" else status)
    if HOLDER in before and HOLDER not in after:
        return "queued_after_resume"
    moved = any(not same(before.get(key), after.get(key)) for key in ("progress", "detail"))
    return "progress_updated" if moved else None


def _follow(phase: str, after: _Fields, now: str) -> None:
    """Set what follows from what happened."""
    if phase == "failed":
        _schedule(after, now)
        return
    if phase == "progress_updated":
        return
    if phase == "completed":
        after["progress"] = 100
    if phase == "retried":
        _check_attempts(after)
        _set(after, "error", None)
        after["progress"] = 0
    # An attempt's times are its own.
    ended = ("started_at", "completed_at") if after["status"] == "queued" else ()
    for key in ("next_backoff_ms", "next_retry_at", *ended):
        _set(after, key, None)


def _schedule(after: _Fields, now: str) -> None:
    attempt = after["attempt"] = after.get("attempt", 0) + 1
    left = attempt < after.get("max_attempts", _MAX_ATTEMPTS)
    doubled = after.get("backoff_ms", _BACKOFF_MS) * 2 ** min(attempt - 1, _MOST_DOUBLINGS)
    backoff = min(doubled, _LONGEST_MS)
    _set(after, "next_backoff_ms", backoff if left else None)
    _set(after, "next_retry_at", format_time(parse_time(now) + timedelta(milliseconds=backoff)) if left else None)


def _check_attempts(after: Mapping[str, Any]) -> None:
    attempt, most = after.get("attempt", 0), after.get("max_attempts", _MAX_ATTEMPTS)
    if attempt >= most:
        where = f"jobs/{after.get('id')}, which failed {attempt} times of {most},"
        raise InvalidTransitionError(where, "failed", "queued", ["cancelled"])


def _note(phase: str, after: _Fields, now: str) -> None:
    """Add to the history. One that was spoilt by hand is left for the model to refuse."""
    if not isinstance(after.get("history", []), list):
        return
    history: list[Any] = after.get("history", [])
    told = {key: after.get(key) for key in ("status", "progress", "detail", "attempt", "next_retry_at")}
    event = {"at": now, "phase": phase, **{key: value for key, value in told.items() if value is not None}}
    after["history"] = [*history, event][-_MOST_EVENTS:]


def _check_step(job: Job, statuses: Sequence[str], wanted: str) -> None:
    """Raise InvalidTransitionError unless the job is at one of the statuses."""
    if job.status not in statuses:
        raise InvalidTransitionError(f"jobs/{job.id}", job.status, wanted, [*_LIFECYCLE.steps[job.status]])


def _set(fields: _Fields, key: str, value: object) -> None:
    """Set a field, or remove it for None."""
    if value is None:
        fields.pop(key, None)
    else:
        fields[key] = value


def _percent(progress: object) -> int | float:
    """The progress, at most 100. Raises InvalidValueError for what is none."""
    if isinstance(progress, int | float) and not isinstance(progress, bool) and 0 <= progress < math.inf:
        return min(progress, 100)
    raise InvalidValueError(f"progress is a number from 0 to 100, got {progress!r}", at="$.progress")


# On disk: do not rename.
_LIFECYCLE: Final = Lifecycle(
    steps={
        "queued": ("running", "paused", "completed", "failed", "cancelled"),
        "running": ("paused", "completed", "failed", "cancelled", "queued"),
        "paused": ("running", "completed", "failed", "cancelled"),
        "completed": (),
        "failed": ("queued", "cancelled"),
        "cancelled": (),
    },
    stamps={"running": "started_at", **dict.fromkeys(("completed", "failed", "cancelled"), "completed_at")},
)
JOBS: Final = RecordType(
    "jobs",
    Job,
    indexed=("name",),
    order_by="-updated_at",
    lifecycle=_LIFECYCLE,
    recovery=Recovery("queued", in_flight=("queued", "running")),
    derive=_derive,
)


class Jobs(Records[Job]):
    """The jobs: `jobs/<id>.json`. Lists begin with the job that changed last."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, JOBS)

    # Told by the name, which every job has, unlike the records of types at large.
    def create(  # type: ignore[override]
        self,
        name: str,
        *,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        progress: float | None = 0,
        **fields: Any,
    ) -> Job:
        """Queue a job and return it. Other `fields` are those of `Job`. Without an `id` it gets a new UUIDv7.

        Raises AlreadyExistsError for an id that is taken, TypeError for a field that jobs do not have, ValidationError
        for a value that does not fit.
        """
        return super().create(id, name=name, progress=progress, **fields)

    def start(self, id: str) -> Job:  # noqa: A002
        """Say that the job is worked on, by this store, and return it.

        Raises InvalidTransitionError unless it is queued or paused: whoever is second starts nothing. NotFoundError if
        unknown.
        """
        return self._step(id, "running")

    def progress(self, id: str, percent: float, detail: Any = None) -> Job:  # noqa: A002
        """Say how far the job is, from 0 to 100; more counts as 100. A `detail` of None leaves what it has.

        Raises InvalidValueError for what is negative or no number, InvalidTransitionError when the job has ended.
        """
        given = {"progress": _percent(percent)} | ({} if detail is None else {"detail": detail})

        def report(job: Job) -> Job:
            _check_step(job, ("queued", "running", "paused"), "running")
            return msgspec.structs.replace(job, **given)

        return self.update(id, report)

    def pause(self, id: str, detail: Any = None) -> Job:  # noqa: A002
        """Let the job rest; nobody holds it then. Raises as `start` does, unless it is queued or running."""
        return self._step(id, "paused", detail=detail)

    def resume(self, id: str, detail: Any = None) -> Job:  # noqa: A002
        """Go on with a job that was paused. Raises as `start` does."""
        return self._step(id, "running", detail=detail)

    def complete(self, id: str, result: Any = None, *, detail: Any = None) -> Job:  # noqa: A002
        """Say that the job is done, and what it gave; its progress is 100 then. Raises as `start` does."""
        return self._step(id, "completed", result=result, detail=detail)

    def fail(self, id: str, error: Any = None, *, detail: Any = None) -> Job:  # noqa: A002
        """Say that the job failed, and why; its `next_retry_at` is set while attempts are left. Raises as `start`."""
        return self._step(id, "failed", error=error, detail=detail)

    def retry(self, id: str) -> Job:  # noqa: A002
        """Queue a job that failed anew, now. Raises InvalidTransitionError when it did not, or has no attempts left."""

        def queue(job: Job) -> None:
            _check_step(job, ("failed",), "queued")
            job.status = "queued"

        return self.update(id, queue)

    def cancel(self, id: str, detail: Any = None) -> Job:  # noqa: A002
        """Give the job up, for good. Raises as `start` does when it has ended."""
        return self._step(id, "cancelled", detail=detail)

    def resume_pending(self) -> Listing:
        """Queue the jobs anew whose programs died, and return all that wait to be started, the oldest first.

        Those that another open store has queued are left to it.
        """
        elsewhere = {flight.id for flight in self.recover().alive if flight.held_by != self._shared.ownership.mine()}
        return [job for job in self.list(status="queued", order_by="created_at") if job.id not in elsewhere]

    def due(self, now: datetime | None = None) -> Listing:
        """Return the jobs that failed and whose time to be tried again has come, the longest waiting first.

        Raises ValueError for a `now` without a zone.
        """
        now = self._shared.clock() if now is None else zoned(now, "now")
        failed = self.list(status="failed", order_by="next_retry_at")
        return [job for job in failed if job.next_retry_at is not None and job.next_retry_at <= now]

    def _step(self, id: str, status: str, **fields: Any) -> Job:  # noqa: A002
        return self.change(id, status=status, **{key: value for key, value in fields.items() if value is not None})
