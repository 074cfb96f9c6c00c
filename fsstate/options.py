"""The one options object of a store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, cast

from fsstate import names, times

__all__ = ["Durability", "Indexing", "StoreOptions"]

Durability: TypeAlias = Literal["full", "process"]
Indexing: TypeAlias = Literal["auto", "always", "never"]


class StoreOptions(NamedTuple):
    """How a store writes. The defaults are the safe ones.

    - `durability`: "full" makes every acknowledged write survive a power cut (fsync); "process" lets it survive the
      death of the process only, and is many times faster: for tests and scratch data.
    - `lock_timeout`: seconds to wait for a record that somebody else is changing, before LockTimeoutError.
    - `indexing`: "auto" keeps an index of what is listed once there are some hundred records, "always" from the first
      on, "never" looks at every record. An index is disposable, and answers the same.
    - `file_mode`, `directory_mode`: permissions of what is created; a replaced file keeps the mode it has.
    - `clock`: where times come from, an aware datetime at each call; tests give their own.
    - `search_exclude`: categories that are not searched, each with all that is below it, and not in the search index.
    """

    durability: Durability = "full"
    lock_timeout: float = 30.0
    file_mode: int = 0o600
    directory_mode: int = 0o700
    clock: Callable[[], datetime] = times.now
    indexing: Indexing = "auto"
    search_exclude: tuple[str, ...] = ()

    def checked(self) -> StoreOptions:
        """Return the options as they are. Raises ValueError for what makes no sense."""
        if self.durability not in ("full", "process"):
            raise ValueError(f"durability must be 'full' or 'process', got {self.durability!r}")
        if not self.lock_timeout >= 0:
            raise ValueError(f"lock_timeout must be 0 or more seconds, got {self.lock_timeout!r}")
        if self.indexing not in ("auto", "always", "never"):
            raise ValueError(f"indexing must be 'auto', 'always' or 'never', got {self.indexing!r}")
        # A text is iterable too: over its own letters, which is never what was meant.
        if isinstance(cast("object", self.search_exclude), str):
            raise TypeError(f"search_exclude must be a tuple of categories, such as ({self.search_exclude!r},)")
        for category in self.search_exclude:
            names.check_category(category)
        return self
