"""Loaded photos as they are displayed, made strip by strip: some conversions take four times their memory."""

import numpy as np
from PIL import Image

from tagmask.segmentation import Pixels

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_FROM_END = (3, 4, 7, 8)  # orientations whose first rows are the last rows or columns of the file

_GAP = 2.0  # by which the mean of boxes, taken before resizing, is larger than the result


def render(
    image: Image.Image, media_type: str, data: bytes, orientation: int, size: tuple[int, int], strip: int = 1_000_000
) -> Image.Image:
    """`image`, loaded from `data`, turned by its EXIF orientation, in 8-bit RGB on white.

    `size` (W, H) in pixels, upright, is that of the result; it is not larger than the photo. `strip` is the number of
    pixels that are converted at a time.
    """
    width, height = image.size if orientation < 5 else image.size[::-1]
    if orientation not in _TURNS and image.mode == "RGB" and "transparency" not in image.info:
        return image if size == (width, height) else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=_GAP)
    if "transparency" in image.info and media_type == "image/png":
        image.info["transparency"] = _transparent_colour(image, depth=data[24])
    white = _white(image, media_type, rows=max(1, strip // image.width))
    factors = max(1, int(width / size[0] / _GAP)), max(1, int(height / size[1] / _GAP))
    reduced = Image.new("RGB", (-(-width // factors[0]), -(-height // factors[1])))
    rows = max(1, strip // width // factors[1]) * factors[1]
    for top in range(0, height, rows):
        part = _convert(_rows(image, orientation, top, min(top + rows, height)), white)
        reduced.paste(part.reduce(factors), (0, top // factors[1]))
    box = (0, 0, width / factors[0], height / factors[1])
    return reduced if reduced.size == size else reduced.resize(size, Image.Resampling.BILINEAR, box)


def pixels_of(image: Image.Image, strip: int = 1_000_000) -> Pixels:
    """`image` in RGB as (h, w, 3) uint8, `strip` pixels at a time: Pillow takes twice the memory of what it gives."""
    rows = max(1, strip // image.width)
    if image.height <= rows:
        return np.array(image)
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top in range(0, image.height, rows):
        pixels[top : top + rows] = np.asarray(_rows(image, 1, top, min(top + rows, image.height)))
    return pixels


def _rows(image: Image.Image, orientation: int, top: int, bottom: int) -> Image.Image:
    """Rows of the upright photo."""
    sideways = orientation >= 5
    if orientation in _FROM_END:
        length = image.width if sideways else image.height
        top, bottom = length - bottom, length - top
    part = image.crop((top, 0, bottom, image.height) if sideways else (0, top, image.width, bottom))
    return part.transpose(_TURNS[orientation]) if orientation in _TURNS else part


def _white(image: Image.Image, media_type: str, rows: int) -> int:
    """The value of white in grey of more than 8 bits; 255 for any other mode.

    If the file does not state it, it is 1 (of floats), 255 or 65535, the least that no value exceeds. `rows` is the
    number of rows that are looked at together.
    """
    if image.mode.startswith("I;16") or media_type == "image/x-portable-anymap":
        return 65535
    if image.mode not in ("I", "F"):
        return 255
    parts = (image.crop((0, top, image.width, min(top + rows, image.height))) for top in range(0, image.height, rows))
    most = max(float(_numbers(part).max()) for part in parts)
    whites = (1, 255) if image.mode == "F" else (255,)
    return next((white for white in whites if most <= white), 65535)


def _numbers(image: Image.Image) -> np.ndarray:
    """The values of grey: (h, w); those that are not finite, as in pixels without a measurement, are 0."""
    values = np.asarray(image)
    return np.nan_to_num(values, posinf=0, neginf=0) if image.mode == "F" else values


def _convert(image: Image.Image, white: int) -> Image.Image:
    """`image` as 8-bit RGB; grey in numbers is 0..`white`. Pasting rounds as `Image.alpha_composite` does."""
    if image.mode.startswith("I") or image.mode == "F":
        values = _numbers(image)
        grey = (values * 255 if white == 1 else values // (white // 255)).clip(0, 255).astype(np.uint8)
        grey[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey).convert("RGB")
    if "transparency" in image.info or image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA"):
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image)
        return canvas
    return image.convert("RGB")


def _transparent_colour(image: Image.Image, depth: int) -> int | bytes | tuple[int, ...]:
    """A PNG's transparent colour in the 8-bit values that it was decoded to; Pillow leaves it at `depth` bits."""
    colour = image.info["transparency"]
    if image.mode == "L":
        return colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16:
        return tuple(value >> 8 for value in colour)
    return colour
