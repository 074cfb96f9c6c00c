"""The async mirror of the store: the same names, awaited, on asyncio and trio.

- `store`: AsyncStore, the way in
- `documents`, `history`, `journal`, `messages`, `records`, `sessions`: a mirror each of the sync module of that name
- `tasks`: mirrors of runs, audits and jobs
- `editing`: read-modify-write with the lock held across awaits
- `batching`: writes of many tasks in one flush
- `offload`: worker threads, task queues, and cancellation
"""

from fsstate.aio.checkpoints import AsyncCheckpoints
from fsstate.aio.documents import AsyncCollection, AsyncDocuments, AsyncMarkdown
from fsstate.aio.goals import AsyncSessionGoal
from fsstate.aio.history import AsyncHistory
from fsstate.aio.journal import AsyncJournal
from fsstate.aio.messages import AsyncMessages, AsyncStream
from fsstate.aio.records import AsyncItemSet, AsyncRecords, AsyncSingle
from fsstate.aio.sessions import AsyncOwnedSessions, AsyncSessionHandle, AsyncSessions, AsyncSteps, AsyncToolCalls
from fsstate.aio.settings import AsyncSettings
from fsstate.aio.sources import AsyncSources
from fsstate.aio.store import AsyncStore
from fsstate.aio.tasks import AsyncAudits, AsyncJobs, AsyncRuns
from fsstate.aio.trash import AsyncTrash
from fsstate.aio.workflows import AsyncLeaves, AsyncWorkflow, AsyncWorkflows

__all__ = [
    "AsyncAudits",
    "AsyncCheckpoints",
    "AsyncCollection",
    "AsyncDocuments",
    "AsyncHistory",
    "AsyncItemSet",
    "AsyncJobs",
    "AsyncJournal",
    "AsyncLeaves",
    "AsyncMarkdown",
    "AsyncMessages",
    "AsyncOwnedSessions",
    "AsyncRecords",
    "AsyncRuns",
    "AsyncSessionGoal",
    "AsyncSessionHandle",
    "AsyncSessions",
    "AsyncSettings",
    "AsyncSingle",
    "AsyncSources",
    "AsyncSteps",
    "AsyncStore",
    "AsyncStream",
    "AsyncToolCalls",
    "AsyncTrash",
    "AsyncWorkflow",
    "AsyncWorkflows",
]
