"""Records that live through statuses: which step may follow which. Pure; who keeps the records asks it.

Declared as data, so that a kind of record names its statuses in a few lines, and all of them are checked alike.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from fsstate.errors import InvalidTransitionError, InvalidValueError

__all__ = ["Lifecycle"]


class Lifecycle(NamedTuple):
    """Which statuses exist, and what may follow.

    `steps` maps each status to those it may become; one that may become nothing is final. `stamps` maps a status to
    the field that keeps the time when a record first entered it.
    """

    steps: Mapping[str, Sequence[str]]
    stamps: Mapping[str, str] = MappingProxyType({})

    @property
    def initial(self) -> str:
        """The status of a record that does not tell: the first one."""
        return next(iter(self.steps))

    def check_status(self, status: str, *, at: str = "$.status") -> str:
        """Return a status that exists. Raises InvalidValueError for another."""
        if status not in self.steps:
            raise InvalidValueError(f"{status!r} is no status; it is one of {', '.join(self.steps)}", at=at)
        return status

    def check_step(self, where: str, status: str, wanted: str) -> None:
        """Raise InvalidTransitionError unless a record at `status` may become `wanted`."""
        allowed = self.steps.get(status, ())
        if self.check_status(wanted) not in allowed:
            raise InvalidTransitionError(where, status, wanted, list(allowed))

    def is_final(self, status: str) -> bool:
        """Whether no step leads on."""
        return not self.steps.get(status)

    def stamp(self, record: MutableMapping[str, Any], status: object, at: object) -> None:
        """Keep when the record entered `status`, unless that is known."""
        field = self.stamps.get(status) if isinstance(status, str) else None
        if field is not None and record.get(field) is None:
            record[field] = at
