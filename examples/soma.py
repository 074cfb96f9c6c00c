"""A day of soma-studio on fsstate: sources, a conversation, runs of tasks, changes of files, and a crash in the middle.

    python examples/soma.py [DIRECTORY]

Without a directory it makes a new one. What each function of soma's own storage is called here: see README.md.
"""

import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable

import anyio

import fsstate

# A session of soma is a browser that came by: the owner of its conversations, runs and audits.
ADA, BOB = "browser-of-ada", "browser-of-bob"


async def morning(store: fsstate.AsyncStore) -> None:
    for path in ("/home/ada/docs", "/home/ada/notes", "/home/ada/docs"):
        await store.sources.add(path)
    docs, notes = await store.sources.list()
    ingest = await store.sources.start_ingest("docs", docs.id)
    found = [fsstate.SourceFile(relative_path=name, size_bytes=120) for name in ("guide.md", "faq.md")]
    found.append(fsstate.SourceFile(relative_path="logo.png", status="skipped", last_error="no text"))
    await store.sources.replace_files(docs.id, found)
    await store.sources.finish_ingest(ingest.id, file_count=len(found))
    status = await store.sources.status()
    print("sources:", [docs.path, notes.path], f"{status.indexed_files} of {status.total_files} files are indexed")

    await store.settings.set("providers/ollama", {"ok": True, "detail": "0.5.1"})
    await store.settings.set("provider_selection", {"provider": "ollama", "model_id": "qwen3:8b"})

    mine = store.sessions.owned_by(ADA)
    conversation = await mine.create()
    messages = store.session(conversation.id).messages
    await messages.append("user", "How is the ingest to be split?")
    async with messages.stream("assistant", model="qwen3:8b", metadata={"provider": "ollama"}) as answer:
        for piece in ("By source, ", "then by file."):
            await answer.write(piece)
    for summary in await mine.list():
        print(f"conversation: {summary.title!r}, {summary.message_count} messages")

    # For everybody else it does not exist, and nobody can take it.
    theirs = store.sessions.owned_by(BOB)
    print("seen by Bob:", await theirs.list())
    try:
        await theirs.get_or_create(conversation.id)
    except fsstate.WrongOwnerError:
        print("refused: it belongs to a different owner")

    run = await store.runs.start("git_status", session_id=ADA, path=".", command="git status --short")
    run = await store.runs.finish(run.id, exit_code=0, stdout_tail="M guide.md\n")
    print("run:", run.task, run.status, repr(run.stdout_tail))
    audit = await store.audits.start("rename_path", "faq.md", target_path="guide.md", session_id=ADA, size_before=120)
    why = "there is such a file"
    audit = await store.audits.finish(audit.id, "failed", error=why, error_code="workspace_conflict")
    print("change:", audit.action, audit.status, audit.error_code)


async def die_at_work(store: fsstate.AsyncStore) -> None:
    """What the child process does until it is killed: four things at once."""
    await store.runs.start("cargo_check", session_id=ADA, path=".", command="cargo check --workspace")
    await store.audits.start("write_text", "guide.md", session_id=ADA, size_before=120)
    await store.sources.start_ingest("all sources")
    conversation = await store.sessions.owned_by(ADA).create(title="Afternoon")
    async with store.session(conversation.id).messages.stream("assistant", model="qwen3:8b") as answer:
        await answer.write("While the check is ")
        print("at work", flush=True)
        await anyio.sleep_forever()


async def look(store: fsstate.AsyncStore) -> None:
    """What another program sees meanwhile; it settles nothing that somebody works on."""
    report = await store.recover()
    print("at work:", sorted(flight.category for flight in report.alive), "settled:", report.settled)


async def evening(store: fsstate.AsyncStore) -> None:
    for run in await store.runs.list(session_id=ADA, error_code="workspace_task_interrupted"):
        print(f"run: {run.task} {run.status}: {run.error}")
    for audit in await store.audits.list(session_id=ADA, error_code="workspace_file_change_interrupted"):
        print(f"change: {audit.action} of {audit.path} {audit.status}: {audit.error}")
    status = await store.sources.status()
    print("ingests:", [(ingest.scope, ingest.status) for ingest in status.ingests], "running:", status.is_running)

    latest, _ = await store.sessions.list(user_id=ADA, limit=None)
    for message in await store.session(latest.id).messages.list():
        print(f"conversation {latest.title!r}: {message.role} ({message.status}): {message.text}")
    print("selected:", await store.settings.get("provider_selection"))
    print("left to migrate:", (await store.migrate(dry_run=True)).migrated)


async def opened(directory: str, work: Callable[[fsstate.AsyncStore], Awaitable[None]], recover: bool = True) -> None:
    async with fsstate.AsyncStore(directory, recover=recover) as store:
        await work(store)


def main(directory: str) -> None:
    anyio.run(opened, directory, morning)
    with subprocess.Popen([sys.executable, __file__, directory, "--die"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        anyio.run(opened, directory, look, False)
        child.kill()
    print("killed")
    anyio.run(opened, directory, evening)


if __name__ == "__main__":
    if "--die" in sys.argv:
        anyio.run(opened, sys.argv[1], die_at_work)
    else:
        state = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="soma-")
        print("state in", state)
        main(state)
