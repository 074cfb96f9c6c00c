"""A place for the states that are tried, and their count; the end of the run tells the sum."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.recordings import MEMORY
from tests.crash.tally import CrashTally


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)


@pytest.fixture
def place(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where states are built. The library's warnings about them are not shown."""
    monkeypatch.setattr(logging.getLogger("fsstate"), "disabled", True)
    return memory / "states"


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[CrashTally]:
    """What a test here adds to."""
    tally = CrashTally()
    yield tally
    tally.add_to(request.node)
