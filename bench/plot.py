"""The plot of the README: p99 by rate, one line for each gateway, both axes logarithmic."""

from collections.abc import Iterator, Sequence
from math import floor, log10

from bench.ladder import BOUNDS_MS, Ladder

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 60, 250, 34, 46
LOW_MS, HIGH_MS = 0.5, 1000.0
COLOURS = ("#7f7f7f", "#d62728", "#9467bd", "#17becf", "#1f77b4", "#2ca02c", "#0b3d91")
STYLE = "text{font:12px sans-serif;fill:#333}line{stroke:#ccc}rect{fill:#fff}"


def plot(ladders: Sequence[Ladder]) -> str:
    rates = [rung.rate for ladder in ladders for rung in ladder.rungs]
    axis = Axis(10 ** floor(log10(min(rates))), max(rates) * 1.2)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
            f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}"/>',
            f'<text x="{LEFT}" y="18">p99 in ms by requests a second on one core '
            "(open loop, latency from when a request was due)</text>",
            *_grid(axis),
            *(line for i, ladder in enumerate(ladders) for line in _line(i, ladder, axis)),
            "</svg>\n",
        )
    )


class Axis:
    """Rates and milliseconds as places on the picture."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, rate: float) -> float:
        share = log10(rate / self.low) / log10(self.high / self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, ms: float) -> float:
        share = log10(min(max(ms, LOW_MS), HIGH_MS) / LOW_MS) / log10(HIGH_MS / LOW_MS)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _grid(axis: Axis) -> Iterator[str]:
    right, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
    for ms in (1.0, *BOUNDS_MS, 500.0):
        y = axis.y(ms)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{ms:g}</text>'
    rate = axis.low
    while rate <= axis.high:
        for step in (1, 2, 5):
            if axis.low <= rate * step <= axis.high:
                x, mark = axis.x(rate * step), f"{rate * step:,.0f}"
                yield f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{foot}"/>'
                yield f'<text x="{x}" y="{foot + 18}" text-anchor="middle">{mark}</text>'
        rate *= 10
    yield f'<text x="{right}" y="{foot + 36}" text-anchor="end">requests a second</text>'


def _line(number: int, ladder: Ladder, axis: Axis) -> Iterator[str]:
    points = [(axis.x(r.rate), axis.y(r.p99_ms)) for r in ladder.rungs if r.p99_ms is not None]
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x},{y}" for x, y in points)
    y = TOP + 14 + number * 20
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    yield from (f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in points)
    label = WIDTH - RIGHT + 16
    yield f'<circle cx="{label}" cy="{y - 4}" r="5" fill="{colour}"/>'
    yield f'<text x="{label + 12}" y="{y}">{ladder.name}</text>'
