"""Runs, audits and jobs for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import offloaded
from fsstate.aio.records import AsyncRecords
from fsstate.audits import Audit, Audits
from fsstate.jobs import Job, Jobs
from fsstate.runs import Run, Runs

# mypy takes it that the `**fields` of a method might hold one called "self"; Python does not let them.
__all__ = ["AsyncAudits", "AsyncJobs", "AsyncRuns"]


class AsyncRuns(AsyncRecords[Run]):
    """The runs; see `fsstate.Runs` for what each method promises."""

    start = offloaded(Runs.start)  # type: ignore[arg-type]
    finish = offloaded(Runs.finish)  # type: ignore[arg-type]
    fail = offloaded(Runs.fail)
    cancel = offloaded(Runs.cancel)
    request_cancel = offloaded(Runs.request_cancel)


class AsyncAudits(AsyncRecords[Audit]):
    """The audits; see `fsstate.Audits` for what each method promises."""

    start = offloaded(Audits.start)
    finish = offloaded(Audits.finish)


class AsyncJobs(AsyncRecords[Job]):
    """The jobs; see `fsstate.Jobs` for what each method promises."""

    create = offloaded(Jobs.create)  # type: ignore[arg-type]
    start = offloaded(Jobs.start)
    progress = offloaded(Jobs.progress)
    pause = offloaded(Jobs.pause)
    resume = offloaded(Jobs.resume)
    complete = offloaded(Jobs.complete)
    fail = offloaded(Jobs.fail)
    retry = offloaded(Jobs.retry)
    cancel = offloaded(Jobs.cancel)
    resume_pending = offloaded(Jobs.resume_pending)
    due = offloaded(Jobs.due)
