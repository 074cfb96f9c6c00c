"""Entries of logs, a line or a row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from fsstate import codec
from fsstate.integrations.pages.marks import Cut, code, count, fenced, plain, table
from fsstate.visible import one_line, shown_time

__all__ = ["lines", "rows"]

# So many entries make one block, lest all of a long log were in memory.
_BLOCK: Final = 500
_WIDTH: Final = 300


def lines(entries: Iterable[dict[str, Any]], cut: Cut | None) -> Iterator[str]:
    """Entries as lines of code: seq, time, kind, and what else they hold as JSON."""
    limit = None if cut is None else _WIDTH
    for block in _blocks(entries, cut):
        if isinstance(block, str):
            yield block
        else:
            yield from fenced("\n".join(_line(entry, limit) for entry in block))


def rows(entries: Iterable[dict[str, Any]], cut: Cut | None) -> Iterator[str]:
    """Entries as the rows of a table."""
    limit = None if cut is None else _WIDTH
    for block in _blocks(entries, cut):
        if isinstance(block, str):
            yield block
        else:
            cells = [_parts(entry, limit) for entry in block]
            shown = [(seq, at, plain(kind), code(rest)) for seq, at, kind, rest in cells]
            yield table(("seq", "time", "kind", "fields"), shown)


def _blocks(entries: Iterable[dict[str, Any]], cut: Cut | None) -> Iterator[str | list[dict[str, Any]]]:
    each = iter(entries)
    shown = islice(each, None if cut is None else cut.lines)
    while block := list(islice(shown, _BLOCK)):
        yield block
    left = sum(1 for _ in each)
    if left:
        yield f"*{count(left, 'entry').replace('entrys', 'entries')} left out here; `--full` shows all.*"


def _line(entry: dict[str, Any], limit: int | None) -> str:
    seq, at, kind, rest = _parts(entry, limit)
    return f"{seq:>6}  {at or ' ' * 20}  {one_line(kind)}  {one_line(rest)}".rstrip()


def _parts(entry: dict[str, Any], limit: int | None) -> tuple[str, str, str, str]:
    rest = dict(entry)
    seq, at = str(rest.pop("seq")), shown_time(rest.get("at"))
    if at:
        del rest["at"]
    kind = str(rest.pop("kind")) if isinstance(rest.get("kind"), str) else ""
    told = codec.encode_line(rest).decode() if rest else ""
    if limit is not None and len(told) > limit:
        told = f"{told[:limit]}… ({count(len(told) - limit, 'character')} more)"
    return seq, at, kind, told
