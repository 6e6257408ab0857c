"""What an answer can look like: one module a format, each with an `encode` from a Segmentation to bytes."""

from collections.abc import Callable
from dataclasses import dataclass

from tagmask.formats import coco, confidence, cvat, everything, label_studio, overlay, png, polygons
from tagmask.segmentation import Segmentation

PNG = "image/png"
JSON = "application/json"


@dataclass(frozen=True)
class Format:
    """One way to write a Segmentation: its `name` in requests, the `media_type` and what it is in a sentence."""

    name: str
    media_type: str
    encode: Callable[[Segmentation], bytes]
    description: str


FORMATS = {
    each.name: each
    for each in (
        Format("png", PNG, png.encode, "palette PNG, value = class index, names in the tEXt chunk `classes`"),
        Format("confidence", PNG, confidence.encode, "8-bit grey PNG, 255 = certain of the class painted there"),
        Format("overlay", PNG, overlay.encode, "the photo tinted by its masks, to look at"),
        Format("coco", JSON, coco.encode, "COCO images, categories and annotations, a compressed RLE a class"),
        Format("polygons", JSON, polygons.encode, "outlines along pixel edges, with holes"),
        Format("label-studio", JSON, label_studio.encode, "a Label Studio prediction with brush RLE"),
        Format("cvat", JSON, cvat.encode, "mask shapes as CVAT's annotation API takes them"),
        Format(
            "json", JSON, everything.encode, "size, model, classes with pixels and mean confidence, the PNG in base64"
        ),
    )
}
"""By name. The first is what is sent when nothing is asked for; `json` stands for application/json."""
