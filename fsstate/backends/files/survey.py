"""How the records of a category look, told without opening one: which look other than at an earlier survey.

The listing is cut into stretches of some 64 entries, and of each stretch one fingerprint is taken over the names and
signatures in it. A stretch whose fingerprint is known holds what it held; only the others are compared entry by entry,
so that a survey of an unchanged category costs little more than the scan, and keeps nothing about single names.

- Where a stretch ends depends on the entries alone: what is added or removed changes its own stretch and perhaps the
  next one, wherever in the listing it stands.
- With belongings, the folders named after documents count as well: the signature of every folder below them (which
  changes when something in it is made, replaced or removed) and of every log (which grows in its place); where it is
  asked for, also of every document, which editors may write in its place.
- A file touched within the clock's last tick may change again without showing it: it is remembered as looking like
  nothing, so that the next survey names it once more (git calls this "racily clean").
- A file that is replaced while the listing is read may be missing from it or stand in it twice (readdir(3) leaves both
  open): what seems to be gone is looked for by its name.

What is remembered is opaque bytes under each fingerprint; whoever keeps them may lose them, and then all is new.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Suffix, Survey
from fsstate.backends.files import misnamed
from fsstate.backends.files.documents import Signature
from fsstate.backends.files.tree import OPEN_DIRECTORY, Directory, refusals

__all__ = ["survey"]

# A stretch ends where these bits of the scrambled inode number are zero, every 64th time, or when it is this long.
_END_BITS: Final = 63 << 20
_SCRAMBLE: Final = 0x9E3779B1
_LONGEST: Final = 512

# Inode, size, mtime_ns, ctime_ns: what a Signature has, in a form that is made faster.
_Look: TypeAlias = tuple[int, int, int, int]
_NOTHING: Final[_Look] = (0, 0, 0, 0)


class _Below(NamedTuple):
    """A folder or log that belongs to a document, by its path below the document's folder."""

    path: str
    look: _Look


class _Entry(NamedTuple):
    """One entry of the listing, and of a folder what is below it."""

    name: str
    look: _Look
    below: tuple[_Below, ...] = ()


_decoder: Final = msgspec.msgpack.Decoder(list[_Entry])


def survey(
    directory: Directory | None,
    suffix: Suffix,
    known: Mapping[int, bytes],
    *,
    belongings: bool,
    documents: bool = False,
) -> Survey:
    """Look at a category. `known` is what the last survey of it, with the same arguments, gave to remember."""
    watched = (LOG, JSON, MARKDOWN) if documents else (LOG,)
    comparison = _Comparison(directory, suffix, known, watched if belongings else ())
    if directory is not None:
        with refusals("look at", directory.path), directory.entries() as entries:
            _scan(entries, comparison, suffix, belongings=belongings)
    return comparison.outcome()


def _scan(entries: Iterator[os.DirEntry[str]], comparison: _Comparison, suffix: str, *, belongings: bool) -> None:
    # All depends on this loop: 100,000 times around, each beside a system call of a microsecond.
    tail = -len(suffix)
    found: list[str] = []
    looks: list[_Look] = []
    for entry in entries:
        name = entry.name
        if name[tail:] == suffix or (belongings and entry.is_dir(follow_symlinks=False)):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            inode = status.st_ino
            found.append(name)
            looks.append((inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
            if not (inode * _SCRAMBLE) & _END_BITS or len(found) >= _LONGEST:
                comparison.add(found, looks)
                found, looks = [], []
    comparison.add(found, looks)


class _Comparison:
    """What is found beside what is known. `watched` are the files that count in the folders of documents."""

    def __init__(
        self, directory: Directory | None, suffix: Suffix, known: Mapping[int, bytes], watched: tuple[Suffix, ...]
    ) -> None:
        self._directory = directory
        self._suffix: Suffix = suffix
        self._known = known
        self._watched = watched
        # Before anything is looked at: what changes meanwhile must not count as settled.
        self._now_ns = time.time_ns()
        self._kept: set[int] = set()
        self._changed: set[str] = set()
        self._unknown: list[list[_Entry]] = []
        # To be remembered anew: the stretches that were not known, and those below which something changed.
        self._stretches: list[list[_Entry]] = []

    def add(self, found: list[str], looks: list[_Look]) -> None:
        """Take in the next stretch of the listing."""
        if not found:
            return
        key = _fingerprint(found, looks)
        data = self._known.get(key)
        if data is None:
            self._unknown.append([_Entry(*each) for each in zip(found, looks, strict=True)])
        elif not self._watched or self._is_same_below(data):
            self._kept.add(key)

    def outcome(self) -> Survey:
        """What came out, once all stretches were taken in."""
        missing = self._compare_unknown()
        records = {name for name in map(self._record_of, self._changed | missing) if name is not None}
        there = self._readable(records)
        remembered = dict(map(self._remembered, self._stretches))
        return Survey(there, records - there, self._kept - remembered.keys(), remembered)

    def _is_same_below(self, data: bytes) -> bool:
        """Whether all that belongs to the documents of a known stretch looks as it did."""
        before = _decoder.decode(data)
        after = [self._with_below(entry, entry) if entry.below else entry for entry in before]
        if after == before:
            return True
        self._stretches.append(after)
        return False

    def _compare_unknown(self) -> set[str]:
        """Compare the stretches that are not known, entry by entry. Gives the names that seem to be gone."""
        dropped = [self._known[key] for key in self._known.keys() - self._kept]
        before = {entry.name: entry for data in dropped for entry in _decoder.decode(data)}
        for entry in (entry for stretch in self._stretches for entry in stretch):
            before.pop(entry.name, None)
        for stretch in self._unknown:
            self._stretches.append([self._compared(entry, before.pop(entry.name, None)) for entry in stretch])
        return set(before)

    def _compared(self, entry: _Entry, before: _Entry | None) -> _Entry:
        if before is None or before.look != entry.look:
            self._changed.add(entry.name)
        return entry if entry.name.endswith(self._suffix) else self._with_below(entry, before)

    def _with_below(self, entry: _Entry, before: _Entry | None) -> _Entry:
        """A folder's entry with what is below it now."""
        if before is not None and before.look == entry.look and self._is_below(entry.name, before.below):
            return before
        self._changed.add(entry.name)
        return _Entry(entry.name, entry.look, tuple(self._walk(entry.name)))

    def _is_below(self, folder: str, below: tuple[_Below, ...]) -> bool:
        assert self._directory is not None
        fd = self._directory.fd
        try:
            return all(
                _look_of(os.stat(f"{folder}/{path}", dir_fd=fd, follow_symlinks=False)) == look for path, look in below
            )
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _walk(self, folder: str) -> Iterator[_Below]:
        assert self._directory is not None
        try:
            yield from _walk(self._directory.fd, folder, "", self._watched)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _record_of(self, name: str) -> str | None:
        """The record that an entry tells of; None for a folder that can belong to none."""
        if name.endswith(self._suffix):
            return name.removesuffix(self._suffix)
        return name if names.is_name(name) else None

    def _readable(self, records: set[str]) -> set[str]:
        """Those of the records that are plain files with a name that is accepted."""
        if self._directory is None:
            return set()
        there = [name for name in records if self._is_plain(name + self._suffix)]
        return set(misnamed.sift(there, self._directory.path, self._suffix))

    def _is_plain(self, name: str) -> bool:
        assert self._directory is not None
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _remembered(self, stretch: list[_Entry]) -> tuple[int, bytes]:
        entries = [self._distrusted(entry) for entry in stretch]
        key = _fingerprint([entry.name for entry in entries], [entry.look for entry in entries])
        return key, msgspec.msgpack.encode([entry for entry in entries if names.is_name(entry.name)])

    def _distrusted(self, entry: _Entry) -> _Entry:
        """The entry, with nothing in the place of looks that are too young to be told from later ones."""
        below = tuple(_Below(path, self._settled(look)) for path, look in entry.below)
        return _Entry(entry.name, self._settled(entry.look), below)

    def _settled(self, look: _Look) -> _Look:
        return look if Signature(*look).is_settled(self._now_ns) else _NOTHING


def _walk(parent: int, name: str, path: str, watched: tuple[Suffix, ...]) -> Iterator[_Below]:
    """All folders and watched files in a folder, that folder itself among them as `.`."""
    folders: list[str] = []
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        # Before it is listed: what is made in it meanwhile must show the next time.
        yield _Below(path or ".", _look_of(os.fstat(fd)))
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.name.endswith(watched):
                    yield _Below(path + entry.name, _look_of(entry.stat(follow_symlinks=False)))
        for folder in folders:
            yield from _walk(fd, folder, f"{path}{folder}/", watched)
    finally:
        os.close(fd)


def _look_of(status: os.stat_result) -> _Look:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _fingerprint(found: list[str], looks: list[_Look]) -> int:
    """A number that two stretches share only if they are the same, for all that chance can do.

    Numbers hash alike in every process, which texts do not.
    """
    return hash((hash(tuple(looks)), zlib.crc32(os.fsencode("/".join(found)))))
