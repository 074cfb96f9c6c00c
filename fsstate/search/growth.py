"""How far a log was read, and whether it only grew since: then only what is new is read.

It only grew if it is the same file, longer by just the lines behind those that are known, and the bytes before them are
as they were. That is told by a checksum over the last 8 MB of these. What cannot be told: that an editor changed a
longer log further up, to exactly as many bytes in the same file, before something was appended to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from fsstate.backends.base import Backend, BadLine, LogLine, Ref

__all__ = ["Growth", "Reached"]

# So much does a backend's checksum cover.
_COVERED: Final = 8 * 1024 * 1024


class Reached(NamedTuple):
    """How far a log was read: up to entry `seq`, when it looked so and had this checksum."""

    look: tuple[int, ...]
    checksum: int
    seq: int

    def packed(self) -> bytes:
        """As bytes, to be kept."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def of(cls, packed: bytes) -> Reached | None:
        """What `packed` gave, or None."""
        return msgspec.msgpack.decode(packed, type=cls) if packed else None


class Growth:
    """One reading of a log that looks so now: of all its lines, or of what is new. Notes how far it came."""

    def __init__(self, backend: Backend, ref: Ref, look: tuple[int, ...]) -> None:
        self._backend = backend
        self._ref = ref
        # Without what tells a look apart that is too young.
        self._look = look[:4]
        self._seq = 0
        # Before anything is read or compared: a change in between must show the next time.
        self._checksum = backend.checksum(ref, look[1]) if len(look) > 1 else 0

    def reached(self) -> Reached | None:
        """How far it came; None if there is no such log."""
        return Reached(self._look, self._checksum, self._seq) if len(self._look) > 1 else None

    def counted(self, lines: Iterator[LogLine | BadLine]) -> Iterator[LogLine | BadLine]:
        """The lines as they are, taken notice of."""
        for line in lines:
            if isinstance(line, LogLine):
                self._seq = line.seq
            yield line

    def new_lines(self, before: Reached) -> list[LogLine] | None:
        """The lines behind those that are known; None where more than an append may have happened."""
        if len(self._look) < 2 or self._look[0] != before.look[0] or not self._may_have_grown(before):
            return None
        if self._backend.checksum(self._ref, before.look[1]) != before.checksum:
            return None
        self._seq = before.seq
        new = self._exactly(self._look[1] - before.look[1])
        # It may have been replaced before it was opened.
        now = self._backend.log_stamp(self._ref)
        return new if now is not None and now[0] == self._look[0] else None

    def _may_have_grown(self, before: Reached) -> bool:
        size = before.look[1]
        # Written to, but not longer: where the checksum covers all of it, it tells whether anything is different.
        return self._look[1] > size or self._look == before.look or (self._look[1] == size and size <= _COVERED)

    def _exactly(self, size: int) -> list[LogLine] | None:
        """The next lines, if they take `size` bytes with their newlines."""
        new: list[LogLine] = []
        lines = self._backend.entries(self._ref, after=self._seq) if size else iter(())
        while size > 0:
            line = next(lines, None)
            if not isinstance(line, LogLine):
                return None
            self._seq = line.seq
            new.append(line)
            size -= len(line.data) + 1
        return None if size else new
