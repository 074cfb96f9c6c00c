"""The examination of one store: every file is looked at once, and what is found is told as it is found.

- Nothing is kept of single files but the names in the folder at hand: a store may be of any size.
- Looking takes no lock that makes anybody wait. What a program is just doing is no finding: what looks like it is
  looked at again, under the lock.
- Mending comes right behind finding, one thing at a time; see `Upkeep` and `Quarantine` for how.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

from fsstate import trash
from fsstate.backends.base import JSON, LOG, MARKDOWN, Ref, Stored, Suffix
from fsstate.doctor import places
from fsstate.doctor.documents import DocumentCheck
from fsstate.doctor.findings import Case, DoctorReport, Finding, case_of
from fsstate.doctor.logs import LogCheck
from fsstate.doctor.parts import PartCheck
from fsstate.doctor.quarantine import QUARANTINE, Quarantine, printable
from fsstate.errors import FsStateError, StorageError
from fsstate.mounts import FileSystem
from fsstate.names import is_name
from fsstate.record_types import RecordType
from fsstate.shared import Shared
from fsstate.sweeper import Progress
from fsstate.trash import TRASH

__all__ = ["Examination", "examine"]

_OWN: Final = ".fsstate"
# Documents that own the folder of their name, besides those that a record type tells of.
_OWNERS: Final = ("sessions", "sources/roots")
# A version of a record that waits beside it for a person: `planner.conflict-2026-11-28T154518Z-1f3a.json`.
_CONFLICT_COPY: Final = re.compile(r"(.+)\.conflict-\d{4}-\d\d-\d\dT\d{6}Z-[0-9a-f]+(\.json|\.md)")
_STEP: Final = 200


def examine(
    shared: Shared, kinds: Iterable[RecordType[Any]], *, fix: bool = False, progress: Progress | None = None
) -> DoctorReport:
    """Look at all files of a store and, with `fix`, mend what can be mended without loss."""
    examination = Examination(shared, kinds, fix=fix, progress=progress)
    findings = list(examination.findings())
    return DoctorReport(findings, examination.files, examination.is_store, examination.file_system)


class Examination:
    """One pass over a store."""

    def __init__(
        self, shared: Shared, kinds: Iterable[RecordType[Any]], *, fix: bool, progress: Progress | None = None
    ) -> None:
        self.files = 0
        self.is_store = True
        self.file_system: FileSystem | None = None
        self._shared = shared
        self._backend = shared.backend
        self._kinds = [*kinds]
        self._fix = fix
        self._progress = progress
        self._upkeep = shared.backend.upkeep()
        self._owners = frozenset({*_OWNERS, *(kind.parent for kind in self._kinds if kind.parent is not None)})
        self._quarantine: Quarantine | None = None
        # By category: the names of the documents that own folders, and what looks like the folders in one.
        self._owned: dict[str, set[str]] = {}
        self._siblings: dict[str, dict[str, str]] = {}
        self._passed_over: str | None = None
        self._top: set[str] = set()
        # What was told of already, of what several look at.
        self._misfits: set[str] = set()
        self._sums: dict[str, tuple[int, int]] = {}

    def findings(self) -> Iterator[Finding]:
        """All that is found, each told once it was mended, or not."""
        forbidden: set[str] = set()
        for case in self._cases():
            finding = self._settled(case)
            if finding is None or (finding.kind == "unreadable" and finding.path in forbidden):
                # Why it cannot be read was told with its mode.
                continue
            if finding.kind == "unreadable-mode":
                forbidden.add(finding.path)
            yield finding

    def _settled(self, case: Case) -> Finding | None:
        if not self._fix or case.mend is None:
            return case.finding
        try:
            done = case.mend()
        except (FsStateError, OSError) as error:
            return case.finding._replace(failure=str(error))
        return None if done is None else case.finding._replace(fixed=done)

    def _cases(self) -> Iterator[Case]:
        if self._upkeep is not None:
            mark = places.mark_case(self._upkeep, self._path(""))
            if mark is not None:
                yield mark
                self.is_store = mark.finding.kind != "no-store"
                if mark.finding.kind in ("newer-format", "unreadable"):
                    return
            else:
                self._quarantine = Quarantine(self._backend, self._upkeep, self._shared.clock)
            yield from places.odd_cases(self._upkeep, self._quarantine, self._path)
        yield from self._records()
        if self._upkeep is not None:
            yield from places.left_over(self._upkeep, self._quarantine, self._path)
            self.file_system = self._upkeep.file_system()
            yield from places.file_system_cases(self.file_system, self._path(""))
        for kind, (number, size) in sorted(self._sums.items()):
            yield Case(places.told_of(kind, self._path(f"{_OWN}/{kind}"), number, size))

    # -- folder by folder

    def _records(self) -> Iterator[Case]:
        parts = PartCheck(self._shared)
        documents = DocumentCheck(self._shared, self._kinds, self._owners, self._quarantine, parts)
        logs = LogCheck(self._backend, self._upkeep, self._quarantine)
        refused: list[StorageError] = []
        total = self._total()
        for folder in self._backend.inventory(refused):
            if folder.category.partition("/")[0] == _OWN:
                self._add_own(folder)
                continue
            if self._is_passed_over(folder.category):
                continue
            yield from self._folder_cases(folder)
            if self._is_passed_over(folder.category) or not folder.category:
                continue
            self._top.add(folder.category.partition("/")[0])
            yield from self._file_cases(folder, documents, logs, total)
            yield from parts.judge_session(folder.category, [file for file, _ in folder.files])
        yield from (case for case in parts.judge_rest(self._top) if case.finding.path not in self._misfits)
        for error in refused:
            advice = "let the owner of the store look at the folder, or the disk"
            yield case_of("unreadable", error.filename, str(error), advice)
        self._tell(total, total)

    def _total(self) -> int:
        if self._progress is None:
            return 0
        folders = self._backend.inventory([])
        return sum(len(each.files) for each in folders if each.category.partition("/")[0] != _OWN)

    def _tell(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _folder_cases(self, folder: Stored) -> Iterator[Case]:
        category = folder.category
        files = sorted(file for file, _ in folder.files if file.endswith(places.SUFFIXES) and file[0] != ".")
        if category:
            yield from self._folder_name(category)
            if self._is_passed_over(category):
                return
            yield from places.refused_names(self._backend, category, files)
            path_of = partial(self._path_in, category)
            yield from places.collisions(files, path_of, owners=category in self._owners)
        if category in self._owners:
            self._owned[category] = {file.removesuffix(JSON) for file in files if file.endswith(JSON)}

    def _folder_name(self, category: str) -> Iterator[Case]:
        above, _, name = category.rpartition("/")
        refused = places.refused_folder(category, self._path(category))
        if refused is not None:
            self._passed_over = category
            yield refused
            return
        # Of folders that are done no more is needed: they come one before those in it.
        self._siblings = {key: each for key, each in self._siblings.items() if key in ("", above) or _is_in(above, key)}
        other = self._siblings.setdefault(above, {}).setdefault(places.folded(name), name)
        if other != name:
            reason = f"its name differs from {other!r} only in case, or in how its characters are encoded"
            yield case_of("colliding-names", self._path(category), reason, "rename one of them")
        if above in self._owners and name not in self._owned.get(above, ()):
            yield from self._orphan(Ref(above, name, JSON))

    def _orphan(self, owner: Ref) -> Iterator[Case]:
        # Whoever deletes a document holds its lock until all that belonged to it is gone.
        if self._backend.look(owner) is not None or self._backend.is_locked(owner):
            return
        if self._backend.look(owner) is not None or not self._backend.has_any(owner.belongings):
            return
        self._passed_over = owner.belongings
        where, reason = self._path(owner.belongings), f"there is no {owner.name}{JSON} beside it"
        advice = f"restore {owner.name}{JSON} from git or a backup; `--fix` moves the folder to the quarantine"
        case, quarantine = case_of("orphan", where, reason, advice), self._quarantine
        if quarantine is None:
            yield case
        else:
            yield case.mended_by(partial(self._take_orphan, quarantine, owner))

    def _take_orphan(self, quarantine: Quarantine, owner: Ref, finding: Finding) -> str | None:
        # What is left of one that is in the trash follows it there.
        trash.rescue(self._backend, owner)
        if not self._backend.has_any(owner.belongings):
            return "moved to the trash, where its document is"
        return quarantine.take_folder(owner, finding)

    def _is_passed_over(self, category: str) -> bool:
        return self._passed_over is not None and _is_in(category, self._passed_over)

    # -- file by file

    def _file_cases(self, folder: Stored, documents: DocumentCheck, logs: LogCheck, total: int) -> Iterator[Case]:
        for file, _ in sorted(folder.files):
            self.files += 1
            if self.files % _STEP == 0:
                self._tell(self.files, total)
            suffix: Suffix | None = next((suffix for suffix in places.SUFFIXES if file.endswith(suffix)), None)
            if suffix is None or not is_name(file.removesuffix(suffix)):
                continue
            ref = Ref(folder.category, file.removesuffix(suffix), suffix)
            copied = _CONFLICT_COPY.fullmatch(file)
            if copied is not None:
                reason = f"it is a version of {copied[1]}{copied[2]} that was in conflict with what is there"
                yield case_of("unresolved-conflict", self._path(str(ref)), reason, "choose one with `fsstate resolve`")
            elif suffix in (JSON, MARKDOWN):
                for case in documents.judge(ref):
                    if case.finding.kind in ("invalid-record", "newer-version"):
                        self._misfits.add(case.finding.path)
                    yield case
            elif suffix == LOG:
                yield from logs.judge(ref)

    def _add_own(self, folder: Stored) -> None:
        for kind, place in (("trash", TRASH), ("quarantine", QUARANTINE)):
            if _is_in(folder.category, place) and folder.files:
                number, size = self._sums.get(kind, (0, 0))
                added = sum(each for _, each in folder.files)
                self._sums[kind] = number + len(folder.files), size + added

    def _path(self, below: str) -> str:
        return printable(self._backend.location(Ref(below, "", JSON)).removesuffix(f"/{JSON}").rstrip("/"))

    def _path_in(self, category: str, file: str) -> str:
        return self._path(f"{category}/{file}")


def _is_in(category: str, folder: str) -> bool:
    return category == folder or category.startswith(f"{folder}/")
