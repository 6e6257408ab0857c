"""Data sets with masks, written for other tools; the writer of a format stands beside its reader.

voc            JPEGImages/, SegmentationClass/, ImageSets/                   for torchvision, Datumaro, CVAT
coco           annotations/instances_<subset>.json                           for pycocotools and what builds on it
yolo           images/, labels/ and data.yaml                                for Ultralytics, supervision
label-studio   tasks.json with predictions, interface.xml                    for Label Studio
cvat           annotations.xml                                               for CVAT tasks that have the photos
datumaro       annotations/<subset>.json and images/                         for Datumaro, CVAT

Masks come back to the pixel; outlines of YOLO where they are filled as `cv2.fillPoly` does.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tagmask.errors import DataError
from tagmask.files import real_path
from tagmask.progress import Advance, silent
from training.choices import OutputFormat
from training.datasets import coco, cvat, datumaro, label_studio, voc, yolo
from training.datasets.copies import flat_names, with_copies
from training.datasets.photos import TaggedPhotos

WRITERS: dict[OutputFormat, Callable[[TaggedPhotos, Path, str, Advance], None]] = {
    "voc": voc.write,
    "coco": coco.write,
    "yolo": yolo.write,
    "label-studio": label_studio.write,
    "cvat": cvat.write,
    "datumaro": datumaro.write,
}

COPIES: dict[OutputFormat, tuple[str, str]] = {
    "coco": ("images/{subset}", "."),
    "label-studio": (".", "images"),
    "cvat": (".", "images"),
}
"""For formats that do not need copies: the folder below which photos are listed, and where in it copies are put."""


def check_not_data_set(data: TaggedPhotos, out: Path) -> None:
    """Raise DataError if `out` is the data set's own folder, where its annotations could be replaced."""
    if real_path(out) == real_path(data.root):
        raise DataError(f"{out}: is the data set, whose own annotations could be replaced; choose another folder")


def check_own_folder(data: TaggedPhotos, out: Path, own: str) -> None:
    """Raise DataError if `out` is the data set's own folder, or has files but not `own`, which is written first."""
    check_not_data_set(data, out)
    if (out / own).exists():
        return
    if other := min((path for path in out.rglob("[!.]*") if path.is_file()), default=None):
        raise DataError(
            f"{out}: holds other files, such as {other.name}, which could be replaced; choose an empty folder"
        )


def check_names(data: TaggedPhotos, format: OutputFormat) -> None:
    """Raise DataError for names of photos, and of the values of their masks, that the format cannot hold."""
    if ambiguous := next((photo.id for photo in data.photos if "\\" in photo.id), None):
        raise DataError(f"photo {ambiguous!r}: other tools read \\ as /; rename the photo or its folder")
    if format in ("voc", "yolo"):
        flat_names(data.photos)
    if format == "voc":
        voc.check_classes(data.mask_classes)


def write(
    data: TaggedPhotos,
    out: Path,
    format: OutputFormat,
    *,
    subset: str = "train",
    photos: bool = False,
    advance: Advance = silent,
) -> None:
    """Write the photos of `data` that have masks below `out`, as the subset `subset` of a data set.

    With `photos`, formats that refer to photos elsewhere refer to copies below `out`. Classes are `data.mask_classes`;
    void pixels belong to no class. Each file is written whole or not at all, the same for the same data; copies of
    photos that exist are kept. `advance(1)` follows each photo. Raises DataError for a photo that cannot be read, names
    that the format cannot hold, and the data set's own folder.
    """
    data = replace(data, photos=tuple(photo for photo in data.photos if photo.mask))
    check_names(data, format)
    check_not_data_set(data, out)
    if photos and format in COPIES:
        root, folder = COPIES[format]
        data, advance = with_copies(data, out / root.format(subset=subset), folder, advance), silent
    WRITERS[format](data, out, subset, advance)
