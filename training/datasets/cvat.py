"""CVAT for images 1.1 (https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/): annotations.xml.

The tags of a photo are the labels of its image tags and shapes. Photos lie in images/ or beside the file, those of a
project also in images/<subset>/. Shapes themselves are not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tagmask.errors import DataError
from training.datasets.documents import data_folder, elements, lists
from training.datasets.listing import Listing, read_ids, split_file

_PATTERNS = ("*.xml",)
_HEAD = re.compile(rb"\s*(<\?.*?\?>\s*)?(<!--.*?-->\s*)*<annotations[\s>]", re.DOTALL)


@dataclass(frozen=True)
class _Image:
    where: str
    name: str
    subset: str
    labels: frozenset[str]


def is_cvat(root: Path) -> bool:
    """Whether a file, or a file in a folder, begins as CVAT's do."""
    return bool(lists(root, _PATTERNS, _HEAD))


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder.

    A split is a subset of the project, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown
    split, a folder without such files, or a file that is no XML.
    """
    files = lists(root, _PATTERNS, _HEAD) or lists(root, _PATTERNS)
    if not files:
        raise DataError(f"{root}: no .xml in it; put CVAT's annotations.xml there, or name it")
    listing = Listing(data_folder(root))
    images = [image for path in files for image in _images(path, listing)]
    subsets = {image.subset for image in images if image.subset}
    for image in images:
        if split not in subsets or image.subset == split:
            beside = (image.subset, f"images/{image.subset}") if image.subset else ()
            listing.add_listed(image.name, listing.tags(image.labels, image.where), image.where, beside)
    if split is not None and split not in subsets:
        listing.keep(read_ids(split_file(listing.root, split, subsets), listing))
    return listing


def _images(path: Path, listing: Listing) -> Iterator[_Image]:
    labels: set[str] = set()
    video = False
    for element in elements(path):
        where = f"{path.name}:{element.line}"
        match element.path.split("/"):
            case ["annotations", "image", _] if "label" in element.attributes:
                labels.add(element.attributes["label"])
            case ["annotations", "image"]:
                if name := element.attributes.get("name"):
                    yield _Image(where, name, element.attributes.get("subset", ""), frozenset(labels))
                else:
                    listing.fault(where, "an image without a name; correct or remove it")
                labels = set()
            case ["annotations", "track"]:
                video = True
    if video:
        listing.fault(path.name, "the tracks of a video are ignored; export its frames as CVAT for images 1.1")
