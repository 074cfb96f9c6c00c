"""Async tests run on asyncio and on trio."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fsstate.aio import AsyncStore
from fsstate.options import StoreOptions


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    async with AsyncStore(tmp_path / "state", StoreOptions(lock_timeout=5)) as store:
        yield store
