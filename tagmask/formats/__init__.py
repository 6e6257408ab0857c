"""Output formats: one module per format, each with an `encode` from a Segmentation to bytes."""

from collections.abc import Callable
from dataclasses import dataclass

from tagmask.formats import coco, confidence, cvat, json_document, label_studio, overlay, png, polygons
from tagmask.formats.coco import CocoDocument
from tagmask.formats.cvat import CvatDocument
from tagmask.formats.json_document import SegmentationDocument
from tagmask.formats.label_studio import LabelStudioPrediction
from tagmask.formats.polygons import PolygonsDocument
from tagmask.segmentation import Segmentation

PNG = "image/png"
JSON = "application/json"

JsonDocument = SegmentationDocument | CocoDocument | PolygonsDocument | LabelStudioPrediction | CvatDocument


@dataclass(frozen=True)
class Format:
    """One way to write a Segmentation: its `name` in requests, its `media_type`, and a one-line description."""

    name: str
    media_type: str
    encode: Callable[[Segmentation], bytes]
    description: str


FORMATS = {
    each.name: each
    for each in (
        Format("png", PNG, png.encode, "palette PNG, value = class index, names in the tEXt chunk `classes`"),
        Format("confidence", PNG, confidence.encode, "8-bit gray PNG, 255 = certain of the class of that pixel"),
        Format("overlay", PNG, overlay.encode, "the photo tinted by its masks, for viewing"),
        Format("coco", JSON, coco.encode, "COCO images, categories and annotations, one compressed RLE per class"),
        Format("polygons", JSON, polygons.encode, "outlines along pixel edges, with holes"),
        Format("label-studio", JSON, label_studio.encode, "a Label Studio prediction with brush RLE"),
        Format("cvat", JSON, cvat.encode, "mask shapes as CVAT's annotation API accepts them"),
        Format("json", JSON, json_document.encode, "size, model, pixels and confidence per class, the PNG in base64"),
    )
}
"""By name. The first is the default; `json` is what the media type application/json stands for."""
