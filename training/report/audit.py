"""The page of `tagmask data audit`: the photos whose tags may be wrong, as they are and as the model sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask import files
from tagmask.formats.overlay import tint
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from tagmask.segmenter import Segmenter
from training.datasets.photos import Photo
from training.evaluation.audit import Audit, Finding
from training.report.panels import Panel
from training.report.strips import MAX_BYTES, Picture, embed
from training.report.templates import environment

PHOTOS = 200
"""Photos shown, at most."""


@dataclass(frozen=True)
class Suspect:
    """A photo with the suspicions about it, the most doubtful first, and its pictures."""

    photo: Photo
    suspicions: Sequence[Finding]
    pictures: Sequence[Picture]


def write_page(audit: Audit, segmenter: Segmenter, name: str, out: Path, *, advance: Advance = silent) -> None:
    """Write the page for the data set `name` to the file `out`, atomically.

    The most doubtful photos are shown, at most PHOTOS, until their pictures reach MAX_BYTES; `advance(1)` follows each.
    Raises DataError for a photo that can no longer be read.
    """
    suspects = list(_draw(audit, segmenter, advance))
    text = environment().get_template("audit.html").render(
        name=name, audit=audit, suspects=suspects, names=segmenter.classes, palette=segmenter.metadata.palette,
        version=segmenter.version,
    )  # fmt: skip
    files.write_text(out, text)


def _draw(audit: Audit, segmenter: Segmenter, advance: Advance) -> Iterator[Suspect]:
    size = 0
    for photo, suspicions in list(audit.suspects.items())[:PHOTOS]:
        pixels = read_photo(photo.path, segmenter.metadata.working_size)
        mask = segmenter.predict(pixels).mask(segmenter.labels_of(()))
        panels = Panel("photo", pixels), Panel("seen without tags", tint(pixels, mask, segmenter.metadata.palette))
        pictures = [embed(panel, column) for column, panel in enumerate(panels)]
        size += sum(len(picture.uri) for picture in pictures)
        if size > MAX_BYTES:
            return
        yield Suspect(photo, suspicions, pictures)
        advance(1)
