"""`bench`: what durable writes cost on a disk, bare and through fsstate, and what that means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fsstate.cli import output
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.progress import ProgressBar

if TYPE_CHECKING:
    from fsstate.cli.disks import Flushes
    from fsstate.cli.measuring import Measured

__all__ = ["bench", "meaning"]

_SECONDS: Final = 5.0


@click.command(
    cls=Command,
    shape=(
        '{"directory", "file_system", "journaled", "rounds", "flush": seconds, "trust", "reason", "meaning": [text],',
        ' "figures": [{"name", "seconds", "per_second", "against", "ratio"}]}; trust: none, doubtful or plausible;',
        "ratio: how many times as fast it is as the bare system calls in against",
    ),
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False),
    help="Measure the disk that this directory is on.  [default: the store's]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1, max=60),
    default=_SECONDS,
    show_default=True,
    help="How long to measure.",
)
@pass_settings
def bench(settings: Settings, directory: str | None, seconds: float) -> None:
    """Measure this disk's durable writes, bare and through fsstate.

    Works in a directory of its own, which is removed at the end. The store is neither read nor written.
    """
    from fsstate import mounts
    from fsstate.cli import disks
    from fsstate.cli.measuring import measure
    from fsstate.cli.scratch import scratch_in

    place = _nearest(settings.store) if directory is None else directory
    with scratch_in(place) as scratch, ProgressBar(settings, "measuring") as progress:

        def told(done: int, total: int) -> None:
            scratch.check()
            progress(done, total)

        kind = mounts.file_system(scratch.path)
        journaled = mounts.is_journaled(scratch.path, kind)
        measured = measure(scratch.path, seconds, told)
    flushes = disks.judge(kind, measured.flush)
    if settings.json:
        facts = {"directory": os.path.abspath(place), "file_system": kind, "journaled": journaled}  # noqa: PTH100
        output.json_document({**facts, **_as_json(measured, flushes)})
    else:
        output.say(f"{output.one_line(place)}: {kind}{', journaled' if journaled else ''}")
        _show(measured, flushes)


def _nearest(store: str) -> str:
    """Where the store is, or the nearest directory above it that exists: on the same disk as the store."""
    place = Path(store).resolve()
    above = (place, *place.parents) if place.is_mount() else place.parents
    return next(str(each) for each in above if each.is_dir())


def _as_json(measured: Measured, flushes: Flushes) -> dict[str, object]:
    figures = [{**figure._asdict(), "per_second": 1 / figure.seconds} for figure in measured.figures]
    told = {"figures": figures, "meaning": list(meaning(measured, flushes))}
    return {
        "rounds": measured.rounds,
        "flush": measured.flush,
        "trust": flushes.trust,
        "reason": flushes.reason,
        **told,
    }


def _show(measured: Measured, flushes: Flushes) -> None:
    rows = [
        (
            ("fsstate: " if figure.against else "bare: ") + figure.name,
            _time(figure.seconds),
            _rate(figure.seconds),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.against or "",
        )
        for figure in measured.figures
    ]
    output.table(("2 KB EACH", "TIME", "A SECOND", "RATIO", "AGAINST"), rows)
    output.say()
    for sentence in meaning(measured, flushes):
        output.say(sentence)
    if flushes.trust != "plausible":
        output.complain(f"warning: {flushes.reason}")


def meaning(measured: Measured, flushes: Flushes) -> Iterator[str]:
    """What the figures say of this disk, a sentence each."""
    from fsstate.cli.measuring import SAVE_MANY

    save, many = measured.figure("save"), measured.figure(SAVE_MANY)
    share = 1.0 if save.ratio is None else min(save.ratio, 1.0)
    yield f"A durable save takes {_time(save.seconds)} here: about {_rate(save.seconds)} a second, one after the other."
    yield f"Of that, the system calls take {share:.0%}, two flushes among them, and fsstate {1 - share:.0%}."
    append, load = (measured.figure(name).seconds for name in ("append", "load"))
    yield f"An append needs one flush: {_time(append)}, about {_rate(append)} a second."
    if save.seconds > 1.1 * many.seconds:
        yield f"Saved many at once with put_many, documents take {_time(many.seconds)} each, as durably."
    yield f"A load needs no flush: {_time(load)}, when the file has not changed since the last."
    if flushes.trust == "plausible":
        yield f"As far as can be seen from here, flushes are real: {flushes.reason}."


def _time(seconds: float) -> str:
    for unit, size in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _rate(seconds: float) -> str:
    """How many a second, to two digits: more would say that it is known better than it is."""
    number = 1 / seconds
    unit = 10 ** max(len(f"{number:.0f}") - 2, 0)
    return f"{round(number / unit) * unit:,}"
