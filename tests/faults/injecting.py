"""System calls of this process that fail on request: the Python side of `shim.c`, which must have been loaded first."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["ERRORS", "KINDS", "SHORT", "Fault", "Injection", "build", "environment", "injecting", "unharmed"]

# In the order of `enum kind` in shim.c.
KINDS: Final = (
    "open", "read", "write", "flush", "rename", "remove", "mkdir", "lock", "truncate", "link", "list", "stat", "mode",
)  # fmt: skip
ERRORS: Final = ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EMFILE", "EINTR")
# No error: half of what was asked for is done.
SHORT: Final = "short"
_SOURCE: Final = Path(__file__).with_name("shim.c")


class Fault(NamedTuple):
    """The n-th call of a kind fails; with `goes_on`, and all of that kind after it.

    With `is_first` it strikes a store that is just being opened, else one that has written before.
    """

    kind: str
    number: int
    error: str
    goes_on: bool = False
    is_first: bool = False


class Injection:
    """What became of a fault: how many calls failed, and how many there were of each kind."""

    def __init__(self) -> None:
        self.hits = 0
        self.counts: dict[str, int] = {}


def build(place: Path) -> Path:
    """Compile the shim. Raises CalledProcessError, FileNotFoundError without a compiler."""
    library = place / "shim.so"
    # Fortified, the C library's calls have other names.
    options = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-U_FORTIFY_SOURCE")
    subprocess.run(["gcc", *options, "-o", library, _SOURCE, "-ldl"], check=True, capture_output=True)
    return library


def environment(library: Path) -> dict[str, str]:
    """The environment of a program whose calls can be made to fail."""
    return {**os.environ, "LD_PRELOAD": str(library)}


@contextlib.contextmanager
def injecting(fault: Fault | None, place: Path) -> Generator[Injection]:
    """Let a call below `place` fail in this block; None: let none, and count them."""
    library = ctypes.CDLL(None)
    injection, counts = Injection(), (ctypes.c_long * len(KINDS))()
    kind, number, error, goes_on = (-1, 0, SHORT, False) if fault is None else (KINDS.index(fault.kind), *fault[1:4])
    library.faults_begin(os.fsencode(place), kind, number, getattr(errno, error, 0), goes_on)
    try:
        yield injection
    finally:
        injection.hits = library.faults_end(counts)
        injection.counts = dict(zip(KINDS, counts, strict=True))


@contextlib.contextmanager
def unharmed() -> Generator[None]:
    """Let no call fail in this block, inside of one in which they do: somebody else makes them."""
    library = ctypes.CDLL(None)
    was_armed = library.faults_pause(1)
    try:
        yield
    finally:
        library.faults_pause(not was_armed)
