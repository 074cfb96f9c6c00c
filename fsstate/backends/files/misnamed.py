"""Files and folders that stand in the store under names that fsstate refuses: other programs may have made them.

Conflict copies are no records either, and nothing is wrong with them: they are left out without a word.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from fsstate import names
from fsstate.backends.base import JSON, MARKDOWN
from fsstate.errors import CorruptRecordError, InvalidNameError

__all__ = ["sift"]

_log: Final = logging.getLogger("fsstate")
# So many are remembered as told.
_MOST_TOLD: Final = 4096


def sift(
    found: Sequence[str], folder: str, suffix: str = "", refused: list[CorruptRecordError] | None = None
) -> list[str]:
    """Return those of the names that fsstate accepts, sorted; the others go to `refused`, or are logged once each."""
    kept = sorted(filter(names.is_name, found))
    if len(kept) < len(found):
        flaws = _flaws(sorted(set(found).difference(kept)), folder, suffix)
        if refused is not None:
            refused.extend(flaws)
        else:
            for flaw in flaws:
                _tell_once(str(flaw))
    return kept


def _flaws(others: Iterable[str], folder: str, suffix: str) -> list[CorruptRecordError]:
    return [_flaw(name, folder, suffix) for name in others if not _is_meant(name, suffix)]


def _is_meant(name: str, suffix: str) -> bool:
    # What begins with a dot is hidden: editors and file managers put such files everywhere.
    return name.startswith(".") or not name or (suffix in (JSON, MARKDOWN) and names.is_copy(name))


def _flaw(name: str, folder: str, suffix: str) -> CorruptRecordError:
    where = _printable(os.path.join(folder, name + suffix))
    reason = f"left out, for the name {name!r} is refused: {_reason(name)}"
    return CorruptRecordError(where, f"{reason}; {_advice(name, suffix)}")


def _reason(name: str) -> str:
    try:
        names.check_name(name)
    except InvalidNameError as error:
        return error.reason
    raise AssertionError(name)


def _advice(name: str, suffix: str) -> str:
    try:
        return f"rename it, for example to {names.quote_name(name) + suffix!r}"
    except InvalidNameError:
        return "give it a shorter name"


def _printable(path: str) -> str:
    # Whoever reads the log must not be shown a line that a file's name made up.
    return path if path.isprintable() else repr(path)[1:-1]


@lru_cache(maxsize=_MOST_TOLD)
def _tell_once(flaw: str) -> None:
    _log.warning("%s", flaw)
