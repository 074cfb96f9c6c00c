"""`log`: the end of a log, what comes after an entry, and what is being appended now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import click

from fsstate.backends.base import LOG, Backend, Ref
from fsstate.cli import output
from fsstate.cli.addresses import Record, find, is_session
from fsstate.cli.base import Command, Settings, pass_settings

__all__ = ["Follower", "entry_line", "log"]

_DEFAULT: Final = 10
# How long a new entry may go unseen. A look costs one stat.
_PAUSE: Final = 0.1


@click.command(
    cls=Command,
    shape=("the entries as they stand in the log, one a line",),
)
@click.argument("record", type=Record())
@click.option(
    "-n", "--tail", "number", type=click.IntRange(min=0), help="Show so many entries.  [default: the last 10]"
)
@click.option("--after", metavar="SEQ", type=click.IntRange(min=0), help="Show what comes after this entry; all of it.")
@click.option("--kind", "kinds", multiple=True, help="Show only entries of this kind; may be given several times.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing entries as they are appended, until interrupted.")
@pass_settings
def log(
    settings: Settings, record: str, *, number: int | None, after: int | None, kinds: tuple[str, ...], follow: bool
) -> None:
    """Show the end of a log or of a session's events.

    With --after it begins behind that entry instead, and -n cuts what follows. Lines that are no entries are reported
    and skipped. --follow goes on when the log is trimmed, and from its start when it is replaced by another.
    """
    ref = find(settings, record)
    if is_session(ref):
        ref = Ref(ref.belongings, "events", LOG)
    elif ref.suffix != LOG:
        raise click.UsageError(f"{ref} is no log; `fsstate show {ref}` shows it")
    follower = Follower(settings.backend, ref)
    shown = follower.tail(_DEFAULT if number is None else number, kinds) if after is None else follower.after(after)
    _print(settings, islice(_only(kinds, shown), None if after is None else number))
    while follow:
        output.flush()
        time.sleep(_PAUSE)
        _print(settings, _only(kinds, follower.news()))


def _only(kinds: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (row for row in rows if not kinds or row.get("kind") in kinds)


def _print(settings: Settings, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        if settings.json:
            output.json_line(row)
        else:
            output.say(entry_line(row))


def entry_line(row: dict[str, Any]) -> str:
    """An entry as people read it: seq, time, kind, and its fields."""
    rest = dict(row)
    seq = rest.pop("seq")
    at = output.shown_time(rest.get("at"))
    if at:
        del rest["at"]
    kind = rest.pop("kind") if isinstance(rest.get("kind"), str) else ""
    head = f"{click.style(f'{seq:>6}', dim=True)}  {click.style(at or ' ' * 20, dim=True)}"
    return f"{head}  {click.style(output.one_line(kind), bold=True)}  {output.fields(rest)}".rstrip()


class Follower:
    """Reads a log from where it stopped before, through trims, replacements and deletions."""

    def __init__(self, backend: Backend, ref: Ref) -> None:
        from fsstate.journal import Log

        self._backend = backend
        self._log = Log(backend, ref)
        # Before anything is read: what is appended meanwhile is news.
        self._stamp = backend.log_stamp(ref)
        self._last: dict[str, Any] | None = None

    def tail(self, number: int, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        """The last entries of these kinds, in the order of the file."""
        self._last = next(self._log.rows_backwards(), None)
        return list(islice(_only(kinds, self._log.rows_backwards()), number))[::-1]

    def after(self, seq: int) -> Iterator[dict[str, Any]]:
        """The entries with a greater seq."""
        self._last = next(self._log.rows_backwards(), None)
        return self._until_last(self._log.rows(seq))

    def news(self) -> Iterator[dict[str, Any]]:
        """The entries that came since the last call."""
        stamp = self._backend.log_stamp(self._log.ref)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        for row in self._log.rows(self._seen()):
            self._last = row
            yield row

    def _until_last(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        last = 0 if self._last is None else self._last["seq"]
        return (row for row in rows if row["seq"] <= last)

    def _seen(self) -> int:
        """Up to where this very log was shown: 0 when another one stands in its place."""
        if self._last is None:
            return 0
        seq: int = self._last["seq"]
        next_row = next(self._log.rows(seq - 1), None)
        if next_row is not None and next_row["seq"] == seq:
            return seq if next_row == self._last else 0
        # What was shown last is gone. A trim takes what stands before it, too; a new log has its own beginning.
        first = next(self._log.rows(), None)
        return 0 if first is not None and first["seq"] < seq else seq
