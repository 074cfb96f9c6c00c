"""Counts the kills and states that are tried; the end of the run tells the sum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.tally import Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """What a test here adds to."""
    tally = Tally()
    yield tally
    tally.add_to(request.node)
