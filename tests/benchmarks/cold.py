"""python -m tests.benchmarks.cold CONTENDER DIRECTORY EMPTY: the seconds that a fresh process needs for its first page.

Its start and imports are not among them: it has read a page of an empty store before.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from tests.benchmarks.contenders import by_name
from tests.benchmarks.crowds import PAGE


def main(contender: str, directory: str, empty: str) -> None:
    kind = by_name(contender)
    with closing(kind(Path(empty))) as nothing:
        nothing.page(PAGE)
    begin = time.perf_counter()
    with closing(kind(Path(directory))) as opened:
        opened.page(PAGE)
        print(time.perf_counter() - begin)


if __name__ == "__main__":
    main(*sys.argv[1:])
