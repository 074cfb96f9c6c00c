"""The repository that a store lies in: its own, or a larger one of which it is a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fsstate.backends.base import Backend
from fsstate.backends.files import FileBackend
from fsstate.errors import GitError, StorageError
from fsstate.git.program import Git

__all__ = ["Repository", "files_of", "read_plain"]

_NO_REPOSITORY: Final = "not a git repository"
# What git keeps while something is under way that a commit in between would spoil.
_UNDER_WAY: Final = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
}


def files_of(backend: Backend) -> FileBackend:
    """The backend, if it keeps files, which git can take. Raises GitError for every other."""
    if not isinstance(backend, FileBackend):
        raise GitError("this store", "it keeps no files that git could hold; open one with Store(path)")
    return backend


def read_plain(path: str) -> bytes | None:
    """What a file holds; None when it is absent. Raises StorageError, also for a symlink; waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError.of("read", path, error) from error


class Repository:
    """Where a store lies in a repository. Finding it raises GitError where it has no working files.

    `root` is the store's directory; `top` is the directory of the working files, `store` what the store's directory is
    called in it ("" for the whole), and `git_dir` where git keeps what is its own.
    """

    def __init__(self, root: str, top: str, store: str, git_dir: str) -> None:
        self.root = root
        self.top = top
        self.store = store
        self.git_dir = git_dir
        self.git = Git(top)

    @classmethod
    def find(cls, root: str) -> Repository | None:
        """The repository of a store's directory, or None when there is none."""
        found = _look(root)
        return None if found is None else cls(root, *found)

    @classmethod
    def of(cls, root: str) -> Repository:
        """The repository of a store's directory."""
        found = cls.find(root)
        if found is None:
            raise GitError(root, "it lies in no git repository; `fsstate git init` makes one")
        return found

    def path(self, below: str) -> str:
        """What a file of the store is called in the repository."""
        return f"{self.store}/{below}" if self.store else below

    def below(self, path: str) -> str:
        """What a file of the repository is called in the store."""
        return path.removeprefix(f"{self.store}/") if self.store else path

    @property
    def whole_store(self) -> str:
        """The store's directory, as git takes it."""
        return self.store or "."

    def head(self) -> str | None:
        """The id of the last commit; None when there is none yet."""
        return self.commit("HEAD")

    def commit(self, revision: str) -> str | None:
        """The id of the commit that a revision names, as git knows them; None when there is no such."""
        if revision.startswith("-") or "\0" in revision:
            return None
        try:
            found = self.git.ask("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        except GitError:
            return None
        return None if found is None else found.decode().strip()

    def ids(self, commit: str, paths: list[str]) -> dict[str, tuple[str, str]]:
        """The files of a commit at or below these paths of the store: mode and object id of each."""
        wanted = [self.path(each) for each in paths]
        listed = self.git.run("ls-tree", "-r", "-z", "--full-tree", commit, "--", *wanted)
        found: dict[str, tuple[str, str]] = {}
        for line in filter(None, listed.split(b"\0")):
            about, _, path = line.partition(b"\t")
            mode, _, id_ = about.decode().split(" ")
            found[self.below(os.fsdecode(path))] = (mode, id_)
        return found

    def content(self, commit: str, path: str) -> bytes:
        """A file of the store as a checkout of the commit would make it."""
        return self.git.run("cat-file", "--filters", f"{commit}:{self.path(path)}")

    def id_of(self, path: str, data: bytes) -> str:
        """The id that git would give the content of a file of the store."""
        return self.git.run("hash-object", "--stdin", "--path", self.path(path), given=data).decode().strip()

    def require_not_ignored(self, *samples: str) -> None:
        """Raise GitError when git ignores any of these paths of the store, which must not begin with a dot."""
        paths = (f"./{self.path(sample)}" for sample in samples)
        found = self.git.ask("check-ignore", "--verbose", "--", *paths, literally=False)
        if found is not None:
            rule = os.fsdecode(found).partition("\t")[0]
            raise GitError(self.root, f"git ignores what is in it because of {rule}; take that line out first")

    def require_at_rest(self) -> None:
        """Raise GitError while a merge, a rebase or the like is under way, or files of the store are not merged."""
        for name, what in _UNDER_WAY.items():
            if os.path.lexists(f"{self.git_dir}/{name}"):
                raise GitError(self.root, f"{what} is under way in {self.top}; finish it or abort it first")
        unmerged = self.git.run("ls-files", "--unmerged", "-z", "--", self.whole_store).split(b"\0")
        if unmerged[0]:
            path = os.fsdecode(unmerged[0].partition(b"\t")[2])
            raise GitError(self.root, f"{path} is not merged yet; resolve it and `git add` it first")


def _look(root: str) -> tuple[str, str, str] | None:
    try:
        is_there = Path(root).is_dir()
    except OSError as error:
        raise StorageError.of("look at", root, error) from error
    if not is_there:
        raise GitError(root, "there is no such directory; the first write to the store makes it")
    questions = ("--is-bare-repository", "--is-inside-work-tree", "--absolute-git-dir", "--show-prefix")
    try:
        answers = os.fsdecode(Git(root).run("rev-parse", *questions)).split("\n")
    except GitError as error:
        if _NO_REPOSITORY in error.reason:
            return None
        raise
    bare, inside, git_dir, prefix = answers[:4]
    if bare == "true" or inside != "true":
        raise GitError(root, f"{git_dir} has no working files there: it is bare, or its own folder")
    store = prefix.removesuffix("/")
    real = os.path.realpath(root)
    return (real.removesuffix(store).removesuffix("/") or "/") if store else real, store, git_dir
