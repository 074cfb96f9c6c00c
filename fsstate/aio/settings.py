"""Settings for async code: the same names as the sync ones, awaited."""

from __future__ import annotations

from fsstate.aio.offload import Mirror, offloaded
from fsstate.settings import Settings

__all__ = ["AsyncSettings"]


class AsyncSettings(Mirror[Settings]):
    """The settings of a store; see `fsstate.Settings`."""

    def path_of(self, key: str) -> str:
        """Return where a person finds the value, or where it would be."""
        return self.sync.path_of(key)

    set = offloaded(Settings.set)
    set_once = offloaded(Settings.set_once)
    get = offloaded(Settings.get)
    setting = offloaded(Settings.setting)
    delete = offloaded(Settings.delete)
    items = offloaded(Settings.items)
    keys = offloaded(Settings.keys)
    problems = offloaded(Settings.problems)
