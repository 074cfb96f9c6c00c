"""Fields that both sides of a merge change though nobody disagrees: times that fsstate sets, and amounts.

- `updated_at` is set at every save: the later time counts, and one that a side removed comes back.
- `created_at`: the earlier one, of a record that both sides made.
- `started_at`, `completed_at`, `applied_at`, `ended_at`, `archived_at` tell when a record first became so: the earlier
  one. Where the base had such a time already, it became so anew on both sides: the later one.
- A goal's `tokens_used` and `time_used_seconds` grow by what each side added.

Times in any form are compared, and stay as they are written. What is no time is a conflict like any other.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from fsstate.merge import ABSENT
from fsstate.times import parse_time

__all__ = ["agreed"]

_UPDATED: Final = "updated_at"
_CREATED: Final = "created_at"
_ENTERED: Final = frozenset(["started_at", "completed_at", "applied_at", "ended_at", "archived_at"])
# In `goal.json` alone: the names are not telling enough to count for all documents.
_GOAL: Final = "goal.json"
_AMOUNTS: Final = frozenset(["tokens_used", "time_used_seconds"])


def agreed(place: str, base: Any, ours: Any, theirs: Any, file: str = "") -> Any:
    """What a field holds that both sides changed without disagreeing; ABSENT where they do disagree.

    `place` is where it stands, such as `$.items[id=3].updated_at`; `file` is the path of the file. What a side lacks is
    ABSENT.
    """
    name = place.rpartition(".")[2]
    if name == _UPDATED:
        return theirs if ours is ABSENT else ours if theirs is ABSENT else _time(ours, theirs, later=True)
    if name == _CREATED:
        return _time(ours, theirs, later=False)
    if name in _ENTERED:
        return _time(ours, theirs, later=base is not ABSENT and base is not None)
    if name in _AMOUNTS and file.rpartition("/")[2] == _GOAL:
        return _sum(base, ours, theirs)
    return ABSENT


def _time(ours: Any, theirs: Any, *, later: bool) -> Any:
    try:
        mine, other = parse_time(ours), parse_time(theirs)
    except ValueError:
        return ABSENT
    return ours if mine == other or (mine > other) == later else theirs


def _sum(base: Any, ours: Any, theirs: Any) -> Any:
    """Both growths since the base. An amount that shrank was set by somebody, and is no growth."""
    # An amount of nothing is left out of the file.
    start = 0 if base is ABSENT else base
    if not (_is_amount(start) and _is_amount(ours) and _is_amount(theirs) and start <= ours and start <= theirs):
        return ABSENT
    return ours + theirs - start


def _is_amount(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
