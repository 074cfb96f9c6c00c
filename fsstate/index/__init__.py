"""A derived index: what lists and queries ask of many records, kept beside the files and checked against them.

It is never the truth. Every question first looks at all files (name, size, times, inode; see `Backend.survey`) and
reads those that look other than before, so that an editor's save, a `git checkout` or a restored backup shows at once.
What it answers is what `fsstate.queries` would, asked of every document.

- `views`: what is kept of each record, and how it is read.
- `tables`: how that is laid out in the database, and how questions are put to it.
- `index`: when to look, and what to read again.
- `fetching`: from what was found to the records themselves.
- `collections`: JSON documents with declared fields.
"""

from fsstate.index.collections import IndexedCollection, version_of
from fsstate.index.fetching import fetch
from fsstate.index.index import Freshness, Index
from fsstate.index.tables import Found, Table, Weight
from fsstate.index.views import Kept, View

__all__ = [
    "Found",
    "Freshness",
    "Index",
    "IndexedCollection",
    "Kept",
    "Table",
    "View",
    "Weight",
    "fetch",
    "version_of",
]
