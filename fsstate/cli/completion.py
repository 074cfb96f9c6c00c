"""`completion`: what makes the shell complete commands, options, categories, records and sessions."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from fsstate.cli import output
from fsstate.cli.base import COMPLETION_VARIABLE, Command, Settings, pass_settings

__all__ = ["completion"]

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    notes=(
        "How to install it",
        "bash   fsstate completion bash >> ~/.bashrc",
        "zsh    fsstate completion zsh >> ~/.zshrc",
        "fish   fsstate completion fish > ~/.config/fish/completions/fsstate.fish",
    ),
    shape=('{"shell", "script"}',),
)
@click.argument("shell", type=click.Choice(_SHELLS))
@pass_settings
def completion(settings: Settings, shell: str) -> None:
    """Print the completion script of a SHELL."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(click.get_current_context().find_root().command, {}, "fsstate", COMPLETION_VARIABLE).source()
    if settings.json:
        output.json_document({"shell": shell, "script": script})
    else:
        output.say(script)
