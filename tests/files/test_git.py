"""Git as the history of a store, with the real git program in real repositories."""

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import fsstate
from fsstate import GitError, NotFoundError, Store, StoreOptions, UncommittedError
from fsstate.backends.base import Move, Ref
from fsstate.trash import Trash, TrashItem
from tests.files import processes

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

# What a power cut leaves is told by what is flushed, in one test; the others need not wait for it.
QUICK = StoreOptions(durability="process")
MIGHT = pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")


class Repo:
    """A repository, as a person has it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    def write(self, name: str, text: str = "x\n") -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def status(self) -> list[str]:
        return self.git("status", "--porcelain", "--untracked-files=all").splitlines()

    def files(self, commit: str = "HEAD") -> list[str]:
        return self.git("ls-tree", "-r", "-z", "--name-only", commit).split("\0")[:-1]

    def changed(self, commit: str = "HEAD") -> list[str]:
        return self.git("show", "-z", "--format=", "--name-only", commit).split("\0")[:-1]

    def checkout(self, commit: str, target: Path) -> Path:
        """Put the files of a commit in a directory of their own."""
        target.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=self.path, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x"], cwd=target, input=archive, check=True)
        return target


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person of whom git knows the name, and no settings of whoever runs the tests."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = Ada Ünal\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def larger(tmp_path: Path) -> Repo:
    """A repository with work of a person's under way, in which a store is a folder."""
    repo = Repo(tmp_path / "project")
    repo.path.mkdir()
    repo.git("init", "--quiet")
    repo.write("code.py", "1\n")
    repo.commit("begin")
    repo.write("code.py", "2\n")
    repo.git("add", "code.py")
    repo.write("code.py", "3\n")
    repo.write("new.py")
    return repo


@pytest.fixture
def store(larger: Repo) -> Iterator[Store]:
    with Store(larger.path / "state", QUICK) as store:
        yield store


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Store, Repo]]:
    """A store that is a repository of its own."""
    with Store(tmp_path / "own", QUICK) as store:
        store.collection("agents").put("planner", {"n": 0, "status": "idle"})
        repo = Repo(tmp_path / "own")
        repo.git("init", "--quiet")
        yield store, repo


THEIRS = ["MM code.py", "?? new.py"]


# -- snapshots


def test_a_snapshot_commits_the_store_and_nothing_else(store: Store, larger: Repo) -> None:
    store.collection("agents").put("planner", {"n": 1})
    store.journal("audit", "trail").append("made")
    commit = store.snapshot("  first state\n\nwith a body ")
    assert commit == larger.head()
    assert set(larger.changed()) == {
        "state/.fsstate/.gitignore",
        "state/.fsstate/store.json",
        "state/agents/planner.json",
        "state/audit/trail.jsonl",
    }
    assert larger.status() == THEIRS
    assert larger.git("show", ":code.py") == "2\n"
    assert larger.git("log", "-1", "--format=%an|%s|%b") == "Ada Ünal|first state|with a body\n\n"
    assert larger.git("log", "-g", "-1", "--format=%gs") == "snapshot: first state\n"
    assert larger.git("rev-list", "--count", "HEAD") == "2\n"
    larger.git("fsck", "--strict")


def test_what_did_not_change_makes_no_commit(store: Store, larger: Repo) -> None:
    agents = store.collection("agents")
    agents.put("planner", {"n": 1})
    before = store.snapshot("one")
    assert store.snapshot("two") is None
    agents.put("planner", {"n": 1})
    assert store.snapshot("three") is None
    assert larger.head() == before
    agents.delete("planner")
    assert store.snapshot("four") is not None
    assert "state/agents/planner.json" not in larger.files()
    assert larger.status() == THEIRS


def test_what_is_staged_of_the_store_is_replaced_by_what_the_files_hold(store: Store, larger: Repo) -> None:
    store.collection("agents").put("planner", {"n": 1})
    larger.git("add", "state")
    store.collection("agents").put("planner", {"n": 2})
    store.collection("agents").put("added", {})
    store.snapshot("two")
    assert json.loads(larger.git("show", "HEAD:state/agents/planner.json")) == {"n": 2}
    assert larger.status() == THEIRS


def test_the_first_commit_of_a_repository(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    repo.git("init", "--quiet", "--initial-branch=trunk")
    repo.write("staged.txt")
    repo.git("add", "staged.txt")
    with Store(tmp_path / "state") as store:
        store.collection("agents").put("planner", {})
        with pytest.raises(GitError, match="there is no commit yet"):
            store.history.log("agents/planner")
        assert store.snapshot("one") == repo.head()
    assert all(name.startswith("state/") for name in repo.files())
    assert "A  staged.txt" in repo.status()
    assert repo.git("symbolic-ref", "HEAD") == "refs/heads/trunk\n"


def test_a_detached_head_moves_and_no_branch_does(store: Store, larger: Repo) -> None:
    branch = larger.head()
    larger.git("checkout", "--quiet", "--detach")
    store.collection("agents").put("planner", {})
    assert store.snapshot("apart") == larger.head() != branch
    assert larger.git("rev-parse", "main").strip() == branch
    assert larger.status() == THEIRS


@pytest.mark.parametrize("kind", ["worktree", "submodule"])
def test_in_a_linked_worktree_and_in_a_submodule(larger: Repo, tmp_path: Path, kind: str) -> None:
    if kind == "worktree":
        there = Repo(tmp_path / "linked")
        larger.git("worktree", "add", "--quiet", "-b", "side", str(there.path))
    else:
        there = Repo(larger.path / "sub")
        allowed = ("-c", "protocol.file.allow=always")
        larger.git(*allowed, "submodule", "--quiet", "add", f"{larger.path}/.git", "sub")
        there.git("checkout", "--quiet", "-b", "side")
    main = larger.head()
    with Store(there.path / "state") as store:
        store.history.init()
        store.collection("agents").put("planner", {"n": 1})
        assert store.snapshot("there") == there.head()
        assert [commit.subject for commit in store.history.log("agents/planner")] == ["there"]
    assert larger.head() == main
    assert there.status() == []
    assert "merge-driver" in there.git("config", "merge.fsstate.driver")


def test_it_is_the_repository_that_the_store_lies_in_whatever_the_environment_says(
    store: Store, larger: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repo(tmp_path / "other")
    other.path.mkdir()
    other.git("init", "--quiet")
    store.collection("agents").put("planner", {})
    with monkeypatch.context() as patch:
        patch.setenv("GIT_DIR", str(other.path / ".git"))
        patch.setenv("GIT_WORK_TREE", str(other.path))
        patch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        patch.setenv("GIT_LITERAL_PATHSPECS", "1")
        patch.setenv("GIT_EXTERNAL_DIFF", "false")
        patch.setenv("GIT_TRACE", "1")
        commit = store.snapshot("here")
        assert store.history.diff("agents/planner") == ""
    assert commit == larger.head()
    assert other.git("count-objects") == "0 objects, 0 kilobytes\n"
    assert larger.status() == THEIRS


ODD = ["-n", "--force", "ünï çode", "it's", "!x", "a[b]", "$HOME `x`", "#1", "HEAD"]


@pytest.mark.parametrize("folder", ["-s [a] 'ü' $x", ":(exclude)"])
def test_names_are_names_and_no_options_or_patterns(larger: Repo, folder: str) -> None:
    with Store(larger.path / folder) as store:
        for name in ODD:
            store.collection(name).put(name, {"name": name})
        first = store.snapshot("-m")
        assert first is not None
        assert {f"{folder}/{name}/{name}.json" for name in ODD} <= set(larger.files())
        for name in ODD:
            store.collection(name).put(name, {"name": name, "again": True})
        store.snapshot("--amend")
        for name in ODD[:: 2 if folder[0] == "-" else 3]:
            record = f"{name}/{name}"
            assert [commit.summary for commit in store.history.log(record)] == ["again", "added"]
            assert json.loads(store.history.show(record, first).files[f"{record}.json"]) == {"name": name}
            assert '+  "again": true' in store.history.diff(record, first)
            store.history.restore(record, first)
            assert store.collection(name)[name] == {"name": name}
        store.history.init()
    left = [line for line in larger.status() if folder not in line and "gitattributes" not in line]
    assert [line for line in left if "py" in line] == THEIRS


def test_scratch_is_never_committed(store: Store, larger: Repo) -> None:
    store.collection("agents").put("planner", {})
    (larger.path / "state/.fsstate/.gitignore").unlink()
    for place in ("staging/1/2", "trash/run/agents/a.json", "locks/x.lock", "cache/index.db"):
        larger.write(f"state/.fsstate/{place}")
    store.snapshot("one")
    below = [name for name in larger.files() if ".fsstate" in name]
    assert set(below) <= {"state/.fsstate/.gitignore", "state/.fsstate/store.json"}
    assert "state/.fsstate/store.json" in below


def test_a_repository_inside_the_store_is_refused(store: Store, larger: Repo) -> None:
    store.collection("agents").put("planner", {})
    inner = Repo(larger.path / "state/agents/inner")
    inner.path.mkdir()
    inner.git("init", "--quiet")
    inner.write("a.json")
    inner.commit("inner")
    before = larger.head()
    with pytest.raises(GitError, match="state/agents/inner is a git repository of its own"):
        store.snapshot("one")
    assert larger.head() == before
    assert larger.status()[:1] == THEIRS[:1]


def test_no_hook_of_commit_runs(store: Store, larger: Repo) -> None:
    for hook in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit"):
        path = larger.path / ".git/hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch '{larger.path}/ran'\nexit 1\n")
        path.chmod(0o755)
    store.collection("agents").put("planner", {})
    assert store.snapshot("one")
    assert not (larger.path / "ran").exists()


def test_who_signs_commits_signs_snapshots(store: Store, larger: Repo, tmp_path: Path) -> None:
    signer = tmp_path / "signer"
    signer.write_text(
        "#!/bin/sh\ncat >/dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\n"
        "printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nx\\n-----END PGP SIGNATURE-----\\n'\n"
    )
    signer.chmod(0o755)
    larger.git("config", "commit.gpgSign", "true")
    larger.git("config", "gpg.program", str(signer))
    store.collection("agents").put("planner", {"n": 1})
    store.snapshot("signed")
    assert "BEGIN PGP SIGNATURE" in larger.git("cat-file", "commit", "HEAD")
    larger.git("config", "gpg.program", "false")
    store.collection("agents").put("planner", {"n": 2})
    with pytest.raises(GitError, match="gpg failed to sign"):
        store.snapshot("unsigned")
    assert larger.git("log", "-1", "--format=%s") == "signed\n"


# -- when it cannot be done


def under_way_merge(repo: Repo) -> None:
    repo.git("stash", "--quiet", "--include-untracked")
    repo.git("checkout", "--quiet", "-b", "side")
    repo.write("code.py", "side\n")
    repo.commit("side")
    repo.git("checkout", "--quiet", "main")
    repo.write("code.py", "main\n")
    repo.commit("main")
    repo.git("merge", "side", code=1)


def under_way_rebase(repo: Repo) -> None:
    under_way_merge(repo)
    repo.git("merge", "--abort")
    repo.git("rebase", "side", code=1)


def under_way_cherry_pick(repo: Repo) -> None:
    under_way_merge(repo)
    repo.git("merge", "--abort")
    repo.git("cherry-pick", "side", code=1)


@pytest.mark.parametrize(
    ("begin", "what"),
    [(under_way_merge, "a merge"), (under_way_rebase, "a rebase"), (under_way_cherry_pick, "a cherry-pick")],
)
def test_what_is_under_way_is_not_disturbed(larger: Repo, begin: Callable[[Repo], None], what: str) -> None:
    begin(larger)
    head, status = larger.head(), larger.status()
    with Store(larger.path / "state") as store:
        store.collection("agents").put("planner", {})
        with pytest.raises(GitError, match=f"{what} is under way in {larger.path}; finish it or abort it first"):
            store.snapshot("one")
    assert larger.head() == head
    assert [line for line in larger.status() if "state" not in line] == status


def test_files_that_are_not_merged_yet(store: Store, larger: Repo) -> None:
    store.collection("agents").put("planner", {"n": 1})
    store.snapshot("one")
    store.collection("agents").put("planner", {"n": 2})
    larger.git("stash", "push", "--quiet", "state")
    store.collection("agents").put("planner", {"n": 3})
    store.snapshot("three")
    larger.git("reset", "--quiet", "--hard")
    larger.git("stash", "apply", code=1)
    with pytest.raises(GitError, match=r"state/agents/planner\.json is not merged yet"):
        store.snapshot("four")


def test_unmerged_files_elsewhere_are_the_persons_business(larger: Repo) -> None:
    larger.commit("all")
    larger.write("code.py", "stashed\n")
    larger.git("stash", "--quiet")
    larger.write("code.py", "committed\n")
    larger.commit("more")
    larger.git("stash", "apply", code=1)
    status = larger.status()
    with Store(larger.path / "state") as store:
        store.collection("agents").put("planner", {})
        assert store.snapshot("one")
    assert larger.status() == status == ["UU code.py"]
    assert larger.git("show", "HEAD:code.py") == "committed\n"


def test_outside_of_any_repository(tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:
        with pytest.raises(GitError, match="there is no such directory"):
            store.snapshot("one")
        store.collection("agents").put("planner", {})
        with pytest.raises(GitError, match=r"it lies in no git repository; `fsstate git init` makes one"):
            store.snapshot("one")
        with pytest.raises(GitError, match="it lies in no git repository"):
            store.history.log("agents/planner")


def test_in_a_bare_repository(tmp_path: Path) -> None:
    Repo(tmp_path).git("init", "--quiet", "--bare", "bare.git")
    with Store(tmp_path / "bare.git/state") as store:
        store.collection("agents").put("planner", {})
        for call in (store.history.init, functools.partial(store.snapshot, "one")):
            with pytest.raises(GitError, match="has no working files there"):
                call()


def test_in_memory() -> None:
    store = Store.in_memory()
    for call in (functools.partial(store.snapshot, "one"), functools.partial(store.history.log, "a/b")):
        with pytest.raises(GitError, match="it keeps no files that git could hold"):
            call()


def test_without_git(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store.collection("agents").put("planner", {})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="needs the git program, and there is none on PATH"):
        store.snapshot("one")


def test_when_git_does_not_know_who_commits(store: Store, larger: Repo, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    store.collection("agents").put("planner", {})
    with pytest.raises(GitError, match=r"git does not know who commits; run `git config user\.name NAME`"):
        store.snapshot("one")
    assert larger.status() == [*THEIRS[:1], THEIRS[1], *larger.status()[2:]]


def test_a_repository_of_somebody_else_is_refused_in_gits_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.collection("agents").put("planner", {})
    # What git's own tests do, as only root may give files away.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(GitError, match=r"dubious ownership.*safe\.directory"):
        store.snapshot("one")


@pytest.mark.parametrize("message", ["", " \n", "a\0b"])
def test_a_message_is_needed(store: Store, message: str) -> None:
    store.collection("agents").put("planner", {})
    with pytest.raises(fsstate.InvalidValueError, match="a snapshot needs a message"):
        store.snapshot(message)


@MIGHT
def test_a_file_that_may_not_be_read(store: Store, larger: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    store.collection("agents").put("planner", {})
    path = Path(store.path_of(("agents", "planner")))
    path.chmod(0)
    monkeypatch.setattr("fsstate.git.snapshot._TRIES", 2)
    before = larger.head()
    with pytest.raises(GitError, match=r'open\("state/agents/planner.json"\): Permission denied'):
        store.snapshot("one")
    assert larger.head() == before


def test_an_index_that_stays_locked_does_not_undo_the_snapshot(larger: Repo, caplog: pytest.LogCaptureFixture) -> None:
    with Store(larger.path / "state", StoreOptions(lock_timeout=0.2)) as store:
        store.collection("agents").put("planner", {})
        larger.write(".git/index.lock")
        commit = store.snapshot("one")
    assert commit == larger.head()
    assert "run `git reset -- state` there" in caplog.text
    (larger.path / ".git/index.lock").unlink()
    larger.git("reset", "--quiet", "--", "state")
    assert larger.status() == THEIRS


# -- while others write

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


@pytest.mark.parametrize(("tail", "kept"), [('{"seq":2,"ki', 1), ('{"seq":2,"kind":"x"}', 2)])
def test_of_a_log_its_whole_lines_are_committed(store: Store, larger: Repo, tail: str, kept: int) -> None:
    log = store.journal("audit", "trail")
    log.append("one")
    with open(log.path, "a", encoding="utf-8") as file:
        file.write(tail)
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


def test_snapshots_in_async_code(tmp_path: Path) -> None:
    async def main() -> None:
        async with fsstate.AsyncStore(tmp_path / "state") as store:
            await store.collection("agents").put("planner", {"n": 1})
            await store.history.init()
            first = await store.snapshot("one")
            assert first is not None
            await store.collection("agents").put("planner", {"n": 2})
            await store.snapshot("two")
            assert [commit.subject for commit in await store.history.log("agents/planner")] == ["two", "one"]
            await store.history.restore("agents/planner", first)
            assert await store.collection("agents").get("planner") == {"n": 1}

    anyio.run(main)


# -- the repository


def test_init_tells_the_repository_how(tmp_path: Path) -> None:
    with Store(tmp_path / "own") as store:
        check_told(store, Repo(tmp_path / "own"))


def check_told(store: Store, repo: Repo) -> None:
    assert store.history.init().created
    before = {name: (repo.path / name).read_bytes() for name in (".gitattributes", ".gitignore", ".git/config")}
    assert b"*.jsonl -text merge=fsstate diff=fsstate\n" in before[".gitattributes"]
    assert b"*.conflict-*\n" in before[".gitignore"]
    driver = repo.git("config", "merge.fsstate.driver")
    assert driver.endswith(" git merge-driver %O %A %B %L %P\n")
    command = driver.partition(" git ")[0]
    shown = subprocess.run(["sh", "-c", f"{command} --version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"fsstate {fsstate.__version__}\n"
    again = store.history.init()
    assert (again.created, again.lines, again.settings) == (False, {}, {})
    assert {name: (repo.path / name).read_bytes() for name in before} == before
    repo.git("config", "--unset", "diff.fsstate.textconv")
    assert list(store.history.init(dry_run=True).settings) == ["diff.fsstate.textconv"]
    assert repo.git("config", "diff.fsstate.textconv", code=1) == ""
    assert list(store.history.init().settings) == ["diff.fsstate.textconv"]


def test_the_command_is_no_folder_of_that_name(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.history.init()
    repo.write("fsstate/__init__.py", "raise SystemExit('not this one')\n")
    command = repo.git("config", "merge.fsstate.driver").partition(" git ")[0]
    done = subprocess.run(["sh", "-c", f"{command} --version"], cwd=repo.path, capture_output=True, check=True)
    assert done.stdout.startswith(b"fsstate ")


def test_init_adds_to_what_is_there(larger: Repo, store: Store) -> None:
    store.collection("agents").put("planner", {})
    larger.write("state/.gitattributes", "# mine\n*.json   -text merge=fsstate\tdiff=fsstate\n*.png binary")
    larger.write("state/.gitignore", "*.tmp\r\n")
    report = store.history.init(dry_run=True)
    assert (report.repository, report.created) == (str(larger.path), False)
    assert [line.split()[0] for line in report.lines[".gitattributes"]] == ["*.jsonl", "*.md"]
    store.history.init()
    text = (larger.path / "state/.gitattributes").read_text()
    assert text.startswith("# mine\n*.json   -text merge=fsstate\tdiff=fsstate\n*.png binary\n# fsstate: ")
    assert text.count("*.json ") == 1
    assert (larger.path / "state/.gitignore").read_bytes().startswith(b"*.tmp\r\n# fsstate: ")
    shown = larger.git("check-attr", "merge", "text", "--", "state/a/b.jsonl", "code.py").splitlines()
    assert [line.rpartition(": ")[2] for line in shown] == ["fsstate", "unset", "unspecified", "unspecified"]
    larger.git("check-ignore", "state/agents/planner.conflict-2026-11-28T184512Z-1f3a.json")
    larger.git("check-ignore", "state/agents/planner.json", code=1)


def test_init_says_so_where_git_ignores_the_store(larger: Repo, store: Store) -> None:
    store.collection("agents").put("planner", {})
    larger.write(".gitignore", "*.tmp\nstate/\n")
    with pytest.raises(GitError, match=r"because of \.gitignore:2:state/; take that line out first"):
        store.history.init()
    assert not (larger.path / "state/.gitattributes").exists()
    with pytest.raises(GitError, match="git ignores what is in it because of"):
        store.snapshot("one")


def test_a_repository_of_sha256(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    repo.git("init", "--quiet", "--object-format=sha256")
    with Store(tmp_path / "state") as store:
        first, second = a_session(store, "talk")
        assert len(first) == 64
        store.history.restore("talk", first)
        assert texts(store, "talk") == ["one"]
        store.snapshot("back")
        assert [commit.summary for commit in store.history.log("talk")][1:] == [
            "title, checkpoints/later added, +1 extra, +1 message",
            "added, +1 event, +1 message",
        ]
        store.collection("sessions").update("talk", lambda document: {**document, "title": "third"})
        with pytest.raises(UncommittedError):
            store.history.restore("talk", second)


def test_bytes_are_committed_as_they_are(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.history.init()
    repo.git("config", "core.autocrlf", "true")
    data = b'\xef\xbb\xbf{\r\n  "a": 1\r\n}'
    (repo.path / "agents/bom.json").write_bytes(data)
    (repo.path / "agents/note.md").write_bytes(b"one\r\ntwo\n")
    commit = store.snapshot("one")
    assert commit is not None
    assert store.history.show("agents/bom", commit).files == {"agents/bom.json": data}
    assert repo.git("rev-parse", "HEAD:agents/note.md").strip() == repo.git("hash-object", "agents/note.md").strip()
    (repo.path / "agents/bom.json").write_bytes(b"{}")
    store.snapshot("two")
    store.history.restore("agents/bom", commit)
    assert (repo.path / "agents/bom.json").read_bytes() == data


# -- the history of a record


def test_what_became_of_a_document(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents")
    first = store.snapshot("one")
    agents.put("planner", {"n": 1, "status": "busy"})
    store.collection("agents").put("other", {})
    second = store.snapshot("two")
    repo.write("agents/planner.json", "not JSON any more\n")
    store.snapshot("broken")
    agents.delete("planner")
    store.snapshot("gone")
    found = store.history.log("agents/planner")
    assert [(commit.subject, commit.summary) for commit in found] == [
        ("gone", "removed"),
        ("broken", "+1 −4 lines"),
        ("two", "n, status"),
        ("one", "added"),
    ]
    assert [commit.id for commit in found[2:]] == [second, first]
    assert {commit.author for commit in found} == {"Ada Ünal"}
    assert found[0].at.tzinfo is not None
    assert store.history.log("agents/planner.json", limit=1) == found[:1]
    assert store.history.log("agents/planner", limit=0) == []
    with pytest.raises(NotFoundError, match="agents/nobody neither exists"):
        store.history.log("agents/nobody")


def test_what_became_of_a_session(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="0198c3f2-first", title="A").id)
    store.snapshot("one")
    session.messages.append("user", "Hi")
    session.messages.append("assistant", "Ho")
    session.events.append("started")
    store.snapshot("two")
    store.collection("sessions").update("0198c3f2-first", lambda document: {**document, "title": "B"})
    session.messages.append("user", "More")
    session.checkpoints.save("first", {"at": 1})
    store.snapshot("three")
    store.collection("sessions").put("0198c3f2-fir", {"id": "0198c3f2-fir"})
    store.snapshot("another")
    found = store.history.log("0198c3f2-first")
    assert [commit.summary for commit in found] == [
        "title, checkpoints/first added, +1 message",
        "+1 event, +2 messages",
        "added",
    ]
    assert [change.path for change in found[0].changes] == [
        "sessions/0198c3f2-first.json",
        "sessions/0198c3f2-first/checkpoints/first.json",
        "sessions/0198c3f2-first/messages.jsonl",
    ]
    assert store.history.log("0198c3f2-firs") == found
    assert store.history.log("sessions/0198c3f2-first") == found
    assert [c.summary for c in store.history.log("sessions/0198c3f2-first/messages")] == ["+1 entry", "+2 entries"]
    with pytest.raises(fsstate.AmbiguousIdError):
        store.history.log("0198c3")
    store.sessions.delete("0198c3f2-first")
    store.snapshot("gone")
    assert store.history.log("0198c3f2-firs")[1:] == found


def test_a_record_is_followed_to_where_it_stood_before(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.collection("teams/red").put("ada", {"n": 1})
    store.snapshot("one")
    store.collection("teams/red").put("ada", {"n": 2})
    store.snapshot("two")
    (repo.path / "teams/blue").mkdir()
    (repo.path / "teams/red/ada.json").rename(repo.path / "teams/blue/ada.json")
    store.snapshot("moved")
    store.collection("teams/blue").put("ada", {"n": 3})
    store.collection("teams/green").put("ada", {"n": 3})
    store.snapshot("three")
    store.collection("teams/blue").put("ada", {"n": 4})
    store.collection("teams/green").delete("ada")
    store.snapshot("four")
    found = store.history.log("teams/blue/ada")
    assert [(commit.subject, commit.record) for commit in found] == [
        ("four", "teams/blue/ada.json"),
        ("three", "teams/blue/ada.json"),
        ("moved", "teams/blue/ada.json"),
        ("two", "teams/red/ada.json"),
        ("one", "teams/red/ada.json"),
    ]
    for limit in range(6):
        assert store.history.log("teams/blue/ada", limit=limit) == found[:limit]


def test_merges_and_odd_messages(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents")
    store.snapshot("one")
    repo.git("checkout", "--quiet", "-b", "side")
    agents.put("side", {})
    agents.put("planner", {"n": 0, "status": "idle", "side": True})
    store.snapshot("side\tand :100644 more\nsecond line")
    repo.git("checkout", "--quiet", "main")
    agents.put("other", {})
    store.snapshot("main")
    repo.git("merge", "--quiet", "--no-edit", "side")
    repo.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", "")
    agents.put("planner", {"n": 0})
    repo.git("commit", "--quiet", "--all", "--allow-empty-message", "-m", "")
    found = store.history.log("agents/planner")
    assert [(commit.subject, commit.summary) for commit in found] == [
        ("", "status, side"),
        ("side\tand :100644 more second line", "side"),
        ("one", "added"),
    ]


def test_logs_and_notes_and_settings_of_the_persons(own: tuple[Store, Repo]) -> None:
    store, repo = own
    # The last is one that git warns about at every run.
    for setting in (
        "log.showRoot=false",
        "log.follow=true",
        "diff.renames=copies",
        "core.quotePath=true",
        "core.fsyncObjectFiles=true",
    ):
        repo.git("config", *setting.split("="))
    repo.git("config", "color.ui", "always")
    log = store.journal("audit", "trail")
    for number in range(3):
        log.append("made", number=number)
    store.markdown("notes").put("ünï", "one\ntwo\n")
    store.snapshot("one")
    log.append("more")
    log.trim(before=3)
    store.markdown("notes").put("ünï", "one\nthree\nfour\n")
    store.snapshot("two")
    assert [commit.summary for commit in store.history.log("audit/trail")] == ["+1 −2 entries", "+3 entries"]
    assert [commit.summary for commit in store.history.log("notes/ünï")] == ["+2 −1 lines", "added"]
    shown = store.history.diff("notes/ünï", "HEAD~1", "HEAD")
    assert "\x1b" not in shown
    assert "-two\n+three\n+four\n" in shown


def test_several_records_of_one_name(own: tuple[Store, Repo]) -> None:
    store, _ = own
    store.markdown("agents").put("planner", "x")
    store.snapshot("one")
    with pytest.raises(fsstate.AmbiguousIdError, match="give its extension, too"):
        store.history.log("agents/planner")
    assert len(store.history.log("agents/planner.md")) == 1


def test_what_differs(own: tuple[Store, Repo]) -> None:
    store, _ = own
    agents = store.collection("agents")
    store.snapshot("one")
    agents.put("planner", {"n": 1, "status": "idle"})
    store.snapshot("two")
    agents.put("planner", {"n": 2, "status": "idle"})
    agents.put("other", {"n": 2})
    assert '-  "n": 1,\n+  "n": 2,\n' in store.history.diff("agents/planner")
    assert '-  "n": 0,\n+  "n": 2,\n' in store.history.diff("agents/planner", "HEAD~1")
    assert '-  "n": 0,\n+  "n": 1,\n' in store.history.diff("agents/planner", "HEAD~1", "HEAD")
    assert "other" not in store.history.diff("agents/planner")
    with pytest.raises(NotFoundError, match="git knows no commit 'nowhere'"):
        store.history.diff("agents/planner", "nowhere")
    with pytest.raises(NotFoundError):
        store.history.show("agents/planner", "--help")


def test_as_it_was(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="first").id)
    session.messages.append("user", "Hi")
    commit = store.snapshot("one")
    assert commit is not None
    session.messages.append("user", "Ho")
    store.snapshot("two")
    version = store.history.show("first", "HEAD~1")
    assert (version.record, version.commit) == ("sessions/first.json", commit)
    assert list(version.files) == ["sessions/first.json", "sessions/first/messages.jsonl"]
    assert version.files["sessions/first/messages.jsonl"].count(b"\n") == 1
    store.collection("agents").put("later", {})
    store.snapshot("three")
    with pytest.raises(NotFoundError, match=r"agents/later\.json did not exist in HEAD~1"):
        store.history.show("agents/later", "HEAD~1")


# -- the way back


def test_a_document_comes_back(own: tuple[Store, Repo]) -> None:
    store, repo = own
    agents = store.collection("agents", indexed=["status"])
    first = store.snapshot("one")
    assert first is not None
    before = (repo.path / "agents/planner.json").read_bytes()
    agents.put("planner", {"n": 1, "status": "busy"})
    with pytest.raises(UncommittedError, match=r"agents/planner\.json: .*take a snapshot first, or force it") as raised:
        store.history.restore("agents/planner", first)
    assert raised.value.paths == ["agents/planner.json"]
    store.snapshot("two")
    planned = store.history.restore("agents/planner", first, dry_run=True)
    assert [tuple(each) for each in planned.files] == [("agents/planner.json", "replaced")]
    assert agents["planner"]["n"] == 1
    assert store.history.restore("agents/planner", "HEAD~1") == planned._replace(dry_run=False)
    assert (repo.path / "agents/planner.json").read_bytes() == before
    assert [name for name, _ in agents.query(where={"status": "idle"}, limit=5)] == ["planner"]
    assert store.history.restore("agents/planner", first).files == []
    agents.put("planner", {"n": 9})
    store.history.restore("agents/planner", first, force=True)
    agents.delete("planner")
    assert store.history.restore("agents/planner", first).files[0].change == "added"
    assert agents["planner"] == {"n": 0, "status": "idle"}


def test_a_log_comes_back_and_gives_out_no_number_again(own: tuple[Store, Repo]) -> None:
    store, repo = own
    log = store.journal("audit", "trail")
    for number in range(3):
        log.append("made", number=number)
    first = store.snapshot("one")
    assert first is not None
    before = Path(log.path).read_bytes()
    log.append("more")
    log.append("more")
    store.snapshot("two")
    store.history.restore("audit/trail", first)
    assert Path(log.path).read_bytes() == before + b'{"seq":5,"fsstate":"trimmed"}\n'
    assert [entry.seq for entry in log] == [1, 2, 3]
    assert (log.count(), log.problems()) == (3, [])
    last = log.last()
    assert last is not None
    assert last.seq == 3
    assert store.history.restore("audit/trail", first).files == []
    assert log.append("after") == 6
    assert [entry.seq for entry in log.read(after=3)] == [6]
    assert log.tail(2)[0].seq == 3
    store.snapshot("three")
    Path(log.path).unlink()
    store.history.restore("audit/trail", first)
    assert log.append("again") == 7
    repo.git("fsck", "--strict")


def test_the_last_entry_is_known_behind_the_marker(own: tuple[Store, Repo]) -> None:
    store, _ = own
    session = store.session(store.sessions.create(id="first").id)
    one = session.messages.append("user", "one")
    first = store.snapshot("one")
    assert first is not None
    session.messages.append("user", "two")
    store.snapshot("two")
    store.history.restore("sessions/first/messages", first)
    with Store(store.path) as fresh:
        added = fresh.session("first").messages.append("user", "three")
    assert added.parent_id == one.id
    assert added.seq == 3


def a_session(store: Store, id_: str) -> tuple[str, str]:
    """A session with two versions in git; the second has a checkpoint and tool calls more. Returns the commits."""
    session = store.session(store.sessions.create(id=id_, title="first title").id)
    session.messages.append("user", "one")
    session.events.append("started")
    first = store.snapshot("one")
    session.messages.append("assistant", "two")
    session.checkpoints.save("later", {"at": 2})
    session.journal("extra").append("x")
    store.collection("sessions").update(id_, lambda document: {**document, "title": "second title"})
    second = store.snapshot("two")
    assert first is not None
    assert second is not None
    return first, second


def texts(store: Store, id_: str) -> list[str]:
    return [message.text for message in store.session(id_).messages.list()]


def test_a_session_comes_back_with_all_that_belonged_to_it(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    assert [hit.session for hit in store.search("two")] == ["talk"]
    report = store.history.restore("talk", first)
    assert {each.path.removeprefix("sessions/"): each.change for each in report.files} == {
        "talk.json": "replaced",
        "talk/messages.jsonl": "replaced",
        "talk/checkpoints/later.json": "removed",
        "talk/extra.jsonl": "removed",
    }
    session = store.session("talk")
    assert texts(store, "talk") == ["one"]
    assert [each.title for each in store.sessions.list()] == ["first title"]
    assert store.search("two") == []
    assert session.checkpoints.names() == []
    assert session.journal("extra").read() == []
    # No number comes twice, also in a log that was not there then.
    assert session.journal("extra").append("y") == 2
    assert session.messages.append("user", "three").seq == 3
    assert session.events.append("more") == 2
    assert store.trash.list() == []
    with pytest.raises(UncommittedError):
        store.history.restore("talk", second)
    forced = store.history.restore("talk", second, force=True)
    assert forced.in_trash
    assert texts(store, "talk") == ["one", "two"]
    assert session.checkpoints.names() == ["later"]
    assert [(item.record, item.reason) for item in store.trash.list()] == [("sessions/talk.json", "replaced")]
    store.sessions.delete("talk")
    store.trash.restore("talk")
    assert texts(store, "talk") == ["one", "three"]


def test_a_deleted_session_comes_back_whole(own: tuple[Store, Repo]) -> None:
    store, repo = own
    first, second = a_session(store, "talk")
    store.sessions.delete("talk")
    store.snapshot("gone")
    report = store.history.restore("talk", first)
    assert {each.change for each in report.files} == {"added"}
    assert texts(store, "talk") == ["one"]
    # Also what was given out after the version that came back, as far as a commit has it.
    assert store.session("talk").messages.append("user", "three").seq == 3
    store.sessions.delete("talk")
    # What a killed deletion leaves belongs to nobody.
    repo.write("sessions/talk/left.json", "{}\n")
    store.history.restore("talk", second)
    assert not (repo.path / "sessions/talk/left.json").exists()
    assert texts(store, "talk") == ["one", "two"]
    assert store.trash.list() == []


def test_what_belongs_to_a_session_comes_back_by_itself(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    store.history.restore("sessions/talk/messages", first)
    assert texts(store, "talk") == ["one"]
    assert store.session("talk").checkpoints.names() == ["later"]
    store.session("talk").checkpoints.delete("later")
    store.history.restore("sessions/talk/checkpoints/later", second)
    assert store.session("talk").checkpoints.names() == ["later"]
    store.sessions.delete("talk")
    with pytest.raises(NotFoundError, match=r"belongs to sessions/talk\.json, which does not exist; restore that"):
        store.history.restore("sessions/talk/checkpoints/later", second)


def test_other_files_in_a_sessions_folder_go_with_it(own: tuple[Store, Repo]) -> None:
    store, repo = own
    store.sessions.create(id="talk")
    data = bytes(range(256))
    (repo.path / "sessions/talk").mkdir()
    (repo.path / "sessions/talk/picture.png").write_bytes(data)
    first = store.snapshot("one")
    assert first is not None
    (repo.path / "sessions/talk/picture.png").unlink()
    (repo.path / "sessions/talk/new").write_bytes(b"x")
    with pytest.raises(UncommittedError, match="sessions/talk/new"):
        store.history.restore("talk", first)
    store.snapshot("two")
    store.history.restore("talk", first)
    assert (repo.path / "sessions/talk/picture.png").read_bytes() == data
    assert os.listdir(repo.path / "sessions/talk") == ["picture.png"]


def test_a_session_in_use_is_left_alone(own: tuple[Store, Repo]) -> None:
    first, _ = a_session(own[0], "talk")
    with Store(own[0].path, StoreOptions(lock_timeout=0.1)) as store:
        with own[0].session("talk").messages.stream("assistant") as stream:
            stream.write("so f")
            with pytest.raises(fsstate.LockTimeoutError):
                store.history.restore("talk", first, force=True)
        assert texts(store, "talk") == ["one", "two", "so f"]
        assert store.trash.list() == []


READER = """
    import json
    from fsstate import Store
    store = Store(root)
    print("ready", flush=True)
    seen = set()
    while not os.path.exists(sys.argv[2]):
        document = store.collection("sessions").get("talk")
        texts = [m.text for m in store.session("talk").messages.list()]
        again = store.collection("sessions").get("talk")
        if document is not None and document == again:
            seen.add((document["title"], len(texts)))
    print(json.dumps(sorted(seen)))
"""


def test_readers_find_the_one_or_the_other(own: tuple[Store, Repo], tmp_path: Path) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    end = tmp_path / "end"
    with processes.start(READER, Path(store.path), end) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(6):
            store.history.restore("talk", second if number % 2 else first, force=True)
        end.touch()
        out, err = reader.communicate(timeout=60)
    assert err == ""
    seen = {(title, number) for title, number in json.loads(out)}
    assert {("first title", 1), ("second title", 2)} <= seen
    # Between the two there is none; what a reader puts together across an exchange is its own.
    assert {title for title, _ in seen} == {"first title", "second title"}


# A process for each step of a restore, killed before its change of the disk with that number; what is left is judged
# by the one that started it. Between two steps that are tried lie a few that are not.
KILLED = """
    import itertools, json, signal
    from fsstate import Store
    first, second, stride = sys.argv[2:]
    changes = ("rename", "unlink", "link", "mkdir", "rmdir", "fsync", "fdatasync")

    def counted(real, numbers, last):
        def call(*arguments, **given):
            if next(numbers) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **given)
        return call

    def texts(store):
        return [message.text for message in store.session("talk").messages.list()]

    for step in itertools.count(0, int(stride)):
        child = os.fork()
        if child == 0:
            numbers = itertools.count()
            for name in changes:
                setattr(os, name, counted(getattr(os, name), numbers, step))
            with Store(root) as store:
                store.history.restore("talk", first)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {0, -signal.SIGKILL}, code
        with Store(root) as store:
            in_trash = "talk" not in store.sessions.ids()
            if in_trash:
                store.trash.restore("talk")
            print(json.dumps([in_trash, store.sessions.list()[0].title, texts(store)]))
            if code == 0:
                break
            store.history.restore("talk", second, force=True)
            assert texts(store) == ["one", "two"]
            store.trash.empty()
"""


def test_a_restore_that_is_killed_loses_nothing(own: tuple[Store, Repo]) -> None:
    store, _ = own
    first, second = a_session(store, "talk")
    out = processes.run(KILLED, Path(store.path), first, second, os.environ.get("FSSTATE_STRIDE", "9"))
    found = [json.loads(line) for line in out.splitlines()]
    assert len(found) > 5
    assert found[0] == [False, "second title", ["one", "two"]]
    assert found[-1] == [False, "first title", ["one"]]
    assert all(each[1:] in (found[0][1:], found[-1][1:]) for each in found)
    assert store.trash.list() == []


def test_a_restore_that_is_tried_again_gives_out_no_number_again(own: tuple[Store, Repo]) -> None:
    """Cut off while the session is in the trash, with entries that no commit has."""
    store, _ = own
    first, _ = a_session(store, "talk")
    at = datetime.now(UTC)
    assert store.session("talk").events.append("in no commit") == 2
    store.session("talk").journal("new").append("in no commit")
    with Trash(store.backend).filling() as going:
        going.announce([TrashItem("", "sessions/talk.json", "replaced", None, at, 1, has_belongings=True)])
        ref = Ref("sessions", "talk", ".json")
        assert store.backend.move_many([Move(ref, ref.belongings, going.place_of(ref), None)]) == [True]
    store.history.restore("talk", first)
    assert store.session("talk").events.append("later") == 3
    assert store.session("talk").journal("new").append("later") == 2


def test_a_document_is_restored_alone_beside_a_category_of_its_name(own: tuple[Store, Repo]) -> None:
    store, _ = own
    store.collection("teams").put("red", {"n": 1})
    store.collection("teams/red").put("ada", {})
    first = store.snapshot("one")
    assert first is not None
    store.collection("teams").put("red", {"n": 2})
    store.collection("teams/red").put("ben", {})
    store.snapshot("two")
    assert [commit.summary for commit in store.history.log("teams/red")] == ["n", "added"]
    assert [tuple(each) for each in store.history.restore("teams/red", first).files] == [("teams/red.json", "replaced")]
    assert store.collection("teams/red").names() == ["ada", "ben"]


# -- a real history


def in_order_of(value: Any, before: Any) -> Any:
    """A value with the keys of objects in the order that they had before, and new ones behind these."""
    if not isinstance(value, dict) or not isinstance(before, dict):
        return value
    kept = [key for key in before if key in value]
    return {key: in_order_of(value[key], before.get(key)) for key in [*kept, *value]}


def layout(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n")


def common(one: list[str], other: list[str]) -> int:
    """How many lines two texts have in common, in order: the most that there can be."""
    row = [0] * (len(other) + 1)
    for line in one:
        before = row
        row = [0]
        for number, theirs in enumerate(other):
            row.append(before[number] + 1 if line == theirs else max(before[number + 1], row[-1]))
    return row[-1]


def expected_lines(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """How many lines each record that changed gets and loses, told from its values alone."""
    found: dict[str, tuple[int, int]] = {}
    for name in before.keys() | after.keys():
        if name in before and name in after and before[name] == after[name]:
            continue
        old, new = (layout(each[name]) if name in each else [] for each in (before, after))
        same = common(old, new)
        found[f"issues/{name}.json"] = (len(new) - same, len(old) - same)
    return found


def test_the_history_of_real_issues_shows_what_changed_and_nothing_else(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    revisions = sorted((shared_data / "beads/revisions").glob("*.jsonl"))
    assert len(revisions) == 23
    stored: dict[str, Any] = {}
    previous = ""
    found: list[tuple[int, int]] = []
    expected: list[tuple[int, int]] = []
    with Store(tmp_path / "state", QUICK) as store:
        issues = store.collection("issues")
        issues.put("first", {})
        store.history.init()
        repo = Repo(tmp_path / "state")
        for revision in revisions:
            rows = [json.loads(line) for line in revision.read_text().splitlines()]
            after = {row["id"]: in_order_of(row, stored.get(row["id"])) for row in rows}
            issues.put_many({row["id"]: row for row in rows})
            for name in set(issues.names()) - after.keys():
                issues.delete(name)
            commit = store.snapshot(revision.stem)
            if previous:
                changes = expected_lines(stored, after)
                counted = numbers_of(repo, previous, commit) if commit is not None else {}
                assert counted == changes
                found += counted.values()
                expected += changes.values()
            previous, stored = commit or previous, after
        assert dict(issues.items()) == stored
    told = f"{len(found)} changes to records of {len(revisions)} revisions: git counts {sums(found)}, "
    with capsys.disabled():
        sys.stdout.write(f"\n{told}expected {sums(expected)}\n")
    assert sums(found) == sums(expected)


def numbers_of(repo: Repo, before: str, after: str) -> dict[str, tuple[int, int]]:
    """How many lines each file got and lost between two commits, as git counts them."""
    shown = repo.git("diff", "--numstat", "--minimal", "--no-renames", "-z", before, after)
    lines = (line.split("\t") for line in shown.split("\0")[:-1])
    return {path: (int(added), int(removed)) for added, removed, path in lines}


def sums(numbers: list[tuple[int, int]]) -> str:
    return f"+{sum(added for added, _ in numbers)} -{sum(removed for _, removed in numbers)} lines"
