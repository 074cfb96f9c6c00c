"""A day of codewhale on fsstate: threads, forks, goals, checkpoints, jobs, a workflow that is replayed, and a crash.

    python examples/codewhale.py [DIRECTORY]

Without a directory it makes a new one. What each function of codewhale's own store is called here: see README.md.
"""

import subprocess
import sys
import tempfile
import time

import fsstate


def touch(store: fsstate.Store, thread: str, text: str) -> None:
    """A message from the user: the thread is running, and can be gone on with from here."""
    with store.sessions.edit(thread) as session:
        session.status = "running"
        session.metadata["preview"] = text[:20]
    message = store.session(thread).messages.append("user", text)
    store.session(thread).checkpoints.save("latest", {"reason": "thread_message", "message_id": message.id})


def morning(store: fsstate.Store) -> None:
    store.sessions.create(id="thread-1", title="Harbour", metadata={"source": "interactive", "git_branch": "main"})
    thread = store.session("thread-1")
    thread.tools.replace([fsstate.Tool(name="chart", description="Show a chart", input_schema={"type": "object"})])
    thread.goal.set("Find the harbour", token_budget=1000)

    touch(store, "thread-1", "Where is the harbour?")
    first = thread.messages.append("assistant", "At the sea.", model="m1")
    touch(store, "thread-1", "And when does it open?")
    thread.messages.append("assistant", "At six.", model="m1")
    goal = thread.goal.spend(tokens=1200, seconds=30)
    print("goal:", goal.status, goal.tokens_used, "of", goal.token_budget)

    # Another way on from the first answer; both stay.
    thread.messages.fork_at(first.id, "user", "And the lighthouse?")
    print("branch:", [message.text for message in thread.messages.list()])
    print("leaves:", [message.text for message in thread.messages.leaves()])

    # A thread of its own that goes on from there, and one that is put away and comes back as it was.
    store.sessions.fork("thread-1", new_id="thread-2", title="harbour", copy_messages=True)
    store.sessions.archive("thread-1")
    print("archived:", [summary.id for summary in store.sessions.list()])
    print("back:", store.sessions.unarchive("thread-1").status)
    found = store.sessions.find_title("HARBOUR")
    assert found is not None
    print("found:", found.id, store.sessions.titles(["thread-1", "thread-2", "thread-3"]))

    # A workflow remembers what a step made of the same input.
    run = store.workflows.start("review", "Review the charts", id="run-1")
    leaves = store.workflow(run.id).leaves
    leaves.create("leaf-1", leaf_id="read", task_id="t1", input_hash="h1")
    leaves.change("leaf-1", status="completed", output={"charts": 3})
    for hashed in ("h1", "h2"):
        known = leaves.replay("read", hashed)
        print("replay", hashed, "->", None if known is None else known.output)


def die_at_work(store: fsstate.Store) -> None:
    """What the child process does until it is killed."""
    store.jobs.create("draw the charts", id="job-1")
    store.jobs.start("job-1")
    store.jobs.progress("job-1", 40, detail="2 of 5")
    with store.session("thread-1").messages.stream("assistant", model="m1") as reply:
        reply.write("The lighthouse stands ")
        print("written", flush=True)
        time.sleep(600)


def evening(store: fsstate.Store) -> None:
    thread = store.session("thread-1")
    last = thread.messages.list()[-1]
    print("after the crash:", last.status, repr(last.text))
    checkpoint = thread.checkpoints.load()
    assert checkpoint is not None
    print("latest checkpoint:", checkpoint.name, checkpoint.state["reason"])

    # What ran in the program that died is queued again; what runs in one that lives would be left to it.
    for job in store.jobs.resume_pending():
        print("resumed:", job.id, job.status, job.progress, job.history[-1].phase)
    store.jobs.start("job-1")
    failed = store.jobs.fail("job-1", "no ink")
    print("failed:", failed.attempt, "of", failed.max_attempts, "- again in", failed.next_backoff_ms, "ms")
    store.jobs.retry("job-1")
    store.jobs.start("job-1")
    done = store.jobs.complete("job-1", {"charts": 5})
    print("done:", done.progress, [event.phase for event in done.history])
    print("interrupted:", [(each.id, each.status) for each in store.recover().settled])


def main(directory: str) -> None:
    with fsstate.Store(directory) as store:
        morning(store)

    with subprocess.Popen([sys.executable, __file__, directory, "--die"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()

    with fsstate.Store(directory) as store:
        evening(store)


if __name__ == "__main__":
    if "--die" in sys.argv:
        with fsstate.Store(sys.argv[1]) as store:
            die_at_work(store)
    else:
        state = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="codewhale-")
        print("state in", state)
        main(state)
