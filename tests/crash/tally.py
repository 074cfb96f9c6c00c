"""How many kills and states the tests of crashes tried."""

from __future__ import annotations

from dataclasses import dataclass

from tests.tally import Tally

__all__ = ["CrashTally"]


@dataclass
class CrashTally(Tally):
    """How much was tried."""

    tried: int = 0
    distinct: int = 0
    planted: int = 0
    kills: int = 0

    def __str__(self) -> str:
        states = f"{self.tried:,} crash states tried ({self.distinct:,} different ones opened)"
        return f"{states}, {self.kills:,} programs killed, {self.planted} planted mistakes"
