"""Which file system a directory is on, as Linux tells it, and what is known of its kind.

Nothing is tried out here: `/proc/self/mountinfo` is read, and the kind's name tells the rest. On other systems nothing
is known, and nothing is held against a directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "IN_MEMORY",
    "FileSystem",
    "Mount",
    "Trait",
    "choose",
    "file_system",
    "is_journaled",
    "journal_of",
    "mount_of",
]

_MOUNTS: Final = Path("/proc/self/mountinfo")
# These keep files in memory.
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
# Other machines change the files of these, too: what one machine locks, caches and flushes is not known to the others.
_NETWORK: Final = frozenset({
    "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "webdav",
})  # fmt: skip
# The same as programs: what stands behind "fuse.", or is the whole kind where they call themselves so.
_NETWORK_PROGRAMS: Final = frozenset({
    "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "cosfs", "curlftpfs", "cvmfs2", "davfs2", "dbxfs", "fuse_dfs",
    "gcsfuse", "geesefs", "glusterfs", "goofys", "google-drive-ocamlfuse", "gvfsd-fuse", "hdfs", "juicefs", "lizardfs",
    "mfs", "moosefs", "mount-s3", "mountpoint-s3", "objectivefs", "obsfs", "onedriver", "ossfs", "rclone", "s3backer",
    "s3fs", "s3ql", "seaweedfs", "smbnetfs", "sshfs",
})  # fmt: skip
# What comes back whole after a crash without more than a flush. ext4 only with its journal, which can be left out.
_JOURNALED: Final = frozenset({"apfs", "bcachefs", "btrfs", "f2fs", "jfs", "ntfs3", "reiserfs", "xfs", "zfs"})
# In mountinfo: a space, a tab, a line end, a backslash.
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount. `kind` is what the file system is called, `source` what is mounted, `options` as Linux lists them."""

    device: str
    point: str
    kind: str
    source: str = ""
    options: tuple[str, ...] = ()

    @property
    def is_network(self) -> bool:
        """Whether other machines may change the files as well."""
        family, _, program = self.kind.partition(".")
        name = (program if family in ("fuse", "fuseblk") and program else self.kind).lower()
        return self.kind in _NETWORK or name in _NETWORK_PROGRAMS or name in _NETWORK

    @property
    def is_in_memory(self) -> bool:
        """Whether a power cut takes all."""
        return self.kind in IN_MEMORY

    @property
    def is_read_only(self) -> bool:
        """Whether nobody may write."""
        return "ro" in self.options


class Trait(NamedTuple):
    """Something that a file system does, or not (`holds`; None where it was not tried). `told` says it to people."""

    name: str
    holds: bool | None
    told: str


class FileSystem(NamedTuple):
    """The file system that a store is on: its `kind` ("unknown" where the system does not tell), and what holds there.

    `journaled` is None where that is not known. Without `traits` nothing was tried out, for nothing may be written.
    """

    kind: str
    point: str
    source: str
    network: bool
    in_memory: bool
    read_only: bool
    journaled: bool | None
    traits: list[Trait]


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory is on; None where the system does not tell."""
    try:
        told = _MOUNTS.read_text("utf-8", "surrogateescape")
        device = os.stat(directory).st_dev  # noqa: PTH116 - a str
    except OSError:
        return None
    return choose(told, os.path.realpath(directory), f"{os.major(device)}:{os.minor(device)}")


def choose(told: str, place: str, device: str) -> Mount | None:
    """The mount, of those in a mountinfo's text, that a place on a device is on. `place` has no symlinks in it."""
    # By the device, which needs no look at most lines; some file systems (btrfs) give directories numbers of their own.
    lines = told.splitlines()
    for found in ([line for line in lines if f" {device} " in line], lines):
        mount = _nearest(map(_parsed, found), place)
        if mount is not None:
            return mount
    return None


def file_system(directory: str) -> str:
    """The type of the file system that a directory is on, as Linux tells it; "unknown" elsewhere."""
    mount = mount_of(directory)
    return "unknown" if mount is None else mount.kind


def is_journaled(directory: str, kind: str) -> bool:
    """Whether a flush waits for a journal. Only ext4 goes without, and only where it was made so."""
    if kind in IN_MEMORY:
        return False
    device = os.stat(directory).st_dev  # noqa: PTH116 - a str
    disk = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    return kind != "ext4" or any(Path("/proc/fs/jbd2").glob(f"{Path(disk).name}-*"))


def journal_of(directory: str, kind: str) -> bool | None:
    """Whether the file system keeps a journal, or what does the same; None where its kind does not tell."""
    if kind in ("ext3", "ext4"):
        return is_journaled(directory, kind)
    return True if kind in _JOURNALED else False if kind in IN_MEMORY or kind in ("ext2", "vfat", "exfat") else None


def _nearest(mounts: Iterable[Mount | None], place: str) -> Mount | None:
    """The mount with the longest point above a place; of several at one point the last, which hides the others."""
    best: Mount | None = None
    for mount in mounts:
        if mount is None or not _is_above(mount.point, place):
            continue
        if best is None or len(mount.point) >= len(best.point):
            best = mount
    return best


def _is_above(point: str, place: str) -> bool:
    return place == point or place.startswith(point.rstrip("/") + "/")


def _parsed(line: str) -> Mount | None:
    """A line of mountinfo, proc(5): `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=…`."""
    place, _, rest = line.partition(" - ")
    fields, kinds = place.split(" "), rest.split(" ")
    if len(fields) < 6 or not kinds[0]:
        return None
    kind, source, more = (*kinds, "", "")[:3]
    # A mount may be read-only on a file system that is not, and the other way round.
    options = (*fields[5].split(","), *(option for option in more.split(",") if option))
    return Mount(fields[2], _unescaped(fields[4]), kind, _unescaped(source), options)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda code: chr(int(code[1], 8)), text)
