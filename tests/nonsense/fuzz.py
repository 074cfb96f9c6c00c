"""Giving a reader very many damaged inputs, and telling the smallest one that it fails on."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from fsstate.errors import FsStateError
from tests.nonsense.counts import COUNT
from tests.nonsense.values import mutated

__all__ = ["Read", "fuzz"]

# Reads an input. Raises FsStateError to refuse it; whatever else it raises is a defect.
Read: TypeAlias = Callable[[bytes], object]

# Of so many bytes an input is still made smaller step by step.
_SMALL: Final = 4096


def fuzz(read: Read, seeds: Sequence[bytes], *, inputs: int = 0, seconds: float = 0) -> None:
    """Read the seeds, and so many inputs made of them, or for so many seconds.

    What a reader raises that it must not comes with the smallest input that it raises it for.
    """
    # What is fast is the same each time: new findings are for the long runs, where they disturb nobody's work.
    chosen = int(
        os.environ.get("FSSTATE_NONSENSE_SEED") or (random.SystemRandom().randrange(1 << 32) if seconds else 1)
    )
    chance, end = random.Random(chosen), time.monotonic() + seconds
    for done, data in enumerate(_inputs(seeds, chance)):
        if done >= inputs + len(seeds) and (not seconds or time.monotonic() >= end):
            break
        error = _error_of(read, data)
        if error is not None:
            least = _smaller(read, data, type(error)) if len(data) <= _SMALL else data
            error.add_note(f"for {least!r}\nwith FSSTATE_NONSENSE_SEED={chosen}")
            raise error


def _inputs(seeds: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    yield from seeds
    while True:
        yield mutated(chance.choice(seeds), seeds, chance)


def _error_of(read: Read, data: bytes) -> Exception | None:
    COUNT.inputs += 1
    try:
        read(data)
    except FsStateError as error:
        COUNT.refused += 1
        return None if str(error) else error
    except Exception as error:  # noqa: BLE001 - what is looked for
        return error
    return None


def _smaller(read: Read, data: bytes, kind: type[Exception]) -> bytes:
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data):
            less = data[:start] + data[start + size :]
            if isinstance(_error_of(read, less), kind):
                data = less
            else:
                start += size
        size //= 2
    return data
