"""What a writer who died left in its staging folder: swept, unless it may be what a person saved.

A document is replaced by exchange (see `exchanging`): for an instant, what stood in its place lies under the staged
name. It has been looked at before it goes, unless the writer was killed just then. So a staged name says what its
writer knew: how long its own content and the one that it read are, and their checksums (CRC-32). Nobody needs either of
these two, or a file of zeros, which only a power cut leaves. Anything else under such a name is either half of a write,
and the document still is as it was read; or it may be somebody's, and is kept in `.fsstate/quarantine/`.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from typing import Final, NamedTuple

from fsstate.backends.base import Ref
from fsstate.backends.files.tree import Directory, Tree, open_regular
from fsstate.errors import UnsafePathError

__all__ = ["label_of", "put_aside", "rescue"]

QUARANTINE: Final = ".fsstate/quarantine"
_logger: Final = logging.getLogger("fsstate")
# A name has 255 bytes; the numbers take some 50 of them. Of a longer address it is not known where it leads.
_LONGEST: Final = 200
_CHUNK: Final = 1024 * 1024
# The sum of a file that has nothing in it, or only zeros.
_NOTHING: Final = "nothing"
_LABEL: Final = re.compile(r"\d+(?:\.([0-9a-f]+-[0-9a-f]+))?\.([0-9a-f]+-[0-9a-f]+)\.~(.*)", re.DOTALL)


class _Label(NamedTuple):
    """What a staged name says: the sums of what is new (None: a deletion) and of what was read, and the record."""

    new: str | None
    read: str
    address: str


def label_of(ref: Ref, new: bytes | None, read: bytes) -> str:
    """The end of a staged name, behind its number."""
    quoted = str(ref).replace("%", "%25").replace("+", "%2B").replace("/", "+")
    address = quoted if len(os.fsencode(quoted)) <= _LONGEST else ""
    sums = _sum(read) if new is None else f"{_sum(new)}.{_sum(read)}"
    return f".{sums}.~{address}"


def put_aside(tree: Tree, folder: Directory, name: str, address: str) -> str:
    """Keep a staged entry, whatever it is, where nothing is swept. Returns its path."""
    quarantine = tree.make(QUARANTINE)
    kept = f"{address.replace('/', '+') or 'document'}.{os.urandom(4).hex()}"
    os.rename(name, kept, src_dir_fd=folder.fd, dst_dir_fd=quarantine.fd)
    tree.sync(quarantine)
    return f"{quarantine.path}/{kept}"


def rescue(tree: Tree, folder: Directory) -> None:
    """Put aside what in the folder of a dead writer may be somebody's. The rest may go."""
    with folder.entries() as entries:
        names = [entry.name for entry in entries]
    for name in names:
        label = _read_label(name)
        if label is not None and not _may_go(tree, folder, name, label):
            path = put_aside(tree, folder, name, label.address.replace("/", "+"))
            place = tree.path(label.address) if label.address else "a document"
            _logger.warning("%s: a writer was killed; what may have been saved there meanwhile is in %s", place, path)


def _read_label(name: str) -> _Label | None:
    match = _LABEL.fullmatch(name)
    if match is None:
        return None
    address = match[3].replace("+", "/").replace("%2B", "+").replace("%25", "%")
    return _Label(match[1], match[2], address)


def _may_go(tree: Tree, folder: Directory, name: str, label: _Label) -> bool:
    left = _sum_of_file(folder, name)
    if left in (label.new, label.read, _NOTHING):
        return True
    above, _, last = label.address.rpartition("/")
    directory = tree.find(above) if above else None
    there = None if directory is None else _sum_of_file(directory, last)
    # Either the write never got so far, or it has a name in both folders: to rename is two changes on some disks.
    return label.new is not None and left is not None and there in (label.read, left)


def _sum_of_file(directory: Directory, name: str) -> str | None:
    """The sum of a plain file; None for anything else, which is never what a store wrote."""
    try:
        fd = open_regular(directory, name, os.O_RDONLY)
    except UnsafePathError:
        return None
    if fd is None:
        return None
    with open(fd, "rb", buffering=0) as file:
        size, checksum, is_blank = 0, 0, True
        while data := file.read(_CHUNK):
            size, checksum = size + len(data), zlib.crc32(data, checksum)
            is_blank = is_blank and not data.strip(b"\0")
    return _NOTHING if is_blank else f"{size:x}-{checksum:x}"


def _sum(data: bytes) -> str:
    return f"{len(data):x}-{zlib.crc32(data):x}"
