"""A store in a larger repository of a person, and one that is a repository of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsstate import Store
from tests.files.git.repository import QUICK, Repo
from tests.git import person_in


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person of whom git knows the name, and no settings of whoever runs the tests."""
    for name, value in person_in(tmp_path, "Ada Ünal").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def larger(tmp_path: Path) -> Repo:
    """A repository with work of a person's under way, in which a store is a folder."""
    repo = Repo(tmp_path / "project")
    repo.path.mkdir()
    repo.git("init", "--quiet")
    repo.write("code.py", "1\n")
    repo.commit("begin")
    repo.write("code.py", "2\n")
    repo.git("add", "code.py")
    repo.write("code.py", "3\n")
    repo.write("new.py")
    return repo


@pytest.fixture
def store(larger: Repo) -> Iterator[Store]:
    with Store(larger.path / "state", QUICK) as store:
        yield store


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Store, Repo]]:
    """A store that is a repository of its own."""
    with Store(tmp_path / "own", QUICK) as store:
        store.collection("agents").put("planner", {"n": 0, "status": "idle"})
        repo = Repo(tmp_path / "own")
        repo.git("init", "--quiet")
        yield store, repo
