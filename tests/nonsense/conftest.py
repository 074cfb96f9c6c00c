"""What the tests with random input share: they are counted, and log nothing that anybody reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.nonsense.counts import COUNT


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tell at the end of the run how much was tried."""
    COUNT.clear()
    yield
    COUNT.add_to(request.node)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the warnings about what cannot be read from being kept for the report: there are very many of them."""
    log = logging.getLogger("fsstate")
    before, log.disabled = log.disabled, True
    yield
    log.disabled = before
