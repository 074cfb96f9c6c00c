"""Points in time: one form is written, every form that other tools write is read.

On disk a time is RFC 3339 in UTC with `Z` and always six fractional digits, so that texts sort as the times do.
Nothing here gives an order to records: clocks jump, and files travel between machines.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from fsstate.forks import renew_in_children

__all__ = ["Clock", "RisingTimes", "format_time", "now", "parse_time", "zoned"]

# Says what time it is: an aware datetime. Tests bring their own.
Clock: TypeAlias = Callable[[], datetime]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?")
_TEXT: Final = re.compile(
    r"(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[Tt ] ?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
)
# Of so many keys the last time is remembered.
_MOST_KEYS: Final = 10_000
_EXPECTED: Final = "expected RFC 3339 such as 2026-01-31T12:00:00Z, or seconds, ms, µs or ns since 1970"


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)


class RisingTimes:
    """Times that rise for each key, however the clock is set. Any thread may call.

    Of keys that were not asked for in a long while the last time is forgotten.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: OrderedDict[str, datetime] = OrderedDict()
        renew_in_children(self)

    def next(self, key: str) -> datetime:
        """The present time; if that is no later than the last one for this key, a microsecond after that."""
        with self._lock:
            time, last = _to_utc(self._clock()), self._last.pop(key, None)
            if last is not None and time <= last:
                time = last + timedelta(microseconds=1)
            self._last[key] = time
            if len(self._last) > _MOST_KEYS:
                self._last.popitem(last=False)
            return time

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()


def format_time(value: datetime) -> str:
    """The form in which times are stored: `2026-01-31T12:00:00.000000Z`.

    Raises ValueError when `value` has no zone: which moment it means is anybody's guess.
    """
    if value.tzinfo is not UTC:
        value = _to_utc(value)
    return value.isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(value: object) -> datetime:
    """Read a point in time in any form that tools write, as an aware datetime in UTC.

    Text: RFC 3339 and ISO 8601 with an offset, `Z` or no zone (taken as UTC), a space instead of `T`, any number of
    fractional digits (those after the sixth are dropped), or a date alone (its midnight).
    Numbers, also as text: time since 1970 in seconds, or by size (above 1e11, 1e14, 1e17) in ms, µs or ns.
    Eight digits as text are a date (`20260131`). A datetime without a zone is taken as UTC.

    >>> format_time(parse_time("2026-01-01 12:00:00+02:00"))
    '2026-01-01T10:00:00.000000Z'
    >>> format_time(parse_time(1760000000123))
    '2025-10-09T08:53:20.123000Z'

    Raises ValueError, saying what was expected, for everything else.
    """
    if isinstance(value, str):
        return _parse_text(value.strip())
    if isinstance(value, datetime):
        return _to_utc(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    raise ValueError(f"{value!r} is not a time: {_EXPECTED}")


def zoned(value: object, what: str) -> datetime:
    """Return a point in time as it is. Raises ValueError, which names `what`, for one without a zone or for no time."""
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value
    raise ValueError(f"{what} needs a zone: pass an aware datetime, such as datetime.now(UTC), instead of {value!r}")


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone: pass an aware datetime, such as datetime.now(UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} lies outside the years 1 to 9999 in UTC") from None


def _parse_text(text: str) -> datetime:
    if len(text) == 27 and text.endswith("Z"):
        # Most likely what format_time wrote, which the interpreter reads ten times faster.
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    match = _TEXT.fullmatch(text)
    if match is None:
        return _parse_digits(text)
    try:
        return _from_match(match)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time ({error}): {_EXPECTED}") from None


def _parse_digits(text: str) -> datetime:
    match = _NUMBER.fullmatch(text) if text.isascii() and len(text) <= 40 else None
    if match is None:
        raise ValueError(f"{text!r} is not a time: {_EXPECTED}")
    return _from_number(float(text) if match[1] else int(text))


def _from_match(match: re.Match[str]) -> datetime:
    second = int(match["second"] or 0)
    # RFC 3339 allows a leap second; datetime does not know it.
    leap = second == 60
    moment = datetime(
        int(match["year"]),
        int(match["month"]),
        int(match["day"]),
        int(match["hour"] or 0),
        int(match["minute"] or 0),
        59 if leap else second,
        int((match["fraction"] or "0")[:6].ljust(6, "0")),
        tzinfo=UTC,
    )
    return moment + timedelta(seconds=int(leap)) - _offset(match["zone"])


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone[0] not in "+-":
        return timedelta()
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(f"offset {zone} must lie between -23:59 and +23:59")
    size = timedelta(hours=hours, minutes=minutes)
    return -size if zone[0] == "-" else size


def _from_number(value: float) -> datetime:
    # As a comparison, for which an integer may be larger than any float.
    if not -math.inf < value < math.inf:
        raise ValueError(f"{value!r} is not a time: {_EXPECTED}")
    size = abs(value)
    per_second = 1 if size <= 1e11 else 10**3 if size <= 1e14 else 10**6 if size <= 1e17 else 10**9
    try:
        if isinstance(value, int):
            return _EPOCH + timedelta(microseconds=value * 10**6 // per_second)
        return _EPOCH + timedelta(seconds=value / per_second)
    except OverflowError:
        raise ValueError(f"{value!r} lies outside the years 1 to 9999: {_EXPECTED}") from None
