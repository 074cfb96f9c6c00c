"""`stats`: how much a store holds, what is largest in it, how it grows, and what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from fsstate.cli import output
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.progress import ProgressBar

if TYPE_CHECKING:
    from fsstate.stats import CategoryUsage, Growth, StoreStats

__all__ = ["bars", "stats"]

# More folders than this in one place are told in one line.
_CROWD: Final = 20
# Of a bar: whole cells, and eighths of one.
_FULL: Final = "█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_GARBAGE: Final = {
    "cache": "made again when it is missing",
    "cooldowns": "when pruning in the background last began",
    "locks": "empty files, left for the next to lock",
    "orphaned": "belonged to documents that are gone",
    "other": "in .fsstate, and not fsstate's",
    "quarantine": "could not be read, or was saved in the same moment; put aside",
    "staging": "left by writers that died; swept by the next",
    "trash": "pruned, and kept for a while; see `fsstate trash`",
}


@click.command(
    cls=Command,
    shape=(
        '{"store", "bytes", "sessions", "categories": [{"category", "documents", "notes", "logs", "belongings",',
        ' "others"}], "largest": [{"id", "title", "bytes"}], "growth": [{"day", "records", "entries", "bytes"}],',
        ' "undated", "garbage": [{"kind", "files", "bytes"}], "freshness": null or',
        ' {"records", "outdated"}, "problems": [text]}; documents, notes, logs, belongings, others and undated are',
        ' {"files", "bytes"}; freshness is how many sessions the index knows, and how many of them changed since',
    ),
)
@click.option(
    "--days",
    type=click.IntRange(min=0, max=366),
    default=14,
    show_default=True,
    help="So many days of growth; 0 spares reading the documents.",
)
@click.option(
    "-n", "--largest", type=click.IntRange(min=0), default=5, show_default=True, help="So many of the largest sessions."
)
@pass_settings
def stats(settings: Settings, days: int, largest: int) -> None:
    """Show what a store holds and how it grows.

    Growth is by the day that records say they were created on, in UTC, with all that belongs to them; entries of logs
    count on their own day. What cannot be read is reported; the exit code is 1 then.
    """
    settings.require_store()
    with ProgressBar(settings, "reading") as progress:
        found = settings.opened.stats(days=days, largest=largest, progress=progress)
    if settings.json:
        output.json_document(_as_json(settings, found))
    else:
        _show(found)
    if found.problems:
        click.get_current_context().exit(PROBLEM)


def _as_json(settings: Settings, found: StoreStats) -> dict[str, Any]:
    growth = [{**day._asdict(), "day": day.day.isoformat()} for day in found.growth]
    told = {
        "categories": [_plain(each) for each in found.categories],
        "largest": [each._asdict() for each in found.largest],
        "growth": growth,
        "undated": found.undated._asdict(),
        "garbage": [each._asdict() for each in found.garbage],
        "freshness": None if found.freshness is None else found.freshness._asdict(),
        "problems": [str(problem) for problem in found.problems],
    }
    return {"store": settings.opened.path, "bytes": found.bytes, "sessions": found.sessions, **told}


def _plain(usage: CategoryUsage) -> dict[str, Any]:
    parts = {name: part._asdict() for name, part in usage._asdict().items() if name != "category"}
    return {"category": usage.category, **parts}


# -- for people


def _show(found: StoreStats) -> None:
    if not found.categories:
        output.say("no records")
    else:
        heads = ("CATEGORY", "DOCUMENTS", "NOTES", "LOGS", "BELONGINGS", "OTHERS", "SIZE")
        output.table(heads, _rows(found.categories))
    largest = [(each.id, output.shown_size(each.bytes), each.title or "") for each in found.largest]
    _section(("LARGEST SESSIONS", "SIZE", "TITLE"), largest)
    _show_growth(found)
    left = [
        (each.kind, f"{each.files:,}", output.shown_size(each.bytes), _GARBAGE[each.kind]) for each in found.garbage
    ]
    _section(("LEFT OVER", "FILES", "SIZE", "WHAT IT IS"), left)
    output.say()
    output.say(f"{output.shown_size(found.bytes)} in all, {output.count(found.sessions, 'session')}")
    if found.freshness is not None:
        known, outdated = found.freshness
        output.say(f"the index knows {output.count(known, 'session')}; the next list reads {outdated:,} of them anew")
    for problem in found.problems:
        output.complain(str(problem))


def _show_growth(found: StoreStats) -> None:
    if not any(day.bytes for day in found.growth):
        return
    output.say()
    output.say(click.style("GROWTH BY DAY (UTC)", bold=True))
    for line in bars(found.growth, output.width(), plain=not output.can_show(_FULL + _EIGHTHS)):
        output.say(line)
    if found.undated.files:
        files, size = output.count(found.undated.files, "file"), output.shown_size(found.undated.bytes)
        output.say(f"{files} of {size} in all tell no day")


def _section(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    if rows:
        output.say()
        output.table(heads, rows)


def _rows(categories: Sequence[CategoryUsage]) -> Iterator[tuple[str, ...]]:
    """A line for each category; one for a crowd of neighbours, such as the groups of a record type."""
    folders = Counter(_above(each.category) for each in categories if "/" in each.category)
    told: set[str] = set()
    for each in categories:
        above = _above(each.category)
        if folders[above] <= _CROWD:
            yield _row(each.category or "(no category)", [each])
        elif above not in told:
            told.add(above)
            crowd = [other for other in categories if _above(other.category) == above]
            yield _row(f"{above}/* ({len(crowd):,})", crowd)


def _above(category: str) -> str:
    return category.rpartition("/")[0]


def _row(name: str, usages: Sequence[CategoryUsage]) -> tuple[str, ...]:
    parts = zip(
        *((each.documents, each.notes, each.logs, each.belongings, each.others) for each in usages), strict=True
    )
    numbers = (sum(part.files for part in each) for each in parts)
    return (
        name,
        *(f"{number:,}" if number else "" for number in numbers),
        output.shown_size(sum(each.bytes for each in usages)),
    )


def bars(growth: Sequence[Growth], width: int, *, plain: bool = False) -> Iterator[str]:
    """A line for each day with a bar for its bytes, none wider than `width`; of `#` when `plain`."""
    most = max((day.bytes for day in growth), default=0) or 1
    told = [(f"{day.day:%Y-%m-%d}", output.shown_size(day.bytes) if day.bytes else "", _what(day)) for day in growth]
    sizes = max((len(each[1]) for each in told), default=0)
    room = max(width - 10 - sizes - max((len(each[2]) for each in told), default=0) - 6, 8)
    for day, (date, amount, what) in zip(growth, told, strict=True):
        bar = _bar(day.bytes / most * room, plain=plain)
        yield f"{date}  {bar:<{room}}  {amount:>{sizes}}  {what}".rstrip()


def _bar(cells: float, *, plain: bool) -> str:
    if plain:
        return "#" * max(round(cells), 1 if cells else 0)
    eighths = max(round(cells * 8), 1 if cells else 0)
    return _FULL * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _what(day: Growth) -> str:
    entries = f"{day.entries:,} {'entry' if day.entries == 1 else 'entries'}" if day.entries else ""
    return ", ".join(filter(None, (output.count(day.records, "record") if day.records else "", entries)))
