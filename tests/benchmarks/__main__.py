"""Run the benchmarks: python -m tests.benchmarks [--quick] [--json FILE] [--dir DIR] [NAME …]"""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.goals import ROWS
from tests.benchmarks.interleave import Figure, Row, Unavailable, measure

COLUMNS = "{:<26} {:<28} {:>10} {:>18} {:>9}  {}"
ROUNDS = 61


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Compare fsstate, by turns, with others."
    )
    parser.add_argument("names", nargs="*", help="only rows whose words contain one of these")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and small data: shows that all works, no figures"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each row ({ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="decides which side begins each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--dir", type=Path, help="work below this folder: choose the file system that you care about")
    return parser.parse_args(arguments)


def chosen(names: Sequence[str]) -> list[Row]:
    return [row for row in ROWS if not names or any(name in f"{row.name} / {row.against}" for name in names)]


def file_system(directory: Path) -> str:
    """The type of the file system below `directory`, as Linux tells it."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return kind
    for _, point, found, *_ in map(str.split, mounts):
        if len(point) >= len(best) and directory.is_relative_to(point):
            best, kind = point, found
    return kind


def is_journaled(directory: Path, kind: str) -> bool:
    """Whether an fsync waits for a journal. Only ext4 goes without, and only where it was made so."""
    device = os.stat(directory).st_dev
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
    return kind not in {"ext4", "tmpfs"} or (kind == "ext4" and bool(glob.glob(f"/proc/fs/jbd2/{name}-*")))


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:.4g} µs" if seconds < 0.01 else f"{seconds * 1e3:.4g} ms"


def line(row: Row, figure: Figure, goal: float | None) -> str:
    value = f"{figure.value:.3g} {row.unit}" if figure.value < 1000 else f"{figure.value:,.0f} {row.unit}"
    sides = f"{duration(figure.ours)} / {duration(figure.theirs)}" if row.divides else ""
    wanted = "" if goal is None else f"{'≥' if row.rises else '≤'} {goal:,g}"
    verdict = "" if goal is None else ("met" if figure.meets(goal, rises=row.rises) else "MISSED")
    return COLUMNS.format(row.name, row.against, value, sides, wanted, verdict)


def as_json(row: Row, figure: Figure, goal: float | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "against": row.against,
        "unit": row.unit,
        "goal": goal,
        "met": None if goal is None else figure.meets(goal, rises=row.rises),
        **vars(figure),
    }


def run(options: argparse.Namespace, directory: Path, journaled: bool) -> Iterator[dict[str, Any]]:
    """Measure and print the chosen rows. A row that fails is told, and stops no other."""
    rounds = min(options.rounds, 5) if options.quick else options.rounds
    for row in chosen(options.names):
        goal = row.goal.on(journaled) if row.goal else None
        try:
            figure = measure(row, directory, rounds=rounds, seed=options.seed, quick=options.quick)
        except Unavailable as missing:
            print(COLUMNS.format(row.name, row.against, "-", "", "", f"left out: {missing}"), flush=True)
            yield {"name": row.name, "against": row.against, "left_out": str(missing)}
        except Exception as error:  # noqa: BLE001  whatever it is, the other rows go on
            reason = f"{type(error).__name__}: {error}"
            print(COLUMNS.format(row.name, row.against, "-", "", "", f"not measured: {reason}"), flush=True)
            yield {"name": row.name, "against": row.against, "error": reason}
        else:
            print(line(row, figure, goal), flush=True)
            yield as_json(row, figure, goal)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    Path(options.dir).mkdir(parents=True, exist_ok=True) if options.dir else None
    directory = Path(tempfile.mkdtemp(prefix="fsstate-bench-", dir=options.dir)).resolve()
    try:
        kind = file_system(directory)
        journaled = is_journaled(directory, kind)
        about = {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
        about |= {"file_system": kind, "journaled": journaled, "quick": options.quick, "seed": options.seed}
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        if kind == "tmpfs":
            print("A tmpfs flushes nothing: choose another folder with --dir for figures that mean something.")
        print(COLUMNS.format("", "against", "median", "ours / theirs", "goal", ""))
        rows = list(run(options, directory, journaled))
    finally:
        shutil.rmtree(directory)
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
