"""SQLite databases of other programs: their sessions and records as those of a store.

- steer: a session keeps its messages, tool calls and events; its config is `config.json` beside them.
- codewhale: a thread becomes a session with its tree of messages, goal, tools and checkpoints; jobs and the traces of
  workflows become those of the store.
- zero: a session keeps its events; milestones become settings `milestones/…`, and a label also the session's own.
- soma: a conversation becomes a session whose `user_id` is the soma session; runs, audits and sources become those of
  the store; providers and the soma sessions become settings.

Every row is accounted for. A column that means nothing to fsstate stays: in the metadata of a session, message or
call, under the system's name, or as a field of the record. The database is only read: no file of it is changed, and
none is made beside it. Its version is checked before anything is written. A file that has only some of the tables is
read, too, and the others are named.
"""

from fsstate.integrations.landing import ImportReport, Problem, Tally
from fsstate.integrations.sqlite.transfer import SYSTEMS, import_sqlite

__all__ = ["SYSTEMS", "ImportReport", "Problem", "Tally", "import_sqlite"]
