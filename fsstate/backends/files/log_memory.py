"""What a writer remembers of a log, whatever file has its name at the moment."""

from __future__ import annotations

from fsstate.backends.base import LogLine
from fsstate.backends.files.edited_logs import Edit, Recent
from fsstate.backends.files.flocks import Lockable

__all__ = ["LogMemory"]


class LogMemory:
    """What people's edits may have taken along, and the seqs that were given out. Requires: one thread at a time.

    - `recent`: what was appended here of late, and may not have been seen by who edits the log.
    - `replaced`: the file in which that stood, when another has its name now.
    - `untold`: what was flushed, but not where it should be when we looked again; nobody was told of it.
    - `standing`: the seqs that the untold ones have now, of those that are in the edited log.
    - `lost`: the entries that are to be put back; kept while that fails.
    - `highest`: the highest seq that was given out here, which the log may have lost.
    """

    __slots__ = ("highest", "lost", "recent", "replaced", "standing", "untold")

    def __init__(self) -> None:
        self.untold = b""
        self.standing: dict[int, int] = {}
        self.forget()

    def forget(self) -> None:
        """Begin anew: there is no log any more."""
        self.recent = Recent()
        self.replaced: Lockable | None = None
        self.lost: list[LogLine] = []
        self.highest = 0

    def take_note(self, edit: Edit) -> None:
        """Go on with the log as it was edited."""
        replaced, self.replaced = self.replaced, None
        if replaced is not None:
            replaced.close()
        self.recent = edit.recent
        self.lost += edit.lost
        self.standing = edit.standing
