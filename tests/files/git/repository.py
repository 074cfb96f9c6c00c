"""A repository as a person has it, and a store in it."""

import subprocess
from pathlib import Path

from fsstate import Store, StoreOptions

# What a power cut leaves is told by what is flushed, in one test; the others need not wait for it.
QUICK = StoreOptions(durability="process")
# What git tells of the work of a person's that is under way in `larger`, whatever a store does.
THEIRS = ["MM code.py", "?? new.py"]


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
