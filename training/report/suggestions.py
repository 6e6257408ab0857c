"""The page of `tagmask data suggest`: the photos to correct, their masks, and the labels that PixelNet learned."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tagmask import files
from tagmask.formats.overlay import tint
from tagmask.masks import BACKGROUND, PALETTE
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo
from training.evaluation.suggestion import Suggestion
from training.report.panels import Panel
from training.report.story import Story
from training.report.strips import MAX_BYTES, Picture, embed
from training.report.templates import environment
from training.run.description import Description
from training.run.layout import Layout
from training.stages import labels
from training.stages.masks import full_mask


def write_page(
    suggestions: Sequence[Suggestion], layout: Layout, story: Story, out: Path, *, advance: Advance = silent
) -> None:
    """Write the page of `suggestions` for a finished run to the file `out`, atomically.

    Pictures end where they reach MAX_BYTES; `advance(1)` follows each photo. Raises DataError for a photo that can no
    longer be read.
    """
    assert story.exported is not None
    description, shown, size = story.description, list[tuple[Suggestion, list[Picture]]](), 0
    for suggestion in suggestions:
        pictures = list(_pictures(suggestion.photo, layout, description, story.exported)) if size < MAX_BYTES else []
        size += sum(len(picture.uri) for picture in pictures)
        shown.append((suggestion, pictures))
        advance(1)
    text = environment().get_template("suggestions.html").render(
        name=layout.root.resolve().name, suggestions=shown, names=(BACKGROUND, *description.classes), palette=PALETTE,
    )  # fmt: skip
    files.write_text(out, text)


def _pictures(photo: Photo, layout: Layout, description: Description, number: int) -> Iterator[Picture]:
    pixels = read_photo(photo.path, description.settings.long_side)
    mask = full_mask(photo, layout.root, number, description.classes)
    yield embed(Panel("photo", pixels), 0)
    yield embed(Panel("mask", tint(pixels, mask)), 1)
    yield embed(Panel("labels", tint(pixels, labels.read(photo, layout.root, number))), 2)
