"""`recover` and `migrate`: what was in flight when its program died, and records of older versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from fsstate.cli import output
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.progress import ProgressBar

if TYPE_CHECKING:
    from fsstate import InFlight, MigrationReport, RecordType, RecoveryReport

__all__ = ["ABOUT_TYPES", "TYPES", "migrate", "prepare", "recover"]

TYPES = click.option(
    "--types",
    "places",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Also the record types of this module, or the one of that name; may be given several times.",
)
ABOUT_TYPES = (
    "Record types of your own",
    "--types myapp.state        all RecordTypes in that module, and in its tuples and lists",
    "--types myapp.state:PLANS  this one",
    "Modules are found from the current directory on, as `python -m` finds them.",
)


@click.command(
    cls=Command,
    notes=ABOUT_TYPES,
    shape=(
        '{"dry_run": false, "settled": [{"category", "id", "was", "status", "path"}],',
        ' "alive": [{"category", "id", "status", "held_by", "is_alive", "path"}], "problems": [text]}',
        'with --dry-run: {"dry_run": true, "in_flight": [as in "alive"]}',
    ),
)
@click.option("--dry-run", is_flag=True, help="Only show what is in flight, and whether its holder lives.")
@TYPES
@pass_settings
def recover(settings: Settings, dry_run: bool, places: tuple[str, ...]) -> None:
    """Settle records that were in flight when their program died.

    A record whose holder lives stays: that is a store which is open in some process at this moment. What cannot be
    read is reported; the exit code is 1 then.
    """
    prepare(settings, places)
    if dry_run:
        _show_flights(settings, settings.opened.in_flight())
        return
    report = settings.opened.recover()
    if settings.json:
        found = {"settled": _rows(report.settled), "alive": _rows(report.alive)}
        output.json_document({"dry_run": False, **found, "problems": _texts(report.problems)})
    else:
        _tell_recovered(report)
    _end(report.problems)


@click.command(
    cls=Command,
    notes=ABOUT_TYPES,
    shape=(
        '{"dry_run", "migrated": [{"category", "name", "found", "latest", "steps": [text], "path"}],',
        ' "unchanged": number, "problems": [text]}; found and latest are versions',
    ),
)
@click.option("--dry-run", is_flag=True, help="Only show what would be migrated.")
@TYPES
@pass_settings
def migrate(settings: Settings, dry_run: bool, places: tuple[str, ...]) -> None:
    """Write records of older versions in the present one.

    Each is replaced whole or not at all, and a run that was cut off is finished by the next. Nothing is written when a
    record is newer than its type. What cannot be migrated is reported and stays; the exit code is 1 then.
    """
    prepare(settings, places)
    try:
        with ProgressBar(settings, "migrating") as progress:
            report = settings.opened.migrate(dry_run=dry_run, progress=progress)
    except KeyboardInterrupt:
        output.complain("interrupted; what is migrated stays so, and the next run goes on from there")
        raise
    if settings.json:
        found = {"dry_run": dry_run, "migrated": _rows(report.migrated), "unchanged": report.unchanged}
        output.json_document({**found, "problems": _texts(report.problems)})
    else:
        _tell_migrated(report, settings.types)
    _end(report.problems)


def prepare(settings: Settings, places: tuple[str, ...]) -> None:
    """Make the application's types known, before the store is opened."""
    from fsstate.cli.declared import load

    settings.types = load(places)
    settings.require_store()


def _end(problems: Iterable[object]) -> None:
    if problems:
        click.get_current_context().exit(PROBLEM)


def _rows(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [each._asdict() for each in found]


def _texts(problems: Iterable[object]) -> list[str]:
    return [str(problem) for problem in problems]


# -- recover, for people


def _show_flights(settings: Settings, flights: list[InFlight]) -> None:
    if settings.json:
        output.json_document({"dry_run": True, "in_flight": _rows(flights)})
        return
    if flights:
        rows = [(each.category, each.id, each.status, "alive" if each.is_alive else "gone") for each in flights]
        output.table(("CATEGORY", "ID", "STATUS", "HOLDER"), rows)
    orphans = sum(not flight.is_alive for flight in flights)
    output.say(f"{output.count(len(flights), 'record')} in flight, {orphans:,} would be settled")


def _tell_recovered(report: RecoveryReport) -> None:
    if report.settled:
        rows = [(each.category, each.id, each.was, each.status) for each in report.settled]
        output.table(("CATEGORY", "ID", "WAS", "STATUS"), rows)
    _complain_of(report.problems)
    alive = f", {len(report.alive):,} in flight with a holder that lives" if report.alive else ""
    output.say(f"{output.count(len(report.settled), 'record')} settled{alive}")


def _complain_of(problems: Iterable[object]) -> None:
    for text in _texts(problems):
        output.complain(text)


# -- migrate, for people


def _tell_migrated(report: MigrationReport, types: Iterable[RecordType[Any]]) -> None:
    from fsstate.catalogue import BUILT_IN

    kinds = [*types, *BUILT_IN]
    found = Counter((_folders(each.category, kinds), each.found, each.latest, each.steps) for each in report.migrated)
    if found:
        rows = [
            (category, f"{number:,}", f"{old} → {new}", ", ".join(steps))
            for (category, old, new, steps), number in sorted(found.items())
        ]
        output.table(("CATEGORY", "RECORDS", "VERSION", "STEPS"), rows)
    _complain_of(report.problems)
    done = "would be migrated" if report.dry_run else "migrated"
    output.say(f"{output.count(len(report.migrated), 'record')} {done}, {report.unchanged:,} up to date")


def _folders(category: str, kinds: Iterable[RecordType[Any]]) -> str:
    """What a folder is called together with its like: the groups of a type, and what belongs to each session."""
    for kind in kinds:
        if kind.parent is not None and category.startswith(f"{kind.parent}/"):
            if category.split("/", 2)[2:] == [kind.category]:
                return f"{kind.parent}/*/{kind.category}"
        elif kind.group_by is not None and category.rpartition("/")[0] == kind.category:
            return kind.category
    return category
