"""Counts the kills and states that were tried, and says so at the end of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest


@dataclass
class Tally:
    """How much was tried in one run."""

    tried: int = 0
    distinct: int = 0
    planted: int = 0
    kills: int = 0


TALLY: Final = pytest.StashKey[Tally]()


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    """What all tests here add to."""
    return request.config.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the count."""
    tally = config.stash.get(TALLY, None)
    if tally is not None:
        states = f"{tally.tried:,} crash states tried ({tally.distinct:,} different ones opened)"
        terminalreporter.write_line(f"{states}, {tally.kills:,} programs killed, {tally.planted} planted mistakes")
