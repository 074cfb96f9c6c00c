"""`git`: the repository that keeps a store's history, snapshots, and what became of one record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from fsstate.backends.base import JSON
from fsstate.cli import output
from fsstate.cli.addresses import SESSIONS, Record, find
from fsstate.cli.base import Group, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.merge_driver import merge_driver, textconv
from fsstate.errors import NotFoundError

if TYPE_CHECKING:
    from fsstate import FileChange, RecordCommit, RecordVersion, SetupReport

__all__ = ["git"]

_DEFAULT: Final = 20
_SHORT: Final = 10
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}
_REVISIONS: Final = (
    "Revisions",
    "are given as git takes them: a commit's id, or the first digits of it; HEAD~3; a tag or branch; main@{yesterday}",
)


@click.group("git", cls=Group)
def git() -> None:
    """Keep the store's history in git, and look into it."""


# -- the repository


@git.command(
    "init",
    shape=(
        '{"repository", "created", "dry_run": booleans but the first, "lines": {file: [line]},',
        ' "settings": {name: value}}; lines and settings are those that were missing',
    ),
)
@click.option("--dry-run", is_flag=True, help="Only show what is missing; the exit code is 1 if anything is.")
@pass_settings
def init(settings: Settings, dry_run: bool) -> None:
    """Make git treat the store well.

    In the store's directory, .gitattributes says that records are merged by their fields and entries and shown in a
    readable form, and .gitignore leaves out the copies of what could not be saved; commit both. The repository's
    configuration says which program does that: run this in each clone. Lines are added to what is there. If the store
    lies in no repository, it becomes one.
    """
    settings.require_store()
    report = settings.opened.history.init(dry_run=dry_run)
    is_missing = report.created or bool(report.lines) or bool(report.settings)
    if settings.json:
        output.json_document({**report._asdict(), "dry_run": dry_run})
    else:
        _tell_setup(report, dry_run=dry_run, is_missing=is_missing)
    if dry_run and is_missing:
        click.get_current_context().exit(PROBLEM)


def _tell_setup(report: SetupReport, *, dry_run: bool, is_missing: bool) -> None:
    would = "would be " if dry_run else ""
    where = output.one_line(report.repository)
    if report.created:
        output.say(f"a git repository {would}{'made' if dry_run else 'was made'} in {where}")
    for name, lines in report.lines.items():
        for line in lines:
            output.say(f"{name}: {would}added  {line}")
    for name, value in report.settings.items():
        output.say(f"{name}: {would}set to  {output.one_line(value)}")
    if not is_missing:
        output.say(f"{where} knows all about this store already")


@git.command("snapshot", shape=('{"commit": id or null}; null when nothing changed',))
@click.option("-m", "--message", required=True, help="What the snapshot is for.")
@pass_settings
def snapshot(settings: Settings, message: str) -> None:
    """Commit the store's directory as it is now.

    Nothing else is committed, and what you have staged elsewhere stays staged. Each record is in the commit whole, also
    if it is written meanwhile. The hooks of `git commit` do not run.
    """
    settings.require_store()
    commit = settings.opened.snapshot(message)
    if settings.json:
        output.json_document({"commit": commit})
    else:
        output.say("nothing has changed" if commit is None else f"commit {commit}")


# What git runs, as `init` tells it.
git.add_command(merge_driver)
git.add_command(textconv)


# -- one record


def _address(settings: Settings, text: str) -> str:
    """The record that a person means; as it stands when it is not there, since it may have been."""
    try:
        ref = find(settings, text)
    except NotFoundError:
        settings.require_store()
        return text
    return ref.name if ref.category == SESSIONS and ref.suffix == JSON else str(ref)


@git.command(
    "log",
    shape=(
        '{"record", "commits": [{"id", "at", "author", "subject", "record", "summary", "changes"}]}; changes:',
        '[{"path", "kind": "added", "changed" or "removed", "fields": [name], "added", "removed": lines}]',
    ),
)
@click.argument("record", type=Record())
@click.option(
    "-n",
    "--last",
    "number",
    type=click.IntRange(min=0),
    default=_DEFAULT,
    show_default=True,
    help="Show so many commits; 0 is all.",
)
@pass_settings
def log(settings: Settings, record: str, number: int) -> None:
    """Show which commits changed a record, and what of it.

    A session counts with all that belongs to it. Records that are deleted by now are found, too.
    """
    commits = settings.opened.history.log(_address(settings, record), limit=number or None)
    if settings.json:
        output.json_document({"record": record, "commits": [_row(commit) for commit in commits]})
        return
    rows = [
        (commit.id[:_SHORT], output.shown_time(commit.at), commit.author, commit.summary, commit.subject)
        for commit in commits
    ]
    if rows:
        output.table(("COMMIT", "DATE (UTC)", "AUTHOR", "WHAT CHANGED", "SUBJECT"), rows)
    else:
        output.say("no commit has it")


def _row(commit: RecordCommit) -> dict[str, Any]:
    told = {name: value for name, value in commit._asdict().items() if name != "changes"}
    return {**told, "summary": commit.summary, "changes": [_change(each) for each in commit.changes]}


def _change(change: FileChange) -> dict[str, Any]:
    return {**change._asdict(), "fields": list(change.fields)}


@git.command("diff", notes=_REVISIONS, shape=('{"record", "old", "new": revision or null, "diff": text}',))
@click.argument("record", type=Record())
@click.argument("old", metavar="[REV", required=False)
@click.argument("new", metavar="[REV]]", required=False)
@pass_settings
def diff(settings: Settings, record: str, old: str | None, new: str | None) -> None:
    """Show what is different between two revisions of a record.

    Without the second, or without both: to what the file holds now, from the one given or from the last commit.
    """
    found = settings.opened.history.diff(_address(settings, record), old or "HEAD", new)
    if settings.json:
        output.json_document({"record": record, "old": old or "HEAD", "new": new, "diff": found})
        return
    for line in found.splitlines():
        output.say(click.style(output.visible(line), fg=_COLOURS.get(line[:1])))


@git.command(
    "show",
    notes=_REVISIONS,
    shape=('{"record", "commit", "files": [{"path", "text"}]}',),
)
@click.argument("record", type=Record())
@click.argument("revision", metavar="REV")
@click.option("--file", "file", metavar="NAME", help="Of a session, only this file of it: messages.jsonl.")
@pass_settings
def show(settings: Settings, record: str, revision: str, file: str | None) -> None:
    """Print a record as it was.

    Of a session, its document comes first and then each file that belonged to it. A terminal gets control characters
    made visible.
    """
    version = settings.opened.history.show(_address(settings, record), revision)
    files = dict(_chosen(version, file))
    if settings.json:
        rows = [{"path": path, "text": data.decode(errors="replace")} for path, data in files.items()]
        output.json_document({"record": version.record, "commit": version.commit, "files": rows})
        return
    for number, (path, data) in enumerate(files.items()):
        if len(files) > 1:
            output.say(("\n" if number else "") + click.style(f"==> {output.one_line(path)} <==", bold=True))
        _print(data)


def _chosen(version: RecordVersion, name: str | None) -> Iterator[tuple[str, bytes]]:
    above = version.record.removesuffix(JSON)
    found = [each for each in version.files.items() if name in (None, each[0], each[0].removeprefix(f"{above}/"))]
    if not found:
        there = ", ".join(path.removeprefix(f"{above}/") for path in version.files)
        raise NotFoundError(version.record, f"{version.record} had no file {name} then; it had {there}")
    yield from found


def _print(data: bytes) -> None:
    if output.is_terminal(sys.stdout):
        click.echo(output.visible(data.decode(errors="backslashreplace")), nl=False)
    else:
        output.flush()
        sys.stdout.buffer.write(data)


@git.command(
    "restore",
    notes=_REVISIONS,
    shape=(
        '{"record", "commit", "files": [{"path", "change": "added", "replaced" or "removed"}], "dry_run",',
        ' "in_trash": whether what was replaced is in the trash}',
    ),
)
@click.argument("record", type=Record())
@click.argument("revision", metavar="REV")
@click.option("--dry-run", is_flag=True, help="Only show which files would change.")
@click.option("--force", is_flag=True, help="Also replace what is not committed; a session goes to the trash first.")
@pass_settings
def restore(settings: Settings, record: str, revision: str, dry_run: bool, force: bool) -> None:
    """Bring a record back as it was.

    A session comes back with all that belonged to it, also if it was deleted. Entries that are appended to a log later
    get numbers that were never given out before. Nothing is replaced that is not committed: `fsstate git snapshot`
    commits it.
    """
    address = _address(settings, record)
    report = settings.opened.history.restore(address, revision, force=force, dry_run=dry_run)
    if settings.json:
        output.json_document({**report._asdict(), "files": [each._asdict() for each in report.files]})
        return
    for each in report.files:
        output.say(f"{'would be ' if dry_run else ''}{each.change}  {output.one_line(each.path)}")
    if not report.files:
        output.say(f"{output.one_line(report.record)} is as it was then already")
    elif report.in_trash:
        output.say("what was replaced is in the trash; see `fsstate trash`")
