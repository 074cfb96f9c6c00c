"""The tools that a session has besides those of its program: an ordered set, `sessions/<id>/tools.json`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fsstate.backends.base import Ref
from fsstate.record_types import RecordType
from fsstate.shared import Shared
from fsstate.single import ItemSet

__all__ = ["TOOLS", "Tool", "tools_of"]


class Tool(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tool that a model may call. `input_schema` is any JSON, a JSON Schema as a rule."""

    name: str
    description: str | None = None
    input_schema: Any = None


# On disk: do not rename.
TOOLS: Final = RecordType("tools", Tool, key="name")


def tools_of(shared: Shared, owner: Ref) -> ItemSet[Tool]:
    """The tools of one session."""
    return ItemSet(shared, TOOLS, owner.belongings, "tools", owner=owner)
