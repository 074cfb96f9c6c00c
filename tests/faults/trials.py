"""Trying one fault: a step is done in a fresh copy of a store while a call fails, and what its caller was told judged.

Told "done" (it returned), a reader finds what the step does; told "failed" (a StorageError that says why), what was
there before; told "unknown", the one or the other. After that the same store works, and leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import random
import shutil
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fsstate
from fsstate import Store, StoreOptions
from tests.faults.deed import Deed
from tests.faults.injecting import ERRORS, SHORT, Fault, injecting
from tests.faults.keeping import TYPES

__all__ = ["Trials"]

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_WRITING: Final = StoreOptions(clock=lambda: _NOW, lock_timeout=0.3, indexing="always")
_READING: Final = _WRITING._replace(durability="process")
# Locked as long as the store is open.
_HELD: Final = (".fsstate/staging", ".fsstate/locks/holders+", ".fsstate/cache")
# Left by the steps themselves: the store that began a run or a job is closed.
_ITS_OWN: Final = ("dead-holder",)


class Trials:
    """Faults for one step, below `place`."""

    def __init__(self, deed: Deed, place: Path) -> None:
        self._deed = deed
        self._template = place / "template"
        self._root = place / "trial" / "state"
        with self._open(_READING, self._template / "state") as store:
            _prepare(store)
            deed.prepare(store)
        self._bystanders = _bystanders(self._template / "state")
        self._learn()

    def _learn(self) -> None:
        """Do it without faults: what there was before and is after it, and how many calls it takes."""
        self._counts: dict[bool, dict[str, int]] = {}
        for is_first in (False, True):
            with self._copy():
                self._before = self._see()
                told = self._do(None, is_first)
                self._counts[is_first], self._answer = told.counts, told.answer
                self._after = self._see()

    def faults(self) -> Iterator[Fault]:
        """All there are."""
        for is_first, counts in self._counts.items():
            for kind, count in counts.items():
                errors = (*ERRORS, SHORT) if kind in ("read", "write") else ERRORS
                for number in range(1, count + 1):
                    for error in errors:
                        yield Fault(kind, number, error, is_first=is_first)
                        # Python repeats an interrupted call for as long as it takes.
                        if error != "EINTR":
                            yield Fault(kind, number, error, goes_on=True, is_first=is_first)

    def sample(self, number: int, choice: random.Random) -> list[Fault]:
        """Some of them, of one kind of call after the other."""
        by_kind: dict[str, list[Fault]] = {}
        for fault in self.faults():
            by_kind.setdefault(fault.kind, []).append(fault)
        for each in by_kind.values():
            choice.shuffle(each)
        turns = [fault for turn in range(number) for each in by_kind.values() for fault in each[turn : turn + 1]]
        return turns[:number]

    def try_fault(self, fault: Fault) -> tuple[int, list[str]]:
        """How many calls failed, and what is wrong."""
        wrong: list[str] = []
        before = _open_descriptors()
        with self._copy(), _noting_ignored(wrong):
            told = self._do(fault, fault.is_first)
            wrong += told.wrong
            wrong += self._judge(told)
        if _open_descriptors() != before:
            gc.collect()
            left = _open_descriptors().items() - before.items()
            wrong += [f"left open: {path}" for _, path in left]
        return told.hits, wrong

    # Inside

    @contextmanager
    def _copy(self) -> Generator[None]:
        place = self._root.parent
        shutil.copytree(self._template, place, symlinks=True)
        try:
            yield
        finally:
            shutil.rmtree(place)

    def _see(self) -> object:
        """What a reader finds."""
        with self._open(_READING) as reader:
            return self._deed.look(reader)

    def _open(self, options: StoreOptions, root: Path | None = None) -> Store:
        return Store(root or self._root, options, types=TYPES)

    def _do(self, fault: Fault | None, is_first: bool) -> _Told:
        told, within = _Told(), self._root / self._deed.within
        store = self._warm() if not is_first else None
        try:
            with injecting(fault, within) as injection:
                try:
                    store = store or self._open(_WRITING)
                    told.answer = self._deed.do(store)
                    told.outcome = "done"
                except Exception as error:  # noqa: BLE001 - any is judged
                    self._explain(error, fault, told)
            told.hits, told.counts = injection.hits, injection.counts
            if fault is not None:
                told.wrong += self._go_on(store, told)
        finally:
            if store is not None:
                store.close()
        return told

    def _warm(self) -> Store:
        """A store that has written before: it keeps its files and locks open."""
        store = self._open(_WRITING)
        store.collection("warmth").put("a", {"n": 1})
        store.journal("warmth", "log").append("warm")
        self._deed.look(store)
        return store

    def _explain(self, error: Exception, fault: Fault | None, told: _Told) -> None:
        told.outcome = "unknown" if isinstance(error, fsstate.OutcomeUnknownError) else "failed"
        told.error = repr(error)
        if fault is None:
            raise error
        if self._deed.within:
            told.wrong.append(f"noticed: {error!r}")
        if isinstance(error, self._deed.also):
            return
        if not isinstance(error, fsstate.StorageError) or isinstance(error, fsstate.UnsafePathError):
            told.wrong.append(f"another error than there was: {error!r} at {_places(error)}")
        elif fault.error == SHORT:
            told.wrong.append(f"a short {fault.kind} is no error: {error!r}")

    def _judge(self, told: _Told) -> list[str]:
        """What a fresh store says, after all."""
        wrong = []
        with self._open(_READING) as store:
            store.collection("warmth").put("b", {"n": 1})
            found = store.doctor().problems
            wrong += [f"the doctor finds {one}" for one in found if not (one.fixable or one.kind in _ITS_OWN)]
        staged = [path for path in (self._root / ".fsstate" / "staging").rglob("*") if path.is_file()]
        wrong += [f"left behind: {path}" for path in staged]
        changed = _bystanders(self._root).items() ^ self._bystanders.items()
        wrong += [f"changed, and had nothing to do with it: {path}" for path, _ in changed]
        return wrong

    def _go_on(self, store: Store | None, told: _Told) -> list[str]:
        """What is wrong with what the step left behind, and with doing it again where nothing fails any more."""
        wrong = [*self._compare(told), *_locked(self._root)]
        with self._open(_WRITING) if store is None else _lent(store) as again:
            try:
                self._deed.do(again)
            except self._deed.repeated as error:
                is_undone = told.seen == self._before and not told.is_partial
                return [*wrong, f"cannot be done again: {error!r}"] if is_undone else wrong
            except Exception as error:  # noqa: BLE001 - any is a finding
                return [*wrong, f"does not work afterwards: {error!r} at {_places(error)}"]
        return wrong + self._compare(_Told("done", self._answer))

    def _compare(self, told: _Told) -> list[str]:
        """Whether what a reader finds is what was told."""
        if self._deed.is_answer:
            is_true = told.outcome != "done" or told.answer == self._answer
            return [] if is_true else [f"answered {told.answer}, and it is {self._answer}"]
        try:
            told.seen = self._see()
        except Exception as error:  # noqa: BLE001 - any is a finding
            return [f"cannot be looked at any more: {error!r}"]
        allowed = {"done": [self._after], "failed": [self._before], "unknown": [self._before, self._after]}
        if told.seen in allowed[told.outcome]:
            return []
        told.is_partial = self._may_be_partial(told) and self._is_partial(told.seen)
        if told.is_partial:
            return []
        found = f"there is {told.seen}; before {self._before}, after {self._after}"
        return [f"it {told.outcome} ({told.error}), and {found}"]

    def _may_be_partial(self, told: _Told) -> bool:
        goes_on = told.outcome == "unknown" or told.hits > 1
        return told.outcome != "done" and (self._deed.in_parts or (self._deed.may_be_left and goes_on))

    def _is_partial(self, seen: Any) -> bool:
        before, after = self._before, self._after
        if isinstance(seen, dict) and isinstance(before, dict) and isinstance(after, dict):
            return all(value in (before.get(key), after.get(key)) for key, value in seen.items())
        if isinstance(seen, tuple):
            return all(value in pair for value, *pair in zip(seen, before, after, strict=True))  # type: ignore[call-overload]
        return isinstance(seen, set) or seen in (before, after)


class _Told:
    """What the caller of a step was told, and what a reader found then."""

    def __init__(self, outcome: str = "", answer: object = None) -> None:
        self.outcome = outcome
        self.answer = answer
        self.error = ""
        self.seen: object = None
        self.is_partial = False
        self.hits = 0
        self.counts: dict[str, int] = {}
        self.wrong: list[str] = []


def _places(error: BaseException) -> str:
    """Where it comes from, innermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(frame.filename).stem}:{frame.lineno}" for frame in reversed(frames[2:]))


@contextmanager
def _lent(store: Store) -> Generator[Store]:
    """The store, which somebody else closes."""
    yield store


def _prepare(store: Store) -> None:
    """Make what no step has to do with."""
    store.collection("bystanders").put("one", {"n": 1})
    store.markdown("bystanders").put("note", "Hello\n")
    store.journal("bystanders", "log").append("event")


def _bystanders(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in (root / "bystanders").iterdir()}


def _open_descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor that listed the others
            continue
    return found


def _locked(root: Path) -> list[str]:
    """What is still locked, though nothing goes on."""
    return [f"still locked: {path}" for path in root.rglob("*") if path.is_file() and not _is_free(path, root)]


def _is_free(path: Path, root: Path) -> bool:
    if str(path.relative_to(root)).startswith(_HELD):
        return True
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def _noting_ignored(wrong: list[str]) -> Generator[None]:
    """Note what Python would only print: errors in threads, and where nobody can be told."""

    def note(what: Any) -> None:
        wrong.append(f"nobody is told: {what.exc_value!r}")

    before = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = threading.excepthook = note
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = before


logging.getLogger("fsstate").addHandler(logging.NullHandler())
