"""`python -m fsstate` is the command line."""

from fsstate.cli import main

if __name__ == "__main__":
    main()
