"""`cat`, `put` and `rm`: records as files.

`cat` gives a file's very bytes to a program, whatever they are; to a terminal, with control characters made visible.
`put` checks what it is given before it writes; key order and the fields' lines stay as they are in the file.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sys
from pathlib import Path
from typing import IO, Any

import click

from fsstate.backends.base import LOG, MARKDOWN, Backend, Ref
from fsstate.cli import output
from fsstate.cli.addresses import KINDS, Record, find, find_or_new, is_session, owner_of
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.drafts import check
from fsstate.documents import Documents
from fsstate.errors import FsStateError, NotFoundError, StorageError, UnsafePathError

__all__ = ["cat", "documents_of", "open_file", "put", "rm"]

_CHUNK = 1 << 20


def documents_of(backend: Backend, ref: Ref) -> Documents[Any, Any]:
    """The collection that a document stands in."""
    if ref.suffix == MARKDOWN:
        from fsstate.markdown import Markdown

        return Markdown(backend, ref.category, owner=owner_of(ref))
    from fsstate.collection import Collection

    return Collection(backend, ref.category, owner=owner_of(ref))


def open_file(settings: Settings, ref: Ref) -> IO[bytes]:
    """The record's file. Raises UnsafePathError when it is no file, or a symlink leads to it: it may lie elsewhere."""
    path = settings.backend.location(ref)
    try:
        if Path(path).resolve() != Path(settings.store).resolve() / str(ref):
            raise UnsafePathError("read as a record", path, errno.ELOOP)
        return Path(path).open("rb")
    except FileNotFoundError:
        raise NotFoundError(path) from None
    except StorageError:
        raise
    except OSError as error:
        raise StorageError.of("read", path, error) from error


@click.command(
    cls=Command,
    shape=('{"records": [{"record", "kind", "path", "text"}]}',),
)
@click.argument("record", type=Record(), nargs=-1, required=True)
@pass_settings
def cat(settings: Settings, record: tuple[str, ...]) -> None:
    """Print records as they are.

    The files of records or sessions come one after the other. A terminal gets control characters made visible.
    """
    refs = [find(settings, text) for text in record]
    if settings.json:
        output.json_document({"records": [_as_json(settings, ref) for ref in refs]})
        return
    for ref in refs:
        with open_file(settings, ref) as file:
            _copy(file)


def _as_json(settings: Settings, ref: Ref) -> dict[str, str]:
    with open_file(settings, ref) as file:
        text = file.read().decode(errors="replace")
    return {"record": str(ref), "kind": KINDS[ref.suffix], "path": settings.backend.location(ref), "text": text}


def _copy(file: IO[bytes]) -> None:
    if output.is_terminal(sys.stdout):
        for line in file:
            click.echo(output.visible(line.decode(errors="backslashreplace")), nl=False)
    else:
        while chunk := file.read(_CHUNK):
            sys.stdout.buffer.write(chunk)


@click.command(
    cls=Command,
    shape=('{"record", "path", "revision"}',),
)
@click.argument("record", type=Record())
@click.argument("value", required=False)
@click.option("--file", "file", type=click.File("rb"), help="Take the value from a file; - is standard input.")
@click.option("--expect", metavar="REVISION", help="Save only if the file still has this revision; see `show`.")
@click.option("--new", is_flag=True, help="Save only if there is no such record yet.")
@pass_settings
def put(
    settings: Settings, record: str, *, value: str | None, file: IO[bytes] | None, expect: str | None, new: bool
) -> None:
    """Save a record.

    It is saved with VALUE, or with what comes from --file or standard input: Markdown for a name that ends in .md, JSON
    for every other. What is not valid is not saved. The revision that is printed is the one that `git hash-object`
    prints for the file.
    """
    if new and expect is not None:
        raise click.UsageError("--new and --expect exclude each other")
    if expect is not None and not re.fullmatch("[0-9a-f]{40}", expect):
        raise click.UsageError(f"--expect takes a revision, which has 40 hex digits, and got {expect!r}")
    ref = find_or_new(settings, record)
    if ref.suffix == LOG:
        raise click.UsageError(f"{ref} is a log, which programs append to; `fsstate log {ref}` shows it")
    parsed = check(ref, _given(value, file), "VALUE" if file is None and value is not None else "the input")
    documents = documents_of(settings.backend, ref)
    revision = documents.create(ref.name, parsed) if new else documents.put(ref.name, parsed, expect=expect)
    saved(settings, ref, revision)


def _given(value: str | None, file: IO[bytes] | None) -> bytes:
    if value is not None and file is not None:
        raise click.UsageError("VALUE and --file exclude each other")
    if value is not None:
        return value.encode(errors="surrogateescape")
    if file is None and output.is_terminal(sys.stdin):
        raise click.UsageError("nothing to save: give VALUE or --file FILE, or pipe it in")
    return (file or sys.stdin.buffer).read()


def saved(settings: Settings, ref: Ref, revision: str) -> None:
    """Say that a record was saved."""
    if settings.json:
        output.json_document({"record": str(ref), "path": settings.backend.location(ref), "revision": revision})
    else:
        output.say(f"saved {output.one_line(str(ref))}, revision {revision}")


@click.command(
    cls=Command,
    shape=('{"deleted": [record], "kept": [record]}; those that you said no to are kept',),
)
@click.argument("record", type=Record(), nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_settings
def rm(settings: Settings, record: tuple[str, ...], yes: bool) -> None:
    """Delete records and sessions.

    A session goes with everything that belongs to it. Asks first if standard input is a terminal. Nothing is deleted if
    one of them does not exist.
    """
    refs = [find(settings, text) for text in record]
    deleted: list[str] = []
    kept: list[str] = []
    for ref in dict.fromkeys(refs):
        if yes or not output.is_terminal(sys.stdin) or click.confirm(_question(settings, ref), err=True):
            _delete(settings, ref)
            deleted.append(str(ref))
            if not settings.json:
                output.say(f"deleted {output.one_line(str(ref))}")
        else:
            kept.append(str(ref))
    if settings.json:
        output.json_document({"deleted": deleted, "kept": kept})


def _question(settings: Settings, ref: Ref) -> str:
    if not is_session(ref):
        return f"Delete {output.one_line(str(ref))}?"
    shown = f"session {output.one_line(ref.name)}"
    # Whatever is wrong with it, it can be deleted.
    with contextlib.suppress(FsStateError):
        summary = settings.opened.sessions.summary(ref.name)
        if summary is not None:
            title = f' "{output.brief(summary.title, 60)}"' if summary.title else ""
            shown += f"{title} with its {output.count(summary.message_count, 'message')}"
    return f"Delete {shown}?"


def _delete(settings: Settings, ref: Ref) -> None:
    if is_session(ref):
        gone = settings.opened.sessions.delete(ref.name)
    elif ref.suffix == LOG:
        gone = settings.backend.delete_log(ref)
    else:
        gone = documents_of(settings.backend, ref).delete(ref.name)
    if not gone:
        raise NotFoundError(settings.backend.location(ref))
