"""`demo`: a state directory at work. Everything that it prints happened."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fsstate.cli import crowd, output
from fsstate.cli.base import Command, Settings, pass_settings

if TYPE_CHECKING:
    from rich.tree import Tree

    from fsstate import SessionHandle, Store

__all__ = ["demo"]

_DIRECTORY: Final = "fsstate-demo"
# By this note a demo is known for one, and may be replaced.
_NOTE: Final = ("notes", "about-this-demo")
_ABOUT: Final = """---
title: About this directory
written_by: fsstate demo
---

`fsstate demo` wrote this directory. Every record is a file: open it in an editor, change it, commit it.
"""
_AGENTS: Final[dict[str, dict[str, Any]]] = {
    "planner": {"model": "large-1", "status": "idle", "runs": 0, "tools": ["search", "calendar"]},
    "researcher": {"model": "small-2", "status": "idle", "runs": 0, "tools": ["search"]},
    "writer": {"model": "large-1", "status": "idle", "runs": 0, "tools": []},
}
# The person's own settings may sign commits, run hooks or start a pager.
_GIT_SETTINGS: Final = (
    "user.name=fsstate demo",
    "user.email=demo@example.invalid",
    "commit.gpgsign=false",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "gc.auto=0",
    "init.defaultBranch=main",
)


@click.command(
    cls=Command,
    shape=(
        '{"directory", "appended", "updated", "runs", "sessions": [id], "pruned": [id], "diff"}',
        "diff is null without git",
    ),
)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@click.option("--force", is_flag=True, help="Replace an earlier demo. Nothing else is ever replaced.")
@pass_settings
def demo(settings: Settings, directory: str | None, force: bool) -> None:
    """Show fsstate at work.

    Makes a state directory, works on it from several processes at once, and shows what is in it. DIR is `fsstate-demo`
    by default, and must be empty or absent.
    """
    from fsstate import Store

    directory = directory or settings.named or _DIRECTORY
    _make_room(directory, force)
    say = _Narrator(quiet=settings.json)
    _write_an_old_session(directory)
    with Store(directory) as store:
        _write_documents(store, say)
        _let_many_work(store, say)
        _write_sessions(store, say)
        pruned = _prune(store, say)
        diff = _change_under_git(store, say)
        found = store.sessions.ids()
        runs = store.collection("agents")["planner"]["runs"]
        appended = store.journal("audit", "trail").count()
    if settings.json:
        facts = {
            "directory": str(Path(directory).absolute()),
            "appended": appended,
            "updated": crowd.UPDATES,
            "runs": runs,
        }
        output.json_document({**facts, "sessions": found, "pruned": pruned, "diff": diff})
    else:
        _show(directory, found, diff)


class _Narrator:
    """Says what was done, a number before each."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._number = 0

    def __call__(self, text: str) -> None:
        if not self._quiet:
            self._number += 1
            output.say(f"{click.style(f'{self._number}.', bold=True)} {output.one_line(text)}")


def _make_room(directory: str, force: bool) -> None:
    place = Path(directory)
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return
    replaceable = place.joinpath(_NOTE[0], f"{_NOTE[1]}.md").is_file()
    if not force or not replaceable:
        hint = "--force replaces an earlier demo" if replaceable else "it is no earlier demo, so it stays as it is"
        raise click.UsageError(f"{directory} is not empty: name another directory ({hint})")
    import shutil

    shutil.rmtree(directory)


# -- the store at work


def _write_documents(store: Store, say: _Narrator) -> None:
    store.collection("agents").put_many(_AGENTS)
    store.markdown(_NOTE[0]).put(_NOTE[1], _ABOUT)
    say(f"wrote {output.count(len(_AGENTS), 'agent')} and a Markdown note to {store.path}")


def _let_many_work(store: Store, say: _Narrator) -> None:
    crowd.run(store.path)
    appended = store.journal("audit", "trail").count()
    runs = store.collection("agents")["planner"]["runs"]
    say(f"{crowd.PROCESSES} processes with threads and async tasks appended to one log at once: {appended} entries")
    say(f"… and each time counted up one field of agents/planner.json: {runs} of {crowd.UPDATES} changes are there")


def _write_an_old_session(directory: str) -> None:
    """One that prune will find: made by a store whose clock is a month behind."""
    from fsstate import Store, StoreOptions

    with Store(directory, StoreOptions(clock=lambda: datetime.now(UTC) - timedelta(days=30))) as store:
        old = store.session(store.sessions.create(user_id="ada", title="Forgotten").id)
        old.messages.append("user", "I will come back to this.")


def _write_sessions(store: Store, say: _Narrator) -> None:
    release = store.sessions.create(user_id="ada", title="Plan the release", label="release", metadata={"team": "core"})
    _plan_release(store.session(release.id))
    reading = store.sessions.create(user_id="grace")
    _read_paper(store.session(reading.id))
    say("held two conversations; each went back to an earlier message and on from there, in another branch")


def _plan_release(session: SessionHandle) -> None:
    messages = session.messages
    messages.append("user", "What is left before we release?")
    with messages.stream("assistant", model="large-1") as answer:
        for piece in ("Two things: ", "the changelog, ", "and a test on macOS."):
            answer.write(piece)
    asked = messages.append("user", "Are there open bugs?")
    call = session.tool_calls.create("search", {"query": "is:open label:bug"}, message_id=asked.id)
    session.tool_calls.start(call.id)
    session.tool_calls.complete(call.id, {"found": 0})
    session.events.append("tool_finished", name="search", found=0)
    messages.append("assistant", "None.", model="large-1")
    messages.fork_at(asked.parent_id, "user", "Leave macOS for later. What then?")
    messages.append("assistant", "Then only the changelog is left.", model="large-1")
    session.events.append("branched", reason="the plan changed")


def _read_paper(session: SessionHandle) -> None:
    first = session.messages.append("user", "Summarise the paper on log-structured storage.")
    session.messages.append("assistant", "Everything is appended; nothing is overwritten.", model="small-2")
    session.messages.fork_at(first.id, "assistant", "A log is the only structure; reads use an index.", model="large-1")
    session.events.append("regenerated", model="large-1")


def _prune(store: Store, say: _Narrator) -> list[str]:
    from fsstate import PrunePolicy

    report = store.sessions.prune(PrunePolicy(ttl=timedelta(days=7)))
    say(f"pruned what was idle for more than 7 days: {output.count(len(report.pruned), 'session')}, with its messages")
    return [each.id for each in report.pruned]


def _change_under_git(store: Store, say: _Narrator) -> str | None:
    """Commit everything, change one field, and return the difference. None without a git that works."""
    store_it = _git(store.path, "init", "--quiet") is not None and _git(store.path, "add", "--all") is not None
    committed = store_it and _git(store.path, "commit", "--quiet", "--message", "What the demo wrote") is not None
    store.collection("agents").update("planner", lambda agent: {**agent, "status": "busy"})
    if not committed:
        say("changed one field of agents/planner.json (with git there would be a `git diff` to see here)")
        return None
    say("put it under git, and then changed one field of agents/planner.json")
    return _git(store.path, "diff", "--no-ext-diff", "--no-color")


def _git(directory: str, *arguments: str) -> str | None:
    """What git prints, or None when it is not there or does not want to."""
    import subprocess

    settings = [word for setting in _GIT_SETTINGS for word in ("-c", setting)]
    # Set by git in its hooks: they would lead to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [  # noqa: S607 - the git that the person uses
                "git",
                "--no-pager",
                *settings,
                *arguments,
            ],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


# -- what came of it


def _show(directory: str, found: list[str], diff: str | None) -> None:
    output.say()
    output.draw(_tree(directory))
    output.say()
    path = Path(directory, "agents", "planner.json")
    _say_command(f"cat {_quoted(str(path))}")
    output.say(path.read_text("utf-8"))
    if diff is not None:
        _say_command(f"git -C {_quoted(directory)} diff")
        for line in diff.splitlines():
            output.say(_coloured(line))
        output.say()
    _say_next(directory, found)


def _say_command(command: str) -> None:
    output.say(click.style(f"$ {output.one_line(command)}", bold=True))


def _coloured(line: str) -> str:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(output.one_line(line), fg=colour, bold=line.startswith(("+++", "---", "diff", "index")) or None)


def _quoted(text: str) -> str:
    return shlex.quote(output.one_line(text))


def _tree(directory: str) -> Tree:
    """The directory as a tree, without git's own folder; of fsstate's own, only what is committed."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(f"{output.one_line(directory)}/", style="bold blue"))
    waiting = [(tree, directory)]
    while waiting:
        node, path = waiting.pop(0)
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.name == ".git":
                continue
            if entry.is_dir():
                below = node.add(Text(f"{entry.name}/", style="bold blue"))
                if entry.name == ".fsstate":
                    below.add(Text("store.json …", style="dim"))
                else:
                    waiting.append((below, entry.path))
            else:
                node.add(Text(entry.name))
    return tree


def _say_next(directory: str, found: list[str]) -> None:
    output.say(click.style("Try next:", bold=True))
    program = f"fsstate --store {_quoted(directory)}"
    for command in (
        f"{program} sessions",
        f"{program} show release --tree",
        f"{program} show {found[-1]}",
        f"{program} log audit/trail -n 5",
        f"{program} edit agents/writer",
        f"{program} prune --keep 1 --dry-run",
    ):
        output.say(f"  {command}")
