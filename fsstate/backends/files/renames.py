"""Renames that destroy nothing: two names change places, or a name is given only where it is free.

`os.rename` replaces whatever has the new name by then. Linux has the other two in one step each, seen by everybody as
one: RENAME_EXCHANGE and RENAME_NOREPLACE (renameat2(2), since Linux 3.15; which of them a file system knows is up to
it). Python does not offer them, so the C library is asked at the first use: what only reads loads nothing for it.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ctypes

__all__ = ["EXCHANGE", "NOREPLACE", "is_lacking", "renameat2"]

# From <linux/fs.h>, and from the kernel's tables of system calls for 64-bit programs.
NOREPLACE: Final = 1
EXCHANGE: Final = 2
_NUMBERS: Final = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
# The kernel, the file system, or a filter of system calls (some say "not permitted") does without.
_LACKING: Final = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EACCES)


def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
    """Rename `name` in the open directory `source` to `new` in `target`, as `flags` say. Raises OSError.

    FileExistsError where NOREPLACE finds the name taken, FileNotFoundError where either name of an exchange is missing.
    """
    call, last_error = _loaded()
    if call(source, os.fsencode(name), target, os.fsencode(new), flags) != 0:
        code = last_error()
        raise OSError(code, os.strerror(code), name, None, new)


def is_lacking(error: OSError) -> bool:
    """Whether an error of `renameat2` may mean that there is no such rename here."""
    return error.errno in _LACKING


@functools.cache
def _loaded() -> tuple[Callable[..., int], Callable[[], int]]:
    """The call, and what tells why it failed."""
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        return _fail, _no_such_call
    call = _find(ctypes.CDLL(None, use_errno=True)) if sys.platform == "linux" else None
    return (_fail, _no_such_call) if call is None else (call, ctypes.get_errno)


def _find(library: ctypes.CDLL) -> Callable[..., int] | None:
    import ctypes

    arguments = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    try:
        function = library.renameat2
    except AttributeError:
        # The C library is older than glibc 2.28, or no glibc; the kernel may have it nevertheless.
        return _by_number(library, arguments)
    function.argtypes = arguments
    found: Callable[..., int] = function
    return found


def _by_number(library: ctypes.CDLL, arguments: tuple[Any, ...]) -> Callable[..., int] | None:
    import ctypes

    number = _NUMBERS.get(os.uname().machine) if sys.maxsize > 1 << 32 else None
    if number is None:
        return None
    library.syscall.argtypes = (ctypes.c_long, *arguments)
    library.syscall.restype = ctypes.c_long
    return functools.partial(library.syscall, number)


def _fail(*_: object) -> int:
    return -1


def _no_such_call() -> int:
    return errno.ENOSYS
