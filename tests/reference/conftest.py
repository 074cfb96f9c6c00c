"""Tests that take `store` run over memory and over files; those that take `any_store`, also with the async API."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from anyio.from_thread import start_blocking_portal

from fsstate import AsyncStore, Store, StoreOptions
from tests.contract.blocking import blocking
from tests.contract.conftest import PATIENCE, FakeClock
from tests.test_readme import ROOT, run

Reopen: TypeAlias = Callable[[], Store]
RunExample: TypeAlias = Callable[[str], list[str]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "files"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    # What survives a power cut is the business of other tests.
    options = StoreOptions(durability="process", lock_timeout=PATIENCE, clock=clock)
    with Store.in_memory(options) if request.param == "memory" else Store(tmp_path / "state", options) as store:
        yield store


@pytest.fixture
def store(opened: Store) -> Store:
    return opened


@pytest.fixture(params=["sync", "async"])
def any_store(request: pytest.FixtureRequest, opened: Store) -> Iterator[Any]:
    """The store itself, or its async side called without await."""
    if request.param == "sync":
        yield opened
        return
    with suppress(_EndedError), start_blocking_portal("trio" if is_in_memory(opened) else "asyncio") as portal:
        yield blocking(AsyncStore.of(opened), portal)
        # A block that a test leaves open, as a program does that dies, is cancelled then rather than waited for.
        raise _EndedError


class _EndedError(Exception):
    pass


@pytest.fixture
def reopen(opened: Store) -> Iterator[Reopen]:
    """Open the same state once more, as the next start of the program does."""
    made: list[Store] = []

    def again() -> Store:
        made.append(_again(opened))
        return made[-1]

    yield again
    for store in made:
        store.close()


@pytest.fixture
def directory(opened: Store) -> Path:
    """Where the files are; skips the test where there are none."""
    if is_in_memory(opened):
        pytest.skip("memory has no files")
    return Path(opened.path)


@pytest.fixture
def run_example(tmp_path: Path) -> RunExample:
    """Run a program of examples/ in an empty directory, with `state` as its own; give the lines that it prints."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return lambda name: run(sys.executable, str(ROOT / "examples" / name), "state", cwd=elsewhere).splitlines()


def is_in_memory(store: Store) -> bool:
    return store.path == ":memory:"


def _again(store: Store) -> Store:
    if is_in_memory(store):
        return Store.over(store.backend, store.options, path=store.path)
    return Store(store.path, store.options)
