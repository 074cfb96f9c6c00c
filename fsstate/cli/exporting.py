"""`export`: sessions and records as pages or as one JSON document, and in the form that other programs read.

`export RECORD` is `export record RECORD`: what is no command of the group is a record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

import click
from click.shell_completion import CompletionItem

from fsstate.backends.base import LOG, MARKDOWN, Ref
from fsstate.cli import output
from fsstate.cli.addresses import KINDS, Record, Session, find, find_session, is_session
from fsstate.cli.base import Group, Settings, pass_settings
from fsstate.errors import AlreadyExistsError, NotFoundError, StorageError

__all__ = ["export_group"]

_DEFAULT: Final = "record"
Branches = Literal["all", "head"]


class _ExportGroup(Group):
    """A group whose command need not be named where a record is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in front of a record."""
        first = self._first_word(args)
        if first is not None and first not in self.commands:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, options, and records."""
        return [
            *super().shell_complete(ctx, incomplete),
            *Record().shell_complete(ctx, self.commands[_DEFAULT].params[0], incomplete),
        ]

    def _first_word(self, args: list[str]) -> str | None:
        """The first argument that is no option and no option's value."""
        options = [each for each in self.commands[_DEFAULT].params if isinstance(each, click.Option)]
        valued = {name for each in options if not each.is_flag for name in each.opts}
        words = iter(args)
        for word in words:
            if word == "--":
                return next(words, None)
            if word in valued:
                next(words, None)
            elif not word.startswith("-"):
                return word
        return None


@click.group("export", cls=_ExportGroup)
def export_group() -> None:
    """Export for people, or for other programs.

    `fsstate export RECORD` is `fsstate export record RECORD`: a session, or a record, as a page or as JSON.
    """


_target = click.option(
    "--output", "-o", "target", type=click.Path(dir_okay=False), help="Write to this file, whole or not at all."
)


@export_group.command(
    _DEFAULT,
    shape=(
        "the record as one JSON document; `help(fsstate.integrations.session_json)` tells that of a session",
        'with --output: {"record", "output", "format", "bytes"}',
    ),
)
@click.argument("record", type=Record())
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "json"]),
    help="A page to read, or all of it as JSON.  [default: markdown, and json with --json]",
)
@click.option(
    "--branch",
    "branches",
    type=click.Choice(["all", "head"]),
    default="all",
    show_default=True,
    help="Which branches of a conversation the page shows.",
)
@click.option("--full", is_flag=True, help="Show long outputs whole, which the page cuts to 200 lines otherwise.")
@click.option("--force", is_flag=True, help="Replace the file of --output if it exists.")
@_target
@pass_settings
def export_record(
    settings: Settings,
    record: str,
    *,
    form: str | None,
    branches: Branches,
    full: bool,
    force: bool,
    target: str | None,
) -> None:
    """Export a session or a record as a page.

    The page is Markdown as GitHub reads it: a session's conversation with its branches, tool calls folded, and
    everything else that belongs to it. With --format json it is one document with everything in it, from which
    `fsstate import json` makes the session again. Secrets in a session's config are left out of the page, and are in
    the document.
    """
    ref = find(settings, record)
    form = form or ("json" if settings.json and target is None else "markdown")
    pieces = _as_json(settings, ref) if form == "json" else _as_page(settings, ref, branches=branches, full=full)
    if target is None or target == "-":
        _print(pieces, is_json=form == "json")
        return
    with _replacing(target, force=force) as file:
        size = sum(map(file.write, pieces))
    if settings.json:
        output.json_document({"record": str(ref), "output": target, "format": form, "bytes": size})
    else:
        output.say(f"exported {output.one_line(str(ref))} to {output.one_line(target)}, {output.shown_size(size)}")


def _as_page(settings: Settings, ref: Ref, *, branches: Branches, full: bool) -> Iterator[bytes]:
    from fsstate.integrations import pages

    if is_session(ref):
        shown = pages.pieces_of(settings.opened.session(ref.name), branches=branches, full=full)
    else:
        shown = pages.page_of_record(settings.backend, ref, full=full)
    return (piece.encode() for piece in shown)


def _as_json(settings: Settings, ref: Ref) -> Iterator[bytes]:
    from fsstate import codec

    if is_session(ref):
        from fsstate.integrations.session_json import export_session

        return export_session(settings.opened.session(ref.name))
    return iter([codec.encode({"record": str(ref), "kind": KINDS[ref.suffix], **_held(settings, ref)})])


def _held(settings: Settings, ref: Ref) -> dict[str, Any]:
    from fsstate.cli.drafts import check
    from fsstate.journal import Log

    where = settings.backend.location(ref)
    if ref.suffix == LOG:
        log = Log(settings.backend, ref)
        return {"entries": list(log.rows()), "problems": [str(problem) for problem in log.problems()]}
    blob = settings.backend.read(ref)
    if blob is None:
        raise NotFoundError(where)
    value = check(ref, blob.data, where)
    return {"front_matter": value.front_matter, "text": value.text} if ref.suffix == MARKDOWN else {"value": value}


def _print(pieces: Iterable[bytes], *, is_json: bool) -> None:
    # A note is exported as it stands, and may hold what a terminal would obey.
    shown = not is_json and output.is_terminal(sys.stdout)
    for piece in pieces:
        if shown:
            click.echo(output.visible(piece.decode()), nl=False)
        else:
            sys.stdout.buffer.write(piece)


@export_group.command(
    "claude-code",
    shape=('the same, JSON lines; with --output: {"session", "output", "rows"}',),
)
@click.argument("session", type=Session())
@_target
@pass_settings
def export_claude_code(settings: Settings, session: str, target: str | None) -> None:
    """Export a session that was imported from Claude Code.

    Every row comes back, in order.
    """
    from fsstate.integrations.claude_code import export_transcript

    ref = find_session(settings, session)
    lines = export_transcript(settings.opened, ref.name)
    if target is None or target == "-":
        _write(lines, sys.stdout.buffer)
        return
    with _replacing(target, force=True) as file:
        rows = _write(lines, file)
    if settings.json:
        output.json_document({"session": ref.name, "output": target, "rows": rows})
    else:
        output.say(f"exported {output.count(rows, 'row')} to {output.one_line(target)}")


def _write(lines: Iterable[bytes], file: IO[bytes]) -> int:
    rows = 0
    for line in lines:
        file.write(line if line.endswith(b"\n") else line + b"\n")
        rows += 1
    return rows


@contextmanager
def _replacing(target: str, *, force: bool) -> Generator[IO[bytes]]:
    """A file that takes the target's place at the end of the block, or never. Only with `force` if something is there.

    Raises AlreadyExistsError, and StorageError when the system refuses.
    """
    import tempfile

    if not force:
        _check_free(target)
    try:
        fd, path = tempfile.mkstemp(prefix=".fsstate-", dir=Path(target).resolve().parent)
    except OSError as error:
        raise StorageError.of("write", target, error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        if not force:
            # Somebody may have made it meanwhile.
            _check_free(target)
        Path(path).replace(target)
    except BaseException:
        Path(path).unlink()
        raise


def _check_free(target: str) -> None:
    if os.path.lexists(target):
        raise AlreadyExistsError(target, f"{target} exists; --force replaces it")
