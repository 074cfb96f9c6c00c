"""What the doctor finds: one thing that is wrong or worth knowing, why it matters, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from fsstate.errors import CorruptRecordError
from fsstate.mounts import FileSystem

__all__ = ["KINDS", "Case", "DoctorReport", "Finding", "Severity", "case_of"]

# "error": something cannot be read or written; "warning": all can, but it is not as it should be; "notice": no fault.
Severity: TypeAlias = Literal["error", "warning", "notice"]

_UNREADABLE: Final = "no program can read the record, and none can change it until that is settled"
_LINE: Final = "readers pass over it, so what it says is missing"
_ORDER: Final = "seqs must grow: who reads on from one does not see what stands behind it with a lower one"
_TREE: Final = "a branch of the conversation begins or ends where it should not"
_SPACE: Final = "it takes space, and nobody uses it"

# Each kind of finding, how bad it is, and why it matters. Programs rely on these names: do not rename.
KINDS: Final[dict[str, tuple[Severity, str]]] = {
    # The store
    "no-store": ("notice", "nothing says that fsstate keeps this directory, so nothing in it is mended"),
    "newer-format": ("error", "what a newer fsstate wrote may mean something else than this one knows"),
    "malformed-mark": ("error", "while it cannot be read, nobody knows which format the files have"),
    "unreadable": ("error", "what is in it can neither be read nor checked"),
    "network-file-system": ("warning", "what another machine writes at the same time may be lost, or what you write"),
    "weak-file-system": ("warning", "what is promised of writes does not hold on such a file system"),
    "memory-file-system": ("notice", "a power cut, and a restart, takes all that is in it"),
    # Documents
    "malformed-json": ("error", _UNREADABLE),
    "empty-file": ("error", _UNREADABLE),
    "zero-bytes": ("error", _UNREADABLE),
    "invalid-utf8": ("error", _UNREADABLE),
    "duplicate-key": ("error", "which of the two counts depends on who reads it; so fsstate reads neither"),
    "conflict-markers": ("error", "a merge was not finished: what stands here is two versions at once"),
    "malformed-front-matter": ("error", "the text can be read, but no field of it, and no query finds it"),
    "newer-version": ("warning", "a newer program wrote it, and this one leaves it alone"),
    "invalid-record": ("warning", "the record's type cannot read it; who reads plain documents can"),
    "mismatched-id": ("warning", "the file's name counts, so who looks for what is written in it finds nothing"),
    "duplicate-label": ("warning", "a label is to name one session, and finds none while it names several"),
    "missing-parent-session": ("notice", "where it was forked from can no longer be looked up"),
    "dead-holder": ("warning", "it looks as if somebody worked on it, and nobody does"),
    "unresolved-conflict": ("notice", "somebody's version of the record waits to be looked at"),
    "byte-order-mark": ("notice", "it is read all the same; some programs stumble over it"),
    "crlf": ("notice", "it is read all the same; a save changes every line"),
    # Logs
    "bad-line": ("error", _LINE),
    "not-an-entry": ("error", _LINE),
    "seq-order": ("warning", _ORDER),
    "torn-tail": ("warning", "a crash left it: it was acknowledged to nobody, and readers pass over it"),
    "foreign-log": ("notice", "no line of it is an entry, so nothing of it is read; it may be another program's"),
    "more-in-log": ("error", "there is more of the same"),
    "dangling-parent": ("warning", _TREE),
    "circular-parents": ("warning", _TREE),
    "dangling-head": ("warning", "the conversation goes on at its last message instead"),
    "interrupted-message": ("notice", "its writer died; what it had written can be read"),
    # Names and places
    "refused-name": ("warning", "no program that uses fsstate sees it"),
    "colliding-names": ("warning", "on a disk that takes these names for one (macOS, Windows) one of them is lost"),
    "same-stem": ("notice", "the name alone does not tell which of the two is meant"),
    "symlink": ("error", "fsstate follows no links, so it reads and writes nothing here"),
    "special-file": ("error", "it is no file, and reading it might wait for ever"),
    "orphan": ("warning", "the document that it belonged to is gone; one of the same name would remove it"),
    "loose-mode": ("warning", "others on this machine can do with it what they cannot with the rest of the store"),
    "unreadable-mode": ("error", "its owner may not read it, so no program can"),
    # fsstate's own
    "leftover": ("notice", _SPACE),
    "stale-locks": ("notice", "they keep nobody out, and the next to need one takes it"),
    "useless-cache": ("notice", "the next to need it makes it again"),
    "trash": ("notice", "it stays there until it is restored, or emptied"),
    "quarantine": ("notice", "it was taken out of the store, and waits for a person to look at it"),
}


class Finding(NamedTuple):
    """One thing that the doctor found.

    - `kind`: what it is, in a word that stays: see `fsstate.doctor.KINDS`. `severity` says how bad it is.
    - `path`: which file or folder; `line` and `column` count from 1, `offset` in bytes from 0: None where unknown.
    - `reason`: what is wrong. `why`: why it matters. `advice`: what `fix` does, or what a person should do.
    - `fixable`: whether `fix` would mend it. `fixed`: what was done, once it was. `failure`: why that did not go well.
    """

    kind: str
    severity: Severity
    path: str
    reason: str
    why: str
    advice: str
    line: int | None = None
    column: int | None = None
    offset: int | None = None
    fixable: bool = False
    fixed: str | None = None
    failure: str | None = None

    @property
    def is_left(self) -> bool:
        """Whether it is a problem, and was not mended."""
        return self.severity != "notice" and self.fixed is None


class DoctorReport(NamedTuple):
    """What the doctor found in so many `files`, and the file system that they are on (None: in memory).

    `is_store` is False for a directory that nothing marks as a store: it was looked at, and nothing was mended.
    """

    findings: list[Finding]
    files: int
    is_store: bool
    file_system: FileSystem | None

    @property
    def problems(self) -> list[Finding]:
        """The errors and warnings that are left."""
        return [finding for finding in self.findings if finding.is_left]


class Case(NamedTuple):
    """A finding, and what mends it: tells what was done, or None where nothing is wrong any more by then."""

    finding: Finding
    mend: Callable[[], str | None] | None = None

    def mended_by(self, mend: Callable[[Finding], str | None]) -> Case:
        """The same, and how it is mended. `mend` is given the finding."""
        finding = self.finding._replace(fixable=True)
        return Case(finding, lambda: mend(finding))


def case_of(
    kind: str,
    path: str,
    reason: str,
    advice: str,
    *,
    at: CorruptRecordError | None = None,
    mend: Callable[[], str | None] | None = None,
) -> Case:
    """A case of a kind. `at` tells the place in the file."""
    severity, why = KINDS[kind]
    line, column, offset = (None, None, None) if at is None else (at.line, at.column, at.offset)
    return Case(Finding(kind, severity, path, reason, why, advice, line, column, offset, mend is not None), mend)
