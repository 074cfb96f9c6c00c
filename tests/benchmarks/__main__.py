"""Run the benchmarks: python -m tests.benchmarks [--peers] [--quick] [--json FILE] [--dir DIR] [NAME …]"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fsstate.mounts import file_system, is_journaled
from tests.benchmarks import chart, peers
from tests.benchmarks.goals import ROWS
from tests.benchmarks.interleave import Figure, Row, Unavailable, measure

COLUMNS = "{:<26} {:<28} {:>10} {:>18} {:>9}  {}"
ROUNDS = 61


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Compare fsstate, by turns, with others."
    )
    parser.add_argument("names", nargs="*", help="only rows whose words contain one of these")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="the same")
    parser.add_argument("--peers", action="store_true", help="fsstate beside other stores, instead of beside its goals")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="with --peers: draw what they took there")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and small data: shows that all works, no figures"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each row ({ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="decides which side begins each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--dir", type=Path, help="work below this folder: choose the file system that you care about")
    options = parser.parse_args(arguments)
    options.names += options.only
    if options.chart and not options.peers:
        parser.error("--chart draws peers: say --peers, too")
    return options


def is_chosen(words: str, names: Sequence[str]) -> bool:
    return not names or any(name in words for name in names)


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
    print(COLUMNS.format("", "against", "median", "ours / theirs", "goal", ""))
    rounds = min(options.rounds, 5) if options.quick else options.rounds
    for row in ROWS:
        if not is_chosen(f"{row.name} / {row.against}", options.names):
            continue
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


def run_peers(options: argparse.Namespace, directory: Path) -> Iterator[peers.Result]:
    """Measure and print the chosen contests."""
    rounds = min(options.rounds, 3) if options.quick else options.rounds
    print(peers.HEADS)
    for contest in peers.CONTESTS:
        if not is_chosen(contest.name, options.names):
            continue
        try:
            result = peers.contend(contest, directory, rounds=rounds, seed=options.seed, quick=options.quick)
        except Unavailable as missing:
            print(f"{contest.name}\n  left out: {missing}", flush=True)
        else:
            print("\n".join(peers.lines(result)), flush=True)
            yield result


def compare(options: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    """Run the contests and draw them where that is asked for."""
    results = list(run_peers(options, directory))
    if options.chart:
        options.chart.write_text(chart.draw(results), encoding="utf-8")
    return [peers.as_json(result) for result in results]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    Path(options.dir).mkdir(parents=True, exist_ok=True) if options.dir else None
    directory = Path(tempfile.mkdtemp(prefix="fsstate-bench-", dir=options.dir)).resolve()
    try:
        kind = file_system(str(directory))
        journaled = is_journaled(str(directory), kind)
        about = {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
        about |= {"file_system": kind, "journaled": journaled, "quick": options.quick, "seed": options.seed}
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        if kind == "tmpfs":
            print("A tmpfs flushes nothing: choose another folder with --dir for figures that mean something.")
        rows = compare(options, directory) if options.peers else list(run(options, directory, journaled))
    finally:
        shutil.rmtree(directory)
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
