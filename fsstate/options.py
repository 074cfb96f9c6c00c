"""The one options object of a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fsstate import times

__all__ = ["StoreOptions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """How a store writes. The defaults are the safe ones.

    - `durability`: "full" makes every acknowledged write survive a power cut (fsync); "process" lets it survive the
      death of the process only, and is many times faster: for tests and scratch data.
    - `lock_timeout`: seconds to wait for a record that somebody else is changing, before LockTimeoutError.
    - `file_mode`, `directory_mode`: permissions of what is created; a replaced file keeps the mode it has.
    - `clock`: where times come from, an aware datetime at each call; tests give their own.
    """

    durability: Literal["full", "process"] = "full"
    lock_timeout: float = 30.0
    file_mode: int = 0o600
    directory_mode: int = 0o700
    clock: Callable[[], datetime] = times.now

    def __post_init__(self) -> None:
        if self.durability not in ("full", "process"):
            raise ValueError(f"durability must be 'full' or 'process', got {self.durability!r}")
        if self.lock_timeout < 0:
            raise ValueError(f"lock_timeout must be 0 or more seconds, got {self.lock_timeout!r}")
