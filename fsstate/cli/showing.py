"""`show`: a record or a session as a person wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import click

from fsstate.backends.base import LOG, MARKDOWN, Backend, Blob, Ref
from fsstate.cli import output
from fsstate.cli.addresses import KINDS, Record, find, is_session
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.drafts import check
from fsstate.cli.logs import entry_line
from fsstate.errors import FsStateError, NotFoundError

if TYPE_CHECKING:
    from msgspec import Struct
    from rich.text import Text
    from rich.tree import Tree

    from fsstate.messages import Message
    from fsstate.session import SessionHandle
    from fsstate.sessions import SessionSummary

__all__ = ["draw_conversation", "show"]

_DEFAULT: Final = 20
_WIDTH: Final = 72
_MOST_NAMES: Final = 8


@click.command(
    cls=Command,
    shape=(
        'document: {"record", "kind": "document", "path", "revision", "value"}',
        'Markdown: {"record", "kind": "markdown", "path", "revision", "front_matter", "text"}',
        'log:      {"record", "kind": "log", "path", "count", "first", "last", "problems", "entries"}',
        'session:  {"record", "kind": "session", "path", "revision", "value", "summary", "head", "leaves",',
        '           "messages"}',
    ),
)
@click.argument("record", type=Record())
@click.option(
    "-n",
    "--last",
    "number",
    type=click.IntRange(min=0),
    help="Show so many messages or entries; 0 is all.  [default: 20, and all with --json]",
)
@click.option("--tree", is_flag=True, help="Show a session's whole conversation with its branches, a line a message.")
@pass_settings
def show(settings: Settings, record: str, number: int | None, tree: bool) -> None:
    """Show a record or a session with its conversation."""
    ref = find(settings, record)
    if is_session(ref):
        _show_session(settings, ref, number, tree)
    elif tree:
        raise click.UsageError(f"--tree is for sessions, and {ref} is none")
    elif ref.suffix == LOG:
        _show_log(settings, ref, number)
    else:
        _show_document(settings, ref)


# -- documents and logs


def _read(backend: Backend, ref: Ref) -> tuple[Blob, Any]:
    blob = backend.read(ref)
    if blob is None:
        raise NotFoundError(backend.location(ref))
    return blob, check(ref, blob.data, backend.location(ref))


def _about(backend: Backend, ref: Ref, kind: str) -> dict[str, Any]:
    return {"record": str(ref), "kind": kind, "path": backend.location(ref)}


def _show_document(settings: Settings, ref: Ref) -> None:
    blob, value = _read(settings.backend, ref)
    if settings.json:
        shown = {"value": value}
        if ref.suffix == MARKDOWN:
            shown = {"front_matter": value.front_matter, "text": value.text}
        about = _about(settings.backend, ref, KINDS[ref.suffix])
        output.json_document({**about, "revision": blob.revision, **shown})
        return
    _say_heading(ref, f"revision {blob.revision}")
    output.say(output.visible(blob.data.decode().removeprefix("\ufeff")).rstrip("\n"))


def _say_heading(ref: Ref, *facts: str) -> None:
    output.say(click.style(output.one_line(str(ref)), bold=True))
    for fact in facts:
        output.say(click.style(output.one_line(fact), dim=True))
    output.say()


def _show_log(settings: Settings, ref: Ref, number: int | None) -> None:
    from fsstate.journal import Log

    log = Log(settings.backend, ref)
    rows = list(log.rows())
    problems = [str(problem) for problem in log.problems()]
    wanted = number if number is not None else 0 if settings.json else _DEFAULT
    shown = rows[-wanted:]
    if settings.json:
        ends = {"first": rows[0]["seq"] if rows else None, "last": rows[-1]["seq"] if rows else None}
        about = _about(settings.backend, ref, KINDS[LOG])
        output.json_document({**about, "count": len(rows), **ends, "problems": problems, "entries": shown})
        return
    _say_heading(ref, output.count(len(rows), "entry").replace("entrys", "entries"), *problems)
    for row in shown:
        output.say(entry_line(row))


# -- sessions


def _show_session(settings: Settings, ref: Ref, number: int | None, tree: bool) -> None:
    blob, value = _read(settings.backend, ref)
    summary = settings.opened.sessions.summary(ref.name)
    if summary is None:
        raise NotFoundError(settings.backend.location(ref))
    messages = settings.opened.session(ref.name).messages
    if settings.json:
        head, leaves = messages.head(), messages.leaves()
        shown = messages.list(limit=number) if number else messages.all()
        about = {**_about(settings.backend, ref, "session"), "revision": blob.revision, "value": value}
        about |= {"summary": plain(summary), "head": head and head.id, "leaves": [leaf.id for leaf in leaves]}
        output.json_document({**about, "messages": [plain(message) for message in shown]})
        return
    _say_summary(summary, _belongings(settings.opened.session(ref.name)), settings.backend.location(ref))
    if tree:
        head = messages.head()
        draw_conversation(messages.all(), None if head is None else head.id)
        return
    wanted = _DEFAULT if number is None else number or None
    branch = messages.list()
    cut = 0 if wanted is None else max(0, len(branch) - wanted)
    if cut:
        output.say(click.style(f"… {output.count(cut, 'earlier message')}; -n 0 shows all\n", dim=True))
    for message in branch[cut:]:
        _say_message(message)


def plain(value: Struct) -> dict[str, Any]:
    """The object that stands for a typed record in JSON. Every field is there, named as on disk."""
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    return {shown: getattr(value, name) for shown, name in names}


def _belongings(session: SessionHandle) -> dict[str, str]:
    """What there is besides the session's document, in a few words each. What cannot be read is said so."""
    branches = len(session.messages.leaves())
    messages = output.count(session.messages.count(), "message")
    return {
        "goal": _in_words(lambda: _goal(session)),
        "tools": _in_words(lambda: _listed(tool.name for tool in session.tools.list())),
        "checkpoints": _listed(session.checkpoints.names()),
        "messages": messages if branches < 2 else f"{messages} in {branches} branches; --tree shows them",
    }


def _in_words(words: Callable[[], str]) -> str:
    try:
        return words()
    except FsStateError as error:
        return f"not readable: {error}"


def _goal(session: SessionHandle) -> str:
    goal = session.goal.get()
    if goal is None:
        return ""
    budget = "" if goal.token_budget is None else f", {goal.tokens_used:,} of {goal.token_budget:,} tokens"
    return f"{goal.objective} ({goal.status}{budget})"


def _listed(names: Iterable[str]) -> str:
    first = [*islice(names, _MOST_NAMES + 1)]
    return ", ".join(first[:_MOST_NAMES]) + (", …" if len(first) > _MOST_NAMES else "")


def _say_summary(summary: SessionSummary, belongings: Mapping[str, str], path: str) -> None:
    output.say(click.style(f"session {output.one_line(summary.id)}", bold=True))
    facts = {
        "title": summary.title,
        "label": summary.label,
        "status": summary.status + (", archived" if summary.archived else ""),
        "user": summary.user_id,
        "project": summary.project_id,
        "parent": summary.parent_id,
        "model": summary.last_model,
        "created": output.shown_time(summary.created_at),
        "updated": output.shown_time(summary.updated_at),
        **belongings,
        "file": path,
    }
    for name, fact in facts.items():
        if fact:
            output.say(f"  {click.style(f'{name:<11}', dim=True)} {output.one_line(fact)}")
    output.say()


def _say_message(message: Message) -> None:
    at = output.shown_time(message.created_at)
    facts = "  ".join(output.one_line(fact) for fact in (at, message.model, _status(message)) if fact)
    output.say(
        f"{click.style(output.one_line(message.role), bold=True, fg=_colour(message))}  {click.style(facts, dim=True)}"
    )
    for piece in _pieces(message.content):
        for line in output.visible(piece).splitlines():
            output.say(f"  {line}".rstrip())
    output.say()


def _colour(message: Message) -> str:
    return {"user": "green", "assistant": "cyan"}.get(message.role, "yellow")


def _status(message: Message) -> str:
    return "" if message.status == "complete" else message.status


def _pieces(content: Any) -> Iterator[str]:
    """The texts in a message's content, and a word for each block of another kind."""
    for block in content if _is_list(content) else [content]:
        if isinstance(block, dict):
            yield _piece(cast("dict[str, Any]", block))
        elif block is not None:
            yield str(block)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _piece(block: dict[str, Any]) -> str:
    text, name = block.get("text"), block.get("name")
    if isinstance(text, str):
        return text
    return f"[{block.get('type', 'block')}{f' {name}' if isinstance(name, str) else ''}]"


def draw_conversation(messages: list[Message], head: str | None) -> None:
    """Draw a conversation as a tree. What goes on without a branch stays at one level, however long it is."""
    from rich.tree import Tree

    by_id = {message.id: message for message in messages}
    below: dict[str | None, list[Message]] = {}
    for message in messages:
        below.setdefault(message.parent_id if message.parent_id in by_id else None, []).append(message)
    trunk = Tree("", hide_root=True)
    waiting: list[tuple[Message, Tree, bool]] = []
    _branch_off(below.pop(None, []), trunk, trunk, waiting)
    left = dict(by_id)
    while waiting or left:
        if not waiting:
            # A circle of parents hangs on nothing; it is shown from its first message.
            first = next(iter(left.values()))
            waiting.append((first, trunk, True))
        message, place, starts_branch = waiting.pop()
        if left.pop(message.id, None) is None:
            continue
        node = place.add(_label(message, head))
        _branch_off(below.get(message.id, []), node, node if starts_branch else place, waiting)
    output.draw(trunk)


def _branch_off(children: list[Message], node: Tree, place: Tree, waiting: list[tuple[Message, Tree, bool]]) -> None:
    """One child goes on where its parent stands; several hang below it. Said backwards: the last is taken first."""
    if len(children) == 1:
        waiting.append((children[0], place, False))
    else:
        waiting.extend((child, node, True) for child in reversed(children))


def _label(message: Message, head: str | None) -> Text:
    from rich.text import Text

    label = Text()
    label.append(output.one_line(message.role), style=f"bold {_colour(message)}")
    text = " ".join(_pieces(message.content))
    label.append(f"  {output.brief(text, _WIDTH)}")
    if _status(message):
        label.append(f"  {output.one_line(message.status)}", style="dim")
    if message.id == head:
        label.append("  ← head", style="bold")
    return label
