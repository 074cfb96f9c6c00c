"""The one options object of a store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias, cast

from fsstate import names, times

__all__ = ["Durability", "FileSystems", "Indexing", "StoreOptions"]

Durability: TypeAlias = Literal["full", "process"]
Indexing: TypeAlias = Literal["auto", "always", "never"]
FileSystems: TypeAlias = Literal["safe", "any"]


class StoreOptions(NamedTuple):
    """How a store writes. The defaults are the safe ones.

    - `durability`: "full" makes every acknowledged write survive a power cut (fsync); "process" lets it survive the
      death of the process only, and is many times faster: for tests and scratch data.
    - `lock_timeout`: seconds to wait for a record that somebody else is changing, before LockTimeoutError.
    - `indexing`: "auto" keeps an index of what is listed once there are some hundred records, "always" from the first
      on, "never" looks at every record. An index is disposable, and answers the same.
    - `file_mode`, `directory_mode`: permissions of what is created; a replaced file keeps the mode it has.
    - `clock`: where times come from, an aware datetime at each call; tests give their own.
    - `trash_ttl`, `trash_bytes`: what was pruned stays in the trash for so long, and while all that is there takes no
      more bytes; the oldest goes first. None means no limit.
    - `search_exclude`: categories that are not searched, each with all that is below it, and not in the search index.
    - `file_system`: "safe" refuses the first write, with UnsupportedFileSystemError, on a network file system and where
      locks keep nobody out: other machines could overwrite what is written. "any" writes everywhere. Reading is free.
    """

    durability: Durability = "full"
    lock_timeout: float = 30.0
    file_mode: int = 0o600
    directory_mode: int = 0o700
    clock: Callable[[], datetime] = times.now
    indexing: Indexing = "auto"
    trash_ttl: timedelta | None = timedelta(days=30)
    trash_bytes: int | None = 1 << 30
    search_exclude: tuple[str, ...] = ()
    file_system: FileSystems = "safe"

    def checked(self) -> StoreOptions:
        """Return the options as they are. Raises ValueError for what makes no sense."""
        if self.durability not in ("full", "process"):
            raise ValueError(f"durability must be 'full' or 'process', got {self.durability!r}")
        if not self.lock_timeout >= 0:
            raise ValueError(f"lock_timeout must be 0 or more seconds, got {self.lock_timeout!r}")
        if self.indexing not in ("auto", "always", "never"):
            raise ValueError(f"indexing must be 'auto', 'always' or 'never', got {self.indexing!r}")
        if self.file_system not in ("safe", "any"):
            raise ValueError(f"file_system must be 'safe' or 'any', got {self.file_system!r}")
        if self.trash_ttl is not None and self.trash_ttl <= timedelta(0):
            raise ValueError(f"trash_ttl must be longer than 0, got {self.trash_ttl!r}; None means no limit")
        if self.trash_bytes is not None and self.trash_bytes <= 0:
            raise ValueError(f"trash_bytes must be 1 or more, got {self.trash_bytes!r}; None means no limit")
        # A text is iterable too: over its own letters, which is never what was meant.
        if isinstance(cast("object", self.search_exclude), str):
            raise TypeError(f"search_exclude must be a tuple of categories, such as ({self.search_exclude!r},)")
        for category in self.search_exclude:
            names.check_category(category)
        return self
