"""The files backend: records as plain files below one directory, as durable as a database keeps them.

- `tree`: directories, reached without following symlinks, made to last
- `flocks`, `locks`: one writer per record
- `staging`: new content before it has its name
- `renames`, `exchanging`: files replaced without destroying what is saved in the same moment
- `leftovers`: what writers left that were killed
- `documents`: files replaced in one step
- `logs`, `log_lines`, `log_ends`, `tickets`: files that grow at their end
- `edited_logs`, `births`: what people edit in them meanwhile
- `copies`: what could not be saved, kept beside its document
- `deletion`: a document and what belongs to it, gone as one
- `mark`: the format, checked before anything is touched
- `guarding`, `probing`: whether the file system is fit for a store, and what it does
- `upkeep`, `log_mending`: what is not as a store makes it, and mending that
"""

from fsstate.backends.files.backend import FORMAT, FileBackend
from fsstate.backends.files.log_ends import continued

__all__ = ["FORMAT", "FileBackend", "continued"]
