"""Line charts as SVG inside the page; their colours and fonts are the page's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 38, 24, 10, 22
"""Margins around the plot, in units of the drawing."""

TICKS = 6
"""Greatest number of labels below the x axis."""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in order of x, joined by a line; those that are not finite are left out. `colour` counts from 0."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: int = 0


def draw_chart(
    title: str, curves: Sequence[Curve], ticks: Mapping[int, str], low: float | None = None, high: float | None = None
) -> Markup:
    """An `<svg>` of `curves`; `ticks` labels values of x. The y axis covers `low`, `high` and every point."""
    known = [[point for point in curve.points if isfinite(point[1])] for curve in curves]
    values = [y for points in known for _, y in points]
    held = values + [each for each in (low, high) if each is not None] or [0.0]
    levels = _levels(min(held), max(held))
    first, last = min(ticks), max([*ticks, *(x for points in known for x, _ in points)])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - levels[0]) / (levels[-1] - levels[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [_level(place(first, level)[1], f"{level:g}") for level in levels]
    step = ceil(len(ticks) / TICKS)
    tick = Markup('<text x="{}" y="{}" class="x">{}</text>')
    parts += [tick.format(place(x, levels[0])[0], HEIGHT - 6, ticks[x]) for x in sorted(ticks)[::step]]
    for curve, points in zip(curves, known, strict=True):
        parts.append(_line(curve, [(*place(x, y), y) for x, y in points]))
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup().join(parts)
    )


def _levels(low: float, high: float) -> list[float]:
    """Three to seven round numbers in even steps, the first at most `low`, the last at least `high`."""
    largest = max(abs(low), abs(high))
    span = high - low
    if span <= max(1e-4 * largest, 1e-9):  # all equal
        span = largest if largest > 1e-9 else 1.0
    power = 10.0 ** floor(log10(span / 3))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    start, end = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [float(f"{level * step:.9g}") for level in range(start, max(end, start + 1) + 1)]


def _level(y: float, label: str) -> Markup:
    return Markup('<path class="grid" d="M{0} {1}H{2}"/><text x="{3}" y="{4}" class="y">{5}</text>').format(
        LEFT, y, WIDTH - RIGHT, LEFT - 6, round(y + 4, 1), label
    )


def _line(curve: Curve, points: Sequence[tuple[float, float, float]]) -> Markup:
    line = " ".join(f"{x},{y}" for x, y, _ in points)
    dots = (
        Markup('<circle cx="{}" cy="{}" r="3"><title>{}</title></circle>').format(x, y, f"{curve.name} {value:.4g}")
        for x, y, value in points
    )
    return Markup('<g class="c{}"><polyline points="{}"/>{}</g>').format(curve.colour, line, Markup().join(dots))
