"""`polygons`: the outlines of every class along pixel edges, with holes.

Coordinates are continuous, [x, y], with y down: pixel (x, y) covers [x, x + 1] x [y, y + 1], so that filling the
polygons gives the mask back exactly. Rings are as in GeoJSON: the last point repeats the first, exteriors have positive
signed area (clockwise to the eye, as y points down), holes negative. A polygon is one 4-connected piece of a class; its
rings are simple and touch each other at most in points, which makes it valid in the sense of OGC simple features.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats.fields import Size
from tagmask.formats.regions import Region, regions
from tagmask.segmentation import Segmentation

Point = tuple[NonNegativeInt, NonNegativeInt]
Ring = list[Point]

Polygon = TypedDict(  # not a class, as `class` is a keyword
    "Polygon", {"class": str, "label": NonNegativeInt, "exterior": Ring, "holes": list[Ring], "area": NonNegativeInt}
)


class PolygonsDocument(TypedDict):
    """All polygons, by ascending label, none for background; `model` is the model's version."""

    size: Size
    model: str
    polygons: list[Polygon]


def encode(segmentation: Segmentation) -> bytes:
    """A PolygonsDocument as JSON. Areas are in pixels."""
    height, width = segmentation.size
    document: PolygonsDocument = {
        "size": {"width": width, "height": height},
        "model": segmentation.model.version,
        "polygons": [
            polygon
            for region in regions(segmentation.mask, segmentation.model.classes, segmentation.present)
            for polygon in _polygons(region)
        ],
    }
    return to_json(document)


def _polygons(region: Region) -> Iterator[Polygon]:
    rings = list(_trace(region))
    areas = [_signed_area(ring) for ring in rings]
    closed = [ring + ring[:1] for ring in rings]
    for exterior, holes in _nest(region, rings, areas).items():
        yield {
            "class": region.name,
            "label": region.label,
            "exterior": closed[exterior],
            "holes": [closed[hole] for hole in holes],
            "area": areas[exterior] + sum(areas[hole] for hole in holes),
        }


def _trace(region: Region) -> Iterator[Ring]:
    """The rings around the pixels of `region` as their corners, in whole-photo coordinates.

    The corners of pixel-edge outlines, in reading order, are the ends of the horizontal edges, two by two; in order of
    columns, those of the vertical ones. Where two pixels meet only at a corner, that corner counts twice, and the pairs
    are such that the outline follows each of the two pixels.
    """
    left, top, width, _ = region.box
    padded = np.pad(region.pixels, 1).reshape(-1)
    row = width + 2
    crossed = padded[:-1] ^ padded[1:]  # a vertical edge between this pixel and the next one
    nearby = np.flatnonzero((crossed[:-row] | crossed[row:]).view(bool))
    nw, ne, sw, se = (padded[nearby + step] for step in (0, 1, row, row + 1))
    rising = (ne & sw) > (nw | se)
    times = np.where(rising | ((nw & se) > (ne | sw)), 2, nw ^ ne ^ sw ^ se)
    places, turned, filled = (np.repeat(values, times) for values in (nearby, rising, se))
    ys, xs = np.divmod(places, row)

    second = np.diff(places, prepend=-1) == 0
    order = np.lexsort((second ^ turned, ys, xs))
    vertical = np.empty_like(order)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]
    corners = list(zip((left + xs).tolist(), (top + ys).tolist(), strict=True))
    for ring in _walk(corners, vertical.tolist(), filled.tolist()):
        yield from _split(ring)


def _walk(corners: Ring, vertical: list[int], filled: list[int]) -> Iterator[Ring]:
    """The closed paths along horizontal edges, from corner 2i to 2i + 1 or back, and `vertical` ones.

    Each starts at its top left corner, which begins an exterior where the pixel below it on the right is `filled`, else
    a hole, which is then turned around.
    """
    seen = bytearray(len(corners))
    for start in range(len(corners)):
        if seen[start]:
            continue
        ring: Ring = []
        at = start
        while not seen[at]:
            across = at ^ 1
            seen[at] = seen[across] = 1
            ring += (corners[at], corners[across])
            at = vertical[across]
        yield ring if filled[start] else ring[::-1]


def _split(ring: Ring) -> Iterator[Ring]:
    """`ring` cut where it touches itself."""
    if len(set(ring)) == len(ring):
        yield ring
        return
    path: Ring = []
    position: dict[Point, int] = {}
    for point in ring:
        if point in position:
            loop = path[position[point] :]
            for passed in loop[1:]:
                del position[passed]
            del path[position[point] + 1 :]
            yield loop
        else:
            position[point] = len(path)
            path.append(point)
    yield path


def _signed_area(ring: Ring) -> int:
    """Pixels inside, negative for a hole: by Green's theorem the sum of -y dx over the horizontal edges."""
    total = sum(x * y for x, y in ring[::2]) - sum(x * y for x, y in ring[1::2])
    return total if ring[0][1] == ring[1][1] else -total


def _nest(region: Region, rings: list[Ring], areas: list[int]) -> dict[int, list[int]]:
    """For each exterior among `rings` the holes inside it, all by index.

    To the left of a hole lies its polygon; where that ends is the exterior, or another hole of the same polygon.
    """
    left, top, _, _ = region.box
    owners = {index: index for index, area in enumerate(areas) if area > 0}
    nested: dict[int, list[int]] = {index: [] for index in owners}
    holes = sorted((min(ring), index) for index, ring in enumerate(rings) if areas[index] < 0)
    edges = sorted(_left_edges(rings)) if holes else []
    for (x, y), hole in holes:
        begin = left + region.pixels[y - top, : x - left].tobytes().rfind(b"\0") + 1
        *_, neighbour = edges[bisect_right(edges, (begin, y, len(rings))) - 1]
        owners[hole] = owners[neighbour]
        nested[owners[hole]].append(hole)
    return nested


def _left_edges(rings: list[Ring]) -> Iterator[tuple[int, int, int]]:
    """Every vertical edge that has its polygon on the right, as (x, upper y, index of its ring)."""
    for index, ring in enumerate(rings):
        for (x, y), (next_x, next_y) in zip(ring, ring[1:] + ring[:1], strict=True):
            if x == next_x and next_y < y:
                yield x, next_y, index
