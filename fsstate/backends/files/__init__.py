"""The files backend: records as plain files below one directory, as durable as a database keeps them.

- `tree`: directories, reached without following symlinks, made to last
- `flocks`, `locks`: one writer per record
- `staging`: new content before it has its name
- `documents`: files replaced in one step
- `logs`, `log_lines`, `log_ends`, `tickets`: files that grow at their end
- `edited_logs`, `births`: what people edit in them meanwhile
- `deletion`: a document and what belongs to it, gone as one
- `mark`: the format, checked before anything is touched
"""

from fsstate.backends.files.backend import FORMAT, FileBackend

__all__ = ["FORMAT", "FileBackend"]
