"""The state directory of oxios as a store.

- `sessions/<id>.json` becomes a session. What it embeds becomes the session's logs: `user_messages` and
  `agent_responses` its messages, in one line and by time, `trajectory_steps` its steps.
- Every other `<category>/<name>.json` and `.md` becomes the document of that category and name, with what it says left
  as it is. A name that no file of a store can have is quoted as by `quote_name`.
- Left-over temporary files, hidden files, and the index `agent_log.db`, which oxios rebuilds, are passed over by name.

The directory is only read. Links are not followed.
"""

from fsstate.integrations.landing import ImportReport, Problem, Tally
from fsstate.integrations.oxios.transfer import import_oxios

__all__ = ["ImportReport", "Problem", "Tally", "import_oxios"]
