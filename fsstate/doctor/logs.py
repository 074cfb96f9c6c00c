"""Judging logs: their lines, the order of their seqs, and the tree that the messages in one make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from fsstate.backends.base import ENTRY_BEGINNING, LOG, TRIM_MARKER, Backend, BadLine, LogLine, Ref, Upkeep
from fsstate.conversation import Tree, message_of
from fsstate.doctor.findings import Case, case_of
from fsstate.doctor.quarantine import Quarantine
from fsstate.errors import CorruptRecordError, StorageError, ValidationError
from fsstate.journal import Log
from fsstate.session_documents import CATEGORY

__all__ = ["LogCheck"]

# So many bad lines of one log are told one by one.
_MOST: Final = 1000
# What is no JSON.
_TAKEABLE: Final = ("bad-line", "torn-tail")
_CONFLICT: Final = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")
_TAKE: Final = "`--fix` moves it to the quarantine"
_CORRECT: Final = "correct the line, or remove it"


class LogCheck:
    """Judges the logs of one store, one after the other. Of a session's messages it holds one session's at a time."""

    def __init__(self, backend: Backend, upkeep: Upkeep | None, quarantine: Quarantine | None) -> None:
        self._backend = backend
        self._upkeep = upkeep
        self._quarantine = quarantine

    def judge(self, ref: Ref) -> Iterator[Case]:
        """What is wrong with a log."""
        where = self._backend.location(ref)
        try:
            yield from self._judge(ref)
        except StorageError as error:
            yield case_of("unreadable", where, str(error), "let the owner of the store look at the file, or the disk")

    def _judge(self, ref: Ref) -> Iterator[Case]:
        tree = Tree() if _is_conversation(ref) else None
        # Before the log is read: what is finished in between is in the log then.
        under_way = set(self._backend.names(f"{ref.category}/streams", LOG)) if tree is not None else set[str]()
        look = _Look(Log(self._backend, ref), tree)
        cases = self._line_cases(ref, look)
        if cases and not look.entries and not look.looks_ours:
            # It may be another program's: what is wrong with each of its lines is nobody's business.
            cases = [_foreign(look.log.path)]
        # All before the first is mended, which mends them all.
        cases += self._tail(ref, look.log.path)
        yield from self._mendable(ref, cases)
        if tree is not None:
            yield from _tree_flaws(tree, look, under_way)
        if _is_stream(ref) and look.entries and self._is_abandoned(ref):
            advice = "the session's reader shows it as interrupted; go on from there, or leave it so"
            yield case_of("interrupted-message", look.log.path, f"the message {ref.name!r} was never finished", advice)

    def _is_abandoned(self, ref: Ref) -> bool:
        """Whether a message under way is nobody's. Its log goes before its writer lets go of it."""
        return not self._backend.is_claimed(ref) and self._backend.look(ref) is not None

    def _line_cases(self, ref: Ref, look: _Look) -> list[Case]:
        cases: list[Case] = []
        for line, flaw in look.flaws(self._lines(ref)):
            if len(cases) < _MOST:
                cases.append(self._told(line, flaw))
        if look.number > _MOST:
            reason = f"{look.number - _MOST:,} more of its lines are no entries"
            cases.append(case_of("more-in-log", look.log.path, reason, "mend those that are told first"))
        return cases

    def _mendable(self, ref: Ref, cases: list[Case]) -> Iterator[Case]:
        """The cases, those that taking lines out would mend with that: it is done once, and for all of them."""
        quarantine, findings = self._quarantine, [case.finding for case in cases if case.finding.kind in _TAKEABLE]
        if quarantine is None or not findings:
            yield from cases
            return
        mend = cache(lambda: quarantine.take_lines(ref, findings))
        for case in cases:
            finding = case.finding
            if finding.kind in _TAKEABLE:
                case = Case(finding._replace(advice=f"{finding.advice}; {_TAKE}", fixable=True), mend)  # noqa: PLW2901
            yield case

    def _lines(self, ref: Ref) -> Iterator[tuple[int | None, int | None, LogLine | BadLine]]:
        if self._upkeep is not None:
            return self._upkeep.lines(ref)
        return ((None, None, line) for line in Log(self._backend, ref).lines())

    def _told(self, line: LogLine | BadLine, flaw: CorruptRecordError) -> Case:
        if isinstance(line, LogLine):
            if "stands behind" in flaw.reason:
                advice = "number the lines anew by hand; seqs may be referred to, so `--fix` does not"
                return case_of("seq-order", flaw.path, flaw.reason, advice, at=flaw)
            return case_of("not-an-entry", flaw.path, flaw.reason, _CORRECT, at=flaw)
        if line.data.startswith(_CONFLICT):
            return case_of("conflict-markers", flaw.path, flaw.reason, "finish the merge, and remove the line", at=flaw)
        kind = "bad-line" if self._upkeep is None or self._upkeep.may_take(line) else "not-an-entry"
        return case_of(kind, flaw.path, flaw.reason, _CORRECT, at=flaw)

    def _tail(self, ref: Ref, path: str) -> list[Case]:
        tail = None if self._upkeep is None else self._upkeep.tail_flaw(ref)
        if tail is None:
            return []
        flaw = CorruptRecordError(path, tail.reason, line=tail.line, column=tail.column, offset=tail.offset)
        return [case_of("torn-tail", path, tail.reason, "the next append removes it", at=flaw)]


class _Look:
    """One pass over a log's lines."""

    def __init__(self, log: Log, tree: Tree | None) -> None:
        self.log = log
        self.entries = 0
        self.first_seq = 0
        # Whether a line begins as fsstate's do, though it is none.
        self.looks_ours = False
        # Of flaws.
        self.number = 0
        self._tree = tree

    def flaws(
        self, lines: Iterator[tuple[int | None, int | None, LogLine | BadLine]]
    ) -> Iterator[tuple[LogLine | BadLine, CorruptRecordError]]:
        previous = 0
        for number, offset, line in lines:
            flaw = self.log.flaw(line, previous)
            if isinstance(line, BadLine):
                self.looks_ours |= line.data.startswith(ENTRY_BEGINNING)
            else:
                self._take(line, is_sound=flaw is None or line.seq <= previous)
                previous = max(previous, line.seq)
            if flaw is not None:
                self.number += 1
                path, reason = flaw.path, flaw.reason
                yield line, CorruptRecordError(path, reason, line=number, column=flaw.column, offset=offset)

    def _take(self, line: LogLine, *, is_sound: bool) -> None:
        self.first_seq = self.first_seq or line.seq
        self.entries += 1
        if self._tree is not None and is_sound and TRIM_MARKER not in line.data:
            for row in self.log.readable(iter([line])):
                self._tree.fold(row)


def _tree_flaws(tree: Tree, look: _Look, under_way: set[str]) -> Iterator[Case]:
    path = look.log.path
    for row in tree.rows.values():
        try:
            message_of(row, path)
        except ValidationError as error:
            yield case_of("invalid-record", path, _in_row(row, error.reason), "correct the line")
    # Where the first entries were removed, so were parents.
    if look.first_seq == 1:
        yield from _parents(tree, path, under_way)
    if tree.end != tree.head and tree.head not in under_way:
        reason = f"$.head: {tree.head!r} is no message here"
        yield case_of("dangling-head", path, reason, "append a message, or move the head to one that is there")


def _parents(tree: Tree, path: str, under_way: set[str]) -> Iterator[Case]:
    known: set[str] = set()
    for name, row in tree.rows.items():
        parent: Any = row.get("parent")
        if parent is not None and parent not in tree.rows and parent not in under_way:
            reason = _in_row(row, f"$.parent: {parent!r} is no message here")
            yield case_of("dangling-parent", path, reason, "correct the line; until then it counts as a root")
        line: dict[str, None] = {}
        above: Any = name
        while above in tree.rows and above not in known and above not in line:
            line[above] = None
            above = tree.rows[above].get("parent")
        if above in line:
            reason = f"the parents of message {name!r} lead back to itself"
            yield case_of("circular-parents", path, reason, "correct the parent of one of them")
        known.update(line)


def _in_row(row: dict[str, Any], reason: str) -> str:
    return f"entry {row.get('seq', '?')}: {reason}"


def _is_conversation(ref: Ref) -> bool:
    return ref.name == "messages" and ref.category.rpartition("/")[0] == CATEGORY


def _is_stream(ref: Ref) -> bool:
    parts = ref.category.split("/")
    return len(parts) == 3 and parts[0] == CATEGORY and parts[2] == "streams"


def _foreign(path: str) -> Case:
    reason = 'no line of it is an entry: a JSON object with a whole number "seq"'
    return case_of("foreign-log", path, reason, "leave it, or import it (`fsstate import`)")
