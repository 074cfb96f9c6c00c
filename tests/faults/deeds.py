"""All that a store does for its callers, each as a small step that may be struck by a fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.faults.asking import ANSWERS
from tests.faults.deed import Deed
from tests.faults.keeping import RECORDS
from tests.faults.mending import UPKEEP
from tests.faults.talking import SESSIONS
from tests.faults.writing import DOCUMENTS, LOGS

__all__ = ["DEEDS", "GROUPS"]

GROUPS: Final[Mapping[str, Mapping[str, Deed]]] = {
    "documents": DOCUMENTS,
    "logs": LOGS,
    "sessions": SESSIONS,
    "records": RECORDS,
    "upkeep": UPKEEP,
    "answers": ANSWERS,
}
DEEDS: Final[Mapping[str, Deed]] = {name: deed for group in GROUPS.values() for name, deed in group.items()}
