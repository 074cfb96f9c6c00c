"""What a power cut leaves of `.fsstate/cache`: nobody flushes it, so anything that ever was in it, in any mixture.

SQLite writes there, which nobody records. So what lay there after each step is the stuff that the states are made of:
of each file none, one of its versions, the beginning of one, one with zeros in it, or pages of two. And as if the names
and times of the files had come out of it just right, the seal says that a store left the file so: in the run of the
machine that ended with the power cut.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fsstate.backends.files import cache
from fsstate.backends.files.signatures import Signature
from tests.crash.model import Tree

__all__ = ["CACHE", "of_an_earlier_run", "reseal", "torn"]

# Below the base.
CACHE: Final = "state/.fsstate/cache"
_PAGE: Final = 4096


def torn(versions: Sequence[Tree], chance: random.Random) -> Tree:
    """What may lie there, of what lay there once."""
    found: dict[str, list[bytes]] = {}
    for tree in versions:
        for path, data in tree.items():
            if data is not None:
                found.setdefault(path, []).append(data)
    left: Tree = {CACHE: None} if found else {}
    for path, contents in sorted(found.items()):
        data = _torn_file(contents, chance)
        if data is not None:
            left[path] = data
    return left


def _torn_file(contents: Sequence[bytes], chance: random.Random) -> bytes | None:
    one, other = chance.choice(contents), chance.choice(contents)
    cut = chance.randrange(len(one) // _PAGE + 1) * _PAGE
    return chance.choice(
        (None, one, one, one[:cut], one[:cut] + bytes(len(one) - cut), one[:cut] + other[cut:], other[:cut] + one[cut:])
    )


def reseal(base: Path) -> None:
    """Let each seal say that its file is as a store left it, before the power cut."""
    for seal in (base / CACHE).glob("*.seal"):
        file = seal.with_suffix(".sqlite")
        try:
            told = json.loads(seal.read_bytes())
        except ValueError:
            continue
        if file.exists():
            told["file"] = list(Signature.of(file.stat()))
            seal.write_bytes(json.dumps(told, separators=(",", ":")).encode() + b"\n")


@contextmanager
def of_an_earlier_run() -> Generator[None]:
    """Have all that lies there be of an earlier run of the machine."""
    real = cache._boot
    cache._boot = lambda: "the run after the power cut"  # type: ignore[assignment]
    try:
        yield
    finally:
        cache._boot = real
