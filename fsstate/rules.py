"""What the rules of a record type make of a change: times, steps, holders and derived fields. Pure.

A record in flight tells in `held_by` who works on it; see `fsstate.ownership`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from fsstate.errors import ValidationError
from fsstate.lifecycle import Lifecycle
from fsstate.merge import same
from fsstate.record_types import HOLDER, RecordType

__all__ = ["HOLDER", "Moment", "apply_rules", "check_status", "is_in_flight", "keep_untold", "recovered"]

Fields: TypeAlias = dict[str, Any]


class Moment(NamedTuple):
    """When and where a change is made, and by whom: who holds the record, if the change puts it in flight."""

    now: str
    where: str
    holder: str | None


def check_status(kind: RecordType[Any], document: Mapping[str, Any], where: str) -> None:
    """Raise ValidationError for a status that the lifecycle does not know: one that was written by hand."""
    status = kind.status_of(document)
    if kind.lifecycle is not None and not kind.lifecycle.knows(status):
        known = ", ".join(kind.lifecycle.steps)
        raise ValidationError(where, f"$.status: {status!r} is no status; it is one of {known}")


def keep_untold(kind: RecordType[Any], before: Fields, after: Fields, *, held: bool) -> None:
    """Take over what the rules had set and the change does not tell: whoever puts a whole record need not know it.

    The times of the record; of its statuses, while it stays where it is; and, if it is `held`, by whom.
    """
    kept: list[str] = [name for name in ("created_at", "updated_at") if name in kind.view.times]
    if kind.lifecycle is not None and kind.status_of(before) == kind.status_of(after):
        kept += [*kind.lifecycle.stamps.values(), *([HOLDER] if held and kind.recovery is not None else [])]
    for name in kept:
        if after.get(name) is None and before.get(name) is not None:
            after[name] = before[name]


def apply_rules(kind: RecordType[Any], before: Fields | None, after: Fields, moment: Moment) -> None:
    """Set in `after` what follows from the change. Raises InvalidTransitionError for a step that is none."""
    if kind.lifecycle is not None:
        _follow_status(kind, kind.lifecycle, before, after, moment)
    if before is None:
        _set_times(kind, after, moment.now)
    if kind.derive is not None:
        kind.derive(before, after, moment.now)
    # What is the same again once it is derived was no change.
    if before is not None and "updated_at" in kind.view.times and not same(before, after):
        _move_time(before, after, moment.now)


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


def _follow_status(
    kind: RecordType[Any], lifecycle: Lifecycle, before: Fields | None, after: Fields, moment: Moment
) -> None:
    status = lifecycle.check_status(kind.status_of(after) or "")
    # Also where it is the usual one: whoever opens the file is to see it.
    after.setdefault("status", status)
    was = None if before is None else kind.status_of(before)
    if was != status:
        if was is not None:
            lifecycle.check_step(moment.where, was, status)
        lifecycle.stamp(after, status, moment.now)
    if kind.recovery is not None and (was != status or moment.holder is None):
        _hold(after, moment.holder if status in kind.in_flight else None)


def _hold(after: Fields, holder: str | None) -> None:
    after.pop(HOLDER, None)
    if holder is not None:
        after[HOLDER] = holder


def _set_times(kind: RecordType[Any], after: Fields, now: str) -> None:
    if "created_at" in kind.view.times:
        after["created_at"] = after.get("created_at") or now
    if "updated_at" in kind.view.times:
        after["updated_at"] = after.get("updated_at") or after.get("created_at") or now


def _move_time(before: Fields, after: Fields, now: str) -> None:
    if after.get("updated_at") == before.get("updated_at"):
        after["updated_at"] = now
