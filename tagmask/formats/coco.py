"""`coco`: images, categories and annotations, a compressed RLE for each class that appears.

`pycocotools.coco.COCO` loads it. Categories are all classes of the model, with their labels as ids;
`score` is the mean probability, 0..1.
"""

import cv2
import numpy as np
from pycocotools import mask as rle
from pydantic_core import to_json

from tagmask.formats.regions import plane, regions
from tagmask.segmentation import Segmentation


def encode(segmentation: Segmentation) -> bytes:
    """One image with id 1, whose annotations have the ids 1, 2, ... by ascending label; background has none."""
    model = segmentation.model
    height, width = segmentation.size
    columns = np.asarray(cv2.transpose(segmentation.mask), dtype=np.uint8).T  # COCO's runs go down the columns
    annotations = []
    for number, region in enumerate(regions(segmentation, segmentation.present), start=1):
        runs = rle.encode(plane(columns, region.label))
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": region.label,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                "area": region.area,
                "bbox": region.box,
                "iscrowd": 0,
                "score": region.mean(segmentation.confidence),
            }
        )
    return to_json(
        {
            "info": {"description": "Masks by Tagmask", "version": model.version},
            "images": [{"id": 1, "width": width, "height": height}],
            "categories": [
                {"id": label, "name": name, "supercategory": "tag"} for label, name in enumerate(model.classes) if label
            ],
            "annotations": annotations,
        }
    )
