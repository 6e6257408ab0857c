"""`coco`: images, categories and annotations, with one compressed RLE per class that appears.

`pycocotools.coco.COCO` loads it.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from pycocotools import mask as rle
from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats.fields import Box, Share
from tagmask.formats.regions import Region, plane, regions
from tagmask.segmentation import Pixels, Segmentation


class CocoInfo(TypedDict):
    """Where the masks come from; `version` is the model's."""

    description: str
    version: str


class CocoImage(TypedDict):
    """The photo, with its displayed size in pixels."""

    id: NonNegativeInt
    width: NonNegativeInt
    height: NonNegativeInt


class CocoCategory(TypedDict):
    """A class of the model; its id is its label."""

    id: NonNegativeInt
    name: str
    supercategory: str


class CocoRle(TypedDict):
    """A mask in COCO's compressed run-length encoding; `size` is [height, width]."""

    size: tuple[NonNegativeInt, NonNegativeInt]
    counts: str


class CocoObject(TypedDict):
    """The mask of a class."""

    id: NonNegativeInt
    image_id: NonNegativeInt
    category_id: NonNegativeInt
    segmentation: CocoRle
    area: NonNegativeInt
    bbox: Box
    iscrowd: Literal[0]


class CocoAnnotation(CocoObject):
    """The mask of a class; `score` is the mean probability of its pixels."""

    score: Share


class CocoDocument(TypedDict):
    """One image, every class but background as a category, and one annotation per class that appears."""

    info: CocoInfo
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


def encode(segmentation: Segmentation) -> bytes:
    """A CocoDocument as JSON. The image has id 1; annotations have ids 1, 2, ... by ascending label."""
    model = segmentation.model
    height, width = segmentation.size
    columns = np.asarray(cv2.transpose(segmentation.mask), dtype=np.uint8).T  # transposed once for all classes
    document: CocoDocument = {
        "info": {"description": "Masks by Tagmask", "version": model.version},
        "images": [{"id": 1, "width": width, "height": height}],
        "categories": categories(model.classes),
        "annotations": [
            {
                **annotation(region, coco_rle(plane(columns, region.label)), number=number, image=1),
                "score": region.mean(segmentation.confidence),
            }
            for number, region in enumerate(regions(segmentation.mask, model.classes, segmentation.present), start=1)
        ],
    }
    return to_json(document)


def categories(classes: Sequence[str]) -> list[CocoCategory]:
    """The categories of `classes` except the first, background; ids are labels."""
    return [{"id": label, "name": name, "supercategory": "tag"} for label, name in enumerate(classes) if label]


def annotation(region: Region, runs: CocoRle, *, number: int, image: int) -> CocoObject:
    """The annotation with the id `number` of all pixels of a class in the image with the id `image`."""
    return {
        "id": number,
        "image_id": image,
        "category_id": region.label,
        "segmentation": runs,
        "area": region.area,
        "bbox": region.box,
        "iscrowd": 0,
    }


def coco_rle(pixels: Pixels) -> CocoRle:
    """The run lengths of `pixels`, (H, W) uint8, 0 or 1. They go down the columns: Fortran order saves a copy."""
    height, width = pixels.shape
    return {"size": (height, width), "counts": rle.encode(np.asfortranarray(pixels))["counts"].decode("ascii")}


def coco_pixels(counts: str | Sequence[int], size: tuple[int, int]) -> Pixels:
    """The pixels of run lengths that go down the columns, compressed or not: (height, width) uint8, 0 or 1.

    Raises ValueError for run lengths that do not fill `size`, (height, width).
    """
    height, width = size
    try:
        lengths = np.array(_decompress(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    except (OverflowError, TypeError) as fault:
        raise ValueError("run lengths are damaged") from fault
    if (lengths < 0).any() or (lengths > height * width).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths do not fill {width}x{height} pixels")
    return np.repeat((np.arange(len(lengths)) % 2).astype(np.uint8), lengths).reshape(width, height).T


def _decompress(counts: str) -> list[int]:
    """Run lengths from five bits a character, the lowest first, each the change from the run before the last one."""
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if shift > 60 or not 0 <= bits < 64:
            raise ValueError("run lengths are damaged")
        if not bits & 32:
            value -= (bits & 16) and 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
