"""Pruning in the background, no more often than a cooldown says that all processes of a store share.

When the last sweep began stands in `.fsstate/cooldowns/<category>.json`. It is read and set under that file's lock, so
that of several processes one sweeps. A time in the future, as after the clock was set back, counts as none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from fsstate import codec
from fsstate.backends.base import JSON, Backend, Blob, Ref
from fsstate.errors import CorruptRecordError
from fsstate.retention import PrunePolicy, PruneReport, Throttle
from fsstate.times import Clock, format_time, parse_time

__all__ = ["AutoPruner"]

# On disk: do not rename.
_COOLDOWNS: Final = ".fsstate/cooldowns"
_BEGAN: Final = "last_began"
# What a closing store gives a sweep that is under way. It may be cut off: each record is one commit point.
_CLOSING_PATIENCE: Final = 5.0

_log = logging.getLogger("fsstate")


class AutoPruner:
    """Prunes one category now and then. Any thread may call."""

    def __init__(
        self, backend: Backend, clock: Clock, category: str, prune: Callable[[PrunePolicy], PruneReport]
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._ref = Ref(_COOLDOWNS, category.replace("/", "+"), JSON)
        self._prune = prune
        self._auto: tuple[PrunePolicy, timedelta, Throttle] | None = None
        self._sweep: threading.Thread | None = None

    def set(self, policy: PrunePolicy | None, cooldown: timedelta) -> None:
        """Let `nudge` prune in the background, at most once per `cooldown`. None ends it."""
        self._auto = None if policy is None else (policy, cooldown, Throttle(cooldown))

    def nudge(self) -> None:
        """Begin a sweep in the background if one is due."""
        auto = self._auto
        if auto is not None and auto[2].ready():
            self._sweep = threading.Thread(target=self._quietly, args=auto, name="fsstate-prune", daemon=True)
            self._sweep.start()

    def close(self) -> None:
        """Begin no more sweeps, and wait a little for the one under way."""
        self._auto = None
        if self._sweep is not None:
            self._sweep.join(_CLOSING_PATIENCE)

    def _quietly(self, policy: PrunePolicy, cooldown: timedelta, throttle: Throttle) -> None:
        try:
            left = self._begin(cooldown)
            if left is not None:
                # Another process has pruned meanwhile.
                throttle.put_off(left.total_seconds())
                return
            report = self._prune(policy)
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread; the next sweep comes
            _log.warning("pruning in the background failed: %s", str(error))
        else:
            pruned, kept = len(report.pruned), len(report.kept)
            _log.info("pruned %d (%d bytes), kept %d whatever the policy says", pruned, report.bytes, kept)

    def _begin(self, cooldown: timedelta) -> timedelta | None:
        """Begin the cooldown anew, or tell how much of it is left."""
        left: timedelta | None = None

        def begin(blob: Blob | None) -> bytes:
            nonlocal left
            now = self._clock()
            last = None if blob is None else _began(blob)
            left = None if last is None or last > now or now - last >= cooldown else cooldown - (now - last)
            if blob is not None and left is not None:
                return blob.data
            return codec.encode({_BEGAN: format_time(now)})

        self._backend.change(self._ref, begin)
        return left


def _began(blob: Blob) -> datetime | None:
    try:
        told: Any = codec.decode(blob, "")
        return parse_time(told[_BEGAN])
    except (CorruptRecordError, ValueError, KeyError, TypeError):
        # Whatever it is, it keeps nobody from pruning.
        return None
