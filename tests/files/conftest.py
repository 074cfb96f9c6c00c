"""A store directory of its own for each test, and a backend on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate.backends.files import FileBackend


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def backend(root: Path) -> Iterator[FileBackend]:
    backend = FileBackend(root)
    yield backend
    backend.close()
