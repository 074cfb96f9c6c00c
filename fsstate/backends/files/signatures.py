"""Whether a file is still the same, told from its inode, size, mtime and ctime together.

A file touched within the clock's last tick may change again without showing it, so such a signature is not trusted
("racily clean" in git's words): the file is read again.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

__all__ = ["Signature"]

# Nanoseconds; file systems stamp with the kernel's tick, 10 ms at the slowest, or else in whole or even seconds.
_TICK: Final = 20_000_000
_COARSE_TICK: Final = 2_000_000_000
_SECOND: Final = 1_000_000_000


class Signature(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def fits(self, status: os.stat_result) -> bool:
        """Whether the file is as it was."""
        return (
            status.st_mtime_ns == self.mtime_ns
            and status.st_size == self.size
            and status.st_ino == self.inode
            and status.st_ctime_ns == self.ctime_ns
        )

    def is_settled(self, now_ns: int) -> bool:
        """Whether any later change would show: it was taken at `now_ns`, well after the file's last change."""
        # A time of change in the future was set by somebody, and tells nothing; that of the inode cannot be set.
        newest = self.ctime_ns if self.mtime_ns > now_ns else max(self.mtime_ns, self.ctime_ns)
        return newest + (_TICK if newest % _SECOND else _COARSE_TICK) < now_ns
