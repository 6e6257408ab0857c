"""COCO, https://cocodataset.org/#format-data: annotations/instances_<subset>.json.

An annotation is all pixels of a class in a photo, as compressed run lengths, which keep holes and parts exactly.
Category ids are mask values. Photos stay where they are: a `file_name` is a path below the data set's folder, which is
what tools ask for as folder of images.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagmask import files
from tagmask.progress import Advance
from training.datasets.photos import TaggedPhotos
from training.datasets.writers.entries import dumped, write_entries
from training.datasets.writers.regions import coco_rle, mask_size, regions


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Images are numbered from 1 in order of photo ids, annotations from 1 on."""
    categories = [
        {"id": label, "name": name, "supercategory": "tag"} for label, name in enumerate(data.mask_classes) if label
    ]
    with files.atomic_write(out / "annotations" / f"instances_{subset}.json") as file:
        file.write(b'{"info":{"description":"Masks by Tagmask"},\n"categories":' + dumped(categories))
        file.write(b',\n"images":')
        write_entries(file, _images(data))
        file.write(b',\n"annotations":')
        write_entries(file, _annotations(data, advance))
        file.write(b"}\n")


def _images(data: TaggedPhotos) -> Iterator[dict[str, Any]]:
    for number, photo in enumerate(data.photos, start=1):
        width, height = mask_size(photo)
        name = photo.path.relative_to(data.root).as_posix()
        yield {"id": number, "file_name": name, "width": width, "height": height}


def _annotations(data: TaggedPhotos, advance: Advance) -> Iterator[dict[str, Any]]:
    number = 0
    for image, photo in enumerate(data.photos, start=1):
        for region in regions(photo, data):
            number += 1
            yield {
                "id": number,
                "image_id": image,
                "category_id": region.label,
                "segmentation": coco_rle(region.pixels),
                "area": int(region.pixels.sum()),
                "bbox": region.box,
                "iscrowd": 0,
            }
        advance(1)
