"""`conflicts` and `resolve`: what could not be saved because somebody else had changed the record, and what to do.

Looking changes nothing. What was kept goes only once the record is as the person wants it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fsstate.backends.base import Backend, Blob, Ref
from fsstate.cli import output
from fsstate.cli.addresses import SESSIONS, Text, find_session
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.drafts import check, parts_of
from fsstate.cli.editing import drafted, save_draft
from fsstate.errors import CorruptRecordError, FsStateError, NotFoundError
from fsstate.trash import ref_of

if TYPE_CHECKING:
    from fsstate.conflicts import Conflict

__all__ = ["conflicts", "resolve"]

_THEIRS, _BETWEEN, _MINE = b"<<<<<<< theirs\n", b"=======\n", b">>>>>>> mine\n"
_MARKER: Final = re.compile(rb"^(?:<<<<<<< theirs|>>>>>>> mine)\r?$", re.MULTILINE)
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}
_CHOICES: Final = (
    "--mine     save the version that was kept, in the place of what the file holds now",
    "--theirs   keep the file as it is now, and remove the version that was kept",
    "--edit     make one of both in your editor",
)


class _Conflicted(Text):
    """A record that has a conflict."""

    name = "record"

    def candidates(self, backend: Backend, incomplete: str) -> Iterator[str]:
        """All records with a conflict below what is there already."""
        from fsstate.conflicts import conflicts_in

        found = conflicts_in(backend, incomplete.rpartition("/")[0])
        yield from sorted({conflict.record for conflict in found})


@click.command(
    cls=Command,
    shape=(
        '{"conflicts": [{"record", "id", "path", "at", "fields", "problem"}]}: fields are the places in which mine and',
        "the file differ; null where the file is gone or cannot be read, and problem says so",
    ),
)
@pass_settings
def conflicts(settings: Settings) -> None:
    """List the versions that could not be saved.

    Somebody else had changed the record meanwhile. Each version is kept in a file beside the record until you decide,
    with `fsstate resolve`. The oldest comes first.
    """
    settings.require_store()
    rows = [_row(settings.backend, conflict) for conflict in settings.opened.conflicts()]
    if settings.json:
        output.json_document({"conflicts": rows})
    elif rows:
        output.table(("RECORD", "KEPT", "ID", "DIFFERS IN"), _cells(rows))
    else:
        output.say("no conflicts")


@click.command(
    cls=Command,
    notes=("What the options do", *_CHOICES),
    shape=(
        '{"record", "id", "path", "at", "fields", "problem", "theirs", "mine"}: theirs is null for a file that is gone',
        'with --mine, --theirs or --edit: {"record", "path", "revision", "left"}: how many conflicts it still has',
    ),
)
@click.argument("record", type=_Conflicted())
@click.option("--mine", is_flag=True, help="Save the version that was kept.")
@click.option("--theirs", is_flag=True, help="Keep the file as it is now.")
@click.option("--edit", is_flag=True, help="Make one of both in your editor.")
@pass_settings
def resolve(settings: Settings, record: str, *, mine: bool, theirs: bool, edit: bool) -> None:
    """Show a conflict, or end it.

    Without an option both versions are shown, line by line. RECORD is one that has a conflict, or the file beside it
    that keeps the version. Of several conflicts of a record the oldest comes first.
    """
    if mine + theirs + edit > 1:
        raise click.UsageError("--mine, --theirs and --edit exclude each other")
    found = _find(settings, record)
    if edit:
        _edit(settings, found[0])
    elif mine or theirs:
        _end(settings, found[0], "mine" if mine else "theirs")
    else:
        _show(settings, found)


def _find(settings: Settings, text: str) -> list[Conflict]:
    """The conflicts of the record that a person means, the oldest first. Raises NotFoundError."""
    settings.require_store()
    for name in _names(settings, text):
        found = settings.opened.conflicts(name)
        if found:
            return found
    raise NotFoundError(text, f"there is no conflict of {text!r}; `fsstate conflicts` lists those there are")


def _names(settings: Settings, text: str) -> Iterator[str]:
    """What the text may mean: a record, the path of its file or of one beside it, a session."""
    yield text
    with suppress(ValueError, OSError):
        yield Path(text).resolve().relative_to(Path(settings.store).resolve()).as_posix()
    if "/" not in text:
        # Also of a session that was deleted.
        yield f"{SESSIONS}/{text}"
        with suppress(NotFoundError):
            yield str(find_session(settings, text))


def _kept(backend: Backend, conflict: Conflict) -> Blob:
    blob = backend.read(ref_of(conflict.id))
    if blob is None:
        raise NotFoundError(conflict.path)
    return blob


# -- looking


def _row(backend: Backend, conflict: Conflict) -> dict[str, Any]:
    row = {**conflict._asdict(), "fields": None, "problem": None}
    try:
        ref, mine = ref_of(conflict.record), _kept(backend, conflict)
        theirs = backend.read(ref)
        if theirs is None:
            return {**row, "problem": "the file was deleted"}
        return {**row, "fields": _fields(ref, mine, theirs, conflict.path, backend.location(ref))}
    except FsStateError as error:
        return {**row, "problem": str(error)}


def _fields(ref: Ref, mine: Blob, theirs: Blob, *places: str) -> list[str]:
    from fsstate.merge import differences

    parts = [parts_of(ref, blob.data, place) for blob, place in zip((mine, theirs), places, strict=True)]
    return list(differences(*parts))


def _cells(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    records = [row["record"] for row in rows]
    for row in rows:
        # Where the record alone tells which is meant, its name is no help.
        name = row["id"] if records.count(row["record"]) > 1 else ""
        told = row["problem"] or ", ".join(row["fields"]) or "nothing"
        yield row["record"], output.shown_time(row["at"]), name, told


def _show(settings: Settings, found: list[Conflict]) -> None:
    backend, conflict = settings.backend, found[0]
    theirs, mine = backend.read(ref_of(conflict.record)), _kept(backend, conflict)
    if settings.json:
        texts = {"theirs": None if theirs is None else _text(theirs.data), "mine": _text(mine.data)}
        output.json_document({**_row(backend, conflict), **texts})
        return
    output.say(click.style(output.one_line(conflict.record), bold=True))
    rank = f", the oldest of {len(found)} conflicts" if len(found) > 1 else ""
    output.say(click.style(output.one_line(f"kept {output.shown_time(conflict.at)}{rank}"), dim=True))
    output.say()
    for line in _difference(conflict, theirs, mine):
        output.say(click.style(output.visible(line), fg=_COLOURS.get(line[:1])))
    output.say()
    for choice in _CHOICES:
        output.say(choice)


def _difference(conflict: Conflict, theirs: Blob | None, mine: Blob) -> Iterable[str]:
    from difflib import unified_diff

    if theirs is not None and theirs.data == mine.data:
        return [f"both say the same: {conflict.path}"]
    before = [] if theirs is None else _text(theirs.data).splitlines()
    title = "theirs: deleted" if theirs is None else f"theirs: {conflict.record}"
    lines = unified_diff(before, _text(mine.data).splitlines(), title, f"mine: {conflict.path}", lineterm="")
    return list(lines) or ["they differ in the ends of lines alone"]


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


# -- ending


def _end(settings: Settings, conflict: Conflict, take: str) -> None:
    ref = ref_of(conflict.record)
    if take == "mine":
        check(ref, _kept(settings.backend, conflict).data, conflict.path)
    _tell(settings, conflict, settings.opened.resolve(conflict, take), "resolved")


def _edit(settings: Settings, conflict: Conflict) -> None:
    ref = ref_of(conflict.record)
    theirs, mine = settings.backend.read(ref), _kept(settings.backend, conflict).data
    revision = None if theirs is None else theirs.revision
    with drafted(ref, mine if theirs is None else _side_by_side(theirs.data, mine)) as draft:
        changed = draft.edit(_check_resolved)
        if changed:
            save_draft(settings, ref, theirs, draft)
    if changed:
        revision = settings.opened.resolve(conflict, "theirs")
    _tell(settings, conflict, revision, "resolved" if changed else "nothing was changed")


def _side_by_side(theirs: bytes, mine: bytes) -> bytes:
    """Both texts in one: where they differ, one behind the other between markers as git writes them."""
    from difflib import SequenceMatcher

    one, other = (data.splitlines(keepends=True) for data in (theirs, mine))
    parts: list[bytes] = []
    for tag, start, end, begin, stop in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        left, right = b"".join(one[start:end]), b"".join(other[begin:stop])
        parts += [left] if tag == "equal" else [_THEIRS, _whole(left), _BETWEEN, _whole(right), _MINE]
    return b"".join(parts)


def _whole(lines: bytes) -> bytes:
    """The lines, with an end to the last: a marker stands on a line of its own."""
    return lines if not lines or lines.endswith(b"\n") else lines + b"\n"


def _check_resolved(ref: Ref, data: bytes, where: str) -> None:
    """As `check`; and Markdown, too, may have no markers left."""
    if (match := _MARKER.search(data)) is not None:
        reason = "a conflict marker; keep what is right, remove the lines with <<<<<<<, ======= and >>>>>>>, and save"
        raise CorruptRecordError(where, reason, line=data.count(b"\n", 0, match.start()) + 1, column=1)
    check(ref, data, where)


def _tell(settings: Settings, conflict: Conflict, revision: str | None, outcome: str) -> None:
    left = len(settings.opened.conflicts(conflict.record))
    if settings.json:
        path = settings.backend.location(ref_of(conflict.record))
        output.json_document({"record": conflict.record, "path": path, "revision": revision, "left": left})
        return
    now = "there is no such record" if revision is None else f"revision {revision}"
    more = f", {output.count(left, 'conflict')} left" if left else ""
    output.say(f"{outcome}: {output.one_line(conflict.record)}, {now}{more}")
