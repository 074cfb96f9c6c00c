"""`python -m fsstate.cli`: the `fsstate` command of this very interpreter."""

from __future__ import annotations

from fsstate.cli import main

if __name__ == "__main__":
    main()
