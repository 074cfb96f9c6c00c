"""The git program, run so that it gives the same answers everywhere: no pager, no prompt, no translation.

Paths are taken as they are, never as patterns, and the repository is the one that the directory lies in: GIT_DIR and
the like, which hooks and shells may have set for another one, do not count. What is run is never put together as a
line for a shell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Final

from fsstate.errors import GitError

__all__ = ["Git"]

# What points git to another repository, or changes what paths and differences mean.
_MISLEADING: Final = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
    *("GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_IMPLICIT_WORK_TREE", "GIT_QUARANTINE_PATH", "LANGUAGE"),
)
_SETTINGS: Final = {"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "GIT_EDITOR": ":"}
# What git itself takes for the flush of what is committed, from 2.36 on; older ones pass over it.
_DURABLE: Final = ("-c", "core.fsync=committed,reference", "-c", "core.fsyncMethod=fsync")
# A watcher may be late, and cheap looks may overlook; what is read must be what the files hold now.
_EXACT: Final = ("-c", "core.fsmonitor=false", "-c", "core.checkStat=default", "-c", "core.trustctime=true")
_UNKNOWN_PERSON: Final = ("tell me who you are", "empty ident name", "no email was given", "no name was given")


class Git:
    """The git program in one directory.

    `index` is another file for what is staged; `durable` flushes what is made. With `git_dir`, where a repository keeps
    what is its own, the directory counts as that of its working files.
    """

    def __init__(
        self, directory: str, *, index: str | None = None, durable: bool = False, git_dir: str | None = None
    ) -> None:
        self.directory = directory
        self._index = index
        elsewhere = () if git_dir is None else (f"--git-dir={git_dir}", f"--work-tree={directory}")
        self._options = ("--no-pager", *_EXACT, *(_DURABLE if durable else ()), *elsewhere)

    def run(self, *arguments: str, given: bytes = b"", literally: bool = True) -> bytes:
        """Run it and return what it prints. Raises GitError with what it says when it fails.

        With `literally=False` paths may be patterns.
        """
        code, printed, said = self._run(arguments, given, literally)
        if code:
            raise GitError(self.directory, _told(arguments[0], said))
        return printed

    def ask(self, *arguments: str, literally: bool = True) -> bytes | None:
        """Run it and return what it prints, or None when it says no: by ending with 1, and with more if it fails."""
        code, printed, said = self._run(arguments, b"", literally)
        if code > 1 or code < 0:
            raise GitError(self.directory, _told(arguments[0], said))
        return None if code else printed

    def one_line(self, *arguments: str) -> str:
        """Run it and return the line that it prints."""
        return os.fsdecode(self.run(*arguments)).removesuffix("\n")

    @contextmanager
    def reading(self, *arguments: str, fed_by: tuple[str, ...] = ()) -> Generator[IO[bytes]]:
        """Run it for the length of a block that reads what it prints, which may be fed by another run of it.

        A block that leaves early ends both. Raises GitError where one of them failed.
        """
        with ExitStack() as running:
            feeding = running.enter_context(_ending(self._start(fed_by, subprocess.DEVNULL))) if fed_by else None
            source = subprocess.DEVNULL if feeding is None else feeding.stdout
            process = running.enter_context(_ending(self._start(arguments, source)))
            if feeding is not None and feeding.stdout is not None:
                # Else it would not be told when nobody reads any more.
                feeding.stdout.close()
            assert process.stdout is not None
            yield process.stdout
            self._require_success(process, arguments)
            if feeding is not None:
                self._require_success(feeding, fed_by)

    def _require_success(self, process: subprocess.Popen[bytes], arguments: tuple[str, ...]) -> None:
        said = b"" if process.stderr is None else process.stderr.read()
        if process.wait():
            raise GitError(self.directory, _told(arguments[0], said))

    def talking(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it, to be written to and read from in turns. The caller ends it."""
        return self._start(arguments, subprocess.PIPE)

    def _run(self, arguments: tuple[str, ...], given: bytes, literally: bool) -> tuple[int, bytes, bytes]:
        process = self._start(arguments, subprocess.PIPE, literally)
        printed, said = process.communicate(given)
        return process.returncode, printed, said

    def _start(
        self, arguments: tuple[str, ...], stdin: int | IO[bytes] | None, literally: bool = True
    ) -> subprocess.Popen[bytes]:
        options = (*self._options, "--literal-pathspecs") if literally else self._options
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(  # noqa: S603 - a list of arguments; no shell reads it
                [_program(self.directory), *options, *arguments],
                cwd=self.directory, env=self._environment(), stdin=stdin, stdout=pipe, stderr=pipe,
            )  # fmt: skip
        except OSError as error:
            raise GitError(self.directory, f"cannot run git there: {error.strerror}") from error
        except ValueError:
            raise GitError(self.directory, "git cannot be given a NUL character") from None

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING and "_TRACE" not in name}
        more = {} if self._index is None else {"GIT_INDEX_FILE": self._index}
        # Who only looks must not keep others from their work by locking the index.
        return {**kept, **_SETTINGS, "GIT_OPTIONAL_LOCKS": "0", **more}


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Generator[subprocess.Popen[bytes]]:
    """Let no process outlive a block."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _program(directory: str) -> str:
    found = shutil.which("git")
    if found is None:
        raise GitError(directory, "this needs the git program, and there is none on PATH; install git")
    return found


def _told(action: str, said: bytes) -> str:
    """What git says went wrong, as one sentence for people."""
    text = said.decode(errors="replace")
    if any(each in text for each in _UNKNOWN_PERSON):
        return "git does not know who commits; run `git config user.name NAME` and `git config user.email ADDRESS`"
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(("hint:", "warning:"))]
    return f"git {action}: {'; '.join(map(_without_label, kept)) or 'failed without a word'}"


def _without_label(line: str) -> str:
    return line.removeprefix("fatal: ").removeprefix("error: ")
