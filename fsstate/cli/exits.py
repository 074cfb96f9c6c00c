"""What a command's end means to the shell: the exit codes, and which error has which."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import click

from fsstate import errors
from fsstate.cli import output

__all__ = ["CODES", "CONFLICT", "INTERRUPTED", "LOCKED", "OK", "PROBLEM", "STORAGE", "USAGE", "guarded"]

OK: Final = 0
PROBLEM: Final = 1
USAGE: Final = 2
CONFLICT: Final = 3
LOCKED: Final = 4
STORAGE: Final = 5
BUG: Final = 70  # EX_SOFTWARE in sysexits.h
INTERRUPTED: Final = 130  # as the shell reports SIGINT
PIPE_CLOSED: Final = 141  # as the shell reports SIGPIPE

CODES: Final = {
    OK: "done",
    PROBLEM: "a problem in the data, or no such record",
    USAGE: "wrong usage, or a missing extra",
    CONFLICT: "a conflict: the record changed meanwhile, or exists already, or is not committed",
    LOCKED: "somebody else kept the record's lock",
    STORAGE: "the operating system refused: no permission, disk full …",
    BUG: "a bug in fsstate",
    INTERRUPTED: "interrupted",
    PIPE_CLOSED: "the reader of the output went away",
}

# The first that fits. LockTimeoutError is an OSError too, as every TimeoutError.
_CODE_OF: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.InvalidNameError, USAGE),
    (errors.InvalidQueryError, USAGE),
    (errors.MissingExtraError, USAGE),
    (errors.SearchUnavailableError, USAGE),
    (errors.ConflictError, CONFLICT),
    (errors.UncommittedError, CONFLICT),
    (errors.AlreadyExistsError, CONFLICT),
    (errors.LockTimeoutError, LOCKED),
    (errors.StorageError, STORAGE),
    (errors.FsStateError, PROBLEM),
    (OSError, STORAGE),
)

_log = logging.getLogger("fsstate")


def guarded(work: Callable[[], object]) -> int:
    """Do it, report what goes wrong in one line, and return the exit code. What `work` returns, if a number, is one."""
    try:
        code = work()
        output.flush()
    except click.ClickException as error:
        output.complain(_with_notes(error, _usage(error)))
        return error.exit_code
    except BrokenPipeError:
        output.discard_the_rest()
        return PIPE_CLOSED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        return _report(error)
    finally:
        _finish_output()
    return code if isinstance(code, int) else OK


def _finish_output() -> None:
    """Write out what is left to write; what the system refuses was reported, or is known by the exit code."""
    try:
        output.flush()
    except OSError:
        output.discard_the_rest()


def _report(error: Exception) -> int:
    for kind, code in _CODE_OF:
        if isinstance(error, kind):
            output.complain(_with_notes(error, str(error)))
            return code
    _log.debug("unexpected", exc_info=error)
    output.complain(
        f"this is a bug in fsstate, please report it: {type(error).__name__}: {_with_notes(error, str(error))}"
    )
    return BUG


def _with_notes(error: Exception, message: str) -> str:
    return "; ".join([message, *getattr(error, "__notes__", ())])


def _usage(error: click.ClickException) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message if context is None else f"{message.rstrip('.')} (see `{context.command_path} --help`)"
