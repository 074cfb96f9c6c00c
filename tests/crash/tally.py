"""How many kills and states the tests tried: counted in each, added up at the end of the run.

The counts travel with the reports of the tests, which come together whatever processes ran these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Final

import pytest

__all__ = ["Tally", "sum_of"]

_PROPERTY: Final = "tried"


@dataclass
class Tally:
    """How much was tried."""

    tried: int = 0
    distinct: int = 0
    planted: int = 0
    kills: int = 0

    def __str__(self) -> str:
        states = f"{self.tried:,} crash states tried ({self.distinct:,} different ones opened)"
        return f"{states}, {self.kills:,} programs killed, {self.planted} planted mistakes"

    def add_to(self, item: pytest.Item) -> None:
        """Let the report of the test's end tell it."""
        item.user_properties.append((_PROPERTY, asdict(self)))


def sum_of(reports: Iterable[object]) -> Tally:
    """What all tests tried."""
    ends = [one for one in reports if isinstance(one, pytest.TestReport) and one.when == "teardown"]
    told = [Tally(**value) for end in ends for name, value in end.user_properties if name == _PROPERTY]  # type: ignore[arg-type]
    return Tally(*map(sum, zip(*map(astuple, told), strict=True)))
