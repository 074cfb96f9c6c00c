"""How much the storms tried."""

from __future__ import annotations

from dataclasses import dataclass

from tests.tally import Tally

__all__ = ["StormTally"]


@dataclass
class StormTally(Tally):
    """What went on at once, and how often somebody was disturbed.

    - `operations`: begun; `unknown`: those whose outcome nobody was told, as they were killed or cancelled.
    - `kills`: processes killed; `stops`: stopped for a while; `forks`: children that went on with the parent's store.
    """

    operations: int = 0
    unknown: int = 0
    kills: int = 0
    stops: int = 0
    forks: int = 0

    def __str__(self) -> str:
        outcomes = f"{self.operations:,} operations at once judged ({self.unknown:,} with an unknown outcome)"
        return f"{outcomes}, {self.kills:,} processes killed, {self.stops:,} stopped, {self.forks:,} forked"
