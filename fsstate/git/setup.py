"""What a repository must know to treat a store well: how records merge and are shown, and what is not for it.

- `.gitattributes` and `.gitignore`, in the store's directory, are committed and go to every clone. Lines are added to
  what is there, each once; nothing is changed or taken away.
- Which program merges and shows is a setting of each clone, since git takes no program from those it is cloned from.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend
from fsstate.errors import StorageError
from fsstate.git.program import Git
from fsstate.git.repository import Repository, files_of, read_plain

__all__ = ["SetupReport", "set_up"]

# On disk: do not rename. `-text`: what is committed is byte for byte what the file holds, whatever core.autocrlf says.
_LINES: Final[Mapping[str, tuple[str, ...]]] = {
    ".gitattributes": tuple(f"*{suffix} -text merge=fsstate diff=fsstate" for suffix in (JSON, LOG, MARKDOWN)),
    ".gitignore": ("*.conflict-*",),
}
_ABOUT: Final = {
    ".gitattributes": "# fsstate: records merge by their fields and entries; `fsstate git init` tells a clone how",
    ".gitignore": "# fsstate: what could not be saved is kept beside its record until somebody has looked at it",
}
# A heading of Markdown, or a field of a document that holds more than one line.
_HEADINGS: Final = '^(#{1,6} .*|  "[^"]*": [[{].*)$'


class SetupReport(NamedTuple):
    """What `fsstate git init` found and did, or would do.

    - `repository`: the directory of the working files. `created`: whether there was none before.
    - `lines`: what was added to which file. `settings`: what was set in the repository's configuration.
    """

    repository: str
    created: bool
    lines: dict[str, list[str]]
    settings: dict[str, str]


def set_up(backend: Backend, *, dry_run: bool = False) -> SetupReport:
    """Make the repository that a store lies in know about records, and make one where there is none; tell what it took.

    What is as it should be stays untouched. With `dry_run` only tells. Raises GitError, before anything is written,
    where git ignores the store, and StorageError when a file cannot be written.
    """
    files = files_of(backend)
    if not dry_run and not Path(files.root).is_dir():
        files.prepare()
    repository = Repository.find(files.root)
    created = repository is None
    if repository is None:
        repository = Repository(files.root, files.root, "", "") if dry_run else _make(files.root)
    else:
        repository.require_not_ignored(*(f"category/name{suffix}" for suffix in (JSON, LOG, MARKDOWN)))
    lines = {name: missing for name in _LINES if (missing := _missing(files.root, name))}
    settings = {key: value for key, value in _wanted().items() if created or _setting(repository, key) != value}
    if not dry_run:
        files.prepare()
        for name, missing in lines.items():
            _append(files.root, name, [_ABOUT[name], *missing], files.options.file_mode)
        for key, value in settings.items():
            repository.git.run("config", "--local", key, value)
    return SetupReport(repository.top, created, lines, settings)


def _make(root: str) -> Repository:
    Git(root).run("init", "--quiet")
    return Repository.of(root)


def _setting(repository: Repository, key: str) -> str | None:
    found = repository.git.ask("config", "--local", "--get", key)
    return None if found is None else os.fsdecode(found).removesuffix("\n")


def _wanted() -> dict[str, str]:
    command = _own_command()
    return {
        "merge.fsstate.name": "fsstate: records by their fields and entries",
        "merge.fsstate.driver": f"{command} git merge-driver %O %A %B %L %P",
        # Between several common ancestors, one of them is taken: half a merge of theirs would be no record.
        "merge.fsstate.recursive": "binary",
        "diff.fsstate.textconv": f"{command} git textconv",
        "diff.fsstate.cachetextconv": "true",
        "diff.fsstate.xfuncname": _HEADINGS,
    }


def _own_command() -> str:
    """How a shell that git starts, now or in a year, runs this very program."""
    found, ours = Path(shutil.which("fsstate") or ""), Path(sys.executable).parent
    # An environment's own folder is on the PATH only as long as the environment is active.
    is_lasting = sys.prefix == sys.base_prefix or found.parent != ours
    if is_lasting and found.name and found.resolve().parent == ours.resolve():
        return "fsstate"
    # -P: a folder named fsstate in the repository is not this program.
    return f"{shlex.quote(sys.executable)} -P -m fsstate" if sys.executable else "fsstate"


def _missing(root: str, name: str) -> list[str]:
    there = {" ".join(line.split()) for line in _read(root, name).splitlines()}
    return [line for line in _LINES[name] if line not in there]


def _read(root: str, name: str) -> str:
    return (read_plain(f"{root}/{name}") or b"").decode(errors="surrogateescape")


def _append(root: str, name: str, lines: Iterable[str], mode: int) -> None:
    before = _read(root, name)
    gap = "" if before.endswith("\n") or not before else "\n"
    text = gap + "".join(f"{line}\n" for line in lines)
    path = f"{root}/{name}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError.of("write", path, error) from error
