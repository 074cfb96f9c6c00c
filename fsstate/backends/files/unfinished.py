"""Documents that somebody writes in place and has only begun to: editors empty a file first, and fill it then.

A reader who came in between would take the document for damaged. So one that can only be the beginning of a document,
and was changed this instant, is waited for. One that stays so is damaged.
"""

from __future__ import annotations

import os
import time
from typing import Final

from fsstate.backends.base import JSON
from fsstate.backends.files.signatures import Signature

__all__ = ["await_the_rest", "is_begun"]

# In seconds. So long a program that writes in place may do nothing before it goes on.
_PATIENCE: Final = 0.1
_PATIENCE_IF_EMPTY: Final = 0.5
_MOMENT: Final = 0.001
_ENDS: Final = {b"{": b"}", b"[": b"]", b'"': b'"'}


def is_begun(data: bytes, suffix: str) -> bool:
    """Whether a file holds no more than the beginning of a document, for all that its two ends show.

    An empty note is one; for JSON, nothing is.
    """
    if suffix != JSON:
        return False
    start, end = data[:1], data[-1:]
    if end.isspace():
        end = data.rstrip()[-1:]
    return not end or (start in _ENDS and (end != _ENDS[start] or len(data) == 1))


def await_the_rest(fd: int, status: os.stat_result, path: str) -> bool:
    """Wait for whoever has just written to an open file. Says whether there is something else to read by then.

    `status` is what the file looked like before it was read; `path` leads to it, as long as nobody replaces it.
    """
    signature = Signature.of(status)
    patience = _PATIENCE if status.st_size else _PATIENCE_IF_EMPTY
    # A time in the future was set by somebody, and tells nothing.
    while 0 <= time.time_ns() - status.st_mtime_ns < patience * 1e9:
        time.sleep(_MOMENT)
        try:
            if not (signature.fits(os.fstat(fd)) and signature.fits(os.stat(path, follow_symlinks=False))):
                return True
        except FileNotFoundError:
            return True
    return False
