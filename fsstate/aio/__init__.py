"""The async mirror of the store: the same names, awaited, on asyncio and trio.

- `store`: AsyncStore, the way in
- `documents`, `journal`, `messages`, `records`, `sessions`: a mirror each of the sync module of that name
- `tasks`: mirrors of runs, audits and jobs
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
from fsstate.aio.tasks import AsyncAudits, AsyncJobs, AsyncRuns

__all__ = [
    "AsyncAudits",
    "AsyncCollection",
    "AsyncDocuments",
    "AsyncItemSet",
    "AsyncJobs",
    "AsyncJournal",
    "AsyncMarkdown",
    "AsyncMessages",
    "AsyncOwnedSessions",
    "AsyncRecords",
    "AsyncRuns",
    "AsyncSessionHandle",
    "AsyncSessions",
    "AsyncSingle",
    "AsyncSteps",
    "AsyncStore",
    "AsyncStream",
    "AsyncToolCalls",
]
