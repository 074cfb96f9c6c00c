"""How much was tried: inputs that readers were given, and steps of the state machines; told at the end of the run.

The counts travel with the reports of the tests, which come together whatever processes ran these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Final

import pytest

__all__ = ["COUNT", "Count", "sum_of"]

_PROPERTY: Final = "nonsense"


@dataclass
class Count:
    """How much was tried.

    - `inputs`: given to readers; `refused`: those that were answered with a clear error.
    - `steps`: of state machines, each compared with the model; `runs`: histories that they belong to.
    """

    inputs: int = 0
    refused: int = 0
    steps: int = 0
    runs: int = 0

    def __str__(self) -> str:
        steps = f"{self.steps:,} steps of {self.runs:,} random histories compared with the model"
        return f"{self.inputs:,} inputs tried ({self.refused:,} refused), {steps}"

    def add_to(self, item: pytest.Item) -> None:
        """Let the report of the test's end tell it."""
        item.user_properties.append((_PROPERTY, asdict(self)))

    def clear(self) -> None:
        """Begin anew."""
        self.inputs = self.refused = self.steps = self.runs = 0


# What the test that runs now has tried so far.
COUNT: Final = Count()


def sum_of(reports: Iterable[object]) -> Count:
    """What all tests tried."""
    ends = [one for one in reports if isinstance(one, pytest.TestReport) and one.when == "teardown"]
    told = [Count(**value) for end in ends for name, value in end.user_properties if name == _PROPERTY]  # type: ignore[arg-type]
    return Count(*map(sum, zip(*map(astuple, told), strict=True)))
