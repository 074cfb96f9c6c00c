"""Claude Code's transcripts as sessions, and back.

A transcript is a file of JSON lines, one row each; it becomes one session:

- A `user` or `assistant` row becomes a message, under its `uuid`. It goes under its `parentUuid`; where that is a row
  which is no message, under the message before that. Parents may be missing, and roots several.
- `tool_use` and `tool_result` blocks become tool calls: completed, failed, or pending when no result was found.
- Every other row becomes an event whose kind is the row's type, and so does a copy of a message that is there already,
  as compaction leaves them. A different message under a uuid that is taken gets the id `<uuid>~<row>`.
- Nothing is dropped and nothing reordered: each message's metadata and each event holds `row`, its line number in the
  file, and `raw`, the row itself (a message's without the content, which stands in the message), or `line`, its text,
  where no file of fsstate could hold it as JSON: half characters, numbers beyond a float, very deep nesting.

`export_transcript` gives every row back, in order, equal as JSON. A line that is no JSON is reported with its number
and skipped; it is not given back. Blank lines count as lines, and are not given back either.

Importing again writes nothing; a transcript that grew gives its new rows; one whose earlier rows changed is reported
and left alone. After a crash the next import goes on where the last one ended. Two imports at once do not mix.

A session's id is the file's name without its suffix, made safe by `quote_name`: not the rows' `sessionId`, which a
session shares with its side chains. When another session has that id, a tail (`~` and eight hex digits, from the first
row) is added. A side chain's `parent_id` is the session that it came from, if that is there or comes with it.

On disk a session takes about 1.5 times the size of its transcript: each row once, and a second time the
parameters and results of tool calls, so that both logs can be read by themselves. In memory an import holds a few MB of
rows at a time, and the ids of all messages and calls of one transcript.
"""

from fsstate.integrations.claude_code.transfer import ImportReport, Problem, export_transcript, import_transcripts

__all__ = ["ImportReport", "Problem", "export_transcript", "import_transcripts"]
