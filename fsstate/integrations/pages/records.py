"""The pages of documents and logs: a document is shown as JSON, a log as a table."""

from __future__ import annotations

from collections.abc import Iterator

from fsstate import NotFoundError
from fsstate.backends.base import LOG, Backend, Ref
from fsstate.integrations.pages.logs import rows
from fsstate.integrations.pages.marks import Cut, count, fenced, plain
from fsstate.journal import Log

__all__ = ["record_blocks"]


def record_blocks(backend: Backend, ref: Ref, cut: Cut | None) -> Iterator[str]:
    """The page of a document or a log, as blocks. Raises NotFoundError when there is no such document."""
    if ref.suffix == LOG:
        yield from _log(Log(backend, ref), cut)
        return
    blob = backend.read(ref)
    if blob is None:
        raise NotFoundError(backend.location(ref))
    yield f"# {plain(f'{ref.category}/{ref.name}')}"
    yield from fenced(blob.data.decode(errors="backslashreplace").removeprefix("\ufeff"), "json")


def _log(log: Log, cut: Cut | None) -> Iterator[str]:
    number = log.count()
    yield f"# {plain(f'{log.ref.category}/{log.ref.name}')}"
    yield count(number, "entry").replace("entrys", "entries")
    yield from rows(log.rows(), cut)
    problems = log.problems()
    if problems:
        yield f"## Problems ({len(problems):,})"
        yield "\n".join(f"- {plain(str(each).replace(log.path, str(log.ref)))}" for each in problems)
