"""What an index keeps of a kind of record: the declaration that the floors above make, and how they read one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fsstate.backends.base import JSON, Stamps, Suffix

__all__ = ["Kept", "View"]


class Kept(NamedTuple):
    """What is kept of one record: the values of the view's fields, and `value`, bytes that answers give back.

    `size` is how many bytes it takes, for views whose records are weighed.
    """

    values: Mapping[str, Any]
    value: bytes = b""
    size: int = 0


class View(ABC):
    """A kind of record as an index sees it.

    - `name` tells it from all others in the store.
    - `version` differs whenever something else would be kept of the same file: what older versions kept is dropped.
    - `fields` may be asked for and ordered by. Ordering by one of `sorted_fields`, and asking for one of these or of
      `found_fields`, looks at no more than is found: those with many different values.
    - `weighed`: whether records tell their sizes.
    - `belongings`: whether what is kept also follows from the logs that belong to a record.
    """

    name: str
    version: str
    fields: Sequence[str]
    sorted_fields: Sequence[str] = ()
    found_fields: Sequence[str] = ()
    suffix: Suffix = JSON
    weighed: bool = False
    belongings: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        """What two views share only if they keep the same of the same records."""
        return self.name, self.version

    @abstractmethod
    def folders(self) -> Sequence[str]:
        """The categories that the records are in."""

    @abstractmethod
    def place_of(self, folder: str, name: str) -> str:
        """What tells a record from all others of the view, and orders those that are equal otherwise."""

    @abstractmethod
    def read(self, folder: str, name: str, *, before: bytes | None, logs: Stamps | None) -> Kept | None:
        """Read one record; None when it is gone.

        `before` is the value that was kept of it, if any; `logs` how the logs that belong to it look, if that is known.

        Raises one of `fsstate.documents.PROBLEMS` for a record that cannot be read: it is passed over, with a warning.
        """
