"""Snapshots: the store's directory, and nothing else, as one commit.

What git has staged is put together in an index of its own, so what a person has staged elsewhere stays staged and out
of the commit. Writers go on meanwhile. What git reads while a file is replaced or grows may be cut: a file that is not,
afterwards, the one that git looked at, is read once more here, whole; of a log, as far as its last whole line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from fsstate.backends.base import JSON, LOG, Backend, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import FsStateError, GitError, InvalidValueError, OutcomeUnknownError, StorageError
from fsstate.git.program import Git
from fsstate.git.repository import Repository, files_of, read_plain

__all__ = ["take_snapshot"]

_logger: Final = logging.getLogger("fsstate")
# No record: what keeps two snapshots apart.
_TURN: Final = Ref(".fsstate", "snapshot", JSON)
_MARKS: Final = (".fsstate/store.json", ".fsstate/.gitignore")
# Files may vanish while git looks at them, and others may commit at the same moment: not this often in a row.
_TRIES: Final = 30
_PAUSE: Final = 0.05
_PLAIN: Final = (b"100644", b"100755")
# How much younger than its time of change says a directory may be: file systems stamp as coarsely as this.
_COARSE_NS: Final = 2_000_000_000


class _Changed(NamedTuple):
    """A file that the commit would change: its mode there (`000000`: it is gone), and its path in the repository."""

    mode: bytes
    path: str


def take_snapshot(backend: Backend, message: str) -> str | None:
    """Commit the store's directory as it is now, and only it; return the commit's id, or None when nothing changed.

    See `Store.snapshot`.
    """
    files = files_of(backend)
    text = _checked(message)
    repository = Repository.of(files.root)
    held = files.lock(_TURN)
    try:
        files.prepare()
        return _Snapshot(files, repository).take(text)
    except FsStateError:
        raise
    except OSError as error:
        raise StorageError.of("take a snapshot of", files.root, error) from error
    finally:
        held.release()


def _checked(message: str) -> str:
    text = message.strip()
    if not text or "\0" in text:
        raise InvalidValueError("a snapshot needs a message, without NUL characters", at="message")
    return f"{text}\n"


class _Snapshot:
    """One snapshot on its way. Requires: nobody else of fsstate's takes one of this store."""

    def __init__(self, files: FileBackend, repository: Repository) -> None:
        self._files = files
        self._at = repository
        self._durable = files.options.durability == "full"
        self._began_ns = time.time_ns()

    def take(self, message: str) -> str | None:
        for _ in range(_TRIES):
            self._at.require_at_rest()
            self._at.require_not_ignored("category/name")
            head = self._at.head()
            tree = self._tree(head)
            if tree is None:
                return None
            commit = self._commit(tree, head, message)
            if self._move_head(commit, head, message):
                self._refresh_index()
                return commit
        raise GitError(self._at.top, "others commit there all the time; try again")

    def _tree(self, head: str | None) -> str | None:
        """The tree with the store as it is now in its place, or None when that is how it is already."""
        with _scratch(self._at.git_dir) as folder:
            index = f"{folder}/index"
            git = Git(self._at.top, index=index, durable=self._durable)
            self._begin_index(git, index, head)
            self._add_all(git)
            changed = self._changed(git, head)
            if self._mend(git, index, changed):
                # What was read once more may be as it was.
                changed = self._changed(git, head)
            return git.one_line("write-tree") if changed else None

    def _begin_index(self, git: Git, index: str, head: str | None) -> None:
        """Make an index that holds what `head` does, and knows which files are as they were."""
        with contextlib.suppress(FileNotFoundError):
            # With its time: what was changed after that is not taken for unchanged.
            shutil.copy2(f"{self._at.git_dir}/index", index)
        git.run("read-tree", *(["--empty"] if head is None else ["--reset", head]))

    def _add_all(self, git: Git) -> None:
        """Let the index hold what the files hold; what is below .fsstate is scratch, but for the marks of a store."""
        kinds = ("--modified", "--others", "--exclude-standard")
        listed = git.run("ls-files", "-z", *kinds, "--", self._at.whole_store).split(b"\0")
        scratch = os.fsencode(self._at.path(".fsstate/"))
        paths = dict.fromkeys(path for path in listed if path and not path.startswith(scratch))
        for path in paths:
            if path.endswith(b"/"):
                shown = os.fsdecode(path.rstrip(b"/"))
                reason = f"{shown} is a git repository of its own, whose files cannot be committed with the store's"
                raise GitError(self._at.root, f"{reason}; move it away, or remove its .git")
        paths |= dict.fromkeys(os.fsencode(self._at.path(mark)) for mark in _MARKS)
        self._update(git, b"".join(path + b"\0" for path in paths))

    def _update(self, git: Git, paths: bytes) -> None:
        for attempt in range(_TRIES):
            try:
                git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", given=paths)
            except GitError:
                # A file that vanished while git opened it will not do so again and again.
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _changed(self, git: Git, head: str | None) -> list[_Changed]:
        before = head or git.one_line("hash-object", "-t", "tree", "--stdin")
        arguments = ("diff-index", "--cached", "--raw", "-z", "--no-renames", before, "--", self._at.whole_store)
        listed = git.run(*arguments).split(b"\0")
        pairs = zip(listed[::2], listed[1::2], strict=False)
        return [_Changed(about.split(b" ")[1], os.fsdecode(path)) for about, path in pairs]

    def _mend(self, git: Git, index: str, changed: Iterable[_Changed]) -> bool:
        """Let git take whole copies of what it may have seen in the middle of a change; say whether there was any."""
        listed = git.run("diff-files", "--name-only", "-z", "--no-renames", "--", self._at.whole_store)
        moving = {os.fsdecode(path) for path in listed.split(b"\0")}
        torn = [each for each in changed if each.mode in _PLAIN and (each.path in moving or self._is_torn(each.path))]
        copies = f"{index}.files"
        for each in torn:
            self._copy(each, copies)
        if torn:
            paths = b"".join(os.fsencode(each.path) + b"\0" for each in torn)
            elsewhere = Git(copies, index=index, durable=self._durable, git_dir=self._at.git_dir)
            elsewhere.run("update-index", "-z", "--add", "--remove", "--stdin", given=paths)
        return bool(torn)

    def _copy(self, changed: _Changed, copies: str) -> None:
        """Copy a record as it is at one moment: a document whole, a log as far as its last whole line."""
        data = read_plain(f"{self._at.top}/{changed.path}")
        target = Path(copies, changed.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(_whole_lines(data) if changed.path.endswith(LOG) else data)
            target.chmod(int(changed.mode[-3:], 8))

    def _is_torn(self, path: str) -> bool:
        """Whether a log ends in the middle of a line: somebody is writing it, or was killed."""
        return path.endswith(LOG) and not self._ends_whole(path)

    def _ends_whole(self, path: str) -> bool:
        with contextlib.suppress(OSError), Path(self._at.top, path).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
        return False

    def _commit(self, tree: str, head: str | None, message: str) -> str:
        git = Git(self._at.top, durable=self._durable)
        parents = () if head is None else ("-p", head)
        signs = git.ask("config", "--type=bool", "--get", "commit.gpgSign") == b"true\n"
        arguments = ("commit-tree", tree, *parents, *(("-S",) if signs else ()), "-F", "-")
        return git.run("-c", "i18n.commitEncoding=UTF-8", *arguments, given=message.encode()).decode().strip()

    def _move_head(self, commit: str, head: str | None, message: str) -> bool:
        """Let the branch end in the commit, durably; False when others have committed meanwhile."""
        git = Git(self._at.top, durable=self._durable)
        why = f"snapshot: {message.splitlines()[0]}"
        try:
            git.run("update-ref", "-m", why, "HEAD", commit, head or "")
        except GitError:
            if self._at.head() == head:
                raise
            return False
        try:
            if self._durable:
                self._make_names_last()
        except OSError as error:
            raise OutcomeUnknownError.of("make sure of the snapshot in", self._at.top, error) from error
        return True

    def _make_names_last(self) -> None:
        """Flush the directories that got names: git flushes only what is in the files."""
        branch = self._at.git.ask("symbolic-ref", "--quiet", "HEAD") or b"HEAD"
        places = ("--git-path", "objects", "--git-path", os.fsdecode(branch).strip())
        objects, ref = (Path(self._at.top, path) for path in self._at.git.one_line("rev-parse", *places).split("\n"))
        for folder in (*_younger(objects, self._began_ns - _COARSE_NS), objects, *_up_to(ref.parent, "refs")):
            _flush_names(folder)

    def _refresh_index(self) -> None:
        """Let git know that what it has staged of the store is what was committed."""
        deadline = time.monotonic() + self._files.options.lock_timeout
        while True:
            try:
                self._at.git.run("reset", "--quiet", "--", self._at.whole_store)
            except GitError as error:
                if time.monotonic() < deadline and ".lock" in error.reason:
                    time.sleep(_PAUSE)
                    continue
                todo = f"run `git reset -- {self._at.whole_store}` there, or git takes the store for changed back"
                _logger.warning("%s: the snapshot is made, but %s; %s", self._at.top, error.reason, todo)
            return


@contextlib.contextmanager
def _scratch(place: str) -> Generator[str]:
    """A directory for the length of a block. What of it cannot be removed stays, and does no harm."""
    folder = tempfile.mkdtemp(dir=place, prefix="fsstate-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _whole_lines(data: bytes) -> bytes:
    # A crash may leave zeros where the newline, and more, was on its way.
    data = data.rstrip(b"\0")
    end = data.rfind(b"\n") + 1
    try:
        # Without its newline, as editors leave it, the last line is one all the same.
        return data if isinstance(orjson.loads(data[end:]), dict) else data[:end]
    except orjson.JSONDecodeError:
        return data[:end]


def _younger(folder: Path, since_ns: int) -> list[Path]:
    """The directories in a folder in which names came or went since then."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        return [Path(entry.path) for entry in found if entry.stat(follow_symlinks=False).st_mtime_ns >= since_ns]


def _up_to(folder: Path, name: str) -> list[Path]:
    """A folder, and those above it as far as one of that name, if there is one."""
    parts = [folder, *folder.parents]
    named = [number for number, each in enumerate(parts) if each.name == name]
    return parts[: named[0] + 1] if named else [folder]


def _flush_names(folder: Path) -> None:
    # Where git keeps its names in another way, it looks after them itself.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
