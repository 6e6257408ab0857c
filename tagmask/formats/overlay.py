"""`overlay`: the photo tinted by its masks, with white outlines and a legend, as RGB PNG to look at.

It is as large as the photo, or smaller where the photo is very large.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from tagmask.formats.regions import plane
from tagmask.masks import PALETTE
from tagmask.segmentation import Colour, Pixels, Segmentation

OPACITY = 0.55
WHITE = (255, 255, 255)


def encode(segmentation: Segmentation) -> bytes:
    """Legend: the classes that appear, largest first, in the corner with the fewest painted pixels."""
    model = segmentation.model
    picture = segmentation.picture_of()
    height, width = picture.shape[:2]
    mask = segmentation.mask
    if mask.shape != (height, width):
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
    canvas = tint(picture, mask, model.palette)
    by_size = sorted(segmentation.present, key=lambda label: -segmentation.counts[label])
    draw_legend(canvas, mask, [(model.classes[label], model.palette[label]) for label in by_size])
    return bytes(cv2.imencode(".png", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))[1])


def tint(picture: Pixels, mask: Pixels, palette: Sequence[Colour] = PALETTE) -> Pixels:
    """`picture`, (h, w, 3) uint8 RGB, under the colours of `mask`, (h, w) uint8, outlined in white; a new array.

    Background is not tinted; void is cream by the default palette.
    """
    table = np.zeros((256, 1, 3), dtype=np.uint8)
    table[: len(palette), 0] = palette
    mixed = np.empty_like(picture)
    cv2.addWeighted(picture, 1 - OPACITY, cv2.applyColorMap(mask, table), OPACITY, 0, dst=mixed)
    cv2.copyTo(picture, plane(mask, 0), mixed)
    reach = 2 + min(mask.shape) // 500
    edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((reach, reach), dtype=np.uint8))
    cv2.copyTo(np.full_like(mixed, 255), edges, mixed)
    return mixed


def draw_legend(canvas: Pixels, mask: Pixels, entries: list[tuple[str, Colour]]) -> None:
    """Draw the name and colour of each of `entries` in a dark panel on `canvas`, (h, w, 3) uint8 RGB, in place.

    The last line counts what does not fit. There is no panel where it would not fit or would hide a third of the photo.
    """
    height, width = mask.shape
    font = cv2.FontFace("sans")  # inside OpenCV 5, with most of the world's scripts
    size = min(max(min(height, width) // 22, 12), 48)
    line, margin = size * 3 // 2, size // 2
    room = (height - 3 * margin) // line
    lines: list[tuple[str, Colour | None]] = [*entries]
    if len(lines) > room:
        kept = max(room - 1, 0)
        lines = [*entries[:kept], (f"+ {len(entries) - kept}", None)]
    text_width = max((cv2.getTextSize((0, 0), text, (0, 0), font, size)[2] for text, _ in lines), default=width)
    panel_width, panel_height = text_width + size + 3 * margin, len(lines) * line + margin
    fits = panel_width + 2 * margin <= width and panel_height + 2 * margin <= height
    if not fits or 3 * panel_width * panel_height > width * height:
        return
    left, top = _emptiest_corner(mask, panel_width, panel_height, margin)
    panel = canvas[top : top + panel_height, left : left + panel_width]
    panel //= 4
    x = left + margin
    for row, (text, colour) in enumerate(lines):
        y = top + margin + row * line
        if colour:
            cv2.rectangle(canvas, (x, y), (x + size - 1, y + size - 1), colour, cv2.FILLED)
            cv2.rectangle(canvas, (x, y), (x + size - 1, y + size - 1), WHITE, 1)
        cv2.putText(canvas, text, (x + size + margin, y + size * 7 // 8), WHITE, font, size)


def _emptiest_corner(mask: Pixels, width: int, height: int, margin: int) -> tuple[int, int]:
    """(x, y) of a box in the corner of `mask` where it covers the fewest painted pixels, lower left first."""
    right, bottom = mask.shape[1] - margin - width, mask.shape[0] - margin - height
    corners = [(margin, bottom), (right, bottom), (margin, margin), (right, margin)]
    return min(corners, key=lambda at: np.count_nonzero(mask[at[1] : at[1] + height, at[0] : at[0] + width]))
