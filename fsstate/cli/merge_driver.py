"""`git merge-driver` and `git textconv`: what git calls to merge the files of a store, and to show their changes.

    git config merge.fsstate.driver "fsstate git merge-driver %O %A %B %L %P"
    git config diff.fsstate.textconv "fsstate git textconv"

Both write nothing but what git asks for, and open no store.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from fsstate.backends.base import JSON, LOG
from fsstate.cli import output
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.errors import StorageError

__all__ = ["merge_driver", "textconv"]

# A file's name may begin with "-".
_ANY_NAME = {"ignore_unknown_options": True}


@click.command(
    "merge-driver",
    cls=Command,
    context_settings=_ANY_NAME,
    shape=('{"path", "merged": whether nothing is left to decide, "conflicts": [place], "note"}',),
)
@click.argument("base", type=click.Path())
@click.argument("ours", type=click.Path())
@click.argument("theirs", type=click.Path())
@click.argument("size", type=click.IntRange(min=1), required=False, default=7)
@click.argument("path", required=False)
@pass_settings
def merge_driver(settings: Settings, *, base: str, ours: str, theirs: str, size: int, path: str | None) -> None:
    """Merge two versions of a file for git.

    Documents are merged by field, logs by entry, Markdown by line with its front matter by field. What is merged takes
    the place of OURS. Where the changes meet, both stand between markers of SIZE characters, and the exit code is 1.
    PATH tells what the file is. A file that holds zero bytes stays as it is in OURS, and is a conflict.
    """
    from fsstate.merging.files import merge_file
    from fsstate.merging.versions import Markers, Versions

    where = path or ours
    merged = merge_file(where, Versions(base, ours, theirs).map(_read), Markers(size))
    if merged.data is not None:
        _replace(ours, merged.data)
    if settings.json:
        told = {"path": where, "merged": not merged.conflicts, "conflicts": merged.conflicts, "note": merged.note}
        output.json_document(told)
    else:
        _tell(where, merged.conflicts, merged.note)
    if merged.conflicts:
        click.get_current_context().exit(PROBLEM)


# So many places of conflicts are told of; all of them are marked in the file.
_MOST_TOLD = 5


def _tell(where: str, conflicts: tuple[str, ...], note: str) -> None:
    if note:
        output.complain(f"{where}: {note}")
    if conflicts:
        more = f" and {len(conflicts) - _MOST_TOLD} more" if len(conflicts) > _MOST_TOLD else ""
        output.complain(f"{where}: both sides changed {', '.join(conflicts[:_MOST_TOLD])}{more}")


@click.command(cls=Command, context_settings=_ANY_NAME, shape=('{"file", "text"}',))
@click.argument("file", type=click.Path())
@pass_settings
def textconv(settings: Settings, file: str) -> None:
    """Print a file as `git diff` shows it best.

    A document in fsstate's layout, a log's entries in a few lines each; what cannot be read as it is, with a note.
    """
    from fsstate.diff_text import diff_text

    data = diff_text(file, _read(file))
    text = data.decode("utf-8", "backslashreplace")
    if settings.json:
        output.json_document({"file": file, "text": text})
    else:
        # git's pipe takes UTF-8, whatever the terminal does. Markdown goes through as it is, line ends and all.
        click.echo(output.visible(text).encode() if file.endswith((JSON, LOG)) else data, nl=False)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError.of("read", path, error) from error


def _replace(path: str, data: bytes) -> None:
    """Put a whole file in the place of another: one that is half written never has the name."""
    aside = Path(f"{path}.{os.urandom(4).hex()}")
    try:
        try:
            aside.write_bytes(data)
            aside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
    except OSError as error:
        raise StorageError.of("write", path, error) from error
