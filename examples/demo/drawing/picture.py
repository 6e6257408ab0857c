"""One photo of the demo data set with its exact mask: objects on clutter.

Objects are rotated, sheared and scaled, drawn at several times the photo's size and averaged down, with a shadow,
shading and grain.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.demo.drawing.things import LEAN, THINGS, Paint, Part, Points, curve, ellipse

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

OVERSAMPLING = 3
_FIXED_POINT_BITS = 4


def draw(names: tuple[str, ...], size: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Draw the objects `names` (one or two of THINGS) on clutter, later ones in front.

    Returns the photo, (size, size, 3) uint8 RGB, and its mask, (size, size) uint8: k + 1 where `names[k]` covers most
    of the pixel, 0 on the background.
    """
    things = _placed(names, rng)
    large = size * OVERSAMPLING
    labels = np.zeros((large, large), dtype=np.uint8)
    for k, parts in enumerate(things):
        for part in parts:
            _fill(labels, part.outline, k + 1)
    cover = np.stack([_shrink((labels == k).astype(np.float32), size) for k in range(len(names) + 1)])  # (1 + K, H, W)
    photo = _shadowed(clutter(size, rng), 1 - cover[0], rng)
    canvas = _enlarge(photo, large, cv2.INTER_LINEAR).clip(0, 255).astype(np.uint8)
    for parts in things:
        for part in parts:
            _paint(canvas, part)
    photo = _shrink(canvas, size)
    photo += cover[1:].sum(axis=0)[..., None] * (photo * (_relief(cover, rng) - 1)[..., None])
    photo = photo * rng.uniform(0.85, 1.08) + rng.normal(0, rng.uniform(2, 6), photo.shape).astype(np.float32)
    return photo.clip(0, 255).astype(np.uint8), cover.argmax(axis=0).astype(np.uint8)


def clutter(size: int, rng: np.random.Generator) -> Floats:
    """A background, (size, size, 3), 0..255: a gradient, noise of several scales, then leaves, stones, rings and bars.

    Distant ones are blurred.
    """
    paint = Paint(rng)
    corners = np.array([paint.dull() for _ in range(4)], dtype=np.float32).reshape(2, 2, 3)
    scene = _enlarge(corners, size, cv2.INTER_LINEAR)
    for grain, strength in ((4, 18), (12, 12), (48, 9)):
        noise = rng.normal(0, strength, (grain, grain, 1)) + rng.normal(0, strength / 3, (grain, grain, 3))
        scene += _enlarge(noise.astype(np.float32), size, cv2.INTER_CUBIC)
    kinds = [(_leaf, _stone, _ring, _bar)[k] for k in rng.choice(4, size=2, replace=False)]
    for blur in (size / 48, size / 120, size / 400):
        for _ in range(int(rng.integers(4, 11))):
            radius, shade = rng.uniform(0.03, 0.13), rng.uniform(0.75, 1.2)
            outline = kinds[int(rng.integers(2))](rng) @ _turn(rng.uniform(0, 360)).T * radius + rng.uniform(0, 1, 2)
            _fill(scene, outline, tuple(shade * tone for tone in paint.dull()))
        scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), blur), dtype=np.float32)
    return scene + rng.normal(0, 5, (size, size, 1)).astype(np.float32)


def _leaf(rng: np.random.Generator) -> Points:
    width = rng.uniform(0.2, 0.5)
    return curve((-1, 0), (-1, 0), (-0.2, -width), (1, 0), (1, 0), (-0.2, width), turns=2)


def _stone(rng: np.random.Generator) -> Points:
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    return curve(*[(float(np.cos(a)), float(0.75 * np.sin(a))) for a in angles])


def _ring(rng: np.random.Generator) -> Points:
    inner = ellipse(0, 0, 0.6, 0.6, 360, 0)
    return np.concatenate([ellipse(0, 0, 0.9, 0.9), inner])


def _bar(rng: np.random.Generator) -> Points:
    width = rng.uniform(0.05, 0.2)
    return curve((-2, -width), (2, -width), (2, width), (-2, width), turns=0)


def _turn(degrees: float) -> Points:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _placed(names: tuple[str, ...], rng: np.random.Generator) -> list[list[Part]]:
    """The parts of each object in fractions of the frame; two objects overlap little, so both stay visible."""
    boxes: list[Points] = []
    things = []
    for name in names:
        parts = THINGS[name](rng, Paint(rng))
        squeeze = np.array([[rng.choice([-1, 1]), rng.uniform(-0.12, 0.12)], [0, rng.uniform(0.8, 1.2)]])
        matrix = _turn(rng.uniform(-LEAN[name], LEAN[name])) @ squeeze
        parts = [part.moved(matrix, np.zeros(2)) for part in parts]
        points = np.concatenate([part.outline for part in parts])
        low, high = points.min(axis=0), points.max(axis=0)
        extent = rng.uniform(0.32, 0.6) if len(names) == 1 else rng.uniform(0.25, 0.42)
        scale = extent / (high - low).max()
        half = scale * (high - low) / 2
        for _ in range(30):
            centre = rng.uniform(half + 0.01, 0.99 - half)
            box = np.stack([centre - half, centre + half])
            if all(_overlap(box, other) < 0.1 for other in boxes):
                break
        boxes.append(box)
        shift = centre - scale * (low + high) / 2
        things.append([part.moved(scale * np.eye(2), shift) for part in parts])
    return things


def _overlap(one: Points, other: Points) -> float:
    """Intersection over the smaller of two boxes, each (2, 2) as (low, high)."""
    common = (np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])).clip(0).prod()
    return float(common / min((one[1] - one[0]).prod(), (other[1] - other[0]).prod()))


def _fill(canvas: Bytes | Floats, outline: Points, value: float | tuple[float, ...]) -> None:
    """Fill an outline, in fractions of the square canvas."""
    points = np.round(outline * canvas.shape[0] * 2**_FIXED_POINT_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [points], value, shift=_FIXED_POINT_BITS)


def _paint(canvas: Bytes, part: Part) -> None:
    _fill(canvas, part.outline, part.colour)
    if part.marks:
        inside = np.zeros(canvas.shape[:2], dtype=np.uint8)
        _fill(inside, part.outline, 1)
        marked = canvas.copy()
        for mark in part.marks:
            _fill(marked, mark.outline, mark.colour)
        cv2.copyTo(marked, inside, canvas)


def _enlarge(image: Floats, size: int, interpolation: int) -> Floats:
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), dtype=np.float32)


def _shrink(image: Bytes | Floats, size: int) -> Floats:
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _shadowed(scene: Floats, silhouette: Floats, rng: np.random.Generator) -> Floats:
    """Darken the scene under a blurred and slightly shifted silhouette."""
    size = len(scene)
    throw = np.array([[1, 0, rng.uniform(-0.05, 0.05) * size], [0, 1, rng.uniform(0.02, 0.06) * size]])
    shadow = cv2.GaussianBlur(cv2.warpAffine(silhouette, throw, (size, size)), (0, 0), size * rng.uniform(0.015, 0.035))
    return scene * (1 - rng.uniform(0.25, 0.55) * shadow)[..., None]


def _relief(cover: Floats, rng: np.random.Generator) -> Floats:
    """Brightness factor, (H, W), that makes flat objects look round, lit from above, with some grain."""
    size = cover.shape[-1]
    depth = cv2.distanceTransform((cover[0] < 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    depth = np.sqrt(depth / max(float(depth.max()), 1))
    light = np.linspace(rng.uniform(0.05, 0.15), -0.12, size, dtype=np.float32)[:, None]
    grain = cv2.GaussianBlur(rng.normal(0, 0.12, (size, size)).astype(np.float32), (0, 0), 0.8)
    return np.asarray(0.72 + 0.36 * depth + light + grain, dtype=np.float32)
