"""A session's checkpoints: named states to go on from, one file each.

- A name holds one state: saving it again replaces that. Names are any text.
- The latest is the one that was saved last: the times that one open store gives them rise, also when the clock is set
  back. Stores on other machines go by their own clocks.
- Saving costs the same however many there are; a checkpoint is durable when `save` returns.
- Looking for the latest skips, with a warning, what cannot be read, as lists do. Loading by name raises.

Any thread may call.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from fsstate.backends.base import Ref
from fsstate.record_types import RecordType
from fsstate.records import Records
from fsstate.session_documents import CATEGORY
from fsstate.shared import Shared

__all__ = ["CHECKPOINTS", "Checkpoint", "Checkpoints"]

Fields: TypeAlias = dict[str, Any]


class Checkpoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A named state, any JSON, and when it was saved. Changing these attributes changes no file."""

    name: str = ""
    state: Any = None
    saved_at: datetime | None = None


# Records has a method called `list`.
Listing: TypeAlias = list[Checkpoint]
Names: TypeAlias = list[str]


def _keep_time(before: Fields | None, after: Fields, now: str) -> None:
    """Say when it was saved, unless that is given: an import knows it."""
    if after.get("saved_at") in (None, (before or {}).get("saved_at")):
        after["saved_at"] = now


# On disk: do not rename.
CHECKPOINTS: Final = RecordType(
    "checkpoints", Checkpoint, key="name", parent=CATEGORY, order_by="-saved_at", derive=_keep_time
)


class Checkpoints(Records[Checkpoint]):
    """The checkpoints of one session, `sessions/<id>/checkpoints/<name>.json`: records, with names for what is usual.

    `put` takes a checkpoint with the time that it was saved at elsewhere, and `prune` removes old ones.
    """

    def __init__(self, shared: Shared, owner: Ref) -> None:
        super().__init__(shared, CHECKPOINTS, owner)
        self._session = owner

    def save(self, name: str, state: Any) -> Checkpoint:
        """Save a state, in the place of the one that the name has, and return the checkpoint.

        Raises NotFoundError when the session does not exist, InvalidValueError for a state that JSON cannot hold,
        CorruptRecordError when the file with this name cannot be read: `delete` it first.
        """
        saved_at = self._shared.rising.next(str(self._session))
        return self.put(Checkpoint(name=name, state=state, saved_at=saved_at))

    def load(self, name: str | None = None) -> Checkpoint | None:
        """Return a checkpoint, or without a name the latest; None when there is none.

        Raises CorruptRecordError or ValidationError when the one with this name cannot be read.
        """
        return self.first() if name is None else self.get(name)

    def list(self, *, order_by: str | None = None, limit: int | None = 100, offset: int = 0, **where: Any) -> Listing:
        """Return the checkpoints, the latest first; those of one time, in the reverse order of their names.

        At most 100 unless `limit` says otherwise; None means all. As `Records.list`.
        """
        return super().list(order_by=order_by, limit=limit, offset=offset, **where)

    def names(self) -> Names:
        """Return the names of all checkpoints, sorted. Reads none of them."""
        return self.ids()
