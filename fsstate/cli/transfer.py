"""`import`: what other programs keep, and what `export` wrote, into the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from fsstate.cli import output
from fsstate.cli.base import Group, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.progress import ProgressBar

if TYPE_CHECKING:
    from fsstate.integrations.landing import ImportReport

__all__ = ["import_group"]


@click.group("import", cls=Group)
def import_group() -> None:
    """Import what other programs keep, or a session that was exported."""


@import_group.command(
    "claude-code",
    shape=('{"sessions", "messages", "events", "tool_calls", "unchanged", "rows": numbers, "problems": [text]}',),
)
@click.argument("path", type=click.Path(exists=True))
@pass_settings
def import_claude_code(settings: Settings, path: str) -> None:
    """Import Claude Code transcripts.

    PATH is a .jsonl file, or a directory with all that are below it. Importing again changes nothing. A line that
    cannot be read is reported and left out; the exit code is 1 then.
    """
    from fsstate.integrations.claude_code import import_transcripts

    with ProgressBar(settings, "importing") as progress:
        report = import_transcripts(settings.opened, path, progress=progress)
    numbers = {
        name: getattr(report, name) for name in ("sessions", "messages", "events", "tool_calls", "unchanged", "rows")
    }
    if settings.json:
        output.json_document({**numbers, "problems": [str(problem) for problem in report.problems]})
    else:
        _tell(numbers, report.problems)
    if report.problems:
        click.get_current_context().exit(PROBLEM)


def _tell(numbers: dict[str, int], problems: Iterable[object]) -> None:
    for problem in problems:
        output.complain(str(problem))
    shown = ("message", "event", "tool_call")
    parts = ", ".join(output.count(numbers[f"{name}s"], name.replace("_", " ")) for name in shown)
    rows = output.count(numbers["rows"], "row")
    output.say(f"imported {output.count(numbers['sessions'], 'session')} from {rows}: {parts}")
    if numbers["unchanged"]:
        output.say(f"{output.count(numbers['unchanged'], 'session')} unchanged")


_REPORT: Final = (
    '{"kinds": {kind: {"found", "imported", "unchanged", "changed", "failed": numbers}},',
    ' "sessions": [id], "problems": [text], "changed": [text], "passed_over": [text]}',
)
# Those of `fsstate.integrations.sqlite.SYSTEMS`, which is not needed to tell of them.
_SYSTEMS: Final = ("steer", "codewhale", "zero", "soma")


@import_group.command("json", shape=_REPORT)
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@pass_settings
def import_json(settings: Settings, path: str) -> None:
    """Import a session that `export --format json` wrote.

    It has the same id, and everything that belonged to it. Importing again writes what is missing and changes nothing;
    what was changed here since is named. What cannot be imported is reported; the exit code is 1 then.
    """
    from fsstate.integrations.session_json import import_session

    _report(settings, import_session(settings.opened, path))


@import_group.command("oxios", shape=_REPORT)
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@pass_settings
def import_oxios_directory(settings: Settings, path: str) -> None:
    """Import a state directory of oxios.

    Sessions, with the messages and steps that they embed, and all JSON and Markdown documents. Importing again writes
    what is missing and changes nothing; what was changed here since is named. What cannot be imported is reported; the
    exit code is 1 then.
    """
    from fsstate.integrations.oxios import import_oxios

    with ProgressBar(settings, "importing") as progress:
        report = import_oxios(settings.opened, path, progress=progress)
    _report(settings, report)


@import_group.command("codewhale", shape=_REPORT)
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@pass_settings
def import_codewhale_directory(settings: Settings, path: str) -> None:
    """Import the files that codewhale keeps.

    Saved sessions, threads with their turns and events, and the index of names; its database is imported by
    `import sqlite`. Importing again writes what is missing and changes nothing; what was changed here since is named.
    Files of a newer version are refused before anything is written. What cannot be imported is reported; the exit
    code is 1 then.
    """
    from fsstate.integrations.codewhale import import_codewhale

    with ProgressBar(settings, "importing") as progress:
        report = import_codewhale(settings.opened, path, progress=progress)
    _report(settings, report)


@import_group.command("sqlite", shape=_REPORT)
@click.option("--from", "system", type=click.Choice(_SYSTEMS), required=True, help="Whose database it is.")
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@pass_settings
def import_sqlite_database(settings: Settings, system: str, path: str) -> None:
    """Import a SQLite database of another program.

    The database is only read, also while its program runs. Importing again writes what is missing and changes nothing;
    what was changed here since is named. Tables that are not there are named, too. A newer schema is refused before
    anything is written. What cannot be imported is reported; the exit code is 1 then.
    """
    from fsstate.integrations.sqlite import import_sqlite

    with ProgressBar(settings, "importing") as progress:
        report = import_sqlite(settings.opened, path, system, progress=progress)
    _report(settings, report)


def _report(settings: Settings, report: ImportReport) -> None:
    found = {kind: tally for kind, tally in report.tallies.items() if tally.found or tally.accounted}
    numbers = {kind: {name: getattr(tally, name) for name in _COLUMNS} for kind, tally in found.items()}
    if settings.json:
        told = {name: [str(each) for each in getattr(report, name)] for name in ("problems", "changed", "passed_over")}
        output.json_document({"kinds": numbers, "sessions": report.ids, **told})
    else:
        _show(numbers, report)
    if report.problems:
        click.get_current_context().exit(PROBLEM)


_COLUMNS: Final = ("found", "imported", "unchanged", "changed", "failed")


def _show(numbers: dict[str, dict[str, int]], report: ImportReport) -> None:
    for problem in report.problems:
        output.complain(str(problem))
    for each in report.changed:
        output.say(output.one_line(f"{each.place}: {each.reason}"))
    for each in report.passed_over:
        output.say(output.one_line(f"passed over {each.place}: {each.reason}"))
    rows = [(kind.replace("_", " "), *(f"{row[name]:,}" for name in _COLUMNS)) for kind, row in numbers.items()]
    if rows:
        output.table(("", *_COLUMNS), rows)
    total = report.total
    rest = f"{total.unchanged:,} unchanged, {total.changed:,} changed since, {total.failed:,} failed"
    output.say(f"imported {total.imported:,} of {total.found:,}; {rest}")
