"""The same trial one floor up: sessions with their messages, events, tool calls and streams, through the public API.

What must hold of a session after a power cut:
  - It is there if it was created, and gone if it was deleted or pruned, as far as the caller was told; whole in either
    case. One that was created again has nothing of the one before it.
  - Its messages and events are a prefix, in order, with all that were acknowledged. Its title and its tool calls are
    the old or the new ones.
  - A message that was being streamed has all the text that was acknowledged, stands there once, and is complete or
    interrupted; the next write settles it, with no help.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import fsstate
from fsstate.options import StoreOptions
from tests.crash.model import Tree, build
from tests.crash.recorder import Call
from tests.crash.workloads import Script, Workload, killed

__all__ = ["SESSION_WORKLOADS", "Talks", "judge_sessions", "look_at_sessions"]

_AFTER: Final = "after"


class Deed(NamedTuple):
    """What an operation wants of one session: `what` names the title, text, event or status that is to come."""

    number: int
    verb: str
    session: str
    what: str = ""
    of: str = ""


class Talks(Script):
    """The store's sessions."""

    def _open(self) -> None:
        self.store = fsstate.Store(self.root)

    def _close(self) -> None:
        self.store.close()

    @contextlib.contextmanager
    def doing(self, verb: str, session: str, what: str = "", of: str = "") -> Generator[None]:
        """Mark the start of an operation, and its acknowledgement if it does not raise."""
        deed = Deed(next(self.numbers), verb, session, what, of)
        self.note("start", deed)
        yield
        self.note("ack", deed)

    def create(self, session: str, title: str) -> None:
        with self.doing("create", session, title):
            self.store.sessions.create(id=session, title=title)

    def rename(self, session: str, title: str) -> None:
        def change(found: fsstate.Session) -> None:
            found.title = title

        with self.doing("rename", session, title):
            self.store.sessions.update(session, change)

    def delete(self, session: str) -> None:
        with self.doing("delete", session):
            self.store.sessions.delete(session)

    def prune(self, keep: int, gone: Sequence[str]) -> None:
        with contextlib.ExitStack() as stack:
            for session in gone:
                stack.enter_context(self.doing("delete", session))
            report = self.store.sessions.prune(fsstate.PrunePolicy(keep=keep))
            if sorted(pruned.id for pruned in report.pruned) != sorted(gone):
                raise RuntimeError(f"pruned {report}, not {gone}")

    def say(self, session: str, text: str) -> None:
        with self.doing("say", session, text):
            self.store.session(session).messages.append("user", text)

    def event(self, session: str, name: str) -> None:
        with self.doing("event", session, name):
            self.store.session(session).events.append("thing", name=name)

    def call(self, session: str, name: str) -> None:
        calls = self.store.session(session).tool_calls
        with self.doing("call", session, "pending", name):
            calls.create("grep", {}, id=name)
        with self.doing("call", session, "executing", name):
            calls.start(name)
        with self.doing("call", session, "completed", name):
            calls.complete(name, result=1)

    def stream(self, session: str, name: str, pieces: Sequence[str]) -> None:
        messages = self.store.session(session).messages
        with self.doing("stream", session, of=name):
            stream = messages.stream("assistant", id=name).__enter__()
        for piece in pieces:
            with self.doing("piece", session, piece, name):
                stream.write(piece)
        with self.doing("finish", session, of=name):
            stream.close()

    def fork(self, session: str, new: str, title: str, texts: Sequence[str]) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.doing("create", new, title))
            for text in texts:
                stack.enter_context(self.doing("say", new, text))
            self.store.sessions.fork(session, new_id=new, title=title, copy_messages=True)


def _two(do: Talks) -> None:
    do.create("s1", "one")
    for text in ("hello", "hi"):
        do.say("s1", text)
    do.event("s1", "e1")
    do.create("s2", "two")
    do.say("s2", "other")


def _talk(do: Talks) -> None:
    _two(do)
    do.settle()
    do.say("s1", "third")
    do.event("s1", "e2")
    do.rename("s1", "one renamed")
    do.call("s1", "c1")
    do.create("s3", "three")
    do.say("s3", "first")


def _stream(do: Talks) -> None:
    _two(do)
    do.settle()
    do.stream("s1", "m1", ["Once ", "upon ", "a time"])
    do.say("s1", "third")


def _delete(do: Talks) -> None:
    do.delete("s1")


def _create_again(do: Talks) -> None:
    do.create("s1", "one again")
    do.say("s1", "anew")


def _delete_and_create(do: Talks) -> None:
    _delete(do)
    _create_again(do)


def _deletion(do: Talks) -> None:
    _two(do)
    do.settle()
    _delete_and_create(do)


def _prune(do: Talks) -> None:
    _two(do)
    do.create("s3", "three")
    do.settle()
    do.prune(1, ["s1", "s2"])
    do.say("s3", "alone")


def _fork(do: Talks) -> None:
    _two(do)
    do.settle()
    do.fork("s1", "s4", "four", ["hello", "hi"])
    do.say("s4", "aside")


def _short_stream(do: Talks) -> None:
    do.stream("s1", "m1", ["Once ", "upon"])


def _say(do: Talks) -> None:
    do.say("s1", "third")
    do.event("s1", "e2")


def _say_more(do: Talks) -> None:
    do.say("s1", "fourth")
    do.event("s1", "e3")


def _nothing(_: Talks) -> None:
    pass


def _create(do: Talks) -> None:
    do.create("s1", "one")
    do.say("s1", "hello")


def _say_if_there(do: Talks) -> None:
    if "s1" in do.store.sessions:
        do.say("s1", "hi")


def _create_if_gone(do: Talks) -> None:
    if "s1" not in do.store.sessions:
        _create_again(do)


SESSION_WORKLOADS: Final[dict[str, Workload]] = {
    "sessions, talk": Workload(_talk),
    "sessions, stream": Workload(_stream),
    "sessions, deletion": Workload(_deletion),
    "sessions, prune": Workload(_prune),
    "sessions, fork": Workload(_fork),
    "sessions, killed stream": Workload(killed(_two, _short_stream, _say_more), kills=True),
    "sessions, killed talk": Workload(killed(_two, _say, _say_more), kills=True),
    "sessions, killed creation": Workload(killed(_nothing, _create, _say_if_there), kills=True),
    "sessions, killed deletion": Workload(killed(_two, _delete, _delete_and_create), kills=True),
    "sessions, killed deletion, new one": Workload(killed(_two, _delete, _create_if_gone), kills=True),
}


class Shown(NamedTuple):
    """What the store shows of one session."""

    title: str | None
    # Of each message: its id, text and status.
    messages: list[tuple[str, str, str]]
    events: list[str]
    calls: dict[str, str]


class Scene(NamedTuple):
    """What the store shows, and what goes wrong whatever was promised."""

    sessions: dict[str, Shown]
    problems: list[str]


def look_at_sessions(tree: Tree, place: Path) -> Scene:
    """Build the state below `place`, open it, read all, write to all, read it again, delete all, and take it away."""
    scene = Scene({}, [])
    build(tree, place)
    try:
        with (
            _noting(scene, "open the store"),
            fsstate.Store(place / "state", StoreOptions(durability="process", lock_timeout=1.0)) as store,
        ):
            _look(store, scene)
    finally:
        shutil.rmtree(place)
    return scene


def _look(store: fsstate.Store, scene: Scene) -> None:
    with _noting(scene, "list the sessions"):
        ids = store.sessions.ids()
        listed = {summary.id: summary for summary in store.sessions.list(limit=None, archived=None)}
        _expect(scene, sorted(listed) == ids, f"{sorted(listed)} are listed of {ids}")
        for name in ids:
            with _noting(scene, f"read session {name}"):
                scene.sessions[name] = _show(store, name)
                count = len(scene.sessions[name].messages)
                _expect(scene, listed[name].message_count == count, f"{name}: a summary counts wrong")
    for name in scene.sessions:
        with _noting(scene, f"write to session {name}"):
            _write(store, name, scene)
    for name in sorted({"s1", *scene.sessions}):
        with _noting(scene, f"make session {name} anew"):
            _make_anew(store, name, scene)


@contextlib.contextmanager
def _noting(scene: Scene, doing: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - any is a finding
        scene.problems.append(f"cannot {doing}: {error!r}")


def _expect(scene: Scene, holds: bool, problem: str) -> None:
    if not holds:
        scene.problems.append(problem)


def _show(store: fsstate.Store, name: str) -> Shown:
    one = store.session(name)
    messages = [(message.id, message.text, message.status) for message in one.messages.all()]
    one.messages.list()
    events: list[Any] = [entry["name"] for entry in one.events.read()]
    return Shown(
        store.sessions.require(name).title, messages, events, {call.id: call.status for call in one.tool_calls.list()}
    )


def _write(store: fsstate.Store, name: str, scene: Scene) -> None:
    before = scene.sessions[name]
    one = store.session(name)
    one.messages.append("user", _AFTER)
    one.events.append("thing", name=_AFTER)
    one.tool_calls.create("grep", {}, id=_AFTER)

    def change(session: fsstate.Session) -> None:
        session.title = _AFTER

    store.sessions.update(name, change)
    after = _show(store, name)
    kept = [message for message in after.messages if message[1] != _AFTER]
    _expect(scene, sorted(kept) == sorted(before.messages), f"{name}: {before.messages} became {kept}")
    _expect(scene, after.events == [*before.events, _AFTER], f"{name}: {before.events} became {after.events}")
    _expect(scene, after.calls == {**before.calls, _AFTER: "pending"}, f"{name}: {before.calls} became {after.calls}")
    _expect(scene, after.title == _AFTER, f"{name} is not renamed")
    _expect(scene, not any(status == "streaming" for *_, status in after.messages), f"{name}: a dead writer streams")
    problems = [*one.messages.problems(), *one.events.problems(), *one.tool_calls.problems()]
    _expect(scene, not problems, f"{name}: damage stays after a write: {problems}")


def _make_anew(store: fsstate.Store, name: str, scene: Scene) -> None:
    deleted = store.sessions.delete(name)
    _expect(scene, deleted == (name in scene.sessions), f"{name} cannot be deleted, or was there and not shown")
    store.sessions.create(id=name, title=_AFTER)
    shown = _show(store, name)
    _expect(scene, shown == Shown(_AFTER, [], [], {}), f"{name} was made anew with {shown}")
    store.session(name).messages.append("user", _AFTER)


class Deeds:
    """What had been promised when the power went, session by session."""

    def __init__(self, calls: Sequence[Call], point: int) -> None:
        marks = [call for call in calls[: point + 1] if isinstance(call.mark, Deed)]
        self.started: list[Deed] = [call.mark for call in marks if call.kind == "start"]
        self.acked: set[int] = {call.mark.number for call in marks if call.kind == "ack"}

    def is_acked(self, deed: Deed) -> bool:
        """Whether the caller was told."""
        return deed.number in self.acked

    def lives(self, session: str) -> list[tuple[Deed, list[Deed]]]:
        """What made the session, each time, or unmade it, with what was done to it after that."""
        lives: list[tuple[Deed, list[Deed]]] = []
        for deed in self.started:
            if deed.session == session and deed.verb in ("create", "delete"):
                lives.append((deed, []))
            elif deed.session == session and lives:
                lives[-1][1].append(deed)
        return lives


def judge_sessions(scene: Scene, calls: Sequence[Call], point: int) -> list[str]:
    """What is wrong with what is shown; nothing, if all promises hold."""
    deeds = Deeds(calls, point)
    known = {deed.session for deed in deeds.started}
    problems = [*scene.problems, *(f"{name} is shown, and nobody made it" for name in scene.sessions.keys() - known)]
    for name in sorted(known):
        problems += [f"{name}: {problem}" for problem in _judge(scene.sessions.get(name), deeds.lives(name), deeds)]
    return problems


def _judge(shown: Shown | None, lives: list[tuple[Deed, list[Deed]]], deeds: Deeds) -> list[str]:
    acked = [n for n, (deed, _) in enumerate(lives) if deeds.is_acked(deed)]
    sure = acked[-1] if acked else -1
    possible = lives[max(sure, 0) :]
    if shown is None:
        absent = sure < 0 or any(deed.verb == "delete" for deed, _ in possible)
        return [] if absent else ["it is gone"]
    # A deletion that is not sure leaves the life before it, with all that was done in it.
    for made, done in possible:
        if made.verb == "create" and shown.title in (made.what, *(one.what for one in done if one.verb == "rename")):
            return _judge_life(shown, made, done, deeds)
    return [f"it is shown as {shown.title!r}, which it must not be"]


def _judge_life(shown: Shown, made: Deed, done: list[Deed], deeds: Deeds) -> list[str]:
    problems = []
    titles = _allowed([made, *(deed for deed in done if deed.verb == "rename")], deeds)
    if shown.title not in titles:
        problems.append(f"its title is {shown.title!r}, not one of {titles}")
    texts = [text for name, text, _ in shown.messages if not any(d.of == name for d in done)]
    problems += _judge_prefix("messages", texts, [deed for deed in done if deed.verb == "say"], deeds)
    problems += _judge_prefix("events", shown.events, [deed for deed in done if deed.verb == "event"], deeds)
    for name, changes in itertools.groupby((deed for deed in done if deed.verb == "call"), key=lambda deed: deed.of):
        allowed = _allowed(list(changes), deeds)
        if shown.calls.get(name, "") not in allowed:
            problems.append(f"the tool call {name} is {shown.calls.get(name)!r}, not one of {allowed}")
    for name in {deed.of for deed in done if deed.verb == "stream"}:
        found = [(text, status) for one, text, status in shown.messages if one == name]
        problems += _judge_stream(found, [deed for deed in done if deed.of == name], deeds)
    return problems


def _allowed(changes: list[Deed], deeds: Deeds) -> list[str]:
    acked = [n for n, deed in enumerate(changes) if deeds.is_acked(deed)]
    return [deed.what for deed in changes[acked[-1] :]] if acked else ["", *(deed.what for deed in changes)]


def _judge_prefix(what: str, found: list[str], done: list[Deed], deeds: Deeds) -> list[str]:
    # What a killed writer wanted may be missing before what others wrote later.
    expected = [deed.what for deed in done if deeds.is_acked(deed) or deed.what in found]
    return [] if found == expected else [f"its {what} are {found}, not {expected}"]


def _judge_stream(found: list[tuple[str, str]], done: list[Deed], deeds: Deeds) -> list[str]:
    pieces = [deed for deed in done if deed.verb == "piece"]
    due = "".join(deed.what for deed in pieces if deeds.is_acked(deed))
    if not found and not deeds.is_acked(done[0]):
        return []
    if len(found) != 1:
        return [f"a streamed message stands there {len(found)} times"]
    ((text, status),) = found
    finished = [deed for deed in done if deed.verb == "finish"]
    statuses = {"complete"} if finished and deeds.is_acked(finished[0]) else {"interrupted"}
    statuses |= {"complete"} if finished else set()
    whole = "".join(deed.what for deed in pieces)
    if text.startswith(due) and whole.startswith(text) and status in statuses:
        return []
    return [f"a streamed message is {text!r}, {status}; {due!r} was acknowledged of {whole!r}, {statuses} are allowed"]
