"""Judging where things stand: links, modes, names, and what is left over in fsstate's own folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Oddity, Suffix, Upkeep
from fsstate.doctor.findings import Case, Finding, case_of
from fsstate.doctor.quarantine import Quarantine
from fsstate.errors import CorruptRecordError, InvalidNameError, NewerFormatError
from fsstate.mounts import FileSystem

__all__ = ["SUFFIXES", "collisions", "file_system_cases", "left_over", "mark_case", "odd_cases", "refused_names"]

SUFFIXES: Final[tuple[Suffix, ...]] = (JSON, MARKDOWN, LOG)
_REMOVE: Final = "`--fix` removes it"
# Without these a store cannot keep its promise.
_NEEDED: Final = ("locks", "process_locks", "atomic_rename", "file_flush")

Mend = Callable[[], str | None]


def mark_case(upkeep: Upkeep, where: str) -> Case | None:
    """What is wrong with what says that this is a store, or that nothing does."""
    flaw = upkeep.mark_flaw()
    if isinstance(flaw, NewerFormatError):
        return case_of("newer-format", flaw.path, str(flaw), "upgrade fsstate; nothing was looked at, or touched")
    if isinstance(flaw, CorruptRecordError):
        advice = "restore it from git or a backup; until then `--fix` mends nothing"
        return case_of("malformed-mark", flaw.path, flaw.reason, advice, at=flaw)
    if flaw is not None:
        return case_of("unreadable", where, str(flaw), "let the owner of the directory look at it")
    if not upkeep.is_marked():
        advice = "where it is meant to be a store, `fsstate init` makes it one, and `--fix` mends it then"
        return case_of("no-store", where, "there is no .fsstate/store.json", advice)
    return None


def odd_cases(upkeep: Upkeep, quarantine: Quarantine | None, path_of: Callable[[str], str]) -> Iterator[Case]:
    """What is no plain file or folder, and what has a mode that it should not have: of those, one case for a folder."""
    loose: list[Oddity] = []
    for oddity in upkeep.oddities():
        if loose and (oddity.kind != "loose" or _folder(oddity) != _folder(loose[0])):
            yield _loose(upkeep, quarantine, loose, path_of)
            loose = []
        if oddity.kind == "loose":
            loose.append(oddity)
        else:
            yield _odd(upkeep, quarantine, oddity, path_of(oddity.path))
    if loose:
        yield _loose(upkeep, quarantine, loose, path_of)


def _folder(oddity: Oddity) -> str:
    return oddity.path.rpartition("/")[0]


def _loose(
    upkeep: Upkeep, quarantine: Quarantine | None, oddities: list[Oddity], path_of: Callable[[str], str]
) -> Case:
    first = oddities[0]
    many = len(oddities) > 1
    where = path_of(_folder(first) if many else first.path)
    reason = f"its mode is {first.told}"
    if many:
        reason = f"{len(oddities):,} things in it have modes such as {first.told} ({first.path.rpartition('/')[2]})"

    def mend() -> str | None:
        modes = [mode for oddity in oddities if (mode := upkeep.set_mode(oddity)) is not None]
        return f"set the mode of {len(modes):,} to what the store's own files have" if modes else None

    advice = "`--fix` takes those permissions away; or make the store with other modes (StoreOptions)"
    return case_of("loose-mode", where, reason, advice, mend=None if quarantine is None else mend)


def _odd(upkeep: Upkeep, quarantine: Quarantine | None, oddity: Oddity, where: str) -> Case:
    if oddity.kind in ("unreadable", "hidden"):
        return _unreadable(upkeep, quarantine, oddity, where)
    kind = "symlink" if oddity.kind == "symlink" else "special-file"
    reason = f"it is a symlink to {oddity.told!r}" if kind == "symlink" else f"it is {oddity.told}"
    advice = "put the file itself here, or open a store where it is; `--fix` moves it to the quarantine"
    case = case_of(kind, where, reason, advice)
    return case if quarantine is None else case.mended_by(lambda finding: quarantine.take_link(oddity, finding))


def _unreadable(upkeep: Upkeep, quarantine: Quarantine | None, oddity: Oddity, where: str) -> Case:
    def mend() -> str | None:
        mode = upkeep.set_mode(oddity)
        return None if mode is None else f"set its mode to {mode}"

    advice = "`--fix` lets its owner read and write it"
    may = None if quarantine is None else mend
    return case_of("unreadable-mode", where, f"its mode is {oddity.told}", advice, mend=may)


# -- names


def refused_names(backend: Backend, category: str, files: Iterable[str]) -> Iterator[Case]:
    """Files with the suffix of a record and a name that fsstate refuses."""
    for suffix in SUFFIXES:
        stems = (file.removesuffix(suffix) for file in files if file.endswith(suffix) and not file.startswith("."))
        if all(map(names.is_name, stems)):
            continue
        refused: list[CorruptRecordError] = []
        backend.names(category, suffix, refused)
        for flaw in refused:
            reason, _, advice = flaw.reason.partition("; ")
            yield case_of("refused-name", flaw.path, reason, advice)


def refused_folder(category: str, where: str) -> Case | None:
    """A folder that fsstate sees no category in."""
    try:
        names.check_segment(category.rpartition("/")[2])
    except InvalidNameError as error:
        return case_of("refused-name", where, f"nothing in it is seen: {error.reason}", "rename it")
    return None


def collisions(files: Iterable[str], path_of: Callable[[str], str], *, owners: bool) -> Iterator[Case]:
    """Names that some file systems take for one; among documents that own a folder, also those with one stem."""
    seen: dict[str, str] = {}
    stems: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(folded(file), file)
        if other != file:
            reason = f"its name differs from {other!r} only in case, or in how its characters are encoded"
            yield case_of("colliding-names", path_of(file), reason, "rename one of them")
        stem, _, suffix = file.rpartition(".")
        if owners and suffix in ("json", "md") and (twin := stems.setdefault(stem, file)) != file:
            advice = "rename the one that owns nothing"
            yield case_of("same-stem", path_of(file), f"{twin!r} stands beside it", advice)


def folded(name: str) -> str:
    """What two names have in common that some file system takes for one."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


# -- fsstate's own


def left_over(upkeep: Upkeep, quarantine: Quarantine | None, path_of: Callable[[str], str]) -> Iterator[Case]:
    """What died with its writers, and caches that nobody will use."""
    for path in upkeep.leftovers():
        mend = None if quarantine is None else _removal(upkeep, [path])
        reason = "a writer that died had begun to write it"
        yield case_of("leftover", path_of(path), reason, f"the next writer removes it; {_REMOVE}", mend=mend)
    locks, caches = upkeep.stale_locks(), upkeep.useless_caches()
    idle = f"nobody holds {len(locks):,} of the lock files in it; programs that run may keep some for the next time"
    for kind, paths, reason in (("stale-locks", locks, idle), ("useless-cache", caches, "no store left it as it is")):
        if paths:
            folder = path_of(paths[0].rpartition("/")[0])
            mend = None if quarantine is None else _removal(upkeep, paths)
            yield case_of(kind, folder, reason, f"nothing needs to be done; {_REMOVE}", mend=mend)


def _removal(upkeep: Upkeep, paths: list[str]) -> Mend:
    def mend() -> str | None:
        removed = sum(upkeep.remove(path) for path in paths)
        return f"removed {removed:,}" if removed else None

    return mend


# -- the disk


def file_system_cases(found: FileSystem, where: str) -> Iterator[Case]:
    """What is to be said of the file system that a store is on."""
    if found.network:
        reason = f"it is on a network file system ({found.kind})"
        yield case_of("network-file-system", where, reason, "move the store to a local disk")
    if found.in_memory:
        yield case_of("memory-file-system", where, f"{found.kind} keeps files in memory", "keep only scratch data here")
    for trait in found.traits:
        if trait.holds is False and trait.name in _NEEDED:
            yield case_of("weak-file-system", where, trait.told, "move the store to another file system")


def told_of(kind: str, where: str, number: int, size: int) -> Finding:
    """How much is in the trash, or in the quarantine."""
    advice = {
        "trash": "see `fsstate trash`",
        "quarantine": "look at the notes in it; what is not needed any more may be deleted",
    }[kind]
    return case_of(kind, where, f"{number:,} files, {size:,} bytes", advice).finding
