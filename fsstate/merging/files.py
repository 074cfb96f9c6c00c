"""Three versions of one file merged in the way that its name asks for.

What is not as its name says (no valid JSON, no UTF-8, no entry of a log) is merged by line, as git would do by itself.
What holds zero bytes is not merged at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from fsstate.backends.base import JSON, LOG, MARKDOWN
from fsstate.errors import FsStateError
from fsstate.merging.documents import merge_document
from fsstate.merging.lines import merge_bytes
from fsstate.merging.logs import merge_log
from fsstate.merging.notes import merge_note
from fsstate.merging.versions import Markers, Merged, Versions

__all__ = ["MergedFile", "merge_file"]

_Merge: TypeAlias = Callable[[Versions[bytes], Markers, str], Merged]

_BY_SUFFIX: Final[dict[str, _Merge]] = {
    JSON: merge_document,
    LOG: merge_log,
    MARKDOWN: lambda versions, markers, _: merge_note(versions, markers),
}


class MergedFile(NamedTuple):
    """What a merge gives.

    - `data`: the merged file; None for one that is not merged, so that ours stays as it is.
    - `conflicts`: where changes meet, such as `$.title`, `entry 12` or `line 3`; nothing is left to decide if empty.
    - `note`: what a person should know besides; empty as a rule.
    """

    data: bytes | None
    conflicts: tuple[str, ...]
    note: str = ""


def merge_file(path: str, versions: Versions[bytes], markers: Markers | None = None) -> MergedFile:
    """Merge three versions of a file; `path` tells by its suffix what it is, and names it in errors.

    An empty `base` means that both sides made the file. Never raises for what a file holds.
    """
    base, ours, theirs = versions
    if theirs in (ours, base) or ours == base:
        return MergedFile(theirs if ours == base else ours, ())
    if b"\0" in ours or b"\0" in theirs:
        reason = "it holds zero bytes, as binary files do, or what a crash leaves; ours is left as it is"
        return MergedFile(None, ("the whole file",), reason)
    markers = Markers() if markers is None else markers
    try:
        return MergedFile(*_merge_of(path)(versions, markers, path))
    except FsStateError as error:
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    return MergedFile(*merge_bytes(versions, markers), f"merged by line: {reason}")


def _merge_of(path: str) -> _Merge:
    name = path.rpartition("/")[2]
    return _BY_SUFFIX.get(name[max(name.rfind("."), 0) :], lambda versions, markers, _: merge_bytes(versions, markers))
