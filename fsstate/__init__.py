"""State of applications and agents as plain files: durable, concurrent, readable, diffable.

    >>> import fsstate
    >>> store = fsstate.Store("state")
    >>> revision = store.collection("agents").put("planner", {"model": "m1"})
    >>> session = store.sessions.create(user_id="u1")
    >>> store.session(session.id).messages.append("user", "Hello").text
    'Hello'
    >>> store.close()

`AsyncStore` is the same, awaited. What is listed here is the public API; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsstate.errors import (
    AlreadyExistsError,
    AmbiguousIdError,
    ConflictError,
    CorruptRecordError,
    FsStateError,
    GitError,
    InvalidCursorError,
    InvalidNameError,
    InvalidQueryError,
    InvalidTransitionError,
    InvalidValueError,
    LockTimeoutError,
    MigrationError,
    MissingExtraError,
    NewerFormatError,
    NewerVersionError,
    NotFoundError,
    OutcomeUnknownError,
    SearchUnavailableError,
    StorageError,
    StoreClosedError,
    UncommittedError,
    UnsafePathError,
    UnsupportedFileSystemError,
    ValidationError,
    WrongOwnerError,
)

if TYPE_CHECKING:
    from fsstate.agents import Agent
    from fsstate.aio import AsyncHistory, AsyncRecords, AsyncStore
    from fsstate.audits import Audit, Audits
    from fsstate.checkpoints import Checkpoint, Checkpoints
    from fsstate.collection import Collection
    from fsstate.conditions import Contains, OneOf, Prefix, Range
    from fsstate.conflicts import Conflict
    from fsstate.doctor import DoctorReport, Finding
    from fsstate.documents import Item, Record
    from fsstate.dynamic_tools import Tool
    from fsstate.frontmatter import Document
    from fsstate.git import FileChange, History, RecordCommit, RecordVersion, RestoredFile, RestoreReport, SetupReport
    from fsstate.goals import Goal, SessionGoal
    from fsstate.ids import new_id
    from fsstate.jobs import Job, JobEvent, Jobs
    from fsstate.journal import Entry, Journal
    from fsstate.lifecycle import Lifecycle
    from fsstate.markdown import Markdown
    from fsstate.messages import Message, Messages, Stream
    from fsstate.migrations import Migration
    from fsstate.migrator import Migrated, MigrationReport
    from fsstate.mounts import FileSystem, Trait
    from fsstate.names import quote_name, unquote_name
    from fsstate.options import StoreOptions
    from fsstate.queries import Page
    from fsstate.record_types import RecordType, Recovery
    from fsstate.records import Records
    from fsstate.recovery import InFlight, RecoveryReport, Settled
    from fsstate.retention import Kept, Planned, Pruned, PrunePlan, PrunePolicy, PruneReport, Throttle
    from fsstate.runs import Run, Runs
    from fsstate.search import SearchHit
    from fsstate.session import SessionHandle
    from fsstate.session_config import (
        AlwaysAsk,
        ApiKeyAuth,
        BearerAuth,
        Blacklist,
        LocalWorkspace,
        Mixed,
        PreApproved,
        RemoteWorkspace,
        SessionConfig,
        ToolConfig,
        ToolRules,
        Whitelist,
    )
    from fsstate.session_lists import SessionFilters
    from fsstate.sessions import OwnedSessions, Session, Sessions, SessionSummary
    from fsstate.settings import Setting, Settings
    from fsstate.single import ItemSet, Single
    from fsstate.sources import Ingest, IngestStatus, SourceFile, SourceRoot, Sources
    from fsstate.stats import CategoryUsage, Garbage, Growth, SessionUsage, StoreStats, Usage
    from fsstate.steps import Step, Steps
    from fsstate.store import Store
    from fsstate.tool_calls import ToolCall, ToolCalls
    from fsstate.trash import Trash, TrashItem, TrashReport
    from fsstate.workflows import BranchRun, ControlNodeRun, LeafRun, TeacherCandidate, Workflow, WorkflowRun, Workflows

__all__ = [
    "Agent",
    "AlreadyExistsError",
    "AlwaysAsk",
    "AmbiguousIdError",
    "ApiKeyAuth",
    "AsyncHistory",
    "AsyncRecords",
    "AsyncStore",
    "Audit",
    "Audits",
    "BearerAuth",
    "Blacklist",
    "BranchRun",
    "CategoryUsage",
    "Checkpoint",
    "Checkpoints",
    "Collection",
    "Conflict",
    "ConflictError",
    "Contains",
    "ControlNodeRun",
    "CorruptRecordError",
    "DoctorReport",
    "Document",
    "Entry",
    "FileChange",
    "FileSystem",
    "Finding",
    "FsStateError",
    "Garbage",
    "GitError",
    "Goal",
    "Growth",
    "History",
    "InFlight",
    "Ingest",
    "IngestStatus",
    "InvalidCursorError",
    "InvalidNameError",
    "InvalidQueryError",
    "InvalidTransitionError",
    "InvalidValueError",
    "Item",
    "ItemSet",
    "Job",
    "JobEvent",
    "Jobs",
    "Journal",
    "Kept",
    "LeafRun",
    "Lifecycle",
    "LocalWorkspace",
    "LockTimeoutError",
    "Markdown",
    "Message",
    "Messages",
    "Migrated",
    "Migration",
    "MigrationError",
    "MigrationReport",
    "MissingExtraError",
    "Mixed",
    "NewerFormatError",
    "NewerVersionError",
    "NotFoundError",
    "OneOf",
    "OutcomeUnknownError",
    "OwnedSessions",
    "Page",
    "Planned",
    "PreApproved",
    "Prefix",
    "PrunePlan",
    "PrunePolicy",
    "PruneReport",
    "Pruned",
    "Range",
    "Record",
    "RecordCommit",
    "RecordType",
    "RecordVersion",
    "Records",
    "Recovery",
    "RecoveryReport",
    "RemoteWorkspace",
    "RestoreReport",
    "RestoredFile",
    "Run",
    "Runs",
    "SearchHit",
    "SearchUnavailableError",
    "Session",
    "SessionConfig",
    "SessionFilters",
    "SessionGoal",
    "SessionHandle",
    "SessionSummary",
    "SessionUsage",
    "Sessions",
    "Setting",
    "Settings",
    "Settled",
    "SetupReport",
    "Single",
    "SourceFile",
    "SourceRoot",
    "Sources",
    "Step",
    "Steps",
    "StorageError",
    "Store",
    "StoreClosedError",
    "StoreOptions",
    "StoreStats",
    "Stream",
    "TeacherCandidate",
    "Throttle",
    "Tool",
    "ToolCall",
    "ToolCalls",
    "ToolConfig",
    "ToolRules",
    "Trait",
    "Trash",
    "TrashItem",
    "TrashReport",
    "UncommittedError",
    "UnsafePathError",
    "UnsupportedFileSystemError",
    "Usage",
    "ValidationError",
    "Whitelist",
    "Workflow",
    "WorkflowRun",
    "Workflows",
    "WrongOwnerError",
    "__version__",
    "new_id",
    "quote_name",
    "unquote_name",
]

__version__ = "0.1.0"

_HOMES = {
    "agents": ("Agent",),
    "aio": ("AsyncHistory", "AsyncRecords", "AsyncStore"),
    "audits": ("Audit", "Audits"),
    "checkpoints": ("Checkpoint", "Checkpoints"),
    "collection": ("Collection",),
    "conditions": ("Contains", "OneOf", "Prefix", "Range"),
    "conflicts": ("Conflict",),
    "doctor": ("DoctorReport", "Finding"),
    "documents": ("Item", "Record"),
    "dynamic_tools": ("Tool",),
    "frontmatter": ("Document",),
    "git": (
        "FileChange",
        "History",
        "RecordCommit",
        "RecordVersion",
        "RestoreReport",
        "RestoredFile",
        "SetupReport",
    ),
    "goals": ("Goal", "SessionGoal"),
    "ids": ("new_id",),
    "jobs": ("Job", "JobEvent", "Jobs"),
    "journal": ("Entry", "Journal"),
    "lifecycle": ("Lifecycle",),
    "markdown": ("Markdown",),
    "messages": ("Message", "Messages", "Stream"),
    "migrations": ("Migration",),
    "migrator": ("Migrated", "MigrationReport"),
    "mounts": ("FileSystem", "Trait"),
    "names": ("quote_name", "unquote_name"),
    "options": ("StoreOptions",),
    "queries": ("Page",),
    "record_types": ("RecordType", "Recovery"),
    "records": ("Records",),
    "recovery": ("InFlight", "RecoveryReport", "Settled"),
    "retention": ("Kept", "Planned", "PrunePlan", "PrunePolicy", "PruneReport", "Pruned", "Throttle"),
    "runs": ("Run", "Runs"),
    "search": ("SearchHit",),
    "session": ("SessionHandle",),
    "session_config": (
        "AlwaysAsk",
        "ApiKeyAuth",
        "BearerAuth",
        "Blacklist",
        "LocalWorkspace",
        "Mixed",
        "PreApproved",
        "RemoteWorkspace",
        "SessionConfig",
        "ToolConfig",
        "ToolRules",
        "Whitelist",
    ),
    "session_lists": ("SessionFilters",),
    "sessions": ("OwnedSessions", "Session", "SessionSummary", "Sessions"),
    "settings": ("Setting", "Settings"),
    "single": ("ItemSet", "Single"),
    "sources": ("Ingest", "IngestStatus", "SourceFile", "SourceRoot", "Sources"),
    "stats": ("CategoryUsage", "Garbage", "Growth", "SessionUsage", "StoreStats", "Usage"),
    "steps": ("Step", "Steps"),
    "store": ("Store",),
    "tool_calls": ("ToolCall", "ToolCalls"),
    "trash": ("Trash", "TrashItem", "TrashReport"),
    "workflows": ("BranchRun", "ControlNodeRun", "LeafRun", "TeacherCandidate", "Workflow", "WorkflowRun", "Workflows"),
}


# Typed as object, and hidden from type checkers: they take the names from above, and must not take any others.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        for module, exported in _HOMES.items():
            if name in exported:
                value = globals()[name] = getattr(import_module(f"fsstate.{module}"), name)
                return value
        raise AttributeError(f"module 'fsstate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
