"""Audits of changes to files: which file was to be changed, how, and what came of it. What was written is not kept.

    applying -> complete | failed

Each write is durable when it returns; any thread may call. Of each session the newest 200 are kept, those being
applied before others. One whose program died becomes "failed" by `Store.recover`, and its `error_code` says so; that of
a program that lives does not.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from fsstate.lifecycle import Lifecycle
from fsstate.queries import MISSING, Missing
from fsstate.record_types import RecordType, Recovery
from fsstate.records import Records
from fsstate.shared import Shared

__all__ = ["AUDITS", "Audit", "Audits"]


class Audit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One change to a file. `action` is "write_text", "delete_file", "rename_path" or your own.

    `target_path` is where a file was moved to; sizes are in bytes; `applied_at` is when the change was done, or failed.
    Changing these attributes changes no file.
    """

    id: str = ""
    session_id: str | None = None
    action: str = ""
    path: str = ""
    target_path: str | None = None
    status: str = "applying"
    error: str | None = None
    error_code: str | None = None
    size_before: int | None = None
    size_after: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    applied_at: datetime | None = None


# On disk: do not rename. For codes of your own declare a type with the same model and lifecycle.
AUDITS: Final = RecordType(
    "audits",
    Audit,
    group_by="session_id",
    indexed=("error_code", "action", "path"),
    lifecycle=Lifecycle(
        steps={"applying": ("complete", "failed"), "complete": (), "failed": ()},
        stamps={"complete": "applied_at", "failed": "applied_at"},
    ),
    keep=200,
    recovery=Recovery(
        "failed",
        in_flight=("applying",),
        fields={
            "error": "workspace file change interrupted before completion",
            "error_code": "workspace_file_change_interrupted",
        },
    ),
)


class Audits(Records[Audit]):
    """The audits of all sessions, and of none: `audits/<session>/<id>.json`, or `audits/<id>.json`.

    Where several sessions have an audit of the same id, `within` says whose is meant.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, AUDITS)

    def start(
        self,
        action: str,
        path: str,
        *,
        session_id: str | None = None,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        target_path: str | None = None,
        size_before: int | None = None,
    ) -> Audit:
        """Add an audit of a change that is about to be applied, and return it. As `Records.create`."""
        given: dict[str, Any] = {"action": action, "path": path, "target_path": target_path, "session_id": session_id}
        return self.create(id, **given, size_before=size_before)

    def finish(
        self,
        id: str,  # noqa: A002
        status: str = "complete",
        *,
        error: str | None = None,
        error_code: str | None = None,
        size_after: int | None = None,
        within: str | Missing | None = MISSING,
    ) -> Audit:
        """Say that the change was applied ("complete") or "failed", and return the audit.

        Raises InvalidTransitionError when it was finished before, or for the status "applying"; NotFoundError if
        unknown.
        """
        given: dict[str, Any] = {"error": error, "error_code": error_code, "size_after": size_after}
        told = {name: value for name, value in given.items() if value is not None}
        return self.change(id, within=within, status=status, **told)
