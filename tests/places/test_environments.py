"""Locales, time zones, umasks, users and Pythons: the same work leaves the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate import Store
from tests.places import workout

PROJECT = Path(__file__).parents[2]
# Interpreters besides this one, separated as in PATH; else those that are found by their names.
PYTHONS = "FSSTATE_PYTHONS"
NEEDED = "import anyio, click, filelock, msgspec, orjson, rich, ruamel.yaml"
ENVIRONMENTS = {
    "plain": {"LC_ALL": "C", "TZ": "UTC"},
    "ascii": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "America/St_Johns"},
    "latin": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "TZ": "Europe/Berlin", "PYTHONIOENCODING": "latin-1"},
    "turkish": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "HOME": "/nonexistent"},
    "nonsense": {"LC_ALL": "xx_YY.nonsense", "TZ": "Nowhere/At_All", "HOME": "", "TMPDIR": "/nonexistent"},
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("expected") / "state")
    workout.work(root)
    return workout.digest(root)


def run(root: Path | str, env: dict[str, str], *given: str, python: str = sys.executable, code: str = "") -> str:
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "error"}
    command = [python, "-c", code] if code else [python, "-m", "tests.places.workout"]
    done = subprocess.run(
        [*command, str(root), *given], env={**kept, **env}, cwd=PROJECT, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stderr.decode("utf-8", "replace").split()[-1]


@pytest.mark.parametrize(("name", "umask"), [*zip(ENVIRONMENTS, ["000", "022", "077", "002", "027"], strict=True)])
def test_locales_zones_and_umasks(tmp_path: Path, expected: str, name: str, umask: str) -> None:
    """Where there is no such locale Python takes the plainest, which is a case as well."""
    assert run(tmp_path / "state", ENVIRONMENTS[name], umask) == expected


NAMES = r"""
import sys, fsstate
name = "\xfc"
agents = fsstate.Store(sys.argv[1]).collection("agents")
agents.put("a", {name: name})
try:
    agents.put(name, {})
except fsstate.InvalidNameError as error:
    assert "PYTHONUTF8=1" in str(error)
    (problem,) = agents.problems()
    assert "is refused" in str(problem)
    sys.stderr.write("refused")
else:
    sys.stderr.write("written")
"""


def test_names_are_utf8_or_refused(tmp_path: Path) -> None:
    """In a locale that would write other bytes, nobody else would find the record."""
    root = tmp_path / "state"
    assert run(root, {"LC_ALL": "C"}, code=NAMES) == "written"
    for name in ("ascii", "latin"):
        if name == "ascii" or encoding_in(ENVIRONMENTS[name]) == "iso8859-1":
            assert run(root, ENVIRONMENTS[name], code=NAMES) == "refused"
        assert sorted(os.listdir(os.fsencode(root / "agents"))) == [b"a.json", b"\xc3\xbc.json"]


def encoding_in(env: dict[str, str]) -> str:
    return run("", env, code="import sys; sys.stderr.write(sys.getfilesystemencoding())")


@pytest.fixture
def public_place() -> Iterator[Path]:
    """A directory of nobody's, to which every user finds the way."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o711)  # noqa: S103 - others have to get through
        mine = Path(place) / "mine"
        mine.mkdir()
        os.chown(mine, 65534, 65534)
        yield mine


# As root first, elsewhere: nobody may not read the code, all of which is read by then.
AS_NOBODY = """
import os, sys, tempfile
from tests.places import workout
with tempfile.TemporaryDirectory() as place:
    workout.main(place + "/state")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
workout.main(sys.argv[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_another_user(public_place: Path, expected: str) -> None:
    assert run(public_place / "state", {"LC_ALL": "C"}, code=AS_NOBODY) == expected
    # What belongs to nobody stays nobody's when root changes it.
    workout.look(str(public_place / "state"))
    path = public_place / "state" / "agents" / "agent-0.json"
    with Store(public_place / "state") as store:
        store.collection("agents").put("agent-0", {"by": "root"})
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (65534, 0o600)


def others() -> list[str]:
    given = os.environ.get(PYTHONS)
    found = given.split(os.pathsep) if given else [shutil.which(f"python3.{minor}") for minor in (12, 13, 14)]
    return [path for path in found if path]


def test_other_pythons(tmp_path: Path, expected: str) -> None:
    ready = [
        python
        for python in others()
        if subprocess.run([python, "-c", NEEDED], capture_output=True, check=False).returncode == 0
    ]
    if not ready:
        pytest.skip(f"needs Python 3.12 or 3.13 with what fsstate depends on, on PATH or in {PYTHONS}")
    for number, python in enumerate(ready):
        assert run(tmp_path / f"state-{number}", {"LC_ALL": "C"}, python=python) == expected
