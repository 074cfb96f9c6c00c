"""The async mirror of the store: the same names, awaited, on asyncio and trio.

- `store`: AsyncStore, the way in
- `documents`, `journal`, `messages`, `records`, `sessions`: a mirror each of the sync module of that name
- `editing`: read-modify-write with the lock held across awaits
- `batching`: writes of many tasks in one flush
- `offload`: worker threads, task queues, and cancellation
"""

from fsstate.aio.documents import AsyncCollection, AsyncDocuments, AsyncMarkdown
from fsstate.aio.journal import AsyncJournal
from fsstate.aio.messages import AsyncMessages, AsyncStream
from fsstate.aio.records import AsyncItemSet, AsyncRecords, AsyncSingle
from fsstate.aio.sessions import AsyncOwnedSessions, AsyncSessionHandle, AsyncSessions, AsyncSteps, AsyncToolCalls
from fsstate.aio.store import AsyncStore

__all__ = [
    "AsyncCollection",
    "AsyncDocuments",
    "AsyncItemSet",
    "AsyncJournal",
    "AsyncMarkdown",
    "AsyncMessages",
    "AsyncOwnedSessions",
    "AsyncRecords",
    "AsyncSessionHandle",
    "AsyncSessions",
    "AsyncSingle",
    "AsyncSteps",
    "AsyncStore",
    "AsyncStream",
    "AsyncToolCalls",
]
