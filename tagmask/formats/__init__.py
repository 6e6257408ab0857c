"""Output formats: one module per format, each with an `encode` from a Segmentation to bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tagmask.formats import coco, confidence, cvat, json_document, label_studio, overlay, png, polygons
from tagmask.segmentation import Segmentation

PNG = "image/png"
JSON = "application/json"


@dataclass(frozen=True)
class Format:
    """One way to write a Segmentation: its `name` in requests, its `media_type`, and a one-line description.

    `document` is the type of what `encode` writes, for formats in JSON.
    """

    name: str
    media_type: str
    encode: Callable[[Segmentation], bytes]
    description: str
    document: Any = None


FORMATS = {
    each.name: each
    for each in (
        Format("png", PNG, png.encode, "palette PNG, value = class index, names in the tEXt chunk `classes`"),
        Format("confidence", PNG, confidence.encode, "8-bit gray PNG, 255 = certain of the class of that pixel"),
        Format("overlay", PNG, overlay.encode, "the photo tinted by its masks, for viewing"),
        Format("coco", JSON, coco.encode, "COCO with one compressed RLE per class", coco.CocoDocument),
        Format(
            "polygons", JSON, polygons.encode, "outlines along pixel edges, with holes", polygons.PolygonsDocument
        ),
        Format(
            "label-studio", JSON, label_studio.encode, "a Label Studio prediction with brush RLE",
            label_studio.LabelStudioPrediction,
        ),
        Format("cvat", JSON, cvat.encode, "mask shapes as CVAT's annotation API accepts them", cvat.CvatDocument),
        Format(
            "json", JSON, json_document.encode,
            "size, model, classes with pixels and mean confidence, the PNG in base64",
            json_document.SegmentationDocument,
        ),
    )
}  # fmt: skip
"""By name. The first is the default; `json` is what the media type application/json stands for."""
