"""What many callers want to append to a log at once: composed together, and told to each."""

from __future__ import annotations

import copy
import errno
from collections.abc import Mapping, Sequence

from fsstate.backends.base import Appended, Compose, LogLine, Ref
from fsstate.backends.files.log_ends import Tail
from fsstate.errors import FsStateError, OutcomeUnknownError

__all__ = ["Ticket", "compose_all"]


class Ticket:
    """What one caller wants to append, and what became of it."""

    __slots__ = ("composes", "outcomes", "owner")

    def __init__(self, composes: Sequence[Compose], owner: Ref | None) -> None:
        self.composes = composes
        self.owner = owner
        self.outcomes: list[Appended] | None = None

    def settle(self, standing: Mapping[int, int], path: str) -> bool:
        """Say whether all of this stands in the log, as somebody edited it; half of it is a failure."""
        outcomes = [_standing(outcome, standing) for outcome in self.outcomes or ()]
        if None not in outcomes:
            self.outcomes = [outcome for outcome in outcomes if outcome is not None]
        elif any(seq in standing for outcome in self.outcomes or () if isinstance(outcome, range) for seq in outcome):
            self.fail(OutcomeUnknownError("append all to (somebody edited it)", path, errno.ESTALE))
        else:
            return False
        return True

    def fail(self, error: Exception) -> None:
        # A copy for each: they are raised in several threads, and each adds its own traceback.
        own = copy.copy(error) if isinstance(error, FsStateError) else error
        own.__cause__ = error.__cause__
        self.outcomes = [own] * len(self.composes)


def compose_all(batch: list[Ticket], tail: Tail) -> tuple[list[bytes], Tail]:
    """Ask everybody what to append. Returns the lines, and the tail that there will be behind them."""
    lines: list[bytes] = []
    seq, last, size = tail.seq, tail.last, 0
    for ticket in batch:
        outcomes: list[Appended] = []
        for compose in ticket.composes:
            try:
                payloads = compose(last)
            except Exception as error:  # noqa: BLE001 - belongs to this caller alone
                outcomes.append(error)
                continue
            first = seq + 1
            for payload in payloads:
                seq += 1
                line = b'{"seq":%d%s%s' % (seq, b"," if len(payload) > 2 else b"", payload[1:])
                last = LogLine(seq, line)
                lines.append(line)
                size += len(line) + 1
            outcomes.append(range(first, seq + 1))
        ticket.outcomes = outcomes
    return lines, Tail(tail.end + size, seq, last)


def _standing(outcome: Appended, standing: Mapping[int, int]) -> Appended | None:
    """The seqs by which what was appended stands in the log now; None when not all of it does."""
    if not isinstance(outcome, range) or not outcome:
        return outcome
    seqs = [standing.get(seq, 0) for seq in outcome]
    now = range(seqs[0], seqs[0] + len(seqs))
    return now if seqs == list(now) and seqs[0] else None
