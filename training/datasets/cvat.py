"""CVAT for images 1.1 (https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/): annotations.xml.

Read: the tags of a photo are the labels of its image tags and shapes; polygons and masks are read as corrections alone.
Photos are in images/ or beside the file, those of a project also in images/<subset>/.

Written: a file to upload to a task that has the photos; it finds them by name, which is their id and suffix. A mask is
all pixels of a class in a photo: run lengths inside its box, zeros first, row by row.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from tagmask.areas import Marks, Paint, boxed_runs, outlined
from tagmask.files import atomic_write
from tagmask.formats.regions import Region, run_lengths
from tagmask.masks import PALETTE
from tagmask.progress import Advance
from training.datasets.exports import Lists, read_elements
from training.datasets.listing import Entry, Listing
from training.datasets.mask_regions import mask_size, regions
from training.datasets.photos import TaggedPhotos

LISTS = Lists(
    ("*.xml",),
    re.compile(rb"\s*(<\?.*?\?>\s*)?(<!--.*?-->\s*)*<annotations[\s>]", re.DOTALL),
    "no .xml in it; add CVAT's annotations.xml, or name it",
)


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder.

    A split is a subset of the project, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown
    split, a folder without such files, or a file that is not XML.
    """
    listing, files = LISTS.open(root)
    entries = [entry for path in files for entry in _entries(path, listing)]
    subsets = {entry.split for entry in entries if entry.split}
    for entry in entries:
        if split not in subsets or entry.split == split:
            beside = (entry.split, f"images/{entry.split}") if entry.split else ()
            listing.add_listed(entry.image, listing.tags(entry.tags, entry.where), entry.where, beside)
    if split is not None and split not in subsets:
        listing.keep_split(split, subsets)
    return listing


def _entries(path: Path, listing: Listing) -> Iterator[Entry]:
    labels: set[str] = set()
    video = False
    for element in read_elements(path):
        where = f"{path.name}:{element.line}"
        match element.path.split("/"):
            case ["annotations", "image", _] if "label" in element.attributes:
                labels.add(element.attributes["label"])
            case ["annotations", "image"]:
                if name := element.attributes.get("name"):
                    yield Entry(where, name, tuple(labels), element.attributes.get("subset", ""))
                else:
                    listing.fault(where, "image without a name; correct or remove it")
                labels = set()
            case ["annotations", "track"]:
                video = True
    if video:
        listing.fault(path.name, "the tracks of a video are ignored; export its frames as CVAT for images 1.1")


def read_areas(root: Path, listing: Listing, *, predicted: bool) -> Iterator[Marks]:
    """The polygons and masks of each image in the files that `read` reads; those from a model only if `predicted`.

    Raises DataError as `read` does.
    """
    for path in LISTS.open(root)[1]:
        areas: list[tuple[str, Paint]] = []
        for element in read_elements(path):
            where, values = f"{path.name}:{element.line}", element.attributes
            match element.path.split("/"):
                case ["annotations", "image", "polygon" | "mask" as kind] if (
                    predicted or values.get("source") != "auto"
                ):
                    try:
                        areas.append((values["label"], _outline(values) if kind == "polygon" else _runs(values)))
                    except (KeyError, ValueError):
                        listing.fault(where, f"malformed {kind}; correct or remove it")
                case ["annotations", "image"]:
                    if areas:
                        yield Marks(values.get("name", ""), where, areas, _size(values))
                    areas = []


def _outline(values: Mapping[str, str]) -> Paint:
    return outlined([float(number) for point in values["points"].split(";") for number in point.split(",")])


def _runs(values: Mapping[str, str]) -> Paint:
    left, top, width, height = (int(values[name]) for name in ("left", "top", "width", "height"))
    return boxed_runs([int(length) for length in values["rle"].split(",")], left, top, (height, width))


def _size(values: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        return int(values["height"]), int(values["width"])
    except (KeyError, ValueError):
        return None


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Images are numbered from 0 in order of photo ids; a task has no subsets."""
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#{bytes(PALETTE[label]).hex()}</color></label>"
        for label, name in enumerate(data.mask_classes)
        if label
    )
    with atomic_write(out / "annotations.xml") as file:
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
    runs = ", ".join(map(str, run_lengths(region.pixels).tolist()))
    return (
        f'<mask label={quoteattr(region.name)} source="auto" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
    )
