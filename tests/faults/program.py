"""The worker, as a test talks to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from tests.faults.injecting import environment
from tests.faults.tally import FaultTally
from tests.faults.worker import CURRENT
from tests.git import person_in

__all__ = ["Program"]

_PROJECT: Final = Path(__file__).parents[2]


class Program:
    """Tries faults in a process of its own, in a directory of its own."""

    def __init__(self, shim: Path, place: Path) -> None:
        self._place = place
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", str(place)],
            cwd=_PROJECT,
            env=environment(shim) | person_in(place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()

    def try_faults(self, deed: str, number: int, seed: int, tally: FaultTally, seconds: float = 60.0) -> list[str]:
        """Let so many calls fail, one after the other; return what was wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"deed": deed, "number": number, "seed": seed, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            _, err = self._process.communicate(timeout=60)
            raise AssertionError(f"died at {(self._place / CURRENT).read_text()}: {err}")
        answer = json.loads(line)
        tally.tried += answer["tried"]
        tally.calls += answer["failed"]
        wrong: list[str] = answer["wrong"]
        return wrong
