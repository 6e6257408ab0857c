"""The four kinds of objects in the demo's photos, as coloured outlines in their own frame.

An object is a list of `Part`s, drawn in order, about -1..1 wide (x right, y down). Colours are random, so only the
shape tells the class; parts differ in colour, so no single part is the whole object.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Closed outline, (n, 2) as (x, y)."""
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """One filled outline. `marks` are drawn over it, clipped at its edge."""

    outline: Points
    colour: Colour
    marks: tuple["Part", ...] = ()

    def moved(self, matrix: Points, shift: Points) -> "Part":
        """The part with each point p at `matrix @ p + shift`."""
        marks = tuple(mark.moved(matrix, shift) for mark in self.marks)
        return Part(self.outline @ matrix.T + shift, self.colour, marks)


class Paint:
    """Random matching colours: a hue, a contrasting one, and pale and dark tones."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hue = rng.uniform()

    def main(self) -> Colour:
        return self._tone(self.hue, (0.55, 0.9), (0.65, 0.95))

    def second(self) -> Colour:
        return self._tone(self.hue + self.rng.uniform(0.15, 0.5), (0.45, 0.85), (0.6, 0.95))

    def pale(self) -> Colour:
        return self._tone(self.hue + self.rng.uniform(-0.1, 0.2), (0.05, 0.25), (0.8, 0.98))

    def dark(self) -> Colour:
        return self._tone(self.hue + self.rng.uniform(-0.1, 0.1), (0.3, 0.7), (0.15, 0.35))

    def dull(self) -> Colour:
        return self._tone(self.hue + self.rng.normal(0, 0.12), (0.1, 0.75), (0.3, 0.95))

    def _tone(self, hue: float, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
        red, green, blue = colorsys.hsv_to_rgb(hue % 1, self.rng.uniform(*saturation), self.rng.uniform(*value))
        return 255 * red, 255 * green, 255 * blue


def ellipse(x: float, y: float, width: float, height: float, start: float = 0, end: float = 360) -> Points:
    """Half-axes `width` and `height`; the arc from `start` to `end` in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 48))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def curve(*corners: tuple[float, float], turns: int = 3) -> Points:
    """A closed outline with rounded `corners` (Chaikin's corner cutting, each turn cuts every corner at a quarter)."""
    points = np.array(corners, dtype=np.float64)
    for _ in range(turns):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points


def mushroom(rng: np.random.Generator, paint: Paint) -> list[Part]:
    height, width = rng.uniform(0.7, 1.05), rng.uniform(0.18, 0.32)
    foot = width * rng.uniform(1.0, 1.5)
    lines = [Part(ellipse(x * width, 0.5, 0.03, 0.7), paint.pale()) for x in (-0.5, 0.1, 0.6)]
    stem = Part(curve((-width, -0.1), (width, -0.1), (foot, height), (-foot, height)), paint.pale(), tuple(lines))
    ring = Part(ellipse(0, 0.22, width * 1.35, 0.08), paint.second())
    gills = Part(ellipse(0, 0.02, 0.92, 0.16), paint.dark())
    spots = []
    colour = paint.pale()
    for x in np.linspace(-0.75, 0.75, int(rng.integers(4, 7))):
        radius = rng.uniform(0.08, 0.17)
        spots.append(Part(ellipse(x, rng.uniform(-0.75, -0.1) * (1 - x * x), radius, radius * 0.8), colour))
    peak = rng.uniform(-0.95, -0.65)
    dome = np.concatenate([ellipse(0, 0, 1, -peak, 180, 360), ellipse(0, 0, 1, 0.17, 0, 180)])
    return [stem, ring, gills, Part(dome, paint.main(), tuple(spots))]


def fish(rng: np.random.Generator, paint: Paint) -> list[Part]:
    height = rng.uniform(0.38, 0.62)
    second = paint.second()
    rays = tuple(Part(ellipse(0.95, y, 0.5, 0.03), paint.dark()) for y in (-0.3, 0, 0.3))
    tail = Part(curve((0.5, 0), (0.95, -0.6), (1.15, -0.55), (0.9, 0), (1.15, 0.55), (0.95, 0.6)), second, rays)
    top = Part(curve((-0.35, -height * 0.6), (0.1, -height - 0.4), (0.55, -height * 0.7), (0.4, -0.1)), second)
    low = Part(curve((-0.1, height * 0.5), (0.15, height + 0.3), (0.4, height * 0.8), (0.3, 0.1)), second)
    stripes = [Part(ellipse(-0.05, height * 0.9, 0.8, height * 0.55), paint.pale())]
    colour = paint.dark() if rng.uniform() < 0.5 else paint.pale()
    stripes += [Part(ellipse(x, 0, 0.07, 1), colour) for x in np.linspace(-0.2, 0.55, int(rng.integers(2, 5)))]
    stripes += [Part(ellipse(-1.0, 0, 0.5, 0.9), paint.main())]
    body = Part(curve((-1, 0.05), (-0.6, -height), (0.2, -height), (0.8, -0.05), (0.2, height), (-0.6, height)),
                paint.main(), tuple(stripes))  # fmt: skip
    fin = Part(curve((-0.25, 0.05), (0.25, 0.0), (0.2, 0.35), (-0.1, 0.3)), second)
    eye = [Part(ellipse(-0.62, -0.12, r, r), c) for r, c in ((0.12, (250, 250, 245)), (0.07, (20, 20, 25)))]
    return [tail, top, low, body, fin, *eye]


def balloon(rng: np.random.Generator, paint: Paint) -> list[Part]:
    colours = [paint.main(), paint.second(), paint.pale()][: int(rng.integers(2, 4))]
    edges = np.linspace(1, 0, int(rng.integers(4, 6)))
    envelope = curve((-0.16, 0.55), (-0.85, -0.1), (-0.75, -1.05), (0.75, -1.05), (0.85, -0.1), (0.16, 0.55))
    gores = [Part(envelope * (edge, 1), colours[k % len(colours)]) for k, edge in enumerate(edges[:-1])]
    if rng.uniform() < 0.5:
        band = rng.uniform(-0.5, 0.0)
        gores.append(Part(curve((-1, band), (1, band), (1, band + 0.2), (-1, band + 0.2), turns=0), paint.dark()))
    dark = paint.dark()
    ropes = [Part(curve((x, 0.4), (x + 0.03, 0.4), (x * 0.9 + 0.03, 0.8), (x * 0.9, 0.8), turns=0), dark)
             for x in (-0.16, 0.13)]  # fmt: skip
    weave = tuple(Part(curve((-1, y), (1, y), (1, y + 0.05), (-1, y + 0.05), turns=0), dark) for y in (0.82, 0.95))
    box = curve((-0.2, 0.72), (0.2, 0.72), (0.17, 1.08), (-0.17, 1.08), turns=1)
    return [*ropes, Part(envelope, colours[0], tuple(gores)), Part(box, paint.second(), weave)]


def butterfly(rng: np.random.Generator, paint: Paint) -> list[Part]:
    reach, colours = rng.uniform(0.8, 1.0), (paint.main(), paint.second(), paint.pale(), paint.dark())
    rim = rng.uniform(0.78, 0.88)
    upper = curve((0.02, -0.05), (0.25, -0.95), (reach, -1.0), (reach, -0.3), (0.3, 0.12))
    lower = curve((0.02, 0.0), (0.5, -0.05), (0.85 * reach, 0.25), (0.6, 0.95), (0.15, 0.6))
    spots = [
        (ellipse(0.6, -0.6, 0.15, 0.17), 2),
        (ellipse(0.33, -0.35, 0.1, 0.1), 1),
        (ellipse(0.42, 0.4, 0.16, 0.14), 2),
    ]
    wings = []
    for side in (-1, 1):
        for outline, colour in ((lower, colours[1]), (upper, colours[0])):
            centre = outline.mean(axis=0) * (0.8, 1)
            inner = Part(((outline - centre) * rim + centre) * (side, 1), colour)
            dots = [Part(spot * (side, 1), colours[k]) for spot, k in spots]
            wings.append(Part(outline * (side, 1), colours[3], (inner, *dots)))
    feelers = [Part(curve((0, -0.5), (side * 0.28, -0.95), (side * 0.36, -0.9), (0, -0.4), turns=1), colours[3])
               for side in (-1, 1)]  # fmt: skip
    body = Part(ellipse(0, 0.05, 0.09, 0.62), paint.dark())
    return [*wings, *feelers, body]


THINGS: dict[str, Callable[[np.random.Generator, Paint], list[Part]]] = {
    "balloon": balloon,
    "butterfly": butterfly,
    "fish": fish,
    "mushroom": mushroom,
}
LEAN = {"balloon": 18.0, "butterfly": 70.0, "fish": 35.0, "mushroom": 25.0}
"""Maximum rotation of each object in degrees."""
