"""What the rules of a record type make of a change: times, steps, holders and derived fields. Pure.

A record in flight tells in `held_by` who works on it; see `fsstate.ownership`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from fsstate.errors import ValidationError
from fsstate.lifecycle import Lifecycle
from fsstate.record_types import RecordType

__all__ = ["HOLDER", "apply_rules", "check_status", "is_in_flight", "recovered"]

# On disk: do not rename.
HOLDER: Final = "held_by"

Fields: TypeAlias = dict[str, Any]


def check_status(kind: RecordType[Any], document: Mapping[str, Any], where: str) -> None:
    """Raise ValidationError for a status that the lifecycle does not know: one that was written by hand."""
    status = kind.status_of(document)
    if kind.lifecycle is not None and not kind.lifecycle.knows(status):
        known = ", ".join(kind.lifecycle.steps)
        raise ValidationError(where, f"$.status: {status!r} is no status; it is one of {known}")


def apply_rules(
    kind: RecordType[Any], before: Fields | None, after: Fields, *, now: str, holder: str | None, where: str
) -> None:
    """Set in `after` what follows from the change. `holder` is who makes it, for records that it puts in flight.

    Raises InvalidTransitionError for a step that the lifecycle forbids.
    """
    if kind.lifecycle is not None:
        was, status = _step(kind, kind.lifecycle, before, after, where)
        # Also where it is the usual one: whoever opens the file is to see it.
        after.setdefault("status", status)
        stayed = before if was == status else None
        if stayed is None:
            kind.lifecycle.stamp(after, status, now)
        else:
            _keep_stamps(kind.lifecycle, stayed, after)
        if kind.recovery is not None:
            _hold(after, holder if stayed is None or holder is None else stayed.get(HOLDER), status in kind.in_flight)
    _keep_times(kind, before, after, now)
    if kind.derive is not None:
        kind.derive(before, after, now)


def is_in_flight(kind: RecordType[Any], document: Mapping[str, Any]) -> bool:
    """Whether somebody works on the record, or did when it was written."""
    return kind.status_of(document) in kind.in_flight and not _is_settled(kind, document)


def recovered(kind: RecordType[Any], document: Mapping[str, Any]) -> Fields:
    """The record as it is to be once the one who worked on it has died."""
    assert kind.recovery is not None
    after = {key: value for key, value in document.items() if key != HOLDER}
    after["status"] = kind.recovery.status
    for key, value in kind.recovery.fields.items():
        if after.get(key) is None:
            after[key] = value
    return after


def _is_settled(kind: RecordType[Any], document: Mapping[str, Any]) -> bool:
    """Whether the record waits for somebody to work on it: it was recovered, or nobody ever did."""
    return kind.recovery is not None and HOLDER not in document and kind.status_of(document) == kind.recovery.status


def _step(
    kind: RecordType[Any], lifecycle: Lifecycle, before: Fields | None, after: Fields, where: str
) -> tuple[str | None, str]:
    """The status before and after, if the lifecycle allows that."""
    status = lifecycle.check_status(kind.status_of(after) or "")
    was = None if before is None else kind.status_of(before)
    if was is not None and was != status:
        lifecycle.check_step(where, was, status)
    return was, status


def _keep_stamps(lifecycle: Lifecycle, before: Fields, after: Fields) -> None:
    """A change that is no step loses none of the times that are known, also when it does not tell them."""
    for field in lifecycle.stamps.values():
        if after.get(field) is None and before.get(field) is not None:
            after[field] = before[field]


def _hold(after: Fields, holder: object, is_in_flight: bool) -> None:
    after.pop(HOLDER, None)
    if is_in_flight and holder is not None:
        after[HOLDER] = holder


def _keep_times(kind: RecordType[Any], before: Fields | None, after: Fields, now: str) -> None:
    times = kind.view.times
    if "created_at" in times and after.get("created_at") is None:
        # Of a file that somebody wrote without it, nobody knows when that was.
        made_at = now if before is None else before.get("created_at")
        after |= {} if made_at is None else {"created_at": made_at}
    if "updated_at" not in times:
        return
    if before is None:
        after["updated_at"] = after.get("updated_at") or after.get("created_at") or now
    elif after.get("updated_at") in (None, before.get("updated_at")):
        after["updated_at"] = now
