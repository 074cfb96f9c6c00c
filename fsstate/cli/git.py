"""`git`: what makes git know the files of a store."""

from __future__ import annotations

import click

from fsstate.cli.base import Group
from fsstate.cli.merge_driver import merge_driver, textconv

__all__ = ["git_group"]


@click.group("git", cls=Group)
def git_group() -> None:
    """Let git merge a store's files, and show their changes."""


for command in (merge_driver, textconv):
    git_group.add_command(command)
