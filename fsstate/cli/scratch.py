"""A directory to try things in, which is gone afterwards: also when the program is interrupted or told to end."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from fsstate.errors import StorageError

__all__ = ["Scratch", "scratch_in"]

_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)


class Scratch:
    """The directory, and whether the program was told to end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._told: int | None = None

    def end(self, number: int, _: object) -> None:
        """End the program as the signal would, behind all cleanup."""
        self._told = number
        self.check()

    def check(self) -> None:
        """End the program if it was told to. For loops: what a signal raises is lost in an object's last moments."""
        if self._told is not None:
            raise SystemExit(128 + self._told)


@contextmanager
def scratch_in(place: str) -> Generator[Scratch]:
    """Give an empty directory below `place` to a block, and remove it with all that is in it."""
    import shutil
    import tempfile

    try:
        scratch = Scratch(tempfile.mkdtemp(prefix=".fsstate-bench-", dir=place))
    except OSError as error:
        raise StorageError.of("make a directory in", place, error) from error
    try:
        with _handled(scratch.end, _ENDINGS):
            yield scratch
    finally:
        # Whoever presses Ctrl-C twice wants it gone as well.
        with _handled(signal.SIG_IGN, (signal.SIGINT, *_ENDINGS)):
            shutil.rmtree(scratch.path)


@contextmanager
def _handled(handler: Any, numbers: tuple[signal.Signals, ...]) -> Generator[None]:
    """Have signals handled so for the length of a block."""
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, found in before:
            signal.signal(number, found)
