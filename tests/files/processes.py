"""Other processes: Python code run in a fresh interpreter, also under strace, which shows and injects system calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PRELUDE = """
import os, sys, time
from fsstate.backends.base import JSON, LOG, MARKDOWN, BadLine, LogLine, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import *
from fsstate.options import StoreOptions
root = sys.argv[1]
"""

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def source(code: str) -> str:
    return PRELUDE + textwrap.dedent(code)


def start(code: str, root: Path, *args: object, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*wrapper, sys.executable, "-c", source(code), str(root), *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(code: str, root: Path, *args: object, wrapper: tuple[str, ...] = ()) -> str:
    process = start(code, root, *args, wrapper=wrapper)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def trace(code: str, root: Path, tmp_path: Path, calls: str) -> list[str]:
    """The system calls between the two marks that the code writes with `os.write(2, b"MARK")`, with paths."""
    log = tmp_path / "strace.txt"
    run(code, root, wrapper=("strace", "-y", "-o", str(log), "-e", f"trace={calls},write"))
    lines = [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines()]
    first, last = [number for number, line in enumerate(lines) if '"MARK"' in line]
    return lines[first + 1 : last]
