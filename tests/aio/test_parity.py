"""The async API has the names, parameters and documentation of the sync one."""

import inspect
from typing import Any

import pytest

import fsstate
from fsstate import aio
from fsstate.documents import Documents
from fsstate.session import SessionHandle
from fsstate.sessions import Sessions
from fsstate.workflows import Leaves

PAIRS: list[tuple[type, type]] = [
    (fsstate.Store, aio.AsyncStore),
    (Documents, aio.AsyncDocuments),
    (fsstate.Collection, aio.AsyncCollection),
    (fsstate.Markdown, aio.AsyncMarkdown),
    (fsstate.Journal, aio.AsyncJournal),
    (Sessions, aio.AsyncSessions),
    (fsstate.OwnedSessions, aio.AsyncOwnedSessions),
    (SessionHandle, aio.AsyncSessionHandle),
    (fsstate.Messages, aio.AsyncMessages),
    (fsstate.Stream, aio.AsyncStream),
    (fsstate.Records, aio.AsyncRecords),
    (fsstate.Single, aio.AsyncSingle),
    (fsstate.ItemSet, aio.AsyncItemSet),
    (fsstate.Runs, aio.AsyncRuns),
    (fsstate.Audits, aio.AsyncAudits),
    (fsstate.Jobs, aio.AsyncJobs),
    (fsstate.Checkpoints, aio.AsyncCheckpoints),
    (fsstate.SessionGoal, aio.AsyncSessionGoal),
    (fsstate.Settings, aio.AsyncSettings),
    (fsstate.Sources, aio.AsyncSources),
    (fsstate.Workflows, aio.AsyncWorkflows),
    (fsstate.Workflow, aio.AsyncWorkflow),
    (Leaves, aio.AsyncLeaves),
    (fsstate.ToolCalls, aio.AsyncToolCalls),
    (fsstate.Steps, aio.AsyncSteps),
    (fsstate.Trash, aio.AsyncTrash),
    (fsstate.History, aio.AsyncHistory),
]
# Steps that the async API is made of, and what stays with the sync side, `AsyncStore.sync`.
INSIDE = {
    *("filling", "keep_within_limits"),
    *("ref_of", "put_change", "create_change", "update_change", "open_edit", "change_each", "saved", "prepare"),
    "handed_out",
    *(
        "encode",
        "compose",
        "close",
        "over",
        "of",
        "log",
        "backend",
        "owner",
        "owner_ref",
        "folder_of",
        "category",
        "content",
        "metadata",
        "model",
    ),
}
# Plain attributes there, properties here.
ATTRIBUTES = {"kind", "id", "message", "options", "path"}
# Async code waits for them in another way than by await.
NOT_AWAITED = {
    "edit",
    "items",
    "stream",
    "path_of",
    "peek",
    "auto_prune",
    "collection",
    "markdown",
    "journal",
    "session",
    "workflow",
    "owned_by",
    "records",
}


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} - INSIDE


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(one.name, one.default, one.kind) for one in found if one.name != "self"]


@pytest.mark.parametrize(("sync", "mirror"), PAIRS, ids=lambda cls: cls.__name__)
def test_names(sync: type, mirror: type) -> None:
    assert public(mirror) - {"sync", "offload"} - ATTRIBUTES == public(sync) - ATTRIBUTES


@pytest.mark.parametrize(
    ("sync", "mirror", "name"),
    [(sync, mirror, name) for sync, mirror in PAIRS for name in sorted(public(sync))],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_signatures(sync: type, mirror: type, name: str) -> None:
    ours, theirs = inspect.getattr_static(sync, name), inspect.getattr_static(mirror, name)
    assert inspect.isfunction(ours) == inspect.isfunction(theirs)
    if not inspect.isfunction(ours):
        return
    assert parameters(getattr(mirror, name)) == parameters(getattr(sync, name))
    assert getattr(mirror, name).__doc__
    if name not in NOT_AWAITED:
        assert inspect.iscoroutinefunction(getattr(mirror, name))
