"""Pruning documents together with what belongs to them: looks, lets the policy decide, and looks again under the lock.

An error while looking never prunes, and neither does one while deleting: what could not be judged or deleted is kept,
and the report says why. What tells no time cannot be judged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fsstate.backends.base import Backend, Blob, Ref
from fsstate.errors import FsStateError, LockTimeoutError
from fsstate.retention import Candidate, Expired, Kept, Pruned, PrunePolicy, PruneReport, Throttle, select_expired
from fsstate.times import Clock

__all__ = ["Seen", "Sweeper"]

# What a closing store gives a sweep that is under way. It may be cut off: each deletion is one commit point.
_CLOSING_PATIENCE: Final = 5.0

_log = logging.getLogger("fsstate")


class Seen(NamedTuple):
    """A document as the sweep saw it. `mark` differs once it, or anything that belongs to it, was touched.

    One that `is_busy` stays, as does one without a time.
    """

    ref: Ref
    last_active: datetime | None
    mark: object
    is_busy: bool = False


class Sweeper:
    """Prunes one category. `look` says how a document is now, or None when it is gone. Any thread may call."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        names: Callable[[], Sequence[str]],
        look: Callable[[str], Seen | None],
        *,
        alone: bool = False,
    ) -> None:
        """With `alone`, what is in a folder of a document's name does not go with the document."""
        self._backend = backend
        self._clock = clock
        self._names = names
        self._look = look
        self._alone = alone
        self._auto: tuple[PrunePolicy, Throttle] | None = None
        self._sweep: threading.Thread | None = None

    def prune(self, policy: PrunePolicy, *, dry_run: bool = False) -> PruneReport:
        """Delete what the policy wants to go, unless it was touched since it was looked at."""
        report = PruneReport([], [], dry_run)
        seen = self._look_at_all(report)
        idle = {name: each for name, each in seen.items() if not each.is_busy}
        report.kept.extend(Kept(name, "undated") for name, each in idle.items() if each.last_active is None)
        candidates = [Candidate(name, each.last_active) for name, each in idle.items()]
        for expired in select_expired(candidates, policy, self._clock()):
            if dry_run:
                report.pruned.append(Pruned(*expired))
            else:
                self._expire(expired, seen[expired.id], report)
        return report

    def auto_prune(self, policy: PrunePolicy | None, cooldown: timedelta) -> None:
        """Let `nudge` prune in the background, at most once per `cooldown`. None ends it."""
        self._auto = None if policy is None else (policy, Throttle(cooldown))

    def nudge(self) -> None:
        """Begin a sweep in the background if one is due."""
        auto = self._auto
        if auto is not None and auto[1].ready():
            self._sweep = threading.Thread(target=self._quietly, args=auto[:1], name="fsstate-prune", daemon=True)
            self._sweep.start()

    def close(self) -> None:
        """Begin no more sweeps, and wait a little for the one under way."""
        self._auto = None
        if self._sweep is not None:
            self._sweep.join(_CLOSING_PATIENCE)

    def _look_at_all(self, report: PruneReport) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        for name in self._names():
            try:
                seen = self._look(name)
            except FsStateError as error:
                report.kept.append(Kept(name, f"error: {error}"))
            else:
                if seen is not None:
                    found[name] = seen
        return found

    def _expire(self, expired: Expired, seen: Seen, report: PruneReport) -> None:
        touched = False

        def untouched() -> bool:
            nonlocal touched
            touched = self._look(expired.id) != seen
            return not touched

        try:
            gone = self._delete(seen.ref, untouched)
        except LockTimeoutError:
            report.kept.append(Kept(expired.id, "locked"))
        except FsStateError as error:
            report.kept.append(Kept(expired.id, f"error: {error}"))
        else:
            if gone:
                report.pruned.append(Pruned(*expired))
            elif touched:
                report.kept.append(Kept(expired.id, "touched"))
            # Else somebody else deleted it: that is neither.

    def _delete(self, ref: Ref, confirm: Callable[[], bool]) -> bool:
        if not self._alone:
            return self._backend.delete_with(ref, ref.belongings, confirm, timeout=0)
        gone = False

        def deletion(blob: Blob | None) -> bytes | None:
            nonlocal gone
            gone = blob is not None and confirm()
            return None if gone or blob is None else blob.data

        self._backend.change(ref, deletion, timeout=0)
        return gone

    def _quietly(self, policy: PrunePolicy) -> None:
        try:
            report = self.prune(policy)
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread; the next sweep comes
            _log.warning("pruning in the background failed: %s", str(error))
        else:
            _log.info("pruned %d, kept %d that were due or cannot be judged", len(report.pruned), len(report.kept))
