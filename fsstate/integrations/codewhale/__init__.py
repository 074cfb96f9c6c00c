"""The files that codewhale keeps besides its database, as a store.

- `sessions/<id>.json`, a saved session, becomes a session with its messages and tool calls; its system prompt is in
  `config.json` beside them. `checkpoints/latest.json` becomes a checkpoint of the session that it was made of, or that
  session itself where it was not saved yet; `offline_queue.json` a document.
- `threads/<id>.json` becomes a session. Of its items, messages become messages, and what was done becomes tool calls;
  its turns and all other items become documents in `turns/` and `items/` beside them. `events/<thread>.jsonl` becomes
  its events, which keep their numbers as `sequence_num`.
- The last line for each thread in `session_index.jsonl` becomes a setting `codewhale/threads/<id>`, and the title of a
  thread that has none; `state.json` becomes the setting `codewhale/state`.

The directory is only read. All of it is looked at before anything is written: files of a version that is not known are
refused. The database is imported by `fsstate.integrations.sqlite`.
"""

from fsstate.integrations.codewhale.transfer import import_codewhale
from fsstate.integrations.landing import ImportReport, Problem, Tally

__all__ = ["ImportReport", "Problem", "Tally", "import_codewhale"]
