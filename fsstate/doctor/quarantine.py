"""The quarantine: what was taken out of a store because it could not be read there, whole and with a note.

    .fsstate/quarantine/
    ├── 2026-11-28T154518Z-1f3a.jsonl      what this run was to take, a line for each: from where, why, and how back
    └── 2026-11-28T154518Z-1f3a/           what it took, laid out like the store
        ├── agents/planner.json
        └── audit/trail.jsonl              lines that were taken out of a log

The note is durable before anything moves. What a run did not get to take is simply not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fsstate import codec
from fsstate.backends.base import LOG, Backend, Move, Oddity, Ref, Upkeep
from fsstate.doctor.findings import Finding
from fsstate.errors import FsStateError, LockTimeoutError
from fsstate.times import Clock, format_time

__all__ = ["QUARANTINE", "Quarantine", "printable"]

# On disk: do not rename.
QUARANTINE: Final = ".fsstate/quarantine"
# Seconds between two looks at a file that is so young that a change of it might not show yet.
_UNTIL_SETTLED: Final = (0.03, 0.03, 0.1, 2.1)
# Where each of some lines stood.
Lines: TypeAlias = Sequence[Mapping[str, int | None]]


class Quarantine:
    """One run's place, made when it is first needed."""

    def __init__(self, backend: Backend, upkeep: Upkeep, clock: Clock) -> None:
        self._backend = backend
        self._upkeep = upkeep
        self._clock = clock
        self._run: str | None = None

    def take_document(self, ref: Ref, finding: Finding, is_bad: Callable[[], bool], *, owns: bool) -> str | None:
        """Move a document, with what belongs to it if it `owns` that, unless it is fine by now."""
        belongings = ref.belongings if owns else None
        for pause in (*_UNTIL_SETTLED, None):
            footprint = self._backend.footprint(ref, belongings)
            if footprint is None or not is_bad():
                return None
            if footprint.mark is not None:
                place = self._announced(str(ref), finding, owned=ref.belongings if footprint.has_belongings else None)
                to = Ref(f"{place}/{ref.category}", ref.name, ref.suffix)
                outcome = self._backend.move_many([Move(ref, belongings, to, footprint.mark)])[0]
                if isinstance(outcome, FsStateError):
                    raise outcome
                if outcome is not None:
                    return f"moved to {to}" if outcome else None
            if pause is not None:
                time.sleep(pause)
        raise LockTimeoutError(finding.path, sum(_UNTIL_SETTLED), "it changes all the while")

    def take_lines(self, ref: Ref, findings: Sequence[Finding]) -> str | None:
        """Take the lines out of a log that are no JSON."""
        lines = [{"line": each.line, "offset": each.offset} for each in findings]
        place = self._announced(str(ref), findings[0], lines=lines)
        taken = self._upkeep.take_lines(ref, f"{place}/{ref.category}")
        return None if taken is None else f"moved {taken.bytes} bytes to {place}/{ref}"

    def take_link(self, oddity: Oddity, finding: Finding) -> str | None:
        """Move a symlink or a special file."""
        place = self._announced(oddity.path, finding)
        folder = oddity.path.rpartition("/")[0]
        taken = self._upkeep.take_link(oddity, f"{place}/{folder}" if folder else place)
        return f"moved to {place}/{oddity.path}" if taken else None

    def take_folder(self, owner: Ref, finding: Finding) -> str | None:
        """Move what belongs to a document that is gone."""
        place = self._announced(owner.belongings, finding, is_folder=True)
        taken = self._upkeep.take_folder(owner, f"{place}/{owner.category}")
        return f"moved to {place}/{owner.belongings}" if taken else None

    def _announced(
        self, record: str, finding: Finding, *, owned: str | None = None, lines: Lines = (), is_folder: bool = False
    ) -> str:
        """Write down, durably, what is about to come; return the category of the run."""
        at = self._clock()
        if self._run is None:
            self._run = f"{at:%Y-%m-%dT%H%M%SZ}-{os.urandom(2).hex()}"
        place = f"{QUARANTINE}/{self._run}"
        record = printable(record)
        row: dict[str, Any] = {"record": record, "kept": f"{place}/{record}", "kind": finding.kind}
        row |= {"reason": printable(finding.reason), "at": format_time(at)}
        told: dict[str, Any] = {
            "line": finding.line,
            "column": finding.column,
            "offset": finding.offset,
            "belongings": owned,
        }
        told["lines"] = lines or None
        row |= {key: value for key, value in told.items() if value is not None}
        row["put_back"] = _way_back(record, f"{place}/{record}", owned=owned, lines=bool(lines), is_folder=is_folder)
        line = codec.encode_line(row)
        self._backend.append(Ref(QUARANTINE, self._run, LOG), lambda _: [line])
        return place


def printable(path: str) -> str:
    """A path as JSON can hold it: a file's name may be no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _way_back(record: str, kept: str, *, owned: str | None, lines: bool, is_folder: bool) -> str:
    """What a person is to do, in words."""
    if lines:
        return f"correct the lines in {kept}, and insert them into {record} by hand, in the order of their seqs"
    if is_folder:
        return f"restore {record}.json from git or a backup, and move {kept} to {record}"
    both = "" if owned is None else f", then the folder of the same name beside it to {owned}"
    return f"correct {kept}, and move it to {record}{both}; paths are below the store's directory"
