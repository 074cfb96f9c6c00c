"""fsstate in five minutes, in sync code. Run it, then look into the directory that it names.

python examples/quickstart.py [DIRECTORY]
"""

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import fsstate


@dataclass
class Agent:
    model: str
    status: str = "idle"
    runs: int = 0
    tags: list[str] = field(default_factory=list)


def main(directory: Path) -> None:
    with fsstate.Store(directory) as store:
        # JSON documents: dicts, or typed.
        agents = store.collection("agents", model=Agent)
        agents.put("planner", Agent("m1", tags=["plan"]))
        with agents.edit("planner") as agent:
            agent.runs += 1
        print("planner:", agents["planner"])

        # A write that must not overwrite what it has not seen.
        seen = agents.revision("planner")
        agents.update("planner", lambda agent: Agent(agent.model, "busy", agent.runs + 1, agent.tags))
        try:
            agents.put("planner", Agent("m2"), expect=seen)
        except fsstate.ConflictError as conflict:
            print("refused:", conflict)

        # Markdown with front matter, and a log.
        store.markdown("notes").put("standup", fsstate.Document("# Standup\n\nAll well.\n", {"tags": ["daily"]}))
        trail = store.journal("audit", "trail")
        trail.append("agent_started", agent="planner")
        print("audit:", [entry.kind for entry in trail.tail(10)])

        # A conversation: a tree of messages, with a reply that streams in.
        session = store.sessions.create(user_id="ada")
        chat = store.session(session.id)
        question = chat.messages.append("user", "Where do my files live?")
        with chat.messages.stream("assistant", model="m1") as reply:
            for word in ("In ", "a ", "directory."):
                reply.write(word)
        chat.messages.fork_at(question.id, "assistant", "Right here.")  # another answer to the same question
        print("now:", [message.text for message in chat.messages.list()])
        print("branches:", len(chat.messages.leaves()))

        for summary in store.sessions.list(user_id="ada"):
            print("session:", summary.title, summary.message_count, "messages")
        print("to prune:", len(store.sessions.prune(fsstate.PrunePolicy(ttl=timedelta(days=7)), dry_run=True).pruned))
        print("the file:", store.path_of(session))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-state"))
