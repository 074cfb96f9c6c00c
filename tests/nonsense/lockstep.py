"""Two stores in step: one of files, and the memory store as its model. Whatever is asked of both has one answer.

Time and ids are the same in both: each step has a time of its own, and ids are numbered from the step's beginning.
Answers are compared as texts, so that the order of keys, and True and 1, differ.
"""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias, TypeVar
from unittest import mock

import hypothesis
from hypothesis import settings
from hypothesis.database import ExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from fsstate import ids
from fsstate.backends.base import LOG, Ref
from fsstate.backends.memory import MemoryBackend
from fsstate.errors import AmbiguousIdError, ConflictError, FsStateError
from fsstate.options import Indexing, StoreOptions
from fsstate.store import Store
from tests.nonsense.counts import COUNT

__all__ = ["BEGINNING", "PATIENT", "Machine", "Outcome", "Pair", "run", "run_for"]

T = TypeVar("T")
Work: TypeAlias = Callable[[Store], object]

# Histories and commands take their time, and many are refused.
PATIENT: Final = [
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.filter_too_much,
    hypothesis.HealthCheck.data_too_large,
    hypothesis.HealthCheck.large_base_example,
]
BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Names of runs in the trash, and of holders, are random.
_RUN: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d{6}Z)-[0-9a-f]{4}")
_TEMPORARY: Final = re.compile(r"0x[0-9a-f]{8,}")
# Where a file is looked at, what it takes on the disk counts; what a log takes in memory is a guess.
_BYTES: Final = re.compile(r"\b(bytes|left_bytes)=\d+")
# A change that is refused may leave a log of files empty, where memory has none.
_FOLDER: Final = re.compile(r"\bhas_belongings=(True|False)")


class Outcome:
    """What came of one piece of work: a value, or an error. Equal to another that tells the same."""

    def __init__(self, told: str, error: BaseException | None) -> None:
        self.told = told
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and self.told == other.told

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self.told


def tell(value: object) -> str:
    """A value as a text in which all that can be seen of it stands."""
    if isinstance(value, list):
        return f"[{', '.join(map(tell, value))}]"
    if type(value).__name__ == "Document":
        return f"Document({value.render()!r})"  # type: ignore[attr-defined]
    return repr(value)


class Pair:
    """A store of files below a temporary directory, and the memory store that is its model."""

    def __init__(self, indexing: Indexing = "auto") -> None:
        self.place = Path(tempfile.mkdtemp(prefix="fsstate-nonsense-"))
        self.root = self.place / "state"
        self.now = BEGINNING
        self.options = StoreOptions(
            durability="process", clock=lambda: self.now, indexing=indexing, trash_ttl=None, lock_timeout=5.0
        )
        self.memory = MemoryBackend(self.options)
        self.model = Store.over(self.memory, self.options, path=str(self.root))
        self.files = Store(self.root, self.options)

    def close(self) -> None:
        """Close both and remove the files."""
        self.files.close()
        self.model.close()
        shutil.rmtree(self.place)

    def reopen(self) -> None:
        """Open both anew: what only the open stores knew is forgotten."""
        self.files.close()
        self.files = Store(self.root, self.options)
        # Closing it would close the memory.
        self.model._shared.ownership.close()
        self.model = Store.over(self.memory, self.options, path=str(self.root))

    def reindex(self) -> None:
        """Remove what can be computed again, as anybody may at any time."""
        self.files.close()
        shutil.rmtree(self.root / ".fsstate" / "cache", ignore_errors=True)
        self.reopen()

    def both(self, work: Work) -> Outcome:
        """Do the work in both; all that comes of it must be the same. Returns what came of it."""
        COUNT.steps += 1
        self.now += timedelta(seconds=1)
        by_model, by_files = self._outcome(work, self.model), self._outcome(work, self.files)
        assert by_files == by_model, f"files: {by_files}\nmodel: {by_model}"
        return by_files

    def value(self, work: Callable[[Store], T]) -> T:
        """What the work gives in the files; the same in the model."""
        values: list[T] = []

        def kept(store: Store) -> object:
            values.append(work(store))
            return values[-1]

        outcome = self.both(kept)
        assert outcome.error is None, outcome
        return values[-1]

    def write(self, ref: Ref, data: bytes | None) -> None:
        """Write, or remove, a document as a person with an editor does, in both."""
        self.memory.write_unlocked(ref, data)
        path = self.path_of(ref)
        if data is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.swp")
        staged.write_bytes(data)
        staged.replace(path)

    def read(self, ref: Ref) -> bytes | None:
        """What the file of a document holds."""
        path = self.path_of(ref)
        return path.read_bytes() if path.is_file() else None

    def path_of(self, ref: Ref) -> Path:
        return self.root / str(ref)

    def snapshot_of(self, ref: Ref) -> Callable[[], None] | None:
        """What puts a log back as it is now, in both, as `git checkout` does. None when there is no log."""
        assert ref.suffix == LOG
        path, log = self.path_of(ref), self.memory._logs.get(ref)
        if log is None or not path.is_file():
            return None
        data, lines, last = path.read_bytes(), list(log.lines), log.last_seq

        def put_back() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            staged = path.with_name(f".{path.name}.checkout")
            staged.write_bytes(data)
            staged.replace(path)
            self.memory._logs.put(ref, self.memory._log_of(list(lines), last))

        return put_back

    def _outcome(self, work: Work, store: Store) -> Outcome:
        with _numbered():
            try:
                value = work(store)
            except (FsStateError, ValueError, TypeError, KeyError) as error:
                return Outcome(self._normal(_told_of(error)), error)
            return Outcome(self._normal(tell(value)), None)

    def _normal(self, told: str) -> str:
        told = told.replace(f"{self.root}/", "").replace("memory:", "")
        told = _FOLDER.sub("has_belongings=…", _BYTES.sub(r"\1=…", told))
        return _TEMPORARY.sub("0x…", _RUN.sub(r"\1-…", told))


def _told_of(error: BaseException) -> str:
    told = f"{type(error).__name__}: {error}"
    if isinstance(error, ConflictError):
        told += f" {tell(error.base)} {tell(error.mine)} {tell(error.theirs)} {error.revision} {error.fields}"
    if isinstance(error, AmbiguousIdError):
        told += f" {error.matches}"
    return told + "".join(getattr(error, "__notes__", ()))


@contextmanager
def _numbered() -> Generator[None]:
    """Number the ids that are made in this block, so that both stores make the same."""
    numbers = itertools.count()

    def new_id() -> str:
        return f"0198c300-0000-7000-8000-{COUNT.steps:08x}{next(numbers):04x}"

    with mock.patch.object(ids, "new_id", new_id):
        yield


class Machine(RuleBasedStateMachine):
    """A state machine over a pair of stores."""

    indexing: Indexing = "auto"

    def __init__(self) -> None:
        super().__init__()
        COUNT.runs += 1
        self.pair = Pair(self.indexing)
        self.both = self.pair.both
        self.value = self.pair.value

    def teardown(self) -> None:
        self.pair.close()


def run(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Run some histories of a machine, the same each time."""
    chosen = hypothesis.settings(_settings(examples, steps, None), derandomize=True)
    run_state_machine_as_test(machine, settings=chosen)


def run_for(seconds: float, machine: type[RuleBasedStateMachine], *, steps: int = 60) -> None:
    """Run histories of a machine for so long, each time others."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run_state_machine_as_test(machine, settings=_settings(20, steps, None))


def _settings(examples: int, steps: int, database: ExampleDatabase | None) -> settings:
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=database,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=PATIENT,
    )
