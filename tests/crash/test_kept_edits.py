"""What people save in the last moment before a document is replaced outlives a kill at any step, and a power cut.

They flush what they save. After a power cut that holds where renames are whole, as on every file system with a journal.
Where nobody saved anything, nothing is put aside either.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.backends.files import FileBackend, exchanging, leftovers, renames
from fsstate.errors import OutcomeUnknownError
from fsstate.options import StoreOptions
from tests.crash.model import Budget, Disk, Ordered, build, tree_of
from tests.crash.recorder import Call, Recorder, read_trace
from tests.crash.recordings import MEMORY, SEED

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the recorder forks")

DOC: Final = Ref("agents", "a", JSON)
OTHER: Final = Ref("agents", "b", JSON)
DONE: Final = 7
SAVES: Final[list[list[bytes]]] = [[], [b"one."], [b"one.", b"two."]]
BUDGET: Final = Budget(names=8, data=4, total=12)


def save(base: Path, text: bytes) -> None:
    """Save as an editor does that flushes."""
    agents = base / "state/agents"
    fd = os.open(agents / "a.json~", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, text)
    os.fsync(fd)
    os.close(fd)
    os.rename(agents / "a.json~", agents / "a.json")
    folder = os.open(agents, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def careless() -> None:
    """What came out is not looked at."""
    exchanging.Content.is_still = lambda *_: True  # type: ignore[method-assign]


def meet(base: Path, trace: Path, saves: Sequence[bytes], kill: int) -> None:
    """Change a document that somebody saves just before an exchange, and before the next."""
    recorder = Recorder(trace, base)
    recorder.install()
    backend = FileBackend(base / "state")
    backend.change(DOC, lambda _: b"read.")
    recorder.mark("settle")
    recorder.mark("begin")
    real, left = renames.renameat2, list(saves)

    def rename(source: int, name: str, target: int, new: str, flags: int) -> None:
        if flags & renames.EXCHANGE and left:
            text = left.pop(0)
            save(base, text)
            recorder.mark("saved", text)
        real(source, name, target, new, flags)

    renames.renameat2 = rename
    if kill:
        recorder.kill_after(kill)
    try:
        backend.change(DOC, lambda blob: (b"" if blob is None else blob.data) + b"ours.")
    except OutcomeUnknownError:
        assert len(saves) > 1
    backend.close()
    recorder.mark("end", tree_of(base))


def carry_out(
    base: Path, saves: Sequence[bytes], kill: int = 0, plant: Callable[[], None] | None = None
) -> tuple[bool, list[Call]]:
    """Whether the program came to its end, and what it did."""
    base.mkdir()
    trace = base.with_suffix(".trace")
    pid = os.fork()
    if pid == 0:
        try:
            if plant is not None:
                plant()
            meet(base, trace, saves, kill)
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(DONE)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (DONE, -signal.SIGKILL)
    return status == DONE, list(read_trace(trace))


def saved(calls: Sequence[Call]) -> list[bytes]:
    return [call.mark for call in calls if call.kind == "saved"]


def lost(base: Path, edits: Sequence[bytes]) -> list[bytes]:
    """Which of the edits are nowhere any more, once somebody else has written. Where there were none, none is kept."""
    backend = FileBackend(base / "state", StoreOptions(durability="process"))
    backend.change(OTHER, lambda _: b"other")
    blob = backend.read(DOC)
    backend.close()
    assert blob is not None
    left = tree_of(base / "state")
    assert [path for path in left if path.startswith(".fsstate/staging/")] == []
    texts = [data for path, data in left.items() if data is not None and path.startswith(".fsstate/quarantine/")]
    assert edits or not texts
    return [edit for edit in edits if not any(edit in text for text in (blob.data, *texts))]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as path:
        yield Path(path)


@pytest.mark.parametrize("saves", SAVES, ids=len)
def test_no_edit_is_lost_whenever_the_program_is_killed(place: Path, saves: Sequence[bytes]) -> None:
    kill, is_done, calls = 0, False, list[Call]()
    while not is_done:
        kill += 1
        base = place / str(kill)
        is_done, calls = carry_out(base, saves, kill)
        assert lost(base, saved(calls)) == [], f"killed after change {kill}"
    assert saved(calls) == saves
    assert kill > 6


@pytest.mark.parametrize("saves", SAVES, ids=len)
def test_no_edit_is_lost_when_the_power_is_cut(place: Path, saves: Sequence[bytes]) -> None:
    _, calls = carry_out(place / "whole", saves)
    disk = Disk(place / "whole", calls)
    disk.require_same_as(calls[-1].mark)
    model = Ordered(disk, lambda _: False, BUDGET, random.Random(SEED))
    numbers = itertools.count()
    for point in model.points():
        for tree in model.states(point):
            base = place / f"cut{next(numbers)}"
            build(tree, base)
            assert lost(base, saved(calls[: point + 1])) == [], f"cut after call {point}: {sorted(tree)}"
    assert next(numbers) > 20


def test_planted_mistakes_are_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, calls = carry_out(place / "careless", SAVES[1], plant=careless)
    assert lost(place / "careless", saved(calls)) == SAVES[1]
    exchange = next(n for n in itertools.count(1) if is_exchanged(place / str(n), n))
    monkeypatch.setattr(leftovers, "rescue", lambda *_: None)
    assert lost(place / str(exchange), SAVES[1]) == SAVES[1]


def is_exchanged(base: Path, kill: int) -> bool:
    """Whether the kill comes just after an exchange."""
    return carry_out(base, SAVES[1], kill)[1][-1].kind == "exchange"
