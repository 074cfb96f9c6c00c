"""Ids that sort by the time of their making: UUID version 7 (RFC 9562, section 5.7).

Within a process every id is greater than the one before, also in one millisecond and when the clock is set back.
Safe to call from any thread; after a fork, parent and child never give out the same id.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from fsstate.forks import renew_in_children

__all__ = ["new_id"]

_RANDOM_BITS: Final = 74
_RANDOM_END: Final = 1 << _RANDOM_BITS


class _Sequence:
    """The last id given out, as its two parts: Unix time in ms, and 74 random bits that count up within one ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._random = 0

    def after_fork(self) -> None:
        # The lock may have been copied while another thread held it. With the random part used up, the next id takes
        # a new millisecond and new random bits: otherwise parent and child would count up from the same number.
        self._lock = threading.Lock()
        self._random = _RANDOM_END

    def next(self) -> tuple[int, int]:
        """RFC 9562, section 6.2, method 2: random bits that grow by a random step within one millisecond."""
        ms = time.time_ns() // 1_000_000
        entropy = int.from_bytes(os.urandom(10), "big")
        with self._lock:
            if ms <= self._ms:
                ms = self._ms
                random = self._random + 1 + (entropy & 0xFFFF_FFFF)
                if random < _RANDOM_END:
                    self._random = random
                    return ms, random
                ms += 1
            # The top bit starts as zero, so that there is room to count up.
            self._ms, self._random = ms, entropy & (_RANDOM_END // 2 - 1)
            return ms, self._random


_sequence: Final = _Sequence()
renew_in_children(_sequence)


def new_id() -> str:
    """A new UUIDv7 in its usual text form: 36 characters, lower case.

    Ids made by one process sort as they were made; ids of different processes sort by their clocks' milliseconds.
    """
    ms, random = _sequence.next()
    high, low = random >> 62, random & ((1 << 62) - 1)
    digits = f"{ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
