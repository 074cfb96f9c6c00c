"""Every error that fsstate raises on purpose, in one tree.

    FsStateError
    ├── InvalidNameError (ValueError)         a category or record name that cannot be a file name
    ├── InvalidCursorError (ValueError)       a cursor that does not belong to the query
    ├── InvalidValueError (ValueError)        a value that cannot be stored, with its place in the document
    ├── InvalidQueryError (ValueError)        a search that asks for nothing
    ├── ValidationError (ValueError)          a document that does not fit its model
    ├── NotFoundError (KeyError)              no such record
    ├── AlreadyExistsError (ValueError)       a record that was to be created is there
    ├── WrongOwnerError (PermissionError)     a record that belongs to somebody else
    ├── AmbiguousIdError (LookupError)        a prefix or label that fits several records
    ├── InvalidTransitionError (ValueError)   a lifecycle step that its present state forbids
    ├── ConflictError (RuntimeError)          the record changed meanwhile; carries all versions
    ├── CorruptRecordError (ValueError)       a file or line that cannot be read, with line and column
    ├── NewerFormatError (RuntimeError)       written by a newer fsstate
    │   └── NewerVersionError                 a record of a newer version than its type declares
    ├── MigrationError (RuntimeError)         a record that could not be brought to the present version
    ├── StoreClosedError (RuntimeError)       the store was closed
    ├── LockTimeoutError (TimeoutError)       somebody else kept the record's lock
    ├── MissingExtraError (ImportError)       an optional dependency is not installed
    ├── SearchUnavailableError (RuntimeError) this Python's SQLite cannot search
    ├── GitError (RuntimeError)               git is not there, or refuses
    │   └── UncommittedError                  a version that no commit holds would be lost
    └── StorageError (OSError)                the operating system refused; errno and filename are set
        ├── UnsafePathError                   a symlink or something else that is not ours to touch
        ├── OutcomeUnknownError               written, but the disk did not confirm that it will last
        └── UnsupportedFileSystemError        a file system on which a write cannot be kept safe

Each is also the builtin that people catch. All carry their data as attributes and survive pickling.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

__all__ = [
    "AlreadyExistsError",
    "AmbiguousIdError",
    "ConflictError",
    "CorruptRecordError",
    "FsStateError",
    "GitError",
    "InvalidCursorError",
    "InvalidNameError",
    "InvalidQueryError",
    "InvalidTransitionError",
    "InvalidValueError",
    "LockTimeoutError",
    "MigrationError",
    "MissingExtraError",
    "NewerFormatError",
    "NewerVersionError",
    "NotFoundError",
    "OutcomeUnknownError",
    "SearchUnavailableError",
    "StorageError",
    "StoreClosedError",
    "UncommittedError",
    "UnsafePathError",
    "UnsupportedFileSystemError",
    "ValidationError",
    "WrongOwnerError",
]


_READ_AGAIN: Final = "read it again and repeat"


def _rebuild(cls: type[FsStateError], message: str, state: dict[str, Any]) -> FsStateError:
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class FsStateError(Exception):
    """The base of all errors of fsstate."""

    message: str

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # KeyError would print the repr and OSError the errno.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


class InvalidNameError(FsStateError, ValueError):
    """A category or record name that cannot be a file name everywhere.

    `name` is what was given, `reason` what is wrong with it.
    """

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"{name!r} cannot be a name: {reason}; fsstate.quote_name() makes any string safe")
        self.name = name
        self.reason = reason


class InvalidCursorError(FsStateError, ValueError):
    """A cursor that is none, or belongs to another query. `cursor` is what was given."""

    def __init__(self, cursor: object, reason: str) -> None:
        super().__init__(f"the cursor {cursor!r} {reason}; begin again without one")
        self.cursor = cursor
        self.reason = reason


class InvalidValueError(FsStateError, ValueError):
    """A value that cannot be stored without loss. `at` is its place, such as `$.items[3].price`."""

    def __init__(self, reason: str, *, at: str = "$") -> None:
        super().__init__(f"cannot store the value at {at}: {reason}")
        self.at = at
        self.reason = reason


class InvalidQueryError(FsStateError, ValueError):
    """A search that asks for nothing that could be found. `query` is what was given, `reason` what is wrong with it."""

    def __init__(self, query: str, reason: str) -> None:
        shown = query if len(query) <= 60 else f"{query[:60]}…"
        super().__init__(f"cannot search for {shown!r}: {reason}")
        self.query = query
        self.reason = reason


class ValidationError(FsStateError, ValueError):
    """A document that does not fit its model. `where` names the record, `reason` the field and what was expected."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class NotFoundError(FsStateError, KeyError):
    """No such record. `where` is the path that was looked for."""

    def __init__(self, where: str, message: str | None = None) -> None:
        super().__init__(message or f"{where} does not exist")
        self.where = where


class AlreadyExistsError(FsStateError, ValueError):
    """A record that was to be created is there already. `where` is its path."""

    def __init__(self, where: str, message: str | None = None) -> None:
        super().__init__(message or f"{where} exists already")
        self.where = where


class WrongOwnerError(FsStateError, PermissionError):
    """A record that belongs to somebody else, or to nobody. `where` is its path. It does not say whose it is."""

    def __init__(self, where: str, message: str | None = None) -> None:
        super().__init__(message or f"{where} belongs to a different owner")
        self.where = where


class AmbiguousIdError(FsStateError, LookupError):
    """A prefix, label or id that fits several records. `matches` lists their ids, or where they are."""

    def __init__(self, needle: str, matches: list[str], *, hint: str = "give more characters") -> None:
        shown = ", ".join(matches[:5]) + (", …" if len(matches) > 5 else "")
        super().__init__(f"{needle!r} fits {len(matches)} records: {shown}; {hint}")
        self.needle = needle
        self.matches = matches


class InvalidTransitionError(FsStateError, ValueError):
    """A lifecycle step that the record's present `status` forbids. `wanted` is the status asked for."""

    def __init__(self, where: str, status: str, wanted: str, allowed: list[str]) -> None:
        steps = ", ".join(allowed) if allowed else "nothing: this is final"
        super().__init__(f"{where} is {status!r} and cannot become {wanted!r}; from here it may become {steps}")
        self.where = where
        self.status = status
        self.wanted = wanted
        self.allowed = allowed


class ConflictError(FsStateError, RuntimeError):
    """The record changed since it was read, and the two changes meet.

    `base` is what was read (None: nothing, or it is not known), `mine` what was to be saved, `theirs` what the file
    holds now (None: deleted); `revision` is the revision of `theirs`, `fields` the places where the changes meet. The
    record was left alone. `kept_at` is the path of the file beside it in which `mine` is kept until somebody resolves
    the conflict; None where nothing was kept: after a plain `put(expect=…)` the caller has it.
    """

    def __init__(
        self,
        where: str,
        *,
        base: Any = None,
        mine: Any = None,
        theirs: Any = None,
        revision: str | None = None,
        fields: tuple[str, ...] = (),
        reason: str = "",
    ) -> None:
        """`reason` says why nothing could be merged, where no fields tell it."""
        at = f" in {', '.join(fields)}" if fields else f", {reason}" if reason else ""
        super().__init__(f"{where} was changed by somebody else since it was read{at}; {_READ_AGAIN}")
        self.where = where
        self.base = base
        self.mine = mine
        self.theirs = theirs
        self.revision = revision
        self.fields = fields
        self.kept_at: str | None = None

    def tell_kept(self, path: str, record: str) -> None:
        """Say where `mine` is kept. `record` is what the command line calls the record."""
        from shlex import quote

        self.kept_at = path
        advice = f"`fsstate conflicts` lists it, `fsstate resolve {quote(record)}` shows both versions"
        self.message = f"{self.message.removesuffix(_READ_AGAIN)}mine is kept in {path}: {advice}"
        self.args = (self.message,)


class CorruptRecordError(FsStateError, ValueError):
    """A file, or one line of a log, that cannot be read. The file is left as it is.

    `path` names it; `line` and `column` count from 1, `offset` counts bytes from 0; each is None where unknown.
    """

    def __init__(
        self,
        path: str,
        reason: str,
        *,
        line: int | None = None,
        column: int | None = None,
        offset: int | None = None,
    ) -> None:
        if line is not None:
            place = f", line {line}" + (f", column {column}" if column is not None else "")
        else:
            place = f", byte {offset}" if offset is not None else ""
        super().__init__(f"{path}{place}: {reason}")
        self.path = path
        self.reason = reason
        self.line = line
        self.column = column
        self.offset = offset


class NewerFormatError(FsStateError, RuntimeError):
    """Written by a newer fsstate; nothing was touched. `found` and `known` are format numbers."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(f"{path} has format {found}, and this fsstate knows formats up to {known}: upgrade fsstate")
        self.path = path
        self.found = found
        self.known = known


class NewerVersionError(NewerFormatError):
    """A record of a newer version than its type declares; nothing was touched. `kind` is the type's category."""

    def __init__(self, path: str, kind: str, found: int, known: int) -> None:
        reason = f"is a record of {kind!r} in version {found}, and this program knows versions up to {known}"
        FsStateError.__init__(self, f"{path} {reason}: upgrade the program")
        self.path = path
        self.kind = kind
        self.found = found
        self.known = known


class MigrationError(FsStateError, RuntimeError):
    """A record that could not be brought to the present version; it is as it was. `step` names the migration."""

    def __init__(self, where: str, step: str, reason: str) -> None:
        super().__init__(f"{where}: the migration {step!r} failed: {reason}; the file was left as it is")
        self.where = where
        self.step = step
        self.reason = reason


class StoreClosedError(FsStateError, RuntimeError):
    """The store was closed."""


class LockTimeoutError(FsStateError, TimeoutError):
    """The lock of `where` was not free within `timeout` seconds."""

    def __init__(self, where: str, timeout: float, hint: str = "somebody else is changing it") -> None:
        super().__init__(f"{where} stayed locked for {timeout:g} s: {hint}")
        self.where = where
        self.timeout = timeout


class MissingExtraError(FsStateError, ImportError):
    """An optional dependency is not installed. `extra` names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'fsstate[{extra}]'")
        self.extra = extra


class SearchUnavailableError(FsStateError, RuntimeError):
    """No SQLite with FTS5, which search is made of, comes with this Python. `reason` says what is missing."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot search with this Python: {reason}; use one whose sqlite3 module has FTS5")
        self.reason = reason


class GitError(FsStateError, RuntimeError):
    """Git is not there, or refuses. `where` is the directory or record, `reason` what is wrong and what to do."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class UncommittedError(GitError):
    """What would be replaced is in no commit, and would be lost; nothing was changed. `paths` are its files."""

    def __init__(self, where: str, paths: list[str]) -> None:
        shown = ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
        reason = f"the last commit does not hold {shown} as it is now; take a snapshot first, or force it"
        super().__init__(where, reason)
        self.paths = paths


class StorageError(FsStateError, OSError):
    """The operating system refused; the record is as it was. `errno` and `filename` are set as for OSError."""

    def __init__(self, action: str, path: str, code: int) -> None:
        super().__init__(f"cannot {action} {path}: {os.strerror(code)}")
        self.action = action
        self.errno = code
        self.strerror = os.strerror(code)
        self.filename = path

    def __reduce__(self) -> tuple[Any, ...]:
        # errno and filename live in OSError's own slots, which __dict__ does not show.
        return type(self), (self.action, self.filename, self.errno)

    @classmethod
    def of(cls, action: str, path: str, cause: OSError) -> StorageError:
        """The same failure as `cause`, told with what was being done and to which record."""
        return cls(action, path, cause.errno or 0)


class UnsafePathError(StorageError):
    """A symlink, or something else that is not a plain file or directory, stands in a record's place."""


class OutcomeUnknownError(StorageError):
    """The write is visible, but the disk refused to confirm it: it may or may not survive a power cut.

    Or (errno EBUSY) somebody saved over it in the same moment, and it may or may not be part of what they saved.
    """


class UnsupportedFileSystemError(StorageError):
    """A store would be written on a file system on which it cannot keep its promise; nothing was written.

    `filename` is the directory, `kind` the file system's type, `missing` what it lacks.
    `StoreOptions(file_system="any")` goes on in spite of that.
    """

    def __init__(self, path: str, kind: str, missing: str) -> None:
        super().__init__("write to", path, errno.EOPNOTSUPP)
        self.kind = kind
        self.missing = missing
        advice = 'move the store to a local disk, or accept that with StoreOptions(file_system="any")'
        self.message = (
            f"cannot write to {path}: it is on a file system ({kind}) {missing}; {advice}, on the command line with"
            " FSSTATE_ANY_FILE_SYSTEM=1"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.filename, self.kind, self.missing)
