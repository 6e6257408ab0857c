"""CVAT for images 1.1, https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/: annotations.xml.

It is uploaded to a task that has the photos, and finds them by their name, which is their id and suffix. A mask is all
pixels of a class in a photo: run lengths inside its box, zeros first, row after row.
"""

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tagmask import files
from tagmask.masks import PALETTE
from tagmask.progress import Advance
from training.datasets.photos import TaggedPhotos
from training.datasets.writers.regions import Region, mask_size, regions, run_lengths


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Images are numbered from 0 in order of photo ids; a task has no subsets."""
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#{bytes(PALETTE[label]).hex()}</color></label>"
        for label, name in enumerate(data.mask_classes)
        if label
    )
    with files.atomic_write(out / "annotations.xml") as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"<meta><task><labels>{labels}</labels></task></meta>\n".encode())
        for number, photo in enumerate(data.photos):
            name, (width, height) = quoteattr(f"{photo.id}{photo.path.suffix}"), mask_size(photo)
            masks = "".join(map(_mask, regions(photo, data)))
            image = f'<image id="{number}" name={name} width="{width}" height="{height}">\n{masks}</image>\n'
            file.write(image.encode())
            advance(1)
        file.write(b"</annotations>\n")


def _mask(region: Region) -> str:
    left, top, width, height = region.box
    runs = ", ".join(map(str, run_lengths(region.inside).tolist()))
    return (
        f'<mask label={quoteattr(region.name)} source="auto" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
    )
