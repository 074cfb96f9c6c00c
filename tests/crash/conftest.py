"""Counts the kills and states that are tried; the end of the run tells the sum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.tally import CrashTally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[CrashTally]:
    """What a test here adds to."""
    tally = CrashTally()
    yield tally
    tally.add_to(request.node)
