"""The contests as one picture, an SVG without scripts, fonts or links, that reads on light and on dark pages.

A line for each contest and a mark for each contender, by how many times as fast fsstate is, on a scale of powers of
ten: marks left of the middle are slower than fsstate, marks right of it are faster. Hollow marks are of those who write
without a flush.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tests.benchmarks.contenders import CONTENDERS, OURS
from tests.benchmarks.peers import Result, Standing, duration

__all__ = ["draw"]

# Two of each: as seen on a light page, and on a dark one. Neighbours differ in shade as well as in hue.
_COLOURS: Final = (
    ("#1f2328", "#f0f6fc"),
    ("#1f2328", "#f0f6fc"),
    ("#0969da", "#58a6ff"),
    ("#9a6700", "#d29922"),
    ("#9a6700", "#d29922"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#cf222e", "#ff7b72"),
)
_WIDTH: Final = 860
_LEFT: Final = 290
_RIGHT: Final = 42
_TOP: Final = 92
_ROW: Final = 46
_LANE: Final = 5
_RADIUS: Final = 4.5
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', sans-serif"


def draw(results: Sequence[Result]) -> str:
    """The picture as text."""
    scale = _Scale(results)
    height = _TOP + _ROW * len(results) + 36
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="{_FONT}" role="img">'
    parts = [head, "<title>fsstate beside other stores</title>", _style(), *_legend(results), *_grid(scale, height)]
    for number, result in enumerate(results):
        parts += _row(result, _TOP + number * _ROW, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Where on the picture a multiple of fsstate's speed stands."""

    def __init__(self, results: Sequence[Result]) -> None:
        exponents = [-math.log10(standing.times) for result in results for standing in result.standings]
        self.low = math.floor(min(exponents, default=0)) - (0 if exponents and min(exponents) < 0 else 1)
        self.high = max(math.ceil(max(exponents, default=0)), 1)

    def at(self, speed: float) -> float:
        """The place of what is so many times as fast as fsstate."""
        share = (math.log10(speed) - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _style() -> str:
    light, dark = (_shades(which) for which in range(2))
    return (
        "<style>"
        "text{fill:#1f2328;font-size:13px}.dim{fill:#59636e;font-size:11px}"
        ".line{stroke:#d1d9e0;stroke-width:1}.middle{stroke:#59636e;stroke-width:1.5}"
        f"circle{{stroke-width:1.6}}{light}"
        "@media (prefers-color-scheme:dark){"
        "text{fill:#f0f6fc}.dim{fill:#9198a1}.line{stroke:#3d444d}.middle{stroke:#9198a1}"
        f"{dark}}}"
        "</style>"
    )


def _shades(which: int) -> str:
    marks = "".join(f".c{number}{{fill:{pair[which]};stroke:{pair[which]}}}" for number, pair in enumerate(_COLOURS))
    # Last: it takes back what the colours fill.
    return f"{marks}.hollow{{fill:none}}"


def _legend(results: Sequence[Result]) -> Iterator[str]:
    present = {standing.contender for result in results for standing in result.standings}
    shown = [(number, each) for number, each in enumerate(CONTENDERS) if each is not OURS and each.name in present]
    for place, (number, contender) in enumerate(shown):
        x, y = 16 + place % 4 * 155, 20 + place // 4 * 20
        yield _mark(x, y, number, contender.flushes, contender.durability)
        yield f'<text x="{x + 11}" y="{y + 4}">{escape(contender.name)}</text>'
    yield f'<text class="dim" x="{16 + 4 * 155}" y="24">● flushed, or only read</text>'
    yield f'<text class="dim" x="{16 + 4 * 155}" y="44">○ written without a flush</text>'


def _grid(scale: _Scale, height: int) -> Iterator[str]:
    bottom = height - 30
    for exponent in range(scale.low, scale.high + 1):
        x = f"{scale.at(10.0**exponent):.1f}"
        kind = "line" if exponent else "middle"
        yield f'<line class="{kind}" x1="{x}" y1="{_TOP - 14}" x2="{x}" y2="{bottom}"/>'
        words = _power(exponent)
        yield f'<text class="dim" x="{x}" y="{bottom + 16}" text-anchor="middle">{words}</text>'
    middle = scale.at(1)
    yield f'<text class="dim" x="{middle - 8:.1f}" y="{_TOP - 20}" text-anchor="end">← slower than fsstate</text>'
    yield f'<text class="dim" x="{middle + 8:.1f}" y="{_TOP - 20}">faster →</text>'


def _power(exponent: int) -> str:
    if exponent == 0:
        return "fsstate"
    return f"{10**exponent:,} ×" if exponent > 0 else f"1/{10**-exponent:,}"


def _row(result: Result, top: int, scale: _Scale) -> Iterator[str]:
    ours = next(standing for standing in result.standings if standing.contender == OURS.name)
    yield f"<g><title>{escape(result.contest)}</title>"
    yield f'<text x="16" y="{top + 18}">{escape(result.contest)}</text>'
    yield f'<text class="dim" x="16" y="{top + 33}">fsstate: {duration(ours.seconds)}</text>'
    y = top + _ROW - 2
    yield f'<line class="line" x1="16" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>'
    for number, contender in enumerate(CONTENDERS):
        for standing in result.standings:
            if standing.contender == contender.name and contender is not OURS:
                full = standing.flushes or not result.writes
                place = (scale.at(1 / standing.times), top + 2 + number * _LANE)
                yield _mark(*place, number, full, f"{standing.contender}: {_told(standing)}")
    yield "</g>"


def _told(standing: Standing) -> str:
    return f"{duration(standing.seconds)}; fsstate is {standing.times:.3g} times as fast"


def _mark(x: float, y: float, number: int, full: bool, told: str) -> str:
    kind = f"c{number} {'full' if full else 'hollow'}"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="{_RADIUS}"><title>{escape(told)}</title></circle>'
