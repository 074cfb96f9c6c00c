"""Judging what keeps several things in one file: a session's goal, tools and calls, settings, and sources' files.

What reads them says what is wrong: nothing is judged here that a read would not report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, cast

from fsstate import names
from fsstate.doctor.findings import Case, case_of
from fsstate.embedded import may_embed
from fsstate.errors import CorruptRecordError, FsStateError, MigrationError, NewerVersionError, ValidationError
from fsstate.session import SessionHandle
from fsstate.session_documents import CATEGORY
from fsstate.sessions import Sessions
from fsstate.settings import Settings
from fsstate.shared import Shared
from fsstate.sources import Sources

__all__ = ["PartCheck"]

# Files in a session's folder that its part of this name reads, and what reads all of it.
_PARTS: Final = {
    "goal.json": "get",
    "tools.json": "list",
    "config.json": "get",
    "tool_calls.jsonl": "problems",
    "steps.jsonl": "problems",
}
_ADVICE: Final = "correct the field; where the file is another program's, nothing needs to be done"


class PartCheck:
    """Judges the files of one store whose parts have types of their own. What is no JSON was told by then."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sessions = Sessions(shared)

    def judge_session(self, category: str, files: Iterable[str]) -> Iterator[Case]:
        """What is wrong in the files right below a session's folder."""
        above, _, name = category.rpartition("/")
        if above != CATEGORY or not names.is_segment(name):
            return
        one = SessionHandle(self._sessions, self._shared, name)
        for file in sorted(_PARTS.keys() & set(files)):
            part = getattr(one, file.partition(".")[0])
            yield from _misfits(part.path, getattr(part, _PARTS[file]))

    def judge_embedded(self, name: str, data: bytes) -> Iterator[Case]:
        """What is wrong with messages and steps that stand in a session's document."""
        if may_embed(data) and names.is_segment(name):
            one = SessionHandle(self._sessions, self._shared, name)
            found = [*one.messages.problems(), *one.steps.problems()]
            # What is wrong in the logs is told with them.
            inside = [_as_misfit(problem) for problem in found if one.path in str(problem)]
            yield from _misfits(one.path, lambda: inside)

    def judge_rest(self, categories: Collection[str]) -> Iterator[Case]:
        """What is wrong with settings and sources, as far as the store has these categories."""
        if "settings" in categories:
            yield from _misfits("", Settings(self._shared).problems)
        if "sources" in categories:
            yield from _misfits("", Sources(self._shared).problems)


def _as_misfit(problem: CorruptRecordError | ValidationError) -> ValidationError:
    """What the document holds that is no entry was not told of with the document, which is sound JSON."""
    return ValidationError(problem.path, problem.reason) if isinstance(problem, CorruptRecordError) else problem


def _misfits(path: str, read: Callable[[], object]) -> Iterator[Case]:
    """What a read raises, or returns, that is no damage of the file itself. Without a path, the problem tells it."""
    try:
        found = read()
    except FsStateError as error:
        found = [error]
    for problem in cast("list[object]", found) if isinstance(found, list) else ():
        if isinstance(problem, NewerVersionError):
            yield case_of("newer-version", problem.path, str(problem), "upgrade the program that reads it")
        elif isinstance(problem, ValidationError | MigrationError):
            where = path or problem.where
            yield case_of("invalid-record", where, str(problem).removeprefix(f"{where}: "), _ADVICE)
