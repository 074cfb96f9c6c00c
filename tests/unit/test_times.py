from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.times import RisingTimes, format_time, now, parse_time

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
MOMENTS = st.datetimes(timezones=st.just(UTC))
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS)
def test_what_is_written_is_read(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_texts_sort_as_their_times(one: datetime, other: datetime) -> None:
    assert (format_time(one) < format_time(other)) == (one < other)


@given(MOMENTS.filter(lambda moment: 1 < moment.year < 9999), OFFSETS)
def test_every_zone_is_written_as_utc(moment: datetime, zone: timezone) -> None:
    moment = moment.replace(tzinfo=zone)
    assert parse_time(format_time(moment)) == moment
    assert parse_time(moment.isoformat()) == moment


def test_six_digits_always() -> None:
    assert format_time(NOON) == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00.000Z",
        "2026-01-31T12:00:00.000000000Z",
        "2026-01-31T14:00:00+02:00",
        "2026-01-31T14:00:00+0200",
        "2026-01-31T14:00+02",
        "2026-01-31 06:30:00-05:30",
        "2026-01-31 12:00:00",
        "2026-01-31 12:00:00 UTC",
        "2026-01-31T12:00",
        "20260131T120000Z",
        " 2026-01-31T12:00:00Z\n",
        "2026-01-31T11:59:60Z",
    ],
)
def test_forms_that_other_tools_write(text: str) -> None:
    assert parse_time(text) == NOON


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", [int, float, str])
def test_numbers_in_any_unit(unit: int, kind: type) -> None:
    seconds = int(NOON.timestamp())
    assert parse_time(kind(seconds * unit)) == NOON


def test_fractions() -> None:
    half = NOON + timedelta(milliseconds=500)
    assert parse_time("2026-01-31T12:00:00.5Z") == half
    assert parse_time("2026-01-31T12:00:00,500") == half
    assert parse_time("2026-01-31T12:00:00.500000999Z") == half
    assert parse_time(NOON.timestamp() + 0.5) == half
    assert parse_time(f"{NOON.timestamp() + 0.5}") == half


def test_dates_are_their_midnight() -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_time("2026-01-31") == parse_time("20260131") == parse_time(date(2026, 1, 31)) == midnight


def test_datetimes_pass() -> None:
    assert parse_time(NOON) is NOON or parse_time(NOON) == NOON
    assert parse_time(NOON.replace(tzinfo=None)) == NOON
    assert parse_time(NOON.astimezone(timezone(timedelta(hours=3)))).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "12:00",
        "2026-13-01",
        "2026-02-30T00:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:61Z",
        True,
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00Zulu",
        "0001-01-01T00:00:00+10:00",
        "9" * 40,
        "9" * 5000,
        None,
        [],
        b"2026-01-31",
        float("nan"),
        float("inf"),
        10**40,
        10**400,
        -(10**400),
        "1e9",
        "١٢٣",
    ],
)
def test_what_is_no_time_is_refused_with_what_was_expected(value: object) -> None:
    with pytest.raises(ValueError, match="expected RFC 3339"):
        parse_time(value)


@given(st.text() | st.floats() | st.integers())
def test_any_input_is_read_or_refused(value: object) -> None:
    try:
        assert parse_time(value).utcoffset() == timedelta(0)
    except ValueError as error:
        assert "expected" in str(error)  # noqa: PT017 - either outcome is right


def test_a_naive_datetime_is_not_written() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        format_time(NOON.replace(tzinfo=None))


def test_a_time_outside_of_utc_is_not_written() -> None:
    with pytest.raises(ValueError, match="outside the years"):
        format_time(datetime.max.replace(tzinfo=timezone(timedelta(hours=-3))))


def test_now_is_aware() -> None:
    assert now().tzinfo is UTC


def test_rising_times_rise_for_each_key() -> None:
    times = iter([NOON, NOON, NOON - timedelta(hours=1), NOON - timedelta(hours=1), NOON + timedelta(seconds=1)])
    rising = RisingTimes(lambda: next(times))
    tick = timedelta(microseconds=1)
    assert [rising.next("a") for _ in range(3)] == [NOON, NOON + tick, NOON + 2 * tick]
    assert rising.next("b") == NOON - timedelta(hours=1)
    assert rising.next("a") == NOON + timedelta(seconds=1)


def test_rising_times_forget_the_keys_of_long_ago() -> None:
    rising = RisingTimes(lambda: NOON)
    for key in ("a", "b"):
        rising.next(key)
    for number in range(9_999):
        rising.next(f"other {number}")
    assert rising.next("b") == NOON + timedelta(microseconds=1)
    assert rising.next("a") == NOON
