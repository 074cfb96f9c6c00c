"""How far a log was read, and whether it only grew since: then only what is new is read.

It only grew if it is the same file, longer by just the lines behind those that are known, and these are as they were.

- Of a log up to 256 KB all known lines are compared: reading them costs less than anything else that is done then.
- Of a longer one, the last 4 KB of them. What cannot be told from that is an edit farther up that keeps the file and
  its length, with an append after it, before anybody looks. So it is not told for longer than ten seconds, or a hundred
  times what reading it took: when it grows after that, all is read anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from fsstate.backends.base import Backend, BadLine, LogLine, Ref

__all__ = ["Growth", "Reached"]

_SMALL: Final = 256 * 1024
_WINDOW: Final = 4 * 1024
_PATIENCE: Final = 10.0
_SHARE: Final = 0.01


class Reached(NamedTuple):
    """How far a log was read: so many lines, all of them told by `chain`, the last of them by `end`.

    `look` is how the log looked before that, `at` and `took` when all of it was read last, in seconds.
    """

    look: tuple[int, ...]
    lines: int
    chain: bytes
    end: tuple[tuple[int, int, bytes], ...]
    at: float
    took: float

    def packed(self) -> bytes:
        """As bytes, to be kept."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def of(cls, packed: bytes) -> Reached | None:
        """What `packed` gave, or None."""
        return msgspec.msgpack.decode(packed, type=cls) if packed else None


class Growth:
    """Reads a log from where it was read to, or from its beginning, and notes how far it came."""

    def __init__(self, backend: Backend, ref: Ref, look: tuple[int, ...]) -> None:
        self._backend = backend
        self._ref = ref
        self._look = look
        self._began = time.time()
        self._lines = 0
        self._chain = b""
        self._end: list[tuple[int, int, bytes]] = []
        self._is_sound = True

    def counted(self, lines: Iterator[LogLine | BadLine]) -> Iterator[LogLine | BadLine]:
        """The lines as they are, taken notice of."""
        for line in lines:
            self._note(line)
            yield line

    def reached(self, before: Reached | None = None) -> Reached | None:
        """How far it came; None where a line is damaged, so that what comes behind it cannot be told."""
        if not self._is_sound or len(self._look) < 2:
            return None
        now = time.time()
        at, took = (now, now - self._began) if before is None else (before.at, before.took)
        return Reached(self._look[:4], self._lines, self._chain, tuple(self._end), at, took)

    def new_lines(self, before: Reached) -> list[LogLine] | None:
        """The lines behind those that are known; None where more than an append may have happened."""
        look, size = self._look, before.look[1]
        if len(look) < 2 or look[0] != before.look[0] or look[1] < size or not before.end:
            return None
        if size <= _SMALL:
            lines = self._behind_all(before)
        elif self._may_be_trusted(before):
            lines = self._behind_end(before)
        else:
            return None
        new = None if lines is None else self._exactly(look[1] - size, lines)
        # It may have been replaced before it was opened.
        now = self._backend.log_stamp(self._ref)
        return new if now is not None and now[0] == look[0] else None

    def _may_be_trusted(self, before: Reached) -> bool:
        """Whether the end of a long log is enough to tell."""
        is_edited = self._look[1] == before.look[1] and self._look[:4] != before.look
        return not is_edited and abs(time.time() - before.at) < max(_PATIENCE, before.took / _SHARE)

    def _behind_all(self, before: Reached) -> Iterator[LogLine | BadLine] | None:
        lines = self._backend.entries(self._ref)
        for line in lines:
            self._note(line)
            if self._lines == before.lines:
                return lines if self._is_sound and self._chain == before.chain else None
        return None

    def _behind_end(self, before: Reached) -> Iterator[LogLine | BadLine] | None:
        lines = self._backend.entries(self._ref, after=before.end[0][0] - 1)
        for known in before.end:
            line = next(lines, None)
            if not isinstance(line, LogLine) or _told(line) != known:
                return None
        self._lines, self._chain, self._end = before.lines, before.chain, list(before.end)
        return lines

    def _exactly(self, size: int, lines: Iterator[LogLine | BadLine]) -> list[LogLine] | None:
        """The next lines that take `size` bytes with their newlines; None if none do."""
        new: list[LogLine] = []
        while size > 0:
            line = next(lines, None)
            if not isinstance(line, LogLine):
                return None
            self._note(line)
            new.append(line)
            size -= len(line.data) + 1
        return None if size else new

    def _note(self, line: LogLine | BadLine) -> None:
        if isinstance(line, BadLine):
            self._is_sound = False
            return
        self._lines += 1
        self._chain = blake2b(self._chain + line.data, digest_size=16).digest()
        self._end.append(_told(line))
        while len(self._end) > 1 and sum(size for _, size, _ in self._end) > _WINDOW:
            del self._end[0]


def _told(line: LogLine) -> tuple[int, int, bytes]:
    """What tells a line from others: its seq, its size, and a hash of it."""
    return line.seq, len(line.data), blake2b(line.data, digest_size=8).digest()
