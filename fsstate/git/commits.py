"""The commits that changed some files, read as git prints them: a history is never held whole.

Asked of the plumbing, which no setting of a person's changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import IO, Final, NamedTuple, Self

from fsstate.backends.base import JSON
from fsstate.git.changes import FileChange, RecordCommit, changed_fields, kind_of
from fsstate.git.program import Git
from fsstate.git.repository import Repository

__all__ = ["commits_of"]

_CHUNK: Final = 64 * 1024
_FORMAT: Final = "--format=tformat:%H%x00%an%x00%aI%x00%s"
_TELL: Final = (
    *("diff-tree", "--stdin", "-r", "--root", "-z", "--raw", "--numstat", "--no-abbrev", "--no-renames"),
    *("--diff-merges=first-parent", "--no-ext-diff", "--no-textconv", "--encoding=UTF-8", _FORMAT),
)
_RAW: Final = re.compile(rb"\n?:\d+ \d+ ([0-9a-f]+) ([0-9a-f]+) ([A-Z])\d*")
_COUNTS: Final = re.compile(rb"\n?(\d+|-)\t(\d+|-)\t(.+)", re.DOTALL)


class _Raw(NamedTuple):
    """A file in a commit: what it was and is, as ids, and the letter for that."""

    before: str
    after: str
    letter: str


class _Found(NamedTuple):
    """A commit as git tells it, with its files and how many lines each got and lost."""

    id: str
    author: str
    at: str
    subject: str
    files: dict[str, _Raw]
    lines: dict[str, tuple[int, int]]


def commits_of(
    repository: Repository, record: str, paths: list[str], since: str, most: int | None
) -> Iterator[RecordCommit]:
    """The commits, at most so many, that changed any of these paths, the latest first, from a commit on backwards."""
    limit = () if most is None else (f"--max-count={most}",)
    wanted = ("--", *(repository.path(path) for path in paths))
    git = repository.git
    with (
        git.reading(*_TELL, *wanted, fed_by=("rev-list", *limit, since, *wanted)) as printed,
        _Contents(git) as contents,
    ):
        for found in _parsed(_tokens(printed)):
            yield RecordCommit(
                found.id, datetime.fromisoformat(found.at), found.author, found.subject, record,
                list(_changes(repository, found, contents)),
            )  # fmt: skip


def _changes(repository: Repository, found: _Found, contents: _Contents) -> Iterator[FileChange]:
    for path, raw in found.files.items():
        fields: tuple[str, ...] = ()
        kind = kind_of(raw.letter)
        if path.endswith(JSON) and kind == "changed":
            fields = changed_fields(contents.of(raw.before), contents.of(raw.after))
        yield FileChange(repository.below(path), kind, fields, *found.lines.get(path, (0, 0)))


def _tokens(printed: IO[bytes]) -> Iterator[bytes]:
    """What stands between NULs."""
    rest = b""
    while chunk := printed.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _parsed(tokens: Iterator[bytes]) -> Iterator[_Found]:
    found: _Found | None = None
    for token in tokens:
        if found is not None and (raw := _RAW.fullmatch(token)):
            before, after, letter = (each.decode() for each in raw.groups())
            found.files[os.fsdecode(next(tokens))] = _Raw(before, after, letter)
        elif found is not None and (counts := _COUNTS.fullmatch(token)):
            added, removed = (0 if each == b"-" else int(each) for each in counts.groups()[:2])
            found.lines[os.fsdecode(counts[3])] = (added, removed)
        else:
            if found is not None:
                yield found
            found = _begun([token, *islice(tokens, 3)])
    if found is not None:
        yield found


def _begun(header: Iterable[bytes]) -> _Found:
    id_, author, at, subject = (each.decode(errors="replace") for each in header)
    return _Found(id_.strip(), author, at, subject, {}, {})


class _Contents:
    """Gives the contents of objects, by one process of git for all; ended with the block."""

    def __init__(self, git: Git) -> None:
        self._git = git

    def __enter__(self) -> Self:
        self._process = self._git.talking("cat-file", "--batch")
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing more is asked, which ends it; what it still says is read and thrown away.
        self._process.communicate()

    def of(self, id_: str) -> bytes:
        """The content of an object. One that is missing, as in a shallow clone, has none."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(f"{id_}\n".encode())
        asked.flush()
        about = answers.readline().split()
        if len(about) != 3:
            return b""
        data = answers.read(int(about[2]))
        answers.read(1)
        return data
