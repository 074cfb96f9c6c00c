"""What a snapshot commits: the store, and nothing else of a person's."""

import json
from pathlib import Path

import anyio
import pytest

import fsstate
from fsstate import GitError, Store
from tests.files.git.repository import THEIRS, Repo
from tests.git import needs_git

pytestmark = needs_git


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
