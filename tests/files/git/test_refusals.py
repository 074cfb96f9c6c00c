"""Where no snapshot can be made, the repository stays as it was, and the error tells what to do."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import fsstate
from fsstate import GitError, Store, StoreOptions
from tests.files.git.repository import THEIRS, Repo
from tests.git import needs_git

pytestmark = needs_git

MIGHT = pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")


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
