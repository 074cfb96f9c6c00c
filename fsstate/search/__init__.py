"""Full-text search: what is pure about it, and the tables of the index.

- `words`: how a text of any script becomes tokens
- `query`: questions as people type them
- `passages`: what is searched, and what an answer says of it; `texts`: the parts of documents
- `snippets`: what an answer looks like
- `index`: the tables; `asking`: how they are asked
- `growth`: which lines of a log are new
- `private`: an index in memory, where there can be no other

The index is derived from the files and may be gone or begun anew at any moment; `fsstate.searcher` keeps it up to date,
and `fsstate.searchable` reads what goes into it.
"""

from fsstate.search.asking import Scope, ask
from fsstate.search.growth import Growth, Reached
from fsstate.search.index import SCHEMA, Index, Known, Source, require_fts5
from fsstate.search.passages import Part, Passage, SearchHit, tokens_in
from fsstate.search.private import PrivateCache
from fsstate.search.query import Query
from fsstate.search.texts import json_parts, markdown_parts, value_parts

__all__ = [
    "SCHEMA",
    "Growth",
    "Index",
    "Known",
    "Part",
    "Passage",
    "PrivateCache",
    "Query",
    "Reached",
    "Scope",
    "SearchHit",
    "Source",
    "ask",
    "json_parts",
    "markdown_parts",
    "require_fts5",
    "tokens_in",
    "value_parts",
]
