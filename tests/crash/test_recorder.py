"""The recorder misses nothing: strace, which sees the system calls themselves, counts the same ones."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.crash.recorder import read_trace

# What the kernel calls them, and what the trace does.
KINDS: Final = {
    "write": "write",
    "pwrite64": "write",
    "ftruncate": "truncate",
    "fsync": "flushed",
    "fdatasync": "flushed",
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "rmdir": "remove",
    "unlink": "remove",
    "unlinkat": "remove",
}
CALL: Final = re.compile(r"^(?:\d+ +)?(\w+)\(.*\) += \d+$")


WORKLOADS: Final = ("documents", "trims", "deletion", "sessions, talk")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all workloads were recorded, while strace looked on."""
    directory = tmp_path_factory.mktemp("traced")
    command = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={','.join(KINDS)}", "-o", str(directory / "strace")]
    command += [sys.executable, "-m", "tests.crash", str(directory)]
    jobs = "".join(f"{number}:{workload}:0:\n" for number, workload in enumerate(WORKLOADS))
    project = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=project, input=jobs, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace is not allowed to trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return directory


def seen_by_strace(path: Path, base: str) -> Counter[str]:
    # The directory itself is made before the recording begins.
    lines = (line for line in path.read_text().splitlines() if f"/{base}" in line and f'/{base}", ' not in line)
    calls = (CALL.match(line) for line in lines)
    return Counter(KINDS[call[1]] for call in calls if call)


def seen_by_recorder(path: Path) -> Counter[str]:
    names = {"unlink": "remove", "rmdir": "remove", "exchange": "rename"}
    kinds = (names.get(call.kind, call.kind) for call in read_trace(path))
    return Counter(kind for kind in kinds if kind in KINDS.values())


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("number", range(len(WORKLOADS)), ids=WORKLOADS)
def test_strace_counts_the_same_calls(number: int, traced: Path) -> None:
    assert not (traced / f"{number}.error").exists()
    seen = seen_by_strace(traced / "strace", f"{number}.base")
    assert seen_by_recorder(traced / f"{number}.trace") == seen
    assert seen["flushed"] > 0
