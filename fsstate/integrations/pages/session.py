"""The page of a session: what it is, the conversation, and everything else that belongs to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from fsstate.backends.base import JSON, LOG, MARKDOWN
from fsstate.conversation import text_of
from fsstate.integrations.items import Object, is_list, is_object
from fsstate.integrations.pages.calls import call, duration, step
from fsstate.integrations.pages.logs import lines
from fsstate.integrations.pages.marks import Cut, brief, code, count, facts, fenced, folded, json_of, plain
from fsstate.integrations.pages.messages import MessageBlocks
from fsstate.integrations.pages.prose import prose
from fsstate.integrations.pages.threads import Fork, Turn, UnFork, head_branch, threads
from fsstate.integrations.whole import WholeSession
from fsstate.journal import Log
from fsstate.names import key_of
from fsstate.projection import Row
from fsstate.session_documents import Session
from fsstate.summaries import given_title, project_of, title_of
from fsstate.visible import shown_time

__all__ = ["Branches", "SessionPage"]

Branches: TypeAlias = Literal["all", "head"]

_WIDTH: Final = 100
_CHECKPOINTS: Final = "checkpoints/"
# What a config's `auth` keeps in clear; a page is made to be passed on.
_SECRETS: Final = ("token", "key")


class SessionPage:
    """One session's page, as blocks that stand apart from each other."""

    def __init__(self, whole: WholeSession, branches: Branches, cut: Cut | None) -> None:
        self._whole = whole
        self._session = whole.handle
        self._branches = branches
        self._cut = cut
        self._tree = whole.tree()
        self._calls = whole.attempt(self._session.tool_calls.list) or []
        self._goal_there = whole.attempt(self._session.goal.get)
        self._messages = MessageBlocks(self._calls, self._session.messages.path, cut)

    def blocks(self) -> Iterator[str]:
        """The page from its title to what is wrong."""
        self._whole.check_logs()
        yield from self._head()
        yield from self._goal()
        yield from self._conversation()
        yield from self._other_calls()
        yield from self._steps()
        yield from self._events()
        yield from self._checkpoints()
        yield from self._documents()
        yield from self._notes()
        yield from self._logs()
        yield from self._problems()

    # What it is

    def _head(self) -> Iterator[str]:
        session = self._whole.attempt(self._session.document) or Session(id=self._session.id)
        first = next((row for row in self._tree.rows.values() if row.get("role") == "user"), Row())
        title = given_title(session) or title_of(text_of(first.get("content"))) or f"Session {session.id}"
        yield f"# {plain(brief(title, _WIDTH))}"
        yield facts(self._facts(session))
        if len(title) > _WIDTH or "\n" in title.strip():
            yield from folded("Whole title", fenced(title))
        if self._whole.problems:
            told = count(len(self._whole.problems), "problem")
            yield f"**{told} found in the files of this session; the end of this page tells which.**"
        if session.metadata:
            yield from folded("Metadata", fenced(json_of(session.metadata), "json", self._cut))

    def _facts(self, session: Session) -> Iterator[tuple[str, str]]:
        yield "session", code(session.id)
        yield "label", plain(session.label or "")
        yield "user", plain(session.user_id or "")
        yield "project", plain(project_of(session) or "")
        yield "parent", code(session.parent_id) if session.parent_id else ""
        yield "forked at", code(session.parent_message_id) if session.parent_message_id else ""
        states = ("pinned" * session.pinned, "archived" * (session.archived_at is not None))
        yield "status", ", ".join(each for each in (plain(session.status), *states) if each)
        yield "memory mode", plain(session.memory_mode or "")
        yield "created", shown_time(session.created_at)
        took = duration(session.created_at, session.updated_at)
        yield (
            "updated",
            shown_time(session.updated_at) + (f", {took} later" if took else ""),
        )
        yield "ended", shown_time(session.ended_at)
        yield "models", self._counted(row.get("model") for row in self._tree.rows.values() if row.get("model"))
        yield "messages", self._in_branches()
        yield "tool calls", self._counted(each.status for each in self._calls)

    def _in_branches(self) -> str:
        number, ends = len(self._tree.rows), len(self._tree.leaves())
        return f"{number:,}" + (f", in {ends} branches" if ends > 1 else "") if number else "none"

    def _counted(self, values: Iterator[Any]) -> str:
        """How often each value comes, the commonest first."""
        found = Counter(map(str, values))
        return ", ".join(f"{number:,} × {plain(each)}" for each, number in found.most_common())

    def _goal(self) -> Iterator[str]:
        goal = self._goal_there
        if goal is None:
            return
        yield "## Goal"
        yield from prose(goal.objective)
        budget = "" if goal.token_budget is None else f" of {goal.token_budget:,}"
        used = f"{goal.tokens_used:,}{budget} tokens and {goal.time_used_seconds:,.6g} s used"
        yield facts([("goal", code(goal.id)), ("status", plain(goal.status)), ("budget", used)])

    # The conversation

    def _conversation(self) -> Iterator[str]:
        yield "## Conversation"
        if not self._tree.rows:
            yield "*(no messages)*"
        elif self._branches == "head" and self._tree.end is None:
            yield "*(the conversation goes on from no message; `--branch all` shows all)*"
        alone = True
        for piece in head_branch(self._tree) if self._branches == "head" else threads(self._tree):
            if isinstance(piece, Fork):
                yield from _opened(piece)
            elif isinstance(piece, UnFork):
                yield "</details>"
            else:
                yield from self._turn(piece, alone)
                alone = bool(piece.begins)

    def _turn(self, turn: Turn, alone: bool) -> Iterator[str]:
        if turn.begins == "anew" and not alone:
            yield "*A new beginning: this follows none of the messages before.*"
        elif turn.begins not in ("", "anew"):
            yield f"*This follows the message {code(turn.begins)}, which is not here.*"
        yield from self._messages.of(turn.row, turn.number, is_outer=not turn.depth)
        if turn.others:
            told = count(turn.others, "other continuation")
            hint = " left out here; `--branch all` shows them" if self._branches == "head" else ""
            yield f"*{told}{hint}*" if hint else f"*{told}:*"

    def _other_calls(self) -> Iterator[str]:
        if self._branches == "head":
            calls = [each for each in self._calls if each.message_id not in self._tree.rows]
        else:
            calls = self._calls
        left = [each for each in calls if each.id not in self._messages.shown]
        if left:
            yield "## Other tool calls"
            for each in left:
                yield from call(each, self._cut)

    # What else it has

    def _steps(self) -> Iterator[str]:
        steps = self._whole.attempt(self._session.steps.list) or []
        if steps:
            yield f"## Steps ({len(steps):,})"
            for each in steps:
                yield from step(each, self._cut)

    def _events(self) -> Iterator[str]:
        yield from self._log("Events", self._session.events.log)

    def _log(self, name: str, log: Log) -> Iterator[str]:
        kinds = self._whole.attempt(lambda: Counter(str(row.get("kind", "")) for row in log.rows()))
        if not kinds:
            return
        total = sum(kinds.values())
        yield f"## {name} ({total:,})"
        told = ", ".join(f"{number:,} × {plain(kind) or '(no kind)'}" for kind, number in kinds.most_common())
        yield told
        yield from folded("All entries", lines(log.rows(), self._cut))

    def _checkpoints(self) -> Iterator[str]:
        places = [each for each in self._whole.belongings(JSON) if each.place.startswith(_CHECKPOINTS)]
        found = [(each, self._whole.attempt(partial(self._whole.json, each.ref))) for each in places]
        if found:
            yield f"## Checkpoints ({len(found):,})"
        for belonging, value in sorted(found, key=lambda pair: _saved_at(pair[1])):
            at = shown_time(_saved_at(value))
            name = key_of(belonging.ref.name)
            state = value.get("state") if is_object(value) else value
            summary = " · ".join(each for each in (f"Checkpoint {name}", at) if each)
            yield from folded(summary, fenced(json_of(state), "json", self._cut))

    def _documents(self) -> Iterator[str]:
        found = [each for each in self._whole.belongings(JSON) if not each.place.startswith(_CHECKPOINTS)]
        shown = [each for each in found if each.place != "goal" or self._goal_there is None]
        if shown:
            yield "## Documents"
        for place, ref in shown:
            value = self._whole.attempt(partial(self._whole.json, ref))
            if place == "config":
                value = _without_secrets(value)
            yield from folded(f"{place}{JSON}", fenced(json_of(value), "json", self._cut))

    def _notes(self) -> Iterator[str]:
        for place, ref in self._whole.belongings(MARKDOWN):
            yield f"## {plain(place)}{MARKDOWN}"
            yield from folded("The note as it stands", fenced(self._whole.text(ref) or "", "markdown"))

    def _logs(self) -> Iterator[str]:
        for place, ref in self._whole.belongings(LOG):
            yield from self._log(f"{plain(place)}{LOG}", Log(self._whole.backend, ref))

    def _problems(self) -> Iterator[str]:
        if self._whole.problems:
            yield f"## Problems ({len(self._whole.problems):,})"
            yield "What the files of this session hold and could not be read. Nothing of it was changed."
            yield "\n".join(f"- {plain(each)}" for each in self._whole.problems)


def _opened(fork: Fork) -> Iterator[str]:
    """The beginning of another continuation."""
    row = fork.first
    said = brief(text_of(row.get("content")), 60)
    facts = (f"Continuation {fork.number} of {fork.of}", str(row.get("role", "")), shown_time(row.get("at")), said)
    opening, _ = folded(" · ".join(fact for fact in facts if fact), ())
    yield opening


def _saved_at(value: Any) -> str:
    at = value.get("saved_at") if is_object(value) else None
    return at if isinstance(at, str) else ""


def _without_secrets(value: Any) -> Any:
    """A config without what may not be passed on."""
    if is_list(value):
        return [_without_secrets(each) for each in value]
    if not is_object(value):
        return value
    kept: Object = {key: _without_secrets(each) for key, each in value.items()}
    if is_object(auth := kept.get("auth")):
        kept["auth"] = {key: "(left out)" if key in _SECRETS else each for key, each in auth.items()}
    return kept
