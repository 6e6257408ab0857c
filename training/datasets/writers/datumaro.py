"""Datumaro's own format: annotations/<subset>.json, with the photos in images/<subset>/.

https://open-edge-platform.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html. A mask is all pixels of a
class in a photo. Labels are the classes without background, so a label's number is the mask value less one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagmask import files
from tagmask.progress import Advance
from training.datasets.photos import TaggedPhotos
from training.datasets.writers.copies import copy_photo
from training.datasets.writers.entries import dumped, write_entries
from training.datasets.writers.regions import coco_rle, mask_size, regions

_IMAGES = 2  # a data set's kind of media


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Items are in order of photo ids, which are theirs too."""
    labels = [{"name": name, "parent": "", "attributes": []} for name in data.mask_classes[1:]]
    categories = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
    with files.atomic_write(out / "annotations" / f"{subset}.json") as file:
        file.write(b'{"dm_format_version":"1.0","media_type":%d,"infos":{},\n"categories":' % _IMAGES)
        file.write(dumped(categories) + b',\n"items":')
        write_entries(file, _items(data, out / "images" / subset, advance))
        file.write(b"}\n")


def _items(data: TaggedPhotos, images: Path, advance: Advance) -> Iterator[dict[str, Any]]:
    for photo in data.photos:
        width, height = mask_size(photo)
        copy = images / photo.id
        path = copy.with_name(copy_photo(photo, copy.parent, copy.name)).relative_to(images).as_posix()
        annotations = [
            {
                "id": number,
                "type": "mask",
                "attributes": {},
                "group": 0,
                "label_id": region.label - 1,
                "rle": coco_rle(region.pixels),
                "z_order": 0,
            }
            for number, region in enumerate(regions(photo, data))
        ]
        yield {"id": photo.id, "annotations": annotations, "image": {"path": path, "size": [height, width]}}
        advance(1)
