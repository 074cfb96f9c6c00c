"""A program whose system calls fail: tries faults for one step after the other, as it is told.

    LD_PRELOAD=shim.so python -m tests.faults.worker DIRECTORY

Reads lines of JSON: `{"deed": …, "seed": …, "number": …, "seconds": …}`; answers each with a line.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.faults.deeds import DEEDS
from tests.faults.plants import PLANTS
from tests.faults.trials import Trials

__all__ = ["CURRENT"]

# What is being tried, for those who wonder where the program has gone.
CURRENT: Final = "current"
_PATIENCE: Final = 20.0
_MOST: Final = 20


def main(place: Path) -> None:
    # git, and whatever else is started, is not to fail.
    os.environ.pop("LD_PRELOAD", None)
    for line in sys.stdin:
        print(json.dumps(work(place, **json.loads(line))), flush=True)  # noqa: T201 - the answer


def work(place: Path, deed: str, seed: int, number: int, seconds: float) -> dict[str, Any]:
    """Try faults for one step: so many, or as many as there are and the time allows."""
    ends = time.monotonic() + seconds
    folder = place / "".join(letter if letter.isalnum() else "-" for letter in deed)
    trials = Trials({**DEEDS, **PLANTS}[deed], folder)
    gc.collect()
    gc.freeze()
    tried = failed = 0
    wrong: list[str] = []
    for fault in trials.sample(number, random.Random(seed)):
        if time.monotonic() > ends or len(wrong) > _MOST:
            break
        (place / CURRENT).write_text(f"{deed} {fault}")
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        hits, found = trials.try_fault(fault)
        faulthandler.cancel_dump_traceback_later()
        tried += hits > 0
        failed += hits
        wrong += [f"{deed}, {tuple(fault)}: {each}" for each in found]
    shutil.rmtree(folder)
    return {"tried": tried, "failed": failed, "wrong": wrong}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
