"""`coco`: images, categories and annotations, with one compressed RLE per class that appears.

`pycocotools.coco.COCO` loads it.
"""

from typing import Literal

import cv2
import numpy as np
from pycocotools import mask as rle
from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats.fields import Box, Share, Size
from tagmask.formats.regions import plane, regions
from tagmask.segmentation import Segmentation


class CocoInfo(TypedDict):
    """Where the masks come from; `version` is the model's."""

    description: str
    version: str


class CocoImage(Size):
    """The photo, with its displayed size in pixels."""

    id: NonNegativeInt


class CocoCategory(TypedDict):
    """A class of the model; its id is its label."""

    id: NonNegativeInt
    name: str
    supercategory: str


class CocoRle(TypedDict):
    """A mask in COCO's compressed run-length encoding; `size` is [height, width]."""

    size: tuple[NonNegativeInt, NonNegativeInt]
    counts: str


class CocoAnnotation(TypedDict):
    """The mask of a class; `score` is the mean probability of its pixels."""

    id: NonNegativeInt
    image_id: NonNegativeInt
    category_id: NonNegativeInt
    segmentation: CocoRle
    area: NonNegativeInt
    bbox: Box
    iscrowd: Literal[0]
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
    columns = np.asarray(cv2.transpose(segmentation.mask), dtype=np.uint8).T  # COCO's runs go down the columns
    annotations: list[CocoAnnotation] = []
    for number, region in enumerate(regions(segmentation, segmentation.present), start=1):
        runs = rle.encode(plane(columns, region.label))
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": region.label,
                "segmentation": {"size": (height, width), "counts": runs["counts"].decode("ascii")},
                "area": region.area,
                "bbox": region.box,
                "iscrowd": 0,
                "score": region.mean(segmentation.confidence),
            }
        )
    document: CocoDocument = {
        "info": {"description": "Masks by Tagmask", "version": model.version},
        "images": [{"id": 1, "width": width, "height": height}],
        "categories": [
            {"id": label, "name": name, "supercategory": "tag"} for label, name in enumerate(model.classes) if label
        ],
        "annotations": annotations,
    }
    return to_json(document)
