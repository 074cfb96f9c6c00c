"""The files that codewhale keeps besides its database, as a store.

- `sessions/<id>.json`, a saved session, becomes a session with its messages and tool calls; its system prompt is in
  `config.json` beside them. Its artifacts, the files in `sessions/<id>/`, are passed over. `checkpoints/latest.json`
  becomes a checkpoint of the session that it was made of, or that session itself where it was not saved yet;
  `offline_queue.json` a document.
- `threads/<id>.json` becomes a session. Of its items, messages become messages, and what was done becomes tool calls;
  its turns and all other items become documents in `turns/` and `items/` beside them. A call in progress was
  interrupted, and failed; a turn in progress stays as it is, and is told. `events/<thread>.jsonl` becomes its events,
  which keep their numbers as `sequence_num`.
- The last line for each thread in `session_index.jsonl` becomes a setting `codewhale/threads/<id>`, and its name the
  title of that thread or saved session, whose own title stays in the metadata; `state.json` becomes the setting
  `codewhale/state`.

The directory is only read. All of it is looked at before anything is written: files of a version that is not known are
refused. The database is imported by `fsstate.integrations.sqlite`.
"""

from fsstate.integrations.codewhale.transfer import import_codewhale
from fsstate.integrations.landing import ImportReport, Problem, Tally

__all__ = ["ImportReport", "Problem", "Tally", "import_codewhale"]
