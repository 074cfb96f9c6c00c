"""Records that live through statuses: which step may follow which. Pure; who keeps the records asks it.

Declared as data, so that a kind of record names its statuses in a few lines, and all of them are checked alike.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fsstate.errors import InvalidTransitionError, InvalidValueError

__all__ = ["ANY_OTHER", "Lifecycle"]

# In the declaration of a lifecycle: every status that it does not name.
ANY_OTHER: Final = "*"


class Lifecycle(NamedTuple):
    """Which statuses exist, and what may follow.

    `steps` maps each status to those it may become; one that may become nothing is final. `stamps` maps a status to
    the field that keeps the time when a record first entered it. "*" in either stands for any other text: with it among
    the steps, records that others wrote may have statuses of their own.
    """

    steps: Mapping[str, Sequence[str]]
    stamps: Mapping[str, str] = MappingProxyType({})

    @property
    def initial(self) -> str:
        """The status of a record that does not tell: the first one."""
        return next(iter(self.steps))

    def knows(self, status: object) -> bool:
        """Whether there is such a status."""
        if not isinstance(status, str) or status in ("", ANY_OTHER):
            return False
        return status in self.steps or ANY_OTHER in self.steps

    def check_status(self, status: str, *, at: str = "$.status") -> str:
        """Return a status that exists. Raises InvalidValueError for another."""
        if not self.knows(status):
            raise InvalidValueError(f"{status!r} is no status; it is one of {', '.join(self.steps)}", at=at)
        return status

    def check_step(self, where: str, status: str, wanted: str) -> None:
        """Raise InvalidTransitionError unless a record at `status` may become `wanted`."""
        if not self.allows(status, self.check_status(wanted)):
            raise InvalidTransitionError(where, status, wanted, list(self._following(status)))

    def allows(self, status: str, wanted: str) -> bool:
        """Whether a record at `status` may become `wanted`, if there is such a status."""
        return self._named(wanted) in self._following(status)

    def is_final(self, status: str) -> bool:
        """Whether no step leads on."""
        return not self._following(status)

    def stamp(self, record: MutableMapping[str, Any], status: object, at: object) -> None:
        """Keep when the record entered `status`, unless that is known."""
        field = self.stamps.get(self._named(status)) if isinstance(status, str) else None
        if field is not None and record.get(field) is None:
            record[field] = at

    def _following(self, status: str) -> Sequence[str]:
        return self.steps.get(self._named(status), ())

    def _named(self, status: str) -> str:
        """What a declaration calls a status."""
        return status if status in self.steps else ANY_OTHER
