"""A day of zero-session on fsstate: a terminal's history of events, milestones, and a crash in the middle.

    python examples/zero_session.py [DIRECTORY]

Without a directory it makes a new one and names it. What each function of zero-session's own store is called here
stands in examples/README.md.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import fsstate

KINDS = ("prompt", "system", "command", "warn", "alert", "mode_change")


def history(store: fsstate.Store, session_id: str) -> fsstate.Journal:
    """A session's events, which are of no other kinds."""
    return store.session(session_id).journal("events", kinds=KINDS)


def first_session(store: fsstate.Store) -> str:
    if store.settings.get("milestones/welcome_shown") is None:
        print("welcome!")
        store.settings.set("milestones/welcome_shown", "true")

    session = store.sessions.create(metadata={"cli_version": "0.3.0"})
    events = history(store, session.id)
    events.append("prompt", text="/status")
    events.append("command", text="all quiet")
    events.append("prompt", text="/buy 1")
    events.append("mode_change", text="live")
    print("appended event number", events.append("prompt", text="/buy 2"))
    try:
        events.append("gossip", text="psst")
    except fsstate.InvalidValueError as refused:
        print("refused:", refused.reason.partition(" for ")[0])

    # The first one counts, whoever comes later.
    store.settings.set_once("milestones/first_live_trade", "buy 1")
    print("first trade:", store.settings.set_once("milestones/first_live_trade", "buy 2"))

    store.sessions.set_label(session.id, "friday")
    ended = store.sessions.end(session.id).ended_at
    assert ended == store.sessions.end(session.id).ended_at, "the first end counts"
    return session.id


def die_in_the_middle(directory: str, parent_id: str) -> None:
    """What the child process does until it is killed."""
    with fsstate.Store(directory) as store:
        fork = store.sessions.fork(parent_id)
        history(store, fork.id).append("prompt", text="/arm")
        history(store, fork.id).append("warn", text="feed is late")
        print(fork.id, flush=True)
        sys.stdin.read()


def wrap_up(store: fsstate.Store, session_id: str) -> None:
    """The report of a session; the terminal writes one for those of two hours and more."""
    session = store.sessions.require(session_id)
    events = history(store, session_id).tail(10_000)
    commands = Counter(entry["text"].split()[0] for entry in events if entry["text"].startswith("/"))
    lasted = (session.ended_at or store.options.clock()) - (session.created_at or store.options.clock())
    report = {
        "schema": 1,
        "session_ulid": session_id,
        "duration_secs": max(0, lasted // timedelta(seconds=1)),
        "total_events": len(events),
        "event_counts": {kind: sum(entry.kind == kind for entry in events) for kind in KINDS},
        "top_commands": sorted(commands.items(), key=lambda each: (-each[1], each[0]))[:10],
    }
    store.collection("wraps").put(session_id, report)
    print("report:", report["top_commands"])


def next_morning(store: fsstate.Store, crashed: str) -> None:
    for summary in store.sessions.list(order_by="-created_at", limit=10):
        session = store.sessions.require(summary.id)
        state = "interrupted" if session.ended_at is None else "ended"
        print(f"session: {state}, {history(store, session.id).count()} events, label {session.label}")

    # A session is found by its id, the beginning of that, or its label.
    friday = store.sessions.find("friday")
    assert store.sessions.require(crashed).parent_id == friday.id
    for entry in history(store, friday.id).tail(200):
        shown = "system" if entry.kind == "mode_change" else entry.kind
        print(f"  {entry.seq} {shown}: {entry['text']}")
    shared = [{"seq": entry.seq, "kind": entry.kind, **entry.fields} for entry in history(store, crashed).tail(1000)]
    print("to share:", json.dumps(shared))
    wrap_up(store, friday.id)


def main(directory: Path) -> None:
    with fsstate.Store(directory) as store:
        session_id = first_session(store)

    command = [sys.executable, __file__, str(directory), "--die", session_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        crashed = child.stdout.readline().strip()
        child.kill()
    print("killed")

    with fsstate.Store(directory) as store:
        next_morning(store, crashed)


if __name__ == "__main__":
    if "--die" in sys.argv:
        die_in_the_middle(sys.argv[1], sys.argv[-1])
    else:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="zero-session-"))
        print("state in", directory)
        main(directory)
