"""What documents held when they were handed out with their revision, bounded in number and bytes: the oldest go first.

Safe to share between threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from fsstate.backends.base import Blob
from fsstate.forks import renew_in_children

__all__ = ["RecentContents"]

_MOST: Final = 1024
_MOST_BYTES: Final = 8 * 1024 * 1024


class RecentContents:
    """The contents that were handed out last; see `Contents`."""

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._mutex = threading.Lock()
        # The oldest first. A plain dict finds its first key the more slowly, the more were taken from its front.
        self._known: OrderedDict[str, Blob] = OrderedDict()
        self._bytes = 0
        renew_in_children(self)

    def remember(self, blob: Blob) -> str:
        """Remember a content, and return its revision."""
        revision, size = blob.revision, len(blob.data)
        if size > self._most_bytes:
            return revision
        with self._mutex:
            if self._known.pop(revision, None) is None:
                self._bytes += size
            self._known[revision] = blob
            while len(self._known) > self._most or self._bytes > self._most_bytes:
                self._bytes -= len(self._known.popitem(last=False)[1].data)
        return revision

    def find(self, revision: str) -> Blob | None:
        """The content with this revision, or None when it is no longer known."""
        return self._known.get(revision)

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._mutex = threading.Lock()
        self._bytes = sum(len(blob.data) for blob in self._known.values())
