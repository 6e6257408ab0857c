"""An artifact with some photos of a round: each with the labels that PixelNet was trained on, and PixelNet's mask."""

import base64
import hashlib
import io
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont, ImageOps

from flows.orchestration.artifact import Artifact, table
from tagmask import files, masks
from tagmask.errors import DataError
from tagmask.formats.overlay import tint
from tagmask.photos import read_photo
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.run.layout import Layout
from training.stages.labels import Labels
from training.stages.masks import Masks

PHOTOS = 12
"""Maximum number of photos in a gallery."""

MAX_BYTES = 300_000
"""Maximum size of the picture; Prefect's database stores it in base64, a third larger, with every run."""

PANEL = (200, 150)
"""Maximum width and height of a panel in pixels."""

STAGES = (Labels, Masks)
TITLES = ("photo", "labels", "PixelNet")

_COLUMNS, _GAP, _CAPTION, _MARGIN = 2, 2, 26, 14


def gallery(data: TaggedPhotos, layout: Layout, config: TrainConfig, number: int) -> Artifact:
    """The gallery of round `number`, to be called when its masks exist; also written to RUN/gallery-<number>.jpg.

    All rounds show the same photos. A photo is left out if its file, labels or mask are missing.
    """
    blocks, photos = [], []
    for photo in in_gallery_order(data):
        try:
            panels = _panels(photo, data.classes, layout, config, number)
        except (DataError, OSError, ValueError):  # ValueError: a size other than the mask's, or a damaged array
            continue
        photos.append(photo)
        blocks.append(_block(len(photos), photo, data.classes, panels))
        if len(photos) == PHOTOS:
            break
    summary = f"round {number}: {len(photos)} of {len(data.photos):,} photos, training labels and PixelNet's masks"
    if not photos:
        return Artifact("gallery", summary, "No photo of this round has labels and a mask.")
    picture = _jpeg(_sheet(blocks))
    path = layout.root / f"gallery-{number}.jpg"
    with files.atomic_write(path) as file:
        file.write(picture)
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    rows = [(str(index), photo.id, ", ".join(photo.tags)) for index, photo in enumerate(photos, start=1)]
    return Artifact("gallery", summary, f"![{path.name}]({url})\n\n{table(('', 'photo', 'tags'), rows, 'rll')}")


def in_gallery_order(data: TaggedPhotos) -> Iterator[Photo]:
    """All tagged photos of `data`, one of each class in turn, the rarest class first.

    Within a class they are sorted by the digest of their id, so that the first ones change little as photos are added.
    """
    tagged: dict[str, list[Photo]] = {name: [] for name in data.classes}
    for photo in sorted(data.photos, key=lambda photo: hashlib.sha256(photo.id.encode()).digest()):
        for tag in photo.tags:
            tagged[tag].append(photo)
    waiting = {name: iter(tagged[name]) for name in sorted(tagged, key=lambda name: (len(tagged[name]), name))}
    seen: set[str] = set()
    while waiting:
        for name in list(waiting):
            for photo in waiting[name]:
                if photo.id not in seen:
                    seen.add(photo.id)
                    yield photo
                    break
            else:
                del waiting[name]


def _panels(
    photo: Photo, classes: tuple[str, ...], layout: Layout, config: TrainConfig, number: int
) -> list[Image.Image]:
    """The photo, then the photo tinted by each of STAGES, each within PANEL pixels."""
    pixels = read_photo(photo.path, config.long_side)
    stage_masks = [stage.of(config, number).mask(photo, layout.root, classes) for stage in STAGES]
    pictures = [pixels, *(tint(pixels, mask) for mask in stage_masks)]
    return [ImageOps.contain(Image.fromarray(each), PANEL, Image.Resampling.BOX) for each in pictures]


def _block(index: int, photo: Photo, classes: tuple[str, ...], panels: list[Image.Image]) -> Image.Image:
    """The panels of a photo side by side, below its number and its tags with their colours."""
    block = Image.new("RGB", (len(panels) * (PANEL[0] + _GAP) - _GAP, _CAPTION + panels[0].height), "white")
    draw, font = ImageDraw.Draw(block), _font()
    draw.text((0, 0), str(index), "black", font)
    left = 30.0
    for tag in photo.tags:
        draw.rectangle((left, 5, left + 13, 18), masks.PALETTE[classes.index(tag) + 1])
        draw.text((left + 19, 0), tag, "black", font)
        left += 19 + draw.textlength(tag, font) + 12
    for column, panel in enumerate(panels):
        block.paste(panel, (column * (PANEL[0] + _GAP), _CAPTION))
    return block


def _sheet(blocks: list[Image.Image]) -> Image.Image:
    """The blocks in two columns, below the titles of their panels."""
    rows = [blocks[start : start + _COLUMNS] for start in range(0, len(blocks), _COLUMNS)]
    heights = [max(block.height for block in row) + _MARGIN for row in rows]
    width = blocks[0].width + _MARGIN
    sheet = Image.new("RGB", (len(rows[0]) * width + _MARGIN, _CAPTION + _MARGIN // 2 + sum(heights)), "white")
    for left in range(_MARGIN, sheet.width - _MARGIN, width):
        for column, title in enumerate(TITLES):
            ImageDraw.Draw(sheet).text((left + column * (PANEL[0] + _GAP), 4), title, "gray", _font())
    top = _CAPTION + _MARGIN // 2
    for row, height in zip(rows, heights, strict=True):
        for column, block in enumerate(row):
            sheet.paste(block, (_MARGIN + column * width, top))
        top += height
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(18)


def _jpeg(picture: Image.Image) -> bytes:
    """JPEG file of at most MAX_BYTES, at the best possible quality."""
    for quality in (90, 80, 70, 50):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()
