"""The `fsstate` command: look at, change and tidy a store from a shell.

It needs the extra `cli` (click, and rich where a table, tree or progress bar is shown); without it, `main` says so.
What it prints for people may change; what `--json` prints, and the exit codes, are for programs and stay.

    0    done
    1    a problem in the data, or no such record
    2    wrong usage, or a missing extra
    3    a conflict: the record changed meanwhile, or exists already, or is not committed
    4    somebody else kept the record's lock
    5    the operating system refused: no permission, disk full …
    70   a bug in fsstate
    130  interrupted
    141  the reader of the output went away
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        from fsstate.cli.app import run
    except KeyboardInterrupt:
        # Before there is anybody who would tell.
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("fsstate: the command line needs an extra: python -m pip install 'fsstate[cli]'\n")
        sys.exit(2)
    sys.exit(run())
