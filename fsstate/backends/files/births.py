"""When a file was made, by the file system's own clock.

Linux tells it through statx(2) only, which Python's `os` does not have.
"""

from __future__ import annotations

import os
import struct
from typing import Final

__all__ = ["birth_of"]

_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_SIZE_OF_STATX: Final = 256
# `struct statx` begins with its mask; the birth stands at byte 80, as seconds and nanoseconds.
_MASK: Final = struct.Struct("=I")
_BIRTH: Final = struct.Struct("=qI")
_AT_BIRTH: Final = 80


def birth_of(fd: int) -> int:
    """The time at which an open file was made, in nanoseconds.

    Where the system or the file system does not tell, the earlier of the times of its last changes, which is not
    before the birth.
    """
    told = _statx_birth(fd)
    if told is not None:
        return told
    status = os.fstat(fd)
    birth: float | None = getattr(status, "st_birthtime", None)
    return min(status.st_mtime_ns, status.st_ctime_ns) if birth is None else int(birth * 1e9)


def _statx_birth(fd: int) -> int | None:
    # What only reads, or edits nothing by hand, loads nothing for it.
    import ctypes

    try:
        statx = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    told = ctypes.create_string_buffer(_SIZE_OF_STATX)
    if statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, told) or not _MASK.unpack_from(told)[0] & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BIRTH.unpack_from(told, _AT_BIRTH)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
