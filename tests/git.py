"""Git, as tests use it: whether it is there, and a person whom it knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

__all__ = ["needs_git", "person_in"]

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def person_in(place: Path, name: str = "Ada") -> dict[str, str]:
    """The environment in which git knows who works, and has no settings of whoever runs the tests."""
    settings = place / "gitconfig"
    settings.write_text(f"[user]\n\tname = {name}\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    return {"GIT_CONFIG_GLOBAL": str(settings), "GIT_CONFIG_NOSYSTEM": "1"}
