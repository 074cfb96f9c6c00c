"""What merges deal in: three versions of one thing, what comes of them, and how conflicts are marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Markers", "Merged", "Versions", "ended"]

T = TypeVar("T")
R = TypeVar("R")


class Versions(NamedTuple, Generic[T]):
    """One thing as both sides began with it, and as each of them has it."""

    base: T
    ours: T
    theirs: T

    def map(self, make: Callable[[T], R]) -> Versions[R]:
        """The versions of what is made of each."""
        return Versions(make(self.base), make(self.ours), make(self.theirs))


class Merged(NamedTuple):
    """What a merge gives: the file's bytes, and the places where the changes meet, for people."""

    data: bytes
    conflicts: tuple[str, ...] = ()


class Markers(NamedTuple):
    """How conflicts are marked: lines of `size` characters, with what each side is called."""

    size: int = 7
    ours: str = "ours"
    theirs: str = "theirs"

    def around(self, ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
        """The lines of both sides between markers. Each line ends in a newline."""
        newline = "\r\n" if any(line.endswith("\r\n") for line in (*ours[:1], *theirs[:1])) else "\n"
        begin, middle, end = (
            f"{'<' * self.size} {self.ours}{newline}",
            f"{'=' * self.size}{newline}",
            f"{'>' * self.size} {self.theirs}{newline}",
        )
        return [begin, *ended(ours, newline), middle, *ended(theirs, newline), end]


def ended(lines: Sequence[str], newline: str = "\n") -> list[str]:
    """Lines of which the last one ends, too."""
    if not lines or lines[-1].endswith("\n"):
        return [*lines]
    return [*lines[:-1], lines[-1] + newline]
