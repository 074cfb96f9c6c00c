"""More scenes for the trials of `trials`: what mends, brings back, decides between versions, and answers from an index.

What git keeps for itself lies beside the base, where it is not recorded: that it lasts is git's business. So is what a
merge driver writes: git gives it a file of its own, and puts what comes out in place itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import fsstate
from fsstate.frontmatter import Document
from tests.crash.scenes import Hand, Scene, Step

__all__ = ["MENDING"]


# The doctor

_HALF: Final = b'{"seq":4,"at":"2025-01-01T00:00:00Z","kind":"torn in the mid'
_BAD_LINE: Final = b'{"seq":2,"kind":"bad lin\n'
_BAD_DOCUMENT: Final = b'{"name": "a bad document"'
_BAD_NOTE: Final = b"a note that is \xff no text\n"
_BAD_SESSION: Final = b'{"user_id": "a bad session"'
_OF_BAD_SESSION: Final = b'{"seq":1,"kind":"of a bad session"}\n'
_OF_NONE: Final = b'{"seq":1,"kind":"of a session that is gone"}\n'
_SOUND_LINE: Final = b'{"seq":%d,"at":"2025-01-01T00:00:00Z","kind":"sound"}\n'


def _write(do: Hand, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        place = do.root / path
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.write_bytes(data)
        place.chmod(0o600)


def _damaged(do: Hand) -> None:
    """Sound records, damage of several kinds, and what the dead leave."""
    do.store.collection("agents").put("sound", {"n": 1})
    do.store.markdown("notes").put("sound", "a sound note\n")
    # Told once for each machine, by processes of its own.
    do.store.doctor()
    lines = [_SOUND_LINE % seq for seq in range(1, 4)]
    _write(
        do,
        {
            "agents/bad.json": _BAD_DOCUMENT,
            "agents/zeros.json": bytes(40),
            "notes/bad.md": _BAD_NOTE,
            "audit/sound.jsonl": b"".join(lines),
            "audit/middle.jsonl": lines[0] + _BAD_LINE + lines[2],
            "audit/torn.jsonl": b"".join(lines) + _HALF,
            "audit/both.jsonl": lines[0] + _BAD_LINE + lines[2] + _HALF,
            ".fsstate/staging/0123456789abcdef/1": b"half of a write",
            ".fsstate/staging/loose": b"nobody's",
            ".fsstate/locks/agents+gone.json.lock": b"",
            ".fsstate/cache/index.sqlite": b"no database",
        },
    )


def _damaged_sessions(do: Hand) -> None:
    for name in ("s1", "s2"):
        do.store.sessions.create(id=name)
        do.store.session(name).events.append("sound")
    do.store.doctor()
    _write(
        do,
        {
            "sessions/s2.json": _BAD_SESSION,
            "sessions/s2/events.jsonl": _OF_BAD_SESSION,
            "sessions/gone/events.jsonl": _OF_NONE,
            "sessions/gone/checkpoints/c.json": b'{"of": "none"}',
        },
    )


def _mend(do: Hand) -> None:
    report = do.store.doctor(fix=True)
    failed = [finding for finding in report.findings if finding.failure or (finding.fixable and not finding.fixed)]
    assert not failed, failed


_DOCTOR: Final = Scene(
    before=_damaged,
    steps=(_mend, lambda do: do.store.collection("agents").put("bad", {"name": "a good document"})),
    after=(_mend,),
    again=(_mend,),
    is_damaged=True,
    kept=(_BAD_DOCUMENT, _BAD_NOTE, _BAD_LINE, _HALF, bytes(40)),
    # What the one who was killed took away is not looked for any more, until it is there again.
    is_mended=True,
)
# A folder goes to the quarantine by a rename.
_DOCTOR_OF_SESSIONS: Final = Scene(
    before=_damaged_sessions,
    steps=(_mend,),
    again=(_mend,),
    kept=(_BAD_SESSION, _OF_BAD_SESSION, _OF_NONE, b'{"of": "none"}'),
    is_damaged=True,
    has_whole_renames=True,
    is_mended=True,
)


# Conflicts


def _agents(do: Hand) -> fsstate.Collection[Any]:
    return do.store.collection("agents")


def _conflicting(name: str) -> Step:
    def step(do: Hand) -> None:
        if _agents(do).get(name) == {"text": "mine"}:
            # It was decided for this one: the same again is no conflict.
            return
        with suppress(fsstate.ConflictError):
            # Who saves knows a version that nobody knows any more.
            _agents(do).put(name, {"text": "mine"}, expect="of long ago", merge=True)
            raise AssertionError("it was saved")

    return step


def _conflicting_note(do: Hand) -> None:
    with suppress(fsstate.ConflictError):
        do.store.markdown("notes").put("n", Document("mine\n"), expect="of long ago", merge=True)
        raise AssertionError("it was saved")


def _theirs(do: Hand) -> None:
    for name in ("a", "b", "c"):
        _agents(do).put(name, {"text": "theirs"})
    do.store.markdown("notes").put("n", "theirs\n")


_CONFLICTS: Final = Scene(
    before=_theirs,
    steps=(
        _conflicting("a"),
        lambda do: do.store.resolve("agents/a", "mine"),
        _conflicting("b"),
        lambda do: do.store.resolve("agents/b", "theirs"),
        _conflicting_note,
        lambda do: do.store.resolve("notes/n", Document("of both\n")),
        _conflicting("c"),
        lambda do: _agents(do).delete("c"),
        lambda do: do.store.resolve("agents/c", "mine"),
    ),
)


# Git


def _git(do: Hand, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=do.root, check=True, capture_output=True)


def _repository(do: Hand) -> None:
    """A repository whose own files lie beside the base."""
    own = do.root.parent.with_name("git")
    _git(do, "init", "--quiet", "--template=", f"--separate-git-dir={own}")
    (do.root / ".git").write_text(f"gitdir: {os.path.relpath(own, do.root)}\n")
    for name, value in (("user.name", "a"), ("user.email", "a@example.org"), ("gc.auto", "0")):
        _git(do, "config", name, value)


def _commit(do: Hand, tag: str) -> None:
    do.store.snapshot(tag)
    _git(do, "tag", tag)


def _version(do: Hand, text: str) -> None:
    """Let all records have this text, and the logs one entry more."""
    _agents(do).put("a", {"text": text})
    do.store.journal("audit", "trail").append(text)
    if "s1" not in do.store.sessions:
        do.store.sessions.create(id="s1")
    do.store.sessions.update("s1", _titled(text))
    one = do.store.session("s1")
    one.events.append(text)
    one.checkpoints.save("c", {"text": text})


def _titled(text: str) -> Callable[[fsstate.Session], None]:
    def change(session: fsstate.Session) -> None:
        session.title = text

    return change


def _committed(do: Hand) -> None:
    """Two versions that git has, and one that only the store has."""
    do.store.sessions.create(id="s1")
    _repository(do)
    for text in ("one", "two"):
        _version(do, text)
        _commit(do, text)
    _version(do, "only here")


def _committed_and_deleted(do: Hand) -> None:
    _committed(do)
    do.store.sessions.delete("s1")


def _uncommitted(do: Hand) -> None:
    _version(do, "one")
    _repository(do)


def _restore(record: str, revision: str) -> Step:
    return lambda do: do.store.history.restore(record, revision, force=True)


def _happened(text: str) -> Step:
    """An event of a session, once however often it is tried."""

    def step(do: Hand) -> None:
        events = do.store.session("s1").events
        if all(entry.kind != text for entry in events.read()):
            events.append(text)
        else:
            # It takes nothing away; what the one who was killed had appended lasts then.
            events.trim(before=0)

    return step


_RESTORING: Final = Scene(
    before=_committed,
    steps=(
        _restore("agents/a", "one"),
        _restore("audit/trail", "one"),
        _restore("agents/a", "two"),
    ),
    again=(_restore("agents/a", "two"), _restore("audit/trail", "one")),
)
# A session changes places with what comes from git: two folders are renamed.
_RESTORING_SESSIONS: Final = Scene(
    before=_committed,
    steps=(
        _restore("s1", "one"),
        _happened("after it"),
        _restore("s1", "two"),
        _happened("more"),
    ),
    # The session that git does not have.
    kept=(b'"title": "only here"', b'"kind":"only here"'),
    wholes=("state/sessions/s1",),
    has_whole_renames=True,
)
_RESTORING_DELETED: Final = Scene(
    before=_committed_and_deleted,
    steps=(_restore("s1", "one"), _happened("after it")),
    wholes=("state/sessions/s1",),
    has_whole_renames=True,
)


def _snapshot(do: Hand) -> None:
    do.store.snapshot("as it is")
    files = do.store.history.show("s1", "HEAD").files
    assert len(files) == 3
    for path, data in files.items():
        assert (do.root / path).read_bytes() == data, path


_SNAPSHOT: Final = Scene(
    before=_uncommitted,
    steps=(_snapshot, _happened("later"), _snapshot),
    again=(_snapshot,),
    is_uneven=True,
)


# What answers from an index


def _indexed(do: Hand) -> None:
    for number in range(4):
        _agents(do).put(f"a{number}", {"status": "idle", "text": f"number {number}"})
    do.store.sessions.create(id="s1", user_id="ada", title="one")
    do.store.session("s1").messages.append("user", "a red car")
    _answers(do.store)


def _answers(store: fsstate.Store) -> object:
    agents = store.collection("agents", indexed=["status", "text"])
    found = [agents.query({"status": status}, order_by="text") for status in ("idle", "busy")]
    sessions = store.sessions.list(user_id="ada", order_by="-title", limit=None)
    listed = [(each.id, each.title, each.message_count, each.last_model) for each in sessions]
    hits = [sorted(hit.snippet for hit in store.search(words, limit=None)) for words in ("red OR blue", "numb*")]
    return found, agents.count({"status": "busy"}), listed, hits


def _asked(step: Step) -> Step:
    """The same, and then questions: the index follows."""

    def asked(do: Hand) -> None:
        step(do)
        _answers(do.store)

    return asked


def _busy(do: Hand) -> None:
    _agents(do).put("a1", {"status": "busy", "text": "number 1, blue"})


def _replied(do: Hand) -> None:
    """A second message of the session, once however often it is tried."""
    messages = do.store.session("s1").messages
    if len(messages.list()) == 1:
        messages.append("assistant", "a blue one", model="m1")


_INDEX: Final = Scene(
    before=_indexed,
    steps=(
        _asked(_busy),
        _asked(_replied),
        _asked(lambda do: _agents(do).delete("a2")),
        _asked(lambda do: do.store.sessions.create(id="s2", user_id="ada", title="later")),
        _asked(lambda do: do.store.sessions.delete("s1")),
        _busy,
    ),
    after=(lambda do: _answers(do.store),),
    answers=_answers,
    is_uneven=True,
)

_WITH_GIT: Final = {
    "git restore": _RESTORING,
    "git restore of a session": _RESTORING_SESSIONS,
    "git restore of a deleted session": _RESTORING_DELETED,
    "git snapshot": _SNAPSHOT,
}

MENDING: Final[dict[str, Scene]] = {
    "doctor": _DOCTOR,
    "doctor of sessions": _DOCTOR_OF_SESSIONS,
    "conflicts": _CONFLICTS,
    "index and search": _INDEX,
    **(_WITH_GIT if shutil.which("git") else {}),
}
