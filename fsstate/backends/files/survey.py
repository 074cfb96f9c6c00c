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
  open): what seems to be gone is looked for by its name. If it is there, it is remembered as looking like nothing: it
  will be read, so that its end must show.

What is remembered is opaque bytes under each fingerprint; whoever keeps them may lose them, and then all is new.
"""

from __future__ import annotations

import os
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Stamps, Suffix, Survey
from fsstate.backends.files import misnamed
from fsstate.backends.files.descriptors import open_at, with_enough
from fsstate.backends.files.signatures import Signature
from fsstate.backends.files.tree import OPEN_DIRECTORY, Directory, refusals

__all__ = ["survey"]

# A stretch ends where these bits of the scrambled inode number are zero: every 64th time.
_END_BITS: Final = 63 << 20
_SCRAMBLE: Final = 0x9E3779B1

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


class _Folder(msgspec.Struct, array_like=True, frozen=True):
    """The beginning of a folder's entry, as it is remembered: read for each of them at each survey."""

    name: str
    look: msgspec.Raw
    below: list[tuple[str, _Look]]


_encoder: Final = msgspec.msgpack.Encoder()
_entries: Final = msgspec.msgpack.Decoder(list[_Entry])
_logs: Final = msgspec.msgpack.Decoder(list[_Below])
_folders: Final = msgspec.msgpack.Decoder(list[_Folder])


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
    if directory is None:
        return comparison.outcome()
    with refusals("look at", directory.path):
        with directory.entries() as entries:
            _scan(entries, comparison, suffix, belongings=belongings)
        return comparison.outcome()


def _scan(entries: Iterator[os.DirEntry[str]], comparison: _Comparison, suffix: str, *, belongings: bool) -> None:
    # All depends on this loop: 100,000 times around, each beside a system call of a microsecond. By their places in the
    # status, inode and size are had in half the time.
    tail, inode_at, size_at = -len(suffix), stat.ST_INO, stat.ST_SIZE
    found: list[str] = []
    looks: list[_Look] = []
    for entry in entries:
        name = entry.name
        if name[tail:] == suffix or (belongings and entry.is_dir(follow_symlinks=False)):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            inode: Any = status[inode_at]
            size: Any = status[size_at]
            found.append(name)
            looks.append((inode, size, status.st_mtime_ns, status.st_ctime_ns))
            if not (inode * _SCRAMBLE) & _END_BITS:
                comparison.add(found, looks)
                found, looks = [], []
    comparison.add(found, looks)


class _Changed(Mapping[str, Stamps | None]):
    """The records that changed, with how their logs look: packed, since they may be all that there are."""

    def __init__(self, logs: dict[str, bytes | None]) -> None:
        self._logs = logs

    def __getitem__(self, name: str) -> Stamps | None:
        packed = self._logs[name]
        return None if packed is None else dict(_logs.decode(packed))

    def __iter__(self) -> Iterator[str]:
        return iter(self._logs)

    def __len__(self) -> int:
        return len(self._logs)


class _Dropped:
    """The entries of known stretches that did not turn up, by name. They are unpacked where they are asked for."""

    def __init__(self, stretches: Mapping[int, bytes]) -> None:
        self._home = {entry.name: key for key, data in stretches.items() for entry in _recalled(data)}
        # What was together is together still, as a rule: the next one asked for is in one of the last stretches.
        self._unpacked = lru_cache(maxsize=4)(self._unpack)
        self._stretches = stretches

    def _unpack(self, key: int) -> dict[str, _Entry]:
        return {entry.name: entry for entry in _recalled(self._stretches[key])}

    def pop(self, name: str) -> _Entry | None:
        """Take an entry out; None when it is none of them."""
        key = self._home.pop(name, None)
        return None if key is None else self._unpacked(key)[name]

    def names(self) -> set[str]:
        """Those that nobody took."""
        return set(self._home)


class _Comparison:
    """What is found beside what is known. Of a listing of 100,000 it holds no more than names and packed bytes.

    `watched` are the files that count in the folders of documents.
    """

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
        # By their fingerprints: the stretches that are not known, packed, and those below which something changed.
        self._unknown: dict[int, bytes] = {}
        self._moved: dict[int, list[_Entry]] = {}
        self._remembered: dict[int, bytes] = {}
        # By record; with its logs once its folder was looked at.
        self._changed: dict[str, bytes | None] = {}

    def add(self, found: list[str], looks: list[_Look]) -> None:
        """Take in the next stretch of the listing."""
        if not found:
            return
        key = _fingerprint(found, looks)
        data = self._known.get(key)
        if data is None:
            self._take_in(key, found, looks)
        elif not self._watched or self._is_same_below(key, data):
            self._kept.add(key)

    def outcome(self) -> Survey:
        """What came out, once all stretches were taken in."""
        missing = self._compare()
        for name in missing:
            self._note(name)
        gone = {name for name in self._changed if not self._is_plain(name)}
        there = {name: logs for name, logs in self._changed.items() if name not in gone}
        self._remember_overlooked({name for name in missing if self._record_of(name) not in gone})
        return Survey(_Changed(there), gone, self._kept - self._remembered.keys(), self._remembered)

    def _take_in(self, key: int, found: list[str], looks: list[_Look]) -> None:
        readable = [each for each in zip(found, looks, strict=True) if self._record_of(each[0]) is not None]
        if len(readable) < len(found) and self._directory is not None:
            # Said here, as every listing says it.
            others = (name.removesuffix(self._suffix) for name in found if name.endswith(self._suffix))
            misnamed.sift([*others], self._directory.path, self._suffix)
        self._unknown[key] = _encoder.encode(readable)

    def _note(self, name: str, below: Iterable[_Below] | None = None) -> None:
        """Note that the entry of this name looks other than before, and what is below it if it was looked at."""
        record = self._record_of(name)
        if record is not None:
            logs = None if below is None else [(path[: -len(LOG)], look) for path, look in below if path.endswith(LOG)]
            self._changed[record] = self._changed.get(record) if logs is None else _encoder.encode(logs)

    def _is_same_below(self, key: int, data: bytes) -> bool:
        """Whether all that belongs to the documents of a known stretch looks as it did."""
        size = int.from_bytes(data[:4])
        folders = _folders.decode(data[4 : 4 + size]) if size else ()
        if all(self._is_below(each.name, each.below) for each in folders):
            return True
        self._moved[key] = [self._with_below(entry, entry) if entry.below else entry for entry in _recalled(data)]
        return False

    def _compare(self) -> set[str]:
        """Compare what is not known with all that was known and did not turn up, entry by entry.

        Gives the names that seem to be gone.
        """
        before = _Dropped({key: self._known[key] for key in self._known.keys() - self._kept - self._moved.keys()})
        for key, stretch in self._moved.items():
            self._remember(key, stretch)
        for key, packed in self._unknown.items():
            found = _entries.decode(packed)
            self._remember(key, [self._compared(entry, before.pop(entry.name)) for entry in found])
        return before.names()

    def _remember_overlooked(self, missing: set[str]) -> None:
        """Remember what is there, though the listing does not have it: made, or replaced, while that was read."""
        overlooked = {name for name in missing if self._is_there(name)}
        if overlooked:
            stretches = [*(self._known[key] for key in self._kept), *self._remembered.values()]
            overlooked -= {entry.name for data in stretches for entry in _recalled(data)}
        if overlooked:
            self._remember(0, [_Entry(name, _NOTHING) for name in sorted(overlooked)])

    def _is_there(self, name: str) -> bool:
        # A document was looked for already, and there may be only one answer.
        return name.endswith(self._suffix) or self._status(name) is not None

    def _compared(self, entry: _Entry, before: _Entry | None) -> _Entry:
        if before is None or before.look != entry.look:
            self._note(entry.name)
        return entry if entry.name.endswith(self._suffix) else self._with_below(entry, before)

    def _with_below(self, entry: _Entry, before: _Entry | None) -> _Entry:
        """A folder's entry with what is below it now."""
        if before is not None and before.look == entry.look and self._is_below(entry.name, before.below):
            return before
        below = tuple(self._walk(entry.name))
        self._note(entry.name, below)
        return _Entry(entry.name, entry.look, below)

    def _is_below(self, folder: str, below: Iterable[tuple[str, _Look]]) -> bool:
        assert self._directory is not None
        fd = self._directory.fd
        try:
            for path, look in below:
                status = os.stat(f"{folder}/{path}", dir_fd=fd, follow_symlinks=False)
                if (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns) != look:
                    return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _walk(self, folder: str) -> Iterator[_Below]:
        assert self._directory is not None
        with refusals("look at", f"{self._directory.path}/{folder}"):
            try:
                yield from _walk(self._directory.fd, folder, "", self._watched)
            except (FileNotFoundError, NotADirectoryError):
                return

    def _record_of(self, name: str) -> str | None:
        """The record that an entry tells of; None for what can tell of none."""
        record = name.removesuffix(self._suffix)
        return record if names.is_name(record) else None

    def _is_plain(self, record: str) -> bool:
        status = self._status(record + self._suffix)
        return status is not None and stat.S_ISREG(status.st_mode)

    def _status(self, name: str) -> os.stat_result | None:
        if self._directory is None:
            return None
        try:
            return os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _remember(self, key: int, stretch: list[_Entry]) -> None:
        entries = [self._distrusted(entry) for entry in stretch]
        if any(entry.look == _NOTHING for entry in entries):
            # One that no listing has: all of it is compared again.
            key = _fingerprint([entry.name for entry in entries], [entry.look for entry in entries])
        folders = _encoder.encode([entry for entry in entries if entry.below])
        files = _encoder.encode([entry for entry in entries if not entry.below])
        self._remembered[key] = len(folders).to_bytes(4) + folders + files

    def _distrusted(self, entry: _Entry) -> _Entry:
        """The entry, with nothing in the place of looks that are too young to be told from later ones."""
        below = tuple(_Below(path, self._settled(look)) for path, look in entry.below)
        return _Entry(entry.name, self._settled(entry.look), below)

    def _settled(self, look: _Look) -> _Look:
        return look if Signature(*look).is_settled(self._now_ns) else _NOTHING


def _walk(parent: int, name: str, path: str, watched: tuple[Suffix, ...]) -> Iterator[_Below]:
    """All folders and watched files below a folder."""
    folders: list[str] = []
    fd = open_at(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        # Before it is listed: what is made in it meanwhile must show the next time. That of the document's own folder
        # was taken by the survey itself.
        if path:
            yield _Below(path, _look_of(os.fstat(fd)))
        with with_enough(lambda: os.scandir(fd)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.name.endswith(watched) and entry.is_file(follow_symlinks=False):
                    yield _Below(path + entry.name, _look_of(entry.stat(follow_symlinks=False)))
        for folder in folders:
            yield from _walk(fd, folder, f"{path}{folder}/", watched)
    finally:
        os.close(fd)


def _recalled(data: bytes) -> Iterator[_Entry]:
    """The entries of a stretch, as they were remembered: those with something below them first."""
    size = int.from_bytes(data[:4])
    yield from _entries.decode(data[4 : 4 + size]) if size else ()
    yield from _entries.decode(data[4 + size :])


def _look_of(status: os.stat_result) -> _Look:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _fingerprint(found: list[str], looks: list[_Look]) -> int:
    """A number that two stretches share only if they are the same, for all that chance can do.

    Numbers hash alike in every process, which texts do not.
    """
    return hash((hash(tuple(looks)), zlib.crc32(os.fsencode("/".join(found)))))
