"""Every test that takes `backend` runs over memory and over files; every one that takes `view` or `store`, also through
the async API, on asyncio and on trio.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from anyio.from_thread import start_blocking_portal

from fsstate.aio import AsyncCollection, AsyncJournal, AsyncMarkdown, AsyncStore
from fsstate.aio.offload import Offload
from fsstate.backends.base import Backend, Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.memory import MemoryBackend
from fsstate.journal import Journal
from fsstate.markdown import Markdown
from fsstate.options import Durability, Indexing, StoreOptions
from fsstate.store import Store
from tests.contract.blocking import blocking

# Long enough for a loaded machine; only a failing test waits so long.
PATIENCE = 10.0

MakeBackend: TypeAlias = Callable[[StoreOptions], Backend]
Elsewhere: TypeAlias = Callable[[Ref, bytes | None], None]
View: TypeAlias = Callable[[Any], Any]


@pytest.fixture(params=["memory", "files"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_backend(place: str, tmp_path: Path) -> Iterator[MakeBackend]:
    """Make a backend with other options than the usual ones; it is closed at the end."""
    made: list[Backend] = []

    def make(options: StoreOptions) -> Backend:
        if place == "memory":
            made.append(MemoryBackend(options))
        else:
            made.append(FileBackend(tmp_path / f"state{len(made) or ''}", options))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_backend: MakeBackend) -> Backend:
    return make_backend(StoreOptions(lock_timeout=PATIENCE))


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def view(side: str, place: str) -> Iterator[View]:
    """See an object of the sync API as it is, or through its async mirror as if that were sync."""
    if side == "sync":
        yield lambda thing: thing
        return
    with suppress(_EndedError), start_blocking_portal("trio" if place == "memory" else "asyncio") as portal:
        yield lambda thing: blocking(mirrored(thing), portal)
        # A block that a test leaves open, as a writer does who dies, is cancelled then rather than waited for.
        raise _EndedError


class _EndedError(Exception):
    pass


def mirrored(thing: Any) -> Any:
    if isinstance(thing, Store):
        return AsyncStore.of(thing)
    backend, offload = getattr(thing, "log", thing)._backend, Offload()
    if isinstance(thing, Journal):
        return AsyncJournal(thing, backend, offload)
    mirror: Any = AsyncMarkdown if isinstance(thing, Markdown) else AsyncCollection
    return mirror(thing, backend, offload, PATIENCE)


@pytest.fixture
def elsewhere(backend: Backend) -> Elsewhere:
    """Change or delete a document as an editor does: without its lock, whoever holds it."""
    return editor_of(backend)


@pytest.fixture
def elsewhere_in(store: Store) -> Elsewhere:
    """`elsewhere` in the store."""
    return editor_of(store.backend)


def editor_of(backend: Backend) -> Elsewhere:
    def change(ref: Ref, data: bytes | None) -> None:
        if isinstance(backend, MemoryBackend):
            backend.write_unlocked(ref, data)
            return
        path = Path(backend.location(ref))
        if data is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.swp")
        staged.write_bytes(data)
        staged.replace(path)

    return change


@pytest.fixture
def on_disk(backend: Backend) -> Callable[[Ref], Path]:
    """Where a record's file is; skips the test where there are no files."""
    if isinstance(backend, MemoryBackend):
        pytest.skip("memory has no files")
    return lambda ref: Path(backend.location(ref))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


class Background:
    """Runs a function in a thread; `result` waits for it, and raises what it raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._outcome: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._function()
        except BaseException as error:  # noqa: BLE001 - raised in `result`
            self._error = error

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(PATIENCE)
        assert not self.is_running, "it never ended"
        if self._error is not None:
            raise self._error
        return self._outcome


class FakeClock:
    """A clock that moves a second at each look, and by `advance`."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def indexing() -> Indexing:
    """How lists are answered; a module that takes `indexed_or_not` in its place runs both ways."""
    return "auto"


@pytest.fixture(params=["auto", "always"])
def indexed_or_not(request: pytest.FixtureRequest, place: str) -> Indexing:
    """By looking at each record, as small stores do, and by an index."""
    if place == "memory" and request.param == "always":
        pytest.skip("memory has no index")
    return "always" if request.param == "always" else "auto"


@pytest.fixture
def store(make_backend: MakeBackend, clock: FakeClock, view: View, side: str, indexing: Indexing) -> Iterator[Store]:
    # The async API flushes in the code that the sync one has been seen to flush in.
    durability: Durability = "full" if side == "sync" else "process"
    options = StoreOptions(lock_timeout=PATIENCE, clock=clock, indexing=indexing, durability=durability)
    with Store.over(make_backend(options), options) as store:
        yield view(store)


@pytest.fixture
def neighbour(store: Store) -> Iterator[Store]:
    """Another store that is open on the same files; closing it lets go of what it works on, and of nothing else."""
    neighbour = Store.over(store.backend, store.options)
    yield neighbour
    neighbour._shared.ownership.close()
