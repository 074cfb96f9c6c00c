"""Steps that look after files, and that have to do with git."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fsstate
from fsstate import Store
from tests.faults.deed import Deed
from tests.faults.talking import retitle, talk, titles, trash
from tests.faults.writing import edit, make_planner, make_trail, planner, trail

__all__ = ["UPKEEP"]


def damage(store: Store) -> None:
    """Leave what a crash, a full disk and a person may leave."""
    make_trail(store)
    make_planner(store)
    talk(store)
    root = Path(store.path)
    with (root / "audit" / "trail.jsonl").open("ab") as log:
        log.write(b'{"seq": 5, "kind": "to')
    (root / "agents" / "broken.json").write_bytes(b"\0" * 30)
    (root / "agents" / "with-mark.json").write_bytes(b'\xef\xbb\xbf{"n": 1}\n')
    staged = root / ".fsstate" / "staging" / "0123456789abcdef"
    staged.mkdir(parents=True)
    (staged / "0").write_bytes(b"half")
    (root / "sessions" / "s2.json").unlink()


def mend(store: Store) -> None:
    for finding in store.doctor(fix=True).findings:
        if finding.failure is not None or finding.is_left:
            raise fsstate.StorageError(f"mend ({finding.failure or finding.reason})", finding.path, 0)


def damages(store: Store) -> Mapping[str, Any]:
    """Which are left. What nobody can read is kept somewhere."""
    kept = [path.read_bytes() for path in Path(store.path).rglob("*broken.json*") if path.is_file()]
    assert bytes(30) in kept, kept
    assert len(trail(store).read()) == 4
    said = [path for path in Path(store.path).rglob("messages.jsonl") if b"s2-1" in path.read_bytes()]
    assert said, "lost what belonged to a session"
    left = {finding.kind for finding in store.doctor().findings if finding.fixable}
    return {kind: kind in left for kind in ("torn-tail", "zero-bytes", "byte-order-mark", "orphan")}


def restored(store: Store) -> Mapping[str, Any]:
    """Which version there is. One that had to make room may be in the trash, as the docs say."""
    title = titles(store)["s1"] or (("renamed", False) if "sessions/s1.json" in trash(store) else None)
    return {"title": title}


def git(store: Store, *arguments: str) -> str:
    command = ["git", "-C", store.path, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(store: Store) -> None:
    make_planner(store)
    store.history.init()
    store.snapshot("first")
    edit(store)


def commit_twice(store: Store) -> None:
    commit(store)
    store.snapshot("second")


def talk_and_commit(store: Store) -> None:
    talk(store)
    store.history.init()
    store.snapshot("first")
    retitle(store)
    store.snapshot("second")


UPKEEP: Final = {
    "mend": Deed(mend, damages, damage, in_parts=True),
    "take a snapshot": Deed(
        lambda store: store.snapshot("second"),
        lambda store: git(store, "log", "--format=%s").splitlines(),
        commit,
        also=(fsstate.GitError,),
    ),
    "restore a version": Deed(
        lambda store: store.history.restore("agents/planner", "HEAD~1"),
        planner,
        commit_twice,
        also=(fsstate.GitError,),
        repeated=(fsstate.UncommittedError,),
    ),
    "restore a session's version": Deed(
        lambda store: store.history.restore("s1", "HEAD~1"),
        restored,
        talk_and_commit,
        may_be_left=True,
        also=(fsstate.GitError,),
        repeated=(fsstate.UncommittedError,),
    ),
}
