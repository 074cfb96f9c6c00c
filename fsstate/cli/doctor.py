"""`doctor`: what is wrong with a store, why it matters, and what can be done; and what its file system is good for."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from fsstate.cli import output
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.progress import ProgressBar
from fsstate.cli.recovery import ABOUT_TYPES, TYPES, prepare

if TYPE_CHECKING:
    from fsstate.doctor import DoctorReport, Finding
    from fsstate.mounts import FileSystem

__all__ = ["doctor"]

_COLOURS: Final = {"error": "red", "warning": "yellow", "notice": "blue"}
_INDENT: Final = "    "


@click.command(
    cls=Command,
    notes=ABOUT_TYPES,
    shape=(
        '{"store", "is_store", "fix", "files", "findings": [{"kind", "severity", "path", "line", "column", "offset",',
        ' "reason", "why", "advice", "fixable", "fixed", "failure"}], "file_system": {"kind", "point", "source",',
        ' "network", "in_memory", "read_only", "journaled", "traits": [{"name", "holds", "told"}]}}; line and column',
        " count from 1, offset in bytes; fixed tells what was done, failure why it could not be; each may be null",
    ),
)
@click.option("--fix", is_flag=True, help="Mend what can be mended without loss of a byte.")
@TYPES
@pass_settings
def doctor(settings: Settings, fix: bool, places: tuple[str, ...]) -> None:
    """Look at every file of a store, and say what is wrong.

    Without --fix nothing is changed. With it, no byte is lost: what cannot be read moves to .fsstate/quarantine, with a
    note beside it. Safe while programs write. The exit code is 1 while errors or warnings are left.

    Stores are not written to on network file systems, unless FSSTATE_ANY_FILE_SYSTEM=1 is set.
    """
    prepare(settings, places)
    with _silence(), ProgressBar(settings, "looking") as progress:
        report = settings.open_unchecked().doctor(fix=fix, progress=progress)
    if settings.json:
        output.json_document(_as_json(settings, report, fix=fix))
    else:
        _show(settings, report, fix=fix)
    if report.problems:
        click.get_current_context().exit(PROBLEM)


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Keep what the library warns of to itself: all of that is among the findings."""
    log = logging.getLogger("fsstate")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _as_json(settings: Settings, report: DoctorReport, *, fix: bool) -> dict[str, Any]:
    found = report.file_system
    disk = None if found is None else {**found._asdict(), "traits": [trait._asdict() for trait in found.traits]}
    return {
        "store": os.path.abspath(settings.store),  # noqa: PTH100 - a str, links kept
        "is_store": report.is_store,
        "fix": fix,
        "files": report.files,
        "findings": [_printable(finding) for finding in report.findings],
        "file_system": disk,
    }


def _printable(finding: Finding) -> dict[str, Any]:
    # A file's name may be no UTF-8, which JSON is.
    return {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for key, value in finding._asdict().items()
    }


# -- for people


def _show(settings: Settings, report: DoctorReport, *, fix: bool) -> None:
    root = os.path.abspath(settings.store)  # noqa: PTH100 - a str, links kept
    for finding in report.findings:
        _show_finding(finding, root)
    if report.findings:
        output.say()
    if report.file_system is not None:
        _show_file_system(report.file_system)
    output.say(_summary(report, fix=fix))


def _show_finding(finding: Finding, root: str) -> None:
    path = finding.path.removeprefix(root).lstrip("/") or root
    place = "".join(f":{number}" for number in (finding.line, finding.column) if number is not None)
    byte = f" (byte {finding.offset:,})" if finding.offset is not None else ""
    head = click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)
    output.say(f"{head} {output.one_line(path)}{place}{byte}: {output.one_line(finding.reason)} [{finding.kind}]")
    output.say(f"{_INDENT}{output.one_line(finding.why)}")
    if finding.fixed is not None:
        output.say(f"{_INDENT}mended: {output.one_line(finding.fixed)}")
    elif finding.failure is not None:
        output.say(f"{_INDENT}not mended: {output.one_line(finding.failure)}")
    else:
        output.say(f"{_INDENT}→ {output.one_line(finding.advice)}")


def _summary(report: DoctorReport, *, fix: bool) -> str:
    left = Counter[str](each.severity for each in report.findings if each.fixed is None)
    told = [output.count(left[severity], severity) for severity in _COLOURS if left[severity]]
    mended = sum(each.fixed is not None for each in report.findings)
    done = f", {mended:,} mended" if mended else ""
    may = sum(each.fixable for each in report.findings if each.fixed is None)
    hint = f"; --fix mends {may:,} of them" if may and not fix and report.is_store else ""
    return f"{output.count(report.files, 'file')} looked at: {', '.join(told) or 'nothing is wrong'}{done}{hint}"


def _show_file_system(found: FileSystem) -> None:
    about = [found.kind, *_about(found)]
    at = f" at {output.one_line(found.point)}" if found.point else ""
    output.say(f"file system: {', '.join(about)}{at}")
    _show_traits("holds", (trait.told for trait in found.traits if trait.holds))
    _show_traits("does not hold", (trait.told for trait in found.traits if trait.holds is False))
    _show_traits("not known", (trait.told for trait in found.traits if trait.holds is None))
    output.say()


def _about(found: FileSystem) -> Iterable[str]:
    if found.network:
        yield "on the network"
    if found.in_memory:
        yield "in memory"
    if found.read_only:
        yield "read-only"
    if found.journaled is not None and not found.in_memory:
        yield "journaled" if found.journaled else "without a journal"


def _show_traits(head: str, told: Iterable[str]) -> None:
    for number, text in enumerate(told):
        output.say(f"{_INDENT}{'' if number else f'{head}:':<14} {output.one_line(text)}")
