"""Snapshots while programs write and people commit, and what is flushed before one returns."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fsstate import Store
from tests.files import processes
from tests.files.git.repository import QUICK, Repo
from tests.git import needs_git

pytestmark = needs_git

# Each document tells its own length, so that one that was cut shows; entries are longer than a page.
WRITER = """
    import json
    from fsstate import Store
    store = Store(root)
    n = 0
    while True:
        n += 1
        if n == 20:
            print("ready", flush=True)
        fill = "x" * (n * 7919 % 30000)
        store.collection("agents").put(f"a{n % 5}", {"n": n, "length": len(fill), "fill": fill})
        store.markdown("notes").put(f"m{n % 3}", f"{len(fill)}\\n{fill}")
        store.journal("audit", f"l{n % 2}").append("x", length=len(fill), fill=fill)
        store.collection("brief").put(f"b{n % 7}", {"n": n})
        store.collection("brief").delete(f"b{(n + 3) % 7}")
        if n % 25 == 0:
            store.journal("audit", f"l{n % 2}").trim(before=n // 2 - 20)
"""


def check_whole(root: Path) -> int:
    """Everything in a store can be read and is whole. Returns how many records there are."""
    count = 0
    with Store(root) as store:
        for category in ("agents", "brief"):
            documents = dict(store.collection(category).items())
            assert all(len(each.get("fill", "")) == each.get("length", 0) for each in documents.values())
            count += len(documents)
        for name in store.markdown("notes").names():
            length, _, fill = store.markdown("notes")[name].text.partition("\n")
            assert len(fill) == int(length)
            count += 1
        for name in ("l0", "l1"):
            log = store.journal("audit", name)
            assert log.problems() == []
            assert all(len(entry["fill"]) == entry["length"] for entry in log)
            count += 1
    return count


def check_snapshots(larger: Repo, tmp_path: Path, enough: Callable[[int], bool]) -> None:
    root = larger.path / "state"
    with processes.start(WRITER, root) as writer, Store(root, QUICK) as store:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            counts: list[int] = []
            while not enough(len(counts)):
                commit = store.snapshot("while others write")
                if commit is not None:
                    there = larger.checkout(commit, tmp_path / "there")
                    counts.append(check_whole(there / "state"))
                    shutil.rmtree(there)
        finally:
            writer.kill()
    assert max(counts) > 10
    assert larger.status() != []
    larger.git("fsck", "--strict")


def test_snapshots_while_others_write_are_readable_stores(larger: Repo, tmp_path: Path) -> None:
    check_snapshots(larger, tmp_path, lambda count: count >= 10)


@pytest.mark.soak
def test_snapshots_while_others_write_for_long(larger: Repo, tmp_path: Path, soak_seconds: float) -> None:
    end = time.monotonic() + soak_seconds
    check_snapshots(larger, tmp_path, lambda _: time.monotonic() > end)


def test_a_document_that_changes_while_git_looks_is_read_once_more(store: Store, larger: Repo) -> None:
    """What git calls for the last file changes those that it has read already."""
    store.collection("agents").put("a", {"n": 1})
    log = store.journal("agents", "b")
    log.append("one")
    path = Path(log.path)
    path.write_bytes(path.read_bytes() + b'{"seq":2,"ki')
    store.collection("agents").put("gone", {})
    store.collection("agents").put("z", {})
    change = larger.path / "change.sh"
    folder = larger.path / "state/agents"
    change.write_text(
        f"cat\ncd '{folder}'\n[ -e gone.json ] || exit 0\nrm gone.json\n"
        """printf 'nd":"two"}\\n' >> b.jsonl\nprintf '{"n": 22222}' > tmp\nmv tmp a.json\n"""
    )
    larger.git("config", "filter.change.clean", f"sh '{change}'")
    larger.write("state/agents/.gitattributes", "z.json filter=change\n")
    store.snapshot("one")
    assert larger.git("show", "HEAD:state/agents/a.json") == '{"n": 22222}'
    lines = larger.git("show", "HEAD:state/agents/b.jsonl").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["one", "two"]
    assert "state/agents/gone.json" not in larger.files()
    assert [line for line in larger.status() if "state" in line] == []


@pytest.mark.parametrize(
    ("tail", "kept"), [('{"seq":2,"ki', 1), ('{"seq":2,"kind":"x"}', 2), ('{"seq":2,"kind":"x"}\0\0', 2), ("\0\0", 1)]
)
def test_of_a_log_its_whole_lines_are_committed(store: Store, larger: Repo, tail: str, kept: int) -> None:
    log = store.journal("audit", "trail")
    log.append("one")
    with open(log.path, "a", encoding="utf-8") as file:
        file.write(tail)
    assert len(log.read()) == kept
    store.snapshot("one")
    lines = larger.git("show", "HEAD:state/audit/trail.jsonl").splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2][:kept]


def test_snapshots_and_commits_at_the_same_moment_lose_nothing(store: Store, larger: Repo) -> None:
    code = """
        import subprocess
        for number in range(10):
            command = ["git", "commit", "--quiet", "--allow-empty", "-m", f"theirs {number}"]
            while subprocess.run(command, cwd=os.path.dirname(root), capture_output=True).returncode:
                pass
    """
    made: list[str | None] = []

    def snapshots(name: str) -> None:
        with Store(store.path) as own:
            for number in range(4):
                own.collection("agents").put(name, {"n": number})
                made.append(own.snapshot(f"{name} {number}"))

    threads = [threading.Thread(target=snapshots, args=(name,)) for name in ("a", "b")]
    with processes.start(code, larger.path / "state") as committing:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        committing.communicate(timeout=60)
    subjects = larger.git("log", "--format=%s").splitlines()
    assert sum(subject.startswith("theirs") for subject in subjects) == 10
    # One of the two may have taken what the other was about to.
    ours = [commit for commit in made if commit is not None]
    assert len(ours) == sum(subject[:2] in ("a ", "b ") for subject in subjects) >= 4
    assert json.loads(larger.git("show", "HEAD:state/agents/a.json")) == {"n": 3}
    assert larger.git("show", "HEAD:code.py") in {"1\n", "2\n"}
    assert [line for line in larger.status() if "state" in line] == []
    assert not [name for name in os.listdir(larger.path / ".git") if name.startswith("fsstate-")]


@processes.needs_strace
def test_a_snapshot_is_flushed_before_it_returns(own: tuple[Store, Repo], tmp_path: Path) -> None:
    store, repo = own
    code = 'from fsstate import Store\nwith Store(root) as store:\n    print(store.snapshot("one"))'
    log = tmp_path / "strace.txt"
    wrapper = ("strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync")
    commit = processes.run(code, Path(store.path), wrapper=wrapper).strip()
    assert commit == repo.head()
    flushed = log.read_text()
    # Loose objects are written under another name first; that they, and their names, are flushed can be told.
    assert flushed.count("/.git/objects/") >= 4
    assert f"{repo.path}/.git/objects/{commit[:2]}>" in flushed
    assert f"{repo.path}/.git/refs/heads>" in flushed
    assert "refs/heads/main.lock>" in flushed
