"""Processes that die before a change of the disk. Each is forked, so that Python starts once for all of them."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fsstate.backends.files import renames

__all__ = ["kill_at_each_change", "killed_before"]

_CHANGES = ("rename", "unlink", "link", "mkdir", "rmdir", "fsync", "fdatasync")


def killed_before(change: int, act: Callable[[], object]) -> bool:
    """Act in a child, which is killed before its change of the disk with that number. Whether it came so far."""
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            _count_until(change)
            act()
            ended = 0
        finally:
            os._exit(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}, code
    return code != 0


def kill_at_each_change(template: Path, act: Callable[[Path], object]) -> int:
    """Act on a copy of the directory for each change in turn, up to one that is not killed. Returns how many were.

    The copies stand beside it: its name with 0, 1, … behind.
    """
    for change in itertools.count():
        copy = template.with_name(f"{template.name}{change}")
        shutil.copytree(template, copy)
        if not killed_before(change, lambda copy=copy: act(copy)):  # type: ignore[misc]
            return change
    raise AssertionError


def _count_until(last: int) -> None:
    numbers = itertools.count()
    for name in _CHANGES:
        setattr(os, name, _counted(getattr(os, name), numbers, last))
    renames.renameat2 = _counted(renames.renameat2, numbers, last)


def _counted(real: Callable[..., Any], numbers: Iterator[int], last: int) -> Callable[..., Any]:
    def call(*arguments: Any, **given: Any) -> Any:
        if next(numbers) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **given)

    return call
