"""`history.init`, and repositories of several kinds."""

import subprocess
from pathlib import Path

import pytest

import fsstate
from fsstate import GitError, Store, UncommittedError
from tests.files.git.repository import Repo, a_session, texts
from tests.git import needs_git

pytestmark = needs_git


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
