"""How much the tests tried: counted in each, added up and told at the end of the run.

The counts travel with the reports of the tests, which come together whatever processes ran these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from typing import Final, Self

import pytest

__all__ = ["Tally"]

_PROPERTY: Final = "tally of "


@dataclass
class Tally:
    """How much was tried of one kind. Those that derive from it have numbers, and say in words what they are."""

    def add_to(self, item: pytest.Item) -> None:
        """Let the report of the test's end tell it."""
        item.user_properties.append((self._property(), asdict(self)))

    def clear(self) -> None:
        """Begin anew."""
        for field in fields(self):
            setattr(self, field.name, 0)

    @classmethod
    def sum_of(cls, reports: Iterable[object]) -> Self | None:
        """What all tests tried. None: nothing."""
        ends = [one for one in reports if isinstance(one, pytest.TestReport) and one.when == "teardown"]
        properties = [told for end in ends for told in end.user_properties]
        told = [cls(**value) for name, value in properties if name == cls._property()]  # type: ignore[arg-type]
        total = cls(*map(sum, zip(*map(astuple, told), strict=True)))
        return total if any(astuple(total)) else None

    @classmethod
    def _property(cls) -> str:
        return _PROPERTY + cls.__module__
