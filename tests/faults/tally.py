"""How many faults the tests of faults tried."""

from __future__ import annotations

from dataclasses import dataclass

from tests.tally import Tally

__all__ = ["FaultTally"]


@dataclass
class FaultTally(Tally):
    """How much was tried.

    - `tried`: faults that struck; `calls`: system calls that failed, as some faults go on.
    """

    tried: int = 0
    calls: int = 0
    found: int = 0

    def __str__(self) -> str:
        return f"{self.tried:,} faults tried ({self.calls:,} system calls failed)"
