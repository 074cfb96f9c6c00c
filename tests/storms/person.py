"""A person who edits the shared documents and takes them back with git, while programs change them.

Whoever saves what they read a while ago takes back what programs did meanwhile: that is theirs to do, and their saves
are recorded as whole documents. All that programs were told of must be there before such a save, or behind it.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import orjson

from tests.storms.history import Recorder
from tests.storms.scene import DOCUMENTS

__all__ = ["Person", "git"]

# Seconds between two saves, at most.
_REST: Final = 0.02


class Person:
    """Edits the documents of the store at `root`, which is in a git repository."""

    def __init__(self, root: str, recorder: Recorder, seed: object) -> None:
        self._root = Path(root)
        self._recorder = recorder
        self._chance = random.Random(str(seed))
        self._numbers = 0

    def edit_until(self, ends: float) -> None:
        """Save something now and then."""
        deeds = {self._save_beside: 6, self._save_in_place: 3, self._check_out: 1, self._commit: 1}
        while time.monotonic() < ends:
            (deed,) = self._chance.choices([*deeds], [*deeds.values()])
            deed(self._chance.choice(DOCUMENTS))
            time.sleep(self._chance.uniform(0, _REST))

    def _save_beside(self, name: str) -> None:
        """As most editors, and `sed -i`: a new file, moved to the place of the old one."""
        document = self._edited(name)
        aside = self._path(name).with_name(f".{name}.swp")
        aside.write_bytes(_encoded(document))
        number = self._begin(name, document)
        aside.replace(self._path(name))
        self._recorder.end(number, "done")

    def _save_in_place(self, name: str) -> None:
        document = self._edited(name)
        number = self._begin(name, document)
        fd = os.open(self._path(name), os.O_WRONLY)
        try:
            os.ftruncate(fd, os.write(fd, _encoded(document)))
        finally:
            os.close(fd)
        self._recorder.end(number, "done")

    def _check_out(self, name: str) -> None:
        committed = orjson.loads(git(self._root, "show", f"HEAD:shared/{name}.json"))
        number = self._begin(name, committed)
        git(self._root, "checkout", "-q", "HEAD", "--", f"shared/{name}.json")
        self._recorder.end(number, "done")

    def _commit(self, name: str) -> None:
        git(self._root, "add", f"shared/{name}.json")
        git(self._root, "commit", "-q", "--allow-empty", "-m", "as it is")

    def _edited(self, name: str) -> dict[str, Any]:
        self._numbers += 1
        return {**orjson.loads(self._path(name).read_bytes()), "note": f"note {self._numbers}"}

    def _begin(self, name: str, document: dict[str, Any]) -> str:
        becomes = [document["register"], document["note"], document["counter"]]
        return self._recorder.begin("save", name, {"becomes": becomes})

    def _path(self, name: str) -> Path:
        return self._root / "shared" / f"{name}.json"


def _encoded(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def git(root: Path, *arguments: str) -> bytes:
    """What git prints."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false", *arguments]
    return subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
