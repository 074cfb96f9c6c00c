"""Texts merged line by line, and conflict markers around what cannot be.

A change that only one side made is taken, as is one that both made alike. Changes meet when no line that both sides
left alone stands between them, as with `git merge`. Works on bytes that are no UTF-8, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple, TypeAlias

from fsstate.merging.versions import Markers, Merged, Versions, ended

__all__ = ["Stretch", "merge_bytes", "merge_lines", "merge_text", "split", "stretches"]

# (start in one, start in the other, length)
_Match: TypeAlias = tuple[int, int, int]

# In longer texts, lines that stand everywhere (blank ones) align nothing by themselves: that takes too long.
_LONG: Final = 1_000
# Where more lines than these differ they are not aligned at all.
_MOST: Final = 100_000


class Stretch(NamedTuple):
    """Lines of a merge. Where `theirs` is None they are settled; else the sides differ, and `lines` are ours."""

    lines: Sequence[str]
    theirs: Sequence[str] | None = None


def merge_bytes(versions: Versions[bytes], markers: Markers) -> Merged:
    """Merge three versions of any text."""
    texts = versions.map(lambda data: data.decode("utf-8", "surrogateescape"))
    merged, conflicts = merge_text(texts, markers)
    return Merged(merged.encode("utf-8", "surrogateescape"), conflicts)


def merge_text(versions: Versions[str], markers: Markers, *, first: int = 1) -> tuple[str, tuple[str, ...]]:
    """Merge three versions of a text; tell also in which of its lines, numbered from `first`, conflicts begin."""
    lines: list[str] = []
    conflicts: list[str] = []
    for stretch in merge_lines(versions.map(split)):
        # A line without an end, the last one of a side, must not swallow what follows.
        lines[-1:] = ended(lines[-1:])
        if stretch.theirs is None:
            lines += stretch.lines
        else:
            conflicts.append(f"line {first + len(lines)}")
            lines += markers.around(stretch.lines, stretch.theirs)
    return "".join(lines), tuple(conflicts)


def split(text: str) -> list[str]:
    """The lines of a text with their newlines. Only LF ends a line."""
    lines = text.split("\n")
    last = lines.pop()
    return [*(f"{line}\n" for line in lines), *([last] if last else [])]


def merge_lines(versions: Versions[list[str]]) -> list[Stretch]:
    """Merge three versions, given as their lines."""
    found: list[Stretch] = []
    at = (0, 0, 0)
    for start, length in _shared(versions):
        chunks = [lines[begin:end] for lines, begin, end in zip(versions, at, start, strict=True)]
        found += _settled(*chunks)
        if length:
            found.append(Stretch(versions.ours[start[1] : start[1] + length]))
        at = (start[0] + length, start[1] + length, start[2] + length)
    return found


def stretches(ours: Sequence[str], theirs: Sequence[str]) -> list[Stretch]:
    """Two versions: what they share, and where they differ."""
    found: list[Stretch] = []
    begin, other = 0, 0
    for start, match, length in [*_matches(ours, theirs), (len(ours), len(theirs), 0)]:
        if begin < start or other < match:
            found.append(Stretch(ours[begin:start], theirs[other:match]))
        if length:
            found.append(Stretch(ours[start : start + length]))
        begin, other = start + length, match + length
    return found


def _settled(base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> Iterator[Stretch]:
    """What becomes of lines between two that both sides left alone."""
    if ours in (base, theirs) or theirs == base:
        lines = theirs if ours == base else ours
        if lines:
            yield Stretch(lines)
        return
    # What both sides begin and end with, they changed alike.
    limit = min(len(ours), len(theirs))
    head = next((index for index in range(limit) if ours[index] != theirs[index]), limit)
    limit -= head
    tail = next((index for index in range(limit) if ours[-1 - index] != theirs[-1 - index]), limit)
    if head:
        yield Stretch(ours[:head])
    yield Stretch(ours[head : len(ours) - tail], theirs[head : len(theirs) - tail])
    if tail:
        yield Stretch(ours[len(ours) - tail :])


def _shared(versions: Versions[list[str]]) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Where lines of the base stand in both sides, in order: the three starts and the length; last, the three ends."""
    base, ours, theirs = versions
    left, right = _matches(base, ours), _matches(base, theirs)
    one = other = 0
    while one < len(left) and other < len(right):
        (start, mine, length), (begin, match, size) = left[one], right[other]
        first, end = max(start, begin), min(start + length, begin + size)
        if first < end:
            yield (first, mine + first - start, match + first - begin), end - first
        if start + length < begin + size:
            one += 1
        else:
            other += 1
    yield (len(base), len(ours), len(theirs)), 0


def _matches(one: Sequence[str], other: Sequence[str]) -> list[_Match]:
    """The stretches that two versions share, in order."""
    limit = min(len(one), len(other))
    head = next((index for index in range(limit) if one[index] != other[index]), limit)
    limit -= head
    tail = next((index for index in range(limit) if one[-1 - index] != other[-1 - index]), limit)
    ends = len(one) - tail, len(other) - tail
    found = [(0, 0, head)]
    if max(ends) - head <= _MOST:
        inner = one[head : ends[0]], other[head : ends[1]]
        matcher = SequenceMatcher(None, *inner, autojunk=len(inner[1]) > _LONG)
        found += [(head + match.a, head + match.b, match.size) for match in matcher.get_matching_blocks()]
    return [match for match in (*found, (*ends, tail)) if match[2]]
