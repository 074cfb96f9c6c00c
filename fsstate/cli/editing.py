"""`edit`: a record in the person's own editor.

- What is not valid is not saved: the editor is offered again, with the error.
- The editor holds no lock. What others changed meanwhile is merged, or is a conflict: the text is kept beside the
  record, as with every edit that cannot be merged.
- The text is never lost: unless it was saved, left unchanged or kept there, it is kept in a file, and said where.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from fsstate.backends.base import JSON, LOG, Blob, Ref
from fsstate.cli import output
from fsstate.cli.addresses import Record, find_or_new, owner_of
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.documents import saved
from fsstate.cli.drafts import check, save_over
from fsstate.conflict_copies import keep_mine
from fsstate.errors import ConflictError, CorruptRecordError, ValidationError

__all__ = ["Draft", "drafted", "edit", "save_draft"]

# Survives a restart of the machine, unlike /tmp.
_LASTING: Final = "/var/tmp"  # noqa: S108 - a directory of our own is made there
_NOTHING_YET: Final = {JSON: b"{}\n"}


@click.command(
    cls=Command,
    shape=('{"record", "path", "revision"}; the same when nothing was changed',),
)
@click.argument("record", type=Record())
@pass_settings
def edit(settings: Settings, record: str) -> None:
    """Edit a record in your editor.

    The editor is $VISUAL or $EDITOR; for a session it gets the document. The text is checked before it is saved. If
    somebody else changed the record meanwhile, both changes are kept where they do not meet; where they do, your text
    is kept beside the record, for `fsstate resolve`. If it cannot be saved for another reason, you are told in which
    file it is kept. A record that does not exist yet is made.
    """
    ref = find_or_new(settings, record)
    if ref.suffix == LOG:
        raise click.UsageError(f"{ref} is a log; correct it with any editor: {settings.backend.location(ref)}")
    base = settings.backend.read(ref)
    with drafted(ref, _NOTHING_YET.get(ref.suffix, b"") if base is None else base.data) as draft:
        changed = draft.edit()
        if changed:
            base = save_draft(settings, ref, base, draft)
    if changed and base is not None:
        saved(settings, ref, base.revision)
    elif settings.json:
        revision = None if base is None else base.revision
        output.json_document({"record": str(ref), "path": settings.backend.location(ref), "revision": revision})
    else:
        output.say("nothing was changed")


def save_draft(settings: Settings, ref: Ref, base: Blob | None, draft: Draft) -> Blob | None:
    """Save what was made of `base`, merged with what the file holds. In a conflict it is kept beside the record."""
    backend, text = settings.backend, draft.text()
    try:
        saved = backend.change(ref, save_over(ref, base, text, backend.location(ref)), owner=owner_of(ref))
    except ConflictError as error:
        keep_mine(backend, ref, error, lambda: text)
        if error.kept_at is not None:
            draft.settle()
        raise
    draft.settle()
    return saved


class Draft:
    """The text while it is edited, in a file named as the record."""

    def __init__(self, path: str, ref: Ref, before: bytes) -> None:
        self.path = path
        self._ref = ref
        self._before = before
        self._settled = False

    def edit(self, check: Callable[[Ref, bytes, str], Any] = check) -> bool:
        """Run the editor until the text is valid or the person gives up; return whether it was changed."""
        while True:
            _run_editor(self.path)
            if self.is_settled():
                return False
            try:
                check(self._ref, self.text(), self.path)
            except (CorruptRecordError, ValidationError) as error:
                if not output.is_terminal(sys.stdin):
                    raise
                output.complain(str(error))
                if not click.confirm("Edit again?", default=True, err=True):
                    raise
            else:
                return True

    def text(self) -> bytes:
        """What the file holds now. Editors may have put another in its place."""
        try:
            return Path(self.path).read_bytes()
        except FileNotFoundError:
            raise click.ClickException(f"the editor left no file {self.path}; nothing was saved") from None

    def settle(self) -> None:
        """Nothing more is to be kept: the text was saved."""
        self._settled = True

    def is_settled(self) -> bool:
        """Whether there is nothing to lose."""
        return self._settled or not Path(self.path).exists() or self.text() == self._before


@contextmanager
def drafted(ref: Ref, before: bytes) -> Generator[Draft]:
    """A draft in a directory of its own, which goes with it unless the text is to be kept."""
    import shutil
    import tempfile

    lasting = os.environ.get("TMPDIR") is None and os.access(_LASTING, os.W_OK | os.X_OK)
    folder = tempfile.mkdtemp(prefix="fsstate-edit-", dir=_LASTING if lasting else None)
    draft = Draft(str(Path(folder, ref.name + ref.suffix)), ref, before)
    try:
        Path(draft.path).write_bytes(before)
        yield draft
    except BaseException as error:
        if not draft.is_settled():
            _tell_where(error, draft.path)
        raise
    finally:
        if draft.is_settled():
            shutil.rmtree(folder, ignore_errors=True)


def _tell_where(error: BaseException, path: str) -> None:
    kept = f"your text is kept in {path}"
    if isinstance(error, click.Abort | KeyboardInterrupt):
        output.complain(kept)
    else:
        error.add_note(kept)


def _run_editor(path: str) -> None:
    """Wait for the editor. Raises ClickException when it cannot be started or reports a failure."""
    import signal
    import subprocess

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    # An interrupt from the keyboard is the editor's, which shares the terminal.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # By the shell, as git does: the variable may hold options and quotes. The trap keeps the shell itself alive.
        done = subprocess.run(  # noqa: S603 - the person's own choice
            ["/bin/sh", "-c", f'trap : INT; {editor} "$@"', editor, path],
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    finally:
        signal.signal(signal.SIGINT, previous)
    if done.returncode == 127:
        raise click.UsageError(f"the editor {editor!r} was not found; set $VISUAL or $EDITOR")
    if done.returncode != 0:
        raise click.ClickException(f"the editor {editor!r} failed with code {done.returncode}; nothing was saved")
