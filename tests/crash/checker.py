"""Opens what a power cut left with a fresh store, and judges what it finds against what was promised.

Looking (`look`) knows only which records there may be; judging (`judge`) knows which operations had started and which
had been acknowledged when the power went. So a state that several cuts may leave is looked at once and judged for each.

What must hold of a record:
  - A document is what the last acknowledged operation made it, or what a later one that had started would make it.
  - A log is a prefix of what was appended, with all that was acknowledged, behind what was trimmed. No seq that was
    acknowledged is given out again. Damage stands only at its end, and goes with the next append.
  - What belongs to a document is whole while the document is there, and gone when a deletion was acknowledged.
  - All of it can be written, listed, locked and deleted at once, and nothing is listed that nobody made.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from fsstate.backends.base import LOG, BadLine, LogLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.options import StoreOptions
from tests.crash.model import Tree, build
from tests.crash.recorder import Call
from tests.crash.workloads import Mark

__all__ = ["Findings", "History", "as_promised", "judge", "look"]

_AFTER: Final = b'{\n  "text": "after"\n}\n'
_AFTER_TAG: Final = 999_999
_ENDS: Final = ("delete_log", "delete_with")
_FRESH: Final = Ref("fresh/new", "f", ".json")


class Findings(NamedTuple):
    """What a fresh store shows of a state, and what goes wrong with it whatever was promised."""

    documents: dict[Ref, bytes | None]
    logs: dict[Ref, list[tuple[int, int]]]
    # The seq that each log gave to an entry that came afterwards.
    next_seqs: dict[Ref, int]
    names: set[Ref]
    problems: list[str]


def look(tree: Tree, refs: Sequence[Ref], place: Path) -> Findings:
    """Build the state below `place`, open it, read all, write all, read it again, and take it away."""
    found = Findings({}, {}, {}, set(), [])
    build(tree, place)
    try:
        with _noting(found, "open the store"):
            _look(FileBackend(place / "state", StoreOptions(durability="process", lock_timeout=1.0)), refs, found)
            left = os.listdir(place / "state/.fsstate/staging")
            _expect(found, not left, f"{left} stays in the staging folder")
    finally:
        shutil.rmtree(place)
    return found


def _look(backend: FileBackend, refs: Sequence[Ref], found: Findings) -> None:
    with contextlib.closing(backend):
        with _noting(found, "list"):
            found.names.update(_all_names(backend, ""))
        for ref in refs:
            with _noting(found, f"read {ref}"):
                _read(backend, ref, found)
        for ref in (*refs, _FRESH):
            with _noting(found, f"write {ref}"):
                _write(backend, ref, found)
        with _noting(found, "delete everything"):
            _delete(backend, refs, found)


def _all_names(backend: FileBackend, category: str) -> Iterator[Ref]:
    for suffix in (".json", ".md", ".jsonl"):
        if category:
            yield from (Ref(category, name, suffix) for name in backend.names(category, suffix))
    for below in backend.categories(category):
        yield from _all_names(backend, f"{category}/{below}".lstrip("/"))


@contextlib.contextmanager
def _noting(found: Findings, doing: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any is a finding
        found.problems.append(f"cannot {doing}: {error!r}")


def _expect(found: Findings, holds: bool, problem: str) -> None:
    if not holds:
        found.problems.append(problem)


def _read(backend: FileBackend, ref: Ref, found: Findings) -> None:
    _expect(found, not backend.is_locked(ref), f"{ref} is locked")
    if ref.suffix != LOG:
        blob = backend.read(ref)
        found.documents[ref] = None if blob is None else blob.data
        return
    _expect(found, not backend.is_claimed(ref), f"{ref} is claimed")
    lines = list(backend.entries(ref))
    entries = [line for line in lines if isinstance(line, LogLine)]
    found.logs[ref] = [(line.seq, _tag(line)) for line in entries]
    _expect(found, lines[: len(entries)] == entries, f"{ref}: a bad line before a good one: {lines}")
    backwards = [line for line in backend.entries_backwards(ref) if isinstance(line, LogLine)]
    _expect(found, backwards == entries[::-1], f"{ref}: read backwards it has other entries: {backwards}")
    for line in entries[:: max(1, len(entries) // 2)]:
        after = next((one for one in backend.entries(ref, after=line.seq - 1) if isinstance(one, LogLine)), None)
        _expect(found, after == line, f"{ref}: seq {line.seq} is not found by its number")


def _tag(line: LogLine) -> int:
    value = orjson.loads(line.data)
    whole = value["seq"] == line.seq and set(value["fill"].split(".")) <= {"", str(value["tag"])}
    return int(value["tag"]) if whole else -1


def _write(backend: FileBackend, ref: Ref, found: Findings) -> None:
    if ref.suffix != LOG:
        backend.change(ref, lambda _: _AFTER)
        blob = backend.read(ref)
        _expect(found, blob is not None and blob.data == _AFTER, f"{ref} is not what was written")
        return
    before = found.logs[ref]
    seqs = backend.append(ref, lambda _: [orjson.dumps({"tag": _AFTER_TAG, "fill": ""})])
    found.next_seqs[ref] = seqs[0]
    lines = list(backend.entries(ref))
    bad = [line for line in lines if isinstance(line, BadLine)]
    _expect(found, not bad, f"{ref}: bad lines stay after an append: {bad}")
    tags = [(line.seq, _tag(line)) for line in lines if isinstance(line, LogLine)]
    _expect(found, tags == [*before, (seqs[0], _AFTER_TAG)], f"{ref}: after an append {before} became {tags}")
    _expect(found, seqs[0] > max((seq for seq, _ in before), default=0), f"{ref}: seq {seqs[0]} is not new")


def _delete(backend: FileBackend, refs: Sequence[Ref], found: Findings) -> None:
    owners = [ref for ref in refs if any(other.category.startswith(f"{ref.category}/{ref.name}") for other in refs)]
    for ref in owners:
        folder = f"{ref.category}/{ref.name}"
        _expect(found, backend.delete_with(ref, folder, lambda: True, timeout=0), f"{ref} cannot be deleted")
    for ref in refs:
        if ref.suffix == LOG:
            backend.delete_log(ref)
        else:
            backend.change(ref, lambda _: None)
    left = set(_all_names(backend, "")) - {_FRESH}
    _expect(found, not left, f"these stay after they were deleted: {left}")


class History:
    """What had been promised when the power went: operations in order, and which of them were acknowledged."""

    def __init__(self, calls: Sequence[Call], point: int, before: Sequence[Mark] = ()) -> None:
        self.started: list[Mark] = [*before]
        self.acked: dict[int, Mark] = {mark.number: mark for mark in before}
        for call in calls[: point + 1]:
            if call.kind == "start":
                self.started.append(call.mark)
            elif call.kind == "ack":
                self.acked[call.mark.number] = call.mark

    def of(self, ref: Ref) -> list[Mark]:
        """The operations that are about a record, with those on the document that it belongs to."""
        return [mark for mark in self.started if mark.ref == ref or _owns(mark, ref)]

    def is_acked(self, mark: Mark) -> bool:
        """Whether the caller was told."""
        return mark.number in self.acked

    def has_cleared(self, mark: Mark) -> bool:
        """Whether the caller was told that a deletion found the document and took with it what belonged to it."""
        return self.is_acked(mark) and self.acked[mark.number].verb in _ENDS

    def seqs(self, mark: Mark) -> tuple[int, ...]:
        """What the caller was told that its entries are numbered; nothing before that."""
        return self.acked[mark.number].seqs if mark.number in self.acked else ()


def _owns(mark: Mark, ref: Ref) -> bool:
    folder = f"{mark.ref[0]}/{mark.ref[1]}"
    return mark.verb == "delete_with" and (ref.category == folder or ref.category.startswith(f"{folder}/"))


def as_promised(found: Findings) -> list[Mark]:
    """What was found, as operations that were acknowledged: another power cut must not take any of it."""
    numbers = itertools.count(-1, -1)
    marks = [Mark(next(numbers), "put", ref, data) for ref, data in found.documents.items() if data is not None]
    for ref, entries in found.logs.items():
        seqs, tags = tuple(seq for seq, _ in entries), tuple(tag for _, tag in entries)
        marks.append(Mark(next(numbers), "append", ref, tags=tags, seqs=seqs))
    return marks


def judge(found: Findings, history: History) -> list[str]:
    """What is wrong with what was found; nothing, if all promises hold."""
    problems = list(found.problems)
    # Whoever opens a log to write makes it, before it has an entry.
    made = [ref for ref in found.names if found.logs.get(ref) != []]
    problems += [f"{ref} is listed, and nobody made it" for ref in made if not history.of(ref)]
    for ref, data in found.documents.items():
        problems += _judge_document(ref, data, found, history)
        if data is not None and ref not in found.names:
            problems.append(f"{ref} is there and not listed")
    for ref, entries in found.logs.items():
        problems += _judge_log(ref, entries, found, history)
    return problems


def _gone_with_owner(marks: Sequence[Mark], found: Findings, history: History) -> bool:
    """Whether a deletion of the owner is under way and past its commit point: then what is left is not shown."""
    last = marks[-1] if marks else None
    if last is None or last.verb != "delete_with" or history.has_cleared(last):
        return False
    return found.documents.get(Ref(*last.ref)) is None


def _judge_document(ref: Ref, data: bytes | None, found: Findings, history: History) -> list[str]:
    marks = history.of(ref)
    if any(_owns(mark, ref) for mark in marks[-1:]) and _gone_with_owner(marks, found, history):
        return []
    acked = [n for n, mark in enumerate(marks) if history.is_acked(mark)]
    last = acked[-1] if acked else -1
    if any(mark.verb == "edit" for mark in marks[last + 1 :]):
        # Whoever does not flush what he writes was promised nothing, until somebody saves the same through the store.
        return []
    allowed: list[bytes | None] = [marks[last].value if acked else None]
    # One that had not committed leaves what belongs to it alone.
    allowed += [mark.value for mark in marks[last + 1 :] if not _owns(mark, ref)]
    if data in allowed:
        return []
    return [f"{ref} holds {_short(data)}; allowed: {', '.join(_short(one) for one in allowed)}"]


def _short(data: bytes | None) -> str:
    return "nothing" if data is None else repr(data if len(data) < 50 else data[:30] + b"..." + data[-20:])


def _judge_log(ref: Ref, entries: list[tuple[int, int]], found: Findings, history: History) -> list[str]:
    marks = history.of(ref)
    if _gone_with_owner(marks, found, history):
        return []
    ended = [n for n, mark in enumerate(marks) if mark.verb in _ENDS and history.has_cleared(mark)]
    marks = marks[ended[-1] + 1 :] if ended else marks
    if not entries and any(mark.verb == "delete_log" for mark in marks):
        return []
    problems = _judge_shape(entries, marks)
    for n, mark in enumerate(marks):
        trims = [later for later in marks[n + 1 :] if later.verb == "trim"]
        if mark.verb == "append":
            problems += _judge_append(entries, mark, trims, history)
        elif mark.verb == "trim" and not history.is_acked(mark):
            problems += _judge_trim(entries, mark, marks[:n], history)
    given = max((seq for mark in marks for seq in history.seqs(mark)), default=0)
    if found.next_seqs.get(ref, given + 1) <= given:
        problems.append(f"seq {found.next_seqs[ref]} was given out again, {given} was acknowledged")
    return [f"{ref}: {problem}; found {entries}" for problem in problems]


def _judge_shape(entries: list[tuple[int, int]], marks: Sequence[Mark]) -> list[str]:
    problems = []
    if any(one[0] >= two[0] for one, two in itertools.pairwise(entries)):
        problems.append("seqs do not grow")
    tags = [tag for _, tag in entries]
    if len(set(tags)) != len(tags) or not {tag for mark in marks for tag in mark.tags}.issuperset(tags):
        problems.append("entries that nobody appended, or twice")
    return problems


def _judge_append(entries: list[tuple[int, int]], mark: Mark, trims: Sequence[Mark], history: History) -> list[str]:
    sure = max((trim.before for trim in trims if history.is_acked(trim)), default=0)
    maybe = max((trim.before for trim in trims), default=0)
    here = [(seq, tag) for seq, tag in entries if tag in mark.tags]
    problems = [f"{here} came back after a trim before {sure}"] if any(seq < sure for seq, _ in here) else []
    if history.is_acked(mark):
        due = [(seq, tag) for seq, tag in zip(history.seqs(mark), mark.tags, strict=True) if seq >= maybe]
        if not set(due).issubset(entries):
            problems.append(f"{due} were acknowledged")
    elif not maybe and [tag for _, tag in here] != list(mark.tags[: len(here)]):
        problems.append(f"{here} is no prefix of {mark.tags}")
    return problems


def _judge_trim(entries: list[tuple[int, int]], trim: Mark, earlier: Sequence[Mark], history: History) -> list[str]:
    gone = max((mark.before for mark in earlier if mark.verb == "trim"), default=0)
    meant = {seq for mark in earlier for seq in history.seqs(mark) if gone <= seq < trim.before}
    here = meant.intersection(seq for seq, _ in entries)
    return [f"of {sorted(meant)} a trim took only some"] if here and here != meant else []
