"""Git as the history of a store: snapshots, what became of each record, and the way back.

Git is not needed to read or write a store. What is here runs the git program, 2.31 or newer.

- `program`: git, run so that it answers the same everywhere
- `repository`: where a store lies in one
- `setup`: what a repository must know to treat a store well
- `snapshot`: the store's directory as a commit
- `commits`, `changes`: which commits changed a record, and what of it
- `restoring`: a record brought back
- `history`: the way in, for one record
"""

from fsstate.git.changes import FileChange, RecordCommit
from fsstate.git.history import History, RecordVersion
from fsstate.git.restoring import RestoredFile, RestoreReport
from fsstate.git.setup import SetupReport
from fsstate.git.snapshot import take_snapshot

__all__ = [
    "FileChange",
    "History",
    "RecordCommit",
    "RecordVersion",
    "RestoreReport",
    "RestoredFile",
    "SetupReport",
    "take_snapshot",
]
