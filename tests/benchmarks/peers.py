"""fsstate beside its peers: contests, in which each contender does the same thing by turns with all others.

Who flushes and who does not is told beside each figure; where something is written, those who do not flush are also
compared with an fsstate that does not.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import population
from tests.benchmarks.contender import Contender
from tests.benchmarks.contenders import CONTENDERS, OURS, FsStateUnflushed
from tests.benchmarks.crowds import PAGE
from tests.benchmarks.interleave import Room, Side, Unavailable, calls, each, orders, play, room_for
from tests.benchmarks.ours import SETTLED
from tests.benchmarks.raw import KB, document, documents

__all__ = ["CONTESTS", "HEADS", "Contest", "Result", "Standing", "as_json", "contend", "duration", "lines"]

# So many appends go to one place before the next one is made ready.
_FEW: Final = 10
# Seconds that one contender may take in one contest; a slow one takes part in fewer rounds.
_BUDGET: Final = 6.0
_FEWEST: Final = 3
_LEAST_TARGET: Final = 0.002
_PROJECT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Contest:
    """One thing to do. `ready` prepares a contender in a room for it, and returns the side to be timed."""

    name: str
    method: str
    ready: Callable[[type[Contender], Room, int], Side]
    size: int
    writes: bool = False
    # Fewer where much is done that is not timed.
    rounds: int = 61

    def admits(self, contender: type[Contender]) -> str | None:
        """Why a contender takes no part; None when it does."""
        if not contender.can(self.method):
            return "does not do this"
        if contender.twin and not self.writes:
            return "reads as its twin does"
        if self.size > contender.most:
            return f"takes too long with more than {contender.most:,}"
        return None


@dataclass(frozen=True)
class Standing:
    """How a contender did: seconds a call, and how many times as fast fsstate is, as it comes and with like flushes."""

    contender: str
    durability: str
    flushes: bool
    seconds: float
    times: float
    alike: float
    rounds: int


@dataclass(frozen=True)
class Result:
    """How all did in one contest, and who was left out for what reason."""

    contest: str
    writes: bool
    standings: list[Standing]
    left_out: dict[str, str]


# -- contests


def _fresh(contender: type[Contender], room: Room) -> Contender:
    opened = contender(room.directory)
    room.stack.callback(opened.close)
    return opened


def _save(contender: type[Contender], room: Room, count: int) -> Side:
    """Replace one of so many documents of 2 KB."""
    opened, values = _fresh(contender, room), documents(2 * KB)
    opened.fill({f"d{n}": document(2 * KB, n) for n in range(count)})
    name = f"d{count // 2}"
    return each(lambda: opened.save(name, next(values)))


def _append(contender: type[Contender], room: Room, count: int) -> Side:
    """Append to a conversation of so many messages."""
    opened, texts = _fresh(contender, room), population.messages()
    opened.converse(itertools.islice(texts, population.size(room, count)))
    return each(lambda: opened.append(next(texts)))


def _append_to_young(contender: type[Contender], room: Room, count: int) -> Side:
    """Append to one of so few that the appends themselves would make it grow: another one for each ten."""
    numbers, texts = itertools.count(), population.messages()

    def some(appends: int) -> float:
        place = room.directory / str(next(numbers))
        place.mkdir()
        with contextlib.closing(contender(place)) as opened:
            opened.converse(itertools.islice(texts, count))
            opened.append(next(texts))
            return each(lambda: opened.append(next(texts)))(appends)

    return lambda times: sum(some(min(_FEW, times - first)) for first in range(0, times, _FEW))


def _load(contender: type[Contender], room: Room, count: int) -> Side:
    """Read one of so many documents of 2 KB that nobody changes."""
    opened = _fresh(contender, room)
    opened.fill({f"d{n}": document(2 * KB, n) for n in range(count)})
    time.sleep(SETTLED)
    names = itertools.cycle([f"d{n}" for n in range(count)])
    return each(lambda: opened.load(next(names)))


def _conversation(contender: type[Contender], room: Room, count: int) -> Side:
    """Read a conversation of so many messages."""
    opened = _fresh(contender, room)
    opened.converse(itertools.islice(population.messages(), count))
    time.sleep(SETTLED)
    return each(opened.conversation)


def _crowd(contender: type[Contender], room: Room, count: int) -> Path:
    """A contender's folder with so many sessions, made once for all contests."""
    place = room.shared / f"{contender.__name__}-{count}"
    if not place.exists():
        place.mkdir()
        with contextlib.closing(contender(place)) as opened:
            opened.fill(population.sessions(population.size(room, count)))
        time.sleep(SETTLED)
    return place


def _crowded(contender: type[Contender], room: Room, count: int) -> Contender:
    opened = contender(_crowd(contender, room, count))
    room.stack.callback(opened.close)
    return opened


def _page(contender: type[Contender], room: Room, count: int) -> Side:
    """List the 50 that were updated last."""
    opened = _crowded(contender, room, count)
    return each(lambda: opened.page(PAGE))


def _cold_page(contender: type[Contender], room: Room, count: int) -> Side:
    """The same in a fresh process, without its start and imports."""
    # What a contender keeps for later is there from now on.
    _crowded(contender, room, count).page(PAGE)
    place = _crowd(contender, room, count)
    command = [sys.executable, "-m", "tests.benchmarks.cold", contender.__name__, str(place), str(room.directory)]

    def once() -> float:
        return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=_PROJECT).stdout)

    return lambda times: sum(once() for _ in range(times))


def _query(contender: type[Contender], room: Room, count: int) -> Side:
    """List the 20 with one status that were updated last."""
    opened = _crowded(contender, room, count)
    return each(lambda: opened.query("idle", 20))


def _prune(contender: type[Contender], room: Room, count: int) -> Side:
    """Delete the oldest 1 %. They are put back, and have been seen, before the next time."""
    opened, number = _fresh(contender, room), population.size(room, count)
    opened.fill(population.sessions(number))

    def once() -> float:
        time.sleep(SETTLED)
        opened.page(1)
        begin = time.perf_counter()
        opened.prune(population.expiry(number))
        spent = time.perf_counter() - begin
        opened.fill(population.expired(number))
        return spent

    return lambda times: sum(once() for _ in range(times))


def _search(contender: type[Contender], room: Room, count: int) -> Side:
    """Find ten messages with two words."""
    opened, words = _fresh(contender, room), population.queries()
    opened.archive(itertools.islice(population.messages(), population.size(room, count)))
    return each(lambda: opened.search(next(words)))


CONTESTS: Final = [
    Contest("save one of 100 documents, 2 KB", "save", _save, 100, writes=True),
    Contest("append message 11", "append", _append_to_young, 10, writes=True),
    Contest("append message 5,001", "append", _append, 5000, writes=True),
    Contest("load one of 100 documents, 2 KB", "load", _load, 100),
    Contest("load a conversation of 100", "conversation", _conversation, 100),
    *(
        Contest(f"page of {count:,}, {how}", "page", ready, count, rounds=rounds)
        for count in (1000, 10_000, 100_000)
        for how, ready, rounds in (("warm", _page, 61), ("cold", _cold_page, 11))
    ),
    Contest("query page of 10,000", "query", _query, 10_000),
    Contest("prune 1 % of 10,000", "prune", _prune, 10_000, writes=True, rounds=11),
    Contest("search 100,000 messages", "search", _search, 100_000),
]

# -- measuring


def contend(contest: Contest, directory: Path, *, rounds: int, seed: int, quick: bool) -> Result:
    """Measure one contest in subfolders of `directory`. Raises Unavailable when fsstate cannot take part."""
    sides: dict[type[Contender], Side] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for contender in CONTENDERS:
            room = room_for(directory, f"{contest.name} {contender.__name__}", quick, stack)
            try:
                sides[contender] = _ready(contest, contender, room)
            except Exception as error:
                if contender is OURS:
                    raise
                is_known = isinstance(error, Unavailable)
                left_out[contender.name] = str(error) if is_known else f"{type(error).__name__}: {error}"
        costs = _rounds(list(sides.values()), min(rounds, contest.rounds), seed, quick)
    by_contender = dict(zip(sides, zip(*costs, strict=True), strict=True))
    standings = [_standing(contest, contender, by_contender) for contender in sides]
    return Result(contest.name, contest.writes, standings, left_out)


def _ready(contest: Contest, contender: type[Contender], room: Room) -> Side:
    """The contender's side, tried once. Raises Unavailable when it takes no part."""
    reason = contest.admits(contender)
    if reason is not None:
        raise Unavailable(reason)
    side = contest.ready(contender, room, contest.size)
    side(1)
    return side


def _rounds(sides: Sequence[Side], rounds: int, seed: int, quick: bool) -> list[list[float]]:
    """What a call of each side cost in each round: NaN where it took no part."""
    times = [1 if quick else min(calls(side, _LEAST_TARGET), 50) for side in sides]
    costs: list[list[float]] = []
    spent, played = [0.0] * len(sides), [0] * len(sides)
    for order in orders(len(sides), rounds, seed):
        fit = [which for which in order if played[which] < _FEWEST or spent[which] < _BUDGET]
        # Ours comes first among the sides; without it there is nothing to compare with.
        if 0 not in fit:
            break
        costs.append(play(sides, times, fit))
        for which in fit:
            played[which] += 1
            spent[which] += costs[-1][which] * times[which]
    return costs


def _standing(
    contest: Contest, contender: type[Contender], costs: Mapping[type[Contender], Sequence[float]]
) -> Standing:
    own = costs[contender]
    alike = FsStateUnflushed if contest.writes and not contender.flushes else OURS
    seconds = _known(own)
    return Standing(
        contender.name,
        contender.durability,
        contender.flushes,
        statistics.median(seconds),
        _times(own, costs[OURS]),
        _times(own, costs[alike]),
        len(seconds),
    )


def _times(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(_known([their / our for their, our in zip(theirs, ours, strict=True)]))


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


# -- telling

_COLUMNS: Final = "  {:<18} {:>10} {:>10} {:>10}  {}"


def lines(result: Result) -> Iterator[str]:
    """The result as a block of a table."""
    yield result.contest
    for standing in result.standings:
        is_ours = standing.contender == OURS.name
        alike = f"{standing.alike:.3g}" if result.writes and not standing.flushes else ""
        yield _COLUMNS.format(
            standing.contender,
            duration(standing.seconds),
            "" if is_ours else f"{standing.times:.3g}",
            "" if is_ours or standing.contender == FsStateUnflushed.name else alike,
            standing.durability if result.writes else "",
        ).rstrip()
    for name, reason in result.left_out.items():
        if reason != "does not do this" and not reason.startswith("reads as"):
            yield f"  {name:<18} left out: {reason}"


HEADS: Final = _COLUMNS.format("", "a call", "fsstate ×", "alike ×", "what is on disk when a write returns")


def duration(seconds: float) -> str:
    """A time in three digits."""
    for unit, size in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def as_json(result: Result) -> dict[str, Any]:
    return {**vars(result), "standings": [vars(standing) for standing in result.standings]}
