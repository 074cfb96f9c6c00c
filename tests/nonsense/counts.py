"""How much was tried: inputs that readers were given, and steps of the state machines; told at the end of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.tally import Tally

__all__ = ["COUNT", "Count"]


@dataclass
class Count(Tally):
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


# What the test that runs now has tried so far.
COUNT: Final = Count()
